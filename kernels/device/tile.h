// The shape of a GEMM block: gemm_m x gemm_n outputs of each branch, and how warps and stages divide the work.
// Everything else about a variant follows from these figures.
#pragma once
#include <device/epilogue.h>
#include <device/swizzle.h>

template <int m, int n, int k, int stages, int warps_m, int warps_n, int branches>
struct Tile {
  static constexpr int kBranches = branches;
  static constexpr int kM = m, kN = n, kK = k, kStages = stages;
  static constexpr int kWarpsM = warps_m, kWarpsN = warps_n, kThreads = 32 * warps_m * warps_n;

  static constexpr int kRowVectors = k / kVector;             // of a 16-bit type: 16 bytes
  static constexpr int kRowsAtOnce = kThreads / kRowVectors;  // rows that the block copies in one round
  static constexpr int kRoundsA = m / kRowsAtOnce, kRoundsB = n / kRowsAtOnce;
  static constexpr int kBytesA = m * kRowVectors * kVectorBytes;
  static constexpr int kBytesB = n * kRowVectors * kVectorBytes;

  // Fragments of 16 x 8 outputs that a warp holds of each branch.
  static constexpr int kFragmentsM = m / warps_m / 16, kFragmentsN = n / warps_n / 8;

  // The finished sums pass through shared memory as [branch][m][n], f32. Rows are 16 bytes longer than n, so that the
  // eight rows a fragment spreads over do not meet in the same banks.
  static constexpr int kSumPitch = n + 4;
  static constexpr int kSumBytes = kBranches * m * kSumPitch * 4;

  static_assert(m % (16 * warps_m) == 0 && n % (16 * warps_n) == 0, "warps hold whole fragments, B's in pairs");
  static_assert(k % 16 == 0 && stages >= 2, "whole mma steps, and a stage to fill while one is read");
  static_assert(kThreads % kRowVectors == 0 && m % kRowsAtOnce == 0 && n % kRowsAtOnce == 0, "whole rounds");
};

// The sums of one warp, all branches.
template <class T>
struct Sums {
  float value[T::kBranches][T::kFragmentsM][T::kFragmentsN][4];

  DEVICE void clear() {
#pragma unroll
    for (int t = 0; t < T::kBranches; t++)
#pragma unroll
      for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
        for (int j = 0; j < T::kFragmentsN; j++)
#pragma unroll
          for (int e = 0; e < 4; e++) value[t][i][j][e] = 0.0f;
  }
};
