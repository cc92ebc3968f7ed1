// The first convolution: all branches read the same image of 1 to 4 channels, so that A is loaded once and multiplied
// by the weights of each; pixels become normalised values on the way in.
//
//   z[t][oh][ow][o] = sum over r, s, c of v[oh * stride_h - pad_top + r * dilation_h][ow * stride_w - pad_left + s *
//                     dilation_w][c] * w[t][o][r][s][c],   v = pixel * scale[c] + shift[c], 0 outside the image
//
// A block computes patches of 4 x 16 positions and 64 channels, one patch after the other where there are more of them
// than blocks. A pixel is four channels, 8 bytes, those beyond the image's zero, so that the taps of a kernel row are one
// run of memory: a row of A for ldmatrix, two taps a vector, the taps of a row rounded up to whole steps of four with
// weights of zero. For that
// - pixels that neighbouring taps read are neighbours in the window: with a dilation they stand by remainder first;
// - a run begins at a multiple of 16 bytes: where it may begin at an odd pixel there is a second copy of the window, one
//   pixel further on.
// Shared memory (stem_shared_bytes in src/cuda/plan/variants.rs computes it likewise):
//   weights  [branch][64][stem_k + 8] elements; the 8 more put eight rows into different banks (stem_k % 16 = 0)
//   window   [copy][row][remainder][slot][4] elements: the part of the image under the patch, normalised
// A pixel that is no finite number makes the positions up to three taps beside its own not finite as well.
#include <device/epilogue.h>
#include <device/image.h>
#include <device/predecessor.h>
#include <device/quad.h>
#include <variants.h>

constexpr int kStemThreads = AWSNET_STEM_THREADS, kStemChannels = AWSNET_STEM_CHANNELS;
constexpr int kStemPatchH = AWSNET_STEM_PATCH_H, kStemPatchW = AWSNET_STEM_PATCH_W;
constexpr int kStemTaps = 4;                              // of a step of 16: four channels each
constexpr int kStemPixelBytes = 8;                        // four channels of 16 bits
constexpr int kStemWarpRows = 1, kStemWarpChannels = 32;  // of the patch: a warp's share
constexpr int kStemFragmentsN = kStemWarpChannels / 8;
static_assert(kStemPatchW == 16, "a row of the patch is a fragment");
static_assert(kStemThreads / 32 == kStemPatchH / kStemWarpRows * (kStemChannels / kStemWarpChannels), "whole shares");

struct StemShape {
  int row_taps, k, rows, columns, slots, row_bytes, copies, copy_bytes;

  DEVICE explicit StemShape(const awsnet_conv2d_stem_params& p)
      : row_taps((p.kernel_w + kStemTaps - 1) / kStemTaps * kStemTaps),
        k(p.kernel_h * row_taps * 4),
        rows((kStemPatchH - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1),
        columns((kStemPatchW - 1) * p.stride_w + (row_taps - 1) * p.dilation_w + 1),
        slots(((columns + p.dilation_w - 1) / p.dilation_w + 1) / 2 * 2),
        row_bytes(p.dilation_w * slots * kStemPixelBytes),
        copies(p.dilation_w == 1 && p.stride_w % 2 == 0 ? 1 : 2),
        // Half the banks apart, so that neighbours in different copies do not meet.
        copy_bytes((rows * row_bytes + 63) / 128 * 128 + 64) {}
};

// Starts the copies of all branches' weights of this block's channels, a row a warp.
template <int kBranches, typename Element>
DEVICE void load_stem_weights(SharedAddress target, const awsnet_conv2d_stem_params& p, const StemShape& shape) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row_bytes = shape.k * static_cast<int>(sizeof(Element));
#pragma unroll
  for (int t = 0; t < kBranches; t++) {
    for (int row = warp; row < kStemChannels; row += kStemThreads / 32) {
      const int channel = static_cast<int>(blockIdx.y) * kStemChannels + row;
      const bool inside = channel < p.epilogue.channels;
      const uint8_t* source = static_cast<const uint8_t*>(p.weight[t]);
      if (inside) source += static_cast<int64_t>(channel) * row_bytes;
      const SharedAddress to = target + (t * kStemChannels + row) * (row_bytes + kVectorBytes);
      for (int at = lane * kVectorBytes; at < row_bytes; at += 32 * kVectorBytes)
        cp_async_16(to + at, source + at, inside);
    }
  }
  cp_async_commit();
}

