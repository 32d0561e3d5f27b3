// Convolutions as products of matrices that are never stored: the operands of a product are gathered
// from NHWC images and weights while they are copied into shared memory.
//
// An operand has `values` of a `Type`, a `kLayout`, a `kGrain` (as many adjacent values are aligned, and wholly
// inside or wholly outside) and `at(i, e, depth)`: the offset of element e, a multiple of the grain, of the
// thread's piece i, which begins at `depth`, or a negative number outside, where the operand is zero.
// An output has a `target`, `bias` (or null), `add`, places of rows and columns of the product, the latter with
// their `channel`, and `at(row place, column place)` alike.
// Offsets are ints: every tensor has fewer than 2^31 elements.
#pragma once

#include "matrix_narrow.cuh"

namespace implicit_gemm {

using matrix::kStages;
using matrix::Layout;

/// Far below any coordinate: an index that begins here, or at the sum of two of them, stays outside.
constexpr int kOutside = -(1 << 29);

__device__ __forceinline__ int divide_up(int a, int b) { return (a + b - 1) / b; }

__device__ __forceinline__ bool within(int index, int extent) {
    return static_cast<unsigned>(index) < static_cast<unsigned>(extent);
}

/// Division of 0 <= n < 2^31 by a number known only at run time, by multiplication: with 2^(l-1) < d <= 2^l
/// and m = ceil(2^(31+l) / d) < 2^32, n m exceeds n 2^(31+l) / d by less than 2^(31+l) / d, so that
/// floor(n m / 2^(31+l)) is the quotient (Granlund & Montgomery, PLDI 1994, section 4).
struct Divisor {
    unsigned multiplier;
    int shift;
    int divisor;

    __device__ __forceinline__ explicit Divisor(int by) : divisor(by) {
        shift = 32 - __clz(by - 1);
        multiplier = static_cast<unsigned>(((1ull << (31 + shift)) + by - 1) / by);
    }

    __device__ __forceinline__ int quotient(int n) const {
        return static_cast<int>(__umulhi(2u * static_cast<unsigned>(n), multiplier) >> shift);
    }
};

// ---- Operands ----

/// A dense matrix [depth, lines], from `first` to `end` of its depth.
template <class T, int kTileLines, int kThreads, int kWhole> struct DenseOperand {
    static constexpr Layout kLayout = Layout::kAlongLines;
    static constexpr int kGrain = kWhole;
    using Type = T;
    using Map = matrix::CopyMap<kLayout, kTileLines, kThreads, T>;

    const T* values;
    int lines, end, line;

    __device__ __forceinline__ DenseOperand(const T* values, int lines, int end, int first_line)
        : values(values), lines(lines), end(end), line(first_line + Map::line(0)) {}

    __device__ __forceinline__ int at(int, int e, int depth) const {
        return depth < end && line + e < lines ? depth * lines + line + e : -1;
    }
};

/// The taps of a kernel as the summed dimension: depth = (tap row, tap column, channel).
struct Taps {
    Divisor channels, columns;
    int end;

    __device__ __forceinline__ Taps(int rows, int columns, int channels)
        : channels(channels), columns(columns), end(rows * columns * channels) {}

    struct Place {
        int row, column, channel;
    };

