// conv2d of one or two branches as an implicit GEMM on the tensor cores, groups = 1.
//
//   z[t][m][o] = sum over r, s, c of x[t][n][oh * stride_h - pad_top + r * dilation_h][ow * stride_w - pad_left +
//                s * dilation_w][c] * w[t][o][r][s][c],   m = (n * out_h + oh) * out_w + ow
//
// gemm_m = positions, gemm_n = output channels, gemm_k = kernel_h * kernel_w * in_channels with the channels of each tap
// rounded up to whole vectors, and behind the last tap the channels of the projection. A is gathered from the maps a
// vector at a time: what lies outside the map, beyond the last channel or beyond the end of gemm_k arrives as zeros, by
// a copy of fewer bytes. Layouts and the projection: abi.h. A block computes one tile of all branches; thread, stage
// and epilogue: device/dual_gemm.h.
#include <device/dual_gemm.h>
#include <variants.h>

DEVICE int k_vectors_of(const awsnet_conv2d_params& p) {
  return p.kernel_h * p.kernel_w * vectors_of(p.in_channels) + vectors_of(p.projection_channels);
}

// Copies the A and B tiles of all branches, one k tile a call. A thread always copies the same column of vectors of
// the same rows, so it follows one reduction index and a few positions.
template <class T, typename Element>
struct Conv2dSource {
  const awsnet_conv2d_params& p;
  const int in_vectors, k_vectors;
  // Of the next k tile, this thread's column: of B, and of A. Behind the last tap, where tap_h is kernel_h, `vector` is
  // the projection's.
  int weight_vector, vector, tap_h, tap_w;
  int64_t image[T::kRoundsA];                        // first position of the row's image
  int origin_h[T::kRoundsA], origin_w[T::kRoundsA];  // where its window begins
  int projected[T::kRoundsA];                        // its position in the projection, -1 for none

  // Far enough outside that no tap leads into the map, and no sum overflows.
  static constexpr int kNowhere = -(1 << 30);

  DEVICE Conv2dSource(const awsnet_conv2d_params& params, int first_k_tile)
      : p(params),
        in_vectors(vectors_of(params.in_channels)),
        k_vectors(k_vectors_of(params)),
        weight_vector(first_k_tile * T::kRowVectors + static_cast<int>(threadIdx.x) % T::kRowVectors),
        vector(weight_vector),
        tap_h(0),
        tap_w(0) {
    const int tap = lesser(vector / in_vectors, p.kernel_h * p.kernel_w);
    vector -= tap * in_vectors;
    tap_h = tap / p.kernel_w;
    tap_w = tap % p.kernel_w;
    const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
      const int64_t position = static_cast<int64_t>(blockIdx.x) * T::kM + row;
      image[i] = 0;
      origin_h[i] = origin_w[i] = kNowhere;
      projected[i] = -1;
      if (position < positions) {
        const uint32_t m = static_cast<uint32_t>(position), ow = m % p.out_w, rest = m / p.out_w;
        const uint32_t oh = rest % p.out_h, n = rest / p.out_h;
        image[i] = static_cast<int64_t>(n) * p.in_h * p.in_w;
        origin_h[i] = static_cast<int>(oh) * p.stride_h - p.pad_top;
        origin_w[i] = static_cast<int>(ow) * p.stride_w - p.pad_left;
        const uint32_t from_h = n * p.projection_h + oh * p.projection_stride_h;
        const uint32_t from = from_h * p.projection_w + ow * p.projection_stride_w;
        projected[i] = p.projection[0] ? static_cast<int>(from) : -1;
      }
    }
  }

  DEVICE void fill_weights(uint8_t* stage) {
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      fill_weight_tile<T, Element>(Stage<T, false>::b(stage, t), p.weight[t], p.epilogue.channels, k_vectors,
                                   weight_vector);
    }
    weight_vector += T::kRowVectors;
  }

  DEVICE void fill_maps(uint8_t* stage) {
    using S = Stage<T, false>;
    const int column = threadIdx.x % T::kRowVectors;
    const bool in_taps = tap_h < p.kernel_h;
    const int channels = in_taps ? p.in_channels : p.projection_channels, channel = vector * kVector;
    const int bytes = valid_lanes(channels, channel) * static_cast<int>(sizeof(Element));
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
      const int h = origin_h[i] + tap_h * p.dilation_h, w = origin_w[i] + tap_w * p.dilation_w;
      const bool inside = in_taps ? h >= 0 && h < p.in_h && w >= 0 && w < p.in_w : projected[i] >= 0;
      const int64_t position = in_taps ? image[i] + static_cast<int64_t>(h) * p.in_w + w : projected[i];
      const int64_t offset = inside ? position * pitch_of(channels) + channel : 0;
#pragma unroll
      for (int t = 0; t < T::kBranches; t++) {
        const void* map = in_taps ? p.input[t] : p.projection[t];
        cp_async_16(S::a(stage, t) + swizzled_bytes<T::kRowVectors>(row, column),
                    static_cast<const Element*>(map) + offset, inside ? bytes : 0);
      }
    }
    vector += T::kRowVectors;
    while (tap_h < p.kernel_h && vector >= in_vectors) {
      vector -= in_vectors;
      if (++tap_w == p.kernel_w) {
        tap_w = 0;
        tap_h++;
      }
    }
  }
};

template <class T, typename Element>
DEVICE void conv2d_implicit_gemm(const awsnet_conv2d_params& p) {
  const KRange range = k_range_of_block((k_vectors_of(p) + T::kRowVectors - 1) / T::kRowVectors);
  Conv2dSource<T, Element> source(p, range.begin);
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  dual_gemm<T, false, Element>(source, range.end - range.begin, p.epilogue, positions, p.workspace, p.tickets);
}

#define DEFINE_FOR(branches, kernel, element, m, n, k, stages, warps_m, warps_n, shared_bytes)        \
  static_assert(dual_gemm_shared_bytes<Tile<m, n, k, stages, warps_m, warps_n, branches>, false>() == \
                    shared_bytes * branches / kPair,                                                  \
                #kernel);                                                                             \
  AWSNET_KERNEL(kernel, awsnet_conv2d_params, 32 * warps_m * warps_n) {                               \
    conv2d_implicit_gemm<Tile<m, n, k, stages, warps_m, warps_n, branches>, element>(params);         \
  }
#define DEFINE(name, ...)                                 \
  DEFINE_FOR(2, conv2d_implicit_gemm_##name, __VA_ARGS__) \
  DEFINE_FOR(1, conv2d_implicit_gemm_##name##_alone, __VA_ARGS__)
AWSNET_CONV2D_IMPLICIT_GEMM_VARIANTS(DEFINE)
#undef DEFINE_FOR
#undef DEFINE
