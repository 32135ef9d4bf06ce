/* SPDX-License-Identifier: Apache-2.0 */
/* linear on AMX for bfloat16 weights: y[t][n] = sum over k of w[n][k] x[t][k] by tile products. Weights lie
 * in bands of 32 rows (base/tiles.h) and are the first operand of the product, tokens the second, so that a
 * tile's row is a row's run of k as the file has it and one token is a plain vector.
 *
 * One arithmetic for any number of tokens: a result is summed 32 k at a time in the order of k, by the one
 * rule of the instruction (ops/amx.h). Columns of a tile do not meet, and a sum that waits in memory for the
 * next chunk of k loses nothing. So neither batch nor chunks nor threads change a bit.
 *
 * Up to 16 tokens are one tile wide and a band is read once, from end to end. More tokens: a chunk of k of a
 * band stays in the first-level cache while up to TOKENS tokens pass by in the order in which they lie; the
 * sums of ROWS rows wait in the second-level cache. */
#include <immintrin.h>

#include "base/tiles.h"
#include "ops/amx.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS = 512, TOKENS = 512, AHEAD = 4096, STEP = 2 * TK_TILE_BYTES, BLOCK = 4 * TK_TILE_BYTES };

/* ---- results ---- */

/* `tokens` rows of 16 numbers out of the tile c[16 rows of w][16 tokens]; y's rows lie `step` apart and take
 * `live` numbers each */
INLINE void transpose_out(float *y, int64_t step, const float *c, int64_t tokens, int live) {
    __m512 a[16], b[16];
    const __mmask16 mask = (__mmask16)((1u << live) - 1);
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) a[i] = _mm512_load_ps(c + i * 16);
    _Pragma("GCC unroll 8") for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    _Pragma("GCC unroll 4") for (int i = 0; i < 16; i += 4) {
        const __m512d p = (__m512d)b[i], q = (__m512d)b[i + 1], r = (__m512d)b[i + 2], s = (__m512d)b[i + 3];
        a[i] = (__m512)_mm512_unpacklo_pd(p, r), a[i + 1] = (__m512)_mm512_unpackhi_pd(p, r);
        a[i + 2] = (__m512)_mm512_unpacklo_pd(q, s), a[i + 3] = (__m512)_mm512_unpackhi_pd(q, s);
    }
    /* a[4 g + j]: in lane l, rows 4 g .. 4 g + 3 of token 4 l + j */
    _Pragma("GCC unroll 4") for (int j = 0; j < 4; j++) {
        const __m512 p = _mm512_shuffle_f32x4(a[j], a[4 + j], 0x44),
                     q = _mm512_shuffle_f32x4(a[j], a[4 + j], 0xee),
                     r = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0x44),
                     s = _mm512_shuffle_f32x4(a[8 + j], a[12 + j], 0xee);
        b[j] = _mm512_shuffle_f32x4(p, r, 0x88), b[4 + j] = _mm512_shuffle_f32x4(p, r, 0xdd);
        b[8 + j] = _mm512_shuffle_f32x4(q, s, 0x88), b[12 + j] = _mm512_shuffle_f32x4(q, s, 0xdd);
    }
    if (tokens == 16 && live == 16) {
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) _mm512_storeu_ps(y + i * step, b[i]);
        return;
    }
    _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) if (i < tokens)
        _mm512_mask_storeu_ps(y + i * step, mask, b[i]);
}

/* Rows of w that exist in half `half` of the band at `row` */
INLINE int rows_live(int64_t n, int64_t row, int half) {
    return (int)TK_MAX(TK_MIN(n - row - half * TK_TILE, (int64_t)TK_TILE), (int64_t)0);
}

/* ---- up to 16 tokens ---- */

