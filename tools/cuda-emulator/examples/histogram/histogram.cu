// A histogram of bytes: one in shared memory for each block, added to the global one at the end.
// The number of bins is set at run time (dynamic shared memory); a table in constant memory maps a byte
// to its bin.
__constant__ unsigned char bin_of[256];

extern "C" __global__ void histogram(const unsigned char *__restrict__ data, unsigned count, unsigned bins,
                                     unsigned *__restrict__ total) {
    extern __shared__ unsigned local[];
    for (unsigned bin = threadIdx.x; bin < bins; bin += blockDim.x) {
        local[bin] = 0;
    }
    __syncthreads();
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        atomicAdd(&local[bin_of[data[i]]], 1u);
    }
    __syncthreads();
    for (unsigned bin = threadIdx.x; bin < bins; bin += blockDim.x) {
        if (local[bin] != 0) {
            atomicAdd(&total[bin], local[bin]);
        }
    }
}
