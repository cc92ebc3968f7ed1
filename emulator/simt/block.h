// A launch: blocks one after the other, the threads of a block as fibers, and what happens between threads.
//
// The rules a kernel must keep, and what breaks them:
//   barrier     all threads of the block arrive at the same one; a thread that left or waits elsewhere is a fault
//   collective  (mma, ldmatrix, shuffle) all 32 lanes arrive at the same one; the last one computes for all
//   copies      an asynchronous copy arrives as late as its waits allow (Delivery), and until then its destination
//               reads as NaN; a thread that leaves with copies never waited for is a fault
//   dependency  a kernel may start before its predecessor has ended: until a thread has waited for that, it touches
//               nothing that a kernel ever wrote, and writes nothing; a thread that leaves without having waited, or
//               without having let the next launch start behind its wait, is a fault
// Shared memory starts as NaN. A fault names block, thread and place, ends the launch and is never a hang.
//
// The schedule is a function of the seed: 0 runs threads and blocks in order, any other shuffles both.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <string>

namespace emulator {

struct Dim3 {
  unsigned x, y, z;
};

// The kernel-visible part of a CUDA thread.
struct Thread {
  Dim3 index;
  unsigned lane, warp;
};

enum class Delivery { kAtIssue = 0, kAtWait = 1, kRandom = 2 };

struct Schedule {
  uint64_t seed = 0;
  Delivery delivery = Delivery::kAtWait;
};
// Of the launch that this OS thread runs next.
extern thread_local Schedule schedule;

// Where in a kernel something happens.
struct Place {
  const char* file;
  int line;
};

extern thread_local Thread* current_thread;
extern thread_local Dim3 current_block, block_dim, grid_dim;

struct Kernel {
  const char* name;
  size_t params_bytes;
  unsigned threads;  // of a block: the launch bounds
  void (*run)(const void* params);
  Kernel* next;
};
// Adds a kernel to those that find_kernel knows; called before main by each definition of a kernel.
struct RegisteredKernel : Kernel {
  RegisteredKernel(const char* name, size_t params_bytes, unsigned threads, void (*run)(const void*));
};
const Kernel* find_kernel(const char* name);
const Kernel* first_kernel();

// What ended a launch, and the driver's code for it.
enum class Fault { kNone = 0, kIllegalAddress = 700, kMisalignedAddress = 716, kLaunchFailed = 719 };
struct LaunchResult {
  Fault fault = Fault::kNone;
  std::string text;
};
LaunchResult run_launch(const Kernel& kernel, Dim3 grid, Dim3 block, size_t shared_bytes, const void* params);

// Called by a running kernel -------------------------------------------------------------------------------------

[[noreturn]] void fault(Place place, Fault kind, const char* format, ...) __attribute__((format(printf, 3, 4)));

void barrier(Place place);

// Waits for the 32 lanes of the warp; the last one to arrive calls `operation` with the arguments of all.
typedef void (*WarpOperation)(void* const (&arguments)[32]);
void warp_collective(Place place, WarpOperation operation, void* argument);

uint8_t* shared_memory();
// Faults unless [pointer, pointer + bytes) is shared memory of this block, `alignment`-aligned.
void check_shared(Place place, const void* pointer, size_t bytes, size_t alignment);

// Fault unless the range is live global memory, `bytes`-aligned; count it.
void check_load(Place place, const void* pointer, size_t bytes);
void check_store(Place place, const void* pointer, size_t bytes);

void await_dependencies(Place place);
void launch_dependents(Place place);

uint32_t draw_ticket(Place place, uint32_t* counter);

void copy_start(Place place, void* target, const void* source, bool there);
void copy_commit();
void copy_wait(int pending);

}  // namespace emulator
