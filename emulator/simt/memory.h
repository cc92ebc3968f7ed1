// Global memory as kernels see it: the live allocations. Every access of a kernel is looked up here.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace emulator {

enum class MemoryKind { kDevice = 0, kPinned = 1 };

struct Allocation {
  size_t bytes;
  MemoryKind kind;
  int device;
  bool written;  // by a kernel, ever
};

// A fresh allocation reads as NaN in every type (all bits set), and holds what it is given from then on.
void* global_allocate(size_t bytes, MemoryKind kind, int device);
// False if `pointer` is not the start of a live allocation of this kind.
bool global_free(void* pointer, MemoryKind kind);
// Whether [pointer, pointer + bytes) lies in one live allocation; one that is `written` stays marked so.
bool global_contains(const void* pointer, size_t bytes, bool written = false);
// Whether the live allocation that holds the byte at `pointer` was ever written by a kernel.
bool global_written(const void* pointer);
// The live allocation that holds the byte at `pointer`; false if there is none.
bool global_find(const void* pointer, Allocation* allocation);

struct MemoryInUse {
  size_t bytes, allocations;
};
MemoryInUse global_in_use(MemoryKind kind);

// What the kernels that this thread runs did.
struct Counters {
  uint64_t launches, bytes_loaded, bytes_stored, dependent_launches;
};
extern thread_local Counters counters;

}  // namespace emulator
