/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of base/panels.h, number by number */
#include "base/panels.h"

/* The slab of number k of a row */
static const uint8_t *slab_of(const void *m, tk_dtype t, int64_t cols, int64_t row, int64_t k) {
    const tk_format *f = &tk_formats[t];
    return (const uint8_t *)m + (row / TK_H_ROWS * tk__h_slabs(cols) + k / TK_H_K) * f->bytes;
}

void tk__unpack_h_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    for (int64_t k = 0; k < cols; k++) {
        const uint8_t *slab = slab_of(m, TK_H_BF16, cols, row, k);
        dst[k] = tk_bf16_f32(tk_le16(slab + tk__h_bf16_at((int)(row % TK_H_ROWS), (int)(k % TK_H_K))));
    }
}

static int code_at(const uint8_t *slab, tk_h_form f, int row, int k) {
    int shift, at = tk__h_place(f.low, row, k, &shift);
    int code = slab[at] >> shift & ((1 << f.low) - 1);
    if (!f.top) return code;
    at = tk__h_place(f.top, row, k, &shift);
    return code | (slab[tk__h_top_at(f) + at] >> shift & ((1 << f.top) - 1)) << f.low;
}

static float number_at(const uint8_t *slab, tk_dtype t, int row, int k) {
    const tk_h_form f = tk__h_form(t);
    const int code = code_at(slab, f, row, k), at = tk__h_scale_at(f, row, k);
    const float d = tk_bf16_f32(tk_le16(slab + tk__h_scales_at(f) + at));
    switch (t) {
    case TK_H_Q8_0: return d * (float)(code - 128);
    case TK_H_F8: return d * tk__e4m3_f32((uint8_t)code);
    case TK_H_Q4_0: return d * (float)(code - 8);
    case TK_H_Q6_K: return d * (float)(code - 32);
    default: return d * (float)code + tk_bf16_f32(tk_le16(slab + tk__h_minima_at(f) + at));
    }
}

#define UNPACK(stem, TYPE)                                                                                   \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        for (int64_t k = 0; k < cols; k++)                                                                   \
            dst[k] =                                                                                         \
                number_at(slab_of(m, TYPE, cols, row, k), TYPE, (int)(row % TK_H_ROWS), (int)(k % TK_H_K));  \
    }
UNPACK(h_q8_0, TK_H_Q8_0)
UNPACK(h_f8, TK_H_F8)
UNPACK(h_q4_0, TK_H_Q4_0)
UNPACK(h_q4_1, TK_H_Q4_1)
UNPACK(h_q5_1, TK_H_Q5_1)
UNPACK(h_q6_k, TK_H_Q6_K)
