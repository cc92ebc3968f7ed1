// Modules, functions, launches and graphs.
//
// A module's image is checked as far as a driver would (form, architectures); its kernels are those compiled into this
// library, found by name.
#include <string.h>

#include <algorithm>

#include "../simt/memory.h"
#include "driver.h"

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

// A fat binary: a header, then entries, each a header and a payload. Offsets in bytes.
constexpr uint32_t kFatbinMagic = 0xBA55ED50;
constexpr uint16_t kEntryPtx = 1, kEntryElf = 2;

template <typename T>
T read(const char* from) {
  T value;
  memcpy(&value, from, sizeof value);
  return value;
}

// Whether a device of this compute capability can run an entry: machine code of the same major and no higher minor
// version, or PTX of no higher version.
bool serves(uint16_t kind, uint32_t architecture) {
  const uint32_t major = static_cast<uint32_t>(settings().capability_major);
  const uint32_t minor = static_cast<uint32_t>(settings().capability_minor);
  if (kind == kEntryElf) return architecture / 10 == major && architecture % 10 <= minor;
  return kind == kEntryPtx && architecture <= major * 10 + minor;
}

Result check_fatbin(const char* image) {
  const uint16_t header_bytes = read<uint16_t>(image + 6);
  const uint64_t bytes = read<uint64_t>(image + 8);
  const char* entry = image + header_bytes;
  const char* end = entry + bytes;
  while (entry < end) {
    const uint16_t kind = read<uint16_t>(entry);
    const uint32_t entry_header = read<uint32_t>(entry + 4);
    const uint64_t payload = read<uint64_t>(entry + 8);
    const uint32_t architecture = read<uint32_t>(entry + 28);
    if (entry_header == 0) return kInvalidImage;
    if (serves(kind, architecture)) return kSuccess;
    entry += entry_header + payload;
  }
  return kNoBinaryForGpu;
}

Result check_image(const char* image) {
  if (read<uint32_t>(image) == kFatbinMagic) return check_fatbin(image);
  if (memcmp(image, "\177ELF", 4) == 0) return kSuccess;
  const char* text = image;
  for (;;) {  // PTX: blank space and comments, then a version
    while (*text == ' ' || *text == '\n' || *text == '\t' || *text == '\r') text++;
    if (strncmp(text, "//", 2) != 0) break;
    while (*text && *text != '\n') text++;
  }
  return strncmp(text, ".version", 8) == 0 ? kSuccess : kInvalidImage;
}

struct LaunchShape {
  Dim3 grid, block;
  unsigned shared_bytes;
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
  enqueue(stream, {run, true});
  return kSuccess;
}

}  // namespace
}  // namespace emulator

using namespace emulator;

EXPORT int cuModuleLoadData(Module** module, const void* image) {
  ENTER(kContext);
  REQUIRE(module && image, kInvalidValue);
  if (const Result result = check_image(static_cast<const char*>(image))) return result;
  std::lock_guard lock(state);
  *module = modules().add(std::make_shared<Module>());
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
EXPORT int cuModuleGetFunction(Function** function, void* handle, const char* name) {
  ENTER(kContext);
  REQUIRE(function && name, kInvalidValue);
  const Kernel* kernel = find_kernel(name);
  REQUIRE(kernel, kNotFound);
  std::lock_guard lock(state);
  const auto module = modules().find(handle);
  REQUIRE(module, kInvalidHandle);
  module->functions.push_back(std::make_unique<Function>(Function{kernel, kSharedWithoutOptin}));
  *function = module->functions.back().get();
  return kSuccess;
}

// Of enum CUfunction_attribute.
enum {
  kMaxThreads = 0,
  kSharedBytes = 1,
  kConstBytes = 2,
  kLocalBytes = 3,
  kRegisters = 4,
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
  return launch_kernel(function, {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes}, stream, params);
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
  for (unsigned i = 0; i < config->attribute_count; i++) {
    const int id = config->attributes[i].id;
    if (id == kIgnore) continue;
    if (id == kProgrammaticSerialization && settings().capability_major >= 9) continue;
    const bool named = id > 0 && id < static_cast<int>(std::size(kLaunchAttributes));
    say("launch attribute " + (named ? kLaunchAttributes[id] : std::to_string(id)) +
        " is not emulated for this device");
    return kNotSupported;
  }
  const LaunchShape shape = {{config->grid_x, config->grid_y, config->grid_z},
                             {config->block_x, config->block_y, config->block_z},
                             config->shared_bytes};
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
