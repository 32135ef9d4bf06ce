/* SPDX-License-Identifier: Apache-2.0 */
/* Attention, packed (attn) and over the paged cache (attn_paged): one body. Included by the tier files.
 *
 * The order of every sum is a function of the query's position only (promise 2). Keys are counted from key 0
 * of the sequence and taken in blocks of ATTN_KEYS. In a block a score is one chain of FMAs over d, lanes
 * being keys, and values are one chain of FMAs over the keys, lanes being d; each block gives a partial
 * result of its own, and partial results are merged in order. So it makes no difference which queries share a
 * tile, or which thread does which block of a long context. Keys that a query must not see enter no sum at
 * all, whatever bits lie in their place. With a window, blocks before it are not visited, and a row starts
 * with the first that it sees.
 *
 * Work is cut into units: some consecutive tokens of a sequence times the r query heads of a KV head. All
 * threads know the same list of units. Of many, each takes whole ones as it gets on. Of few, each takes an
 * equal share of the costs: whole units, except that a unit of few tokens may be cut between blocks. Then its
 * later blocks go to slots of scratch, and whoever has the first one merges them after a barrier. */

enum {
    NQ = 6,                /* queries in registers */
    MV = VW == 16 ? 4 : 2, /* vectors of keys, or of d, beside them: NQ x MV sums fill the registers */
};

/* fn(rows, ...) with the number of rows known to the compiler */
#define BY_ROWS(n, call)                                                                                     \
    switch (n) {                                                                                             \
    case 1: call(1); break;                                                                                  \
    case 2: call(2); break;                                                                                  \
    case 3: call(3); break;                                                                                  \
    case 4: call(4); break;                                                                                  \
    case 5: call(5); break;                                                                                  \
    default: call(6);                                                                                        \
    }

typedef struct attn_job {
    kv_source kv; /* page and first: of the sequence at hand */
    const tk_batch *batch;
    bool paged;
    const float *q;
    float *o, *lse;
    int64_t heads, shared, d, padded; /* KV heads, query heads of each, padded: d up to a multiple of 16 */
    int64_t unit_tokens;
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
    float *kt, *vt; /* a block of keys and of values as float32 */
    float *slots;
} attn_work;

static attn_part attn_part_at(float *p, int64_t rows) { return (attn_part){ p, p + rows, p + 2 * rows }; }

static void attn_work_at(attn_work *w, const attn_job *j, float *p) {
    const int64_t rows = TK_MAX(ATTN_ROWS, j->shared), part = attn_part_floats(rows, j->padded);
    w->total = attn_part_at(p, rows), p += part;
    w->part = attn_part_at(p, rows), p += part;
    w->slope = p, p += (j->shared + 15) / 16 * 16;
    w->kt = p, p += ATTN_KEYS * j->padded;
    w->vt = p, p += ATTN_KEYS * j->padded;
    w->slots = p;
}

/* ---- the two products in registers ---- */

/* s[i][..] = q_i k for nq queries and nv vectors of keys, e outermost: nq x nv chains side by side. Vector v
 * is
 * [..][16] numbers of `type` from k[v] + at[v] on. */
V_INLINE void attn_scores(float *s, const float *const q[NQ], const void *const k[MV], const int at[MV],
                          int64_t d, const int type, const int nq, const int nv) {
    const int64_t step = type == TK_Q8_0 ? KV_Q8 : d;
    vf sum[NQ][MV];
    V_FOR(i, nq) V_FOR(v, nv) sum[i][v] = (vf){ 0 };
    for (int64_t block = 0; block < d; block += step) {
        vf scale[MV] = { 0 };
        const char *from[MV];
        V_FOR(v, nv) {
            from[v] = k[v];
            if (type != TK_Q8_0) continue;
            from[v] += block / KV_Q8 * KV_Q8_BYTES, scale[v] = v_load_f16((const uint16_t *)from[v] + at[v]);
            from[v] += KV_Q8_SCALES;
        }
        for (int64_t e = 0; e < step; e++) {
            vf key[MV];
            V_FOR(v, nv) {
                const int64_t place = e * KV_GROUP + at[v];
                key[v] = type == TK_Q8_0 ? v_load_i8((const int8_t *)from[v] + place) * scale[v]
                                         : load_as(from[v], type, place);
            }
            V_FOR(i, nq) {
                const vf qe = v_set1(q[i][block + e]);
                V_FOR(v, nv) sum[i][v] = v_fma(key[v], qe, sum[i][v]);
            }
        }
    }
    V_FOR(i, nq) V_FOR(v, nv) v_store(s + i * ATTN_KEYS + v * VW, sum[i][v]);
}

