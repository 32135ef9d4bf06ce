/* SPDX-License-Identifier: Apache-2.0 */
/* attn: o_i = sum_j P_ij v_j, P = softmax over keys j <= i of the query's own sequence of f[0] q_i k_j, each
 * KV head g serving r query heads; l_i is the log-sum-exp of the scaled scores. A token outside every
 * sequence (padding) has no keys and gives 0. The adjoint recomputes P = exp(S - l) and uses sum_j P_ij dP_ij
 * = do_i o_i (Dao et al. 2022): dS = P (dP - do o), dq = f[0] dS k, dk = f[0] dS^T q, dv = P^T do. kvput
 * writes the step's keys and values into the paged cache at their slots; attn_paged is attn over that cache.
 * Both attentions run the same arithmetic on gathered rows, so they give the same bits for a cache of the
 * reference's own type. The cache layouts are those of ops.h; a quantized cache is taken as plain rows
 * [P][g][S][D] of its format, keys and values alike. */
#ifndef real
#define REF_SOURCE "ops/attn.c"
#include "ops/ref.h"
#else

/* The keys and values of one head of one sequence, gathered: rows of `width` */
struct ref(keys) {
    real *k, *v, *score, scale;
    int64_t width;
};

static struct ref(keys) ref(keys_new)(const tk_args *a, int64_t count) {
    const int64_t width = TK_DIM(a, 'd');
    return (struct ref(keys)){ ref_alloc(count * width, sizeof(real)), ref_alloc(count * width, sizeof(real)),
                               ref_alloc(count, sizeof(real)), (real)a->attr.f[0], width };
}

static void ref(keys_free)(struct ref(keys) * s) { free(s->k), free(s->v), free(s->score); }

static real ref(dot)(const real *x, const real *y, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* One query over the first `count` keys; returns the log-sum-exp. */
static real ref(attend)(const struct ref(keys) * s, int64_t count, const real *q, real *o) {
    real max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < count; j++) {
        s->score[j] = ref(dot)(q, s->k + j * s->width, s->width) * s->scale;
        max = fmax(max, s->score[j]);
    }
    memset(o, 0, (size_t)s->width * sizeof *o);
    for (int64_t j = 0; j < count; j++) {
        const real e = exp(s->score[j] - max);
        sum += e;
        for (int64_t d = 0; d < s->width; d++) o[d] += e * s->v[j * s->width + d];
    }
    for (int64_t d = 0; d < s->width; d++) o[d] /= sum;
    return max + log(sum);
}

/* Rows first .. first + count - 1 of head `head` of an unpaged [t][g][d] */
static void ref(gather)(real *dst, const tk_args *a, int operand, const int64_t range[2], int64_t head) {
    const int64_t heads = TK_DIM(a, 'g'), width = TK_DIM(a, 'd');
    const real *src = a->p[operand];
    for (int64_t j = 0; j < range[1]; j++)
        memcpy(dst + j * width, src + ((range[0] + j) * heads + head) * width, (size_t)width * sizeof *dst);
}

void ref(attn)(const tk_args *a) {
    const real *q = a->p[0];
    real *o = a->p[4], *l = a->p[5];
    const int64_t tokens = TK_DIM(a, 't'), groups = TK_DIM(a, 'g'), shared = TK_DIM(a, 'r'),
                  width = TK_DIM(a, 'd');
    struct ref(keys) s = ref(keys_new)(a, tokens);
    real *row = ref_alloc(width, sizeof *row);
    if (o) memset(o, 0, (size_t)(tokens * groups * shared * width) * sizeof *o);
    if (l) memset(l, 0, (size_t)(tokens * groups * shared) * sizeof *l);
    for (int seq = 0; seq < a->batch->seqs; seq++) {
        const int64_t first = a->batch->start[seq], count = a->batch->start[seq + 1] - first;
        for (int64_t g = 0; g < groups; g++) {
            ref(gather)(s.k, a, 1, (int64_t[]){ first, count }, g);
            ref(gather)(s.v, a, 2, (int64_t[]){ first, count }, g);
            for (int64_t n = 0; n < count * shared; n++) {
                const int64_t i = n / shared, head = ((first + i) * groups + g) * shared + n % shared;
                const real lse = ref(attend)(&s, i + 1, q + head * width, row);
                if (o) memcpy(o + head * width, row, (size_t)width * sizeof *o);
                if (l) l[head] = lse;
            }
        }
    }
    free(row), ref(keys_free)(&s);
}

