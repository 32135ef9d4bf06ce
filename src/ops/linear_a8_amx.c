/* SPDX-License-Identifier: Apache-2.0 */
/* linear on AMX for quantized weights: the products of linear_avx512.c, in the same bits, by tiles of
 * integers.
 *
 * Up to FEW tokens linear_avx512.c's own kernel runs: it reads packed weights at the speed of memory. More
 * tokens: a tile product gives the integer sums of 16 tokens by 16 rows of weights over one scale's run of k
 * (32, or 16). Integers are exact, so what makes the bits is only how sums become numbers: here as there, one
 * fused step of sum times both scales, then one for each minimum, in the same order of blocks
 * (linear_tmpl.h). A tile's row holds a token's sums with 16 rows of weights, a vector as that file has it.
 *
 * The tile unit could do four times the products that are done: its sums can only be reached through memory,
 * and each must be converted and scaled by vectors. For one tile of 32 k: 48 vector steps on two ports, of
 * which the product itself holds one for 16 cycles: 32 cycles, 512 operations a cycle. So the walk below
 * serves these steps: numbers of 16 tokens by 16 rows stay in 16 registers over a chunk of k; two products
 * are on their way while the sums before them are scaled; weights are expanded to bytes and scales to float32
 * once for all tokens; these stay in the first-level cache while tokens stream by from the second, in a dense
 * copy made for it. */
#include "ops/linear_avx512.h"

#include "base/packed.h"
#include "ops/amx.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "ops/linear_types.h"

/* FEW: tokens up to which vectors are faster; TOKENS: of one walk over the weights; CHUNK: blocks of k
 * between two turns of the tokens; BAND: panels whose numbers wait for the next chunk */
enum { FEW = 40, GROUP = 16, TOKENS = 512, CHUNK = 32, BAND = 32 };

/* ---- weights ---- */

/* A run of k that has one scale: `lines` of four k a row, scales, minima. Bytes are signed. */
enum { MOST_UNIT = (8 + 3) * TK_LINE };
INLINE size_t unit_bytes(const layout l) { return (size_t)(8 / l.halves + 1 + l.mins) * TK_LINE; }

/* What is taken off the bytes of line_runs */
INLINE int zero_of(const int type) {
    switch (type) {
    case TK_P_Q4_0: return 8;
    case TK_P_Q5_0: return 16;
    case TK_P_Q6_K: return 32;
    default: return layout_of(type).wide ? 128 : 0;
    }
}

/* Blocks from .. end of a panel, in the order in which their products are added */
INLINE void expand(const int type, const uint8_t *panel, int64_t from, int64_t end, uint8_t *to) {
    const layout l = layout_of(type);
    const bool folded = l.runs > l.blocks;
    const size_t unit = unit_bytes(l), lines = 8 / (size_t)l.halves;
    const vi zero = _mm512_set1_epi8((char)zero_of(type));
    for (size_t b = (size_t)from; b < (size_t)end; b += (size_t)l.blocks)
        UNROLL for (int half = 0; half < l.halves; half++, to += (size_t)l.blocks * unit) {
            UNROLL for (int j = 0; j < l.lines; j++) {
                vi w[4];
                line_runs(type, w, panel, b, half * l.lines + j, 0);
                UNROLL for (int z = 0; z < l.runs; z++) {
                    uint8_t *line =
                        folded ? to + (j + z * l.lines) * TK_LINE : to + (size_t)z * unit + j * TK_LINE;
                    vi_store(line, _mm512_sub_epi8(w[z], zero));
                }
            }
            UNROLL for (int z = 0; z < l.blocks; z++) {
                uint8_t *numbers = to + (size_t)z * unit + lines * TK_LINE;
                vf scale, low;
                block_scales(type, panel, b + (size_t)z, half, &scale, &low);
                vf_store(numbers, scale);
                if (l.mins) vf_store(numbers + TK_LINE, low);
                if (l.mins < 2) continue;
                block_scales(type, panel, b + (size_t)z, 1, &scale, &low);
                vf_store(numbers + 2 * TK_LINE, low);
            }
        }
}

/* ---- tokens ---- */

/* A block of a group: q [16][32], then float32 d[16] and, for minima, what they multiply: s, or half of each
 */
INLINE size_t block_bytes(const int mins) { return 512 + (size_t)(1 + mins) * TK_LINE; }

