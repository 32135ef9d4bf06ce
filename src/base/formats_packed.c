/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of packed matrices back to float32, each value exactly what the file's own format gives, and
 * activations to and from integer blocks. Layouts: packed.h. An embedding is looked up here, so that a tied
 * head is held once. */
#include <math.h>

#include "base/packed.h"

static const uint8_t *panel_of(const void *m, tk_dtype t, int64_t cols, int64_t row) {
    return (const uint8_t *)m + (size_t)(row / TK_PANEL) * tk__panel_bytes(t, cols);
}

/* ---- plain numbers ---- */

void tk__unpack_p_f32(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_F32, cols, row) + row % TK_PANEL * 4;
    for (int64_t i = 0; i < cols; i++) memcpy(dst + i, p + i * 64, 4);
}

void tk__unpack_p_f16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_F16, cols, row) + row % TK_PANEL * 2;
    for (int64_t i = 0; i < cols; i++) dst[i] = tk_f16_f32(tk_le16(p + i * 32));
}

void tk__unpack_p_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_BF16, cols, row) + row % TK_PANEL * 4;
    for (int64_t i = 0; i < cols; i++) dst[i] = tk_bf16_f32(tk_le16(p + i / 2 * 64 + i % 2 * 2));
}

void tk__unpack_p_f8(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_F8, cols, row);
    const int64_t r = row % TK_PANEL;
    for (int64_t i = 0; i < cols; i++) {
        const uint8_t *block = p + i / 32 * 576;
        dst[i] = tk__e4m3_f32(block[64 + i % 32 * 16 + r]) * tk_bits_f32(tk_le32(block + r * 4));
    }
}

/* ---- quantized ---- */

tk_pblock tk__pblock(tk_dtype t, const uint8_t *panel, int64_t b) {
    const uint8_t *p = panel + b / 8 * tk_formats[t].bytes; /* of the formats with 256 k */
    tk_pblock v = { .mask = 15, .step = TK_LINE };
    int z = (int)(b % 8);
    switch (t) {
    case TK_P_Q8_0: v.q = panel + tk__at_pair(b, 512, 64), v.mask = 255, v.zero = 128; break;
    case TK_P_Q4_0: v.q = panel + tk__at_pair(b, 256, 64), v.zero = 8, v.fold = true; break;
    case TK_P_Q4_1:
    case TK_P_Q4_Z: v.q = panel + b * 320, v.fold = true; break;
    case TK_P_Q5_0:
    case TK_P_Q5_1:
        v.top = panel + (t == TK_P_Q5_1 ? (size_t)b * 384 : tk__at_pair(b, 320, 64));
        v.q = v.top + TK_LINE, v.fold = true, v.zero = t == TK_P_Q5_1 ? 0 : 16;
        v.top_mask = 1, v.top_to = 4, v.top_walk = 1;
        break;
    case TK_P_IQ4_NL: v.q = panel + tk__at_pair(b, 256, 64), v.fold = true, v.values = tk__iq4_values; break;
    case TK_P_IQ4_XS: v.q = p + tk__at_iq4_xs(z), v.fold = true, v.values = tk__iq4_values; break;
    case TK_P_MXFP4: v.q = panel + tk__at_mxfp4(b), v.fold = true, v.values = tk__mxfp4_values; break;
    case TK_P_Q2_K: v.q = p + z / 4 * 704 + 128, v.shift = z % 4 * 2, v.mask = 3; break;
    case TK_P_Q3_K:
        v.q = z < 4 ? p + 192 + TK_LINE : p + 1280, v.step = z < 4 ? 2 * TK_LINE : TK_LINE;
        v.shift = z % 4 * 2, v.mask = 3, v.zero = 4;
        v.top = p + 192, v.top_shift = z, v.top_mask = 1, v.top_to = 2, v.top_step = 2 * TK_LINE;
        break;
    case TK_P_Q4_K: v.q = p + tk__at_q4_k(z / 2), v.shift = z % 2 * 4; break;
    case TK_P_Q5_K:
        v.q = (z < 4 ? p + TK_LINE : p + 1728) + z / 2 % 2 * TK_LINE, v.step = (z < 4 ? 3 : 2) * TK_LINE;
        v.shift = z % 2 * 4;
        v.top = p, v.top_shift = z, v.top_mask = 1, v.top_to = 4, v.top_step = 3 * TK_LINE;
        break;
    default: /* P_Q6_K */
        v.top = p + tk__at_q6_k(z / 4 * 2), v.q = v.top + (1 + z % 2) * TK_LINE, v.step = 3 * TK_LINE;
        v.shift = z % 4 / 2 * 4, v.zero = 32;
        v.gap = (int)(tk__at_q6_k(z / 4 * 2 + 1) - tk__at_q6_k(z / 4 * 2)) - 4 * v.step;
        v.top_shift = z % 4 * 2, v.top_mask = 3, v.top_to = 4, v.top_step = 3 * TK_LINE;
    }
    return v;
}

