// Sum of weighted squares, written with the CUDA runtime API: `<<< >>>`, symbols, streams, events.
//
//   nvcc -cudart shared -gencode arch=compute_86,code=compute_86 reduce.cu -o reduce && ./reduce
#include <cmath>
#include <cstdio>
#include <vector>

__constant__ float weights[4];
__device__ unsigned blocks_done;

__global__ void reduce(const float* values, int count, float* sums) {
    extern __shared__ float partial[];
    float sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
        sum += weights[i % 4] * values[i] * values[i];
    partial[threadIdx.x] = sum;
    for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
        __syncthreads();
        if (threadIdx.x < step) partial[threadIdx.x] += partial[threadIdx.x + step];
    }
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = partial[0];
        atomicAdd(&blocks_done, 1);
    }
}

static void check(cudaError_t code, const char* what) {
    if (code == cudaSuccess) return;
    std::fprintf(stderr, "reduce: %s: %s (%s)\n", what, cudaGetErrorString(code), cudaGetErrorName(code));
    std::exit(1);
}

int main() {
    const int count = 100000, blocks = 32, threads = 256;
    std::vector<float> values(count);
    for (int i = 0; i < count; i++) values[i] = float(i % 17) / 8;
    const float host_weights[4] = {1, 0.5f, 2, 0.25f};

    cudaDeviceProp device;
    check(cudaGetDeviceProperties(&device, 0), "properties");
    float *on_device, *sums;
    check(cudaMalloc(&on_device, count * sizeof(float)), "memory for the values");
    check(cudaMalloc(&sums, blocks * sizeof(float)), "memory for the sums");
    check(cudaMemcpyToSymbol(weights, host_weights, sizeof host_weights), "the weights");
    unsigned done = 0;
    check(cudaMemcpyToSymbol(blocks_done, &done, sizeof done), "the counter");

    cudaStream_t stream;
    cudaEvent_t start, stop;
    check(cudaStreamCreate(&stream), "a stream");
    check(cudaEventCreate(&start), "an event");
    check(cudaEventCreate(&stop), "an event");
    check(cudaMemcpyAsync(on_device, values.data(), count * sizeof(float), cudaMemcpyHostToDevice, stream), "a copy");
    check(cudaEventRecord(start, stream), "an event");
    reduce<<<blocks, threads, threads * sizeof(float), stream>>>(on_device, count, sums);
    check(cudaGetLastError(), "the launch");
    check(cudaEventRecord(stop, stream), "an event");
    std::vector<float> host_sums(blocks);
    check(cudaMemcpyAsync(host_sums.data(), sums, blocks * sizeof(float), cudaMemcpyDeviceToHost, stream), "a copy");
    check(cudaStreamSynchronize(stream), "the kernel");
    float milliseconds;
    check(cudaEventElapsedTime(&milliseconds, start, stop), "the time");
    check(cudaMemcpyFromSymbol(&done, blocks_done, sizeof done), "the counter");

    double sum = 0, expected = 0;
    for (float part : host_sums) sum += part;
    for (int i = 0; i < count; i++) expected += double(host_weights[i % 4]) * values[i] * values[i];
    reduce<<<1, 2048>>>(on_device, count, sums);
    const bool refused = cudaGetLastError() == cudaErrorInvalidConfiguration;
    cudaFree(on_device);
    cudaFree(sums);
    cudaStreamDestroy(stream);
    cudaEventDestroy(start);
    cudaEventDestroy(stop);
    const bool right = std::abs(sum - expected) < 1e-5 * expected && done == blocks && refused;
    std::printf("reduce: %s: sum %.1f of %d values is %s\n", device.name, sum, count, right ? "right" : "WRONG");
    return right ? 0 : 1;
}
