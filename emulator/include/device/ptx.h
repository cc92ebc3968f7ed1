// kernels/device/ptx.h for a CPU: the same interface on the SIMT runtime. This folder stands first on the include path,
// so that the kernels find this file instead. What each function does is said there.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "../../simt/block.h"
#include "../../simt/instructions.h"

#define DEVICE inline __attribute__((always_inline))
#define threadIdx (emulator::current_thread->index)
#define blockIdx (emulator::current_block)
#define blockDim (emulator::block_dim)
#define gridDim (emulator::grid_dim)

#define AWSNET_KERNEL(name, Params, threads)                                                                  \
  static void name(const Params& params);                                                                     \
  static const emulator::RegisteredKernel name##_registered(                                                  \
      #name, sizeof(Params), threads, [](const void* params) { name(*static_cast<const Params*>(params)); }); \
  static void name(const Params& params)
#define AWSNET_KERNEL_OF_BLOCKS(name, Params, threads, blocks) AWSNET_KERNEL(name, Params, threads)

// The caller's place in the kernel, for messages: as a default argument it is filled in where the call stands.
#define AWSNET_HERE emulator::Place place = {__builtin_FILE(), __builtin_LINE()}

struct alignas(8) Bits64 {
  uint32_t word[2];
};
struct alignas(16) Bits128 {
  uint32_t word[4];
};

inline uint8_t* dynamic_shared() { return emulator::shared_memory(); }
using SharedAddress = uintptr_t;
inline SharedAddress shared_address(const void* pointer) { return reinterpret_cast<SharedAddress>(pointer); }
inline uint32_t held(uint32_t value) { return value; }
inline void sync_threads(AWSNET_HERE) { emulator::barrier(place); }
inline uint32_t draw_ticket(uint32_t* counter, AWSNET_HERE) { return emulator::draw_ticket(place, counter); }
inline float shuffle_xor(float value, int mask, AWSNET_HERE) { return emulator::shuffle_xor(place, value, mask); }

inline void griddepcontrol_wait(AWSNET_HERE) { emulator::await_dependencies(place); }
inline void griddepcontrol_launch_dependents(AWSNET_HERE) { emulator::launch_dependents(place); }

template <typename T>
DEVICE T load_global(const T* source, AWSNET_HERE) {
  emulator::check_load(place, source, sizeof(T));
  return *source;
}
DEVICE Bits128 load_global_l2(const Bits128* source, AWSNET_HERE) {
  emulator::check_load(place, source, sizeof(Bits128));
  return *source;
}
template <typename T>
DEVICE void store_global(T* target, T value, AWSNET_HERE) {
  emulator::check_store(place, target, sizeof(T));
  *target = value;
}

inline void cp_async_16(SharedAddress target, const void* source, bool there, AWSNET_HERE) {
  emulator::copy_start(place, reinterpret_cast<void*>(target), source, there);
}
inline void cp_async_commit() { emulator::copy_commit(); }
template <int pending>
inline void cp_async_wait() {
  emulator::copy_wait(pending);
}

inline void ldmatrix_x4(uint32_t (&fragment)[4], SharedAddress row, AWSNET_HERE) {
  emulator::ldmatrix_x4(place, fragment, reinterpret_cast<const void*>(row));
}
inline void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, AWSNET_HERE) {
  emulator::mma_m16n8k16(place, emulator::Element16::kF16, d, a, b0, b1);
}
inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, AWSNET_HERE) {
  emulator::mma_m16n8k16(place, emulator::Element16::kBf16, d, a, b0, b1);
}

inline float f16_to_f32(uint16_t bits) { return emulator::f16_to_f32(bits); }
inline uint16_t f32_to_f16(float value) { return emulator::f32_to_f16(value); }
inline uint16_t f32_to_bf16(float value) { return emulator::f32_to_bf16(value); }
inline uint32_t f32_to_bits(float value) { return emulator::f32_to_bits(value); }
inline float bits_to_f32(uint32_t bits) { return emulator::bits_to_f32(bits); }

inline float max_nan_f32(float a, float b) { return emulator::max_nan(a, b); }
inline uint32_t max_nan_f16x2(uint32_t a, uint32_t b) { return emulator::max_nan_x2(emulator::Element16::kF16, a, b); }
inline uint32_t max_nan_bf16x2(uint32_t a, uint32_t b) {
  return emulator::max_nan_x2(emulator::Element16::kBf16, a, b);
}
