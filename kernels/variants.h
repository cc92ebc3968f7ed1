// The table of kernel variants: the one place where types, tiles, stages, threads and shared memory are chosen.
//
// GEMM variants: X(name, element, tile_m, tile_n, tile_k, stages, warps, shared_bytes)
//   `name` is the kernel's symbol behind its op: conv2d_implicit_gemm_<name>, aws_unit_dense_<name>.
//   `shared_bytes` is the dynamic shared memory of a launch; the kernel asserts it.
// The limit is 99 KiB (101376 bytes), what sm_86, 89 and 120 grant a block.
#pragma once

#define AWSNET_CONV2D_IMPLICIT_GEMM_VARIANTS(X)  \
  X(f16_128x64, f16, 128, 64, 32, 4, 8, 98304)   \
  X(f16_64x64, f16, 64, 64, 64, 3, 4, 98304)     \
  X(f16_64x32, f16, 64, 32, 64, 4, 8, 98304)     \
  X(f16_32x32, f16, 32, 32, 64, 4, 8, 65536)     \
  X(f16_16x64, f16, 16, 64, 64, 4, 4, 81920)     \
  X(bf16_128x64, bf16, 128, 64, 32, 4, 8, 98304) \
  X(bf16_64x64, bf16, 64, 64, 64, 3, 4, 98304)   \
  X(bf16_64x32, bf16, 64, 32, 64, 4, 8, 98304)   \
  X(bf16_32x32, bf16, 32, 32, 64, 4, 8, 65536)   \
  X(bf16_16x64, bf16, 16, 64, 64, 4, 4, 81920)

#define AWSNET_AWS_UNIT_DENSE_VARIANTS(X)      \
  X(f16_64x64, f16, 64, 64, 64, 3, 4, 73728)   \
  X(f16_16x64, f16, 16, 64, 64, 4, 4, 73728)   \
  X(bf16_64x64, bf16, 64, 64, 64, 3, 4, 73728) \
  X(bf16_16x64, bf16, 16, 64, 64, 4, 4, 73728)

// Variants of the direct convolution: X(name, element, positions, threads); a thread computes `positions` neighbouring
// positions of one vector of channels.
#define AWSNET_CONV2D_DIRECT_VARIANTS(X) \
  X(f32_x4, f32, 4, 128)                 \
  X(f32_x1, f32, 1, 128)                 \
  X(f16_x4, f16, 4, 128)                 \
  X(f16_x1, f16, 1, 128)                 \
  X(bf16_x4, bf16, 4, 128)               \
  X(bf16_x1, bf16, 1, 128)

// Kernels with one variant an element type: X(element).
#define AWSNET_ELEMENTS(X) X(f32) X(f16) X(bf16)
// The stem multiplies on the tensor cores only.
#define AWSNET_CONV2D_STEM_ELEMENTS(X) X(f16) X(bf16)

// Threads of a block where a thread handles one vector of one position.
#define AWSNET_VECTOR_THREADS 128
// aws_unit_gate_means: a block reduces 8 vectors of channels, 16 threads each.
#define AWSNET_GATE_MEANS_THREADS 128
#define AWSNET_GATE_MEANS_VECTORS 8
#define AWSNET_GATE_COEFFICIENTS_THREADS 256
#define AWSNET_HEAD_THREADS 256
// squeeze_excite: a block adds up 8 vectors of channels, 32 threads each; the last of an image's multiplies, and 4 groups
// of threads share the reduction of its second layer.
#define AWSNET_SQUEEZE_EXCITE_THREADS 256
#define AWSNET_SQUEEZE_EXCITE_VECTORS 8
#define AWSNET_SQUEEZE_EXCITE_GROUPS 4

// conv2d_stem: a block computes patches of output positions and 64 channels.
#define AWSNET_STEM_PATCH_H 4
#define AWSNET_STEM_PATCH_W 16
#define AWSNET_STEM_CHANNELS 64
#define AWSNET_STEM_THREADS 256
