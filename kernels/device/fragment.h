// A warp's share of one stage: ldmatrix from the swizzled tiles, mma.sync into the sums.
//
// A stage holds A (gemm_m rows) and B (gemm_n rows), both with the reduction along the row: of A one tile a branch, or
// one for all where the branches read the same input; of B one a branch.
#pragma once
#include <device/tile.h>

template <class T, bool kSharedA>
struct Stage {
  static constexpr int kTilesA = kSharedA ? 1 : T::kBranches;
  static constexpr int kBytes = kTilesA * T::kBytesA + T::kBranches * T::kBytesB;

  static DEVICE uint8_t* a(uint8_t* stage, int branch) { return stage + (kSharedA ? 0 : branch) * T::kBytesA; }
  static DEVICE uint8_t* b(uint8_t* stage, int branch) { return stage + kTilesA * T::kBytesA + branch * T::kBytesB; }
};

// sums += A * B^T over the stage's kK.
template <class T, bool kSharedA, typename Element>
DEVICE void multiply_stage(Sums<T>& sums, uint8_t* stage) {
  using S = Stage<T, kSharedA>;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_m = warp / T::kWarpsN * (T::kM / T::kWarpsM);
  const int warp_n = warp % T::kWarpsN * (T::kN / T::kWarpsN);
  // Rows and vectors this lane names to ldmatrix, so that its four matrices are the four registers of an A fragment,
  // and b0, b1 of two neighbouring B fragments.
  const int row_a = warp_m + lane % 16, vector_a = lane / 16;
  const int row_b = warp_n + lane / 16 * 8 + lane % 8, vector_b = lane / 8 % 2;
#pragma unroll
  for (int step = 0; step < T::kK / 16; step++) {
    uint32_t a[T::kFragmentsM][4], b[T::kFragmentsN / 2][4];
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      if (t == 0 || !kSharedA) {
#pragma unroll
        for (int i = 0; i < T::kFragmentsM; i++) {
          ldmatrix_x4(a[i], S::a(stage, t) + swizzled_bytes<T::kRowVectors>(row_a + 16 * i, 2 * step + vector_a));
        }
      }
#pragma unroll
      for (int j = 0; j < T::kFragmentsN / 2; j++) {
        ldmatrix_x4(b[j], S::b(stage, t) + swizzled_bytes<T::kRowVectors>(row_b + 16 * j, 2 * step + vector_b));
      }
#pragma unroll
      for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
        for (int j = 0; j < T::kFragmentsN; j++) {
          mma_m16n8k16(Element{}, sums.value[t][i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
    }
  }
}

// Writes the sums as [branch][m][kSumPitch], f32.
template <class T>
DEVICE void store_sums_shared(float* target, const Sums<T>& sums) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = warp / T::kWarpsN * (T::kM / T::kWarpsM) + lane / 4;
  const int column = warp % T::kWarpsN * (T::kN / T::kWarpsN) + lane % 4 * 2;
#pragma unroll
  for (int t = 0; t < T::kBranches; t++)
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
      for (int j = 0; j < T::kFragmentsN; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
          target[(t * T::kM + row + 16 * i + e / 2 * 8) * T::kSumPitch + column + 8 * j + e % 2] =
              sums.value[t][i][j][e];
        }
}

// Reads back one vector of channels of one row, all branches.
template <class T>
DEVICE void load_sums(float (&z)[T::kBranches][kVector], const float* table, int row, int column) {
#pragma unroll
  for (int t = 0; t < T::kBranches; t++)
#pragma unroll
    for (int lane = 0; lane < kVector; lane++) z[t][lane] = table[(t * T::kM + row) * T::kSumPitch + column + lane];
}