static float half_at(const uint8_t *p, int r) { return tk_f16_f32(tk_le16(p + r * 2)); }

void tk__pscale(tk_dtype t, const uint8_t *panel, int64_t b, int half, int r, float *scale, float *add) {
    const uint8_t *p = panel + b / 8 * tk_formats[t].bytes;
    int z = (int)(b % 8), s = z * 2 + half; /* block of 32 in 256, half of 16 in it */
    *add = 0;
    switch (t) {
    case TK_P_Q8_0: *scale = half_at(panel + b / 2 * 1088 + 512 + b % 2 * 32, r); break;
    case TK_P_Q4_0:
    case TK_P_IQ4_NL: *scale = half_at(panel + b / 2 * 576 + 256 + b % 2 * 32, r); break;
    case TK_P_Q5_0: *scale = half_at(panel + b / 2 * 704 + 320 + b % 2 * 32, r); break;
    case TK_P_MXFP4: *scale = tk__e8m0_half(panel[b / 4 * 1088 + 256 + b % 4 * 16 + r]); break;
    case TK_P_Q4_Z:
        p = panel + b * 320 + 256;
        *scale = half_at(p, r), *add = -(*scale * half_at(p + 32, r));
        break;
    case TK_P_Q4_1:
    case TK_P_Q5_1:
        p = panel + (b + 1) * tk_formats[t].bytes - 64;
        *scale = half_at(p, r), *add = half_at(p + 32, r);
        break;
    case TK_P_Q2_K: {
        const int both = p[s / 8 * 704 + s / 4 % 2 * TK_LINE + r * 4 + s % 4];
        *scale = half_at(p + 640, r) * (float)(both & 15), *add = -(half_at(p + 672, r) * (float)(both >> 4));
        break;
    }
    case TK_P_Q3_K: {
        const uint8_t *bits = p + r * 4;
        const int low = bits[s % 8 / 4 * TK_LINE + s % 4] >> s / 8 * 4 & 15,
                  top = bits[2 * TK_LINE + s % 4] >> s / 4 * 2 & 3;
        *scale = half_at(p + 1216, r) * (float)((low | top << 4) - 32);
        break;
    }
    case TK_P_Q4_K: {
        const uint8_t *six = p + 576 * (z / 2 + 1) + z % 2 * 16 + r;
        *scale = half_at(p + 512, r) * (float)six[0], *add = -(half_at(p + 544, r) * (float)six[32]);
        break;
    }
    case TK_P_Q5_K: {
        const uint8_t *six = p + (z < 4 ? 1600 : 2752) + z % 4 * 16 + r;
        *scale = half_at(p + 1536, r) * (float)six[0], *add = -(half_at(p + 1568, r) * (float)six[64]);
        break;
    }
    case TK_P_IQ4_XS: {
        const int low = (int)(tk_le32(p + 256 + r * 4) >> 4 * z & 15),
                  top = tk_le16(p + 320 + r * 2) >> 2 * z & 3;
        *scale = half_at(p + 352, r) * (float)((low | top << 4) - 32);
        break;
    }
    default: /* P_Q6_K */
        *scale = half_at(p + 768, r) * (float)(int8_t)p[832 * (z / 4 * 2 + half + 1) + z % 4 * 16 + r];
    }
}

