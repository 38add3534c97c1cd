// What lies between products in a network: pooling, response normalisation, scale and shift, and
// copies into another layout. A thread computes one pixel of Y; bound by memory.
//
// X and Y are planes of pixels, one for each channel, that lie anywhere (`Map`), so that a layer writes
// straight into the zeros that surround the next one's input, or turns its features.
#include "shared.cuh"

struct Map {
    u32 start, image, plane, pitch, step;

    __device__ __forceinline__ u32 operator()(u32 z, u32 channel, u32 row, u32 column) const {
        return start + z * image + channel * plane + row * pitch + column * step;
    }
};

struct Params {
    u32 channels, height, width; // of Y
    u32 x_height, x_width;
    u32 window, stride, padding;
    u32 relu;
    float alpha, beta;
    Map x, y;
};

struct Pixel {
    u32 channel, row, column;
    bool exists;
};

__device__ __forceinline__ Pixel own_pixel(const Params &p) {
    const u32 block = blockIdx.y * gridDim.x + blockIdx.x;
    const u32 place = block * THREADS + threadIdx.x;
    const u32 area = p.height * p.width;
    return {place / area, place % area / p.width, place % p.width, place < p.channels * area};
}

#ifdef POOL
// The maximum of each window, in which the border never wins, or its mean, border counted in. A NaN in
// the window wins.
extern "C" __global__ void __launch_bounds__(THREADS)
pool_eltwise_pool(const float *__restrict__ x, float *__restrict__ y, Params p) {
    const Pixel own = own_pixel(p);
    if (!own.exists) return;
    float result = 0.0f;
    bool empty = true;
    for (u32 i = 0; i < p.window; ++i) {
        // Numbers below 0 wrap around and lie outside.
        const u32 row = own.row * p.stride + i - p.padding;
        if (row >= p.x_height) continue;
        for (u32 j = 0; j < p.window; ++j) {
            const u32 column = own.column * p.stride + j - p.padding;
            if (column >= p.x_width) continue;
            const float value = x[p.x(blockIdx.z, own.channel, row, column)];
            if (AVERAGE) {
                result += value;
            } else {
                result = !empty && (result >= value || result != result) ? result : value;
                empty = false;
            }
        }
    }
    if (AVERAGE) result /= static_cast<float>(p.window * p.window);
    y[p.y(blockIdx.z, own.channel, own.row, own.column)] = result;
}
#endif

#ifdef MAX_AFFINE
// The maximum of scale x + shift over each window, in which the border never wins: a batch normalisation
// in front of a pooling. A NaN in the window wins.
extern "C" __global__ void __launch_bounds__(THREADS)
pool_eltwise_max_affine(const float *__restrict__ scale, const float *__restrict__ shift,
                  const float *__restrict__ x, float *__restrict__ y, Params p) {
    const Pixel own = own_pixel(p);
    if (!own.exists) return;
    const float factor = scale[own.channel], summand = shift[own.channel];
    float result = 0.0f;
    bool empty = true;
    for (u32 i = 0; i < p.window; ++i) {
        const u32 row = own.row * p.stride + i - p.padding;
        if (row >= p.x_height) continue;
        for (u32 j = 0; j < p.window; ++j) {
            const u32 column = own.column * p.stride + j - p.padding;
            if (column >= p.x_width) continue;
            const float value = factor * x[p.x(blockIdx.z, own.channel, row, column)] + summand;
            result = !empty && (result >= value || result != result) ? result : value;
            empty = false;
        }
    }
    y[p.y(blockIdx.z, own.channel, own.row, own.column)] = result;
}
#endif

#ifdef NORM
// x / (1 + alpha mean)^beta, the mean of x^2 over a window of the same channel, border counted in.
extern "C" __global__ void __launch_bounds__(THREADS)
pool_eltwise_norm(const float *__restrict__ x, float *__restrict__ y, Params p) {
    const Pixel own = own_pixel(p);
    if (!own.exists) return;
    float sum = 0.0f;
    for (u32 i = 0; i < p.window; ++i) {
        const u32 row = own.row + i - p.padding;
        if (row >= p.x_height) continue;
        for (u32 j = 0; j < p.window; ++j) {
            const u32 column = own.column + j - p.padding;
            if (column >= p.x_width) continue;
            const float value = x[p.x(blockIdx.z, own.channel, row, column)];
            sum += value * value;
        }
    }
    const float mean = sum / static_cast<float>(p.window * p.window);
    const float value = x[p.x(blockIdx.z, own.channel, own.row, own.column)];
    y[p.y(blockIdx.z, own.channel, own.row, own.column)] = value / powf(1.0f + p.alpha * mean, p.beta);
}
#endif

#ifdef AFFINE
// scale x + shift, of each channel: a batch normalisation whose statistics are fixed.
extern "C" __global__ void __launch_bounds__(THREADS)
pool_eltwise_affine(const float *__restrict__ scale, const float *__restrict__ shift,
              const float *__restrict__ x, float *__restrict__ y, Params p) {
    const Pixel own = own_pixel(p);
    if (!own.exists) return;
    const float value = x[p.x(blockIdx.z, own.channel, own.row, own.column)];
    y[p.y(blockIdx.z, own.channel, own.row, own.column)] =
        activate(scale[own.channel] * value + shift[own.channel], p.relu);
}
#endif

#ifdef COPY
extern "C" __global__ void __launch_bounds__(THREADS)
pool_eltwise_copy(const float *__restrict__ x, float *__restrict__ y, Params p) {
    const Pixel own = own_pixel(p);
    if (!own.exists) return;
    const float value = x[p.x(blockIdx.z, own.channel, own.row, own.column)];
    y[p.y(blockIdx.z, own.channel, own.row, own.column)] = activate(value, p.relu);
}
#endif
