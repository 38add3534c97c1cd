// A dense layer of which only some nodes live: Y = act(W X + b) over the living rows of X and Y. The
// weights of the living nodes were gathered once, W [M, K] with rows of `stride` floats; X and Y keep
// their rows where their neighbours have them, told by `x_rows` and `y_rows`, so that nothing is copied
// and dead rows are neither read nor written. A convolution is this product on its taps.
//
// - `n1`, for one column: a warp for a row, or SPLIT warps; a lane reads four neighbouring weights.
//   Bound by the memory that the weights come from. GATHER is 0 where the living rows of X lie side by
//   side: then they are read as vectors too.
// - `tile`: a block computes TILE_M x TILE_N of Y, a thread THREAD_M x THREAD_N in registers, from
//   tiles of W and X in shared memory, TILE_K deep. Two sets of tiles: while one is computed with, the
//   next one is on its way through registers. Where there are too few blocks to fill the device, they
//   share K (`splits`) and `sum` adds their parts up.
// - `tf32`: the same tiles, multiplied by tensor cores, four warps of 16x8x8 products. Operands are
//   rounded to TF32, ten bits of mantissa; sums stay f32.
//
// Preconditions: `stride` is a multiple of 4 and at least K; `weights` is aligned to 16 bytes, and so is
// every row of X where VECTOR is 1; after K, weights are 0 (X is not read there).
#include "shared.cuh"

struct Params {
    u32 rows;   // M, of this launch
    u32 inner;  // K
    u32 stride;
    u32 splits; // parts of K; more than one: y is [splits, M, n] of sums
    u32 depth;  // K of a part, a multiple of TILE_K
    u32 unused; // the lines of a WGSL uniform are aligned to four words
    u32 columns;
    u32 relu;
    Lines x_lines;
    u32 x_image; // the grid's z counts images, or parts of K
    Lines y_lines;
    u32 y_image;
};

