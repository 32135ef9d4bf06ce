/* SPDX-License-Identifier: Apache-2.0 */
/* The references against independent truths: finite differences in double for every adjoint, known answers of
 * Philox, and properties that a wrong formula or a wrong index breaks (a cut vocabulary merges to the whole,
 * the paged cache gives attention's own bits, packing does not move the dropout mask, integers are exact). */
#include "opcase.h"

static double largest(const double *v, int64_t n) {
    double max = 0;
    for (int64_t i = 0; i < n; i++) max = fmax(max, fabs(v[i]));
    return max;
}

static void close_to(const double *got, const double *want, int64_t n, double tolerance, const char *text) {
    const double scale = largest(want, n);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * (scale + 1e-30)))
            fail_msg("%s: element %d is %.17g, should be %.17g", text, (int)i, got[i], want[i]);
}

/* ---- the tables ---- */

static void every_op_has_its_references(void **state) {
    int count;
    const op_info *ops = op_table(&count);
    (void)state;
    for (int i = 0; i < count; i++) {
        int cases = 0, functions = 0;
        for (int j = 0; j < op_ncases; j++) cases += !strcmp(op_cases[j].op, ops[i].name);
        for (int k = 0; k < 4; k++) functions += ops[i].ref[0][k] && ops[i].ref[1][k];
        /* what moves data between ranks is run by the executor */
        if (op_is_fused(ops[i].name)) continue;
        const bool moves =
            ops[i].flags & OP_COMM || !strcmp(ops[i].name, "slice") || !strcmp(ops[i].name, "once");
        if (functions != (moves ? 0 : 1 + ops[i].adjoints))
            fail_msg("%s has %d references", ops[i].name, functions);
        if (!moves && !cases) fail_msg("%s has no case in opcase_table.c", ops[i].name);
    }
}

/* ---- finite differences ---- */

/* J = sum over outputs of (gradient of the output) . output */
static double objective(instance *in) {
    const signature *sig = &in->op->sig[0];
    op_call k = { .fn = in->op->ref[1][0] };
    double sum = 0;
    op_call_types(&k, TK_F64);
    op_call_run(&k, in);
    for (int i = 0; i < sig->nout; i++)
        for (int j = 0; j < in->n; j++) {
            const tensor *t = &in->t[j];
            if (t->name[0] != 'd' || strcmp(t->name + 1, sig->o[sig->nin + i].name)) continue;
            for (int64_t e = 0; e < t->rows * t->cols; e++) /* -inf: the log-sum-exp of padding alone */
                if (!isinf(k.out[i][e])) sum += t->v[e] * k.out[i][e];
        }
    op_call_free(&k);
    return sum;
}

static double slope(instance *in, double *x) {
    static const double step[] = { 1, -1, 2, -2 }, weight[] = { 8, -8, -1, 1 }, h = 1e-4;
    const double keep = *x;
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        *x = keep + step[i] * h;
        sum += weight[i] * objective(in);
    }
    *x = keep;
    return sum / (12 * h);
}

/* The gradient of operand `name` against slopes at up to 40 of its elements */
static void check_gradient(instance *in, const char *name, const double *gradient, rng *r) {
    tensor *x = instance_find(in, name);
    const int64_t n = x->rows * x->cols;
    const double scale = 1 + largest(gradient, n);
    if (x->integer) fail_msg("%s: gradient of integers %s", in->text, name);
    for (int64_t i = 0; i < TK_MIN(n, 40); i++) {
        const int64_t at = n <= 40 ? i : rng_below(r, (int)n);
        const double want = slope(in, &x->v[at]);
        if (!(fabs(gradient[at] - want) <= 1e-7 * scale))
            fail_msg("%s: d%s[%d] is %.12g, the slope is %.12g", in->text, name, (int)at, gradient[at], want);
    }
}

