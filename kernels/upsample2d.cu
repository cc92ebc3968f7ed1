// Nearest-neighbour upsampling of one or two branches by whole factors.
//
//   z[t][n][h][w][c] = x[t][n][h / factor_h][w / factor_w][c]
#include <device/epilogue.h>
#include <device/pointwise.h>

template <typename Element, int kBranches>
DEVICE void upsample2d(const awsnet_upsample2d_params& p) {
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  const uint32_t out_h = static_cast<uint32_t>(p.in_h * p.factor_h), out_w = static_cast<uint32_t>(p.in_w * p.factor_w);
  if (at.position >= static_cast<int64_t>(p.batch) * out_h * out_w) return;
  const uint32_t m = static_cast<uint32_t>(at.position);
  const uint32_t w = m % out_w / p.factor_w, h = m / out_w % out_h / p.factor_h, n = m / out_w / out_h;
  const int64_t from = (static_cast<int64_t>(n) * p.in_h + h) * p.in_w + w;
  const int64_t offset = from * pitch_of(p.epilogue.channels) + at.channel;
  float z[kBranches][kVector];
#pragma unroll
  for (int t = 0; t < kBranches; t++) load_vector(z[t], static_cast<const Element*>(p.input[t]) + offset);
  finish_vector<Element>(p.epilogue, at.position, at.channel, z);
}

#define DEFINE(element)                                                                                           \
  AWSNET_POINTWISE_KERNEL(upsample2d_##element, awsnet_upsample2d_params) { upsample2d<element, kPair>(params); } \
  AWSNET_POINTWISE_KERNEL(upsample2d_##element##_alone, awsnet_upsample2d_params) { upsample2d<element, 1>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
