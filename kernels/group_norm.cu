// Group normalisation with the SiLU in the same pass: the entry points of group_norm.cuh.
#include "group_norm.cuh"

// bound: bytes; expect 85 % of the bandwidth: x once
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward_partial(
    const float* __restrict__ x, // [images, pixels, channels] input
    float* __restrict__ partial, // [images, chunks, 2, channels] sums of x - first and of its square
    int pixels,                  // of an image
    int channels                 // channels
) {
    forward_partial(storage::Wide{}, x, partial, pixels, channels);
}

// bound: bytes; expect 80 % of the bandwidth: as group_norm_forward_partial with half the bytes of the images
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward_partial_narrow(
    const unsigned short* __restrict__ x, // [images, pixels, channels] input
    float* __restrict__ partial,          // [images, chunks, 2, channels] sums of x - first and of its square
    int pixels,                           // of an image
    int channels,                         // channels
    int bf16                              // 1: bf16, 0: fp16
) {
    forward_partial(storage::Narrow{bf16}, x, partial, pixels, channels);
}

// bound: bytes; the sums of a few hundred chunks
// launch: grid (groups, images), block 128
extern "C" __global__ void __launch_bounds__(128) group_norm_forward_statistics(
    const float* __restrict__ x,       // [images, pixels, channels] input
    const float* __restrict__ partial, // [images, chunks, 2, channels] of group_norm_forward_partial
    float* __restrict__ saved,         // [2, images, groups] means, then 1 / sqrt(variance + epsilon)
    int pixels,                        // of an image
    int channels,                      // channels
    int chunks,                        // of an image
    float epsilon                      // added to the variance
) {
    forward_statistics(storage::Wide{}, x, partial, saved, pixels, channels, chunks, epsilon);
}

// bound: bytes; expect 80 % of the bandwidth: as group_norm_forward_statistics with half the bytes of the images
// launch: grid (groups, images), block 128
extern "C" __global__ void __launch_bounds__(128) group_norm_forward_statistics_narrow(
    const unsigned short* __restrict__ x, // [images, pixels, channels] input
    const float* __restrict__ partial,    // [images, chunks, 2, channels] of group_norm_forward_partial
    float* __restrict__ saved,            // [2, images, groups] means, then 1 / sqrt(variance + epsilon)
    int pixels,                           // of an image
    int channels,                         // channels
    int chunks,                           // of an image
    float epsilon,                        // added to the variance
    int bf16                              // 1: bf16, 0: fp16
) {
    forward_statistics(storage::Narrow{bf16}, x, partial, saved, pixels, channels, chunks, epsilon);
}

// bound: bytes; expect 85 % of the bandwidth: one read and one write a value
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    float* __restrict__ y,           // [images, pixels, channels] output
    int values,                      // of an image: pixels * channels
    int channels,                    // channels
    int groups,                      // of channels
    int activate                     // 1: follow with the SiLU
) {
    forward(storage::Wide{}, x, saved, gamma, beta, y, values, channels, groups, activate);
}

// bound: bytes; expect 80 % of the bandwidth: as group_norm_forward with half the bytes of the images
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_forward_narrow(
    const unsigned short* __restrict__ x, // [images, pixels, channels] input
    const float* __restrict__ saved,      // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma,      // [channels] scale
    const float* __restrict__ beta,       // [channels] shift
    unsigned short* __restrict__ y,       // [images, pixels, channels] output
    int values,                           // of an image: pixels * channels
    int channels,                         // channels
    int groups,                           // of channels
    int activate,                         // 1: follow with the SiLU
    int bf16                              // 1: bf16, 0: fp16
) {
    forward(storage::Narrow{bf16}, x, saved, gamma, beta, y, values, channels, groups, activate);
}

// bound: bytes; expect 85 % of the bandwidth: x and dy once
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_partial(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ dy,    // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    float* __restrict__ partial,     // [images, chunks, 2, channels] sums of du and of du * x normalised
    int pixels,                      // of an image
    int channels,                    // channels
    int groups,                      // of channels
    int activate                     // 1: the SiLU follows
) {
    backward_partial(storage::Wide{}, x, dy, saved, gamma, beta, partial, pixels, channels, groups, activate);
}

