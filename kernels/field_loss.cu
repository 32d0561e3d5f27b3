// Signed-distance supervision of planes: mean |f(p) - clamp(sdf(p), -tau, tau)| (src/ops/field_loss.rs), the CPU's bits
// but for the last one of the mean.
//
// The gradient is gathered, not scattered: every point hangs its four contributions into lists, one a pixel, and every
// pixel adds up its own in the order of the points. The lists are linked by integer exchanges, in whatever order, and
// sorted before they are summed. Reading the heads costs a quarter of writing the zeros, which has to be done anyway.
//
// Host. B meshes, planes of N >= 2 pixels (N * N < 2^31), P points a mesh, 4 B P < 2^31. Buffers:
//   planes f32 [6 B, N, N, 4], its gradient alike, both at multiples of 16 bytes
//   points f32 [B, P, 3]   distances f32 [B, P]   codes (saved) f32 [B, P]   loss f32 [1]
//   forward workspace   floors f32 [6 B, N, N]    errors f32 [B, P]
//   backward workspace  heads  i32 [6 B, N, N]    next   i32 [4 B P]
// forward:  field_loss_forward_columns, field_loss_forward_rows, field_loss_forward, field_loss_forward_mean
// backward: fill heads with 0xFF bytes, field_loss_backward_link, field_loss_backward

#include "field.cuh"
#include "lists.cuh"

// Lanes that share a point, one a view and two idle: a power of two keeps the exchange within a warp.
constexpr int LANES = 8;
constexpr int MEAN_THREADS = 256;

// Pixels to the nearest foreground in the same column.
// bound: bytes; expect 60 % of it: 16 a pixel, the windows of neighbouring segments overlap in the cache
// launch: grid (ceil(N / 128), ceil(N / 32), 6 B), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) field_loss_forward_columns(
    const float* __restrict__ planes, // in: [6 B, N, N, 4], depth and normal
    int size,                         // N, pixels along an edge
    float tau,                        // clamp of the field, world units
    float* __restrict__ floors        // out: [6 B, N, N], pixels
) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= size) return;
    long long view = (long long)blockIdx.z * size * size;
    column_distances((const float4*)planes + view, size, reach_of(size, tau), column, blockIdx.y * SEGMENT,
                     floors + view);
}

// Distances to the silhouette from the distances within columns, in place.
// bound: bytes; expect 60 % of it: 8 a pixel, and a window of a few columns from shared memory
// launch: grid (N, 6 B), block (128), dynamic shared 4 N bytes
extern "C" __global__ void __launch_bounds__(128) field_loss_forward_rows(
    int size,                  // N, pixels along an edge
    float tau,                 // clamp of the field, world units
    float* __restrict__ floors // inout: [6 B, N, N], pixels; then world units, -tau on the foreground
) {
    extern __shared__ float squares[];
    floors += ((long long)blockIdx.y * size + blockIdx.x) * size;
    for (int x = threadIdx.x; x < size; x += blockDim.x) squares[x] = mul(floors[x], floors[x]);
    __syncthreads();
    int reach = reach_of(size, tau);
    for (int x = threadIdx.x; x < size; x += blockDim.x)
        floors[x] = silhouette_distance(squares, size, reach, tau, x);
}

// The field at the points, by which view it was decided, and its error.
// bound: bytes; expect 25 % of it: 24 gathers of 20 a point, which share few sectors
// launch: grid (ceil(B P / 16)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) field_loss_forward(
    const float* __restrict__ planes,    // in: [6 B, N, N, 4], depth and normal
    const float* __restrict__ floors,    // in: [6 B, N, N], silhouette distance, world units
    const float* __restrict__ points,    // in: [B, P, 3], world units
    const float* __restrict__ distances, // in: [B, P], signed, world units
    int point_count,                     // P, of one mesh
    int total,                           // B P
    int size,                            // N, pixels along an edge
    float tau,                           // clamp of the field, world units
    float* __restrict__ codes,           // out: [B, P], (view + 1) with the sign of the error, or 0
    float* __restrict__ errors           // out: [B, P], magnitude of the error, world units
) {
    int point = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, view = threadIdx.x % LANES;
    // Lanes beyond the last point do its work once more, so that a warp exchanges as a whole.
    bool beyond = point >= total;
    if (beyond) point = total - 1;
    float value = -LARGEST_FINITE;
    if (view < VIEWS) {
        Vector<float> p = vector_at(points, point);
        long long plane = (6ll * (point / point_count) + view) * size * size;
        Footprint footprint(view, p, size);
        float w = forward_of(view).along(p), votes[4];
        for (int k = 0; k < 4; k++) {
            long long pixel = plane + footprint.corner(k);
            votes[k] = tap_of(((const float4*)planes)[pixel], view, floors[pixel], tau).vote(w, tau);
        }
        // Larger than nothing, unless the point is not a number.
        value = larger(footprint.mix(votes), value);
    }
    // The largest vote, of the first view that has it.
    for (int step = 1; step < LANES; step *= 2) {
        float other = __shfl_xor_sync(~0u, value, step);
        int other_view = __shfl_xor_sync(~0u, view, step);
        if (other > value || (other == value && other_view < view)) value = other, view = other_view;
    }
    if (beyond || threadIdx.x % LANES != 0) return;
    // Not a number stays one, and shows in the loss.
    float truth = distances[point];
    truth = truth < -tau ? -tau : truth > tau ? tau : truth;
    float difference = sub(value, truth);
    errors[point] = fabsf(difference);
    codes[point] = difference > 0.0f ? float(view + 1) : difference < 0.0f ? -float(view + 1) : 0.0f;
}

