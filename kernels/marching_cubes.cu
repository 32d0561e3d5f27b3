// The surface where a volume crosses a level: the mesh of src/mesh/marching_cubes (the same tables, the same decisions,
// the same positions to the last bit), with other numbers for vertices and triangles.
//
// One bit a sample says which side it is on; all counting is done on words of 32. A vertex belongs to the edge it lies
// on, an edge to its sample at the high end: its number is that of its word and the bits before it there (x edges,
// y edges, z edges), so that cells find their vertices without a table. The few cells whose signs leave the surface
// open are listed and polygonised by themselves: their triangles come last, and so do their inner vertices.
//
// A grid is taken in slabs of planes of constant z. The buffers of a slab hold P planes of signs: those that it owns,
// and before them, in every slab but the first, the last two planes of the slab before (`first` is 2 then, else 0). A
// vertex or cell belongs to the plane of its high end. Vertices are numbered from the plane before the owned ones on,
// so that cells find those of that plane too; `base` makes numbers of the slab numbers of the mesh.
//
// Host. nx, ny >= 2 samples; z0 is the plane of the grid that the slab's first plane of signs belongs to, and nz the
// samples along z from there on. The grid's last plane of signs lies beyond its samples. A row has W = nx / 32 + 1
// words, a slab L = W (ny + 1) P of them, 32 L < 2^32, and less than 2^31 values. C(k) = ceil(k / 256). Buffers:
//   values f32 [planes, ny, nx], from the plane before the owned ones on    signs u32 [L]    counts u32 [3, L]
//   bases u64 [3, C(L) + 1]    invalid u64 [1]
//   placement f64 [3, 3]: origin, spacing and margins of the axes, as `Placement::new` computes them
// 1. copy the two planes of signs of the slab before; fill invalid with 0xFF bytes; marching_cubes_signs,
//    marching_cubes_count; marching_cubes_scan (K = 3, length L), marching_cubes_scan_bases
// 2. read invalid (the first sample that is not a number, or all ones) and the last base of each row: E vertices on
//    edges, `skip` of them in the plane before, T triangles of plain cells, O open cells. Allocate open_cells u32 [O],
//    patches u32 [O, 30], centres f32 [O, 9, 3], open_counts u32 [2, O], open_bases u64 [2, C(O) + 1]
// 3. where O > 0: marching_cubes_list, marching_cubes_open; marching_cubes_scan (K = 2, length O),
//    marching_cubes_scan_bases; read the last bases: P triangles and Q vertices of open cells
// 4. refuse more than 2^31 vertices; allocate positions f32 [E - skip, 3], triangles u32 [T, 3], inner f32 [Q, 3],
//    inner_triangles u32 [P, 3]; marching_cubes_vertices, marching_cubes_triangles, and where O > 0
//    marching_cubes_merge

#include "marching_cubes_cell.cuh"

constexpr int CHUNK = 256;
constexpr unsigned OPEN = 15;
constexpr double BEYOND = 3.4028234663852886e38;

// Samples, and the words of their signs. Edges and cells are named by their sample at the high end: index 0 comes from
// beyond the grid, index n leads beyond it.
struct Grid {
    int nx, ny, nz, first, planes;
    const unsigned* signs;

    __device__ int words() const { return nx / 32 + 1; }
    __device__ int word_count() const { return words() * (ny + 1) * planes; }
    __device__ int plane_of(int word) const { return word / words() / (ny + 1); }
    __device__ int word_of(int x, int y, int z) const { return (z * (ny + 1) + y) * words() + x / 32; }

    // The signs of samples x = 32 w .. of row (y, z), set inside; none beyond the grid.
    __device__ unsigned row(int w, int y, int z) const {
        return y < 0 || z < 0 ? 0u : signs[(z * (ny + 1) + y) * words() + w];
    }

    // The same of their low neighbours.
    __device__ unsigned low_row(int w, int y, int z) const {
        return row(w, y, z) << 1 | (w == 0 ? 0u : row(w - 1, y, z) >> 31);
    }

