/* SPDX-License-Identifier: Apache-2.0 */
/* linear for a vector instruction set: a file linear_TIER.c defines the vectors below, includes this, and
 * gets the products of all packed formats (base/packed.h).
 *
 * A tile is `np` panels of 16 rows times `mr` tokens whose sums stay in registers. It walks a run of k in
 * order: float formats add w x by one fused chain a result; integer formats sum 32 products exactly, then add
 * the block's sum times both scales by one fused step (and its minimum by another). So the roundings of a
 * result are the same in every tile, chunk and thread count: a token's row is bitwise the same alone and in
 * any batch. Sums cross from one chunk of k to the next through y, which loses nothing.
 *
 * Wanted: vf, vi      16 float32, 16 dwords
 *         vf_zero vf_set1 vf_load vf_load_n vf_store vf_store_n vf_fma vf_mul vf_neg vf_f16 vf_u8 vf_s8
 * vf_int vi_zero vi_set1 vi_load vi_store vi_add vi_and vi_or vi_srl vi_sll32 vi_as_vf dot_u8 dot_u4   sums
 * += products of four bytes: weights (any byte; at most 63) times activations DOT_U8_START    where a sum of
 * dot_u8 starts: at c128, or at zero if dot_u8 itself takes off the 128 ONE, MANY       panels in a tile of
 * one token and of many */
#include "base/packed.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
enum { AHEAD = 4096 }; /* bytes that a tile fetches ahead of its loads */

/* One tile's work: k (float formats) or blocks of 32 (integers) from .. to, of panels w and tokens x */
typedef struct tile {
    const uint8_t *w[2], *x;
    size_t x_step; /* bytes from token to token */
    int64_t from, to;
    float *y;
    int64_t y_step;
    int live[2]; /* rows of each panel that exist; 0: w[1] only repeats w[0] */
} tile;
typedef void tile_fn(const tile *t);

INLINE vf begin(const tile *t, int i, int p) {
    return t->from > 0 ? vf_load_n(t->y + i * t->y_step + p * 16, t->live[p]) : vf_zero();
}
/* The epilogue: what becomes of a finished (or, between chunks, partial) sum */
INLINE void finish(const tile *t, int i, int p, vf sum) {
    vf_store_n(t->y + i * t->y_step + p * 16, sum, t->live[p]);
}

/* ---- float formats ---- */

INLINE vf weight(const int type, const uint8_t *panel, int64_t k, const int odd) {
    switch (type) {
    case TK_P_F32: return vf_load(panel + k * 64);
    case TK_P_F16: return vf_f16(panel + k * 32);
    default: { /* k is even; odd: of k + 1 */
        vi both = vi_load(panel + k * 32);
        return vi_as_vf(odd ? vi_and(both, vi_set1((int)0xffff0000)) : vi_sll32(both, 16));
    }
    }
}

INLINE void step_float(const int type, const int mr, const int np, vf sum[][2], const tile *t, int64_t k,
                       const int odd) {
    vf w[2];
    UNROLL for (int p = 0; p < np; p++) {
        w[p] = weight(type, t->w[p], k, odd);
        if (!odd) __builtin_prefetch(t->w[p] + k * (type == TK_P_F32 ? 64 : 32) + AHEAD);
    }
    UNROLL for (int i = 0; i < mr; i++) {
        float x;
        memcpy(&x, t->x + (size_t)i * t->x_step + (size_t)(k + odd) * 4, 4);
        vf b = vf_set1(x);
        UNROLL for (int p = 0; p < np; p++) sum[i][p] = vf_fma(w[p], b, sum[i][p]);
    }
}

INLINE void tile_float(const int type, const int mr, const int np, const tile *t) {
    vf sum[16][2];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int p = 0; p < np; p++) sum[i][p] = begin(t, i, p);
    int64_t k = t->from;
    if (type == TK_P_BF16) {
        for (; k + 1 < t->to; k += 2) {
            step_float(type, mr, np, sum, t, k, 0);
            step_float(type, mr, np, sum, t, k, 1);
        }
        if (k < t->to) step_float(type, mr, np, sum, t, k, 0);
    } else {
        for (; k < t->to; k++) step_float(type, mr, np, sum, t, k, 0);
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int p = 0; p < np; p++) finish(t, i, p, sum[i][p]);
}

