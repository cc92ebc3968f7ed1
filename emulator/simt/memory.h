// Global memory as kernels see it: the live allocations. Every access of a kernel is looked up here.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace emulator {

// A fresh allocation reads as NaN in every type (all bits set), and holds what it is given from then on.
void* global_allocate(size_t bytes);
// False if `pointer` is not the start of a live allocation.
bool global_free(void* pointer);
// Whether [pointer, pointer + bytes) lies in one live allocation.
bool global_contains(const void* pointer, size_t bytes);
size_t global_bytes_in_use();

// What the kernels that this thread runs did.
struct Counters {
  uint64_t launches, bytes_loaded, bytes_stored;
};
extern thread_local Counters counters;

}  // namespace emulator
