// Probabilities and their logarithms from logits, without loss where they are small.
#pragma once

// sigmoid(x) and sigmoid(-x).
struct Sigmoids {
    float up, down;

    __device__ __forceinline__ explicit Sigmoids(float x) {
        float small = expf(-fabsf(x)), large = 1.0f / (1.0f + small);
        small *= large;
        up = x < 0.0f ? small : large;
        down = x < 0.0f ? large : small;
    }
};

// ln(1 + e^x) and ln(1 + e^-x).
struct Softplus {
    float up, down;

    __device__ __forceinline__ explicit Softplus(float x) {
        float rest = log1pf(expf(-fabsf(x)));
        up = (x < 0.0f ? 0.0f : x) + rest;
        down = (x < 0.0f ? -x : 0.0f) + rest;
    }
};
