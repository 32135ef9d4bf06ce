/* SPDX-License-Identifier: Apache-2.0 */
/* linear for a vector instruction set: a file linear_TIER.c defines the vectors below, includes this, and
 * gets the products of all packed formats (base/packed.h).
 *
 * A tile is one panel of 16 rows times `mr` tokens whose sums stay in registers. It walks a run of k in
 * order: float formats add w x by one fused chain a result; integer formats sum 32 products exactly, then add
 * the block's sum times both scales by one fused step (and its minimum by another). So the roundings of a
 * result are the same in every tile, chunk and thread count: a token's row is bitwise the same alone and in
 * any batch. Sums cross from one chunk of k to the next through y, which loses nothing.
 *
 * One panel, not two: the weights then are one stream, which memory and prefetchers like best, and the tile
 * does not run faster with two (the sums' units are the limit, not the loads).
 *
 * Wanted: vf, vi      16 float32, 16 dwords
 *         vf_zero vf_set1 vf_load vf_load_n vf_store vf_store_n vf_fma vf_mul vf_neg vf_f16 vf_u8 vf_s8
 * vf_int vi_zero vi_set1 vi_load vi_store vi_add vi_and vi_or vi_srl vi_sll32 vi_as_vf dot_u8 dot_u4   sums
 * += products of four bytes: weights (any byte; at most 63) times activations DOT_U8_START    where a sum of
 * dot_u8 starts: at c128, or at zero if dot_u8 itself takes off the 128 */
#include "base/packed.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* One tile's work: k (float formats) or blocks of 32 (integers) from .. to, of panel w and tokens x */
typedef struct tile {
    const uint8_t *w, *x;
    size_t x_step; /* float formats: bytes from token to token; integers: blocks from step to step */
    int64_t from, to;
    float *y;
    int64_t y_step;
    int live;     /* rows of the panel that exist */
    size_t ahead; /* bytes from a load of w to what to fetch meanwhile */
} tile;
typedef void tile_fn(const tile *t);

INLINE vf begin(const tile *t, int i) {
    return t->from > 0 ? vf_load_n(t->y + i * t->y_step, t->live) : vf_zero();
}
/* The epilogue: what becomes of a finished (or, between chunks, partial) sum */
INLINE void finish(const tile *t, int i, vf sum) { vf_store_n(t->y + i * t->y_step, sum, t->live); }

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

INLINE void step_float(const int type, const int mr, vf sum[], const tile *t, int64_t k, const int odd) {
    vf w = weight(type, t->w, k, odd);
    if (!odd) __builtin_prefetch(t->w + k * (type == TK_P_F32 ? 64 : 32) + t->ahead);
    UNROLL for (int i = 0; i < mr; i++) {
        float x;
        memcpy(&x, t->x + (size_t)i * t->x_step + (size_t)(k + odd) * 4, 4);
        sum[i] = vf_fma(w, vf_set1(x), sum[i]);
    }
}

INLINE void tile_float(const int type, const int mr, const tile *t) {
    vf sum[16];
    UNROLL for (int i = 0; i < mr; i++) sum[i] = begin(t, i);
    int64_t k = t->from;
    if (type == TK_P_BF16) {
        for (; k + 1 < t->to; k += 2) {
            step_float(type, mr, sum, t, k, 0);
            step_float(type, mr, sum, t, k, 1);
        }
        if (k < t->to) step_float(type, mr, sum, t, k, 0);
    } else {
        for (; k < t->to; k++) step_float(type, mr, sum, t, k, 0);
    }
    UNROLL for (int i = 0; i < mr; i++) finish(t, i, sum[i]);
}

/* ---- integer formats ---- */

/* K-quants for several tokens: a chunk of their panels is expanded once, to lines of bytes with float32
 * scales, and multiplied from there. Block: lines [8], float32 scale[16], then float32 low[16] or the second
 * half's scale. The numbers, and so the results, are those that the packed form gives. */
enum { EXPANDED = TK_DTYPES + 1, EXPANDED_HALVES, EXPANDED_BLOCK = 640, EXPANDED_CHUNK = 16 };

