// Planes to the field that they imply, on a grid and at points (src/hexplane/field), the CPU's bits.
//
// Every pixel is made a tap first (8 bytes); the field at a point is then 24 taps, read through the cache: along a row
// of the grid four views are read side by side, and two give all samples the same four pixels.
//
// Host. Planes of N >= 2 pixels (N * N < 2^31), 0 < tau <= 1, a grid of n >= 2 samples along an edge. Buffers:
//   planes f32 [6, N, N, 4] at a multiple of 16 bytes, or [6, N, N] of binary ones
//   columns f32 [6, N, N] (scratch)    taps f32 [6, N, N, 2] at a multiple of 8 bytes
// continuous: fuse_columns, fuse_taps; binary: fuse_taps_binary; then fuse_grid or fuse_points, as often as wanted.
// A grid that does not fit is taken in slabs of planes of constant z.

#include "field.cuh"

// Pixels to the nearest foreground in the same column.
// bound: bytes; expect 60 % of it: 20 a pixel, the windows of neighbouring segments overlap in the cache
// launch: grid (ceil(N / 128), ceil(N / 32), 6), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) fuse_columns(
    const float* __restrict__ planes, // in: [6, N, N, 4], depth and normal
    int size,                         // N, pixels along an edge
    float tau,                        // clamp of the field, world units
    float* __restrict__ columns       // out: [6, N, N], pixels
) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= size) return;
    long long view = (long long)blockIdx.z * size * size;
    column_distances((const float4*)planes + view, size, reach_of(size, tau), column, blockIdx.y * SEGMENT,
                     columns + view);
}

// The taps of continuous planes.
// bound: bytes; expect 60 % of it: 28 a pixel, and a window of a few columns from shared memory
// launch: grid (N, 6), block (128), dynamic shared 4 N bytes
extern "C" __global__ void __launch_bounds__(128) fuse_taps(
    const float* __restrict__ planes,  // in: [6, N, N, 4], depth and normal
    const float* __restrict__ columns, // in: [6, N, N], pixels to the nearest foreground in the column
    int size,                          // N, pixels along an edge
    float tau,                         // clamp of the field, world units
    float* __restrict__ taps           // out: [6, N, N, 2], world depth and slope
) {
    extern __shared__ float squares[];
    long long row = ((long long)blockIdx.y * size + blockIdx.x) * size;
    for (int x = threadIdx.x; x < size; x += blockDim.x) squares[x] = mul(columns[row + x], columns[row + x]);
    __syncthreads();
    int reach = reach_of(size, tau);
    for (int x = threadIdx.x; x < size; x += blockDim.x) {
        float floor = silhouette_distance(squares, size, reach, tau, x);
        Tap tap = tap_of(((const float4*)planes)[row + x], blockIdx.y, floor, tau);
        ((float2*)taps)[row + x] = make_float2(tap.depth, tap.slope);
    }
}

// The taps of binary planes: tau (1 - 2 B), the silhouette hull.
// bound: bytes; expect 85 % of it: 4 read and 8 written a pixel
// launch: grid (ceil(6 N * N / 256)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) fuse_taps_binary(
    const float* __restrict__ planes, // in: [6, N, N], probability of a hit
    int count,                        // 6 N N
    float tau,                        // clamp of the field, world units
    float* __restrict__ taps          // out: [6, N, N, 2], vote and 0
) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    // What is not a number is no hit.
    float hit = smaller(planes[i] > 0.0f ? planes[i] : 0.0f, 1.0f);
    ((float2*)taps)[i] = make_float2(mul(tau, sub(1.0f, mul(2.0f, hit))), 0.0f);
}

__device__ __forceinline__ float field_at(const float2* taps, int size, float tau, Vector<float> p) {
    float field = -tau;
#pragma unroll
    for (int view = 0; view < VIEWS; view++) {
        Footprint footprint(view, p, size);
        float w = forward_of(view).along(p), votes[4];
        for (int k = 0; k < 4; k++) {
            float2 tap = taps[(long long)view * size * size + footprint.corner(k)];
            votes[k] = Tap{tap.x, tap.y}.vote(w, tau);
        }
        field = larger(field, footprint.mix(votes));
    }
    return field;
}

// The field on planes z0 .. z0 + gridDim.z of a grid that spans [-1,1]^3, borders included.
// bound: operations; expect 40 % of it: about 450 a sample, 24 reads of 8 bytes from the first cache
// launch: grid (ceil(n / 128), n, planes of z), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) fuse_grid(
    const float* __restrict__ taps, // in: [6, N, N, 2], world depth and slope
    int size,                       // N, pixels along an edge
    float tau,                      // clamp of the field, world units
    int samples,                    // n, samples along an edge of the grid
    int z0,                         // first plane of the slab
    float* __restrict__ values      // out: [planes of z, n, n], world units, x fastest
) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y, z = z0 + blockIdx.z;
    if (x >= samples) return;
    float step = quotient(2.0f, float(samples - 1));
    Vector<float> p = {add(-1.0f, mul(step, float(x))), add(-1.0f, mul(step, float(y))),
                       add(-1.0f, mul(step, float(z)))};
    values[((long long)blockIdx.z * samples + y) * samples + x] = field_at((const float2*)taps, size, tau, p);
}

// The field at points.
// bound: bytes; expect 25 % of it: 24 gathers of 8 a point, which share few sectors
// launch: grid (ceil(P / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) fuse_points(
    const float* __restrict__ taps,   // in: [6, N, N, 2], world depth and slope
    int size,                         // N, pixels along an edge
    float tau,                        // clamp of the field, world units
    const float* __restrict__ points, // in: [P, 3], world units, in [-1,1]^3
    int point_count,                  // P
    float* __restrict__ values        // out: [P], world units
) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= point_count) return;
    values[i] = field_at((const float2*)taps, size, tau, vector_at(points, i));
}
