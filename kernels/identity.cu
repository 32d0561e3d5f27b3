// y = x: the template for the kernels of a new op; and the same values in 2 bytes, for products.
#include "common.cuh"
#include "storage.cuh"

template <class Storage, class T>
__device__ __forceinline__ void pass(Storage storage, const T* from, T* to, int n, int add) {
    int i = thread_index();
    if (i < n) storage::accumulate(storage, to + i, storage.load(from + i), add);
}

// bound: bytes; expect 90 % of the bandwidth: one read and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) identity_forward(
    const float* __restrict__ x, // [n] input
    float* __restrict__ y,       // [n] output
    int n                        // values
) {
    pass(storage::Wide{}, x, y, n, 0);
}

// bound: bytes; expect 85 % of the bandwidth: as identity_forward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) identity_forward_narrow(
    const unsigned short* __restrict__ x, // [n] input
    unsigned short* __restrict__ y,       // [n] output
    int n,                                // values
    int bf16                              // 1: bf16, 0: fp16
) {
    pass(storage::Narrow{bf16}, x, y, n, 0);
}

// bound: bytes; expect 90 % of the bandwidth: one read (two where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) identity_backward(
    const float* __restrict__ dy, // [n] gradient of the output
    float* __restrict__ dx,       // [n] gradient of the input
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    pass(storage::Wide{}, dy, dx, n, add);
}

// bound: bytes; expect 85 % of the bandwidth: as identity_backward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) identity_backward_narrow(
    const unsigned short* __restrict__ dy, // [n] gradient of the output
    unsigned short* __restrict__ dx,       // [n] gradient of the input
    int n,                                 // values
    int add,                               // 0: overwrite dx, 1: add to it
    int bf16                               // 1: bf16, 0: fp16
) {
    pass(storage::Narrow{bf16}, dy, dx, n, add);
}

// Rounded copies of fp32 arrays: the weights once a step, images that lie in fp32 before their product.
// bound: bytes; expect 90 % of the bandwidth: 4 read and 2 written a value, two values a thread
// launch: a thread for every 2 values, blocks of 256
extern "C" __global__ void __launch_bounds__(256) identity_round(
    const float* __restrict__ x,    // [n] fp32, at a multiple of 8 bytes
    unsigned short* __restrict__ y, // [n] bf16 or fp16, at a multiple of 4 bytes
    int n,                          // values
    int bf16                        // 1: bf16, 0: fp16
) {
    int i = 2 * thread_index();
    if (i + 1 < n) {
        float2 pair = *reinterpret_cast<const float2*>(x + i);
        *reinterpret_cast<unsigned*>(y + i) =
            bf16 ? storage::round_bf16(pair.x, pair.y) : storage::round_fp16(pair.x, pair.y);
    } else if (i < n) {
        storage::Narrow{bf16}.store(y + i, x[i]);
    }
}
