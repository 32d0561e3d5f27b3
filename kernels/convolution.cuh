// The three products of a convolution of NHWC images with [kernel height, kernel width, in, out]
// weights, shared by conv2d and conv_transpose2d, and the ordered sums of its gradients.
#pragma once

#include "implicit_gemm.cuh"

namespace convolution {

using implicit_gemm::divide_up;
using implicit_gemm::within;
using matrix::Layout;

/// The extents of y = x * w: x [batch, height, width, in_channels], w [kernel_height, kernel_width,
/// in_channels, out_channels], y [batch, out_height, out_width, out_channels]. For a transposed convolution,
/// those of the convolution whose adjoint it is: x is then what it writes.
struct Shape {
    int batch, height, width, in_channels;
    int out_height, out_width, out_channels;
    int kernel_height, kernel_width, stride, padding;

    __device__ __forceinline__ int out_pixels() const { return batch * out_height * out_width; }
    __device__ __forceinline__ int patch() const { return kernel_height * kernel_width * in_channels; }

    __device__ __forceinline__ implicit_gemm::PatchGrid patches() const {
        return {out_height, out_width, stride, -padding, -padding, 1};
    }
};

/// y = or += x * w + bias (or null). Rows are the pixels of y, columns its channels, the depth is the patch.
template <class Block, int kGrain, class T, class Target>
__device__ __forceinline__ void forward(float* shared, const Shape& s, const T* x, const T* w,
                                        const float* bias, Target y, int add) {
    constexpr int kThreads = Block::kThreads;
    const implicit_gemm::TilePlace<Block> tile(s.out_channels);
    const implicit_gemm::Taps taps(s.kernel_height, s.kernel_width, s.in_channels);
    const implicit_gemm::Images<T> images{x, s.batch, s.height, s.width, s.in_channels};
    const implicit_gemm::PatchOperand<T, Block::kRows, kThreads, kGrain> a(images, s.patches(), taps, tile.row);
    const implicit_gemm::DenseOperand<T, Block::kColumns, kThreads, kGrain> b(w, s.out_channels, taps.end,
                                                                            tile.column);
    const auto product = implicit_gemm::multiply<Block>(shared, a, b, 0, taps.end);
    const implicit_gemm::DenseOutput<Target> output{y, bias, 0, s.out_pixels(), s.out_channels, add};
    const implicit_gemm::TilePlace<Block> place(implicit_gemm::again(s.out_channels));
    implicit_gemm::write_product<kGrain>(product, output, place.row, place.column);
}

// ---- The gradient in the image ----
// Write i + padding = q stride + r with 0 <= r < stride: row i of x meets the tap rows r + stride t of w,
// at row q - t of y. So a cell (q, q') of stride x stride pixels of x is one row of a product whose
// columns are (r, r', in channel) and whose depth is (t, t', out channel). Each value of dx is gathered
// by one thread; where the stride divides the kernel no operation is wasted.

/// The cells of an image and the taps of a residue.
struct Cells {
    int rows, columns, first_row, first_column;
    int tap_rows, tap_columns;

    __device__ __forceinline__ explicit Cells(const Shape& s)
        : first_row(s.padding / s.stride), first_column(s.padding / s.stride),
          tap_rows(divide_up(s.kernel_height, s.stride)), tap_columns(divide_up(s.kernel_width, s.stride)) {
        rows = (s.height - 1 + s.padding) / s.stride - first_row + 1;
        columns = (s.width - 1 + s.padding) / s.stride - first_column + 1;
    }