/* Tokens t0 .. t1 to groups [chunk][group][block]; tokens after the last are zeros */
INLINE void lay_tokens(const tk_args *a, const int mins, int64_t t0, int64_t t1, uint8_t *to) {
    const int64_t tokens = TK_DIM(a, 't'), k = TK_DIM(a, 'k'), blocks = k / TK_K32;
    const int64_t groups = tk_ceil_div(t1 - t0, GROUP);
    const size_t size = block_bytes(mins);
    if (t1 % GROUP) /* the last group's */
        for (int64_t from = 0, count; from < blocks; from += count) {
            count = TK_MIN(blocks - from, (int64_t)CHUNK);
            memset(to + (size_t)(from * groups + (groups - 1) * count) * size, 0, (size_t)count * size);
        }
    for (int64_t t = t0, m; t < t1; t += m) {
        const tk_a8 *x = tk__a8_row(a->p[0], tokens, k, t, &m);
        const int64_t group = (t - t0) / GROUP, first = (t - t0) % GROUP;
        for (int64_t from = 0, count; from < blocks; from += count) {
            count = TK_MIN(blocks - from, (int64_t)CHUNK);
            uint8_t *block = to + (size_t)(from * groups + group * count) * size;
            for (int64_t b = 0; b < count; b++, block += size, x += m) {
                float *d = (float *)(void *)(block + 512) + first;
                for (int64_t i = 0; i < m; i++) {
                    memcpy(block + (first + i) * 32, x[i].q, 32);
                    d[i] = x[i].d;
                    if (mins) d[16 + i] = mins == 1 ? x[i].s : x[i].half[0];
                    if (mins == 2) d[32 + i] = x[i].half[1];
                }
            }
        }
    }
}

/* ---- products ---- */

/* 16 tokens with a chunk of a panel */
typedef struct tile {
    const uint8_t *x, *w;
    int64_t units;
    const float *before; /* numbers so far, [16][16], or NULL */
    float *y;            /* where they go */
    int64_t y_step;
    int tokens, live; /* of which exist */
} tile;
typedef void tile_fn(const tile *t);

/* Where unit u's block of tokens is, and its part of the 32 */
INLINE const uint8_t *unit_block(const int lines, const int mins, const uint8_t *x, int64_t u) {
    return x + (size_t)(lines == 8 ? u : u / 8 * 4 + u % 4) * block_bytes(mins);
}

/* The product of unit u into tile c */
#define PRODUCT(c, u)                                                                                        \
    do {                                                                                                     \
        const uint8_t *at = unit_block(lines, mins, t->x, u) + (lines == 8 ? 0 : (u) / 4 % 2 * 16);          \
        amx_load(4 + (c) % 2, at, 32);                                                                       \
        amx_load(6 + (c) % 2, t->w + (size_t)(u)*unit, 64);                                                  \
        amx_zero(c);                                                                                         \
        amx_dp8(c, 4 + (c) % 2, 6 + (c) % 2);                                                                \
    } while (0)

INLINE void add_unit(const int lines, const int mins, const tile *t, vf acc[16], const int32_t *sums,
                     int64_t u) {
    const uint8_t *numbers = t->w + (size_t)u * (size_t)(lines + 1 + mins) * TK_LINE + lines * TK_LINE;
    const float *d = (const float *)(const void *)(unit_block(lines, mins, t->x, u) + 512);
    const vf scale = vf_load(numbers), low = mins ? vf_load(numbers + TK_LINE) : scale,
             low2 = mins == 2 ? vf_load(numbers + 2 * TK_LINE) : scale;
    UNROLL for (int i = 0; i < 16; i++) {
        acc[i] = vf_fma(vf_int(vi_load(sums + i * 16)), vf_mul(scale, vf_set1(d[i])), acc[i]);
        if (mins) acc[i] = vf_fma(low, vf_set1(d[16 + i]), acc[i]);
        if (mins == 2) acc[i] = vf_fma(low2, vf_set1(d[32 + i]), acc[i]);
    }
}

INLINE void multiply_tile(const int lines, const int mins, const tile *t) {
    _Alignas(64) int32_t sums[256];
    const size_t unit = (size_t)(lines + 1 + mins) * TK_LINE;
    const int64_t n = t->units;
    vf acc[16];
    UNROLL for (int i = 0; i < 16; i++) acc[i] = t->before ? vf_load(t->before + i * 16) : vf_zero();
    PRODUCT(0, 0);
    if (n > 1) PRODUCT(1, 1);
#define STEP(j)                                                                                              \
    if (u + j >= n) break;                                                                                   \
    if (u + j + 2 < n) PRODUCT((j + 2) % 4, u + j + 2);                                                      \
    amx_store(j, sums, 64);                                                                                  \
    add_unit(lines, mins, t, acc, sums, u + j)
    for (int64_t u = 0;; u += 4) {
        STEP(0);
        STEP(1);
        STEP(2);
        STEP(3);
    }
#undef STEP
    if (t->tokens == 16 && t->live == 16) {
        UNROLL for (int i = 0; i < 16; i++) vf_store(t->y + i * t->y_step, acc[i]);
        return;
    }
    UNROLL for (int i = 0; i < 16; i++) if (i < t->tokens) vf_store_n(t->y + i * t->y_step, acc[i], t->live);
}

