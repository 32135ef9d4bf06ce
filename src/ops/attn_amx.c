/* SPDX-License-Identifier: Apache-2.0 */
/* attn_paged on AMX, for caches of 16-bit numbers: the blocks of attention (attn_units.h) by bfloat16 tile products, in
 * the accuracy of float32.
 *
 * A float32 number is cut into three bfloat16 ones that add up to it (its bits from the top, 8 at a time), a float16
 * number into two; so queries and weights have three parts, keys and values two, or one where the cache is bfloat16.
 * All products of parts are made: each part of a query has sums of its own, over the steps of 32 numbers in order and
 * in a step over the parts of the key; then the sums of the three parts are added from the largest on. Parts of
 * a query are rows of a tile like other queries, so few queries (a token in several heads) with all their parts fill
 * one tile, and many fill three: the sums are the same, for rows of a tile never meet.
 *
 * Values are summed alike, 32 keys a step. A weight of a key that a row does not see is zero and adds nothing, unless
 * the value is no number: where a block has such a value, each token is multiplied alone, with zeros for the values that
 * it does not see. */
#include <immintrin.h>

#include "cpu/vec.h"
#include "ops/amx.h"
#include "ops/ops.h"

#include "ops/attn_units.h"

enum {
    GROUP = 16,                  /* keys or queries of a tile */
    STEP = 32,                   /* numbers of k, or keys, of a tile product */
    TILE = 1024,                 /* bytes */
    VIRTUAL = ATTN_PARTS * GROUP, /* rows of a tile's queries with their parts */
    SPAN = 64,                   /* keys whose sums of parts wait to be added */
    NOT_FINITE = 0x99,           /* NaN and infinity, as the instruction that sorts numbers takes them */
};

/* ---- parts ---- */

static inline __m512i top_half(void) { return _mm512_set1_epi32((int)0xffff0000); }
static inline __m512 part_of(__m512 x) { return _mm512_and_ps(x, (__m512)top_half()); }
/* The upper halves of a (to the lower ones) and b */
static inline __m512i halves_of(__m512 a, __m512 b) {
    return _mm512_or_si512(_mm512_srli_epi32((__m512i)a, 16), _mm512_and_si512((__m512i)b, top_half()));
}

/* a and b in three parts, `step` bytes apart */
static inline void three_parts(uint8_t *to, int64_t step, __m512 a, __m512 b) {
    const __m512 a1 = part_of(a), b1 = part_of(b), a23 = _mm512_sub_ps(a, a1), b23 = _mm512_sub_ps(b, b1);
    const __m512 a2 = part_of(a23), b2 = part_of(b23);
    _mm512_storeu_si512(to, halves_of(a1, b1));
    _mm512_storeu_si512(to + step, halves_of(a2, b2));
    _mm512_storeu_si512(to + 2 * step, halves_of(_mm512_sub_ps(a23, a2), _mm512_sub_ps(b23, b2)));
}

/* 16 numbers each of rows a and b of the cache as pairs: two lines a TILE apart, or one. Returns lanes that are no
 * numbers. */
static inline __mmask16 pairs(uint8_t *to, __m256i a, __m256i b, const bool half) {
    if (!half) {
        const __m512i x = _mm512_cvtepu16_epi32(a), y = _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16);
        _mm512_storeu_si512(to, _mm512_or_si512(x, y));
        const __m512 p = (__m512)_mm512_slli_epi32(x, 16), q = (__m512)y;
        return _mm512_fpclass_ps_mask(p, NOT_FINITE) | _mm512_fpclass_ps_mask(q, NOT_FINITE);
    }
    const __m512 x = _mm512_cvtph_ps(a), y = _mm512_cvtph_ps(b);
    const __m512 x2 = _mm512_sub_ps(x, part_of(x)), y2 = _mm512_sub_ps(y, part_of(y));
    _mm512_storeu_si512(to, halves_of(x, y));
    _mm512_storeu_si512(to + TILE, halves_of(x2, y2));
    return _mm512_cmp_ps_mask(x2, y2, _CMP_UNORD_Q); /* what infinity leaves is none either */
}

