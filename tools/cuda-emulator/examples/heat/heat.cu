// One Jacobi step of the heat equation on a grid with fixed borders, and the largest change of a step.
constexpr int TILE_X = 32, TILE_Y = 8;

extern "C" __global__ void step(const float *__restrict__ now, float *__restrict__ next, int width, int height) {
    __shared__ float tile[TILE_Y + 2][TILE_X + 2];
    const int x = blockIdx.x * TILE_X + threadIdx.x, y = blockIdx.y * TILE_Y + threadIdx.y;
    const int i = threadIdx.x + 1, j = threadIdx.y + 1;
    const auto at = [&](int column, int row) {
        column = min(max(column, 0), width - 1);
        row = min(max(row, 0), height - 1);
        return now[row * width + column];
    };
    tile[j][i] = at(x, y);
    if (threadIdx.x == 0) tile[j][0] = at(x - 1, y);
    if (threadIdx.x == TILE_X - 1) tile[j][TILE_X + 1] = at(x + 1, y);
    if (threadIdx.y == 0) tile[0][i] = at(x, y - 1);
    if (threadIdx.y == TILE_Y - 1) tile[TILE_Y + 1][i] = at(x, y + 1);
    __syncthreads();
    if (x >= width || y >= height) return;
    const bool border = x == 0 || y == 0 || x == width - 1 || y == height - 1;
    const float around = (tile[j][i - 1] + tile[j][i + 1]) + (tile[j - 1][i] + tile[j + 1][i]);
    next[y * width + x] = border ? tile[j][i] : 0.25f * around;
}

// The largest |a - b| as bits: not below 0, so floats order as integers. `most` starts at 0.
extern "C" __global__ void change(const float *__restrict__ a, const float *__restrict__ b, int count, unsigned *most) {
    float largest = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
        largest = fmaxf(largest, fabsf(a[i] - b[i]));
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    }
    if (threadIdx.x % 32 == 0) {
        atomicMax(most, __float_as_uint(largest));
    }
}
