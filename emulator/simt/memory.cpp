#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include <map>
#include <mutex>
#include <shared_mutex>

namespace emulator {

thread_local Counters counters;

namespace {

struct Allocations {
  std::shared_mutex mutex;
  std::map<uintptr_t, size_t> bytes_at;
  size_t in_use = 0;
  uint64_t generation = 1;  // changes with every free: what a thread remembers from before is stale
};

Allocations& allocations() {
  static Allocations* all = new Allocations;  // lives as long as the process: kernels may run while it exits
  return *all;
}

// The allocations that this thread's kernels touched last.
struct Remembered {
  uint64_t generation;
  uintptr_t begin, end;
};
constexpr size_t kRemembered = 8;  // the maps, weights and arrays of one kernel
thread_local Remembered remembered[kRemembered];
thread_local unsigned oldest;

constexpr size_t kAlignment = 256;  // what cuMemAlloc promises

}  // namespace

void* global_allocate(size_t bytes) {
  void* pointer = nullptr;
  if (posix_memalign(&pointer, kAlignment, bytes) != 0) return nullptr;
  memset(pointer, 0xff, bytes);
  Allocations& all = allocations();
  std::unique_lock lock(all.mutex);
  all.bytes_at[reinterpret_cast<uintptr_t>(pointer)] = bytes;
  all.in_use += bytes;
  return pointer;
}

bool global_free(void* pointer) {
  Allocations& all = allocations();
  {
    std::unique_lock lock(all.mutex);
    const auto found = all.bytes_at.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == all.bytes_at.end()) return false;
    all.in_use -= found->second;
    all.bytes_at.erase(found);
    __atomic_fetch_add(&all.generation, 1, __ATOMIC_RELEASE);
  }
  free(pointer);
  return true;
}

bool global_contains(const void* pointer, size_t bytes) {
  Allocations& all = allocations();
  const uintptr_t begin = reinterpret_cast<uintptr_t>(pointer), end = begin + bytes;
  const uint64_t generation = __atomic_load_n(&all.generation, __ATOMIC_ACQUIRE);
  for (const Remembered& r : remembered) {
    if (r.generation == generation && r.begin <= begin && end <= r.end) return true;
  }
  std::shared_lock lock(all.mutex);
  auto next = all.bytes_at.upper_bound(begin);
  if (next == all.bytes_at.begin()) return false;
  --next;
  if (begin - next->first > next->second || next->second - (begin - next->first) < bytes) return false;
  remembered[oldest++ % kRemembered] = Remembered{all.generation, next->first, next->first + next->second};
  return true;
}

size_t global_bytes_in_use() {
  Allocations& all = allocations();
  std::shared_lock lock(all.mutex);
  return all.in_use;
}

}  // namespace emulator
