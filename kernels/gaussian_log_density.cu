// ln N(z; mean, exp(log_variance)) of samples z = mean + exp(log_variance / 2) noise: minus half the sum over dimensions of
// noise^2 + log_variance + ln(2 pi), mean over the meshes of a batch.
#include "common.cuh"
#include "latent.cuh"

#define LOG_TAU 1.8378770664093453f

// bound: bytes; one block, some 100 us for the latent of the paper preset
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_log_density_forward(
    const float* __restrict__ log_variance, // [n] clamped on the way in
    const float* __restrict__ noise,        // [n] standard normal
    float* __restrict__ y,                  // [1] nats
    int n,                                  // values of all meshes
    int meshes                              // of the batch
) {
    __shared__ double warps[256 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < n; i += 256)
        sum += (double)(noise[i] * noise[i] + (clamped_log_variance(log_variance[i]) + LOG_TAU));
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) y[0] = (float)(-0.5 * sum / meshes);
}

// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_log_density_backward(
    const float* __restrict__ log_variance, // [n]
    const float* __restrict__ dy,           // [1] gradient of the mean
    float* __restrict__ gradient,           // [n] of the log-variances
    int n,                                  // values of all meshes
    int meshes,                             // of the batch
    int add                                 // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i < n) accumulate(gradient + i, inside_log_variance(log_variance[i]) ? -0.5f * dy[0] / meshes : 0.0f, add);
}
