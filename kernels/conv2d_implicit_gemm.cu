// conv2d of one or two branches as an implicit GEMM on the tensor cores, groups = 1.
//
//   z[t][m][o] = sum over r, s, c of x[t][n][oh * stride_h - pad_top + r * dilation_h][ow * stride_w - pad_left +
//                s * dilation_w][c] * w[t][o][r][s][c],   m = (n * out_h + oh) * out_w + ow
//
// gemm_m = positions, gemm_n = output channels, gemm_k = kernel_h * kernel_w * in_channels with the channels of each tap
// rounded up to whole vectors, and behind the last tap the channels of the projection. A is gathered from the maps a
// vector at a time: what lies outside the map or beyond the end of gemm_k arrives as zeros; the pad lanes behind the last
// channel are zeros. Layouts and the projection: abi.h. A block computes one tile of all branches; thread, stage and
// epilogue: device/dual_gemm.h.
#include <device/dual_gemm.h>
#include <variants.h>

DEVICE int k_vectors_of(const awsnet_conv2d_params& p) {
  return p.kernel_h * p.kernel_w * vectors_of(p.in_channels) + vectors_of(p.projection_channels);
}

// Copies the A and B tiles of all branches. A thread always copies the same column of vectors of the same rows, so it
// follows one reduction index and a few positions, and everything it needs for a copy advances by additions. Vectors of a
// map are counted in 32 bits (abi.h).
template <class T, typename Element>
struct Conv2dSource {
  const awsnet_conv2d_params& p;
  const int in_vectors;
  WeightRows<T> weights;
  SharedAddress place;  // of this thread's first vector, from the beginning of a stage
  // The vector of the next k tile in this thread's column: of which tap, and which of the tap's. Behind the last tap, where
  // tap_h is kernel_h, the map is the projection, a convolution of one tap.
  const uint8_t* map[T::kBranches];
  int left, vector, tap_h, tap_w;                    // `left`: vectors up to the end of gemm_k
  int h, w, height, width;                           // the tap's place in the window, and the map's size
  int delta;                                         // from a window's first vector to the tap's
  int first[T::kRoundsA];                            // the first vector of the row's window
  int origin_h[T::kRoundsA], origin_w[T::kRoundsA];  // where in the map its window begins
  int projected[T::kRoundsA];                        // the row's position in the projection

  // Far enough outside that no tap leads into the map, and no sum overflows.
  static constexpr int kNowhere = -(1 << 30);

