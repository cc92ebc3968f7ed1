// The multistage main loop: cp.async fills a ring of stages ahead of the warps that multiply.
//
// A source copies the k tiles in order, a thread its part of each: `fill_weights(stage)` and `fill_maps(stage)` all of B
// and of A, `fill_round(stage, r)` round r of kRounds, and then `next_tile()`. The first weights are under way before the
// kernel's predecessor has ended.
//
// One group is committed for every k tile, an empty one at the end, so that counting groups counts k tiles. A step's
// fragments are loaded while the step before it multiplies, across the barrier too: a k tile's last products begin when
// the next k tile is there, and its stage is refilled behind that barrier.
#pragma once
#include <device/fragment.h>
#include <device/predecessor.h>

// sums = A * B^T of k_tiles tiles. The ring is free afterwards.
template <class T, typename Element, class Source>
DEVICE void multiply_tiles(Sums<T>& sums, Source& source, int k_tiles, const Share<T>& share, SharedAddress ring) {
  constexpr int kRounds = T::kRoundsB + T::kRoundsA;
  constexpr int kAhead = T::kStages - 1;
#pragma unroll
  for (int i = 0; i < kAhead; i++) {
    if (i < k_tiles) source.fill_weights(ring + i * T::kStageBytes);
  }
  await_predecessor();
#pragma unroll 1
  for (int i = 0; i < kAhead; i++) {
    if (i < k_tiles) source.fill_maps(ring + i * T::kStageBytes);
    cp_async_commit();  // the first group holds the weights of all stages so far
  }
#pragma unroll
  for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
    for (int j = 0; j < T::kFragmentsN; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sums.value[i][j][e] = 0.0f;

  // The copies stand between the products: of all steps but the last, which is behind the wait for earlier ones; or of the
  // only step, and then fewer are under way at the wait.
  constexpr bool kOneStep = T::kSteps == 1;
  constexpr int kPlaces = (kOneStep ? 1 : T::kSteps - 1) * T::kFragmentsM;
  constexpr int kPending = kOneStep ? kAhead - 2 : kAhead - 1;
  static_assert(kPending >= 1, "a stage is on its way while the next one is awaited");
  // The fragments change places every step, and are back where they were behind this many k tiles.
  constexpr int kTilesAtOnce = T::kSteps % 2 == 0 ? 1 : 2;
  const SharedAddress end = ring + T::kStages * T::kStageBytes;
  SharedAddress read = ring, write = ring + kAhead * T::kStageBytes;
  Fragments<T> fragments[2];
  cp_async_wait<kAhead - 1>();
  sync_threads();  // the first k tile is there for all
  fragments[0].load(read, share, 0);
#pragma unroll 1
  for (int first = 0; first < k_tiles; first += kTilesAtOnce) {
#pragma unroll
    for (int tile = 0; tile < kTilesAtOnce; tile++) {
      if (first + tile >= k_tiles) break;
      const bool more = first + tile + kAhead < k_tiles;
#pragma unroll
      for (int step = 0; step < T::kSteps; step++) {
        const int now = (tile * T::kSteps + step) % 2;
        const bool is_last = step + 1 == T::kSteps;
        if (is_last) {
          if (!kOneStep) cp_async_commit();
          cp_async_wait<kPending>();
          sync_threads();  // the next k tile is there for all, and no warp still reads the stage behind this one
          read = read + T::kStageBytes == end ? ring : read + T::kStageBytes;
        }
        fragments[1 - now].load(read, share, is_last ? 0 : step + 1);
        fragments[now].template multiply<Element>(sums, [&](int row) {
          if ((is_last && !kOneStep) || !more) return;
          const int place = step * T::kFragmentsM + row;
#pragma unroll
          for (int r = kRounds * place / kPlaces; r < kRounds * (place + 1) / kPlaces; r++) {
            source.fill_round(write, r);
          }
        });
      }
      if (kOneStep) cp_async_commit();
      source.next_tile();
      write = write + T::kStageBytes == end ? ring : write + T::kStageBytes;
    }
  }
  sync_threads();  // the groups still open are empty, and no warp reads the ring: its memory is free
}
