// Split-K: gridDim.z blocks share the reduction of one tile, and the last of them to arrive adds their sums up.
//
// Every block writes its table to the workspace and draws a ticket; the one that draws the last ticket reads all of them
// back, its own included, in the order of blockIdx.z. The result is the same whoever comes last, bit for bit.
// Workspace: [split][tile][round][thread][4] f32, neighbouring threads side by side.
#pragma once
#include <device/sums.h>

// The table is there for all before. Returns false in the blocks whose part ends here; in the last one the table holds
// the total, behind a barrier for all.
template <class T>
DEVICE bool reduce_splits(float* table, float* workspace, uint32_t* tickets) {
  constexpr int kUnits = T::kBranches * T::kM * T::kN / 4, kRounds = kUnits / T::kThreads;
  static_assert(kRounds * T::kThreads == kUnits, "whole rounds");
  const uint32_t tile = blockIdx.y * gridDim.x + blockIdx.x;
  const int64_t split_stride = static_cast<int64_t>(gridDim.x) * gridDim.y * kUnits;
  Bits128* partial = reinterpret_cast<Bits128*>(workspace) + static_cast<int64_t>(tile) * kUnits + threadIdx.x;
  const auto unit = [&](int round) {
    constexpr int kRowUnits = T::kN / 4;
    const int index = round * T::kThreads + static_cast<int>(threadIdx.x), row = index / kRowUnits;
    return reinterpret_cast<Bits128*>(sums_unit<T>(table, row / T::kM, row % T::kM, index % kRowUnits));
  };
#pragma unroll
  for (int r = 0; r < kRounds; r++) store_global(partial + blockIdx.z * split_stride + r * T::kThreads, *unit(r));
  uint32_t* drawn = reinterpret_cast<uint32_t*>(reinterpret_cast<uint8_t*>(table) + T::kSumBytes);
  sync_threads();  // the ticket, drawn below, is that of all threads' sums
  if (threadIdx.x == 0) *drawn = draw_ticket(tickets + tile);
  sync_threads();  // the ticket is there for all, and behind it the other blocks' sums
  const bool last = *drawn == gridDim.z - 1;
  if (!last) return false;
  if (threadIdx.x == 0) store_global(tickets + tile, 0u);  // ready for the next launch
  // So many loads of a thread are under way at once.
  constexpr int kSplitsAtOnce = kRounds < 16 ? 16 / kRounds : 1;
  float total[kRounds][4] = {};
  for (uint32_t first = 0; first < gridDim.z; first += kSplitsAtOnce) {
    Bits128 sums[kSplitsAtOnce][kRounds];
#pragma unroll
    for (int i = 0; i < kSplitsAtOnce; i++)
#pragma unroll
      for (int r = 0; r < kRounds; r++) {
        const uint32_t split = first + i;
        sums[i][r] = Bits128{{0u, 0u, 0u, 0u}};
        if (split < gridDim.z) sums[i][r] = load_global_l2(partial + split * split_stride + r * T::kThreads);
      }
#pragma unroll
    for (int i = 0; i < kSplitsAtOnce; i++)
#pragma unroll
      for (int r = 0; r < kRounds; r++)
#pragma unroll
        for (int e = 0; e < 4; e++) total[r][e] += bits_to_f32(sums[i][r].word[e]);
  }
#pragma unroll
  for (int r = 0; r < kRounds; r++) {
    Bits128 bits;
#pragma unroll
    for (int e = 0; e < 4; e++) bits.word[e] = f32_to_bits(total[r][e]);
    *unit(r) = bits;
  }
  return true;
}
