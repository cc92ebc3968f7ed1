// A caller's image as a map: out[n][h][w][c] = pixel * scale[c] + shift[c], one thread a position.
#include <device/image.h>
#include <variants.h>

template <typename Element>
DEVICE void image_to_nhwc(const awsnet_image_to_nhwc_params& p) {
  const int64_t position = static_cast<int64_t>(blockIdx.x) * AWSNET_VECTOR_THREADS + threadIdx.x;
  const int64_t per_image = static_cast<int64_t>(p.image.height) * p.image.width;
  if (position >= p.batch * per_image) return;
  const int64_t n = static_cast<uint32_t>(position) / static_cast<uint32_t>(per_image);
  const int pixel = static_cast<int>(position - n * per_image);
  const int h = pixel / p.image.width, w = pixel % p.image.width;
  float values[kVector] = {};
#pragma unroll
  for (int c = 0; c < 4; c++) {  // a caller's image has 1 to 4 channels
    if (c < p.image.channels) values[c] = load_pixel(p.image, n, h, w, c);
  }
  store_vector(static_cast<Element*>(p.output) + position * kVector, values, p.image.channels);
}

#define DEFINE(element)                                                                        \
  AWSNET_KERNEL(image_to_nhwc_##element, awsnet_image_to_nhwc_params, AWSNET_VECTOR_THREADS) { \
    image_to_nhwc<element>(params);                                                            \
  }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
