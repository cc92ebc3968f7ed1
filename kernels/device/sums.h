// The table: finished sums on their way through shared memory, from the warps that multiplied to the threads that store.
//
// [branch][m][kSumPitch], f32, in units of four. A warp writes two neighbouring sums a lane, eight rows at once; a thread
// reads two neighbouring units, its vector, and its neighbours the next ones. Rows that are 8 longer than n keep the
// writes apart; that units exchange places with their neighbours in every second row, and in the upper half of a long
// one, keeps the reads apart.
#pragma once
#include <device/fragment.h>

template <class T>
DEVICE float* sums_unit(float* table, int branch, int m, int unit) {
  const int place = unit ^ ((m + unit / 8) % 2);
  return table + (branch * T::kM + m) * T::kSumPitch + place * 4;
}

// The sums of all warps, the slices added up in their order; behind a barrier the table is there for all.
template <class T>
DEVICE void store_sums(float* table, const Sums<T>& sums, const Share<T>& share) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int slice = 0; slice < T::kSlices; slice++) {
    if (slice > 0) {
      sync_threads();  // the sums of the slices before are in the table
    }
    if (share.slice == slice) {
#pragma unroll
      for (int i = 0; i < T::kFragmentsM; i++)
#pragma unroll
        for (int j = 0; j < T::kFragmentsN; j++)
#pragma unroll
          for (int half = 0; half < 2; half++) {
            const int m = share.row + 16 * i + 8 * half + lane / 4;
            float* target = sums_unit<T>(table, share.branch, m, 2 * j + lane % 4 / 2) + lane % 2 * 2;
            Bits64 pair = *reinterpret_cast<Bits64*>(target);
#pragma unroll
            for (int e = 0; e < 2; e++) {
              const float sum = sums.value[i][j][2 * half + e];
              pair.word[e] = f32_to_bits(slice == 0 ? sum : bits_to_f32(pair.word[e]) + sum);
            }
            *reinterpret_cast<Bits64*>(target) = pair;
          }
    }
  }
}

// One vector of channels of one row, all branches.
template <class T>
DEVICE void load_sums(float (&z)[T::kBranches][kVector], float* table, int row, int column) {
#pragma unroll
  for (int t = 0; t < T::kBranches; t++)
#pragma unroll
    for (int unit = 0; unit < kVector / 4; unit++) {
      const Bits128 bits = *reinterpret_cast<const Bits128*>(sums_unit<T>(table, t, row, column / 4 + unit));
#pragma unroll
      for (int e = 0; e < 4; e++) z[t][4 * unit + e] = bits_to_f32(bits.word[e]);
    }
}
