// The first convolution: all branches read the same image of 1 to 4 channels, so that A is loaded once and multiplied
// by the weights of each; pixels become normalised values on the way in.
//
//   z[t][oh][ow][o] = sum over r, s, c of v[oh * stride_h - pad_top + r * dilation_h][ow * stride_w - pad_left + s *
//                     dilation_w][c] * w[t][o][r][s][c],   v = pixel * scale[c] + shift[c], 0 outside the image
//
// A block computes a patch of 8 x 8 positions of one image and 64 channels. Shared memory (stem_shared_bytes in
// src/cuda/plan/variants.rs computes it likewise):
//   weights  [branch][64][stem_k + 8] elements; the 8 more put eight rows into different banks (stem_k % 16 = 0)
//   offsets  [stem_k] int32: where in the window the k-th element stands, -1 beyond the last
//   window   [rows][columns][channels] elements: the part of the image under the patch, normalised
// and, when all that is used up, the table of finished sums.
#include <device/dual_gemm.h>
#include <device/image.h>
#include <variants.h>

template <int kBranches>
using StemTile = Tile<AWSNET_STEM_PATCH_H * AWSNET_STEM_PATCH_W, AWSNET_STEM_CHANNELS, 64, 2, 2, 2, kBranches>;
static_assert(StemTile<kPair>::kThreads == AWSNET_STEM_THREADS, "the table's threads");

struct StemShape {
  int k, padded_k, rows, columns, weight_pitch;

