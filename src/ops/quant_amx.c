/* SPDX-License-Identifier: Apache-2.0 */
/* quant for the tile products: float32 activations to bfloat16 in the order of tiles (A16 of base/tiles.h). A
 * full group of 16 tokens is transposed 16 pairs of k at a time; a smaller one is scattered pair by pair. The
 * bits are those of tk__pack_a16. */
#include <immintrin.h>

#include "base/tiles.h"
#include "ops/ops.h"

/* The 16 pairs of 32 numbers, of which n exist */
static inline __m512i pairs(const float *x, int64_t n) {
    const __mmask32 have = (__mmask32)(n >= 32 ? ~0u : (1u << n) - 1);
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps((__mmask16)(have >> 16), x + 16),
                                        _mm512_maskz_loadu_ps((__mmask16)have, x));
}

/* 16 tokens of 32 k, `step` numbers apart, to 16 lines of 16 pairs */
static inline void transpose_in(uint32_t *to, const float *x, int64_t step, int64_t n) {
    __m512i a[16], b[16];
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) a[i] = pairs(x + i * step, n);
    _Pragma("GCC unroll 8") for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    _Pragma("GCC unroll 4") for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]), a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
    _Pragma("GCC unroll 4") for (int j = 0; j < 4;
                                 j++) { /* a[4 g + j]: in lane l, pair 4 l + j of tokens 4 g .. */
        const __m512i p = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x44),
                      q = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xee),
                      r = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x44),
                      s = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xee);
        _mm512_storeu_si512(to + j * 16, _mm512_shuffle_i32x4(p, r, 0x88));
        _mm512_storeu_si512(to + (4 + j) * 16, _mm512_shuffle_i32x4(p, r, 0xdd));
        _mm512_storeu_si512(to + (8 + j) * 16, _mm512_shuffle_i32x4(q, s, 0x88));
        _mm512_storeu_si512(to + (12 + j) * 16, _mm512_shuffle_i32x4(q, s, 0xdd));
    }
}

/* Steps from .. end (of 32 k) of `live` tokens, the first of them token `row` of the matrix, whose rows of
 * numbers are `stride` apart in x; x is where that token's step `from` is. The tokens are a whole group or
 * fewer. */
void tk__a16_run_amx(const tk_args *a, int operand, int64_t row, int64_t live, const float *x, int64_t stride,
                     int64_t from, int64_t end) {
    const int64_t cols = TK_DIM(a, 'k'), chunk = tk__a16_chunk(cols);
    for (int64_t step = from; step < end; step++, x += TK_TILE_K) {
        const int64_t first = step / chunk * chunk, n = TK_MIN(cols - step * TK_TILE_K, (int64_t)TK_TILE_K);
        int64_t m;
        uint32_t *to = tk__a16_group(a->p[operand], TK_DIM(a, 't'), cols, row, first, &m) + row % TK_TILE;
        to += (step - first) * 16 * m;
        if (live == TK_TILE) {
            transpose_in(to, x, stride, n);
            continue;
        }
        for (int64_t t = 0; t < live; t++) {
            uint32_t pair[16];
            _mm512_storeu_si512(m == 1 ? to : pair, pairs(x + t * stride, n));
            for (int p = 0; m > 1 && p < 16; p++) to[p * m + t] = pair[p];
        }
    }
}

/* Pieces of 8 steps of a group are shared out: one token is work for several threads. */
void quant_a16_amx(const tk_args *a) {
    enum { PIECE = 8 };
    const int64_t rows = TK_DIM(a, 't'), cols = TK_DIM(a, 'k'), steps = tk_ceil_div(cols, TK_TILE_K);
    const int64_t pieces = tk_ceil_div(steps, PIECE);
    int64_t i, end;
    tk_split(tk_ceil_div(rows, TK_TILE) * pieces, 1, a->ith, a->nth, &i, &end);
    for (; i < end; i++) {
        const int64_t row = i / pieces * TK_TILE, from = i % pieces * PIECE;
        tk__a16_run_amx(a, 1, row, TK_MIN(rows - row, (int64_t)TK_TILE),
                        (const float *)a->p[0] + row * cols + from * TK_TILE_K, cols, from,
                        TK_MIN(from + PIECE, steps));
    }
}
