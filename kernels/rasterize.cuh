// A triangle on the subpixel grid of a screen: coverage, depth and the interpolated normal. The contract is that of
// src/hexplane/rasterize/mod.rs; every step gives the CPU's bits.
#pragma once

#include "views.cuh"

constexpr int SUBPIXELS = 256;
// No surface in this pixel: larger than any key.
constexpr unsigned long long EMPTY = ~0ull;
// The cosine of 60 degrees, squared.
constexpr float COS2_LIMIT = 0.25f;

// A pair of opposite views shares a screen: x right, y down, as the near one (top, front, left) sees it.
struct Screen {
    Axis x, y, depth;
    int size;

    __device__ explicit Screen(int screen, int size)
        : x(right_of(2 * screen)), y(down_of(2 * screen)), depth(forward_of(2 * screen)), size(size) {}
};

// A world coordinate on the subpixel grid of planes of `size` pixels.
__device__ __forceinline__ int snap(double c, int size) {
    return __double2int_rz(add(mul(add(c, 1.0), double(SUBPIXELS * size) / 2.0), 0.5));
}

// The coordinate of a snapped vertex along a screen axis.
__device__ __forceinline__ int on_grid(Axis axis, const int* snapped, int size) {
    int c = snapped[axis.index];
    return axis.negative ? SUBPIXELS * size - c : c;
}

__device__ __forceinline__ double scaled(Axis axis, Vector<double> p, double extent) {
    return mul(add(1.0, axis.along(p)), mul(0.5, extent));
}

// An edge function along a row: `value` at the first column of the bounding box. Integers below 2^53.
struct Edge {
    long long value, step, row_step;

    // 0 for a top or left edge, whose pixels belong to the triangle, 1 for the others.
    __device__ __forceinline__ long long bias() const {
        return step > 0 || (step == 0 && row_step > 0) ? 0 : 1;
    }
};

// A triangle of positive area on the subpixel grid.
struct Outline {
    int x[3], y[3];
    // Whether its corners 1 and 2 are corners 2 and 1 of the mesh's triangle.
    bool swapped;
    // Twice the area, in subpixels squared.
    long long area;
    // Bounding box in pixels: first, past the last.
    int column, column_end, row, row_end;

    // Edge k is opposite corner k.
    __device__ __forceinline__ Edge edge(int k, int at_row) const {
        int from = k == 2 ? 0 : k + 1, to = k == 0 ? 2 : k - 1;
        long long dx = x[to] - x[from], dy = y[to] - y[from];
        long long away_x = column * SUBPIXELS + SUBPIXELS / 2 - x[from];
        long long away_y = at_row * SUBPIXELS + SUBPIXELS / 2 - y[from];
        return {dx * away_y - dy * away_x, -dy * SUBPIXELS, dx * SUBPIXELS};
    }
};

// First and past-the-last pixel whose centre lies within the three coordinates.
__device__ __forceinline__ void centres(const int c[3], int size, int& first, int& end) {
    int low = min(min(c[0], c[1]), c[2]), high = max(max(c[0], c[1]), c[2]);
    first = max((low + SUBPIXELS / 2 - 1) >> 8, 0);
    end = min((high + SUBPIXELS / 2) >> 8, size);
}

// False where the triangle covers no pixel for sure. `snapped`: vertices [V, 3] on the subpixel grid.
__device__ __forceinline__ bool outline_of(const Screen& screen, const int* snapped, const unsigned* triangles,
                                           long long triangle, Outline& out) {
    for (int k = 0; k < 3; k++) {
        const int* vertex = snapped + 3ll * triangles[3 * triangle + k];
        out.x[k] = on_grid(screen.x, vertex, screen.size);
        out.y[k] = on_grid(screen.y, vertex, screen.size);
    }
    centres(out.x, screen.size, out.column, out.column_end);
    centres(out.y, screen.size, out.row, out.row_end);
    long long area = (long long)(out.x[1] - out.x[0]) * (out.y[2] - out.y[0])
                   - (long long)(out.y[1] - out.y[0]) * (out.x[2] - out.x[0]);
    out.swapped = area < 0;
    out.area = area < 0 ? -area : area;
    if (out.swapped) {
        int x = out.x[1], y = out.y[1];
        out.x[1] = out.x[2], out.y[1] = out.y[2];
        out.x[2] = x, out.y[2] = y;
    }
    return out.column < out.column_end && out.row < out.row_end && area != 0;
}

