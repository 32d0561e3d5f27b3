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

// What a step leaves for the next one and for the host, in f64 ...
#define NORM 0       // of the gradient, before clipping
#define UPDATES 1    // made so far
#define SCALE 2      // what the gradients are scaled up by
#define STEADY 3     // steps since the scale changed
#define HALTED 4     // 1 once a step had no finite loss and gradient at the least scale: nothing changes any more

// ... and for the update of every parameter, in f32: conversions from f64 are slow there.
#define NEXT_SCALE 0 // of the next step's gradients
#define FACTOR 1     // on the gradients: clipping over the scale; 0: this step changes nothing
#define RATE 2       // learning rate over the bias correction of the first moments
#define CORRECTION 3 // reciprocal root of that of the second moments

// An overflow takes that much of the scale; it doubles after that many steps without one, as PyTorch's GradScaler does.
#define BACKOFF 16.0
#define PATIENCE 2000.0

// base^exponent by squaring: the same bits whatever the compiler's library has.
__device__ __forceinline__ double power(double base, long long exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1, base *= base)
        if (exponent & 1) result *= base;
    return result;
}

// Whether this step updates, and how: all that the host would have to wait for otherwise.
// bound: bytes; a few thousand partial sums
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) adam_prepare(
    const double* __restrict__ partial,     // [blocks] sums of adam_norm_partial
    double* __restrict__ state,             // [5] as above
    float* __restrict__ scalars,            // [4] as above
    const float* __restrict__ loss,         // [1] of this step; null: not looked at
    const double* __restrict__ rate_factor, // [1] of the schedule
    int blocks,                             // partial sums
    double learning_rate,                   // at its highest
    double beta1,                           // decay of the first moments
    double beta2,                           // decay of the second moments
    double clip_norm,                       // gradients are scaled to at most this norm; 0: never
    double most_scale                       // 1: gradients are not scaled
) {
    __shared__ double warps[256 / WARP];
    double sum = 0.0;
    for (int i = threadIdx.x; i < blocks; i += 256) sum += partial[i];
    sum = block_sum(sum, warps);
    if (threadIdx.x != 0) return;
    double used = state[SCALE];
    double norm = sqrt(sum) / used;
    state[NORM] = norm;
    scalars[FACTOR] = 0.0f;
    if (state[HALTED] != 0.0) return;
    if (!isfinite(norm) || (loss && !isfinite(loss[0]))) {
        if (used <= 1.0) state[HALTED] = 1.0;
        state[SCALE] = fmax(1.0, used / BACKOFF);
        state[STEADY] = 0.0;
    } else {
        double updates = state[UPDATES] + 1.0;
        state[UPDATES] = updates;
        scalars[RATE] = (float)(learning_rate * rate_factor[0] / (1.0 - power(beta1, (long long)updates)));
        scalars[CORRECTION] = (float)(1.0 / sqrt(1.0 - power(beta2, (long long)updates)));
        scalars[FACTOR] = (float)((clip_norm > 0.0 && norm > clip_norm ? clip_norm / norm : 1.0) / used);
        bool grows = state[STEADY] + 1.0 >= PATIENCE && used < most_scale;
        state[SCALE] = grows ? fmin(most_scale, 2.0 * used) : used;
        state[STEADY] = grows ? 0.0 : state[STEADY] + 1.0;
    }
    scalars[NEXT_SCALE] = (float)state[SCALE];
}

// bound: bytes; expect 90 % of the bandwidth: four reads and three writes a parameter
// launch: a thread a parameter, blocks of 256
extern "C" __global__ void __launch_bounds__(256) adam_update(
    float* __restrict__ parameters,       // [n] weights
    const float* __restrict__ gradient,   // [n] of the loss
    float* __restrict__ first,            // [n] first moments
    float* __restrict__ second,           // [n] second moments
    const float* __restrict__ scalars,    // [4] of adam_prepare
    const int* __restrict__ ends,         // [stretches] past the last parameter of each stretch
    const float* __restrict__ factors,    // [stretches] factor on its learning rate
    int stretches,                        // of parameters with one factor
    int n,                                // parameters
    float beta1,                          // decay of the first moments
    float beta2,                          // decay of the second moments
    float epsilon                         // added to the root
) {
    int i = thread_index();
    float factor = scalars[FACTOR];
    if (i >= n || factor == 0.0f) return;
    int stretch = 0;
    while (stretch < stretches - 1 && i >= ends[stretch]) stretch++;
    float g = factor * gradient[i];
    float m = first[i] + (1.0f - beta1) * (g - first[i]);
    float v = second[i] + (1.0f - beta2) * (g * g - second[i]);
    first[i] = m;
    second[i] = v;
    parameters[i] -= scalars[RATE] * factors[stretch] * m / (sqrtf(v) * scalars[CORRECTION] + epsilon);
}
