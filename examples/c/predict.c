/* predict MODEL PICTURE.png [X,Y,WIDTH,HEIGHT]: what the network makes of the face in the box, or in the middle of the
 * picture. One line a score: head, label, probability, and "active" where an action unit is. */
#include <awsnet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

int main(int argc, char **argv) {
    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: %s MODEL PICTURE.png [X,Y,WIDTH,HEIGHT]\n", argv[0]);
        return 2;
    }

    /* Everything that is freed at the end, whatever happens on the way. All of it may be freed while it is NULL. */
    awsnet_model *model = NULL;
    awsnet_engine *engine = NULL;
    awsnet_session *session = NULL;
    picture photo = {0, 0, NULL};
    uint8_t *face = NULL;
    float *scores = NULL;
    awsnet_error error = AWSNET_ERROR_INIT;
    int exit_code = 1;

    /* The network. Once there is an engine, the model is not needed any more. */
    awsnet_engine_options options = AWSNET_ENGINE_OPTIONS_INIT; /* a GPU if there is one, a single image a run */
    if (awsnet_model_load(argv[1], &model, &error) != AWSNET_STATUS_OK) goto failed;
    if (awsnet_engine_create(model, &options, &engine, &error) != AWSNET_STATUS_OK) goto failed;
    if (awsnet_session_create(engine, &session, &error) != AWSNET_STATUS_OK) goto failed;
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    if (awsnet_engine_query(engine, &info, &error) != AWSNET_STATUS_OK) goto failed;

    /* The picture, as the network wants it. */
    const char *fault = picture_read(argv[2], &photo);
    if (fault == NULL) {
        picture_box box = {0, 0, photo.width, photo.height};
        if (argc == 4 && sscanf(argv[3], "%zu,%zu,%zu,%zu", &box.x, &box.y, &box.width, &box.height) != 4)
            fault = "expected a box of four numbers";
        face = malloc((size_t)info.width * info.height * info.channels);
        if (face == NULL) fault = "not enough memory";
        if (fault == NULL)
            fault = picture_fit(&photo, box, info.width, info.height, info.channels, face);
    }
    if (fault != NULL) {
        fprintf(stderr, "%s: %s\n", argv[2], fault);
        goto done;
    }
    awsnet_images_u8 images = AWSNET_IMAGES_U8_INIT;
    images.pixels = face;
    images.size = (size_t)info.width * info.height * info.channels;
    images.count = 1;

    /* No buffers for results here: they are asked for by head. A network whose two heads are known needs no such loop: it
     * says in awsnet_predictions where their scores go. */
    awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
    if (awsnet_session_run_u8(session, &images, &predictions, &error) != AWSNET_STATUS_OK) goto failed;

    for (awsnet_head number = 0; (uint32_t)number < info.head_count; number++) {
        awsnet_head_info head = AWSNET_HEAD_INFO_INIT;
        if (awsnet_engine_head(engine, number, &head, &error) != AWSNET_STATUS_OK) goto failed;
        free(scores);
        scores = malloc(head.count * sizeof(float));
        if (scores == NULL) {
            fprintf(stderr, "not enough memory\n");
            goto done;
        }
        if (awsnet_session_scores(session, number, NULL, scores, head.count, NULL, &error) != AWSNET_STATUS_OK)
            goto failed;
        for (size_t i = 0; i < head.count; i++) {
            const char *label = ""; /* a head of values may have none */
            float threshold = 0;
            int is_unit = head.kind == AWSNET_HEAD_KIND_UNITS;
            if (i < head.label_count && awsnet_engine_label(engine, number, i, &label, &error) != AWSNET_STATUS_OK)
                goto failed;
            if (is_unit && awsnet_engine_head_threshold(engine, number, i, &threshold, &error) != AWSNET_STATUS_OK)
                goto failed;
            /* Nine digits tell every float from its neighbours. */
            printf("%s\t%s\t%.9g%s\n", head.name, label, (double)scores[i],
                   is_unit && scores[i] >= threshold ? "\tactive" : "");
        }
    }
    exit_code = 0;
    goto done;

failed:
    fprintf(stderr, "%s: %s\n", awsnet_status_name(error.status), error.message);
done:
    free(scores);
    free(face);
    picture_free(&photo);
    awsnet_session_destroy(session);
    awsnet_engine_destroy(engine);
    awsnet_model_destroy(model);
    return exit_code;
}
