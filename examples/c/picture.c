#include "picture.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

/* A file of a few bytes may claim to be a picture of terabytes. */
enum { MAX_PIXELS = 1 << 28 };

const char *picture_read(const char *path, picture *p) {
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    if (!png_image_begin_read_from_file(&image, path)) return "expected a PNG file that can be read";
    size_t width = image.width, height = image.height;
    if (width > MAX_PIXELS / height) {
        png_image_free(&image);
        return "expected at most 2^28 pixels";
    }
    uint8_t *pixels = malloc(width * height * 4);
    if (pixels == NULL) {
        png_image_free(&image);
        return "not enough memory for the picture";
    }
    image.format = PNG_FORMAT_RGBA; /* with alpha, or libpng would mix transparent pixels with a background */
    if (!png_image_finish_read(&image, NULL, pixels, 0, NULL)) {
        free(pixels);
        return "expected a whole PNG file";
    }
    for (size_t i = 0; i < width * height; i++) memmove(pixels + 3 * i, pixels + 4 * i, 3);
    *p = (picture){width, height, pixels};
    return NULL;
}

void picture_free(picture *p) {
    free(p->pixels);
    p->pixels = NULL;
}

/* side * numerator / denominator, rounded, from 1 to at_most. */
static size_t proportional(size_t side, size_t numerator, size_t denominator, size_t at_most) {
    uint64_t rounded = ((uint64_t)side * numerator + denominator / 2) / denominator;
    return rounded < 1 ? 1 : rounded > at_most ? at_most : (size_t)rounded;
}

/* The largest centred part of the box that has the aspect ratio of width and height. */
static picture_box crop(picture_box box, size_t width, size_t height) {
    picture_box part = box;
    if ((uint64_t)box.width * height > (uint64_t)width * box.height)
        part.width = proportional(box.height, width, height, box.width);
    else
        part.height = proportional(box.width, height, width, box.height);
    part.x += (box.width - part.width) / 2;
    part.y += (box.height - part.height) / 2;
    return part;
}

/* The inputs that one output is made of, along one axis: weights[0] * input[start] + weights[1] * input[start + 1] + ...
 * Weights are fixed-point numbers that sum to 1. */
enum { FRACTION_BITS = 22 };

typedef struct window {
    size_t start, len;
    int32_t *weights;
} window;

/* With s = max(1, inputs / outputs), input i weighs max(0, 1 - |i + 0.5 - centre| / s): neighbours are interpolated where a
 * picture grows, and averaged over a wider window where it shrinks. */
static window *make_windows(size_t inputs, size_t outputs) {
    double scale = (double)inputs / (double)outputs, reach = scale > 1 ? scale : 1;
    size_t room = 2 * (size_t)reach + 3;
    window *windows = malloc(outputs * (sizeof *windows + room * sizeof(int32_t)));
    double *weights = malloc(room * sizeof *weights);
    if (windows == NULL || weights == NULL) {
        free(windows);
        free(weights);
        return NULL;
    }
    int32_t *next = (int32_t *)(windows + outputs);
    for (size_t output = 0; output < outputs; output++, next += room) {
        double centre = ((double)output + 0.5) * scale, from = centre - reach + 0.5, total = 0;
        size_t start = from > 0 ? (size_t)from : 0, end = (size_t)(centre + reach + 0.5);
        if (end > inputs) end = inputs;
        for (size_t i = start; i < end; i++) {
            double distance = ((double)i - centre + 0.5) * (1 / reach), weight = 1 - (distance < 0 ? -distance : distance);
            weights[i - start] = weight > 0 ? weight : 0;
            total += weights[i - start];
        }
        windows[output] = (window){start, end - start, next};
        for (size_t i = 0; i < end - start; i++)
            next[i] = (int32_t)(weights[i] / total * (1 << FRACTION_BITS) + 0.5);
    }
    free(weights);
    return windows;
}

/* The weighted sum of a window of inputs, each stride bytes behind the one before. */
static uint8_t weighted(const window *w, const uint8_t *inputs, size_t stride) {
    int32_t sum = 1 << (FRACTION_BITS - 1);
    for (size_t i = 0; i < w->len; i++) sum += w->weights[i] * inputs[(w->start + i) * stride];
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

/* As Pillow's convert("L"). */
static uint8_t luma(const uint8_t *rgb) {
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

const char *picture_fit(const picture *p, picture_box box, size_t width, size_t height, size_t channels,
                        uint8_t *out) {
    if (box.width == 0 || box.height == 0 || box.x > p->width || box.width > p->width - box.x ||
        box.y > p->height || box.height > p->height - box.y)
        return "expected a box inside the picture";
    box = crop(box, width, height);
    /* In x, then in y. Where the size is right already, a window is the pixel itself. */
    window *columns = make_windows(box.width, width), *rows = make_windows(box.height, height);
    uint8_t *narrow = malloc(box.height * width * 3);
    const char *fault = columns && rows && narrow ? NULL : "not enough memory to resize the picture";
    if (fault == NULL) {
        for (size_t y = 0; y < box.height; y++) {
            const uint8_t *row = p->pixels + ((box.y + y) * p->width + box.x) * 3;
            for (size_t x = 0; x < width; x++)
                for (size_t c = 0; c < 3; c++) narrow[(y * width + x) * 3 + c] = weighted(&columns[x], row + c, 3);
        }
        for (size_t y = 0; y < height; y++) {
            for (size_t x = 0; x < width; x++) {
                uint8_t rgb[3];
                for (size_t c = 0; c < 3; c++) rgb[c] = weighted(&rows[y], narrow + x * 3 + c, width * 3);
                uint8_t *pixel = out + (y * width + x) * channels;
                if (channels == 1)
                    *pixel = luma(rgb);
                else
                    memcpy(pixel, rgb, 3);
            }
        }
    }
    free(columns);
    free(rows);
    free(narrow);
    return fault;
}
