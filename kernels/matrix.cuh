// Products of small matrices by one thread block: asynchronous copies into swizzled shared memory,
// tensor-core (TF32; bf16 and fp16 in matrix_narrow.cuh) and exact fp32 warp tiles over them.
//
// A block multiplies A [rows, depth] by B [depth, columns] in stages of 64 bytes a line along the depth. A
// stage of an operand lies in shared memory in one of two layouts, whichever lets 16-byte pieces of
// global memory be copied as they are; both are swizzled so that neither the copies nor the reads of
// either warp tile meet a bank conflict.
#pragma once

namespace matrix {

/// Operands of values of type T: how many make the 16 bytes of a piece, and the extent of a stage along the
/// summed dimension.
template <class T> struct Stage {
    static constexpr int kPiece = 16 / static_cast<int>(sizeof(T));
    static constexpr int kDepth = 4 * kPiece;
};
/// Of fp32 values.
constexpr int kDepth = Stage<float>::kDepth;
/// Stages in flight: two are being copied while one is being multiplied.
constexpr int kStages = 3;

/// Which index of an operand runs along consecutive addresses.
enum class Layout {
    kAlongDepth, // [line][depth]
    kAlongLines, // [depth][line]
};

// ---- Shared memory ----
// Addresses in shared memory are its own, 32 bits wide and in bytes: half the registers of pointers.

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ float load_float(unsigned address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
    return value;
}

__device__ __forceinline__ void load_4_floats(float (&values)[4], unsigned address) {
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(values[0]), "=f"(values[1]), "=f"(values[2]), "=f"(values[3])
                 : "r"(address)
                 : "memory");
}

/// Copies 16 bytes, or writes 16 zero bytes where `inside` is false; `from` is not read then
/// (PTX ISA, cp.async).
__device__ __forceinline__ void copy_16_bytes(unsigned to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

/// The same for 8 or 4 bytes, for channel counts that do not fill whole pieces.
template <int kBytes> __device__ __forceinline__ void copy_bytes(unsigned to, const void* from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes),
                 "r"(inside ? kBytes : 0)
                 : "memory");
}

__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most kPending of this thread's groups of copies are under way.
template <int kPending> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- Operands in shared memory ----

/// A stage of an operand: kTileLines rows of A or columns of B, kDepth deep. This one is of floats.
template <Layout kLayout, int kTileLines, class T = float> struct OperandTile {
    static constexpr int kLines = kTileLines;
    static constexpr int kBytes = 4 * kLines * kDepth;

    /// Where (line, depth) lies. Four depths from a multiple of 4 on (kAlongDepth), or four lines
    /// (kAlongLines), are 16 consecutive bytes.
    ///
    /// kAlongDepth: 8 consecutive lines at one piece of 4 depths fall on all 32 banks, as ldmatrix reads
    /// them. kAlongLines: 8 consecutive lines at 4 consecutive depths do, as the fragments of mma lie.
    __device__ static __forceinline__ int offset(int line, int depth) {
        if (kLayout == Layout::kAlongDepth) {
            return line * kDepth + (((depth >> 2) ^ ((line >> 1) & 3)) << 2) + (depth & 3);
        }
        return depth * kLines + (line ^ ((depth & 3) << 3));
    }

    // What follows lies as `offset` says, written so that all that is constant in `line` and `depth` ends up
    // in the instruction and not in a register of its own.

    /// Element (base + line + lane / 4, depth + lane % 4) of the kAlongLines tile at `tile`; `base` is a
    /// multiple of 32, `line` of 8, `depth` of 4.
    __device__ static __forceinline__ float fragment(unsigned tile, int base, int line, int depth, int lane) {
        const int own = base + ((line % 32 + lane / 4) ^ (lane % 4 * 8)) + lane % 4 * kLines;
        return load_float(tile + 4 * own + 4 * (line / 32 * 32 + depth * kLines));
    }

    /// The address of 4 depths from `depth` on of line `base` + `line` of the kAlongDepth tile at `tile`;
    /// `line` is a multiple of 8, and `tile` of 64 bytes: the upper half of a stage is a bit away.
    __device__ static __forceinline__ unsigned piece(unsigned tile, int base, int line, int depth) {
        return ((tile + 4 * offset(base, depth % 8)) ^ (depth / 8 * 32)) + 4 * line * kDepth;
    }

    /// The address of 4 lines from `line` on at depth `base` + `depth` of the kAlongLines tile at `tile`;
    /// `depth` is a multiple of 4.
    __device__ static __forceinline__ unsigned piece_of_lines(unsigned tile, int line, int base, int depth) {
        return tile + 4 * offset(line, base) + 4 * depth * kLines;
    }
};

