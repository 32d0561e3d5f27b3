// y = x + exp(log_step) noise, a step for each of C channels.
#include "channels.cuh"
#include "latent.cuh"

// bound: bytes; expect 85 % of the bandwidth: two reads and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) quantisation_noise_forward(
    const float* __restrict__ x,        // [n]
    const float* __restrict__ log_step, // [C] clamped on the way in
    const float* __restrict__ noise,    // [n] evenly in (-1/2, 1/2)
    float* __restrict__ y,              // [n]
    int n,                              // values
    int channels                        // C
) {
    int i = thread_index();
    if (i < n) y[i] = x[i] + expf(clamped_log_width(log_step[i % channels])) * noise[i];
}

// bound: latency; two reads a value, by a block for 32 channels
// launch: ceil(C / 32) blocks of 512
extern "C" __global__ void __launch_bounds__(512) quantisation_noise_backward(
    const float* __restrict__ log_step,   // [C]
    const float* __restrict__ noise,      // [n]
    const float* __restrict__ dy,         // [n] gradient of the output
    float* __restrict__ log_step_gradient, // [C]
    int pixels,                           // n / C
    int channels,                         // C
    int add                               // 0: overwrite, 1: add
) {
    int c = channel_index();
    double sum = 0.0;
    if (c < channels)
        for (int p = first_pixel(); p < pixels; p += ROWS) {
            long long i = (long long)p * channels + c;
            sum += (double)(noise[i] * dy[i]);
        }
    sum = channel_sum(sum);
    if (c >= channels || first_pixel() > 0) return;
    float t = log_step[c];
    accumulate(log_step_gradient + c, inside_log_width(t) ? (float)((double)expf(t) * sum) : 0.0f, add);
}
