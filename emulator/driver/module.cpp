// Modules, functions, launches and graphs.
//
// A module's image is read as far as a driver would (form, architectures, entry points); its kernels are those compiled
// into this library, found by name. Where the image has PTX, they must be the kernels that it declares.
#include <string.h>

#include <algorithm>

#include "../simt/memory.h"
#include "driver.h"
#include "image.h"

namespace emulator {

constexpr int kSharedWithoutOptin = 48 * 1024;

Handles<Module>& modules() {
  static auto* all = new Handles<Module>;
  return *all;
}
Handles<Graph>& graphs() {
  static auto* all = new Handles<Graph>;
  return *all;
}
Handles<GraphExec>& graph_execs() {
  static auto* all = new Handles<GraphExec>;
  return *all;
}

namespace {

// Whether an image's entry point is the kernel that this library holds under its name. An image without entry points
// stands for the kernels of this library.
Result compare(const Image& image, const Kernel& kernel) {
  if (image.entry_points.empty()) return kSuccess;
  const auto found = image.entry_points.find(kernel.name);
  if (found == image.entry_points.end()) {
    say(std::string("the image's PTX has no entry point ") + kernel.name);
    return kNotFound;
  }
  const auto [params_bytes, threads] = found->second;
  if (params_bytes == kernel.params_bytes && (threads == kernel.threads || threads == 0)) return kSuccess;
  say(std::string(kernel.name) + " takes " + std::to_string(params_bytes) + " bytes of parameters and at most " +
      std::to_string(threads) + " threads in the image's PTX, " + std::to_string(kernel.params_bytes) + " and " +
      std::to_string(kernel.threads) + " in this library: they are of different sources");
  return kInvalidImage;
}

struct LaunchShape {
  Dim3 grid, block;
  unsigned shared_bytes;
  bool is_dependent;
};

Result launch_kernel(Function* function, LaunchShape shape, void* handle, void** params) {
  const Kernel& kernel = *function->kernel;
  const Dim3 grid = shape.grid, block = shape.block;
  if (!params || !params[0]) return kInvalidValue;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0) return kInvalidValue;
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) return kInvalidValue;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads > kernel.threads) return kLaunchOutOfResources;
  if (shape.shared_bytes > static_cast<unsigned>(function->dynamic_shared_limit)) return kInvalidValue;
  const auto bytes = std::make_shared<std::vector<uint64_t>>((kernel.params_bytes + 7) / 8);
  memcpy(bytes->data(), params[0], kernel.params_bytes);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  if (!stream) return kInvalidHandle;
  const auto run = [=, &kernel]() -> Result {
    const LaunchResult result = run_launch(kernel, grid, block, shape.shared_bytes, bytes->data());
    if (result.fault == Fault::kNone) return kSuccess;
    say(result.text);
    return static_cast<Result>(result.fault);
  };
  enqueue(stream, {run, true, shape.is_dependent});
  return kSuccess;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuModuleLoadData(Module** module, const void* image) {
  ENTER(kContext);
  REQUIRE(module && image, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  auto read = std::make_shared<Image>();
  std::string what;
  if (const Result result = read_image(static_cast<const char*>(image), read.get(), &what)) {
    if (!what.empty()) say(what);
    return result;
  }
  std::lock_guard lock(state);
  *module = modules().add(std::make_shared<Module>(Module{std::move(read), {}}));
  return kSuccess;
}
EXPORT int cuModuleLoadDataEx(Module** module, const void* image, unsigned, int*, void**) {
  return cuModuleLoadData(module, image);
}
EXPORT int cuModuleUnload(Module* module) {
  ENTER(kContext);
  const Result result = run_all(current_context());
  std::lock_guard lock(state);
  REQUIRE(modules().remove(module), kInvalidHandle);
  return result;
}
// Loads the kernel, where modules are loaded lazily, as they are by default: nothing to do while a stream is captured.
EXPORT int cuModuleGetFunction(Function** function, void* handle, const char* name) {
  ENTER(kContext);
  REQUIRE(function && name, kInvalidValue);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  const Kernel* kernel = find_kernel(name);
  REQUIRE(kernel, kNotFound);
  std::lock_guard lock(state);
  const auto module = modules().find(handle);
  REQUIRE(module, kInvalidHandle);
  if (const Result result = compare(*module->image, *kernel)) return result;
  module->functions.push_back(
      std::make_unique<Function>(Function{kernel, kSharedWithoutOptin, module->image->architecture}));
  *function = module->functions.back().get();
  return kSuccess;
}

// Of enum CUfunction_attribute.
enum {
  kMaxThreads = 0,
  kSharedBytes = 1,
  kConstBytes = 2,
  kLocalBytes = 3,
  kPtxVersion = 5,
  kBinaryVersion = 6,
  kDynamicShared = 8,
  kCarveout = 9
};

EXPORT int cuFuncSetAttribute(Function* function, int attribute, int value) {
  ENTER(kContext);
  REQUIRE(function, kInvalidHandle);
  if (attribute == kCarveout) return value >= -1 && value <= 100 ? kSuccess : kInvalidValue;
  if (attribute != kDynamicShared) {
    say("function attribute " + std::to_string(attribute) + " cannot be set");
    return kInvalidValue;
  }
  REQUIRE(value >= 0 && value <= shared_bytes_optin(), kInvalidValue);
  function->dynamic_shared_limit = value;
  return kSuccess;
}
EXPORT int cuFuncGetAttribute(int* value, int attribute, Function* function) {
  ENTER(kContext);
  REQUIRE(value && function, kInvalidValue);
  switch (attribute) {
    case kMaxThreads: *value = static_cast<int>(function->kernel->threads); return kSuccess;
    case kSharedBytes:
    case kConstBytes:
    case kLocalBytes: *value = 0; return kSuccess;
    case kPtxVersion:
    case kBinaryVersion: *value = function->architecture; return kSuccess;
    case kDynamicShared: *value = function->dynamic_shared_limit; return kSuccess;
    default: say("function attribute " + std::to_string(attribute) + " is not emulated"); return kInvalidValue;
  }
}
// Blocks of a multiprocessor, as its threads and its shared memory limit them; the registers of a kernel are unknown.
EXPORT int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Function* function, int threads,
                                                       size_t shared_bytes) {
  ENTER(kContext);
  REQUIRE(blocks && threads > 0, kInvalidValue);
  REQUIRE(function, kInvalidHandle);
  if (threads > static_cast<int>(function->kernel->threads) ||
      shared_bytes > static_cast<size_t>(function->dynamic_shared_limit)) {
    *blocks = 0;
    return kSuccess;
  }
  constexpr int kReserved = 1024;  // bytes of shared memory of every block
  const int by_shared = (shared_bytes_optin() + kReserved) / (static_cast<int>(shared_bytes) + kReserved);
  *blocks = std::min({32, 2048 / threads, by_shared});
  return kSuccess;
}
EXPORT int cuFuncSetCacheConfig(Function* function, int) {
  ENTER(kContext);
  return function ? kSuccess : kInvalidHandle;
}

