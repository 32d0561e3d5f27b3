// Sums over the pixels of each channel, of images whose channel runs fastest: a warp has 32 channels, each of its ROWS fellows
// every ROWS-th pixel, so that a line of memory is read at once.
#pragma once

#include "common.cuh"

#define ROWS 16

// The channel of this thread, of blocks of ROWS warps; there may be none.
__device__ __forceinline__ int channel_index() { return blockIdx.x * WARP + threadIdx.x % WARP; }

// The first pixel of this thread; the next are ROWS on.
__device__ __forceinline__ int first_pixel() { return threadIdx.x / WARP; }

// The sum over the threads of a channel, in that of the first pixel. All threads of the block take part.
__device__ __forceinline__ double channel_sum(double sum) {
    __shared__ double rows[ROWS][WARP];
    int lane = threadIdx.x % WARP, row = threadIdx.x / WARP;
    rows[row][lane] = sum;
    __syncthreads();
    if (row > 0) return sum;
    for (int r = 1; r < ROWS; r++) sum += rows[r][lane];
    return sum;
}
