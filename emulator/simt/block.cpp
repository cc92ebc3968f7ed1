#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <memory>
#include <numeric>
#include <vector>

#include "fiber.h"
#include "memory.h"
#include "sanitizers.h"

namespace emulator {

thread_local Schedule schedule;
thread_local Thread* current_thread;
thread_local Dim3 current_block, block_dim, grid_dim;

namespace {

constexpr unsigned kWarpLanes = 32;
constexpr unsigned kMaxThreads = 1024;          // of a block, on every architecture
constexpr size_t kMaxSharedBytes = 227 * 1024;  // of a block, on sm_90: the most there is
constexpr size_t kStackBytes = 128 * 1024;      // a kernel's frame is small; sanitizers make it larger
constexpr size_t kSharedAlignment = 1024;
constexpr size_t kRedZoneBytes = 1024;         // behind shared memory; an overrun writes here first
constexpr uint8_t kPoison = 0xff;              // all bits set: a NaN in f16, bf16 and f32
constexpr uint64_t kMaxSteps = 4'000'000'000;  // of one launch: far beyond any test, so the kernel does not end

struct Copy {
  uint8_t* target;
  const uint8_t* source;
  int bytes;
};

struct Lane : Thread {
  Fiber fiber;
  bool left = false;
  bool unordered = false;                       // it stored to global memory since its last barrier
  bool has_waited = false, has_let_in = false;  // griddepcontrol.wait, griddepcontrol.launch_dependents
  const char* waits_for = nullptr;              // "a barrier" or "a warp collective"
  Place waits_at = {nullptr, 0};
  std::vector<Copy> open_group;
  std::deque<std::vector<Copy>> groups;
};

struct Warp {
  unsigned arrived = 0;
  WarpOperation operation = nullptr;
  Place place = {nullptr, 0};
  void* arguments[kWarpLanes];
  Lane* lanes[kWarpLanes];
};

struct Launch {
  const Kernel* kernel;
  const void* params;
  size_t shared_bytes;
  unsigned threads;
  LaunchResult result;
  uint64_t random;
  uint64_t steps = 0;
  Fiber main;

  // Of the block that runs.
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::vector<Lane*> ready;  // ring: a lane is in it at most once
  unsigned ready_head = 0, ready_count = 0;
  unsigned left = 0, at_barrier = 0;
  Place barrier_place = {nullptr, 0};
  uint8_t* shared = nullptr;

  // Addresses for the race detector, which orders what is released before what acquires the same one.
  char* barrier_order = nullptr;  // of the block
  char ticket_order, end_order;

