/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of base/panels.h, number by number */
#include "base/panels.h"

/* The slab of number k of a row */
static const uint8_t *slab_of(const void *m, tk_dtype t, int64_t cols, int64_t row, int64_t k) {
    const tk_format *f = &tk_formats[t];
    return (const uint8_t *)m + (row / TK_H_ROWS * tk_ceil_div(cols, f->block) + k / f->block) * f->bytes;
}

void tk__unpack_h_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    for (int64_t k = 0; k < cols; k++) {
        const uint8_t *slab = slab_of(m, TK_H_BF16, cols, row, k);
        dst[k] = tk_bf16_f32(tk_le16(slab + tk__h_bf16_at((int)(row % TK_H_ROWS), (int)(k % TK_H_K))));
    }
}

/* The code of number k (0 .. f.k - 1) */
static int code_at(const uint8_t *slab, tk_h_form f, int row, int k) {
    int shift, at = tk__h_place(f.low, row, k % 64, &shift);
    int code = slab[k / 64 * 128 * f.low + at] >> shift & ((1 << f.low) - 1);
    if (!f.top) return code;
    at = tk__h_place(f.top, row, k % 64, &shift);
    return code | (slab[tk__h_top_at(f) + k / 64 * 128 * f.top + at] >> shift & ((1 << f.top) - 1)) << f.low;
}

static float half_at(const uint8_t *p) { return tk_f16_f32(tk_le16(p)); }

static float number_at(const uint8_t *slab, tk_dtype t, int row, int k) {
    const tk_h_form f = tk__h_form(t);
    const int code = code_at(slab, f, row, k);
    const uint8_t *scale = slab + tk__h_scales_at(f) + k / 64 * tk__h_scales_bytes(f) + tk__h_scale_at(f, row, k % 64),
                  *twin = scale + tk__h_scales_bytes(f) / 2, *above = slab + tk__h_super_at(f);
    const bool two = tk__h_two_supers(t);
    const float d = f.super ? half_at(above + tk__h_super_of(row, two, false)) : 0,
                dmin = two ? half_at(above + tk__h_super_of(row, two, true)) : 0;
    switch (t) {
    case TK_H_Q8_0: return half_at(scale) * (float)(code - 128);
    case TK_H_F8: return tk__e4m3_f32((uint8_t)code) * tk_bits_f32(tk_le32(scale));
    case TK_H_IQ4_NL: return half_at(scale) * (float)tk__iq4_values[code];
    case TK_H_Q4_Z: return tk_bf16_f32(tk_le16(scale)) * ((float)code - half_at(twin));
    case TK_H_Q4_1:
    case TK_H_Q5_1: return half_at(scale) * (float)code + half_at(twin);
    case TK_H_Q5_0: return tk_bf16_f32(tk_le16(scale)) * (float)(code - 16);
    case TK_H_MXFP4: return tk__e8m0_half(*scale) * (float)tk__mxfp4_values[code];
    case TK_H_Q4_K:
    case TK_H_Q5_K: return d * (float)*scale * (float)code - dmin * (float)*twin;
    case TK_H_Q6_K: return d * (float)(int8_t)*scale * (float)(code - 32);
    case TK_H_Q2_K: return d * (float)(*scale & 15) * (float)code - dmin * (float)(*scale >> 4);
    case TK_H_Q3_K: return d * (float)(*scale - 32) * (float)(code - 4);
    case TK_H_IQ4_XS: return d * (float)(*scale - 32) * (float)tk__iq4_values[code];
    default: return tk_bf16_f32(tk_le16(scale)) * (float)(code - 8); /* H_Q4_0 */
    }
}

#define UNPACK(stem, TYPE)                                                                                             \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {                       \
        (void)rows;                                                                                                    \
        for (int64_t k = 0; k < cols; k++)                                                                             \
            dst[k] = number_at(slab_of(m, TYPE, cols, row, k), TYPE, (int)(row % TK_H_ROWS),                           \
                               (int)(k % tk_formats[TYPE].block));                                                     \
    }
UNPACK(h_q8_0, TK_H_Q8_0)
UNPACK(h_f8, TK_H_F8)
UNPACK(h_q4_0, TK_H_Q4_0)
UNPACK(h_q4_1, TK_H_Q4_1)
UNPACK(h_q4_z, TK_H_Q4_Z)
UNPACK(h_q5_0, TK_H_Q5_0)
UNPACK(h_q5_1, TK_H_Q5_1)
UNPACK(h_iq4_nl, TK_H_IQ4_NL)
UNPACK(h_mxfp4, TK_H_MXFP4)
UNPACK(h_q2_k, TK_H_Q2_K)
UNPACK(h_q3_k, TK_H_Q3_K)
UNPACK(h_q4_k, TK_H_Q4_K)
UNPACK(h_q5_k, TK_H_Q5_K)
UNPACK(h_q6_k, TK_H_Q6_K)
UNPACK(h_iq4_xs, TK_H_IQ4_XS)
