/* faces MODEL PIXELS WIDTH HEIGHT: the faces in a file of RGB pixels and what is cut out of it for the model, in hexadecimal; the
 * same frame in other formats and with other planes; wrong calls. */
#include "check.h"

enum { MOST = 64 };

static awsnet_error error = AWSNET_ERROR_INIT;
static awsnet_detector *detector;
static size_t width, height;

/* A call that fails, and whose message begins like this. */
#define FAILS(call, wanted, told)                                                                 \
    do {                                                                                          \
        memset(error.message, 0, sizeof error.message);                                           \
        CHECK((call) == (wanted));                                                                \
        if (strncmp(error.message, told, strlen(told)) != 0) fprintf(stderr, "%s\n", error.message); \
        CHECK(strncmp(error.message, told, strlen(told)) == 0);                                   \
    } while (0)

/* FNV-1a, of 64 bits. */
static unsigned long long hash(const void *bytes, size_t size) {
    unsigned long long hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3ull;
    return hash;
}

static awsnet_frame make_frame(awsnet_frame_format format, const unsigned char *pixels, size_t size) {
    awsnet_frame frame = AWSNET_FRAME_INIT;
    frame.format = format;
    frame.width = (uint32_t)width;
    frame.height = (uint32_t)height;
    frame.planes[0] = pixels;
    frame.sizes[0] = size;
    return frame;
}

static size_t detect(const awsnet_frame *frame, awsnet_face faces[MOST]) {
    size_t count = 0;
    OK(awsnet_detector_detect(detector, frame, faces, MOST, &count, NULL));
    CHECK(count <= MOST);
    return count;
}

static unsigned char *make(size_t size, int value) {
    unsigned char *bytes = malloc(size);
    CHECK(bytes != NULL);
    memset(bytes, value, size);
    return bytes;
}

/* BGRA with something behind each row is the same picture, to the bit. */
static void other_formats(const unsigned char *rgb, const awsnet_face *expected, size_t count) {
    awsnet_face faces[MOST];
    size_t stride = 4 * width + 12;
    unsigned char *bgra = make(stride * height, 99);
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++) bgra[y * stride + 4 * x + c] = rgb[3 * (y * width + x) + 2 - c];
    awsnet_frame frame = make_frame(AWSNET_FRAME_BGRA, bgra, stride * height - 12);
    frame.row_strides[0] = stride;
    CHECK(detect(&frame, faces) == count && memcmp(faces, expected, count * sizeof *faces) == 0);
    frame.sizes[0]--;
    CHECK(awsnet_detector_detect(detector, &frame, faces, MOST, &count, NULL) == AWSNET_STATUS_INVALID_ARGUMENT);
    free(bgra);
}

