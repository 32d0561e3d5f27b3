// What all kernels share: indices, writing or adding a gradient, sums in a fixed order.
#pragma once

#define WARP 32
#define FULL_WARP 0xffffffffu

// The place of this thread in a one-dimensional grid. Arrays have fewer than 2^31 values: the host refuses more.
__device__ __forceinline__ int thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

// The first writer of a gradient overwrites, later ones add.
__device__ __forceinline__ void accumulate(float* slot, float value, int add) {
    *slot = add ? *slot + value : value;
}

// The sum over the threads of a warp, in lane 0: always the same tree, so always the same bits.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value += __shfl_down_sync(FULL_WARP, value, distance);
    return value;
}

// The sum over the threads of a block of whole warps, in thread 0. `shared` has a place for each warp.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* shared) {
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = value;
    __syncthreads();
    int warps = blockDim.x / WARP;
    value = threadIdx.x < warps ? shared[threadIdx.x] : T(0);
    return threadIdx.x < WARP ? warp_sum(value) : value;
}

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

// d silu(x) / dx
__device__ __forceinline__ float silu_slope(float x) {
    float s = sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}
