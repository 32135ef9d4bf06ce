/* SPDX-License-Identifier: Apache-2.0 */
/* The windows of fusions.def: each thread runs the window's own kernels over a few rows at a time, so that
 * what passes between them stays in its L1 cache and the threads meet once instead of after each. Same bits
 * by construction. Included by the tier files. */
#include "base/packed.h"

void tk__quant_run_avx2(tk_a8 *y, int64_t step, const float *x, int64_t blocks); /* serves both tiers */

/* floats of a stack tile: half of a 32 KiB L1 */
#define FUSED_TILE 4096

/* A call of one member on `rows` rows, alone on its thread */
V_INLINE tk_args fused_part(const tk_args *a, int64_t t, int64_t k) {
    tk_args part = { .attr = a->attr, .nth = 1 };
    part.dim['h' - 'a'].n = t, part.dim['k' - 'a'].n = k, part.dim['n' - 'a'].n = t * k;
    return part;
}

/* [z = x + y;] q = quant(norm(z) w), row by row through a row of scratch a thread */
V_INLINE void norm_quant_rows(const tk_args *a, const float *x, const float *y, float *z, void *q,
                              const float *w) {
    const int64_t k = TK_DIM(a, 'k'), rows = TK_DIM(a, 't');
    float *line = (float *)a->scratch + a->ith * k;
    int64_t row, to;
    tk_split(rows, 1, a->ith, a->nth, &row, &to);
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
        int64_t step;
        tk_a8 *to_row = tk__a8_row(q, rows, k, row, &step);
        tk__quant_run_avx2(to_row, step, line, k / TK_K32);
    }
}

/* y = glu(a, b) into the tile, then into blocks; any run of whole blocks of a row is a piece */
void KERNEL_NAME(glu_quant)(const tk_args *a) {
    const float *g = a->p[0], *u = a->p[1];
    const int64_t k = TK_DIM(a, 'k'), rows = TK_DIM(a, 't');
    float tile[FUSED_TILE];
    int64_t i, to, step;
    tk_split(rows * k, TK_K32, a->ith, a->nth, &i, &to);
    for (int64_t n; i < to; i += n) {
        n = TK_MIN(TK_MIN(to - i, k - i % k), FUSED_TILE);
        tk_args act = fused_part(a, 1, n);
        act.p[0] = (void *)(g + i), act.p[1] = (void *)(u + i), act.p[2] = tile;
        KERNEL_NAME(glu)(&act);
        tk_a8 *q = tk__a8_row(a->p[2], rows, k, i / k, &step);
        tk__quant_run_avx2(q + i % k / TK_K32 * step, step, tile, n / TK_K32);
    }
}

void KERNEL_NAME(norm_quant)(const tk_args *a) { norm_quant_rows(a, a->p[0], NULL, NULL, a->p[2], a->p[1]); }
void KERNEL_NAME(add_norm_quant)(const tk_args *a) {
    norm_quant_rows(a, a->p[0], a->p[1], a->p[3], a->p[4], a->p[2]);
}
