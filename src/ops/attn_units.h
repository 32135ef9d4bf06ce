/* SPDX-License-Identifier: Apache-2.0 */
/* Attention, packed (attn) and over the paged cache (attn_paged): what a row sees, and how the work is shared out. How a
 * block is multiplied is the includer's: attn_cpu.h by vectors, attn_amx.c by tiles.
 *
 * The order of every sum is a function of the query's position only (promise 2). Keys are counted from key 0
 * of the sequence and taken in blocks of ATTN_KEYS; each block gives a partial
 * result of its own, and partial results are merged in order. So it makes no difference which queries share a
 * tile, or which thread does which block of a long context. Keys that a query must not see enter no sum at
 * all, whatever bits lie in their place. With a window, blocks before it are not visited, and a row starts
 * with the first that it sees.
 *
 * Work is cut into units: some consecutive tokens of a sequence times the r query heads of a KV head. All
 * threads compute the same list of costs, and each takes an equal share of it: whole units, except that a
 * unit of few tokens may be cut between blocks. Then its later blocks go to slots of scratch, and whoever has
 * the first one merges them after a barrier. */

#include "ops/attn_sizes.h"

enum { ATTN_VECTORS = ATTN_KEYS / VW };

/* Vectors of a block's keys: first .. end - 1 */
typedef struct attn_vectors {
    int first, end;
} attn_vectors;

typedef struct attn_job {
    kv_source kv; /* page and first: of the sequence at hand */
    const tk_batch *batch;
    bool paged;
    const float *q;
    float *o, *lse;
    int64_t heads, shared, d, padded; /* KV heads, query heads of each, padded: d up to a multiple of 16 */
    int64_t rows, unit_tokens; /* queries of a unit at most; tokens */
    float scale; /* of a product on its way to an exponent of 2: f[0] log2 e; before the soft cap, if there is
                    one: f[0] / f[1] */
    float cap;   /* f[1] log2 e, 0: none */
    const tk_args *a;
} attn_job;

typedef struct attn_unit {
    int64_t seq, token, tokens, position,
        head; /* token: first packed one; position: its place in the sequence */
} attn_unit;

/* The partial result of a unit: for each row (token, head of the group) the largest score, the sum of
 * exponentials, the weighted sum of values (rows of `padded`) */
typedef struct attn_part {
    float *m, *l, *o;
} attn_part;

typedef struct attn_work {
    attn_part total, part;
    float *slope;   /* ALiBi's, of each query head of the unit, log2 e in it */
    float *kt, *vt; /* a block of keys and of values as its products want them */
    float *slots;
    int64_t from; /* the block's first key */
} attn_work;

static attn_part attn_part_at(float *p, int64_t rows) { return (attn_part){ p, p + rows, p + 2 * rows }; }

static void attn_work_at(attn_work *w, const attn_job *j, float *p) {
    const int64_t rows = TK_MAX(j->rows, j->shared), part = attn_part_floats(rows, j->padded);
    w->total = attn_part_at(p, rows), p += part;
    w->part = attn_part_at(p, rows), p += part;
    w->slope = p, p += (j->shared + 15) / 16 * 16;
    w->kt = p, p += attn_key_floats(j->d);
    w->vt = p, p += ATTN_KEYS * j->padded;
    w->slots = p;
}

/* ---- rows ---- */

/* Row `row` of a unit: its query; the keys *skip .. *seen - 1 that it sees of the block from `from` on */
static const float *attn_query(const attn_job *j, const attn_unit *u, int64_t row) {
    const int64_t t = u->token + row / j->shared;
    return j->q + ((t * j->heads + u->head) * j->shared + row % j->shared) * j->d;
}
static void attn_sees(const attn_job *j, const attn_unit *u, int64_t from, int64_t row, int *skip, int *seen) {
    const int64_t position = u->position + row / j->shared;
    *skip = (int)TK_MAX(tk_attn_first_key(&j->a->attr, position) - from, 0);
    *seen = (int)TK_MIN(position - from + 1, ATTN_KEYS);
}
static bool attn_bent(const attn_job *j) { return j->a->attr.f[2] > 0 || j->cap > 0; }
static void attn_slopes(const attn_job *j, const attn_unit *u, attn_work *w) {
    for (int64_t i = 0; i < j->shared && j->a->attr.f[2] > 0; i++)
        w->slope[i] = (float)(tk_attn_slope(&j->a->attr, j->a->dim, u->head, i) * 1.4426950408889634);
}

