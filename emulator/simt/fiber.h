// A fiber: a stack of its own and a place to go on from. Every CUDA thread of a running block is one.
//
// Fibers of one block run on one OS thread, one at a time; `switch_to` is the only way from one to another.
#pragma once
#include <stddef.h>

#if !defined(__x86_64__) && !defined(AWSNET_EMULATOR_UCONTEXT)
#define AWSNET_EMULATOR_UCONTEXT 1
#endif
#if defined(AWSNET_EMULATOR_UCONTEXT)
#include <ucontext.h>
#endif

namespace emulator {

struct Fiber {
#if defined(AWSNET_EMULATOR_UCONTEXT)
  ucontext_t context;
#else
  void* stack_pointer = nullptr;
#endif
  void* stack = nullptr;  // null: the OS thread's own
  size_t stack_bytes = 0;
  void* asan_stack = nullptr;
  void* tsan = nullptr;
};

// A stack with an unmapped page below it, so that an overrun faults instead of spoiling its neighbour.
void* map_stack(size_t bytes);
void unmap_stack(void* stack, size_t bytes);

// Makes `fiber` start with `entry` when it is first switched to. `entry` never returns.
void prepare_fiber(Fiber& fiber, void* stack, size_t bytes, void (*entry)());

// The first thing `entry` does. `creator` is the fiber that switched to it.
void fiber_started(Fiber& creator);

// Goes on with `to`; returns when somebody switches back. A fiber that is `leaving` is never resumed.
void switch_to(Fiber& from, Fiber& to, bool leaving);

}  // namespace emulator
