// Streams, events, and when queued work runs.
#include <algorithm>
#include <chrono>
#include <thread>

#include "driver.h"

namespace emulator {
namespace {

// The streams that this thread captures.
thread_local std::vector<std::weak_ptr<Stream>> captures_of_thread;

enum CaptureMode { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };

// Handles of the driver that are no addresses: the legacy stream under its own name, and the thread's stream.
void* const kLegacyHandle = reinterpret_cast<void*>(1);

// Launches of the process so far, those of replayed graphs included.
uint64_t launches_issued = 0;

// Runs the first piece of work; the lock is held on entry and on return, and the stream is not busy. False, and nothing
// done, if that work hangs.
bool run_front(std::unique_lock<std::mutex>& lock, const std::shared_ptr<Stream>& stream) {
  Work& front = stream->queue.front();
  if (front.hangs) return false;
  stream->busy = true;
  if (const auto other = front.wait_for) {
    const uint64_t ticket = front.wait_ticket;
    bool hangs = false;
    while (other->done < ticket && !hangs) {
      if (other->busy)
        progress.wait(lock);
      else
        hangs = !run_front(lock, other);
    }
    if (hangs) {
      stream->busy = false;
      progress.notify_all();
      return false;
    }
  }
  Work work = std::move(stream->queue.front());
  stream->queue.pop_front();
  Context* context = stream->context;
  if (!work.wait_for && context->error == kSuccess) {
    lock.unlock();
    schedule = work.schedule;
    counters = Counters{};
    const Result result = work.operation.run();
    const Counters done = counters;
    work.operation = Operation{};  // what it held goes before anybody hears of the end
    lock.lock();
    work.issuer->counters.launches += done.launches;
    work.issuer->counters.bytes_loaded += done.bytes_loaded;
    work.issuer->counters.bytes_stored += done.bytes_stored;
    if (result != kSuccess && context->error == kSuccess) context->error = result;
  }
  stream->busy = false;
  stream->done++;
  progress.notify_all();
  return true;
}

double now_milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Handles<Event>& events() {
  static auto* all = new Handles<Event>;
  return *all;
}

std::shared_ptr<Stream> stream_of(void* handle) {
  Context* context = current_context();
  if (handle == nullptr || handle == kLegacyHandle) return context->legacy;
  for (const auto& stream : context->streams) {
    if (stream.get() == handle && !stream->destroyed) return stream;
  }
  return nullptr;
}

void enqueue(const std::shared_ptr<Stream>& stream, Operation operation) {
  if (stream->capture) {
    stream->capture->nodes.push_back(std::move(operation));
    return;
  }
  Context* context = stream->context;
  if (stream == context->legacy) {
    for (const auto& other : context->streams) {
      if (other->blocking && !other->capture) enqueue_wait(stream, other, other->issued);
    }
  } else if (stream->blocking) {
    enqueue_wait(stream, context->legacy, context->legacy->issued);
  }
  const auto issuer = this_issuer();
  const bool hangs = operation.is_launch && ++launches_issued == settings().hang_launch;
  stream->queue.push_back(Work{std::move(operation), issuer, issuer->schedule, hangs, nullptr, 0});
  stream->issued++;
}

void enqueue_wait(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Stream>& other, uint64_t ticket) {
  if (other == stream || other->done >= ticket) return;
  stream->queue.push_back(Work{Operation{}, nullptr, Schedule{}, false, other, ticket});
  stream->issued++;
}

Result run_until(const std::shared_ptr<Stream>& stream, uint64_t ticket) {
  std::unique_lock lock(state);
  while (stream->done < ticket) {
    if (stream->busy || !run_front(lock, stream)) progress.wait(lock);
  }
  return stream->context->error;
}

void run_one(const std::shared_ptr<Stream>& stream) {
  std::unique_lock lock(state);
  if (!stream->busy && !stream->queue.empty()) run_front(lock, stream);
}

Result run_all(Context* context) {
  std::vector<std::pair<std::shared_ptr<Stream>, uint64_t>> ends;
  {
    std::lock_guard lock(state);
    if (context->legacy) ends.emplace_back(context->legacy, context->legacy->issued);
    for (const auto& stream : context->streams) ends.emplace_back(stream, stream->issued);
  }
  for (const auto& [stream, ticket] : ends) run_until(stream, ticket);
  std::lock_guard lock(state);
  return context->error;
}

bool forbidden_while_capturing() {
  std::lock_guard lock(state);
  bool forbidden = false;
  for (const auto& weak : captures_of_thread) {
    const auto stream = weak.lock();
    if (stream && stream->capture && stream->capture_mode != kRelaxed) {
      stream->capture_invalid = true;
      forbidden = true;
    }
  }
  return forbidden;
}

}  // namespace emulator

using namespace emulator;

constexpr unsigned kNonBlocking = 1;  // CU_STREAM_NON_BLOCKING

static int create_stream(Stream** handle, unsigned flags) {
  REQUIRE(handle && flags <= kNonBlocking, kInvalidValue);
  std::lock_guard lock(state);
  auto stream = std::make_shared<Stream>();
  stream->context = current_context();
  stream->blocking = flags != kNonBlocking;
  stream->context->streams.push_back(stream);
  *handle = stream.get();
  return kSuccess;
}
EXPORT int cuStreamCreate(Stream** handle, unsigned flags) {
  ENTER(kContext);
  return create_stream(handle, flags);
}
EXPORT int cuStreamCreateWithPriority(Stream** handle, unsigned flags, int) {
  ENTER(kContext);
  return create_stream(handle, flags);
}
EXPORT int cuStreamDestroy_v2(void* handle) {
  ENTER(kContext);
  std::unique_lock lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream && stream != stream->context->legacy, kInvalidHandle);
  stream->destroyed = true;
  bool hangs = false;
  while (stream->done < stream->issued && !hangs) {  // work already queued still runs
    if (stream->busy)
      progress.wait(lock);
    else
      hangs = !run_front(lock, stream);
  }
  auto& all = stream->context->streams;
  if (!hangs) all.erase(std::find(all.begin(), all.end(), stream));
  return stream->context->error;
}
EXPORT int cuStreamSynchronize(void* handle) {
  ENTER(kContext);
  std::shared_ptr<Stream> stream;
  uint64_t ticket;
  {
    std::lock_guard lock(state);
    stream = stream_of(handle);
    REQUIRE(stream, kInvalidHandle);
    if (stream->capture) {
      stream->capture_invalid = true;
      return kStreamCaptureUnsupported;
    }
    if (stream == stream->context->legacy) enqueue(stream, {[] { return kSuccess; }});
    ticket = stream->issued;
  }
  return run_until(stream, ticket);
}
EXPORT int cuStreamQuery(void* handle) {
  ENTER(kContext);
  std::shared_ptr<Stream> stream;
  {
    std::lock_guard lock(state);
    stream = stream_of(handle);
    REQUIRE(stream, kInvalidHandle);
    if (stream->capture) {
      stream->capture_invalid = true;
      return kStreamCaptureUnsupported;
    }
    if (stream->done == stream->issued) return kSuccess;
  }
  run_one(stream);  // a stream makes progress while somebody asks for it
  std::lock_guard lock(state);
  return stream->context->error ? stream->context->error : kNotReady;
}
EXPORT int cuStreamGetCtx(void* handle, Context** context) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream, kInvalidHandle);
  REQUIRE(context, kInvalidValue);
  *context = stream->context;
  return kSuccess;
}
EXPORT int cuStreamIsCapturing(void* handle, int* status) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream, kInvalidHandle);
  REQUIRE(status, kInvalidValue);
  *status = !stream->capture ? 0 : stream->capture_invalid ? 2 : 1;  // none, active, invalidated
  return kSuccess;
}
EXPORT int cuStreamBeginCapture_v2(void* handle, int mode) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream, kInvalidHandle);
  REQUIRE(mode >= kGlobal && mode <= kRelaxed, kInvalidValue);
  REQUIRE(stream != stream->context->legacy && !stream->capture, kStreamCaptureUnsupported);
  stream->capture = std::make_shared<Graph>();
  stream->capture_invalid = false;
  stream->capture_mode = mode;
  stream->capture_thread = std::this_thread::get_id();
  captures_of_thread.push_back(stream);
  return kSuccess;
}
EXPORT int cuStreamEndCapture(void* handle, Graph** graph) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream, kInvalidHandle);
  REQUIRE(graph, kInvalidValue);
  *graph = nullptr;
  REQUIRE(stream->capture, kStreamCaptureUnmatched);
  REQUIRE(stream->capture_mode == kRelaxed || stream->capture_thread == std::this_thread::get_id(),
          kStreamCaptureWrongThread);
  const auto captured = std::move(stream->capture);
  stream->capture = nullptr;
  REQUIRE(!stream->capture_invalid, kStreamCaptureInvalidated);
  *graph = graphs().add(captured);
  return kSuccess;
}
EXPORT int cuLaunchHostFunc(void* handle, void (*function)(void*), void* data) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto stream = stream_of(handle);
  REQUIRE(stream, kInvalidHandle);
  REQUIRE(function, kInvalidValue);
  enqueue(stream, {[function, data] { return function(data), kSuccess; }});
  return kSuccess;
}

