// y = s(x) + (h(x') - s(x')) of every row of K scores: s the softmax at a temperature, h one-hot of the largest, x' the same
// scores without a gradient.
#include "common.cuh"
#include "rows.cuh"

// bound: bytes; expect 60 % of the bandwidth: two reads, twice from the cache, and one write a value
// launch: a warp a row, blocks of 256
extern "C" __global__ void __launch_bounds__(256) one_hot_forward(
    const float* __restrict__ x,           // [rows, classes] scores
    const float* __restrict__ same,        // [rows, classes] the same scores
    const float* __restrict__ temperature, // [1]
    float* __restrict__ y,                 // [rows, classes] codes
    int rows,                              // sites times groups
    int classes                            // scores of a row
) {
    int row = thread_index() / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    long long start = (long long)row * classes;
    x += start, same += start, y += start;
    float inverse = 1.0f / temperature[0];
    Softmax a(x, classes, inverse, lane), b(same, classes, inverse, lane);
    for (int k = lane; k < classes; k += WARP)
        y[k] = a.share(x[k]) + ((k == b.at ? 1.0f : 0.0f) - b.share(same[k]));
}

// bound: bytes; expect 60 % of the bandwidth: two reads, three times from the cache, and one write a value
// launch: a warp a row, blocks of 256
extern "C" __global__ void __launch_bounds__(256) one_hot_backward(
    const float* __restrict__ x,           // [rows, classes] scores
    const float* __restrict__ temperature, // [1]
    const float* __restrict__ dy,          // [rows, classes] gradient of the codes
    float* __restrict__ dx,                // [rows, classes] gradient of the scores
    int rows,                              // sites times groups
    int classes,                           // scores of a row
    int add                                // 0: overwrite dx, 1: add to it
) {
    int row = thread_index() / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    long long start = (long long)row * classes;
    x += start, dy += start, dx += start;
    float inverse = 1.0f / temperature[0], mean = 0.0f;
    Softmax a(x, classes, inverse, lane);
    for (int k = lane; k < classes; k += WARP) mean += a.share(x[k]) * dy[k];
    mean = all_sum(mean);
    for (int k = lane; k < classes; k += WARP)
        accumulate(dx + k, a.share(x[k]) * (dy[k] - mean) * inverse, add);
}
