// What every operator does with its result, in f32, before the one store of each branch (struct awsnet_epilogue):
//   u[t] = activation((z[t] + bias[t]) * scale[t] + residual[t])
//   y[t] = mix[t][0] * u[0] + mix[t][1] * u[1]
// A thread calls it with the vector of the same position and channels of all branches, so that the mix needs nobody
// else's values.
#pragma once
#include <device/activation.h>
#include <device/element.h>

constexpr int kPair = 2;  // the branches of an AWS-Net: emotion, au

// u[0] and u[1] become y[0] and y[1]; `mix[2 * to + from]` holds the coefficients of the lanes.
DEVICE void mix_branches(float (&u)[kPair][kVector], const float (&mix)[kPair * kPair][kVector]) {
#pragma unroll
  for (int i = 0; i < kVector; i++) {
    const float emotion = u[0][i], au = u[1][i];
    u[0][i] = mix[0][i] * emotion + mix[1][i] * au;
    u[1][i] = mix[2][i] * emotion + mix[3][i] * au;
  }
}

// What an epilogue adds to one branch's vector of channels at all positions.
struct BiasTerms {
  float bias[kVector];

  DEVICE void load(const awsnet_epilogue& e, int t, int channel) {
#pragma unroll
    for (int i = 0; i < kVector; i++) bias[i] = 0.0f;
    if (e.bias[t]) load_vector(bias, e.bias[t] + channel);
  }
};

// What it multiplies with and adds at one position; without them, what changes nothing.
template <typename T>
struct PositionTerms {
  Vector<T> scale, residual;

  DEVICE void load(const awsnet_epilogue& e, int t, int64_t position, int channel) {
    const int pitch = pitch_of(e.channels);
    residual = uniform_vector<T>(0.0f);
    scale = uniform_vector<T>(1.0f);
    if (e.residual[t]) residual = read_vector(static_cast<const T*>(e.residual[t]) + position * pitch + channel);
    if (e.scale[t]) {
      const uint32_t index = static_cast<uint32_t>(position);
      const int64_t from = e.scale_positions ? index / static_cast<uint32_t>(e.scale_positions) : index;
      scale = read_vector(static_cast<const T*>(e.scale[t]) + from * pitch + channel);
    }
  }
};

// One branch's z becomes what is activated.
template <typename T>
DEVICE void apply_terms(float (&z)[kVector], const BiasTerms& of_channel, const PositionTerms<T>& of_position) {
  float scale[kVector], residual[kVector];
  widen(scale, of_position.scale);
  widen(residual, of_position.residual);
#pragma unroll
  for (int i = 0; i < kVector; i++) z[i] = (z[i] + of_channel.bias[i]) * scale[i] + residual[i];
}

template <int kBranches>
DEVICE void activate_vector(const awsnet_epilogue& e, int channel, float (&z)[kBranches][kVector]) {
  if (e.activation == AWSNET_ACTIVATION_PRELU) {
#pragma unroll
    for (int t = 0; t < kBranches; t++) prelu(z[t], e.slopes[t] + channel);
  } else {
    activate(reinterpret_cast<float (&)[kBranches * kVector]>(z), e.activation, e.negative_slope);
  }
}

// The coefficients of one vector of channels, at all positions.
struct MixTerms {
  float mix[kPair * kPair][kVector];

  DEVICE void load(const awsnet_epilogue& e, int channel) {
    if (e.mix_kind == AWSNET_MIX_LAYER) {
      const Bits128 bits = load_global(reinterpret_cast<const Bits128*>(e.mix));
#pragma unroll
      for (int j = 0; j < kPair * kPair; j++)
#pragma unroll
        for (int i = 0; i < kVector; i++) mix[j][i] = bits_to_f32(bits.word[j]);
    } else if (e.mix_kind == AWSNET_MIX_CHANNEL) {
#pragma unroll
      for (int j = 0; j < kPair * kPair; j++) load_vector(mix[j], e.mix + j * pitch_of(e.channels) + channel);
    }
  }
};

// u becomes y, which is stored.
template <typename T, int kBranches>
DEVICE void store_mixed(const awsnet_epilogue& e, int64_t position, int channel, float (&u)[kBranches][kVector],
                        const MixTerms& of_channel) {
  if constexpr (kBranches == kPair) {
    if (e.mix_kind != AWSNET_MIX_NONE) mix_branches(u, of_channel.mix);
  }
  const int lanes = valid_lanes(e.channels, channel);
  const int64_t offset = position * e.output_pitch + channel;
#pragma unroll
  for (int t = 0; t < kBranches; t++) store_vector(static_cast<T*>(e.output[t]) + offset, u[t], lanes);
}

// Finishes and stores channels [channel, channel + kVector) of one position; z is used up.
template <typename T, int kBranches>
DEVICE void finish_vector(const awsnet_epilogue& e, int64_t position, int channel, float (&z)[kBranches][kVector]) {
#pragma unroll
  for (int t = 0; t < kBranches; t++) {
    BiasTerms bias;
    PositionTerms<T> of_position;
    bias.load(e, t, channel);
    of_position.load(e, t, position, channel);
    apply_terms(z[t], bias, of_position);
  }
  activate_vector(e, channel, z);
  MixTerms mix;
  if (kBranches == kPair) mix.load(e, channel);
  store_mixed<T>(e, position, channel, z, mix);
}
