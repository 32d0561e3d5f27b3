// y = 1 / (1 + e^-x): logits to probabilities.
#include "common.cuh"
#include "logistic.cuh"

// bound: bytes; expect 90 % of the bandwidth: one read and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) sigmoid_forward(
    const float* __restrict__ x, // [n] logits
    float* __restrict__ y,       // [n] probabilities
    int n                        // values
) {
    int i = thread_index();
    if (i < n) y[i] = Sigmoids(x[i]).up;
}

// bound: bytes; expect 90 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) sigmoid_backward(
    const float* __restrict__ x,  // [n] logits
    const float* __restrict__ dy, // [n] gradient of the probabilities
    float* __restrict__ dx,       // [n] gradient of the logits
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i >= n) return;
    Sigmoids s(x[i]);
    accumulate(dx + i, dy[i] * (s.up * s.down), add);
}