    __device__ __forceinline__ Place place(int depth) const {
        const int tap = channels.quotient(depth), row = columns.quotient(tap);
        return {row, tap - row * columns.divisor, depth - tap * channels.divisor};
    }
};

/// How a grid of patches lies in images: the patch of (i, j) has its tap (r, c) at pixel
/// (i stride + row + direction r, j stride + column + direction c).
struct PatchGrid {
    int rows, columns;
    int stride, row, column;
    int direction;
};

template <class T> struct Images {
    const T* values;
    int batch, height, width, channels;
};

/// Patches of images: line = (image, i, j) of the grid, depth = (tap row, tap column, channel).
template <class T, int kTileLines, int kThreads, int kWhole> struct PatchOperand {
    static constexpr Layout kLayout = Layout::kAlongDepth;
    static constexpr int kGrain = kWhole;
    using Type = T;
    using Map = matrix::CopyMap<kLayout, kTileLines, kThreads, T>;

    const T* values;
    Taps taps;
    int height, width, direction;
    /// Of each piece: the pixel of tap (0, 0) counted from the first image's, its row and its column.
    int pixel[Map::kCount], row[Map::kCount], column[Map::kCount];

    __device__ __forceinline__ PatchOperand(const Images<T>& images, const PatchGrid& grid, const Taps& taps,
                                            int first_line)
        : values(images.values), taps(taps), height(images.height), width(images.width),
          direction(grid.direction) {
        const int lines = images.batch * grid.rows * grid.columns;
#pragma unroll
        for (int i = 0; i < Map::kCount; ++i) {
            const int line = first_line + Map::line(i);
            const int patch_row = line / grid.columns, image = patch_row / grid.rows;
            row[i] = (patch_row - image * grid.rows) * grid.stride + grid.row;
            column[i] = (line - patch_row * grid.columns) * grid.stride + grid.column;
            pixel[i] = (image * height + row[i]) * width + column[i];
            if (line >= lines) row[i] = kOutside;
        }
    }

    __device__ __forceinline__ int at(int i, int e, int depth) const {
        const Taps::Place tap = taps.place(depth + e);
        const int down = direction * tap.row, right = direction * tap.column;
        const bool inside =
            depth + e < taps.end && within(row[i] + down, height) && within(column[i] + right, width);
        const int offset = (pixel[i] + down * width + right) * taps.channels.divisor + tap.channel;
        return inside ? offset : -1;
    }
};

/// The same patches the other way round: line = (tap row, tap column, channel), depth = (image, i, j),
/// the latter up to `end`.
template <class T, int kTileLines, int kThreads, int kWhole> struct TransposedPatchOperand {
    static constexpr Layout kLayout = Layout::kAlongLines;
    static constexpr int kGrain = kWhole;
    static constexpr int kGrains = matrix::Stage<T>::kPiece / kGrain;
    using Type = T;
    using Map = matrix::CopyMap<kLayout, kTileLines, kThreads, T>;

    const T* values;
    int height, width, channels;
    Divisor rows, columns;
    int stride, end;
    int row[kGrains], column[kGrains], channel[kGrains];

    __device__ __forceinline__ TransposedPatchOperand(const Images<T>& images, const PatchGrid& grid,
                                                      int tap_rows, int tap_columns, int first_line, int end)
        : values(images.values), height(images.height), width(images.width), channels(images.channels),
          rows(grid.rows), columns(grid.columns), stride(grid.stride), end(end) {
#pragma unroll
        for (int grain = 0; grain < kGrains; ++grain) {
            const int line = first_line + Map::line(0) + grain * kGrain;
            const int tap = line / channels, tap_row = tap / tap_columns;
            row[grain] = tap_row < tap_rows ? grid.row + tap_row : kOutside;
            column[grain] = grid.column + tap - tap_row * tap_columns;
            channel[grain] = line - tap * channels;
        }
    }

    __device__ __forceinline__ int at(int, int e, int depth) const {
        const int patch_row = columns.quotient(depth), image = rows.quotient(patch_row);
        const int grain = e / kGrain;
        const int i = (patch_row - image * rows.divisor) * stride + row[grain];
        const int j = (depth - patch_row * columns.divisor) * stride + column[grain];
        const bool inside = depth < end && within(i, height) && within(j, width);
        const int offset = ((image * height + i) * width + j) * channels + channel[grain];
        return inside ? offset : -1;
    }
};

// ---- Outputs ----

/// Where values go that lie in fp32.
struct WideTarget {
    float* values;

    __device__ __forceinline__ explicit WideTarget(float* values) : values(values) {}

    /// Writes kWidth adjacent values as one access.
    template <int kWidth>
    __device__ __forceinline__ void write(int offset, float (&added)[kWidth], int add) const {
        float* to = values + offset;
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
            if (add) added[e] += to[e];
        }
        if constexpr (kWidth == 4) {
            *reinterpret_cast<float4*>(to) = make_float4(added[0], added[1], added[2], added[3]);
        } else if constexpr (kWidth == 2) {
            *reinterpret_cast<float2*>(to) = make_float2(added[0], added[1]);
        } else {
            to[0] = added[0];
        }
    }
};

