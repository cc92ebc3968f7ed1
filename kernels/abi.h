// The whole border between the host and the kernels: one parameter struct for each kernel, passed by value.
//
// Plain C: fixed-width fields, pointers and nothing else, so that src/cuda/abi.rs holds the same bytes. Both sides
// assert sizes and offsets.
//
// Words and rules common to all structs:
//
// - A pair of pointers is indexed by branch: 0 emotion, 1 au. The two branches have equal shapes.
// - A map is NHWC: element [n][h][w][c] stands at ((n * height + h) * width + w) * pitch + c, where the pitch is
//   `channels` rounded up to AWSNET_VECTOR. The pad lanes between them are never read as values; whoever writes a
//   map writes zeros there. Everything a pointer names starts at a multiple of 16 bytes.
// - A position is one (n, h, w) of a map. A launch has fewer than 2^31 positions, and fewer than 2^31 vectors (positions
//   * pitch / AWSNET_VECTOR), so that both are counted in 32 bits. Offsets in elements are 64-bit.
// - f32 arrays "a channel" (bias, mix) have `pitch` entries; those of pad lanes are finite.
// - Outputs do not overlap inputs, except where a struct says so.
#ifndef AWSNET_ABI_H
#define AWSNET_ABI_H

#include <stddef.h>
#include <stdint.h>

// Channels that a thread loads and stores at once: 16 bytes of f16 or bf16. Pitches are multiples of it.
#define AWSNET_VECTOR 8

enum awsnet_activation {
  AWSNET_ACTIVATION_NONE = 0,
  AWSNET_ACTIVATION_RELU = 1,
  AWSNET_ACTIVATION_LEAKY_RELU = 2,
  AWSNET_ACTIVATION_SILU = 3
};
enum awsnet_mix { AWSNET_MIX_NONE = 0, AWSNET_MIX_LAYER = 1, AWSNET_MIX_CHANNEL = 2 };
enum awsnet_pool { AWSNET_POOL_MAX = 0, AWSNET_POOL_AVERAGE = 1 };
enum awsnet_pixel { AWSNET_PIXEL_U8 = 0, AWSNET_PIXEL_F32 = 1 };
enum awsnet_score { AWSNET_SCORE_SOFTMAX = 0, AWSNET_SCORE_SIGMOID = 1 };
enum awsnet_gate { AWSNET_GATE_SOFTMAX = 0, AWSNET_GATE_SIGMOID = 1 };

// What becomes of the operator's result z, in f32, before it is stored:
//   u[t] = activation(z[t] + bias[t] + residual[t])
//   y[t] = mix[t][0] * u[0] + mix[t][1] * u[1]
struct awsnet_epilogue {
  const float *bias[2];     // [pitch], or null
  const void *residual[2];  // maps of the output's shape, or null
  const float *mix;         // layer: [2][2] (to, from); channel: [2][2][pitch]; none: unused
  void *output[2];
  int32_t channels;
  int32_t activation;    // enum awsnet_activation
  int32_t mix_kind;      // enum awsnet_mix
  float negative_slope;  // of the leaky ReLU
};

