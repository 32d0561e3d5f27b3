// y[n, ...] = x[n, ...] + e[n mod V, ...].
#include "common.cuh"

// bound: bytes; expect 85 % of the bandwidth: x and y once, e from the cache after the first view
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_forward(
    const float* __restrict__ x, // [n] input, n a multiple of period
    const float* __restrict__ e, // [period] the learned array
    float* __restrict__ y,       // [n] output
    int n,                       // values of x
    int period                   // values of e
) {
    int i = thread_index();
    if (i < n) y[i] = x[i] + e[i % period];
}

// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_backward_dx(
    const float* __restrict__ dy, // [n] gradient of the output
    float* __restrict__ dx,       // [n] gradient of x
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i < n) accumulate(dx + i, dy[i], add);
}

// bound: bytes; expect 85 % of the bandwidth: dy once
// launch: a thread a value of e, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_backward_de(
    const float* __restrict__ dy, // [repeats, period] gradient of the output
    float* __restrict__ de,       // [period] gradient of e
    int period,                   // values of e
    int repeats,                  // how often e was added
    int add                       // 0: overwrite de, 1: add to it
) {
    int i = thread_index();
    if (i >= period) return;
    float sum = 0.0f;
    for (int r = 0; r < repeats; r++) sum += dy[r * period + i];
    accumulate(de + i, sum, add);
}
