// Distances of points to a triangle mesh, and on which side they are (src/mesh/distance), with the answers of the CPU:
// the same to the last bit but for which of several equally near triangles is found (here the one of the least index).
//
// Eight lanes share a query: a node has eight boxes, a leaf eight triangles, and a component of all eight is one sector
// of memory. What is still to be looked at lies in shared memory.
//
// Host. The tree of src/mesh/distance/bvh.rs with n nodes, m leaves and D levels of nodes; Q points; all in int.
//   boxes     f32 [n, 2, 3, 8]: low, high, in the frame; empty (inf, -inf) in unused lanes
//   children  u32 [n, 8]: index of a node, or bit 31 and that of a leaf
//   corners   f32 [m, 3, 3, 8]: corner, axis, in the frame    weights f32 [m, 8]: 1, -1 or 0
//   indices   u32 [m, 8]: triangles of the mesh
//   dipoles   f32 [n, 7, 8]: centre, moment, far (open meshes only)
//   positions f32 [V, 3], triangles u32 [T, 3]: the mesh in its own units
// The frame is that of `Frame`. S = 7 D + 1 entries of stack a query are enough: a level takes one and adds eight.
// 1. distance_nearest
// 2. for signs: distance_crossings where the surface is closed, else distance_dipoles
// 3. distance_refine
// Points in the order of a Morton curve share what they read.

#include "distance.cuh"

constexpr int QUERIES = 16;

// A query's lanes within the warp.
__device__ __forceinline__ unsigned group_mask() { return 0xFFu << (threadIdx.x % 32 / WIDTH * WIDTH); }

__device__ __forceinline__ unsigned group_ballot(unsigned mask, bool vote) {
    return __ballot_sync(mask, vote) >> (threadIdx.x % 32 / WIDTH * WIDTH) & 0xFFu;
}

// The sum over the group in the order of the lanes.
__device__ __forceinline__ float group_sum(unsigned mask, float value) {
    float sum = 0.0f;
    for (int lane = 0; lane < WIDTH; lane++) sum = add(sum, __shfl_sync(mask, value, lane, WIDTH));
    return sum;
}

// Pushes the values of the lanes in `chosen`, in their order; returns the new height.
__device__ __forceinline__ int push(unsigned* stack, int top, unsigned chosen, unsigned value) {
    int lane = threadIdx.x % WIDTH;
    if ((chosen >> lane & 1u) != 0) stack[top + __popc(chosen & ((1u << lane) - 1))] = value;
    return top + __popc(chosen);
}

