// Mesh to planes, the CPU's bit for bit (src/hexplane/rasterize/mod.rs holds the contract).
//
// Visibility is a 64-bit atomic minimum on `bits(depth) << 32 | triangle`: exact, whatever the order. One thread draws
// a triangle of a small bounding box; larger ones go into a queue of tiles that warps share evenly, so that even one
// triangle that fills a plane keeps the whole card busy. Three screens are drawn, each for two opposite views.
//
// Host. V vertices within +-4 (`check` of the module), triangles with corners < V, planes of N <= 4096 pixels, so that
// those of a view are counted in int. Triangles are drawn in batches of T <= 2^23. Buffers beside the mesh:
//   snapped i32 [V, 3]    faces  f32 [all, 3]  keys  u64 [3, 2, N, N] (near, far)    counts u32 [2]
//   tiles   u64 [3, T]    queued u32 [3, T]    queue u64 [3]
//   planes  f32 [6, N, N, 4] at a multiple of 16 bytes, or [6, N, N] of binary ones
// 1. fill keys with 0xFF bytes, counts with 0
// 2. rasterize_snap, and for continuous planes rasterize_faces
// 3. for each batch: fill queue with 0; rasterize_small, then rasterize_large
// 4. rasterize_count, then rasterize_resolve           (continuous), or rasterize_resolve_binary
// No step waits for the host.

#include "rasterize.cuh"

// Pixels of a bounding box that one thread walks: about four times those of a triangle of a head of 20,000 at N = 512,
// so that queueing is the exception.
constexpr int SMALL = 128;
// A tile is drawn by a warp, two rows at a time: a row of keys is a 128-byte line.
constexpr int TILE_COLUMNS = 16;
constexpr int TILE_ROWS = 32;
// A word of `queue`: entries in the low bits, tiles of all entries in the others. One addition draws an entry and its
// first tile, so the entries are in the order of their tiles. 2^23 triangles of 2^15 tiles stay below 2^38.
constexpr int ENTRY_BITS = 26;
constexpr unsigned long long ENTRY_MASK = (1ull << ENTRY_BITS) - 1;

__device__ __forceinline__ int tile_columns(const Outline& outline) {
    return (outline.column_end - outline.column + TILE_COLUMNS - 1) / TILE_COLUMNS;
}

__device__ __forceinline__ int tile_rows(const Outline& outline) {
    return (outline.row_end - outline.row + TILE_ROWS - 1) / TILE_ROWS;
}

// Offers a triangle's depth at a pixel to the near view and to the far one. `keys`: of the screen.
__device__ __forceinline__ void offer(unsigned long long* keys, int size, int row, int column, float depth,
                                      unsigned triangle) {
    if (!(depth >= 0.0f && depth <= 1.0f)) return;
    long long plane = (long long)size * size;
    unsigned long long* near = keys + row * size + column;
    atomicMin(near, (unsigned long long)__float_as_uint(depth) << 32 | triangle);
    atomicMin(near + plane, (unsigned long long)__float_as_uint(sub(1.0f, depth)) << 32 | triangle);
}

// Vertices on the subpixel grid.
// bound: operations; expect 60 % of it: doubles, so that it is done once a vertex and not once a corner or pixel
// launch: grid (ceil(3 V / 256)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) rasterize_snap(
    const float* __restrict__ positions, // in: vertices [V, 3], world units
    int count,                           // 3 V, below 2^31
    int size,                            // N, pixels along an edge
    int* __restrict__ snapped            // out: [V, 3], subpixels
) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) snapped[i] = snap(double(positions[i]), size);
}

// Geometric unit normals on the side that the winding says; zero for a triangle without area.
// bound: bytes; expect 50 % of it: gathers of vertices, and doubles at 1/64 of the rate
// launch: grid (ceil(T / 256)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) rasterize_faces(
    const float* __restrict__ positions,    // in: vertices [V, 3], world units
    const unsigned* __restrict__ triangles, // in: corners [T, 3]
    int triangle_count,                     // T
    float* __restrict__ faces               // out: [T, 3], unit length or zero
) {
    int triangle = blockIdx.x * blockDim.x + threadIdx.x;
    if (triangle >= triangle_count) return;
    Vector<double> p[3];
    load_corners(positions, triangles, triangle, p);
    Vector<double> normal = cross(p[1] - p[0], p[2] - p[0]);
    double length = root(dot(normal, normal));
    for (int axis = 0; axis < 3; axis++)
        faces[3ll * triangle + axis] = length > 0.0 ? float(quotient(normal[axis], length)) : 0.0f;
}

