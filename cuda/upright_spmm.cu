// Weights in upright groups times activations: Y = act(W X + b), W [M, K] cut into strips of HEIGHT rows, of which
// only some columns (groups) are stored; X [K, n], Y [M, n].
//
// Two designs, one idea each:
// - `n1`, for n = 1: a warp for a strip. Neighbouring lanes read neighbouring weights, 32 / HEIGHT groups at once, and
//   each keeps the sum of one row, so the weights stream at memory speed, with one index for HEIGHT of them; SPLIT warps
//   share a long strip. Bound by the memory that the weights come from.
// - `strips`: a team of LANES threads keeps the sums of a strip, four columns a thread, in registers while the groups
//   pass: of each, one vector of X a thread and HEIGHT weights that all lanes read alike, for 4 HEIGHT FMAs. A group's
//   row of X is on its way while the group before is multiplied. The teams of a block take turns at the strip's groups
//   and add up at the end. Bound by reading X from the second-level cache: 16 bytes for 4 HEIGHT FMAs.
//   (cuda/group_spmm.cu reads and writes sums for every group instead.)
//
// Storage: `values` group by group, strip by strip, HEIGHT each from the top down, with zeros below the last row;
// `x_rows`, where each group's row of X starts; `strip_ptr`, where each strip's groups start.
//
// Preconditions: `values` is aligned to 16 bytes, and so is every row of X where VECTOR is 1.
#include "shared.cuh"

#ifdef N1
constexpr u32 GROUPS = WARP / HEIGHT; // of a warp at once
static_assert(GROUPS * HEIGHT == WARP, "a warp reads whole groups");

extern "C" __global__ void __launch_bounds__(THREADS)
upright_spmm_n1(const float *__restrict__ values, const u32 *__restrict__ x_rows,
                const u32 *__restrict__ strip_ptr, const float *__restrict__ bias,
                const u32 *__restrict__ y_rows, const float *__restrict__ x, float *__restrict__ y,
                SpmmParams p) {
    SHARED(float, partial, THREADS / WARP * HEIGHT);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 strip = blockIdx.x * (THREADS / WARP / SPLIT) + warp / SPLIT;
    float sum = 0.0f;
    if (strip * HEIGHT < p.rows) {
        const u32 end = strip_ptr[strip + 1];
#pragma unroll 4
        for (u32 group = strip_ptr[strip] + warp % SPLIT * GROUPS + lane / HEIGHT; group < end;
             group += SPLIT * GROUPS) {
            sum += values[group * HEIGHT + lane % HEIGHT] * x[x_rows[group]];
        }
    }
#pragma unroll
    for (u32 distance = WARP / 2; distance >= HEIGHT; distance /= 2) {
        sum += __shfl_xor_sync(ALL_LANES, sum, distance);
    }
    if (lane < HEIGHT) partial[warp * HEIGHT + lane] = sum;
    __syncthreads();
    const u32 row = strip * HEIGHT + lane;
    if (lane < HEIGHT && row < p.rows && warp % SPLIT == 0) {
        for (u32 other = 1; other < SPLIT; ++other) sum += partial[(warp + other) * HEIGHT + lane];
        y[y_rows[row]] = activate(sum + bias[row], p.relu);
    }
}
#endif

#ifdef LANES
constexpr u32 TEAMS = THREADS / LANES;
static_assert(TEAMS * LANES == THREADS, "a block holds whole teams");
constexpr u32 TEAM_SUMS = HEIGHT * LANES * 4;

// Two blocks a multiprocessor: left to itself, the assembler aims at more, and spills.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
upright_spmm_strips(const float *__restrict__ values, const u32 *__restrict__ x_rows,
                    const u32 *__restrict__ strip_ptr, const float *__restrict__ bias,
                    const u32 *__restrict__ y_rows, const float *__restrict__ x, float *__restrict__ y,
                    SpmmParams p) {
    SHARED(float, sums, TEAMS * TEAM_SUMS);
    const u32 team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const u32 first_column = blockIdx.x * LANES * 4;
    const float *image = x + blockIdx.z * p.x_image;
    const Columns columns(first_column, lane, p.columns, p.x_lines);

    float4 sum[HEIGHT];
#pragma unroll
    for (u32 i = 0; i < HEIGHT; ++i) sum[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const u32 end = strip_ptr[blockIdx.y + 1];
    u32 group = strip_ptr[blockIdx.y] + team;
    float4 next = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (group < end) next = columns.load(image + x_rows[group]);
    for (; group < end; group += TEAMS) {
        const float4 four = next;
        if (group + TEAMS < end) next = columns.load(image + x_rows[group + TEAMS]);
        const auto w = load_weights<HEIGHT>(values, group);
#pragma unroll
        for (u32 i = 0; i < HEIGHT; ++i) add(sum[i], w.at[i], four);
    }
#pragma unroll
    for (u32 i = 0; i < HEIGHT; ++i) {
        SHARED4(sums, team * TEAM_SUMS + (i * LANES + lane) * 4) = sum[i];
    }
    __syncthreads();
    add_up<HEIGHT>(sums, blockIdx.y * HEIGHT, first_column, bias, y_rows, y, p);
}
#endif
