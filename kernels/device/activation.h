// The activations, lane by lane: which one it is is asked once a vector. A NaN stays one, and where an infinity has a
// limit that is the result.
//
//   sigmoid    1 / (1 + exp(-x))           silu       x * sigmoid(x)
//   gelu_tanh  x * sigmoid(2u), u = sqrt(2/pi) * (x + 0.044715 x^3), which is x * (1 + tanh(u)) / 2
//   elu        x, below 0 exp(x) - 1       tanh       e / (e + 2), e = exp(2x) - 1
//   gelu       max(0, x) - |x| * erfc(|x| / sqrt(2)) / 2, which cancels nothing on either side
#pragma once
#include <device/element.h>

template <int kLanes, typename Function>
DEVICE void each_lane(float (&x)[kLanes], Function function) {
#pragma unroll
  for (int i = 0; i < kLanes; i++) x[i] = function(x[i], i);
}

// One lane after the other by the same instructions, for functions that have many: unrolled for every lane of both branches
// in every kernel, they would be most of its code.
template <int kLanes, typename Function>
DEVICE void each_lane_in_turn(float (&x)[kLanes], Function function) {
#pragma unroll 1
  for (int i = 0; i < kLanes; i++) {
    const float result = function(x[0]);
#pragma unroll
    for (int j = 1; j < kLanes; j++) x[j - 1] = x[j];
    x[kLanes - 1] = result;
  }
}

DEVICE float relu6(float x) { return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x; }
DEVICE float hard_sigmoid(float x) { return relu6(x + 3.0f) * (1.0f / 6.0f); }

DEVICE float gelu(float x) {
  const float magnitude = fabsf(x);
  const float least = magnitude > 20.0f ? 20.0f : magnitude;  // beyond, erfc is 0
  return (x < 0.0f ? 0.0f : x) - 0.5f * least * erfcf(least * 0.707106781f);
}

// Below 0, x times a slope of its lane's channel; `slopes` are those of the lanes.
DEVICE void prelu(float (&x)[kVector], const float* slopes) {
  float slope[kVector];
  load_vector(slope, slopes);
  each_lane(x, [&](float v, int i) { return v < 0.0f ? v * slope[i] : v; });
}

// All but the PReLU.
template <int kLanes>
DEVICE void activate(float (&x)[kLanes], int activation, float negative_slope) {
  switch (activation) {
    case AWSNET_ACTIVATION_RELU: each_lane(x, [](float v, int) { return v < 0.0f ? 0.0f : v; }); break;
    case AWSNET_ACTIVATION_RELU6: each_lane(x, [](float v, int) { return relu6(v); }); break;
    case AWSNET_ACTIVATION_LEAKY_RELU:
      each_lane(x, [&](float v, int) { return v < 0.0f ? v * negative_slope : v; });
      break;
    case AWSNET_ACTIVATION_HARDSIGMOID: each_lane(x, [](float v, int) { return hard_sigmoid(v); }); break;
    case AWSNET_ACTIVATION_HARDSWISH: each_lane(x, [](float v, int) { return v * hard_sigmoid(v); }); break;
    case AWSNET_ACTIVATION_SIGMOID:
    case AWSNET_ACTIVATION_SILU:
    case AWSNET_ACTIVATION_GELU_TANH: {
      const bool is_sigmoid = activation == AWSNET_ACTIVATION_SIGMOID;
      const bool is_gelu = activation == AWSNET_ACTIVATION_GELU_TANH;
      each_lane(x, [&](float v, int) {
        const float exponent = is_gelu ? v * 1.5957691f * (1.0f + 0.044715f * v * v) : v;  // 2 * sqrt(2/pi)
        const float least = v < -100.0f ? -100.0f : v;  // below, the quotient is 0, and v had better be a number
        return (is_sigmoid ? 1.0f : least) / (1.0f + expf(-exponent));
      });
      break;
    }
    case AWSNET_ACTIVATION_ELU:
    case AWSNET_ACTIVATION_TANH: {
      const bool is_tanh = activation == AWSNET_ACTIVATION_TANH;
      each_lane_in_turn(x, [&](float v) {
        const float exponent = is_tanh ? (v > 20.0f ? 40.0f : v + v) : (v > 0.0f ? 0.0f : v);  // exp stays a number
        const float e = expm1f(exponent);
        return is_tanh ? e / (e + 2.0f) : (v > 0.0f ? v : e);
      });
      break;
    }
    case AWSNET_ACTIVATION_GELU: each_lane_in_turn(x, [](float v) { return gelu(v); }); break;
    default: break;
  }
}
