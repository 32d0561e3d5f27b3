// min(weight R, cap), R the sum or mean over dimensions of their divergence, each counted as `free` at least.
#include "common.cuh"

__device__ __forceinline__ float counted(float kl, float free) { return free > 0.0f && kl < free ? free : kl; }

// bound: bytes; one block, some 100 us for the latent of the paper preset
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) kl_term_forward(
    const float* __restrict__ kl,     // [n] nats
    const float* __restrict__ weight, // [1]
    float* __restrict__ y,            // [1] the term
    float* __restrict__ open,         // [1] 1 where the term is below its cap, else 0
    int n,                            // dimensions
    float free,                       // nats that a dimension has for nothing; 0: none
    float scale,                      // 1 for the sum, 1 / n for the mean
    float cap                         // infinite: none
) {
    __shared__ double warps[256 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < n; i += 256) sum += (double)counted(kl[i], free);
    sum = block_sum(sum, warps);
    if (threadIdx.x != 0) return;
    float term = weight[0] * (float)(sum * (double)scale);
    y[0] = term > cap ? cap : term;
    open[0] = term > cap ? 0.0f : 1.0f;
}

// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a dimension
// launch: a thread a dimension, blocks of 256
extern "C" __global__ void __launch_bounds__(256) kl_term_backward(
    const float* __restrict__ kl,     // [n] nats
    const float* __restrict__ weight, // [1]
    const float* __restrict__ open,   // [1] what forward found
    const float* __restrict__ dy,     // [1] gradient of the term
    float* __restrict__ dkl,          // [n]
    int n,                            // dimensions
    float free,                       // as in forward
    float scale,                      // as in forward
    int add                           // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    bool flows = open[0] != 0.0f && !(free > 0.0f && kl[i] < free);
    accumulate(dkl + i, flows ? scale * weight[0] * dy[0] : 0.0f, add);
}
