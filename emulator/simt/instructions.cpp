#include "instructions.h"

#include <math.h>

namespace emulator {
namespace {

// All f16 values: subnormals and infinities come out right with no case of their own at the call.
struct F16Table {
  float value[1 << 16];
  F16Table() {
    for (uint32_t bits = 0; bits < 1 << 16; bits++) {
      const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
      float magnitude;
      if (exponent == 31) {
        magnitude = mantissa ? bits_to_f32(0x7fc00000) : INFINITY;
      } else {
        magnitude = exponent == 0 ? ldexpf(static_cast<float>(mantissa), -24)
                                  : ldexpf(static_cast<float>(mantissa | 1024), static_cast<int>(exponent) - 25);
      }
      value[bits] = bits >> 15 ? -magnitude : magnitude;
    }
  }
};
const F16Table f16_table;

float to_f32(Element16 element, uint32_t bits) {
  const uint16_t low = static_cast<uint16_t>(bits);
  return element == Element16::kF16 ? f16_table.value[low] : bf16_to_f32(low);
}

struct ShuffleArguments {
  float value;
  int mask;
  float result;
};

void do_shuffle(void* const (&arguments)[32]) {
  for (int lane = 0; lane < 32; lane++) {
    ShuffleArguments& mine = *static_cast<ShuffleArguments*>(arguments[lane]);
    mine.result = static_cast<ShuffleArguments*>(arguments[(lane ^ mine.mask) % 32])->value;
  }
}

struct LdmatrixArguments {
  uint32_t* fragment;
  const void* row;
};

void do_ldmatrix(void* const (&arguments)[32]) {
  uint16_t matrix[4][8][8];
  for (int lane = 0; lane < 32; lane++) {
    memcpy(matrix[lane / 8][lane % 8], static_cast<LdmatrixArguments*>(arguments[lane])->row, 16);
  }
  for (int lane = 0; lane < 32; lane++) {
    for (int i = 0; i < 4; i++) {
      const uint16_t* pair = &matrix[i][lane / 4][lane % 4 * 2];
      static_cast<LdmatrixArguments*>(arguments[lane])->fragment[i] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
    }
  }
}

struct MmaArguments {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

template <Element16 element>
void do_mma(void* const (&arguments)[32]) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; lane++) {
    const MmaArguments& x = *static_cast<MmaArguments*>(arguments[lane]);
    const int g = lane / 4, t = lane % 4 * 2;
    for (int e = 0; e < 2; e++) {
      const int shift = 16 * e;
      a[g][t + e] = to_f32(element, x.a[0] >> shift);
      a[g + 8][t + e] = to_f32(element, x.a[1] >> shift);
      a[g][t + 8 + e] = to_f32(element, x.a[2] >> shift);
      a[g + 8][t + 8 + e] = to_f32(element, x.a[3] >> shift);
      b[t + e][g] = to_f32(element, x.b[0] >> shift);
      b[t + 8 + e][g] = to_f32(element, x.b[1] >> shift);
      d[g][t + e] = x.d[e];
      d[g + 8][t + e] = x.d[2 + e];
    }
  }
  for (int i = 0; i < 16; i++)
    for (int k = 0; k < 16; k++)
      for (int j = 0; j < 8; j++) d[i][j] += a[i][k] * b[k][j];
  for (int lane = 0; lane < 32; lane++) {
    const MmaArguments& x = *static_cast<MmaArguments*>(arguments[lane]);
    const int g = lane / 4, t = lane % 4 * 2;
    for (int e = 0; e < 2; e++) {
      x.d[e] = d[g][t + e];
      x.d[2 + e] = d[g + 8][t + e];
    }
  }
}

}  // namespace

float shuffle_xor(Place place, float value, int mask) {
  ShuffleArguments arguments{value, mask, 0.0f};
  warp_collective(place, do_shuffle, &arguments);
  return arguments.result;
}

void ldmatrix_x4(Place place, uint32_t (&fragment)[4], const void* row) {
  check_shared(place, row, 16, 16);
  LdmatrixArguments arguments{fragment, row};
  warp_collective(place, do_ldmatrix, &arguments);
}

void mma_m16n8k16(Place place, Element16 element, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MmaArguments arguments{d, a, {b0, b1}};
  warp_collective(place, element == Element16::kF16 ? do_mma<Element16::kF16> : do_mma<Element16::kBf16>, &arguments);
}

float max_nan(float a, float b) {
  if (isnan(a) || isnan(b)) return bits_to_f32(0x7fffffff);
  return a > b || (a == b && signbit(b)) ? a : b;
}

uint32_t max_nan_x2(Element16 element, uint32_t a, uint32_t b) {
  uint32_t larger = 0;
  for (int shift = 0; shift < 32; shift += 16) {
    const uint16_t low_a = static_cast<uint16_t>(a >> shift), low_b = static_cast<uint16_t>(b >> shift);
    const bool is_f16 = element == Element16::kF16;
    const float value =
        is_f16 ? max_nan(f16_to_f32(low_a), f16_to_f32(low_b)) : max_nan(bf16_to_f32(low_a), bf16_to_f32(low_b));
    larger |= static_cast<uint32_t>(is_f16 ? f32_to_f16(value) : f32_to_bf16(value)) << shift;
  }
  return larger;
}

float f16_to_f32(uint16_t bits) { return f16_table.value[bits]; }

uint16_t f32_to_f16(float value) {
  const uint32_t bits = f32_to_bits(value), sign = bits >> 16 & 0x8000;
  const float magnitude = fabsf(value);
  if (magnitude != magnitude) return 0x7fff;
  if (magnitude == 0.0f) return static_cast<uint16_t>(sign);
  if (magnitude >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00);  // halfway from the largest f16 to 2^16
  // In units of f16's spacing at this magnitude: 11 bits, but never below 2^-24.
  int exponent;
  frexpf(magnitude, &exponent);  // magnitude < 2^exponent
  const int spacing = exponent - 11 < -24 ? -24 : exponent - 11;
  const float units = nearbyintf(ldexpf(magnitude, -spacing));  // exact: at most 2^11
  // With the hidden bit counted in, a carry into the next power of two lands in the exponent by itself.
  return static_cast<uint16_t>(sign | ((static_cast<uint32_t>(spacing + 24) << 10) + static_cast<uint32_t>(units)));
}

uint16_t f32_to_bf16(float value) {
  uint32_t bits = f32_to_bits(value);
  if (value != value) return 0x7fff;
  bits += 0x7fff + (bits >> 16 & 1);
  return static_cast<uint16_t>(bits >> 16);
}

}  // namespace emulator