/* ---- integer formats ---- */

/* K-quants for many tokens: a chunk of their panels is expanded once, to lines of bytes with float32 scales,
 * and multiplied from there. Block: lines [8], float32 scale[16], then float32 low[16] or the second half's
 * scale. The numbers, and so the results, are those that the packed form gives. */
enum { EXPANDED = TK_DTYPES + 1, EXPANDED_HALVES, EXPANDED_BLOCK = 640, EXPANDED_CHUNK = 16 };

INLINE const uint8_t *block_lines(const int type, const uint8_t *panel, size_t b) {
    switch (type) {
    case TK_P_Q8_0: return panel + b / 2 * 1088 + b % 2 * 512;
    case TK_P_Q4_0: return panel + b / 2 * 576 + b % 2 * 256;
    case TK_P_Q4_1: return panel + b * 320;
    case TK_P_Q4_K: return panel + b / 8 * 2368 + b % 8 / 2 * 512;
    case EXPANDED:
    case EXPANDED_HALVES: return panel + b * EXPANDED_BLOCK;
    default: return panel + b / 8 * 3392 + b % 8 / 4 * 1024 + b % 2 * 512;
    }
}

/* scale and minimum of the panel's rows in block b (of Q6_K: in half `half` of it) */
INLINE void block_scales(const int type, const uint8_t *panel, size_t b, int half, vf *scale, vf *low) {
    const uint8_t *p = panel;
    *low = vf_zero();
    switch (type) {
    case TK_P_Q8_0: *scale = vf_f16(p + b / 2 * 1088 + 1024 + b % 2 * 32); break;
    case TK_P_Q4_0: *scale = vf_f16(p + b / 2 * 576 + 512 + b % 2 * 32); break;
    case TK_P_Q4_1: *scale = vf_f16(p + b * 320 + 256), *low = vf_f16(p + b * 320 + 288); break;
    case TK_P_Q4_K:
        p += b / 8 * 2368 + 2048;
        *scale = vf_mul(vf_f16(p), vf_u8(p + 64 + b % 8 * 16));
        *low = vf_neg(vf_mul(vf_f16(p + 32), vf_u8(p + 192 + b % 8 * 16)));
        break;
    case EXPANDED:
        p += b * EXPANDED_BLOCK + 512;
        *scale = vf_load(p), *low = vf_load(p + 64);
        break;
    case EXPANDED_HALVES: *scale = vf_load(p + b * EXPANDED_BLOCK + 512 + half * 64); break;
    default: p += b / 8 * 3392 + 3072; *scale = vf_mul(vf_f16(p + 256), vf_s8(p + (b % 8 * 2 + half) * 16));
    }
}

INLINE const tk_a8 *token(const tk_a8 *x, const tile *t, int i) {
    return (const tk_a8 *)((const uint8_t *)x + (size_t)i * t->x_step);
}

/* Line `line` of block b as bytes; the high nibbles of a folded line in *high */
INLINE vi line_bytes(const int type, const uint8_t *panel, const uint8_t *q, const int line, size_t b,
                     vi *high) {
    const vi low4 = vi_set1(0x0f0f0f0f);
    vi raw = vi_load(q + line * 64);
    if (type == TK_P_Q4_0 || type == TK_P_Q4_1) {
        *high = vi_and(vi_srl(raw, 4), low4);
        return vi_and(raw, low4);
    }
    if (type == TK_P_Q4_K) return vi_and(vi_srl(raw, (int)(b % 2) * 4), low4);
    if (type != TK_P_Q6_K) return raw;
    const uint8_t *top = panel + b / 8 * 3392 + 2048 + b % 8 / 4 * 512 + line * 64;
    vi pair = vi_and(vi_srl(vi_load(top), (int)(b % 4) * 2), vi_set1(0x03030303));
    return vi_or(vi_and(vi_srl(raw, (int)(b % 4) / 2 * 4), low4), vi_sll32(pair, 4));
}

