// The scores of a head whose numbers are there: a map, in the order (channel, position), or logits.
//
//   logit[n][c * positions + i] = x[n][i][c]
//   probability = softmax over all of an image, or the sigmoid; the logit itself without a score
//
// Block (x, n) serves a share of image n: every (gridDim.x * threads)-th number. For a softmax each block goes over all
// numbers of its image for their maximum and their sum. The logits may be what is read. Shared memory: a float a warp.
#include <device/element.h>
#include <device/predecessor.h>
#include <device/warp.h>
#include <variants.h>

// `combine(a, b)` of every thread's value, the same in all of them. `parts` is free shared memory, and free again.
template <typename Combine>
DEVICE float block_reduce(float value, float* parts, Combine combine) {
  constexpr int kWarps = AWSNET_HEAD_THREADS / 32;
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  sync_threads();  // every warp's part is there
  float result = parts[0];
  for (int warp = 1; warp < kWarps; warp++) result = combine(result, parts[warp]);
  sync_threads();  // every thread has read the parts: their memory is free
  return result;
}

template <typename Element>
DEVICE void head_score(const awsnet_head_score_params& p) {
  float* parts = reinterpret_cast<float*>(dynamic_shared());
  const int64_t n = blockIdx.y, labels = p.head.labels;
  const Element* map = static_cast<const Element*>(p.head.input) + n * p.positions_per_image * p.pitch;
  await_predecessor();
  const auto number = [&](int64_t l) {
    const int64_t c = l / p.positions_per_image, i = l % p.positions_per_image;
    return to_f32(load_global(map + i * p.pitch + c));
  };
  const bool softmax = p.head.score == AWSNET_SCORE_SOFTMAX;
  float largest = -INFINITY, total = 0.0f;
  if (softmax) {
    for (int64_t l = threadIdx.x; l < labels; l += AWSNET_HEAD_THREADS) largest = fmaxf(largest, number(l));
    largest = block_reduce(warp_max(largest), parts, [](float a, float b) { return fmaxf(a, b); });
    for (int64_t l = threadIdx.x; l < labels; l += AWSNET_HEAD_THREADS) total += expf(number(l) - largest);
    total = block_reduce(warp_sum(total), parts, [](float a, float b) { return a + b; });
  }
  const int64_t step = static_cast<int64_t>(gridDim.x) * AWSNET_HEAD_THREADS;
  for (int64_t l = static_cast<int64_t>(blockIdx.x) * AWSNET_HEAD_THREADS + threadIdx.x; l < labels; l += step) {
    const float logit = number(l);
    store_global(p.head.logits + n * labels + l, logit);
    if (!p.head.probabilities) continue;
    float probability = logit;
    if (softmax) {
      probability = expf(logit - largest) / total;
    } else if (p.head.score == AWSNET_SCORE_SIGMOID) {
      probability = 1.0f / (1.0f + expf(-logit));
    }
    store_global(p.head.probabilities + n * labels + l, probability);
  }
}

#define DEFINE(element) \
  AWSNET_KERNEL(head_score_##element, awsnet_head_score_params, AWSNET_HEAD_THREADS) { head_score<element>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
