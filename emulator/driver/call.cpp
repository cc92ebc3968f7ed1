// The frame of every call: settings, counting, tracing, failing on request; error names; the control interface.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "../include/awsnet_emulator.h"
#include "../simt/memory.h"
#include "driver.h"

namespace emulator {
namespace {

uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = getenv(name);
  return text && *text ? strtoull(text, nullptr, 0) : otherwise;
}

Settings read_settings() {
  Settings s{};
  s.devices = static_cast<int>(number("AWSNET_EMULATOR_DEVICES", 1));
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  if (visible && !*visible) s.devices = 0;
  s.capability_major = 9;
  if (const char* text = getenv("AWSNET_EMULATOR_COMPUTE_CAPABILITY")) {
    sscanf(text, "%d.%d", &s.capability_major, &s.capability_minor);
  }
  s.multiprocessors = static_cast<int>(number("AWSNET_EMULATOR_SMS", 132));
  s.driver_version = static_cast<int>(number("AWSNET_EMULATOR_DRIVER_VERSION", 13000));
  s.memory_bytes = number("AWSNET_EMULATOR_MEMORY_BYTES", uint64_t{4} << 30);
  s.hang_launch = number("AWSNET_EMULATOR_HANG_LAUNCH", 0);
  s.trace = number("AWSNET_EMULATOR_TRACE", 0) != 0;
  s.report = number("AWSNET_EMULATOR_REPORT", 0) != 0;
  return s;
}

// A failure that was asked for: the call after `left` more calls returns `result`.
struct Failure {
  std::atomic<uint64_t> left{0};
  int result = 0;
};

Failure* process_failure() {
  static Failure* failure = [] {
    Failure* f = new Failure;
    if (const char* text = getenv("AWSNET_EMULATOR_FAIL")) {
      unsigned long long call = 0;
      f->result = kLaunchFailed;
      sscanf(text, "%llu:%d", &call, &f->result);
      f->left = call;
    }
    return f;
  }();
  return failure;
}

thread_local uint64_t thread_failure_left;
thread_local int thread_failure_result;
std::atomic<uint64_t> process_calls{0};

// What AWSNET_EMULATOR_REPORT asks for, in one line.
void report() {
  struct awsnet_emulator_objects o;
  awsnet_emulator_objects(&o);
  char text[512];
  snprintf(text, sizeof text,
           "%llu calls; left: %llu contexts, %llu modules, %llu streams, %llu events, %llu graphs, %llu executable "
           "graphs, %llu device allocations, %llu pinned allocations",
           static_cast<unsigned long long>(process_calls), static_cast<unsigned long long>(o.contexts),
           static_cast<unsigned long long>(o.modules), static_cast<unsigned long long>(o.streams),
           static_cast<unsigned long long>(o.events), static_cast<unsigned long long>(o.graphs),
           static_cast<unsigned long long>(o.executable_graphs), static_cast<unsigned long long>(o.device_allocations),
           static_cast<unsigned long long>(o.pinned_allocations));
  say(text);
}

// The schedule of a thread that did not choose its own.
Schedule schedule_of_environment() {
  Schedule s;
  s.seed = number("AWSNET_EMULATOR_SEED", 0);
  if (const char* text = getenv("AWSNET_EMULATOR_DELIVERY")) {
    if (strcmp(text, "issue") == 0)
      s.delivery = Delivery::kAtIssue;
    else if (strcmp(text, "random") == 0)
      s.delivery = Delivery::kRandom;
    else if (strcmp(text, "wait") != 0)
      say(std::string("AWSNET_EMULATOR_DELIVERY is issue, wait or random, not ") + text);
  }
  return s;
}

struct Name {
  int result;
  const char* name;
  const char* text;
};
const Name kNames[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {kNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kContextIsDestroyed, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {kLaunchOutOfResources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {kMisalignedAddress, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {kLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kNotSupported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {kStreamCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {kStreamCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {kStreamCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {kStreamCaptureWrongThread, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

const Name* find_name(int result) {
  for (const Name& n : kNames) {
    if (n.result == result) return &n;
  }
  return nullptr;
}

}  // namespace

thread_local CallCounters call_counters;

const Settings& settings() {
  static const Settings s = [] {
    const Settings read = read_settings();
    if (read.report) atexit(report);
    return read;
  }();
  return s;
}

const char* result_name(int result) {
  const Name* n = find_name(result);
  return n ? n->name : "a CUresult the emulated driver has no name for";
}

void say(const std::string& text) { fprintf(stderr, "emulated driver: %s\n", text.c_str()); }

std::shared_ptr<Issuer> this_issuer() {
  static thread_local const auto issuer = std::make_shared<Issuer>(Issuer{schedule_of_environment(), {}});
  return issuer;
}

Result enter(const char* name, Needs needs) {
  call_counters.calls++;
  process_calls++;
  if (settings().trace) say(name);
  const auto fail = [name](int result) {
    say(std::string(name) + " fails as asked");
    return static_cast<Result>(result);
  };
  if (thread_failure_left > 0 && --thread_failure_left == 0) return fail(thread_failure_result);
  Failure* failure = process_failure();
  uint64_t left = failure->left;
  while (left > 0 && !failure->left.compare_exchange_weak(left, left - 1)) {
  }
  if (left == 1) return fail(failure->result);
  if (needs == kNothing) return kSuccess;
  if (!initialized()) return kNotInitialized;
  if (needs == kInit) return kSuccess;
  Context* context = current_context();
  if (!context) return kInvalidContext;
  std::lock_guard lock(state);
  return context->references == 0 ? kContextIsDestroyed : context->error;
}

// The end of every call in refused.inc.
static int refuse(const char* name) {
  call_counters.refused++;
  say(std::string(name) + " is not emulated");
  return kNotSupported;
}

}  // namespace emulator

using namespace emulator;

#define REFUSED(name) \
  EXPORT int name() { return emulator::refuse(#name); }
#include "refused.inc"
#undef REFUSED

EXPORT int cuGetErrorName(int result, const char** name) {
  const Name* n = find_name(result);
  *name = n ? n->name : nullptr;
  return n ? kSuccess : kInvalidValue;
}
EXPORT int cuGetErrorString(int result, const char** text) {
  const Name* n = find_name(result);
  *text = n ? n->text : nullptr;
  return n ? kSuccess : kInvalidValue;
}

EXPORT void awsnet_emulator_schedule(uint64_t seed, int delivery) {
  this_issuer()->schedule = Schedule{seed, static_cast<Delivery>(delivery)};
}
EXPORT void awsnet_emulator_fail(uint64_t call, int result) {
  thread_failure_left = call;
  thread_failure_result = result;
}
EXPORT void awsnet_emulator_counters(struct awsnet_emulator_counters* out) {
  std::lock_guard lock(state);
  const Counters& done = this_issuer()->counters;
  const CallCounters& called = call_counters;
  *out = {called.calls,      called.refused,       done.launches,        done.bytes_loaded,
          done.bytes_stored, called.device_memory, called.pinned_memory, called.graph_launches};
}
EXPORT void awsnet_emulator_objects(struct awsnet_emulator_objects* out) {
  std::lock_guard lock(state);
  *out = {};
  for (int device = 0; device < kMaxDevices; device++) {
    const Context* context = primary_context(device);
    out->contexts += static_cast<uint64_t>(context->references);
    out->streams += context->streams.size();
  }
  out->modules = modules().count();
  out->events = events().count();
  out->graphs = graphs().count();
  out->executable_graphs = graph_execs().count();
  const MemoryInUse device = global_in_use(MemoryKind::kDevice), pinned = global_in_use(MemoryKind::kPinned);
  out->device_allocations = device.allocations;
  out->pinned_allocations = pinned.allocations;
  out->device_bytes = device.bytes;
  out->pinned_bytes = pinned.bytes;
}
EXPORT int awsnet_emulator_kernel(unsigned index, const char** name, size_t* params_bytes, unsigned* threads) {
  const Kernel* kernel = first_kernel();
  while (kernel && index-- > 0) kernel = kernel->next;
  if (!kernel) return 0;
  *name = kernel->name;
  *params_bytes = kernel->params_bytes;
  *threads = kernel->threads;
  return 1;
}
