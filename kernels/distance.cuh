// Distances and solid angles of one triangle, as src/mesh/distance/lanes.rs and winding.rs, to the last bit.
#pragma once

#include "exact.cuh"

// Boxes of a node, triangles of a leaf, and lanes that share a query.
constexpr int WIDTH = 8;
constexpr unsigned LEAF = 1u << 31;
constexpr float HALF_PI = 1.57079632679489661923f;
constexpr float PI = 3.14159265358979323846f;
constexpr float INVERSE_PI = 0.318309886183790671538f;
// Points farther out than this many extents of the mesh are drawn in to it.
constexpr double HORIZON = 1e6;

// `(p - centre) * scale`: the frame in which the hierarchy lives.
struct Frame {
    Vector<double> centre;
    double scale;

    __device__ __forceinline__ Vector<float> to(Vector<float> p) const {
        Vector<double> c = (widened(p) - centre) * scale;
        return {drawn_in(c.x), drawn_in(c.y), drawn_in(c.z)};
    }

    __device__ static __forceinline__ float drawn_in(double c) {
        return float(c < -HORIZON ? -HORIZON : c > HORIZON ? HORIZON : c);
    }
};

__device__ __forceinline__ bool is_finite(Vector<float> p) {
    return fabsf(p.x) <= LARGEST_FINITE && fabsf(p.y) <= LARGEST_FINITE && fabsf(p.z) <= LARGEST_FINITE;
}

// Squared distance to a box; infinite for an empty one. `box`: one lane of [2, 3, 8], low and high.
__device__ __forceinline__ float to_box(Vector<float> p, const float* box) {
    float sum = 0.0f;
    for (int axis = 0; axis < 3; axis++) {
        float low = box[WIDTH * axis], high = box[WIDTH * (3 + axis)];
        float outside = larger(larger(sub(low, p[axis]), sub(p[axis], high)), 0.0f);
        sum = add(sum, mul(outside, outside));
    }
    return sum;
}

__device__ __forceinline__ Vector<float> corner_of(const float* corners, int corner) {
    return {corners[WIDTH * (3 * corner)], corners[WIDTH * (3 * corner + 1)], corners[WIDTH * (3 * corner + 2)]};
}

__device__ __forceinline__ float to_edge(Vector<float> from, Vector<float> edge, float along, float length2) {
    float t = smaller(larger(quotient(along, larger(length2, SMALLEST_NORMAL)), 0.0f), 1.0f);
    Vector<float> d = from - edge * t;
    return dot(d, d);
}

// Squared distance to a triangle: to its edges and, where the foot of the perpendicular lies in it, to its plane.
__device__ __forceinline__ float to_triangle(Vector<float> p, Vector<float> a, Vector<float> b, Vector<float> c) {
    Vector<float> ab = b - a, ac = c - a, ap = p - a, bc = ac - ab, bp = ap - ab;
    float edges = smaller(to_edge(ap, ab, dot(ab, ap), dot(ab, ab)),
                          smaller(to_edge(ap, ac, dot(ac, ap), dot(ac, ac)),
                                  to_edge(bp, bc, dot(bc, bp), dot(bc, bc))));
    // Barycentric coordinates by cross products: needles stay exact.
    Vector<float> normal = cross(ab, ac);
    float v = dot(cross(ap, ac), normal), w = dot(cross(ab, ap), normal), det = dot(normal, normal);
    float scale = quotient(1.0f, larger(det, SMALLEST_NORMAL)), s = mul(v, scale), t = mul(w, scale);
    Vector<float> d = ap - ab * s - ac * t;
    bool inside = v >= 0.0f && w >= 0.0f && add(s, t) <= 1.0f && det > SMALLEST_NORMAL;
    return inside ? smaller(dot(d, d), edges) : edges;
}

// Within 1e-6; 0 at the origin (Abramowitz & Stegun 4.4.49).
__device__ __forceinline__ float arctangent(float y, float x) {
    float ax = fabsf(x), ay = fabsf(y);
    float low = smaller(ax, ay), high = larger(ax, ay);
    float t = quotient(low, larger(high, SMALLEST_NORMAL)), s = mul(t, t);
    const float c[8] = {-0.016165737f, 0.042909615f, -0.07528964f, 0.10656264f,
                        -0.142089f,    0.19993551f,  -0.33333145f, 1.0f};
    float sum = 0.0028662257f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum = add(mul(sum, s), c[i]);
    float first = mul(t, sum);
    float octant = ay > ax ? sub(HALF_PI, first) : first;
    float half = x < 0.0f ? sub(PI, octant) : octant;
    return y < 0.0f ? -half : half;
}

// Solid angle of a triangle seen from p, positive from behind (Van Oosterom & Strackee 1983).
__device__ __forceinline__ float solid_angle(Vector<float> p, Vector<float> a, Vector<float> b, Vector<float> c) {
    a = a - p, b = b - p, c = c - p;
    float la = root(dot(a, a)), lb = root(dot(b, b)), lc = root(dot(c, c));
    float numerator = dot(a, cross(b - a, c - a));
    float denominator = add(add(add(mul(mul(la, lb), lc), mul(dot(a, b), lc)), mul(dot(b, c), la)), mul(dot(c, a), lb));
    return arctangent(numerator, denominator);
}

// What an edge adds to the winding number of the projected triangle at (x, y): half-open, so that a line never slips
// between two triangles.
__device__ __forceinline__ int edge_winding(Vector<float> from, Vector<float> to, float x, float y) {
    bool upward = to.y > y;
    if ((from.y > y) == upward) return 0;
    Vector<double> low = widened(upward ? from : to), high = widened(upward ? to : from);
    double left = sub(mul(sub(high.x, low.x), sub(double(y), low.y)), mul(sub(double(x), low.x), sub(high.y, low.y)));
    return left > 0.0 ? (upward ? 1 : -1) : 0;
}

// The sign of the crossing of a triangle with the vertical line through p, where it lies on the side of p that `up`
// names; 0 where it does not.
__device__ __forceinline__ int crossing(Vector<float> p, bool up, Vector<float> a, Vector<float> b, Vector<float> c) {
    int sign = edge_winding(a, b, p.x, p.y) + edge_winding(b, c, p.x, p.y) + edge_winding(c, a, p.x, p.y);
    if (sign == 0) return 0;
    bool above = p.z < larger(larger(a.z, b.z), c.z);
    if (above && p.z >= smaller(smaller(a.z, b.z), c.z)) {
        Vector<double> from = widened(a), normal = cross(widened(b) - from, widened(c) - from);
        above = mul(dot(normal, from - widened(p)), double(sign)) > 0.0;
    }
    return above == up ? sign : 0;
}
