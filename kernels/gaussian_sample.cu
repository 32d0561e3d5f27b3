// z = mean + exp(log_variance / 2) noise.
#include "common.cuh"
#include "latent.cuh"

// bound: bytes; expect 90 % of the bandwidth: three reads and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_sample_forward(
    const float* __restrict__ mean,         // [n]
    const float* __restrict__ log_variance, // [n] clamped on the way in
    const float* __restrict__ noise,        // [n] standard normal
    float* __restrict__ z,                  // [n] the sample
    int n                                   // values
) {
    int i = thread_index();
    if (i < n) z[i] = mean[i] + expf(0.5f * clamped_log_variance(log_variance[i])) * noise[i];
}

// bound: bytes; expect 90 % of the bandwidth: three reads (four where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_sample_backward(
    const float* __restrict__ log_variance,    // [n]
    const float* __restrict__ noise,           // [n] standard normal
    const float* __restrict__ dz,              // [n] gradient of the sample
    float* __restrict__ log_variance_gradient, // [n]
    int n,                                     // values
    int add                                    // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    float x = log_variance[i];
    float slope = inside_log_variance(x) ? 0.5f * expf(0.5f * x) * noise[i] * dz[i] : 0.0f;
    accumulate(log_variance_gradient + i, slope, add);
}
