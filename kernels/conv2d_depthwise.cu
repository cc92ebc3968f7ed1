// conv2d of one or two branches with a filter of its own for every channel: groups = in_channels = channels. A filter of
// one tap is a batch norm that stands alone.
//
//   z[t][n][oh][ow][c] = sum over r, s of x[t][n][oh * stride_h - pad_top + r * dilation_h][ow * stride_w - pad_left +
//                        s * dilation_w][c] * w[t][r][s][c]
#include <device/epilogue.h>
#include <device/pointwise.h>

template <typename Element, int kBranches>
DEVICE void conv2d_depthwise(const awsnet_conv2d_params& p) {
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  if (at.position >= positions) return;
  const int pitch = pitch_of(p.epilogue.channels);
  const uint32_t m = static_cast<uint32_t>(at.position);
  const uint32_t ow = m % p.out_w, oh = m / p.out_w % p.out_h, n = m / p.out_w / p.out_h;
  const int first_h = static_cast<int>(oh) * p.stride_h - p.pad_top;
  const int first_w = static_cast<int>(ow) * p.stride_w - p.pad_left;
  float z[kBranches][kVector] = {};
  for (int tap_h = 0; tap_h < p.kernel_h; tap_h++) {
    const int h = first_h + tap_h * p.dilation_h;
    if (h < 0 || h >= p.in_h) continue;
    for (int tap_w = 0; tap_w < p.kernel_w; tap_w++) {
      const int w = first_w + tap_w * p.dilation_w;
      if (w < 0 || w >= p.in_w) continue;
      const int64_t offset = ((static_cast<int64_t>(n) * p.in_h + h) * p.in_w + w) * pitch + at.channel;
      const int64_t tap = static_cast<int64_t>(tap_h * p.kernel_w + tap_w) * pitch + at.channel;
#pragma unroll
      for (int t = 0; t < kBranches; t++) {
        float x[kVector], weight[kVector];
        load_vector(x, static_cast<const Element*>(p.input[t]) + offset);
        load_vector(weight, static_cast<const Element*>(p.weight[t]) + tap);
#pragma unroll
        for (int i = 0; i < kVector; i++) z[t][i] += x[i] * weight[i];
      }
    }
  }
  finish_vector<Element>(p.epilogue, at.position, at.channel, z);
}

#define DEFINE(element)                                                               \
  AWSNET_POINTWISE_KERNEL(conv2d_depthwise_##element, awsnet_conv2d_params) {         \
    conv2d_depthwise<element, kPair>(params);                                         \
  }                                                                                   \
  AWSNET_POINTWISE_KERNEL(conv2d_depthwise_##element##_alone, awsnet_conv2d_params) { \
    conv2d_depthwise<element, 1>(params);                                             \
  }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
