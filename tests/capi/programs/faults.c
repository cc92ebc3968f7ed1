/* faults MODEL: wrong calls end in a status and a message, write nothing else, and leave the handles working. */
#include <pthread.h>

#include "check.h"

static awsnet_error error = AWSNET_ERROR_INIT;

/* That a call has failed as it should, and said so in both places. */
#define FAILS(call, wanted, told)                                            \
    do {                                                                     \
        char last[512];                                                      \
        size_t length = 0;                                                   \
        awsnet_status status = AWSNET_STATUS_OK;                             \
        memset(error.message, 0, sizeof error.message);                      \
        CHECK((call) == (wanted));                                           \
        OK(awsnet_error_last(last, sizeof last, &length, &status));          \
        if (error.status != (wanted) || strcmp(error.message, told) != 0)    \
            fprintf(stderr, "%d: %s\n", error.status, error.message);        \
        CHECK(error.status == (wanted) && strcmp(error.message, told) == 0); \
        CHECK(status == (wanted) && strcmp(last, told) == 0 && length == strlen(told)); \
    } while (0)

static void model_files(void) {
    awsnet_model *model = (awsnet_model *)&error, *before = model;
    FAILS(awsnet_model_load("no/such/file", &model, &error), AWSNET_STATUS_FILE,
          "no/such/file: expected a readable file, found No such file or directory (os error 2)");
    CHECK(awsnet_model_load("/", &model, &error) == AWSNET_STATUS_FILE);
    CHECK(awsnet_model_load("", &model, &error) == AWSNET_STATUS_FILE);
    CHECK(awsnet_model_load("\xff\xfe", &model, &error) == AWSNET_STATUS_FILE);
    CHECK(awsnet_model_load_bytes("1234567", 7, &model, &error) == AWSNET_STATUS_MODEL);
    CHECK(awsnet_model_load_bytes("", 0, &model, &error) == AWSNET_STATUS_MODEL);
    CHECK(awsnet_model_load_bytes("", SIZE_MAX, &model, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(model == before); /* outputs are written on success only */
}

static void options(const awsnet_model *model) {
    awsnet_engine *engine = (awsnet_engine *)&error, *before = engine;
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    const int32_t unknown[] = {-1, 4, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        char told[128];
        options.device = unknown[i];
        snprintf(told, sizeof told, "options.device: expected one of AWSNET_DEVICE_*, found %d", (int)unknown[i]);
        FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, told);
        options.device = AWSNET_DEVICE_CPU;
        options.precision = unknown[i];
        snprintf(told, sizeof told, "options.precision: expected one of AWSNET_PRECISION_*, found %d",
                 (int)unknown[i]);
        FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, told);
        options.precision = 0;
        options.graphs = unknown[i];
        snprintf(told, sizeof told, "options.graphs: expected one of AWSNET_GRAPHS_*, found %d", (int)unknown[i]);
        FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, told);
        options.graphs = 0;
        options.affinity = unknown[i];
        snprintf(told, sizeof told, "options.affinity: expected one of AWSNET_AFFINITY_*, found %d", (int)unknown[i]);
        FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, told);
        options.affinity = 0;
    }
    const uint32_t processors[] = {4000000000u};
    options.processors = processors;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "options.processors: expected none unless for AWSNET_AFFINITY_PINNED, found some");
    options.affinity = AWSNET_AFFINITY_PINNED;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "affinity: expected processors to pin to, found none");
    options.processor_count = 1;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "affinity: expected to pin a thread to processor 4000000000, found a number above 8191");
    options.processors = NULL;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "options.processors: expected a pointer, found NULL");
    options.affinity = 0, options.processor_count = 0;
    options.spin_us = -3;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "options.spin_us: expected microseconds, or one of AWSNET_SPIN_*, found -3");
    options.spin_us = 0;
    options.reserved = 1;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "options.reserved: expected 0, found 1");
    options.reserved = 0;
    options.device_index = 1;
    FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "options.device_index: expected 0 unless for AWSNET_DEVICE_CUDA, found 1");
    options.device_index = 0;
    options.precision = AWSNET_PRECISION_F16;
    CHECK(awsnet_engine_create(model, &options, &engine, &error) == AWSNET_STATUS_PLAN);
    options.precision = 0;
    options.batch = UINT32_MAX;
    CHECK(awsnet_engine_create(model, &options, &engine, &error) == AWSNET_STATUS_PLAN);
    options.batch = 0;
    options.threads = UINT32_MAX;
    CHECK(awsnet_engine_create(model, &options, &engine, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    options.threads = 0;
    options.device = AWSNET_DEVICE_CUDA;
    options.device_index = 4000000000u;
    CHECK(awsnet_engine_create(model, &options, &engine, &error) == AWSNET_STATUS_DEVICE);
    options.device = AWSNET_DEVICE_CPU;
    options.device_index = 0;

    const uint32_t sizes[] = {0, 1, 4, 27, 4097, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char told[128];
        options.struct_size = sizes[i];
        snprintf(told, sizeof told, "options.struct_size: expected its size in bytes, at least 28, found %u",
                 (unsigned)sizes[i]);
        FAILS(awsnet_engine_create(model, &options, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, told);
    }

    /* A program compiled with a newer header, whose struct goes on. */
    struct {
        awsnet_engine_options known;
        uint32_t more[4];
    } newer = {AWSNET_ENGINE_OPTIONS_INIT, {0, 0, 0, 1}};
    newer.known.struct_size = sizeof newer;
    char beyond[128];
    snprintf(beyond, sizeof beyond,
             "options: expected fields up to %u bytes, all that this version knows, found one set beyond them",
             (unsigned)sizeof options);
    FAILS(awsnet_engine_create(model, &newer.known, &engine, &error), AWSNET_STATUS_INVALID_ARGUMENT, beyond);
    CHECK(engine == before);
    newer.more[3] = 0;
    OK(awsnet_engine_create(model, &newer.known, &engine, &error));
    OK(awsnet_engine_destroy(engine));
}

static void queries(const awsnet_engine *engine) {
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT, before;
    memset(&before, 0xab, sizeof before);
    info = before;
    for (uint32_t size = 0; size < offsetof(awsnet_engine_info, head_count); size += 17) {
        info.struct_size = before.struct_size = size;
        CHECK(awsnet_engine_query(engine, &info, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
        CHECK(memcmp(&info, &before, sizeof info) == 0);
    }
    /* A newer one: what lies beyond is left alone, and so is the size. */
    struct {
        awsnet_engine_info known;
        uint32_t more;
    } newer = {AWSNET_ENGINE_INFO_INIT, 77};
    newer.known.struct_size = sizeof newer;
    OK(awsnet_engine_query(engine, &newer.known, &error));
    CHECK(newer.known.struct_size == sizeof newer && newer.more == 77 && newer.known.channels == 3);

    const char *label = "untouched";
    const int32_t unknown[] = {-1, 2, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        CHECK(awsnet_engine_label(engine, unknown[i], 0, &label, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    FAILS(awsnet_engine_label(engine, AWSNET_BRANCH_EMOTION, 7, &label, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "index: expected below 7, found 7");
    CHECK(awsnet_engine_label(engine, AWSNET_BRANCH_AU, SIZE_MAX, &label, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(strcmp(label, "untouched") == 0);
    float threshold = -7;
    CHECK(awsnet_engine_threshold(engine, SIZE_MAX, &threshold, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(threshold == -7);
    CHECK(strcmp(awsnet_status_name(AWSNET_STATUS_BUFFER_TOO_SMALL), "buffer too small") == 0);
    CHECK(strcmp(awsnet_status_name(-1), "unknown status") == 0);
    CHECK(strcmp(awsnet_status_name(1000), "unknown status") == 0);
}

static void runs(const awsnet_engine *engine) {
    size_t len = image_len(engine);
    float *images = make_images(3 * len), buffer[2 * 12 + 1];
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++) buffer[i] = -7;

    const size_t wrong[] = {0, 1, len - 1, len + 1, 2 * len + 1, 3 * len};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(awsnet_session_run(session, images, wrong[i], &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(awsnet_session_run(session, images, SIZE_MAX, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(awsnet_session_run(session, images, SIZE_MAX / 4 + 1, &predictions, &error) ==
          AWSNET_STATUS_INVALID_ARGUMENT);
    float *unaligned = (float *)((char *)images + 1);
    CHECK(awsnet_session_run(session, unaligned, len, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    predictions.logits[1] = (float *)((char *)buffer + 2);
    predictions.capacity[1] = 12;
    CHECK(awsnet_session_run(session, images, len, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);

    /* Each buffer one float too short. */
    for (int which = 0; which < 4; which++) {
        int branch = which % 2;
        size_t needed = branch ? 2 * 12 : 2 * 7;
        awsnet_predictions some = AWSNET_PREDICTIONS_INIT;
        (which < 2 ? some.logits : some.probabilities)[branch] = buffer;
        some.capacity[branch] = needed - 1;
        char told[128];
        snprintf(told, sizeof told, "predictions.capacity[%d]: expected room for %zu floats, found %zu", branch,
                 needed, needed - 1);
        FAILS(awsnet_session_run(session, images, 2 * len, &some, &error), AWSNET_STATUS_BUFFER_TOO_SMALL, told);
        for (size_t i = 0; i < sizeof buffer / sizeof *buffer; i++) CHECK(buffer[i] == -7);
        some.capacity[branch] = needed;
        OK(awsnet_session_run(session, images, 2 * len, &some, &error));
        CHECK(buffer[needed - 1] != -7 && buffer[needed] == -7); /* to the last float and no further */
        for (size_t i = 0; i < needed; i++) buffer[i] = -7;
    }

    predictions = (awsnet_predictions)AWSNET_PREDICTIONS_INIT;
    predictions.reserved = 1;
    FAILS(awsnet_session_run(session, images, len, &predictions, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "predictions.reserved: expected 0, found 1");
    predictions.reserved = 0;
    predictions.struct_size = 8;
    CHECK(awsnet_session_run(session, images, len, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);

    /* 8-bit images: every field wrong in turn. */
    unsigned char pixels[2 * 3 * 8 * 8] = {0};
    awsnet_images_u8 right = AWSNET_IMAGES_U8_INIT, bytes;
    right.pixels = pixels;
    right.size = sizeof pixels;
    right.count = 2;
    predictions = (awsnet_predictions)AWSNET_PREDICTIONS_INIT;
    OK(awsnet_session_run_u8(session, &right, &predictions, &error));
#define WRONG(field, value)                                                                           \
    bytes = right, bytes.field = (value);                                                             \
    CHECK(awsnet_session_run_u8(session, &bytes, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT)
    WRONG(struct_size, 8);
    WRONG(reserved, 1);
    WRONG(pixels, NULL);
    WRONG(size, sizeof pixels - 1);
    WRONG(size, 0);
    WRONG(size, SIZE_MAX);
    WRONG(count, 0);
    WRONG(count, 3);
    WRONG(count, SIZE_MAX);
    WRONG(row_stride, 3 * 8 - 1);
    WRONG(row_stride, 3 * 8 + 1);
    WRONG(row_stride, SIZE_MAX);
    WRONG(row_stride, SIZE_MAX / 8);
    WRONG(image_stride, 3 * 8 * 8 - 1);
    WRONG(image_stride, 3 * 8 * 8 + 1);
    WRONG(image_stride, SIZE_MAX);
    float few[7];
    predictions.logits[0] = few;
    predictions.capacity[0] = 7;
    CHECK(awsnet_session_run_u8(session, &right, &predictions, &error) == AWSNET_STATUS_BUFFER_TOO_SMALL);
    predictions = (awsnet_predictions)AWSNET_PREDICTIONS_INIT;

    /* No stream on a CPU, and nothing else unknown either. */
    awsnet_device_images device = AWSNET_DEVICE_IMAGES_INIT;
    device.pixels = pixels;
    device.count = 1;
    CHECK(awsnet_session_enqueue(session, NULL, &device, &predictions, &error) == AWSNET_STATUS_DEVICE);
    device.row_stride = 24;
    CHECK(awsnet_session_enqueue(session, NULL, &device, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
    device.format = 2;
    FAILS(awsnet_session_enqueue(session, NULL, &device, &predictions, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "images.format: expected one of AWSNET_PIXELS_*, found 2");

    OK(awsnet_session_run_within(session, images, len, UINT64_MAX, &predictions, &error));
    FAILS(awsnet_session_run_within(session, images, len, 0, &predictions, &error), AWSNET_STATUS_DEADLINE,
          "run: expected a run that ends by its deadline, found one that was given up then");
    OK(awsnet_session_destroy(session));
    free(images);
}

static void *another_thread(void *unused) {
    char message[8] = "xxxxxxx";
    size_t length = 99;
    awsnet_status status = 99;
    OK(awsnet_error_last(message, sizeof message, &length, &status));
    CHECK(strcmp(message, "") == 0 && length == 0 && status == AWSNET_STATUS_OK); /* nothing has failed here */
    return unused;
}

static void last_error(const awsnet_engine *engine) {
    const char *told = "index: expected below 7, found 7", *label;
    CHECK(awsnet_engine_label(engine, AWSNET_BRANCH_EMOTION, 7, &label, NULL) == AWSNET_STATUS_INVALID_ARGUMENT);

    /* A success leaves it, and so does reading it, wrongly or not. */
    char message[512];
    size_t length = 0;
    awsnet_status status = 0;
    OK(awsnet_engine_label(engine, AWSNET_BRANCH_EMOTION, 0, &label, NULL));
    CHECK(awsnet_error_last(NULL, 1, NULL, NULL) == AWSNET_STATUS_INVALID_ARGUMENT);
    OK(awsnet_error_last(NULL, 0, NULL, NULL));
    OK(awsnet_error_last(NULL, 0, &length, &status));
    CHECK(length == strlen(told) && status == AWSNET_STATUS_INVALID_ARGUMENT);

    /* It belongs to its thread. */
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, another_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);

    /* A short buffer gets what it holds, and nothing behind it is touched. */
    for (size_t size = 0; size < strlen(told) + 3; size++) {
        memset(message, 'x', sizeof message);
        OK(awsnet_error_last(message, size, &length, NULL));
        size_t shown = size == 0 ? 0 : size - 1 < strlen(told) ? size - 1 : strlen(told);
        CHECK(length == strlen(told) && memcmp(message, told, shown) == 0);
        if (size > 0) CHECK(message[shown] == 0);
        for (size_t i = size; i < sizeof message; i++) CHECK(message[i] == 'x');
    }

    /* An error struct that is too small is refused before anything is done, and not written to. */
    awsnet_error small = AWSNET_ERROR_INIT, before;
    memset(small.message, 'y', sizeof small.message);
    small.struct_size = 100;
    before = small;
    awsnet_session *session = NULL;
    CHECK(awsnet_session_create(engine, &session, &small) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(session == NULL && memcmp(&small, &before, sizeof small) == 0);
    OK(awsnet_error_last(message, sizeof message, NULL, NULL));
    CHECK(strncmp(message, "error: expected struct_size of at least 512", 43) == 0);

    /* A success leaves the caller's struct alone too; a longer one is fine. */
    small.struct_size = 4000;
    before = small;
    OK(awsnet_engine_label(engine, AWSNET_BRANCH_EMOTION, 0, &label, &small));
    CHECK(memcmp(&small, &before, sizeof small) == 0);

    /* A message that does not fit is cut and ends with NUL. */
    char name[2000];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    awsnet_model *model = NULL;
    CHECK(awsnet_model_load(name, &model, &error) == AWSNET_STATUS_FILE);
    CHECK(memchr(error.message, 0, sizeof error.message) != NULL);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    CHECK(awsnet_abi_version() == AWSNET_ABI_VERSION);
    printf("%s\n", awsnet_version());
    awsnet_model *model = NULL;
    OK(awsnet_model_load(argv[1], &model, &error));
    awsnet_engine *engine = make_engine(argv[1], AWSNET_DEVICE_CPU, 2, 1);
    model_files();
    options(model);
    queries(engine);
    runs(engine);
    last_error(engine);
    OK(awsnet_engine_destroy(engine));
    OK(awsnet_model_destroy(model));
    return 0;
}