// conv2d_implicit_gemm, conv2d_direct, conv2d_depthwise. Packed weights, one array a branch:
//   implicit_gemm  [channels][kernel_h * kernel_w * pitch of in_channels + pitch of projection_channels], each row the
//                  taps' weights and behind them the projection's, zeros in the pad lanes; groups = 1
//   direct         [kernel_h][kernel_w][in_channels / groups][pitch], then [projection_channels][pitch]
//   depthwise      [kernel_h][kernel_w][pitch]; channels = in_channels = groups; no projection
//
// A projection is a 1x1 convolution of a second map, added to z as more of the same reduction: the projection shortcut
// of a residual block beside the block's last convolution.
//   z[n][oh][ow][o] += sum over c of projection[n][oh * projection_stride_h][ow * projection_stride_w][c] * w[o][c]
// Every position that this names lies in the map. Without one, projection is null and all its fields are 0.
struct awsnet_conv2d_params {
  struct awsnet_epilogue epilogue;
  const void *input[2];
  const void *weight[2];
  float *workspace;   // implicit_gemm with splits > 1: [splits][tiles][2][tile_m][tile_n] partial sums
  uint32_t *tickets;  // with splits > 1: [tiles], zero before the first launch; each launch leaves zeros behind
  int32_t batch, in_h, in_w, in_channels;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t dilation_h, dilation_w;
  int32_t groups;
  int32_t splits;  // implicit_gemm: blocks that share one tile's reduction, = gridDim.z
  const void *projection[2];
  int32_t projection_h, projection_w, projection_channels;
  int32_t projection_stride_h, projection_stride_w;
  int32_t reserved;
};

// An image batch as its owner holds it: any strides, in elements. A value v of channel c enters the network as
// v * scale[c] + shift[c].
struct awsnet_image {
  const void *pixels;
  int64_t image_stride, row_stride, column_stride, channel_stride;
  int32_t pixel;     // enum awsnet_pixel
  int32_t channels;  // 1 to 4
  int32_t height, width;
  float scale[4], shift[4];
};

// conv2d_stem. Packed weights: [channels][stem_k], where stem_k = kernel_h * kernel_w * image.channels rounded up to
// 16, the index runs as [kernel_h][kernel_w][image channel], and the rest is zero.
struct awsnet_conv2d_stem_params {
  struct awsnet_epilogue epilogue;
  struct awsnet_image image;
  const void *weight[2];
  int32_t batch;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t dilation_h, dilation_w;
  int32_t reserved;
};

// pool2d. Padding never wins a maximum and is counted in an average; every window meets the map.
struct awsnet_pool2d_params {
  struct awsnet_epilogue epilogue;
  const void *input[2];
  int32_t batch, in_h, in_w;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t kind;  // enum awsnet_pool
};

// identity: z = x. An output may be the input of the same branch; with a mix, both maps are read before either is
// written.
struct awsnet_identity_params {
  struct awsnet_epilogue epilogue;
  const void *input[2];
  int64_t positions;
};

// aws_unit_dense: y[t][o] = sum over s, i of A[t][s][o][i] * u[s][i], u the inputs. Packed weights, one array for
// each target t: f16, bf16 [channels][2 (from)][pitch], zeros in the pad lanes; f32 [2 (from)][channels (in)][pitch].
struct awsnet_aws_unit_dense_params {
  struct awsnet_epilogue epilogue;  // bias, residual null; no activation, no mix
  const void *input[2];
  const void *weight[2];
  float *workspace;   // as in awsnet_conv2d_params
  uint32_t *tickets;  // as in awsnet_conv2d_params
  int64_t positions;
  int32_t splits;
  int32_t reserved;
};

// aws_unit_gate_means: the mean over height and width of each channel.
struct awsnet_aws_unit_gate_means_params {
  const void *input[2];
  float *means;  // [batch][2][pitch]
  int64_t positions_per_image;
  int32_t batch;
  int32_t channels;
};

// aws_unit_gate_coefficients: the two small layers, from the means to A.
struct awsnet_aws_unit_gate_coefficients_params {
  const float *means;           // [batch][2][pitch]
  const float *squeeze_weight;  // [squeezed][2][pitch]
  const float *squeeze_bias;    // [squeezed]
  const float *excite_weight;   // [2 (to)][2 (from)][channels][squeezed]
  const float *excite_bias;     // [2 (to)][2 (from)][channels]
  float *coefficients;          // [batch][2 (to)][2 (from)][pitch]
  int32_t batch;
  int32_t channels;
  int32_t squeezed;
  int32_t gate;  // enum awsnet_gate
};