#ifdef SPLIT
extern "C" __global__ void __launch_bounds__(THREADS)
masked_dense_n1(const float *__restrict__ weights, const float *__restrict__ bias,
                const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                const float *__restrict__ x, float *__restrict__ y, Params p) {
    SHARED(float, partial, THREADS / WARP);
    const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const u32 row = blockIdx.x * (THREADS / WARP / SPLIT) + warp / SPLIT;
    float sum = 0.0f;
    if (row < p.rows) {
        const float *own = weights + row * static_cast<unsigned long long>(p.stride);
#pragma unroll 4
        for (u32 k = (warp % SPLIT * WARP + lane) * 4; k < p.inner; k += SPLIT * WARP * 4) {
            const float4 w = load4(own + k);
            if (k + 4 <= p.inner) {
                float4 xs;
                if (GATHER) {
                    xs = make_float4(x[x_rows[k]], x[x_rows[k + 1]], x[x_rows[k + 2]], x[x_rows[k + 3]]);
                } else {
                    xs = load4(x + k);
                }
                sum += w.x * xs.x, sum += w.y * xs.y, sum += w.z * xs.z, sum += w.w * xs.w;
            } else {
                const float ws[4] = {w.x, w.y, w.z, w.w};
                for (u32 i = 0; k + i < p.inner; ++i) sum += ws[i] * x[GATHER ? x_rows[k + i] : k + i];
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

#ifdef TILE_M
// Rows of the tiles in shared memory are padded, so that a warp's accesses fall on different banks.
constexpr u32 PITCH_W = TILE_M + PADDING, PITCH_X = TILE_N + PADDING;
constexpr u32 W_VECTORS = TILE_M * TILE_K / 4 / THREADS, X_VECTORS = TILE_N * TILE_K / 4 / THREADS;
static_assert(W_VECTORS * THREADS * 4 == TILE_M * TILE_K, "tiles of W must be whole vectors a thread");
static_assert(X_VECTORS * THREADS * 4 == TILE_N * TILE_K, "tiles of X must be whole vectors a thread");

// The next tiles, on their way from global memory.
struct Fetched {
    float4 w[W_VECTORS];
    float4 x[X_VECTORS];
};

// The column of the `c`-th of four values that a thread fetches: side by side where they are read as a
// vector, else apart, so that neighbouring threads read side by side.
__device__ __forceinline__ u32 fetched_column(u32 quarter, u32 c) {
    return VECTOR ? quarter * 4 + c : quarter + c * (TILE_N / 4);
}

__device__ __forceinline__ void fetch(Fetched &next, const float *weights, const float *x,
                                      const u32 *x_rows, u32 first, u32 end, const Params &p) {
#pragma unroll
    for (u32 v = 0; v < W_VECTORS; ++v) {
        const u32 place = threadIdx.x + v * THREADS;
        const u32 row = blockIdx.y * TILE_M + place / (TILE_K / 4);
        const u32 k = first + place % (TILE_K / 4) * 4;
        const bool inside = row < p.rows && k < end;
        next.w[v] = inside ? load4(weights + row * static_cast<unsigned long long>(p.stride) + k)
                           : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
#pragma unroll
    for (u32 v = 0; v < X_VECTORS; ++v) {
        const u32 place = threadIdx.x + v * THREADS;
        const u32 k = first + place / (TILE_N / 4), quarter = place % (TILE_N / 4);
        float four[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (k < end) {
            const float *from = x + x_rows[k];
            if (VECTOR) {
                const u32 column = blockIdx.x * TILE_N + quarter * 4;
                if (column < p.columns) {
                    const float4 found = load4(from + p.x_lines(column));
                    four[0] = found.x, four[1] = found.y, four[2] = found.z, four[3] = found.w;
                }
            } else {
#pragma unroll
                for (u32 c = 0; c < 4; ++c) {
                    const u32 column = blockIdx.x * TILE_N + fetched_column(quarter, c);
                    if (column < p.columns) four[c] = from[p.x_lines(column)];
                }
            }
        }
        next.x[v] = make_float4(four[0], four[1], four[2], four[3]);
    }
}

// Puts fetched tiles into one of the two sets: W transposed, [TILE_K, TILE_M], X as [TILE_K, TILE_N].
template <class Tile> __device__ __forceinline__ void keep(const Fetched &next, Tile &tile_w,
                                                           Tile &tile_x, u32 to_w, u32 to_x) {
#pragma unroll
    for (u32 v = 0; v < W_VECTORS; ++v) {
        const u32 place = threadIdx.x + v * THREADS;
        const u32 to = to_w + place % (TILE_K / 4) * 4 * PITCH_W + place / (TILE_K / 4);
        tile_w[to] = next.w[v].x;
        tile_w[to + PITCH_W] = next.w[v].y;
        tile_w[to + 2 * PITCH_W] = next.w[v].z;
        tile_w[to + 3 * PITCH_W] = next.w[v].w;
    }
#pragma unroll
    for (u32 v = 0; v < X_VECTORS; ++v) {
        const u32 place = threadIdx.x + v * THREADS;
        const u32 quarter = place % (TILE_N / 4), to = to_x + place / (TILE_N / 4) * PITCH_X;
        tile_x[to + fetched_column(quarter, 0)] = next.x[v].x;
        tile_x[to + fetched_column(quarter, 1)] = next.x[v].y;
        tile_x[to + fetched_column(quarter, 2)] = next.x[v].z;
        tile_x[to + fetched_column(quarter, 3)] = next.x[v].w;
    }
}

__device__ __forceinline__ void finish(float *y, const float *bias, const u32 *y_rows, u32 row,
                                       u32 column, float sum, const Params &p) {
    if (row >= p.rows || column >= p.columns) return;
    if (p.splits > 1) {
        y[(blockIdx.z * p.rows + row) * p.columns + column] = sum;
    } else {
        y[blockIdx.z * p.y_image + y_rows[row] + p.y_lines(column)] = activate(sum + bias[row], p.relu);
    }
}
#endif

#ifdef THREAD_M
// A thread's rows and columns are four side by side, and further fours TILE / (fours) apart, so that
// the lanes of a warp read vectors side by side.
constexpr u32 FOURS_M = THREAD_M / 4, FOURS_N = THREAD_N / 4;
constexpr u32 THREADS_N = TILE_N / THREAD_N;

extern "C" __global__ void __launch_bounds__(THREADS)
masked_dense_tile(const float *__restrict__ weights, const float *__restrict__ bias,
                  const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                  const float *__restrict__ x, float *__restrict__ y, Params p) {
    SHARED(float, tile, 2 * TILE_K * (PITCH_W + PITCH_X));
    constexpr u32 SETS_X = 2 * TILE_K * PITCH_W; // where the sets of X begin
    const u32 down = threadIdx.x / THREADS_N * 4, right = threadIdx.x % THREADS_N * 4;
    const u32 part = p.splits > 1 ? blockIdx.z : 0;
    const float *image = x + (p.splits > 1 ? 0 : blockIdx.z) * p.x_image;
    const u32 end = p.inner < (part + 1) * p.depth ? p.inner : (part + 1) * p.depth;

    float sums[THREAD_M][THREAD_N];
#pragma unroll
    for (u32 i = 0; i < THREAD_M; ++i) {
#pragma unroll
        for (u32 j = 0; j < THREAD_N; ++j) sums[i][j] = 0.0f;
    }
    Fetched next;
    u32 set = 0;
    fetch(next, weights, image, x_rows, part * p.depth, end, p);
    for (u32 first = part * p.depth; first < end; first += TILE_K) {
        const u32 at_w = set * TILE_K * PITCH_W, at_x = SETS_X + set * TILE_K * PITCH_X;
        keep(next, tile, tile, at_w, at_x);
        __syncthreads();
        if (first + TILE_K < end) fetch(next, weights, image, x_rows, first + TILE_K, end, p);
#pragma unroll
        for (u32 k = 0; k < TILE_K; ++k) {
            float w[THREAD_M], xs[THREAD_N];
#pragma unroll
            for (u32 f = 0; f < FOURS_M; ++f) {
                const float4 four = SHARED4(tile, at_w + k * PITCH_W + f * (TILE_M / FOURS_M) + down);
                w[4 * f] = four.x, w[4 * f + 1] = four.y, w[4 * f + 2] = four.z, w[4 * f + 3] = four.w;
            }
#pragma unroll
            for (u32 f = 0; f < FOURS_N; ++f) {
                const float4 four = SHARED4(tile, at_x + k * PITCH_X + f * (TILE_N / FOURS_N) + right);
                xs[4 * f] = four.x, xs[4 * f + 1] = four.y, xs[4 * f + 2] = four.z, xs[4 * f + 3] = four.w;
            }
#pragma unroll
            for (u32 i = 0; i < THREAD_M; ++i) {
#pragma unroll
                for (u32 j = 0; j < THREAD_N; ++j) sums[i][j] += w[i] * xs[j];
            }
        }
        // The other set was last read before the barrier above.
        set ^= 1;
    }
#pragma unroll
    for (u32 i = 0; i < THREAD_M; ++i) {
        const u32 row = blockIdx.y * TILE_M + i / 4 * (TILE_M / FOURS_M) + down + i % 4;
#pragma unroll
        for (u32 j = 0; j < THREAD_N; ++j) {
            const u32 column = blockIdx.x * TILE_N + j / 4 * (TILE_N / FOURS_N) + right + j % 4;
            finish(y, bias, y_rows, row, column, sums[i][j], p);
        }
    }
}
#endif

#ifdef TENSOR
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "TF32 needs compute capability 8.0 or newer"
#endif

// A float rounded to TF32, as the tensor cores take it.
__device__ __forceinline__ u32 to_tf32(float value) {
#ifdef SCALPEL_SHIM
    u32 bits;
    memcpy(&bits, &value, 4);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    return finite ? (bits + 0x1000u) & 0xffffe000u : bits;
#else
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
#endif
}

// sums += w x for a 16x8 tile of sums, 8 deep. Of lane 4 g + t: w is (g, t), (g + 8, t), (g, t + 4) and
// (g + 8, t + 4); x is (t, g), (t + 4, g); the sums are (g, 2 t), (g, 2 t + 1), (g + 8, 2 t) and
// (g + 8, 2 t + 1).
__device__ __forceinline__ void multiply(float (&sums)[4], const u32 (&w)[4], const u32 (&x)[2]) {
#ifdef SCALPEL_SHIM
    const u32 own[6] = {w[0], w[1], w[2], w[3], x[0], x[1]};
    const auto shown = shim_show(own, 6, __LINE__);
    const u32 g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    auto value = [&](u32 lane, u32 word) { float v; memcpy(&v, &shown[lane][word], 4); return v; };
    for (u32 s = 0; s < 4; ++s) {
        for (u32 k = 0; k < 8; ++k) {
            const float a = value(4 * g + k % 4, s / 2 + k / 4 * 2);
            const float b = value(4 * (2 * t + s % 2) + k % 4, 4 + k / 4);
            sums[s] += a * b;
        }
    }
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "r"(x[0]), "r"(x[1]));
#endif
}

// Four warps, each a quarter of the tile: WARP_M x WARP_N.
constexpr u32 WARP_M = TILE_M / 2, WARP_N = TILE_N / 2;
constexpr u32 PARTS_M = WARP_M / 16, PARTS_N = WARP_N / 8;

extern "C" __global__ void __launch_bounds__(THREADS)
masked_dense_tf32(const float *__restrict__ weights, const float *__restrict__ bias,
                  const u32 *__restrict__ x_rows, const u32 *__restrict__ y_rows,
                  const float *__restrict__ x, float *__restrict__ y, Params p) {
    SHARED(float, tile, 2 * TILE_K * (PITCH_W + PITCH_X));
    constexpr u32 SETS_X = 2 * TILE_K * PITCH_W;
    const u32 warp = threadIdx.x / WARP, g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    const u32 down = warp / 2 * WARP_M, right = warp % 2 * WARP_N;
    const u32 part = p.splits > 1 ? blockIdx.z : 0;
    const float *image = x + (p.splits > 1 ? 0 : blockIdx.z) * p.x_image;
    const u32 end = p.inner < (part + 1) * p.depth ? p.inner : (part + 1) * p.depth;

    float sums[PARTS_M][PARTS_N][4];
#pragma unroll
    for (u32 i = 0; i < PARTS_M; ++i) {
#pragma unroll
        for (u32 j = 0; j < PARTS_N; ++j) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0.0f;
    }
    Fetched next;
    u32 set = 0;
    fetch(next, weights, image, x_rows, part * p.depth, end, p);
    for (u32 first = part * p.depth; first < end; first += TILE_K) {
        const u32 at_w = set * TILE_K * PITCH_W, at_x = SETS_X + set * TILE_K * PITCH_X;
        keep(next, tile, tile, at_w, at_x);
        __syncthreads();
        if (first + TILE_K < end) fetch(next, weights, image, x_rows, first + TILE_K, end, p);
#pragma unroll
        for (u32 k = 0; k < TILE_K; k += 8) {
            u32 w[PARTS_M][4], xs[PARTS_N][2];
#pragma unroll
            for (u32 i = 0; i < PARTS_M; ++i) {
                const u32 at = at_w + (k + t) * PITCH_W + down + i * 16 + g;
                w[i][0] = to_tf32(tile[at]);
                w[i][1] = to_tf32(tile[at + 8]);
                w[i][2] = to_tf32(tile[at + 4 * PITCH_W]);
                w[i][3] = to_tf32(tile[at + 4 * PITCH_W + 8]);
            }
#pragma unroll
            for (u32 j = 0; j < PARTS_N; ++j) {
                const u32 at = at_x + (k + t) * PITCH_X + right + j * 8 + g;
                xs[j][0] = to_tf32(tile[at]);
                xs[j][1] = to_tf32(tile[at + 4 * PITCH_X]);
            }
#pragma unroll
            for (u32 i = 0; i < PARTS_M; ++i) {
#pragma unroll
                for (u32 j = 0; j < PARTS_N; ++j) multiply(sums[i][j], w[i], xs[j]);
            }
        }
        set ^= 1;
    }
#pragma unroll
    for (u32 i = 0; i < PARTS_M; ++i) {
#pragma unroll
        for (u32 j = 0; j < PARTS_N; ++j) {
#pragma unroll
            for (u32 s = 0; s < 4; ++s) {
                const u32 row = blockIdx.y * TILE_M + down + i * 16 + g + s / 2 * 8;
                const u32 column = blockIdx.x * TILE_N + right + j * 8 + 2 * t + s % 2;
                finish(y, bias, y_rows, row, column, sums[i][j][s], p);
            }
        }
    }
}
#endif

#ifdef SUM
// Adds the parts [splits, M, n] up, a thread for each result.
extern "C" __global__ void __launch_bounds__(THREADS)
masked_dense_sum(const float *__restrict__ parts, const float *__restrict__ bias,
                 const u32 *__restrict__ y_rows, float *__restrict__ y, Params p) {
    const u32 column = blockIdx.x * THREADS + threadIdx.x, row = blockIdx.y;
    if (column >= p.columns) return;
    float sum = bias[row];
    for (u32 part = 0; part < p.splits; ++part) sum += parts[(part * p.rows + row) * p.columns + column];
    y[y_rows[row] + p.y_lines(column)] = activate(sum, p.relu);
}
#endif
