// KL(N(mean, exp(log_variance)) || N(0, 1)) of every latent dimension, in nats, mean over the meshes of a batch.
#include "common.cuh"
#include "latent.cuh"

// bound: bytes; expect 85 % of the bandwidth: two reads a value
// launch: a thread a dimension, blocks of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_kl_forward(
    const float* __restrict__ mean,         // [meshes, dimensions]
    const float* __restrict__ log_variance, // [meshes, dimensions] clamped on the way in
    float* __restrict__ kl,                 // [dimensions] nats
    int dimensions,                         // of the latent of a mesh
    int meshes                              // of the batch
) {
    int d = thread_index();
    if (d >= dimensions) return;
    float sum = 0.0f;
    for (int b = 0; b < meshes; b++) {
        long long i = (long long)b * dimensions + d;
        float m = mean[i], l = clamped_log_variance(log_variance[i]);
        sum += m * m + (expm1f(l) - l);
    }
    kl[d] = 0.5f * sum / meshes;
}

// Either gradient, or both.
// bound: bytes; expect 85 % of the bandwidth: two reads (four where it adds) and two writes a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) gaussian_kl_backward(
    const float* __restrict__ values, // [meshes, dimensions] mean or log-variance
    const float* __restrict__ dkl,    // [dimensions] gradient of the divergences
    float* __restrict__ gradient,     // [meshes, dimensions] of those values
    int n,                            // meshes * dimensions
    int dimensions,                   // of the latent of a mesh
    int of_log_variance,              // 0: the values are means, 1: log-variances
    int add                           // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    float x = values[i], scale = dkl[i % dimensions] * dimensions / n;
    float slope = !of_log_variance ? x : inside_log_variance(x) ? 0.5f * expm1f(x) : 0.0f;
    accumulate(gradient + i, scale * slope, add);
}
