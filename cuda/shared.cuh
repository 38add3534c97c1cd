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
