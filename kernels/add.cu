// y = a + b.
#include "common.cuh"

// bound: bytes; expect 90 % of the bandwidth: two reads and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_forward(
    const float* __restrict__ a, // [n] one input
    const float* __restrict__ b, // [n] the other
    float* __restrict__ y,       // [n] output
    int n                        // values
) {
    int i = thread_index();
    if (i < n) y[i] = a[i] + b[i];
}

// Of one of the two inputs.
// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_backward(
    const float* __restrict__ dy, // [n] gradient of the output
    float* __restrict__ dx,       // [n] gradient of the input
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i < n) accumulate(dx + i, dy[i], add);
}
