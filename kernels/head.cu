// The head of each branch: mean over the image's positions where asked for, linear layer, scores.
//
//   logit[n][l] = bias[l] + sum over features of weight[l][feature] * feature
//   probability = softmax over l, or the sigmoid, of logit[n][l]
//
// Block (n, t) serves image n of branch t. Shared memory: the pooled features [pitch] (with `pooled`), then the logits
// [labels], f32. A warp computes one label at a time; all sums run in a fixed order.
#include <device/epilogue.h>
#include <device/predecessor.h>
#include <device/warp.h>
#include <variants.h>

template <typename Element>
DEVICE void head(const awsnet_head_params& p) {
  constexpr int kWarps = AWSNET_HEAD_THREADS / 32;
  const int t = blockIdx.y, pitch = pitch_of(p.channels), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t n = blockIdx.x;
  const int labels = t == 0 ? p.labels[0] : p.labels[1];
  const float* weight = t == 0 ? p.weight[0] : p.weight[1];
  const float* bias = t == 0 ? p.bias[0] : p.bias[1];
  const Element* map = static_cast<const Element*>(t == 0 ? p.input[0] : p.input[1]);
  map += n * p.positions_per_image * pitch;
  float* pooled = reinterpret_cast<float*>(dynamic_shared());
  float* logits = pooled + (p.pooled ? pitch : 0);

  await_predecessor();
  if (p.pooled) {
    for (int c = threadIdx.x; c < p.channels; c += AWSNET_HEAD_THREADS) {
      float sum = 0.0f;
      for (int64_t i = 0; i < p.positions_per_image; i++) sum += to_f32(load_global(map + i * pitch + c));
      pooled[c] = sum / static_cast<float>(p.positions_per_image);
    }
    sync_threads();  // the pooled features are there
  }
  const int64_t rows = p.pooled ? 1 : p.positions_per_image;
  for (int l = warp; l < labels; l += kWarps) {
    float sum = 0.0f;
    for (int64_t i = 0; i < rows; i++) {
      for (int c = lane; c < p.channels; c += 32) {
        const float feature = p.pooled ? pooled[c] : to_f32(load_global(map + i * pitch + c));
        sum += load_global(weight + (l * rows + i) * pitch + c) * feature;
      }
    }
    sum = warp_sum(sum);
    if (lane == 0) logits[l] = bias ? sum + load_global(bias + l) : sum;
  }
  sync_threads();  // the logits are there
  if (warp != 0) return;

  float largest = -INFINITY, total = 0.0f;
  for (int l = lane; l < labels; l += 32) largest = fmaxf(largest, logits[l]);
  largest = warp_max(largest);
  for (int l = lane; l < labels; l += 32) total += expf(logits[l] - largest);
  total = warp_sum(total);
  const bool softmax = (t == 0 ? p.score[0] : p.score[1]) == AWSNET_SCORE_SOFTMAX;
  for (int l = lane; l < labels; l += 32) {
    const float logit = logits[l];
    const float probability = softmax ? expf(logit - largest) / total : 1.0f / (1.0f + expf(-logit));
    store_global((t == 0 ? p.logits[0] : p.logits[1]) + n * labels + l, logit);
    store_global((t == 0 ? p.probabilities[0] : p.probabilities[1]) + n * labels + l, probability);
  }
}

#define DEFINE(element) \
  AWSNET_KERNEL(head_##element, awsnet_head_params, AWSNET_HEAD_THREADS) { head<element>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
