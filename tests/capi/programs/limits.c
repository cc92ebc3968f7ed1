/* limits MODEL: a run that is given up, of floats and of bytes, by its deadline and by a flag; the next one is right. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "check.h"

enum { LABELS = 12, BATCH = 4 };

static awsnet_session *session;
static float *floats;
static unsigned char *bytes;
static size_t len;
static atomic_bool cancel;

static long long now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

/* A run of one kind of images, its scores and its status. */
static awsnet_status run(int u8, const awsnet_run_options *options, float logits[BATCH * LABELS]) {
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    predictions.logits[AWSNET_BRANCH_AU] = logits;
    predictions.capacity[AWSNET_BRANCH_AU] = BATCH * LABELS;
    if (!u8) return awsnet_session_run_with(session, floats, len, options, &predictions, NULL);
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    images.pixels = bytes;
    images.size = len;
    images.count = BATCH;
    return awsnet_session_run_u8_with(session, &images, options, &predictions, NULL);
}

static void *sets_the_flag(void *after_us) {
    struct timespec wait = {0, *(long long *)after_us * 1000};
    nanosleep(&wait, NULL);
    atomic_store(&cancel, 1);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        awsnet_engine *engine = make_engine(argv[1], AWSNET_DEVICE_CPU, BATCH, threads);
        len = BATCH * image_len(engine);
        floats = make_images(len);
        bytes = malloc(len);
        for (size_t i = 0; i < len; i++) bytes[i] = (unsigned char)(i * 7919 % 251);
        OK(awsnet_session_create(engine, &session, NULL));
        for (int u8 = 0; u8 < 2; u8++) {
            float expected[BATCH * LABELS], logits[BATCH * LABELS];
            OK(run(u8, NULL, expected));
            long long begun = now_us();
            OK(run(u8, NULL, expected));
            long long whole = now_us() - begun;

            /* 0 is no deadline, as no flag is none. */
            awsnet_run_options options = AWSNET_RUN_OPTIONS_INIT;
            OK(run(u8, &options, logits));
            CHECK(memcmp(logits, expected, sizeof logits) == 0);
            options.timeout_us = UINT64_MAX;
            options.cancel = (const bool *)&cancel;
            OK(run(u8, &options, logits));

            long long best = whole;
            for (int i = 0; i < 5; i++) {
                options.timeout_us = (uint64_t)(whole / 8 + 1);
                memset(logits, 0xff, sizeof logits);
                float before[BATCH * LABELS];
                memcpy(before, logits, sizeof logits);
                begun = now_us();
                CHECK(run(u8, &options, logits) == AWSNET_STATUS_DEADLINE);
                long long took = now_us() - begun;
                if (took < best) best = took;
                CHECK(memcmp(logits, before, sizeof logits) == 0); /* nothing is written */
                OK(run(u8, NULL, logits));
                CHECK(memcmp(logits, expected, sizeof logits) == 0);
            }
            CHECK(best < whole / 2 + 1000);

            options.timeout_us = 0;
            pthread_t thread;
            long long after = whole / 8;
            CHECK(pthread_create(&thread, NULL, sets_the_flag, &after) == 0);
            awsnet_status status;
            while ((status = run(u8, &options, logits)) == AWSNET_STATUS_OK) continue;
            CHECK(status == AWSNET_STATUS_CANCELLED);
            CHECK(pthread_join(thread, NULL) == 0);
            CHECK(run(u8, &options, logits) == AWSNET_STATUS_CANCELLED); /* until it is cleared */
            atomic_store(&cancel, 0);
            OK(run(u8, &options, logits));
            CHECK(memcmp(logits, expected, sizeof logits) == 0);

            options.reserved = 1;
            CHECK(run(u8, &options, logits) == AWSNET_STATUS_INVALID_ARGUMENT);
            options.reserved = 0, options.struct_size = 8;
            CHECK(run(u8, &options, logits) == AWSNET_STATUS_INVALID_ARGUMENT);
        }
        awsnet_predictions nothing = AWSNET_PREDICTIONS_INIT;
        CHECK(awsnet_session_run_within(session, floats, len, 0, &nothing, NULL) == AWSNET_STATUS_DEADLINE);
        OK(awsnet_session_run_within(session, floats, len, UINT64_MAX, &nothing, NULL));
        OK(awsnet_session_destroy(session));
        OK(awsnet_engine_destroy(engine));
        free(floats);
        free(bytes);
    }
    return 0;
}
