/* From a PNG file to the bytes that a network reads.
 *
 *     file --picture_read--> picture --picture_fit--> bytes of the network's size, for awsnet_session_run_u8
 *
 * A network sees what it was trained on only if both sides prepare pictures alike. These functions compute, to the bit,
 * what the command `awsnet predict` and Pillow's resize(size, Image.BILINEAR) do; replace the reading by the decoder that
 * you have, and keep the rest. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 8-bit RGB, [height][width][3]. */
typedef struct picture {
    size_t width, height;
    uint8_t *pixels;
} picture;

/* A part of a picture, from its upper left corner. */
typedef struct picture_box {
    size_t x, y, width, height;
} picture_box;

/* Reads a PNG file; NULL, or what went wrong. Free it with picture_free. */
const char *picture_read(const char *path, picture *p);

void picture_free(picture *p);

/* The largest centred part of the box that has the aspect ratio of width and height, resized to them, as
 * [height][width][channels]; channels is 3 (red, green, blue) or 1 (luma). NULL, or what went wrong. */
const char *picture_fit(const picture *p, picture_box box, size_t width, size_t height, size_t channels,
                        uint8_t *out);

#ifdef __cplusplus
}
#endif

#endif
