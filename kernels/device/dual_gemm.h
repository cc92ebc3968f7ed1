// A GEMM block of both branches, or of the one there is, from main loop to store.
//
// Block (x, y, z) computes output positions [x * kM, ...) and channels [y * kN, ...) of all branches over its share z
// of the k tiles; then come split-K, where gridDim.z > 1, and the epilogue. Shared memory is first the ring of stages,
// then the table of finished sums.
#pragma once
#include <device/mainloop.h>
#include <device/split_k.h>

template <class T, bool kSharedA>
constexpr int dual_gemm_shared_bytes() {
  return T::kStages * Stage<T, kSharedA>::kBytes > T::kSumBytes ? T::kStages * Stage<T, kSharedA>::kBytes
                                                                : T::kSumBytes;
}

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

// Takes the sums of one tile through the epilogue: a thread finishes one vector of channels of one position at a time.
template <class T, typename Element>
DEVICE void finish_tile(const awsnet_epilogue& e, int64_t positions, const Sums<T>& sums, uint8_t* shared) {
  float* table = reinterpret_cast<float*>(shared);
  store_sums_shared<T>(table, sums);
  sync_threads();  // the sums of all warps are in the table
  constexpr int kTileVectors = T::kN / kVector;
  for (int i = threadIdx.x; i < T::kM * kTileVectors; i += T::kThreads) {
    const int row = i / kTileVectors, column = i % kTileVectors * kVector;
    const int64_t position = static_cast<int64_t>(blockIdx.x) * T::kM + row;
    const int channel = static_cast<int>(blockIdx.y) * T::kN + column;
    if (position >= positions || channel >= e.channels) continue;
    float z[T::kBranches][kVector];
    load_sums<T>(z, table, row, column);
    finish_vector<Element>(e, position, channel, z);
  }
}

template <class T, bool kSharedA, typename Element, class Source>
DEVICE void dual_gemm(Source& source, int k_tiles, const awsnet_epilogue& e, int64_t positions, float* workspace,
                      uint32_t* tickets) {
  uint8_t* shared = dynamic_shared();
  Sums<T> sums;
  sums.clear();
  multiply_tiles<T, kSharedA, Element>(sums, source, k_tiles, shared);
  if (gridDim.z > 1) {
    if (!reduce_splits<T>(sums, workspace, tickets, reinterpret_cast<uint32_t*>(shared))) return;
  }
  finish_tile<T, Element>(e, positions, sums, shared);
}

// Starts the copies of one branch's B tile: rows are output channels, packed [channels][k_vectors][kVector].
template <class T, typename Element>
DEVICE void fill_weight_tile(uint8_t* tile, const void* weight, int channels, int k_vectors, int k_vector) {
  const int column = threadIdx.x % T::kRowVectors;
#pragma unroll
  for (int i = 0; i < T::kRoundsB; i++) {
    const int row = threadIdx.x / T::kRowVectors + i * T::kRowsAtOnce;
    const int channel = static_cast<int>(blockIdx.y) * T::kN + row;
    const bool inside = channel < channels && k_vector < k_vectors;
    const Element* source = static_cast<const Element*>(weight);
    if (inside) source += (static_cast<int64_t>(channel) * k_vectors + k_vector) * kVector;
    cp_async_16(tile + swizzled_bytes<T::kRowVectors>(row, column), source, inside ? kVectorBytes : 0);
  }
}