// Draws the triangles of small bounding boxes, queues the others.
// bound: operations; expect 20 % of it: boxes of a warp differ in size, and depth is in doubles
// launch: grid (ceil(T / 128), 3), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) rasterize_small(
    const float* __restrict__ positions,    // in: vertices [V, 3], world units
    const int* __restrict__ snapped,        // in: vertices [V, 3], subpixels
    const unsigned* __restrict__ triangles, // in: corners [T, 3]
    int triangle_count,                     // T
    unsigned first,                         // number of the first triangle
    int size,                               // N, pixels along an edge
    unsigned long long* __restrict__ keys,  // inout: [3, 2, N, N], visibility keys
    unsigned long long* __restrict__ tiles, // out: [3, T], first tile of each queued triangle
    unsigned* __restrict__ queued,          // out: [3, T], queued triangles
    unsigned long long* __restrict__ queue  // inout: [3], entries and tiles (see ENTRY_BITS)
) {
    int triangle = blockIdx.x * blockDim.x + threadIdx.x;
    if (triangle >= triangle_count) return;
    Screen screen(blockIdx.y, size);
    Outline outline;
    if (!outline_of(screen, snapped, triangles, triangle, outline)) return;
    int width = outline.column_end - outline.column;
    if (width * (outline.row_end - outline.row) > SMALL) {
        unsigned long long count = tile_columns(outline) * tile_rows(outline);
        unsigned long long drawn = atomicAdd(queue + blockIdx.y, count << ENTRY_BITS | 1ull);
        long long entry = (long long)blockIdx.y * triangle_count + (long long)(drawn & ENTRY_MASK);
        tiles[entry] = drawn >> ENTRY_BITS;
        queued[entry] = triangle;
        return;
    }
    keys += 2ll * blockIdx.y * size * size;
    Vector<double> p[3];
    load_corners(positions, triangles, triangle, p);
    DepthPlane depth(screen, p);
    Edge edges[3];
    for (int k = 0; k < 3; k++) {
        edges[k] = outline.edge(k, outline.row);
        edges[k].value -= edges[k].bias();
    }
    for (int row = outline.row; row < outline.row_end; row++) {
        long long a = edges[0].value, b = edges[1].value, c = edges[2].value;
        for (int column = outline.column; column < outline.column_end; column++) {
            // The sign bit of the disjunction: all three are at least zero.
            if ((a | b | c) >= 0) offer(keys, size, row, column, depth.at(row, column), first + triangle);
            a += edges[0].step, b += edges[1].step, c += edges[2].step;
        }
        for (int k = 0; k < 3; k++) edges[k].value += edges[k].row_step;
    }
}

// One tile of a queued triangle, by a warp.
__device__ void draw_tile(const Outline& outline, const DepthPlane& depth, unsigned long long* keys, int size, int tile,
                          unsigned triangle) {
    int lane = threadIdx.x % 32, across = tile_columns(outline);
    int left = outline.column + tile % across * TILE_COLUMNS;
    int top = outline.row + tile / across * TILE_ROWS;
    int column = left + lane % TILE_COLUMNS;
    int end = min(top + TILE_ROWS, outline.row_end);
    long long value[3], row_step[3];
    for (int k = 0; k < 3; k++) {
        Edge edge = outline.edge(k, top);
        long long corner = edge.value - edge.bias() + edge.step * (left - outline.column);
        long long reach_x = edge.step > 0 ? edge.step * (TILE_COLUMNS - 1) : 0;
        long long reach_y = edge.row_step > 0 ? edge.row_step * (TILE_ROWS - 1) : 0;
        // The largest value in the tile is negative: the edge leaves all of it outside.
        if (corner + reach_x + reach_y < 0) return;
        value[k] = corner + edge.step * (lane % TILE_COLUMNS) + edge.row_step * (lane / TILE_COLUMNS);
        row_step[k] = edge.row_step * (32 / TILE_COLUMNS);
    }
    for (int row = top + lane / TILE_COLUMNS; row < end; row += 32 / TILE_COLUMNS) {
        bool inside = (value[0] | value[1] | value[2]) >= 0 && column < outline.column_end;
        if (inside) offer(keys, size, row, column, depth.at(row, column), triangle);
        for (int k = 0; k < 3; k++) value[k] += row_step[k];
    }
}

