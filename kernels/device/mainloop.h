// The multistage main loop: cp.async fills a ring of stages ahead of the warps that multiply.
//
// `Source::fill_weights(stage)` and `fill_maps(stage)` start this thread's copies of the next k tile's B and A into a
// stage; each is called once a k tile, in order. The first weights are under way before the kernel's predecessor has
// ended. At the top of iteration i, k tiles i to i + kStages - 2 are under way or there; one group is committed in
// every iteration, an empty one at the end, so that counting groups counts k tiles.
#pragma once
#include <device/fragment.h>
#include <device/predecessor.h>

template <class T, bool kSharedA, typename Element, class Source>
DEVICE void multiply_tiles(Sums<T>& sums, Source& source, int k_tiles, uint8_t* ring) {
  constexpr int kStageBytes = Stage<T, kSharedA>::kBytes;
#pragma unroll
  for (int i = 0; i < T::kStages - 1; i++) {
    if (i < k_tiles) source.fill_weights(ring + i * kStageBytes);
  }
  await_predecessor();
#pragma unroll
  for (int i = 0; i < T::kStages - 1; i++) {
    if (i < k_tiles) source.fill_maps(ring + i * kStageBytes);
    cp_async_commit();  // the first group holds the weights of all stages so far
  }
  int read = 0, write = T::kStages - 1;
  for (int i = 0; i < k_tiles; i++) {
    cp_async_wait<T::kStages - 2>();
    sync_threads();  // k tile i is there for all, and no warp still reads the stage refilled below
    if (i + T::kStages - 1 < k_tiles) {
      source.fill_weights(ring + write * kStageBytes);
      source.fill_maps(ring + write * kStageBytes);
    }
    cp_async_commit();
    multiply_stage<T, kSharedA, Element>(sums, ring + read * kStageBytes);
    read = read + 1 == T::kStages ? 0 : read + 1;
    write = write + 1 == T::kStages ? 0 : write + 1;
  }
  sync_threads();  // the groups still open are empty, and no warp reads the ring: its memory is free
}
