// The Gaussian likelihood of the best deviation for a mean squared error: (ln s^2 + m / s^2) / 2 + offset with
// s^2 = max(m, floor^2).
#include "common.cuh"

// Not a number stays one.
__device__ __forceinline__ float variance_of(float error, float least) { return error < least ? least : error; }

// bound: the launch itself
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) optimal_sigma_forward(
    const float* __restrict__ error, // [1] mean squared error
    float* __restrict__ y,           // [1] nats a value
    float least,                     // variance
    float offset                     // what does not depend on the error, nats
) {
    if (threadIdx.x != 0) return;
    float variance = variance_of(error[0], least);
    y[0] = 0.5f * (logf(variance) + error[0] / variance) + offset;
}

// bound: the launch itself
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) optimal_sigma_backward(
    const float* __restrict__ error, // [1] mean squared error
    const float* __restrict__ dy,    // [1] gradient of the nats
    float* __restrict__ gradient,    // [1] gradient of the error
    float least,                     // variance
    int add                          // 0: overwrite the gradient, 1: add to it
) {
    if (threadIdx.x == 0) accumulate(gradient, 0.5f * dy[0] / variance_of(error[0], least), add);
}
