// A pixel of a caller's image (struct awsnet_image), normalised.
#pragma once
#include <device/element.h>

DEVICE float load_pixel(const awsnet_image& image, int64_t n, int h, int w, int c) {
  const int64_t offset =
      n * image.image_stride + h * image.row_stride + w * image.column_stride + c * image.channel_stride;
  const float value = image.pixel == AWSNET_PIXEL_U8
                          ? static_cast<float>(load_global(static_cast<const uint8_t*>(image.pixels) + offset))
                          : load_global(static_cast<const float*>(image.pixels) + offset);
  return fmaf(value, image.scale[c], image.shift[c]);  // one rounding
}