EXPORT int cuLaunchKernel(Function* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** params,
                          void** extra) {
  ENTER(kContext);
  REQUIRE(function && !extra, kInvalidValue);
  const LaunchShape shape = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes, false};
  return launch_kernel(function, shape, stream, params);
}

// struct CUlaunchConfig and CUlaunchAttribute, as far as they are read.
struct LaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int programmatic_serialization;
  } value;
};
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
  void* stream;
  LaunchAttribute* attributes;
  unsigned attribute_count;
};
// By the id of enum CUlaunchAttributeID. Launches are serialised programmatically from compute capability 9.0 on.
static const char* const kLaunchAttributes[] = {"IGNORE",
                                                "ACCESS_POLICY_WINDOW",
                                                "COOPERATIVE",
                                                "SYNCHRONIZATION_POLICY",
                                                "CLUSTER_DIMENSION",
                                                "CLUSTER_SCHEDULING_POLICY_PREFERENCE",
                                                "PROGRAMMATIC_STREAM_SERIALIZATION",
                                                "PROGRAMMATIC_EVENT",
                                                "PRIORITY",
                                                "MEM_SYNC_DOMAIN_MAP",
                                                "MEM_SYNC_DOMAIN",
                                                "PREFERRED_CLUSTER_DIMENSION",
                                                "LAUNCH_COMPLETION_EVENT",
                                                "DEVICE_UPDATABLE_KERNEL_NODE",
                                                "PREFERRED_SHARED_MEMORY_CARVEOUT"};
