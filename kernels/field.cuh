// The field that planes imply: votes of pixels, the four pixels around a point, the distance to the silhouette. As
// src/hexplane/field (tap.rs, silhouette.rs), to the last bit.
#pragma once

#include "views.cuh"

// The slope of the steepest surface that still counts.
constexpr float LEAST_SLOPE = 0.02f;
// N . forward above which a surface faces away.
constexpr float FACES_AWAY = 0.2f;
// Pixels, where a column holds no foreground within reach.
constexpr float NO_FOREGROUND = 1e6f;
// Rows of a column that one thread walks.
constexpr int SEGMENT = 32;

// One pixel's vote on a point at world depth w: `clamp((depth - w) slope, -tau, tau)`; `depth` itself where the slope
// is zero, which stands for the silhouette distance of the background and for -tau where the surface faces away.
struct Tap {
    float depth, slope;

    __device__ __forceinline__ float vote(float w, float tau) const {
        float distance = slope == 0.0f ? depth : mul(sub(depth, w), slope);
        return smaller(larger(distance, -tau), tau);
    }
};

// |N| >= 0.5, and all of (D, N) a number.
__device__ __forceinline__ bool is_foreground(float4 pixel) {
    Vector<float> n = {pixel.y, pixel.z, pixel.w};
    float square = dot(n, n);
    return square >= 0.25f && square <= LARGEST_FINITE && fabsf(pixel.x) <= LARGEST_FINITE;
}

// The tap of a pixel (D, N) of a view. `floor`: its silhouette distance.
__device__ __forceinline__ Tap tap_of(float4 pixel, int view, float floor, float tau) {
    if (!is_foreground(pixel)) return {floor, 0.0f};
    Vector<float> n = {pixel.y, pixel.z, pixel.w};
    float away = quotient(forward_of(view).along(n), root(dot(n, n)));
    if (away > FACES_AWAY) return {-tau, 0.0f};
    return {sub(mul(2.0f, pixel.x), 1.0f), larger(-away, LEAST_SLOPE)};
}

// The pixel at or before a coordinate in [-1,1], and the fraction towards the next one.
__device__ __forceinline__ int position(float coordinate, int size, float& fraction) {
    float x = sub(mul(mul(add(coordinate, 1.0f), 0.5f), float(size)), 0.5f), last = float(size - 1);
    x = x < 0.0f ? 0.0f : x > last ? last : x;
    // What is not a number becomes 0: a bad point never leads out of the planes.
    int index = min(__float2int_rz(x), size - 2);
    fraction = sub(x, float(index));
    return index;
}

__device__ __forceinline__ float lerp(float a, float b, float t) { return add(a, mul(sub(b, a), t)); }

// The four pixels around a point in a view: the upper left one, and where between them the point lies.
struct Footprint {
    int pixel, size;
    float across, down;

    __device__ __forceinline__ Footprint(int view, Vector<float> p, int size) : size(size) {
        int column = position(right_of(view).along(p), size, across);
        pixel = position(down_of(view).along(p), size, down) * size + column;
    }

    // Upper left, upper right, lower left, lower right.
    __device__ __forceinline__ int corner(int k) const { return pixel + k % 2 + k / 2 * size; }

    __device__ __forceinline__ float weight(int k) const {
        float x = k % 2 == 1 ? across : sub(1.0f, across);
        return mul(x, k / 2 == 1 ? down : sub(1.0f, down));
    }

    // Bilinear mixture of the values at the corners: down first, then across.
    __device__ __forceinline__ float mix(const float v[4]) const {
        return lerp(lerp(v[0], v[2], down), lerp(v[1], v[3], down), across);
    }
};

// Pixels beyond this are further than tau.
__device__ __forceinline__ int reach_of(int size, float tau) {
    return min(__float2int_rz(quotient(tau, quotient(2.0f, float(size)))) + 2, size);
}

// Pixels to the nearest foreground in the same column, for a segment of rows of one view: exact up to `reach`, beyond
// it at least that. `out`: [N, N] of the view, of which rows first..first + SEGMENT of the column are written.
__device__ inline void column_distances(const float4* pixels, int size, int reach, int column, int first, float* out) {
    int end = min(first + SEGMENT, size);
    float distance = NO_FOREGROUND;
    for (int row = max(first - reach, 0); row < end; row++) {
        distance = is_foreground(pixels[row * size + column]) ? 0.0f : smaller(distance + 1.0f, NO_FOREGROUND);
        if (row >= first) out[row * size + column] = distance;
    }
    distance = NO_FOREGROUND;
    for (int row = min(end - 1 + reach, size - 1); row >= first; row--) {
        distance = is_foreground(pixels[row * size + column]) ? 0.0f : smaller(distance + 1.0f, NO_FOREGROUND);
        if (row < end) out[row * size + column] = smaller(out[row * size + column], distance);
    }
}

// -tau on the foreground, else the world distance to the nearest foreground pixel less one pixel, at most tau.
// `squares`: squared column distances of the row.
__device__ __forceinline__ float silhouette_distance(const float* squares, int size, int reach, float tau, int column) {
    if (squares[column] == 0.0f) return -tau;
    float nearest = NO_FOREGROUND * NO_FOREGROUND;
    int end = min(column + reach + 1, size);
    for (int x = max(column - reach, 0); x < end; x++) {
        float dx = float(x - column);
        nearest = smaller(nearest, add(squares[x], mul(dx, dx)));
    }
    return smaller(mul(sub(root(nearest), 1.0f), quotient(2.0f, float(size))), tau);
}
