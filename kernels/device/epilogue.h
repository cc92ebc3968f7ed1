// What every operator does with its result, in f32, before the one store of each branch (struct awsnet_epilogue):
//   u[t] = activation(z[t] + bias[t] + residual[t])
//   y[t] = mix[t][0] * u[0] + mix[t][1] * u[1]
// A thread calls it with the vector of the same position and channels of both branches, so that the mix needs nobody
// else's values.
#pragma once
#include <device/element.h>

constexpr int kBranches = 2;  // emotion, au

DEVICE float activate(float x, int activation, float negative_slope) {
  switch (activation) {
    case AWSNET_ACTIVATION_RELU: return x < 0.0f ? 0.0f : x;  // a NaN stays one
    case AWSNET_ACTIVATION_LEAKY_RELU: return x < 0.0f ? x * negative_slope : x;
    case AWSNET_ACTIVATION_SILU: return x / (1.0f + expf(-x));
    default: return x;
  }
}

// u[0] and u[1] become y[0] and y[1]; `mix(to, from, lane)` is the coefficient.
template <typename Mix>
DEVICE void mix_branches(float (&u)[kBranches][kVector], Mix mix) {
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    const float emotion = u[0][i], au = u[1][i];
    u[0][i] = mix(0, 0, i) * emotion + mix(0, 1, i) * au;
    u[1][i] = mix(1, 0, i) * emotion + mix(1, 1, i) * au;
  }
}

// Finishes and stores channels [channel, channel + kVector) of one position; z is used up.
template <typename T>
DEVICE void finish_vector(const awsnet_epilogue& e, int64_t position, int channel, float (&z)[kBranches][kVector]) {
  const int pitch = pitch_of(e.channels);
  const int64_t offset = position * pitch + channel;
#pragma unroll
  for (int t = 0; t < kBranches; t++) {
    float term[kVector];
    if (e.bias[t]) {
      load_vector(term, e.bias[t] + channel);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] += term[i];
    }
    if (e.residual[t]) {
      load_vector(term, static_cast<const T*>(e.residual[t]) + offset);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] += term[i];
    }
#pragma unroll
    for (int i = 0; i < kVector; i++) z[t][i] = activate(z[t][i], e.activation, e.negative_slope);
  }
  if (e.mix_kind == AWSNET_MIX_LAYER) {
    const Bits128 bits = load_global(reinterpret_cast<const Bits128*>(e.mix));
    mix_branches(z, [&](int to, int from, int) { return bits_to_f32(bits.word[to * kBranches + from]); });
  } else if (e.mix_kind == AWSNET_MIX_CHANNEL) {
    float a[kBranches * kBranches][kVector];
#pragma unroll
    for (int i = 0; i < kBranches * kBranches; i++) load_vector(a[i], e.mix + i * pitch + channel);
    mix_branches(z, [&](int to, int from, int i) { return a[to * kBranches + from][i]; });
  }
  const int lanes = valid_lanes(e.channels, channel);
#pragma unroll
  for (int t = 0; t < kBranches; t++) store_vector(static_cast<T*>(e.output[t]) + offset, z[t], lanes);
}
