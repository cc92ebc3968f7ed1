// Initialisation, devices, primary contexts and each thread's stack of current contexts.
#include <stdio.h>
#include <string.h>

#include <atomic>
#include <thread>

#include "../simt/memory.h"
#include "driver.h"

namespace emulator {

std::mutex state;
std::condition_variable progress;

namespace {

std::atomic<bool> is_initialized{false};

thread_local std::vector<Context*> context_stack;

struct Attribute {
  int id, value;
};

bool attribute_value(int id, int* value) {
  const Attribute fixed[] = {
      {1, 1024},        // threads a block
      {2, 1024},        // threads in x
      {3, 1024},        // threads in y
      {4, 64},          // threads in z
      {5, 2147483647},  // blocks in x
      {6, 65535},       // blocks in y
      {7, 65535},       // blocks in z
      {8, 48 * 1024},   // shared memory a block, without opting in
      {9, 65536},       // constant memory
      {10, 32},         // lanes a warp
      {12, 65536},      // registers a block
      {13, 1755000},    // clock, kHz
      {31, 1},          // concurrent kernels
      {33, 0},          // PCI bus
      {34, 0},          // PCI device
      {36, 2619000},    // memory clock, kHz
      {37, 5120},       // memory bus, bits
      {38, 50 << 20},   // L2 cache
      {39, 2048},       // threads a multiprocessor
      {40, 1},          // asynchronous engines
      {41, 1},          // unified addressing
      {50, 0},          // PCI domain
      {82, 65536},      // registers a multiprocessor
      {95, 0},          // cooperative launch
      {106, 32},        // blocks a multiprocessor
      {111, 1024},      // shared memory reserved for the system, a block
      {115, 1},         // memory pools
  };
  if (id == 75) return *value = settings().capability_major, true;
  if (id == 76) return *value = settings().capability_minor, true;
  if (id == 16) return *value = settings().multiprocessors, true;
  if (id == 97) return *value = shared_bytes_optin(), true;
  if (id == 81) return *value = shared_bytes_optin() + 1024, true;  // of a multiprocessor
  for (const Attribute& a : fixed) {
    if (a.id == id) return *value = a.value, true;
  }
  return false;
}

}  // namespace

int shared_bytes_optin() {
  const int capability = settings().capability_major * 10 + settings().capability_minor;
  switch (capability) {
    case 80:
    case 87: return 163 * 1024;
    case 86:
    case 89:
    case 120:
    case 121: return 99 * 1024;
    default: return capability >= 90 ? 227 * 1024 : 64 * 1024;
  }
}

Context* primary_context(int device) {
  static Context* contexts = new Context[kMaxDevices];
  return &contexts[device];
}

bool initialized() { return is_initialized; }
Context* current_context() { return context_stack.empty() ? nullptr : context_stack.back(); }

}  // namespace emulator

using namespace emulator;

#define REQUIRE_DEVICE(device) REQUIRE((device) >= 0 && (device) < settings().devices, kInvalidDevice)

