// The storage types of maps and weights, f16, bf16 and f32, and the unit all kernels read and write them in: a vector
// of AWSNET_VECTOR neighbouring channels, held as f32.
#pragma once
#include <abi.h>
#include <device/ptx.h>

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};
using f32 = float;

DEVICE float to_f32(f16 value) { return f16_to_f32(value.bits); }
DEVICE float to_f32(f32 value) { return value; }
DEVICE float to_f32(bf16 value) { return bits_to_f32(static_cast<uint32_t>(value.bits) << 16); }  // its upper half

template <typename T>
DEVICE T from_f32(float value);
template <>
DEVICE f16 from_f32<f16>(float value) {
  return f16{f32_to_f16(value)};
}
template <>
DEVICE bf16 from_f32<bf16>(float value) {
  return bf16{f32_to_bf16(value)};
}
template <>
DEVICE f32 from_f32<f32>(float value) {
  return value;
}

DEVICE void mma_m16n8k16(f16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  mma_m16n8k16_f16(d, a, b0, b1);
}
DEVICE void mma_m16n8k16(bf16, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  mma_m16n8k16_bf16(d, a, b0, b1);
}

constexpr int kVector = AWSNET_VECTOR;
constexpr int kVectorBytes = 2 * kVector;  // of a 16-bit type

DEVICE int vectors_of(int channels) { return (channels + kVector - 1) / kVector; }
DEVICE int pitch_of(int channels) { return vectors_of(channels) * kVector; }

DEVICE int lesser(int a, int b) { return a < b ? a : b; }

// Channels of a map that a vector starting at `channel` holds: kVector, or fewer in the last one.
DEVICE int valid_lanes(int channels, int channel) {
  const int left = lesser(channels - channel, kVector);
  return left > 0 ? left : 0;
}

template <typename T>
union Vector {
  static constexpr int kWords = sizeof(T) * kVector / sizeof(Bits128);
  Bits128 words[kWords];
  T lanes[kVector];
};

// Reads a whole vector; `source` is a multiple of 16 bytes.
template <typename T>
DEVICE Vector<T> read_vector(const T* source) {
  Vector<T> vector;
#pragma unroll
  for (int i = 0; i < Vector<T>::kWords; i++) {
    vector.words[i] = load_global(reinterpret_cast<const Bits128*>(source) + i);
  }
  return vector;
}

template <typename T>
DEVICE void widen(float (&values)[kVector], const Vector<T>& vector) {
#pragma unroll
  for (int i = 0; i < kVector; i++) values[i] = to_f32(vector.lanes[i]);
}

template <typename T>
DEVICE void load_vector(float (&values)[kVector], const T* source) {
  widen(values, read_vector(source));
}

template <typename T>
DEVICE Vector<T> uniform_vector(float value) {
  Vector<T> vector;
#pragma unroll
  for (int i = 0; i < kVector; i++) vector.lanes[i] = from_f32<T>(value);
  return vector;
}

// Every lane becomes the larger one of it and x's; a NaN wins.
DEVICE uint32_t larger(f16, uint32_t a, uint32_t b) { return max_nan_f16x2(a, b); }
DEVICE uint32_t larger(bf16, uint32_t a, uint32_t b) { return max_nan_bf16x2(a, b); }
DEVICE uint32_t larger(f32, uint32_t a, uint32_t b) { return f32_to_bits(max_nan_f32(bits_to_f32(a), bits_to_f32(b))); }
template <typename T>
DEVICE void raise(Vector<T>& vector, const Vector<T>& x) {
#pragma unroll
  for (int i = 0; i < Vector<T>::kWords; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      vector.words[i].word[j] = larger(T{}, vector.words[i].word[j], x.words[i].word[j]);
    }
}

// Writes `lanes` values and zeros behind them, a whole vector in all.
template <typename T>
DEVICE void store_vector(T* target, const float (&values)[kVector], int lanes) {
  Vector<T> vector;
#pragma unroll
  for (int i = 0; i < kVector; i++) vector.lanes[i] = from_f32<T>(i < lanes ? values[i] : 0.0f);
#pragma unroll
  for (int i = 0; i < Vector<T>::kWords; i++) {
    store_global(reinterpret_cast<Bits128*>(target) + i, vector.words[i]);
  }
}
