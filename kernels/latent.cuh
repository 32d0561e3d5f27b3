// What the kernels of latents share: the ranges of log-variances, and of logarithms of scales and steps.
#pragma once

// As src/ops/gaussian_sample.rs has them.
#define LEAST_LOG_VARIANCE -30.0f
#define MOST_LOG_VARIANCE 20.0f

// Not a number stays one, so that it shows in the loss.
__device__ __forceinline__ float clamped_log_variance(float x) {
    return x < LEAST_LOG_VARIANCE ? LEAST_LOG_VARIANCE : x > MOST_LOG_VARIANCE ? MOST_LOG_VARIANCE : x;
}

// Whether a gradient reaches a log-variance.
__device__ __forceinline__ bool inside_log_variance(float x) {
    return x >= LEAST_LOG_VARIANCE && x <= MOST_LOG_VARIANCE;
}

// As src/ops/quantisation_noise.rs has it, on both sides of 0.
#define MOST_LOG_WIDTH 20.0f

__device__ __forceinline__ float clamped_log_width(float x) {
    return x < -MOST_LOG_WIDTH ? -MOST_LOG_WIDTH : x > MOST_LOG_WIDTH ? MOST_LOG_WIDTH : x;
}

__device__ __forceinline__ bool inside_log_width(float x) { return x >= -MOST_LOG_WIDTH && x <= MOST_LOG_WIDTH; }
