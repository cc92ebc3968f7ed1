// z = x in one or two branches: the epilogue on its own, for a scale, an add, an activation or an AWS-Unit (layer,
// channel).
#include <device/epilogue.h>
#include <device/pointwise.h>

template <typename Element, int kBranches>
DEVICE void identity(const awsnet_identity_params& p) {
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  if (at.position >= p.positions) return;
  const int64_t offset = at.position * pitch_of(p.epilogue.channels) + at.channel;
  float z[kBranches][kVector];
#pragma unroll
  for (int t = 0; t < kBranches; t++) load_vector(z[t], static_cast<const Element*>(p.input[t]) + offset);
  finish_vector<Element>(p.epilogue, at.position, at.channel, z);
}

#define DEFINE(element)                                                                                     \
  AWSNET_POINTWISE_KERNEL(identity_##element, awsnet_identity_params) { identity<element, kPair>(params); } \
  AWSNET_POINTWISE_KERNEL(identity_##element##_alone, awsnet_identity_params) { identity<element, 1>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
