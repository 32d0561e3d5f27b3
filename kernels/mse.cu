// Mean squared error with a weight a channel: mean of w_c (x - target)^2.
#include "common.cuh"

// Values that a thread of the partial sums adds up in f32 before it turns to f64.
#define TERMS 16

// A partial sum for every block of 256 * TERMS values.
// bound: bytes; expect 85 % of the bandwidth: x and target once
// launch: a block of 256 for every 4,096 values
extern "C" __global__ void __launch_bounds__(256) mse_forward_partial(
    const float* __restrict__ x,      // [n] decoded values
    const float* __restrict__ target, // [n] true values
    const float* __restrict__ weight, // [channels] weight of a channel
    double* __restrict__ partial,     // [blocks] weighted sums of squares
    int n,                            // values, the channel runs fastest
    int channels                      // channels
) {
    __shared__ double warps[256 / WARP];
    int start = blockIdx.x * 256 * TERMS + threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < TERMS; k++) {
        int i = start + k * 256;
        if (i < n) {
            float d = x[i] - target[i];
            sum += weight[i % channels] * d * d;
        }
    }
    double total = block_sum((double)sum, warps);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// bound: bytes; a few thousand partial sums
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) mse_forward(
    const double* __restrict__ partial, // [blocks] sums of mse_forward_partial
    float* __restrict__ y,              // [1] the mean
    int blocks,                         // partial sums
    int n                               // values they stand for
) {
    __shared__ double warps[256 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < blocks; i += 256) sum += partial[i];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) y[0] = (float)(sum / n);
}

// bound: bytes; expect 90 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) mse_backward(
    const float* __restrict__ x,      // [n] decoded values
    const float* __restrict__ target, // [n] true values
    const float* __restrict__ weight, // [channels] weight of a channel
    const float* __restrict__ dy,     // [1] gradient of the mean
    float* __restrict__ dx,           // [n] gradient of x
    int n,                            // values
    int channels,                     // channels
    int add                           // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i >= n) return;
    float scale = 2.0f * dy[0] / n;
    accumulate(dx + i, scale * weight[i % channels] * (x[i] - target[i]), add);
}
