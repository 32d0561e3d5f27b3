// Random numbers of a step: Philox 4x32-10 (Salmon et al., SC 2011), the words of src/rng.rs at the position that the
// step's counter gives, as standard normal (Box and Muller, 1958), standard Gumbel or even deviates.
#include "common.cuh"

#define ROUNDS 10

__device__ __forceinline__ uint4 philox(uint4 counter, unsigned key0, unsigned key1) {
    for (int round = 0; round < ROUNDS; round++) {
        unsigned low0 = 0xD2511F53u * counter.x, high0 = __umulhi(0xD2511F53u, counter.x);
        unsigned low1 = 0xCD9E8D57u * counter.z, high1 = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
    return counter;
}

// Uniform in (0, 1): 23 bits and a half, so that every value is exact and neither end is met.
__device__ __forceinline__ float uniform(unsigned word) { return ((word >> 9) + 0.5f) * 1.1920928955078125e-7f; }

// Two independent standard normal deviates.
__device__ __forceinline__ void normals(unsigned a, unsigned b, float* y) {
    float radius = sqrtf(-2.0f * logf(uniform(a))), sine, cosine;
    sincospif(2.0f * uniform(b), &sine, &cosine);
    y[0] = radius * cosine, y[1] = radius * sine;
}

__device__ __forceinline__ float gumbel(unsigned word) { return -logf(-logf(uniform(word))); }

// bound: operations; expect 20 % of the bandwidth: one write a value against some 40 instructions
// launch: a thread for four values, blocks of 256
extern "C" __global__ void __launch_bounds__(256) noise_forward(
    const float* __restrict__ counter, // [2] number of the draw: its low 16 bits, the rest
    float* __restrict__ y,             // [n] deviates
    int n,                             // values
    int law,                           // 0: standard normal, 1: standard Gumbel, 2: evenly in (-1/2, 1/2)
    unsigned seed_low,                 // lower half of the seed
    unsigned seed_high,                // its upper half
    unsigned stream_low,               // lower half of the number of the stream
    unsigned stream_high               // its upper half
) {
    int thread = thread_index();
    if (thread >= (n + 3) / 4) return;
    unsigned long long draw = (unsigned long long)counter[0] + ((unsigned long long)counter[1] << 16);
    unsigned long long block = draw * ((n + 3) / 4) + thread;
    uint4 words = philox(make_uint4((unsigned)block, (unsigned)(block >> 32), stream_low, stream_high), seed_low,
                         seed_high);
    float four[4];
    if (law == 1) {
        four[0] = gumbel(words.x), four[1] = gumbel(words.y), four[2] = gumbel(words.z), four[3] = gumbel(words.w);
    } else if (law == 2) {
        four[0] = uniform(words.x) - 0.5f, four[1] = uniform(words.y) - 0.5f;
        four[2] = uniform(words.z) - 0.5f, four[3] = uniform(words.w) - 0.5f;
    } else {
        normals(words.x, words.y, four);
        normals(words.z, words.w, four + 2);
    }
    for (int k = 0; k < 4; k++)
        if (4 * thread + k < n) y[4 * thread + k] = four[k];
}
