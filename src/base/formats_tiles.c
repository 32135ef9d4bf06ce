/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of base/tiles.h, number by number */
#include "base/tiles.h"

void tk__unpack_t_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *band = (const uint8_t *)m + row / TK_BAND * tk_ceil_div(cols, TK_TILE_K) * TK_BAND * 64;
    for (int64_t k = 0; k < cols; k++)
        dst[k] =
            tk_bf16_f32(tk_le16(band + (k / TK_TILE_K * TK_BAND + row % TK_BAND) * 64 + k % TK_TILE_K * 2));
}

/* The dword of pair k / 2 of token `row` */
static uint32_t *pair_at(const void *m, int64_t rows, int64_t cols, int64_t row, int64_t k) {
    const int64_t chunk = tk__a16_chunk(cols), step = k / TK_TILE_K / chunk * chunk;
    int64_t tokens;
    uint32_t *group = tk__a16_group(m, rows, cols, row, step, &tokens);
    return group + (k - step * TK_TILE_K) / 2 * tokens + row % TK_TILE;
}

void tk__pack_a16(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    for (int64_t k = 0; k < tk_ceil_div(cols, TK_TILE_K) * TK_TILE_K; k++) {
        const float x = k < cols ? src[k] : 0;
        const bool tiny = !(tk_f32_bits(x) & 0x7f800000u);
        const uint16_t half = tiny ? (uint16_t)(tk_f32_bits(x) >> 16 & 0x8000u) : tk_f32_bf16(x);
        memcpy((uint8_t *)pair_at(m, rows, cols, row, k) + k % 2 * 2, &half, 2);
    }
}

void tk__unpack_a16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    for (int64_t k = 0; k < cols; k++)
        dst[k] = tk_bf16_f32((uint16_t)(*pair_at(m, rows, cols, row, k) >> k % 2 * 16));
}
