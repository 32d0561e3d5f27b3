// 2-D cross-correlation of NHWC images, y = x * w + bias, and its gradients (here, in conv2d_backward_dx.cu
// and conv2d_backward_dw.cu) as implicit GEMM.
//
// x [batch, height, width, in_channels], w [kernel_height, kernel_width, in_channels, out_channels],
// bias [out_channels], y [batch, out_height, out_width, out_channels] with
// out_height = (height + 2 padding - kernel_height) / stride + 1. Every tensor, and every workspace, has fewer
// than 2^31 elements and begins at a multiple of 16 bytes.
//
// What the host launches. `_tf32`: fp32 tensors, products of inputs rounded to TF32, fp32 sums; `_fp32`: fp32
// throughout; `_bf16`, `_fp16`: images and weights lie in 2 bytes a value, sums, bias and the gradients of weights
// and bias in fp32, and what is written in fp32 too where `wide`.
// The suffix is the tile, rows x columns, of the product; all tiles give the same bits, per precision. 64x64
// takes any channels; the larger ones want in_channels and out_channels to be multiples of 4 (bf16, fp16: 8).
//   tiles(m, n, rows, columns) = ceil(m / rows) ceil(n / columns)
//   tiles_y(rows, columns) = tiles(batch * out_height * out_width, out_channels, rows, columns)
//   tiles_x(rows, columns) = tiles(batch * cells(height) * cells(width), stride^2 in_channels, rows, columns)
//     with cells(n) = floor((n - 1 + padding) / stride) - floor(padding / stride) + 1
//   tiles_w(rows, columns) = tiles(kernel_height * kernel_width * in_channels, out_channels, rows, columns)
// Which tile, and into how many splits for dw, is a matter of time alone: the host compares what the busiest
// multiprocessor computes, at the share of the peak below, with the bytes, those of dw's parts among them.
//   dw: any splits >= 1; the more, the evener the work and the more bytes.
//     Workspace splits * (values of w) floats, then backward_sum with parts = splits, length = values of w.
//     With splits = 1 and add = 0, dw itself can be the workspace, without backward_sum.
//   bias: any chunks >= 1; min(ceil(pixels of y / 64), 6 multiprocessors) fill the card. Workspace
//     chunks * out_channels floats, then backward_sum with parts = chunks, length = out_channels.
// For an empty batch there is no tile of y and x to launch; the gradients of w and bias come out as zeros.

#include "convolution.cuh"

