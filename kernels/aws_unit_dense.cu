// The dense AWS-Unit: a 1x1 convolution over the channels of both branches.
//
//   y[t][m][o] = sum over s, i of A[t][s][o][i] * u[s][m][i]
//
// f16, bf16: one GEMM with A = [u_emotion, u_au] side by side, shared by both targets, and the targets' weights as B;
// gemm_k = 2 * channels, those of each source rounded up to whole vectors. f32: a thread computes one vector of output
// channels of one position for both targets. Layouts: abi.h.
#include <device/dual_gemm.h>
#include <device/pointwise.h>
#include <variants.h>

// Copies the shared A tile and the B tiles of both targets, a thread the same column of vectors of the same rows.
template <class T, typename Element>
struct DenseSource {
  WeightRows<T> weights;
  SharedAddress place;  // of this thread's first vector, from the beginning of a stage
  const uint8_t* au;
  const uint8_t* map;   // which the next k tile's vector of this thread's column is of
  int vector, vectors;  // that vector, and a map's; `vector` may lie beyond the au map
  bool from_au;
  int first[T::kRoundsA];  // the first vector of the row's position; where there is none, of position 0

  DEVICE DenseSource(const awsnet_aws_unit_dense_params& p, int k_vector)
      : weights(p.weight, p.epilogue.channels, kPair * vectors_of(p.epilogue.channels), k_vector),
        place(swizzled_bytes<T::kRowVectors>(threadIdx.x / T::kRowVectors, threadIdx.x % T::kRowVectors)),
        au(static_cast<const uint8_t*>(p.input[1])),
        map(static_cast<const uint8_t*>(p.input[0])),
        vector(k_vector),
        vectors(vectors_of(p.epilogue.channels)),
        from_au(false) {
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
      const int64_t position = static_cast<int64_t>(blockIdx.x) * T::kM + row;
      first[i] = position < p.positions ? static_cast<int>(position) * vectors : 0;
    }
    leave_emotion();
  }

  // Round r of the next k tile: of the weights first, then of the maps.
  DEVICE void fill_round(SharedAddress stage, int r) {
    if (r < T::kRoundsB) {
      weights.fill_round(stage + place, r);
      return;
    }
    const int i = r - T::kRoundsB;
    const bool inside = vector < vectors;
    const int64_t offset = inside ? static_cast<int64_t>(first[i] + vector) * kVectorBytes : 0;
    cp_async_16(stage + place + i * T::kRoundBytes, map + offset, inside);
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
    vector += T::kRowVectors;
    leave_emotion();
  }

  DEVICE void leave_emotion() {
    if (from_au || vector < vectors) return;
    from_au = true;
    vector -= vectors;
    map = au;
  }
};

template <class T, typename Element>
DEVICE void aws_unit_dense(const awsnet_aws_unit_dense_params& p) {
  const int k_vectors = kPair * vectors_of(p.epilogue.channels);
  const KRange range = k_range_of_block((k_vectors + T::kRowVectors - 1) / T::kRowVectors);
  const int column = static_cast<int>(threadIdx.x) % T::kRowVectors;
  DenseSource<T, Element> source(p, range.begin * T::kRowVectors + column);
  dual_gemm<T, Element>(source, range.end - range.begin, p.epilogue, p.positions, p.workspace, p.tickets);
}

#define DEFINE(name, element, m, n, k, stages, warps, shared_bytes)                              \
  static_assert(Tile<m, n, k, stages, warps, kPair, true>::kSharedBytes == shared_bytes, #name); \
  AWSNET_KERNEL(aws_unit_dense_##name, awsnet_aws_unit_dense_params, 32 * warps) {               \
    aws_unit_dense<Tile<m, n, k, stages, warps, kPair, true>, element>(params);                  \
  }
AWSNET_AWS_UNIT_DENSE_VARIANTS(DEFINE)

AWSNET_KERNEL(aws_unit_dense_f32, awsnet_aws_unit_dense_params, AWSNET_VECTOR_THREADS) {
  const awsnet_aws_unit_dense_params& p = params;
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  if (at.position >= p.positions) return;
  const int pitch = pitch_of(p.epilogue.channels);
  float z[kPair][kVector] = {};
  for (int from = 0; from < kPair; from++) {
    const float* u = static_cast<const float*>(from == 0 ? p.input[0] : p.input[1]) + at.position * pitch;
    for (int i = 0; i < p.epilogue.channels; i++) {
      const float value = load_global(u + i);
      const int64_t row = (static_cast<int64_t>(from) * p.epilogue.channels + i) * pitch + at.channel;
#pragma unroll
      for (int to = 0; to < kPair; to++) {
        float a[kVector];
        load_vector(a, static_cast<const float*>(p.weight[to]) + row);
#pragma unroll
        for (int lane = 0; lane < kVector; lane++) z[to][lane] += value * a[lane];
      }
    }
  }
  finish_vector<f32>(p.epilogue, at.position, at.channel, z);
}
#undef DEFINE
