// The shape of a GEMM block: gemm_m x gemm_n outputs of each branch, and how stages and warps divide the work.
// Everything else about a variant follows from these figures.
//
// A stage holds A (gemm_m rows) and B (gemm_n rows), both with the reduction along the row: of A one tile a branch, or
// one for all where the branches read the same input; behind it of B one a branch.
//
// A warp works for one branch, and takes all of gemm_n: the more outputs it holds, the fewer fragments it loads for a
// product. The warps of a branch share gemm_m, half of them at most, and then the 16-wide steps of a stage: every
// kSlices-th step is of one slice. The sums of the slices meet in the table.
#pragma once
#include <device/epilogue.h>
#include <device/swizzle.h>

template <int m, int n, int k, int stages, int warps, int branches, bool shared_a>
struct Tile {
  static constexpr int kBranches = branches;
  static constexpr int kM = m, kN = n, kK = k, kStages = stages, kThreads = 32 * warps;

  static constexpr int kRowVectors = k / kVector;             // of a 16-bit type: 16 bytes
  static constexpr int kRowsAtOnce = kThreads / kRowVectors;  // rows that the block copies in one round
  static constexpr int kRoundBytes = kRowsAtOnce * kRowVectors * kVectorBytes;
  static constexpr int kRoundsA = m / kRowsAtOnce, kRoundsB = n / kRowsAtOnce;
  static constexpr int kBytesA = m * kRowVectors * kVectorBytes;
  static constexpr int kBytesB = n * kRowVectors * kVectorBytes;

  static constexpr int kTilesA = shared_a ? 1 : branches;
  static constexpr int kFirstB = kTilesA * kBytesA;  // from the beginning of a stage
  static constexpr int kStageBytes = kFirstB + branches * kBytesB;

  static constexpr int kWarpsOfBranch = warps / branches;
  static constexpr int kWarpsM = kWarpsOfBranch / 2 < m / 16 ? kWarpsOfBranch / 2 : m / 16;
  static constexpr int kSlices = kWarpsOfBranch / kWarpsM;
  static constexpr int kSteps = k / 16 / kSlices;                            // of a stage, a warp's
  static constexpr int kFragmentsM = m / kWarpsM / 16, kFragmentsN = n / 8;  // of 16 x 8 outputs, a warp's

  // The finished sums pass through shared memory, see device/sums.h.
  static constexpr int kSumPitch = n + 8;
  static constexpr int kSumBytes = branches * m * kSumPitch * 4;
  static constexpr int kSharedBytes = stages * kStageBytes;

  static_assert(kSumBytes + kVectorBytes <= kSharedBytes, "the table and a ticket fit into the ring");
  static_assert(kWarpsM * kSlices * branches == warps && kSteps * kSlices * 16 == k, "whole shares");
  static_assert(m % (16 * kWarpsM) == 0 && n % 16 == 0, "warps hold whole fragments, B's in pairs");
  static_assert(stages >= 3, "a stage to read, one that is under way and one to fill");
  static_assert(kThreads % kRowVectors == 0 && m % kRowsAtOnce == 0 && n % kRowsAtOnce == 0, "whole rounds");
  static_assert(kRowsAtOnce % 8 == 0, "the swizzle is that of the first round in every one");
};
