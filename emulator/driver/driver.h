// The parts of the emulated driver that its files share: handles, error codes, and the frame of every call.
//
// Work is queued and runs as late as the rules of the driver allow: when somebody waits for it, on the thread that
// waits. Whoever reads a result without waiting reads poison; whoever reuses a buffer too early spoils the copy.
//
// A piece of work is an operation: a launch, a copy, a fill. While a stream is captured its operations become the nodes
// of a graph, in order; launching the graph queues them one by one.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "../simt/block.h"
#include "../simt/memory.h"

// Every driver call is exported under its own name, everything else stays inside.
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulator {

// Of the driver's enum CUresult, those that occur here.
enum Result : int {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidImage = 200,
  kInvalidContext = 201,
  kNoBinaryForGpu = 209,
  kInvalidHandle = 400,
  kNotFound = 500,
  kNotReady = 600,
  kIllegalAddress = 700,
  kLaunchOutOfResources = 701,
  kContextIsDestroyed = 709,
  kMisalignedAddress = 716,
  kLaunchFailed = 719,
  kNotSupported = 801,
  kStreamCaptureUnsupported = 900,
  kStreamCaptureInvalidated = 901,
  kStreamCaptureUnmatched = 903,
  kStreamCaptureWrongThread = 908,
};
const char* result_name(int result);

// The live objects of one kind; their addresses are the handles that programs hold.
template <class T>
class Handles {
 public:
  T* add(std::shared_ptr<T> object) {
    T* handle = object.get();
    live_[handle] = std::move(object);
    return handle;
  }
  // Null for a handle that nobody gave out, or that was destroyed.
  std::shared_ptr<T> find(const void* handle) const {
    const auto found = live_.find(handle);
    return found == live_.end() ? nullptr : found->second;
  }
  bool remove(const void* handle) { return live_.erase(handle) > 0; }
  size_t count() const { return live_.size(); }

 private:
  std::map<const void*, std::shared_ptr<T>> live_;
};

struct Stream;
struct Graph;

struct Context {
  int device = 0;
  int references = 0;       // retained and not yet released; with none, no call may use it
  Result error = kSuccess;  // sticky: from the first fault on, every call of this context returns it
  std::vector<std::shared_ptr<Stream>> streams;
  std::shared_ptr<Stream> legacy;  // the default stream, which waits for the blocking ones and they for it
};

// A thread that makes driver calls: how its launches are scheduled, and what they did. A launch counts for the thread
// that issued it, whichever thread runs it.
struct Issuer {
  Schedule schedule;
  Counters counters{};
};
std::shared_ptr<Issuer> this_issuer();

// Something for a device to do. It holds what it needs: the handles it was made with may be gone when it runs.
struct Operation {
  std::function<Result()> run;
  bool is_launch = false;
  bool is_dependent = false;  // a launch with programmatic stream serialisation
};

// One piece of work of a stream: an operation, or another stream's work to wait for.
struct Work {
  Operation operation;
  std::shared_ptr<Issuer> issuer;
  Schedule schedule;
  bool hangs = false;  // a launch that never ends
  std::shared_ptr<Stream> wait_for;
  uint64_t wait_ticket = 0;
};

struct Stream : std::enable_shared_from_this<Stream> {
  Context* context = nullptr;
  bool blocking = false;
  bool destroyed = false;  // it has no handle any more, but work left that hangs
  std::deque<Work> queue;
  uint64_t issued = 0, done = 0;  // tickets: work is numbered from 1
  uint64_t work_nanoseconds = 0;  // what its work so far would take by the clock of events
  bool busy = false;              // a thread runs a piece of it
  std::shared_ptr<Graph> capture;
  bool capture_invalid = false;
  std::thread::id capture_thread;
  int capture_mode = 0;
};

struct Graph {
  std::vector<Operation> nodes;
};
struct GraphExec {
  std::vector<Operation> nodes;
};

struct Event {
  bool timed = true;
  std::shared_ptr<Stream> stream;  // where it was recorded last; null: never
  uint64_t ticket = 0;
  std::shared_ptr<uint64_t> nanoseconds = std::make_shared<uint64_t>(0);
};

struct Image;  // image.h
struct Function {
  const Kernel* kernel;
  int dynamic_shared_limit;
  int architecture;  // compiled for it, 90 for sm_90
};
struct Module {
  std::shared_ptr<const Image> image;
  std::vector<std::unique_ptr<Function>> functions;
};

Handles<Module>& modules();
Handles<Event>& events();
Handles<Graph>& graphs();
Handles<GraphExec>& graph_execs();
// Of a device, whether or not it is retained.
Context* primary_context(int device);
constexpr int kMaxDevices = 16;

// The calls of one thread, by kind.
struct CallCounters {
  uint64_t calls, refused;
  uint64_t device_memory, pinned_memory;  // that allocate or free it
  uint64_t graph_launches;
};
extern thread_local CallCounters call_counters;

// Settings from the environment; emulator/README.md lists them.
struct Settings {
  int devices, capability_major, capability_minor, multiprocessors, driver_version;
  uint64_t memory_bytes, hang_launch, fault_launch;
  bool trace, report, clock;
};
const Settings& settings();
// The shared memory that a block may ask for on this architecture.
int shared_bytes_optin();

// The one lock over contexts and all other objects. Work runs without it.
extern std::mutex state;
extern std::condition_variable progress;

bool initialized();
Context* current_context();
// The stream behind a handle of the current context; null for a handle nobody gave out.
std::shared_ptr<Stream> stream_of(void* handle);

// Queues work, or adds it to the stream's graph while it is captured. The lock is held.
void enqueue(const std::shared_ptr<Stream>& stream, Operation operation);
void enqueue_wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Stream>& other, uint64_t ticket);
// Runs a stream's work up to and including a ticket, then returns the context's error; never returns where a launch
// before it hangs. The lock is not held.
Result run_until(const std::shared_ptr<Stream>& stream, uint64_t ticket);
// Runs everything of a context. The lock is not held.
Result run_all(Context* context);
// Runs one piece of work, if there is any that does not hang and nobody else runs one. The lock is not held.
void run_one(const std::shared_ptr<Stream>& stream);
// Whether this thread is capturing in a mode that forbids calls that may wait; such a call spoils the capture.
bool forbidden_while_capturing();

// Writes to standard error, behind "emulated driver: ".
void say(const std::string& text);

enum Needs { kNothing, kInit, kContext };
// The beginning of every call: counts and traces it, and returns what it must return at once: an error that was asked
// for, that the library is not initialised, that no context is current, or that the context is spoiled.
Result enter(const char* name, Needs needs);

}  // namespace emulator

#define ENTER(needs) \
  if (const emulator::Result entered = emulator::enter(__func__, needs)) return entered
// A condition that the caller must keep.
#define REQUIRE(condition, result) \
  if (!(condition)) return emulator::result
