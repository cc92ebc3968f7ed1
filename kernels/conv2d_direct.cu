// conv2d of one or two branches by its definition, in f32 arithmetic: any groups, any type.
//
//   z[t][n][oh][ow][o] = sum over r, s, c of x[t][n][oh * stride_h - pad_top + r * dilation_h][ow * stride_w -
//                        pad_left + s * dilation_w][group(o) * C + c] * w[t][r][s][c][o]
//   C = in_channels / groups, group(o) = o / (channels / groups)
//
// and the projection (abi.h), whose channels every output channel reads, whatever the groups.
//
// A thread computes one vector of output channels at kPositions neighbouring positions, one branch after the other.
// Neighbouring threads take neighbouring vectors: they read neighbouring weights and the same inputs.
#include <device/epilogue.h>
#include <device/predecessor.h>
#include <variants.h>

template <typename Element, int kPositions>
struct DirectWindow {         // those beyond the last position are computed as if they were the first, and not stored
  int64_t image[kPositions];  // first element of the image
  int origin_h[kPositions], origin_w[kPositions];
  bool there[kPositions];

  DEVICE DirectWindow(const awsnet_conv2d_params& p, int64_t first, int64_t positions) {
#pragma unroll
    for (int i = 0; i < kPositions; i++) {
      there[i] = first + i < positions;
      const uint32_t m = there[i] ? static_cast<uint32_t>(first + i) : 0u;
      const uint32_t ow = m % p.out_w, oh = m / p.out_w % p.out_h, n = m / p.out_w / p.out_h;
      image[i] = static_cast<int64_t>(n) * p.in_h * p.in_w;
      origin_h[i] = static_cast<int>(oh) * p.stride_h - p.pad_top;
      origin_w[i] = static_cast<int>(ow) * p.stride_w - p.pad_left;
    }
  }
};

// Adds one branch's products to the sums. `first_in` is the first input channel of each lane's group; with kOneGroup it
// is the same for all, and an input is read once for the eight of them. Otherwise the lanes follow one another.
template <typename Element, int kPositions, int kBranches, bool kOneGroup>
DEVICE void add_products(float (&z)[kPositions][kBranches][kVector], int t, const awsnet_conv2d_params& p,
                         const DirectWindow<Element, kPositions>& window, const int (&first_in)[kVector], int channel) {
  const int pitch = pitch_of(p.epilogue.channels), in_pitch = pitch_of(p.in_channels);
  const int group_in = p.in_channels / p.groups;
  const Element* input = static_cast<const Element*>(p.input[t]);
  const Element* weight = static_cast<const Element*>(p.weight[t]) + channel;
  for (int tap_h = 0; tap_h < p.kernel_h; tap_h++) {
    for (int tap_w = 0; tap_w < p.kernel_w; tap_w++) {
      const Element* x[kPositions];
      bool inside[kPositions];
#pragma unroll
      for (int i = 0; i < kPositions; i++) {
        const int h = window.origin_h[i] + tap_h * p.dilation_h, w = window.origin_w[i] + tap_w * p.dilation_w;
        inside[i] = h >= 0 && h < p.in_h && w >= 0 && w < p.in_w;
        x[i] = inside[i] ? input + (window.image[i] + static_cast<int64_t>(h) * p.in_w + w) * in_pitch : input;
      }
      if (kOneGroup) {
        for (int c = 0; c < group_in; c++) {
          float w[kVector];
          load_vector(w, weight + static_cast<int64_t>(c) * pitch);
#pragma unroll
          for (int i = 0; i < kPositions; i++) {
            if (!inside[i]) continue;
            const float value = to_f32(load_global(x[i] + first_in[0] + c));
#pragma unroll
            for (int lane = 0; lane < kVector; lane++) z[i][t][lane] += value * w[lane];
          }
        }
      } else {
#pragma unroll
        for (int lane = 0; lane < kVector; lane++) {
          for (int c = 0; c < group_in; c++) {
            const float w = to_f32(load_global(weight + static_cast<int64_t>(c) * pitch + lane));
#pragma unroll
            for (int i = 0; i < kPositions; i++) {
              if (inside[i]) z[i][t][lane] += to_f32(load_global(x[i] + first_in[lane] + c)) * w;
            }
          }
        }
      }
      weight += static_cast<int64_t>(group_in) * pitch;
    }
  }
}

