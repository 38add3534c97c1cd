// CUDA C++ as far as our kernels use it, for a CPU. The threads of a block are fibers of one thread:
// each runs until it has to wait for others, and whoever resumes them (src/device/cuda/shim.rs) sees
// whether they all wait at the same place. Shared arrays check every access and are full of NaN when a
// block starts, so that what nobody wrote cannot pass for a result.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }

enum ShimPause { SHIM_BLOCK = 0, SHIM_WARP = 1, SHIM_FAULT = 2 };

extern "C" struct ShimState {
    uint3 thread, block, threads, blocks;
    unsigned serial; // of the block, so that shared arrays know a new one
    void (*pause)(int kind, int site, const char *message);
};
extern "C" ShimState shim_state;
ShimState shim_state;

#define threadIdx shim_state.thread
#define blockIdx shim_state.block
#define blockDim shim_state.threads
#define gridDim shim_state.blocks
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __syncthreads() shim_state.pause(SHIM_BLOCK, __LINE__, "")
#define __syncwarp() shim_state.pause(SHIM_WARP, __LINE__, "")
#define __shfl_xor_sync(mask, value, lanes) shim_shuffle(value, threadIdx.x % 32 ^ (lanes), __LINE__)
#define __shfl_sync(mask, value, lane) shim_shuffle(value, lane, __LINE__)

[[noreturn]] inline void shim_fault(const char *message) {
    for (;;) shim_state.pause(SHIM_FAULT, 0, message);
}

template <class T, unsigned long COUNT> class ShimShared {
  public:
    explicit ShimShared(const char *name) : name_(name) {}

    T &operator[](unsigned long place) { return *at(place, 1); }
    float4 &vector(unsigned long place) {
        if (place % 4 != 0) fail("a vector at a place that is no multiple of 4", place);
        return *reinterpret_cast<float4 *>(at(place, 4));
    }

  private:
    T *at(unsigned long place, unsigned long count) {
        if (serial_ != shim_state.serial) {
            std::memset(values_, 0xff, sizeof values_);
            serial_ = shim_state.serial;
        }
        if (place + count > COUNT) fail("an access out of bounds", place);
        return values_ + place;
    }
    void fail(const char *what, unsigned long place) {
        static char message[200];
        std::snprintf(message, sizeof message, "shared array %s of %lu: %s: %lu", name_, COUNT, what, place);
        shim_fault(message);
    }

    const char *name_;
    unsigned serial_ = ~0u;
    alignas(16) T values_[COUNT];
};

#define SHARED(type, name, count) static ShimShared<type, (count)> name(#name)
#define SHARED4(tile, place) ((tile).vector(place))

// What a warp's lanes show each other. Two sets, since a fast lane may show its next value before a
// slow one has read the last.
constexpr unsigned SHIM_WORDS = 8;
static uint32_t shim_shown[32][2][32][SHIM_WORDS];
static unsigned shim_turn[1024];

// Shows `count` words to the warp; gives all lanes' words.
inline uint32_t (*shim_show(const uint32_t *words, unsigned count, int site))[SHIM_WORDS] {
    const unsigned thread = threadIdx.x;
    auto *shown = shim_shown[thread / 32][shim_turn[thread]++ % 2];
    std::memcpy(shown[thread % 32], words, count * sizeof *words);
    shim_state.pause(SHIM_WARP, site, "");
    return shown;
}

template <class T> T shim_shuffle(T value, unsigned lane, int site) {
    static_assert(sizeof(T) == 4);
    uint32_t word;
    std::memcpy(&word, &value, 4);
    const uint32_t found = shim_show(&word, 1, site)[lane % 32][0];
    std::memcpy(&value, &found, 4);
    return value;
}

template <class... Arguments, std::size_t... Places>
void shim_call(void (*kernel)(Arguments...), void **places, std::index_sequence<Places...>) {
    kernel(*static_cast<std::remove_reference_t<Arguments> *>(places[Places])...);
}

template <class... Arguments> void shim_call(void (*kernel)(Arguments...), void **places) {
    shim_call(kernel, places, std::index_sequence_for<Arguments...>{});
}

extern "C" void shim_reset() { std::memset(shim_turn, 0, sizeof shim_turn); }
