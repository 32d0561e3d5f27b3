// conv2d: the gradient of its image.
// Shapes and launches are in conv2d.cu.

#include "convolution.cuh"

// bound: operations; expect 80 % of the tensor cores' TF32 peak: 32 products a byte brought in keep the
// tensor cores ahead of the L2 cache
// launch: grid (tiles_x(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dx_tf32_128x128(
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const float* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    float* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels]
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
    int padding,                  // zeros around x on all sides, pixels
    int add                       // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Tf32Tile128x128, 4>(stages, shape, dy, w, nullptr,
                                                         implicit_gemm::WideTarget(dx), add);
}

// bound: operations; expect 70 % of the tensor cores' TF32 peak: twice the tiles for few pixels; 21 products
// a byte from the L2 cache
// launch: grid (tiles_x(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dx_tf32_128x64(
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const float* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    float* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels]
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
    int padding,                  // zeros around x on all sides, pixels
    int add                       // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Tf32Tile128x64, 4>(stages, shape, dy, w, nullptr,
                                                        implicit_gemm::WideTarget(dx), add);
}

// bound: operations; expect 55 % of the tensor cores' TF32 peak: small tensors and any number of channels; 16
// products a byte from the L2 cache
// launch: grid (tiles_x(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dx_tf32_64x64(
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const float* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    float* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels]
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
    int padding,                  // zeros around x on all sides, pixels
    int add                       // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Tf32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Tf32Tile64x64, 4>(stages, shape, dy, w, nullptr,
                                                           implicit_gemm::WideTarget(dx), add);
    } else {
        convolution::backward_dx<matrix::Tf32Tile64x64, 1>(stages, shape, dy, w, nullptr,
                                                           implicit_gemm::WideTarget(dx), add);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_x(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dx_bf16_128x128(
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const unsigned short* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    unsigned short* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels], or floats
    int wide,                              // 1: dx lies in floats
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
    int padding,                           // zeros around x on all sides, pixels
    int add                                // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{dx, wide};
    convolution::backward_dx<matrix::Bf16Tile128x128, 8>(stages, shape, dy, w, nullptr, to, add);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_x(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dx_bf16_64x64(
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const unsigned short* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    unsigned short* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels], or floats
    int wide,                              // 1: dx lies in floats
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
    int padding,                           // zeros around x on all sides, pixels
    int add                                // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Bf16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<true> to{dx, wide};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dx<matrix::Bf16Tile64x64, 8>(stages, shape, dy, w, nullptr, to, add);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Bf16Tile64x64, 4>(stages, shape, dy, w, nullptr, to, add);
    } else {
        convolution::backward_dx<matrix::Bf16Tile64x64, 1>(stages, shape, dy, w, nullptr, to, add);
    }
}

// bound: operations; expect 75 % of the tensor cores' 16-bit peak: 64 products a byte brought in, twice TF32's
// at twice its rate
// launch: grid (tiles_x(128, 128), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dx_fp16_128x128(
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const unsigned short* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    unsigned short* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels], or floats
    int wide,                              // 1: dx lies in floats
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
    int padding,                           // zeros around x on all sides, pixels
    int add                                // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile128x128::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{dx, wide};
    convolution::backward_dx<matrix::Fp16Tile128x128, 8>(stages, shape, dy, w, nullptr, to, add);
}

// bound: operations; expect 50 % of the tensor cores' 16-bit peak: small tensors and any number of channels; 32
// products a byte from the L2 cache
// launch: grid (tiles_x(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dx_fp16_64x64(
    const unsigned short* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const unsigned short* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    unsigned short* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels], or floats
    int wide,                              // 1: dx lies in floats
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
    int padding,                           // zeros around x on all sides, pixels
    int add                                // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Fp16Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    const implicit_gemm::NarrowTarget<false> to{dx, wide};
    if (convolution::whole(shape, 8)) {
        convolution::backward_dx<matrix::Fp16Tile64x64, 8>(stages, shape, dy, w, nullptr, to, add);
    } else if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Fp16Tile64x64, 4>(stages, shape, dy, w, nullptr, to, add);
    } else {
        convolution::backward_dx<matrix::Fp16Tile64x64, 1>(stages, shape, dy, w, nullptr, to, add);
    }
}

// bound: operations; expect 60 % of the fp32 peak: a thread reads 12 words of shared memory for 32 multiply-
// adds, which holds it to two thirds
// launch: grid (tiles_x(128, 64), 1, 1), block 256, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(256, 2) conv2d_backward_dx_fp32_128x64(
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const float* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    float* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels]
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
    int padding,                  // zeros around x on all sides, pixels
    int add                       // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile128x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    convolution::backward_dx<matrix::Fp32Tile128x64, 4>(stages, shape, dy, w, nullptr,
                                                        implicit_gemm::WideTarget(dx), add);
}

// bound: operations; expect 50 % of the fp32 peak: small tensors and any number of channels; 16 products a
// byte from the L2 cache
// launch: grid (tiles_x(64, 64), 1, 1), block 128, dynamic shared 0 bytes
extern "C" __global__ void __launch_bounds__(128, 4) conv2d_backward_dx_fp32_64x64(
    const float* __restrict__ dy, // gradient of y, [batch, out_height, out_width, out_channels]
    const float* __restrict__ w,  // weights, [kernel_height, kernel_width, in_channels, out_channels]
    float* __restrict__ dx,       // gradient of x, [batch, height, width, in_channels]
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
    int padding,                  // zeros around x on all sides, pixels
    int add                       // 1: dx += the gradient, 0: dx = it
) {
    __shared__ __align__(128) float stages[matrix::Fp32Tile64x64::kShared];
    const convolution::Shape shape{
        batch, height, width, in_channels, out_height, out_width, out_channels,
        kernel_height, kernel_width, stride, padding};
    if (convolution::whole(shape, 4)) {
        convolution::backward_dx<matrix::Fp32Tile64x64, 4>(stages, shape, dy, w, nullptr,
                                                           implicit_gemm::WideTarget(dx), add);
    } else {
        convolution::backward_dx<matrix::Fp32Tile64x64, 1>(stages, shape, dy, w, nullptr,
                                                           implicit_gemm::WideTarget(dx), add);
    }
}
