// y = x sigmoid(x).
#include "common.cuh"

// bound: bytes; expect 90 % of the bandwidth: one read and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_forward(
    const float* __restrict__ x, // [n] input
    float* __restrict__ y,       // [n] output
    int n                        // values
) {
    int i = thread_index();
    if (i < n) y[i] = silu(x[i]);
}

// bound: bytes; expect 90 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_backward(
    const float* __restrict__ x,  // [n] input
    const float* __restrict__ dy, // [n] gradient of the output
    float* __restrict__ dx,       // [n] gradient of the input
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i < n) accumulate(dx + i, dy[i] * silu_slope(x[i]), add);
}
