/* run MODEL BATCH IMAGES: every score, a branch a line, in hexadecimal: nothing is rounded. Handles are destroyed as early
 * as the laws allow. */
#include <time.h>

#include "check.h"

/* A thread that is slow to begin, so that its session's maker has to wait for it. */
static void begins_late(void *user_data, uint32_t number) {
    (void)user_data, (void)number;
    struct timespec wait = {0, 50 * 1000 * 1000};
    nanosleep(&wait, NULL);
}

/* A session whose threads begin late leaves nothing behind. */
static void wait_for_threads(const char *path) {
    awsnet_model *model = NULL;
    awsnet_engine *engine = NULL;
    awsnet_session *session = NULL;
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    options.device = AWSNET_DEVICE_CPU;
    options.threads = 2;
    options.thread_start = begins_late;
    OK(awsnet_model_load(path, &model, NULL));
    OK(awsnet_engine_create(model, &options, &engine, NULL));
    OK(awsnet_session_create(engine, &session, NULL));
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
    OK(awsnet_model_destroy(model));
}

static void print(const char *what, const float *values, size_t len) {
    printf("%s", what);
    for (size_t i = 0; i < len; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        printf(" %08x", (unsigned)bits);
    }
    printf("\n");
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    wait_for_threads(argv[1]);
    size_t count = (size_t)atoi(argv[3]);
    awsnet_engine *engine = make_engine(argv[1], AWSNET_DEVICE_CPU, (uint32_t)atoi(argv[2]), 2);
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    OK(awsnet_engine_query(engine, &info, NULL));
    CHECK(info.device == AWSNET_DEVICE_CPU && info.device_index == 0 && info.precision == AWSNET_PRECISION_F32);
    CHECK(info.batch == (uint32_t)atoi(argv[2]) && info.threads == 2);
    CHECK(info.head_count == 2 && info.branch_count == 2);
    static const char *const names[] = {"emotion", "au"};
    for (awsnet_head i = 0; i < 2; i++) {
        awsnet_head found = -1;
        awsnet_head_info head = AWSNET_HEAD_INFO_INIT;
        OK(awsnet_engine_find_head(engine, names[i], &found, NULL));
        OK(awsnet_engine_head(engine, i, &head, NULL));
        CHECK(found == i && strcmp(head.name, names[i]) == 0 && head.kind == i);
        CHECK(head.count == info.label_count[i] && head.label_count == head.count);
        float threshold = -1, again = -1;
        int units = head.kind == AWSNET_HEAD_KIND_UNITS;
        CHECK(awsnet_engine_head_threshold(engine, i, 0, &threshold, NULL) ==
              (units ? AWSNET_STATUS_OK : AWSNET_STATUS_INVALID_ARGUMENT));
        if (units) OK(awsnet_engine_threshold(engine, 0, &again, NULL));
        CHECK(threshold == again);
    }
    printf("input %u %u %u", info.channels, info.height, info.width);
    for (uint32_t c = 0; c < info.channels; c++) printf(" %.9g %.9g", (double)info.mean[c], (double)info.std[c]);
    printf("\n");
    for (int branch = 0; branch < 2; branch++) {
        for (uint32_t i = 0; i < info.label_count[branch]; i++) {
            const char *label = NULL;
            OK(awsnet_engine_label(engine, branch, i, &label, NULL));
            printf("label %s", label);
            if (branch == AWSNET_BRANCH_AU) {
                float threshold = -1;
                OK(awsnet_engine_threshold(engine, i, &threshold, NULL));
                printf(" %.9g", (double)threshold);
            }
            printf("\n");
        }
    }
    const char *text = NULL;
    OK(awsnet_engine_describe(engine, &text, NULL));
    CHECK(strstr(text, "MB of arena") != NULL);

    size_t len = count * image_len(engine);
    float *images = make_images(len);
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));
    OK(awsnet_engine_destroy(engine));

    size_t emotions = count * info.label_count[0], aus = count * info.label_count[1];
    float *scores[4];
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    for (int i = 0; i < 4; i++) CHECK((scores[i] = malloc((i % 2 ? aus : emotions) * sizeof(float))) != NULL);
    for (int branch = 0; branch < 2; branch++) {
        predictions.logits[branch] = scores[branch];
        predictions.probabilities[branch] = scores[2 + branch];
        predictions.capacity[branch] = branch ? aus : emotions;
    }
    OK(awsnet_session_run(session, images, len, &predictions, NULL));
    print("emotion.logits", scores[0], emotions);
    print("emotion.probabilities", scores[2], emotions);
    print("au.logits", scores[1], aus);
    print("au.probabilities", scores[3], aus);

    /* Head by head, by name: the same numbers again. */
    for (int i = 0; i < 2; i++) {
        size_t len = i ? aus : emotions, images_run = 0;
        float *again = malloc(2 * len * sizeof(float));
        CHECK(again != NULL);
        OK(awsnet_session_scores(session, i, again, again + len, len, &images_run, NULL));
        CHECK(images_run == count && memcmp(again, scores[i], len * sizeof(float)) == 0);
        CHECK(memcmp(again + len, scores[2 + i], len * sizeof(float)) == 0);
        CHECK(awsnet_session_scores(session, i, again, NULL, len - 1, NULL, NULL) == AWSNET_STATUS_BUFFER_TOO_SMALL);
        free(again);
    }
    CHECK(awsnet_session_scores(session, 2, NULL, NULL, 0, NULL, NULL) == AWSNET_STATUS_INVALID_ARGUMENT);
    CHECK(awsnet_session_scores(session, -1, NULL, NULL, 0, NULL, NULL) == AWSNET_STATUS_INVALID_ARGUMENT);

    /* Bytes with gaps between rows and images give the bits of the floats they stand for. */
    size_t row = 3 * info.width + 5, image = info.height * row + 7, size = count * image;
    unsigned char *bytes = malloc(size);
    CHECK(bytes != NULL && info.channels == 3);
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(i * 7919 % 251);
    for (size_t n = 0; n < count; n++)
        for (size_t c = 0; c < 3; c++)
            for (size_t y = 0; y < info.height; y++)
                for (size_t x = 0; x < info.width; x++)
                    images[((n * 3 + c) * info.height + y) * info.width + x] =
                        ((float)bytes[n * image + y * row + x * 3 + c] / 255.0f - info.mean[c]) / info.std[c];
    float *from_bytes = malloc(aus * sizeof(float));
    CHECK(from_bytes != NULL);
    OK(awsnet_session_run(session, images, len, &predictions, NULL));
    predictions.logits[1] = from_bytes;
    awsnet_images_u8 pixels = AWSNET_IMAGES_U8_INIT;
    pixels.pixels = bytes;
    pixels.size = size - 7 - 5; /* the last row and the last image need no gap behind them */
    pixels.count = count;
    pixels.row_stride = row;
    pixels.image_stride = image;
    OK(awsnet_session_run_u8(session, &pixels, &predictions, NULL));
    CHECK(memcmp(from_bytes, scores[1], aus * sizeof(float)) == 0);
    free(from_bytes);
    free(bytes);

    /* Without anything to write to, a run is a warm-up. */
    awsnet_predictions nothing = AWSNET_PREDICTIONS_INIT;
    OK(awsnet_session_run(session, images, len, &nothing, NULL));
    OK(awsnet_session_destroy(session));
    for (int i = 0; i < 4; i++) free(scores[i]);
    free(images);
    return 0;
}
