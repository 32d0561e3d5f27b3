// y = sum of w_i x_i over scalars, an input a launch.
#include "common.cuh"

// bound: the launch itself
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) weighted_sum_forward(
    const float* __restrict__ x, // [1] an input
    float* __restrict__ y,       // [1] the sum so far
    float weight,                // of this input
    int add                      // 0: the first input, 1: a later one
) {
    if (threadIdx.x == 0) accumulate(y, weight * x[0], add);
}

// bound: the launch itself
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) weighted_sum_backward(
    const float* __restrict__ dy, // [1] gradient of the sum
    float* __restrict__ dx,       // [1] gradient of this input
    float weight,                 // of this input
    int add                       // 0: overwrite dx, 1: add to it
) {
    if (threadIdx.x == 0) accumulate(dx, weight * dy[0], add);
}
