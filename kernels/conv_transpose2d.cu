// The adjoint of conv2d in its image, plus a bias: an upsampling convolution, and its gradients
// (here, in conv_transpose2d_backward_dx.cu and conv_transpose2d_backward_dw.cu).
//
// x [batch, height, width, in_channels], w [kernel_height, kernel_width, out_channels, in_channels],
// bias [out_channels], y [batch, out_height, out_width, out_channels] with
// out_height = (height - 1) stride + kernel_height - 2 padding. Every tensor, and every workspace, has fewer
// than 2^31 elements and begins at a multiple of 16 bytes.
//
// What the host launches; all else is as in conv2d.cu.
//   tiles(m, n, rows, columns) = ceil(m / rows) ceil(n / columns)
//   tiles_y(rows, columns) = tiles(batch * cells(out_height) * cells(out_width), stride^2 out_channels, rows,
//     columns) with cells(n) = floor((n - 1 + padding) / stride) - floor(padding / stride) + 1
//   tiles_x(rows, columns) = tiles(batch * height * width, in_channels, rows, columns)
//   tiles_w(rows, columns) = tiles(kernel_height * kernel_width * out_channels, in_channels, rows, columns)
//   dw: the depth is the pixels of x: splits at most ceil(batch * height * width / 512) fill the card.
//   bias: pixels of y and out_channels.

#include "convolution.cuh"

// bound: operations; expect 80 % of the tensor cores' TF32 peak: 32 products a byte brought in keep the
// tensor cores ahead of the L2 cache
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv_transpose2d_forward_tf32_128x128(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                     // pixels of y from patch to patch
    int padding                     // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x128::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Tf32Tile128x128, 4>(stages, shape, x, w, bias,
                                                         implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 70 % of the tensor cores' TF32 peak: twice the tiles for few pixels; 21 products
// a byte from the L2 cache
// launch: grid (tiles_y(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv_transpose2d_forward_tf32_128x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                     // pixels of y from patch to patch
    int padding                     // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Tf32Tile128x64, 4>(stages, shape, x, w, bias,
                                                        implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 55 % of the tensor cores' TF32 peak: small tensors and any number of channels; 16
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv_transpose2d_forward_tf32_64x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                     // pixels of y from patch to patch
    int padding                     // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Tf32Tile64x64, 4>(stages, shape, x, w, bias,
                                                           implicit_gemm::WideTarget(y), 0);
    } else {
        convolution::backward_dx<matrix::Tf32Tile64x64, 1>(stages, shape, x, w, bias,
                                                           implicit_gemm::WideTarget(y), 0);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv_transpose2d_forward_bf16_128x128(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                           // pixels of y from patch to patch
    int padding                           // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{y, wide};
    convolution::backward_dx<matrix::Bf16Tile128x128, 8>(stages, shape, x, w, bias, to, 0);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv_transpose2d_forward_bf16_64x64(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                           // pixels of y from patch to patch
    int padding                           // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{y, wide};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dx<matrix::Bf16Tile64x64, 8>(stages, shape, x, w, bias, to, 0);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Bf16Tile64x64, 4>(stages, shape, x, w, bias, to, 0);
    } else {
        convolution::backward_dx<matrix::Bf16Tile64x64, 1>(stages, shape, x, w, bias, to, 0);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_y(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv_transpose2d_forward_fp16_128x128(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                           // pixels of y from patch to patch
    int padding                           // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{y, wide};
    convolution::backward_dx<matrix::Fp16Tile128x128, 8>(stages, shape, x, w, bias, to, 0);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv_transpose2d_forward_fp16_64x64(
    const unsigned short* __restrict__ x, // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ w, // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                           // pixels of y from patch to patch
    int padding                           // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{y, wide};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dx<matrix::Fp16Tile64x64, 8>(stages, shape, x, w, bias, to, 0);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Fp16Tile64x64, 4>(stages, shape, x, w, bias, to, 0);
    } else {
        convolution::backward_dx<matrix::Fp16Tile64x64, 1>(stages, shape, x, w, bias, to, 0);
    }
}

// bound: operations; expect 60 % of the fp32 peak: a thread reads 12 words of shared memory for 32 multiply-
// adds, which holds it to two thirds
// launch: grid (tiles_y(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv_transpose2d_forward_fp32_128x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                     // pixels of y from patch to patch
    int padding                     // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Fp32Tile128x64, 4>(stages, shape, x, w, bias,
                                                        implicit_gemm::WideTarget(y), 0);
}

// bound: operations; expect 50 % of the fp32 peak: small tensors and any number of channels; 16 products a
// byte from the L2 cache
// launch: grid (tiles_y(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv_transpose2d_forward_fp32_64x64(
    const float* __restrict__ x,    // images, [batch, height, width, in_channels]
    const float* __restrict__ w,    // weights, [kernel_height, kernel_width, out_channels, in_channels]
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
    int stride,                     // pixels of y from patch to patch
    int padding                     // lines cut off y on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, out_height, out_width, out_channels, height, width, in_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Fp32Tile64x64, 4>(stages, shape, x, w, bias,
                                                           implicit_gemm::WideTarget(y), 0);
    } else {
        convolution::backward_dx<matrix::Fp32Tile64x64, 1>(stages, shape, x, w, bias,
                                                           implicit_gemm::WideTarget(y), 0);
    }
}

// bound: bytes; expect 85 % of the bandwidth: dy is read once, in adjacent words
// launch: grid (chunks, ceil(channels / 256), 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256) conv_transpose2d_backward_bias(
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
extern "C" __global__ void __launch_bounds__(256) conv_transpose2d_backward_bias_narrow(
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
extern "C" __global__ void __launch_bounds__(256) conv_transpose2d_backward_sum(
    const float* __restrict__ partial, // parts of a gradient, [parts, length]
    float* __restrict__ gradient,      // of w or of the bias, [length]
    int parts,                         // splits or chunks
    int length,                        // values of w or of the bias
    int add                            // 1: gradient += the sum, 0: gradient = it
) {
    convolution::sum_parts(partial, gradient, parts, length, add);
}
