/* enqueue MODEL: runs on a stream and on device memory that this program makes with the driver's API, which it loads as a
 * program would that has no CUDA headers. */
#include <dlfcn.h>

#include "check.h"

typedef unsigned long long address;

static void *driver;
static void *function(const char *name) {
    void *found = dlsym(driver, name);
    if (found == NULL) fprintf(stderr, "no %s\n", name);
    CHECK(found != NULL);
    return found;
}

/* A call of the driver's by its name, whose parameters have these types. */
#define CU(name, types, ...)                                  \
    do {                                                      \
        int(*name##_call) types;                              \
        void *name##_symbol = function(#name);                \
        memcpy(&name##_call, &name##_symbol, sizeof(void *)); \
        CHECK(name##_call(__VA_ARGS__) == 0);                 \
    } while (0)

enum { COUNT = 2, EMOTIONS = 7, AUS = 12 };

static float *on_device(address at) { return (float *)(uintptr_t)at; }

int main(int argc, char **argv) {
    CHECK(argc == 2);
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    CHECK(driver != NULL);
    int device = 0;
    void *context = NULL, *stream = NULL, *current = NULL;
    CU(cuInit, (unsigned), 0);
    CU(cuDeviceGet, (int *, int), &device, 0);
    CU(cuDevicePrimaryCtxRetain, (void **, int), &context, device);
    CU(cuCtxSetCurrent, (void *), context);
    CU(cuStreamCreate, (void **, unsigned), &stream, 1);

    awsnet_engine *engine = make_engine(argv[1], AWSNET_DEVICE_CUDA, COUNT, 1);
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    OK(awsnet_engine_query(engine, &info, NULL));
    CHECK(info.device == AWSNET_DEVICE_CUDA && info.device_index == 0 && info.precision == AWSNET_PRECISION_F16);
    CHECK(info.label_count[0] == EMOTIONS && info.label_count[1] == AUS);
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));

    /* What the blocking run gives. */
    size_t len = COUNT * image_len(engine);
    float *images = make_images(len), expected[COUNT * AUS], found[COUNT * AUS];
    unsigned char *bytes = malloc(len);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)(i * 7919 % 251);
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    predictions.logits[AWSNET_BRANCH_AU] = expected;
    predictions.capacity[AWSNET_BRANCH_AU] = COUNT * AUS;
    OK(awsnet_session_run(session, images, len, &predictions, NULL));
    CU(cuCtxGetCurrent, (void **), &current);
    CHECK(current == context);

    /* The same on the device, floats and bytes, on a stream of this program's and on the default one. */
    address pixels = 0, results = 0;
    CU(cuMemAlloc_v2, (address *, size_t), &pixels, len * sizeof(float));
    CU(cuMemAlloc_v2, (address *, size_t), &results, sizeof found);
    awsnet_device_images from = AWSNET_DEVICE_IMAGES_INIT;
    from.pixels = on_device(pixels);
    from.count = COUNT;
    awsnet_predictions to = AWSNET_PREDICTIONS_INIT;
    to.logits[AWSNET_BRANCH_AU] = on_device(results);
    to.capacity[AWSNET_BRANCH_AU] = COUNT * AUS;
    for (int is_bytes = 0; is_bytes < 2; is_bytes++) {
        if (is_bytes) {
            awsnet_images_u8 host = AWSNET_IMAGES_U8_INIT;
            host.pixels = bytes;
            host.size = len;
            host.count = COUNT;
            OK(awsnet_session_run_u8(session, &host, &predictions, NULL));
            from.format = AWSNET_PIXELS_U8;
            CU(cuMemcpyHtoD_v2, (address, const void *, size_t), pixels, bytes, len);
        } else {
            CU(cuMemcpyHtoD_v2, (address, const void *, size_t), pixels, images, len * sizeof(float));
        }
        for (int run = 0; run < 4; run++) {
            void *where = run % 2 ? NULL : stream;
            memset(found, 0, sizeof found);
            CU(cuMemcpyHtoD_v2, (address, const void *, size_t), results, found, sizeof found);
            OK(awsnet_session_enqueue(session, where, &from, &to, NULL));
            CU(cuStreamSynchronize, (void *), where);
            CU(cuMemcpyDtoH_v2, (void *, address, size_t), found, results, sizeof found);
            CHECK(memcmp(found, expected, sizeof found) == 0);
        }
    }

    /* Wrong calls queue nothing. */
    awsnet_error error = AWSNET_ERROR_INIT;
#define WRONG(statement, undo, status)                                               \
    statement;                                                                       \
    CHECK(awsnet_session_enqueue(session, stream, &from, &to, &error) == status);    \
    undo
    WRONG(to.capacity[1]--, to.capacity[1]++, AWSNET_STATUS_BUFFER_TOO_SMALL);
    WRONG(from.count = 0, from.count = COUNT, AWSNET_STATUS_INVALID_ARGUMENT);
    WRONG(from.count = COUNT + 1, from.count = COUNT, AWSNET_STATUS_INVALID_ARGUMENT);
    WRONG(from.row_stride = 1, from.row_stride = 0, AWSNET_STATUS_INVALID_ARGUMENT);
    WRONG(from.pixels = NULL, from.pixels = on_device(pixels), AWSNET_STATUS_INVALID_ARGUMENT);
    WRONG(from.format = 7, from.format = AWSNET_PIXELS_U8, AWSNET_STATUS_INVALID_ARGUMENT);
    WRONG(to.logits[0] = (float *)(uintptr_t)(results + 2), to.logits[0] = NULL, AWSNET_STATUS_INVALID_ARGUMENT);
    OK(awsnet_session_enqueue(session, stream, &from, &to, &error));
    CU(cuStreamSynchronize, (void *), stream);

    OK(awsnet_session_run_within(session, images, len, 600000000, &predictions, &error));
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
    CU(cuMemFree_v2, (address), results);
    CU(cuMemFree_v2, (address), pixels);
    CU(cuStreamDestroy_v2, (void *), stream);
    free(bytes);
    free(images);
    return 0;
}
