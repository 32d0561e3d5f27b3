// Group normalisation (Wu & He, ECCV 2018), affine, with the SiLU in the same pass. NHWC: the channel runs fastest.
//
// A chunk is CHUNK pixels of an image. Sums over a chunk are taken a channel in f32, relative to the chunk's first
// pixel, and merged in f64 (Chan, Golub & LeVeque 1983), so that a large mean costs no digits. Images lie as `Storage`
// says; all else is fp32. The entry points are in group_norm.cu.
#pragma once

#include "common.cuh"
#include "storage.cuh"

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

// x normalised, and the gradient of what enters the SiLU.
__device__ __forceinline__ float inner_gradient(float xn, float dy, float gamma, float beta, int activate) {
    return activate ? dy * silu_slope(xn * gamma + beta) : dy;
}

template <class Storage, class T>
__device__ __forceinline__ void forward_partial(Storage storage, const T* x, float* partial, int pixels,
                                                int channels) {
    __shared__ float shared[2][ROWS][WARP];
    int c = blockIdx.y * WARP + threadIdx.x % WARP, row = threadIdx.x / WARP;
    int start = blockIdx.x * CHUNK, end = min(start + CHUNK, pixels);
    const T* image = x + (size_t)blockIdx.z * pixels * channels;
    float sum = 0.0f, squares = 0.0f;
    if (c < channels) {
        float first = storage.load(image + start * channels + c);
        for (int p = start + row; p < end; p += ROWS) {
            float d = storage.load(image + p * channels + c) - first;
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

template <class Storage, class T>
__device__ __forceinline__ void forward_statistics(Storage storage, const T* x, const float* partial,
                                                   float* saved, int pixels, int channels, int chunks,
                                                   float epsilon) {
    __shared__ double warps[128 / WARP];
    __shared__ double centre;
    int width = channels / gridDim.x, first = blockIdx.x * width;
    const T* image = x + (size_t)blockIdx.y * pixels * channels;
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
            double mean = storage.load(image + chunk * CHUNK * channels + c) + sum * share;
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

template <class Storage, class T>
__device__ __forceinline__ void forward(Storage storage, const T* x, const float* saved, const float* gamma,
                                        const float* beta, T* y, int values, int channels, int groups,
                                        int activate) {
    int i = thread_index();
    if (i >= values) return;
    int c = i % channels, group = blockIdx.y * groups + c / (channels / groups);
    float mean = saved[group], rstd = saved[gridDim.y * groups + group];
    size_t at = (size_t)blockIdx.y * values + i;
    float u = (storage.load(x + at) - mean) * rstd * gamma[c] + beta[c];
    storage.store(y + at, activate ? silu(u) : u);
}

template <class Storage, class T>
__device__ __forceinline__ void backward_partial(Storage storage, const T* x, const T* dy, const float* saved,
                                                 const float* gamma, const float* beta, float* partial,
                                                 int pixels, int channels, int groups, int activate) {
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
            float xn = (storage.load(x + at) - mean) * rstd;
            float du = inner_gradient(xn, storage.load(dy + at), gamma[c], beta[c], activate);
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

template <class Storage, class T>
__device__ __forceinline__ void backward_dx(Storage storage, const T* x, const T* dy, const float* saved,
                                            const float* gamma, const float* beta, const float* means, T* dx,
                                            int values, int channels, int groups, int activate, int add) {
    int i = thread_index();
    if (i >= values) return;
    int c = i % channels, group = blockIdx.y * groups + c / (channels / groups);
    int all = gridDim.y * groups;
    float rstd = saved[all + group];
    size_t at = (size_t)blockIdx.y * values + i;
    float xn = (storage.load(x + at) - saved[group]) * rstd;
    float du = inner_gradient(xn, storage.load(dy + at), gamma[c], beta[c], activate);
    storage::accumulate(storage, dx + at, rstd * (gamma[c] * du - means[group] - xn * means[all + group]), add);
}