EXPORT int cuInit(unsigned flags) {
  ENTER(kNothing);
  REQUIRE(flags == 0, kInvalidValue);
  REQUIRE(settings().devices > 0, kNoDevice);
  is_initialized = true;
  return kSuccess;
}
EXPORT int cuDriverGetVersion(int* version) {
  ENTER(kNothing);
  REQUIRE(version, kInvalidValue);
  *version = settings().driver_version;
  return kSuccess;
}
EXPORT int cuDeviceGetCount(int* count) {
  ENTER(kInit);
  REQUIRE(count, kInvalidValue);
  *count = settings().devices;
  return kSuccess;
}
EXPORT int cuDeviceGet(int* device, int ordinal) {
  ENTER(kInit);
  REQUIRE(device, kInvalidValue);
  REQUIRE_DEVICE(ordinal);
  *device = ordinal;
  return kSuccess;
}
EXPORT int cuDeviceGetName(char* name, int bytes, int device) {
  ENTER(kInit);
  REQUIRE(name && bytes > 0, kInvalidValue);
  REQUIRE_DEVICE(device);
  snprintf(name, static_cast<size_t>(bytes), "awsnet emulator");
  return kSuccess;
}
EXPORT int cuDeviceGetUuid_v2(char* uuid, int device) {
  ENTER(kInit);
  REQUIRE(uuid, kInvalidValue);
  REQUIRE_DEVICE(device);
  memset(uuid, 0, 16);
  memcpy(uuid, "awsnet emulator", 15);
  uuid[15] = static_cast<char>(device);
  return kSuccess;
}
EXPORT int cuDeviceGetUuid(char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
EXPORT int cuDeviceTotalMem_v2(size_t* bytes, int device) {
  ENTER(kInit);
  REQUIRE(bytes, kInvalidValue);
  REQUIRE_DEVICE(device);
  *bytes = settings().memory_bytes;
  return kSuccess;
}
EXPORT int cuDeviceGetAttribute(int* value, int attribute, int device) {
  ENTER(kInit);
  REQUIRE(value, kInvalidValue);
  REQUIRE_DEVICE(device);
  if (attribute_value(attribute, value)) return kSuccess;
  say("device attribute " + std::to_string(attribute) + " is not emulated");
  return kInvalidValue;
}

EXPORT int cuDevicePrimaryCtxRetain(Context** context, int device) {
  ENTER(kInit);
  REQUIRE(context, kInvalidValue);
  REQUIRE_DEVICE(device);
  std::lock_guard lock(state);
  Context* primary = primary_context(device);
  if (primary->error) return primary->error;  // the process cannot use this device again
  if (primary->references++ == 0) {
    primary->device = device;
    primary->legacy = std::make_shared<Stream>();
    primary->legacy->context = primary;
    primary->legacy->blocking = true;
  }
  *context = primary;
  return kSuccess;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  ENTER(kInit);
  REQUIRE_DEVICE(device);
  std::lock_guard lock(state);
  Context* primary = primary_context(device);
  REQUIRE(primary->references > 0, kInvalidContext);
  primary->references--;
  return kSuccess;
}
EXPORT int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) {
  ENTER(kInit);
  REQUIRE(flags && active, kInvalidValue);
  REQUIRE_DEVICE(device);
  std::lock_guard lock(state);
  *flags = 0;
  *active = primary_context(device)->references > 0;
  return kSuccess;
}

EXPORT int cuCtxGetCurrent(Context** context) {
  ENTER(kInit);
  REQUIRE(context, kInvalidValue);
  *context = current_context();
  return kSuccess;
}
EXPORT int cuCtxSetCurrent(Context* context) {
  ENTER(kInit);
  if (!context_stack.empty()) context_stack.pop_back();
  if (context) context_stack.push_back(context);
  return kSuccess;
}
EXPORT int cuCtxPushCurrent_v2(Context* context) {
  ENTER(kInit);
  REQUIRE(context, kInvalidContext);
  context_stack.push_back(context);
  return kSuccess;
}
EXPORT int cuCtxPopCurrent_v2(Context** context) {
  ENTER(kInit);
  REQUIRE(!context_stack.empty(), kInvalidContext);
  if (context) *context = context_stack.back();
  context_stack.pop_back();
  return kSuccess;
}
EXPORT int cuCtxGetDevice(int* device) {
  ENTER(kContext);
  REQUIRE(device, kInvalidValue);
  *device = current_context()->device;
  return kSuccess;
}
EXPORT int cuCtxSynchronize() {
  ENTER(kContext);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  return run_all(current_context());
}
EXPORT int cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  ENTER(kContext);
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return kSuccess;
}
EXPORT int cuMemGetInfo_v2(size_t* available, size_t* total) {
  ENTER(kContext);
  REQUIRE(available && total, kInvalidValue);
  const size_t used = global_in_use(MemoryKind::kDevice).bytes;
  *total = settings().memory_bytes;
  *available = used < *total ? *total - used : 0;
  return kSuccess;
}