/* Adds line `line` of each panel times the tokens' dwords: dword j, and of folded nibbles j + 4 */
INLINE void dot_line(const int type, const int mr, const int np, vi sum[][2], const tk_a8 *const x,
                     const tile *t, const uint8_t *const q[2], const int line, size_t b) {
    vi w[2], high[2];
    const bool fold = type == TK_P_Q4_0 || type == TK_P_Q4_1;
    UNROLL for (int p = 0; p < np; p++) {
        w[p] = line_bytes(type, t->w[p], q[p], line, b, &high[p]);
        __builtin_prefetch(q[p] + line * 64 + AHEAD);
    }
    UNROLL for (int i = 0; i < mr; i++) {
        const int8_t *a = token(x, t, i)->q;
        UNROLL for (int p = 0; p < np; p++) {
            if (type == TK_P_Q8_0)
                sum[i][p] = dot_u8(sum[i][p], w[p], a + line * 4);
            else
                sum[i][p] = dot_u4(sum[i][p], w[p], a + line * 4);
        }
        if (fold)
            UNROLL for (int p = 0; p < np; p++) sum[i][p] = dot_u4(sum[i][p], high[p], a + 16 + line * 4);
    }
}

INLINE vi start(const int type, const tk_a8 *x, int half) {
    switch (type) {
    case TK_P_Q8_0: return DOT_U8_START(x);
    case TK_P_Q4_0: return vi_set1(x->c8);
    case EXPANDED_HALVES:
    case TK_P_Q6_K: return vi_set1(x->c32[half]);
    default: return vi_zero();
    }
}

INLINE void tile_integer(const int type, const int mr, const int np, const tile *t) {
    const bool fold = type == TK_P_Q4_0 || type == TK_P_Q4_1, expanded = type > TK_DTYPES;
    const bool affine = type == TK_P_Q4_1 || type == TK_P_Q4_K || type == EXPANDED;
    const int halves = type == TK_P_Q6_K || type == EXPANDED_HALVES ? 2 : 1,
              lines = fold || halves == 2 ? 4 : 8;
    const int chains =
        mr * np <= 2 ? 2 : 1; /* few results: more sums, so that one need not wait for the last */
    vf sum[16][2];
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int p = 0; p < np; p++) sum[i][p] = begin(t, i, p);
    for (size_t block = (size_t)t->from; block < (size_t)t->to; block++) {
        const size_t b = expanded ? block - (size_t)t->from : block;
        const tk_a8 *x = (const tk_a8 *)t->x + block;
        const uint8_t *q[2];
        UNROLL for (int p = 0; p < np; p++) q[p] = block_lines(type, t->w[p], b);
        UNROLL for (int half = 0; half < halves; half++) {
            vi s[2][16][2];
            UNROLL for (int i = 0; i < mr; i++) UNROLL for (int p = 0; p < np; p++) {
                s[0][i][p] = start(type, token(x, t, i), half);
                s[1][i][p] = vi_zero();
            }
            UNROLL for (int j = 0; j < lines; j++)
                dot_line(type, mr, np, s[j % chains], x, t, q, half * 4 + j, b);
            vf scale[2], low[2];
            UNROLL for (int p = 0; p < np; p++) block_scales(type, t->w[p], b, half, &scale[p], &low[p]);
            UNROLL for (int i = 0; i < mr; i++) {
                vf d = vf_set1(token(x, t, i)->d), xs = vf_set1(token(x, t, i)->s);
                UNROLL for (int p = 0; p < np; p++) {
                    vi dots = chains == 2 ? vi_add(s[0][i][p], s[1][i][p]) : s[0][i][p];
                    sum[i][p] = vf_fma(vf_int(dots), vf_mul(scale[p], d), sum[i][p]);
                    if (affine) sum[i][p] = vf_fma(low[p], xs, sum[i][p]);
                }
            }
        }
    }
    UNROLL for (int i = 0; i < mr; i++) UNROLL for (int p = 0; p < np; p++) finish(t, i, p, sum[i][p]);
}