/* ---- a block's keys and values ---- */

/* A block of a head and which of its keys are looked at: skip .. end - 1 */
typedef struct span {
    const attn_job *j;
    int64_t head, from;
    int skip, end;
    uint16_t bad[ATTN_KEYS / GROUP]; /* of each group of keys, those that are no finite numbers */
} span;

/* Where the group of 16 keys of key `key` of the block begins, in numbers */
static int64_t place_of(const span *s, int64_t key) {
    const kv_source *kv = &s->j->kv;
    const int64_t at = s->from + key;
    return ((kv->page[at / kv->page_size] * kv->heads + s->head) * kv->page_size + at % kv->page_size) * kv->d;
}
static __m256i row_of(const uint16_t *p, int64_t n) {
    return _mm256_maskz_loadu_epi16((__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1), p);
}

/* [group][steps of 32 d][parts] tiles of [16 pairs of d][16 keys] */
static inline void lay_keys(span *s, uint8_t *to, const bool half) {
    const int64_t d = s->j->d, steps = tk_ceil_div(d, STEP);
    for (int64_t key = s->skip / GROUP * GROUP; key < s->end; key += GROUP) {
        const uint16_t *k = (const uint16_t *)s->j->kv.k + place_of(s, key);
        uint8_t *tile = to + key / GROUP * steps * (half ? 2 : 1) * TILE;
        __mmask16 bad = 0;
        for (int64_t e = 0; e < steps * STEP; e += 2) {
            const __m256i none = _mm256_setzero_si256();
            uint8_t *line = tile + e / STEP * (half ? 2 : 1) * TILE + e % STEP / 2 * 64;
            bad |= pairs(line, e < d ? row_of(k + e * GROUP, 16) : none,
                         e + 1 < d ? row_of(k + (e + 1) * GROUP, 16) : none, half);
        }
        s->bad[key / GROUP] = bad;
    }
}

/* [16 columns of d][steps of 32 keys][parts] tiles of [16 pairs of keys (l, l + 16)][16 columns], zeros for the keys
 * that are not looked at; false: some value is no number */
