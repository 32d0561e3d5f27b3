// Group normalisation (Wu & He, ECCV 2018), affine, with the SiLU in the same pass. NHWC: the channel runs fastest.
//
// A chunk is CHUNK pixels of an image. Sums over a chunk are taken a channel in f32, relative to the chunk's first
// pixel, and merged in f64 (Chan, Golub & LeVeque 1983), so that a large mean costs no digits.
#include "common.cuh"

#define CHUNK 256
#define ROWS 8

// Sums over the ROWS threads of a channel, in the threads of row 0.
__device__ __forceinline__ void sum_rows(float* a, float* b, float (*shared)[ROWS][WARP]) {
    int lane = threadIdx.x % WARP, row = threadIdx.x / WARP;
    shared[0][row][lane] = *a;
    shared[1][row][lane] = *b;
    __syncthreads();
    if (row > 0) return;
    for (int r = 1; r < ROWS; r++) {
        *a += shared[0][r][lane];
        *b += shared[1][r][lane];
    }
}

// bound: bytes; expect 85 % of the bandwidth: x once
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward_partial(
    const float* __restrict__ x,  // [images, pixels, channels] input
    float* __restrict__ partial,  // [images, chunks, 2, channels] sums of x - first and of its square
    int pixels,                   // of an image
    int channels                  // channels
) {
    __shared__ float shared[2][ROWS][WARP];
    int c = blockIdx.y * WARP + threadIdx.x % WARP, row = threadIdx.x / WARP;
    int start = blockIdx.x * CHUNK, end = min(start + CHUNK, pixels);
    const float* image = x + (size_t)blockIdx.z * pixels * channels;
    float sum = 0.0f, squares = 0.0f;
    if (c < channels) {
        float first = image[start * channels + c];
        for (int p = start + row; p < end; p += ROWS) {
            float d = image[p * channels + c] - first;
            sum += d;
            squares += d * d;
        }
    }
    sum_rows(&sum, &squares, shared);
    if (row > 0 || c >= channels) return;
    float* line = partial + ((size_t)blockIdx.z * gridDim.x + blockIdx.x) * 2 * channels;
    line[c] = sum;
    line[channels + c] = squares;
}

// bound: bytes; the sums of a few hundred chunks
// launch: grid (groups, images), block 128
extern "C" __global__ void __launch_bounds__(128) group_norm_forward_statistics(
    const float* __restrict__ x,       // [images, pixels, channels] input
    const float* __restrict__ partial, // [images, chunks, 2, channels] of group_norm_forward_partial
    float* __restrict__ saved,         // [2, images, groups] means, then 1 / sqrt(variance + epsilon)
    int pixels,                        // of an image
    int channels,                      // channels
    int chunks,                        // of an image
    float epsilon                      // added to the variance
) {
    __shared__ double warps[128 / WARP];
    __shared__ double centre;
    int width = channels / gridDim.x, first = blockIdx.x * width;
    const float* image = x + (size_t)blockIdx.y * pixels * channels;
    const float* lines = partial + (size_t)blockIdx.y * chunks * 2 * channels;
    double count = (double)pixels * width;
    int last = pixels - (chunks - 1) * CHUNK;
    double last_share = 1.0 / last;
    if (threadIdx.x == 0) centre = 0.0;
    __syncthreads();
    for (int pass = 0; pass < 2; pass++) {
        double total = 0.0;
        for (int k = threadIdx.x; k < chunks * width; k += 128) {
            int chunk = k / width, c = first + k % width;
            double n = chunk < chunks - 1 ? CHUNK : last, share = chunk < chunks - 1 ? 1.0 / CHUNK : last_share;
            double sum = lines[chunk * 2 * channels + c], squares = lines[(chunk * 2 + 1) * channels + c];
            double mean = image[chunk * CHUNK * channels + c] + sum * share;
            double off = mean - centre;
            total += pass ? squares - sum * sum * share + n * off * off : n * mean;
        }
        total = block_sum(total, warps);
        if (threadIdx.x == 0) {
            int at = blockIdx.y * gridDim.x + blockIdx.x;
            if (pass == 0) {
                centre = total / count;
                saved[at] = (float)centre;
            } else {
                double variance = fmax(total / count, 0.0);
                saved[gridDim.y * gridDim.x + at] = (float)(1.0 / sqrt(variance + epsilon));
            }
        }
        __syncthreads();
    }
}

// bound: bytes; expect 85 % of the bandwidth: one read and one write a value
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    float* __restrict__ y,           // [images, pixels, channels] output
    int values,                      // of an image: pixels * channels
    int channels,                    // channels
    int groups,                      // of channels
    int activate                     // 1: follow with the SiLU
) {
    int i = thread_index();
    if (i >= values) return;
    int c = i % channels, group = blockIdx.y * groups + c / (channels / groups);
    float mean = saved[group], rstd = saved[gridDim.y * groups + group];
    size_t at = (size_t)blockIdx.y * values + i;
    float u = (x[at] - mean) * rstd * gamma[c] + beta[c];
    y[at] = activate ? silu(u) : u;
}

