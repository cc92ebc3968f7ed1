// The B tiles of a GEMM: rows are output channels, packed [channels][k_vectors][kVector], one array a branch.
//
// A thread copies the same column of vectors of the same rows in every k tile. What is beyond the last channel or the end
// of the reduction arrives as zeros.
#pragma once
#include <device/tile.h>

template <class T>
struct WeightRows {
  const uint8_t* next[T::kBranches];  // this thread's vector of the next k tile, in its first row
  int left;                           // vectors from there to the end of the row
  uint32_t inside;                    // bit r: the row of round r is an output channel
  int64_t round_bytes;                // between the rows of two rounds

  DEVICE WeightRows(const void* const (&weight)[2], int channels, int k_vectors, int k_vector) {
    const int channel = static_cast<int>(blockIdx.y) * T::kN + static_cast<int>(threadIdx.x) / T::kRowVectors;
    left = k_vectors - k_vector;
    inside = 0;
#pragma unroll
    for (int r = 0; r < T::kRoundsB; r++) inside |= (channel + r * T::kRowsAtOnce < channels ? 1u : 0u) << r;
    round_bytes = static_cast<int64_t>(k_vectors) * (T::kRowsAtOnce * kVectorBytes);
    const int64_t offset = (static_cast<int64_t>(channel) * k_vectors + k_vector) * kVectorBytes;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) next[t] = static_cast<const uint8_t*>(weight[t]) + offset;
  }

  // Starts the copies of one round; `stage` is this thread's first place in the stage.
  DEVICE void fill_round(SharedAddress stage, int r) const {
    const bool there = left > 0 && (inside >> r & 1u) != 0;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) {
      cp_async_16(stage + T::kFirstB + t * T::kBytesB + r * T::kRoundBytes, next[t] + r * round_bytes, there);
    }
  }

  DEVICE void next_tile() {
    left -= T::kRowVectors;
#pragma unroll
    for (int t = 0; t < T::kBranches; t++) next[t] += T::kRowVectors * kVectorBytes;
  }
};
