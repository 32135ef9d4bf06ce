/* SPDX-License-Identifier: Apache-2.0 */
/* linear on AMX for quantized weights: the products of linear_avx512.c, in the same bits, by tiles of integers.
 *
 * Up to FEW tokens linear_avx512.c's own kernel runs: it reads packed weights at the speed of memory. More tokens:
 * a tile product gives the integer sums of 16 tokens by 16 rows of weights over one scale's run of k (32, or 16).
 * Integers are exact, so what makes the bits is only how sums become numbers: here as there, one fused step of sum
 * times both scales, then one for each minimum, in the same order of blocks (linear_tmpl.h). A tile's row holds a
 * token's sums with 16 rows of weights, a vector as that file has it.
 *
 * The tile unit could do four times the products that are done: its sums can only be reached through memory, and
 * each must be converted and scaled by vectors. For one tile of 32 k: 48 vector steps on two ports, of which the
 * product itself holds one for 16 cycles: 32 cycles, 512 operations a cycle. So the walk below serves these steps:
 * numbers of 16 tokens by 16 rows stay in 16 registers over a chunk of k; two products are on their way while the
 * sums before them are scaled; weights are expanded to bytes and scales to float32 once for all tokens; these stay
 * in the first-level cache while tokens stream by from the second, in a dense copy made for it. */
#include "ops/linear_avx512.h"

#include "base/packed.h"
#include "ops/amx.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "ops/linear_types.h"

/* FEW: tokens up to which vectors are faster; TOKENS: of one walk over the weights; CHUNK: blocks of k between two
 * turns of the tokens; BAND: panels whose numbers wait for the next chunk */
#ifndef V_CHUNK
#define V_CHUNK 32
#endif
#ifndef V_SD
#define V_SD 0
#define V_NB 1
#endif
#ifndef V_PANELS
#define V_PANELS 1
#endif
#ifndef V_BAND
#define V_BAND 32
#endif
enum { FEW = 8, GROUP = 16, TOKENS = 512, CHUNK = V_CHUNK, PANELS = V_PANELS, BAND = V_BAND, AHEAD = 4096 };

/* Four blocks are a page, whose first part stays empty. The sums of a product are the first part of a page too: a load
 * whose address ends as that of a store before it waits for it, though they lie in different pages, and a load of a
 * tile waits until the store is done. */
enum { PAGE_BLOCKS = 4, PAGE = 4096, PAGE_HOLE = 1024 };
INLINE size_t page_bytes(int64_t blocks) { return (size_t)tk_ceil_div(blocks, PAGE_BLOCKS) * PAGE; }

/* ---- weights ---- */