/* Video as one piece of memory, and as a decoder has it: planes with strides of their own, anywhere. */
static void planes(const unsigned char *rgb) {
    size_t half = (width + 1) / 2, half_rows = (height + 1) / 2, luma = width * height;
    unsigned char *nv12 = make(luma + 2 * half * half_rows, 128), *i420 = make(luma + 2 * half * half_rows, 128);
    for (size_t i = 0; i < luma; i++) nv12[i] = i420[i] = (unsigned char)(16 + rgb[3 * i + 1] * 219 / 255);
    for (size_t i = 0; i < half * half_rows; i++) {
        i420[luma + i] = nv12[luma + 2 * i] = (unsigned char)(100 + i % 50);
        i420[luma + half * half_rows + i] = nv12[luma + 2 * i + 1] = (unsigned char)(110 + i % 40);
    }
    size_t stride = width + 32;
    unsigned char *y = make(stride * height, 7), *c = make((2 * half + 6) * half_rows, 7);
    for (size_t row = 0; row < height; row++) memcpy(y + row * stride, nv12 + row * width, width);
    for (size_t row = 0; row < half_rows; row++)
        memcpy(c + row * (2 * half + 6), nv12 + luma + row * 2 * half, 2 * half);

    awsnet_face expected[MOST], faces[MOST];
    awsnet_frame frame = make_frame(AWSNET_FRAME_NV12, nv12, luma + 2 * half * half_rows);
    size_t count = detect(&frame, expected);
    CHECK(count > 0);
    frame = make_frame(AWSNET_FRAME_NV12, y, stride * height - 32);
    frame.planes[1] = c;
    frame.sizes[1] = (2 * half + 6) * half_rows - 6;
    frame.row_strides[0] = stride;
    frame.row_strides[1] = 2 * half + 6;
    CHECK(detect(&frame, faces) == count && memcmp(faces, expected, count * sizeof *faces) == 0);
    frame.sizes[1]--;
    FAILS(awsnet_detector_detect(detector, &frame, faces, MOST, &count, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "frame: plane 1: expected at least ");
    frame = make_frame(AWSNET_FRAME_I420, i420, luma + 2 * half * half_rows);
    CHECK(detect(&frame, faces) == count && memcmp(faces, expected, count * sizeof *faces) == 0);
    frame.planes[1] = i420 + luma;
    frame.planes[2] = i420 + luma + half * half_rows;
    frame.sizes[0] = luma;
    frame.sizes[1] = frame.sizes[2] = half * half_rows;
    CHECK(detect(&frame, faces) == count && memcmp(faces, expected, count * sizeof *faces) == 0);
    frame.planes[2] = NULL;
    FAILS(awsnet_detector_detect(detector, &frame, faces, MOST, &count, &error), AWSNET_STATUS_INVALID_ARGUMENT,
          "frame.planes[2]: expected a pointer, found NULL");
    free(nv12), free(i420), free(y), free(c);
}

static void wrong_calls(const char *model_path, const unsigned char *rgb, const awsnet_engine *engine, size_t len) {
    awsnet_frame frame = make_frame(AWSNET_FRAME_RGB, rgb, 3 * width * height);
    awsnet_face faces[MOST];
    size_t count = 7;
#define DETECT awsnet_detector_detect(detector, &frame, faces, MOST, &count, &error)
    const awsnet_frame right = frame;
    frame.format = 7;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.format: expected one of AWSNET_FRAME_*, found 7");
    frame = right, frame.format = -1;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.format: expected one of AWSNET_FRAME_*, found -1");
    frame = right, frame.width = 0;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame: expected sides from 1 to 16777216, found 0x");
    frame = right, frame.height = UINT32_MAX;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame: expected sides from 1 to 16777216, found ");
    frame = right, frame.row_strides[0] = 3 * width - 1;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame: expected a row stride of at least ");
    frame = right, frame.row_strides[0] = SIZE_MAX;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame: expected more than the address space bytes for ");
    frame = right, frame.sizes[0]--;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame: expected at least ");
    frame = right, frame.planes[0] = NULL;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.planes[0]: expected a pointer, found NULL");
    frame = right, frame.planes[1] = rgb;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.planes[1]: expected NULL, ");
    frame = right, frame.row_strides[2] = 1;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.planes[2]: expected NULL, ");
    frame = right, frame.struct_size = 8;
    FAILS(DETECT, AWSNET_STATUS_INVALID_ARGUMENT, "frame.struct_size: expected its size in bytes, at least ");
    frame = right;
    CHECK(count == 7); /* outputs are written on success only */

    awsnet_detector *none = (awsnet_detector *)&error, *before = none;
    awsnet_detector_options options = AWSNET_DETECTOR_OPTIONS_INIT;
#define CREATE awsnet_detector_create(NULL, &options, &none, &error)
    const awsnet_detector_options by_default = options;
    options.min_score = 1.5f;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "min_score: expected a number from 0 to 1, found 1.5");
    options = by_default, options.min_face = -1;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "min_face: expected a number of pixels, 0 or more, found -1");
    options = by_default, options.device = 4;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "options.device: expected one of AWSNET_DEVICE_*, found 4");
    options = by_default, options.device_index = 1;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "options.device_index: expected 0 unless ");
    options = by_default, options.reserved = 1;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "options.reserved: expected 0, found 1");
    options = by_default, options.spin_us = -3;
    FAILS(CREATE, AWSNET_STATUS_INVALID_ARGUMENT, "options.spin_us: expected microseconds");
    options = by_default;
    awsnet_model *model = NULL;
    OK(awsnet_model_load(model_path, &model, NULL));
    FAILS(awsnet_detector_create(model, NULL, &none, &error), AWSNET_STATUS_MODEL, "face detector: expected ");
    OK(awsnet_model_destroy(model));
    CHECK(none == before);

    float *image = (float *)(void *)make(len * sizeof *image, 0xff), kept = image[0];
    awsnet_face face = {0};