    // The crossed edges along an axis whose high ends are in word w of row (y, z).
    __device__ unsigned crossed(int axis, int w, int y, int z) const {
        unsigned low = axis == 0 ? low_row(w, y, z) : axis == 1 ? row(w, y - 1, z) : row(w, y, z - 1);
        return row(w, y, z) ^ low;
    }
};

// A word of cells: the signs of the four rows around it at the high and the low end of x.
struct Cells {
    int w, y, z;
    unsigned high[4], low[4];

    __device__ Cells(const Grid& grid, int word) {
        w = word % grid.words(), y = word / grid.words() % (grid.ny + 1), z = word / grid.words() / (grid.ny + 1);
        for (int r = 0; r < 4; r++) {
            high[r] = grid.row(w, y - 1 + r % 2, z - 1 + r / 2);
            low[r] = grid.low_row(w, y - 1 + r % 2, z - 1 + r / 2);
        }
    }

    // Cells that the surface crosses.
    __device__ unsigned active() const {
        unsigned any = 0, all = ~0u;
        for (int r = 0; r < 4; r++) any |= high[r] | low[r], all &= high[r] & low[r];
        return any & ~all;
    }

    __device__ unsigned pattern(int bit) const {
        unsigned pattern = 0;
        for (int r = 0; r < 4; r++)
            pattern |= (low[r] >> bit & 1u) << (2 * r) | (high[r] >> bit & 1u) << (2 * r + 1);
        return pattern;
    }
};

__device__ __forceinline__ unsigned scanned(const unsigned* counts, const unsigned long long* bases, int index) {
    return counts[index] + unsigned(bases[index / CHUNK]);
}

// The number of the vertex on edge `edge` of the cell whose high corner is (x, y, z).
__device__ unsigned vertex_of(const Grid& grid, const unsigned* counts, const unsigned long long* bases, unsigned edge,
                              int x, int y, int z) {
    int axis = edge / 4, first = edge % 2, second = edge % 4 / 2;
    if (axis == 0) y += first - 1, z += second - 1;
    else if (axis == 1) x += first - 1, z += second - 1;
    else x += first - 1, y += second - 1;
    int w = x / 32;
    unsigned number = scanned(counts, bases, grid.word_of(x, y, z));
    for (int before = 0; before < axis; before++) number += __popc(grid.crossed(before, w, y, z));
    return number + __popc(grid.crossed(axis, w, y, z) & ((1u << x % 32) - 1));
}

struct Volume {
    Grid grid;
    const float* values;
    float level;
    const double* placement;
    int z0;

    // The value of a sample above the level; beyond the grid, outside and so far that the surface stays at the border.
    __device__ double above(int x, int y, int z) const {
        if (x < 0 || y < 0 || z < 0 || x >= grid.nx || y >= grid.ny || z >= grid.nz) return BEYOND;
        double value = double(values[((z - max(grid.first - 1, 0)) * grid.ny + y) * grid.nx + x]);
        return sub(larger(smaller(value, BEYOND), -BEYOND), double(level));
    }

    // Where the surface crosses an edge along `axis`, as a fraction of it.
    __device__ double crossing(int axis, double low, double high) const {
        double margin = placement[6 + axis];
        return smaller(larger(quotient(low, sub(low, high)), margin), sub(1.0, margin));
    }

    // The position of a point in the cell whose high corner is the sample (x, y, z).
    __device__ void write(float* positions, unsigned vertex, int x, int y, int z, Vector<double> point) const {
        int cell[3] = {x, y, z0 + z};
        for (int axis = 0; axis < 3; axis++) {
            double steps = add(sub(double(cell[axis]), 1.0), point[axis]);
            positions[3ll * vertex + axis] = float(add(placement[axis], mul(placement[3 + axis], steps)));
        }
    }
};

