/* SPDX-License-Identifier: Apache-2.0 */
/* The windows of fusions.def: each thread runs the window's own kernels over a few rows at a time, so that what passes
 * between them stays in its L1 cache and the threads meet once instead of after each. Same bits by construction.
 * Included by the tier files. */
#include "base/packed.h"

void quant_a8_avx2(const tk_args *a); /* serves both tiers */

/* floats of a stack tile: half of a 32 KiB L1 */
#define FUSED_TILE 4096

/* A call of one member on `rows` rows, alone on its thread */
V_INLINE tk_args fused_part(const tk_args *a, int64_t t, int64_t k) {
    tk_args part = { .attr = a->attr, .nth = 1 };
    part.dim['t' - 'a'].n = t, part.dim['k' - 'a'].n = k, part.dim['n' - 'a'].n = t * k;
    return part;
}

/* [z = x + y;] q = quant(norm(z) w), row by row through a row of scratch a thread */
V_INLINE void norm_quant_rows(const tk_args *a, const float *x, const float *y, float *z, tk_a8 *q, const float *w) {
    const int64_t k = TK_DIM(a, 'k'), blocks = k / TK_K32;
    float *line = (float *)a->scratch + a->ith * k;
    int64_t row, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &row, &to);
    tk_args part = fused_part(a, 1, k);
    for (; row < to; row++) {
        const float *in = x + row * k;
        if (y) {
            part.p[0] = (void *)in, part.p[1] = (void *)(y + row * k), part.p[2] = z + row * k;
            KERNEL_NAME(add)(&part);
            in = z + row * k;
        }
        part.p[0] = (void *)in, part.p[1] = (void *)w, part.p[2] = line, part.p[3] = NULL;
        KERNEL_NAME(norm)(&part);
        part.p[0] = line, part.p[1] = q + row * blocks;
        quant_a8_avx2(&part);
    }
}

/* y = silu(a) b into the tile, then into blocks; any run of whole blocks is a piece */
void KERNEL_NAME(swiglu_quant)(const tk_args *a) {
    const float *g = a->p[0], *u = a->p[1];
    tk_a8 *q = a->p[2];
    float tile[FUSED_TILE];
    int64_t i, to;
    tk_split(TK_DIM(a, 't') * TK_DIM(a, 'k'), TK_K32, a->ith, a->nth, &i, &to);
    for (int64_t n; i < to; i += n) {
        n = TK_MIN(to - i, FUSED_TILE);
        tk_args act = fused_part(a, 1, n), quant = act;
        act.p[0] = (void *)(g + i), act.p[1] = (void *)(u + i), act.p[2] = tile;
        KERNEL_NAME(swiglu)(&act);
        quant.p[0] = tile, quant.p[1] = q + i / TK_K32;
        quant_a8_avx2(&quant);
    }
}

void KERNEL_NAME(norm_quant)(const tk_args *a) { norm_quant_rows(a, a->p[0], NULL, NULL, a->p[2], a->p[1]); }
void KERNEL_NAME(add_norm_quant)(const tk_args *a) { norm_quant_rows(a, a->p[0], a->p[1], a->p[3], a->p[4], a->p[2]); }
