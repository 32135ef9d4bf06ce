/* SPDX-License-Identifier: Apache-2.0 */
/* kvput, attn_paged and attn on every tier that this CPU has: against attention in double (tolerance: twice a
 * naive float32 run's error), and bitwise: whole or chunked prefill, alone or in a batch, page sizes, page
 * order, thread counts, and the training form give the same bits. Caches start as NaN bytes everywhere, so a
 * key that does not exist and yet counts shows. */
#include "cpu_tiers.h"

enum { SEQS = 4 };

/* Sequences with all their queries, keys and values */
typedef struct world {
    int64_t heads, shared, d, len[SEQS];
    int seqs;
    tk_attr attr;
    float *q[SEQS], *k[SEQS], *v[SEQS];
} world;

static world world_new(int64_t heads, int64_t shared, int64_t d, const int64_t *len, int seqs) {
    world w = { .heads = heads, .shared = shared, .d = d, .seqs = seqs, .attr.f = { 1 / sqrtf((float)d) } };
    for (int s = 0; s < seqs; s++) {
        const int64_t n = len[s] * heads * d;
        w.len[s] = len[s];
        w.q[s] = guarded(n * shared), w.k[s] = guarded(n), w.v[s] = guarded(n);
        /* scores up to about 10, so that some keys matter much and others underflow nearly */
        fill(w.q[s], n * shared, 3, 100 + (uint64_t)s), fill(w.k[s], n, 2, 200 + (uint64_t)s),
            fill(w.v[s], n, 1, 300 + (uint64_t)s);
    }
    return w;
}
static void world_free(world *w) {
    for (int s = 0; s < w->seqs; s++) release(w->q[s]), release(w->k[s]), release(w->v[s]);
}
static int64_t row_of(const world *w) { return w->heads * w->shared * w->d; }

/* ---- the truth ---- */

/* Rounds n numbers to what a cache of this type keeps; Q8_0 by the format's own packer, which may differ from
 * the kernel's in ties: the tolerance covers one step of the scale */
static void round_to(float *x, int64_t n, tk_dtype type) {
    for (int64_t i = 0; i < n; i++)
        x[i] = type == TK_F16    ? tk_f16_f32(tk_f32_f16(x[i]))
               : type == TK_BF16 ? tk_bf16_f32(tk_f32_bf16(x[i]))
                                 : x[i];
    if (type != TK_Q8_0) return;
    uint8_t block[34];
    for (int64_t i = 0; i < n; i += 32) {
        tk_formats[type].pack(block, x + i, 1, 32, 0);
        tk_formats[type].unpack(x + i, block, 1, 32, 0);
    }
}

/* ALiBi's slope as Hugging Face's build_alibi_tensor has it, for a largest bias of 8 */
static double slope_of(int64_t head, int64_t heads) {
    const double closest = exp2(floor(log2((double)heads)));
    const double base = exp2(-exp2(-(log2(closest) - 3))), extra = exp2(-exp2(-(log2(2 * closest) - 3)));
    return (double)head < closest ? pow(base, (double)head + 1)
                                  : pow(extra, 2 * ((double)head - closest) + 1);
}

/* A score from a product; `back`: how far the key stands before the query */
static double shaped(const world *w, double product, int64_t head, int64_t back) {
    double x = product * (double)w->attr.f[0], cap = (double)w->attr.f[1];
    if (w->attr.f[1] > 0) x = cap * tanh(x / cap);
    return w->attr.f[2] > 0 ? x - slope_of(head, w->heads * w->shared) * (double)back : x;
}
static float shaped_float(const world *w, float product, int64_t head, int64_t back) {
    float x = product * w->attr.f[0], cap = w->attr.f[1];
    if (cap > 0) x = cap * tanhf(x / cap);
    return w->attr.f[2] > 0 ? x - (float)slope_of(head, w->heads * w->shared) * (float)back : x;
}

