/* SPDX-License-Identifier: Apache-2.0 */
/* Where keys and values lie in the paged cache on a GPU, said once for all kernels that write or read it. `row` counts
 * keys of one head: (page heads + head) S + offset in the page. Plain numbers lie as ops.h says; a Q8_0 cache has rows
 * of that format, keys and values alike. */
#ifndef TK_CACHE_CUH
#define TK_CACHE_CUH
#include "cuda/kernel.cuh"

namespace tk {

enum { Q8 = 32, Q8_BYTES = 34 };

/* Numbers that are written together */
template <int T> __host__ __device__ constexpr int cache_run() { return T == TK_Q8_0 ? Q8 : 1; }

/* Number d of a key: 16 keys lie side by side */
__device__ inline int64_t key_place(int64_t row, int64_t d, int64_t width) {
    return row / 16 * 16 * width + d * 16 + row % 16;
}

/* 32 numbers -> scale and bytes, as the CPU's kernels do it; an infinity or NaN makes the scale NaN. */
__device__ inline void quantize(uint8_t *block, const float *x) {
    float top = 0, poison = 0;
    for (int i = 0; i < Q8; i++) top = fmaxf(top, fabsf(x[i])), poison += x[i] * 0;
    const float inverse = top > 1e-30f ? 127 / top : 0;
    *(uint16_t *)block = to_f16(top / 127 + poison);
    for (int i = 0; i < Q8; i++) block[2 + i] = (uint8_t)(int8_t)__float2int_rn(fminf(127, fmaxf(-127, x[i] * inverse)));
}

/* cache_run numbers from x, the first being number d of the row */
template <int T> __device__ inline void put_value(void *cv, const float *x, int64_t row, int64_t d, int64_t width) {
    if (T == TK_Q8_0)
        quantize((uint8_t *)cv + (row * width + d) / Q8 * Q8_BYTES, x);
    else
        store_number<T>(cv, row * width + d, *x);
}
template <int T> __device__ inline void put_key(void *ck, const float *x, int64_t row, int64_t d, int64_t width) {
    if (T == TK_Q8_0)
        put_value<T>(ck, x, row, d, width);
    else
        store_number<T>(ck, key_place(row, d, width), *x);
}

template <int T> __device__ inline float key_at(const void *ck, int64_t row, int64_t d, int64_t width) {
    if (T != TK_Q8_0) return load_number<T>(ck, key_place(row, d, width));
    const uint8_t *b = (const uint8_t *)ck + (row * width + d) / Q8 * Q8_BYTES;
    return from_f16(*(const uint16_t *)b) * (float)(int8_t)b[2 + d % Q8];
}
template <int T> __device__ inline float value_at(const void *cv, int64_t row, int64_t d, int64_t width) {
    return T == TK_Q8_0 ? key_at<T>(cv, row, d, width) : load_number<T>(cv, row * width + d);
}

/* call(T) for the dtype of a cache; rows of kernels.def name no other */
#define TK_BY_CACHE(type, call)                                                                              \
    switch (type) {                                                                                          \
    case TK_F16: call(TK_F16); break;                                                                        \
    case TK_BF16: call(TK_BF16); break;                                                                      \
    case TK_Q8_0: call(TK_Q8_0); break;                                                                      \
    default: call(TK_F32);                                                                                   \
    }

} // namespace tk
#endif