// Draws the queued triangles: each warp takes an equal share of consecutive tiles.
// bound: operations; expect 30 % of it: half of the pixels of the boxes are outside, and depth is in doubles
// launch: grid (168, 3) (two waves of an RTX 3060; any grid does), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) rasterize_large(
    const float* __restrict__ positions,          // in: vertices [V, 3], world units
    const int* __restrict__ snapped,              // in: vertices [V, 3], subpixels
    const unsigned* __restrict__ triangles,       // in: corners [T, 3]
    int triangle_count,                           // T
    unsigned first,                               // number of the first triangle
    int size,                                     // N, pixels along an edge
    unsigned long long* __restrict__ keys,        // inout: [3, 2, N, N], visibility keys
    const unsigned long long* __restrict__ tiles, // in: [3, T], first tile of each queued triangle
    const unsigned* __restrict__ queued,          // in: [3, T], queued triangles
    const unsigned long long* __restrict__ queue  // in: [3], entries and tiles (see ENTRY_BITS)
) {
    long long entries = queue[blockIdx.y] & ENTRY_MASK, total = queue[blockIdx.y] >> ENTRY_BITS;
    int warps = gridDim.x * (blockDim.x / 32), warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    long long share = (total + warps - 1) / warps;
    long long tile = warp * share, end = min(tile + share, total);
    if (tile >= end) return;
    tiles += (long long)blockIdx.y * triangle_count;
    queued += (long long)blockIdx.y * triangle_count;
    keys += 2ll * blockIdx.y * size * size;
    // The last entry that begins at or before the first tile.
    long long entry = 0, past = entries;
    while (past - entry > 1) {
        long long middle = (entry + past) / 2;
        if ((long long)tiles[middle] <= tile) entry = middle;
        else past = middle;
    }
    Screen screen(blockIdx.y, size);
    for (; tile < end; entry++) {
        unsigned triangle = queued[entry];
        Vector<double> p[3];
        load_corners(positions, triangles, triangle, p);
        Outline outline;
        outline_of(screen, snapped, triangles, triangle, outline);
        DepthPlane depth(screen, p);
        long long start = tiles[entry];
        long long last = min(start + tile_columns(outline) * tile_rows(outline), end);
        for (; tile < last; tile++) draw_tile(outline, depth, keys, size, int(tile - start), first + triangle);
    }
}

// Whether the winding of a triangle turns its back on the camera. `plane`: 2 * screen, + 1 for the far view.
__device__ __forceinline__ bool shows_inside(Vector<float> face, int plane) {
    float forward = forward_of(plane / 2 * 2).along(face);
    return (plane % 2 == 0 ? -forward : forward) < 0.0f;
}

// Counts the pixels that show a surface, and those of them that show its inside by the winding. Integer sums: the same
// in any order.
// bound: bytes; expect 60 % of it: keys are streamed, faces gathered
// launch: grid (84, 6) (any x does), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) rasterize_count(
    const unsigned long long* __restrict__ keys, // in: [3, 2, N, N], visibility keys
    const float* __restrict__ faces,             // in: [T, 3], unit length or zero
    int size,                                    // N, pixels along an edge
    unsigned* __restrict__ counts                // inout: [2], pixels hit, and of those inside
) {
    int pixels = size * size;
    keys += (long long)blockIdx.y * pixels;
    unsigned hits = 0, inside = 0;
    for (int pixel = blockIdx.x * blockDim.x + threadIdx.x; pixel < pixels; pixel += gridDim.x * blockDim.x) {
        unsigned long long key = keys[pixel];
        if (key == EMPTY) continue;
        hits++;
        inside += shows_inside(vector_at(faces, unsigned(key)), blockIdx.y);
    }
    for (int step = 16; step > 0; step /= 2) {
        hits += __shfl_xor_sync(~0u, hits, step);
        inside += __shfl_xor_sync(~0u, inside, step);
    }
    if (threadIdx.x % 32 == 0 && hits > 0) {
        atomicAdd(counts, hits);
        atomicAdd(counts + 1, inside);
    }
}