/* The shift of exponents; 0 when every score so far is -inf, so that no inf - inf arises */
V_INLINE float attn_shift(float m) { return m > -INFINITY ? m : 0; }

/* One row's products -> scores, where these are more than scaled products; back: how far before the query the
 * block's first key stands */
static void attn_bend(const attn_job *j, float *s, attn_vectors which, float slope, int64_t back) {
    const vf scale = v_set1(j->scale), cap = v_set1(j->cap);
    for (int v = which.first; v < which.end; v++) {
        const vf distance = v_set1((float)(back - v * VW)) - __builtin_convertvector(v_iota(), vf);
        vf x = v_load(s + v * VW) * scale;
        if (j->cap > 0) x = v_tanh(x) * cap;
        v_store(s + v * VW, v_fma(distance, v_set1(-slope), x));
    }
}

/* One row's scores -> scaled, those of keys before `skip` and from `seen` on gone; the largest */
V_INLINE float attn_mask(float *s, float scale, attn_vectors which, int skip, int seen) {
    const vf c = v_set1(scale), nothing = v_set1(-INFINITY);
    vf top = nothing;
    if (seen == ATTN_KEYS && !skip) {
        V_FOR(v, ATTN_VECTORS) {
            const vf x = v_load(s + v * VW) * c;
            v_store(s + v * VW, x), top = v_max(top, x);
        }
    } else {
        for (int v = which.first; v < which.end; v++) {
            vf x = v_first(v_load(s + v * VW) * c, nothing, seen - v * VW);
            x = v_first(nothing, x, skip - v * VW);
            v_store(s + v * VW, x), top = v_max(top, x);
        }
    }
    return v_max_lane(top);
}

/* Row `row`'s products s with the block in hand -> its scores; the largest */
static float attn_row_scores(const attn_job *j, const attn_unit *u, const attn_work *w, int64_t row, float *s,
                             attn_vectors which) {
    int skip, seen;
    attn_sees(j, u, w->from, row, &skip, &seen);
    if (attn_bent(j))
        attn_bend(j, s, which, j->a->attr.f[2] > 0 ? w->slope[row % j->shared] : 0,
                  u->position + row / j->shared - w->from);
    return attn_mask(s, attn_bent(j) ? 1 : j->scale, which, skip, seen);
}

/* The first block that a position sees */
static int64_t attn_first_block(const attn_job *j, int64_t position) {
    return tk_attn_first_key(&j->a->attr, position) / ATTN_KEYS;
}

/* Rows start .. stop - 1 of a unit see some of the keys of a block */
typedef struct attn_range {
    int64_t start, stop;
} attn_range;

static attn_range attn_seeing(const attn_job *j, const attn_unit *u, int64_t block) {
    const int64_t from = block * ATTN_KEYS - u->position, window = j->a->attr.i[0];
    const int64_t stop = window > 0 ? TK_MIN(from + ATTN_KEYS - 1 + window, u->tokens) : u->tokens;
    return (attn_range){ TK_MAX(0, from) * j->shared, stop * j->shared };
}

/* The partial result of a block for the rows that see it: the tier's */
static void attn_block(const attn_job *j, const attn_unit *u, int64_t block, attn_work *w, const attn_part *r);

