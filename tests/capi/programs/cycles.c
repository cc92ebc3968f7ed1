/* cycles MODEL COUNT: create, run, destroy, and so on; memory and threads at the end are what they were after the first
 * tenth. Half of the cycles fail somewhere. */
#include <unistd.h>

#include "check.h"

static long resident_pages(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1);
    fclose(file);
    return pages;
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    long count = atol(argv[2]), settled = 0;
    static unsigned char bytes[1 << 20];
    FILE *file = fopen(argv[1], "rb");
    CHECK(file != NULL);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    CHECK(size > 0 && size < sizeof bytes);

    for (long cycle = 0; cycle < count; cycle++) {
        awsnet_error error = AWSNET_ERROR_INIT;
        awsnet_model *model = NULL, *none = NULL;
        awsnet_engine *engine = NULL;
        awsnet_session *session = NULL;
        awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
        options.device = AWSNET_DEVICE_CPU;
        options.threads = 1 + (uint32_t)(cycle % 2);
        OK(awsnet_model_load_bytes(bytes, size, &model, &error));
        OK(awsnet_engine_create(model, &options, &engine, &error));
        OK(awsnet_session_create(engine, &session, &error));
        float image[3 * 8 * 8] = {0.5f}, emotions[7];
        CHECK(image_len(engine) == sizeof image / sizeof *image);
        awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
        predictions.probabilities[AWSNET_BRANCH_EMOTION] = emotions;
        predictions.capacity[AWSNET_BRANCH_EMOTION] = 7;
        OK(awsnet_session_run(session, image, sizeof image / sizeof *image, &predictions, &error));
        if (cycle % 2) {
            const char *text;
            OK(awsnet_engine_describe(engine, &text, &error));
            CHECK(awsnet_model_load_bytes(bytes, size - 1, &none, &error) == AWSNET_STATUS_MODEL);
            CHECK(awsnet_session_run(session, image, 1, &predictions, &error) == AWSNET_STATUS_INVALID_ARGUMENT);
        }
        OK(awsnet_model_destroy(model));
        OK(awsnet_session_destroy(session));
        OK(awsnet_engine_destroy(engine));
        if (cycle == count / 10) settled = resident_pages();
    }
    long grown = (resident_pages() - settled) * sysconf(_SC_PAGESIZE);
    printf("%ld bytes more after %ld cycles\n", grown, count);
    CHECK(grown < 1 << 19); /* a leak of 64 bytes a cycle is more */
    return 0;
}