// The mean of the errors, in doubles and in a fixed order.
// bound: bytes; expect 5 % of it: one block, a few microseconds for the points of a step
// launch: grid (1), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(MEAN_THREADS) field_loss_forward_mean(
    const float* __restrict__ errors, // in: [B, P], world units
    int total,                        // B P
    float* __restrict__ loss          // out: [1], world units
) {
    __shared__ double sums[MEAN_THREADS];
    double sum = 0.0;
    for (int i = threadIdx.x; i < total; i += MEAN_THREADS) sum += double(errors[i]);
    sums[threadIdx.x] = sum;
    for (int half = MEAN_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    }
    if (threadIdx.x == 0) *loss = float(sums[0] / double(total));
}

// Hangs the contributions of every point into the lists of the four pixels that its view mixed. Contribution 4 i + k is
// that of point i to corner k of its footprint.
// bound: bytes; expect 25 % of it: four scattered exchanges a point
// launch: grid (ceil(B P / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) field_loss_backward_link(
    const float* __restrict__ points, // in: [B, P, 3], world units
    const float* __restrict__ codes,  // in: [B, P], (view + 1) with the sign of the error, or 0
    int point_count,                  // P, of one mesh
    int total,                        // B P
    int size,                         // N, pixels along an edge
    int* __restrict__ heads,          // inout: [6 B, N, N], first contribution of each pixel, or -1
    int* __restrict__ next            // out: [4 B P], the contribution after each one, or -1
) {
    int point = blockIdx.x * blockDim.x + threadIdx.x;
    if (point >= total) return;
    int view = int(fabsf(codes[point])) - 1;
    if (view < 0) return;
    Footprint footprint(view, vector_at(points, point), size);
    heads += (6ll * (point / point_count) + view) * size * size;
    for (int k = 0; k < 4; k++) next[4 * point + k] = atomicExch(heads + footprint.corner(k), 4 * point + k);
}

// The derivative of a pixel's vote on a point at world depth w by its (D, N).
__device__ __forceinline__ float4 vote_gradient(float4 pixel, int view, float w, float tau) {
    Tap tap = tap_of(pixel, view, -tau, tau);
    float distance = sub(tap.depth, w);
    if (tap.slope == 0.0f || fabsf(mul(distance, tap.slope)) >= tau) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    Vector<float> n = {pixel.y, pixel.z, pixel.w}, g = {0.0f, 0.0f, 0.0f};
    float norm = root(dot(n, n));
    Axis forward = forward_of(view);
    float away = quotient(forward.along(n), norm), one = forward.negative ? -1.0f : 1.0f;
    if (-away > LEAST_SLOPE) {
        // d(-n . forward)/dN with n = N / |N|.
        auto slope = [&](int axis) {
            float along = axis == forward.index ? one : 0.0f;
            return mul(quotient(sub(quotient(mul(away, n[axis]), norm), along), norm), distance);
        };
        g = {slope(0), slope(1), slope(2)};
    }
    return make_float4(mul(2.0f, tap.slope), g.x, g.y, g.z);
}

__device__ __forceinline__ float4 plus(float4 sum, float factor, float4 g) {
    return make_float4(add(sum.x, mul(factor, g.x)), add(sum.y, mul(factor, g.y)), add(sum.z, mul(factor, g.z)),
                       add(sum.w, mul(factor, g.w)));
}

// The gradient of the loss by every pixel: the contributions in its list, in the order of the points.
// bound: bytes; expect 80 % of it: 4 read and 16 written a pixel, lists are rare
// launch: grid (ceil(N * N / 128), 6 B), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) field_loss_backward(
    const float* __restrict__ planes,          // in: [6 B, N, N, 4], depth and normal
    const float* __restrict__ points,          // in: [B, P, 3], world units
    const float* __restrict__ codes,           // in: [B, P], (view + 1) with the sign of the error, or 0
    const int* __restrict__ heads,             // in: [6 B, N, N], first contribution of each pixel, or -1
    int* __restrict__ next,                    // inout: [4 B P], the contribution after each one, or -1
    const float* __restrict__ output_gradient, // in: [1], by the loss
    int total,                                 // B P
    int size,                                  // N, pixels along an edge
    float tau,                                 // clamp of the field, world units
    int add,                                   // 0 overwrites the gradient, 1 adds to it
    float* __restrict__ gradient               // inout: [6 B, N, N, 4], by the planes
) {
    int local = blockIdx.x * blockDim.x + threadIdx.x, view = blockIdx.y % VIEWS;
    if (local >= size * size) return;
    long long pixel = (long long)blockIdx.y * size * size + local;
    int head = heads[pixel];
    float4* slot = (float4*)gradient + pixel;
    if (head < 0) {
        if (add == 0) *slot = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        return;
    }
    float scale = quotient(*output_gradient, float(total));
    float4 value = ((const float4*)planes)[pixel];
    float4 sum = add == 0 ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : *slot;
    for (int entry = sort_list(next, head); entry >= 0; entry = next[entry]) {
        Vector<float> p = vector_at(points, entry / 4);
        float w = forward_of(view).along(p), weight = Footprint(view, p, size).weight(entry % 4);
        float factor = mul(mul(scale, codes[entry / 4] > 0.0f ? 1.0f : -1.0f), weight);
        float4 g = vote_gradient(value, view, w, tau);
        sum = plus(sum, factor, g);
    }
    *slot = sum;
}
