#include "fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sanitizers.h"

#if !defined(AWSNET_EMULATOR_UCONTEXT)
// Saves what a call must preserve (System V ABI, x86-64) on the stack of the fiber left, and takes it from the stack of
// the one entered: save in *rdi, go on at rsi.
extern "C" void awsnet_emulator_switch(void** save, void* resume);
asm(R"(
.text
.type awsnet_emulator_switch, @function
awsnet_emulator_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size awsnet_emulator_switch, .-awsnet_emulator_switch
)");
constexpr size_t kSavedRegisters = 6;
#endif

namespace emulator {

void* map_stack(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* base = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED || mprotect(base, page, PROT_NONE) != 0) {
    fprintf(stderr, "emulator: no memory for the stack of a thread\n");
    abort();
  }
  return static_cast<char*>(base) + page;
}

void unmap_stack(void* stack, size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  munmap(static_cast<char*>(stack) - page, bytes + page);
}

void prepare_fiber(Fiber& fiber, void* stack, size_t bytes, void (*entry)()) {
  fiber.stack = stack;
  fiber.stack_bytes = bytes;
  fiber.asan_stack = nullptr;
  IF_ASAN(__asan_unpoison_memory_region(stack, bytes));
  IF_TSAN(fiber.tsan = __tsan_create_fiber(0));
#if defined(AWSNET_EMULATOR_UCONTEXT)
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = stack;
  fiber.context.uc_stack.ss_size = bytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, entry, 0);
#else
  // As awsnet_emulator_switch leaves a stack: registers, then where to go on. One word more aligns the stack as a call
  // does: entry finds it 8 bytes off a multiple of 16.
  void** top = reinterpret_cast<void**>(static_cast<char*>(stack) + bytes) - 2;
  *top = reinterpret_cast<void*>(entry);
  top -= kSavedRegisters;
  memset(top, 0, kSavedRegisters * sizeof(void*));
  fiber.stack_pointer = top;
#endif
}

void fiber_started(Fiber& creator) {
  (void)creator;
  IF_ASAN(const void* bottom; size_t bytes; __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
          if (!creator.stack) {
            creator.stack = const_cast<void*>(bottom);
            creator.stack_bytes = bytes;
          })
}

void switch_to(Fiber& from, Fiber& to, bool leaving) {
  (void)leaving;
  IF_TSAN(__tsan_switch_to_fiber(to.tsan, 1));  // 1: a switch orders nothing, only barriers do
  IF_ASAN(__sanitizer_start_switch_fiber(leaving ? nullptr : &from.asan_stack, to.stack, to.stack_bytes));
#if defined(AWSNET_EMULATOR_UCONTEXT)
  swapcontext(&from.context, &to.context);
#else
  awsnet_emulator_switch(&from.stack_pointer, to.stack_pointer);
#endif
  IF_ASAN(__sanitizer_finish_switch_fiber(from.asan_stack, nullptr, nullptr));
}

}  // namespace emulator
