// The linear layers of heads: mean over the image's positions where asked for, products, scores.
//
//   logit[n][l] = bias[l] + sum over features of weight[l][feature] * feature
//   probability = softmax over l, or the sigmoid, of logit[n][l]; the logit itself without a score
//
// Block (n, h, z) serves image n of head h, and of its labels the z-th part. Shared memory: the pooled features [pitch]
// (with `pooled`), then the part's logits, f32. A warp computes one label at a time; all sums run in a fixed order.
#include <device/element.h>
#include <device/predecessor.h>
#include <device/warp.h>
#include <variants.h>

template <typename Element>
DEVICE void head(const awsnet_head_params& p) {
  constexpr int kWarps = AWSNET_HEAD_THREADS / 32;
  const awsnet_head& head = p.head[blockIdx.y];
  const int pitch = pitch_of(p.channels), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t n = blockIdx.x;
  const int first = static_cast<int>(blockIdx.z) * p.labels_per_block;
  const int labels = lesser(head.labels - first, p.labels_per_block);  // of this part; none in a smaller head's last
  const Element* map = static_cast<const Element*>(head.input) + n * p.positions_per_image * pitch;
  float* pooled = reinterpret_cast<float*>(dynamic_shared());
  float* logits = pooled + (p.pooled ? pitch : 0);

  await_predecessor();
  const int vectors = pitch / kVector;
  if (p.pooled) {
    // Eight vectors a warp, and of each every fourth position a lane.
    for (int vector = warp * 8 + lane % 8; vector - lane % 8 < vectors; vector += kWarps * 8) {
      float sum[kVector] = {};
      if (vector < vectors) {
#pragma unroll 4
        for (int64_t i = lane / 8; i < p.positions_per_image; i += 4) {
          float x[kVector];
          load_vector(x, map + i * pitch + vector * kVector);
#pragma unroll
          for (int e = 0; e < kVector; e++) sum[e] += x[e];
        }
      }
#pragma unroll
      for (int e = 0; e < kVector; e++) {
        sum[e] += shuffle_xor(sum[e], 8);
        sum[e] += shuffle_xor(sum[e], 16);
        const bool stores = lane < 8 && vector < vectors;
        if (stores) pooled[vector * kVector + e] = sum[e] / static_cast<float>(p.positions_per_image);
      }
    }
    sync_threads();  // the pooled features are there
  }
  const int64_t rows = p.pooled ? 1 : p.positions_per_image;
  for (int l = warp; l < labels; l += kWarps) {
    float sum = 0.0f;
    for (int64_t i = 0; i < rows; i++) {
      const float* weight = head.weight + ((first + l) * rows + i) * pitch;
#pragma unroll 2
      for (int c = lane * kVector; c < pitch; c += 32 * kVector) {
        float w[kVector], x[kVector];
        load_vector(w, weight + c);
        if (p.pooled) {
#pragma unroll
          for (int e = 0; e < kVector; e++) x[e] = pooled[c + e];
        } else {
          load_vector(x, map + i * pitch + c);
        }
#pragma unroll
        for (int e = 0; e < kVector; e++) sum += w[e] * x[e];
      }
    }
    sum = warp_sum(sum);
    if (lane == 0) logits[l] = head.bias ? sum + load_global(head.bias + first + l) : sum;
  }
  sync_threads();  // the logits are there
  if (warp != 0) return;

  const int64_t row = n * head.labels + first;
  for (int l = lane; l < labels; l += 32) store_global(head.logits + row + l, logits[l]);
  if (head.score == AWSNET_SCORE_NONE) {
    if (!head.probabilities) return;
    for (int l = lane; l < labels; l += 32) store_global(head.probabilities + row + l, logits[l]);
    return;
  }
  float largest = -INFINITY, total = 0.0f;
  for (int l = lane; l < labels; l += 32) largest = fmaxf(largest, logits[l]);
  largest = warp_max(largest);
  for (int l = lane; l < labels; l += 32) total += expf(logits[l] - largest);
  total = warp_sum(total);
  const bool softmax = head.score == AWSNET_SCORE_SOFTMAX;
  for (int l = lane; l < labels; l += 32) {
    const float logit = logits[l];
    const float probability = softmax ? expf(logit - largest) / total : 1.0f / (1.0f + expf(-logit));
    store_global(head.probabilities + row + l, probability);
  }
}

#define DEFINE(element) \
  AWSNET_KERNEL(head_##element, awsnet_head_params, AWSNET_HEAD_THREADS) { head<element>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