/* ---- the walk ---- */

typedef struct scheme {
    tile_fn *tile;
    void (*expand)(const uint8_t *panel, int64_t from, int64_t end, uint8_t *to);
    void (*lay)(const tk_args *a, int64_t t0, int64_t t1, uint8_t *to);
    int lines, mins;
} scheme;

/* Bytes of a thread: the tokens' copy (of any format), the band's numbers */
static size_t copy_bytes(int64_t tokens, int64_t k) {
    return (size_t)(tk_ceil_div(TK_MIN(tokens, (int64_t)TOKENS), GROUP) * (k / TK_K32)) * block_bytes(2);
}
static size_t thread_bytes(int64_t tokens, int64_t k) {
    const int64_t groups = tk_ceil_div(TK_MIN(tokens, (int64_t)TOKENS), GROUP);
    return copy_bytes(tokens, k) + (k / TK_K32 > CHUNK ? (size_t)(groups * BAND) * 1024 : 0);
}
size_t linear_a8_amx_scratch(const tk_dim dim[26], int nth) {
    const int64_t t = dim['t' - 'a'].n;
    return t <= FEW ? 0 : (size_t)nth * thread_bytes(t, dim['k' - 'a'].n);
}

/* The lines that the next group writes: rows of y are far apart, and a store that misses waits */
INLINE void fetch_out(const float *y, int64_t step, int64_t tokens) {
    for (int64_t i = 0; i < tokens; i++) __builtin_prefetch(y + i * step, 1);
}

/* One chunk of k of the panel in hand */
typedef struct walk {
    const tk_args *a;
    const scheme *s;
    const uint8_t *copy; /* the chunk of all tokens in hand */
    int64_t t0, tokens;  /* these */
    int64_t from, end;   /* the chunk's blocks */
    const uint8_t *next; /* weights to fetch meanwhile */
    int64_t fetch;       /* lines of them with each group */
} walk;

/* The chunk of the panel at `row`, expanded in `room`; wait: its numbers between chunks, [group][16][16] */
static void multiply_panel(const walk *w, const uint8_t *room, int64_t row, float *wait) {
    const int64_t n = TK_DIM(w->a, 'n'), count = w->end - w->from;
    const bool done = w->end == TK_DIM(w->a, 'k') / TK_K32;
    const size_t group = (size_t)count * block_bytes(w->s->mins);
    const uint8_t *next = w->next;
    tile t = { .x = w->copy, .w = room, .units = count * 8 / w->s->lines, .y_step = done ? n : TK_PANEL };
    t.live = done ? (int)TK_MIN(n - row, (int64_t)TK_PANEL) : TK_PANEL;
    for (int64_t left = w->tokens; left > 0; left -= GROUP, t.x += group, wait += 256) {
        float *y = (float *)w->a->p[2] + (w->t0 + w->tokens - left) * n + row;
        for (int64_t i = 0; i < w->fetch; i++, next += TK_LINE) _mm_prefetch((const char *)next, _MM_HINT_T1);
        if (done && left > GROUP) fetch_out(y + GROUP * n, n, TK_MIN(left - GROUP, (int64_t)GROUP));
        t.before = w->from ? wait : NULL, t.y = done ? y : wait;
        t.tokens = done ? (int)TK_MIN(left, (int64_t)GROUP) : GROUP;
        w->s->tile(&t);
    }
}

