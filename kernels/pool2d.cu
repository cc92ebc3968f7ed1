// Maximum or average pooling of both branches.
//
//   z[t][n][oh][ow][c] = max or sum / (kernel_h * kernel_w) over r, s of
//                        x[t][n][oh * stride_h - pad_top + r][ow * stride_w - pad_left + s][c]
//
// Padding never wins a maximum and is counted in an average; a NaN wins. The global average is a kernel of the map's
// size.
#include <device/epilogue.h>
#include <device/pointwise.h>

template <typename Element>
DEVICE void pool2d(const awsnet_pool2d_params& p) {
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  if (at.position >= positions) return;
  const int pitch = pitch_of(p.epilogue.channels);
  const uint32_t m = static_cast<uint32_t>(at.position);
  const uint32_t ow = m % p.out_w, oh = m / p.out_w % p.out_h, n = m / p.out_w / p.out_h;
  const int first_h = static_cast<int>(oh) * p.stride_h - p.pad_top;
  const int first_w = static_cast<int>(ow) * p.stride_w - p.pad_left;
  const bool maximum = p.kind == AWSNET_POOL_MAX;
  float z[kBranches][kVector];
#pragma unroll
  for (int t = 0; t < kBranches; t++)
#pragma unroll
    for (int i = 0; i < kVector; i++) z[t][i] = maximum ? -INFINITY : 0.0f;
  for (int h = first_h; h < first_h + p.kernel_h; h++) {
    if (h < 0 || h >= p.in_h) continue;
    for (int w = first_w; w < first_w + p.kernel_w; w++) {
      if (w < 0 || w >= p.in_w) continue;
      const int64_t offset = ((static_cast<int64_t>(n) * p.in_h + h) * p.in_w + w) * pitch + at.channel;
#pragma unroll
      for (int t = 0; t < kBranches; t++) {
        float x[kVector];
        load_vector(x, static_cast<const Element*>(p.input[t]) + offset);
#pragma unroll
        for (int i = 0; i < kVector; i++) {
          if (!maximum) {
            z[t][i] += x[i];
          } else if (x[i] > z[t][i] || x[i] != x[i]) {
            z[t][i] = x[i];
          }
        }
      }
    }
  }
  if (!maximum) {
    const float window = static_cast<float>(p.kernel_h * p.kernel_w);
#pragma unroll
    for (int t = 0; t < kBranches; t++)
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] /= window;
  }
  finish_vector<Element>(p.epilogue, at.position, at.channel, z);
}

#define DEFINE(element) \
  AWSNET_KERNEL(pool2d_##element, awsnet_pool2d_params, AWSNET_VECTOR_THREADS) { pool2d<element>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