/* Vectors of a block's keys: first .. end - 1 */
typedef struct attn_vectors {
    int first, end;
} attn_vectors;

/* Scores of `rows` queries with some of the block's keys (or a few more) */
V_INLINE void attn_score_block(float *s, const float *const q[NQ], const kv_block *b, int64_t d, int rows,
                               attn_vectors which, const int type) {
    for (int v0 = which.first / MV * MV; v0 < which.end; v0 += MV) {
        const void *k[MV];
        int at[MV];
        for (int v = 0; v < MV; v++) k[v] = b->k[(v0 + v) * VW / KV_GROUP], at[v] = (v0 + v) * VW % KV_GROUP;
        const int left = which.end - v0;
#define SCORES(n) attn_scores(s + v0 * VW, q, k, at, d, type, n, MV)
        if (left > 2 || left >= MV) BY_ROWS(rows, SCORES)
#undef SCORES
#define SCORES(n) attn_scores(s + v0 * VW, q, k, at, d, type, n, 2)
        else if (left == 2)
            BY_ROWS(rows, SCORES)
#undef SCORES
#define SCORES(n) attn_scores(s + v0 * VW, q, k, at, d, type, n, 1)
        else
            BY_ROWS(rows, SCORES)
#undef SCORES
    }
}

/* What the products with values need to know */
typedef struct attn_sums {
    float *o;       /* rows of `padded` sums */
    const float *p; /* rows of ATTN_KEYS weights */
    const kv_block *b;
    int64_t d, padded;
    int from, to; /* keys of the block */
} attn_sums;

/* o_i += sum over keys of p_i v, for nq rows and nv vectors from column e on. `part`: the last vector has
 * only d - e columns left. */
V_INLINE void attn_values(const attn_sums *a, int64_t e, const int type, const int nq, const int nv,
                          const bool part) {
    vf sum[NQ][MV];
    float *o = a->o + e;
    const int64_t stride = a->b->stride;
    V_FOR(i, nq) V_FOR(v, nv) sum[i][v] = v_load(o + i * a->padded + v * VW);
    for (int key = a->from; key < a->to;) {
        const char *group = a->b->v[key / KV_GROUP];
        int64_t at = key % KV_GROUP * stride + e;
        const int stop = TK_MIN(a->to, (key | (KV_GROUP - 1)) + 1);
        float scale[(MV * VW + KV_Q8 - 1) / KV_Q8]
                   [KV_GROUP]; /* of a group's rows, for each block of columns */
        if (type == TK_Q8_0) {
            group += e / KV_Q8 * KV_Q8_BYTES, at = key % KV_GROUP * KV_Q8 + e % KV_Q8;
            for (int c = 0; c * KV_Q8 < nv * VW; c++)
                for (int i = 0; i < KV_GROUP; i += VW)
                    v_store(scale[c] + i, v_load_f16((const uint16_t *)(group + c * KV_Q8_BYTES) + i));
        }
        for (; key < stop; key++, at += type == TK_Q8_0 ? KV_Q8 : stride) {
            vf value[MV];
            V_FOR(v, nv) {
                const int c = v * VW / KV_Q8;
                if (type == TK_Q8_0)
                    value[v] = v_load_i8((const int8_t *)group + c * KV_Q8_BYTES + KV_Q8_SCALES + at +
                                         v * VW % KV_Q8) *
                               v_set1(scale[c][key % KV_GROUP]);
                else
                    value[v] =
                        part ? load_part(group, type, at, a->d - e) : load_as(group, type, at + v * VW);
            }
            V_FOR(i, nq) {
                const vf pi = v_set1(a->p[i * ATTN_KEYS + key]);
                V_FOR(v, nv) sum[i][v] = v_fma(value[v], pi, sum[i][v]);
            }
        }
    }
    V_FOR(i, nq) V_FOR(v, nv) v_store(o + i * a->padded + v * VW, sum[i][v]);
}

