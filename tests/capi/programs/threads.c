/* threads MODEL: one engine, many threads. Sessions of their own give the same bits; a session of several is refused to
 * all but one; a handle is destroyed where it was not made. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "check.h"

enum { THREADS = 4, RUNS = 50, LABELS = 12 };

static awsnet_engine *engine;
static float *images;
static size_t len;

static void run(awsnet_session *session, float logits[LABELS]) {
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    predictions.logits[AWSNET_BRANCH_AU] = logits;
    predictions.capacity[AWSNET_BRANCH_AU] = LABELS;
    OK(awsnet_session_run(session, images, len, &predictions, NULL));
}

static float expected[LABELS];

/* Runs, and gives its session away. */
static void *with_its_own(void *unused) {
    (void)unused;
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));
    for (int i = 0; i < RUNS; i++) {
        float logits[LABELS];
        run(session, logits);
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
    }
    return session;
}

static atomic_int done, busy;

static void *with_one_for_all(void *session) {
    while (atomic_load(&done) < RUNS || atomic_load(&busy) == 0) {
        float logits[LABELS];
        awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
        predictions.logits[AWSNET_BRANCH_AU] = logits;
        predictions.capacity[AWSNET_BRANCH_AU] = LABELS;
        switch (awsnet_session_run(session, images, len, &predictions, NULL)) {
        case AWSNET_STATUS_OK:
            CHECK(memcmp(logits, expected, sizeof logits) == 0);
            atomic_fetch_add(&done, 1);
            break;
        case AWSNET_STATUS_BUSY:
            atomic_fetch_add(&busy, 1);
            sched_yield();
            break;
        default:
            CHECK(!"another status");
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    engine = make_engine(argv[1], AWSNET_DEVICE_CPU, 1, 2);
    len = image_len(engine);
    images = make_images(len);
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));
    run(session, expected);

    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, with_its_own, NULL) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *other = NULL;
        float logits[LABELS];
        CHECK(pthread_join(threads[i], &other) == 0);
        run(other, logits); /* a session goes from thread to thread */
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
        OK(awsnet_session_destroy(other));
    }

    for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, with_one_for_all, session) == 0);
    for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(atomic_load(&busy) > 0);

    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
    free(images);
    return 0;
}
