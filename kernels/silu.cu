// y = x sigmoid(x).
#include "common.cuh"
#include "storage.cuh"

template <class Storage, class T>
__device__ __forceinline__ void forward(Storage storage, const T* x, T* y, int n) {
    int i = thread_index();
    if (i < n) storage.store(y + i, silu(storage.load(x + i)));
}

template <class Storage, class T>
__device__ __forceinline__ void backward(Storage storage, const T* x, const T* dy, T* dx, int n, int add) {
    int i = thread_index();
    if (i < n) storage::accumulate(storage, dx + i, storage.load(dy + i) * silu_slope(storage.load(x + i)), add);
}

// bound: bytes; expect 90 % of the bandwidth: one read and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_forward(
    const float* __restrict__ x, // [n] input
    float* __restrict__ y,       // [n] output
    int n                        // values
) {
    forward(storage::Wide{}, x, y, n);
}

// bound: bytes; expect 80 % of the bandwidth: as silu_forward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_forward_narrow(
    const unsigned short* __restrict__ x, // [n] input
    unsigned short* __restrict__ y,       // [n] output
    int n,                                // values
    int bf16                              // 1: bf16, 0: fp16
) {
    forward(storage::Narrow{bf16}, x, y, n);
}

// bound: bytes; expect 90 % of the bandwidth: two reads (three where it adds) and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_backward(
    const float* __restrict__ x,  // [n] input
    const float* __restrict__ dy, // [n] gradient of the output
    float* __restrict__ dx,       // [n] gradient of the input
    int n,                        // values
    int add                       // 0: overwrite dx, 1: add to it
) {
    backward(storage::Wide{}, x, dy, dx, n, add);
}

// bound: bytes; expect 80 % of the bandwidth: as silu_backward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) silu_backward_narrow(
    const unsigned short* __restrict__ x,  // [n] input
    const unsigned short* __restrict__ dy, // [n] gradient of the output
    unsigned short* __restrict__ dx,       // [n] gradient of the input
    int n,                                 // values
    int add,                               // 0: overwrite dx, 1: add to it
    int bf16                               // 1: bf16, 0: fp16
) {
    backward(storage::Narrow{bf16}, x, dy, dx, n, add);
}
