/* serve MODEL PICTURE.png REQUESTS INTERVAL_US [BATCH]: a server's loop. One thread receives a picture every INTERVAL_US
 * microseconds, another runs the network on what has come in, up to BATCH pictures at once. Then: latency percentiles.
 *
 *     receive: slot i of the ring <- a picture          run: the oldest pictures, a run <- awsnet_session_run_u8
 *                        \_________ filled, a counter under a lock _________/
 *
 * The ring's slots lie one behind the other, as the images of a batch do: nothing is copied on the way into the network.
 * All memory is there before the first request; afterwards neither this program nor the library allocates.
 *
 * A latency is counted from the moment when the picture was due, not from when a late receiver has got round to it; else
 * a server that stalls would look good, for nobody would be waiting (coordinated omission). */
#define _POSIX_C_SOURCE 200809L

#include <awsnet.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "picture.h"

enum { SLOTS = 64 };

typedef struct server {
    awsnet_session *session;
    uint8_t *picture; /* what every request brings */
    size_t image_size, batch, requests;
    int64_t interval_ns;
    awsnet_predictions predictions;

    uint8_t *slots;        /* [SLOTS][image_size] */
    int64_t due_ns[SLOTS]; /* when the slot's picture was due */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. Slot i % SLOTS is filled for each i from taken to received - 1. */
    size_t received, taken, dropped;
    int finished; /* nothing more will be received, or nothing more will be run */

    /* Of the thread that runs. */
    int64_t *latencies_ns;
    size_t answered, runs;
    awsnet_status status;
    awsnet_error error;
} server;

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t due_ns) {
    struct timespec due = {(time_t)(due_ns / 1000000000), (long)(due_ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) {
    }
}

static void *receive(void *argument) {
    server *s = argument;
    int64_t start_ns = now_ns();
    int finished = 0;
    for (size_t i = 0; i < s->requests && !finished; i++) {
        int64_t due_ns = start_ns + (int64_t)i * s->interval_ns;
        sleep_until(due_ns);
        pthread_mutex_lock(&s->lock);
        size_t slot = s->received % SLOTS;
        int full = s->received - s->taken == SLOTS;
        finished = s->finished;
        pthread_mutex_unlock(&s->lock);
        /* The slot is nobody else's until received says that it is filled. */
        if (!full) {
            memcpy(s->slots + slot * s->image_size, s->picture, s->image_size);
            s->due_ns[slot] = due_ns;
        }
        pthread_mutex_lock(&s->lock);
        if (full)
            s->dropped++; /* a queue that only grows helps nobody */
        else
            s->received++;
        pthread_cond_signal(&s->changed);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_lock(&s->lock);
    s->finished = 1;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void run(server *s) {
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    for (;;) {
        pthread_mutex_lock(&s->lock);
        while (s->received == s->taken && !s->finished) pthread_cond_wait(&s->changed, &s->lock);
        size_t first = s->taken % SLOTS, count = s->received - s->taken;
        pthread_mutex_unlock(&s->lock);
        if (count == 0) return;
        if (count > s->batch) count = s->batch;
        if (count > SLOTS - first) count = SLOTS - first; /* a batch does not go round the end of the ring */

        images.pixels = s->slots + first * s->image_size;
        images.size = count * s->image_size;
        images.count = count;
        s->status = awsnet_session_run_u8(s->session, &images, &s->predictions, &s->error);
        int64_t done_ns = now_ns();
        /* Here a server sends s->predictions to whoever has asked. */
        for (size_t i = 0; i < count; i++) s->latencies_ns[s->answered++] = done_ns - s->due_ns[first + i];
        s->runs++;

        pthread_mutex_lock(&s->lock);
        s->taken += count;
        if (s->status != AWSNET_STATUS_OK) s->finished = 1;
        pthread_mutex_unlock(&s->lock);
        if (s->status != AWSNET_STATUS_OK) return;
    }
}

static int ascending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The least value that per_mille thousandths of all do not exceed, in microseconds. */
static double percentile_us(const int64_t *sorted, size_t len, size_t per_mille) {
    size_t rank = (len * per_mille + 999) / 1000;
    return (double)sorted[rank > 0 ? rank - 1 : 0] / 1000;
}

int main(int argc, char **argv) {
    long requests = argc > 3 ? atol(argv[3]) : 0, interval_us = argc > 4 ? atol(argv[4]) : 0;
    long batch = argc > 5 ? atol(argv[5]) : 1;
    if (argc < 5 || argc > 6 || requests < 1 || interval_us < 0 || batch < 1 || batch > SLOTS) {
        fprintf(stderr, "usage: %s MODEL PICTURE.png REQUESTS INTERVAL_US [BATCH, at most %d]\n", argv[0], SLOTS);
        return 2;
    }

    static server s; /* all zero */
    awsnet_model *model = NULL;
    awsnet_engine *engine = NULL;
    picture photo = {0, 0, NULL};
    float *probabilities[2] = {NULL, NULL};
    s.error = (awsnet_error)AWSNET_ERROR_INIT;
    int exit_code = 1;

    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    options.batch = (uint32_t)batch;
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    if (awsnet_model_load(argv[1], &model, &s.error) != AWSNET_STATUS_OK ||
        awsnet_engine_create(model, &options, &engine, &s.error) != AWSNET_STATUS_OK ||
        awsnet_session_create(engine, &s.session, &s.error) != AWSNET_STATUS_OK ||
        awsnet_engine_query(engine, &info, &s.error) != AWSNET_STATUS_OK)
        goto failed;

    s.requests = (size_t)requests;
    s.interval_ns = (int64_t)interval_us * 1000;
    s.batch = (size_t)batch;
    s.image_size = (size_t)info.width * info.height * info.channels;
    s.picture = malloc(s.image_size);
    s.slots = calloc(SLOTS, s.image_size);
    s.latencies_ns = malloc(s.requests * sizeof *s.latencies_ns);
    s.predictions = (awsnet_predictions)AWSNET_PREDICTIONS_INIT;
    for (int branch = 0; branch < 2; branch++) {
        s.predictions.capacity[branch] = s.batch * info.label_count[branch];
        probabilities[branch] = malloc(s.predictions.capacity[branch] * sizeof(float));
        s.predictions.probabilities[branch] = probabilities[branch];
    }
    if (!s.picture || !s.slots || !s.latencies_ns || !probabilities[0] || !probabilities[1]) {
        fprintf(stderr, "not enough memory\n");
        goto done;
    }
    const char *fault = picture_read(argv[2], &photo);
    if (fault == NULL) {
        picture_box whole = {0, 0, photo.width, photo.height};
        fault = picture_fit(&photo, whole, info.width, info.height, info.channels, s.picture);
    }
    if (fault != NULL) {
        fprintf(stderr, "%s: %s\n", argv[2], fault);
        goto done;
    }

    /* Once without a clock: caches, page tables, the session's own buffers. */
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    images.pixels = s.slots;
    images.size = s.batch * s.image_size;
    images.count = s.batch;
    if (awsnet_session_run_u8(s.session, &images, &s.predictions, &s.error) != AWSNET_STATUS_OK) goto failed;

    pthread_t receiver;
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.changed, NULL);
    int started = pthread_create(&receiver, NULL, receive, &s) == 0;
    if (started) {
        run(&s);
        pthread_join(receiver, NULL);
    }
    pthread_cond_destroy(&s.changed);
    pthread_mutex_destroy(&s.lock);
    if (!started) {
        fprintf(stderr, "expected a thread to receive, found none\n");
        goto done;
    }
    if (s.status != AWSNET_STATUS_OK) goto failed;

    qsort(s.latencies_ns, s.answered, sizeof *s.latencies_ns, ascending);
    printf("%zu answered in %zu runs, %zu dropped\n", s.answered, s.runs, s.dropped);
    printf("latency in us: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
           percentile_us(s.latencies_ns, s.answered, 500), percentile_us(s.latencies_ns, s.answered, 990),
           percentile_us(s.latencies_ns, s.answered, 999), percentile_us(s.latencies_ns, s.answered, 1000));
    exit_code = 0;
    goto done;

failed:
    fprintf(stderr, "%s: %s\n", awsnet_status_name(s.error.status), s.error.message);
done:
    for (int branch = 0; branch < 2; branch++) free(probabilities[branch]);
    free(s.latencies_ns);
    free(s.slots);
    free(s.picture);
    picture_free(&photo);
    awsnet_session_destroy(s.session);
    awsnet_engine_destroy(engine);
    awsnet_model_destroy(model);
    return exit_code;
}