// Adds the products of one branch's projection at positions [first, ...). Its weights stand behind those of the taps.
template <typename Element, int kPositions, int kBranches>
DEVICE void add_projection(float (&z)[kPositions][kBranches][kVector], int t, const awsnet_conv2d_params& p,
                           const DirectWindow<Element, kPositions>& window, int64_t first, int channel) {
  if (!p.projection[t]) return;
  const int pitch = pitch_of(p.epilogue.channels), projection_pitch = pitch_of(p.projection_channels);
  const Element* x[kPositions];
#pragma unroll
  for (int i = 0; i < kPositions; i++) {
    const uint32_t m = window.there[i] ? static_cast<uint32_t>(first + i) : 0u;
    const uint32_t ow = m % p.out_w, oh = m / p.out_w % p.out_h, n = m / p.out_w / p.out_h;
    const int64_t from_h = static_cast<int64_t>(n) * p.projection_h + oh * p.projection_stride_h;
    x[i] = static_cast<const Element*>(p.projection[t]) +
           (from_h * p.projection_w + ow * p.projection_stride_w) * projection_pitch;
  }
  const int64_t rows = static_cast<int64_t>(p.kernel_h * p.kernel_w) * (p.in_channels / p.groups);
  const Element* weight = static_cast<const Element*>(p.weight[t]) + rows * pitch + channel;
  for (int c = 0; c < p.projection_channels; c++) {
    float w[kVector];
    load_vector(w, weight + static_cast<int64_t>(c) * pitch);
#pragma unroll
    for (int i = 0; i < kPositions; i++) {
      const float value = to_f32(load_global(x[i] + c));
#pragma unroll
      for (int lane = 0; lane < kVector; lane++) z[i][t][lane] += value * w[lane];
    }
  }
}

template <typename Element, int kPositions, int kBranches>
DEVICE void conv2d_direct(const awsnet_conv2d_params& p, int threads) {
  const uint32_t vectors = static_cast<uint32_t>(vectors_of(p.epilogue.channels));
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  const uint32_t index = blockIdx.x * static_cast<uint32_t>(threads) + threadIdx.x;
  const int channel = static_cast<int>(index % vectors) * kVector;
  const int64_t first = static_cast<int64_t>(index / vectors) * kPositions;
  await_predecessor();
  if (first >= positions) return;
  const DirectWindow<Element, kPositions> window(p, first, positions);

  const int group_in = p.in_channels / p.groups, group_out = p.epilogue.channels / p.groups;
  int first_in[kVector];  // pad lanes follow the last channel
#pragma unroll
  for (int lane = 0; lane < kVector; lane++) {
    const int o = channel + lane < p.epilogue.channels ? channel + lane : p.epilogue.channels - 1;
    first_in[lane] = o / group_out * group_in;
  }
  const bool one_group = first_in[0] == first_in[kVector - 1];

  float z[kPositions][kBranches][kVector] = {};
#pragma unroll
  for (int t = 0; t < kBranches; t++) {
    if (one_group) {
      add_products<Element, kPositions, kBranches, true>(z, t, p, window, first_in, channel);
    } else {
      add_products<Element, kPositions, kBranches, false>(z, t, p, window, first_in, channel);
    }
    add_projection<Element, kPositions, kBranches>(z, t, p, window, first, channel);
  }
#pragma unroll
  for (int i = 0; i < kPositions; i++) {
    if (window.there[i]) finish_vector<Element>(p.epilogue, first + i, channel, z[i]);
  }
}

#define DEFINE(name, element, positions, threads)                              \
  AWSNET_KERNEL(conv2d_direct_##name, awsnet_conv2d_params, threads) {         \
    conv2d_direct<element, positions, kPair>(params, threads);                 \
  }                                                                            \
  AWSNET_KERNEL(conv2d_direct_##name##_alone, awsnet_conv2d_params, threads) { \
    conv2d_direct<element, positions, 1>(params, threads);                     \
  }
AWSNET_CONV2D_DIRECT_VARIANTS(DEFINE)
#undef DEFINE
