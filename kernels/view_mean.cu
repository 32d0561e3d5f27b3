// y[b, v] = mean over the V views of x[b, .]. The map is its own adjoint.
#include "common.cuh"

__device__ __forceinline__ void spread(const float* x, float* y, int n, int image, int views, int add) {
    int i = thread_index();
    if (i >= n) return;
    int group = i / image, pixel = i % image;
    int first = group * views * image + pixel;
    float sum = 0.0f;
    for (int v = 0; v < views; v++) sum += x[first + v * image];
    float mean = sum / views;
    for (int v = 0; v < views; v++) accumulate(y + first + v * image, mean, add);
}

// bound: bytes; expect 85 % of the bandwidth: one read and one write a value
// launch: a thread a value of one view, blocks of 256
extern "C" __global__ void __launch_bounds__(256) view_mean_forward(
    const float* __restrict__ x, // [n / image, views, image] input
    float* __restrict__ y,       // [n / image, views, image] output
    int n,                       // values of one view of all groups
    int image,                   // values of an image
    int views                    // images of a group
) {
    spread(x, y, n, image, views, 0);
}

// bound: bytes; expect 85 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value of one view, blocks of 256
extern "C" __global__ void __launch_bounds__(256) view_mean_backward(
    const float* __restrict__ dy, // [n / image, views, image] gradient of the output
    float* __restrict__ dx,       // [n / image, views, image] gradient of the input
    int n,                        // values of one view of all groups
    int image,                    // values of an image
    int views,                    // images of a group
    int add                       // 0: overwrite dx, 1: add to it
) {
    spread(dy, dx, n, image, views, add);
}