#define CUT(len) awsnet_engine_cut(engine, &frame, &face, image, len, &error)
    FAILS(CUT(len), AWSNET_STATUS_INVALID_ARGUMENT, "face: expected "); /* an area, or points */
    face.width = face.height = 50;
    FAILS(CUT(len - 1), AWSNET_STATUS_BUFFER_TOO_SMALL, "len: expected room for ");
    FAILS(awsnet_engine_cut_u8(engine, &frame, &face, (unsigned char *)image, len - 1, &error),
          AWSNET_STATUS_BUFFER_TOO_SMALL, "size: expected room for ");
    face.point_count = 5;
    FAILS(CUT(len), AWSNET_STATUS_INVALID_ARGUMENT, "face.point_count: expected 0 or 6, found 5");
    face.point_count = 0, face.reserved[5] = 1;
    FAILS(CUT(len), AWSNET_STATUS_INVALID_ARGUMENT, "face.reserved: expected 0");
    face.reserved[5] = 0, face.x = -1000;
    FAILS(CUT(len), AWSNET_STATUS_INVALID_ARGUMENT, "face: expected "); /* to meet the frame, or points */
    CHECK(memcmp(&kept, image, sizeof kept) == 0);
    free(image);
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    width = (size_t)atoi(argv[3]), height = (size_t)atoi(argv[4]);
    unsigned char *rgb = make(3 * width * height, 0);
    FILE *file = fopen(argv[2], "rb");
    CHECK(file != NULL && fread(rgb, 1, 3 * width * height, file) == 3 * width * height);
    fclose(file);

    awsnet_detector_options options = AWSNET_DETECTOR_OPTIONS_INIT;
    options.threads = 1;
    OK(awsnet_detector_create(NULL, &options, &detector, NULL));
    awsnet_frame frame = make_frame(AWSNET_FRAME_RGB, rgb, 3 * width * height);
    awsnet_face faces[MOST], few[MOST];
    size_t count = detect(&frame, faces), again = 0;
    CHECK(count > 2);

    /* A buffer that is too short has the surest, and the count is the whole. */
    memset(few, 0xff, sizeof few);
    OK(awsnet_detector_detect(detector, &frame, few, 2, &again, NULL));
    CHECK(again == count && memcmp(few, faces, 2 * sizeof *few) == 0 && few[2].point_count == UINT32_MAX);
    OK(awsnet_detector_detect(detector, &frame, NULL, 0, &again, NULL));
    CHECK(again == count);

    /* Threads that are shared, a surer detector. */
    awsnet_pool_options pool_options = AWSNET_POOL_OPTIONS_INIT;
    pool_options.threads = 2;
    awsnet_pool *pool = NULL;
    awsnet_detector *sure = NULL;
    OK(awsnet_pool_create(&pool_options, &pool, NULL));
    options.pool = pool;
    options.threads = 2;
    options.min_score = (faces[0].score + faces[1].score) / 2;
    OK(awsnet_detector_create(NULL, &options, &sure, NULL));
    OK(awsnet_pool_destroy(pool));
    OK(awsnet_detector_detect(sure, &frame, few, MOST, &again, NULL));
    CHECK(again == 1);
    OK(awsnet_detector_destroy(sure));

    awsnet_engine *engine = make_engine(argv[1], AWSNET_DEVICE_CPU, (uint32_t)count, 1);
    size_t len = image_len(engine);
    float *images = malloc(count * len * sizeof *images);
    unsigned char *bytes = malloc(count * len);
    CHECK(images != NULL && bytes != NULL);
    for (size_t i = 0; i < count; i++) {
        OK(awsnet_engine_cut(engine, &frame, &faces[i], images + i * len, len, NULL));
        OK(awsnet_engine_cut_u8(engine, &frame, &faces[i], bytes + i * len, len, NULL));
        uint32_t bits[17];
        memcpy(bits, &faces[i], 5 * sizeof *bits);
        memcpy(bits + 5, faces[i].points, 12 * sizeof *bits);
        CHECK(faces[i].point_count == 6);
        for (int j = 0; j < 17; j++) printf("%08x ", (unsigned)bits[j]);
        printf("%016llx %016llx\n", hash(images + i * len, len * sizeof *images), hash(bytes + i * len, len));
    }

    /* Both kinds of images are the same to a run. */
    awsnet_session *session = NULL;
    OK(awsnet_session_create(engine, &session, NULL));
    awsnet_engine_info info = AWSNET_ENGINE_INFO_INIT;
    OK(awsnet_engine_query(engine, &info, NULL));
    size_t numbers = count * info.label_count[0];
    float *scores = malloc(2 * numbers * sizeof *scores);
    CHECK(scores != NULL);
    awsnet_images_u8 pixels = AWSNET_IMAGES_U8_INIT;
    pixels.pixels = bytes;
    pixels.size = count * len;
    pixels.count = count;
    for (size_t i = 0; i < 2; i++) {
        awsnet_predictions predictions = AWSNET_PREDICTIONS_INIT;
        predictions.logits[0] = scores + i * numbers;
        predictions.capacity[0] = numbers;
        OK(i ? awsnet_session_run_u8(session, &pixels, &predictions, NULL)
             : awsnet_session_run(session, images, count * len, &predictions, NULL));
    }
    CHECK(memcmp(scores, scores + numbers, numbers * sizeof *scores) == 0);

    other_formats(rgb, faces, count);
    planes(rgb);
    wrong_calls(argv[1], rgb, engine, len);
    OK(awsnet_session_destroy(session));
    OK(awsnet_engine_destroy(engine));
    OK(awsnet_detector_destroy(detector));
    free(images), free(bytes), free(scores), free(rgb);
    return 0;
}
