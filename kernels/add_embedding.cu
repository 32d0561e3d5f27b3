// y[n, ...] = x[n, ...] + e[n mod V, ...]. The learned array lies in fp32.
#include "common.cuh"
#include "storage.cuh"

template <class Storage, class T>
__device__ __forceinline__ void forward(Storage storage, const T* x, const float* e, T* y, int n, int period) {
    int i = thread_index();
    if (i < n) storage.store(y + i, storage.load(x + i) + e[i % period]);
}

template <class Storage, class T>
__device__ __forceinline__ void sum(Storage storage, const T* dy, float* de, int period, int repeats, int add) {
    int i = thread_index();
    if (i >= period) return;
    float sum = 0.0f;
    for (int r = 0; r < repeats; r++) sum += storage.load(dy + r * period + i);
    accumulate(de + i, sum, add);
}

// bound: bytes; expect 85 % of the bandwidth: x and y once, e from the cache after the first view
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_forward(
    const float* __restrict__ x, // [n] input, n a multiple of period
    const float* __restrict__ e, // [period] the learned array
    float* __restrict__ y,       // [n] output
    int n,                       // values of x
    int period                   // values of e
) {
    forward(storage::Wide{}, x, e, y, n, period);
}

// bound: bytes; expect 80 % of the bandwidth: as add_embedding_forward with half the bytes
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_forward_narrow(
    const unsigned short* __restrict__ x, // [n] input, n a multiple of period
    const float* __restrict__ e,          // [period] the learned array
    unsigned short* __restrict__ y,       // [n] output
    int n,                                // values of x
    int period,                           // values of e
    int bf16                              // 1: bf16, 0: fp16
) {
    forward(storage::Narrow{bf16}, x, e, y, n, period);
}

// bound: bytes; expect 85 % of the bandwidth: dy once
// launch: a thread a value of e, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_backward_de(
    const float* __restrict__ dy, // [repeats, period] gradient of the output
    float* __restrict__ de,       // [period] gradient of e
    int period,                   // values of e
    int repeats,                  // how often e was added
    int add                       // 0: overwrite de, 1: add to it
) {
    sum(storage::Wide{}, dy, de, period, repeats, add);
}

// bound: bytes; expect 80 % of the bandwidth: as add_embedding_backward_de with half the bytes
// launch: a thread a value of e, blocks of 256
extern "C" __global__ void __launch_bounds__(256) add_embedding_backward_de_narrow(
    const unsigned short* __restrict__ dy, // [repeats, period] gradient of the output
    float* __restrict__ de,                // [period] gradient of e
    int period,                            // values of e
    int repeats,                           // how often e was added
    int add,                               // 0: overwrite de, 1: add to it
    int bf16                               // 1: bf16, 0: fp16
) {
    sum(storage::Narrow{bf16}, dy, de, period, repeats, add);
}
