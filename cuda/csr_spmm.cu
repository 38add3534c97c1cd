// Compressed sparse rows times activations: Y = act(W X + b), the format of traditional pruning, with an
// index for every weight, as in shaders/csr_spmm.wgsl. For plain products cuSPARSE is the library to beat;
// this is here for what that cannot read: the taps of a convolution where they lie.
//
// - `n1`: a warp for a row of one column's product.
// - `tile`: a thread walks along a row for one column; 32 neighbouring columns share its weights.
#include "shared.cuh"

#ifdef VECTOR
extern "C" __global__ void __launch_bounds__(THREADS)
csr_spmm_n1(const float *__restrict__ values, const u32 *__restrict__ columns,
            const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
            const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
            const float *__restrict__ x, float *__restrict__ y, SpmmParams p) {
    const u32 row = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    const u32 lane = threadIdx.x % WARP;
    float sum = 0.0f;
    if (row < p.rows) {
        for (u32 place = row_ptr[row] + lane; place < row_ptr[row + 1]; place += WARP) {
            sum += values[place] * x[x_rows[columns[place]]];
        }
    }
    sum = warp_sum(sum);
    if (row < p.rows && lane == 0) y[y_rows[row]] = activate(sum + bias[row], p.relu);
}
#endif

#ifdef TILE
extern "C" __global__ void __launch_bounds__(THREADS)
csr_spmm_tile(const float *__restrict__ values, const u32 *__restrict__ columns,
              const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
              const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
              const float *__restrict__ x, float *__restrict__ y, SpmmParams p) {
    const u32 row = blockIdx.y * (THREADS / WARP) + threadIdx.x / WARP;
    const u32 column = blockIdx.x * WARP + threadIdx.x % WARP;
    if (row >= p.rows || column >= p.columns) return;
    const u32 base = blockIdx.z * p.x_image + p.x_lines(column);
    float sum = bias[row];
    for (u32 place = row_ptr[row]; place < row_ptr[row + 1]; ++place) {
        sum += values[place] * x[base + x_rows[columns[place]]];
    }
    y[blockIdx.z * p.y_image + y_rows[row] + p.y_lines(column)] = activate(sum, p.relu);
}
#endif