V_INLINE void attn_value_block(const attn_sums *a, int rows, const int type) {
    int64_t e = 0;
#define VALUES(n) attn_values(a, e, type, n, MV, false)
    for (; e + MV * VW <= a->d; e += MV * VW) BY_ROWS(rows, VALUES)
#undef VALUES
#define VALUES(n) attn_values(a, e, type, n, 1, false)
    for (; e + VW <= a->d; e += VW) BY_ROWS(rows, VALUES)
#undef VALUES
#define VALUES(n) attn_values(a, e, type, n, 1, true)
    if (e < a->d) BY_ROWS(rows, VALUES)
#undef VALUES
}

#define BY_TYPE(type, fn, ...)                                                                               \
    switch (type) {                                                                                          \
    case TK_F16: fn(__VA_ARGS__, TK_F16); break;                                                             \
    case TK_BF16: fn(__VA_ARGS__, TK_BF16); break;                                                           \
    case TK_Q8_0: fn(__VA_ARGS__, TK_Q8_0); break;                                                           \
    default: fn(__VA_ARGS__, TK_F32);                                                                        \
    }
static void attn_score(float *s, const float *const q[NQ], const kv_block *b, int64_t d, int rows,
                       attn_vectors which) {
    BY_TYPE(b->type, attn_score_block, s, q, b, d, rows, which);
}
static void attn_value(const attn_sums *a, int rows) { BY_TYPE(a->b->type, attn_value_block, a, rows); }

/* ---- a block, a unit ---- */

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
    for (int v = which.first; v < which.end; v++) {
        vf x = v_load(s + v * VW) * c;
        if (v * VW + VW > seen) x = v_first(x, nothing, seen - v * VW);
        if (v * VW < skip) x = v_first(nothing, x, skip - v * VW);
        v_store(s + v * VW, x), top = v_max(top, x);
    }
    return v_max_lane(top);
}

/* 2^x, but zero below 2^-126: a number that becomes too small to be normal costs Intel's CPUs a hundred
 * cycles, and every row has some keys that it does not see */
V_INLINE vf attn_weight(vf x) {
    const vf least = v_set1(-126), p = v_exp2(v_max(least, x));
#if VW == 16
    return (vf)_mm512_maskz_mov_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)least, _CMP_NLT_UQ), (__m512)p);
#else
    return v_select(x < least, (vf){ 0 }, p);
#endif
}

/* One row's scores -> 2^(score - shift); their sum. Vectors left out would add zeros. */
V_INLINE float attn_weights(float *s, float shift, attn_vectors which) {
    vf sum = { 0 };
    for (int v = which.first; v < which.end; v++) {
        const vf p = attn_weight(v_load(s + v * VW) - v_set1(shift));
        v_store(s + v * VW, p), sum += p;
    }
    return v_sum(sum);
}

/* o += weights times values, for rows that see different keys: `skip` and `seen` grow with the row. The keys
 * that all see go in one product; those before and behind it row by row, still in the order of keys. */
