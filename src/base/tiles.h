/* SPDX-License-Identifier: Apache-2.0 */
/* How bfloat16 weights and activations lie in memory for the tile products (AMX). Private to
 * base/formats_tiles.c and the kernels that read them. k is padded by zeros to a multiple of 32, the step of
 * a tile.
 *
 * Weights, format T_BF16: bands of 32 rows, rows after the last zeros: [band][k / 32][32 rows][32]. A step is
 * two tiles of 16 rows as they are; a band is one forward stream.
 *
 * Activations, format A16: numbers below 2^-126 are zero, as the tile product sees them. k is cut into even
 * chunks of at most TK_A16_CHUNK steps. In a chunk tokens lie in groups of 16, the last one m <= 16:
 * [chunk][group][pairs of k][m][2]. That is a tile of 16 pairs by m tokens for each step; what is multiplied
 * together lies together (all tokens of one chunk; at the distance of whole rows they would meet in few sets
 * of the cache); one token alone is a plain vector. */
#ifndef TK_TILES_H
#define TK_TILES_H
#include "base/base.h"

enum { TK_BAND = 32, TK_TILE = 16, TK_TILE_K = 32, TK_TILE_BYTES = 1024, TK_A16_CHUNK = 10 };

/* Steps of 32 k in a chunk */
static inline int64_t tk__a16_chunk(int64_t cols) {
    const int64_t steps = tk_ceil_div(cols, TK_TILE_K);
    return steps % 8 ? tk_ceil_div(steps, tk_ceil_div(steps, TK_A16_CHUNK)) : 8;
}
/* The chunk of step `step` (a chunk's first) of the group of token `row`; the group has *m tokens, so that
 * pair p of its token j is dword p m + j from here */
static inline uint32_t *tk__a16_group(const void *x, int64_t rows, int64_t cols, int64_t row, int64_t step,
                                      int64_t *m) {
    const int64_t first = row / TK_TILE * TK_TILE, left = tk_ceil_div(cols, TK_TILE_K) - step;
    *m = TK_MIN(rows - first, (int64_t)TK_TILE);
    return (uint32_t *)(uintptr_t)x +
           (step * rows + first * TK_MIN(left, tk__a16_chunk(cols))) * (TK_TILE_K / 2);
}
#endif
