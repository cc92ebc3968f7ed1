/* exit MODEL return|exit|thread: a process may end whatever is alive, threads of sessions included. */
#include <pthread.h>

#include "check.h"

static awsnet_engine *engine;
static awsnet_session *session;

/* Destroyed by the library's loader, after main. */
static void at_exit(void) {
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
}

static void *ends_the_process(void *unused) {
    (void)unused;
    exit(0);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    engine = make_engine(argv[1], AWSNET_DEVICE_CPU, 1, 3);
    OK(awsnet_session_create(engine, &session, NULL));
    size_t len = image_len(engine);
    float *image = make_images(len);
    awsnet_predictions nothing = AWSNET_PREDICTIONS_INIT;
    OK(awsnet_session_run(session, image, len, &nothing, NULL));
    free(image);
    if (strcmp(argv[2], "exit") == 0) atexit(at_exit);
    if (strcmp(argv[2], "thread") == 0) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, ends_the_process, NULL) == 0);
        pthread_join(thread, NULL);
    }
    return 0;
}
