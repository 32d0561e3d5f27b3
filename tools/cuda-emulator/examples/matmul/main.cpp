// matmul: a product of matrices on the tensor cores, against a plain loop.
// Usage: matmul matmul.ptx
#include "../cuda_driver_api.h"

#include <vector>

// Half-precision bits of a small integer: |value| < 2048 is exact.
static unsigned short half_of(int value) {
    if (value == 0) return 0;
    unsigned sign = value < 0 ? 0x8000u : 0, magnitude = value < 0 ? -value : value, exponent = 0;
    while (magnitude >> (exponent + 1)) exponent++;
    return (unsigned short)(sign | (exponent + 15) << 10 | ((magnitude << 10 >> exponent) & 0x3ff));
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: matmul matmul.ptx\n");
        return 2;
    }
    const int m = 96, n = 64, k = 128;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction matmul;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoad(&module, argv[1]));
    CHECK(cuModuleGetFunction(&matmul, module, "matmul"));

    std::vector<int> a(m * k), b(k * n);
    std::vector<unsigned short> half_a, half_b;
    for (int i = 0; i < m * k; i++) a[i] = i * 7 % 31 - 15;
    for (int i = 0; i < k * n; i++) b[i] = i * 11 % 29 - 14;
    for (int value : a) half_a.push_back(half_of(value));
    for (int value : b) half_b.push_back(half_of(value));
    CUdeviceptr device_a, device_b, device_c;
    CHECK(cuMemAlloc(&device_a, half_a.size() * 2));
    CHECK(cuMemAlloc(&device_b, half_b.size() * 2));
    CHECK(cuMemAlloc(&device_c, (size_t)m * n * 4));
    CHECK(cuMemcpyHtoD(device_a, half_a.data(), half_a.size() * 2));
    CHECK(cuMemcpyHtoD(device_b, half_b.data(), half_b.size() * 2));
    int columns = n, inner = k;
    void *arguments[] = {&device_a, &device_b, &device_c, &columns, &inner};
    CHECK(cuLaunchKernel(matmul, n / 32, m / 32, 1, 128, 1, 1, 0, NULL, arguments, NULL));
    CHECK(cuCtxSynchronize());
    std::vector<float> c(m * n);
    CHECK(cuMemcpyDtoH(c.data(), device_c, c.size() * 4));
    // The sums are integers below 2^24: exact in single precision, in any order.
    for (int row = 0; row < m; row++) {
        for (int column = 0; column < n; column++) {
            long sum = 0;
            for (int i = 0; i < k; i++) sum += (long)a[row * k + i] * b[i * n + column];
            if (c[row * n + column] != (float)sum) {
                fprintf(stderr, "matmul: element %d, %d is %g, not %ld\n", row, column, c[row * n + column], sum);
                return 1;
            }
        }
    }
    CHECK(cuMemFree(device_a));
    CHECK(cuMemFree(device_b));
    CHECK(cuMemFree(device_c));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    printf("matmul: %d x %d x %d right\n", m, n, k);
    return 0;
}
