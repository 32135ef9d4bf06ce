/* SPDX-License-Identifier: Apache-2.0 */
/* attn: o_i = sum_j P_ij v_j, P = softmax over the keys that query i sees in its own sequence of their scores
 * S_ij (ops.def), each KV head g serving r query heads; l_i is the log-sum-exp of the scores. A token outside
 * every sequence (padding) has no keys and gives 0. The adjoints recompute P = exp(S - l) and use sum_j P_ij
 * dP_ij = do_i o_i (Dao et al. 2022): dS = P (dP - do o + dl), times the slope of the soft cap; dq = f[0] dS
 * k, dk = f[0] dS^T q, dv = P^T do. do and dl come to different records, whose results add up. sink: y = o s
 * with s = 1 / (1 + e^(n - l)), so dl = -dn = (1 - s) s dy o. kvput writes the step's keys and values into
 * the paged cache at their slots; attn_paged is attn over that cache. Both attentions run the same arithmetic
 * on gathered rows, so they give the same bits for a cache of the reference's own type. The cache layouts are
 * those of ops.h; a quantized cache is taken as plain rows [P][g][S][D] of its format, keys and values alike.
 */
#ifndef real
#define REF_SOURCE "ops/attn.c"
#include "ops/ref.h"
#else

/* What makes a score out of q k, for one query head */
struct ref(rule) {
    real scale, cap, slope;
};

static struct ref(rule) ref(rule_of)(const tk_args *a, int64_t g, int64_t r) {
    return (struct ref(rule)){ (real)a->attr.f[0], (real)a->attr.f[1],
                               (real)tk_attn_slope(&a->attr, a->dim, g, r) };
}

/* The score of a key `back` positions before the query; *bend: its derivative by the scaled product */
static real ref(score)(const struct ref(rule) * s, real product, int64_t back, real *bend) {
    real x = product * s->scale;
    *bend = 1;
    if (s->cap > 0) {
        const real t = tanh(x / s->cap);
        x = s->cap * t, *bend = 1 - t * t;
    }
    return x - s->slope * (real)back;
}

/* The keys and values of one head of one sequence, gathered: rows of `width` */
struct ref(keys) {
    const tk_args *a;
    real *k, *v, *score;
    int64_t width;
};

static struct ref(keys) ref(keys_new)(const tk_args *a, int64_t count) {
    const int64_t width = TK_DIM(a, 'd');
    return (struct ref(keys)){ a, ref_alloc(count * width, sizeof(real)),
                               ref_alloc(count * width, sizeof(real)), ref_alloc(count, sizeof(real)),
                               width };
}

static void ref(keys_free)(struct ref(keys) * s) { free(s->k), free(s->v), free(s->score); }

static real ref(dot)(const real *x, const real *y, int64_t n) {
    real sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

/* The query at position i; returns the log-sum-exp. */
static real ref(attend)(const struct ref(keys) * s, const struct ref(rule) * rule, int64_t i, const real *q,
                        real *o) {
    const int64_t first = tk_attn_first_key(&s->a->attr, i);
    real max = -INFINITY, sum = 0, bend;
    for (int64_t j = first; j <= i; j++) {
        s->score[j] = ref(score)(rule, ref(dot)(q, s->k + j * s->width, s->width), i - j, &bend);
        max = fmax(max, s->score[j]);
    }
    memset(o, 0, (size_t)s->width * sizeof *o);
    for (int64_t j = first; j <= i; j++) {
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
                const struct ref(rule) rule = ref(rule_of)(a, g, n % shared);
                const real lse = ref(attend)(&s, &rule, i, q + head * width, row);
                if (o) memcpy(o + head * width, row, (size_t)width * sizeof *o);
                if (l) l[head] = lse;
            }
        }
    }
    free(row), ref(keys_free)(&s);
}

/* Operands of both adjoints; NULL: not there, or nobody's */
struct ref(back) {
    const real *go, *gl, *q, *k, *v, *o, *l;
    real *dq, *dk, *dv;
};

/* The query at token i of the sequence that starts at token `start`, head (g, r) */
static void ref(attend_back)(const tk_args *a, const struct ref(back) * b, const int64_t at[2],
                             int64_t head) {
    const int64_t groups = TK_DIM(a, 'g'), shared = TK_DIM(a, 'r'), width = TK_DIM(a, 'd');
    const int64_t start = at[0], i = at[1], query = i * groups * shared + head, iq = query * width;
    const struct ref(rule) rule = ref(rule_of)(a, head / shared, head % shared);
    const real rowsum = (b->go ? ref(dot)(b->go + iq, b->o + iq, width) : 0) - (b->gl ? b->gl[query] : 0);
    for (int64_t j = start + tk_attn_first_key(&a->attr, i - start); j <= i; j++) {
        const int64_t ik = (j * groups + head / shared) * width;
        real bend;
        const real s = ref(score)(&rule, ref(dot)(b->q + iq, b->k + ik, width), i - j, &bend);
        const real p = exp(s - b->l[query]), dp = b->go ? ref(dot)(b->go + iq, b->v + ik, width) : 0;
        const real ds = p * (dp - rowsum) * bend * rule.scale;
        for (int64_t d = 0; d < width; d++) {
            if (b->dq) b->dq[iq + d] += ds * b->k[ik + d];
            if (b->dk) b->dk[ik + d] += ds * b->q[iq + d];
            if (b->dv) b->dv[ik + d] += p * b->go[iq + d];
        }
    }
}