/* A run of k that has one scale: `lines` of four k a row, scales, minima. Bytes are signed. */
INLINE size_t unit_bytes(const int lines, const int mins) { return (size_t)(lines + 1 + mins) * TK_LINE; }

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
INLINE void expand(const int type, const uint8_t *panel, int64_t from, int64_t end, uint8_t *to, size_t ahead) {
    const layout l = layout_of(type);
    const bool folded = l.runs > l.blocks;
    const size_t lines = 8 / (size_t)l.halves, unit = unit_bytes((int)lines, l.mins);
    const vi zero = _mm512_set1_epi8((char)zero_of(type));
    for (size_t b = (size_t)from; b < (size_t)end; b += (size_t)l.blocks) {
        uint8_t *first = to + (b - (size_t)from) / PAGE_BLOCKS * PAGE;
        first += (b - (size_t)from) % PAGE_BLOCKS * (size_t)l.halves * unit;
        UNROLL for (int half = 0; half < l.halves; half++, first += (size_t)l.blocks * unit) {
            UNROLL for (int j = 0; j < l.lines; j++) {
                vi w[4];
                line_runs(type, w, panel, b, half * l.lines + j, ahead);
                UNROLL for (int z = 0; z < l.runs; z++) {
                    uint8_t *line = first + (folded ? (j + z * l.lines) * TK_LINE : z * (int)unit + j * TK_LINE);
                    vi_store(line, _mm512_sub_epi8(w[z], zero));
                }
            }
            UNROLL for (int z = 0; z < l.blocks; z++) {
                uint8_t *numbers = first + (size_t)z * unit + lines * TK_LINE;
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
}

/* ---- tokens ---- */

/* A block of a group: q [16][32], then float32 d[16] and, for minima, what they multiply: s, or half of each */
INLINE size_t block_bytes(const int mins) { return 512 + (size_t)(1 + mins) * TK_LINE; }

/* Tokens t0 .. t1 to groups [chunk][group][block]; tokens after the last are zeros */
INLINE void lay_tokens(const tk_args *a, const int mins, int64_t t0, int64_t t1, uint8_t *to) {
    const int64_t tokens = TK_DIM(a, 't'), k = TK_DIM(a, 'k'), blocks = k / TK_K32;
    const int64_t groups = tk_ceil_div(t1 - t0, GROUP);
    const size_t size = block_bytes(mins);
    if (t1 % GROUP) /* the last group's */
        for (int64_t from = 0, count; from < blocks; from += count) {
            count = TK_MIN(blocks - from, (int64_t)CHUNK);
            memset(to + page_bytes(from) * (size_t)groups + (size_t)(groups - 1) * page_bytes(count), 0, page_bytes(count));
        }
    for (int64_t t = t0, m; t < t1; t += m) {
        const tk_a8 *x = tk__a8_row(a->p[0], tokens, k, t, &m);
        const int64_t group = (t - t0) / GROUP, first = (t - t0) % GROUP;
        for (int64_t b = 0; b < blocks; b++, x += m) {
            const int64_t from = b / CHUNK * CHUNK, count = TK_MIN(blocks - from, (int64_t)CHUNK);
            uint8_t *block = to + page_bytes(from) * (size_t)groups + (size_t)group * page_bytes(count) + PAGE_HOLE;
            block += (size_t)((b - from) / PAGE_BLOCKS) * PAGE + (size_t)((b - from) % PAGE_BLOCKS) * size;
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

/* Where unit u's block of tokens is, and itself */
INLINE const uint8_t *unit_block(const int lines, const int mins, const uint8_t *x, int64_t u) {
    const int64_t b = lines == 8 ? u : u / 8 * 4 + u % 4;
    return x + (size_t)(b / PAGE_BLOCKS) * PAGE + (size_t)(b % PAGE_BLOCKS) * block_bytes(mins);
}
INLINE const uint8_t *unit_at(const int lines, const int mins, const uint8_t *w, int64_t u) {
    const int64_t units = PAGE_BLOCKS * 8 / lines;
    return w + (size_t)(u / units) * PAGE + (size_t)(u % units) * unit_bytes(lines, mins);
}

/* The product of unit u into tile c; sums of a tile to where add_unit takes them */
#define PRODUCT(c, u)                                                                                        \
    do {                                                                                                     \
        const uint8_t *at = unit_block(lines, mins, t->x, u) + (lines == 8 ? 0 : (u) / 4 % 2 * 16);          \
        amx_load(4 + (c) % 2, at, 32);                                                                       \
        amx_load(6 + (c) % 2, unit_at(lines, mins, t->w, u), 64);                                               \
        amx_zero(c);                                                                                         \
        amx_dp8(c, 4 + (c) % 2, 6 + (c) % 2);                                                                \
    } while (0)
#define OUT(c) amx_store(c, sums[(c) % V_NB], 64)

INLINE void add_unit(const int lines, const int mins, const tile *t, vf acc[16], const int32_t *sums, int64_t u) {
    const uint8_t *numbers = unit_at(lines, mins, t->w, u) + lines * TK_LINE;
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
    _Alignas(PAGE) int32_t sums[V_NB][256];
    const int64_t n = t->units;
    vf acc[16];
    UNROLL for (int i = 0; i < 16; i++) acc[i] = t->before ? vf_load(t->before + i * 16) : vf_zero();
#ifndef V_TD
#define V_TD 2
#endif
    PRODUCT(0, 0);
    if (V_TD > 1 && n > 1) PRODUCT(1, 1);
    if (V_TD > 2 && n > 2) PRODUCT(2, 2);
    if (V_SD > 0) OUT(0);
    if (V_SD > 1 && n > 1) OUT(1);
    int64_t u = 0;
#define WHOLE(j)                                                                                             \
    PRODUCT((j + V_TD) % 4, u + j + V_TD);                                                                   \
    OUT((j + V_SD) % 4);                                                                                     \
    add_unit(lines, mins, t, acc, sums[j % V_NB], u + j)
    for (; u + 3 + V_TD < n; u += 4) {
        WHOLE(0);
        WHOLE(1);
        WHOLE(2);
        WHOLE(3);
    }
#define REST(j)                                                                                              \
    if (u + j >= n) break;                                                                                   \
    if (u + j + V_TD < n) PRODUCT((j + V_TD) % 4, u + j + V_TD);                                             \
    if (u + j + V_SD < n) OUT((j + V_SD) % 4);                                                               \
    add_unit(lines, mins, t, acc, sums[j % V_NB], u + j)
    for (;; u += 4) {
        REST(0);
        REST(1);
        REST(2);
        REST(3);
    }
    if (t->tokens == 16 && t->live == 16) {
        UNROLL for (int i = 0; i < 16; i++) vf_store(t->y + i * t->y_step, acc[i]);
        return;
    }
    UNROLL for (int i = 0; i < 16; i++)
        if (i < t->tokens) vf_store_n(t->y + i * t->y_step, acc[i], t->live);
}

/* ---- the walk ---- */

typedef struct scheme {
    tile_fn *tile;
    void (*expand)(const uint8_t *panel, int64_t from, int64_t end, uint8_t *to, size_t ahead);
    void (*lay)(const tk_args *a, int64_t t0, int64_t t1, uint8_t *to);
    int lines, mins;
} scheme;

/* Bytes of a thread: the tokens' copy, the band's numbers */
static size_t copy_bytes(int64_t tokens, int64_t k) {
    const int64_t groups = tk_ceil_div(TK_MIN(tokens, (int64_t)TOKENS), GROUP);
    return (size_t)groups * page_bytes(k / TK_K32);
}
static size_t wait_bytes(int64_t tokens, int64_t k) {
    const int64_t groups = tk_ceil_div(TK_MIN(tokens, (int64_t)TOKENS), GROUP);
    return k / TK_K32 > CHUNK ? (size_t)(groups * BAND) * 1024 : 0;
}
size_t linear_a8_amx_scratch(const tk_dim dim[26], int nth) {
    const int64_t t = dim['t' - 'a'].n, k = dim['k' - 'a'].n;
    return t <= FEW ? 0 : (size_t)nth * (copy_bytes(t, k) + wait_bytes(t, k)) + PAGE;
}

/* The lines that the next group writes: rows of y are far apart, and a store that misses waits */
INLINE void fetch_out(const float *y, int64_t step, int64_t tokens) {
    for (int64_t i = 0; i < tokens; i++) __builtin_prefetch(y + i * step, 1);
}

/* One chunk of k of the band in hand */
typedef struct walk {
    const tk_args *a;
    const scheme *s;
    const uint8_t *copy; /* the chunk of all tokens in hand */
    int64_t t0, tokens;  /* these */
    int64_t from, end;   /* the chunk's blocks */
    float *wait;         /* the band's numbers: [panel][group][16][16] */
    const uint8_t *next; /* weights to fetch meanwhile */
    int64_t fetch;       /* lines of them with each group */
} walk;

/* The chunk of `panels` panels, expanded in `room`, of which the first has the band's number `at` and row `row` */
static void multiply_panels(walk *w, const uint8_t *room, int64_t panels, int64_t at, int64_t row) {
    const int64_t n = TK_DIM(w->a, 'n'), groups = tk_ceil_div(w->tokens, GROUP), blocks = TK_DIM(w->a, 'k') / TK_K32;
    const bool done = w->end == blocks;
    tile t = { .units = (w->end - w->from) * 8 / w->s->lines, .y_step = done ? n : TK_PANEL };
    const size_t size = page_bytes(w->end - w->from);
    for (int64_t g = 0; g < groups; g++) {
        const int64_t left = w->tokens - g * GROUP;
        for (int64_t i = 0; i < w->fetch; i++, w->next += TK_LINE) _mm_prefetch((const char *)w->next, _MM_HINT_T1);
        t.x = w->copy + (size_t)g * size + PAGE_HOLE;
        for (int64_t p = 0; p < panels; p++) {
            float *wait = w->wait + ((at + p) * groups + g) * 256;
            float *y = (float *)w->a->p[2] + (w->t0 + g * GROUP) * n + row + p * TK_PANEL;
            t.w = room + (size_t)p * size + PAGE_HOLE;
            t.before = w->from ? wait : NULL, t.y = done ? y : wait;
            t.tokens = done ? (int)TK_MIN(left, (int64_t)GROUP) : GROUP;
            t.live = done ? (int)TK_MIN(n - row - p * TK_PANEL, (int64_t)TK_PANEL) : TK_PANEL;
            if (done && left > GROUP) fetch_out(y + GROUP * n, n, TK_MIN(left - GROUP, (int64_t)GROUP));
            w->s->tile(&t);
        }
    }
}

static void multiply(const tk_args *a, const scheme *s) {
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'), blocks = k / TK_K32;
    const size_t panel = tk__panel_bytes(a->type[1], k);
    uint8_t *copy = (uint8_t *)tk_align((size_t)(uintptr_t)a->scratch, PAGE) + (size_t)a->ith * (copy_bytes(tokens, k) + wait_bytes(tokens, k));
    _Alignas(PAGE) uint8_t room[PANELS * CHUNK / PAGE_BLOCKS * PAGE];
    walk w = { .a = a, .s = s, .wait = (float *)(void *)(copy + copy_bytes(tokens, k)) };
    /* one or two groups of tokens: the weights are a stream from memory, panel after panel */
    const bool few = tokens <= 2 * GROUP;
    int64_t first, last;
    tk_split(n, TK_PANEL, a->ith, a->nth, &first, &last);
    if (first >= last) return;
    amx_config config = { 0 };
    for (int i = 0; i < 4; i++) amx_tile(&config, i, 16, 64);
    for (int i = 4; i < 6; i++) amx_tile(&config, i, 16, s->lines * 4), amx_tile(&config, i + 2, s->lines, 64);
    amx_configure(&config);
    for (; w.t0 < tokens; w.t0 += w.tokens) {
        w.tokens = TK_MIN(tokens - w.t0, (int64_t)TOKENS);
        const int64_t groups = tk_ceil_div(w.tokens, GROUP), wide = (few ? PANELS : BAND) * TK_PANEL;
        s->lay(a, w.t0, w.t0 + w.tokens, copy);
        for (int64_t band = first, stop; band < last; band = stop) {
            stop = TK_MIN(band + wide, last);
            for (w.from = 0; w.from < blocks; w.from = w.end) {
                w.end = TK_MIN(w.from + CHUNK, blocks);
                w.copy = copy + page_bytes(w.from) * (size_t)groups;
                const size_t size = page_bytes(w.end - w.from);
                const size_t chunk = tk__panel_bytes(a->type[1], (w.end - w.from) * TK_K32);
                if (!few) w.fetch = tk_ceil_div((int64_t)chunk * PANELS, TK_LINE * groups);
                for (int64_t row = band, panels; row < stop; row += panels * TK_PANEL) {
                    const uint8_t *from = (const uint8_t *)a->p[1] + (size_t)(row / TK_PANEL) * panel;
                    panels = TK_MIN(tk_ceil_div(stop - row, TK_PANEL), (int64_t)PANELS);
                    for (int64_t p = 0; p < panels; p++)
                        s->expand(from + (size_t)p * panel, w.from, w.end, room + (size_t)p * size + PAGE_HOLE,
                                  few ? AHEAD : 0);
                    w.next = from + (size_t)panels * panel + tk__panel_bytes(a->type[1], w.from * TK_K32);
                    multiply_panels(&w, room, panels, (row - band) / TK_PANEL, row);
                }
            }
        }
    }
    amx_release();
}

/* ---- all formats ---- */

#define TILE(lines, mins)                                                                                    \
    static void tile_##lines##_##mins(const tile *t) { multiply_tile(lines, mins, t); }
#define LAY(mins)                                                                                            \
    static void lay_##mins(const tk_args *a, int64_t t0, int64_t t1, uint8_t *to) { lay_tokens(a, mins, t0, t1, to); }
TILE(8, 0) TILE(8, 1) TILE(8, 2) TILE(4, 0)
LAY(0) LAY(1) LAY(2)

#define KERNEL(name, type, lines_, mins_)                                                                    \
    void linear_##name##_avx512(const tk_args *a);                                                           \
    static void expand_##name(const uint8_t *panel, int64_t from, int64_t end, uint8_t *to, size_t ahead) {  \
        expand(type, panel, from, end, to, ahead);                                                           \
    }                                                                                                        \
    void linear_##name##_amx(const tk_args *a) {                                                             \
        static const scheme s = { tile_##lines_##_##mins_, expand_##name, lay_##mins_, lines_, mins_ };      \
        if (TK_DIM(a, 't') <= FEW)                                                                           \
            linear_##name##_avx512(a);                                                                       \
        else                                                                                                 \
            multiply(a, &s);                                                                                 \
    }
KERNEL(q8_0, TK_P_Q8_0, 8, 0)
KERNEL(q4_0, TK_P_Q4_0, 8, 0)
KERNEL(q4_1, TK_P_Q4_1, 8, 1)
KERNEL(q4_z, TK_P_Q4_Z, 8, 1)
KERNEL(q4_k, TK_P_Q4_K, 8, 1)
KERNEL(q6_k, TK_P_Q6_K, 4, 0)
KERNEL(q5_0, TK_P_Q5_0, 8, 0)
KERNEL(q5_1, TK_P_Q5_1, 8, 1)
KERNEL(iq4_nl, TK_P_IQ4_NL, 8, 0)
KERNEL(mxfp4, TK_P_MXFP4, 8, 0)
KERNEL(iq4_xs, TK_P_IQ4_XS, 8, 0)
KERNEL(q2_k, TK_P_Q2_K, 8, 2)
KERNEL(q3_k, TK_P_Q3_K, 8, 0)
KERNEL(q5_k, TK_P_Q5_K, 8, 1)
