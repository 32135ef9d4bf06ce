/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks of attention (attn_units.h) by vectors. In a block a score is one chain of FMAs over d, lanes being keys,
 * and values are one chain of FMAs over the keys, lanes being d. Included by the tier files. */
#include "ops/attn_units.h"

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

/* One row's scores -> 2^(score - shift); their sum. Vectors left out would add zeros. */
V_INLINE float attn_weights(float *s, float shift, attn_vectors which) {
    vf sum = { 0 };
    for (int v = which.first; v < which.end; v++) {
        const vf p = v_exp2(v_load(s + v * VW) - v_set1(shift));
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
    int skip[NQ] = { 0 }, seen[NQ] = { 0 };
    for (int i = 0; i < rows; i++) {
        q[i] = attn_query(j, u, row + i);
        attn_sees(j, u, from, row + i, &skip[i], &seen[i]);
    }
    const attn_vectors which = { skip[0] / VW, (seen[rows - 1] + VW - 1) / VW };
    attn_score(s, q, b, j->d, rows, which);
    for (int i = 0; i < rows; i++)
        r->m[row + i] = attn_row_scores(j, u, w, row + i, s + i * ATTN_KEYS, which);
    for (int i = 0; i < rows; i++)
        r->l[row + i] = attn_weights(s + i * ATTN_KEYS, attn_shift(r->m[row + i]), which);
    const attn_sums sums = { .o = r->o + row * j->padded, .p = s, .b = b, .d = j->d, .padded = j->padded };
    memset(sums.o, 0, (size_t)(rows * j->padded) * sizeof(float));
    attn_add_values(j, sums, rows, skip, seen);
}

/* The partial result of a block for the rows that see it */
static void attn_block(const attn_job *j, const attn_unit *u, int64_t block, attn_work *w,
                       const attn_part *r) {
    const int64_t least = tk_attn_first_key(&j->a->attr, u->position); /* what the first row sees */
    const int64_t from = block * ATTN_KEYS, end = TK_MIN(from + ATTN_KEYS, u->position + u->tokens);
    const attn_range rows = attn_seeing(j, u, block);
    const kv_span span = { u->head, from, TK_MAX(least - from, 0), end - from, u->tokens * j->shared > NQ };
    kv_block b;
    attn_slopes(j, u, w), w->from = from;
    kv_view(&j->kv, &span, w->kt, w->vt, &b);
    for (int64_t row = rows.start; row < rows.stop; row += NQ)
        attn_rows(j, u, &b, from, row, (int)TK_MIN(rows.stop - row, NQ), r, w);
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
