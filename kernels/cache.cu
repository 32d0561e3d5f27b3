// Planes in the card's cache: half the bytes of fp32, with 11 significant bits.
#include "common.cuh"

// bound: bytes; expect 85 % of the bandwidth: 2 read and 4 written a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) cache_load(
    const unsigned short* __restrict__ cached, // [n] fp16, values of a mesh's planes
    float* __restrict__ planes,                // [n] fp32
    int n                                      // values
) {
    int i = thread_index();
    if (i >= n) return;
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(cached[i]));
    planes[i] = value;
}