static void attn_add_values(const attn_job *j, attn_sums sums, int rows, const int skip[NQ],
                            const int seen[NQ]) {
    const int from = skip[rows - 1], to = seen[0];
    const attn_sums all = sums;
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < rows; i++) {
            sums.o = all.o + i * j->padded, sums.p = all.p + i * ATTN_KEYS;
            sums.from = side ? TK_MAX(from, to) : skip[i], sums.to = side ? seen[i] : TK_MIN(from, seen[i]);
            if (sums.from < sums.to) attn_value(&sums, 1);
        }
        sums = all, sums.from = from, sums.to = to;
        if (!side && from < to) attn_value(&sums, rows);
    }
}

/* Rows row .. row + rows - 1 (<= NQ) of unit u over the block of keys from `from` on; each sees some of them
 */
static void attn_rows(const attn_job *j, const attn_unit *u, const kv_block *b, int64_t from, int64_t row,
                      int rows, const attn_part *r, const attn_work *w) {
    _Alignas(64) float s[NQ * ATTN_KEYS];
    const float *q[NQ] = { 0 };
    int skip[NQ] = { 0 },
        seen[NQ] = { 0 }; /* keys skip .. seen - 1 of this block are those that a row sees */
    const bool alibi = j->a->attr.f[2] > 0, bent = alibi || j->cap > 0;
    for (int i = 0; i < rows; i++) {
        const int64_t t = (row + i) / j->shared, h = (row + i) % j->shared, position = u->position + t;
        q[i] = j->q + (((u->token + t) * j->heads + u->head) * j->shared + h) * j->d;
        skip[i] = (int)TK_MAX(tk_attn_first_key(&j->a->attr, position) - from, 0);
        seen[i] = (int)TK_MIN(position - from + 1, ATTN_KEYS);
    }
    const attn_vectors which = { skip[0] / VW, (seen[rows - 1] + VW - 1) / VW };
    attn_score(s, q, b, j->d, rows, which);
    for (int i = 0; i < rows; i++) {
        float *si = s + i * ATTN_KEYS;
        const int64_t t = (row + i) / j->shared, h = (row + i) % j->shared;
        if (bent) attn_bend(j, si, which, alibi ? w->slope[h] : 0, u->position + t - from);
        r->m[row + i] = attn_mask(si, bent ? 1 : j->scale, which, skip[i], seen[i]);
    }
    for (int i = 0; i < rows; i++)
        r->l[row + i] = attn_weights(s + i * ATTN_KEYS, attn_shift(r->m[row + i]), which);
    const attn_sums sums = { .o = r->o + row * j->padded, .p = s, .b = b, .d = j->d, .padded = j->padded };
    memset(sums.o, 0, (size_t)(rows * j->padded) * sizeof(float));
    attn_add_values(j, sums, rows, skip, seen);
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

/* The partial result of a block for the rows that see it */
static void attn_block(const attn_job *j, const attn_unit *u, int64_t block, attn_work *w,
                       const attn_part *r) {
    const int64_t least = tk_attn_first_key(&j->a->attr, u->position); /* what the first row sees */
    const int64_t from = block * ATTN_KEYS, end = TK_MIN(from + ATTN_KEYS, u->position + u->tokens);
    const attn_range rows = attn_seeing(j, u, block);
    const kv_span span = { u->head, from, TK_MAX(least - from, 0), end - from, u->tokens * j->shared > NQ };
    kv_block b;
    for (int64_t i = 0; i < j->shared && j->a->attr.f[2] > 0; i++)
        w->slope[i] = (float)(tk_attn_slope(&j->a->attr, j->a->dim, u->head, i) * 1.4426950408889634);
    kv_view(&j->kv, &span, w->kt, w->vt, &b);
    for (int64_t row = rows.start; row < rows.stop; row += NQ)
        attn_rows(j, u, &b, from, row, (int)TK_MIN(rows.stop - row, NQ), r, w);
}

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

/* A unit from its first block to its last */
static void attn_whole(const attn_job *j, const attn_unit *u, attn_work *w) {
    const int64_t begin = attn_first_block(j, u->position);
    for (int64_t c = begin; c < attn_blocks(u); c++) {
        attn_block(j, u, c, w, c == begin ? &w->total : &w->part);
        if (c > begin) attn_merge(j, u, c, &w->total, &w->part);
    }
    attn_finish(j, u, &w->total);
}

/* Many units: threads take whole ones as they get on */
static void attn_take(attn_job *j, const tk_args *a, attn_work *w, int64_t units) {
    tk_share share = tk_share_begin(a->pool, units, 1, a->ith, a->nth);
    attn_unit u = { .seq = -1 };
    int64_t at = -1; /* the number of u */
    for (int64_t from, to; tk_share_next(&share, &from, &to);) {
        if (from <= at) u = (attn_unit){ .seq = -1 }, at = -1;
        while (at < to - 1) {
            attn_next(j, &u);
            if (++at >= from) attn_whole(j, &u, w);
        }
    }
}

static void attn_run(attn_job *j, const tk_args *a, int64_t thread_floats) {
    enum { MANY = 8 }; /* units a thread */
    const int64_t threads = a->nth, tokens = j->batch->start[j->batch->seqs];
    attn_work w;
    attn_work_at(&w, j, (float *)a->scratch + a->ith * thread_floats);
    j->unit_tokens = TK_MAX(1, ATTN_ROWS / j->shared);
    while (j->unit_tokens > ATTN_SPLIT_TOKENS && tokens * j->heads < 4 * threads * j->unit_tokens)
        j->unit_tokens /= 2;

    int64_t all = 0, at = 0, units = 0;
    for (attn_unit u = { .seq = -1 }; attn_next(j, &u); units++) all += attn_cost(j, &u, attn_blocks(&u));
    if (units >= MANY * threads) {
        attn_take(j, a, &w, units);
        return;
    }

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
                       .padded = (TK_DIM(a, 'd') + 15) / 16 * 16,
                       .scale = a->attr.f[1] > 0 ? a->attr.f[0] / a->attr.f[1] : a->attr.f[0] * 1.44269504f,
                       .cap = a->attr.f[1] > 0 ? a->attr.f[1] * 1.44269504f : 0,
                       .lse = a->p[o + 1],
                       .a = a };
}

