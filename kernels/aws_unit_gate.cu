// The gated AWS-Unit: coefficients computed anew for every image, in three launches.
//
//   means         mean[n][s][c] = sum over positions of u[s][n][position][c] / positions
//   coefficients  g = relu(W0 . mean[n] + b0),  L[t][s][c] = W1[t][s][c] . g + b1[t][s][c]
//                 A[n][t][s][c] = softmax over s, or the sigmoid, of L[t][s][c]
//   mix           y[t][n][position][c] = sum over s of A[n][t][s][c] * u[s][n][position][c]
//
// Layouts: abi.h. Means and coefficients are f32. All sums run in a fixed order.
#include <device/epilogue.h>
#include <device/pointwise.h>
#include <device/warp.h>

// Block (x, n, t) reduces 8 vectors of channels of image n, branch t. Thread i adds up every 16th position of vector
// i % 8; the 16 partial sums meet in shared memory.
template <typename Element>
DEVICE void aws_unit_gate_means(const awsnet_aws_unit_gate_means_params& p) {
  constexpr int kVectors = AWSNET_GATE_MEANS_VECTORS, kRows = AWSNET_GATE_MEANS_THREADS / kVectors;
  float* partial = reinterpret_cast<float*>(dynamic_shared());  // [kRows][kVectors * kVector]
  const int vectors = vectors_of(p.channels), pitch = vectors * kVector;
  const int row = threadIdx.x / kVectors, column = threadIdx.x % kVectors;
  const int vector = static_cast<int>(blockIdx.x) * kVectors + column;
  const int64_t n = blockIdx.y, t = blockIdx.z;
  await_predecessor();
  float sum[kVector] = {};
  if (vector < vectors) {
    const Element* input = static_cast<const Element*>(t == 0 ? p.input[0] : p.input[1]);
    input += n * p.positions_per_image * pitch + vector * kVector;
    for (int64_t position = row; position < p.positions_per_image; position += kRows) {
      float x[kVector];
      load_vector(x, input + position * pitch);
#pragma unroll
      for (int i = 0; i < kVector; i++) sum[i] += x[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; i++) partial[(row * kVectors + column) * kVector + i] = sum[i];
  sync_threads();  // the partial sums of all rows are there
  const int channel = static_cast<int>(blockIdx.x) * kVectors * kVector + threadIdx.x;
  if (threadIdx.x >= kVectors * kVector || channel >= pitch) return;
  float total = 0.0f;
  for (int r = 0; r < kRows; r++) total += partial[r * kVectors * kVector + threadIdx.x];
  store_global(p.means + (n * kPair + t) * pitch + channel, total / static_cast<float>(p.positions_per_image));
}

// Block n computes the coefficients of image n; g stands in shared memory.
AWSNET_KERNEL(aws_unit_gate_coefficients, awsnet_aws_unit_gate_coefficients_params, AWSNET_GATE_COEFFICIENTS_THREADS) {
  const awsnet_aws_unit_gate_coefficients_params& p = params;
  constexpr int kThreads = AWSNET_GATE_COEFFICIENTS_THREADS;
  float* g = reinterpret_cast<float*>(dynamic_shared());  // [squeezed]
  const int pitch = pitch_of(p.channels), warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t n = blockIdx.x;
  const float* mean = p.means + n * kPair * pitch;
  await_predecessor();
  for (int j = warp; j < p.squeezed; j += kThreads / 32) {
    float sum = 0.0f;
    for (int s = 0; s < kPair; s++) {
      for (int c = lane; c < p.channels; c += 32) {
        const int64_t weight = (static_cast<int64_t>(j) * kPair + s) * pitch + c;
        sum += load_global(p.squeeze_weight + weight) * load_global(mean + s * pitch + c);
      }
    }
    sum = warp_sum(sum) + load_global(p.squeeze_bias + j);
    if (lane == 0) g[j] = sum < 0.0f ? 0.0f : sum;
  }
  sync_threads();  // g is there
  for (int i = threadIdx.x; i < kPair * pitch; i += kThreads) {
    const int t = i / pitch, c = i % pitch;
    float a[kPair] = {};
    if (c < p.channels) {
      for (int s = 0; s < kPair; s++) {
        const int64_t row = static_cast<int64_t>(t * kPair + s) * p.channels + c;
        a[s] = load_global(p.excite_bias + row);
        for (int j = 0; j < p.squeezed; j++) a[s] += load_global(p.excite_weight + row * p.squeezed + j) * g[j];
      }
      if (p.gate == AWSNET_GATE_SOFTMAX) {
        const float largest = a[0] > a[1] ? a[0] : a[1];
        const float e0 = expf(a[0] - largest), e1 = expf(a[1] - largest);
        a[0] = e0 / (e0 + e1);
        a[1] = e1 / (e0 + e1);
      } else {
        for (int s = 0; s < kPair; s++) a[s] = 1.0f / (1.0f + expf(-a[s]));
      }
    }
    for (int s = 0; s < kPair; s++) {
      store_global(p.coefficients + ((n * kPair + t) * kPair + s) * pitch + c, a[s]);
    }
  }
}

template <typename Element>
DEVICE void aws_unit_gate_mix(const awsnet_aws_unit_gate_mix_params& p) {
  const VectorOfPosition at(p.channels);
  await_predecessor();
  if (at.position >= p.batch * p.positions_per_image) return;
  const int pitch = pitch_of(p.channels);
  const int64_t n = static_cast<uint32_t>(at.position) / static_cast<uint32_t>(p.positions_per_image);
  const int64_t offset = at.position * pitch + at.channel;
  float u[kPair][kVector], a[kPair * kPair][kVector];
#pragma unroll
  for (int t = 0; t < kPair; t++) load_vector(u[t], static_cast<const Element*>(p.input[t]) + offset);
#pragma unroll
  for (int i = 0; i < kPair * kPair; i++) {
    load_vector(a[i], p.coefficients + (n * kPair * kPair + i) * pitch + at.channel);
  }
  mix_branches(u, a);
  const int lanes = valid_lanes(p.channels, at.channel);
#pragma unroll
  for (int t = 0; t < kPair; t++) store_vector(static_cast<Element*>(p.output[t]) + offset, u[t], lanes);
}

#define DEFINE(element)                                                                                        \
  AWSNET_KERNEL(aws_unit_gate_means_##element, awsnet_aws_unit_gate_means_params, AWSNET_GATE_MEANS_THREADS) { \
    aws_unit_gate_means<element>(params);                                                                      \
  }                                                                                                            \
  AWSNET_KERNEL(aws_unit_gate_mix_##element, awsnet_aws_unit_gate_mix_params, AWSNET_VECTOR_THREADS) {         \
    aws_unit_gate_mix<element>(params);                                                                        \
  }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
