/*
 * awsnet: inference with AWS-Net, two CNN branches that recognise emotions and facial action units (AUs).
 *
 *     awsnet_model *model;
 *     awsnet_engine *engine;
 *     awsnet_session *session;
 *     awsnet_error error = AWSNET_ERROR_INIT;
 *     if (awsnet_model_load("model.safetensors", &model, &error) != AWSNET_STATUS_OK)
 *         fprintf(stderr, "%s\n", error.message);
 *     awsnet_engine_create(model, NULL, &engine, &error);    // every default; shared between threads
 *     awsnet_session_create(engine, &session, &error);       // one caller's memory
 *
 *     awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
 *     predictions.probabilities[AWSNET_BRANCH_EMOTION] = emotions;
 *     predictions.capacity[AWSNET_BRANCH_EMOTION] = 7;       // floats in emotions
 *     awsnet_session_run(session, image, 3 * 112 * 112, &predictions, &error);
 *
 * Faces in a picture, each cut out as the network wants it; awsnet_detector_create(NULL, NULL, &detector, &error):
 *
 *     awsnet_detector_detect(detector, &frame, faces, 16, &count, &error);
 *     awsnet_engine_cut(engine, &frame, &faces[0], image, 3 * 112 * 112, &error);
 *
 * The laws, which docs/c-abi.md states in full:
 *
 * - A function returns a status, and writes its outputs only where that is AWSNET_STATUS_OK.
 * - error, always the last parameter, is NULL or the caller's; it is written only where the call fails. The other
 *   pointers must not be NULL unless their function says so.
 * - What a _create or _load gives is freed by the _destroy of its kind, on any thread, in any order.
 * - Models and engines may be used by several threads at once, a session or a detector by one at a time.
 * - A struct begins with its size, which its _INIT macro sets; its other fields may be set or left zero. awsnet_face
 *   alone has none.
 *
 * Written by cbindgen from src/capi; do not edit.
 */