/* All adjoints of an instance; what several of them say about one operand adds up */
static void check_adjoints(instance *in, rng *r) {
    tensor sum[TK_MAX_OPERANDS];
    int n = 0;
    for (int adj = 1; adj <= in->op->adjoints; adj++) {
        const signature *sig = &in->op->sig[adj];
        op_call k = { .fn = in->op->ref[1][adj], .adj = adj };
        op_call_types(&k, TK_F64);
        op_call_run(&k, in);
        for (int i = 0; i < sig->nout; i++) {
            const tensor *of = instance_find(in, sig->o[sig->nin + i].name + 1);
            int at = 0;
            while (at < n && strcmp(sum[at].name, of->name)) at++;
            if (at == n) sum[n] = *of, sum[n++].v = calloc((size_t)(of->rows * of->cols), sizeof *of->v);
            for (int64_t e = 0; e < of->rows * of->cols; e++) sum[at].v[e] += k.out[i][e];
        }
        op_call_free(&k);
    }
    for (int i = 0; i < n; i++) check_gradient(in, sum[i].name, sum[i].v, r), free(sum[i].v);
    for (int i = 0; i < in->op->aliases; i++)
        check_gradient(in, in->op->alias[i][0] + 1, instance_find(in, in->op->alias[i][1])->v, r);
}

static void adjoints_are_derivatives(void **state) {
    (void)state;
    for (int seed = 0; seed < 3; seed++)
        for (int c = 0; c < op_ncases; c++) {
            rng r = { test_seed() + (uint64_t)seed, 0 };
            instance in;
            if (!strcmp(op_cases[c].op, "qlinear")) continue; /* a staircase; see integers_are_exact */
            instance_make(&in, &op_cases[c], &r);
            int64_t work = 1;
            for (int i = 0; i < 26; i++) work *= in.dim[i].n ? in.dim[i].n : 1;
            if ((in.op->adjoints || in.op->aliases) && work < 6000) {
                instance_forward(&in, false);
                check_adjoints(&in, &r);
            }
            instance_free(&in);
        }
}

/* ---- float against double ---- */

static void float_agrees_with_double(void **state) {
    (void)state;
    for (int c = 0; c < op_ncases; c++) {
        rng r = { test_seed(), 0 };
        instance in;
        const bool paged = !strcmp(op_cases[c].op, "attn_paged");
        instance_make(&in, &op_cases[c], &r);
        if (!strcmp(in.op->name, "qlinear")) goto next; /* 127 v / max may round the other way */
        if (paged) instance_cache(&in, kvput_ref_f64, TK_F64, TK_F64);
        instance_forward(&in, true);
        for (int adj = 0; adj <= in.op->adjoints; adj++) {
            const signature *sig = &in.op->sig[adj];
            op_call f = { .fn = in.op->ref[0][adj], .adj = adj },
                    d = { .fn = in.op->ref[1][adj], .adj = adj };
            op_call_types(&f, TK_F32), op_call_types(&d, TK_F64);
            op_call_run(&d, &in);
            if (paged) instance_cache(&in, kvput_ref_f32, TK_F32, TK_F32);
            op_call_run(&f, &in);
            for (int i = 0; i < sig->nout; i++) {
                const int64_t n = (int64_t)(d.size[i] / 8);
                for (int64_t e = 0; e < n; e++)
                    if (isinf(d.out[i][e]) && f.out[i][e] == d.out[i][e]) f.out[i][e] = d.out[i][e] = 0;
                close_to(f.out[i], d.out[i], n, adj ? 1e-4 : 3e-5, in.text);
            }
            /* an output that nobody reads is NULL, and the others are the same without it */
            for (int skip = 0; skip < sig->nout && sig->nout > 1 && !(in.op->flags & OP_STATE); skip++) {
                op_call s = { .fn = f.fn, .adj = adj, .skip = 1u << skip };
                op_call_types(&s, TK_F32);
                op_call_run(&s, &in);
                for (int i = 0; i < sig->nout; i++)
                    if (i != skip) assert_memory_equal(s.bytes[i], f.bytes[i], f.size[i]);
                op_call_free(&s);
            }
            op_call_free(&f), op_call_free(&d);
        }
    next:
        instance_free(&in);
    }
}