/* total += part, that of a block; where it is a row's first, total = part */
static void attn_merge(const attn_job *j, const attn_unit *u, int64_t block, const attn_part *total,
                       const attn_part *part) {
    const attn_range rows = attn_seeing(j, u, block);
    for (int64_t i = rows.start; i < rows.stop; i++) {
        float *o = total->o + i * j->padded;
        const float *x = part->o + i * j->padded;
        if (attn_first_block(j, u->position + i / j->shared) == block) {
            total->m[i] = part->m[i], total->l[i] = part->l[i];
            memcpy(o, x, (size_t)j->padded * sizeof *o);
            continue;
        }
        const float top = TK_MAX(total->m[i], part->m[i]), shift = attn_shift(top);
        float e[VW] = { total->m[i] - shift, part->m[i] - shift };
        v_store(e, v_exp2(v_load(e)));
        total->m[i] = top;
        total->l[i] = total->l[i] * e[0] + part->l[i] * e[1];
        for (int64_t d = 0; d < j->padded; d += VW)
            v_store(o + d, v_fma(v_load(x + d), v_set1(e[1]), v_load(o + d) * v_set1(e[0])));
    }
}

static void attn_finish(const attn_job *j, const attn_unit *u, const attn_part *r) {
    for (int64_t i = 0; i < u->tokens * j->shared; i++) {
        const int64_t t = u->token + i / j->shared, at = (t * j->heads + u->head) * j->shared + i % j->shared;
        if (j->lse) j->lse[at] = r->m[i] * 0.693147181f + logf(r->l[i]);
        if (!j->o) continue;
        const vf inverse = v_set1(1 / r->l[i]);
        const float *x = r->o + i * j->padded;
        float *o = j->o + at * j->d;
        int64_t d = 0;
        for (; d + VW <= j->d; d += VW) v_store(o + d, v_load(x + d) * inverse);
        if (d < j->d) v_store_n(o + d, v_load(x + d) * inverse, j->d - d);
    }
}

/* ---- sharing the work ---- */

static int64_t attn_blocks(const attn_unit *u) { return (u->position + u->tokens - 1) / ATTN_KEYS + 1; }
static bool attn_may_split(const attn_unit *u) { return u->tokens <= ATTN_SPLIT_TOKENS; }

/* About the time that the blocks before number `blocks` take: groups of 16 keys times rows, and something for
 * each group */
static int64_t attn_cost(const attn_job *j, const attn_unit *u, int64_t blocks) {
    const int64_t keys = TK_MIN(blocks * ATTN_KEYS, u->position + u->tokens);
    const int64_t skipped = tk_attn_first_key(&j->a->attr, u->position) / KV_GROUP;
    return TK_MAX(tk_ceil_div(keys, KV_GROUP) - skipped, 0) * (u->tokens * j->shared + 4);
}

/* Steps to the next unit: heads innermost, then tokens, then sequences. Start with seq = -1. */
static bool attn_next(attn_job *j, attn_unit *u) {
    const tk_batch *b = j->batch;
    if (u->seq >= 0 && ++u->head < j->heads) return true;
    u->head = 0;
    if (u->seq >= 0) u->token += u->tokens;
    while (u->seq < 0 || u->token >= b->start[u->seq + 1]) {
        if (++u->seq >= b->seqs) return false;
        u->token = b->start[u->seq];
        j->kv.first = u->token;
        if (j->paged) j->kv.page = b->pages + u->seq * b->max_pages;
    }
    u->tokens = TK_MIN(j->unit_tokens, b->start[u->seq + 1] - u->token);
    u->position = (j->paged ? b->past[u->seq] : 0) + u->token - b->start[u->seq];
    return true;
}

