// The whole border between the host and the kernels: one parameter struct for each kernel, passed by value.
//
// Plain C: fixed-width fields, pointers and nothing else, so that src/cuda/abi.rs holds the same bytes. Both sides
// assert sizes and offsets.
//
// Words and rules common to all structs:
//
// - A pair of pointers is indexed by branch: 0 emotion, 1 au. The two branches have equal shapes. Of a network of one
//   branch the second of every pair is null, and nothing of it is read, computed or written.
// - A map is NHWC: element [n][h][w][c] stands at ((n * height + h) * width + w) * pitch + c, where the pitch is
//   `channels` rounded up to AWSNET_VECTOR. The pad lanes between them are zeros: whoever writes a map writes them, and a
//   GEMM multiplies them with weights of zero. Everything a pointer names starts at a multiple of 16 bytes.
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
  AWSNET_ACTIVATION_SILU = 3,
  AWSNET_ACTIVATION_RELU6 = 4,
  AWSNET_ACTIVATION_PRELU = 5,
  AWSNET_ACTIVATION_ELU = 6,
  AWSNET_ACTIVATION_SIGMOID = 7,
  AWSNET_ACTIVATION_HARDSIGMOID = 8,
  AWSNET_ACTIVATION_HARDSWISH = 9,
  AWSNET_ACTIVATION_TANH = 10,
  AWSNET_ACTIVATION_GELU = 11,
  AWSNET_ACTIVATION_GELU_TANH = 12
};
enum awsnet_mix { AWSNET_MIX_NONE = 0, AWSNET_MIX_LAYER = 1, AWSNET_MIX_CHANNEL = 2 };
enum awsnet_pool { AWSNET_POOL_MAX = 0, AWSNET_POOL_AVERAGE = 1, AWSNET_POOL_ADAPTIVE_AVERAGE = 2 };
enum awsnet_pixel { AWSNET_PIXEL_U8 = 0, AWSNET_PIXEL_F32 = 1 };
enum awsnet_score { AWSNET_SCORE_SOFTMAX = 0, AWSNET_SCORE_SIGMOID = 1, AWSNET_SCORE_NONE = 2 };
enum awsnet_gate { AWSNET_GATE_SOFTMAX = 0, AWSNET_GATE_SIGMOID = 1 };