// bound: bytes; expect 80 % of the bandwidth: as group_norm_backward_partial with half the bytes of the images
// launch: grid (chunks, ceil(channels / 32), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_partial_narrow(
    const unsigned short* __restrict__ x,  // [images, pixels, channels] input
    const unsigned short* __restrict__ dy, // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved,       // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma,       // [channels] scale
    const float* __restrict__ beta,        // [channels] shift
    float* __restrict__ partial,           // [images, chunks, 2, channels] sums of du and of du * x normalised
    int pixels,                            // of an image
    int channels,                          // channels
    int groups,                            // of channels
    int activate,                          // 1: the SiLU follows
    int bf16                               // 1: bf16, 0: fp16
) {
    backward_partial(storage::Narrow{bf16}, x, dy, saved, gamma, beta, partial, pixels, channels, groups, activate);
}

// The gradient of gamma (offset = channels) or of beta (offset = 0).
// bound: bytes; the sums of all chunks
// launch: a thread a channel, blocks of 64
extern "C" __global__ void __launch_bounds__(64) group_norm_backward_affine(
    const float* __restrict__ partial, // [lines, 2, channels] of group_norm_backward_partial
    float* __restrict__ gradient,      // [channels] of gamma or beta
    int lines,                         // images * chunks
    int channels,                      // channels
    int offset,                        // 0: sums, channels: products
    int add                            // 0: overwrite the gradient, 1: add to it
) {
    int c = thread_index();
    if (c >= channels) return;
    double sum = 0.0;
    for (int line = 0; line < lines; line++) sum += partial[(size_t)line * 2 * channels + offset + c];
    accumulate(gradient + c, (float)sum, add);
}

// Means over each group of gamma du and of gamma du x normalised.
// bound: bytes; the sums of all chunks of an image
// launch: grid (groups, images), block 128
extern "C" __global__ void __launch_bounds__(128) group_norm_backward_means(
    const float* __restrict__ partial, // [images, chunks, 2, channels] of group_norm_backward_partial
    const float* __restrict__ gamma,   // [channels] scale
    float* __restrict__ means,         // [2, images, groups] of gamma du, then of gamma du x normalised
    int pixels,                        // of an image
    int channels,                      // channels
    int chunks                         // of an image
) {
    __shared__ double warps[128 / WARP];
    int width = channels / gridDim.x, first = blockIdx.x * width;
    const float* lines = partial + (size_t)blockIdx.y * chunks * 2 * channels;
    for (int which = 0; which < 2; which++) {
        double total = 0.0;
        for (int k = threadIdx.x; k < chunks * width; k += 128) {
            int chunk = k / width, c = first + k % width;
            total += (double)gamma[c] * lines[(chunk * 2 + which) * channels + c];
        }
        total = block_sum(total, warps);
        int at = (which * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        if (threadIdx.x == 0) means[at] = (float)(total / ((double)pixels * width));
        __syncthreads();
    }
}

// dx = rstd (gamma du - mean(gamma du) - xn mean(gamma du xn)), the means over the group.
// bound: bytes; expect 85 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_dx(
    const float* __restrict__ x,     // [images, pixels, channels] input
    const float* __restrict__ dy,    // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved, // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma, // [channels] scale
    const float* __restrict__ beta,  // [channels] shift
    const float* __restrict__ means, // [2, images, groups] of group_norm_backward_means
    float* __restrict__ dx,          // [images, pixels, channels] gradient of x
    int values,                      // of an image: pixels * channels
    int channels,                    // channels
    int groups,                      // of channels
    int activate,                    // 1: the SiLU follows
    int add                          // 0: overwrite dx, 1: add to it
) {
    backward_dx(storage::Wide{}, x, dy, saved, gamma, beta, means, dx, values, channels, groups, activate, add);
}

// bound: bytes; expect 80 % of the bandwidth: as group_norm_backward_dx with half the bytes of the images
// launch: grid (ceil(pixels * channels / 256), images), block 256
extern "C" __global__ void __launch_bounds__(256) group_norm_backward_dx_narrow(
    const unsigned short* __restrict__ x,  // [images, pixels, channels] input
    const unsigned short* __restrict__ dy, // [images, pixels, channels] gradient of the output
    const float* __restrict__ saved,       // [2, images, groups] means, 1 / deviations
    const float* __restrict__ gamma,       // [channels] scale
    const float* __restrict__ beta,        // [channels] shift
    const float* __restrict__ means,       // [2, images, groups] of group_norm_backward_means
    unsigned short* __restrict__ dx,       // [images, pixels, channels] gradient of x
    int values,                            // of an image: pixels * channels
    int channels,                          // channels
    int groups,                            // of channels
    int activate,                          // 1: the SiLU follows
    int add,                               // 0: overwrite dx, 1: add to it
    int bf16                               // 1: bf16, 0: fp16
) {
    backward_dx(storage::Narrow{bf16}, x, dy, saved, gamma, beta, means, dx, values, channels, groups, activate, add);
}