// Depth over the screen: step 4 of the contract.
struct DepthPlane {
    double a, b, x, y, z, low, high;

    __device__ DepthPlane(const Screen& screen, const Vector<double> p[3]) {
        double px[3], py[3], pz[3];
        for (int k = 0; k < 3; k++) {
            px[k] = scaled(screen.x, p[k], screen.size);
            py[k] = scaled(screen.y, p[k], screen.size);
            pz[k] = scaled(screen.depth, p[k], 1.0);
        }
        double dx1 = sub(px[1], px[0]), dy1 = sub(py[1], py[0]), dz1 = sub(pz[1], pz[0]);
        double dx2 = sub(px[2], px[0]), dy2 = sub(py[2], py[0]), dz2 = sub(pz[2], pz[0]);
        double det = sub(mul(dx1, dy2), mul(dx2, dy1));
        a = b = 0.0;
        if (det != 0.0) {
            a = quotient(sub(mul(dz1, dy2), mul(dz2, dy1)), det);
            b = quotient(sub(mul(dx1, dz2), mul(dx2, dz1)), det);
        }
        x = px[0], y = py[0], z = pz[0];
        low = smaller(smaller(pz[0], pz[1]), pz[2]);
        high = larger(larger(pz[0], pz[1]), pz[2]);
    }

    __device__ __forceinline__ float at(int row, int column) const {
        double by = mul(b, sub(add(double(row), 0.5), y));
        double t = add(add(mul(a, sub(add(double(column), 0.5), x)), by), z);
        t = t > low ? t : low;
        return float(t < high ? t : high);
    }
};

__device__ __forceinline__ void load_corners(const float* positions, const unsigned* triangles, long long triangle,
                                             Vector<double> p[3]) {
    for (int k = 0; k < 3; k++) p[k] = widened(vector_at(positions, triangles[3 * triangle + k]));
}

// The normal of a triangle at a pixel, of any length, from the normals at the corners of its outline.
// `face`: the outward geometric normal.
__device__ inline Vector<float> interpolated_normal(const Outline& outline, const Vector<float> corners[3],
                                                    Vector<float> face, int row, int column) {
    // Whether all corners are on one side, within 60 degrees of the face: then so is what lies between.
    float sign = copysignf(1.0f, dot(corners[0], face));
    bool sided = true;
    for (int k = 0; k < 3; k++) {
        float square = dot(corners[k], corners[k]), cosine = mul(sign, dot(corners[k], face));
        sided = sided && square >= 0.25f && square < 4.0f && cosine > 0.0f
             && mul(cosine, cosine) > mul(1.01f * COS2_LIMIT, square);
    }
    float inverse = mul(quotient(1.0f, float(outline.area)), sided ? sign : 1.0f);
    Vector<float> normal = {0.0f, 0.0f, 0.0f}, down = normal, across = normal;
    for (int k = 0; k < 3; k++) {
        Edge edge = outline.edge(k, outline.row);
        normal = normal + corners[k] * mul(float(edge.value), inverse);
        down = down + corners[k] * mul(float(edge.row_step), inverse);
        across = across + corners[k] * mul(float(edge.step), inverse);
    }
    Vector<float> base = normal + down * sub(float(row), float(outline.row));
    Vector<float> n = base + across * sub(float(column), float(outline.column));
    if (sided) return n;
    float square = dot(n, n), cosine = dot(n, face);
    bool near = square > SMALLEST_NORMAL && mul(cosine, cosine) >= mul(COS2_LIMIT, square);
    return near ? n * copysignf(1.0f, cosine) : face;
}
