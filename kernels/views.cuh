// The six orthographic cameras: as src/hexplane/views.rs, whose tests compare these numbers with its table.
#pragma once

#include "exact.cuh"

// Two bits a view, top first: the world axis of a screen axis. One bit a view: whether the two run against
// each other. In registers, because a table in memory would be read by every thread.
constexpr unsigned RIGHT_AXES = 0xA00;
constexpr unsigned RIGHT_NEGATIVE = 0x18;
constexpr unsigned DOWN_AXES = 0x55A;
constexpr unsigned DOWN_NEGATIVE = 0x3E;
constexpr unsigned FORWARD_AXES = 0xA5;
constexpr unsigned FORWARD_NEGATIVE = 0x15;

constexpr int VIEWS = 6;

// A world axis, and whether a camera's direction runs against it.
struct Axis {
    int index;
    bool negative;

    __device__ __forceinline__ float along(Vector<float> p) const { return negative ? -p[index] : p[index]; }
    __device__ __forceinline__ double along(Vector<double> p) const { return negative ? -p[index] : p[index]; }
};

__device__ __forceinline__ Axis axis_of(unsigned axes, unsigned negative, int view) {
    return {int(axes >> (2 * view) & 3u), (negative >> view & 1u) != 0};
}

__device__ __forceinline__ Axis right_of(int view) { return axis_of(RIGHT_AXES, RIGHT_NEGATIVE, view); }
__device__ __forceinline__ Axis down_of(int view) { return axis_of(DOWN_AXES, DOWN_NEGATIVE, view); }
__device__ __forceinline__ Axis forward_of(int view) { return axis_of(FORWARD_AXES, FORWARD_NEGATIVE, view); }
