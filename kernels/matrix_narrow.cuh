// Products of matrices that lie in 2 bytes a value, bf16 or fp16, on the tensor cores. A stage of an operand takes the
// bytes of one of floats and is twice as deep; its pieces of 16 bytes hold 8 values.
#pragma once

#include "matrix.cuh"
#include "storage.cuh"

namespace matrix {

/// A stage of an operand of 2-byte values.
template <Layout kLayout, int kTileLines> struct OperandTile<kLayout, kTileLines, unsigned short> {
    static constexpr int kLines = kTileLines;
    static constexpr int kDepth = Stage<unsigned short>::kDepth;
    static constexpr int kBytes = 2 * kLines * kDepth;

    /// Where (line, depth) lies. Eight depths from a multiple of 8 on (kAlongDepth), or eight lines (kAlongLines),
    /// are 16 consecutive bytes.
    ///
    /// kAlongDepth: 8 consecutive lines at one piece fall on all 32 banks; kAlongLines: one piece of 8 consecutive
    /// depths does. Both are what ldmatrix reads at a time.
    __device__ static __forceinline__ int offset(int line, int depth) {
        if (kLayout == Layout::kAlongDepth) {
            return line * kDepth + (((depth >> 3) ^ ((line >> 1) & 3)) << 3) + (depth & 7);
        }
        return depth * kLines + (line ^ ((depth & 7) << 3));
    }

    /// The address of the piece of (base line + line, base depth + depth) of the tile at `tile`, a multiple of 128
    /// bytes; `line` is 0, 16, 32 or 48 and has no bit in common with the base, `depth` 0 or 16, the bases belong to
    /// a lane. Written so that all that is constant in `line` and `depth` ends up in the instruction or in an
    /// exclusive or.
    __device__ static __forceinline__ unsigned piece(unsigned tile, int base_line, int line, int base_depth,
                                                     int depth) {
        const unsigned base = tile + 2 * offset(base_line, base_depth);
        if (kLayout == Layout::kAlongDepth) return (base ^ (2 * depth)) + 2 * line * kDepth;
        return (base ^ (2 * line)) + 2 * depth * kLines;
    }
};

/// Four 8 x 8 matrices as `load_matrices`, each transposed.
__device__ __forceinline__ void load_transposed(unsigned (&bits)[4], unsigned line) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(bits[0]), "=r"(bits[1]), "=r"(bits[2]), "=r"(bits[3])
                 : "r"(line)
                 : "memory");
}

/// sums [16, 8] += a [16, 16] b [16, 8], sums in fp32 (PTX ISA, mma.m16n8k16).
template <bool kBf16>
__device__ __forceinline__ void multiply_narrow(float (&sums)[4], const unsigned (&a)[4], unsigned b0,
                                                unsigned b1) {
    if constexpr (kBf16) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
}

template <bool kBf16, Layout kA, Layout kB, int kBlockRows, int kBlockColumns, int kWarpRows, int kWarpColumns>
struct NarrowWarpTile : TensorSums<kBlockColumns, kWarpRows, kWarpColumns> {
    using Type = unsigned short;
    using Sums = TensorSums<kBlockColumns, kWarpRows, kWarpColumns>;
    using Sums::first_column, Sums::first_row, Sums::kGroups, Sums::kRows, Sums::lane, Sums::sums;
    using TileA = OperandTile<kA, kBlockRows, Type>;
    using TileB = OperandTile<kB, kBlockColumns, Type>;

    /// The four quarters of rows 16 i to 16 i + 15 and 16 depths of A: the upper rows, then the deeper half.
    __device__ __forceinline__ void load_a(unsigned (&fragment)[4], unsigned a, int i, int depth) const {
        if (kA == Layout::kAlongDepth) {
            load_matrices(fragment, TileA::piece(a, first_row + lane % 16, i * 16, lane / 16 * 8, depth));
        } else {
            const int line = first_row + lane / 8 % 2 * 8, own = lane / 16 * 8 + lane % 8;
            load_transposed(fragment, TileA::piece(a, line, i * 16, own, depth));
        }
    }

    /// Both halves of the depth of columns 16 `pair` to 16 `pair` + 7 of B, then of the 8 columns behind them.
    __device__ __forceinline__ void load_b(unsigned (&fragment)[4], unsigned b, int pair, int depth) const {
        if (kB == Layout::kAlongDepth) {
            const int line = first_column + lane / 16 * 8 + lane % 8;
            load_matrices(fragment, TileB::piece(b, line, pair * 16, lane / 8 % 2 * 8, depth));
        } else {
            const int line = first_column + lane / 16 * 8, own = lane / 8 % 2 * 8 + lane % 8;
            load_transposed(fragment, TileB::piece(b, line, pair * 16, own, depth));
        }
    }

    /// sums += a b for one stage.
    __device__ __forceinline__ void accumulate(unsigned a, unsigned b) {
#pragma unroll
        for (int depth = 0; depth < Stage<Type>::kDepth; depth += 16) {
            unsigned fragments_b[kGroups / 2][4];
#pragma unroll
            for (int pair = 0; pair < kGroups / 2; ++pair) load_b(fragments_b[pair], b, pair, depth);
#pragma unroll
            for (int i = 0; i < kRows / 2; ++i) {
                unsigned fragment_a[4];
                load_a(fragment_a, a, i, depth);
#pragma unroll
                for (int group = 0; group < kGroups; ++group) {
                    const unsigned(&fragment_b)[4] = fragments_b[group / 2];
                    multiply_narrow<kBf16>(sums[i][group], fragment_a, fragment_b[group % 2 * 2],
                                           fragment_b[group % 2 * 2 + 1]);
                }
            }
        }
    }
};

template <Layout kA, Layout kB, int kRows, int kColumns, int kWarpRows, int kWarpColumns>
using Bf16WarpTile = NarrowWarpTile<true, kA, kB, kRows, kColumns, kWarpRows, kWarpColumns>;
template <Layout kA, Layout kB, int kRows, int kColumns, int kWarpRows, int kWarpColumns>
using Fp16WarpTile = NarrowWarpTile<false, kA, kB, kRows, kColumns, kWarpRows, kWarpColumns>;

using Bf16Tile128x128 = BlockTile<Bf16WarpTile, 128, 128, 64, 32>; // 256 threads, 48 KiB
using Bf16Tile64x64 = BlockTile<Bf16WarpTile, 64, 64, 32, 32>;     // 128 threads, 24 KiB
using Fp16Tile128x128 = BlockTile<Fp16WarpTile, 128, 128, 64, 32>;
using Fp16Tile64x64 = BlockTile<Fp16WarpTile, 64, 64, 32, 32>;

} // namespace matrix
