// What tests ask of the emulated driver beyond the driver's own calls. Looked up by name in libcuda.so.1, where these
// exist the driver is emulated. All but the objects are about the calling thread and the launches it issued, whoever
// waits for them.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct awsnet_emulator_counters {
  uint64_t calls;         // driver calls
  uint64_t refused;       // of them, calls that are not emulated
  uint64_t launches;      // kernels run, those of replayed graphs included
  uint64_t bytes_loaded;  // from global memory, by kernels
  uint64_t bytes_stored;
  uint64_t device_memory_calls;  // driver calls that allocate or free device memory
  uint64_t pinned_memory_calls;
  uint64_t graph_launches;
  uint64_t dependent_launches;  // of the kernels run, those launched with programmatic stream serialisation
};
// Since the thread began. Launches count when they have run.
void awsnet_emulator_counters(struct awsnet_emulator_counters* out);

// The seed of the schedule (0: in order), and when asynchronous copies arrive: 0 at once, 1 as late as allowed, 2 either.
void awsnet_emulator_schedule(uint64_t seed, int delivery);

// Lets the call-th driver call from now return `result`; 0 takes it back.
void awsnet_emulator_fail(uint64_t call, int result);

// What is alive in the process: what a program that ended well has left is 0 everywhere.
struct awsnet_emulator_objects {
  uint64_t contexts;  // times that primary contexts are retained and not released
  uint64_t modules, streams, events, graphs, executable_graphs;
  uint64_t device_allocations, pinned_allocations;
  uint64_t device_bytes, pinned_bytes;
};
void awsnet_emulator_objects(struct awsnet_emulator_objects* out);

// Marks the live allocation that holds the byte at an address as one that a kernel has written, as the maps of a network
// are: no kernel may read it before it has waited for its predecessor.
void awsnet_emulator_written(uint64_t address);

// The index-th kernel there is, in no particular order; 0 beyond the last.
int awsnet_emulator_kernel(unsigned index, const char** name, size_t* params_bytes, unsigned* threads);

#ifdef __cplusplus
}
#endif
