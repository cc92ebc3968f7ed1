/* What the test programs share: a check that names its place, and a model made ready. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "awsnet.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            char last[512] = "";                                                         \
            awsnet_error_last(last, sizeof last, NULL, NULL);                            \
            fprintf(stderr, "%s:%d: %s\nlast error: %s\n", __FILE__, __LINE__, #condition, last); \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

#define OK(call) CHECK((call) == AWSNET_STATUS_OK)

/* An engine for the model file; everything else by default. */
static inline awsnet_engine *make_engine(const char *path, awsnet_device device, uint32_t batch, uint32_t threads) {
    awsnet_model *model = NULL;
    awsnet_engine *engine = NULL;
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    options.device = device;
    options.batch = batch;
    options.threads = threads;
    OK(awsnet_model_load(path, &model, NULL));
    OK(awsnet_engine_create(model, &options, &engine, NULL));
    OK(awsnet_model_destroy(model));
    return engine;
}

/* Floats of an image of the engine. */
static inline size_t image_len(const awsnet_engine *engine) {
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    OK(awsnet_engine_query(engine, &info, NULL));
    return (size_t)info.channels * info.height * info.width;
}

/* len floats that any language computes alike. */
static inline float *make_images(size_t len) {
    float *images = malloc(len * sizeof *images);
    CHECK(images != NULL);
    for (size_t i = 0; i < len; i++) images[i] = (float)(i * 7919 % 1000) / 500.0f - 1.0f;
    return images;
}

#endif