  DEVICE explicit StemShape(const awsnet_conv2d_stem_params& p)
      : k(p.kernel_h * p.kernel_w * p.image.channels),
        padded_k((k + 15) / 16 * 16),
        rows((AWSNET_STEM_PATCH_H - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1),
        columns((AWSNET_STEM_PATCH_W - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1),
        weight_pitch(padded_k + kVector) {}
};

// Starts the copies of all branches' weights of this block's channels.
template <class T, typename Element>
DEVICE void load_stem_weights(Element* target, const awsnet_conv2d_stem_params& p, const StemShape& shape) {
  const int row_vectors = shape.padded_k / kVector, total = T::kBranches * T::kN * row_vectors;
  for (int i = threadIdx.x; i < total; i += T::kThreads) {
    const int vector = i % row_vectors, row = i / row_vectors % T::kN, t = i / row_vectors / T::kN;
    const int channel = static_cast<int>(blockIdx.y) * T::kN + row;
    const bool inside = channel < p.epilogue.channels;
    const Element* source = static_cast<const Element*>(t == 0 ? p.weight[0] : p.weight[1]);
    if (inside) source += static_cast<int64_t>(channel) * shape.padded_k + vector * kVector;
    cp_async_16(target + (t * T::kN + row) * shape.weight_pitch + vector * kVector, source, inside ? kVectorBytes : 0);
  }
  cp_async_commit();
}

// Fills the window with normalised pixels; zeros outside the image.
template <typename Element>
DEVICE void load_window(Element* window, const awsnet_image& image, int64_t n, int first_h, int first_w,
                        const StemShape& shape) {
  const int total = shape.rows * shape.columns * image.channels;
  for (int i = threadIdx.x; i < total; i += AWSNET_STEM_THREADS) {
    const int c = i % image.channels, pixel = i / image.channels;
    const int h = first_h + pixel / shape.columns, w = first_w + pixel % shape.columns;
    float value = 0.0f;
    if (h >= 0 && h < image.height && w >= 0 && w < image.width) {
      value = load_pixel(image, n, h, w, c);
    }
    window[i] = from_f32<Element>(value);
  }
}

// Two neighbouring elements of a row of A, as one register of a fragment.
template <typename Element>
DEVICE uint32_t gather_pair(const Element* row, const int32_t* offset) {
  const uint32_t low = offset[0] < 0 ? 0u : row[offset[0]].bits;
  const uint32_t high = offset[1] < 0 ? 0u : row[offset[1]].bits;
  return low | high << 16;
}

template <class T, typename Element>
DEVICE void conv2d_stem(const awsnet_conv2d_stem_params& p) {
  const StemShape shape(p);
  uint8_t* shared = dynamic_shared();
  Element* weights = reinterpret_cast<Element*>(shared);
  int32_t* offsets = reinterpret_cast<int32_t*>(weights + T::kBranches * T::kN * shape.weight_pitch);
  Element* window = reinterpret_cast<Element*>(offsets + shape.padded_k);

  // blockIdx.x counts patches: columns, then rows, then images.
  const int patches_w = (p.out_w + AWSNET_STEM_PATCH_W - 1) / AWSNET_STEM_PATCH_W;
  const int patches_h = (p.out_h + AWSNET_STEM_PATCH_H - 1) / AWSNET_STEM_PATCH_H;
  const int patch = static_cast<int>(blockIdx.x);
  const int first_ow = patch % patches_w * AWSNET_STEM_PATCH_W;
  const int first_oh = patch / patches_w % patches_h * AWSNET_STEM_PATCH_H;
  const int64_t n = patch / patches_w / patches_h;

  load_stem_weights<T>(weights, p, shape);
  for (int k = threadIdx.x; k < shape.padded_k; k += T::kThreads) {
    const int c = k % p.image.channels, tap = k / p.image.channels;
    const int h = tap / p.kernel_w * p.dilation_h, w = tap % p.kernel_w * p.dilation_w;
    offsets[k] = k < shape.k ? (h * shape.columns + w) * p.image.channels + c : -1;
  }
  await_predecessor();
  load_window(window, p.image, n, first_oh * p.stride_h - p.pad_top, first_ow * p.stride_w - p.pad_left, shape);
  cp_async_wait<0>();
  sync_threads();  // weights, offsets and window are there for all

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / T::kWarpsN * (T::kM / T::kWarpsM), warp_n = warp % T::kWarpsN * (T::kN / T::kWarpsN);
  const Element* rows[T::kFragmentsM][2];  // the window's element under rows g and g + 8 of each fragment, tap 0
#pragma unroll
  for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int m = warp_m + 16 * i + 8 * half + lane / 4;
      const int h = m / AWSNET_STEM_PATCH_W * p.stride_h, w = m % AWSNET_STEM_PATCH_W * p.stride_w;
      rows[i][half] = window + (h * shape.columns + w) * p.image.channels;
    }
  const Element* row_b = weights + (warp_n + lane / 16 * 8 + lane % 8) * shape.weight_pitch + lane / 8 % 2 * kVector;

  Sums<T> sums;
  sums.clear();
  for (int k = 0; k < shape.padded_k; k += 16) {
    const int32_t* offset = offsets + k + lane % 4 * 2;
    uint32_t a[T::kFragmentsM][4];
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
      for (int e = 0; e < 4; e++) a[i][e] = gather_pair(rows[i][e % 2], offset + e / 2 * 8);
#pragma unroll
    for (int t = 0; t < T::kBranches; t++)
#pragma unroll
      for (int j = 0; j < T::kFragmentsN / 2; j++) {
        uint32_t b[4];
        ldmatrix_x4(b, row_b + (t * T::kN + 16 * j) * shape.weight_pitch + k);
#pragma unroll
        for (int i = 0; i < T::kFragmentsM; i++) {
          mma_m16n8k16(Element{}, sums.value[t][i][2 * j], a[i], b[0], b[1]);
          mma_m16n8k16(Element{}, sums.value[t][i][2 * j + 1], a[i], b[2], b[3]);
        }
      }
  }
  sync_threads();  // no warp reads weights, offsets or window any more: the table may overwrite them

  float* table = reinterpret_cast<float*>(shared);
  store_sums_shared<T>(table, sums);
  sync_threads();  // the sums of all warps are in the table
  constexpr int kTileVectors = T::kN / kVector;
  for (int i = threadIdx.x; i < T::kM * kTileVectors; i += T::kThreads) {
    const int row = i / kTileVectors, column = i % kTileVectors * kVector;
    const int oh = first_oh + row / AWSNET_STEM_PATCH_W, ow = first_ow + row % AWSNET_STEM_PATCH_W;
    const int channel = static_cast<int>(blockIdx.y) * T::kN + column;
    if (oh >= p.out_h || ow >= p.out_w || channel >= p.epilogue.channels) continue;
    float z[T::kBranches][kVector];
    load_sums<T>(z, table, row, column);
    finish_vector<Element>(p.epilogue, (n * p.out_h + oh) * p.out_w + ow, channel, z);
  }
}

#define DEFINE(element)                                                                          \
  AWSNET_KERNEL(conv2d_stem_##element, awsnet_conv2d_stem_params, AWSNET_STEM_THREADS) {         \
    conv2d_stem<StemTile<kPair>, element>(params);                                               \
  }                                                                                              \
  AWSNET_KERNEL(conv2d_stem_##element##_alone, awsnet_conv2d_stem_params, AWSNET_STEM_THREADS) { \
    conv2d_stem<StemTile<1>, element>(params);                                                   \
  }
AWSNET_CONV2D_STEM_ELEMENTS(DEFINE)
#undef DEFINE
