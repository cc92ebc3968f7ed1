// Squeeze-and-excitation up to the factors: the global average, and two 1x1 convolutions of it. One launch for both
// branches; the factors are applied by the epilogue that has them as its scale.
//
//   mean[c] = sum over positions of x[t][n][position][c] / positions
//   g[j]    = squeeze_activation(sum over c of squeeze_weight[t][j][c] * mean[c] + squeeze_bias[t][j])
//   y[t][n][o] = excite_activation(sum over j of excite_weight[t][j][o] * g[j] + excite_bias[t][o])
//
// Block (x, n, t) adds up the 8 vectors of channels x % (gridDim.x / parts) over one of `parts` shares of image n's
// positions, and draws a ticket; the one that draws the image's last goes on alone, as in device/split_k.h: whoever that
// is, the sums are added up in one order. Shared memory, f32: the ticket, 4 words; then first the partial sums of the
// block's rows [32][64], and behind them means [pitch], g [squeezed rounded up to vectors], and the sums of the groups
// that share the last reduction [4][pitch of excited].
#include <device/activation.h>
#include <device/predecessor.h>
#include <device/warp.h>
#include <variants.h>

constexpr int kSqueezeThreads = AWSNET_SQUEEZE_EXCITE_THREADS, kSqueezeVectors = AWSNET_SQUEEZE_EXCITE_VECTORS;
constexpr int kSqueezeRows = kSqueezeThreads / kSqueezeVectors;