  uint64_t next_random() {  // xorshift64
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  }
  void make_ready(Lane* lane) { ready[(ready_head + ready_count++) % ready.size()] = lane; }
};

thread_local Launch* launch;

Lane* current() { return static_cast<Lane*>(current_thread); }

void go_to(Lane* lane) {
  Lane* from = current();
  if (from == lane) return;
  current_thread = lane;
  switch_to(from->fiber, lane->fiber, false);
}

[[noreturn]] void end_block() {  // back to run_block, for ever
  switch_to(current()->fiber, launch->main, true);
  abort();
}

// Runs some other lane that is ready; returns when this one is run again.
void wait_for_turn() {
  Launch& l = *launch;
  if (l.ready_count == 0) {
    if (l.left == l.threads) end_block();
    for (Lane& lane : l.lanes) {
      if (lane.left) continue;
      current_thread = &lane;
      char text[256];
      snprintf(text, sizeof text, "waits at %s for ever: %u of %u threads left the kernel, %u wait at a barrier",
               lane.waits_for, l.left, l.threads, l.at_barrier);
      // The stack in use is that of the lane that came last, so leave from there.
      if (l.result.text.empty()) {
        char where[256];
        snprintf(where, sizeof where, "%s, block (%u, %u, %u), thread (%u, %u, %u), %s:%d: ", l.kernel->name,
                 current_block.x, current_block.y, current_block.z, lane.index.x, lane.index.y, lane.index.z,
                 lane.waits_at.file, lane.waits_at.line);
        l.result = {Fault::kLaunchFailed, std::string(where) + text};
      }
      break;
    }
    end_block();
  }
  if (schedule.seed != 0) {
    const unsigned other = (l.ready_head + l.next_random() % l.ready_count) % l.ready.size();
    std::swap(l.ready[l.ready_head], l.ready[other]);
  }
  Lane* next = l.ready[l.ready_head];
  l.ready_head = (l.ready_head + 1) % l.ready.size();
  l.ready_count--;
  go_to(next);
}

// Lets others run first. With a seed, every wait for an asynchronous copy is such a point, so that a thread that does
// not wait for the right one meets all schedules.
void step_aside() {
  launch->make_ready(current());
  wait_for_turn();
}

void count_step(Place place) {
  if (++launch->steps > kMaxSteps) fault(place, Fault::kLaunchFailed, "the kernel does not end");
}

void deliver(std::vector<Copy>& group) {
  for (const Copy& copy : group) {
    IF_TSAN(__tsan_write_range(copy.target, 16));
    memcpy(copy.target, copy.source, copy.bytes);
    memset(copy.target + copy.bytes, 0, 16 - copy.bytes);
  }
  group.clear();
}

void run_lane() {
  fiber_started(launch->main);
  Lane* lane = current();
  launch->kernel->run(launch->params);
  if (!lane->open_group.empty())
    fault({launch->kernel->name, 0}, Fault::kLaunchFailed, "left with an asynchronous copy never committed");
  for (const auto& group : lane->groups) {
    if (!group.empty())
      fault({launch->kernel->name, 0}, Fault::kLaunchFailed, "left with an asynchronous copy never waited for");
  }
  if (!lane->has_waited)
    fault({launch->kernel->name, 0}, Fault::kLaunchFailed, "left without waiting for the kernel before it");
  if (!lane->has_let_in)
    fault({launch->kernel->name, 0}, Fault::kLaunchFailed, "left without letting the next kernel start");
  lane->left = true;
  launch->left++;
  IF_TSAN(__tsan_release(&launch->end_order));
  wait_for_turn();
  abort();
}

// Stacks and shared memory of blocks. The race detector must not see two blocks in the same memory, for nothing orders
// them; with it, every block gets fresh memory and all of it goes at the end of the launch.
struct BlockMemory {
  std::vector<void*> stacks;
  std::vector<uint8_t*> shared;
  std::vector<void*> contexts;
  std::vector<std::vector<Lane>> lanes;
  std::deque<char> barrier_orders;  // one a block: a barrier orders nothing between blocks

  ~BlockMemory() {
    keep(stacks);
    for (uint8_t* memory : shared) free(memory);
    IF_TSAN(for (void* context : contexts) __tsan_destroy_fiber(context));
  }
  void* stack(unsigned lane) {
    IF_TSAN(lane = static_cast<unsigned>(stacks.size()));
    if (lane >= stacks.size()) stacks.push_back(new_stack());
    return stacks[lane];
  }

 private:
  // Stacks of earlier launches on this thread.
  struct Spare {
    std::vector<void*> stacks;
    ~Spare() {
      for (void* stack : stacks) unmap_stack(stack, kStackBytes);
    }
  };
  static Spare& spare() {
    static thread_local Spare all;
    return all;
  }
  static void* new_stack() {
    std::vector<void*>& all = spare().stacks;
    if (all.empty()) return map_stack(kStackBytes);
    void* stack = all.back();
    all.pop_back();
    return stack;
  }
  static void keep(std::vector<void*>& stacks) {
    std::vector<void*>& all = spare().stacks;
    all.insert(all.end(), stacks.begin(), stacks.end());
    IF_TSAN(for (void* stack : all) unmap_stack(stack, kStackBytes); all.clear());
  }