INLINE const uint8_t *block_lines(const int type, const uint8_t *panel, size_t b) {
    switch (type) {
    case TK_P_Q8_0: return panel + b / 2 * 1088 + b % 2 * 512;
    case TK_P_Q4_0: return panel + b / 2 * 576 + b % 2 * 256;
    case TK_P_Q4_1: return panel + b * 320;
    case TK_P_Q4_K: return panel + b / 8 * 2368 + b % 8 / 2 * 512;
    case EXPANDED:
    case EXPANDED_HALVES: return panel + b * EXPANDED_BLOCK;
    default: return panel + b / 8 * 3392 + b % 8 / 4 * 1536;
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

/* Line `line` of block b as bytes; the high nibbles of a folded line in *high */
INLINE vi line_bytes(const int type, const uint8_t *q, const int line, size_t b, vi *high) {
    const vi low4 = vi_set1(0x0f0f0f0f);
    vi raw = vi_load(q + line * 64);
    if (type == TK_P_Q4_0 || type == TK_P_Q4_1) {
        *high = vi_and(vi_srl(raw, 4), low4);
        return vi_and(raw, low4);
    }
    if (type == TK_P_Q4_K) return vi_and(vi_srl(raw, (int)(b % 2) * 4), low4);
    return raw;
}

/* Adds line `line` of the panel times the tokens' dwords: dword j, and of folded nibbles j + 4 */
INLINE void dot_line(const int type, const int mr, vi sum[], const tk_a8 *x, const uint8_t *q, const int line,
                     size_t b, size_t ahead) {
    const bool fold = type == TK_P_Q4_0 || type == TK_P_Q4_1;
    vi high, w = line_bytes(type, q, line, b, &high);
    __builtin_prefetch(q + line * 64 + ahead);
    UNROLL for (int i = 0; i < mr; i++) {
        const int8_t *a = x[i].q + line * 4;
        sum[i] = type == TK_P_Q8_0 ? dot_u8(sum[i], w, a) : dot_u4(sum[i], w, a);
        if (fold) sum[i] = dot_u4(sum[i], high, a + 16);
    }
}

INLINE vi start(const int type, const tk_a8 *x, int half) {
    switch (type) {
    case TK_P_Q8_0: return DOT_U8_START(x);
    case TK_P_Q4_0: return vi_set1(x->c8);
    case EXPANDED_HALVES: return vi_set1(x->c32[half]);
    default: return vi_zero();
    }
}

INLINE void tile_integer(const int type, const int mr, const tile *t) {
    const bool fold = type == TK_P_Q4_0 || type == TK_P_Q4_1, expanded = type > TK_DTYPES;
    const bool affine = type == TK_P_Q4_1 || type == TK_P_Q4_K || type == EXPANDED;
    const int halves = type == EXPANDED_HALVES ? 2 : 1, lines = fold || halves == 2 ? 4 : 8;
    const int chains = mr <= 2 ? 2 : 1; /* few results: more sums, so that one need not wait for the last */
    vf sum[16];
    UNROLL for (int i = 0; i < mr; i++) sum[i] = begin(t, i);
    for (size_t block = (size_t)t->from; block < (size_t)t->to; block++) {
        const size_t b = expanded ? block - (size_t)t->from : block;
        const tk_a8 *x = (const tk_a8 *)t->x + block * t->x_step;
        const uint8_t *q = block_lines(type, t->w, b);
        UNROLL for (int half = 0; half < halves; half++) {
            vi s[2][16];
            UNROLL for (int i = 0; i < mr; i++) s[0][i] = start(type, x + i, half), s[1][i] = vi_zero();
            UNROLL for (int j = 0; j < lines; j++)
                dot_line(type, mr, s[j % chains], x, q, half * 4 + j, b, t->ahead);
            vf scale, low;
            block_scales(type, t->w, b, half, &scale, &low);
            UNROLL for (int i = 0; i < mr; i++) {
                vi dots = chains == 2 ? vi_add(s[0][i], s[1][i]) : s[0][i];
                sum[i] = vf_fma(vf_int(dots), vf_mul(scale, vf_set1(x[i].d)), sum[i]);
                if (affine) sum[i] = vf_fma(low, vf_set1(x[i].s), sum[i]);
            }
        }
    }
    UNROLL for (int i = 0; i < mr; i++) finish(t, i, sum[i]);
}

/* Triple j of a Q6_K half: the bytes of line j of its four runs */
INLINE void q6_k_runs(vi w[4], const uint8_t *q, const int j, size_t ahead) {
    const vi low4 = vi_set1(0x0f0f0f0f), pair = vi_set1(0x30303030);
    const vi top = vi_load(q + j * 192), even = vi_load(q + j * 192 + 64), odd = vi_load(q + j * 192 + 128);
    UNROLL for (int line = 0; line < 3; line++) __builtin_prefetch(q + j * 192 + line * 64 + ahead);
    w[0] = vi_or(vi_and(even, low4), vi_and(vi_sll32(top, 4), pair));
    w[1] = vi_or(vi_and(odd, low4), vi_and(vi_sll32(top, 2), pair));
    w[2] = vi_or(vi_and(vi_srl(even, 4), low4), vi_and(top, pair));
    w[3] = vi_or(vi_and(vi_srl(odd, 4), low4), vi_and(vi_srl(top, 2), pair));
}

/* Q6_K for one token: four runs together, so that each line is read once and in order */
INLINE void tile_q6_k_one(const tile *t) {
    vf sum = begin(t, 0);
    for (size_t b = (size_t)t->from; b < (size_t)t->to; b += 4) {
        const tk_a8 *x = (const tk_a8 *)t->x + b * t->x_step;
        const uint8_t *q = block_lines(TK_P_Q6_K, t->w, b);
        vi s[4][2], w[4];
        UNROLL for (int z = 0; z < 4; z++) UNROLL for (int half = 0; half < 2; half++) s[z][half] =
            vi_set1(x[(size_t)z * t->x_step].c32[half]);
        UNROLL for (int j = 0; j < 8; j++) {
            q6_k_runs(w, q, j, t->ahead);
            UNROLL for (int z = 0; z < 4; z++) s[z][j / 4] =
                dot_u4(s[z][j / 4], w[z], x[(size_t)z * t->x_step].q + j * 4);
        }
        UNROLL for (int z = 0; z < 4; z++) UNROLL for (int half = 0; half < 2; half++) {
            vf scale, low;
            block_scales(TK_P_Q6_K, t->w, b + (size_t)z, half, &scale, &low);
            sum = vf_fma(vf_int(s[z][half]), vf_mul(scale, vf_set1(x[(size_t)z * t->x_step].d)), sum);
        }
    }
    finish(t, 0, sum);
}

/* Blocks t->from .. t->to of the panel, expanded into `to`; whole 256s */
INLINE void expand_q4_k(const tile *t, uint8_t *to) {
    const vi low4 = vi_set1(0x0f0f0f0f);
    for (size_t b = (size_t)t->from; b < (size_t)t->to; b += 2, to += 2 * EXPANDED_BLOCK) {
        const uint8_t *q = block_lines(TK_P_Q4_K, t->w, b);
        UNROLL for (int j = 0; j < 8; j++) {
            const vi raw = vi_load(q + j * 64);
            __builtin_prefetch(q + j * 64 + t->ahead);
            vi_store(to + j * 64, vi_and(raw, low4));
            vi_store(to + EXPANDED_BLOCK + j * 64, vi_and(vi_srl(raw, 4), low4));
        }
        UNROLL for (int z = 0; z < 2; z++) {
            vf scale, low;
            block_scales(TK_P_Q4_K, t->w, b + (size_t)z, 0, &scale, &low);
            vf_store(to + z * EXPANDED_BLOCK + 512, scale), vf_store(to + z * EXPANDED_BLOCK + 576, low);
        }
    }
}
INLINE void expand_q6_k(const tile *t, uint8_t *to) {
    for (size_t b = (size_t)t->from; b < (size_t)t->to; b += 4, to += 4 * EXPANDED_BLOCK) {
        const uint8_t *q = block_lines(TK_P_Q6_K, t->w, b);
        UNROLL for (int j = 0; j < 8; j++) {
            vi w[4];
            q6_k_runs(w, q, j, t->ahead);
            UNROLL for (int z = 0; z < 4; z++) vi_store(to + z * EXPANDED_BLOCK + j * 64, w[z]);
        }
        UNROLL for (int z = 0; z < 4; z++) UNROLL for (int half = 0; half < 2; half++) {
            vf scale, low;
            block_scales(TK_P_Q6_K, t->w, b + (size_t)z, half, &scale, &low);
            vf_store(to + z * EXPANDED_BLOCK + 512 + half * 64, scale);
        }
    }
}

/* ---- all tiles of a format, and the walk over a matrix ---- */

/* How a format is multiplied: tiles by tokens (a size without one is made of smaller ones). Up to FEW tokens
 * a panel is read once, from end to end. More: a chunk of k at a time, with HOLD bytes of activations between
 * two passes over the weights, so that they stay in the second-level cache. */
enum { MOST = 12, FEW = 32, HOLD = 384 << 10 };
typedef struct scheme {
    tile_fn *tile[MOST + 1], *many[MOST + 1];   /* many: those that multiply what `expand` made */
    int most, unit, chunk;                      /* unit: k of one step of from .. to; chunk: steps */
    int direct;                                 /* most tokens without expand */
    void (*expand)(const tile *t, uint8_t *to); /* or NULL */
} scheme;

/* Even parts: 12 of at most 8 are 6 + 6 */
static int64_t tile_tokens(tile_fn *const *tiles, int most, int64_t left) {
    int64_t size = tk_ceil_div(left, tk_ceil_div(left, most));
    while (!tiles[size]) size--;
    return size;
}

/* Tokens t0 .. t1 (of integers: whole groups) with the panel of t, whose first row is `row` */
static void multiply_panel(const tk_args *a, const scheme *s, tile *t, int64_t row, int64_t t0, int64_t t1,
                           tile_fn *const *tiles) {
    const int64_t tokens = TK_DIM(a, 't'), k = TK_DIM(a, 'k');
    for (int64_t i = t0, size; i < t1; i += size) {
        if (a->type[0] == TK_A8) {
            int64_t step;
            t->x = (const uint8_t *)tk__a8_row(a->p[0], tokens, k, i, &step);
            t->x_step = (size_t)step;
            size = tile_tokens(tiles, s->most, TK_MIN(t1, i / TK_A8_GROUP * TK_A8_GROUP + step) - i);
        } else {
            t->x = (const uint8_t *)a->p[0] + (size_t)(i * k) * 4;
            t->x_step = (size_t)k * 4;
            size = tile_tokens(tiles, s->most, t1 - i);
        }
        t->y = (float *)a->p[2] + i * t->y_step + row;
        tiles[size](t);
    }
}

/* What is far ahead by the time that it is needed. When several tiles read a panel, the next panel; else
 * AMD's own prefetchers do better alone (Zen 4: 33 GB/s a core against 28), and some virtual Intel machines
 * have none. */
static size_t fetch_ahead(bool many_tiles, size_t panel) {
    if (many_tiles) return panel;
#if defined(__x86_64__)
    return __builtin_cpu_is("intel") ? 2048 : 0;
#else
    return 0;
#endif
}

static void multiply(const tk_args *a, const scheme *s) {
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'),
                  steps = tk_ceil_div(k, s->unit);
    const bool few = tokens <= FEW, expanded = s->expand && tokens > s->direct;
    const size_t panel = tk__panel_bytes(a->type[1], k), step_bytes = a->type[0] == TK_A8 ? sizeof(tk_a8) : 4;
    /* even chunks, of an even number of steps: bfloat16 comes in pairs */
    const int64_t parts = few && !expanded ? 1 : tk_ceil_div(steps, s->chunk);
    const int64_t chunk = tk_ceil_div(steps, 2 * parts) * 2;
    const int64_t hold = few ? FEW : TK_MAX((int64_t)(HOLD / step_bytes) / chunk / FEW, 1) * FEW;
    _Alignas(64) uint8_t room[EXPANDED_CHUNK * EXPANDED_BLOCK];
    int64_t first, last;
    tk_split(n, TK_PANEL, a->ith, a->nth, &first, &last);
    tile t = { .y_step = n, .ahead = fetch_ahead(tokens > s->most, panel) };
    const size_t expand_ahead = few ? panel / (size_t)steps * (size_t)chunk : panel;
    const int64_t band = few ? TK_PANEL : TK_MAX(last - first, 1); /* rows between two chunks */
    for (int64_t row0 = first; row0 < last; row0 += band)
        for (t.from = 0; t.from < steps; t.from = t.to) {
            t.to = TK_MIN(t.from + chunk, steps);
            for (int64_t t0 = 0; t0 < tokens; t0 += hold)
                for (int64_t row = row0; row < TK_MIN(row0 + band, last); row += TK_PANEL) {
                    t.live = (int)TK_MIN(n - row, (int64_t)TK_PANEL);
                    t.w = (const uint8_t *)a->p[1] + (size_t)(row / TK_PANEL) * panel;
                    if (expanded) t.ahead = expand_ahead, s->expand(&t, room), t.w = room, t.ahead = 0;
                    multiply_panel(a, s, &t, row, t0, TK_MIN(t0 + hold, tokens),
                                   expanded ? s->many : s->tile);
                }
        }
}