static void multiply_few(const tk_args *a) {
    const int64_t m = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), steps = tk_ceil_div(TK_DIM(a, 'k'), TK_TILE_K);
    _Alignas(64) float c[2][256];
    amx_config config = { 0 };
    for (int t = 0; t < 7; t++) amx_tile(&config, t, 16, t == 4 || t == 5 ? 64 : (int)m * 4);
    int64_t row, last;
    tk_split(n, TK_BAND, a->ith, a->nth, &row, &last);
    const uint8_t *w = (const uint8_t *)a->p[1] + row / TK_BAND * steps * STEP;
    amx_configure(&config);
    for (; row < last; row += TK_BAND) {
        const uint8_t *x = a->p[0];
        amx_zero(0), amx_zero(1);
        for (int64_t s = 0; s < steps; s++, w += STEP, x += 64 * m) {
            for (int p = 0; p < STEP; p += 64) _mm_prefetch((const char *)w + AHEAD + p, _MM_HINT_T0);
            amx_load(6, x, 4 * m);
            amx_load(4, w, 64);
            amx_load(5, w + TK_TILE_BYTES, 64);
            amx_dp(0, 4, 6);
            amx_dp(1, 5, 6);
        }
        float *y = (float *)a->p[2] + row;
        if (m == 1 && row + TK_BAND <= n) {
            amx_store(0, y, 4), amx_store(1, y + TK_TILE, 4);
            continue;
        }
        amx_store(0, c[0], 64), amx_store(1, c[1], 64);
        for (int half = 0; half < 2; half++)
            transpose_out(y + half * TK_TILE, n, c[half], m, rows_live(n, row, half));
    }
    amx_release();
}

/* ---- more ---- */

/* One thread's walk over some tokens */
typedef struct walk {
    const tk_args *a;
    int64_t n, steps;     /* of the weight; steps of 32 k */
    int64_t t0, tokens;   /* the tokens in hand */
    int64_t from, count;  /* the chunk of k in hand */
    int64_t row;          /* of the band in hand */
    const uint8_t *tiles; /* the band's chunk */
    float *sums;          /* of the band in hand: [blocks of 32 tokens][4 tiles] */
    const uint8_t *next;  /* weights to fetch meanwhile */
    int64_t fetch;        /* lines of them for each block of tokens */
    amx_config whole, rest;
} walk;

/* The band's chunk times the two groups of tokens at t, the second one if `both`. Tiles: sums 0-3 (row half,
 * group), weights 4 5, tokens 6 7. */
INLINE void multiply_block(const walk *w, int64_t t, float *sums, int64_t m0, int64_t m1, const bool both) {
    int64_t m;
    const int64_t k = TK_DIM(w->a, 'k'), all = TK_DIM(w->a, 't');
    const uint8_t *x0 = (const uint8_t *)tk__a16_group(w->a->p[0], all, k, t, w->from, &m), *x1 = x0;
    if (both) x1 = (const uint8_t *)tk__a16_group(w->a->p[0], all, k, t + TK_TILE, w->from, &m);
    const uint8_t *tiles = w->tiles;
    if (w->from == 0) {
        amx_zero(0), amx_zero(2);
        if (both) amx_zero(1), amx_zero(3);
    } else {
        amx_load(0, sums, 64), amx_load(2, sums + 512, 64);
        if (both) amx_load(1, sums + 256, 64), amx_load(3, sums + 768, 64);
    }
    for (int64_t i = 0; i < w->fetch; i++) _mm_prefetch((const char *)w->next + i * 64, _MM_HINT_T1);
    for (int64_t i = 0; i < w->count; i++, tiles += STEP, x0 += 64 * m0, x1 += 64 * m1) {
        amx_load(4, tiles, 64);
        amx_load(6, x0, 4 * m0);
        if (both) amx_load(7, x1, 4 * m1);
        amx_load(5, tiles + TK_TILE_BYTES, 64);
        amx_dp(0, 4, 6);
        if (both) amx_dp(1, 4, 7);
        amx_dp(2, 5, 6);
        if (both) amx_dp(3, 5, 7);
    }
    amx_store(0, sums, 64), amx_store(2, sums + 512, 64);
    if (both) amx_store(1, sums + 256, 64), amx_store(3, sums + 768, 64);
}

static void finish_block(const walk *w, int64_t t, const float *sums, int64_t m0, int64_t m1) {
    float *y = (float *)w->a->p[2] + t * w->n + w->row;
    for (int half = 0; half < 2; half++) {
        const int live = rows_live(w->n, w->row, half);
        if (!live) break;
        transpose_out(y + half * TK_TILE, w->n, sums + half * 512, m0, live);
        if (m1) transpose_out(y + half * TK_TILE + TK_TILE * w->n, w->n, sums + half * 512 + 256, m1, live);
    }
}

/* The lines of y that the block of tokens at t will write: rows of y are far apart, and a store that misses
 * waits */
static void fetch_out(const walk *w, int64_t t) {
    const char *y = (const char *)((float *)w->a->p[2] + t * w->n + w->row);
    for (int64_t i = 0; i < 32; i++, y += w->n * 4)
        _mm_prefetch(y, _MM_HINT_T1), _mm_prefetch(y + 64, _MM_HINT_T1);
}