#ifndef AWSNET_H
#define AWSNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* First values: awsnet_error error = AWSNET_ERROR_INIT; */
#define AWSNET_ERROR_INIT {sizeof(awsnet_error), 0, {0}}
#define AWSNET_ENGINE_OPTIONS_INIT \
    {sizeof(awsnet_engine_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
#define AWSNET_POOL_OPTIONS_INIT {sizeof(awsnet_pool_options), 0, 0, 0, 0, 0, 0, 0}
#define AWSNET_DETECTOR_OPTIONS_INIT {sizeof(awsnet_detector_options), 0, 0, 0, 0, 0, 0, 0, 0}
#define AWSNET_FRAME_INIT {sizeof(awsnet_frame), 0, 0, 0, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}}
#define AWSNET_RUN_OPTIONS_INIT {sizeof(awsnet_run_options), 0, 0, 0}
#define AWSNET_ENGINE_INFO_INIT \
    {sizeof(awsnet_engine_info), 0, 0, 0, 0, 0, 0, 0, 0, {0, 0}, {0, 0, 0}, {0, 0, 0}, 0, 0}
#define AWSNET_HEAD_INFO_INIT {sizeof(awsnet_head_info), 0, 0, 0, 0}
#define AWSNET_IMAGES_U8_INIT {sizeof(awsnet_images_u8), 0, 0, 0, 0, 0, 0}
#define AWSNET_DEVICE_IMAGES_INIT {sizeof(awsnet_device_images), 0, 0, 0, 0, 0}
#define AWSNET_PREDICTIONS_INIT {sizeof(awsnet_predictions), 0, {0, 0}, {0, 0}, {0, 0}}

// The version of this interface, which the SONAME carries too. It changes only when a program compiled against an
// older header would break.
#define AWSNET_ABI_VERSION 1

// Done; the outputs are written.
#define AWSNET_STATUS_OK 0

// An argument: NULL where that is not allowed, an unknown value, a length or a batch out of range.
#define AWSNET_STATUS_INVALID_ARGUMENT 1

// A buffer for results is shorter than they are.
#define AWSNET_STATUS_BUFFER_TOO_SMALL 2

// A file could not be opened or read.
#define AWSNET_STATUS_FILE 3

// The contents of a model file break the format.
#define AWSNET_STATUS_MODEL 4

// A valid model that cannot run as the options ask: a precision that the device does not have, sizes that overflow.
#define AWSNET_STATUS_PLAN 5

// The device asked for is missing or refused to work.
#define AWSNET_STATUS_DEVICE 6

// More memory would be needed than there is.
#define AWSNET_STATUS_MEMORY 7

// The session is running on another thread. Nothing was done; the run goes on.
#define AWSNET_STATUS_BUSY 8

// A fault inside awsnet. The handle is poisoned.
#define AWSNET_STATUS_INTERNAL 9

// An earlier fault, in awsnet or of the device, has left the handle unusable. Destroy it; after a fault of a device,
// that device works again in a new process only.
#define AWSNET_STATUS_POISONED 10

// A run did not end in time. On a GPU its engine is poisoned; elsewhere the session works on.
#define AWSNET_STATUS_DEADLINE 11

// A run was given up because the caller's flag was set. The session works on.
#define AWSNET_STATUS_CANCELLED 12

// A fault inside awsnet; the call returns AWSNET_STATUS_INTERNAL.
#define AWSNET_LOG_ERROR 1

// A choice that was made, as where AWSNET_DEVICE_AUTO has led.
#define AWSNET_LOG_INFO 3

// What the process may use, whatever the thread is pinned to that makes the session or the pool.
#define AWSNET_AFFINITY_PROCESS 0

// What the thread that makes the session or the pool may use.
#define AWSNET_AFFINITY_INHERIT 1

// A processor for each thread, from the array processors: the first thread is pinned to the first, and so on, from the
// beginning again where there are fewer. Linux only.
#define AWSNET_AFFINITY_PINNED 2

// For spin_us: a thread that waits sleeps at once.
#define AWSNET_SPIN_NONE -1

// For spin_us: a thread that waits never sleeps.
#define AWSNET_SPIN_ALWAYS -2

// A GPU where one works, else the CPU; the log says which, and why.
#define AWSNET_DEVICE_AUTO 0

// This processor.
#define AWSNET_DEVICE_CPU 1

// The naive loops that everything is checked against. Slow.
#define AWSNET_DEVICE_REFERENCE 2

// The GPU of number device_index.
#define AWSNET_DEVICE_CUDA 3

// The device's own: F32 on a CPU, F16 on a GPU.
#define AWSNET_PRECISION_DEFAULT 0

// Single precision.
#define AWSNET_PRECISION_F32 1

// Half precision, sums in single precision.
#define AWSNET_PRECISION_F16 2

// Brain floating point, sums in single precision.
#define AWSNET_PRECISION_BF16 3

// When it is made: for one image, every power of two below the batch, and the batch. A run of a number in between takes
// as long as the next of them.
#define AWSNET_GRAPHS_AT_START 0

// For each number of images when it is first run, which takes longer that once.
#define AWSNET_GRAPHS_ON_FIRST_USE 1

// Emotions: exactly one is true. Probabilities are a softmax.
#define AWSNET_BRANCH_EMOTION 0

// Facial action units: any of them may be active. Probabilities are a sigmoid each.
#define AWSNET_BRANCH_AU 1

// One of several classes: a softmax.
#define AWSNET_HEAD_KIND_CLASSES 0

// Units that are active or not, whatever the others are: a sigmoid each.
#define AWSNET_HEAD_KIND_UNITS 1

// Numbers as they are: probabilities are the logits.
#define AWSNET_HEAD_KIND_VALUES 2

// Floats, [count][channels][height][width], normalised as awsnet_engine_info says.
#define AWSNET_PIXELS_F32 0

// Bytes, [count][height][width][channels]; the device normalises them.
#define AWSNET_PIXELS_U8 1

// Red, green, blue.
#define AWSNET_FRAME_RGB 0

// Blue, green, red.
#define AWSNET_FRAME_BGR 1

// Red, green, blue, and a fourth value that is not read.
#define AWSNET_FRAME_RGBA 2

// Blue, green, red, and a fourth value that is not read.
#define AWSNET_FRAME_BGRA 3

// One value for all three.
#define AWSNET_FRAME_GREY 4

// A plane of luma, then one of chroma with half the rows and columns, rounded up: Cb and Cr in turn. ITU-R BT.601, luma from
// 16 to 235.
#define AWSNET_FRAME_NV12 5

// As AWSNET_FRAME_NV12, but Cb and Cr have a plane each.
#define AWSNET_FRAME_I420 6

// The eye on the left.
#define AWSNET_POINT_LEFT_EYE 0

// The eye on the right.
#define AWSNET_POINT_RIGHT_EYE 1

// The tip of the nose.
#define AWSNET_POINT_NOSE 2

// The middle of the mouth.
#define AWSNET_POINT_MOUTH 3

// In front of the ear on the left.
#define AWSNET_POINT_LEFT_EAR 4

// In front of the ear on the right.
#define AWSNET_POINT_RIGHT_EAR 5

// A face detector: its network made ready, and one caller's memory and threads. Any thread may use it, one at a time.
typedef struct awsnet_detector awsnet_detector;

// A model made ready to run: weights, and every choice about how. Immutable: any number of threads may use one at once.
typedef struct awsnet_engine awsnet_engine;

// A place for a thread of the caller's in a run. Not to be kept: awsnet_help_run is called with it once.
typedef struct awsnet_help awsnet_help;

// A network as its file states it. Immutable: any number of threads may use one at once.
typedef struct awsnet_model awsnet_model;

// Threads that the sessions of several engines share. Any number of threads may use one at once.
typedef struct awsnet_pool awsnet_pool;

// One caller's memory and threads. Any thread may use it, one at a time.
typedef struct awsnet_session awsnet_session;

// What a call came to: one of AWSNET_STATUS_*. Values are never reused; a newer library may return new ones, so
// treat one that you do not know as a failure.
typedef int32_t awsnet_status;

// How grave a message is: one of AWSNET_LOG_*.
typedef int32_t awsnet_log_level;

// Receives a message: one line of UTF-8, which lives until the function returns. It is called on the thread of the
// call that has something to say, from several threads at once where there are several. It must return (no longjmp,
// no exception), and must not set the callback.
typedef void (*awsnet_log_callback)(void *user_data,
                                    awsnet_log_level level,
                                    const char *message);

// A failure, described. The caller's; set struct_size before the call: awsnet_error error = AWSNET_ERROR_INIT;
typedef struct awsnet_error {
    // sizeof(awsnet_error)
    uint32_t struct_size;
    // What the call returned.
    awsnet_status status;
    // One line of UTF-8, "PLACE: expected EXPECTED, found FOUND", ending with NUL; cut where it is longer.
    char message[504];
} awsnet_error;

// Which processors the library's threads may use, one of AWSNET_AFFINITY_*. The caller's own thread stays where it is.
typedef int32_t awsnet_affinity;

// What each of the library's threads calls first, with its number from 0 on, on several threads at once. It must return.
typedef void (*awsnet_thread_start_callback)(void *user_data,
                                             uint32_t number);

// How a pool is made. All zero but struct_size takes every default: awsnet_pool_options options =
// AWSNET_POOL_OPTIONS_INIT;
typedef struct awsnet_pool_options {
    // sizeof(awsnet_pool_options)
    uint32_t struct_size;
    // Threads that help those that run sessions; 0 is one for each processor that the process may use, but one.
    uint32_t threads;
    // Microseconds that a thread that waits keeps its processor before it sleeps; 0 is the default, 200. Or
    // AWSNET_SPIN_NONE or AWSNET_SPIN_ALWAYS.
    int32_t spin_us;
    // Where the threads run.
    awsnet_affinity affinity;
    // For AWSNET_AFFINITY_PINNED, the numbers of processors; else NULL.
    const uint32_t *processors;
    // How many there are.
    size_t processor_count;
    // What each thread calls first; NULL for nothing.
    awsnet_thread_start_callback thread_start;
    // For thread_start.
    void *thread_start_user_data;
} awsnet_pool_options;

// Where to run: one of AWSNET_DEVICE_*.
typedef int32_t awsnet_device;

// The type of the feature maps: one of AWSNET_PRECISION_*. Inputs and results are float whatever it is.
typedef int32_t awsnet_precision;

// When a session on a GPU captures the CUDA graphs that its runs replay: one of AWSNET_GRAPHS_*.
typedef int32_t awsnet_graphs;

// Threads of the caller's own: has awsnet_help_run called with this help on one of them, soon or late, and returns at once.
// It is called within runs, on any of their threads, and must return (no longjmp, no exception). A run never waits for a
// help that has not begun.
typedef void (*awsnet_executor_callback)(void *user_data,
                                         struct awsnet_help *help);

// How to run a model. All zero but struct_size takes every default: awsnet_engine_options options =
// AWSNET_ENGINE_OPTIONS_INIT;
typedef struct awsnet_engine_options {
    // sizeof(awsnet_engine_options)
    uint32_t struct_size;
    // Where to run.
    awsnet_device device;
    // The GPU's number as the driver counts, for AWSNET_DEVICE_CUDA; else 0.
    uint32_t device_index;
    // The type of the feature maps.
    awsnet_precision precision;
    // The most images that one run takes; 0 is 1.
    uint32_t batch;
    // Threads of each session, the caller's included; 0 is as many as the network can use, up to the processors that the
    // process may use. Results are the same bits with any number. A GPU needs the caller's only, and what follows about
    // threads is not for it.
    uint32_t threads;
    // When a session on a GPU captures its graphs.
    awsnet_graphs graphs;
    // Microseconds that a thread that waits, for more to do or for others, keeps its processor before it sleeps; 0 is the
    // default, 200. Or AWSNET_SPIN_NONE or AWSNET_SPIN_ALWAYS.
    int32_t spin_us;
    // Where the threads of sessions run, besides the caller's.
    awsnet_affinity affinity;
    // 0
    uint32_t reserved;
    // For AWSNET_AFFINITY_PINNED, the numbers of processors; else NULL.
    const uint32_t *processors;
    // How many there are.
    size_t processor_count;
    // What each thread of a session calls first; NULL for nothing. The session is made when all have returned.
    awsnet_thread_start_callback thread_start;
    // For thread_start.
    void *thread_start_user_data;
    // Threads that sessions share, instead of their own; NULL for none. It may be destroyed before the engine.
    const struct awsnet_pool *pool;
    // The caller's own threads, instead; NULL for none.
    awsnet_executor_callback executor;
    // For executor.
    void *executor_user_data;
} awsnet_engine_options;

// What an engine has come to: awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
typedef struct awsnet_engine_info {
    // sizeof(awsnet_engine_info)
    uint32_t struct_size;
    // Where it runs; never AWSNET_DEVICE_AUTO.
    awsnet_device device;
    // The GPU's number; 0 elsewhere.
    uint32_t device_index;
    // The type of the feature maps; never AWSNET_PRECISION_DEFAULT.
    awsnet_precision precision;
    // The most images that one run takes.
    uint32_t batch;
    // Threads of each session, the caller's included.
    uint32_t threads;
    // Channels of an image: 3 (red, green, blue) or 1 (luma).
    uint32_t channels;
    // Rows of an image.
    uint32_t height;
    // Pixels in a row of an image.
    uint32_t width;
    // Numbers that each of the first two heads gives; 0 for one that is not there.
    uint32_t label_count[2];
    // A value of channel c that is input to the network is (pixel / 255 - mean[c]) / std[c]; zero beyond channels.
    float mean[3];
    // See mean.
    float std[3];
    // Heads of the model.
    uint32_t head_count;
    // Branches of the model: 1 or 2.
    uint32_t branch_count;
} awsnet_engine_info;

// The number of a head, in the order of the model file: awsnet_engine_find_head gives that of a name. The heads of an AWS-Net
// are numbered as its branches, by AWSNET_BRANCH_*.
typedef int32_t awsnet_head;

// What a head's logits stand for: one of AWSNET_HEAD_KIND_*.
typedef int32_t awsnet_head_kind;

// What a head gives: awsnet_head_info info = AWSNET_HEAD_INFO_INIT;
typedef struct awsnet_head_info {
    // sizeof(awsnet_head_info)
    uint32_t struct_size;
    // What its logits stand for.
    awsnet_head_kind kind;
    // Numbers that it gives for an image.
    size_t count;
    // Labels: as many as numbers, or none.
    size_t label_count;
    // Its name, UTF-8, which lives as long as the engine.
    const char *name;
} awsnet_head_info;

// Where the results of a run go: awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT; Each array has one element for
// each of the first two heads, by AWSNET_BRANCH_* in an AWS-Net; awsnet_session_scores gives the results of any head. A buffer
// holds the scores of image 0, then those of image 1, and so on: [images][numbers]. It is written only where the run
// succeeds, and is the caller's.
typedef struct awsnet_predictions {
    // sizeof(awsnet_predictions)
    uint32_t struct_size;
    // 0
    uint32_t reserved;
    // Scores before softmax or sigmoid; NULL for none.
    float *logits[2];
    // Scores from 0 to 1; NULL for none.
    float *probabilities[2];
    // Floats that each buffer of the head has room for.
    size_t capacity[2];
} awsnet_predictions;

// What a run keeps to: awsnet_run_options options = AWSNET_RUN_OPTIONS_INIT;
typedef struct awsnet_run_options {
    // sizeof(awsnet_run_options)
    uint32_t struct_size;
    // 0
    uint32_t reserved;
    // Microseconds after the call when the run gives up with AWSNET_STATUS_DEADLINE; 0 for never.
    uint64_t timeout_us;
    // A flag by which another thread ends the run with AWSNET_STATUS_CANCELLED; NULL for none. It is read atomically, and
    // stays as it is: the caller clears it for the next run. On a GPU it is read before the work is queued, and not again.
    const bool *cancel;
} awsnet_run_options;

// 8-bit images as a camera or a decoder gives them, [count][height][width][channels]: awsnet_images_u8 images =
// AWSNET_IMAGES_U8_INIT;
typedef struct awsnet_images_u8 {
    // sizeof(awsnet_images_u8)
    uint32_t struct_size;
    // 0
    uint32_t reserved;
    // The first row of the first image.
    const uint8_t *pixels;
    // Bytes from there to the end of the last row of the last image, or more.
    size_t size;
    // The number of images, from 1 to the engine's batch.
    size_t count;
    // Bytes from one row to the next; 0 where there is nothing between rows.
    size_t row_stride;
    // Bytes from one image to the next; 0 where there is nothing between images.
    size_t image_stride;
} awsnet_images_u8;

// How pixels lie in device memory: one of AWSNET_PIXELS_*.
typedef int32_t awsnet_pixels;

// Images in device memory: awsnet_device_images images = AWSNET_DEVICE_IMAGES_INIT;
typedef struct awsnet_device_images {
    // sizeof(awsnet_device_images)
    uint32_t struct_size;
    // How the pixels lie.
    awsnet_pixels format;
    // The address of the first, in device memory; of floats a multiple of 4.
    const void *pixels;
    // The number of images, from 1 to the engine's batch.
    size_t count;
    // For AWSNET_PIXELS_U8, as in awsnet_images_u8; else 0.
    size_t row_stride;
    // For AWSNET_PIXELS_U8, as in awsnet_images_u8; else 0.
    size_t image_stride;
} awsnet_device_images;

// How to look for faces. All zero but struct_size takes every default: awsnet_detector_options options =
// AWSNET_DETECTOR_OPTIONS_INIT;
typedef struct awsnet_detector_options {
    // sizeof(awsnet_detector_options)
    uint32_t struct_size;
    // Faces that the detector is less sure of are left out, from 0 to 1; 0 is 0.6. In closer looks, of which there are many for
    // a frame, it is at least 0.8.
    float min_score;
    // How small a face may be, in pixels of its bounds' width; 0 is a tenth of the frame's longer side, which one look at
    // the whole frame finds. Smaller faces need closer looks, at four times as many squares each time that it is halved, and 256
    // at most: the closest are left out where there would be more.
    float min_face;
    // Where the detector runs; AWSNET_DEVICE_AUTO is the CPU, where a frame is ready faster than it is on its way to a GPU
    // and back.
    awsnet_device device;
    // The GPU's number as the driver counts, for AWSNET_DEVICE_CUDA; else 0.
    uint32_t device_index;
    // As in awsnet_engine_options.
    uint32_t threads;
    // As in awsnet_engine_options.
    int32_t spin_us;
    // 0
    uint32_t reserved;
    // Threads to share with sessions and other detectors, instead of its own; NULL for none. It may be destroyed before the
    // detector.
    const struct awsnet_pool *pool;
} awsnet_detector_options;

// How the pixels of a frame lie in memory, a byte a value: one of AWSNET_FRAME_*.
typedef int32_t awsnet_frame_format;

// A picture in the caller's memory, row by row from the top, of which nothing is copied: awsnet_frame frame =
// AWSNET_FRAME_INIT;
typedef struct awsnet_frame {
    // sizeof(awsnet_frame)
    uint32_t struct_size;
    // How the pixels lie.
    awsnet_frame_format format;
    // Pixels in a row, from 1 to 2^24.
    uint32_t width;
    // Rows, from 1 to 2^24.
    uint32_t height;
    // The first row of each plane that the format has; NULL for others. Where planes[1] of AWSNET_FRAME_NV12 or
    // AWSNET_FRAME_I420 is NULL, chroma lies behind height rows of luma, in as many bytes a row for NV12 and half as many,
    // rounded up, for I420; where a row of NV12's chroma, of odd width, needs one more, it has that.
    const uint8_t *planes[3];
    // Bytes from there to the end of the last row of the plane, or more; for chroma that lies behind luma, all of it in
    // sizes[0], and 0.
    size_t sizes[3];
    // Bytes from one row to the next; 0 where there is nothing between rows.
    size_t row_strides[3];
} awsnet_frame;

// A face in a frame, in pixels from the frame's upper left corner. Callers keep arrays of it: it has no size, and never changes.
typedef struct awsnet_face {
    // The left side of its bounds, which reach about from the brows to the chin and from ear to ear, and may cross the
    // frame's borders.
    float x;
    // The upper side.
    float y;
    // From the left side to the right.
    float width;
    // From the upper side to the lower.
    float height;
    // From 0 to 1, how sure the detector is.
    float score;
    // 6; 0 for a face whose points are not known, which something else has found.
    uint32_t point_count;
    // x and y of each point, by AWSNET_POINT_*.
    float points[6][2];
    // 0; what comes later stands here.
    uint32_t reserved[6];
} awsnet_face;

// One of the two networks of an AWS-Net, and its head: one of AWSNET_BRANCH_*.
typedef int32_t awsnet_branch;

// A point of a face, in awsnet_face.points: one of AWSNET_POINT_*. Left is the picture's left where the face stands upright.
typedef int32_t awsnet_point;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The AWSNET_ABI_VERSION of the library that is loaded. A program that loads it by hand compares this with the one
// it was compiled with.
uint32_t awsnet_abi_version(void);

// The version of the library that is loaded, as in "0.1.0". Lives for ever.
const char *awsnet_version(void);

// A status in words, as in "invalid argument"; "unknown status" for what is none. Lives for ever.
const char *awsnet_status_name(awsnet_status status);

// The last failure of a call on this thread. A call that succeeds leaves it, so clean up first, ask then.
//
// message: receives the text with a NUL at its end, cut at a character where size bytes are too few. May be NULL
// where size is 0.
// length: receives the bytes of the whole text, without the NUL. May be NULL.
// status: receives what that call returned, AWSNET_STATUS_OK where none has failed. May be NULL.
awsnet_status awsnet_error_last(char *message,
                                size_t size,
                                size_t *length,
                                awsnet_status *status);

// Sets who receives messages, for the whole process; NULL for nobody, as at the start. When it returns, the callback
// set before is not running and is never called again.
//
// AWSNET_STATUS_BUSY: called from inside the callback.
awsnet_status awsnet_log_set(awsnet_log_callback callback,
                             void *user_data,
                             struct awsnet_error *error);

// Reads a model file (.safetensors). path: the system's bytes; on Windows, UTF-8.
//
// AWSNET_STATUS_FILE, AWSNET_STATUS_MODEL, AWSNET_STATUS_MEMORY: the message says where in the file.
awsnet_status awsnet_model_load(const char *path,
                                struct awsnet_model **model,
                                struct awsnet_error *error);

// Reads a model file that is in memory: size bytes, which may be freed afterwards.
awsnet_status awsnet_model_load_bytes(const void *bytes,
                                      size_t size,
                                      struct awsnet_model **model,
                                      struct awsnet_error *error);

// Frees a model; NULL is none. Engines made from it go on.
awsnet_status awsnet_model_destroy(struct awsnet_model *model);

// Makes a pool, for awsnet_engine_options. options: NULL takes every default.
//
// AWSNET_STATUS_MEMORY: a thread cannot be had.
awsnet_status awsnet_pool_create(const struct awsnet_pool_options *options,
                                 struct awsnet_pool **pool,
                                 struct awsnet_error *error);

// Frees a pool; NULL is none. Its threads end with the last engine and session that use it.
awsnet_status awsnet_pool_destroy(struct awsnet_pool *pool);

// Works on a run until there is nothing to do for as long as the engine's threads spin, and frees the help; NULL is none.
// Too late it returns at once. It may be called after the session is destroyed.
awsnet_status awsnet_help_run(struct awsnet_help *help);

// Makes a model ready to run. The engine needs the model no longer: it can be destroyed at once, which frees its weights.
// options: NULL takes every default.
//
// AWSNET_STATUS_DEVICE, AWSNET_STATUS_PLAN, AWSNET_STATUS_MEMORY: what the options ask for cannot be had here.
awsnet_status awsnet_engine_create(const struct awsnet_model *model,
                                   const struct awsnet_engine_options *options,
                                   struct awsnet_engine **engine,
                                   struct awsnet_error *error);

// What an engine runs on, and the images it reads.
awsnet_status awsnet_engine_query(const struct awsnet_engine *engine,
                                  struct awsnet_engine_info *info,
                                  struct awsnet_error *error);

// What a head gives.
awsnet_status awsnet_engine_head(const struct awsnet_engine *engine,
                                 awsnet_head head,
                                 struct awsnet_head_info *info,
                                 struct awsnet_error *error);

// The number of the head of a name, UTF-8.
awsnet_status awsnet_engine_find_head(const struct awsnet_engine *engine,
                                      const char *name,
                                      awsnet_head *head,
                                      struct awsnet_error *error);

// The label of a head's number index: UTF-8, which lives as long as the engine.
awsnet_status awsnet_engine_label(const struct awsnet_engine *engine,
                                  awsnet_head head,
                                  size_t index,
                                  const char **label,
                                  struct awsnet_error *error);

// The probability from which on the action unit of number index counts as active: that of the first head of units.
awsnet_status awsnet_engine_threshold(const struct awsnet_engine *engine,
                                      size_t index,
                                      float *threshold,
                                      struct awsnet_error *error);

// As awsnet_engine_threshold, of any head; heads of other kinds than units have none.
awsnet_status awsnet_engine_head_threshold(const struct awsnet_engine *engine,
                                           awsnet_head head,
                                           size_t index,
                                           float *threshold,
                                           struct awsnet_error *error);

// Every choice about how the model runs, as a table for people: several lines of UTF-8, which live as long as the engine.
// The wording is not part of this interface.
awsnet_status awsnet_engine_describe(const struct awsnet_engine *engine,
                                     const char **text,
                                     struct awsnet_error *error);

// Frees an engine; NULL is none. Sessions made from it go on.
awsnet_status awsnet_engine_destroy(struct awsnet_engine *engine);

// Makes a session: the memory and the threads of one run at a time. The engine may be destroyed before it.
//
// AWSNET_STATUS_MEMORY: not enough for the feature maps.
awsnet_status awsnet_session_create(const struct awsnet_engine *engine,
                                    struct awsnet_session **session,
                                    struct awsnet_error *error);

// Runs the network on images of floats, [N][channels][height][width], normalised as awsnet_engine_info says. Returns when
// the results are there.
//
// images: len floats, which is N images; N from 1 to the engine's batch.
// predictions: where the results go.
//
// AWSNET_STATUS_INVALID_ARGUMENT: a length that is no whole number of images, or too many.
// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
// AWSNET_STATUS_BUSY: the session is running on another thread.
awsnet_status awsnet_session_run(struct awsnet_session *session,
                                 const float *images,
                                 size_t len,
                                 const struct awsnet_predictions *predictions,
                                 struct awsnet_error *error);

// As awsnet_session_run, and gives up timeout_us microseconds after the call.
//
// AWSNET_STATUS_DEADLINE: a CPU has looked at the clock between pieces of work of a fraction of a millisecond, and the
// session works on. Work on a GPU cannot be taken back, so the engine is poisoned, and what the device may still use is
// never freed.
awsnet_status awsnet_session_run_within(struct awsnet_session *session,
                                        const float *images,
                                        size_t len,
                                        uint64_t timeout_us,
                                        const struct awsnet_predictions *predictions,
                                        struct awsnet_error *error);

// As awsnet_session_run, with options; NULL for none.
//
// AWSNET_STATUS_DEADLINE: as for awsnet_session_run_within.
// AWSNET_STATUS_CANCELLED: the flag was set; the session works on.
awsnet_status awsnet_session_run_with(struct awsnet_session *session,
                                      const float *images,
                                      size_t len,
                                      const struct awsnet_run_options *options,
                                      const struct awsnet_predictions *predictions,
                                      struct awsnet_error *error);

// Runs the network on 8-bit images, which it normalises. Returns when the results are there; else as awsnet_session_run.
awsnet_status awsnet_session_run_u8(struct awsnet_session *session,
                                    const struct awsnet_images_u8 *images,
                                    const struct awsnet_predictions *predictions,
                                    struct awsnet_error *error);

// The results of the last run for one head: logits and probabilities, [images][numbers], as many images as ran.
//
// head: as in awsnet_engine_head. logits, probabilities: NULL for what is not wanted.
// capacity: floats that each buffer has room for.
// count: the number of images, written where it is not NULL.
//
// AWSNET_STATUS_INVALID_ARGUMENT: nothing has run yet, or the last run failed or was queued on a stream.
// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
awsnet_status awsnet_session_scores(struct awsnet_session *session,
                                    awsnet_head head,
                                    float *logits,
                                    float *probabilities,
                                    size_t capacity,
                                    size_t *count,
                                    struct awsnet_error *error);

// As awsnet_session_run_u8, with options, as awsnet_session_run_with.
awsnet_status awsnet_session_run_u8_with(struct awsnet_session *session,
                                         const struct awsnet_images_u8 *images,
                                         const struct awsnet_run_options *options,
                                         const struct awsnet_predictions *predictions,
                                         struct awsnet_error *error);

// Queues a run on a CUDA stream and returns at once; for an engine on AWSNET_DEVICE_CUDA. It does not wait for the
// device. It allocates where format, count and addresses are none of the last 16 that the session has seen, and nothing
// otherwise: a graph is captured for them. On a stream that is being captured, the kernels join the caller's graph, which
// must not outlive the session.
//
// stream: a CUstream or a cudaStream_t of the primary context of the engine's device; NULL is the default stream.
// images: where the pixels will be when the stream gets there.
// predictions: addresses in device memory, multiples of 4.
//
// Until the stream has done the work, the addresses stay valid and the session is not destroyed; the session's next run,
// of whatever kind, is queued in the same stream or waits for it. What goes wrong on the device shows in a later call of
// whoever waits for the stream.
awsnet_status awsnet_session_enqueue(struct awsnet_session *session,
                                     void *stream,
                                     const struct awsnet_device_images *images,
                                     const struct awsnet_predictions *predictions,
                                     struct awsnet_error *error);

// Frees a session; NULL is none.
//
// AWSNET_STATUS_BUSY: it is running on another thread, and goes on; nothing is freed.
awsnet_status awsnet_session_destroy(struct awsnet_session *session);

// Makes a detector.
//
// model: NULL for the one in the library, BlazeFace for cameras at the back. Or another of its kind: a network that reads RGB
// squares of a multiple of 32 pixels and has the heads scores16, boxes16, scores8 and boxes8 of plain numbers. It may be
// destroyed at once.
// options: NULL takes every default.
//
// AWSNET_STATUS_MODEL: the model is no such detector.
// AWSNET_STATUS_DEVICE, AWSNET_STATUS_PLAN, AWSNET_STATUS_MEMORY: as for awsnet_engine_create.
awsnet_status awsnet_detector_create(const struct awsnet_model *model,
                                     const struct awsnet_detector_options *options,
                                     struct awsnet_detector **detector,
                                     struct awsnet_error *error);

// Finds the faces in a frame, the surest first. Faces that are turned by more than about 30 degrees in the frame's plane, or
// look away, may be missed.
//
// faces: receives as many as there are, and no more than capacity. May be NULL where capacity is 0.
// count: receives the number of faces that there are, which may be more than capacity.
//
// AWSNET_STATUS_INVALID_ARGUMENT: a frame whose rows or planes do not fit their bytes.
// AWSNET_STATUS_BUSY: the detector is at work on another thread.
awsnet_status awsnet_detector_detect(struct awsnet_detector *detector,
                                     const struct awsnet_frame *frame,
                                     struct awsnet_face *faces,
                                     size_t capacity,
                                     size_t *count,
                                     struct awsnet_error *error);

// Frees a detector; NULL is none.
//
// AWSNET_STATUS_BUSY: it is at work on another thread, and goes on; nothing is freed.
awsnet_status awsnet_detector_destroy(struct awsnet_detector *detector);

// Cuts a face out of a frame as the model's file says (`face` in docs/model-format.md), or else as the square of 1.2 times
// the longer side of the bounds, 0.05 of it higher; normalised, as awsnet_session_run takes it. What lies outside of the
// frame is black; what shrinks is antialiased.
//
// face: as awsnet_detector_detect has found it, or all zero but the bounds; models whose file names points need those.
// image: receives an image, [channels][height][width] as awsnet_engine_info says.
// len: floats that there is room for.
//
// AWSNET_STATUS_INVALID_ARGUMENT: bounds without an area, or far from the frame; points that are missing or all one.
// AWSNET_STATUS_BUFFER_TOO_SMALL: the message says how many floats there are.
awsnet_status awsnet_engine_cut(const struct awsnet_engine *engine,
                                const struct awsnet_frame *frame,
                                const struct awsnet_face *face,
                                float *image,
                                size_t len,
                                struct awsnet_error *error);

// As awsnet_engine_cut, for awsnet_session_run_u8: bytes, which the run normalises.
//
// pixels: receives an image, [height][width][channels] as awsnet_engine_info says: red, green and blue, or luma.
// size: bytes that there is room for.
awsnet_status awsnet_engine_cut_u8(const struct awsnet_engine *engine,
                                   const struct awsnet_frame *frame,
                                   const struct awsnet_face *face,
                                   uint8_t *pixels,
                                   size_t size,
                                   struct awsnet_error *error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* AWSNET_H */