// aws_unit_gate_mix: y[t] = A[t][0] * u[0] + A[t][1] * u[1], A of this image and channel. Outputs may be the inputs.
struct awsnet_aws_unit_gate_mix_params {
  const void *input[2];
  void *output[2];
  const float *coefficients;  // [batch][2 (to)][2 (from)][pitch]
  int64_t positions_per_image;
  int32_t batch;
  int32_t channels;
};

// head: the linear layer of each branch and its scores. With `pooled` the features are the means over the image's
// positions, otherwise the whole map. Weights f32: pooled [labels][pitch], otherwise [labels][positions][pitch],
// zeros in the pad lanes.
struct awsnet_head_params {
  const void *input[2];
  const float *weight[2];
  const float *bias[2];     // [labels], or null
  float *logits[2];         // [batch][labels]
  float *probabilities[2];  // [batch][labels]
  int64_t positions_per_image;
  int32_t batch;
  int32_t channels;
  int32_t labels[2];
  int32_t score[2];  // enum awsnet_score
  int32_t pooled;
  int32_t reserved;
};

// image_to_nhwc: pixels, normalised, as a map of `image.channels` channels.
struct awsnet_image_to_nhwc_params {
  struct awsnet_image image;
  void *output;
  int32_t batch;
  int32_t reserved;
};

#ifdef __cplusplus
#define AWSNET_ABI_SIZE(type, bytes) static_assert(sizeof(type) == bytes, "size of " #type)
#define AWSNET_ABI_OFFSET(type, field, bytes) \
  static_assert(offsetof(type, field) == bytes, "offset of " #type "." #field)
#else
#define AWSNET_ABI_SIZE(type, bytes) _Static_assert(sizeof(struct type) == bytes, "size of " #type)
#define AWSNET_ABI_OFFSET(type, field, bytes) \
  _Static_assert(offsetof(struct type, field) == bytes, "offset of " #type "." #field)
#endif
AWSNET_ABI_SIZE(awsnet_epilogue, 72);
AWSNET_ABI_OFFSET(awsnet_epilogue, residual, 16);
AWSNET_ABI_OFFSET(awsnet_epilogue, mix, 32);
AWSNET_ABI_OFFSET(awsnet_epilogue, output, 40);
AWSNET_ABI_OFFSET(awsnet_epilogue, channels, 56);
AWSNET_ABI_OFFSET(awsnet_epilogue, negative_slope, 68);
AWSNET_ABI_SIZE(awsnet_conv2d_params, 224);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, input, 72);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, weight, 88);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, workspace, 104);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, tickets, 112);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, batch, 120);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, splits, 180);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, projection, 184);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, projection_h, 200);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, reserved, 220);
AWSNET_ABI_SIZE(awsnet_image, 88);
AWSNET_ABI_OFFSET(awsnet_image, pixel, 40);
AWSNET_ABI_OFFSET(awsnet_image, scale, 56);
AWSNET_ABI_SIZE(awsnet_conv2d_stem_params, 224);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, image, 72);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, weight, 160);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, batch, 176);
AWSNET_ABI_SIZE(awsnet_pool2d_params, 136);
AWSNET_ABI_OFFSET(awsnet_pool2d_params, input, 72);
AWSNET_ABI_OFFSET(awsnet_pool2d_params, kind, 132);
AWSNET_ABI_SIZE(awsnet_identity_params, 96);
AWSNET_ABI_OFFSET(awsnet_identity_params, positions, 88);
AWSNET_ABI_SIZE(awsnet_aws_unit_dense_params, 136);
AWSNET_ABI_OFFSET(awsnet_aws_unit_dense_params, positions, 120);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_means_params, 40);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_coefficients_params, 64);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_mix_params, 56);
AWSNET_ABI_SIZE(awsnet_head_params, 120);
AWSNET_ABI_OFFSET(awsnet_head_params, labels, 96);
AWSNET_ABI_SIZE(awsnet_image_to_nhwc_params, 104);

#endif
