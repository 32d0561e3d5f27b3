// saxpy: pinned memory, asynchronous copies, events and a kernel loaded from a file of PTX.
// Usage: saxpy saxpy.ptx
#include "../cuda_driver_api.h"

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: saxpy saxpy.ptx\n");
        return 2;
    }
    const unsigned n = 100003;
    float a = 2.5f;
    char name[256];
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction saxpy;
    CUstream stream;
    CUevent start, stop;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDeviceGetName(name, sizeof name, device));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoad(&module, argv[1]));
    CHECK(cuModuleGetFunction(&saxpy, module, "saxpy"));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuEventCreate(&start, CU_EVENT_DEFAULT));
    CHECK(cuEventCreate(&stop, CU_EVENT_DEFAULT));

    void *pinned_x, *pinned_y;
    CHECK(cuMemAllocHost(&pinned_x, n * sizeof(float)));
    CHECK(cuMemAllocHost(&pinned_y, n * sizeof(float)));
    float *x = (float *)pinned_x, *y = (float *)pinned_y;
    for (unsigned i = 0; i < n; i++) {
        x[i] = (float)(i % 1000);
        y[i] = (float)(i % 7);
    }
    CUdeviceptr device_x, device_y;
    CHECK(cuMemAlloc(&device_x, n * sizeof(float)));
    CHECK(cuMemAlloc(&device_y, n * sizeof(float)));
    CHECK(cuMemcpyHtoDAsync(device_x, x, n * sizeof(float), stream));
    CHECK(cuMemcpyHtoDAsync(device_y, y, n * sizeof(float), stream));

    int grid, block;
    CHECK(cuOccupancyMaxPotentialBlockSize(&grid, &block, saxpy, NULL, 0, 0));
    unsigned count = n;
    void *arguments[] = {&count, &a, &device_x, &device_y};
    CHECK(cuEventRecord(start, stream));
    CHECK(cuLaunchKernel(saxpy, grid, 1, 1, block, 1, 1, 0, stream, arguments, NULL));
    CHECK(cuEventRecord(stop, stream));
    CHECK(cuMemcpyDtoHAsync(y, device_y, n * sizeof(float), stream));
    CHECK(cuStreamSynchronize(stream));
    float milliseconds;
    CHECK(cuEventElapsedTime(&milliseconds, start, stop));

    // Small integers and halves: every intermediate is exact in single precision.
    for (unsigned i = 0; i < n; i++) {
        float expected = 2.5f * (float)(i % 1000) + (float)(i % 7);
        if (y[i] != expected) {
            fprintf(stderr, "saxpy: element %u is %g, not %g\n", i, y[i], expected);
            return 1;
        }
    }
    CHECK(cuMemFree(device_x));
    CHECK(cuMemFree(device_y));
    CHECK(cuMemFreeHost(x));
    CHECK(cuMemFreeHost(y));
    CHECK(cuEventDestroy(start));
    CHECK(cuEventDestroy(stop));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    printf("saxpy: %u elements right on %s\n", n, name);
    return milliseconds < 0;
}
