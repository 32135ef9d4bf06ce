/* SPDX-License-Identifier: Apache-2.0 */
/* The K-quants: 256 values in sub-blocks with small integer scales under one float16 scale. Unpacking agrees
 * bitwise with any other reader. Packing searches, as ggml's quantizers do: scales in float32 for each
 * sub-block, rounded to their few bits, then the values rounded again to the scales that remained. The
 * searches visit the same grids in the same order as ggml's, so a file made here is as good as one made
 * there. */
#include <math.h>

#include "base/formats.h"

static inline int round_to(float x, int low, int high) {
    return (int)fmaxf((float)low, fminf((float)high, rintf(x))); /* NaN: high */
}

/* ---- searches for scales ---- */

/* A search over grids of top + 1 codes whose width shrinks in tenths of a code from `first` codes more than
 * top */
typedef struct search {
    int top, steps;
    float first;
    bool absolute; /* errors count by size, not by square */
} search;

/* The scale and (non-negative) minimum with which scale * q - min, q in 0..top, fits x best: for each grid,
 * round to it, solve the weighted least squares for scale and minimum, keep the best; the next grid starts at
 * its minimum. */
static float fit_affine(const search *s, int n, const float *x, const float *weight, float *min) {
    float low = x[0], high = x[0], sum_w = 0, sum_x = 0, best = 0;
    for (int i = 0; i < n; i++) {
        low = fminf(low, x[i]), high = fmaxf(high, x[i]);
        sum_w += weight[i], sum_x += weight[i] * x[i];
    }
    low = fminf(low, 0);
    *min = -low;
    if (!(high > low)) return 0;
    float inverse = (float)s->top / (high - low), scale = 1 / inverse;
    for (int i = 0; i < n; i++) {
        const float off = scale * (float)round_to(inverse * (x[i] - low), 0, s->top) + low - x[i];
        best += weight[i] * (s->absolute ? fabsf(off) : off * off);
    }
    for (int step = 0; step <= s->steps; step++) {
        float sum_q = 0, sum_qq = 0, sum_xq = 0, q[32];
        inverse = (s->first + 0.1f * (float)step + (float)s->top) / (high - low);
        for (int i = 0; i < n; i++) {
            q[i] = (float)round_to(inverse * (x[i] - low), 0, s->top);
            sum_q += weight[i] * q[i], sum_qq += weight[i] * q[i] * q[i], sum_xq += weight[i] * q[i] * x[i];
        }
        const float det = sum_w * sum_qq - sum_q * sum_q;
        if (!(det > 0)) continue;
        float a = (sum_w * sum_xq - sum_x * sum_q) / det, b = (sum_qq * sum_x - sum_q * sum_xq) / det,
              error = 0;
        if (b > 0) b = 0, a = sum_xq / sum_qq; /* the format can only subtract */
        for (int i = 0; i < n; i++) {
            const float off = a * q[i] + b - x[i];
            error += weight[i] * (s->absolute ? fabsf(off) : off * off);
        }
        if (error < best) best = error, scale = a, low = b;
    }
    *min = -low;
    return scale;
}

/* The value of the largest magnitude, with its sign */
static float largest(const float *x, int n) {
    float top = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(top)) top = x[i];
    return top;
}

enum { TINY_EXPONENT = -50 }; /* what is below 2^-50 (about 1e-15) is taken for zero */
static bool is_tiny(float x) { return !(fabsf(x) >= ldexpf(1, TINY_EXPONENT)); }

