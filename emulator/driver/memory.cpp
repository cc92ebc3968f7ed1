// Device and pinned memory, copies and fills.
//
// A copy is made when the stream runs it, except where the driver itself reads or writes the host's memory at the
// call: pageable memory (neither allocated nor registered here) is read at the call, and written before it returns.
#include "../simt/memory.h"

#include <stdio.h>
#include <string.h>

#include "driver.h"

namespace emulator {
namespace {

typedef uint64_t DevicePointer;

void* host(DevicePointer pointer) { return reinterpret_cast<void*>(pointer); }

// A device range that a copy or fill may touch.
bool valid(DevicePointer pointer, size_t bytes) { return bytes == 0 || global_contains(host(pointer), bytes); }

Result allocate(void** pointer, size_t bytes, MemoryKind kind) {
  if (bytes == 0) return kInvalidValue;
  if (kind == MemoryKind::kDevice) {
    const size_t limit = settings().memory_bytes;
    if (bytes > limit || global_in_use(kind).bytes > limit - bytes) return kOutOfMemory;
  }
  *pointer = global_allocate(bytes, kind, current_context()->device);
  return *pointer ? kSuccess : kOutOfMemory;
}

// Calls with no stream work on the default one and wait.
Result run_now(Operation operation) {
  if (forbidden_while_capturing()) return kStreamCaptureUnsupported;
  std::shared_ptr<Stream> stream;
  uint64_t ticket;
  {
    std::lock_guard lock(state);
    stream = current_context()->legacy;
    enqueue(stream, std::move(operation));
    ticket = stream->issued;
  }
  return run_until(stream, ticket);
}

// Memory of the driver's that an operation uses must still be there when it runs: a graph may outlive it.
Result still_there(const void* pointer, size_t bytes) {
  if (bytes == 0 || global_contains(pointer, bytes)) return kSuccess;
  char text[96];
  snprintf(text, sizeof text, "a copy or fill of %zu bytes at %p, which were freed", bytes, pointer);
  say(text);
  return kIllegalAddress;
}

Operation copy(void* target, const void* source, size_t bytes) {
  const bool owned_target = global_contains(target, bytes), owned_source = global_contains(source, bytes);
  return {[=]() -> Result {
    if (owned_target && still_there(target, bytes)) return kIllegalAddress;
    if (owned_source && still_there(source, bytes)) return kIllegalAddress;
    return memmove(target, source, bytes), kSuccess;
  }};
}

Operation fill(DevicePointer target, uint32_t value, size_t width, size_t count) {
  return {[=]() -> Result {
    if (still_there(host(target), width * count)) return kIllegalAddress;
    for (size_t i = 0; i < count; i++) memcpy(static_cast<char*>(host(target)) + i * width, &value, width);
    return kSuccess;
  }};
}

Result queue(void* handle, Operation operation) {
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  enqueue(stream, std::move(operation));
  return kSuccess;
}

bool capturing(void* handle) {
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  return stream && stream->capture;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuMemAlloc_v2(DevicePointer* pointer, size_t bytes) {
  ENTER(kContext);
  call_counters.device_memory++;
  REQUIRE(pointer, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  return allocate(reinterpret_cast<void**>(pointer), bytes, MemoryKind::kDevice);
}
EXPORT int cuMemAllocAsync(DevicePointer* pointer, size_t bytes, void* handle) {
  ENTER(kContext);
  call_counters.device_memory++;
  REQUIRE(pointer, kInvalidValue);
  if (capturing(handle)) {
    say("cuMemAllocAsync in a captured stream is not emulated");
    return kNotSupported;
  }
  return allocate(reinterpret_cast<void**>(pointer), bytes, MemoryKind::kDevice);
}
EXPORT int cuMemFree_v2(DevicePointer pointer) {
  ENTER(kContext);
  call_counters.device_memory++;
  if (pointer == 0) return kSuccess;
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  const Result result = run_all(current_context());  // what still uses it runs first
  REQUIRE(global_free(host(pointer), MemoryKind::kDevice), kInvalidValue);
  return result;
}
EXPORT int cuMemFreeAsync(DevicePointer pointer, void* handle) {
  ENTER(kContext);
  call_counters.device_memory++;
  REQUIRE(valid(pointer, 1), kInvalidValue);
  if (capturing(handle)) {
    say("cuMemFreeAsync in a captured stream is not emulated");
    return kNotSupported;
  }
  return queue(handle,
               {[pointer] { return global_free(host(pointer), MemoryKind::kDevice) ? kSuccess : kInvalidValue; }});
}
EXPORT int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  ENTER(kContext);
  call_counters.pinned_memory++;
  REQUIRE(pointer, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  return allocate(pointer, bytes, MemoryKind::kPinned);
}
EXPORT int cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
EXPORT int cuMemFreeHost(void* pointer) {
  ENTER(kContext);
  call_counters.pinned_memory++;
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  const Result result = run_all(current_context());
  REQUIRE(global_free(pointer, MemoryKind::kPinned), kInvalidValue);
  return result;
}
EXPORT int cuMemHostGetDevicePointer_v2(DevicePointer* device, void* pointer, unsigned) {
  ENTER(kContext);
  REQUIRE(device && global_contains(pointer, 1), kInvalidValue);
  *device = reinterpret_cast<DevicePointer>(pointer);
  return kSuccess;
}

// Of enum CUpointer_attribute and CUmemorytype.
enum { kMemoryType = 2, kDeviceOrdinal = 9 };
enum { kHostMemory = 1, kDeviceMemory = 2 };

EXPORT int cuPointerGetAttribute(void* value, int attribute, DevicePointer pointer) {
  ENTER(kContext);
  Allocation allocation;
  REQUIRE(value && global_find(host(pointer), &allocation), kInvalidValue);
  switch (attribute) {
    case kMemoryType:
      *static_cast<unsigned*>(value) = allocation.kind == MemoryKind::kDevice ? kDeviceMemory : kHostMemory;
      return kSuccess;
    case kDeviceOrdinal: *static_cast<int*>(value) = allocation.device; return kSuccess;
    default: say("pointer attribute " + std::to_string(attribute) + " is not emulated"); return kInvalidValue;
  }
}

EXPORT int cuMemcpyHtoD_v2(DevicePointer target, const void* source, size_t bytes) {
  ENTER(kContext);
  REQUIRE(valid(target, bytes) && (source || bytes == 0), kInvalidValue);
  return run_now(copy(host(target), source, bytes));
}
EXPORT int cuMemcpyDtoH_v2(void* target, DevicePointer source, size_t bytes) {
  ENTER(kContext);
  REQUIRE(valid(source, bytes) && (target || bytes == 0), kInvalidValue);
  return run_now(copy(target, host(source), bytes));
}
EXPORT int cuMemcpyDtoD_v2(DevicePointer target, DevicePointer source, size_t bytes) {
  ENTER(kContext);
  REQUIRE(valid(target, bytes) && valid(source, bytes), kInvalidValue);
  return run_now(copy(host(target), host(source), bytes));
}
EXPORT int cuMemcpyHtoDAsync_v2(DevicePointer target, const void* source, size_t bytes, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(target, bytes) && (source || bytes == 0), kInvalidValue);
  if (global_contains(source, bytes) || capturing(handle)) return queue(handle, copy(host(target), source, bytes));
  const auto staged =
      std::make_shared<std::vector<char>>(static_cast<const char*>(source), static_cast<const char*>(source) + bytes);
  const Operation from_staged = copy(host(target), staged->data(), bytes);
  return queue(handle, {[staged, from_staged] { return from_staged.run(); }});
}
EXPORT int cuMemcpyDtoHAsync_v2(void* target, DevicePointer source, size_t bytes, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(source, bytes) && (target || bytes == 0), kInvalidValue);
  const bool late = global_contains(target, bytes) || capturing(handle);
  if (const Result result = queue(handle, copy(target, host(source), bytes)); result || late) return result;
  std::shared_ptr<Stream> stream;
  uint64_t ticket;
  {
    std::lock_guard lock(state);
    stream = stream_of(handle);
    ticket = stream->issued;
  }
  return run_until(stream, ticket);
}
EXPORT int cuMemcpyDtoDAsync_v2(DevicePointer target, DevicePointer source, size_t bytes, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(target, bytes) && valid(source, bytes), kInvalidValue);
  return queue(handle, copy(host(target), host(source), bytes));
}
EXPORT int cuMemsetD8_v2(DevicePointer target, unsigned char value, size_t count) {
  ENTER(kContext);
  REQUIRE(valid(target, count), kInvalidValue);
  return run_now(fill(target, value, 1, count));
}
EXPORT int cuMemsetD32_v2(DevicePointer target, unsigned value, size_t count) {
  ENTER(kContext);
  REQUIRE(valid(target, count * 4), kInvalidValue);
  return run_now(fill(target, value, 4, count));
}
EXPORT int cuMemsetD8Async(DevicePointer target, unsigned char value, size_t count, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(target, count), kInvalidValue);
  return queue(handle, fill(target, value, 1, count));
}
EXPORT int cuMemsetD32Async(DevicePointer target, unsigned value, size_t count, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(target, count * 4), kInvalidValue);
  return queue(handle, fill(target, value, 4, count));
}
