// The channels of several maps, one map behind the other: those that no kernel wrote in place.
//
// A thread writes a vector of one position in the branch blockIdx.y. Where its channels are a vector of one input it
// copies that, otherwise it gathers lane by lane. Layouts: abi.h.
#include <device/element.h>
#include <device/predecessor.h>
#include <variants.h>

template <typename Element>
DEVICE void concat(const awsnet_concat_params& p) {
  const int end = p.begin[p.inputs], t = blockIdx.y;
  const uint32_t vectors = static_cast<uint32_t>(vectors_of(end - p.first_channel));
  const uint32_t index = blockIdx.x * AWSNET_VECTOR_THREADS + threadIdx.x;
  const int64_t position = index / vectors;
  const int channel = p.first_channel + static_cast<int>(index % vectors) * kVector;
  await_predecessor();
  if (position >= p.positions) return;
  int i = 0;  // the input that has the channel
  while (channel >= p.begin[i + 1]) i++;
  const int lanes = valid_lanes(end, channel);
  const Element* source = static_cast<const Element*>(p.input[i][t]) + position * p.pitch[i];
  float values[kVector] = {};
  if ((channel - p.begin[i]) % kVector == 0 && channel + lanes <= p.begin[i + 1]) {
    load_vector(values, source + channel - p.begin[i]);
  } else {
#pragma unroll
    for (int lane = 0; lane < kVector; lane++) {
      if (lane >= lanes) continue;
      while (channel + lane >= p.begin[i + 1]) {
        i++;
        source = static_cast<const Element*>(p.input[i][t]) + position * p.pitch[i];
      }
      values[lane] = to_f32(load_global(source + channel + lane - p.begin[i]));
    }
  }
  store_vector(static_cast<Element*>(p.output[t]) + position * p.output_pitch + channel, values, lanes);
}

#define DEFINE(element) \
  AWSNET_KERNEL(concat_##element, awsnet_concat_params, AWSNET_VECTOR_THREADS) { concat<element>(params); }
AWSNET_ELEMENTS(DEFINE)
#undef DEFINE
