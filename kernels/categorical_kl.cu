// KL(softmax(logits) || uniform) = sum of q ln q + ln K of every row of K logits, in nats, mean over the meshes of a batch.
#include "common.cuh"
#include "rows.cuh"

// The mean of ln q under q, in all lanes.
__device__ __forceinline__ float negative_entropy(const float* x, const Softmax& q, int classes, int lane) {
    float sum = 0.0f;
    for (int k = lane; k < classes; k += WARP) sum += q.share(x[k]) * (x[k] - q.most);
    return all_sum(sum) - logf(q.sum);
}

// bound: bytes; expect 60 % of the bandwidth: one read, three times from the cache
// launch: a warp a row of one mesh, blocks of 256
extern "C" __global__ void __launch_bounds__(256) categorical_kl_forward(
    const float* __restrict__ logits, // [meshes, rows, classes]
    float* __restrict__ kl,           // [rows] nats
    int rows,                         // sites times groups of a mesh
    int classes,                      // logits of a row
    int meshes                        // of the batch
) {
    int row = thread_index() / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    float sum = 0.0f;
    for (int b = 0; b < meshes; b++) {
        const float* x = logits + ((long long)b * rows + row) * classes;
        sum += negative_entropy(x, Softmax(x, classes, 1.0f, lane), classes, lane) + logf((float)classes);
    }
    if (lane == 0) kl[row] = sum / meshes;
}

// bound: bytes; expect 60 % of the bandwidth: one read, three times from the cache, and one write a value
// launch: a warp a row, blocks of 256
extern "C" __global__ void __launch_bounds__(256) categorical_kl_backward(
    const float* __restrict__ logits, // [meshes, rows, classes]
    const float* __restrict__ dkl,    // [rows] gradient of the divergences
    float* __restrict__ gradient,     // [meshes, rows, classes] of the logits
    int rows,                         // sites times groups of a mesh
    int classes,                      // logits of a row
    int meshes,                       // of the batch
    int add                           // 0: overwrite, 1: add
) {
    int row = thread_index() / WARP, lane = threadIdx.x % WARP;
    if (row >= rows * meshes) return;
    const float* x = logits + (long long)row * classes;
    float* slot = gradient + (long long)row * classes;
    Softmax q(x, classes, 1.0f, lane);
    float mean = negative_entropy(x, q, classes, lane), logarithm = logf(q.sum), scale = dkl[row % rows] / meshes;
    for (int k = lane; k < classes; k += WARP)
        accumulate(slot + k, scale * q.share(x[k]) * (x[k] - q.most - logarithm - mean), add);
}