/* The scale with which scale * q, q in -32..31, fits 16 values best; weights are the squares. */
static float fit_linear(const float x[16]) {
    static const int order[] = { 0, -9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    const float top = largest(x, 16);
    float best = 0, scale = 0;
    if (is_tiny(top)) return 0;
    for (size_t step = 0; step < TK_COUNT(order); step++) {
        const float inverse = -(32 + 0.1f * (float)order[step]) / top;
        float sum_xq = 0, sum_qq = 0;
        for (int i = 0; i < 16; i++) {
            const float q = (float)round_to(inverse * x[i], -32, 31), w = x[i] * x[i];
            sum_xq += w * x[i] * q, sum_qq += w * q * q;
        }
        if (sum_qq > 0 && (step == 0 || sum_xq * sum_xq > best * sum_qq))
            scale = sum_xq / sum_qq, best = scale * sum_xq;
    }
    return scale;
}

/* The same with q in -4..3: few codes, so each value's code is tried again against the scale that the others
 * want, until none changes. */
static float fit_coarse(const float x[16]) {
    const float top = largest(x, 16), inverse = -4 / top;
    float sum_xq = 0, sum_qq = 0;
    int q[16];
    if (is_tiny(top)) return 0;
    for (int i = 0; i < 16; i++) {
        const float w = x[i] * x[i];
        q[i] = round_to(inverse * x[i], -4, 3);
        sum_xq += w * x[i] * (float)q[i], sum_qq += w * (float)q[i] * (float)q[i];
    }
    for (int pass = 0, changed = 1; pass < 5 && changed; pass++) {
        changed = 0;
        for (int i = 0; i < 16; i++) {
            const float w = x[i] * x[i];
            float xq = sum_xq - w * x[i] * (float)q[i], qq = sum_qq - w * (float)q[i] * (float)q[i];
            if (!(xq > 0)) continue;
            const int to = round_to(x[i] * qq / xq, -4, 3);
            xq += w * x[i] * (float)to, qq += w * (float)to * (float)to;
            if (to != q[i] && qq > 0 && xq * xq * sum_qq > sum_xq * sum_xq * qq)
                q[i] = to, sum_xq = xq, sum_qq = qq, changed = 1;
        }
    }
    return sum_qq > 0 ? sum_xq / sum_qq : 0;
}

/* ---- Q2_K ---- */

/* Q2_K: sixteen bytes with a 4-bit scale (low) and minimum (high) for each 16 values, 64 bytes of bit pairs,
 * f16 d, f16 dmin. x = d scale q - dmin min. Each half of 128 values is four runs of 32: run k of value l at
 * bit 2 k of byte l of the half's 32. */
void tk__unpack_q2_k(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_Q2_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 84) {
        const float d = tk_f16_f32(tk_le16(b + 80)), dmin = tk_f16_f32(tk_le16(b + 82));
        for (int j = 0; j < TK_QKK; j++) {
            const float scale = d * (float)(b[j / 16] & 15), min = dmin * (float)(b[j / 16] >> 4);
            dst[i + j] = scale * (float)(b[16 + j / 128 * 32 + j % 32] >> j / 32 % 4 * 2 & 3) - min;
        }
    }
}

void tk__pack_q2_k(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    static const search grids = { 3, 15, -0.5f, true };
    uint8_t *b = tk__row_to(m, TK_Q2_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 84) {
        float scale[16], min[16], weight[16], top_scale = 0, top_min = 0;
        for (int j = 0; j < 16; j++) {
            const float *x = src + i + j * 16;
            for (int l = 0; l < 16; l++) weight[l] = fabsf(x[l]);
            scale[j] = fit_affine(&grids, 16, x, weight, &min[j]);
            top_scale = fmaxf(top_scale, scale[j]), top_min = fmaxf(top_min, min[j]);
        }
        memset(b, 0, 84);
        tk__put16(b + 80, tk_f32_f16(top_scale / 15)), tk__put16(b + 82, tk_f32_f16(top_min / 15));
        const float d = tk_f16_f32(tk_le16(b + 80)), dmin = tk_f16_f32(tk_le16(b + 82));
        for (int j = 0; j < 16; j++) {
            const int s = top_scale > 0 ? round_to(15 / top_scale * scale[j], 0, 15) : 0;
            const int n = top_min > 0 ? round_to(15 / top_min * min[j], 0, 15) : 0;
            const float ds = d * (float)s, low = dmin * (float)n;
            b[j] = (uint8_t)(s | n << 4);
            for (int l = j * 16; l < j * 16 + 16; l++) {
                const int q = ds != 0 ? round_to((src[i + l] + low) / ds, 0, 3) : 0;
                b[16 + l / 128 * 32 + l % 32] |= (uint8_t)(q << l / 32 % 4 * 2);
            }
        }
    }
}

/* ---- Q3_K ---- */

/* Q3_K: 32 bytes of third bits (value j: bit j / 32 of byte j % 32), 64 bytes of bit pairs as Q2_K's, 12
 * bytes with sixteen 6-bit scales (one per 16 values), f16 d. x = d (scale - 32) (q - 4). Scale j: its low
 * four bits in byte j % 8 (low half for j < 8), its top two in byte 8 + j % 4 at bit 2 (j / 4). */
static int q3k_scale(const uint8_t *s, int j) {
    return (s[j % 8] >> j / 8 * 4 & 15) | (s[8 + j % 4] >> j / 4 * 2 & 3) << 4;
}

