// Group-sparse weights times activations: Y = act(W X + b), W [M, K] in aligned groups of WIDTH
// weights along K, of which only some are stored; X [K, n], Y [M, n].
//
// A ladder of three, one idea each:
// - `n1`, for n = 1: a warp for a row. Neighbouring lanes read neighbouring vectors of the stored
//   weights, so the weights stream at memory speed, with one index for WIDTH of them; SPLIT warps share
//   a long row. Bound by the memory that the weights come from.
// - `rows`, after Sputnik's SpMM: a warp keeps the sums of a few rows and a tile of columns in
//   registers and walks along its rows; the block stages the tile of X, CHUNK rows at a time, in shared
//   memory. Bound by reading X from shared memory: one read an FMA.
// - `columns`, the rank-WIDTH update: a team of LANES threads keeps WIDTH rows of X, four columns a
//   thread, in registers, and lets the weights of every row that owns the group pass: 4 WIDTH FMAs for
//   one read and one write of the sums, which lie in shared memory, and WIDTH weights read by all lanes
//   alike. The teams of a block take turns at the block's groups and add up at the end.
//
// Storage. `rows` and `n1`: `values` group by group, `groups` (a group's number along K) and `row_ptr`,
// rows in the order in which they are given to warps. `columns`: the rows are cut into blocks of ROWS;
// `block_ptr` says where a block's groups start in `groups` and `entry_ptr`; the entries of a group,
// one for each row that owns it, are its `rows` and its `values`. A last, partial group is stored
// whole, with zeros behind its end; X is not read there.
//
// Preconditions: every group's number is at most K / WIDTH; `values` is aligned to 16 bytes, and so is
// every row of X where VECTOR is 1. Where rows lie is told by `x_rows` and `y_rows`, so that a
// convolution reads its taps and a swizzled row finds its place.
#include "shared.cuh"

struct Params {
    u32 rows;    // M, of this launch
    u32 inner;   // K
    u32 columns; // n
    u32 relu;
    Lines x_lines;
    u32 x_image; // floats from one image of X to the next; the grid's z counts images
    Lines y_lines;
    u32 y_image;
};

#ifndef WIDTH
#define WIDTH 8
#endif

// Weights that a lane reads at once.
constexpr u32 VECTOR_WEIGHTS = WIDTH < 4 ? WIDTH : 4;

struct Weights {
    float at[VECTOR_WEIGHTS];
};

__device__ __forceinline__ Weights load_weights(const float *values, u32 vector) {
    Weights w;
    if constexpr (VECTOR_WEIGHTS == 4) {
        const float4 four = load4(values + 4 * vector);
        w.at[0] = four.x, w.at[1] = four.y, w.at[2] = four.z, w.at[3] = four.w;
    } else {
        const float2 two = *reinterpret_cast<const float2 *>(values + 2 * vector);
        w.at[0] = two.x, w.at[1] = two.y;
    }
    return w;
}

#ifdef SPLIT
constexpr u32 VECTORS = WIDTH / VECTOR_WEIGHTS; // of a group

extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_n1(const float *__restrict__ values, const u32 *__restrict__ groups,
              const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
              const u32 *__restrict__ y_rows, const float *__restrict__ x, float *__restrict__ y,
              Params p) {
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
            const Weights w = load_weights(values, vector);
            if (k + VECTOR_WEIGHTS <= p.inner) {
                const Weights xs = load_weights(x, k / VECTOR_WEIGHTS);
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
// TILE columns of a block, LANE_COLUMNS of a lane, ROWS of a warp.
constexpr u32 LANE_COLUMNS = TILE / WARP;
constexpr u32 WARPS = THREADS / WARP;

extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_rows(const float *__restrict__ values, const u32 *__restrict__ groups,
                const u32 *__restrict__ row_ptr, const float *__restrict__ bias,
                const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                const float *__restrict__ x, float *__restrict__ y, Params p) {
    SHARED(float, staged, CHUNK * TILE);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 first_row = (blockIdx.y * WARPS + warp) * ROWS;
    const u32 first_column = blockIdx.x * TILE;
    const float *image = x + blockIdx.z * p.x_image;

    u32 next[ROWS], end[ROWS];
    float sums[ROWS][LANE_COLUMNS];
#pragma unroll
    for (u32 r = 0; r < ROWS; ++r) {
        const bool alive = first_row + r < p.rows;
        next[r] = alive ? row_ptr[first_row + r] : 0;
        end[r] = alive ? row_ptr[first_row + r + 1] : 0;
#pragma unroll
        for (u32 c = 0; c < LANE_COLUMNS; ++c) sums[r][c] = 0.0f;
    }
    for (u32 first = 0; first < p.inner; first += CHUNK) {
        for (u32 place = threadIdx.x; place < CHUNK * TILE; place += THREADS) {
            const u32 k = first + place / TILE, column = first_column + place % TILE;
            const bool inside = k < p.inner && column < p.columns;
            staged[place] = inside ? image[x_rows[k] + p.x_lines(column)] : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (u32 r = 0; r < ROWS; ++r) {
            while (next[r] < end[r]) {
                const u32 k = groups[next[r]] * WIDTH;
                if (k >= first + CHUNK) break;
#pragma unroll
                for (u32 v = 0; v < WIDTH / VECTOR_WEIGHTS; ++v) {
                    const Weights w =
                        load_weights(values, next[r] * (WIDTH / VECTOR_WEIGHTS) + v);
#pragma unroll
                    for (u32 i = 0; i < VECTOR_WEIGHTS; ++i) {
                        const u32 from = (k - first + v * VECTOR_WEIGHTS + i) * TILE + lane;
#pragma unroll
                        for (u32 c = 0; c < LANE_COLUMNS; ++c) {
                            sums[r][c] += w.at[i] * staged[from + c * WARP];
                        }
                    }
                }
                ++next[r];
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (u32 r = 0; r < ROWS; ++r) {
        const u32 row = first_row + r;
        if (row >= p.rows) continue;
        float *to = y + blockIdx.z * p.y_image + y_rows[row];
#pragma unroll
        for (u32 c = 0; c < LANE_COLUMNS; ++c) {
            const u32 column = first_column + c * WARP + lane;
            if (column < p.columns) to[p.y_lines(column)] = activate(sums[r][c] + bias[row], p.relu);
        }
    }
}
#endif

#ifdef LANES
constexpr u32 TEAMS = THREADS / LANES;
constexpr u32 TEAM_SUMS = ROWS * LANES * 4;

// The column of a lane's `c`-th sum: four side by side where they are read as a vector, else apart, so
// that the lanes of a team read side by side.
__device__ __forceinline__ u32 column_of(u32 first, u32 lane, u32 c) {
    return VECTOR ? first + lane * 4 + c : first + lane + c * LANES;
}

extern "C" __global__ void __launch_bounds__(THREADS)
group_spmm_columns(const float *__restrict__ values, const u32 *__restrict__ rows,
                   const u32 *__restrict__ entry_ptr, const u32 *__restrict__ groups,
                   const u32 *__restrict__ block_ptr, const float *__restrict__ bias,
                   const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                   const float *__restrict__ x, float *__restrict__ y, Params p) {
    SHARED(float, sums, TEAMS * TEAM_SUMS);
    const u32 team = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const u32 first_column = blockIdx.x * LANES * 4;
    const u32 own = team * TEAM_SUMS + lane * 4;
    const float *image = x + blockIdx.z * p.x_image;

    u32 offsets[4];
    bool inside[4];
#pragma unroll
    for (u32 c = 0; c < 4; ++c) {
        const u32 column = column_of(first_column, lane, c);
        inside[c] = column < p.columns;
        offsets[c] = p.x_lines(inside[c] ? column : 0);
    }
    for (u32 row = 0; row < ROWS; ++row) {
        SHARED4(sums, own + row * LANES * 4) = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    const u32 end = block_ptr[blockIdx.y + 1];
    for (u32 group = block_ptr[blockIdx.y] + team; group < end; group += TEAMS) {
        const u32 k = groups[group] * WIDTH;
        float4 xs[WIDTH];
#pragma unroll
        for (u32 i = 0; i < WIDTH; ++i) {
            xs[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (k + i < p.inner) {
                const float *from = image + x_rows[k + i];
                if (VECTOR) {
                    if (inside[0]) xs[i] = load4(from + offsets[0]);
                } else {
                    if (inside[0]) xs[i].x = from[offsets[0]];
                    if (inside[1]) xs[i].y = from[offsets[1]];
                    if (inside[2]) xs[i].z = from[offsets[2]];
                    if (inside[3]) xs[i].w = from[offsets[3]];
                }
            }
        }
        // Two rows at a time, so that one's sums are under way while the other's are added to.
        u32 entry = entry_ptr[group];
        const u32 last = entry_ptr[group + 1];
        for (; entry < last; entry += 2) {
            const bool both = entry + 1 < last;
            const u32 other = both ? entry + 1 : entry;
            const u32 to = own + rows[entry] * LANES * 4;
            const u32 other_to = own + rows[other] * LANES * 4;
            float4 a = SHARED4(sums, to), b = SHARED4(sums, other_to);
#pragma unroll
            for (u32 v = 0; v < WIDTH / VECTOR_WEIGHTS; ++v) {
                const u32 vectors = WIDTH / VECTOR_WEIGHTS;
                const Weights w = load_weights(values, entry * vectors + v);
                const Weights u = load_weights(values, other * vectors + v);
#pragma unroll
                for (u32 i = 0; i < VECTOR_WEIGHTS; ++i) {
                    const float4 four = xs[v * VECTOR_WEIGHTS + i];
                    a.x += w.at[i] * four.x, b.x += u.at[i] * four.x;
                    a.y += w.at[i] * four.y, b.y += u.at[i] * four.y;
                    a.z += w.at[i] * four.z, b.z += u.at[i] * four.z;
                    a.w += w.at[i] * four.w, b.w += u.at[i] * four.w;
                }
            }
            SHARED4(sums, to) = a;
            if (both) SHARED4(sums, other_to) = b;
        }
    }
    __syncthreads();
    for (u32 place = threadIdx.x; place < ROWS * LANES; place += THREADS) {
        const u32 row = blockIdx.y * ROWS + place / LANES;
        if (row >= p.rows) continue;
        float4 sum = SHARED4(sums, place * 4);
        for (u32 other = 1; other < TEAMS; ++other) {
            const float4 part = SHARED4(sums, other * TEAM_SUMS + place * 4);
            sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
        }
        const float results[4] = {sum.x, sum.y, sum.z, sum.w};
        float *to = y + blockIdx.z * p.y_image + y_rows[row];
#pragma unroll
        for (u32 c = 0; c < 4; ++c) {
            const u32 column = column_of(first_column, place % LANES, c);
            if (column < p.columns) to[p.y_lines(column)] = activate(results[c] + bias[row], p.relu);
        }
    }
}
#endif