// One bit a sample, set where it is below the level; the words beyond the grid are zero.
// bound: bytes; expect 85 % of it: 4 read a sample
// launch: grid (ceil(L / 8)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) marching_cubes_signs(
    const float* __restrict__ values,        // in: [nz, ny, nx]
    int nx,                                  // samples along x
    int ny,                                  // samples along y
    int nz,                                  // samples along z, from the slab's first plane on
    int first,                               // first plane that the slab owns
    int planes,                              // P, planes of signs
    float level,                             // inside is below it
    unsigned* __restrict__ signs,            // out: [L], x in the low bits first; the owned planes
    unsigned long long* __restrict__ invalid // inout: [1], least index, from the first plane on, of a sample that is NaN
) {
    Grid grid = {nx, ny, nz, first, planes, signs};
    int word = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (word >= grid.word_count()) return;
    int x = word % grid.words() * 32 + lane, y = word / grid.words() % (ny + 1), z = grid.plane_of(word);
    if (z < first) return;
    bool inside = false;
    if (x < nx && y < ny && z < nz) {
        float value = values[((z - max(first - 1, 0)) * ny + y) * nx + x];
        inside = value < level;
        if (value != value) atomicMin(invalid, ((unsigned long long)z * ny + y) * nx + x);
    }
    unsigned bits = __ballot_sync(~0u, inside);
    if (lane == 0) signs[word] = bits;
}

// Vertices on edges, triangles of plain cells and open cells of each word.
// bound: bytes; expect 50 % of it: 12 written a word, the signs around it come from the cache
// launch: grid (ceil(L / 256)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) marching_cubes_count(
    const unsigned* __restrict__ signs, // in: [L]
    int nx,                             // samples along x
    int ny,                             // samples along y
    int nz,                             // samples along z, from the slab's first plane on
    int first,                          // first plane that the slab owns
    int planes,                         // P, planes of signs
    unsigned* __restrict__ counts       // out: [3, L], vertices, triangles, open cells
) {
    Grid grid = {nx, ny, nz, first, planes, signs};
    int word = blockIdx.x * blockDim.x + threadIdx.x, length = grid.word_count();
    if (word >= length) return;
    Cells cells(grid, word);
    unsigned vertices = 0, triangles = 0, open = 0;
    if (cells.z >= first - 1)
        vertices = __popc(cells.high[3] ^ cells.low[3]) + __popc(cells.high[3] ^ cells.high[2])
                 + __popc(cells.high[3] ^ cells.high[1]);
    for (unsigned active = cells.z < first ? 0 : cells.active(); active != 0; active &= active - 1) {
        unsigned count = unsigned(CASES[cells.pattern(__ffs(active) - 1)] & 15);
        if (count == OPEN) open++;
        else triangles += count;
    }
    counts[word] = vertices;
    counts[(long long)length + word] = triangles;
    counts[2ll * length + word] = open;
}

// The sum of `value` over the threads of the block before this one; `total` is that over all of them.
template <typename T> __device__ T scan_block(T value, T& total) {
    __shared__ T sums[CHUNK / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T sum = value;
    for (int step = 1; step < 32; step *= 2) {
        T other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
    }
    __syncthreads();
    if (lane == 31) sums[warp] = sum;
    __syncthreads();
    T before = 0;
    total = 0;
    for (int other = 0; other < CHUNK / 32; other++) {
        if (other < warp) before += sums[other];
        total += sums[other];
    }
    return before + sum - value;
}

// Counts to the sums of those before them in their chunk of 256, and the sums of the chunks.
// bound: bytes; expect 75 % of it: 4 read and 4 written a count
// launch: grid (ceil(length / 256), K), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(CHUNK) marching_cubes_scan(
    unsigned* __restrict__ counts,         // inout: [K, length]
    int length,                            // of a row of counts
    unsigned long long* __restrict__ bases // out: [K, ceil(length / 256) + 1], sums of the chunks; the last unset
) {
    int index = blockIdx.x * CHUNK + threadIdx.x;
    counts += (long long)blockIdx.y * length;
    unsigned total, count = index < length ? counts[index] : 0;
    unsigned before = scan_block(count, total);
    if (index < length) counts[index] = before;
    if (threadIdx.x == 0) bases[(long long)blockIdx.y * (gridDim.x + 1) + blockIdx.x] = total;
}