void tk__unpack_q3_k(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_Q3_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 110) {
        const float d = tk_f16_f32(tk_le16(b + 108));
        for (int j = 0; j < TK_QKK; j++) {
            const int low = b[32 + j / 128 * 32 + j % 32] >> j / 32 % 4 * 2 & 3,
                      top = b[j % 32] >> j / 32 & 1;
            dst[i + j] = d * (float)(q3k_scale(b + 96, j / 16) - 32) * (float)((low | top << 2) - 4);
        }
    }
}

void tk__pack_q3_k(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_Q3_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 110) {
        float scale[16];
        for (int j = 0; j < 16; j++) scale[j] = fit_coarse(src + i + j * 16);
        const float top = largest(scale, 16), inverse = top != 0 ? -32 / top : 0;
        memset(b, 0, 110);
        tk__put16(b + 108, tk_f32_f16(top != 0 ? 1 / inverse : 0));
        const float d = tk_f16_f32(tk_le16(b + 108));
        for (int j = 0; j < 16; j++) {
            const int s = top != 0 ? round_to(inverse * scale[j], -32, 31) : -32;
            const float ds = d * (float)s;
            b[96 + j % 8] |= (uint8_t)(((s + 32) & 15) << j / 8 * 4);
            b[104 + j % 4] |= (uint8_t)((s + 32) >> 4 << j / 4 * 2);
            for (int l = j * 16; l < j * 16 + 16; l++) {
                const int q = (ds != 0 ? round_to(src[i + l] / ds, -4, 3) : 0) + 4;
                b[l % 32] |= (uint8_t)(q >> 2 << l / 32);
                b[32 + l / 128 * 32 + l % 32] |= (uint8_t)((q & 3) << l / 32 % 4 * 2);
            }
        }
    }
}

/* ---- Q4_K, Q5_K ---- */

/* f16 d, f16 dmin, 12 bytes with eight 6-bit scales and eight 6-bit minima, of Q5_K 32 bytes of fifth bits
 * (value l of sub-block j: bit j of byte l), 128 bytes of nibbles. Sub-block j of 32: x = d scale[j] q - dmin
 * min[j]. The first four scales and minima lie in the low six bits of bytes 0-3 and 4-7; the others have
 * their low four bits in bytes 8-11 and their top two bits above the former. Nibbles come in runs of 64
 * values: low halves are the first 32, high the next. */
static void affine_scale(const uint8_t *s, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = s[j] & 63, *min = s[j + 4] & 63;
    } else {
        *scale = (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
        *min = s[j + 4] >> 4 | (s[j] >> 6) << 4;
    }
}

static void set_affine_scale(uint8_t *s, int j, int scale, int min) {
    if (j < 4) {
        s[j] = (uint8_t)scale, s[j + 4] = (uint8_t)min;
    } else {
        s[j + 4] = (uint8_t)((scale & 15) | (min & 15) << 4);
        s[j - 4] |= (uint8_t)(scale >> 4 << 6);
        s[j] |= (uint8_t)(min >> 4 << 6);
    }
}

static void unpack_affine(float *dst, const uint8_t *b, int64_t cols, bool five) {
    const int at = five ? 48 : 16; /* where the nibbles begin */
    for (int64_t i = 0; i < cols; i += TK_QKK, b += at + 128) {
        const float d = tk_f16_f32(tk_le16(b)), dmin = tk_f16_f32(tk_le16(b + 2));
        for (int j = 0; j < 8; j++) {
            int scale, min;
            affine_scale(b + 4, j, &scale, &min);
            const float ds = d * (float)scale, low = dmin * (float)min;
            const uint8_t *q = b + at + j / 2 * 32;
            for (int l = 0; l < 32; l++) {
                const int n = (q[l] >> j % 2 * 4 & 15) | (five ? (b[16 + l] >> j & 1) << 4 : 0);
                dst[i + j * 32 + l] = ds * (float)n - low;
            }
        }
    }
}

