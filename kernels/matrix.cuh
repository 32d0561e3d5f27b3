// Products of small matrices by one thread block: asynchronous copies into swizzled shared memory,
// tensor-core (TF32, bf16, fp16) and exact fp32 warp tiles over them.
//
// A block multiplies A [rows, depth] by B [depth, columns] in stages of kDepth along the depth. A
// stage of an operand lies in shared memory in one of two layouts, whichever lets 16-byte pieces of
// global memory be copied as they are; both are swizzled so that neither the copies nor the reads of
// either warp tile meet a bank conflict.
#pragma once

namespace matrix {

/// Extent of a stage along the summed dimension.
constexpr int kDepth = 16;
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
__device__ __forceinline__ void copy_16_bytes(unsigned to, const float* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

/// The same for 4 bytes, for channel counts that are not multiples of 4.
__device__ __forceinline__ void copy_4_bytes(unsigned to, const float* from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(inside ? 4 : 0)
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

/// A stage of an operand: kTileLines rows of A or columns of B, kDepth deep.
template <Layout kLayout, int kTileLines> struct OperandTile {
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

/// Which pieces of 4 floats of a stage each thread copies: kCount of them.
template <Layout kLayout, int kTileLines, int kThreads> struct CopyMap {
    static constexpr int kLines = kTileLines;
    static constexpr int kPieces = kLayout == Layout::kAlongDepth ? kDepth / 4 : kLines / 4;
    static constexpr int kStep = kThreads / kPieces;
    static constexpr int kCount = kLines * kDepth / 4 / kThreads;
    static_assert(kCount * 4 * kThreads == kLines * kDepth, "the threads share a stage evenly");

    /// First line of piece `i`.
    __device__ static __forceinline__ int line(int i) {
        const int thread = static_cast<int>(threadIdx.x);
        return kLayout == Layout::kAlongDepth ? thread / kPieces + i * kStep : thread % kPieces * 4;
    }

    /// First depth of piece `i`.
    __device__ static __forceinline__ int depth(int i) {
        const int thread = static_cast<int>(threadIdx.x);
        return kLayout == Layout::kAlongDepth ? thread % kPieces * 4 : thread / kPieces + i * kStep;
    }
};

// ---- Tensor cores ----

/// Four 8 x 4 matrices of floats, whose lines of 16 bytes start where lanes 0-7, 8-15, 16-23 and
/// 24-31 point; lane l gets element (l / 4, l % 4) of each.
__device__ __forceinline__ void load_matrices(float (&values)[4], unsigned line) {
    unsigned bits[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(line)
                 : "memory");
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = __uint_as_float(bits[i]);
}

// A format of the products: how deep one instruction is, and its three steps. Of every 8 depths, lane l
// brings values (l / 4, l % 4), (l / 4 + 8, l % 4), (l / 4, l % 4 + 4), (l / 4 + 8, l % 4 + 4) of 16 rows of
// A, and (l % 4, l / 4), (l % 4 + 4, l / 4) of 8 columns of B. Sums are fp32 (PTX ISA, mma.m16n8k8 and
// mma.m16n8k16).

/// TF32: 10 bits of mantissa, to nearest, ties away from zero.
struct Tf32 {
    static constexpr int kDepth = 8;

    __device__ static __forceinline__ unsigned round(float value) {
        unsigned rounded;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
        return rounded;
    }

    __device__ static __forceinline__ void pack_a(unsigned (&fragment)[4], const float (&values)[4], int) {
#pragma unroll
        for (int i = 0; i < 4; ++i) fragment[i] = round(values[i]);
    }

    __device__ static __forceinline__ void pack_b(unsigned (&fragments)[2][2], const float (&values)[4], int) {
#pragma unroll
        for (int i = 0; i < 4; ++i) fragments[i / 2][i % 2] = round(values[i]);
    }

    /// sums [16, 8] += a [16, 8] b [8, 8].
    __device__ static __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4],
                                                    const unsigned (&b)[2]) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, "
                     "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    }
};

/// Two 16-bit values, to nearest, ties to even; `low` in the lower half.
__device__ __forceinline__ unsigned round_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ unsigned round_fp16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

/// bf16 (8 bits of mantissa with the hidden one) or fp16 (11 bits; beyond 65504 it is infinite), at twice
/// the rate of TF32. The instruction calls a lane's depths d and d + 4 neighbours, in both operands alike:
/// a sum does not mind, and fp32 values need no shuffle to become pairs.
template <bool kBf16> struct SixteenBit {
    static constexpr int kDepth = 16;

    __device__ static __forceinline__ unsigned round(float low, float high) {
        return kBf16 ? round_bf16(low, high) : round_fp16(low, high);
    }

    __device__ static __forceinline__ void pack_a(unsigned (&fragment)[4], const float (&values)[4],
                                                  int part) {
#pragma unroll
        for (int i = 0; i < 2; ++i) fragment[part * 2 + i] = round(values[i], values[i + 2]);
    }

    __device__ static __forceinline__ void pack_b(unsigned (&fragments)[2][2], const float (&values)[4],
                                                  int part) {
#pragma unroll
        for (int i = 0; i < 2; ++i) fragments[i][part] = round(values[i * 2], values[i * 2 + 1]);
    }

    /// sums [16, 8] += a [16, 16] b [16, 8].
    __device__ static __forceinline__ void multiply(float (&sums)[4], const unsigned (&a)[4],
                                                    const unsigned (&b)[2]) {
        if constexpr (kBf16) {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                         "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
        } else {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                         "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                         : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
        }
    }
};

// ---- Warp tiles ----
// A warp's part of the block's product. A thread holds kRows rows of it and in each kGroups groups of
// kWidth adjacent columns: value(i, group, e) belongs to (row(i), column(group) + e) of the block's tile.

/// Products on the tensor cores.
template <class Format, Layout kA, Layout kB, int kBlockRows, int kBlockColumns, int kWarpRows,
          int kWarpColumns>
struct TensorWarpTile {
    static constexpr int kRows = kWarpRows / 8;
    static constexpr int kGroups = kWarpColumns / 8;
    static constexpr int kWidth = 2;
    static constexpr int kParts = Format::kDepth / 8;
    using TileA = OperandTile<kA, kBlockRows>;
    using TileB = OperandTile<kB, kBlockColumns>;

    float sums[kRows / 2][kGroups][4];
    int lane, first_row, first_column;

    __device__ __forceinline__ TensorWarpTile() : sums{} {
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
        for (int depth = 0; depth < kDepth; depth += Format::kDepth) {
            unsigned fragments_b[kGroups / 2][2][2];
#pragma unroll
            for (int pair = 0; pair < kGroups / 2; ++pair) {
#pragma unroll
                for (int part = 0; part < kParts; ++part) {
                    load_b(values, b, pair, depth + part * 8);
                    Format::pack_b(fragments_b[pair], values, part);
                }
            }
#pragma unroll
            for (int i = 0; i < kRows / 2; ++i) {
                unsigned fragment_a[4];
#pragma unroll
                for (int part = 0; part < kParts; ++part) {
                    load_a(values, a, i, depth + part * 8);
                    Format::pack_a(fragment_a, values, part);
                }
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                    Format::multiply(sums[i][group], fragment_a, fragments_b[group / 2][group % 2]);
                }
            }
        }
    }
};

template <Layout kA, Layout kB, int kRows, int kColumns, int kWarpRows, int kWarpColumns>
using Tf32WarpTile = TensorWarpTile<Tf32, kA, kB, kRows, kColumns, kWarpRows, kWarpColumns>;
template <Layout kA, Layout kB, int kRows, int kColumns, int kWarpRows, int kWarpColumns>
using Bf16WarpTile = TensorWarpTile<SixteenBit<true>, kA, kB, kRows, kColumns, kWarpRows, kWarpColumns>;
template <Layout kA, Layout kB, int kRows, int kColumns, int kWarpRows, int kWarpColumns>
using Fp16WarpTile = TensorWarpTile<SixteenBit<false>, kA, kB, kRows, kColumns, kWarpRows, kWarpColumns>;

/// fp32 products by fused multiply-add, each sum in the order of the depth; a warp takes 32 x 32 values.
template <Layout kA, Layout kB, int kBlockRows, int kBlockColumns, int kWarpRows, int kWarpColumns>
struct Fp32WarpTile {
    static_assert(kWarpRows == 32 && kWarpColumns == 32, "4 x 8 lanes of 8 x 4 values");
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
    static constexpr int kShared = kStages * kDepth * (kTileRows + kTileColumns);
    template <Layout kA, Layout kB>
    using Warp = WarpTile<kA, kB, kTileRows, kTileColumns, kWarpRows, kWarpColumns>;
};

using Tf32Tile128x128 = BlockTile<Tf32WarpTile, 128, 128, 64, 32>; // 256 threads, 48 KiB
using Tf32Tile128x64 = BlockTile<Tf32WarpTile, 128, 64, 32, 32>;   // 256 threads, 36 KiB
using Tf32Tile64x64 = BlockTile<Tf32WarpTile, 64, 64, 32, 32>;     // 128 threads, 24 KiB
using Bf16Tile128x128 = BlockTile<Bf16WarpTile, 128, 128, 64, 32>;
using Bf16Tile64x64 = BlockTile<Bf16WarpTile, 64, 64, 32, 32>;
using Fp16Tile128x128 = BlockTile<Fp16WarpTile, 128, 128, 64, 32>;
using Fp16Tile64x64 = BlockTile<Fp16WarpTile, 64, 64, 32, 32>;
using Fp32Tile128x64 = BlockTile<Fp32WarpTile, 128, 64, 32, 32>;   // 256 threads, 36 KiB
using Fp32Tile64x64 = BlockTile<Fp32WarpTile, 64, 64, 32, 32>;     // 128 threads, 24 KiB

} // namespace matrix
