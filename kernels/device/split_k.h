// Split-K: gridDim.z blocks share the reduction of one tile, and the last of them to arrive adds their sums up.
//
// Every block writes its sums to the workspace and draws a ticket; the one that draws the last ticket reads all of
// them back, its own included, in the order of blockIdx.z. The result is the same whoever comes last, bit for bit.
// Workspace: [split][tile][fragment][thread][4] f32, neighbouring threads side by side.
#pragma once
#include <device/tile.h>

// Returns false in the blocks whose part ends here; in the last one `sums` holds the total. `scratch` is free shared
// memory of the block; it is free again afterwards.
template <class T>
DEVICE bool reduce_splits(Sums<T>& sums, float* workspace, uint32_t* tickets, uint32_t* scratch) {
  constexpr int kFragments = T::kBranches * T::kFragmentsM * T::kFragmentsN;
  const uint32_t tile = blockIdx.y * gridDim.x + blockIdx.x;
  const int64_t split_stride = static_cast<int64_t>(gridDim.x) * gridDim.y * kFragments * T::kThreads;
  Bits128* partial = reinterpret_cast<Bits128*>(workspace) + static_cast<int64_t>(tile) * kFragments * T::kThreads +
                     threadIdx.x;  // of split 0, fragment 0
  float (*flat)[4] = &sums.value[0][0][0];
#pragma unroll
  for (int f = 0; f < kFragments; f++) {
    Bits128 bits;
#pragma unroll
    for (int e = 0; e < 4; e++) bits.word[e] = f32_to_bits(flat[f][e]);
    store_global(partial + blockIdx.z * split_stride + f * T::kThreads, bits);
  }
  fence_device();  // this thread's sums are visible before the ticket drawn below
  sync_threads();  // so are those of the whole block
  if (threadIdx.x == 0) *scratch = atomic_increment(tickets + tile);
  sync_threads();  // the ticket is there for all
  const bool last = *scratch == gridDim.z - 1;
  if (!last) return false;
  fence_device();  // the other blocks' sums are read after the last ticket was drawn
  if (threadIdx.x == 0) store_global(tickets + tile, 0u);  // ready for the next launch
  sums.clear();
  for (uint32_t split = 0; split < gridDim.z; split++) {
#pragma unroll
    for (int f = 0; f < kFragments; f++) {
      const Bits128 bits = load_global_l2(partial + split * split_stride + f * T::kThreads);
#pragma unroll
      for (int e = 0; e < 4; e++) flat[f][e] += bits_to_f32(bits.word[e]);
    }
  }
  sync_threads();  // every thread has read the ticket: the scratch is free
  return true;
}
