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
  std::map<uintptr_t, Allocation> at;  // by first address
  MemoryInUse in_use[2] = {};          // by kind
  uint64_t generation = 1;             // changes with every free: what a thread remembers from before is stale

  // The allocation that holds the byte at an address; at.end() if there is none.
  std::map<uintptr_t, Allocation>::const_iterator holding(uintptr_t address) const {
    auto next = at.upper_bound(address);
    if (next == at.begin()) return at.end();
    --next;
    return address - next->first < next->second.bytes ? next : at.end();
  }
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

void* global_allocate(size_t bytes, MemoryKind kind, int device) {
  void* pointer = nullptr;
  if (posix_memalign(&pointer, kAlignment, bytes) != 0) return nullptr;
  memset(pointer, 0xff, bytes);
  Allocations& all = allocations();
  std::unique_lock lock(all.mutex);
  all.at[reinterpret_cast<uintptr_t>(pointer)] = Allocation{bytes, kind, device};
  MemoryInUse& in_use = all.in_use[static_cast<int>(kind)];
  in_use.bytes += bytes;
  in_use.allocations++;
  return pointer;
}

bool global_free(void* pointer, MemoryKind kind) {
  Allocations& all = allocations();
  {
    std::unique_lock lock(all.mutex);
    const auto found = all.at.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == all.at.end() || found->second.kind != kind) return false;
    MemoryInUse& in_use = all.in_use[static_cast<int>(kind)];
    in_use.bytes -= found->second.bytes;
    in_use.allocations--;
    all.at.erase(found);
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
  const auto found = all.holding(begin);
  if (found == all.at.end() || found->second.bytes - (begin - found->first) < bytes) return false;
  remembered[oldest++ % kRemembered] = Remembered{all.generation, found->first, found->first + found->second.bytes};
  return true;
}

bool global_find(const void* pointer, Allocation* allocation) {
  Allocations& all = allocations();
  std::shared_lock lock(all.mutex);
  const auto found = all.holding(reinterpret_cast<uintptr_t>(pointer));
  if (found == all.at.end()) return false;
  *allocation = found->second;
  return true;
}

MemoryInUse global_in_use(MemoryKind kind) {
  Allocations& all = allocations();
  std::shared_lock lock(all.mutex);
  return all.in_use[static_cast<int>(kind)];
}

}  // namespace emulator