static void attn_run(attn_job *j, const tk_args *a, int64_t thread_floats) {
    const int64_t threads = a->nth, tokens = j->batch->start[j->batch->seqs];
    attn_work w;
    attn_work_at(&w, j, (float *)a->scratch + a->ith * thread_floats);
    j->unit_tokens = TK_MAX(1, j->rows / j->shared);
    while (j->unit_tokens > ATTN_SPLIT_TOKENS && tokens * j->heads < 4 * threads * j->unit_tokens)
        j->unit_tokens /= 2;

    int64_t all = 0, at = 0;
    for (attn_unit u = { .seq = -1 }; attn_next(j, &u);) all += attn_cost(j, &u, attn_blocks(&u));

    bool any_split = false;
    /* the unit whose first blocks are in w.total and whose others are not ours: our last one; its place in
     * the list of costs, its first block elsewhere */
    attn_unit mine = { .seq = -1 };
    int64_t mine_at = 0, mine_to = 0;
    for (attn_unit u = { .seq = -1 }; attn_next(j, &u);) {
        const int64_t blocks = attn_blocks(&u), rows = u.tokens * j->shared;
        const int64_t begin = attn_first_block(j, u.position);
        const int64_t slot = attn_part_floats(ATTN_SPLIT_TOKENS * j->shared, j->padded);
        int64_t from = blocks, to = 0; /* ours */
        int64_t first = at * threads / all, last = first;
        if (attn_may_split(&u) && blocks > begin + 1)
            last = (at + attn_cost(j, &u, blocks - 1)) * threads / all;
        any_split |= first != last;
        if (first <= a->ith && a->ith <= last) {
            for (int64_t c = begin; c < blocks; c++) {
                const int64_t owner = first == last ? first : (at + attn_cost(j, &u, c)) * threads / all;
                if (owner == a->ith) from = TK_MIN(from, c), to = c + 1;
            }
        }
        for (int64_t c = from; c < to; c++) {
            if (c == begin) {
                attn_block(j, &u, c, &w, &w.total);
            } else if (from == begin) {
                attn_block(j, &u, c, &w, &w.part);
                attn_merge(j, &u, c, &w.total, &w.part);
            } else {
                attn_part part = attn_part_at(w.slots + (c - from) * slot, rows);
                attn_block(j, &u, c, &w, &part);
            }
        }
        if (from == begin && to == blocks) attn_finish(j, &u, &w.total);
        if (from == begin && to < blocks) mine = u, mine_at = at, mine_to = to;
        at += attn_cost(j, &u, blocks);
    }
    if (!any_split) return;
    tk_pool_sync(a->pool, a->ith);
    if (mine.seq < 0) return;
    const int64_t blocks = attn_blocks(&mine), rows = mine.tokens * j->shared;
    const int64_t slot = attn_part_floats(ATTN_SPLIT_TOKENS * j->shared, j->padded);
    for (int64_t c = mine_to, thread = a->ith, n = 0; c < blocks; c++, n++) {
        const int64_t owner = (mine_at + attn_cost(j, &mine, c)) * threads / all;
        if (owner != thread) thread = owner, n = 0;
        attn_work other;
        attn_work_at(&other, j, (float *)a->scratch + owner * thread_floats);
        attn_part part = attn_part_at(other.slots + n * slot, rows);
        attn_merge(j, &mine, c, &w.total, &part);
    }
    attn_finish(j, &mine, &w.total);
}

/* Padding tokens behind the last sequence see no key and give 0 */
static void attn_padding(const attn_job *j, const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), from = j->batch->seqs ? j->batch->start[j->batch->seqs] : 0;
    const int64_t heads = j->heads * j->shared;
    if (a->ith || from >= t) return;
    if (j->o) memset(j->o + from * heads * j->d, 0, (size_t)((t - from) * heads * j->d) * sizeof(float));
    if (j->lse) memset(j->lse + from * heads, 0, (size_t)((t - from) * heads) * sizeof(float));
}

static attn_job attn_job_of(const tk_args *a, int k, int v, int o) {
    return (attn_job){ .kv = { .k = a->p[k],
                               .v = a->p[v],
                               .type_k = a->type[k],
                               .type_v = a->type[v],
                               .heads = TK_DIM(a, 'g'),
                               .d = TK_DIM(a, 'd') },
                       .batch = a->batch,
                       .q = a->p[0],
                       .o = a->p[o],
                       .heads = TK_DIM(a, 'g'),
                       .shared = TK_DIM(a, 'r'),
                       .d = TK_DIM(a, 'd'),
                       .rows = ATTN_ROWS,
                       .padded = (TK_DIM(a, 'd') + 15) / 16 * 16,
                       .scale = a->attr.f[1] > 0 ? a->attr.f[0] / a->attr.f[1] : a->attr.f[0] * 1.44269504f,
                       .cap = a->attr.f[1] > 0 ? a->attr.f[1] * 1.44269504f : 0,
                       .lse = a->p[o + 1],
                       .a = a };
}