/* q k v s -> o l */
void KERNEL_NAME(attn)(const tk_args *a) {
    attn_job j = attn_job_of(a, 1, 2, 4);
    attn_padding(&j, a);
    if (!j.batch->seqs || (!j.o && !j.lse)) return;
    attn_run(&j, a, attn_thread_floats(j.shared, j.d, TK_DIM(a, 't')));
}

/* q i ck cv -> o l */
void KERNEL_NAME(attn_paged)(const tk_args *a) {
    attn_job j = attn_job_of(a, 2, 3, 4);
    j.paged = true, j.kv.page_size = TK_DIM(a, 's');
    attn_padding(&j, a);
    if (!j.batch->seqs || (!j.o && !j.lse)) return;
    attn_run(&j, a, attn_thread_floats(j.shared, j.d, TK_DIM(a, 'p') * TK_DIM(a, 's')));
}

/* y = o / (1 + e^(n - l)) */
void KERNEL_NAME(sink)(const tk_args *a) {
    const int64_t heads = TK_DIM(a, 'g') * TK_DIM(a, 'r'), d = TK_DIM(a, 'd');
    const float *l = a->p[1], *n = a->p[2];
    int64_t row, to;
    tk_split(TK_DIM(a, 't') * heads, TK_MAX(1, ELEM_GRAIN / TK_MAX(d, 1)), a->ith, a->nth, &row, &to);
    for (; row < to; row++) {
        const float *o = (const float *)a->p[0] + row * d;
        float *y = (float *)a->p[3] + row * d;
        const vf kept = v_set1(1) / (v_set1(1) + v_exp(v_set1(n[row % heads] - l[row])));
        int64_t i = 0;
        for (; i + VW <= d; i += VW) v_store(y + i, v_load(o + i) * kept);
        if (i < d) v_store_n(y + i, v_load_n(o + i, d - i) * kept, d - i);
    }
}
