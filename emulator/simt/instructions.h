// The instructions behind device/ptx.h: warp collectives and conversions, as the PTX manual defines the forms in use.
#pragma once
#include <stdint.h>
#include <string.h>

#include "block.h"

namespace emulator {

enum class Element16 { kF16, kBf16 };

float shuffle_xor(Place place, float value, int mask);
void ldmatrix_x4(Place place, uint32_t (&fragment)[4], const void* row);
// Sums in f32, the reduction index ascending.
void mma_m16n8k16(Place place, Element16 element, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

inline uint32_t f32_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float bits_to_f32(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline float bf16_to_f32(uint16_t bits) { return bits_to_f32(static_cast<uint32_t>(bits) << 16); }
float f16_to_f32(uint16_t bits);

// The larger one, where +0 is larger than -0; the canonical NaN if either is a NaN.
float max_nan(float a, float b);
uint32_t max_nan_x2(Element16 element, uint32_t a, uint32_t b);

// To nearest even; overflow gives an infinity, a NaN becomes the canonical one (0x7fff).
uint16_t f32_to_f16(float value);
uint16_t f32_to_bf16(float value);

}  // namespace emulator
