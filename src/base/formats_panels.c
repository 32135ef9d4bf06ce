/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of base/panels.h, number by number */
#include "base/panels.h"

/* The first slab of the panel of a row */
static const uint8_t *panel_of(const void *m, tk_dtype t, int64_t cols, int64_t row) {
    return (const uint8_t *)m + row / TK_H_ROWS * tk_ceil_div(cols, tk_formats[t].block) * tk_formats[t].bytes;
}

void tk__unpack_h_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_H_BF16, cols, row);
    for (int64_t k = 0; k < cols; k++) {
        const uint8_t *slab = p + k / TK_H_K * TK_H_BF16_SLAB;
        dst[k] = tk_bf16_f32(tk_le16(slab + tk__h_bf16_at((int)(row % TK_H_ROWS), (int)(k % TK_H_K))));
    }
}