enum { kIgnore = 0, kProgrammaticSerialization = 6 };

EXPORT int cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** params, void** extra) {
  ENTER(kContext);
  REQUIRE(config && function && !extra, kInvalidValue);
  REQUIRE(config->attributes || config->attribute_count == 0, kInvalidValue);
  bool is_dependent = false;
  for (unsigned i = 0; i < config->attribute_count; i++) {
    const int id = config->attributes[i].id;
    if (id == kIgnore) continue;
    if (id == kProgrammaticSerialization && settings().capability_major >= 9) {
      is_dependent = config->attributes[i].value.programmatic_serialization != 0;
      continue;
    }
    const bool named = id > 0 && id < static_cast<int>(std::size(kLaunchAttributes));
    say("launch attribute " + (named ? kLaunchAttributes[id] : std::to_string(id)) +
        " is not emulated for this device");
    return kNotSupported;
  }
  const LaunchShape shape = {{config->grid_x, config->grid_y, config->grid_z},
                             {config->block_x, config->block_y, config->block_z},
                             config->shared_bytes,
                             is_dependent};
  return launch_kernel(function, shape, config->stream, params);
}

EXPORT int cuGraphInstantiateWithFlags(GraphExec** exec, void* handle, unsigned long long) {
  ENTER(kContext);
  REQUIRE(exec, kInvalidValue);
  std::lock_guard lock(state);
  const auto graph = graphs().find(handle);
  REQUIRE(graph, kInvalidHandle);
  *exec = graph_execs().add(std::make_shared<GraphExec>(GraphExec{graph->nodes}));
  return kSuccess;
}
EXPORT int cuGraphGetNodes(void* handle, void** nodes, size_t* count) {
  ENTER(kContext);
  REQUIRE(count, kInvalidValue);
  std::lock_guard lock(state);
  const auto graph = graphs().find(handle);
  REQUIRE(graph, kInvalidHandle);
  if (nodes) {
    say("cuGraphGetNodes gives the number of nodes only");
    return kNotSupported;
  }
  *count = graph->nodes.size();
  return kSuccess;
}
EXPORT int cuGraphUpload(void* exec, void* stream) {
  ENTER(kContext);
  std::lock_guard lock(state);
  REQUIRE(graph_execs().find(exec) && stream_of(stream), kInvalidHandle);
  return kSuccess;
}
EXPORT int cuGraphLaunch(void* handle, void* stream_handle) {
  ENTER(kContext);
  call_counters.graph_launches++;
  std::lock_guard lock(state);
  const auto exec = graph_execs().find(handle);
  const auto stream = stream_of(stream_handle);
  REQUIRE(exec && stream, kInvalidHandle);
  for (const Operation& node : exec->nodes) enqueue(stream, node);
  return kSuccess;
}
EXPORT int cuGraphExecDestroy(void* exec) {
  ENTER(kContext);
  std::lock_guard lock(state);
  REQUIRE(graph_execs().remove(exec), kInvalidHandle);  // launches already queued hold what they need
  return kSuccess;
}
EXPORT int cuGraphDestroy(void* graph) {
  ENTER(kContext);
  std::lock_guard lock(state);
  REQUIRE(graphs().remove(graph), kInvalidHandle);
  return kSuccess;
}
