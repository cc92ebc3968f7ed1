// Every wrapper of kernels/device/ptx.h by itself, and the arithmetic that the kernels take from CUDA: operands in,
// bits out. Nothing is computed around them, so that whatever a device does differently from the emulator shows.
//
// A kernel reads its operands from `input` and writes its results to `output`, both laid out as tests/calibration's
// experiments.rs says. A block is an experiment of its own, except in draw_ticket and draw_ticket_order.
#include <device/predecessor.h>
#include <device/ptx.h>
#include <device/swizzle.h>
#include <math.h>

struct calibration_params {
  const void* input;
  void* output;
};

DEVICE uint32_t global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

template <typename T>
DEVICE T operand(const calibration_params& p, uint32_t index) {
  return load_global(static_cast<const T*>(p.input) + index);
}
template <typename T>
DEVICE void result(const calibration_params& p, uint32_t index, T value) {
  store_global(static_cast<T*>(p.output) + index, value);
}

// Conversions: operand i gives result i.
AWSNET_KERNEL(calibrate_f16_to_f32, calibration_params, 256) {
  await_predecessor();
  const uint32_t i = global_thread();
  result(params, i, f32_to_bits(f16_to_f32(operand<uint16_t>(params, i))));
}
AWSNET_KERNEL(calibrate_f32_to_f16, calibration_params, 256) {
  await_predecessor();
  const uint32_t i = global_thread();
  result(params, i, f32_to_f16(bits_to_f32(operand<uint32_t>(params, i))));
}
AWSNET_KERNEL(calibrate_f32_to_bf16, calibration_params, 256) {
  await_predecessor();
  const uint32_t i = global_thread();
  result(params, i, f32_to_bf16(bits_to_f32(operand<uint32_t>(params, i))));
}

// Operands (x, y) give the larger one; of the 16-bit types two of each.
template <typename Max>
DEVICE void calibrate_max(const calibration_params& p, Max max) {
  const uint32_t i = global_thread();
  result(p, i, max(operand<uint32_t>(p, 2 * i), operand<uint32_t>(p, 2 * i + 1)));
}
AWSNET_KERNEL(calibrate_max_nan_f32, calibration_params, 256) {
  await_predecessor();
  calibrate_max(params,
                [](uint32_t a, uint32_t b) { return f32_to_bits(max_nan_f32(bits_to_f32(a), bits_to_f32(b))); });
}
AWSNET_KERNEL(calibrate_max_nan_f16x2, calibration_params, 256) {
  await_predecessor();
  calibrate_max(params, [](uint32_t a, uint32_t b) { return max_nan_f16x2(a, b); });
}
AWSNET_KERNEL(calibrate_max_nan_bf16x2, calibration_params, 256) {
  await_predecessor();
  calibrate_max(params, [](uint32_t a, uint32_t b) { return max_nan_bf16x2(a, b); });
}

// Operands (x, y) give x / y, x * y + 1 and exp(x).
AWSNET_KERNEL(calibrate_arithmetic, calibration_params, 256) {
  await_predecessor();
  const uint32_t i = global_thread();
  const float x = operand<float>(params, 2 * i), y = operand<float>(params, 2 * i + 1);
  result(params, 3 * i, f32_to_bits(x / y));
  result(params, 3 * i + 1, f32_to_bits(fmaf(x, y, 1.0f)));
  result(params, 3 * i + 2, f32_to_bits(expf(x)));
}

// Block m: lane l's operand, seen from lane l ^ m.
AWSNET_KERNEL(calibrate_shuffle_xor, calibration_params, 32) {
  await_predecessor();
  const float value = bits_to_f32(operand<uint32_t>(params, threadIdx.x));
  result(params, global_thread(), f32_to_bits(shuffle_xor(value, static_cast<int>(blockIdx.x))));
}

// A lane's 16 bytes, through every width that kernels load and store: 16, 16 past the SM's cache, 4, 2, 1 bytes.
AWSNET_KERNEL(calibrate_global_memory, calibration_params, 32) {
  await_predecessor();
  const uint32_t lane = threadIdx.x;
  result(params, lane, operand<Bits128>(params, lane));
  result(params, 32 + lane, load_global_l2(static_cast<const Bits128*>(params.input) + lane));
  for (uint32_t i = 0; i < 4; i++) {
    result(params, 4 * (64 + lane) + i, f32_to_bits(operand<float>(params, 4 * lane + i)));
  }
  for (uint32_t i = 0; i < 8; i++) result(params, 8 * (96 + lane) + i, operand<uint16_t>(params, 8 * lane + i));
  for (uint32_t i = 0; i < 16; i++) result(params, 16 * (128 + lane) + i, operand<uint8_t>(params, 16 * lane + i));
}

// Result 0 counts all threads; the others are 1 where a thread drew that number.
AWSNET_KERNEL(calibrate_draw_ticket, calibration_params, 64) {
  await_predecessor();
  const uint32_t drawn = draw_ticket(static_cast<uint32_t*>(params.output));
  result(params, 1 + drawn, 1u);
}

