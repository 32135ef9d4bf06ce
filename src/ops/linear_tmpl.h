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
 *         vf_zero vf_set1 vf_load vf_load_n vf_store vf_store_n vf_fma vf_mul vf_neg
 *         vf_f16 vf_u8 vf_s8 vf_int
 *         vi_zero vi_set1 vi_load vi_store vi_add vi_and vi_or vi_xor
 *         vi_srl vi_srl32 vi_sll32 vi_as_vf vi_u8 vi_u16 vi_add16 vi_sub16 vi_mul16
 *         vi_table vi_shuf   16 bytes everywhere; bytes picked from each 16
 *         dot_u8 dot_u4      sums += products of four bytes: weights (any byte; at most 63) times activations
 *         DOT_U8_START       where a sum of dot_u8 starts: at c128, or at zero if dot_u8 itself takes
 *                            off the 128 */
#include "base/packed.h"
#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "ops/linear_types.h"

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
    case TK_P_F8: { /* the bits of e4m3 as those of a float 2^120 times too small */
        const uint8_t *block = panel + k / 32 * 576;
        const vi x = vi_u8(block + 64 + k % 32 * 16);
        const vi bits = vi_or(vi_sll32(vi_and(x, vi_set1(0x80)), 24), vi_sll32(vi_and(x, vi_set1(0x7f)), 20));
        return vf_mul(vf_mul(vi_as_vf(bits), vf_set1(0x1p120f)), vf_load(block));
    }
    default: { /* k is even; odd: of k + 1 */
        vi both = vi_load(panel + k * 32);
        return vi_as_vf(odd ? vi_and(both, vi_set1((int)0xffff0000)) : vi_sll32(both, 16));
    }
    }
}

