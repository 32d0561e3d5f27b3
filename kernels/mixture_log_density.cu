// ln of the sum over K components of p_k N(z; mean_k, exp(log_variance_k)), p the softmax of the logits, mean over the B meshes of
// a batch. Densities (saved) f32 [B, K] hold what each component adds in forward, and its share afterwards.
#include "common.cuh"
#include "latent.cuh"

#define LOG_TAU 1.8378770664093453f

// ln N(z; mean_k, exp(log_variance_k)).
// bound: bytes; expect 60 % of the bandwidth: the components once for each mesh
// launch: grid (K, B), block 256
extern "C" __global__ void __launch_bounds__(256) mixture_log_density_forward_component(
    const float* __restrict__ z,            // [B, n]
    const float* __restrict__ mean,         // [K, n]
    const float* __restrict__ log_variance, // [K, n] clamped on the way in
    float* __restrict__ densities,          // [B, K] nats
    int n                                   // dimensions
) {
    __shared__ double warps[256 / WARP];
    z += (long long)blockIdx.y * n, mean += (long long)blockIdx.x * n, log_variance += (long long)blockIdx.x * n;
    double sum = 0.0;
    for (int i = threadIdx.x; i < n; i += 256) {
        float l = clamped_log_variance(log_variance[i]), d = z[i] - mean[i];
        sum += (double)(d * d * expf(-l) + (l + LOG_TAU));
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) densities[blockIdx.y * gridDim.x + blockIdx.x] = (float)(-0.5 * sum);
}

// Turns densities into shares, and adds up.
// bound: the launch itself; B K values
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) mixture_log_density_forward(
    const float* __restrict__ logits, // [K]
    float* __restrict__ densities,    // inout: [B, K] nats; then the share of each component
    float* __restrict__ y,            // [1] nats
    int components,                   // K
    int meshes                        // B
) {
    if (threadIdx.x != 0) return;
    float most = logits[0], sum = 0.0f, total = 0.0f;
    for (int k = 1; k < components; k++)
        if (logits[k] > most) most = logits[k];
    for (int k = 0; k < components; k++) sum += expf(logits[k] - most);
    float norm = most + logf(sum);
    for (int b = 0; b < meshes; b++) {
        float* row = densities + b * components;
        float largest = row[0] + logits[0], shares = 0.0f;
        for (int k = 0; k < components; k++) {
            row[k] += logits[k];
            if (row[k] > largest) largest = row[k];
        }
        for (int k = 0; k < components; k++) shares += expf(row[k] - largest);
        total += largest + logf(shares) - norm;
        for (int k = 0; k < components; k++) row[k] = expf(row[k] - largest) / shares;
    }
    y[0] = total / meshes;
}

// bound: bytes; expect 60 % of the bandwidth: the components once for each mesh
// launch: grid (ceil(n / 256), B), block 256
extern "C" __global__ void __launch_bounds__(256) mixture_log_density_backward_dz(
    const float* __restrict__ z,            // [B, n]
    const float* __restrict__ mean,         // [K, n]
    const float* __restrict__ log_variance, // [K, n]
    const float* __restrict__ shares,       // [B, K]
    const float* __restrict__ dy,           // [1] gradient of the mean
    float* __restrict__ dz,                 // [B, n]
    int n,                                  // dimensions
    int components,                         // K
    int add                                 // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    long long at = (long long)blockIdx.y * n + i;
    float sum = 0.0f;
    for (int k = 0; k < components; k++) {
        long long c = (long long)k * n + i;
        float l = clamped_log_variance(log_variance[c]);
        sum += shares[blockIdx.y * components + k] * (mean[c] - z[at]) * expf(-l);
    }
    accumulate(dz + at, dy[0] / gridDim.y * sum, add);
}

// The gradient of the means, or of the log-variances.
// bound: bytes; expect 60 % of the bandwidth: the meshes once for each component
// launch: grid (ceil(n / 256), K), block 256
extern "C" __global__ void __launch_bounds__(256) mixture_log_density_backward_component(
    const float* __restrict__ z,            // [B, n]
    const float* __restrict__ mean,         // [K, n]
    const float* __restrict__ log_variance, // [K, n]
    const float* __restrict__ shares,       // [B, K]
    const float* __restrict__ dy,           // [1] gradient of the mean
    float* __restrict__ gradient,           // [K, n]
    int n,                                  // dimensions
    int meshes,                             // B
    int of_log_variance,                    // 0: of the means, 1: of the log-variances
    int add                                 // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    long long c = (long long)blockIdx.y * n + i;
    float m = mean[c], l = log_variance[c], inverse = expf(-clamped_log_variance(l)), sum = 0.0f;
    for (int b = 0; b < meshes; b++) {
        float d = z[(long long)b * n + i] - m, share = shares[b * gridDim.y + blockIdx.y];
        sum += share * (of_log_variance ? 0.5f * (d * d * inverse - 1.0f) : d * inverse);
    }
    if (of_log_variance && !inside_log_variance(l)) sum = 0.0f;
    accumulate(gradient + c, dy[0] / meshes * sum, add);
}

// bound: the launch itself; B K values
// launch: one thread
extern "C" __global__ void __launch_bounds__(32) mixture_log_density_backward_logits(
    const float* __restrict__ logits, // [K]
    const float* __restrict__ shares, // [B, K]
    const float* __restrict__ dy,     // [1] gradient of the mean
    float* __restrict__ gradient,     // [K]
    int components,                   // K
    int meshes,                       // B
    int add                           // 0: overwrite, 1: add
) {
    if (threadIdx.x != 0) return;
    float most = logits[0], sum = 0.0f;
    for (int k = 1; k < components; k++)
        if (logits[k] > most) most = logits[k];
    for (int k = 0; k < components; k++) sum += expf(logits[k] - most);
    for (int k = 0; k < components; k++) {
        float share = 0.0f;
        for (int b = 0; b < meshes; b++) share += shares[b * components + k];
        accumulate(gradient + k, dy[0] * (share / meshes - expf(logits[k] - most) / sum), add);
    }
}