/// Which pieces of 16 bytes of a stage each thread copies: kCount of them.
template <Layout kLayout, int kTileLines, int kThreads, class T> struct CopyMap {
    static constexpr int kLines = kTileLines;
    static constexpr int kPiece = Stage<T>::kPiece;
    static constexpr int kPieces = kLayout == Layout::kAlongDepth ? 4 : kLines / kPiece;
    static constexpr int kStep = kThreads / kPieces;
    static constexpr int kCount = kLines * 4 / kThreads;
    static_assert(kCount * kThreads == kLines * 4, "the threads share a stage evenly");

    /// First line of piece `i`.
    __device__ static __forceinline__ int line(int i) {
        const int thread = static_cast<int>(threadIdx.x);
        return kLayout == Layout::kAlongDepth ? thread / kPieces + i * kStep : thread % kPieces * kPiece;
    }

    /// First depth of piece `i`.
    __device__ static __forceinline__ int depth(int i) {
        const int thread = static_cast<int>(threadIdx.x);
        return kLayout == Layout::kAlongDepth ? thread % kPieces * kPiece : thread / kPieces + i * kStep;
    }
};

// ---- Tensor cores ----

/// Four 8 x 8 matrices of 16-bit values, or 8 x 4 of floats, whose lines of 16 bytes start where lanes 0-7, 8-15,
/// 16-23 and 24-31 point; lane l gets the 32 bits at (l / 4, 4 bytes times l % 4) of each.
__device__ __forceinline__ void load_matrices(unsigned (&bits)[4], unsigned line) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(line)
                 : "memory");
}

__device__ __forceinline__ void load_matrices(float (&values)[4], unsigned line) {
    unsigned bits[4];
    load_matrices(bits, line);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = __uint_as_float(bits[i]);
}

/// To TF32: 10 bits of mantissa, to nearest, ties away from zero.
__device__ __forceinline__ unsigned round_tf32(float value) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

