// Device and pinned memory, copies and fills.
//
// A copy is made when the stream runs it, except where the driver itself reads or writes the host's memory at the
// call: pageable memory (neither allocated nor registered here) is read at the call, and written before it returns.
#include "../simt/memory.h"

#include <string.h>

#include "driver.h"

namespace emulator {
namespace {

typedef uint64_t DevicePointer;

void* host(DevicePointer pointer) { return reinterpret_cast<void*>(pointer); }

// A device range that a copy or fill may touch.
bool valid(DevicePointer pointer, size_t bytes) { return bytes == 0 || global_contains(host(pointer), bytes); }

Result allocate(void** pointer, size_t bytes) {
  if (bytes == 0) return kInvalidValue;
  if (bytes > settings().memory_bytes || global_bytes_in_use() > settings().memory_bytes - bytes) return kOutOfMemory;
  *pointer = global_allocate(bytes);
  return *pointer ? kSuccess : kOutOfMemory;
}

// Calls with no stream work on the default one and wait.
Result run_now(std::function<Result()> run) {
  if (forbidden_while_capturing()) return kStreamCaptureUnsupported;
  std::shared_ptr<Stream> stream;
  uint64_t ticket;
  {
    std::lock_guard lock(state);
    stream = current_context()->legacy;
    enqueue(stream, std::move(run));
    ticket = stream->issued;
  }
  return run_until(stream, ticket);
}

std::function<Result()> copy(void* target, const void* source, size_t bytes) {
  return [=] { return memmove(target, source, bytes), kSuccess; };
}

std::function<Result()> fill(DevicePointer target, uint32_t value, size_t width, size_t count) {
  return [=] {
    for (size_t i = 0; i < count; i++) memcpy(static_cast<char*>(host(target)) + i * width, &value, width);
    return kSuccess;
  };
}

Result queue(void* handle, std::function<Result()> run) {
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  enqueue(stream, std::move(run));
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
  REQUIRE(pointer, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  return allocate(reinterpret_cast<void**>(pointer), bytes);
}
EXPORT int cuMemAllocAsync(DevicePointer* pointer, size_t bytes, void* handle) {
  ENTER(kContext);
  REQUIRE(pointer, kInvalidValue);
  if (capturing(handle)) {
    say("cuMemAllocAsync in a captured stream is not emulated");
    return kNotSupported;
  }
  return allocate(reinterpret_cast<void**>(pointer), bytes);
}
EXPORT int cuMemFree_v2(DevicePointer pointer) {
  ENTER(kContext);
  if (pointer == 0) return kSuccess;
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  const Result result = run_all(current_context());  // what still uses it runs first
  REQUIRE(global_free(host(pointer)), kInvalidValue);
  return result;
}
EXPORT int cuMemFreeAsync(DevicePointer pointer, void* handle) {
  ENTER(kContext);
  REQUIRE(valid(pointer, 1), kInvalidValue);
  if (capturing(handle)) {
    say("cuMemFreeAsync in a captured stream is not emulated");
    return kNotSupported;
  }
  return queue(handle, [pointer] { return global_free(host(pointer)) ? kSuccess : kInvalidValue; });
}
EXPORT int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  ENTER(kContext);
  REQUIRE(pointer, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  return allocate(pointer, bytes);
}
EXPORT int cuMemAllocHost_v2(void** pointer, size_t bytes) { return cuMemHostAlloc(pointer, bytes, 0); }
EXPORT int cuMemFreeHost(void* pointer) {
  ENTER(kContext);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  const Result result = run_all(current_context());
  REQUIRE(global_free(pointer), kInvalidValue);
  return result;
}
EXPORT int cuMemHostGetDevicePointer_v2(DevicePointer* device, void* pointer, unsigned) {
  ENTER(kContext);
  REQUIRE(device && global_contains(pointer, 1), kInvalidValue);
  *device = reinterpret_cast<DevicePointer>(pointer);
  return kSuccess;
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
  return queue(handle, [=] { return memcpy(host(target), staged->data(), bytes), kSuccess; });
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
