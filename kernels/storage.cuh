// How arrays lie in memory: as floats, or in 2 bytes a value (bf16: 8 significant bits and the range of a float;
// fp16: 11 bits, to 65504), which are widened on the way in and rounded to nearest, ties to even, on the way out.
#pragma once

namespace storage {

/// Two values in bf16 or fp16; `low` in the lower half.
__device__ __forceinline__ unsigned round_bf16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ unsigned round_fp16(float low, float high) {
    unsigned pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

__device__ __forceinline__ float widen_bf16(unsigned short value) {
    return __uint_as_float(static_cast<unsigned>(value) << 16);
}

__device__ __forceinline__ float widen_fp16(unsigned short value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}

struct Wide {
    using Type = float;

    __device__ __forceinline__ float load(const float* from) const { return *from; }
    __device__ __forceinline__ void store(float* to, float value) const { *to = value; }
};

/// bf16 where `bf16` is not 0, else fp16: known at run time alone where bytes bound a kernel anyway.
struct Narrow {
    using Type = unsigned short;
    int bf16;

    __device__ __forceinline__ float load(const unsigned short* from) const {
        return bf16 ? widen_bf16(*from) : widen_fp16(*from);
    }
    __device__ __forceinline__ void store(unsigned short* to, float value) const {
        *to = static_cast<unsigned short>(bf16 ? round_bf16(value, 0.0f) : round_fp16(value, 0.0f));
    }
};

/// The first writer of a gradient overwrites, later ones add.
template <class Storage>
__device__ __forceinline__ void accumulate(Storage storage, typename Storage::Type* slot, float value, int add) {
    storage.store(slot, add ? storage.load(slot) + value : value);
}

} // namespace storage