INLINE void step_float(const int type, const int mr, vf sum[], const tile *t, int64_t k, const int odd) {
    vf w = weight(type, t->w, k, odd);
    if (!odd) __builtin_prefetch(t->w + k * (type == TK_P_F32 ? 64 : type == TK_P_F8 ? 18 : 32) + t->ahead);
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

#ifdef vf_dot_bf16
/* bfloat16 in both operands: two k a step, whose products one instruction adds; the last of an odd number
 * alone */
INLINE void step_pair(const int mr, vf sum[], const tile *t, int64_t k, const int both) {
    const vi w = vi_load(t->w + k * 32);
    __builtin_prefetch(t->w + k * 32 + t->ahead);
    UNROLL for (int i = 0; i < mr; i++) {
        const uint8_t *x = t->x + (size_t)i * t->x_step + (size_t)k * 2;
        sum[i] = vf_dot_bf16(sum[i], w, both ? (int)tk_le32(x) : tk_le16(x));
    }
}
INLINE void tile_pairs(const int mr, const tile *t) {
    vf sum[16];
    UNROLL for (int i = 0; i < mr; i++) sum[i] = begin(t, i);
    int64_t k = t->from;
    for (; k + 1 < t->to; k += 2) step_pair(mr, sum, t, k, 1);
    if (k < t->to) step_pair(mr, sum, t, k, 0);
    UNROLL for (int i = 0; i < mr; i++) finish(t, i, sum[i]);
}
#endif

/* ---- integer formats ---- */

/* Formats whose lines are costly to read are expanded for many tokens: a chunk of a panel becomes blocks of
 * plain bytes with float32 scales, from which all tokens are multiplied. A block: lines [8], scale, the
 * minimum or the second half's scale, the second minimum. The numbers, and so the results, are those of the
 * packed form. */
enum { EXPANDED_BLOCK = 704, EXPANDED_CHUNK = 16 };

INLINE void expand(const int type, const tile *t, uint8_t *to) {
    const layout l = layout_of(type);
    for (size_t b = (size_t)t->from; b < (size_t)t->to;
         b += (size_t)l.blocks, to += l.blocks * EXPANDED_BLOCK)
        UNROLL for (int half = 0; half < l.halves; half++) {
            vi w[4];
            vf scale, low;
            UNROLL for (int j = half * l.lines; j < (half + 1) * l.lines; j++) {
                line_runs(type, w, t->w, b, j, t->ahead);
                UNROLL for (int z = 0; z < l.runs; z++) vi_store(to + z * EXPANDED_BLOCK + j * 64, w[z]);
            }
            UNROLL for (int z = 0; z < l.blocks; z++) {
                block_scales(type, t->w, b + (size_t)z, half, &scale, &low);
                vf_store(to + z * EXPANDED_BLOCK + 512 + half * 64, scale);
                if (l.mins) vf_store(to + z * EXPANDED_BLOCK + 576, low);
                if (l.mins < 2) continue;
                block_scales(type, t->w, b + (size_t)z, 1, &scale, &low);
                vf_store(to + z * EXPANDED_BLOCK + 640, low);
            }
        }
}

/* Adds the products of one half of the blocks b .. b + l.blocks, which begin at `room` when expanded */
INLINE void add_blocks(const int type, const layout l, const int mr, const bool expanded, const tile *t,
                       vf sum[], size_t b, const uint8_t *room, const int half) {
    const int chains = l.blocks == 1 && mr <= 2 ? 2 : 1; /* few results: more sums, so that none need wait */
    const tk_a8 *x = (const tk_a8 *)t->x + b * t->x_step;
    vi s[4][16], w[4];
    UNROLL for (int z = 0; z < l.blocks; z++) UNROLL for (int i = 0; i < mr; i++) s[z][i] =
        start(type, x + (size_t)z * t->x_step + i, half);
    UNROLL for (int i = 0; i < mr && chains == 2; i++) s[1][i] = vi_zero();
    UNROLL for (int j = 0; j < l.lines; j++) {
        if (expanded)
            w[0] = vi_load(room + (half * l.lines + j) * 64);
        else
            line_runs(type, w, t->w, b, half * l.lines + j, t->ahead);
        UNROLL for (int z = 0; z < l.runs; z++) {
            const int block = l.blocks == 1 ? 0 : z, into = chains == 2 ? (j * l.runs + z) % 2 : block;
            const int dword = half * l.lines + j + (l.runs > l.blocks ? z * l.lines : 0);
            UNROLL for (int i = 0; i < mr; i++) {
                const int8_t *q = x[(size_t)block * t->x_step + (size_t)i].q + dword * 4;
                s[into][i] = l.wide ? dot_u8(s[into][i], w[z], q) : dot_u4(s[into][i], w[z], q);
            }
        }
    }
    UNROLL for (int z = 0; z < l.blocks; z++) {
        vf scale, low, low2 = vf_zero(), same;
        if (expanded) {
            scale = vf_load(room + 512 + half * 64), low = vf_load(room + 576);
            if (l.mins == 2) low2 = vf_load(room + 640);
        } else {
            block_scales(type, t->w, b + (size_t)z, half, &scale, &low);
            if (l.mins == 2) block_scales(type, t->w, b + (size_t)z, 1, &same, &low2);
        }
        UNROLL for (int i = 0; i < mr; i++) {
            const tk_a8 *a = x + (size_t)z * t->x_step + i;
            const vi dots = chains == 2 ? vi_add(s[0][i], s[1][i]) : s[z][i];
            sum[i] = vf_fma(vf_int(dots), vf_mul(scale, vf_set1(a->d)), sum[i]);
            if (l.mins) sum[i] = vf_fma(low, vf_set1(l.mins == 1 ? a->s : a->half[0]), sum[i]);
            if (l.mins == 2) sum[i] = vf_fma(low2, vf_set1(a->half[1]), sum[i]);
        }
    }
}

/* Both ways add in the same order: of l.blocks blocks the first halves, then the second ones */
INLINE void tile_integer(const int type, const int mr, const bool expanded, const tile *t) {
    const layout l = layout_of(type), one = { 1, 1, l.halves, 8 / l.halves, l.mins, l.wide };
    const uint8_t *room = t->w;
    vf sum[16];
    UNROLL for (int i = 0; i < mr; i++) sum[i] = begin(t, i);
    for (size_t b = (size_t)t->from; b < (size_t)t->to;
         b += (size_t)l.blocks, room += l.blocks * EXPANDED_BLOCK)
        UNROLL for (int half = 0; half < l.halves; half++) {
            if (expanded) {
                UNROLL for (int z = 0; z < l.blocks; z++)
                    add_blocks(type, one, mr, true, t, sum, b + (size_t)z, room + z * EXPANDED_BLOCK, half);
            } else {
                add_blocks(type, l, mr, false, t, sum, b, NULL, half);
            }
        }
    UNROLL for (int i = 0; i < mr; i++) finish(t, i, sum[i]);
}

/* ---- all tiles of a format, and the walk over a matrix ---- */

/* How a format is multiplied: tiles by tokens (a size without one is made of smaller ones). Up to FEW tokens
 * a panel is read once, from end to end. More: a chunk of k at a time, with LINEAR_HOLD bytes of activations
 * between two passes over the weights, so that they stay in the second-level cache. */
enum { MOST = 12, FEW = 32 };
typedef struct scheme {
    tile_fn *tile[MOST + 1], *many[MOST + 1];   /* many: those that multiply what `expand` made */
    int unit, chunk;                            /* k of a step of from .. to; steps of a chunk */
    int direct;                                 /* most tokens without expand */
    void (*expand)(const tile *t, uint8_t *to); /* or NULL */
} scheme;

static int64_t largest(tile_fn *const *tiles) {
    int64_t most = MOST;
    while (!tiles[most]) most--;
    return most;
}

/* Even parts: 12 of at most 8 are 6 + 6 */
static int64_t tile_tokens(tile_fn *const *tiles, int64_t left) {
    int64_t size = tk_ceil_div(left, tk_ceil_div(left, largest(tiles)));
    while (!tiles[size]) size--;
    return size;
}

/* Tokens t0 .. t1 (of integers: whole groups) with the panel of t, whose first row is `row`. x: where k = 0
 * of float token t0 is or would be */
static void multiply_panel(const tk_args *a, tile *t, const uint8_t *x, int64_t row, int64_t t0, int64_t t1,
                           tile_fn *const *tiles) {
    const int64_t tokens = TK_DIM(a, 't'), k = TK_DIM(a, 'k');
    for (int64_t i = t0, size; i < t1; i += size) {
        if (a->type[0] == TK_A8) {
            int64_t step;
            t->x = (const uint8_t *)tk__a8_row(a->p[0], tokens, k, i, &step);
            t->x_step = (size_t)step;
            size = tile_tokens(tiles, TK_MIN(t1, i / TK_A8_GROUP * TK_A8_GROUP + step) - i);
        } else {
            t->x = x + (size_t)(i - t0) * t->x_step;
            size = tile_tokens(tiles, t1 - i);
        }
        t->y = (float *)a->p[2] + i * t->y_step + row;
        tiles[size](t);
    }
}

/* What is far ahead by the time that it is needed. When several tiles read a panel, the next panel. One or
 * two tokens: AMD's own prefetchers do better alone (Zen 4: 33 GB/s a core against 28), and some virtual
 * Intel machines have none; from three tokens on they lose the weights beside the activations (Zen 4, 8
 * tokens: 1.2 to 1.8 times the speed with it). */
static size_t fetch_ahead(int64_t tokens, int64_t most, size_t panel) {
    if (tokens > most) return panel;
    if (tokens > 2) return 4096;
#if defined(__x86_64__)
    return __builtin_cpu_is("intel") ? 2048 : 0;
#else
    return 0;
#endif
}

/* Plain numbers t->from .. t->to of tokens t0 .. t1, one after the other in this thread's scratch: in place,
 * tokens a power of two apart would push each other out of the first-level cache (k = 2048: half the speed).
 * Returns where k = 0 of token t0 would be. */
static const uint8_t *gather(const tk_args *a, tile *t, int64_t t0, int64_t t1) {
    const size_t size = (size_t)tk_formats[a->type[0]].bytes, row = (size_t)TK_DIM(a, 'k') * size;
    const size_t skip = (size_t)t->from * size, bytes = (size_t)(t->to - t->from) * size;
    uint8_t *to = (uint8_t *)a->scratch + (size_t)a->ith * LINEAR_HOLD;
    t->x_step = bytes + TK_LINE;
    for (int64_t i = t0; i < t1; i++)
        memcpy(to + (size_t)(i - t0) * t->x_step, (const uint8_t *)a->p[0] + (size_t)i * row + skip, bytes);
    return to - skip;
}

/* Rows first .. last, which begin with a panel */
static void multiply_rows(const tk_args *a, const scheme *s, int64_t first, int64_t last) {
    const int64_t tokens = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k'),
                  steps = tk_ceil_div(k, s->unit);
    const bool few = tokens <= FEW, expanded = s->expand && tokens > s->direct, plain = a->type[0] != TK_A8;
    const size_t panel = tk__panel_bytes(a->type[1], k), step_bytes = (size_t)tk_formats[a->type[0]].bytes;
    /* even chunks, of whole 256s: bfloat16 comes in pairs, blocks of K-quants by eight */
    const int64_t parts = few && !expanded ? 1 : tk_ceil_div(steps, s->chunk);
    const int64_t chunk = tk_ceil_div(steps, 8 * parts) * 8;
    const size_t held = (size_t)chunk * step_bytes + (plain ? TK_LINE : 0); /* of a token */
    const int64_t hold = few ? FEW : TK_MAX((int64_t)(LINEAR_HOLD / held) / FEW, 1) * FEW;
    _Alignas(64) uint8_t room[EXPANDED_CHUNK * EXPANDED_BLOCK];
    tile t = { .x_step = (size_t)k * step_bytes,
               .y_step = n,
               .ahead = fetch_ahead(tokens, largest(s->tile), panel) };
    const size_t expand_ahead = few ? panel / (size_t)steps * (size_t)chunk : panel;
    const int64_t band = few ? TK_PANEL : TK_MAX(last - first, 1); /* rows between two chunks */
    const uint8_t *x = a->p[0];
    for (int64_t row0 = first; row0 < last; row0 += band)
        for (t.from = 0; t.from < steps; t.from = t.to) {
            t.to = TK_MIN(t.from + chunk, steps);
            for (int64_t t0 = 0; t0 < tokens; t0 += hold) {
                const int64_t t1 = TK_MIN(t0 + hold, tokens);
                if (plain && !few) x = gather(a, &t, t0, t1);
                for (int64_t row = row0; row < TK_MIN(row0 + band, last); row += TK_PANEL) {
                    t.live = (int)TK_MIN(n - row, (int64_t)TK_PANEL);
                    t.w = (const uint8_t *)a->p[1] + (size_t)(row / TK_PANEL) * panel;
                    if (expanded) t.ahead = expand_ahead, s->expand(&t, room), t.w = room;
                    multiply_panel(a, &t, x, row, t0, t1, expanded ? s->many : s->tile);
                }
            }
        }
}

/* Threads take panels as they get on; a piece is long enough that taking it costs nothing */
static void multiply(const tk_args *a, const scheme *s) {
    enum { PIECE = 64 << 10 };
    const int64_t n = TK_DIM(a, 'n'), panels = tk_ceil_div(n, TK_PANEL);
    const size_t panel = tk__panel_bytes(a->type[1], TK_DIM(a, 'k'));
    tk_share share = tk_share_begin(a->pool, panels, tk_ceil_div(PIECE, (int64_t)panel), a->ith, a->nth);
    for (int64_t from, to; tk_share_next(&share, &from, &to);)
        multiply_rows(a, s, from * TK_PANEL, TK_MIN(to * TK_PANEL, n));
}