/* All tokens in hand with the band's chunk */
static void multiply_band(walk *w) {
    const int64_t full = w->tokens / 32 * 32, rest = w->tokens - full;
    const bool done = w->from + w->count == w->steps;
    for (int64_t t = 0; t < full; t += 32) {
        float *sums = w->sums + t / 32 * (BLOCK / 4);
        if (done) fetch_out(w, w->t0 + t);
        multiply_block(w, w->t0 + t, sums, 16, 16, true);
        w->next += w->fetch * 64;
        if (done && t > 0) finish_block(w, w->t0 + t - 32, sums - BLOCK / 4, 16, 16);
    }
    float *sums = w->sums + full / 32 * (BLOCK / 4);
    if (done && full) finish_block(w, w->t0 + full - 32, sums - BLOCK / 4, 16, 16);
    if (!rest) return;
    const int64_t m0 = TK_MIN(rest, (int64_t)TK_TILE), m1 = rest - m0;
    amx_configure(&w->rest);
    if (m1)
        multiply_block(w, w->t0 + full, sums, m0, m1, true);
    else
        multiply_block(w, w->t0 + full, sums, m0, m1, false);
    amx_configure(&w->whole);
    if (done) finish_block(w, w->t0 + full, sums, m0, m1);
}

/* Rows first .. last, at most ROWS, with the tokens in hand */
static void multiply_rows(walk *w, int64_t first, int64_t last, float *sums) {
    const int64_t band = w->steps * STEP, chunk = tk__a16_chunk(TK_DIM(w->a, 'k'));
    const int64_t held = tk_ceil_div(w->tokens, 32) * (BLOCK / 4); /* a band's sums */
    for (w->from = 0; w->from < w->steps; w->from += w->count) {
        w->count = TK_MIN(w->steps - w->from, chunk);
        for (w->row = first; w->row < last; w->row += TK_BAND) {
            w->tiles = (const uint8_t *)w->a->p[1] + w->row / TK_BAND * band + w->from * STEP;
            w->sums = sums + (w->row - first) / TK_BAND * held;
            w->next = w->tiles + band;
            w->fetch = tk_ceil_div(w->count * STEP / 64, TK_MAX(w->tokens / 32, (int64_t)1));
            multiply_band(w);
        }
    }
}

/* Threads take bands as they get on */
static void multiply_many(const tk_args *a) {
    walk w = { .a = a, .n = TK_DIM(a, 'n'), .steps = tk_ceil_div(TK_DIM(a, 'k'), TK_TILE_K) };
    const int64_t tokens = TK_DIM(a, 't'), rest = tokens % 32;
    const int64_t held = tk_ceil_div(TK_MIN(tokens, (int64_t)TOKENS), 32) * (BLOCK / 4);
    float *sums = (float *)a->scratch + a->ith * (ROWS / TK_BAND) * held;
    /* pieces are large where tokens do not stay in the second-level cache from one to the next */
    const int64_t grain = w.steps > 2 * TK_A16_CHUNK ? 4 : 1;
    for (int t = 0; t < 8; t++) {
        const bool second = t == 7 || t == 1 || t == 3;
        const int64_t m = second ? TK_MAX(rest - 16, 1) : TK_MIN(rest, (int64_t)TK_TILE);
        amx_tile(&w.whole, t, 16, 64);
        amx_tile(&w.rest, t, 16, t == 4 || t == 5 ? 64 : (int)m * 4);
    }
    amx_configure(&w.whole);
    for (; w.t0 < tokens; w.t0 += w.tokens) {
        w.tokens = TK_MIN(tokens - w.t0, (int64_t)TOKENS);
        tk_share share = tk_share_begin(a->pool, tk_ceil_div(w.n, TK_BAND), grain, a->ith, a->nth);
        for (int64_t from, to; tk_share_next(&share, &from, &to);)
            for (int64_t part = from * TK_BAND; part < to * TK_BAND; part += ROWS)
                multiply_rows(&w, part, TK_MIN(part + ROWS, to * TK_BAND), sums);
    }
    amx_release();
}

/* The sums of ROWS rows and TOKENS tokens a thread */
size_t linear_bf16_amx_scratch(const tk_dim dim[26], int nth) {
    const int64_t blocks = tk_ceil_div(TK_MIN(dim['t' - 'a'].n, (int64_t)TOKENS), 32);
    return (size_t)nth * (size_t)(ROWS / TK_BAND) * (size_t)blocks * BLOCK;
}

void linear_bf16_amx(const tk_args *a) { TK_DIM(a, 't') <= TK_TILE ? multiply_few(a) : multiply_many(a); }
