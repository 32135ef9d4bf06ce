/* SPDX-License-Identifier: Apache-2.0 */
/* pack: bfloat16 weights into the bands of base/tiles.h, 64 bytes of a row at a time. */
#include "base/tiles.h"
#include "ops/ops.h"

void pack_bands(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'), steps = tk_ceil_div(k, TK_TILE_K);
    int64_t from, end;
    tk_split(n, TK_BAND, a->ith, a->nth, &from, &end);
    for (int64_t row = from; row < tk_ceil_div(end, TK_BAND) * TK_BAND; row++) {
        const uint8_t *src = (const uint8_t *)a->p[0] + row * k * 2;
        uint8_t *to = (uint8_t *)a->p[1] + (row / TK_BAND * steps * TK_BAND + row % TK_BAND) * 64;
        for (int64_t s = 0; s < steps; s++, to += TK_BAND * 64) {
            const int64_t left = row < n ? TK_MIN(k - s * TK_TILE_K, (int64_t)TK_TILE_K) * 2 : 0;
            memcpy(to, src + s * 64, (size_t)left), memset(to + left, 0, (size_t)(64 - left));
        }
    }
}