// The key that an output pixel shows, and where on the screen: far views are mirror images.
__device__ __forceinline__ unsigned long long key_at(const unsigned long long* keys, int size, int view, int pixel,
                                                     int& row, int& column) {
    row = pixel / size, column = pixel % size;
    if (view == 1) row = size - 1 - row;
    else if (view % 2 == 1) column = size - 1 - column;
    return keys[((long long)view * size + row) * size + column];
}

// Writes depth and outward unit normal of every pixel, (1, 0, 0, 0) where nothing is hit.
// bound: bytes; expect 40 % of it: 8 read and 16 written a pixel, and the gathers of the visible triangles
// launch: grid (ceil(N * N / 128), 6), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) rasterize_resolve(
    const int* __restrict__ snapped,             // in: vertices [V, 3], subpixels
    const unsigned* __restrict__ triangles,      // in: corners [T, 3]
    const float* __restrict__ normals,           // in: vertex normals [V, 3]; not read where interpolated is 0
    int interpolated,                            // 1 between the vertices' normals, 0 one a triangle
    const float* __restrict__ faces,             // in: [T, 3], unit length or zero
    const unsigned* __restrict__ counts,         // in: [2], pixels hit, and of those inside
    const unsigned long long* __restrict__ keys, // in: [3, 2, N, N], visibility keys
    int size,                                    // N, pixels along an edge
    float* __restrict__ planes                   // out: [6, N, N, 4], depth in [0,1] and normal
) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, view = blockIdx.y;
    if (pixel >= size * size) return;
    int row, column;
    unsigned long long key = key_at(keys, size, view, pixel, row, column);
    float4* out = (float4*)planes + (long long)view * size * size + pixel;
    if (key == EMPTY) {
        *out = make_float4(1.0f, 0.0f, 0.0f, 0.0f);
        return;
    }
    unsigned triangle = unsigned(key);
    Vector<float> face = vector_at(faces, triangle);
    unsigned hits = counts[0], inside = counts[1];
    bool winding = 5 * inside <= 2 * hits, inverted = 5 * inside >= 3 * hits;
    if (face.x == 0.0f && face.y == 0.0f && face.z == 0.0f) {
        Axis forward = forward_of(view);
        float towards = forward.negative ? 1.0f : -1.0f;
        face = {forward.index == 0 ? towards : 0.0f, forward.index == 1 ? towards : 0.0f,
                forward.index == 2 ? towards : 0.0f};
    } else if (!winding && (inverted || shows_inside(face, view))) {
        face = {-face.x, -face.y, -face.z};
    }
    // -0 becomes +0, as on the CPU.
    Vector<float> n = face + Vector<float>{0.0f, 0.0f, 0.0f};
    if (interpolated != 0) {
        Outline outline;
        outline_of(Screen(view / 2, size), snapped, triangles, triangle, outline);
        const unsigned* corner = triangles + 3ll * triangle;
        Vector<float> corners[3] = {vector_at(normals, corner[0]),
                                    vector_at(normals, corner[outline.swapped ? 2 : 1]),
                                    vector_at(normals, corner[outline.swapped ? 1 : 2])};
        n = interpolated_normal(outline, corners, face, row, column);
    }
    float scale = quotient(1.0f, root(dot(n, n)));
    *out = make_float4(__uint_as_float(unsigned(key >> 32)), mul(n.x, scale), mul(n.y, scale), mul(n.z, scale));
}

// Writes 1 where a view hits a surface, else 0.
// bound: bytes; expect 80 % of it: 8 read and 4 written a pixel
// launch: grid (ceil(N * N / 256), 6), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) rasterize_resolve_binary(
    const unsigned long long* __restrict__ keys, // in: [3, 2, N, N], visibility keys
    int size,                                    // N, pixels along an edge
    float* __restrict__ planes                   // out: [6, N, N], 0 or 1
) {
    int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= size * size) return;
    int row, column;
    bool hit = key_at(keys, size, blockIdx.y, pixel, row, column) != EMPTY;
    planes[(long long)blockIdx.y * size * size + pixel] = hit ? 1.0f : 0.0f;
}
