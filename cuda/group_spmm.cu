// Group-sparse weights times activations: Y = act(W X + b), W [M, K] in aligned groups of WIDTH
// weights along K, of which only some are stored; X [K, n], Y [M, n].
//
// A ladder of three, one idea each:
// - `n1`, for n = 1: a warp for a row. Neighbouring lanes read neighbouring vectors of the stored
//   weights, so the weights stream at memory speed, with one index for WIDTH of them; SPLIT warps share
//   a long row. Bound by the memory that the weights come from.
// - `rows`, after Sputnik's SpMM: a team of LANES threads walks along a row and keeps its sums for four
//   columns a thread in registers; SPLIT teams share a row and add up at the end. The block stages the
//   tile of X, CHUNK rows at a time, in shared memory. A group's weights are on their way while the one
//   before is multiplied. Bound by reading X from shared memory: one read an FMA.
// - `columns`, the rank-WIDTH update: a team of LANES threads keeps WIDTH rows of X, four columns a
//   thread, in registers, and lets the weights of every row that owns the group pass: 4 WIDTH FMAs for
//   one read and one write of the sums, which lie in shared memory, and WIDTH weights read by all lanes
//   alike. The teams of a block take turns at the block's groups and add up at the end. A group's rows
//   of X are on their way while the group before is multiplied, where registers suffice.
//
// Storage. `rows` and `n1`: `values` group by group, `groups` (a group's number along K) and `row_ptr`,
// rows in the order in which they are given to teams. `columns`: the rows are cut into blocks of
// BLOCK_ROWS;
// `block_ptr` says where a block's groups start in `groups` and `entry_ptr`; the entries of a group,
// one for each row that owns it, are its `rows` and its `values`. A last, partial group is stored
// whole, with zeros after its end; X is not read there.
//
// Preconditions: every group's number is at most K / WIDTH; `values` is aligned to 16 bytes, and so is
// every row of X where VECTOR is 1. Where rows lie is told by `x_rows` and `y_rows`, so that a
// convolution reads its taps and a swizzled row finds its place.
#include "shared.cuh"

#ifndef WIDTH
#define WIDTH 8
#endif

// Weights that a lane reads at once.
constexpr u32 VECTOR_WEIGHTS = WIDTH < 4 ? WIDTH : 4;

constexpr u32 VECTORS = WIDTH / VECTOR_WEIGHTS; // of a group

#ifdef N1
extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_n1(const float *__restrict__ values, const u32 *__restrict__ groups,
              const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
              const u32 *__restrict__ y_rows, const float *__restrict__ x, float *__restrict__ y,
              SpmmParams p) {
    SHARED(float, partial, THREADS / WARP);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 row = blockIdx.x * (THREADS / WARP / SPLIT) + warp / SPLIT;
    float sum = 0.0f;
    if (row < p.rows) {
        const u32 end = row_ptr[row + 1] * VECTORS;
#pragma unroll 4
        for (u32 vector = row_ptr[row] * VECTORS + warp % SPLIT * WARP + lane; vector < end;
             vector += SPLIT * WARP) {
            const u32 k = groups[vector / VECTORS] * WIDTH + vector % VECTORS * VECTOR_WEIGHTS;
            const Weights<VECTOR_WEIGHTS> w = load_weights<VECTOR_WEIGHTS>(values, vector);
            if (k + VECTOR_WEIGHTS <= p.inner) {
                const Weights<VECTOR_WEIGHTS> xs = load_weights<VECTOR_WEIGHTS>(x, k / VECTOR_WEIGHTS);
#pragma unroll
                for (u32 i = 0; i < VECTOR_WEIGHTS; ++i) sum += w.at[i] * xs.at[i];
            } else {
                for (u32 i = 0; i < VECTOR_WEIGHTS && k + i < p.inner; ++i) sum += w.at[i] * x[k + i];
            }
        }
    }
    sum = warp_sum(sum);
    if (lane == 0) partial[warp] = sum;
    __syncthreads();
    if (row < p.rows && lane == 0 && warp % SPLIT == 0) {
        for (u32 other = 1; other < SPLIT; ++other) sum += partial[warp + other];
        y[y_rows[row]] = activate(sum + bias[row], p.relu);
    }
}
#endif

#ifdef CHUNK
constexpr u32 TILE = LANES * 4;
static_assert(LANES * SPLIT <= WARP, "the teams of a row lie in one warp");
static_assert(THREADS % (LANES * SPLIT) == 0, "a block holds whole rows of teams");
static_assert(CHUNK % WIDTH == 0, "no group lies in two chunks");

extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_rows(const float *__restrict__ values, const u32 *__restrict__ groups,
                const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
                const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                const float *__restrict__ x, float *__restrict__ y, SpmmParams p) {
    SHARED(float, staged, CHUNK * TILE);
    const u32 team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const u32 row = blockIdx.y * (THREADS / LANES / SPLIT) + team / SPLIT;
    const u32 first_column = blockIdx.x * TILE;
    const float *image = x + blockIdx.z * p.x_image;
    const Columns columns(first_column, lane, p.columns, p.x_lines);

    const u32 end = row < p.rows ? row_ptr[row + 1] : 0;
    u32 place = row < p.rows ? row_ptr[row] + team % SPLIT : 0;
    // After the last group there is none below any chunk's end.
    const u32 none = ~0u;
    u32 k = place < end ? groups[place] * WIDTH : none;
    Weights<WIDTH> next;
    if (k != none) next = load_weights<WIDTH>(values, place);
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (u32 first = 0; first < p.inner; first += CHUNK) {
        for (u32 row_of_x = team; row_of_x < CHUNK; row_of_x += THREADS / LANES) {
            const bool inside = first + row_of_x < p.inner;
            SHARED4(staged, row_of_x * TILE + lane * 4) =
                inside ? columns.load(image + x_rows[first + row_of_x]) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        }
        __syncthreads();
        while (k < first + CHUNK) {
            const Weights<WIDTH> own = next;
            const u32 at = (k - first) * TILE + lane * 4;
            place += SPLIT;
            k = place < end ? groups[place] * WIDTH : none;
            if (k != none) next = load_weights<WIDTH>(values, place);
#pragma unroll
            for (u32 i = 0; i < WIDTH; ++i) {
                const float4 four = SHARED4(staged, at + i * TILE);
                add(sum, own.at[i], four);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 distance = LANES * SPLIT / 2; distance >= LANES; distance /= 2) {
        sum.x += __shfl_xor_sync(ALL_LANES, sum.x, distance);
        sum.y += __shfl_xor_sync(ALL_LANES, sum.y, distance);
        sum.z += __shfl_xor_sync(ALL_LANES, sum.z, distance);
        sum.w += __shfl_xor_sync(ALL_LANES, sum.w, distance);
    }
    if (row < p.rows && team % SPLIT == 0) {
        float *to = y + blockIdx.z * p.y_image + y_rows[row];
        store(to, first_column, lane, sum, bias[row], p.relu, p.columns, p.y_lines);
    }
}
#endif

#ifdef BLOCK_ROWS
constexpr u32 TEAMS = THREADS / LANES;
static_assert(TEAMS * LANES == THREADS, "a block holds whole teams");
constexpr u32 TEAM_SUMS = BLOCK_ROWS * LANES * 4;
// Wider groups leave no registers for a second set of X.
constexpr bool AHEAD = WIDTH <= 8;

struct RowsOfX {
    float4 at[WIDTH];

    __device__ __forceinline__ void load(const Columns &columns, const float *image, const u32 *x_rows,
                                         u32 k, u32 inner) {
#pragma unroll
        for (u32 i = 0; i < WIDTH; ++i) {
            at[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (k + i < inner) at[i] = columns.load(image + x_rows[k + i]);
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_columns(const float *__restrict__ values, const u32 *__restrict__ rows,
                   const u32 *__restrict__ entry_ptr, const u32 *__restrict__ groups,
                   const u32 *__restrict__ block_ptr, const float *__restrict__ bias,
                   const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                   const float *__restrict__ x, float *__restrict__ y, SpmmParams p) {
    SHARED(float, sums, TEAMS * TEAM_SUMS);
    const u32 team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const u32 first_column = blockIdx.x * LANES * 4;
    const u32 own = team * TEAM_SUMS + lane * 4;
    const float *image = x + blockIdx.z * p.x_image;
    const Columns columns(first_column, lane, p.columns, p.x_lines);

    for (u32 row = 0; row < BLOCK_ROWS; ++row) {
        SHARED4(sums, own + row * LANES * 4) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    const u32 end = block_ptr[blockIdx.y + 1];
    u32 group = block_ptr[blockIdx.y] + team;
    RowsOfX next;
    if (AHEAD && group < end) next.load(columns, image, x_rows, groups[group] * WIDTH, p.inner);
    for (; group < end; group += TEAMS) {
        RowsOfX xs;
        if (AHEAD) {
            xs = next;
            if (group + TEAMS < end) {
                next.load(columns, image, x_rows, groups[group + TEAMS] * WIDTH, p.inner);
            }
        } else {
            xs.load(columns, image, x_rows, groups[group] * WIDTH, p.inner);
        }
        // Two rows at a time, so that one's sums are under way while the other's are added to.
        const u32 last = entry_ptr[group + 1];
        for (u32 entry = entry_ptr[group]; entry < last; entry += 2) {
            const bool both = entry + 1 < last;
            const u32 other = both ? entry + 1 : entry;
            const u32 to = own + rows[entry] * LANES * 4;
            const u32 other_to = own + rows[other] * LANES * 4;
            float4 a = SHARED4(sums, to), b = SHARED4(sums, other_to);
#pragma unroll
            for (u32 v = 0; v < VECTORS; ++v) {
                const auto w = load_weights<VECTOR_WEIGHTS>(values, entry * VECTORS + v);
                const auto u = load_weights<VECTOR_WEIGHTS>(values, other * VECTORS + v);
#pragma unroll
                for (u32 i = 0; i < VECTOR_WEIGHTS; ++i) {
                    add(a, w.at[i], xs.at[v * VECTOR_WEIGHTS + i]);
                    add(b, u.at[i], xs.at[v * VECTOR_WEIGHTS + i]);
                }
            }
            SHARED4(sums, to) = a;
            if (both) SHARED4(sums, other_to) = b;
        }
    }
    __syncthreads();
    add_up<BLOCK_ROWS>(sums, blockIdx.y * BLOCK_ROWS, first_column, bias, y_rows, y, p);
}
#endif