static void unpack(tk_dtype t, float *dst, const void *m, int64_t cols, int64_t row) {
    const uint8_t *panel = panel_of(m, t, cols, row);
    const int r = (int)(row % TK_PANEL);
    for (int64_t b = 0; b < cols / TK_K32; b++, dst += TK_K32) {
        tk_pblock v = tk__pblock(t, panel, b);
        for (int half = 0; half < 2; half++) {
            float scale, add;
            tk__pscale(t, panel, b, half, r, &scale, &add);
            for (int k = half * 16; k < half * 16 + 16; k++)
                dst[k] = scale * (float)tk__pvalue(&v, k / 4, r * 4 + k % 4) + add;
        }
    }
}

#define UNPACK(stem, TYPE)                                                                                   \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        unpack(TYPE, dst, m, cols, row);                                                                     \
    }
UNPACK(p_q8_0, TK_P_Q8_0)
UNPACK(p_q4_0, TK_P_Q4_0)
UNPACK(p_q4_1, TK_P_Q4_1)
UNPACK(p_q4_z, TK_P_Q4_Z)
UNPACK(p_q5_0, TK_P_Q5_0)
UNPACK(p_q5_1, TK_P_Q5_1)
UNPACK(p_iq4_nl, TK_P_IQ4_NL)
UNPACK(p_mxfp4, TK_P_MXFP4)
UNPACK(p_q2_k, TK_P_Q2_K)
UNPACK(p_q3_k, TK_P_Q3_K)
UNPACK(p_q4_k, TK_P_Q4_K)
UNPACK(p_q5_k, TK_P_Q5_K)
UNPACK(p_q6_k, TK_P_Q6_K)
UNPACK(p_iq4_xs, TK_P_IQ4_XS)

/* ---- activations ---- */

void tk__a8_block(tk_a8 *dst, const float src[32]) {
    uint32_t top_bits = 0; /* magnitudes order as integers do, with NaN above infinity: no NaN is lost */
    for (int i = 0; i < 32; i++) {
        uint32_t u = tk_f32_bits(src[i]) & 0x7fffffffu;
        top_bits = TK_MAX(top_bits, u);
    }
    float top = tk_bits_f32(top_bits);
    bool small = top <= 1e-30f; /* 127 / top stays finite */
    float inverse = small ? 0 : 127 / top;
    int32_t sum[2] = { 0, 0 };
    memset(dst, 0, sizeof *dst);
    for (int i = 0; i < 32; i++) {
        float v = src[i] * inverse;
        v = v > -127 ? v : -127; /* NaN too */
        v = v < 127 ? v : 127;
        /* to nearest even: beyond 1.5 2^23 the last place of a float32 is one */
        int32_t q = (int32_t)(tk_f32_bits(v + 12582912.0f) - 0x4b400000u);
        dst->q[i] = (int8_t)q;
        sum[i / 16] += q;
    }
    dst->d = small ? 0 : top / 127;
    dst->s = dst->d * (float)(sum[0] + sum[1]);
    dst->c128 = -128 * (sum[0] + sum[1]), dst->c8 = -8 * (sum[0] + sum[1]);
    for (int h = 0; h < 2; h++) dst->c32[h] = -32 * sum[h], dst->half[h] = dst->d * (float)sum[h];
}

void tk__pack_a8(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    int64_t step;
    tk_a8 *b = tk__a8_row(m, rows, cols, row, &step);
    for (int64_t i = 0; i < cols; i += TK_K32, b += step) tk__a8_block(b, src + i);
}

void tk__unpack_a8(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    int64_t step;
    const tk_a8 *b = tk__a8_row(m, rows, cols, row, &step);
    for (int64_t i = 0; i < cols; i += TK_K32, b += step)
        for (int j = 0; j < TK_K32; j++) dst[i + j] = b->d * (float)b->q[j];
}