/* Rows first .. last, at most BAND panels, with the tokens in hand, all chunks of which lie in `copy` */
static void multiply_rows(walk *w, int64_t first, int64_t last, const uint8_t *copy) {
    const tk_args *a = w->a;
    const int64_t k = TK_DIM(a, 'k'), blocks = k / TK_K32, groups = tk_ceil_div(w->tokens, GROUP);
    const size_t panel = tk__panel_bytes(a->type[1], k);
    float *wait = (float *)(void *)(uintptr_t)(copy + copy_bytes(TK_DIM(a, 't'), k));
    _Alignas(64) uint8_t room[CHUNK * MOST_UNIT];
    for (w->from = 0; w->from < blocks; w->from = w->end) {
        w->end = TK_MIN(w->from + CHUNK, blocks);
        w->copy = copy + (size_t)(w->from * groups) * block_bytes(w->s->mins);
        w->fetch =
            tk_ceil_div((int64_t)tk__panel_bytes(a->type[1], (w->end - w->from) * TK_K32), TK_LINE * groups);
        for (int64_t row = first; row < last; row += TK_PANEL) {
            const uint8_t *at = (const uint8_t *)a->p[1] + (size_t)(row / TK_PANEL) * panel;
            w->s->expand(at, w->from, w->end, room);
            w->next = at + panel + tk__panel_bytes(a->type[1], w->from * TK_K32);
            multiply_panel(w, room, row, wait + (row - first) / TK_PANEL * groups * 256);
        }
    }
}

/* Threads take panels as they get on */
static void multiply(const tk_args *a, const scheme *s) {
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    /* pieces are large where the tokens' copy does not stay in the second-level cache from one to the next */
    const int64_t grain = k / TK_K32 > CHUNK ? 8 : 1;
    uint8_t *copy = (uint8_t *)a->scratch + (size_t)a->ith * thread_bytes(tokens, k);
    walk w = { .a = a, .s = s };
    amx_config config = { 0 };
    for (int i = 0; i < 4; i++) amx_tile(&config, i, 16, 64);
    for (int i = 4; i < 6; i++)
        amx_tile(&config, i, 16, s->lines * 4), amx_tile(&config, i + 2, s->lines, 64);
    amx_configure(&config);
    for (; w.t0 < tokens; w.t0 += w.tokens) {
        w.tokens = TK_MIN(tokens - w.t0, (int64_t)TOKENS);
        s->lay(a, w.t0, w.t0 + w.tokens, copy);
        tk_share share = tk_share_begin(a->pool, tk_ceil_div(n, TK_PANEL), grain, a->ith, a->nth);
        for (int64_t from, to; tk_share_next(&share, &from, &to);)
            for (int64_t band = from; band < to; band += BAND)
                multiply_rows(&w, band * TK_PANEL, TK_MIN(TK_MIN(band + BAND, to) * TK_PANEL, n), copy);
    }
    amx_release();
}

/* ---- all formats ---- */

#define TILE(lines, mins)                                                                                    \
    static void tile_##lines##_##mins(const tile *t) { multiply_tile(lines, mins, t); }
#define LAY(mins)                                                                                            \
    static void lay_##mins(const tk_args *a, int64_t t0, int64_t t1, uint8_t *to) {                          \
        lay_tokens(a, mins, t0, t1, to);                                                                     \
    }
TILE(8, 0)
TILE(8, 1)
TILE(8, 2)
TILE(4, 0) LAY(0) LAY(1) LAY(2)

#define KERNEL(name, type, lines_, mins_)                                                                    \
    void linear_##name##_avx512(const tk_args *a);                                                           \
    static void expand_##name(const uint8_t *panel, int64_t from, int64_t end, uint8_t *to) {                \
        expand(type, panel, from, end, to);                                                                  \
    }                                                                                                        \
    void linear_##name##_amx(const tk_args *a) {                                                             \
        static const scheme s = { tile_##lines_##_##mins_, expand_##name, lay_##mins_, lines_, mins_ };      \
        if (TK_DIM(a, 't') <= FEW)                                                                           \
            linear_##name##_avx512(a);                                                                       \
        else                                                                                                 \
            multiply(a, &s);                                                                                 \
    }
    KERNEL(q8_0, TK_P_Q8_0, 8, 0) KERNEL(q4_0, TK_P_Q4_0, 8, 0) KERNEL(q4_1, TK_P_Q4_1, 8, 1)
        KERNEL(q4_z, TK_P_Q4_Z, 8, 1) KERNEL(q4_k, TK_P_Q4_K, 8, 1) KERNEL(q6_k, TK_P_Q6_K, 4, 0)
            KERNEL(q5_0, TK_P_Q5_0, 8, 0) KERNEL(q5_1, TK_P_Q5_1, 8, 1) KERNEL(iq4_nl, TK_P_IQ4_NL, 8, 0)
                KERNEL(mxfp4, TK_P_MXFP4, 8, 0) KERNEL(iq4_xs, TK_P_IQ4_XS, 8, 0)
                    KERNEL(q2_k, TK_P_Q2_K, 8, 2) KERNEL(q3_k, TK_P_Q3_K, 8, 0) KERNEL(q5_k, TK_P_Q5_K, 8, 1)