/// sums [16, 8] += a [16, 8] b [8, 8] in TF32. Of every 8 depths, lane l brings values (l / 4, l % 4), (l / 4 + 8,
/// l % 4), (l / 4, l % 4 + 4), (l / 4 + 8, l % 4 + 4) of A, and (l % 4, l / 4), (l % 4 + 4, l / 4) of B. Sums are fp32
/// (PTX ISA, mma.m16n8k8).
__device__ __forceinline__ void multiply_tf32(float (&sums)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- Warp tiles ----
// A warp's part of the block's product. A thread holds kRows rows of it and in each kGroups groups of
// kWidth adjacent columns: value(i, group, e) belongs to (row(i), column(group) + e) of the block's tile.

/// What products on the tensor cores have in common: where the sums of instructions of 16 x 8 values lie.
template <int kBlockColumns, int kWarpRows, int kWarpColumns> struct TensorSums {
    static constexpr int kRows = kWarpRows / 8;
    static constexpr int kGroups = kWarpColumns / 8;
    static constexpr int kWidth = 2;

    float sums[kRows / 2][kGroups][4];
    int lane, first_row, first_column;

    __device__ __forceinline__ TensorSums() : sums{} {
        const int warp = static_cast<int>(threadIdx.x) / 32;
        lane = static_cast<int>(threadIdx.x) % 32;
        first_row = warp / (kBlockColumns / kWarpColumns) * kWarpRows;
        first_column = warp % (kBlockColumns / kWarpColumns) * kWarpColumns;
    }

    __device__ __forceinline__ int row(int i) const { return first_row + i * 8 + lane / 4; }
    __device__ __forceinline__ int column(int group) const { return first_column + group * 8 + lane % 4 * 2; }
    __device__ __forceinline__ float value(int i, int group, int e) const {
        return sums[i / 2][group][i % 2 * 2 + e];
    }
};

/// Products of floats that are rounded to TF32 on their way to the tensor cores.
template <Layout kA, Layout kB, int kBlockRows, int kBlockColumns, int kWarpRows, int kWarpColumns>
struct Tf32WarpTile : TensorSums<kBlockColumns, kWarpRows, kWarpColumns> {
    using Type = float;
    using Sums = TensorSums<kBlockColumns, kWarpRows, kWarpColumns>;
    using Sums::first_column, Sums::first_row, Sums::kGroups, Sums::kRows, Sums::lane, Sums::sums;
    using TileA = OperandTile<kA, kBlockRows>;
    using TileB = OperandTile<kB, kBlockColumns>;

    /// Of rows 16 i to 16 i + 15 of A and depths `depth` to `depth` + 7.
    __device__ __forceinline__ void load_a(float (&values)[4], unsigned a, int i, int depth) const {
        if (kA == Layout::kAlongDepth) {
            const int line = first_row + lane % 16;
            load_matrices(values, TileA::piece(a, line, i * 16, depth + lane / 16 * 4));
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                values[e] = TileA::fragment(a, first_row, i * 16 + e % 2 * 8, depth + e / 2 * 4, lane);
            }
        }
    }

    /// Of columns 16 `pair` to 16 `pair` + 15 of B, the first 8 before the last 8.
    __device__ __forceinline__ void load_b(float (&values)[4], unsigned b, int pair, int depth) const {
        if (kB == Layout::kAlongDepth) {
            const int line = first_column + lane / 16 * 8 + lane % 8;
            load_matrices(values, TileB::piece(b, line, pair * 16, depth + lane / 8 % 2 * 4));
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                values[e] = TileB::fragment(b, first_column, pair * 16 + e / 2 * 8, depth + e % 2 * 4, lane);
            }
        }
    }

    /// sums += a b for one stage.
    __device__ __forceinline__ void accumulate(unsigned a, unsigned b) {
        float values[4];
#pragma unroll
        for (int depth = 0; depth < kDepth; depth += 8) {
            unsigned fragments_b[kGroups][2];
#pragma unroll
            for (int pair = 0; pair < kGroups / 2; ++pair) {
                load_b(values, b, pair, depth);
#pragma unroll
                for (int i = 0; i < 4; ++i) fragments_b[pair * 2 + i / 2][i % 2] = round_tf32(values[i]);
            }
#pragma unroll
            for (int i = 0; i < kRows / 2; ++i) {
                unsigned fragment_a[4];
                load_a(values, a, i, depth);
#pragma unroll
                for (int e = 0; e < 4; ++e) fragment_a[e] = round_tf32(values[e]);
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                    multiply_tf32(sums[i][group], fragment_a, fragments_b[group]);
                }
            }
        }
    }
};

/// fp32 products by fused multiply-add, each sum in the order of the depth; a warp takes 32 x 32 values.
template <Layout kA, Layout kB, int kBlockRows, int kBlockColumns, int kWarpRows, int kWarpColumns>
struct Fp32WarpTile {
    static_assert(kWarpRows == 32 && kWarpColumns == 32, "4 x 8 lanes of 8 x 4 values");
    using Type = float;
    static constexpr int kRows = 8;
    static constexpr int kGroups = kB == Layout::kAlongLines ? 1 : 4;
    static constexpr int kWidth = 4 / kGroups;
    using TileA = OperandTile<kA, kBlockRows>;
    using TileB = OperandTile<kB, kBlockColumns>;

    float sums[kRows][4];
    int first_row, first_column;

    __device__ __forceinline__ Fp32WarpTile() : sums{} {
        const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
        // Lanes take adjacent lines of what lies along the depth, and 4 lines each of what lies along them.
        first_row = warp / (kBlockColumns / 32) * 32 + lane / 8 * (kA == Layout::kAlongLines ? 4 : 1);
        first_column = warp % (kBlockColumns / 32) * 32 + lane % 8 * kWidth;
    }

