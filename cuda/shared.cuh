// What every kernel includes: short names, vectors of four floats, memory shared by a block, and the
// end of a row. `SCALPEL_SHIM` is defined where the file is compiled as C++ to be run on a CPU (shim.h).
#pragma once

#ifdef SCALPEL_SHIM
#include "shim.h"
#else
// An array that the threads of a block share, aligned for vectors of four.
#define SHARED(type, name, count) __shared__ __align__(16) type name[count]
// Four floats of a shared array, from a multiple of four on.
#define SHARED4(tile, place) (*reinterpret_cast<float4 *>(&(tile)[place]))
#endif

using u32 = unsigned int;

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

// Four floats of global memory, from a multiple of four on.
__device__ __forceinline__ float4 load4(const float *place) {
    return *reinterpret_cast<const float4 *>(place);
}

__device__ __forceinline__ u32 ceil_div(u32 count, u32 size) { return (count + size - 1) / size; }

// max(value, 0) if `relu`; NaN stays NaN, which fmaxf would lose.
__device__ __forceinline__ float activate(float value, u32 relu) {
    return relu && value < 0.0f ? 0.0f : value;
}

// The sum over a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    return value;
}

// Where the columns of a product lie in a row of an operand: `width` of them side by side, `right`
// floats apart, and the next `width` `down` floats further. A plain row is one line of all columns; the
// columns of a convolution are the pixels of its output.
struct Lines {
    u32 width;
    u32 down;
    u32 right;

    __device__ __forceinline__ u32 operator()(u32 column) const {
        return column / width * down + column % width * right;
    }
};

// A sparse product's sizes, and where its operands lie.
struct SpmmParams {
    u32 rows;    // M, of this launch
    u32 inner;   // K
    u32 columns; // n
    u32 relu;
    Lines x_lines;
    u32 x_image; // floats from one image of X to the next; the grid's z counts images
    Lines y_lines;
    u32 y_image;
};

// The weights of a group, or a part of one: COUNT side by side, from a multiple of COUNT on.
template <u32 COUNT> struct Weights {
    float at[COUNT];
};

// The `place`-th COUNT weights, in vectors of four or two.
template <u32 COUNT>
__device__ __forceinline__ Weights<COUNT> load_weights(const float *values, u32 place) {
    Weights<COUNT> w;
    const float *from = values + COUNT * place;
    if constexpr (COUNT % 4 == 0) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i += 4) {
            const float4 four = load4(from + i);
            w.at[i] = four.x, w.at[i + 1] = four.y, w.at[i + 2] = four.z, w.at[i + 3] = four.w;
        }
    } else {
        static_assert(COUNT == 2, "two weights, or whole vectors of four");
        const float2 two = *reinterpret_cast<const float2 *>(from);
        w.at[0] = two.x, w.at[1] = two.y;
    }
    return w;
}

#ifdef LANES
// A team of LANES threads computes a tile of four columns a thread. The column of a lane's `c`-th sum: four side by
// side where they are read as a vector (VECTOR), else apart, so that the lanes of a team read side by side.
__device__ __forceinline__ u32 column_of(u32 first, u32 lane, u32 c) {
    return VECTOR ? first + lane * 4 + c : first + lane + c * LANES;
}

// Where a lane's four columns, of `count` in all, lie in a row of X, and which of them exist.
struct Columns {
    u32 offsets[4];
    bool inside[4];

    __device__ __forceinline__ Columns(u32 first, u32 lane, u32 count, const Lines &lines) {
#pragma unroll
        for (u32 c = 0; c < 4; ++c) {
            const u32 column = column_of(first, lane, c);
            inside[c] = column < count;
            offsets[c] = lines(inside[c] ? column : 0);
        }
    }

    // The lane's part of a row of X.
    __device__ __forceinline__ float4 load(const float *row) const {
        float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (VECTOR) {
            if (inside[0]) four = load4(row + offsets[0]);
        } else {
            if (inside[0]) four.x = row[offsets[0]];
            if (inside[1]) four.y = row[offsets[1]];
            if (inside[2]) four.z = row[offsets[2]];
            if (inside[3]) four.w = row[offsets[3]];
        }
        return four;
    }
};

__device__ __forceinline__ void add(float4 &sum, float weight, const float4 &x) {
    sum.x += weight * x.x, sum.y += weight * x.y, sum.z += weight * x.z, sum.w += weight * x.w;
}

// Writes a lane's four results to a row of Y.
__device__ __forceinline__ void store(float *row, u32 first, u32 lane, const float4 &sum, float bias, u32 relu,
                                      u32 count, const Lines &lines) {
    const float results[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (u32 c = 0; c < 4; ++c) {
        const u32 column = column_of(first, lane, c);
        if (column < count) row[lines(column)] = activate(results[c] + bias, relu);
    }
}

// Adds up the sums of a block's teams, ROWS rows of LANES vectors each and team by team in shared memory, and writes
// them to Y.
template <u32 ROWS, typename Sums, typename Params>
__device__ __forceinline__ void add_up(Sums &sums, u32 first_row, u32 first_column, const float *bias,
                                       const u32 *y_rows, float *y, const Params &p) {
    for (u32 place = threadIdx.x; place < ROWS * LANES; place += THREADS) {
        const u32 row = first_row + place / LANES;
        if (row >= p.rows) continue;
        float4 sum = SHARED4(sums, place * 4);
        for (u32 other = 1; other < THREADS / LANES; ++other) {
            add(sum, 1.0f, SHARED4(sums, (other * ROWS * LANES + place) * 4));
        }
        float *to = y + blockIdx.z * p.y_image + y_rows[row];
        store(to, first_column, place % LANES, sum, bias[row], p.relu, p.columns, p.y_lines);
    }
}
#endif
