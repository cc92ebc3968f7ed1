// The division of work of kernels whose threads handle one vector of channels of one position each: neighbouring
// threads take neighbouring vectors.
#pragma once
#include <device/element.h>
#include <device/predecessor.h>
#include <variants.h>

// Opens the definition of such a kernel. Seven of its blocks share a multiprocessor: they wait for memory, and the
// activations, which the compiler could spread over more registers, are little of their time.
#define AWSNET_POINTWISE_KERNEL(name, Params) AWSNET_KERNEL_OF_BLOCKS(name, Params, AWSNET_VECTOR_THREADS, 7)

struct VectorOfPosition {
  int64_t position;
  int channel;

  DEVICE explicit VectorOfPosition(int channels) {
    const uint32_t index = blockIdx.x * AWSNET_VECTOR_THREADS + threadIdx.x;
    const uint32_t vectors = static_cast<uint32_t>(vectors_of(channels));
    position = index / vectors;
    channel = static_cast<int>(index % vectors) * kVector;
  }
};