// The nearest triangle of each point.
// bound: operations; expect 25 % of it: a leaf costs about 130 a lane; branches of four queries in a warp part
// launch: grid (ceil(Q / 16)), block (128), dynamic shared 128 S bytes
extern "C" __global__ void __launch_bounds__(128) distance_nearest(
    const float* __restrict__ points,      // in: [Q, 3], units of the mesh
    int count,                             // Q
    double centre_x,                       // of the frame, units of the mesh
    double centre_y,                       // of the frame, units of the mesh
    double centre_z,                       // of the frame, units of the mesh
    double scale,                          // of the frame, 1 / unit of the mesh
    const float* __restrict__ boxes,       // in: [n, 2, 3, 8], low and high
    const unsigned* __restrict__ children, // in: [n, 8], nodes and leaves
    const float* __restrict__ corners,     // in: [m, 3, 3, 8], corner and axis
    const unsigned* __restrict__ indices,  // in: [m, 8], triangles of the mesh
    int stack_size,                        // S, entries a query
    unsigned* __restrict__ nearest         // out: [Q], triangle; 0 for a point that is not finite
) {
    extern __shared__ unsigned long long bounded[];
    int query = blockIdx.x * QUERIES + threadIdx.x / WIDTH, lane = threadIdx.x % WIDTH;
    if (query >= count) return;
    unsigned mask = group_mask();
    Vector<float> point = vector_at(points, query);
    // A squared distance over a triangle, or over a node or leaf to look at: ordered like its distance.
    unsigned long long best = 0x7f800000ull << 32;
    unsigned long long* stack = bounded + threadIdx.x / WIDTH * stack_size;
    Vector<float> p = Frame{{centre_x, centre_y, centre_z}, scale}.to(point);
    int top = is_finite(point) ? 1 : 0;
    if (lane == 0 && top == 1) stack[0] = 0;
    while (top > 0) {
        __syncwarp(mask);
        unsigned long long entry = stack[--top];
        __syncwarp(mask);
        // No nearer than what is known.
        if (entry >> 32 >= best >> 32) continue;
        unsigned child = unsigned(entry), index = child & ~LEAF;
        unsigned long long key;
        if ((child & LEAF) != 0) {
            const float* leaf = corners + 9ll * WIDTH * index + lane;
            float distance = to_triangle(p, corner_of(leaf, 0), corner_of(leaf, 1), corner_of(leaf, 2));
            key = (unsigned long long)__float_as_uint(distance) << 32 | indices[WIDTH * index + lane];
            for (int step = 1; step < WIDTH; step *= 2) {
                unsigned long long other = __shfl_xor_sync(mask, key, step);
                key = min(key, other);
            }
            best = min(best, key);
            continue;
        }
        float bound = to_box(p, boxes + 6ll * WIDTH * index + lane);
        key = (unsigned long long)__float_as_uint(bound) << 32 | children[WIDTH * index + lane];
        unsigned chosen = group_ballot(mask, key >> 32 < best >> 32);
        // The nearest is looked at first, so it goes last.
        int rank = 0;
        for (int other = 0; other < WIDTH; other++) {
            unsigned long long theirs = __shfl_sync(mask, key, other, WIDTH);
            rank += (chosen >> other & 1u) != 0 && theirs > key;
        }
        if ((chosen >> lane & 1u) != 0) stack[top + rank] = key;
        top += __popc(chosen);
    }
    if (lane == 0) nearest[query] = unsigned(best);
}

// Which points a closed surface encloses: crossings of the ray along z through the nearer side of the box.
// bound: bytes; expect 20 % of it: boxes of nodes that the ray meets; doubles only where an edge straddles it
// launch: grid (ceil(Q / 16)), block (128), dynamic shared 64 S bytes
extern "C" __global__ void __launch_bounds__(128) distance_crossings(
    const float* __restrict__ points,      // in: [Q, 3], units of the mesh
    int count,                             // Q
    double centre_x,                       // of the frame, units of the mesh
    double centre_y,                       // of the frame, units of the mesh
    double centre_z,                       // of the frame, units of the mesh
    double scale,                          // of the frame, 1 / unit of the mesh
    const float* __restrict__ boxes,       // in: [n, 2, 3, 8], low and high
    const unsigned* __restrict__ children, // in: [n, 8], nodes and leaves
    const float* __restrict__ corners,     // in: [m, 3, 3, 8], corner and axis
    const float* __restrict__ weights,     // in: [m, 8], part in the winding number
    float low_z,                           // of the mesh, in the frame
    float high_z,                          // of the mesh, in the frame
    int stack_size,                        // S, entries a query
    int* __restrict__ inside               // out: [Q], 0 or 1
) {
    extern __shared__ unsigned pending[];
    int query = blockIdx.x * QUERIES + threadIdx.x / WIDTH, lane = threadIdx.x % WIDTH;
    if (query >= count) return;
    unsigned mask = group_mask();
    Vector<float> p = Frame{{centre_x, centre_y, centre_z}, scale}.to(vector_at(points, query));
    bool up = sub(high_z, p.z) < sub(p.z, low_z);
    unsigned* stack = pending + threadIdx.x / WIDTH * stack_size;
    int top = 1, crossings = 0;
    if (lane == 0) stack[0] = 0;
    while (top > 0) {
        __syncwarp(mask);
        unsigned node = stack[--top];
        __syncwarp(mask);
        const float* low = boxes + 6ll * WIDTH * node + lane;
        const float* high = low + 3 * WIDTH;
        unsigned child = children[WIDTH * node + lane];
        bool met = low[0] <= p.x && p.x <= high[0] && low[WIDTH] <= p.y && p.y <= high[WIDTH]
                && (up ? high[2 * WIDTH] >= p.z : low[2 * WIDTH] <= p.z);
        unsigned leaves = group_ballot(mask, met && (child & LEAF) != 0);
        top = push(stack, top, group_ballot(mask, met && (child & LEAF) == 0), child);
        for (; leaves != 0; leaves &= leaves - 1) {
            unsigned index = __shfl_sync(mask, child, __ffs(leaves) - 1, WIDTH) & ~LEAF;
            float weight = weights[WIDTH * index + lane];
            const float* leaf = corners + 9ll * WIDTH * index + lane;
            if (weight != 0.0f)
                crossings +=
                    int(weight) * crossing(p, up, corner_of(leaf, 0), corner_of(leaf, 1), corner_of(leaf, 2));
        }
    }
    for (int step = 1; step < WIDTH; step *= 2) crossings += __shfl_xor_sync(mask, crossings, step);
    if (lane == 0) inside[query] = crossings != 0;
}