/// Where values go that lie in 2 bytes, or in fp32 where `wide`: the decoded planes, what the losses read.
template <bool kBf16> struct NarrowTarget {
    unsigned short* values;
    int wide;

    template <int kWidth>
    __device__ __forceinline__ void write(int offset, float (&added)[kWidth], int add) const {
        static_assert(kWidth <= 2, "the tensor cores give two adjacent values");
        if (wide) return WideTarget(reinterpret_cast<float*>(values)).write(offset, added, add);
        unsigned short* to = values + offset;
#pragma unroll
        for (int e = 0; e < kWidth; ++e) {
            if (add) added[e] += kBf16 ? storage::widen_bf16(to[e]) : storage::widen_fp16(to[e]);
        }
        const float high = kWidth == 2 ? added[kWidth - 1] : 0.0f;
        const unsigned pair = kBf16 ? storage::round_bf16(added[0], high) : storage::round_fp16(added[0], high);
        if constexpr (kWidth == 2) {
            *reinterpret_cast<unsigned*>(to) = pair;
        } else {
            to[0] = static_cast<unsigned short>(pair);
        }
    }
};

/// A dense matrix [rows, columns] that begins at `first`; `bias` one value a column.
template <class Target> struct DenseOutput {
    Target target;
    const float* bias;
    int first, rows, columns;
    int add;

    struct Row {
        int offset;
    };
    struct Column {
        int channel;
    };

    __device__ __forceinline__ Row row(int row) const { return {row < rows ? first + row * columns : -1}; }
    __device__ __forceinline__ Column column(int column) const { return {column}; }
    __device__ __forceinline__ int at(const Row& row, const Column& column) const {
        return row.offset >= 0 && column.channel < columns ? row.offset + column.channel : -1;
    }
};

/// Writes kWidth values of adjacent channels, from `channel` on.
template <class Output, int kWidth>
__device__ __forceinline__ void write(const Output& output, int offset, int channel, float (&values)[kWidth]) {
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
        if (output.bias != nullptr) values[e] += output.bias[channel + e];
    }
    output.target.write(offset, values, output.add);
}

/// Writes a warp's part of the block's product whose first value is at (first_row, first_column).
template <int kGrain, class Warp, class Output>
__device__ __forceinline__ void write_product(const Warp& warp, const Output& output, int first_row,
                                              int first_column) {
    constexpr int kWidth = kGrain > 1 ? Warp::kWidth : 1, kAccesses = Warp::kGroups * Warp::kWidth / kWidth;
    typename Output::Column columns[kAccesses];
#pragma unroll
    for (int access = 0; access < kAccesses; ++access) {
        const int value = access * kWidth;
        const int column = warp.column(value / Warp::kWidth) + value % Warp::kWidth;
        columns[access] = output.column(first_column + column);
    }
#pragma unroll
    for (int i = 0; i < Warp::kRows; ++i) {
        const typename Output::Row row = output.row(first_row + warp.row(i));
#pragma unroll
        for (int access = 0; access < kAccesses; ++access) {
            const int value = access * kWidth, offset = output.at(row, columns[access]);
            float values[kWidth];
#pragma unroll
            for (int e = 0; e < kWidth; ++e) {
                values[e] = warp.value(i, value / Warp::kWidth, value % Warp::kWidth + e);
            }
            if (offset >= 0) write(output, offset, columns[access].channel, values);
        }
    }
}

// ---- The product ----

