// A warp's share of a stage: ldmatrix from the swizzled tiles, mma.sync into the sums.
#pragma once
#include <device/tile.h>

// The sums of one warp.
template <class T>
struct Sums {
  float value[T::kFragmentsM][T::kFragmentsN][4];
};

// What a warp computes, and what its lane names to ldmatrix in a stage: rows and vectors such that the four matrices
// are the four registers of an A fragment, and b0, b1 of two neighbouring B fragments.
template <class T>
struct Share {
  int branch, slice, row;  // `row`: the first of its rows of A
  uint32_t a, b;           // bytes from the beginning of a stage, of the slice's first step

  DEVICE Share() {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    branch = warp % T::kBranches;
    slice = warp / T::kBranches % T::kSlices;
    row = warp / T::kBranches / T::kSlices * (T::kFragmentsM * 16);
    const int tile_a = T::kTilesA == 1 ? 0 : branch;
    a = tile_a * T::kBytesA + swizzled_bytes<T::kRowVectors>(row + lane % 16, 2 * slice + lane / 16);
    b = T::kFirstB + branch * T::kBytesB +
        swizzled_bytes<T::kRowVectors>(lane / 16 * 8 + lane % 8, 2 * slice + lane / 8 % 2);
    a = held(a);
    b = held(b);
  }
};

template <class T>
struct Fragments {
  uint32_t a[T::kFragmentsM][4], b[T::kFragmentsN / 2][4];

  // Those of the slice's step `step`. A vector's number has the step in bits of its own, in which the swizzle exchanges it
  // likewise: an exclusive or.
  DEVICE void load(SharedAddress stage, const Share<T>& share, int step) {
    constexpr int kRows = 16 * T::kRowVectors * kVectorBytes;
    const uint32_t exchange = step * T::kSlices * 2 * kVectorBytes;
    const SharedAddress from_a = stage + (share.a ^ exchange), from_b = stage + (share.b ^ exchange);
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; i++) ldmatrix_x4(a[i], from_a + i * kRows);
#pragma unroll
    for (int j = 0; j < T::kFragmentsN / 2; j++) ldmatrix_x4(b[j], from_b + j * kRows);
  }

  // sums += A * B^T of this step; `beside(i)` is called behind the products of row i.
  template <typename Element, typename Beside>
  DEVICE void multiply(Sums<T>& sums, Beside beside) const {
#pragma unroll
    for (int i = 0; i < T::kFragmentsM; i++) {
#pragma unroll
      for (int j = 0; j < T::kFragmentsN; j++) {
        mma_m16n8k16(Element{}, sums.value[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
      beside(i);
    }
  }
};