// Fills the window with normalised pixels; zeros outside the image. A thread has several pixels under way at once.
template <typename Element, typename Stored>
DEVICE void load_window(uint8_t* window, const awsnet_conv2d_stem_params& p, int64_t n, int first_h, int first_w,
                        const StemShape& shape) {
  constexpr int kAtOnce = 4;
  const awsnet_image& image = p.image;
  const Stored* pixels = static_cast<const Stored*>(image.pixels) + n * image.image_stride;
  const int places = shape.slots * p.dilation_w, total = shape.rows * places;
  for (int first = threadIdx.x; first < total; first += kAtOnce * kStemThreads) {
    Stored stored[kAtOnce][4];
    bool inside[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; i++) {
      const int place = first + i * kStemThreads, row = place / places, column = place - row * places;
      const int h = first_h + row, w = first_w + column;
      inside[i] = static_cast<uint32_t>(h) < static_cast<uint32_t>(image.height) &&
                  static_cast<uint32_t>(w) < static_cast<uint32_t>(image.width);
      const Stored* pixel = pixels + h * image.row_stride + w * image.column_stride;
#pragma unroll
      for (int c = 0; c < 4; c++) {
        stored[i][c] = 0;
        if (inside[i] && c < image.channels) stored[i][c] = load_global(pixel + c * image.channel_stride);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; i++) {
      const int place = first + i * kStemThreads, row = place / places, column = place - row * places;
      if (place >= total) break;
      union {
        Bits64 bits;
        Element channels[4];
      } pixel;
#pragma unroll
      for (int c = 0; c < 4; c++) {
        const float value = fmaf(static_cast<float>(stored[i][c]), image.scale[c], image.shift[c]);  // one rounding
        pixel.channels[c] = from_f32<Element>(inside[i] ? value : 0.0f);
      }
      const int remainder = p.dilation_w == 1 ? 0 : column % p.dilation_w;
      const int slot = p.dilation_w == 1 ? column : remainder * shape.slots + column / p.dilation_w;
      uint8_t* target = window + row * shape.row_bytes + slot * kStemPixelBytes;
      *reinterpret_cast<Bits64*>(target) = pixel.bits;
      if (shape.copies == 1) continue;
      // In the second copy the first of a remainder has no place, and the last place no pixel.
      const bool is_first = column < p.dilation_w;
      const int further = is_first ? (remainder + 1) * shape.slots - 1 - slot : -1;
      const Bits64 nothing{{0u, 0u}};
      *reinterpret_cast<Bits64*>(target + shape.copy_bytes + further * kStemPixelBytes) =
          is_first ? nothing : pixel.bits;
    }
  }
}

template <int kBranches, typename Element>
DEVICE void conv2d_stem(const awsnet_conv2d_stem_params& p) {
  const StemShape shape(p);
  const int weight_row = shape.k * static_cast<int>(sizeof(Element)) + kVectorBytes;
  const SharedAddress weights = shared_address(dynamic_shared());
  uint8_t* window = dynamic_shared() + kBranches * kStemChannels * weight_row;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp / 2 * kStemWarpRows, warp_channel = warp % 2 * kStemWarpChannels;
  // This lane's rows for ldmatrix: of A the run of one position, of B one channel.
  const int start = lane % 16 * p.stride_w, index = start / p.dilation_w;
  const int copy = shape.copies == 2 ? index % 2 : 0, slot = start % p.dilation_w * shape.slots + index - copy;
  const SharedAddress row_a = shared_address(window) + copy * shape.copy_bytes + slot * kStemPixelBytes +
                              warp_row * p.stride_h * shape.row_bytes + lane / 16 * kVectorBytes;
  const SharedAddress row_b =
      weights + (warp_channel + lane / 16 * 8 + lane % 8) * weight_row + lane / 8 % 2 * kVectorBytes;

  load_stem_weights<kBranches, Element>(weights, p, shape);
  await_predecessor();

  // Patches are counted by columns, then rows, then images.
  const int patches_w = (p.out_w + kStemPatchW - 1) / kStemPatchW,
            patches_h = (p.out_h + kStemPatchH - 1) / kStemPatchH;
  const int patches = p.batch * patches_h * patches_w;
#pragma unroll 1
  for (int patch = static_cast<int>(blockIdx.x); patch < patches; patch += static_cast<int>(gridDim.x)) {
    const int first_ow = patch % patches_w * kStemPatchW, first_oh = patch / patches_w % patches_h * kStemPatchH;
    const int64_t n = patch / patches_w / patches_h;
    const int first_h = first_oh * p.stride_h - p.pad_top, first_w = first_ow * p.stride_w - p.pad_left;
    if (p.image.pixel == AWSNET_PIXEL_U8) {
      load_window<Element, uint8_t>(window, p, n, first_h, first_w, shape);
    } else {
      load_window<Element, float>(window, p, n, first_h, first_w, shape);
    }
    cp_async_wait<0>();
    sync_threads();  // weights and window are there for all

    float sums[kBranches][kStemWarpRows][kStemFragmentsN][4] = {};
    SharedAddress run = row_a, step_b = row_b;
#pragma unroll 1
    for (int r = 0; r < p.kernel_h; r++) {
#pragma unroll 2
      for (int taps = 0; taps < shape.row_taps; taps += kStemTaps) {
        uint32_t a[kStemWarpRows][4];
#pragma unroll
        for (int i = 0; i < kStemWarpRows; i++) {
          ldmatrix_x4(a[i], run + i * p.stride_h * shape.row_bytes + taps * kStemPixelBytes);
        }
#pragma unroll
        for (int t = 0; t < kBranches; t++)
#pragma unroll
          for (int j = 0; j < kStemFragmentsN / 2; j++) {
            uint32_t b[4];
            ldmatrix_x4(b, step_b + (t * kStemChannels + 16 * j) * weight_row);
#pragma unroll
            for (int i = 0; i < kStemWarpRows; i++) {
              mma_m16n8k16(Element{}, sums[t][i][2 * j], a[i], b[0], b[1]);
              mma_m16n8k16(Element{}, sums[t][i][2 * j + 1], a[i], b[2], b[3]);
            }
          }
        step_b += 2 * kVectorBytes;
      }
      run += p.dilation_h * shape.row_bytes;
    }
    sync_threads();  // no warp reads the window any more: the next patch may overwrite it

    const int channel = static_cast<int>(blockIdx.y) * kStemChannels + warp_channel + lane % 4 * kVector;
#pragma unroll
    for (int i = 0; i < kStemWarpRows; i++) {
      // This lane's two vectors of the row pass through the epilogue one by one, by the same instructions.
#pragma unroll 1
      for (int half = 0; half < 2; half++) {
        float z[kBranches][kVector];
#pragma unroll
        for (int t = 0; t < kBranches; t++) gather_vector(z[t], sums[t][i]);
#pragma unroll
        for (int t = 0; t < kBranches; t++)
#pragma unroll
          for (int j = 0; j < kStemFragmentsN; j++) {
            sums[t][i][j][0] = sums[t][i][j][2];
            sums[t][i][j][1] = sums[t][i][j][3];
          }
        const int oh = first_oh + warp_row + i, ow = first_ow + half * 8 + lane / 4;
        if (oh < p.out_h && ow < p.out_w && channel < p.epilogue.channels) {
          finish_vector<Element>(p.epilogue, (n * p.out_h + oh) * p.out_w + ow, channel, z);
        }
      }
    }
  }
}

#define DEFINE(element)                                                                               \
  AWSNET_KERNEL_OF_BLOCKS(conv2d_stem_##element, awsnet_conv2d_stem_params, AWSNET_STEM_THREADS, 2) { \
    conv2d_stem<kPair, element>(params);                                                              \
  }                                                                                                   \
  AWSNET_KERNEL(conv2d_stem_##element##_alone, awsnet_conv2d_stem_params, AWSNET_STEM_THREADS) {      \
    conv2d_stem<1, element>(params);                                                                  \
  }
AWSNET_CONV2D_STEM_ELEMENTS(DEFINE)
#undef DEFINE
