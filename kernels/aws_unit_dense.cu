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

// Copies the shared A tile and the B tiles of both targets, one k tile a call.
template <class T, typename Element>
struct DenseSource {
  const awsnet_aws_unit_dense_params& p;
  const int vectors;
  int k_vector, weight_vector;  // of the next k tile of A and of B, this thread's column

  DEVICE DenseSource(const awsnet_aws_unit_dense_params& params, int first_k_tile)
      : p(params),
        vectors(vectors_of(params.epilogue.channels)),
        k_vector(first_k_tile * T::kRowVectors + static_cast<int>(threadIdx.x) % T::kRowVectors),
        weight_vector(k_vector) {}

  DEVICE void fill_weights(uint8_t* stage) {
#pragma unroll
    for (int t = 0; t < kPair; t++) {
      fill_weight_tile<T, Element>(Stage<T, true>::b(stage, t), p.weight[t], p.epilogue.channels, kPair * vectors,
                                   weight_vector);
    }
    weight_vector += T::kRowVectors;
  }

  DEVICE void fill_maps(uint8_t* stage) {
    using S = Stage<T, true>;
    const int column = threadIdx.x % T::kRowVectors;
    const bool from_au = k_vector >= vectors;
    const int channel = (from_au ? k_vector - vectors : k_vector) * kVector;
    const int bytes = valid_lanes(p.epilogue.channels, channel) * static_cast<int>(sizeof(Element));
    const Element* input = static_cast<const Element*>(from_au ? p.input[1] : p.input[0]);
#pragma unroll
    for (int i = 0; i < T::kRoundsA; i++) {
      const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
      const int64_t position = static_cast<int64_t>(blockIdx.x) * T::kM + row;
      const bool inside = position < p.positions;
      const int64_t offset = inside ? position * (vectors * kVector) + channel : 0;
      cp_async_16(S::a(stage, 0) + swizzled_bytes<T::kRowVectors>(row, column), input + offset, inside ? bytes : 0);
    }
    k_vector += T::kRowVectors;
  }
};

template <class T, typename Element>
DEVICE void aws_unit_dense(const awsnet_aws_unit_dense_params& p) {
  const int k_vectors = kPair * vectors_of(p.epilogue.channels);
  const KRange range = k_range_of_block((k_vectors + T::kRowVectors - 1) / T::kRowVectors);
  DenseSource<T, Element> source(p, range.begin);
  dual_gemm<T, true, Element>(source, range.end - range.begin, p.epilogue, p.positions, p.workspace, p.tickets);
}

#define DEFINE(name, element, m, n, k, stages, warps_m, warps_n, shared_bytes)                                  \
  static_assert(dual_gemm_shared_bytes<Tile<m, n, k, stages, warps_m, warps_n, kPair>, true>() == shared_bytes, \
                #name);                                                                                         \
  AWSNET_KERNEL(aws_unit_dense_##name, awsnet_aws_unit_dense_params, 32 * warps_m * warps_n) {                  \
    aws_unit_dense<Tile<m, n, k, stages, warps_m, warps_n, kPair>, element>(params);                            \
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