/* Causal attention of one sequence in double, and in float; o[len][heads shared][d], l likewise */
static void exact_attention(const world *w, int s, const float *k, const float *v, double *o, double *l,
                            float *rough) {
    double *score = malloc((size_t)w->len[s] * sizeof *score);
    float *fscore = malloc((size_t)w->len[s] * sizeof *fscore);
    for (int64_t i = 0; i < w->len[s]; i++)
        for (int64_t h = 0; h < w->heads * w->shared; h++) {
            const int64_t at = i * w->heads * w->shared + h, g = h / w->shared;
            double top = -INFINITY, sum = 0;
            float ftop = -INFINITY, fsum = 0;
            const int64_t first = w->attr.i[0] ? TK_MAX(0, i - w->attr.i[0] + 1) : 0;
            for (int64_t j = first; j <= i; j++) {
                double dot = 0;
                float fdot = 0;
                for (int64_t e = 0; e < w->d; e++) {
                    const float a = w->q[s][at * w->d + e], b = k[(j * w->heads + g) * w->d + e];
                    dot += (double)a * b, fdot += a * b;
                }
                score[j] = shaped(w, dot, h, i - j), fscore[j] = shaped_float(w, fdot, h, i - j);
                top = fmax(top, score[j]), ftop = fmaxf(ftop, fscore[j]);
            }
            for (int64_t j = first; j <= i; j++) {
                score[j] = exp(score[j] - top), sum += score[j];
                fscore[j] = expf(fscore[j] - ftop), fsum += fscore[j];
            }
            for (int64_t e = 0; e < w->d; e++) {
                double out = 0;
                float fout = 0;
                for (int64_t j = first; j <= i; j++) {
                    out += score[j] * v[(j * w->heads + g) * w->d + e];
                    fout += fscore[j] * v[(j * w->heads + g) * w->d + e];
                }
                o[at * w->d + e] = out / sum, rough[at * w->d + e] = fout / fsum;
            }
            l[at] = top + log(sum);
        }
    free(score), free(fscore);
}

/* ---- the kernels ---- */

typedef struct plan {
    tk_dtype type;
    int page_size, chunk, threads;
    int only; /* one sequence alone, or -1: all in each step */
} plan;

/* A step's arguments at the sizes of a world */
static void sizes_of(const world *w, tk_args *a, int64_t tokens, int64_t pages, int64_t page_size) {
    const struct {
        char letter;
        int64_t n;
    } dims[] = { { 't', tokens }, { 'g', w->heads }, { 'r', w->shared },
                 { 'd', w->d },   { 'p', pages },    { 's', page_size } };
    for (size_t i = 0; i < TK_COUNT(dims); i++)
        a->dim[dims[i].letter - 'a'] = (tk_dim){ dims[i].n, 0, dims[i].n };
}

/* Serves the sequences in steps of at most `chunk` tokens each, over a cache with shuffled pages; o[s][..]
 * and, if asked for, l[s][..] */