    __device__ __forceinline__ implicit_gemm::PatchGrid grid() const {
        return {rows, columns, 1, first_row, first_column, -1};
    }
};

/// The place of a column of the product: (r, r', in channel).
struct Residue {
    int row, column, channel;
};

__device__ __forceinline__ Residue residue(const Shape& s, int product_column) {
    const int pixel = product_column / s.in_channels, row = pixel / s.stride;
    const int channel = product_column - pixel * s.in_channels;
    return {row < s.stride ? row : implicit_gemm::kOutside, pixel - row * s.stride, channel};
}

/// The weights by residue: line = (r, r', in channel), depth = (t, t', out channel).
template <class T, int kTileLines, int kThreads, int kWhole> struct ResidueWeights {
    static constexpr Layout kLayout = Layout::kAlongDepth;
    static constexpr int kGrain = kWhole;
    using Type = T;
    using Map = matrix::CopyMap<kLayout, kTileLines, kThreads, T>;

    const T* values;
    implicit_gemm::Taps taps;
    Shape shape;
    /// Of each piece.
    Residue residues[Map::kCount];

    __device__ __forceinline__ ResidueWeights(const T* w, const Shape& s, const implicit_gemm::Taps& taps,
                                              int first_line)
        : values(w), taps(taps), shape(s) {
#pragma unroll
        for (int i = 0; i < Map::kCount; ++i) {
            residues[i] = residue(s, first_line + Map::line(i));
        }
    }

    __device__ __forceinline__ int at(int i, int e, int depth) const {
        const implicit_gemm::Taps::Place tap = taps.place(depth + e);
        const int tap_row = residues[i].row + shape.stride * tap.row;
        const int tap_column = residues[i].column + shape.stride * tap.column;
        const bool inside = depth + e < taps.end && within(tap_row, shape.kernel_height) &&
                            within(tap_column, shape.kernel_width);
        const int line = (tap_row * shape.kernel_width + tap_column) * shape.in_channels + residues[i].channel;
        return inside ? line * shape.out_channels + tap.channel : -1;
    }
};

/// The image as the product's rows of cells.
template <class Target> struct CellOutput {
    Target target;
    const float* bias;
    Shape shape;
    Cells cells;
    int add;

    /// Row 0 of the image and the first pixel of the cell.
    struct Row {
        int image, row, column;
    };
    using Column = Residue;

    __device__ __forceinline__ Row row(int row) const {
        const int cell_row = row / cells.columns, image = cell_row / cells.rows;
        const int q = cells.first_row + cell_row - image * cells.rows;
        const int next_q = cells.first_column + row - cell_row * cells.columns;
        return {image * shape.height,
                image < shape.batch ? q * shape.stride - shape.padding : implicit_gemm::kOutside,
                next_q * shape.stride - shape.padding};
    }
    __device__ __forceinline__ Column column(int column) const { return residue(shape, column); }
    __device__ __forceinline__ int at(const Row& cell, const Column& residue) const {
        const int i = cell.row + residue.row, j = cell.column + residue.column;
        const int pixel = (cell.image + i) * shape.width + j;
        const bool inside = within(i, shape.height) && within(j, shape.width);
        return inside ? pixel * shape.in_channels + residue.channel : -1;
    }
};

/// dx = or += the adjoint of `forward` in x, applied to dy, plus bias [in_channels] (or null).
template <class Block, int kGrain, class T, class Target>
__device__ __forceinline__ void backward_dx(float* shared, const Shape& s, const T* dy, const T* w,
                                            const float* bias, Target dx, int add) {
    constexpr int kThreads = Block::kThreads;
    const Cells cells(s);
    const implicit_gemm::TilePlace<Block> tile(s.stride * s.stride * s.in_channels);
    const implicit_gemm::Taps taps(cells.tap_rows, cells.tap_columns, s.out_channels);
    const implicit_gemm::Images<T> images{dy, s.batch, s.out_height, s.out_width, s.out_channels};
    const implicit_gemm::PatchOperand<T, Block::kRows, kThreads, kGrain> a(images, cells.grid(), taps, tile.row);
    const ResidueWeights<T, Block::kColumns, kThreads, kGrain> b(w, s, taps, tile.column);
    const auto product = implicit_gemm::multiply<Block>(shared, a, b, 0, taps.end);
    Shape after = s;
    after.stride = implicit_gemm::again(s.stride);
    const CellOutput<Target> output{dx, bias, after, Cells(after), add};
    const implicit_gemm::TilePlace<Block> place(after.stride * after.stride * s.in_channels);
    implicit_gemm::write_product<kGrain>(product, output, place.row, place.column);
}

/// partial [gridDim.z, patch(), out_channels]: the adjoint of `forward` in w, applied to dy, each over its
/// share of the pixels of y. Rows are the patch, the depth is the share.
template <class Block, int kGrain, class T>
__device__ __forceinline__ void backward_dw(float* shared, const Shape& s, const T* x, const T* dy,
                                            float* partial) {
    constexpr int kThreads = Block::kThreads;
    const implicit_gemm::TilePlace<Block> tile(s.out_channels);
    const int splits = static_cast<int>(gridDim.z), split = static_cast<int>(blockIdx.z);
    const int pixels = s.out_pixels(), stages = divide_up(pixels, Block::kDepth);
    // Whole stages, the earlier shares one more where they do not come out even: none begins past the end.
    const int begin = min((stages / splits * split + min(stages % splits, split)) * Block::kDepth, pixels);
    const int share = (stages / splits + (split < stages % splits ? 1 : 0)) * Block::kDepth;
    const int end = min(begin + share, pixels);
    const implicit_gemm::Images<T> images{x, s.batch, s.height, s.width, s.in_channels};
    const implicit_gemm::TransposedPatchOperand<T, Block::kRows, kThreads, kGrain> a(
        images, s.patches(), s.kernel_height, s.kernel_width, tile.row, end);
    const implicit_gemm::DenseOperand<T, Block::kColumns, kThreads, kGrain> b(dy, s.out_channels, end,
                                                                            tile.column);
    const auto product = implicit_gemm::multiply<Block>(shared, a, b, begin, end);
    const int first = split * s.patch() * s.out_channels;
    const implicit_gemm::WideTarget parts(partial);
    const implicit_gemm::DenseOutput<implicit_gemm::WideTarget> output{parts, nullptr, first, s.patch(),
                                                                       s.out_channels, 0};
    const implicit_gemm::TilePlace<Block> place(implicit_gemm::again(s.out_channels));
    implicit_gemm::write_product<kGrain>(product, output, place.row, place.column);
}

/// Whether the channels of both images come in whole grains of `grain` values.
__device__ __forceinline__ bool whole(const Shape& s, int grain) {
    return s.in_channels % grain == 0 && s.out_channels % grain == 0;
}

// ---- Ordered sums ----

/// Channels of a block of `sum_pixels`, and its threads.
constexpr int kSumThreads = 256;

/// partial [gridDim.x, channels]: sums of dy [pixels, channels], each over its share of the pixels. A
/// block's threads read adjacent values; those of a channel are then added in the order of the threads.
/// `shared` has kSumThreads floats.
template <class Storage, class T>
__device__ __forceinline__ void sum_pixels(Storage storage, float* shared, const T* dy, float* partial,
                                           int pixels, int channels) {
    const int thread = static_cast<int>(threadIdx.x);
    const int first_channel = static_cast<int>(blockIdx.y) * kSumThreads;
    const int own = min(channels - first_channel, kSumThreads), lanes = kSumThreads / own;
    const int lane = thread / own, channel = first_channel + thread - lane * own;
    const int share = divide_up(pixels, static_cast<int>(gridDim.x));
    const long long begin = static_cast<long long>(blockIdx.x) * share;
    const int end = static_cast<int>(min(begin + share, static_cast<long long>(pixels)));
    float sum = 0.0f;
    if (lane < lanes && begin < end) {
        // Four loads in flight a thread keep the memory busy.
#pragma unroll 4
        for (int pixel = static_cast<int>(begin) + lane; pixel < end; pixel += lanes) {
            sum += storage.load(dy + pixel * channels + channel);
        }
    }
    shared[thread] = sum;
    __syncthreads();
    if (lane == 0) {
        for (int other = 1; other < lanes; ++other) sum += shared[other * own + thread];
        partial[static_cast<int>(blockIdx.x) * channels + channel] = sum;
    }
}

/// out[i] = or += the sum over `parts` of partial [parts, length], in their order.
__device__ __forceinline__ void sum_parts(const float* partial, float* out, int parts, int length, int add) {
    const int i = static_cast<int>(blockIdx.x) * kSumThreads + static_cast<int>(threadIdx.x);
    if (i >= length) return;
    float sum = 0.0f;
#pragma unroll 8
    for (int part = 0; part < parts; ++part) sum += partial[static_cast<long long>(part) * length + i];
    out[i] = add ? out[i] + sum : sum;
}

} // namespace convolution