/* Weights of every format that can be written give what their unpacked numbers give. */
static void weights_of_any_format(void **state) {
    static const char *ops[] = { "linear", "embed", "head" };
    (void)state;
    for (int type = 0; type < TK_DTYPES; type++)
        for (int o = 0; o < 3; o++) {
            if (!tk_formats[type].pack || tk_formats[type].group > 1) continue;
            const op_case c = { ops[o], o ? "t3 v40 k256" : "t3 n40 k256", "", "", { { 0 }, { 0 } } };
            rng r = { test_seed(), 0 };
            instance in;
            instance_make(&in, &c, &r);
            tensor_round(instance_find(&in, "w"), (tk_dtype)type);
            instance_forward(&in, false);
            const signature *sig = &in.op->sig[0];
            op_call k = { .fn = in.op->ref[1][0] };
            op_call_types(&k, TK_F64);
            k.type[1] = (tk_dtype)type;
            op_call_run(&k, &in);
            const tensor *want = instance_find(&in, sig->o[sig->nin].name);
            close_to(k.out[0], want->v, want->rows * want->cols, 1e-14, tk_formats[type].name);
            op_call_free(&k), instance_free(&in);
        }
}

/* ---- properties ---- */

static void philox_known_answers(void **state) {
    /* Random123's kat_vectors, philox4x32 10 */
    static const struct {
        uint32_t counter[4];
        uint64_t key;
        uint32_t want[4];
    } kat[] = {
        { { 0, 0, 0, 0 }, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff },
          0xffffffffffffffffu,
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
          0x299f31d0a4093822u,
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    (void)state;
    for (size_t i = 0; i < TK_COUNT(kat); i++) {
        uint32_t got[4];
        tk_philox(got, kat[i].key, kat[i].counter);
        assert_memory_equal(got, kat[i].want, sizeof got);
    }
}

/* Runs head on rows [first, first + n) of the case's w */
static void head_slice(instance *whole, int64_t first, int64_t n, op_call k[3]) {
    instance in = *whole;
    const int64_t width = in.dim['k' - 'a'].n;
    for (int i = 0; i < in.n; i++)
        if (!strcmp(in.t[i].name, "w")) in.t[i].v += first * width, in.t[i].rows = n;
    in.dim['v' - 'a'].n = n, in.dim['v' - 'a'].first = first;
    for (int adj = 0; adj < 3; adj++) {
        k[adj] = (op_call){ .fn = in.op->ref[1][adj], .adj = adj };
        op_call_types(&k[adj], TK_F64);
        op_call_run(&k[adj], &in);
    }
}

static void cut_vocabulary_merges_to_the_whole(void **state) {
    const op_case c = { "head", "t7 v15@0/13 k6", "", "", { { 0 }, { 0 } } }; /* 2 rows of padding */
    const int64_t tokens = 7, width = 6;
    rng r = { test_seed(), 0 };
    instance in;
    op_call all[3], part[3][3];
    (void)state;
    instance_make(&in, &c, &r);
    instance_forward(&in, false);
    head_slice(&in, 0, 15, all);
    double lse[7] = { 0 }, p[7] = { 0 }, dx[42] = { 0 };
    for (int s = 0; s < 3; s++) {
        head_slice(&in, 5 * s, 5, part[s]);
        for (int64_t t = 0; t < tokens; t++)
            lse[t] += exp(part[s][0].out[0][t]), p[t] += part[s][0].out[1][t];
        for (int64_t i = 0; i < tokens * width; i++) dx[i] += part[s][1].out[0][i];
        close_to(part[s][2].out[0], all[2].out[0] + 5 * s * width, 5 * width, 1e-13, "dw");
    }
    for (int64_t t = 0; t < tokens; t++) lse[t] = log(lse[t]);
    close_to(lse, all[0].out[0], tokens, 1e-13, "l");
    close_to(p, all[0].out[1], tokens, 1e-13, "p");
    close_to(dx, all[1].out[0], tokens * width, 1e-13, "dx");
    for (int64_t i = 13 * width; i < 15 * width; i++) assert_true(all[2].out[0][i] == 0);
    for (int adj = 0; adj < 3; adj++) {
        op_call_free(&all[adj]);
        for (int s = 0; s < 3; s++) op_call_free(&part[s][adj]);
    }
    instance_free(&in);
}

/* The paged form over chunks of a sequence gives the bits of the packed form over the whole. */
static void paged_attention_is_attention(void **state) {
    static const op_case c = { "attn_paged", "t9 g2 r3 d8 p6 s16", "4 5", "19 30", { { 0.3f }, { 0 } } };
    rng r = { test_seed(), 0 };
    instance in, whole;
    (void)state;
    instance_make(&in, &c, &r);
    instance_cache(&in, kvput_ref_f64, TK_F64, TK_F64);
    op_call paged = { .fn = attn_paged_ref_f64 };
    op_call_types(&paged, TK_F64);
    op_call_run(&paged, &in);
    const op_case w = { "attn", "t58 g2 r3 d8", "23 35", "", { { 0.3f }, { 0 } } };
    instance_make(&whole, &w, &r);
    for (int i = 0; i < 2; i++) {
        tensor *t = instance_find(&whole, i ? "v" : "k");
        memcpy(t->v, in.history[i].v, (size_t)(t->rows * t->cols) * sizeof *t->v);
    }
    const double *q = instance_find(&in, "q")->v;
    double *all = instance_find(&whole, "q")->v;
    memcpy(all + 19 * 48, q, 4 * 48 * sizeof *q);
    memcpy(all + (23 + 30) * 48, q + 4 * 48, 5 * 48 * sizeof *q);
    op_call packed = { .fn = attn_ref_f64 };
    op_call_types(&packed, TK_F64);
    op_call_run(&packed, &whole);
    assert_memory_equal(paged.out[0], packed.out[0] + 19 * 48, 4 * 48 * sizeof *q);
    assert_memory_equal(paged.out[0] + 4 * 48, packed.out[0] + 53 * 48, 5 * 48 * sizeof *q);
    op_call_free(&paged), op_call_free(&packed), instance_free(&in), instance_free(&whole);
}

/* A cache of each type gives attention over rounded keys and values. */
static void cache_of_any_type(void **state) {
    static const tk_dtype types[] = { TK_F32, TK_F16, TK_BF16, TK_Q8_0 };
    static const op_case c = { "attn_paged", "t5 g2 r2 d32 p4 s16", "1 4", "17 3", { { 0.2f }, { 0 } } };
    (void)state;
    for (size_t i = 0; i < TK_COUNT(types); i++) {
        rng r = { test_seed(), 0 };
        instance in;
        instance_make(&in, &c, &r);
        op_call k[2] = { { .fn = attn_paged_ref_f64 }, { .fn = attn_paged_ref_f64 } };
        for (int j = 0; j < 2; j++) {
            instance_cache(&in, kvput_ref_f64, j ? TK_F64 : types[i], TK_F64);
            op_call_types(&k[j], TK_F64);
            k[j].type[2] = k[j].type[3] = j ? TK_F64 : types[i];
            op_call_run(&k[j], &in);
            tensor_round(&in.history[0], types[i]), tensor_round(&in.history[1], types[i]);
        }
        close_to(k[0].out[0], k[1].out[0], 5 * 4 * 32, 1e-13, tk_formats[types[i]].name);
        op_call_free(&k[0]), op_call_free(&k[1]), instance_free(&in);
    }
}

/* An element keeps its fate when its row lies elsewhere in the batch, and when its columns are cut. */
static void dropout_is_independent_of_packing(void **state) {
    enum { T = 6, N = 24, CUT = 10, KEPT = 7 };
    double x[T * N], y[T * N], z[T * (N - CUT)];
    int32_t s[T] = { 0, 0, 1, 1, 1, 7 }, p[T] = { 0, 1, 0, 1, 2, 300 }, back_s[T], back_p[T];
    const int32_t start[2] = { 0, T }, past[1] = { 0 };
    const tk_batch batch = { .tokens = T, .seqs = 1, .start = start, .past = past, .seed = 77, .step = 3 };
    tk_args a = { .attr = { .f = { 0.4f }, .i = { 5 } }, .batch = &batch, .nth = 1 };
    (void)state;
    for (int i = 0; i < T * N; i++) x[i] = 1;
    a.dim['t' - 'a'] = (tk_dim){ T, 0, T }, a.dim['n' - 'a'] = (tk_dim){ N, 0, N };
    a.p[0] = x, a.p[1] = s, a.p[2] = p, a.p[3] = y;
    dropout_ref_f64(&a);
    for (int t = 0; t < T; t++) back_s[t] = s[T - 1 - t], back_p[t] = p[T - 1 - t];
    a.dim['n' - 'a'] = (tk_dim){ N - CUT, CUT, N };
    a.p[1] = back_s, a.p[2] = back_p, a.p[3] = z;
    dropout_ref_f64(&a);
    int kept = 0;
    for (int t = 0; t < T; t++)
        for (int n = 0; n < N; n++) {
            assert_true(y[t * N + n] == 0 || fabs(y[t * N + n] - 1 / (1 - (double)0.4f)) < 1e-12);
            kept += y[t * N + n] != 0;
            if (n >= CUT) assert_true(z[(T - 1 - t) * (N - CUT) + n - CUT] == y[t * N + n]);
        }
    assert_in_range(kept, T * N / 3, T * N - KEPT); /* 0.6 of 144 are 86 */
    /* one element, spelled out */
    uint32_t word[4];
    tk_philox(word, 77, (const uint32_t[]){ 5, 300, 7, 3u << 8 | 5 });
    assert_int_equal(y[5 * N + 22] != 0, tk_uniform(word[2]) >= 0.4f);
}

static void integers_are_exact(void **state) {
    (void)state;
    for (int c = 0; c < op_ncases; c++) {
        if (strcmp(op_cases[c].op, "qlinear")) continue;
        rng r = { test_seed(), 0 };
        instance in;
        instance_make(&in, &op_cases[c], &r);
        /* p[i][s] of the product, by direction: x w, dy w, dy x */
        const char *left[] = { "x", "dy", "dy" }, *right[] = { "w", "w", "x" };
        const int64_t t = in.dim['t' - 'a'].n, n = in.dim['n' - 'a'].n, k = in.dim['k' - 'a'].n;
        const int64_t size[][3] = { { t, k, n }, { t, n, k }, { n, t, k } };
        for (int d = 0; d < 3; d++) {
            const tensor *p = instance_find(&in, left[d]), *q = instance_find(&in, right[d]);
            const double pm = largest(p->v, p->rows * p->cols), qm = largest(q->v, q->rows * q->cols);
            op_call call = { .fn = in.op->ref[1][d], .adj = d };
            op_call_types(&call, TK_F64);
            op_call_run(&call, &in);
            for (int64_t i = 0; i < size[d][0]; i++)
                for (int64_t j = 0; j < size[d][2]; j++) {
                    int64_t sum = 0;
                    for (int64_t s = 0; s < size[d][1]; s++) {
                        const double u = d == 2 ? p->v[s * n + i] : p->v[i * size[d][1] + s];
                        const double v = d == 0 ? q->v[j * k + s] : q->v[s * k + j];
                        sum += llrint(127 * u / pm) * llrint(127 * v / qm);
                    }
                    const double want = (double)sum * pm * qm / (127. * 127.);
                    assert_true(fabs(call.out[0][i * size[d][2] + j] - want) <= 1e-14 * fabs(want));
                }
            op_call_free(&call);
        }
        instance_free(&in);
    }
}

/* Edges of the quantizer: zero tensors, ties to even, NaN seen in the result. */
static void quantizer_edges(void **state) {
    float x[4] = { 127, 2.5f, -3.5f, 0 }, w[8] = { 1, 0, 0, 0, 0, 1, 1, 0 }, max[2], y[2];
    tk_args a = { .nth = 1 }, m = { .nth = 1 };
    (void)state;
    a.dim['t' - 'a'].n = 1, a.dim['n' - 'a'].n = 2, a.dim['k' - 'a'].n = 4, m.dim['n' - 'a'].n = 4;
    a.p[0] = x, a.p[1] = w, a.p[2] = &max[0], a.p[3] = &max[1], a.p[4] = y;
    m.p[0] = x, m.p[1] = &max[0];
    findmax_ref_f32(&m);
    assert_true(max[0] == 127);
    max[1] = 1;
    qlinear_ref_f32(&a);
    assert_true(fabsf(y[0] - 127) < 1e-4 && fabsf(y[1] - (2 - 4)) < 1e-5);
    x[1] = NAN;
    findmax_ref_f32(&m);
    assert_true(max[0] != max[0]);
    qlinear_ref_f32(&a);
    assert_true(y[0] != y[0] && y[1] != y[1]);
    memset(x, 0, sizeof x);
    findmax_ref_f32(&m), qlinear_ref_f32(&a);
    assert_true(max[0] == 0 && y[0] == 0 && y[1] == 0);
}

static void adamw_steps(void **state) {
    double g[2] = { 3, -4 }, s = 25, h[8] = { 0.1, 0.9, 0.99, 1e-8, 0.5, 1, 0.1, 0.01 };
    double w[2] = { 1, -2 }, m[2] = { 0 }, v[2] = { 0 };
    tk_args a = { .attr = { .f = { 1 } }, .nth = 1 };
    (void)state;
    a.dim['n' - 'a'].n = 2;
    void *p[] = { g, &s, h, w, m, v, w, m, v };
    memcpy(a.p, p, sizeof p);
    adamw_ref_f64(&a);
    /* the first step moves by lr sign(g), and by decay; the gradient was scaled to norm 1 */
    assert_true(fabs(w[0] - (1 - 0.1 - 0.05)) < 1e-7 && fabs(w[1] - (-2 + 0.1 + 0.1)) < 1e-7);
    assert_true(fabs(m[0] - 0.06) < 1e-6 && fabs(v[1] - 0.0064) < 1e-6);
    const double keep = w[0];
    s = NAN;
    adamw_ref_f64(&a);
    s = INFINITY;
    adamw_ref_f64(&a);
    assert_true(w[0] == keep && fabs(m[0] - 0.06) < 1e-6);
}

static void kvput_ignores_padding(void **state) {
    static const op_case c = { "kvput", "t5 g2 d8 p3 s16", "", "", { { 0 }, { 0 } } };
    rng r = { test_seed(), 0 };
    instance in;
    (void)state;
    instance_make(&in, &c, &r);
    op_call k = { .fn = kvput_ref_f64 };
    op_call_types(&k, TK_F64);
    op_call_run(&k, &in);
    const double *slot = instance_find(&in, "i")->v;
    int changed = 0;
    for (int o = 0; o < 2; o++) {
        const tensor *x = instance_find(&in, o ? "v" : "k"), *old = instance_find(&in, o ? "cv" : "ck");
        for (int64_t i = 0; i < old->rows * old->cols; i++) changed += k.out[o][i] != old->v[i];
        for (int t = 0; t < 5; t++)
            for (int g = 0; g < 2 && slot[t] >= 0; g++)
                for (int d = 0; d < 8; d++) {
                    const int page = (int)slot[t] / 16, off = (int)slot[t] % 16;
                    const int64_t at =
                        o ? ((page * 2 + g) * 16 + off) * 8 + d : ((page * 2 + g) * 8 + d) * 16 + off;
                    assert_true(k.out[o][at] == x->v[(t * 2 + g) * 8 + d]);
                }
    }
    assert_int_equal(changed, 2 * 4 * 2 * 8); /* 4 of 5 tokens have a slot */
    op_call_free(&k), instance_free(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_has_its_references),
        cmocka_unit_test(adjoints_are_derivatives),
        cmocka_unit_test(float_agrees_with_double),
        cmocka_unit_test(weights_of_any_format),
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(cut_vocabulary_merges_to_the_whole),
        cmocka_unit_test(paged_attention_is_attention),
        cmocka_unit_test(cache_of_any_type),
        cmocka_unit_test(dropout_is_independent_of_packing),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(quantizer_edges),
        cmocka_unit_test(adamw_steps),
        cmocka_unit_test(kvput_ignores_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
