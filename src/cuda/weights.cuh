/* SPDX-License-Identifier: Apache-2.0 */
/* Weights in the layouts of files (base/formats.c says what they mean), eight consecutive k at a time: `load`
 * only fetches, `numbers` does the arithmetic, so that a kernel can have the next loads on their way while it
 * computes. The numbers are bitwise those of the CPU's unpack functions. */
#ifndef TK_WEIGHTS_CUH
#define TK_WEIGHTS_CUH
#include "cuda/kernel.cuh"

namespace tk {

enum { EIGHT = 8 };

/* Plain numbers. Rows may have any length, so the last eight of one may be fewer; those of whole eights are aligned. */
template <int T> struct weights {
    enum { WORDS = T == TK_F32 ? 8 : 4 };
    uint32_t raw[WORDS];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const int64_t at = row * cols + k;
        if (cols % EIGHT == 0) {
            const uint4 *p = (const uint4 *)(m + at * (T == TK_F32 ? 4 : 2));
#pragma unroll
            for (int i = 0; i < WORDS / 4; i++) {
                const uint4 v = __ldg(p + i);
                raw[4 * i] = v.x, raw[4 * i + 1] = v.y, raw[4 * i + 2] = v.z, raw[4 * i + 3] = v.w;
            }
            return;
        }
        for (int i = 0; i < EIGHT; i++) {
            if (T == TK_F32) {
                raw[i % WORDS] = k + i < cols ? ((const uint32_t *)m)[at + i] : 0;
            } else {
                const uint32_t h = k + i < cols ? ((const uint16_t *)m)[at + i] : 0;
                raw[i / 2] = i % 2 ? raw[i / 2] | h << 16 : h;
            }
        }
    }
    __device__ void numbers(float v[EIGHT]) const {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            const uint16_t h = (uint16_t)(raw[i / 2] >> i % 2 * 16);
            v[i] = T == TK_F32 ? __uint_as_float(raw[i % WORDS]) : T == TK_BF16 ? from_bf16(h) : from_f16(h);
        }
    }
};

/* Eight bytes at an even address, kept as they were read */
struct eight_bytes {
    uint16_t h[4];
    __device__ void load(const uint8_t *p) {
#pragma unroll
        for (int i = 0; i < 4; i++) h[i] = __ldg((const uint16_t *)p + i);
    }
    __device__ uint32_t byte(int i) const { return h[i / 2] >> i % 2 * 8 & 255; }
};

template <> struct weights<TK_Q8_0> {
    uint16_t d;
    eight_bytes q;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 34;
        d = __ldg((const uint16_t *)b), q.load(b + 2 + k % 32);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16(d);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = scale * (float)(int8_t)q.byte(i);
    }
};

/* The nibbles of k .. k + 7 in a block of 32 whose 16 bytes hold value j low and j + 16 high */
struct nibbles {
    eight_bytes q;
    int shift;
    __device__ void load(const uint8_t *bytes, int64_t k) { q.load(bytes + k % 16), shift = k % 32 < 16 ? 0 : 4; }
    __device__ float number(int i) const { return (float)(int)(q.byte(i) >> shift & 15); }
};

template <> struct weights<TK_Q4_0> {
    uint16_t d;
    nibbles q;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 18;
        d = __ldg((const uint16_t *)b), q.load(b + 2, k);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16(d);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = scale * (q.number(i) - 8);
    }
};

template <> struct weights<TK_Q4_1> {
    uint16_t d, m;
    nibbles q;
    __device__ void load(const uint8_t *w, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = w + (row * (cols / 32) + k / 32) * 20;
        d = __ldg((const uint16_t *)b), m = __ldg((const uint16_t *)b + 1), q.load(b + 4, k);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16(d), low = from_f16(m);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = scale * q.number(i) + low;
    }
};

template <> struct weights<TK_Q4_K> {
    uint32_t dm, s[3], q[2];
    int j; /* the sub-block of 32 */
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint32_t *b = (const uint32_t *)(m + (row * (cols / 256) + k / 256) * 144);
        j = (int)(k % 256 / 32), dm = __ldg(b);
#pragma unroll
        for (int i = 0; i < 3; i++) s[i] = __ldg(b + 1 + i);
#pragma unroll
        for (int i = 0; i < 2; i++) q[i] = __ldg(b + 4 + j / 2 * 8 + k % 32 / 4 + i);
    }
    __device__ void numbers(float v[EIGHT]) const {
        uint32_t scale, min; /* six bits each */
        if (j < 4) {
            scale = (s[0] >> 8 * j) & 63, min = (s[1] >> 8 * j) & 63;
        } else {
            const int i = 8 * (j - 4);
            scale = (s[2] >> i & 15) | (s[0] >> i >> 6 & 3) << 4;
            min = (s[2] >> i >> 4 & 15) | (s[1] >> i >> 6 & 3) << 4;
        }
        const float ds = from_f16((uint16_t)dm) * (float)scale, low = from_f16((uint16_t)(dm >> 16)) * (float)min;
        const int shift = j % 2 * 4;
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = ds * (float)(int)(q[i / 4] >> i % 4 * 8 >> shift & 15) - low;
    }
};

template <> struct weights<TK_Q6_K> {
    uint16_t d;
    uint8_t scale;
    eight_bytes low, top;
    int run; /* of 32 in the half of 128 */
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 210;
        const int at = (int)(k % 256), half = at / 128, l = at % 32;
        run = at % 128 / 32;
        d = __ldg((const uint16_t *)(b + 208)), scale = __ldg(b + 192 + at / 16);
        low.load(b + half * 64 + run % 2 * 32 + l), top.load(b + 128 + half * 32 + l);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float ds = from_f16(d) * (float)(int8_t)scale;
        const int nibble = run / 2 * 4, pair = 2 * run;
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            v[i] = ds * (float)((int)((low.byte(i) >> nibble & 15) | (top.byte(i) >> pair & 3) << 4) - 32);
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
