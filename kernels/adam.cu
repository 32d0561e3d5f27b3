// Adam (Kingma & Ba, ICLR 2015, algorithm 1) over all parameters in one launch, with the global norm of the gradient.
#include "common.cuh"

// Values that a thread of the partial sums adds up in f32 before it turns to f64.
#define TERMS 16

// bound: bytes; expect 85 % of the bandwidth: the gradient once
// launch: a block of 256 for every 4,096 values
extern "C" __global__ void __launch_bounds__(256) adam_norm_partial(
    const float* __restrict__ gradient, // [n] of all parameters
    double* __restrict__ partial,       // [blocks] sums of squares
    int n                               // values
) {
    __shared__ double warps[256 / WARP];
    int start = blockIdx.x * 256 * TERMS + threadIdx.x;
    float sum = 0.0f;
    for (int k = 0; k < TERMS; k++) {
        int i = start + k * 256;
        if (i < n) sum += gradient[i] * gradient[i];
    }
    double total = block_sum((double)sum, warps);
    if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// bound: bytes; a few thousand partial sums
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) adam_norm(
    const double* __restrict__ partial, // [blocks] sums of adam_norm_partial
    double* __restrict__ norm,          // [1] the L2 norm
    int blocks,                         // partial sums
    float inverse_scale                 // 1 / what the gradients were scaled up by
) {
    __shared__ double warps[256 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < blocks; i += 256) sum += partial[i];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) norm[0] = sqrt(sum) * inverse_scale;
}

// A norm that is not finite changes nothing.
// bound: bytes; expect 90 % of the bandwidth: four reads and three writes a parameter
// launch: a thread a parameter, blocks of 256
extern "C" __global__ void __launch_bounds__(256) adam_update(
    float* __restrict__ parameters,       // [n] weights
    const float* __restrict__ gradient,   // [n] of the loss
    float* __restrict__ first,            // [n] first moments
    float* __restrict__ second,           // [n] second moments
    const double* __restrict__ norm,      // [1] of the gradient
    const int* __restrict__ ends,         // [stretches] past the last parameter of each stretch
    const float* __restrict__ factors,    // [stretches] factor on its learning rate
    int stretches,                        // of parameters with one factor
    int n,                                // parameters
    float rate,                           // learning rate / (1 - beta1^t)
    float beta1,                          // decay of the first moments
    float beta2,                          // decay of the second moments
    float second_correction,              // 1 / sqrt(1 - beta2^t)
    float epsilon,                        // added to the root
    double clip_norm,                     // gradients are scaled to at most this norm; 0: never
    float inverse_scale                   // 1 / what the gradients were scaled up by
) {
    int i = thread_index();
    double length = norm[0];
    if (i >= n || !isfinite(length)) return;
    int stretch = 0;
    while (stretch < stretches - 1 && i >= ends[stretch]) stretch++;
    float scale = clip_norm > 0.0 && length > clip_norm ? (float)(clip_norm / length) : 1.0f;
    float g = scale * inverse_scale * gradient[i];
    float m = first[i] + (1.0f - beta1) * (g - first[i]);
    float v = second[i] + (1.0f - beta2) * (g * g - second[i]);
    first[i] = m;
    second[i] = v;
    parameters[i] -= rate * factors[stretch] * m / (sqrtf(v) * second_correction + epsilon);
}