// x normalised, and the gradient of what enters the SiLU.
__device__ __forceinline__ float inner_gradient(float xn, float dy, float gamma, float beta, int activate) {
    return activate ? dy * silu_slope(xn * gamma + beta) : dy;
}

// bound: bytes; expect 85 % of the bandwidth: x and dy once
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_partial(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ dy,    // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    float* __restrict__ partial,     // [images, chunks, 2, channels] sums of du and of du * x normalised
    int pixels,                      // of an image
    int channels,                    // channels
    int groups,                      // of channels
    int activate                     // 1: the SiLU follows
) {
    __shared__ float shared[2][ROWS][WARP];
    int c = blockIdx.y * WARP + threadIdx.x % WARP, row = threadIdx.x / WARP;
    int start = blockIdx.x * CHUNK, end = min(start + CHUNK, pixels);
    size_t image = (size_t)blockIdx.z * pixels * channels;
    float sum = 0.0f, product = 0.0f;
    if (c < channels) {
        int group = blockIdx.z * groups + c / (channels / groups);
        float mean = saved[group], rstd = saved[gridDim.z * groups + group];
        for (int p = start + row; p < end; p += ROWS) {
            size_t at = image + (size_t)p * channels + c;
            float xn = (x[at] - mean) * rstd;
            float du = inner_gradient(xn, dy[at], gamma[c], beta[c], activate);
            sum += du;
            product += du * xn;
        }
    }
    sum_rows(&sum, &product, shared);
    if (row > 0 || c >= channels) return;
    float* line = partial + ((size_t)blockIdx.z * gridDim.x + blockIdx.x) * 2 * channels;
    line[c] = sum;
    line[channels + c] = product;
}

// The gradient of gamma (offset = channels) or of beta (offset = 0).
// bound: bytes; the sums of all chunks
// launch: a thread a channel, blocks of 64
extern "C" __global__ void __launch_bounds__(64) group_norm_backward_affine(
    const float* __restrict__ partial, // [lines, 2, channels] of group_norm_backward_partial
    float* __restrict__ gradient,      // [channels] of gamma or beta
    int lines,                         // images * chunks
    int channels,                      // channels
    int offset,                        // 0: sums, channels: products
    int add                            // 0: overwrite the gradient, 1: add to it
) {
    int c = thread_index();
    if (c >= channels) return;
    double sum = 0.0;
    for (int line = 0; line < lines; line++) sum += partial[(size_t)line * 2 * channels + offset + c];
    accumulate(gradient + c, (float)sum, add);
}

// Means over each group of gamma du and of gamma du x normalised.
// bound: bytes; the sums of all chunks of an image
// launch: grid (groups, images), block 128
extern "C" __global__ void __launch_bounds__(128) group_norm_backward_means(
    const float* __restrict__ partial, // [images, chunks, 2, channels] of group_norm_backward_partial
    const float* __restrict__ gamma,   // [channels] scale
    float* __restrict__ means,         // [2, images, groups] of gamma du, then of gamma du x normalised
    int pixels,                        // of an image
    int channels,                      // channels
    int chunks                         // of an image
) {
    __shared__ double warps[128 / WARP];
    int width = channels / gridDim.x, first = blockIdx.x * width;
    const float* lines = partial + (size_t)blockIdx.y * chunks * 2 * channels;
    for (int which = 0; which < 2; which++) {
        double total = 0.0;
        for (int k = threadIdx.x; k < chunks * width; k += 128) {
            int chunk = k / width, c = first + k % width;
            total += (double)gamma[c] * lines[(chunk * 2 + which) * channels + c];
        }
        total = block_sum(total, warps);
        int at = (which * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        if (threadIdx.x == 0) means[at] = (float)(total / ((double)pixels * width));
        __syncthreads();
    }
}

// dx = rstd (gamma du - mean(gamma du) - xn mean(gamma du xn)), the means over the group.
// bound: bytes; expect 85 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_dx(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ dy,    // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    const float* __restrict__ means, // [2, images, groups] of group_norm_backward_means
    float* __restrict__ dx,          // [images, pixels, channels] gradient of x
    int values,                      // of an image: pixels * channels
    int channels,                    // channels
    int groups,                      // of channels
    int activate,                    // 1: the SiLU follows
    int add                          // 0: overwrite dx, 1: add to it
) {
    int i = thread_index();
    if (i >= values) return;
    int c = i % channels, group = blockIdx.y * groups + c / (channels / groups);
    int all = gridDim.y * groups;
    float rstd = saved[all + group];
    size_t at = (size_t)blockIdx.y * values + i;
    float xn = (x[at] - saved[group]) * rstd;
    float du = inner_gradient(xn, dy[at], gamma[c], beta[c], activate);
    accumulate(dx + at, rstd * (gamma[c] * du - means[group] - xn * means[all + group]), add);
}