/// Copies kGrain values at `from`, or as many zeros where `from` is negative. What lies outside reads nothing, but
/// its address is still one of the tensor's.
template <int kGrain, class T>
__device__ __forceinline__ void copy_grain(unsigned to, const T* values, int from) {
    constexpr int kBytes = kGrain * static_cast<int>(sizeof(T));
    if constexpr (kBytes == 16) {
        matrix::copy_16_bytes(to, values + max(from, 0), from >= 0);
    } else if constexpr (kBytes >= 4) {
        matrix::copy_bytes<kBytes>(to, values + max(from, 0), from >= 0);
    } else {
        // Asynchronous copies begin at 4 bytes. The barrier before the stage is read covers a plain store too.
        const unsigned short value = from >= 0 ? values[from] : 0;
        asm volatile("st.shared.u16 [%0], %1;" ::"r"(to), "h"(value) : "memory");
    }
}

/// Starts this thread's copies of the stage of an operand that begins at depth `first`.
template <class Operand>
__device__ __forceinline__ void copy_stage(unsigned stage, const Operand& operand, int first) {
    using Map = typename Operand::Map;
    using T = typename Operand::Type;
    using Tile = matrix::OperandTile<Operand::kLayout, Map::kLines, T>;
    constexpr bool kAlongDepth = Operand::kLayout == Layout::kAlongDepth;
    constexpr int kGrain = Operand::kGrain;
    // Rolled up where every element finds its own tap: side by side they would spill registers.
    constexpr int kUnrolled = kAlongDepth && kGrain == 1 ? 1 : Map::kPiece / kGrain;
#pragma unroll
    for (int i = 0; i < Map::kCount; ++i) {
        const int line = Map::line(i), depth = Map::depth(i);
#pragma unroll kUnrolled
        for (int e = 0; e < Map::kPiece; e += kGrain) {
            const int from = operand.at(i, e, first + depth);
            const int to = Tile::offset(kAlongDepth ? line : line + e, kAlongDepth ? depth + e : depth);
            copy_grain<kGrain>(stage + static_cast<int>(sizeof(T)) * to, operand.values, from);
        }
    }
}

/// The block's product of two operands over the depths [begin, end), `begin` a multiple of 8, with
/// `shared` of Block::kShared floats from a multiple of 128 bytes on.
template <class Block, class A, class B>
__device__ __forceinline__ auto multiply(float* shared, const A& a, const B& b, int begin, int end) {
    typename Block::template Warp<A::kLayout, B::kLayout> warp;
    constexpr int kDepth = Block::kDepth;
    constexpr unsigned kBytesA = decltype(warp)::TileA::kBytes;
    constexpr unsigned kBytes = kBytesA + decltype(warp)::TileB::kBytes;
    const unsigned first = matrix::shared_address(shared), last = first + (kStages - 1) * kBytes;
#pragma unroll
    for (int stage = 0; stage < kStages - 1; ++stage) {
        const int depth = begin + stage * kDepth;
        if (depth < end) {
            copy_stage(first + stage * kBytes, a, depth);
            copy_stage(first + stage * kBytes + kBytesA, b, depth);
        }
        matrix::commit_copies();
    }
    unsigned filled = first, free = last;
    for (int depth = begin; depth < end; depth += kDepth) {
        matrix::wait_for_copies<kStages - 2>();
        // After it every thread's copies of this stage are visible, and nobody reads `free` any more.
        __syncthreads();
        const int next = depth + (kStages - 1) * kDepth;
        if (next < end) {
            copy_stage(free, a, next);
            copy_stage(free + kBytesA, b, next);
        }
        matrix::commit_copies();
        warp.accumulate(filled, filled + kBytesA);
        free = filled;
        filled = filled == last ? first : filled + kBytes;
    }
    return warp;
}

/// `value`, in a way that the compiler does not see through: what follows from it is computed again after
/// the product rather than kept in registers beside the sums.
__device__ __forceinline__ int again(int value) {
    asm volatile("" : "+r"(value));
    return value;
}

/// The first row and column of this block's tile of a product: the tiles of a row of tiles are
/// neighbours in the grid, so that they find the rows of A that they share in the cache.
template <class Block> struct TilePlace {
    int row, column;

    __device__ __forceinline__ explicit TilePlace(int columns) {
        const int across = divide_up(columns, Block::kColumns), tile = static_cast<int>(blockIdx.x);
        row = tile / across * Block::kRows;
        column = tile % across * Block::kColumns;
    }
};

} // namespace implicit_gemm
