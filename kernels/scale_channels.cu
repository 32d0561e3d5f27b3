// y[..., c] = s_c x[..., c] for up to four channels.
#include "common.cuh"

__device__ __forceinline__ float factor(int channel, float s0, float s1, float s2, float s3) {
    return channel == 0 ? s0 : channel == 1 ? s1 : channel == 2 ? s2 : s3;
}

// bound: bytes; expect 90 % of the bandwidth: one read and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) scale_channels_forward(
    const float* __restrict__ x, // [n / channels, channels] input
    float* __restrict__ y,       // [n / channels, channels] output
    int n,                       // values
    int channels,                // 1 to 4
    float s0,                    // factor of channel 0
    float s1,                    // factor of channel 1
    float s2,                    // factor of channel 2
    float s3                     // factor of channel 3
) {
    int i = thread_index();
    if (i < n) y[i] = factor(i % channels, s0, s1, s2, s3) * x[i];
}

// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) scale_channels_backward(
    const float* __restrict__ dy, // [n / channels, channels] gradient of the output
    float* __restrict__ dx,       // [n / channels, channels] gradient of the input
    int n,                        // values
    int channels,                 // 1 to 4
    float s0,                     // factor of channel 0
    float s1,                     // factor of channel 1
    float s2,                     // factor of channel 2
    float s3,                     // factor of channel 3
    int add                       // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i < n) accumulate(dx + i, factor(i % channels, s0, s1, s2, s3) * dy[i], add);
}
