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
    __device__ uint32_t code(int i) const { return q.byte(i) >> shift & 15; }
    __device__ float number(int i) const { return (float)(int)code(i); }
};

/* ggml's small affine formats: x = d q + m, or without m d (q - half the range); FIVE: a fifth bit of each value */
template <bool AFFINE, bool FIVE> struct small_weights {
    enum { SCALES = AFFINE ? 4 : 2, HEAD = SCALES + (FIVE ? 4 : 0), BYTES = HEAD + 16 };
    uint16_t d, m, fifth[2];
    nibbles q;
    int at; /* in the block */
    __device__ void load(const uint8_t *w, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = w + (row * (cols / 32) + k / 32) * BYTES;
        at = (int)(k % 32);
        d = __ldg((const uint16_t *)b), q.load(b + HEAD, k);
        if (AFFINE) m = __ldg((const uint16_t *)b + 1);
        if (FIVE)
            for (int i = 0; i < 2; i++) fifth[i] = __ldg((const uint16_t *)(b + SCALES) + i);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16(d), low = AFFINE ? from_f16(m) : 0, zero = AFFINE ? 0 : FIVE ? 16 : 8;
        const uint32_t top = FIVE ? ((uint32_t)fifth[1] << 16 | fifth[0]) >> at : 0;
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            const float x = scale * (q.number(i) + (float)(int)((top >> i & 1) << 4) - zero);
            v[i] = AFFINE ? x + low : x;
        }
    }
};
template <> struct weights<TK_Q4_0> : small_weights<false, false> {};
template <> struct weights<TK_Q4_1> : small_weights<true, false> {};
template <> struct weights<TK_Q5_0> : small_weights<false, true> {};
template <> struct weights<TK_Q5_1> : small_weights<true, true> {};

template <> struct weights<TK_Q4_Z> {
    uint16_t d, zero;
    nibbles q;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 20;
        d = __ldg((const uint16_t *)b), zero = __ldg((const uint16_t *)b + 1), q.load(b + 4, k);
    }
    __device__ void numbers(float v[EIGHT]) const {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = from_f16(d) * (q.number(i) - from_f16(zero));
    }
};

/* float8 e4m3: no infinity, the largest code is NaN */
__device__ inline float from_e4m3(uint32_t x) {
    if ((x & 0x7f) == 0x7f) return __uint_as_float(0x7fc00000u);
    return __uint_as_float((x & 0x80) << 24 | (x & 0x7f) << 20) * 0x1p120f;
}
template <> struct weights<TK_F8> {
    uint32_t d, q[2];
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint32_t *b = (const uint32_t *)(m + (row * (cols / 32) + k / 32) * 36);
        d = __ldg(b);
#pragma unroll
        for (int i = 0; i < 2; i++) q[i] = __ldg(b + 1 + k % 32 / 4 + i);
    }
    __device__ void numbers(float v[EIGHT]) const {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = from_e4m3(q[i / 4] >> i % 4 * 8 & 255) * __uint_as_float(d);
    }
};

/* The value of a four-bit code of IQ4_NL and IQ4_XS, and twice MXFP4's; tables of base/formats_code.c as bytes */
__device__ inline float iq4_value(uint32_t code) {
    const uint64_t table = code < 8 ? 0xf6eaddcfbfad9881ull : 0x7159453526190d01ull;
    return (float)(int8_t)(table >> code % 8 * 8);
}
__device__ inline float mxfp4_value(uint32_t code) {
    const float v = (float)(int)(0x0c08060403020100ull >> code % 8 * 8 & 255);
    return code < 8 ? v : v == 0 ? 0 : -v;
}

template <> struct weights<TK_IQ4_NL> {
    uint16_t d;
    nibbles q;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 18;
        d = __ldg((const uint16_t *)b), q.load(b + 2, k);
    }
    __device__ void numbers(float v[EIGHT]) const {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = from_f16(d) * iq4_value(q.code(i));
    }
};

template <> struct weights<TK_IQ4_XS> {
    uint32_t head, scales; /* f16 d and the scales' top bits; their low nibbles */
    nibbles q;
    int j; /* the sub-block of 32 */
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 136;
        j = (int)(k % 256 / 32);
        head = __ldg((const uint32_t *)b), scales = __ldg((const uint32_t *)b + 1), q.load(b + 8 + j * 16, k);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const int scale = (int)((scales >> 4 * j & 15) | (head >> (16 + 2 * j) & 3) << 4);
        const float ds = from_f16((uint16_t)head) * (float)(scale - 32);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = ds * iq4_value(q.code(i));
    }
};