// Every block hands its operands to the last one to arrive, which adds them up: result 0 is the ticket, results
// [1, 1 + threads) the sums, those behind them what the blocks hand over.
AWSNET_KERNEL(calibrate_draw_ticket_order, calibration_params, 64) {
  await_predecessor();
  Bits128* shared = reinterpret_cast<Bits128*>(dynamic_shared());
  Bits128* handed = static_cast<Bits128*>(params.output) + 1 + blockDim.x;
  store_global(handed + global_thread(), operand<Bits128>(params, global_thread()));
  sync_threads();
  if (threadIdx.x == 0) shared->word[0] = draw_ticket(static_cast<uint32_t*>(params.output));
  sync_threads();
  if (shared->word[0] != gridDim.x - 1) return;
  Bits128 sum = {};
  for (uint32_t block = 0; block < gridDim.x; block++) {
    const Bits128 part = load_global_l2(handed + block * blockDim.x + threadIdx.x);
    for (int i = 0; i < 4; i++) sum.word[i] += part.word[i];
  }
  result(params, 1 + threadIdx.x, sum);
}

// Vectors that held ones: block 0 copies zeros over them, block 1 each lane's 16 bytes.
AWSNET_KERNEL(calibrate_cp_async_16, calibration_params, 32) {
  await_predecessor();
  Bits128* shared = reinterpret_cast<Bits128*>(dynamic_shared());
  const uint32_t ones = 0xffffffffu;
  shared[threadIdx.x] = Bits128{{ones, ones, ones, ones}};
  sync_threads();
  cp_async_16(shared_address(shared + threadIdx.x), static_cast<const Bits128*>(params.input) + threadIdx.x,
              blockIdx.x == 1);
  cp_async_commit();
  cp_async_wait<0>();
  sync_threads();
  result(params, global_thread(), shared[threadIdx.x ^ 1]);  // its neighbour's
}

// Three groups of copies, each read by the thread itself as soon as the wait allows it; a fourth is empty.
AWSNET_KERNEL(calibrate_cp_async_wait, calibration_params, 32) {
  await_predecessor();
  Bits128* shared = reinterpret_cast<Bits128*>(dynamic_shared()) + threadIdx.x;
  for (int group = 0; group < 3; group++) {
    cp_async_16(shared_address(shared + 32 * group),
                static_cast<const Bits128*>(params.input) + 32 * group + threadIdx.x, true);
    cp_async_commit();
  }
  cp_async_commit();
  cp_async_wait<3>();
  result(params, threadIdx.x, shared[0]);
  cp_async_wait<2>();
  result(params, 32 + threadIdx.x, shared[32]);
  cp_async_wait<0>();
  result(params, 64 + threadIdx.x, shared[64]);
}

// A tile of 32 rows, filled through the swizzle with operands [row][vector][8] of 16 bits; behind it, for each block,
// the row and the vector that each lane names.
template <int kRowVectors>
DEVICE void calibrate_ldmatrix(const calibration_params& p) {
  constexpr uint32_t kRows = 32, kTileBytes = kRows * kRowVectors * kVectorBytes;
  uint8_t* tile = dynamic_shared();
  for (uint32_t i = threadIdx.x; i < kRows * kRowVectors; i += 32) {
    const int row = static_cast<int>(i / kRowVectors), vector = static_cast<int>(i % kRowVectors);
    cp_async_16(shared_address(tile) + swizzled_bytes<kRowVectors>(row, vector),
                static_cast<const Bits128*>(p.input) + i, true);
  }
  cp_async_commit();
  cp_async_wait<0>();
  sync_threads();
  const uint32_t named = kTileBytes + 2 * global_thread();
  const int row = operand<uint8_t>(p, named), vector = operand<uint8_t>(p, named + 1);
  uint32_t fragment[4];
  ldmatrix_x4(fragment, shared_address(tile) + swizzled_bytes<kRowVectors>(row, vector));
  for (uint32_t i = 0; i < 4; i++) result(p, 4 * global_thread() + i, fragment[i]);
}
AWSNET_KERNEL(calibrate_ldmatrix_x4_64, calibration_params, 32) {
  await_predecessor();
  calibrate_ldmatrix<4>(params);
}
AWSNET_KERNEL(calibrate_ldmatrix_x4_128, calibration_params, 32) {
  await_predecessor();
  calibrate_ldmatrix<8>(params);
}

// A lane's registers, as they are: a[4], b[2], d[4] give d[4].
template <typename Mma>
DEVICE void calibrate_mma(const calibration_params& p, Mma mma) {
  const uint32_t first = 10 * global_thread();
  uint32_t a[4], b[2];
  float d[4];
  for (uint32_t i = 0; i < 4; i++) a[i] = operand<uint32_t>(p, first + i);
  for (uint32_t i = 0; i < 2; i++) b[i] = operand<uint32_t>(p, first + 4 + i);
  for (uint32_t i = 0; i < 4; i++) d[i] = bits_to_f32(operand<uint32_t>(p, first + 6 + i));
  mma(d, a, b);
  for (uint32_t i = 0; i < 4; i++) result(p, 4 * global_thread() + i, f32_to_bits(d[i]));
}
AWSNET_KERNEL(calibrate_mma_m16n8k16_f16, calibration_params, 32) {
  await_predecessor();
  calibrate_mma(params, [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_f16(d, a, b[0], b[1]);
  });
}
AWSNET_KERNEL(calibrate_mma_m16n8k16_bf16, calibration_params, 32) {
  await_predecessor();
  calibrate_mma(params, [](float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    mma_m16n8k16_bf16(d, a, b[0], b[1]);
  });
}
