// A GEMM block of both branches, or of the one there is, from main loop to store.
//
// Block (x, y, z) computes output positions [x * kM, ...) and channels [y * kN, ...) of all branches over its share z
// of the k tiles; then the sums meet in the table, and split-K, where gridDim.z > 1, and the epilogue follow. Shared
// memory is first the ring of stages, then the table.
#pragma once
#include <device/mainloop.h>
#include <device/split_k.h>
#include <device/weight_rows.h>

// The k tiles of this block, [begin, end).
struct KRange {
  int begin, end;
};
DEVICE KRange k_range_of_block(int k_tiles) {
  const int each = (k_tiles + static_cast<int>(gridDim.z) - 1) / static_cast<int>(gridDim.z);
  const int begin = static_cast<int>(blockIdx.z) * each;
  const int end = begin + each;
  return KRange{lesser(begin, k_tiles), lesser(end, k_tiles)};
}

// Takes the sums of one tile through the epilogue: a thread finishes one vector of channels of one position at a time,
// always of the same channels, and reads what the next one needs before that. The table is there for all behind a barrier,
// which the first ones' terms need not wait for.
template <class T, typename Element>
DEVICE void finish_tile(const awsnet_epilogue& e, int64_t positions, float* table) {
  constexpr int kTileVectors = T::kN / kVector, kRows = T::kThreads / kTileVectors;
  static_assert(kRows * kTileVectors == T::kThreads, "every round is of the same channels");
  const int column = static_cast<int>(threadIdx.x) % kTileVectors * kVector;
  const int first_row = static_cast<int>(threadIdx.x) / kTileVectors;
  const int channel = static_cast<int>(blockIdx.y) * T::kN + column;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * T::kM;
  // Rows of this tile that are positions of the map.
  const int64_t rest = positions - first;
  const int rows = rest < T::kM ? static_cast<int>(rest) : T::kM;
  const int left = channel < e.channels ? rows : 0;
  BiasTerms bias[T::kBranches];
  MixTerms mix;
  PositionTerms<Element> next[T::kBranches];
  if (first_row < left) {
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      next[t].load(e, t, first + first_row, channel);
      bias[t].load(e, t, channel);
    }
    if (T::kBranches == kPair) mix.load(e, channel);
  }
  sync_threads();  // the table is there for all
#pragma unroll 1
  for (int row = first_row; row < left; row += kRows) {
    float z[T::kBranches][kVector];
    load_sums<T>(z, table, row, column);
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      apply_terms(z[t], bias[t], next[t]);
      if (row + kRows < left) next[t].load(e, t, first + row + kRows, channel);
    }
    activate_vector(e, channel, z);
    store_mixed<Element>(e, first + row, channel, z, mix);
  }
}

template <class T, typename Element, class Source>
DEVICE void dual_gemm(Source& source, int k_tiles, const awsnet_epilogue& e, int64_t positions, float* workspace,
                      uint32_t* tickets) {
  const Share<T> share;
  float* table = reinterpret_cast<float*>(dynamic_shared());
  Sums<T> sums;
  multiply_tiles<T, Element>(sums, source, k_tiles, share, shared_address(dynamic_shared()));
  store_sums<T>(table, sums, share);
  if (gridDim.z > 1) {
    sync_threads();  // the table is there for all
    if (!reduce_splits<T>(table, workspace, tickets)) return;
  }
  finish_tile<T, Element>(e, positions, table);
}