// Sums of chunks to the sums of those before them, and at the end of all.
// bound: bytes; expect 5 % of it: one block a row, some thousand sums
// launch: grid (1, K), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(CHUNK) marching_cubes_scan_bases(
    unsigned long long* __restrict__ bases, // inout: [K, chunks + 1]
    int chunks                              // of a row of counts
) {
    bases += (long long)blockIdx.y * (chunks + 1);
    unsigned long long carry = 0;
    for (int first = 0; first < chunks; first += CHUNK) {
        int index = first + threadIdx.x;
        unsigned long long total, sum = index < chunks ? bases[index] : 0;
        unsigned long long before = scan_block(sum, total);
        if (index < chunks) bases[index] = carry + before;
        carry += total;
    }
    if (threadIdx.x == 0) bases[chunks] = carry;
}

// Positions of the vertices on edges.
// bound: operations; expect 10 % of it: a division of doubles a vertex, and words without any
// launch: grid (ceil(L / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) marching_cubes_vertices(
    const float* __restrict__ values,             // in: [nz, ny, nx]
    const unsigned* __restrict__ signs,           // in: [L]
    int nx,                                       // samples along x
    int ny,                                       // samples along y
    int nz,                                       // samples along z, from the slab's first plane on
    int first,                                    // first plane that the slab owns
    int planes,                                   // P, planes of signs
    float level,                                  // inside is below it
    const double* __restrict__ placement,         // in: [3, 3], origin, spacing, margins
    int z0,                                       // plane of the grid that the slab's first one is
    unsigned skip,                                // vertices of the plane before the owned ones
    const unsigned* __restrict__ counts,          // in: [L], vertices before a word in its chunk
    const unsigned long long* __restrict__ bases, // in: [C(L) + 1], vertices before a chunk
    float* __restrict__ positions                 // out: [E - skip, 3], units of the placement
) {
    Volume volume = {{nx, ny, nz, first, planes, signs}, values, level, placement, z0};
    const Grid& grid = volume.grid;
    int word = blockIdx.x * blockDim.x + threadIdx.x;
    if (word >= grid.word_count()) return;
    int w = word % grid.words(), y = word / grid.words() % (ny + 1), z = grid.plane_of(word);
    if (z < first) return;
    unsigned vertex = scanned(counts, bases, word) - skip;
    for (int axis = 0; axis < 3; axis++) {
        for (unsigned crossed = grid.crossed(axis, w, y, z); crossed != 0; crossed &= crossed - 1, vertex++) {
            int x = 32 * w + __ffs(crossed) - 1;
            double low = volume.above(x - (axis == 0), y - (axis == 1), z - (axis == 2));
            double t = volume.crossing(axis, low, volume.above(x, y, z));
            volume.write(positions, vertex, x, y, z, {axis == 0 ? t : 1.0, axis == 1 ? t : 1.0, axis == 2 ? t : 1.0});
        }
    }
}

