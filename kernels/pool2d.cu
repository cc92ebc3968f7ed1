// Maximum or average pooling of one or two branches.
//
//   z[t][n][oh][ow][c] = max or mean over r, s of
//                        x[t][n][oh * stride_h - pad_top + r][ow * stride_w - pad_left + s][c]
//
// A NaN wins a maximum; abi.h says what an average counts. The global average is a kernel of the map's size. Window i of
// an adaptive average begins at floor(i * in / out) and ends at ceil((i + 1) * in / out).
#include <device/epilogue.h>
#include <device/pointwise.h>

// Rows or columns: of the window, and those of them that an average counts.
struct Span {
  int begin, end, counted;
};
DEVICE Span window_span(int index, int size, int kernel, int stride, int pad, int counted_before, int counted_behind) {
  const int begin = index * stride - pad, end = begin + kernel;
  const int from = begin < -counted_before ? -counted_before : begin;
  return Span{begin, end, lesser(end, size + counted_behind) - from};
}
DEVICE Span adaptive_span(int64_t index, int64_t size, int64_t out) {
  const int begin = static_cast<int>(index * size / out), end = static_cast<int>(((index + 1) * size + out - 1) / out);
  return Span{begin, end, end - begin};
}

template <typename Element, int kBranches>
DEVICE void pool2d(const awsnet_pool2d_params& p) {
  const VectorOfPosition at(p.epilogue.channels);
  await_predecessor();
  const int64_t positions = static_cast<int64_t>(p.batch) * p.out_h * p.out_w;
  if (at.position >= positions) return;
  const int pitch = pitch_of(p.epilogue.channels);
  const uint32_t m = static_cast<uint32_t>(at.position);
  const uint32_t ow = m % p.out_w, oh = m / p.out_w % p.out_h, n = m / p.out_w / p.out_h;
  const bool adaptive = p.kind == AWSNET_POOL_ADAPTIVE_AVERAGE;
  const Span rows = adaptive ? adaptive_span(oh, p.in_h, p.out_h)
                             : window_span(static_cast<int>(oh), p.in_h, p.kernel_h, p.stride_h, p.pad_top,
                                           p.counted_top, p.counted_bottom);
  const Span columns = adaptive ? adaptive_span(ow, p.in_w, p.out_w)
                                : window_span(static_cast<int>(ow), p.in_w, p.kernel_w, p.stride_w, p.pad_left,
                                              p.counted_left, p.counted_right);
  const int first_h = rows.begin < 0 ? 0 : rows.begin, last_h = lesser(rows.end, p.in_h);
  const int first_w = columns.begin < 0 ? 0 : columns.begin, last_w = lesser(columns.end, p.in_w);
  const auto each = [&](auto take) {
    for (int h = first_h; h < last_h; h++) {
      const int64_t row = (static_cast<int64_t>(n) * p.in_h + h) * p.in_w;
#pragma unroll 3  // a window of three has them all under way
      for (int w = first_w; w < last_w; w++) {
#pragma unroll
        for (int t = 0; t < kBranches; t++) {
          take(t, read_vector(static_cast<const Element*>(p.input[t]) + (row + w) * pitch + at.channel));
        }
      }
    }
  };
  float z[kBranches][kVector];
  if (p.kind == AWSNET_POOL_MAX) {
    Vector<Element> largest[kBranches];
#pragma unroll
    for (int t = 0; t < kBranches; t++) largest[t] = uniform_vector<Element>(-INFINITY);
    each([&](int t, const Vector<Element>& x) { raise(largest[t], x); });
#pragma unroll
    for (int t = 0; t < kBranches; t++) widen(z[t], largest[t]);
  } else {
#pragma unroll
    for (int t = 0; t < kBranches; t++)
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] = 0.0f;
    each([&](int t, const Vector<Element>& vector) {
      float x[kVector];
      widen(x, vector);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] += x[i];
    });
    const float window = static_cast<float>(rows.counted) * static_cast<float>(columns.counted);
#pragma unroll
    for (int t = 0; t < kBranches; t++)
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] /= window;
  }
  finish_vector<Element>(p.epilogue, at.position, at.channel, z);
}

// Five blocks share a multiprocessor: a window's loads take registers.
#define DEFINE_FOR(kernel, element, branches) \
  AWSNET_KERNEL_OF_BLOCKS(kernel, awsnet_pool2d_params, AWSNET_VECTOR_THREADS, 5) { pool2d<element, branches>(params); }
#define DEFINE(element)                        \
  DEFINE_FOR(pool2d_##element, element, kPair) \
  DEFINE_FOR(pool2d_##element##_alone, element, 1)
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE_FOR
#undef DEFINE
