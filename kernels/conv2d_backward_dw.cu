// conv2d: the gradient of its weights, in shares of the pixels.
// Shapes and launches are in conv2d.cu.

#include "convolution.cuh"

// bound: operations; expect 80 % of the tensor cores' TF32 peak: 32 products a byte brought in keep the
// tensor cores ahead of the L2 cache
// launch: grid (tiles_w(128, 128), 1, splits), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dw_tf32_128x128(
    const float* __restrict__ x,  // images, [batch, height, width, in_channels]
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,  // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                    // images
    int height,                   // of x, pixels
    int width,                    // of x, pixels
    int in_channels,              // of x
    int out_height,               // of y, pixels
    int out_width,                // of y, pixels
    int out_channels,             // of y
    int kernel_height,            // taps
    int kernel_width,             // taps
    int stride,                   // pixels of x from patch to patch
    int padding                   // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dw<matrix::Tf32Tile128x128, 4>(stages, shape, x, dy, partial);
}

// bound: operations; expect 70 % of the tensor cores' TF32 peak: twice the tiles for few pixels; 21 products
// a byte from the L2 cache
// launch: grid (tiles_w(128, 64), 1, splits), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dw_tf32_128x64(
    const float* __restrict__ x,  // images, [batch, height, width, in_channels]
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,  // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                    // images
    int height,                   // of x, pixels
    int width,                    // of x, pixels
    int in_channels,              // of x
    int out_height,               // of y, pixels
    int out_width,                // of y, pixels
    int out_channels,             // of y
    int kernel_height,            // taps
    int kernel_width,             // taps
    int stride,                   // pixels of x from patch to patch
    int padding                   // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dw<matrix::Tf32Tile128x64, 4>(stages, shape, x, dy, partial);
}

// bound: operations; expect 55 % of the tensor cores' TF32 peak: small tensors and any number of channels; 16
// products a byte from the L2 cache
// launch: grid (tiles_w(64, 64), 1, splits), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dw_tf32_64x64(
    const float* __restrict__ x,  // images, [batch, height, width, in_channels]
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,  // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                    // images
    int height,                   // of x, pixels
    int width,                    // of x, pixels
    int in_channels,              // of x
    int out_height,               // of y, pixels
    int out_width,                // of y, pixels
    int out_channels,             // of y
    int kernel_height,            // taps
    int kernel_width,             // taps
    int stride,                   // pixels of x from patch to patch
    int padding                   // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dw<matrix::Tf32Tile64x64, 4>(stages, shape, x, dy, partial);
    } else {
        convolution::backward_dw<matrix::Tf32Tile64x64, 1>(stages, shape, x, dy, partial);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_w(128, 128), 1, splits), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dw_bf16_128x128(
    const unsigned short* __restrict__ x,  // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,           // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                             // images
    int height,                            // of x, pixels
    int width,                             // of x, pixels
    int in_channels,                       // of x
    int out_height,                        // of y, pixels
    int out_width,                         // of y, pixels
    int out_channels,                      // of y
    int kernel_height,                     // taps
    int kernel_width,                      // taps
    int stride,                            // pixels of x from patch to patch
    int padding                            // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dw<matrix::Bf16Tile128x128, 8>(stages, shape, x, dy, partial);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_w(64, 64), 1, splits), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dw_bf16_64x64(
    const unsigned short* __restrict__ x,  // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,           // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                             // images
    int height,                            // of x, pixels
    int width,                             // of x, pixels
    int in_channels,                       // of x
    int out_height,                        // of y, pixels
    int out_width,                         // of y, pixels
    int out_channels,                      // of y
    int kernel_height,                     // taps
    int kernel_width,                      // taps
    int stride,                            // pixels of x from patch to patch
    int padding                            // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dw<matrix::Bf16Tile64x64, 8>(stages, shape, x, dy, partial);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dw<matrix::Bf16Tile64x64, 4>(stages, shape, x, dy, partial);
    } else {
        convolution::backward_dw<matrix::Bf16Tile64x64, 1>(stages, shape, x, dy, partial);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_w(128, 128), 1, splits), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dw_fp16_128x128(
    const unsigned short* __restrict__ x,  // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,           // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                             // images
    int height,                            // of x, pixels
    int width,                             // of x, pixels
    int in_channels,                       // of x
    int out_height,                        // of y, pixels
    int out_width,                         // of y, pixels
    int out_channels,                      // of y
    int kernel_height,                     // taps
    int kernel_width,                      // taps
    int stride,                            // pixels of x from patch to patch
    int padding                            // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dw<matrix::Fp16Tile128x128, 8>(stages, shape, x, dy, partial);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_w(64, 64), 1, splits), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dw_fp16_64x64(
    const unsigned short* __restrict__ x,  // images, [batch, height, width, in_channels]
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,           // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                             // images
    int height,                            // of x, pixels
    int width,                             // of x, pixels
    int in_channels,                       // of x
    int out_height,                        // of y, pixels
    int out_width,                         // of y, pixels
    int out_channels,                      // of y
    int kernel_height,                     // taps
    int kernel_width,                      // taps
    int stride,                            // pixels of x from patch to patch
    int padding                            // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dw<matrix::Fp16Tile64x64, 8>(stages, shape, x, dy, partial);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dw<matrix::Fp16Tile64x64, 4>(stages, shape, x, dy, partial);
    } else {
        convolution::backward_dw<matrix::Fp16Tile64x64, 1>(stages, shape, x, dy, partial);
    }
}

// bound: operations; expect 60 % of the fp32 peak: a thread reads 12 words of shared memory for 32 multiply-
// adds, which holds it to two thirds
// launch: grid (tiles_w(128, 64), 1, splits), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dw_fp32_128x64(
    const float* __restrict__ x,  // images, [batch, height, width, in_channels]
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,  // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                    // images
    int height,                   // of x, pixels
    int width,                    // of x, pixels
    int in_channels,              // of x
    int out_height,               // of y, pixels
    int out_width,                // of y, pixels
    int out_channels,             // of y
    int kernel_height,            // taps
    int kernel_width,             // taps
    int stride,                   // pixels of x from patch to patch
    int padding                   // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dw<matrix::Fp32Tile128x64, 4>(stages, shape, x, dy, partial);
}

// bound: operations; expect 50 % of the fp32 peak: small tensors and any number of channels; 16 products a
// byte from the L2 cache
// launch: grid (tiles_w(64, 64), 1, splits), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dw_fp32_64x64(
    const float* __restrict__ x,  // images, [batch, height, width, in_channels]
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    float* __restrict__ partial,  // gradient of w by split, [splits, taps, in_channels, out_channels]
    int batch,                    // images
    int height,                   // of x, pixels
    int width,                    // of x, pixels
    int in_channels,              // of x
    int out_height,               // of y, pixels
    int out_width,                // of y, pixels
    int out_channels,             // of y
    int kernel_height,            // taps
    int kernel_width,             // taps
    int stride,                   // pixels of x from patch to patch
    int padding                   // zeros around x on all sides, pixels
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dw<matrix::Fp32Tile64x64, 4>(stages, shape, x, dy, partial);
    } else {
        convolution::backward_dw<matrix::Fp32Tile64x64, 1>(stages, shape, x, dy, partial);
    }
}