static void serve_both(const tier *t, const world *w, plan p, float **o, float **l) {
    int64_t longest = 0, done[SEQS] = { 0 };
    for (int s = 0; s < w->seqs; s++) longest = TK_MAX(longest, w->len[s]);
    const int max_pages = (int)tk_ceil_div(longest, p.page_size), pages = max_pages * w->seqs + 3;
    size_t bytes;
    assert_true(tk_format_size(p.type, (int64_t)pages * w->heads * p.page_size, w->d, &bytes));
    uint8_t *ck = malloc(bytes + 1), *cv = malloc(bytes + 1);
    memset(ck, 0xff, bytes), memset(cv, 0xff, bytes);
    ck[bytes] = cv[bytes] = 0x5a;
    int32_t *table = malloc((size_t)(w->seqs * max_pages) * sizeof *table);
    for (int i = 0; i < w->seqs * max_pages; i++)
        table[i] = (int32_t)((int64_t)(i + 1) * 7919 % (w->seqs * max_pages) + 2);
    if (w->seqs * max_pages % 7919 == 0) fail();

    for (bool more = true; more;) {
        more = false;
        int32_t start[SEQS + 1] = { 0 }, past[SEQS] = { 0 },
                             *used = malloc((size_t)(SEQS * max_pages) * sizeof *used);
        int which[SEQS], seqs = 0;
        for (int s = 0; s < w->seqs; s++) {
            const int64_t n = TK_MIN(p.chunk, w->len[s] - done[s]);
            if (n == 0 || (p.only >= 0 && p.only != s)) continue;
            which[seqs] = s, past[seqs] = (int32_t)done[s], start[seqs + 1] = start[seqs] + (int32_t)n;
            for (int i = 0; i < max_pages; i++) /* pages that the sequence has not reached yet are no pages */
                used[seqs * max_pages + i] = i * p.page_size < done[s] + n ? table[s * max_pages + i] : -1;
            for (int i = 0; w->attr.i[0] && (i + 1) * p.page_size <= done[s] - w->attr.i[0]; i++)
                used[seqs * max_pages + i] = -1; /* nor those that no window reaches any more */
            seqs++;
        }
        const int64_t tokens = start[seqs], padding = 2, all = tokens + padding, row = row_of(w),
                      kv = w->heads * w->d;
        if (tokens == 0) {
            free(used);
            break;
        }
        float *q = guarded(all * row), *k = guarded(all * kv), *v = guarded(all * kv),
              *out = guarded(all * row), *lse = guarded(all * row / w->d);
        int32_t *slot = malloc((size_t)all * sizeof *slot);
        for (int64_t i = 0; i < all; i++) slot[i] = -1;
        for (int i = 0; i < seqs; i++) {
            const int s = which[i];
            const int64_t n = start[i + 1] - start[i];
            memcpy(q + start[i] * row, w->q[s] + done[s] * row, (size_t)(n * row) * 4);
            memcpy(k + start[i] * kv, w->k[s] + done[s] * kv, (size_t)(n * kv) * 4);
            memcpy(v + start[i] * kv, w->v[s] + done[s] * kv, (size_t)(n * kv) * 4);
            for (int64_t j = 0; j < n; j++) {
                const int64_t at = done[s] + j;
                slot[start[i] + j] =
                    used[i * max_pages + at / p.page_size] * p.page_size + (int32_t)(at % p.page_size);
            }
        }
        tk_batch b = { (int32_t)tokens, seqs, start, past, used, max_pages, p.page_size, 0, 0 };
        tk_args put = { .p = { k, v, slot, ck, cv, ck, cv }, .batch = &b };
        put.type[3] = put.type[4] = put.type[5] = put.type[6] = (uint8_t)p.type;
        tk_args att = { .p = { q, slot, ck, cv, out, l ? lse : NULL }, .batch = &b, .attr = w->attr };
        att.type[2] = att.type[3] = (uint8_t)p.type;
        sizes_of(w, &put, all, pages, p.page_size), sizes_of(w, &att, all, pages, p.page_size);
        run(t->kvput, &put, p.threads);
        const size_t scratch = attn_paged_scratch(att.dim, p.threads);
        char *area = aligned_alloc(64, tk_align(scratch, 64) + 64);
        memset(area, 0xff, tk_align(scratch, 64) + 64);
        att.scratch = area;
        run(t->attn_paged, &att, p.threads);
        for (int i = 0; i < 64; i++) assert_int_equal((uint8_t)area[tk_align(scratch, 64) + (size_t)i], 0xff);
        for (int i = 0; i < seqs; i++) {
            const int s = which[i];
            const int64_t n = start[i + 1] - start[i], heads = row / w->d;
            memcpy(o[s] + done[s] * row, out + start[i] * row, (size_t)(n * row) * 4);
            if (l) memcpy(l[s] + done[s] * heads, lse + start[i] * heads, (size_t)(n * heads) * 4);
            done[s] += start[i + 1] - start[i], more = true;
        }
        for (int64_t i = tokens * row; i < all * row; i++) assert_true(out[i] == 0);
        check_guards(out, all * row), check_guards(lse, all * row / w->d), release(lse);
        free(area), free(slot), free(used), release(q), release(k), release(v), release(out);
    }
    assert_true(ck[bytes] == 0x5a && cv[bytes] == 0x5a);
    for (size_t i = 0; i < bytes / (size_t)pages * 2; i++) /* nobody's pages: padding tokens write nowhere */
        assert_true(ck[i] == 0xff && cv[i] == 0xff);
    free(ck), free(cv), free(table);
}

static void serve(const tier *t, const world *w, plan p, float **o) { serve_both(t, w, p, o, NULL); }