static inline bool lay_values(const span *s, uint8_t *to, const bool half) {
    const int64_t d = s->j->d, parts = half ? 2 : 1;
    __mmask16 bad = 0;
    for (int64_t key = s->skip / STEP * STEP; key < s->end; key += STEP) {
        const uint16_t *rows = (const uint16_t *)s->j->kv.v, *v[2] = { NULL };
        for (int h = 0; h < 2; h++)
            if (key + h * GROUP < s->end && key + h * GROUP + GROUP > s->skip) v[h] = rows + place_of(s, key + h * GROUP);
        for (int64_t l = 0; l < GROUP; l++)
            for (int64_t e = 0; e < d; e += GROUP) {
                __m256i x[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
                for (int h = 0; h < 2; h++) {
                    const int64_t at = key + h * GROUP + l;
                    if (at >= s->skip && at < s->end) x[h] = row_of(v[h] + l * d + e, d - e);
                }
                bad |= pairs(to + ((e / GROUP * (ATTN_KEYS / STEP) + key / STEP) * parts) * TILE + l * 64, x[0], x[1],
                             half);
            }
    }
    return !bad;
}

/* ---- products ---- */

/* c = a b for `tiles` tiles of rows of a, 64-byte steps of which lie a_step bytes apart, and `blocks` blocks of b, each
 * [step][parts] tiles; c's blocks lie 16 numbers apart, its rows c_step. A product's sums come late, so six tiles of
 * them are on their way: 0-5; 6: rows, 7: a part of keys or values. */
typedef struct product {
    float *c;
    int64_t c_step;
    const uint8_t *a;
    int64_t a_step;
    const uint8_t *b;
    int64_t b_block, steps;
} product;
#define EACH_SUM(DO, tiles, blocks)                                                                                    \
    DO(0, 0)                                                                                                           \
    if (tiles > 1) DO(1, 0)                                                                                            \
    if (tiles > 2) DO(2, 0)                                                                                            \
    if (blocks > 1) DO(0, 1)                                                                                           \
    if (blocks > 1 && tiles > 1) DO(1, 1)                                                                              \
    if (blocks > 1 && tiles > 2) DO(2, 1)                                                                              \
    if (blocks > 2) DO(0, 2)                                                                                           \
    if (blocks > 3) DO(0, 3)

static inline void multiply(const product *x, const int tiles, const int blocks, const bool half) {
    const uint8_t *a = x->a, *b = x->b;
#define SUM(t, n) ((n) < 2 ? (n) * 3 + (t) : (n) - 1)
#define ZERO(t, n) amx_zero(SUM(t, n));
    EACH_SUM(ZERO, tiles, blocks)
    for (int64_t i = 0; i < x->steps; i++, a += 2 * STEP, b += (half ? 2 : 1) * TILE)
        for (int part = 0; part < (half ? 2 : 1); part++) {
#define ADD(t, n)                                                                                                      \
    {                                                                                                                  \
        if (t == 0) amx_load(7, b + part * TILE + (n) * x->b_block, 64);                                               \
        if (tiles > 1 || n == 0) amx_load(6, a + (t) * GROUP * x->a_step, x->a_step);                                  \
        amx_dp(SUM(t, n), 6, 7);                                                                                   \
    }
            EACH_SUM(ADD, tiles, blocks)
        }
#define STORE(t, n) amx_store(SUM(t, n), x->c + (n) * GROUP + (t) * GROUP * x->c_step, x->c_step * 4);
    EACH_SUM(STORE, tiles, blocks)
#undef ZERO
#undef ADD
#undef STORE
#undef SUM
}

/* The same for any number of blocks */
static inline void multiply_blocks(product x, int blocks, const int tiles, const bool half) {
    const int most = tiles > 1 ? 2 : 4;
    for (int n; blocks > 0; blocks -= n, x.c += n * GROUP, x.b += n * x.b_block) {
        n = blocks >= most ? most : blocks >= 2 ? 2 : 1;
        if (n == 4)
            multiply(&x, tiles, 4, half);
        else if (n == 2)
            multiply(&x, tiles, 2, half);
        else
            multiply(&x, tiles, 1, half);
    }
}

/* Up to 16 rows of a unit over a block */
typedef struct rows {
    const attn_job *j;
    const attn_unit *u;
    const attn_work *w;
    const attn_part *r;
    const span *keys;
    int64_t row;        /* the first */
    int n, tiles;       /* rows; tiles that they make with their parts */
    attn_vectors which; /* an even number from an even one on */
    unsigned bad;       /* rows whose queries are no finite numbers */
} rows;

/* The queries in parts, [part][row][d], zeros after d */
static void lay_queries(rows *x, uint8_t *to, int64_t bytes) {
    x->bad = 0;
    for (int i = 0; i < x->n; i++) {
        const float *q = attn_query(x->j, x->u, x->row + i);
        for (int64_t e = 0; e < x->j->d; e += STEP) {
            /* pairs are neighbours: even numbers to the lower halves */
            const __m512 a = _mm512_maskz_loadu_ps(v_mask(x->j->d - e), q + e);
            const __m512 b = _mm512_maskz_loadu_ps(v_mask(x->j->d - e - 16), q + e + 16);
            if (_mm512_fpclass_ps_mask(a, NOT_FINITE) | _mm512_fpclass_ps_mask(b, NOT_FINITE)) x->bad |= 1u << i;
            const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
            three_parts(to + i * bytes + e * 2, x->n * bytes, _mm512_permutex2var_ps(a, even, b),
                        _mm512_permutex2var_ps(a, odd, b));
        }
    }
}

/* The sum of a row's three parts, which lie n rows of `step` apart */
static inline __m512 add_parts(const float *c, int64_t step) {
    return _mm512_add_ps(_mm512_add_ps(_mm512_loadu_ps(c), _mm512_loadu_ps(c + step)), _mm512_loadu_ps(c + 2 * step));
}

static inline void score_rows(const rows *x, float *s, const int tiles, const bool half) {
    _Alignas(64) float c[VIRTUAL * SPAN];
    const int64_t steps = tk_ceil_div(x->j->d, STEP), bytes = steps * STEP * 2, block = steps * (half ? 2 : 1) * TILE;
    const uint8_t *keys = (const uint8_t *)x->w->kt;
    product p = { c, SPAN, keys + ATTN_KEYS * bytes * 2, bytes, keys + x->which.first * block, block, steps };
    enum { VECTORS = SPAN / GROUP };
    for (int v = x->which.first; v < x->which.end; v += VECTORS, p.b += VECTORS * block) {
        const int n = TK_MIN(VECTORS, x->which.end - v);
        multiply_blocks(p, n, tiles, half);
        for (int i = 0; i < x->n; i++)
            for (int k = 0; k < n; k++)
                _mm512_storeu_ps(s + i * ATTN_KEYS + (v + k) * GROUP,
                                 add_parts(c + i * SPAN + k * GROUP, x->n * SPAN));
    }
}

/* Scores with what is not finite: the parts of an infinity make a NaN, which it need not be; so one chain over d */
static void score_bad(const rows *x, float *s) {
    const span *keys = x->keys;
    const int first = TK_MAX(x->which.first, keys->skip / GROUP), end = (keys->end + GROUP - 1) / GROUP;
    for (int i = 0; i < x->n; i++)
        for (int g = first; g < TK_MIN(end, x->which.end); g++) {
            const __mmask16 bad = x->bad >> i & 1 ? 0xffff : keys->bad[g];
            if (!bad) continue;
            const uint16_t *k = (const uint16_t *)x->j->kv.k + place_of(keys, g * GROUP);
            const float *q = attn_query(x->j, x->u, x->row + i);
            __m512 sum = _mm512_setzero_ps();
            for (int64_t e = 0; e < x->j->d; e++, k += GROUP)
                sum = _mm512_fmadd_ps((__m512)(x->j->kv.type_k == TK_F16 ? v_load_f16(k) : v_load_bf16(k)),
                                      _mm512_set1_ps(q[e]), sum);
            _mm512_mask_storeu_ps(s + i * ATTN_KEYS + g * GROUP, bad, sum);
        }
}

/* One row's scores -> 2^(score - shift) in parts, `step` bytes apart; their sum */
static float weigh(const float *s, float shift, attn_vectors which, uint8_t *to, int64_t step) {
    const vf less = v_set1(shift);
    vf sum = { 0 };
    for (int v = which.first; v < which.end; v += 2) {
        const vf a = v_exp2(v_load(s + v * VW) - less), b = v_exp2(v_load(s + v * VW + VW) - less);
        sum += a, sum += b;
        three_parts(to + v * VW * 2, step, (__m512)a, (__m512)b);
    }
    return v_sum(sum);
}

static inline void sum_values(const rows *x, const uint8_t *p, const int tiles, const bool half) {
    _Alignas(64) float c[VIRTUAL * SPAN];
    const int first = x->which.first / 2, columns = (int)tk_ceil_div(x->j->d, GROUP);
    const int64_t part = (half ? 2 : 1) * TILE, block = ATTN_KEYS / STEP * part;
    product y = { c, SPAN, p + first * STEP * 2, ATTN_KEYS * 2, (const uint8_t *)x->w->vt + first * part, block,
                  x->which.end / 2 - first };
    enum { VECTORS = SPAN / GROUP };
    for (int v = 0; v < columns; v += VECTORS, y.b += VECTORS * block) {
        const int n = TK_MIN(VECTORS, columns - v);
        multiply_blocks(y, n, tiles, half);
        for (int i = 0; i < x->n; i++)
            for (int k = 0; k < n; k++)
                _mm512_storeu_ps(x->r->o + (x->row + i) * x->j->padded + (v + k) * GROUP,
                                 add_parts(c + i * SPAN + k * GROUP, x->n * SPAN));
    }
}

#define BY_TILES(fn, ...)                                                                                              \
    switch (x->tiles * 2 + (x->j->kv.type_k == TK_F16)) {                                                              \
    case 2: fn(__VA_ARGS__, 1, false); break;                                                                          \
    case 3: fn(__VA_ARGS__, 1, true); break;                                                                           \
    case 4: fn(__VA_ARGS__, 2, false); break;                                                                          \
    case 5: fn(__VA_ARGS__, 2, true); break;                                                                           \
    case 6: fn(__VA_ARGS__, 3, false); break;                                                                          \
    default: fn(__VA_ARGS__, 3, true);                                                                                 \
    }

static void attend(rows *x) {
    _Alignas(64) float s[GROUP * ATTN_KEYS];
    _Alignas(64) uint8_t p[VIRTUAL * ATTN_KEYS * 2];
    const int64_t bytes = tk_ceil_div(x->j->d, STEP) * STEP * 2;
    int skip, seen, other;
    attn_sees(x->j, x->u, x->w->from, x->row, &skip, &other);
    attn_sees(x->j, x->u, x->w->from, x->row + x->n - 1, &other, &seen);
    x->which = (attn_vectors){ skip / STEP * 2, (seen + STEP - 1) / STEP * 2 };
    x->tiles = (ATTN_PARTS * x->n + GROUP - 1) / GROUP;
    lay_queries(x, (uint8_t *)x->w->kt + ATTN_KEYS * bytes * 2, bytes);
    BY_TILES(score_rows, x, s)
    unsigned bad = x->bad;
    for (int v = 0; v < ATTN_KEYS / GROUP; v++) bad |= x->keys->bad[v];
    if (bad) score_bad(x, s);
    for (int i = 0; i < x->n; i++) {
        const int64_t row = x->row + i;
        x->r->m[row] = attn_row_scores(x->j, x->u, x->w, row, s + i * ATTN_KEYS, x->which);
        x->r->l[row] = weigh(s + i * ATTN_KEYS, attn_shift(x->r->m[row]), x->which, p + i * ATTN_KEYS * 2,
                             x->n * ATTN_KEYS * 2);
    }
    BY_TILES(sum_values, x, p)
}

static bool lay(span *s, const attn_work *w, bool keys) {
    const bool half = s->j->kv.type_k == TK_F16;
    if (keys && half) lay_keys(s, (uint8_t *)w->kt, true);
    if (keys && !half) lay_keys(s, (uint8_t *)w->kt, false);
    return half ? lay_values(s, (uint8_t *)w->vt, true) : lay_values(s, (uint8_t *)w->vt, false);
}

static void attn_block(const attn_job *j, const attn_unit *u, int64_t block, attn_work *w, const attn_part *r) {
    const int64_t least = tk_attn_first_key(&j->a->attr, u->position); /* what the first row sees */
    const attn_range range = attn_seeing(j, u, block);
    w->from = block * ATTN_KEYS;
    span s = { j, u->head, w->from, (int)TK_MAX(least - w->from, 0),
               (int)TK_MIN(u->position + u->tokens - w->from, (int64_t)ATTN_KEYS), { 0 } };
    rows x = { .j = j, .u = u, .w = w, .r = r, .keys = &s };
    attn_slopes(j, u, w);
    const bool good = lay(&s, w, true);
    for (x.row = range.start; x.row < range.stop; x.row += x.n) {
        const int64_t left = range.stop - x.row, token = j->shared - x.row % j->shared; /* rows of its token */
        x.n = (int)TK_MIN(TK_MIN(left, GROUP), good ? left : token);
        if (!good) attn_sees(j, u, w->from, x.row, &s.skip, &s.end), lay(&s, w, false);
        attend(&x);
    }
}

/* q i ck cv -> o l */
void attn_paged_amx(const tk_args *a) {
    attn_job j = attn_job_of(a, 2, 3, 4);
    j.paged = true, j.kv.page_size = TK_DIM(a, 's'), j.rows = ATTN_TILE_ROWS;
    attn_padding(&j, a);
    if (!j.batch->seqs || (!j.o && !j.lse)) return;
    amx_config config = { 0 };
    for (int t = 0; t < 8; t++) amx_tile(&config, t, 16, 64);
    amx_configure(&config);
    attn_run(&j, a, attn_thread_floats(j.shared, j.d, TK_DIM(a, 'p') * TK_DIM(a, 's')));
    amx_release();
}