    __device__ __forceinline__ int row(int i) const {
        return first_row + (kA == Layout::kAlongLines ? i / 4 * 16 + i % 4 : i * 4);
    }
    __device__ __forceinline__ int column(int group) const { return first_column + group * 8; }
    __device__ __forceinline__ float value(int i, int group, int e) const {
        return sums[i][group * kWidth + e];
    }

    /// b[d][j]: the 4 columns of this thread at `depth` + d.
    __device__ __forceinline__ void load_b(float (&values)[4][4], unsigned b, int depth) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float four[4];
            load_4_floats(four, kB == Layout::kAlongLines ? TileB::piece_of_lines(b, first_column, i, depth)
                                                          : TileB::piece(b, first_column, i * 8, depth));
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                if (kB == Layout::kAlongLines) values[i][e] = four[e];
                else values[e][i] = four[e];
            }
        }
    }

    /// a[i][d]: rows 4 `half` to 4 `half` + 3 of this thread.
    __device__ __forceinline__ void load_a(float (&values)[4][4], unsigned a, int half, int depth) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float four[4];
            load_4_floats(four, kA == Layout::kAlongLines
                                    ? TileA::piece_of_lines(a, first_row + half * 16, i, depth)
                                    : TileA::piece(a, first_row + i % 2 * 4, half * 16 + i / 2 * 8, depth));
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                if (kA == Layout::kAlongLines) values[e][i] = four[e];
                else values[i][e] = four[e];
            }
        }
    }

    /// sums += a b for one stage.
    __device__ __forceinline__ void accumulate(unsigned a, unsigned b) {
#pragma unroll
        for (int depth = 0; depth < kDepth; depth += 4) {
            float values_b[4][4];
            load_b(values_b, b, depth);
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float values_a[4][4];
                load_a(values_a, a, half, depth);
#pragma unroll
                for (int d = 0; d < 4; ++d) {
#pragma unroll
                    for (int i = 0; i < 16; ++i) {
                        float& sum = sums[half * 4 + i / 4][i % 4];
                        sum = __fmaf_rn(values_a[i / 4][d], values_b[d][i % 4], sum);
                    }
                }
            }
        }
    }
};

// ---- Block tiles ----

/// Extents of a block's product and of its warps' parts, with the way of multiplying.
template <template <Layout, Layout, int, int, int, int> class WarpTile, int kTileRows, int kTileColumns,
          int kWarpRows, int kWarpColumns>
struct BlockTile {
    static constexpr int kRows = kTileRows;
    static constexpr int kColumns = kTileColumns;
    static constexpr int kThreads = 32 * (kTileRows / kWarpRows) * (kTileColumns / kWarpColumns);
    /// Floats of shared memory.
    static constexpr int kShared = kStages * matrix::kDepth * (kTileRows + kTileColumns);
    template <Layout kA, Layout kB>
    using Warp = WarpTile<kA, kB, kTileRows, kTileColumns, kWarpRows, kWarpColumns>;
    /// Of the operands.
    using Type = typename Warp<Layout::kAlongDepth, Layout::kAlongLines>::Type;
    static constexpr int kDepth = Stage<Type>::kDepth;
};

using Tf32Tile128x128 = BlockTile<Tf32WarpTile, 128, 128, 64, 32>; // 256 threads, 48 KiB
using Tf32Tile128x64 = BlockTile<Tf32WarpTile, 128, 64, 32, 32>;   // 256 threads, 36 KiB
using Tf32Tile64x64 = BlockTile<Tf32WarpTile, 64, 64, 32, 32>;     // 128 threads, 24 KiB
using Fp32Tile128x64 = BlockTile<Fp32WarpTile, 128, 64, 32, 32>;   // 256 threads, 36 KiB
using Fp32Tile64x64 = BlockTile<Fp32WarpTile, 64, 64, 32, 32>;     // 128 threads, 24 KiB

} // namespace matrix
