// Occupancy supervision of binary planes: the mean cross entropy between the silhouette hull min_k B_k(u, v) and whether
// a point lies inside (src/ops/silhouette_loss.rs).
//
// The gradient is gathered as in field_loss.cu, whose kernels link the lists and take the mean.
//
// Host. B meshes, planes of N >= 2 pixels (N * N < 2^31), P points a mesh, 4 B P < 2^31. Buffers:
//   planes f32 [6 B, N, N], its gradient alike
//   points f32 [B, P, 3]   distances f32 [B, P]   codes, slopes (saved) f32 [B, P] each   loss f32 [1]
//   forward workspace   errors f32 [B, P]
//   backward workspace  heads  i32 [6 B, N, N]    next   i32 [4 B P]
// forward:  silhouette_loss_forward, field_loss_forward_mean
// backward: fill heads with 0xFF bytes, field_loss_backward_link, silhouette_loss_backward

#include "field.cuh"
#include "lists.cuh"

// Lanes that share a point, one a view and two idle: a power of two keeps the exchange within a warp.
constexpr int LANES = 8;

// The occupancy of the points, by which view it was decided, its error and the slope of that.
// bound: bytes; expect 25 % of it: 24 gathers of 4 a point, which share few sectors
// launch: grid (ceil(B P / 16)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) silhouette_loss_forward(
    const float* __restrict__ planes,    // in: [6 B, N, N], probability of a hit
    const float* __restrict__ points,    // in: [B, P, 3], world units
    const float* __restrict__ distances, // in: [B, P], signed, world units
    int point_count,                     // P, of one mesh
    int total,                           // B P
    int size,                            // N, pixels along an edge
    float clamp,                         // the occupancy is taken within [clamp, 1 - clamp]
    float* __restrict__ codes,           // out: [B, P], view + 1, or 0 where the slope is 0
    float* __restrict__ slopes,          // out: [B, P], derivative of the error by the occupancy
    float* __restrict__ errors           // out: [B, P], cross entropies, nats
) {
    int point = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, view = threadIdx.x % LANES;
    // Lanes beyond the last point do its work once more, so that a warp exchanges as a whole.
    bool beyond = point >= total;
    if (beyond) point = total - 1;
    float value = LARGEST_FINITE;
    if (view < VIEWS) {
        long long plane = (6ll * (point / point_count) + view) * size * size;
        Footprint footprint(view, vector_at(points, point), size);
        float hits[4];
        for (int k = 0; k < 4; k++) {
            float b = planes[plane + footprint.corner(k)];
            hits[k] = b < 0.0f ? 0.0f : b > 1.0f ? 1.0f : b;
        }
        value = smaller(footprint.mix(hits), value);
    }
    // The smallest occupancy, of the first view that has it.
    for (int step = 1; step < LANES; step *= 2) {
        float other = __shfl_xor_sync(~0u, value, step);
        int other_view = __shfl_xor_sync(~0u, view, step);
        if (other < value || (other == value && other_view < view)) value = other, view = other_view;
    }
    if (beyond || threadIdx.x % LANES != 0) return;
    float most = sub(1.0f, clamp);
    bool free = value >= clamp && value <= most, inside = distances[point] < 0.0f;
    float occupancy = value < clamp ? clamp : value > most ? most : value;
    float likelihood = inside ? occupancy : sub(1.0f, occupancy);
    errors[point] = -logf(likelihood);
    slopes[point] = quotient(inside ? -1.0f : 1.0f, likelihood);
    codes[point] = free ? float(view + 1) : 0.0f;
}

// The gradient of the loss by every pixel: the contributions in its list, in the order of the points.
// bound: bytes; expect 80 % of it: 4 read and 4 written a pixel, lists are rare
// launch: grid (ceil(N * N / 128), 6 B), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) silhouette_loss_backward(
    const float* __restrict__ planes,          // in: [6 B, N, N], probability of a hit
    const float* __restrict__ points,          // in: [B, P, 3], world units
    const float* __restrict__ slopes,          // in: [B, P], derivative of the error by the occupancy
    const int* __restrict__ heads,             // in: [6 B, N, N], first contribution of each pixel, or -1
    int* __restrict__ next,                    // inout: [4 B P], the contribution after each one, or -1
    const float* __restrict__ output_gradient, // in: [1], by the loss
    int total,                                 // B P
    int size,                                  // N, pixels along an edge
    int add,                                   // 0 overwrites the gradient, 1 adds to it
    float* __restrict__ gradient               // inout: [6 B, N, N], by the planes
) {
    int local = blockIdx.x * blockDim.x + threadIdx.x, view = blockIdx.y % VIEWS;
    if (local >= size * size) return;
    long long pixel = (long long)blockIdx.y * size * size + local;
    int head = heads[pixel];
    float hit = planes[pixel], sum = add == 0 ? 0.0f : gradient[pixel];
    if (head >= 0 && hit >= 0.0f && hit <= 1.0f) {
        float scale = quotient(*output_gradient, float(total));
        for (int entry = sort_list(next, head); entry >= 0; entry = next[entry]) {
            float weight = Footprint(view, vector_at(points, entry / 4), size).weight(entry % 4);
            sum = ::add(sum, mul(mul(scale, slopes[entry / 4]), weight));
        }
    }
    gradient[pixel] = sum;
}
