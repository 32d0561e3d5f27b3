// y[b, v] = mean over the V views of x[b, .]. The map is its own adjoint.
#include "common.cuh"
#include "storage.cuh"

template <class Storage, class T>
__device__ __forceinline__ void spread(Storage storage, const T* x, T* y, int n, int image, int views, int add) {
    int i = thread_index();
    if (i >= n) return;
    int group = i / image, pixel = i % image;
    int first = group * views * image + pixel;
    float sum = 0.0f;
    for (int v = 0; v < views; v++) sum += storage.load(x + first + v * image);
    float mean = sum / views;
    for (int v = 0; v < views; v++) storage::accumulate(storage, y + first + v * image, mean, add);
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
    spread(storage::Wide{}, x, y, n, image, views, 0);
}

// bound: bytes; expect 80 % of the bandwidth: as view_mean_forward with half the bytes
// launch: a thread a value of one view, blocks of 256
extern "C" __global__ void __launch_bounds__(256) view_mean_forward_narrow(
    const unsigned short* __restrict__ x, // [n / image, views, image] input
    unsigned short* __restrict__ y,       // [n / image, views, image] output
    int n,                                // values of one view of all groups
    int image,                            // values of an image
    int views,                            // images of a group
    int bf16                              // 1: bf16, 0: fp16
) {
    spread(storage::Narrow{bf16}, x, y, n, image, views, 0);
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
    spread(storage::Wide{}, dy, dx, n, image, views, add);
}

// bound: bytes; expect 80 % of the bandwidth: as view_mean_backward with half the bytes
// launch: a thread a value of one view, blocks of 256
extern "C" __global__ void __launch_bounds__(256) view_mean_backward_narrow(
    const unsigned short* __restrict__ dy, // [n / image, views, image] gradient of the output
    unsigned short* __restrict__ dx,       // [n / image, views, image] gradient of the input
    int n,                                 // values of one view of all groups
    int image,                             // values of an image
    int views,                             // images of a group
    int add,                               // 0: overwrite dx, 1: add to it
    int bf16                               // 1: bf16, 0: fp16
) {
    spread(storage::Narrow{bf16}, dy, dx, n, image, views, add);
}