  DEVICE Conv2dSource(const awsnet_conv2d_params& params, int k_vectors, int k_vector)
      : p(params),
        in_vectors(vectors_of(params.in_channels)),
        weights(params.weight, params.epilogue.channels, k_vectors, k_vector),
        place(swizzled_bytes<T::kRowVectors>(threadIdx.x / T::kRowVectors, threadIdx.x % T::kRowVectors)),
        left(k_vectors - k_vector),
        height(params.in_h),
        width(params.in_w) {
    const int tap = lesser(k_vector / in_vectors, p.kernel_h * p.kernel_w);
    vector = k_vector - tap * in_vectors;
    tap_h = tap / p.kernel_w;
    tap_w = tap % p.kernel_w;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) map[t] = static_cast<const uint8_t*>(p.input[t]);
    const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
      const int64_t position = static_cast<int64_t>(blockIdx.x) * T::kM + row;
      origin_h[i] = origin_w[i] = projected[i] = kNowhere;
      first[i] = 0;
      if (position < positions) {
        const uint32_t m = static_cast<uint32_t>(position), ow = m % p.out_w, rest = m / p.out_w;
        const uint32_t oh = rest % p.out_h, n = rest / p.out_h;
        origin_h[i] = static_cast<int>(oh) * p.stride_h - p.pad_top;
        origin_w[i] = static_cast<int>(ow) * p.stride_w - p.pad_left;
        first[i] = ((static_cast<int>(n) * p.in_h + origin_h[i]) * p.in_w + origin_w[i]) * in_vectors;
        const uint32_t from_h = n * p.projection_h + oh * p.projection_stride_h;
        projected[i] = static_cast<int>(from_h * p.projection_w + ow * p.projection_stride_w);
      }
    }
    enter_tap();
  }

  // Round r of the next k tile: of the weights first, then of the maps.
  DEVICE void fill_round(SharedAddress stage, int r) {
    if (r < T::kRoundsB) {
      weights.fill_round(stage + place, r);
      return;
    }
    const int i = r - T::kRoundsB;
    // A negative number is a large one without its sign.
    const bool inside = left > 0 && static_cast<uint32_t>(origin_h[i] + h) < static_cast<uint32_t>(height) &&
                        static_cast<uint32_t>(origin_w[i] + w) < static_cast<uint32_t>(width);
    const int64_t offset = static_cast<int64_t>(first[i] + delta) * kVectorBytes;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      cp_async_16(stage + place + t * T::kBytesA + i * T::kRoundBytes, map[t] + offset, inside);
    }
  }

  DEVICE void fill_weights(SharedAddress stage) {
#pragma unroll
    for (int r = 0; r < T::kRoundsB; r++) fill_round(stage, r);
    weights.next_tile();
  }

  DEVICE void fill_maps(SharedAddress stage) {
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) fill_round(stage, T::kRoundsB + i);
    next_map_tile();
  }

  DEVICE void next_tile() {
    weights.next_tile();
    next_map_tile();
  }

 private:
  DEVICE void next_map_tile() {
    left -= T::kRowVectors;
    vector += T::kRowVectors;
    delta += T::kRowVectors;
    if (tap_h == p.kernel_h || vector < in_vectors) return;
    do {
      vector -= in_vectors;
      if (++tap_w == p.kernel_w) {
        tap_w = 0;
        tap_h++;
      }
    } while (tap_h < p.kernel_h && vector >= in_vectors);
    enter_tap();
  }

  // Where the tap lies in the windows; from the last one on, where the rows lie in the projection.
  DEVICE void enter_tap() {
    h = tap_h * p.dilation_h;
    w = tap_w * p.dilation_w;
    delta = (h * p.in_w + w) * in_vectors + vector;
    if (tap_h < p.kernel_h) return;
    const int vectors = vectors_of(p.projection_channels);
    h = w = 0;
    delta = vector;
    height = width = 1;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) map[t] = static_cast<const uint8_t*>(p.projection[t]);
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      origin_h[i] = origin_w[i] = projected[i] < 0 ? kNowhere : 0;
      first[i] = projected[i] < 0 ? 0 : projected[i] * vectors;
    }
  }
};

template <class T, typename Element>
DEVICE void conv2d_implicit_gemm(const awsnet_conv2d_params& p) {
  const int k_vectors = k_vectors_of(p);
  const KRange range = k_range_of_block((k_vectors + T::kRowVectors - 1) / T::kRowVectors);
  const int column = static_cast<int>(threadIdx.x) % T::kRowVectors;
  Conv2dSource<T, Element> source(p, k_vectors, range.begin * T::kRowVectors + column);
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  dual_gemm<T, Element>(source, range.end - range.begin, p.epilogue, positions, p.workspace, p.tickets);
}

#define DEFINE_FOR(branches, kernel, element, m, n, k, stages, warps, shared_bytes)                             \
  static_assert(Tile<m, n, k, stages, warps, branches, false>::kSharedBytes == shared_bytes * branches / kPair, \
                #kernel);                                                                                       \
  AWSNET_KERNEL(kernel, awsnet_conv2d_params, 32 * warps) {                                                     \
    conv2d_implicit_gemm<Tile<m, n, k, stages, warps, branches, false>, element>(params);                       \
  }
#define DEFINE(name, ...)                                 \
  DEFINE_FOR(2, conv2d_implicit_gemm_##name, __VA_ARGS__) \
  DEFINE_FOR(1, conv2d_implicit_gemm_##name##_alone, __VA_ARGS__)
AWSNET_CONV2D_IMPLICIT_GEMM_VARIANTS(DEFINE)
#undef DEFINE_FOR
#undef DEFINE
