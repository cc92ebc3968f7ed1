/* faces MODEL PICTURE.png: every face of a picture, and what the network makes of each. A line a face: its bounds and the
 * detector's score; then one a score: head, label, probability. */
#include <awsnet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

enum { MOST_FACES = 32 };

/* The scores of face number `face` of a run, head by head. */
static awsnet_status print_scores(const awsnet_engine *engine, awsnet_session *session, size_t face, awsnet_error *error) {
    awsnet_status status;
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    if ((status = awsnet_engine_query(engine, &info, error)) != AWSNET_STATUS_OK) return status;
    for (awsnet_head number = 0; (uint32_t)number < info.head_count; number++) {
        awsnet_head_info head = AWSNET_HEAD_INFO_INIT;
        if ((status = awsnet_engine_head(engine, number, &head, error)) != AWSNET_STATUS_OK) return status;
        float *scores = malloc(MOST_FACES * head.count * sizeof *scores);
        if (scores == NULL) {
            fprintf(stderr, "not enough memory\n");
            exit(1);
        }
        status = awsnet_session_scores(session, number, NULL, scores, MOST_FACES * head.count, NULL, error);
        for (size_t i = 0; status == AWSNET_STATUS_OK && i < head.count; i++) {
            const char *label = ""; /* a head of values may have none */
            if (i < head.label_count) status = awsnet_engine_label(engine, number, i, &label, error);
            /* Nine digits tell every float from its neighbours. */
            if (status == AWSNET_STATUS_OK)
                printf("%s\t%s\t%.9g\n", head.name, label, (double)scores[face * head.count + i]);
        }
        free(scores);
        if (status != AWSNET_STATUS_OK) return status;
    }
    return AWSNET_STATUS_OK;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: %s MODEL PICTURE.png\n", argv[0]);
        return 2;
    }

    /* Everything that is freed at the end, whatever happens on the way. All of it may be freed while it is NULL. */
    awsnet_model *model = NULL;
    awsnet_engine *engine = NULL;
    awsnet_session *session = NULL;
    awsnet_detector *detector = NULL;
    picture photo = {0, 0, NULL};
    float *images = NULL;
    awsnet_error error = AWSNET_ERROR_INIT;
    int exit_code = 1;

    /* All faces of a picture are one run. */
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT;
    options.batch = MOST_FACES;
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    if (awsnet_model_load(argv[1], &model, &error) != AWSNET_STATUS_OK) goto failed;
    if (awsnet_engine_create(model, &options, &engine, &error) != AWSNET_STATUS_OK) goto failed;
    if (awsnet_session_create(engine, &session, &error) != AWSNET_STATUS_OK) goto failed;
    if (awsnet_engine_query(engine, &info, &error) != AWSNET_STATUS_OK) goto failed;
    awsnet_detector_options search = AWSNET_DETECTOR_OPTIONS_INIT;
    search.min_face = 24; /* pixels, as `awsnet predict --detect` has it for pictures; fewer looks find larger ones */
    if (awsnet_detector_create(NULL, &search, &detector, &error) != AWSNET_STATUS_OK) goto failed;

    /* The picture, in memory that stays ours: a camera's frame differs in its format and row stride. */
    const char *fault = picture_read(argv[2], &photo);
    const size_t len = (size_t)info.channels * info.height * info.width;
    images = malloc(MOST_FACES * len * sizeof *images);
    if (fault == NULL && images == NULL) fault = "not enough memory";
    if (fault != NULL) {
        fprintf(stderr, "%s: %s\n", argv[2], fault);
        goto done;
    }
    awsnet_frame frame = AWSNET_FRAME_INIT;
    frame.format = AWSNET_FRAME_RGB;
    frame.width = (uint32_t)photo.width;
    frame.height = (uint32_t)photo.height;
    frame.planes[0] = photo.pixels;
    frame.sizes[0] = 3 * photo.width * photo.height;

    /* The surest faces, as many as there is room for, each cut out as the model's file says. */
    awsnet_face faces[MOST_FACES];
    size_t count = 0;
    if (awsnet_detector_detect(detector, &frame, faces, MOST_FACES, &count, &error) != AWSNET_STATUS_OK) goto failed;
    if (count > MOST_FACES) {
        fprintf(stderr, "%s: %zu faces, of which %d are looked at\n", argv[2], count, MOST_FACES);
        count = MOST_FACES;
    }
    for (size_t i = 0; i < count; i++)
        if (awsnet_engine_cut(engine, &frame, &faces[i], images + i * len, len, &error) != AWSNET_STATUS_OK) goto failed;

    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT; /* asked for by head, below */
    if (count > 0 && awsnet_session_run(session, images, count * len, &predictions, &error) != AWSNET_STATUS_OK)
        goto failed;
    for (size_t i = 0; i < count; i++) {
        const awsnet_face *face = &faces[i];
        printf("face\t%.9g\t%.9g\t%.9g\t%.9g\t%.9g\n", (double)face->x, (double)face->y, (double)face->width,
               (double)face->height, (double)face->score);
        if (print_scores(engine, session, i, &error) != AWSNET_STATUS_OK) goto failed;
    }
    exit_code = 0;
    goto done;

failed:
    fprintf(stderr, "%s: %s\n", awsnet_status_name(error.status), error.message);
done:
    free(images);
    picture_free(&photo);
    awsnet_detector_destroy(detector);
    awsnet_session_destroy(session);
    awsnet_engine_destroy(engine);
    awsnet_model_destroy(model);
    return exit_code;
}