// Triangles of the plain cells.
// bound: operations; expect 15 % of it: words without a surface idle beside those with one
// launch: grid (ceil(L / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) marching_cubes_triangles(
    const unsigned* __restrict__ signs,           // in: [L]
    int nx,                                       // samples along x
    int ny,                                       // samples along y
    int nz,                                       // samples along z, from the slab's first plane on
    int first,                                    // first plane that the slab owns
    int planes,                                   // P, planes of signs
    const unsigned* __restrict__ counts,          // in: [3, L], sums within the chunks
    const unsigned long long* __restrict__ bases, // in: [3, C(L) + 1], sums before the chunks
    unsigned base,                                // what makes numbers of the slab numbers of the mesh
    unsigned* __restrict__ triangles              // out: [T, 3]
) {
    Grid grid = {nx, ny, nz, first, planes, signs};
    int word = blockIdx.x * blockDim.x + threadIdx.x, length = grid.word_count();
    if (word >= length) return;
    int stride = (length + CHUNK - 1) / CHUNK + 1;
    Cells cells(grid, word);
    unsigned active = cells.active();
    if (active == 0 || cells.z < first) return;
    long long next = 3ll * scanned(counts + length, bases + stride, word);
    for (; active != 0; active &= active - 1) {
        int bit = __ffs(active) - 1;
        unsigned long long entry = CASES[cells.pattern(bit)];
        unsigned count = unsigned(entry & 15);
        if (count == OPEN) continue;
        for (unsigned corner = 0; corner < 3 * count; corner++) {
            entry >>= 4;
            triangles[next++] =
                base + vertex_of(grid, counts, bases, unsigned(entry & 15), 32 * cells.w + bit, cells.y, cells.z);
        }
    }
}

// The open cells: index of the bit of their high corner.
// bound: bytes; expect 50 % of it: the signs around a word come from the cache
// launch: grid (ceil(L / 256)), block (256), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) marching_cubes_list(
    const unsigned* __restrict__ signs,           // in: [L]
    int nx,                                       // samples along x
    int ny,                                       // samples along y
    int nz,                                       // samples along z, from the slab's first plane on
    int first,                                    // first plane that the slab owns
    int planes,                                   // P, planes of signs
    const unsigned* __restrict__ counts,          // in: [L], open cells before a word in its chunk
    const unsigned long long* __restrict__ bases, // in: [C(L) + 1], open cells before a chunk
    unsigned* __restrict__ open_cells             // out: [O], 32 times the word plus the bit
) {
    Grid grid = {nx, ny, nz, first, planes, signs};
    int word = blockIdx.x * blockDim.x + threadIdx.x;
    if (word >= grid.word_count()) return;
    Cells cells(grid, word);
    unsigned active = cells.active();
    if (active == 0 || cells.z < first) return;
    unsigned next = scanned(counts, bases, word);
    for (; active != 0; active &= active - 1) {
        int bit = __ffs(active) - 1;
        if ((CASES[cells.pattern(bit)] & 15) == OPEN) open_cells[next++] = 32u * word + bit;
    }
}

// Where an open cell lies: its high corner.
struct OpenCell {
    int x, y, z;

    __device__ OpenCell(const Grid& grid, unsigned cell) {
        int word = cell / 32;
        x = word % grid.words() * 32 + cell % 32;
        y = word / grid.words() % (grid.ny + 1), z = word / grid.words() / (grid.ny + 1);
    }
};

// Triangles and inner vertices of the open cells.
// bound: operations; expect 5 % of it: doubles, branches and tables in local memory; few cells
// launch: grid (ceil(O / 64)), block (64), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(64) marching_cubes_open(
    const float* __restrict__ values,        // in: [nz, ny, nx]
    int nx,                                  // samples along x
    int ny,                                  // samples along y
    int nz,                                  // samples along z, from the slab's first plane on
    int first,                               // first plane that the slab owns
    int planes,                              // P, planes of signs
    float level,                             // inside is below it
    const double* __restrict__ placement,    // in: [3, 3], origin, spacing, margins
    int z0,                                  // plane of the grid that the slab's first one is
    const unsigned* __restrict__ open_cells, // in: [O]
    int open_count,                          // O
    unsigned* __restrict__ patches,          // out: [O, 30], triangles of a cell, three vertices of 8 bits
    float* __restrict__ centres,             // out: [O, 9, 3], inner vertices, units of the placement
    unsigned* __restrict__ open_counts       // out: [2, O], triangles and inner vertices
) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= open_count) return;
    Volume volume = {{nx, ny, nz, first, planes, nullptr}, values, level, placement, z0};
    OpenCell cell(volume.grid, open_cells[index]);
    double d[8];
    for (int corner = 0; corner < 8; corner++)
        d[corner] = volume.above(cell.x - 1 + corner % 2, cell.y - 1 + corner / 2 % 2, cell.z - 1 + corner / 4);
    Patch patch;
    for (int edge = 0; edge < EDGES; edge++) {
        int low = EDGE_CORNERS[edge][0], high = EDGE_CORNERS[edge][1], axis = edge / 4;
        if ((d[low] < 0.0) == (d[high] < 0.0)) continue;
        double t = volume.crossing(axis, d[low], d[high]);
        patch.points[edge] = {axis == 0 ? t : double(low % 2), axis == 1 ? t : double(low / 2 % 2),
                              axis == 2 ? t : double(low / 4)};
    }
    polygonise(d, patch);
    for (int i = 0; i < patch.triangle_count; i++) patches[(long long)MAX_TRIANGLES * index + i] = patch.triangles[i];
    centres += 3ll * MAX_CENTRES * index;
    for (int i = EDGES; i < patch.point_count; i++)
        volume.write(centres, i - EDGES, cell.x, cell.y, cell.z, patch.points[i]);
    open_counts[index] = patch.triangle_count;
    open_counts[(long long)open_count + index] = patch.point_count - EDGES;
}