/* All sequences packed in one training step */
static void train(const tier *t, const world *w, int threads, float **o, float **l) {
    int32_t start[SEQS + 1] = { 0 }, past[SEQS] = { 0 };
    for (int s = 0; s < w->seqs; s++) start[s + 1] = start[s] + (int32_t)w->len[s];
    const int64_t tokens = start[w->seqs], row = row_of(w), kv = w->heads * w->d, rows = w->heads * w->shared;
    float *q = guarded(tokens * row), *k = guarded(tokens * kv), *v = guarded(tokens * kv),
          *out = guarded(tokens * row), *lse = guarded(tokens * rows);
    for (int s = 0; s < w->seqs; s++) {
        memcpy(q + start[s] * row, w->q[s], (size_t)(w->len[s] * row) * 4);
        memcpy(k + start[s] * kv, w->k[s], (size_t)(w->len[s] * kv) * 4);
        memcpy(v + start[s] * kv, w->v[s], (size_t)(w->len[s] * kv) * 4);
    }
    tk_batch b = { (int32_t)tokens, w->seqs, start, past, NULL, 0, 0, 0, 0 };
    tk_args a = { .p = { q, k, v, NULL, out, l ? lse : NULL }, .batch = &b, .attr = w->attr };
    sizes_of(w, &a, tokens, 0, 0);
    a.scratch = aligned_alloc(64, tk_align(attn_scratch(a.dim, threads), 64));
    run(t->attn, &a, threads);
    check_guards(out, tokens * row), check_guards(lse, tokens * rows);
    for (int s = 0; s < w->seqs; s++) {
        memcpy(o[s], out + start[s] * row, (size_t)(w->len[s] * row) * 4);
        if (l) memcpy(l[s], lse + start[s] * rows, (size_t)(w->len[s] * rows) * 4);
    }
    free(a.scratch), release(q), release(k), release(v), release(out), release(lse);
}

static void outputs_new(const world *w, float **o) {
    for (int s = 0; s < w->seqs; s++) o[s] = guarded(w->len[s] * row_of(w));
}
static void outputs_free(const world *w, float **o) {
    for (int s = 0; s < w->seqs; s++) release(o[s]);
}
static void same_bits(const world *w, float **got, float **want, int only, const char *what) {
    for (int s = 0; s < w->seqs; s++)
        if ((only < 0 || only == s) && memcmp(got[s], want[s], (size_t)(w->len[s] * row_of(w)) * 4)) {
            int64_t i = 0;
            while (tk_f32_bits(got[s][i]) == tk_f32_bits(want[s][i])) i++;
            fail_msg("%s: sequence %d, token %d of %d: %.9g, not %.9g", what, s, (int)(i / row_of(w)),
                     (int)w->len[s], got[s][i], want[s][i]);
        }
}

/* ---- tests ---- */

static void check_values(const tier *t, const world *w, tk_dtype type) {
    float *o[SEQS], *paged[SEQS], *l[SEQS], *lp[SEQS];
    outputs_new(w, o), outputs_new(w, paged);
    for (int s = 0; s < w->seqs; s++)
        l[s] = guarded(row_of(w) / w->d * w->len[s]), lp[s] = guarded(row_of(w) / w->d * w->len[s]);
    serve_both(t, w, (plan){ type, 64, 1 << 20, 1, -1 }, paged, lp);
    if (type == TK_F32) {
        train(t, w, 1, o, l), same_bits(w, o, paged, -1, "training form");
        for (int s = 0; s < w->seqs; s++)
            assert_memory_equal(l[s], lp[s], (size_t)(row_of(w) / w->d * w->len[s]) * 4);
    }
    for (int s = 0; s < w->seqs; s++) {
        const int64_t n = w->len[s] * row_of(w), kv = w->len[s] * w->heads * w->d, rows = n / w->d;
        float *k = guarded(kv), *v = guarded(kv), *rough = guarded(n);
        double *want = malloc((size_t)n * sizeof *want), *lse = malloc((size_t)rows * sizeof *lse);
        memcpy(k, w->k[s], (size_t)kv * 4), memcpy(v, w->v[s], (size_t)kv * 4);
        round_to(k, kv, type), round_to(v, kv, type);
        exact_attention(w, s, k, v, want, lse, rough);
        double worst = 0, naive = 0, top = 0;
        for (int64_t i = 0; i < n; i++) {
            worst = fmax(worst, fabs(paged[s][i] - want[i])), naive = fmax(naive, fabs(rough[i] - want[i]));
            top = fmax(top, fabs(want[i]));
            if (isnan(paged[s][i])) fail_msg("NaN at %d", (int)i);
        }
        if (type == TK_Q8_0)
            assert_true(worst < 0.02 * top);
        else
            assert_close(worst, naive, 2 * top);
        for (int64_t i = 0; i < rows && type == TK_F32; i++)
            assert_true(fabs(l[s][i] - lse[i]) < 3e-6 * (fabs(lse[i]) + 1));
        release(k), release(v), release(rough), free(want), free(lse);
    }
    outputs_free(w, o), outputs_free(w, paged);
    for (int s = 0; s < w->seqs; s++) release(l[s]), release(lp[s]);
}