// Which points an open surface encloses: the winding number by dipoles, by solid angles near the surface; sums in the
// order of the CPU.
// bound: operations; expect 20 % of it: a leaf costs about 120 a lane; branches of four queries in a warp part
// launch: grid (ceil(Q / 16)), block (128), dynamic shared 64 S bytes
extern "C" __global__ void __launch_bounds__(128) distance_dipoles(
    const float* __restrict__ points,      // in: [Q, 3], units of the mesh
    int count,                             // Q
    double centre_x,                       // of the frame, units of the mesh
    double centre_y,                       // of the frame, units of the mesh
    double centre_z,                       // of the frame, units of the mesh
    double scale,                          // of the frame, 1 / unit of the mesh
    const float* __restrict__ dipoles,     // in: [n, 7, 8], centre, moment, squared distance beyond which it stands
    const unsigned* __restrict__ children, // in: [n, 8], nodes and leaves
    const float* __restrict__ corners,     // in: [m, 3, 3, 8], corner and axis
    const float* __restrict__ weights,     // in: [m, 8], part in the winding number
    int stack_size,                        // S, entries a query
    int* __restrict__ inside               // out: [Q], 0 or 1
) {
    extern __shared__ unsigned pending[];
    int query = blockIdx.x * QUERIES + threadIdx.x / WIDTH, lane = threadIdx.x % WIDTH;
    if (query >= count) return;
    unsigned mask = group_mask();
    Vector<float> p = Frame{{centre_x, centre_y, centre_z}, scale}.to(vector_at(points, query));
    unsigned* stack = pending + threadIdx.x / WIDTH * stack_size;
    int top = 1;
    float angle = 0.0f;
    if (lane == 0) stack[0] = 0;
    while (top > 0) {
        __syncwarp(mask);
        unsigned node = stack[--top];
        __syncwarp(mask);
        const float* dipole = dipoles + 7ll * WIDTH * node + lane;
        unsigned child = children[WIDTH * node + lane];
        Vector<float> d = corner_of(dipole, 0) - p;
        float d2 = dot(d, d), far = dipole[6 * WIDTH];
        float value = quotient(dot(d, corner_of(dipole, 1)), mul(larger(d2, SMALLEST_NORMAL), root(d2)));
        angle = add(angle, group_sum(mask, d2 > far ? value : 0.0f));
        unsigned leaves = group_ballot(mask, d2 < far && (child & LEAF) != 0);
        top = push(stack, top, group_ballot(mask, d2 < far && (child & LEAF) == 0), child);
        for (; leaves != 0; leaves &= leaves - 1) {
            unsigned index = __shfl_sync(mask, child, __ffs(leaves) - 1, WIDTH) & ~LEAF;
            const float* leaf = corners + 9ll * WIDTH * index + lane;
            float part = solid_angle(p, corner_of(leaf, 0), corner_of(leaf, 1), corner_of(leaf, 2));
            angle = add(angle, group_sum(mask, mul(mul(2.0f, weights[WIDTH * index + lane]), part)));
        }
    }
    if (lane == 0) inside[query] = fabsf(mul(angle, 0.25f * INVERSE_PI)) > 0.5f;
}

