// Arithmetic in which every operation is rounded once, in the order written.
//
// The compiler contracts a * b + c, written with operators, into one rounding. The CPU never does, so that where
// a result must be the CPU's to the last bit (which pixel, which side of a plane) these are used instead.
#pragma once

constexpr float LARGEST_FINITE = 3.402823466e38f;
constexpr float SMALLEST_NORMAL = 1.175494351e-38f;

__device__ __forceinline__ float add(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float sub(float a, float b) { return __fsub_rn(a, b); }
__device__ __forceinline__ float mul(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float quotient(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ float root(float a) { return __fsqrt_rn(a); }

__device__ __forceinline__ double add(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double sub(double a, double b) { return __dsub_rn(a, b); }
__device__ __forceinline__ double mul(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ double quotient(double a, double b) { return __ddiv_rn(a, b); }
__device__ __forceinline__ double root(double a) { return __dsqrt_rn(a); }

// The larger and the smaller of two numbers by one comparison: b where one of them is not a number.
template <typename T> __device__ __forceinline__ T larger(T a, T b) { return a > b ? a : b; }
template <typename T> __device__ __forceinline__ T smaller(T a, T b) { return a < b ? a : b; }

template <typename T> struct Vector {
    T x, y, z;

    __device__ __forceinline__ T operator[](int axis) const { return axis == 0 ? x : axis == 1 ? y : z; }
};

template <typename T> __device__ __forceinline__ Vector<T> operator-(Vector<T> a, Vector<T> b) {
    return {sub(a.x, b.x), sub(a.y, b.y), sub(a.z, b.z)};
}

template <typename T> __device__ __forceinline__ Vector<T> operator+(Vector<T> a, Vector<T> b) {
    return {add(a.x, b.x), add(a.y, b.y), add(a.z, b.z)};
}

template <typename T> __device__ __forceinline__ Vector<T> operator*(Vector<T> a, T b) {
    return {mul(a.x, b), mul(a.y, b), mul(a.z, b)};
}

template <typename T> __device__ __forceinline__ T dot(Vector<T> a, Vector<T> b) {
    return add(add(mul(a.x, b.x), mul(a.y, b.y)), mul(a.z, b.z));
}

template <typename T> __device__ __forceinline__ Vector<T> cross(Vector<T> a, Vector<T> b) {
    return {sub(mul(a.y, b.z), mul(b.y, a.z)), sub(mul(a.z, b.x), mul(b.z, a.x)),
            sub(mul(a.x, b.y), mul(b.x, a.y))};
}

// Entry `index` of an array [n, 3].
__device__ __forceinline__ Vector<float> vector_at(const float* values, long long index) {
    return {values[3 * index], values[3 * index + 1], values[3 * index + 2]};
}

__device__ __forceinline__ Vector<double> widened(Vector<float> v) {
    return {double(v.x), double(v.y), double(v.z)};
}
