// Every instruction the kernels use beyond plain C++: one wrapper each, inline PTX, sm_80 and newer.
//
// The emulator has a file of the same name and the same interface (emulator/include/device/ptx.h), found first on its
// include path: kernels and the rest of this folder know nothing of it. A kernel reads and writes global memory only
// through load_global, store_global and cp_async_16.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DEVICE __device__ __forceinline__

// Opens the definition of a kernel: its one parameter is `params`, by value, of type `Params`. So many blocks of it fit a
// multiprocessor's registers.
#define AWSNET_KERNEL_OF_BLOCKS(name, Params, threads, blocks) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(const __grid_constant__ Params params)
#define AWSNET_KERNEL(name, Params, threads) AWSNET_KERNEL_OF_BLOCKS(name, Params, threads, 1)

struct alignas(8) Bits64 {
  uint32_t word[2];
};
struct alignas(16) Bits128 {
  uint32_t word[4];
};

// The block's dynamic shared memory, aligned to 128 bytes: the width of all 32 banks.
DEVICE uint8_t* dynamic_shared() {
  extern __shared__ __align__(128) uint8_t shared_bytes[];
  return shared_bytes;
}

// A place in the block's shared memory, for the instructions that take one.
using SharedAddress = uint32_t;
DEVICE SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

// The same value, which the compiler keeps instead of computing it again.
DEVICE uint32_t held(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Barrier of all threads of the block; orders their shared and global accesses.
DEVICE void sync_threads() { __syncthreads(); }

// Adds one to a counter in global memory; returns the value before. What this thread wrote, and the block's threads before
// the last barrier, is visible to whoever draws from the same counter later, and behind a barrier to that block.
DEVICE uint32_t draw_ticket(uint32_t* counter) {
  uint32_t before;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(before) : "l"(counter) : "memory");
  return before;
}

// The value of lane `lane() ^ mask`. All 32 lanes take part.
DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// Programmatic dependent launch; device/predecessor.h says how it is used. Both do nothing below sm_90, where a kernel
// starts when the one before it has ended.

// Waits until the launches that this one depends on have ended and all they wrote is visible to this thread.
DEVICE void griddepcontrol_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the launch that depends on this one start as soon as every block has called it or ended.
DEVICE void griddepcontrol_launch_dependents() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

template <typename T>
DEVICE T load_global(const T* source) {
  return *source;
}

// As load_global, but never from this SM's own cache, which other blocks' writes do not reach.
DEVICE Bits128 load_global_l2(const Bits128* source) {
  const uint4 v = __ldcg(reinterpret_cast<const uint4*>(source));
  return Bits128{{v.x, v.y, v.z, v.w}};
}

template <typename T>
DEVICE void store_global(T* target, T value) {
  *target = value;
}

template <>
DEVICE Bits128 load_global<Bits128>(const Bits128* source) {
  const uint4 v = *reinterpret_cast<const uint4*>(source);
  return Bits128{{v.x, v.y, v.z, v.w}};
}

template <>
DEVICE void store_global<Bits128>(Bits128* target, Bits128 value) {
  *reinterpret_cast<uint4*>(target) = make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
}

// Starts a copy of 16 bytes from global to shared memory, of zeros where `there` is false: then nothing is read. Both
// addresses are multiples of 16.
DEVICE void cp_async_16(SharedAddress target, const void* source, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(there ? 16 : 0)
               : "memory");
}

// Closes the group of this thread's copies started since the last commit.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most `pending` of this thread's groups are under way.
template <int pending>
DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four 8x8 matrices of 16-bit elements. Lane l names row l % 8 of matrix l / 8 (16 bytes, aligned); lane l receives of
// matrix i the elements [l / 4][2 * (l % 4)] and the one behind it in fragment[i].
DEVICE void ldmatrix_x4(uint32_t (&fragment)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
               : "r"(row)
               : "memory");
}

// d[16][8] += a[16][16] * b[16][8], sums in f32. With g = lane / 4 and t = 2 * (lane % 4), a lane holds
//   a: [g][t, t+1], [g+8][t, t+1], [g][t+8, t+9], [g+8][t+8, t+9]     b: [t, t+1][g], [t+8, t+9][g]
//   d: [g][t], [g][t+1], [g+8][t], [g+8][t+1]
DEVICE void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE uint32_t f32_to_bits(float value) { return __float_as_uint(value); }
DEVICE float bits_to_f32(uint32_t bits) { return __uint_as_float(bits); }

// Conversions between f32 and the 16-bit types, to nearest even.
DEVICE float f16_to_f32(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

DEVICE uint16_t f32_to_f16(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

DEVICE uint16_t f32_to_bf16(float value) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

// The larger one; a NaN if either is one. Of the 16-bit types two at once.
DEVICE float max_nan_f32(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

DEVICE uint32_t max_nan_f16x2(uint32_t a, uint32_t b) {
  uint32_t larger;
  asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}

DEVICE uint32_t max_nan_bf16x2(uint32_t a, uint32_t b) {
  uint32_t larger;
  asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
