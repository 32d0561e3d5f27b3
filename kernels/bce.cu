// Binary cross entropy of logits: mean of w t ln(1 + e^-x) + (1 - t) ln(1 + e^x). The partial sums become a mean in
// mse_forward.
#include "common.cuh"
#include "logistic.cuh"

// Values that a thread of the partial sums adds up in f32 before it turns to f64.
#define TERMS 16

// A partial sum for every block of 256 * TERMS values.
// bound: bytes; expect 80 % of the bandwidth: x and target once
// launch: a block of 256 for every 4,096 values
extern "C" __global__ void __launch_bounds__(256) bce_forward_partial(
    const float* __restrict__ x,      // [n] logits
    const float* __restrict__ target, // [n] true values, 0 to 1
    double* __restrict__ partial,     // [blocks] sums of cross entropies, nats
    float weight,                     // of a target of 1
    int n                             // values
) {
    __shared__ double warps[256 / WARP];
    int start = blockIdx.x * 256 * TERMS + threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < TERMS; k++) {
        int i = start + k * 256;
        if (i < n) {
            Softplus s(x[i]);
            float t = target[i];
            sum += weight * t * s.down + (1.0f - t) * s.up;
        }
    }
    double total = block_sum((double)sum, warps);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// bound: bytes; expect 90 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) bce_backward(
    const float* __restrict__ x,      // [n] logits
    const float* __restrict__ target, // [n] true values, 0 to 1
    const float* __restrict__ dy,     // [1] gradient of the mean
    float* __restrict__ dx,           // [n] gradient of the logits
    float weight,                     // of a target of 1
    int n,                            // values
    int add                           // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i >= n) return;
    Sigmoids s(x[i]);
    float t = target[i], scale = dy[0] / n;
    accumulate(dx + i, scale * ((1.0f - t) * s.up - weight * t * s.down), add);
}