static const tk_dtype types[] = { TK_F32, TK_F16, TK_BF16, TK_Q8_0 };

static void test_values(void **state) {
    static const int64_t shape[][3] = { { 3, 3, 64 },  { 1, 1, 8 },  { 2, 1, 80 },  { 1, 4, 96 },
                                        { 1, 8, 128 }, { 2, 2, 32 }, { 1, 1, 256 }, { 1, 2, 20 },
                                        { 1, 3, 7 },   { 1, 50, 16 } };
    static const int64_t len[SEQS] = { 1, 63, 130, 17 };
    for (size_t i = 0; i < TK_COUNT(shape); i++) {
        world w = world_new(shape[i][0], shape[i][1], shape[i][2], len, SEQS);
        for (size_t k = 0; k < TK_COUNT(types); k++)
            if (types[k] == TK_F32 || (i < 4 && w.d % 32 == 0) || (i == 2 && types[k] != TK_Q8_0))
                check_values(*state, &w, types[k]);
        world_free(&w);
    }
}

static void check_same(const tier *t, const world *w, tk_dtype type) {
    float *want[SEQS], *got[SEQS];
    outputs_new(w, want), outputs_new(w, got);
    serve(t, w, (plan){ type, 64, 1 << 20, 1, -1 }, want);
    static const plan plans[] = { { 0, 64, 1, 1, -1 },  { 0, 16, 7, 2, -1 },    { 0, 32, 64, 3, -1 },
                                  { 0, 256, 7, 1, -1 }, { 0, 16, 4096, 8, -1 }, { 0, 256, 33, 2, -1 } };
    for (size_t i = 0; i < TK_COUNT(plans); i++) {
        plan p = plans[i];
        p.type = type;
        serve(t, w, p, got);
        char what[64];
        snprintf(what, sizeof what, "page %d chunk %d threads %d", p.page_size, p.chunk, p.threads);
        same_bits(w, got, want, -1, what);
    }
    for (int s = 0; s < w->seqs; s++) {
        serve(t, w, (plan){ type, 32, 50, 2, s }, got);
        same_bits(w, got, want, s, "alone");
    }
    if (type == TK_F32)
        for (int threads = 1; threads <= 3; threads++) {
            train(t, w, threads, got, NULL);
            same_bits(w, got, want, -1, "training form");
        }
    outputs_free(w, want), outputs_free(w, got);
}

static void test_same(void **state) {
    static const int64_t shape[][3] = { { 3, 3, 64 }, { 2, 1, 24 }, { 1, 8, 32 } };
    static const int64_t len[SEQS] = { 130, 1, 77, 64 };
    for (size_t i = 0; i < TK_COUNT(shape); i++) {
        world w = world_new(shape[i][0], shape[i][1], shape[i][2], len, SEQS);
        for (size_t k = 0; k < TK_COUNT(types); k++)
            if (types[k] != TK_Q8_0 || w.d % 32 == 0) check_same(*state, &w, types[k]);
        world_free(&w);
    }
}

/* Scores that are more than scaled products, and windows, alone and together: against double, and the same
 * bits in any company. Windows end inside a block, at its end, and chunks behind the first. */
static void test_shaped(void **state) {
    static const tk_attr attrs[] = {
        { { 0.3f, 4 }, { 0 } },         { { 0.2f, 0, 8 }, { 0 } }, { { 0.2f }, { 1 } },
        { { 0.2f }, { 64 } },           { { 0.2f }, { 257 } },     { { 0.3f, 2, 8 }, { 23 } },
        { { 0.2f, 0, 8, 1 }, { 300 } },
    };
    static const int64_t len[SEQS] = { 130, 1, 77, 64 }, longer[2] = { 800, 333 };
    for (size_t i = 0; i < TK_COUNT(attrs); i++) {
        const bool chunks = attrs[i].i[0] > 60;
        world w = chunks ? world_new(1, 2, 16, longer, 2) : world_new(2, 3, 32, len, SEQS);
        w.attr = attrs[i];
        for (size_t k = 0; k < TK_COUNT(types); k++) {
            if (types[k] == TK_Q8_0 && w.d % 32) continue;
            check_values(*state, &w, types[k]);
            if (types[k] == TK_F32 || (types[k] == TK_Q8_0 && !chunks)) check_same(*state, &w, types[k]);
        }
        world_free(&w);
    }
}