// Adds up this block's channels over its share of the positions, into the workspace.
template <typename Element>
DEVICE void sum_positions(const awsnet_squeeze_excite_params& p, float* sums, float* partial) {
  const int pitch = pitch_of(p.channels), groups = static_cast<int>(gridDim.x) / p.parts;
  const int group = static_cast<int>(blockIdx.x) % groups, part = static_cast<int>(blockIdx.x) / groups;
  const int row = threadIdx.x / kSqueezeVectors, column = threadIdx.x % kSqueezeVectors;
  const int first_channel = (group * kSqueezeVectors + column) * kVector;
  const int64_t each = (p.positions_per_image + p.parts - 1) / p.parts, first = part * each;
  const int64_t last = first + each < p.positions_per_image ? first + each : p.positions_per_image;
  float sum[kVector] = {};
  if (first_channel < pitch) {
    const Element* map = static_cast<const Element*>(p.input[blockIdx.z]) + first_channel;
    map += blockIdx.y * p.positions_per_image * pitch;
    for (int64_t position = first + row; position < last; position += kSqueezeRows) {
      float x[kVector];
      load_vector(x, map + position * pitch);
#pragma unroll
      for (int i = 0; i < kVector; i++) sum[i] += x[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; i++) partial[(row * kSqueezeVectors + column) * kVector + i] = sum[i];
  sync_threads();  // the partial sums of all rows are there
  const int channel = group * kSqueezeVectors * kVector + static_cast<int>(threadIdx.x);
  if (threadIdx.x < kSqueezeVectors * kVector && channel < pitch) {
    float total = 0.0f;
    for (int r = 0; r < kSqueezeRows; r++) total += partial[r * kSqueezeVectors * kVector + threadIdx.x];
    store_global(sums + part * pitch + channel, total);
  }
}

// The two layers of one image, by one block.
template <typename Element>
DEVICE void squeeze_and_excite(const awsnet_squeeze_excite_params& p, const float* sums, float* mean) {
  constexpr int kGroups = AWSNET_SQUEEZE_EXCITE_GROUPS, kColumns = kSqueezeThreads / kGroups;
  const int vectors = vectors_of(p.channels), pitch = vectors * kVector;
  const int out_vectors = vectors_of(p.excited), out_pitch = out_vectors * kVector;
  const int t = blockIdx.z, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* g = mean + pitch;
  float* table = g + pitch_of(p.squeezed);
  for (int i = threadIdx.x; i < pitch / 4; i += kSqueezeThreads) {
    float total[4] = {};
    for (int part = 0; part < p.parts; part++) {
      const Bits128 bits = load_global_l2(reinterpret_cast<const Bits128*>(sums + part * pitch) + i);
#pragma unroll
      for (int e = 0; e < 4; e++) total[e] += bits_to_f32(bits.word[e]);
    }
#pragma unroll
    for (int e = 0; e < 4; e++) mean[4 * i + e] = total[e] / static_cast<float>(p.positions_per_image);
  }
  sync_threads();  // the means are there
  const Element* squeeze = static_cast<const Element*>(p.squeeze_weight[t]);
  for (int j = warp; j < p.squeezed; j += kSqueezeThreads / 32) {
    float sum = 0.0f;
    for (int v = lane; v < vectors; v += 32) {
      float w[kVector];
      load_vector(w, squeeze + static_cast<int64_t>(j) * pitch + v * kVector);
#pragma unroll
      for (int i = 0; i < kVector; i++) sum += w[i] * mean[v * kVector + i];
    }
    float activated[1] = {warp_sum(sum) + load_global(p.squeeze_bias[t] + j)};
    activate(activated, p.squeeze_activation, p.squeeze_negative_slope);
    if (lane == 0) g[j] = activated[0];
  }
  sync_threads();  // g is there
  const Element* excite = static_cast<const Element*>(p.excite_weight[t]);
  const int group = threadIdx.x / kColumns;
  for (int v = static_cast<int>(threadIdx.x) % kColumns; v < out_vectors; v += kColumns) {
    float z[kVector] = {};
    for (int j = group; j < p.squeezed; j += kGroups) {
      float w[kVector];
      load_vector(w, excite + static_cast<int64_t>(j) * out_pitch + v * kVector);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[i] += w[i] * g[j];
    }
#pragma unroll
    for (int i = 0; i < kVector; i++) table[group * out_pitch + v * kVector + i] = z[i];
  }
  sync_threads();  // the sums of all groups are there
  for (int v = threadIdx.x; v < out_vectors; v += kSqueezeThreads) {
    float z[kVector];
    load_vector(z, p.excite_bias[t] + v * kVector);
    for (int from = 0; from < kGroups; from++) {
#pragma unroll
      for (int i = 0; i < kVector; i++) z[i] += table[from * out_pitch + v * kVector + i];
    }
    activate(z, p.excite_activation, p.excite_negative_slope);
    Element* output =
        static_cast<Element*>(p.output[t]) + (static_cast<int64_t>(blockIdx.y) * out_vectors + v) * kVector;
    store_vector(output, z, valid_lanes(p.excited, v * kVector));
  }
}

template <typename Element>
DEVICE void squeeze_excite(const awsnet_squeeze_excite_params& p) {
  uint32_t* scratch = reinterpret_cast<uint32_t*>(dynamic_shared());
  float* shared = reinterpret_cast<float*>(scratch + 4);
  const int64_t image = static_cast<int64_t>(blockIdx.y) * gridDim.z + blockIdx.z;
  float* sums = p.workspace + image * p.parts * pitch_of(p.channels);
  await_predecessor();
  sum_positions<Element>(p, sums, shared);
  sync_threads();  // the ticket, drawn below, is that of all threads' sums
  if (threadIdx.x == 0) *scratch = draw_ticket(p.tickets + image);
  sync_threads();  // the ticket is there for all, and nobody reads the partial sums any more: their memory is free
  if (*scratch != gridDim.x - 1) return;
  if (threadIdx.x == 0) store_global(p.tickets + image, 0u);  // ready for the next launch
  squeeze_and_excite<Element>(p, sums, shared);
}

#define DEFINE(element)                                                                                  \
  AWSNET_KERNEL(squeeze_excite_##element, awsnet_squeeze_excite_params, AWSNET_SQUEEZE_EXCITE_THREADS) { \
    squeeze_excite<element>(params);                                                                     \
  }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
