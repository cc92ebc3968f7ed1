// What every operator does with its result, in f32, before the one store of each branch (struct awsnet_epilogue):
//   u[t] = activation((z[t] + bias[t]) * scale[t] + residual[t])
//   y[t] = mix[t][0] * u[0] + mix[t][1] * u[1]
// A thread calls it with the vector of the same position and channels of all branches, so that the mix needs nobody
// else's values.
#pragma once
#include <device/activation.h>
#include <device/element.h>

constexpr int kPair = 2;  // the branches of an AWS-Net: emotion, au

// u[0] and u[1] become y[0] and y[1]; `mix(to, from, lane)` is the coefficient.
template <typename Mix>
DEVICE void mix_branches(float (&u)[kPair][kVector], Mix mix) {
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    const float emotion = u[0][i], au = u[1][i];
    u[0][i] = mix(0, 0, i) * emotion + mix(0, 1, i) * au;
    u[1][i] = mix(1, 0, i) * emotion + mix(1, 1, i) * au;
  }
}

// y of both branches, from u.
DEVICE void mix_vector(const awsnet_epilogue& e, int channel, float (&u)[kPair][kVector]) {
  if (e.mix_kind == AWSNET_MIX_LAYER) {
    const Bits128 bits = load_global(reinterpret_cast<const Bits128*>(e.mix));
    mix_branches(u, [&](int to, int from, int) { return bits_to_f32(bits.word[to * kPair + from]); });
  } else if (e.mix_kind == AWSNET_MIX_CHANNEL) {
    float a[kPair * kPair][kVector];
#pragma unroll
    for (int i = 0; i < kPair * kPair; i++) load_vector(a[i], e.mix + i * pitch_of(e.channels) + channel);
    mix_branches(u, [&](int to, int from, int i) { return a[to * kPair + from][i]; });
  }
}

// Finishes and stores channels [channel, channel + kVector) of one position; z is used up.
template <typename T, int kBranches>
DEVICE void finish_vector(const awsnet_epilogue& e, int64_t position, int channel, float (&z)[kBranches][kVector]) {
  const int pitch = pitch_of(e.channels);
#pragma unroll
  for (int t = 0; t < kBranches; t++) {
    float term[kVector];
    if (e.bias[t]) {
      load_vector(term, e.bias[t] + channel);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] += term[i];
    }
    if (e.scale[t]) {
      const uint32_t index = static_cast<uint32_t>(position);
      const int64_t from = e.scale_positions ? index / static_cast<uint32_t>(e.scale_positions) : index;
      load_vector(term, static_cast<const T*>(e.scale[t]) + from * pitch + channel);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] *= term[i];
    }
    if (e.residual[t]) {
      load_vector(term, static_cast<const T*>(e.residual[t]) + position * pitch + channel);
#pragma unroll
      for (int i = 0; i < kVector; i++) z[t][i] += term[i];
    }
    if (e.activation == AWSNET_ACTIVATION_PRELU) {
      prelu(z[t], e.slopes[t] + channel);
    } else {
      activate(z[t], e.activation, e.negative_slope);
    }
  }
  if constexpr (kBranches == kPair) mix_vector(e, channel, z);
  const int lanes = valid_lanes(e.channels, channel);
  const int64_t offset = position * e.output_pitch + channel;
#pragma unroll
  for (int t = 0; t < kBranches; t++) store_vector(static_cast<T*>(e.output[t]) + offset, z[t], lanes);
}