/* Contexts of several chunks: one token at the end is cut between threads, a long prefill is not */
static void test_long(void **state) {
    static const int64_t len[2] = { 1700, 600 };
    world w = world_new(1, 2, 16, len, 2);
    float *want[SEQS], *got[SEQS];
    outputs_new(&w, want), outputs_new(&w, got);
    check_values(*state, &w, TK_F32);
    serve(*state, &w, (plan){ TK_F32, 64, 1 << 20, 1, -1 }, want);
    static const plan plans[] = {
        { 0, 64, 1, 3, -1 }, { 0, 32, 3, 8, -1 }, { 0, 64, 1699, 8, -1 }, { 0, 16, 1000, 2, 0 }
    };
    for (size_t i = 0; i < TK_COUNT(plans); i++) {
        plan p = plans[i];
        p.type = TK_F32;
        serve(*state, &w, p, got);
        same_bits(&w, got, want, p.only, "long");
    }
    train(*state, &w, 3, got, NULL);
    same_bits(&w, got, want, -1, "long, training form");
    outputs_free(&w, want), outputs_free(&w, got), world_free(&w);
}

/* A bad number reaches the queries that see it and no other */
static void test_bad_numbers(void **state) {
    static const int64_t len[2] = { 100, 70 };
    for (int key = 0; key < 2; key++) {
        world w = world_new(1, 2, 32, len, 2);
        float *want[SEQS], *got[SEQS];
        outputs_new(&w, want), outputs_new(&w, got);
        for (size_t k = 0; k < TK_COUNT(types); k++) {
            serve(*state, &w, (plan){ types[k], 32, 40, 1, -1 }, want);
            float *bad = (key ? w.k : w.v)[0] + 50 * w.d + 3, keep = *bad;
            *bad = NAN;
            serve(*state, &w, (plan){ types[k], 32, 40, 2, -1 }, got);
            *bad = keep;
            same_bits(&w, got, want, 1, "a neighbour's NaN");
            assert_memory_equal(got[0], want[0], (size_t)(50 * row_of(&w)) * 4);
            for (int64_t i = 50 * 2; i < 100 * 2; i++) assert_true(isnan(got[0][i * w.d + 3]));
        }
        outputs_free(&w, want), outputs_free(&w, got), world_free(&w);
    }
    /* scores that overflow to -infinity weigh nothing, wherever they stand */
    world w = world_new(1, 1, 8, (int64_t[]){ 700 }, 1);
    float *o[SEQS];
    outputs_new(&w, o);
    for (int64_t i = 0; i < 700 * 8; i++) w.q[0][i] = 1e30f, w.k[0][i] = i / 8 < 650 ? -1e30f : 1e-30f;
    serve(*state, &w, (plan){ TK_F32, 64, 1 << 20, 2, -1 }, o);
    double mean = 0;
    for (int i = 650; i < 700; i++) mean += w.v[0][i * 8] / 50;
    assert_true(fabs(o[0][699 * 8] - mean) < 1e-6);
    outputs_free(&w, o), world_free(&w);
}

int main(void) {
    int failed = 0;
    for (size_t i = 0; i < TK_COUNT(tiers); i++) {
        if (tiers[i].needs & ~tk_cpu_features()) {
            printf("skipped: this CPU has no %s\n", tiers[i].name);
            continue;
        }
        void *t = (void *)(uintptr_t)&tiers[i];
        printf("tier %s\n", tiers[i].name);
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_prestate(test_values, t),      cmocka_unit_test_prestate(test_same, t),
            cmocka_unit_test_prestate(test_long, t),        cmocka_unit_test_prestate(test_shaped, t),
            cmocka_unit_test_prestate(test_bad_numbers, t),
        };
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