static void pack_affine(uint8_t *b, const float *src, int64_t cols, bool five) {
    static const search grids[2] = { { 15, 20, -1, false }, { 31, 15, -0.5f, false } };
    const int at = five ? 48 : 16;
    for (int64_t i = 0; i < cols; i += TK_QKK, b += at + 128) {
        float scale[8], min[8], weight[32], top_scale = 0, top_min = 0;
        for (int j = 0; j < 8; j++) {
            const float *x = src + i + j * 32;
            float power = 0;
            for (int l = 0; l < 32; l++) power += x[l] * x[l];
            const float base = sqrtf(power / 32);
            for (int l = 0; l < 32; l++) weight[l] = base + fabsf(x[l]);
            scale[j] = fit_affine(&grids[five], 32, x, weight, &min[j]);
            top_scale = fmaxf(top_scale, scale[j]), top_min = fmaxf(top_min, min[j]);
        }
        memset(b, 0, (size_t)at + 128);
        tk__put16(b, tk_f32_f16(top_scale / 63)), tk__put16(b + 2, tk_f32_f16(top_min / 63));
        const float d = tk_f16_f32(tk_le16(b)), dmin = tk_f16_f32(tk_le16(b + 2));
        for (int j = 0; j < 8; j++) {
            const int s = top_scale > 0 ? round_to(63 / top_scale * scale[j], 0, 63) : 0;
            const int n = top_min > 0 ? round_to(63 / top_min * min[j], 0, 63) : 0;
            const float ds = d * (float)s, low = dmin * (float)n;
            set_affine_scale(b + 4, j, s, n);
            for (int l = 0; l < 32; l++) {
                const int q = ds != 0 ? round_to((src[i + j * 32 + l] + low) / ds, 0, grids[five].top) : 0;
                b[at + j / 2 * 32 + l] |= (uint8_t)((q & 15) << j % 2 * 4);
                if (five) b[16 + l] |= (uint8_t)(q >> 4 << j);
            }
        }
    }
}

#define AFFINE(stem, TYPE, five)                                                                             \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        unpack_affine(dst, tk__row_at(m, TYPE, cols, row), cols, five);                                      \
    }                                                                                                        \
    void tk__pack_##stem(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {               \
        (void)rows;                                                                                          \
        pack_affine(tk__row_to(m, TYPE, cols, row), src, cols, five);                                        \
    }
AFFINE(q4_k, TK_Q4_K, false)
AFFINE(q5_k, TK_Q5_K, true)

/* ---- Q6_K ---- */

/* Q6_K: 128 bytes of low nibbles, 64 bytes of top bit pairs, sixteen int8 scales (one per 16 values), f16 d.
 * x = d scale (q - 32). Each half of 128 values is four runs of 32 (k = 0..3): run k has its low nibbles in
 * bytes 32 (k % 2).. of the half, lower halves for k < 2, and its top bits at bit 2 k of the pair bytes. */
void tk__unpack_q6_k(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_Q6_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 210) {
        float d = tk_f16_f32(tk_le16(b + 208));
        for (int run = 0; run < 8; run++) {
            int half = run / 4, k = run % 4;
            const uint8_t *low = b + half * 64 + k % 2 * 32, *top = b + 128 + half * 32;
            const int8_t *scale = (const int8_t *)b + 192 + run * 2;
            for (int l = 0; l < 32; l++) {
                int q = (low[l] >> k / 2 * 4 & 15) | (top[l] >> 2 * k & 3) << 4;
                dst[i + run * 32 + l] = d * (float)scale[l >> 4] * (float)(q - 32);
            }
        }
    }
}

void tk__pack_q6_k(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_Q6_K, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 210) {
        float scale[16];
        for (int j = 0; j < 16; j++) scale[j] = fit_linear(src + i + j * 16);
        /* the largest lands on -128, which int8 has and +128 it has not */
        const float top = largest(scale, 16), inverse = is_tiny(top) ? 0 : -128 / top;
        memset(b, 0, 210);
        tk__put16(b + 208, tk_f32_f16(inverse != 0 ? 1 / inverse : 0));
        float d = tk_f16_f32(tk_le16(b + 208));
        for (int j = 0; j < 16; j++) {
            int s = round_to(inverse * scale[j], -128, 127);
            b[192 + j] = (uint8_t)(int8_t)s;
            float ds = d * (float)s;
            int half = j / 8, k = j / 2 % 4;
            uint8_t *low = b + half * 64 + k % 2 * 32 + j % 2 * 16, *pair = b + 128 + half * 32 + j % 2 * 16;
            for (int l = 0; l < 16; l++) {
                int q = (ds != 0 ? round_to(src[i + j * 16 + l] / ds, -32, 31) : 0) + 32;
                low[l] |= (uint8_t)((q & 15) << k / 2 * 4);
                pair[l] |= (uint8_t)(q >> 4 << 2 * k);
            }
        }
    }
}