// bound: operations; expect 80 % of the tensor cores' TF32 peak: 32 products a byte brought in keep the
// tensor cores ahead of the L2 cache
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_tf32_128x128(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias, // [out_channels]
    float* __restrict__ y,          // images, [batch, out_height, out_width, out_channels]
    int batch,                      // images
    int height,                     // of x, pixels
    int width,                      // of x, pixels
    int in_channels,                // of x
    int out_height,                 // of y, pixels
    int out_width,                  // of y, pixels
    int out_channels,               // of y
    int kernel_height,              // taps
    int kernel_width,               // taps
    int stride,                     // pixels of x from patch to patch
    int padding                     // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::forward<matrix::Tf32Tile128x128, 4>(stages, shape, x, w, bias,
                                                     implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 70 % of the tensor cores' TF32 peak: twice the tiles for few pixels; 21 products
// a byte from the L2 cache
// launch: grid (tiles_y(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_tf32_128x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias, // [out_channels]
    float* __restrict__ y,          // images, [batch, out_height, out_width, out_channels]
    int batch,                      // images
    int height,                     // of x, pixels
    int width,                      // of x, pixels
    int in_channels,                // of x
    int out_height,                 // of y, pixels
    int out_width,                  // of y, pixels
    int out_channels,               // of y
    int kernel_height,              // taps
    int kernel_width,               // taps
    int stride,                     // pixels of x from patch to patch
    int padding                     // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::forward<matrix::Tf32Tile128x64, 4>(stages, shape, x, w, bias, implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 55 % of the tensor cores' TF32 peak: small tensors and any number of channels; 16
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_tf32_64x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias, // [out_channels]
    float* __restrict__ y,          // images, [batch, out_height, out_width, out_channels]
    int batch,                      // images
    int height,                     // of x, pixels
    int width,                      // of x, pixels
    int in_channels,                // of x
    int out_height,                 // of y, pixels
    int out_width,                  // of y, pixels
    int out_channels,               // of y
    int kernel_height,              // taps
    int kernel_width,               // taps
    int stride,                     // pixels of x from patch to patch
    int padding                     // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::forward<matrix::Tf32Tile64x64, 4>(stages, shape, x, w, bias,
                                                       implicit_gemm::WideTarget(y), 0);
    } else {
        convolution::forward<matrix::Tf32Tile64x64, 1>(stages, shape, x, w, bias,
                                                       implicit_gemm::WideTarget(y), 0);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_bf16_128x128(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias,       // [out_channels]
    unsigned short* __restrict__ y,       // images, [batch, out_height, out_width, out_channels], or floats
    int wide,                             // 1: y lies in floats
    int batch,                            // images
    int height,                           // of x, pixels
    int width,                            // of x, pixels
    int in_channels,                      // of x
    int out_height,                       // of y, pixels
    int out_width,                        // of y, pixels
    int out_channels,                     // of y
    int kernel_height,                    // taps
    int kernel_width,                     // taps
    int stride,                           // pixels of x from patch to patch
    int padding                           // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{y, wide};
    convolution::forward<matrix::Bf16Tile128x128, 8>(stages, shape, x, w, bias, to, 0);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_bf16_64x64(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias,       // [out_channels]
    unsigned short* __restrict__ y,       // images, [batch, out_height, out_width, out_channels], or floats
    int wide,                             // 1: y lies in floats
    int batch,                            // images
    int height,                           // of x, pixels
    int width,                            // of x, pixels
    int in_channels,                      // of x
    int out_height,                       // of y, pixels
    int out_width,                        // of y, pixels
    int out_channels,                     // of y
    int kernel_height,                    // taps
    int kernel_width,                     // taps
    int stride,                           // pixels of x from patch to patch
    int padding                           // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{y, wide};
    if (convolution::whole(shape, 8)) {
        convolution::forward<matrix::Bf16Tile64x64, 8>(stages, shape, x, w, bias, to, 0);
    } else if (convolution::whole(shape, 4)) {
        convolution::forward<matrix::Bf16Tile64x64, 4>(stages, shape, x, w, bias, to, 0);
    } else {
        convolution::forward<matrix::Bf16Tile64x64, 1>(stages, shape, x, w, bias, to, 0);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_fp16_128x128(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias,       // [out_channels]
    unsigned short* __restrict__ y,       // images, [batch, out_height, out_width, out_channels], or floats
    int wide,                             // 1: y lies in floats
    int batch,                            // images
    int height,                           // of x, pixels
    int width,                            // of x, pixels
    int in_channels,                      // of x
    int out_height,                       // of y, pixels
    int out_width,                        // of y, pixels
    int out_channels,                     // of y
    int kernel_height,                    // taps
    int kernel_width,                     // taps
    int stride,                           // pixels of x from patch to patch
    int padding                           // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{y, wide};
    convolution::forward<matrix::Fp16Tile128x128, 8>(stages, shape, x, w, bias, to, 0);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_fp16_64x64(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias,       // [out_channels]
    unsigned short* __restrict__ y,       // images, [batch, out_height, out_width, out_channels], or floats
    int wide,                             // 1: y lies in floats
    int batch,                            // images
    int height,                           // of x, pixels
    int width,                            // of x, pixels
    int in_channels,                      // of x
    int out_height,                       // of y, pixels
    int out_width,                        // of y, pixels
    int out_channels,                     // of y
    int kernel_height,                    // taps
    int kernel_width,                     // taps
    int stride,                           // pixels of x from patch to patch
    int padding                           // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{y, wide};
    if (convolution::whole(shape, 8)) {
        convolution::forward<matrix::Fp16Tile64x64, 8>(stages, shape, x, w, bias, to, 0);
    } else if (convolution::whole(shape, 4)) {
        convolution::forward<matrix::Fp16Tile64x64, 4>(stages, shape, x, w, bias, to, 0);
    } else {
        convolution::forward<matrix::Fp16Tile64x64, 1>(stages, shape, x, w, bias, to, 0);
    }
}

// bound: operations; expect 60 % of the fp32 peak: a thread reads 12 words of shared memory for 32 multiply-
// adds, which holds it to two thirds
// launch: grid (tiles_y(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_forward_fp32_128x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias, // [out_channels]
    float* __restrict__ y,          // images, [batch, out_height, out_width, out_channels]
    int batch,                      // images
    int height,                     // of x, pixels
    int width,                      // of x, pixels
    int in_channels,                // of x
    int out_height,                 // of y, pixels
    int out_width,                  // of y, pixels
    int out_channels,               // of y
    int kernel_height,              // taps
    int kernel_width,               // taps
    int stride,                     // pixels of x from patch to patch
    int padding                     // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::forward<matrix::Fp32Tile128x64, 4>(stages, shape, x, w, bias, implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 50 % of the fp32 peak: small tensors and any number of channels; 16 products a
// byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_forward_fp32_64x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, in_channels, out_channels]
    const float* __restrict__ bias, // [out_channels]
    float* __restrict__ y,          // images, [batch, out_height, out_width, out_channels]
    int batch,                      // images
    int height,                     // of x, pixels
    int width,                      // of x, pixels
    int in_channels,                // of x
    int out_height,                 // of y, pixels
    int out_width,                  // of y, pixels
    int out_channels,               // of y
    int kernel_height,              // taps
    int kernel_width,               // taps
    int stride,                     // pixels of x from patch to patch
    int padding                     // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::forward<matrix::Fp32Tile64x64, 4>(stages, shape, x, w, bias,
                                                       implicit_gemm::WideTarget(y), 0);
    } else {
        convolution::forward<matrix::Fp32Tile64x64, 1>(stages, shape, x, w, bias,
                                                       implicit_gemm::WideTarget(y), 0);
    }
}

// bound: bytes; expect 85 % of the bandwidth: dy is read once, in adjacent words
// launch: grid (chunks, ceil(channels / 256), 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) conv2d_backward_bias(
    const float* __restrict__ dy, // gradient of y, [pixels, channels]
    float* __restrict__ partial,  // sums of the chunks, [chunks, channels]
    int pixels,                   // of y, of the whole batch
    int channels                  // of y
) {
    __shared__ float sums[convolution::kSumThreads];
    convolution::sum_pixels(storage::Wide{}, sums, dy, partial, pixels, channels);
}

// bound: bytes; expect 80 % of the bandwidth: dy is read once, in adjacent values
// launch: grid (chunks, ceil(channels / 256), 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) conv2d_backward_bias_narrow(
    const unsigned short* __restrict__ dy, // gradient of y, [pixels, channels]
    float* __restrict__ partial,           // sums of the chunks, [chunks, channels]
    int pixels,                            // of y, of the whole batch
    int channels,                          // of y
    int bf16                               // 1: bf16, 0: fp16
) {
    __shared__ float sums[convolution::kSumThreads];
    convolution::sum_pixels(storage::Narrow{bf16}, sums, dy, partial, pixels, channels);
}

// bound: bytes; expect 85 % of the bandwidth: partial is read once, in adjacent words
// launch: grid (ceil(length / 256), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) conv2d_backward_sum(
    const float* __restrict__ partial, // parts of a gradient, [parts, length]
    float* __restrict__ gradient,      // of w or of the bias, [length]
    int parts,                         // splits or chunks
    int length,                        // values of w or of the bias
    int add                            // 1: gradient += the sum, 0: gradient = it
) {
    convolution::sum_parts(partial, gradient, parts, length, add);
}
