// C = A B with half-precision inputs and single-precision sums on the tensor cores (wmma).
// A block of 4 warps makes a tile of 32 x 32 of C, each warp 16 x 16 of it; tiles of A and B go through
// shared memory. m, n and k are multiples of 32.
#include <mma.h>

using namespace nvcuda;

constexpr int TILE = 32, PAD = 8;

extern "C" __global__ void __launch_bounds__(128) matmul(const __half *__restrict__ a, const __half *__restrict__ b,
                                                         float *__restrict__ c, int n, int k) {
    __shared__ __align__(32) __half tile_a[TILE][TILE + PAD];
    __shared__ __align__(32) __half tile_b[TILE][TILE + PAD];
    const int warp = threadIdx.x / 32, row = blockIdx.y * TILE, column = blockIdx.x * TILE;
    const int y = warp / 2 * 16, x = warp % 2 * 16;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int start = 0; start < k; start += TILE) {
        for (int i = threadIdx.x; i < TILE * TILE / 8; i += blockDim.x) {
            const int r = i / (TILE / 8), s = i % (TILE / 8) * 8;
            *reinterpret_cast<uint4 *>(&tile_a[r][s]) = *reinterpret_cast<const uint4 *>(&a[(row + r) * k + start + s]);
            *reinterpret_cast<uint4 *>(&tile_b[r][s]) =
                *reinterpret_cast<const uint4 *>(&b[(start + r) * n + column + s]);
        }
        __syncthreads();
        for (int inner = 0; inner < TILE; inner += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> left;
            wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> right;
            wmma::load_matrix_sync(left, &tile_a[y][inner], TILE + PAD);
            wmma::load_matrix_sync(right, &tile_b[inner][x], TILE + PAD);
            wmma::mma_sync(sum, left, right, sum);
        }
        __syncthreads();
    }
    wmma::store_matrix_sync(&c[(row + y) * n + column + x], sum, n, wmma::mem_row_major);
}
