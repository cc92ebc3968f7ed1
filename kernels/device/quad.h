// The sums of four fragments side by side, exchanged among the four lanes that hold a row of them: each lane has two
// neighbouring channels of every fragment, and receives the eight of one.
#pragma once
#include <device/element.h>

// Of row lane / 4 of the fragments: lane % 4 receives the channels of that fragment. All 32 lanes take part.
DEVICE void gather_vector(float (&vector)[kVector], const float (&fragments)[4][4]) {
  const int lane = threadIdx.x % 4;
  float piece[4][2];  // of fragment j; later of the channels 2j, 2j + 1
#pragma unroll
  for (int j = 0; j < 4; j++)
#pragma unroll
    for (int e = 0; e < 2; e++) piece[j][e] = fragments[j][e];
  // A 4 x 4 transposition in two rounds: lanes whose numbers differ in one bit exchange the pieces whose numbers do.
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (lane & bit) != 0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if ((j & bit) != 0) continue;
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const float given = upper ? piece[j][e] : piece[j + bit][e];
        const float taken = shuffle_xor(given, bit);
        if (upper) {
          piece[j][e] = taken;
        } else {
          piece[j + bit][e] = taken;
        }
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; i++) vector[i] = piece[i / 2][i % 2];
}