/* do q k v s o l -> dq dk dv */
void ref(attn_adj1)(const tk_args *a) {
    const real *go = a->p[0], *q = a->p[1], *k = a->p[2], *v = a->p[3], *o = a->p[5], *l = a->p[6];
    real *dq = a->p[7], *dk = a->p[8], *dv = a->p[9];
    const int64_t tokens = TK_DIM(a, 't'), groups = TK_DIM(a, 'g'), shared = TK_DIM(a, 'r'),
                  width = TK_DIM(a, 'd');
    const real scale = (real)a->attr.f[0];
    if (dq) memset(dq, 0, (size_t)(tokens * groups * shared * width) * sizeof *dq);
    if (dk) memset(dk, 0, (size_t)(tokens * groups * width) * sizeof *dk);
    if (dv) memset(dv, 0, (size_t)(tokens * groups * width) * sizeof *dv);
    for (int seq = 0; seq < a->batch->seqs; seq++)
        for (int64_t i = a->batch->start[seq]; i < a->batch->start[seq + 1]; i++)
            for (int64_t h = 0; h < groups * shared; h++) {
                const int64_t query = i * groups * shared + h, iq = query * width;
                const real rowsum = ref(dot)(go + iq, o + iq, width);
                for (int64_t j = a->batch->start[seq]; j <= i; j++) {
                    const int64_t ik = (j * groups + h / shared) * width;
                    const real p = exp(ref(dot)(q + iq, k + ik, width) * scale - l[query]);
                    const real ds = p * (ref(dot)(go + iq, v + ik, width) - rowsum) * scale;
                    for (int64_t d = 0; d < width; d++) {
                        if (dq) dq[iq + d] += ds * k[ik + d];
                        if (dk) dk[ik + d] += ds * q[iq + d];
                        if (dv) dv[ik + d] += p * go[iq + d];
                    }
                }
            }
}

/* ---- the paged cache ---- */

/* Where number d of a key (or value) lies in an unquantized cache; row = (page g + head) S + offset in the
 * page */
static int64_t ref(place)(int64_t row, int64_t d, int64_t width, bool key) {
    return key ? row / 16 * 16 * width + d * 16 + row % 16 : row * width + d;
}

static void ref(cache_put)(const tk_args *a, int operand, int64_t row, const real *src) {
    const int64_t width = TK_DIM(a, 'd'), rows = TK_DIM(a, 'p') * TK_DIM(a, 'g') * TK_DIM(a, 's');
    const bool key = operand == 5;
    if (tk_formats[a->type[operand]].block > 1)
        ref(store)(&(ref_rows){ a, operand, rows, width }, src, row);
    else
        for (int64_t d = 0; d < width; d++)
            ref(store)(&(ref_rows){ a, operand, rows * width, 1 }, src + d, ref(place)(row, d, width, key));
}

static void ref(cache_get)(real *dst, const tk_args *a, int operand, int64_t row) {
    const int64_t width = TK_DIM(a, 'd'), rows = TK_DIM(a, 'p') * TK_DIM(a, 'g') * TK_DIM(a, 's');
    const bool key = operand == 2;
    if (tk_formats[a->type[operand]].block > 1)
        ref(load)(dst, &(ref_rows){ a, operand, rows, width }, row);
    else
        for (int64_t d = 0; d < width; d++)
            ref(load)(dst + d, &(ref_rows){ a, operand, rows * width, 1 }, ref(place)(row, d, width, key));
}

/* k v i ck cv -> nk nv, these two being the storage of ck and cv */
void ref(kvput)(const tk_args *a) {
    const real *k = a->p[0], *v = a->p[1];
    const int32_t *slot = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), groups = TK_DIM(a, 'g'), size = TK_DIM(a, 's'),
                  width = TK_DIM(a, 'd');
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t g = 0; g < groups && slot[t] >= 0; g++) {
            const int64_t row = (slot[t] / size * groups + g) * size + slot[t] % size;
            ref(cache_put)(a, 5, row, k + (t * groups + g) * width);
            ref(cache_put)(a, 6, row, v + (t * groups + g) * width);
        }
}

void ref(attn_paged)(const tk_args *a) {
    const real *q = a->p[0];
    real *o = a->p[4];
    const tk_batch *b = a->batch;
    const int64_t tokens = TK_DIM(a, 't'), groups = TK_DIM(a, 'g'), shared = TK_DIM(a, 'r'),
                  width = TK_DIM(a, 'd');
    const int64_t size = TK_DIM(a, 's');
    memset(o, 0, (size_t)(tokens * groups * shared * width) * sizeof *o);
    for (int seq = 0; seq < b->seqs; seq++) {
        const int64_t first = b->start[seq], past = b->past[seq], count = b->start[seq + 1] - first;
        const int32_t *pages = b->pages + (int64_t)seq * b->max_pages;
        struct ref(keys) s = ref(keys_new)(a, past + count);
        for (int64_t g = 0; g < groups; g++) {
            for (int64_t j = 0; j < past + count; j++) {
                const int64_t row = (pages[j / size] * groups + g) * size + j % size;
                ref(cache_get)(s.k + j * width, a, 2, row);
                ref(cache_get)(s.v + j * width, a, 3, row);
            }
            for (int64_t n = 0; n < count * shared; n++) {
                const int64_t i = n / shared, at = (((first + i) * groups + g) * shared + n % shared) * width;
                ref(attend)(&s, past + i + 1, q + at, o + at);
            }
        }
        ref(keys_free)(&s);
    }
}
#endif