/* Blocks t->from .. t->to of panel p, expanded into `to` */
INLINE void expand(const int type, const tile *t, int p, uint8_t *to) {
    for (size_t b = (size_t)t->from; b < (size_t)t->to; b++, to += EXPANDED_BLOCK) {
        const uint8_t *q = block_lines(type, t->w[p], b);
        vf scale, low;
        UNROLL for (int line = 0; line < 8; line++)
            vi_store(to + line * 64, line_bytes(type, t->w[p], q, line, b, NULL));
        block_scales(type, t->w[p], b, 0, &scale, &low);
        if (type == TK_P_Q6_K) {
            vf unused;
            block_scales(type, t->w[p], b, 1, &low, &unused);
        }
        vf_store(to + 512, scale), vf_store(to + 576, low);
    }
}

/* ---- all tiles of a format, and the walk over a matrix ---- */

/* Tiles by tokens, all of `panels` panels; a size without a tile is made of smaller ones */
enum { MOST = 12 };
typedef struct tiles {
    tile_fn *of[MOST + 1];
    int most, panels;
} tiles;
/* How a format is multiplied. Few tokens: one panel, which reads the weights as a single stream. Many: a
 * chunk of k at a time, with as many tokens between two passes over the weights as `HOLD` bytes of x. */
typedef struct scheme {
    tiles few, many;
    int unit, chunk;                                   /* k of one step of from .. to; steps of a chunk */
    void (*expand)(const tile *t, int p, uint8_t *to); /* for the tiles of many, or NULL */
} scheme;
enum { HOLD = 384 << 10 };

/* Even parts: 8 of at most 6 are 4 + 4 */
static int64_t tile_tokens(const tiles *s, int64_t left) {
    int64_t size = tk_ceil_div(left, tk_ceil_div(left, s->most));
    while (!s->of[size]) size--;
    return size;
}

/* Tokens t0 .. t1 with the panels of t, whose first row is `row` */
static void multiply_panels(const tk_args *a, const tiles *s, tile *t, int64_t row, int64_t t0, int64_t t1) {
    for (int64_t i = t0, size; i < t1; i += size) {
        size = tile_tokens(s, t1 - i);
        t->x = (const uint8_t *)a->p[0] + (size_t)i * t->x_step;
        t->y = (float *)a->p[2] + i * t->y_step + row;
        s->of[size](t);
    }
}

static void multiply(const tk_args *a, const scheme *s) {
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'),
                  steps = tk_ceil_div(k, s->unit);
    const bool few = tokens <= s->few.most;
    const tiles *set = few ? &s->few : &s->many;
    const size_t panel = tk__panel_bytes(a->type[1], k), step_bytes = a->type[0] == TK_A8 ? sizeof(tk_a8) : 4;
    /* even chunks, of an even number of steps: bfloat16 comes in pairs */
    const int64_t parts = tk_ceil_div(steps, s->chunk),
                  chunk = few ? steps : tk_ceil_div(steps, 2 * parts) * 2;
    const int64_t hold = few ? tokens : TK_MAX((int64_t)(HOLD / step_bytes) / chunk, 2 * MOST);
    const int rows = TK_PANEL * set->panels;
    _Alignas(64) uint8_t room[2][EXPANDED_CHUNK * EXPANDED_BLOCK];
    int64_t first, last;
    tk_split(n, rows, a->ith, a->nth, &first, &last);
    tile t = { .x_step = (size_t)steps * step_bytes, .y_step = n };
    for (t.from = 0; t.from < steps; t.from = t.to) {
        t.to = TK_MIN(t.from + chunk, steps);
        for (int64_t t0 = 0; t0 < tokens; t0 += hold)
            for (int64_t row = first; row < last; row += rows) {
                for (int p = 0; p < set->panels; p++) {
                    t.live[p] = (int)TK_MAX(TK_MIN(n - row - p * TK_PANEL, (int64_t)TK_PANEL), (int64_t)0);
                    t.w[p] =
                        t.live[p] ? (const uint8_t *)a->p[1] + (size_t)(row / TK_PANEL + p) * panel : t.w[0];
                    if (s->expand && !few) s->expand(&t, p, room[p]);
                }
                if (s->expand && !few)
                    for (int p = 0; p < set->panels; p++) t.w[p] = room[p];
                multiply_panels(a, set, &t, row, t0, TK_MIN(t0 + hold, tokens));
            }
    }
}