template <> struct weights<TK_MXFP4> { /* 17 bytes: every second block begins at an odd address */
    uint8_t e, q[EIGHT];
    int shift;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 32) + k / 32) * 17;
        e = __ldg(b), shift = k % 32 < 16 ? 0 : 4;
#pragma unroll
        for (int i = 0; i < EIGHT; i++) q[i] = __ldg(b + 1 + k % 16 + i);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float half = __uint_as_float(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = half * mxfp4_value(q[i] >> shift & 15);
    }
};

template <> struct weights<TK_Q2_K> {
    uint8_t s;
    uint32_t dm, q[2];
    int shift;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 84;
        const int at = (int)(k % 256);
        s = __ldg(b + at / 16), dm = __ldg((const uint32_t *)(b + 80)), shift = at / 32 % 4 * 2;
#pragma unroll
        for (int i = 0; i < 2; i++) q[i] = __ldg((const uint32_t *)(b + 16 + at / 128 * 32 + at % 32) + i);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const float scale = from_f16((uint16_t)dm) * (float)(s & 15), min = from_f16((uint16_t)(dm >> 16)) * (float)(s >> 4);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = scale * (float)(int)(q[i / 4] >> i % 4 * 8 >> shift & 3) - min;
    }
};

template <> struct weights<TK_Q3_K> {
    uint16_t d;
    uint8_t low_scale, top_scale;
    eight_bytes low, top;
    int at;
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint8_t *b = m + (row * (cols / 256) + k / 256) * 110;
        at = (int)(k % 256);
        const int j = at / 16;
        d = __ldg((const uint16_t *)(b + 108)), low_scale = __ldg(b + 96 + j % 8), top_scale = __ldg(b + 104 + j % 4);
        low.load(b + 32 + at / 128 * 32 + at % 32), top.load(b + at % 32);
    }
    __device__ void numbers(float v[EIGHT]) const {
        const int j = at / 16, pair = at / 32 % 4 * 2, third = at / 32;
        const int scale = (low_scale >> j / 8 * 4 & 15) | (top_scale >> j / 4 * 2 & 3) << 4;
        const float ds = from_f16(d) * (float)(scale - 32);
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            v[i] = ds * (float)((int)((low.byte(i) >> pair & 3) | (top.byte(i) >> third & 1) << 2) - 4);
    }
};

template <bool FIVE> struct affine_k {
    enum { NIBBLES = FIVE ? 48 : 16, BYTES = NIBBLES + 128 };
    uint32_t dm, s[3], q[2], fifth[2];
    int j; /* the sub-block of 32 */
    __device__ void load(const uint8_t *m, int64_t cols, int64_t row, int64_t k) {
        const uint32_t *b = (const uint32_t *)(m + (row * (cols / 256) + k / 256) * BYTES);
        j = (int)(k % 256 / 32), dm = __ldg(b);
#pragma unroll
        for (int i = 0; i < 3; i++) s[i] = __ldg(b + 1 + i);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            q[i] = __ldg(b + NIBBLES / 4 + j / 2 * 8 + k % 32 / 4 + i);
            fifth[i] = FIVE ? __ldg(b + 4 + k % 32 / 4 + i) : 0;
        }
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
        for (int i = 0; i < EIGHT; i++) {
            const uint32_t n = (q[i / 4] >> i % 4 * 8 >> shift & 15) | (fifth[i / 4] >> i % 4 * 8 >> j & 1) << 4;
            v[i] = ds * (float)(int)n - low;
        }
    }
};
template <> struct weights<TK_Q4_K> : affine_k<false> {};
template <> struct weights<TK_Q5_K> : affine_k<true> {};

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
    case TK_Q5_0: call(TK_Q5_0); break;                                                                      \
    case TK_Q5_1: call(TK_Q5_1); break;                                                                      \
    case TK_Q4_Z: call(TK_Q4_Z); break;                                                                      \
    case TK_F8: call(TK_F8); break;                                                                          \
    case TK_IQ4_NL: call(TK_IQ4_NL); break;                                                                  \
    case TK_IQ4_XS: call(TK_IQ4_XS); break;                                                                  \
    case TK_MXFP4: call(TK_MXFP4); break;                                                                    \
    case TK_Q2_K: call(TK_Q2_K); break;                                                                      \
    case TK_Q3_K: call(TK_Q3_K); break;                                                                      \
    case TK_Q5_K: call(TK_Q5_K); break;                                                                      \
    case TK_Q6_K: call(TK_Q6_K); break;                                                                      \
    default: call(TK_F32);                                                                                   \
    }

} // namespace tk
#endif