// Triangles and inner vertices of the open cells, without the room between them.
// bound: bytes; expect 20 % of it: short records of few cells
// launch: grid (ceil(O / 128)), block (128), dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128) marching_cubes_merge(
    const unsigned* __restrict__ signs,                // in: [L]
    int nx,                                            // samples along x
    int ny,                                            // samples along y
    int nz,                                            // samples along z, from the slab's first plane on
    int first,                                         // first plane that the slab owns
    int planes,                                        // P, planes of signs
    const unsigned* __restrict__ counts,               // in: [L], vertices before a word in its chunk
    const unsigned long long* __restrict__ bases,      // in: [C(L) + 1], vertices before a chunk
    const unsigned* __restrict__ open_cells,           // in: [O]
    int open_count,                                    // O
    const unsigned* __restrict__ patches,              // in: [O, 30]
    const float* __restrict__ centres,                 // in: [O, 9, 3]
    const unsigned* __restrict__ open_counts,          // in: [2, O], sums within the chunks
    const unsigned long long* __restrict__ open_bases, // in: [2, C(O) + 1], sums before the chunks
    unsigned base,                                     // what makes numbers of the slab numbers of the mesh
    unsigned inner_base,                               // inner vertices of the slabs before
    float* __restrict__ inner,                         // out: [Q, 3]
    unsigned* __restrict__ inner_triangles             // out: [P, 3]; 2^31 + k is inner vertex k of the mesh
) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= open_count) return;
    Grid grid = {nx, ny, nz, first, planes, signs};
    int open_chunks = (open_count + CHUNK - 1) / CHUNK;
    // The next cell's sums end this one's.
    auto ends = [&](int row, int cell) {
        const unsigned long long* row_bases = open_bases + row * (open_chunks + 1);
        if (cell == open_count) return unsigned(row_bases[open_chunks]);
        return scanned(open_counts + (long long)row * open_count, row_bases, cell);
    };
    OpenCell cell(grid, open_cells[index]);
    unsigned first_triangle = ends(0, index), past_triangle = ends(0, index + 1);
    unsigned first_centre = ends(1, index), past_centre = ends(1, index + 1);
    for (unsigned t = first_triangle; t < past_triangle; t++) {
        unsigned corners = patches[(long long)MAX_TRIANGLES * index + (t - first_triangle)];
        for (int k = 0; k < 3; k++, corners >>= 8) {
            unsigned vertex = corners & 255u;
            inner_triangles[3ll * t + k] =
                vertex < EDGES ? base + vertex_of(grid, counts, bases, vertex, cell.x, cell.y, cell.z)
                               : (1u << 31) + inner_base + first_centre + vertex - EDGES;
        }
    }
    for (unsigned i = 3 * first_centre; i < 3 * past_centre; i++)
        inner[i] = centres[3ll * MAX_CENTRES * index + (i - 3 * first_centre)];
}
