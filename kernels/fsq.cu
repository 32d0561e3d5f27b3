// y = tanh(x) + (g(x') - tanh(x')): g the nearest of a channel's L levels between -1 and 1, x' the same values without a
// gradient.
#include "common.cuh"

__device__ __forceinline__ float nearest(float t, float levels) {
    float half = 0.5f * (levels - 1.0f);
    return floorf(t * half + 0.5f * levels) / half - 1.0f;
}

// bound: bytes; expect 80 % of the bandwidth: two reads and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) fsq_forward(
    const float* __restrict__ x,      // [n] values
    const float* __restrict__ same,   // [n] the same values
    const float* __restrict__ levels, // [channels] of each channel
    float* __restrict__ y,            // [n] codes, from -1 to 1
    int n,                            // values, the channel runs fastest
    int channels                      // channels
) {
    int i = thread_index();
    if (i >= n) return;
    float t = tanhf(same[i]);
    y[i] = tanhf(x[i]) + (nearest(t, levels[i % channels]) - t);
}

// bound: bytes; expect 80 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) fsq_backward(
    const float* __restrict__ x,  // [n] values
    const float* __restrict__ dy, // [n] gradient of the codes
    float* __restrict__ dx,       // [n] gradient of the values
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i >= n) return;
    float t = tanhf(x[i]);
    accumulate(dx + i, (1.0f - t * t) * dy[i], add);
}
