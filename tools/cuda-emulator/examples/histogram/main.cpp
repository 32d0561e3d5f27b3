// histogram: shared and global atomics, constant memory, and a captured graph launched three times.
// Usage: histogram histogram.ptx
#include "../cuda_driver_api.h"

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "histogram: cannot open %s\n", path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    long length = ftell(file);
    rewind(file);
    char *text = (char *)calloc(length + 1, 1);
    if (fread(text, 1, length, file) != (size_t)length) {
        fprintf(stderr, "histogram: cannot read %s\n", path);
        exit(1);
    }
    fclose(file);
    return text;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: histogram histogram.ptx\n");
        return 2;
    }
    enum { COUNT = 70001, BINS = 10, LAUNCHES = 3 };
    CUdevice device;
    CUcontext context;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));

    char log[1024] = "";
    CUjit_option options[] = {(CUjit_option)CU_JIT_ERROR_LOG_BUFFER, (CUjit_option)CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {log, (void *)sizeof log};
    char *ptx = read_file(argv[1]);
    CUmodule module;
    if (cuModuleLoadDataEx(&module, ptx, 2, options, values) != CUDA_SUCCESS) {
        fprintf(stderr, "histogram: %s\n", log);
        return 1;
    }
    free(ptx);
    CUfunction histogram;
    CHECK(cuModuleGetFunction(&histogram, module, "histogram"));

    unsigned char table[256], data[COUNT];
    unsigned expected[BINS] = {0};
    for (int i = 0; i < 256; i++) table[i] = (unsigned char)(i * 37 % BINS);
    unsigned state = 1;
    for (int i = 0; i < COUNT; i++) {
        state = state * 1664525u + 1013904223u;
        data[i] = (unsigned char)(state >> 24);
        expected[table[data[i]]] += LAUNCHES;
    }
    CUdeviceptr device_table, device_data, device_total;
    size_t table_bytes;
    CHECK(cuModuleGetGlobal(&device_table, &table_bytes, module, "bin_of"));
    CHECK(cuMemcpyHtoD(device_table, table, table_bytes));
    CHECK(cuMemAlloc(&device_data, COUNT));
    CHECK(cuMemAlloc(&device_total, BINS * sizeof(unsigned)));
    CHECK(cuMemcpyHtoD(device_data, data, COUNT));

    CUstream stream;
    CUgraph graph;
    CUgraphExec executable;
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuMemsetD32Async(device_total, 0, BINS, stream));
    unsigned count = COUNT, bins = BINS;
    void *arguments[] = {&device_data, &count, &bins, &device_total};
    CHECK(cuStreamBeginCapture(stream, (CUstreamCaptureMode)CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK(cuLaunchKernel(histogram, 12, 1, 1, 128, 1, 1, BINS * sizeof(unsigned), stream, arguments, NULL));
    CHECK(cuStreamEndCapture(stream, &graph));
    CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0));
    for (int i = 0; i < LAUNCHES; i++) CHECK(cuGraphLaunch(executable, stream));
    unsigned total[BINS];
    CHECK(cuMemcpyDtoHAsync(total, device_total, sizeof total, stream));
    CHECK(cuStreamSynchronize(stream));
    for (int bin = 0; bin < BINS; bin++) {
        if (total[bin] != expected[bin]) {
            fprintf(stderr, "histogram: bin %d has %u, not %u\n", bin, total[bin], expected[bin]);
            return 1;
        }
    }
    CHECK(cuGraphExecDestroy(executable));
    CHECK(cuGraphDestroy(graph));
    CHECK(cuStreamDestroy(stream));
    CHECK(cuMemFree(device_data));
    CHECK(cuMemFree(device_total));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    printf("histogram: %d bytes counted right %d times\n", COUNT, LAUNCHES);
    return 0;
}
