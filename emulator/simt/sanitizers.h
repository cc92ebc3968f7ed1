// What the sanitizers must be told about fibers and about accesses that the runtime makes for a kernel.
//
// The kernels are compiled with a sanitizer, the runtime is not; the runtime is told which one by
// AWSNET_EMULATOR_ASAN or AWSNET_EMULATOR_TSAN. Without either, everything here is empty.
#pragma once
#include <stddef.h>

#if defined(AWSNET_EMULATOR_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_bytes);
void __asan_poison_memory_region(const volatile void*, size_t);
void __asan_unpoison_memory_region(const volatile void*, size_t);
}
#define IF_ASAN(...) __VA_ARGS__
#else
#define IF_ASAN(...)
#endif

#if defined(AWSNET_EMULATOR_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned flags);
void __tsan_acquire(void*);
void __tsan_release(void*);
void __tsan_read_range(void*, size_t);
void __tsan_write_range(void*, size_t);
}
#define IF_TSAN(...) __VA_ARGS__
#else
#define IF_TSAN(...)
#endif
