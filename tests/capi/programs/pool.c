/* pool MODEL: threads of the library's that engines share, and threads of the program's own; what each begins with; what a
 * forked process is told. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { LABELS = 12 };

static float *image;
static size_t len;
static atomic_int begun;

static void begins(void *user_data, uint32_t number) {
    CHECK(user_data == &begun && number < 2);
    atomic_fetch_add(&begun, 1);
}

static void *helps(void *help) {
    OK(awsnet_help_run(help));
    return NULL;
}

static atomic_int asked;

/* A thread for each help. */
static void spawn(void *user_data, awsnet_help *help) {
    CHECK(user_data == &asked);
    atomic_fetch_add(&asked, 1);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, helps, help) == 0);
    CHECK(pthread_detach(thread) == 0);
}

static awsnet_status run(awsnet_session *session, float logits[LABELS]) {
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    predictions.logits[AWSNET_BRANCH_AU] = logits;
    predictions.capacity[AWSNET_BRANCH_AU] = LABELS;
    return awsnet_session_run(session, image, len, &predictions, NULL);
}

/* The status of a run in a forked process, where the session is destroyed too. */
static int in_a_child(awsnet_session *session) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        float logits[LABELS];
        awsnet_status status = run(session, logits);
        OK(awsnet_session_destroy(session));
        exit(status);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    awsnet_model *model = NULL;
    OK(awsnet_model_load(argv[1], &model, NULL));
    awsnet_engine *alone = make_engine(argv[1], AWSNET_DEVICE_CPU, 1, 1);
    awsnet_session *session = NULL;
    OK(awsnet_session_create(alone, &session, NULL));
    len = image_len(alone);
    image = make_images(len);
    float expected[LABELS], logits[LABELS];
    OK(run(session, expected));
    CHECK(in_a_child(session) == AWSNET_STATUS_OK); /* it has no threads */
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(alone));

    awsnet_pool_options pool_options = AWSNET_POOL_OPTIONS_INIT;
    pool_options.threads = 2;
    pool_options.spin_us = 20;
    pool_options.thread_start = begins;
    pool_options.thread_start_user_data = &begun;
    awsnet_pool *pool = NULL;
    OK(awsnet_pool_create(&pool_options, &pool, NULL));
    CHECK(atomic_load(&begun) == 2);

    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    options.device = AWSNET_DEVICE_CPU;
    options.threads = 3;
    options.pool = pool;
    awsnet_engine *engines[2] = {NULL, NULL};
    awsnet_session *sessions[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) OK(awsnet_engine_create(model, &options, &engines[i], NULL));
    OK(awsnet_pool_destroy(pool)); /* before its engines */
    for (int i = 0; i < 2; i++) OK(awsnet_session_create(engines[i], &sessions[i], NULL));
    for (int i = 0; i < 20; i++) {
        memset(logits, 0, sizeof logits);
        OK(run(sessions[i % 2], logits));
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
    }
    CHECK(atomic_load(&begun) == 2); /* no more threads have begun */
    CHECK(in_a_child(sessions[0]) == AWSNET_STATUS_POISONED);
    OK(run(sessions[0], logits));
    for (int i = 0; i < 2; i++) OK(awsnet_session_destroy(sessions[i]));
    for (int i = 0; i < 2; i++) OK(awsnet_engine_destroy(engines[i]));

    options.pool = NULL;
    options.executor = spawn;
    options.executor_user_data = &asked;
    OK(awsnet_engine_create(model, &options, &engines[0], NULL));
    OK(awsnet_session_create(engines[0], &sessions[0], NULL));
    for (int i = 0; i < 20; i++) {
        OK(run(sessions[0], logits));
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
    }
    CHECK(atomic_load(&asked) > 0);
    OK(awsnet_session_destroy(sessions[0]));
    OK(awsnet_engine_destroy(engines[0]));

    /* Threads of its own, pinned, begun, that never spin or always do. */
    options.executor = NULL;
    options.executor_user_data = NULL;
    const uint32_t processors[] = {0};
    options.affinity = AWSNET_AFFINITY_PINNED;
    options.processors = processors;
    options.processor_count = 1;
    options.thread_start = begins;
    options.thread_start_user_data = &begun;
    const int32_t spins[] = {AWSNET_SPIN_NONE, AWSNET_SPIN_ALWAYS, 5, 0};
    for (int i = 0; i < 4; i++) {
        options.spin_us = spins[i];
        atomic_store(&begun, 0);
        OK(awsnet_engine_create(model, &options, &engines[0], NULL));
        OK(awsnet_session_create(engines[0], &sessions[0], NULL));
        CHECK(atomic_load(&begun) == 2);
        OK(run(sessions[0], logits));
        CHECK(memcmp(logits, expected, sizeof logits) == 0);
        CHECK(in_a_child(sessions[0]) == AWSNET_STATUS_POISONED);
        OK(awsnet_session_destroy(sessions[0]));
        OK(awsnet_engine_destroy(engines[0]));
    }

    OK(awsnet_model_destroy(model));
    free(image);
    return 0;
}
