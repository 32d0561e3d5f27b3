// y = a + b.
#include "common.cuh"
#include "storage.cuh"

template <class Storage, class T>
__device__ __forceinline__ void sum(Storage storage, const T* a, const T* b, T* y, int n) {
    int i = thread_index();
    if (i < n) storage.store(y + i, storage.load(a + i) + storage.load(b + i));
}

// bound: bytes; expect 90 % of the bandwidth: two reads and one write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_forward(
    const float* __restrict__ a, // [n] one input
    const float* __restrict__ b, // [n] the other
    float* __restrict__ y,       // [n] output
    int n                        // values
) {
    sum(storage::Wide{}, a, b, y, n);
}

// bound: bytes; expect 85 % of the bandwidth: as add_forward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_forward_narrow(
    const unsigned short* __restrict__ a, // [n] one input
    const unsigned short* __restrict__ b, // [n] the other
    unsigned short* __restrict__ y,       // [n] output
    int n,                                // values
    int bf16                              // 1: bf16, 0: fp16
) {
    sum(storage::Narrow{bf16}, a, b, y, n);
}