constexpr unsigned kDisableTiming = 2;  // CU_EVENT_DISABLE_TIMING

EXPORT int cuEventCreate(Event** handle, unsigned flags) {
  ENTER(kContext);
  REQUIRE(handle, kInvalidValue);
  std::lock_guard lock(state);
  const auto event = std::make_shared<Event>();
  event->timed = !(flags & kDisableTiming);
  *handle = events().add(event);
  return kSuccess;
}
EXPORT int cuEventDestroy_v2(void* handle) {
  ENTER(kContext);
  std::lock_guard lock(state);
  REQUIRE(events().remove(handle), kInvalidHandle);
  return kSuccess;
}
EXPORT int cuEventRecord(void* handle, void* stream_handle) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto event = events().find(handle);
  const auto stream = stream_of(stream_handle);
  REQUIRE(event && stream, kInvalidHandle);
  if (stream->capture) {  // an edge of the graph; its nodes are in order anyway
    say("cuEventRecord in a captured stream is not emulated");
    return kNotSupported;
  }
  const auto milliseconds = event->milliseconds;
  enqueue(stream, {[milliseconds] { return *milliseconds = now_milliseconds(), kSuccess; }});
  event->stream = stream;
  event->ticket = stream->issued;
  return kSuccess;
}
EXPORT int cuStreamWaitEvent(void* stream_handle, void* handle, unsigned) {
  ENTER(kContext);
  std::lock_guard lock(state);
  const auto event = events().find(handle);
  const auto stream = stream_of(stream_handle);
  REQUIRE(event && stream, kInvalidHandle);
  if (stream->capture) {
    say("cuStreamWaitEvent in a captured stream is not emulated");
    return kNotSupported;
  }
  if (event->stream) enqueue_wait(stream, event->stream, event->ticket);
  return kSuccess;
}
EXPORT int cuEventSynchronize(void* handle) {
  ENTER(kContext);
  REQUIRE(!forbidden_while_capturing(), kStreamCaptureUnsupported);
  std::shared_ptr<Event> event;
  {
    std::lock_guard lock(state);
    event = events().find(handle);
    REQUIRE(event, kInvalidHandle);
    if (!event->stream) return kSuccess;
  }
  return run_until(event->stream, event->ticket);
}
EXPORT int cuEventQuery(void* handle) {
  ENTER(kContext);
  std::shared_ptr<Event> event;
  {
    std::lock_guard lock(state);
    event = events().find(handle);
    REQUIRE(event, kInvalidHandle);
    if (!event->stream || event->stream->done >= event->ticket) return kSuccess;
  }
  run_one(event->stream);
  std::lock_guard lock(state);
  return event->stream->context->error ? event->stream->context->error : kNotReady;
}
EXPORT int cuEventElapsedTime_v2(float* milliseconds, void* start, void* end) {
  ENTER(kContext);
  REQUIRE(milliseconds, kInvalidValue);
  std::lock_guard lock(state);
  const auto a = events().find(start), b = events().find(end);
  REQUIRE(a && b && a->timed && b->timed && a->stream && b->stream, kInvalidHandle);
  REQUIRE(a->stream->done >= a->ticket && b->stream->done >= b->ticket, kNotReady);
  *milliseconds = static_cast<float>(*b->milliseconds - *a->milliseconds);
  return kSuccess;
}
EXPORT int cuEventElapsedTime(float* milliseconds, void* start, void* end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