static void ref(attn_back)(const tk_args *a, const struct ref(back) * b) {
    const int64_t groups = TK_DIM(a, 'g'), heads = groups * TK_DIM(a, 'r'), width = TK_DIM(a, 'd');
    const size_t row = (size_t)(TK_DIM(a, 't') * width) * sizeof(real);
    if (b->dq) memset(b->dq, 0, row * (size_t)heads);
    if (b->dk) memset(b->dk, 0, row * (size_t)groups);
    if (b->dv) memset(b->dv, 0, row * (size_t)groups);
    for (int seq = 0; seq < a->batch->seqs; seq++)
        for (int64_t i = a->batch->start[seq]; i < a->batch->start[seq + 1]; i++)
            for (int64_t h = 0; h < heads; h++)
                ref(attend_back)(a, b, (int64_t[]){ a->batch->start[seq], i }, h);
}

/* do q k v s o l -> dq dk dv */
void ref(attn_adj1)(const tk_args *a) {
    void *const *p = a->p;
    const struct ref(back) b = {
        .go = p[0], .q = p[1], .k = p[2], .v = p[3], .o = p[5], .l = p[6], .dq = p[7], .dk = p[8], .dv = p[9]
    };
    ref(attn_back)(a, &b);
}

/* dl q k s l -> dq dk */
void ref(attn_adj2)(const tk_args *a) {
    void *const *p = a->p;
    const struct ref(back) b = { .gl = p[0], .q = p[1], .k = p[2], .l = p[4], .dq = p[5], .dk = p[6] };
    ref(attn_back)(a, &b);
}

/* ---- sinks ---- */

/* The share of a row's softmax that its keys keep; without overflow */
static real ref(kept)(real l, real n) {
    const real e = exp(-fabs(n - l));
    return n > l ? e / (1 + e) : 1 / (1 + e);
}

/* o l n -> y */
void ref(sink)(const tk_args *a) {
    const real *o = a->p[0], *l = a->p[1], *n = a->p[2];
    real *y = a->p[3];
    const int64_t heads = TK_DIM(a, 'g') * TK_DIM(a, 'r'), width = TK_DIM(a, 'd');
    for (int64_t row = 0; row < TK_DIM(a, 't') * heads; row++) {
        const real kept = ref(kept)(l[row], n[row % heads]);
        for (int64_t d = 0; d < width; d++) y[row * width + d] = o[row * width + d] * kept;
    }
}

/* dy o l n -> do dl */
void ref(sink_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *o = a->p[1], *l = a->p[2], *n = a->p[3];
    real *go = a->p[4], *gl = a->p[5];
    const int64_t heads = TK_DIM(a, 'g') * TK_DIM(a, 'r'), width = TK_DIM(a, 'd');
    for (int64_t row = 0; row < TK_DIM(a, 't') * heads; row++) {
        const real kept = ref(kept)(l[row], n[row % heads]);
        for (int64_t d = 0; go && d < width; d++) go[row * width + d] = dy[row * width + d] * kept;
        if (gl) gl[row] = kept * (1 - kept) * ref(dot)(dy + row * width, o + row * width, width);
    }
}

/* dy o l n -> dn */
void ref(sink_adj2)(const tk_args *a) {
    const real *dy = a->p[0], *o = a->p[1], *l = a->p[2], *n = a->p[3];
    real *dn = a->p[4];
    const int64_t heads = TK_DIM(a, 'g') * TK_DIM(a, 'r'), width = TK_DIM(a, 'd');
    memset(dn, 0, (size_t)heads * sizeof *dn);
    for (int64_t row = 0; row < TK_DIM(a, 't') * heads; row++) {
        const real kept = ref(kept)(l[row], n[row % heads]);
        dn[row % heads] -= kept * (1 - kept) * ref(dot)(dy + row * width, o + row * width, width);
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
    real *o = a->p[4], *l = a->p[5];
    const tk_batch *b = a->batch;
    const int64_t tokens = TK_DIM(a, 't'), groups = TK_DIM(a, 'g'), shared = TK_DIM(a, 'r'),
                  width = TK_DIM(a, 'd');
    const int64_t size = TK_DIM(a, 's');
    real *line = ref_alloc(width, sizeof *line);
    if (o) memset(o, 0, (size_t)(tokens * groups * shared * width) * sizeof *o);
    if (l) memset(l, 0, (size_t)(tokens * groups * shared) * sizeof *l);
    for (int seq = 0; seq < b->seqs; seq++) {
        const int64_t first = b->start[seq], past = b->past[seq], count = b->start[seq + 1] - first;
        const int32_t *pages = b->pages + (int64_t)seq * b->max_pages;
        struct ref(keys) s = ref(keys_new)(a, past + count);
        for (int64_t g = 0; g < groups; g++) {
            for (int64_t j = tk_attn_first_key(&a->attr, past); j < past + count; j++) {
                const int64_t row = (pages[j / size] * groups + g) * size + j % size;
                ref(cache_get)(s.k + j * width, a, 2, row);
                ref(cache_get)(s.v + j * width, a, 3, row);
            }
            for (int64_t n = 0; n < count * shared; n++) {
                const int64_t i = n / shared, head = ((first + i) * groups + g) * shared + n % shared;
                const struct ref(rule) rule = ref(rule_of)(a, g, n % shared);
                const real lse = ref(attend)(&s, &rule, past + i, q + head * width, line);
                if (o) memcpy(o + head * width, line, (size_t)width * sizeof *o);
                if (l) l[head] = lse;
            }
        }
        ref(keys_free)(&s);
    }
    free(line);
}
#endif
