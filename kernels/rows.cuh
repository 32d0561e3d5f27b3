// The softmax of rows of scores, a warp a row.
#pragma once

#include "common.cuh"

// The sum over the lanes of a warp, in all of them.
__device__ __forceinline__ float all_sum(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}

// exp((x - max) / T) / sum, with the place of the first of the largest scores. Made by all lanes together.
struct Softmax {
    float most, inverse_temperature, sum;
    int at;

    __device__ __forceinline__ Softmax(const float* x, int classes, float inverse_temperature, int lane)
        : most(lane < classes ? x[lane] : __int_as_float(0xff800000)), inverse_temperature(inverse_temperature), sum(0.0f), at(lane) {
        for (int k = lane + WARP; k < classes; k += WARP)
            if (x[k] > most) most = x[k], at = k;
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            float other = __shfl_xor_sync(FULL_WARP, most, distance);
            int other_at = __shfl_xor_sync(FULL_WARP, at, distance);
            if (other > most || (other == most && other_at < at)) most = other, at = other_at;
        }
        for (int k = lane; k < classes; k += WARP) sum += expf((x[k] - most) * inverse_temperature);
        sum = all_sum(sum);
    }

    __device__ __forceinline__ float share(float x) const { return expf((x - most) * inverse_temperature) / sum; }
};