// What becomes of the operator's result z, in f32, before it is stored:
//   u[t] = activation((z[t] + bias[t]) * scale[t] + residual[t])
//   y[t] = mix[t][0] * u[0] + mix[t][1] * u[1]
struct awsnet_epilogue {
  const float *bias[2];     // [pitch], or null
  const void *residual[2];  // maps of the output's shape, or null
  const float *mix;         // layer: [2][2] (to, from); channel: [2][2][pitch]; none: unused
  void *output[2];
  int32_t channels;
  int32_t activation;       // enum awsnet_activation
  int32_t mix_kind;         // enum awsnet_mix
  float negative_slope;     // of the leaky ReLU
  const void *scale[2];     // maps, or null
  const float *slopes[2];   // of the PReLU: [pitch]
  int32_t scale_positions;  // 0: scale has the output's shape; else it has one position for so many of an image's
  int32_t output_pitch;     // from one position of the output to the next: `pitch`, or that of a map it is a part of
  int32_t branches;         // 1 or 2, as the kernel's name says
  int32_t reserved;
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
// v * scale[c] + shift[c]; of channels that there are not, the shift is 0.
struct awsnet_image {
  const void *pixels;
  int64_t image_stride, row_stride, column_stride, channel_stride;
  int32_t pixel;     // enum awsnet_pixel
  int32_t channels;  // 1 to 4
  int32_t height, width;
  float scale[4], shift[4];
};

// conv2d_stem. Packed weights: [channels][kernel_h][kernel_w rounded up to 4][4 image channels], and what the kernel or
// the image does not have is zero.
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

// pool2d. Padding never wins a maximum. An average divides by the positions of its window that lie in the map or in the
// `counted` rows and columns around it: the padding, or none. Every window meets the map. The windows of an adaptive
// average follow from the two sizes; it has no kernel, stride, padding or counted ones.
struct awsnet_pool2d_params {
  struct awsnet_epilogue epilogue;
  const void *input[2];
  int32_t batch, in_h, in_w;
  int32_t out_h, out_w;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_top, pad_left;
  int32_t kind;  // enum awsnet_pool
  int32_t counted_top, counted_left, counted_bottom, counted_right;
};

// upsample2d: z[n][h][w] = input[n][h / factor_h][w / factor_w].
struct awsnet_upsample2d_params {
  struct awsnet_epilogue epilogue;
  const void *input[2];
  int32_t batch, in_h, in_w;
  int32_t factor_h, factor_w;
  int32_t reserved;
};

// concat: output channels [first_channel, begin[inputs]), of which input i has those from begin[i] to begin[i + 1], as
// its channels from 0 on. `first_channel` is a multiple of AWSNET_VECTOR. The output may itself be the first input, with
// begin[0] = 0: the channels between first_channel and begin[1] then stay as they are.
#define AWSNET_CONCAT_INPUTS 16
struct awsnet_concat_params {
  const void *input[AWSNET_CONCAT_INPUTS][2];
  void *output[2];
  int64_t positions;
  int32_t pitch[AWSNET_CONCAT_INPUTS];  // of each input
  int32_t begin[AWSNET_CONCAT_INPUTS + 1];
  int32_t inputs;
  int32_t first_channel;
  int32_t output_pitch;
  int32_t branches;
  int32_t reserved;
};

// squeeze_excite: the global average of a map and two 1x1 convolutions of it, each with bias and activation (not the
// PReLU), the second from `squeezed` to `excited` channels. Weights in the maps' type, zeros in the pad lanes.
struct awsnet_squeeze_excite_params {
  const void *input[2];
  const void *squeeze_weight[2];  // [squeezed][pitch of channels]
  const float *squeeze_bias[2];   // [squeezed]
  const void *excite_weight[2];   // [squeezed][pitch of excited]
  const float *excite_bias[2];    // [pitch of excited]
  void *output[2];                // maps of one position
  float *workspace;               // [batch][branches][parts][pitch of channels]
  uint32_t *tickets;              // [batch][branches], as in awsnet_conv2d_params
  int64_t positions_per_image;
  int32_t batch, channels, squeezed, excited;
  int32_t branches;
  int32_t parts;  // blocks that share the positions of an image's channels
  int32_t squeeze_activation, excite_activation;
  float squeeze_negative_slope, excite_negative_slope;
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

// A head: its numbers, f32, and what becomes of them.
struct awsnet_head {
  const void *input;     // the map of its branch
  const float *weight;   // [labels][features]: head
  const float *bias;     // [labels], or null: head
  float *logits;         // [batch][labels]
  float *probabilities;  // [batch][labels], without a score the logits again; or null
  int32_t labels;
  int32_t score;  // enum awsnet_score
};

// head: the linear layer and the scores of up to so many heads, which read maps of one shape. With `pooled` the features
// are the means over the image's positions, otherwise the whole map. Weights f32: pooled [labels][pitch], otherwise
// [labels][positions][pitch], zeros in the pad lanes. A head with more labels than `labels_per_block` has no score.
#define AWSNET_HEADS 4
struct awsnet_head_params {
  struct awsnet_head head[AWSNET_HEADS];
  int64_t positions_per_image;
  int32_t batch;
  int32_t channels;
  int32_t heads;
  int32_t pooled;
  int32_t labels_per_block;
  int32_t reserved;
};

// head_score: the scores of numbers that are there: a map, [batch][positions][pitch] and read in the order (channel,
// position), or the logits themselves, where `pitch` is their number and there is one position. labels = channels *
// positions.
struct awsnet_head_score_params {
  struct awsnet_head head;
  int64_t positions_per_image;
  int32_t batch;
  int32_t channels;
  int32_t pitch;
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
AWSNET_ABI_SIZE(awsnet_epilogue, 120);
AWSNET_ABI_OFFSET(awsnet_epilogue, residual, 16);
AWSNET_ABI_OFFSET(awsnet_epilogue, mix, 32);
AWSNET_ABI_OFFSET(awsnet_epilogue, output, 40);
AWSNET_ABI_OFFSET(awsnet_epilogue, channels, 56);
AWSNET_ABI_OFFSET(awsnet_epilogue, negative_slope, 68);
AWSNET_ABI_OFFSET(awsnet_epilogue, scale, 72);
AWSNET_ABI_OFFSET(awsnet_epilogue, slopes, 88);
AWSNET_ABI_OFFSET(awsnet_epilogue, scale_positions, 104);
AWSNET_ABI_OFFSET(awsnet_epilogue, reserved, 116);
AWSNET_ABI_SIZE(awsnet_conv2d_params, 272);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, input, 120);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, weight, 136);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, workspace, 152);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, tickets, 160);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, batch, 168);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, splits, 228);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, projection, 232);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, projection_h, 248);
AWSNET_ABI_OFFSET(awsnet_conv2d_params, reserved, 268);
AWSNET_ABI_SIZE(awsnet_image, 88);
AWSNET_ABI_OFFSET(awsnet_image, pixel, 40);
AWSNET_ABI_OFFSET(awsnet_image, scale, 56);
AWSNET_ABI_SIZE(awsnet_conv2d_stem_params, 272);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, image, 120);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, weight, 208);
AWSNET_ABI_OFFSET(awsnet_conv2d_stem_params, batch, 224);
AWSNET_ABI_SIZE(awsnet_pool2d_params, 200);
AWSNET_ABI_OFFSET(awsnet_pool2d_params, input, 120);
AWSNET_ABI_OFFSET(awsnet_pool2d_params, kind, 180);
AWSNET_ABI_OFFSET(awsnet_pool2d_params, counted_right, 196);
AWSNET_ABI_SIZE(awsnet_upsample2d_params, 160);
AWSNET_ABI_OFFSET(awsnet_upsample2d_params, batch, 136);
AWSNET_ABI_SIZE(awsnet_concat_params, 432);
AWSNET_ABI_OFFSET(awsnet_concat_params, positions, 272);
AWSNET_ABI_OFFSET(awsnet_concat_params, begin, 344);
AWSNET_ABI_OFFSET(awsnet_concat_params, inputs, 412);
AWSNET_ABI_SIZE(awsnet_squeeze_excite_params, 160);
AWSNET_ABI_OFFSET(awsnet_squeeze_excite_params, workspace, 96);
AWSNET_ABI_OFFSET(awsnet_squeeze_excite_params, batch, 120);
AWSNET_ABI_SIZE(awsnet_identity_params, 144);
AWSNET_ABI_OFFSET(awsnet_identity_params, positions, 136);
AWSNET_ABI_SIZE(awsnet_aws_unit_dense_params, 184);
AWSNET_ABI_OFFSET(awsnet_aws_unit_dense_params, positions, 168);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_means_params, 40);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_coefficients_params, 64);
AWSNET_ABI_SIZE(awsnet_aws_unit_gate_mix_params, 56);
AWSNET_ABI_SIZE(awsnet_head, 48);
AWSNET_ABI_OFFSET(awsnet_head, labels, 40);
AWSNET_ABI_SIZE(awsnet_head_params, 224);
AWSNET_ABI_OFFSET(awsnet_head_params, positions_per_image, 192);
AWSNET_ABI_SIZE(awsnet_head_score_params, 72);
AWSNET_ABI_OFFSET(awsnet_head_score_params, pitch, 64);
AWSNET_ABI_SIZE(awsnet_image_to_nhwc_params, 104);

#endif
