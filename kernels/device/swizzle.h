// Where a 16-byte vector of a shared-memory tile stands.
//
// A tile holds rows of kRowVectors vectors (the reduction runs along the row). ldmatrix reads the same vector of 8
// neighbouring rows at once, and cp.async writes neighbouring vectors of one row; both touch every bank once when the
// vector's place within 128 bytes (8 vectors, all 32 banks) is exchanged by the row:
//   8 vectors a row: vector ^ (row % 8)          4 vectors a row (two rows in 128 bytes): vector ^ (row / 2 % 4)
#pragma once
#include <device/element.h>

template <int kRowVectors>
DEVICE int swizzled_bytes(int row, int vector) {
  static_assert(kRowVectors == 4 || kRowVectors == 8, "rows of 64 or 128 bytes");
  const int exchange = kRowVectors == 8 ? row % 8 : row / 2 % 4;
  return (row * kRowVectors + (vector ^ exchange)) * kVectorBytes;
}
