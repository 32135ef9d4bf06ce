/* SPDX-License-Identifier: Apache-2.0 */
/* The windows of fusions.def: each thread runs the window's own kernels over a few rows at a time, so that
 * what passes between them stays in its L1 cache and the threads meet once instead of after each. Same bits
 * by construction. Included by the tier files. */
#include "base/tiles.h"
#include "ops/quant.h"

void tk__a16_run_amx(const tk_args *a, int operand, int64_t row, int64_t live, const float *x, int64_t stride,
                     int64_t from, int64_t end);

/* floats of a stack tile: half of a 32 KiB L1 */
#define FUSED_TILE 4096

/* A call of one member on `rows` rows, alone on its thread */
V_INLINE tk_args fused_part(const tk_args *a, int64_t t, int64_t k) {
    tk_args part = { .attr = a->attr, .nth = 1 };
    part.dim['h' - 'a'].n = t, part.dim['k' - 'a'].n = k, part.dim['n' - 'a'].n = t * k;
    return part;
}

/* Elements from .. from + n of row `row` of the quantized [rows, k] operand `out`; whole blocks */
V_INLINE void quant_run(const tk_args *a, int out, int64_t rows, int64_t k, int64_t row, int64_t from,
                        int64_t n, const float *x) {
    if (a->type[out] == TK_A8) {
        int64_t step;
        tk_a8 *q = tk__a8_row(a->p[out], rows, k, row, &step);
        (VW == 16 ? tk__quant_run_avx512 : tk__quant_run_avx2)(q + from / TK_K32 * step, step, x, n / TK_K32);
    } else {
        cast_run(x, TK_F32, (uint16_t *)a->p[out] + row * k + from, TK_BF16, 0, n);
    }
}

/* [z = x + y;] q = quant(norm(z) w), operand `out`: through rows of scratch a thread, one row at a time, or
 * 16 where the tiles of A16 take 16 together */
V_INLINE void norm_quant_rows(const tk_args *a, const float *x, const float *y, float *z, int out,
                              const float *w) {
    const int64_t k = TK_DIM(a, 'k'), rows = TK_DIM(a, 't');
    const bool tiles = a->type[out] == TK_A16;
    const int64_t unit = tiles && rows >= TK_TILE ? TK_TILE : 1;
    float *lines = (float *)a->scratch + a->ith * unit * k;
    int64_t row, to;
    tk_split(rows, unit, a->ith, a->nth, &row, &to);
    tk_args part = fused_part(a, 1, k);
    for (int64_t n; row < to; row += n) {
        n = TK_MIN(unit, to - row);
        for (int64_t i = row; i < row + n; i++) {
            const float *in = x + i * k;
            if (y) {
                part.p[0] = (void *)in, part.p[1] = (void *)(y + i * k), part.p[2] = z + i * k;
                KERNEL_NAME(add)(&part);
                in = z + i * k;
            }
            part.p[0] = (void *)in, part.p[1] = (void *)w, part.p[2] = lines + (i - row) * k,
            part.p[3] = NULL;
            KERNEL_NAME(norm)(&part);
        }
        if (tiles)
            tk__a16_run_amx(a, out, row, n, lines, k, 0, tk_ceil_div(k, TK_TILE_K));
        else
            quant_run(a, out, rows, k, row, 0, k, lines);
    }
}

/* glu_quant into A16: 16 tokens by 256 k are a piece */
V_INLINE void glu_tiles(const tk_args *a) {
    const float *g = a->p[0], *u = a->p[1];
    const int64_t k = TK_DIM(a, 'k'), rows = TK_DIM(a, 't'), cut = FUSED_TILE / TK_TILE;
    const int64_t pieces = tk_ceil_div(k, cut);
    float tile[FUSED_TILE];
    int64_t i, to;
    tk_split(tk_ceil_div(rows, TK_TILE) * pieces, 1, a->ith, a->nth, &i, &to);
    for (; i < to; i++) {
        const int64_t row = i / pieces * TK_TILE, live = TK_MIN(rows - row, (int64_t)TK_TILE);
        const int64_t from = i % pieces * cut, n = TK_MIN(cut, k - from);
        tk_args act = fused_part(a, 1, n);
        for (int64_t t = 0; t < live; t++) {
            const int64_t at = (row + t) * k + from;
            act.p[0] = (void *)(g + at), act.p[1] = (void *)(u + at), act.p[2] = tile + t * cut;
            KERNEL_NAME(glu)(&act);
        }
        tk__a16_run_amx(a, 2, row, live, tile, cut, from / TK_TILE_K, tk_ceil_div(from + n, TK_TILE_K));
    }
}

/* y = glu(a, b) into the tile, then into blocks; any run of whole blocks of a row is a piece */
void KERNEL_NAME(glu_quant)(const tk_args *a) {
    const float *g = a->p[0], *u = a->p[1];
    const int64_t k = TK_DIM(a, 'k'), rows = TK_DIM(a, 't');
    float tile[FUSED_TILE];
    int64_t i, to;
    if (a->type[2] == TK_A16) {
        glu_tiles(a);
        return;
    }
    tk_split(rows * k, TK_K32, a->ith, a->nth, &i, &to);
    for (int64_t n; i < to; i += n) {
        n = TK_MIN(TK_MIN(to - i, k - i % k), FUSED_TILE);
        tk_args act = fused_part(a, 1, n);
        act.p[0] = (void *)(g + i), act.p[1] = (void *)(u + i), act.p[2] = tile;
        KERNEL_NAME(glu)(&act);
        quant_run(a, 2, rows, k, i / k, i % k, n, tile);
    }
}

void KERNEL_NAME(norm_quant)(const tk_args *a) { norm_quant_rows(a, a->p[0], NULL, NULL, 2, a->p[1]); }
void KERNEL_NAME(add_norm_quant)(const tk_args *a) {
    norm_quant_rows(a, a->p[0], a->p[1], a->p[3], 4, a->p[2]);
}

#if VW == 16
/* quant into bfloat16, which only the widest tier multiplies */
void KERNEL_NAME(quant_bf16)(const tk_args *a) {
    int64_t i, to;
    tk_split(TK_DIM(a, 't') * TK_DIM(a, 'k'), ELEM_GRAIN, a->ith, a->nth, &i, &to);
    cast_run(a->p[0], TK_F32, a->p[1], TK_BF16, i, to);
}
#endif