 public:
  uint8_t* shared_memory(size_t bytes) {
    bool fresh = shared.empty();
    IF_TSAN(fresh = true);
    if (fresh) {
      void* memory = nullptr;
      if (posix_memalign(&memory, kSharedAlignment, bytes + kRedZoneBytes) != 0) abort();
      shared.push_back(static_cast<uint8_t*>(memory));
    }
    return shared.back();
  }
};

void run_block(Launch& l, BlockMemory& memory, Dim3 block) {
  l.left = l.at_barrier = l.ready_head = l.ready_count = 0;
  IF_TSAN(memory.lanes.push_back(std::move(l.lanes)));
  l.lanes = std::vector<Lane>(l.threads);
  l.barrier_order = &memory.barrier_orders.emplace_back();
  l.warps.assign(l.threads / kWarpLanes, Warp{});
  l.ready.assign(l.threads, nullptr);
  l.shared = memory.shared_memory(l.shared_bytes);
  memset(l.shared, kPoison, l.shared_bytes + kRedZoneBytes);
  IF_ASAN(__asan_poison_memory_region(l.shared + l.shared_bytes, kRedZoneBytes));
  for (unsigned i = 0; i < l.threads; i++) {
    Lane& lane = l.lanes[i];
    lane.index = Dim3{i % block.x, i / block.x % block.y, i / block.x / block.y};
    lane.lane = i % kWarpLanes;
    lane.warp = i / kWarpLanes;
    prepare_fiber(lane.fiber, memory.stack(i), kStackBytes, run_lane);
    IF_TSAN(memory.contexts.push_back(lane.fiber.tsan));
    l.make_ready(&lane);
  }
  // The first lane; the others follow from lane to lane, and the last one comes back here.
  Lane* first = l.ready[0];
  l.ready_head = 1;
  l.ready_count--;
  current_thread = first;
  switch_to(l.main, first->fiber, false);
  current_thread = nullptr;
  IF_ASAN(__asan_unpoison_memory_region(l.shared + l.shared_bytes, kRedZoneBytes));
  if (!l.result.text.empty()) return;
  for (size_t i = 0; i < kRedZoneBytes; i++) {
    if (l.shared[l.shared_bytes + i] != kPoison) {
      char text[160];
      snprintf(text, sizeof text, "%s, block (%u, %u, %u): wrote shared memory %zu bytes past its end", l.kernel->name,
               current_block.x, current_block.y, current_block.z, i);
      l.result = {Fault::kLaunchFailed, text};
      return;
    }
  }
}

Kernel* kernels;

}  // namespace

RegisteredKernel::RegisteredKernel(const char* name, size_t bytes, unsigned threads, void (*run)(const void*))
    : Kernel{name, bytes, threads, run, kernels} {
  kernels = this;
}

const Kernel* first_kernel() { return kernels; }

const Kernel* find_kernel(const char* name) {
  for (const Kernel* k = kernels; k; k = k->next) {
    if (strcmp(k->name, name) == 0) return k;
  }
  return nullptr;
}

LaunchResult run_launch(const Kernel& kernel, Dim3 grid, Dim3 block, size_t shared_bytes, const void* params) {
  Launch l;
  l.kernel = &kernel;
  l.params = params;
  l.shared_bytes = shared_bytes;
  l.threads = block.x * block.y * block.z;
  l.random = schedule.seed * 0x9E3779B97F4A7C15ull | 1;  // any odd number; 2^64 / golden ratio spreads small seeds
  if (l.threads == 0 || l.threads > kMaxThreads || l.threads % kWarpLanes != 0 || shared_bytes > kMaxSharedBytes) {
    return {Fault::kLaunchFailed, std::string(kernel.name) + ": a launch of " + std::to_string(l.threads) +
                                      " threads and " + std::to_string(shared_bytes) + " bytes of shared memory"};
  }
  counters.launches++;
  block_dim = block;
  grid_dim = grid;
  const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  if (schedule.seed != 0) {
    for (uint64_t i = blocks; i > 1; i--) std::swap(order[i - 1], order[l.next_random() % i]);
  }
  launch = &l;
  IF_TSAN(l.main.tsan = __tsan_get_current_fiber());
  {
    BlockMemory memory;
    for (uint64_t i : order) {
      current_block = Dim3{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                           static_cast<unsigned>(i / grid.x / grid.y)};
      run_block(l, memory, block);
      if (!l.result.text.empty()) break;
    }
    IF_TSAN(__tsan_acquire(&l.end_order));
    l.lanes.clear();
  }
  launch = nullptr;
  return l.result;
}

void fault(Place place, Fault kind, const char* format, ...) {
  Launch& l = *launch;
  if (l.result.text.empty()) {
    char what[256], where[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    const Lane& lane = *current();
    snprintf(where, sizeof where, "%s, block (%u, %u, %u), thread (%u, %u, %u), %s:%d: %s", l.kernel->name,
             current_block.x, current_block.y, current_block.z, lane.index.x, lane.index.y, lane.index.z, place.file,
             place.line, what);
    l.result = {kind, where};
  }
  end_block();
}

void barrier(Place place) {
  Launch& l = *launch;
  Lane* lane = current();
  count_step(place);
  if (l.at_barrier > 0 && (l.barrier_place.line != place.line || l.barrier_place.file != place.file)) {
    fault(place, Fault::kLaunchFailed, "arrives at this barrier while other threads of the block wait at %s:%d",
          l.barrier_place.file, l.barrier_place.line);
  }
  l.barrier_place = place;
  lane->waits_for = "a barrier";
  lane->waits_at = place;
  IF_TSAN(__tsan_release(l.barrier_order));
  if (++l.at_barrier < l.threads) {
    wait_for_turn();
  } else {
    l.at_barrier = 0;
    for (Lane& other : l.lanes) {
      other.unordered = false;
      if (&other != lane) l.make_ready(&other);
    }
    if (schedule.seed != 0) step_aside();
  }
  IF_TSAN(__tsan_acquire(l.barrier_order));
}

void warp_collective(Place place, WarpOperation operation, void* argument) {
  Launch& l = *launch;
  Lane* lane = current();
  count_step(place);
  Warp& warp = l.warps[lane->warp];
  if (warp.arrived > 0 && (warp.operation != operation || warp.place.line != place.line)) {
    fault(place, Fault::kLaunchFailed, "arrives at this warp collective while other lanes of the warp wait at %s:%d",
          warp.place.file, warp.place.line);
  }
  warp.operation = operation;
  warp.place = place;
  warp.arguments[lane->lane] = argument;
  warp.lanes[warp.arrived++] = lane;
  lane->waits_for = "a warp collective";
  lane->waits_at = place;
  if (warp.arrived < kWarpLanes) {
    wait_for_turn();
    return;
  }
  operation(warp.arguments);
  warp.arrived = 0;
  for (Lane* other : warp.lanes) {
    if (other != lane) l.make_ready(other);
  }
}

uint8_t* shared_memory() { return launch->shared; }

void check_shared(Place place, const void* pointer, size_t bytes, size_t alignment) {
  const uintptr_t offset = reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(launch->shared);
  if (offset > launch->shared_bytes || launch->shared_bytes - offset < bytes) {
    fault(place, Fault::kIllegalAddress, "%zu bytes at offset %td of %zu bytes of shared memory", bytes,
          static_cast<ptrdiff_t>(offset), launch->shared_bytes);
  }
  if (offset % alignment != 0)
    fault(place, Fault::kMisalignedAddress, "shared memory offset %zu is no multiple of %zu", offset, alignment);
  IF_TSAN(__tsan_read_range(const_cast<void*>(pointer), bytes));
}

void await_dependencies(Place place) {
  count_step(place);
  if (current()->has_waited) fault(place, Fault::kLaunchFailed, "waits for the kernel before it again");
  current()->has_waited = true;
}

void launch_dependents(Place place) {
  if (!current()->has_waited)
    fault(place, Fault::kLaunchFailed, "lets the next kernel start before it has waited for the one before it");
  current()->has_let_in = true;
}

// Of a read: it may come before the wait where no kernel ever wrote.
static void check_order(Place place, const void* pointer) {
  if (current()->has_waited || !global_written(pointer)) return;
  fault(place, Fault::kLaunchFailed, "reads %p, which kernels write, before it has waited for the kernel before it",
        pointer);
}

static void check_global(Place place, const void* pointer, size_t bytes, const char* access, bool writes) {
  count_step(place);
  if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0) {
    fault(place, Fault::kMisalignedAddress, "%s %zu bytes of global memory at %p, no multiple of them", access, bytes,
          pointer);
  }
  if (!global_contains(pointer, bytes, writes)) {
    fault(place, Fault::kIllegalAddress, "%s %zu bytes at %p, outside of any live allocation", access, bytes, pointer);
  }
  if (writes && !current()->has_waited) {
    fault(place, Fault::kLaunchFailed, "%s to %p before it has waited for the kernel before it", access, pointer);
  }
}

void check_load(Place place, const void* pointer, size_t bytes) {
  check_global(place, pointer, bytes, "loads", false);
  check_order(place, pointer);
  counters.bytes_loaded += bytes;
}

void check_store(Place place, const void* pointer, size_t bytes) {
  check_global(place, pointer, bytes, "stores", true);
  current()->unordered = true;
  counters.bytes_stored += bytes;
}

// To the race detector, what a counter hands from block to block is what its thread knows when it draws: its own stores
// and those that a barrier put before it, if that is all of the block's; and it reaches whoever draws later.
uint32_t draw_ticket(Place place, uint32_t* counter) {
  check_global(place, counter, sizeof *counter, "increments", true);
  bool ordered = true;
  for (const Lane& lane : launch->lanes) ordered = ordered && (&lane == current() || !lane.unordered);
  if (ordered) {
    IF_TSAN(__tsan_release(&launch->ticket_order));
  }
  IF_TSAN(__tsan_acquire(&launch->ticket_order));
  return (*counter)++;  // an OS thread runs all blocks of a launch: nothing comes between
}

void copy_start(Place place, void* target, const void* source, bool there) {
  count_step(place);
  const int bytes = there ? 16 : 0;
  check_shared(place, target, 16, 16);
  if (reinterpret_cast<uintptr_t>(source) % 16 != 0)
    fault(place, Fault::kMisalignedAddress, "copies from %p, no multiple of 16", source);
  if (bytes > 0 && !global_contains(source, bytes)) {
    fault(place, Fault::kIllegalAddress, "copies %d bytes from %p, outside of any live allocation", bytes, source);
  }
  if (bytes > 0) check_order(place, source);
  counters.bytes_loaded += bytes;
  IF_TSAN(__tsan_write_range(target, 16); if (bytes > 0) __tsan_read_range(const_cast<void*>(source), bytes));
  Lane* lane = current();
  const Copy copy{static_cast<uint8_t*>(target), static_cast<const uint8_t*>(source), bytes};
  const bool now = schedule.delivery == Delivery::kAtIssue ||
                   (schedule.delivery == Delivery::kRandom && launch->next_random() % 2 == 0);
  if (now) {
    std::vector<Copy> one{copy};
    deliver(one);
  } else {
    memset(target, kPoison, 16);
    lane->open_group.push_back(copy);
  }
}

void copy_commit() {
  Lane* lane = current();
  lane->groups.push_back(std::move(lane->open_group));
  lane->open_group.clear();
}

void copy_wait(int pending) {
  if (schedule.seed != 0) step_aside();
  Lane* lane = current();
  while (static_cast<int>(lane->groups.size()) > pending) {
    deliver(lane->groups.front());
    lane->groups.pop_front();
  }
}

}  // namespace emulator
