/* SPDX-License-Identifier: Apache-2.0 */
/* Where keys and values lie in the paged cache on a GPU, said once for all kernels that write or read it. `row` counts
 * keys of one head: (page heads + head) S + offset in the page. Keys and values lie alike, as ops.h says. */
#ifndef TK_CACHE_CUH
#define TK_CACHE_CUH
#include "cuda/kernel.cuh"

namespace tk {

enum { Q8 = 32, Q8_BYTES = 34 };

/* Numbers that are written together */
template <int T> __host__ __device__ constexpr int cache_run() { return T == TK_Q8_0 ? Q8 : 1; }

/* Number d of a row */
template <int T> __device__ inline int64_t cache_place(int64_t row, int64_t d, int64_t width) {
    return T == TK_F32 ? row * width + d : TK_KV_PLACE(row, d, width);
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
template <int T> __device__ inline void cache_put(void *cache, const float *x, int64_t row, int64_t d, int64_t width) {
    if (T == TK_Q8_0)
        quantize((uint8_t *)cache + (row * width + d) / Q8 * Q8_BYTES, x);
    else
        store_number<T>(cache, cache_place<T>(row, d, width), *x);
}

template <int T> __device__ inline uint2 four_of(float4 v) {
    uint2 w;
    if (T == TK_BF16) {
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w.x) : "f"(v.y), "f"(v.x));
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w.y) : "f"(v.w), "f"(v.z));
    } else {
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w.x) : "f"(v.y), "f"(v.x));
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(w.y) : "f"(v.w), "f"(v.z));
    }
    return w;
}
/* Eight numbers, the first being number d, a multiple of 8, of a row; or, `apart` from each other, four from d and four from
 * d + apart on (multiples of 4). Not for Q8_0; rows of whole blocks */
template <int T> __device__ inline void cache_put8(void *cache, float4 a, float4 b, int apart, int64_t row, int64_t d, int64_t width) {
    if (T == TK_F32) {
        float *to = (float *)cache + cache_place<T>(row, d, width);
        *(float4 *)to = a, *(float4 *)(to + apart) = b;
        return;
    }
    const uint2 u = four_of<T>(a), v = four_of<T>(b);
    uint16_t *to = (uint16_t *)cache + cache_place<T>(row, d, width);
    if (apart == 4)
        *(uint4 *)to = make_uint4(u.x, u.y, v.x, v.y);
    else
        *(uint2 *)to = u, *(uint2 *)((uint16_t *)cache + cache_place<T>(row, d + apart, width)) = v;
}

template <int T> __device__ inline float cache_at(const void *cache, int64_t row, int64_t d, int64_t width) {
    if (T != TK_Q8_0) return load_number<T>(cache, cache_place<T>(row, d, width));
    const uint8_t *b = (const uint8_t *)cache + (row * width + d) / Q8 * Q8_BYTES;
    return from_f16(*(const uint16_t *)b) * (float)(int8_t)b[2 + d % Q8];
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