__device__ Vector<double> nearest_on_edge(Vector<double> p, Vector<double> from, Vector<double> to) {
    Vector<double> edge = to - from;
    double length2 = dot(edge, edge), t = 0.0;
    if (length2 > 0.0) t = smaller(larger(quotient(dot(p - from, edge), length2), 0.0), 1.0);
    return from + edge * t;
}

__device__ double squared_distance(Vector<double> a, Vector<double> b) {
    Vector<double> d = a - b;
    return dot(d, d);
}

// The nearest point of a triangle, in doubles: the distance is then as exact as its type.
__device__ Vector<double> nearest_of_triangle(Vector<double> p, Vector<double> a, Vector<double> b, Vector<double> c) {
    Vector<double> best = nearest_on_edge(p, a, b);
    Vector<double> others[2] = {nearest_on_edge(p, b, c), nearest_on_edge(p, c, a)};
    for (int i = 0; i < 2; i++)
        if (squared_distance(others[i], p) < squared_distance(best, p)) best = others[i];
    Vector<double> ab = b - a, ac = c - a, ap = p - a, normal = cross(ab, ac);
    double n2 = dot(normal, normal);
    if (!(n2 > 0.0)) return best;
    double s = quotient(dot(cross(ap, ac), normal), n2), t = quotient(dot(cross(ab, ap), normal), n2);
    Vector<double> foot = a + ab * s + ac * t;
    bool within = s >= 0.0 && t >= 0.0 && add(s, t) <= 1.0;
    return within && squared_distance(foot, p) < squared_distance(best, p) ? foot : best;
}

// Distances to the nearest triangles, in doubles and in the units of the mesh.
// bound: operations; expect 60 % of it: about 250 in doubles a point
// launch: grid (ceil(Q / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) distance_refine(
    const float* __restrict__ points,       // in: [Q, 3], units of the mesh
    int count,                              // Q
    const float* __restrict__ positions,    // in: vertices [V, 3], units of the mesh
    const unsigned* __restrict__ triangles, // in: corners [T, 3]
    const unsigned* __restrict__ nearest,   // in: [Q], triangle
    const int* __restrict__ inside,         // in: [Q], 0 or 1; not read where with_sign is 0
    int with_sign,                          // 1 for distances that are negative inside
    float* __restrict__ distances,          // out: [Q], units of the mesh
    float* __restrict__ closest             // out: [Q, 3], nearest points, units of the mesh
) {
    int query = blockIdx.x * blockDim.x + threadIdx.x;
    if (query >= count) return;
    Vector<float> point = vector_at(points, query);
    const unsigned* corner = triangles + 3ll * nearest[query];
    Vector<double> p = widened(point);
    Vector<double> best = nearest_of_triangle(p, widened(vector_at(positions, corner[0])),
                                              widened(vector_at(positions, corner[1])),
                                              widened(vector_at(positions, corner[2])));
    float nan = __uint_as_float(0x7fc00000u), distance = float(root(squared_distance(best, p)));
    if (!is_finite(point)) distance = nan, best = {nan, nan, nan};
    distances[query] = with_sign != 0 && inside[query] != 0 ? -distance : distance;
    for (int axis = 0; axis < 3; axis++) closest[3ll * query + axis] = float(best[axis]);
}
