/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in the layouts of files (base/formats.c says what they mean), eight consecutive k at a time: `load`
 * only fetches, `numbers` does the arithmetic, so that a kernel can have the next loads on their way while it
 * computes. The numbers are bitwise those of the CPU's unpack functions. */
#ifndef TK_WEIGHTS_CUH
#define TK_WEIGHTS_CUH
#include "cuda/kernel.cuh"

namespace tk {

enum { EIGHT = 8 };

__device__ inline uint32_t pair_at(const uint8_t *p) { /* four bytes at an even address */
    const uint16_t *h = (const uint16_t *)p;
    return h[0] | (uint32_t)h[1] << 16;
}

/* Plain numbers; rows may have any length, so the last eight of one may be fewer. */
template <int T> struct weights {
    uint32_t raw[EIGHT];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const int64_t at = row * cols + k;
        for (int i = 0; i < EIGHT; i++)
            raw[i] = k + i >= cols ? 0 : T == TK_F32 ? ((const uint32_t *)m)[at + i] : ((const uint16_t *)m)[at + i];
    }
    __device__ void numbers(float v[EIGHT]) const {
        for (int i = 0; i < EIGHT; i++)
            v[i] = T == TK_F32    ? __uint_as_float(raw[i])
                   : T == TK_BF16 ? from_bf16((uint16_t)raw[i])
                                  : from_f16((uint16_t)raw[i]);
    }
};

template <> struct weights<TK_Q8_0> {
    uint32_t d, q[2];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 34;
        d = *(const uint16_t *)b, q[0] = pair_at(b + 2 + k % 32), q[1] = pair_at(b + 6 + k % 32);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16((uint16_t)d);
        for (int i = 0; i < EIGHT; i++) v[i] = scale * (float)(int8_t)(q[i / 4] >> i % 4 * 8);
    }
};

/* The nibbles of k .. k + 7 in a block of 32 whose 16 bytes hold value j low and j + 16 high */
__device__ inline void nibbles_of(const uint8_t *bytes, int64_t k, uint32_t q[2]) {
    const int j = (int)(k % 16), shift = k % 32 < 16 ? 0 : 4;
    for (int i = 0; i < 2; i++) q[i] = pair_at(bytes + j + 4 * i) >> shift & 0x0f0f0f0fu;
}
__device__ inline float byte_of(const uint32_t q[2], int i) { return (float)(int)(q[i / 4] >> i % 4 * 8 & 255); }

template <> struct weights<TK_Q4_0> {
    uint32_t d, q[2];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 18;
        d = *(const uint16_t *)b, nibbles_of(b + 2, k, q);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16((uint16_t)d);
        for (int i = 0; i < EIGHT; i++) v[i] = scale * (byte_of(q, i) - 8);
    }
};

template <> struct weights<TK_Q4_1> {
    uint32_t dm, q[2];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 20;
        dm = pair_at(b), nibbles_of(b + 4, k, q);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16((uint16_t)dm), low = from_f16((uint16_t)(dm >> 16));
        for (int i = 0; i < EIGHT; i++) v[i] = scale * byte_of(q, i) + low;
    }
};

template <> struct weights<TK_Q4_K> {
    uint32_t dm, scales, q[2]; /* scales: the six-bit scale and, eight bits up, minimum of the sub-block */
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 144, *s = b + 4;
        const int j = (int)(k % 256 / 32), shift = j % 2 * 4;
        dm = pair_at(b);
        if (j < 4)
            scales = (s[j] & 63u) | (s[j + 4] & 63u) << 8;
        else
            scales = ((s[j + 4] & 15u) | (uint32_t)(s[j - 4] >> 6) << 4) |
                     (s[j + 4] >> 4 | (uint32_t)(s[j] >> 6) << 4) << 8;
        for (int i = 0; i < 2; i++)
            q[i] = *(const uint32_t *)(b + 16 + j / 2 * 32 + k % 32 + 4 * i) >> shift & 0x0f0f0f0fu;
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float ds = from_f16((uint16_t)dm) * (float)(scales & 255);
        const float low = from_f16((uint16_t)(dm >> 16)) * (float)(scales >> 8);
        for (int i = 0; i < EIGHT; i++) v[i] = ds * byte_of(q, i) - low;
    }
};

template <> struct weights<TK_Q6_K> {
    uint32_t d, scale, low[2], top[2];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 210;
        const int at = (int)(k % 256), half = at / 128, run = at % 128 / 32, l = at % 32;
        d = *(const uint16_t *)(b + 208), scale = b[192 + at / 16];
        for (int i = 0; i < 2; i++) {
            low[i] = pair_at(b + half * 64 + run % 2 * 32 + l + 4 * i) >> run / 2 * 4 & 0x0f0f0f0fu;
            top[i] = pair_at(b + 128 + half * 32 + l + 4 * i) >> 2 * run & 0x03030303u;
        }
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float ds = from_f16((uint16_t)d) * (float)(int8_t)scale;
        const uint32_t q[2] = { low[0] | top[0] << 4, low[1] | top[1] << 4 };
        for (int i = 0; i < EIGHT; i++) v[i] = ds * (byte_of(q, i) - 32);
    }
};

/* call(T) for the format of a weight; rows of kernels.def name no other */
#define TK_BY_WEIGHT(type, call)                                                                             \
    switch (type) {                                                                                          \
    case TK_F16: call(TK_F16); break;                                                                        \
    case TK_BF16: call(TK_BF16); break;                                                                      \
    case TK_Q8_0: call(TK_Q8_0); break;                                                                      \
    case TK_Q4_0: call(TK_Q4_0); break;                                                                      \
    case TK_Q4_1: call(TK_Q4_1); break;                                                                      \
    case TK_Q4_K: call(TK_Q4_K); break;                                                                      \
    case TK_Q6_K: call(TK_Q6_K); break;                                                                      \
    default: call(TK_F32);                                                                                   \
    }

} // namespace tk
#endif
