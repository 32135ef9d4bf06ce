/* SPDX-License-Identifier: Apache-2.0 */
/* The program against the straight-line oracles: loss, logits and every gradient of both families, in double
 * with the references, in float with the references, and in float with whatever kernels this machine has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core_model.h"
#include "oracle.h"

typedef struct truth {
    oracle_config c;
    double *freq, **weights, **grads, *logits, loss;
    int slots;
} truth;

static void *take(size_t n) {
    void *p = calloc(n ? n : 1, sizeof(double));
    assert_non_null(p);
    return p;
}

/* Runs the oracle on micro-batch `micro`, adding to loss and gradients. */
static void add_micro(truth *t, const run_options *o, int micro) {
    int len[64], *tokens, *targets, *sequence, total = 0;
    for (int i = 0; i < o->seqs; i++) total += len[i] = run_length(o, i, o->seqs);
    tokens = take((size_t)total), targets = take((size_t)total), sequence = take((size_t)o->seqs);
    double *mask = take((size_t)total), count = 0;
    for (int m = 0; m < o->micro_batches; m++)
        for (int i = 0; i < total; i++) count += run_input(o, "mask", i, m);
    for (int i = 0; i < total; i++) {
        tokens[i] = (int)run_input(o, "tokens", i, micro),
        targets[i] = (int)run_input(o, "targets", i, micro);
        mask[i] = run_input(o, "mask", i, micro);
    }
    for (int i = 0; i < o->seqs; i++) sequence[i] = i + micro * o->seqs;
    oracle_batch b = { .nseq = o->seqs,
                       .len = len,
                       .tokens = tokens,
                       .targets = targets,
                       .mask = mask,
                       .count = count,
                       .sequence = sequence,
                       .seed = 99,
                       .step = 3 };
    double *logits = micro ? NULL : (t->logits = take((size_t)total * (size_t)o->vocab));
    t->loss += (o->gpt2 ? oracle_gpt2 : oracle_llama)(&t->c, (const double *const *)t->weights, t->grads, &b,
                                                      logits);
    free(tokens), free(targets), free(sequence), free(mask);
}

static void tell(truth *t, const run_options *o, bool float_weights) {
    *t = (truth){ .c = { .layers = o->layers,
                         .e = o->embd,
                         .g = o->kv_heads,
                         .r = o->heads / o->kv_heads,
                         .d = o->head_dim,
                         .f = o->ff,
                         .v = o->vocab,
                         .ctx = o->seq_len + 1,
                         .tied = o->tied,
                         .eps = 1e-5f,
                         .scale = 1 / sqrtf((float)o->head_dim),
                         .dropout = o->dropout,
                         .rope_pairs = o->gpt2 ? 0 : o->head_dim / 2,
                         .rope_factor = 1 } };
    t->freq = take((size_t)o->head_dim);
    for (int i = 0; i < o->head_dim / 2; i++) t->freq[i] = run_weight(o, "rope_freqs", -1, i);
    t->c.rope_freq = t->freq;
    t->slots = oracle_slots(&t->c);
    t->weights = take((size_t)t->slots), t->grads = take((size_t)t->slots);
    for (int s = 0; s < t->slots; s++) {
        int layer;
        const char *role = oracle_slot_role(s, &layer);
        bool bias = strchr(role, '.') != NULL;
        if ((!o->gpt2 && (bias || !strcmp(role, "pos_embed"))) || (o->gpt2 && !strcmp(role, "gate")) ||
            (o->tied && !strcmp(role, "head")))
            continue;
        int64_t n = oracle_slot_size(&t->c, s);
        t->weights[s] = take((size_t)n), t->grads[s] = take((size_t)n);
        for (int64_t i = 0; i < n; i++) {
            double w = run_weight(o, role, layer, i);
            t->weights[s][i] = float_weights ? (double)(float)w : w;
        }
    }
    for (int m = 0; m < o->micro_batches; m++) add_micro(t, o, m);
}

static void forget(truth *t) {
    for (int s = 0; s < t->slots; s++) free(t->weights[s]), free(t->grads[s]);
    free(t->weights), free(t->grads), free(t->freq), free(t->logits);
}

/* Largest difference of n numbers over the largest true one; the program's rows of `cols` may be padded. */
static double distance(const double *want, const double *got, int64_t rows, int64_t cols, int64_t got_cols,
                       double scale) {
    double diff = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            scale = fmax(scale, fabs(want[r * cols + c]));
            double d = fabs(want[r * cols + c] - got[r * got_cols + c]);
            diff = fmax(diff, isfinite(d) ? d : INFINITY);
        }
    return diff / scale;
}

static void agree(const run_options *o, double tolerance) {
    truth t;
    run_result r;
    tell(&t, o, o->real == TK_F32);
    run_model(o, &r);
    if (r.status != TK_OK) fail_msg("%s", tk_error());
    const char *how = o->kernels ? "kernels" : o->real == TK_F64 ? "double" : "float";
    assert_true(fabs(*run_get(&r, "loss", NULL) - t.loss) <= tolerance * fabs(t.loss));
    size_t count;
    const double *logits = run_get(&r, "logits", &count);
    int64_t tokens = 0;
    for (int i = 0; i < o->seqs; i++) tokens += run_length(o, i, o->seqs);
    double d = distance(t.logits, logits, tokens, o->vocab, (int64_t)count / tokens, 1e-30);
    if (!(d <= tolerance)) fail_msg("%s: logits differ by %g (gpt2 %d tied %d)", how, d, o->gpt2, o->tied);
    int compared = 0;
    for (int s = 0; s < t.slots; s++) {
        int layer;
        const char *role = oracle_slot_role(s, &layer);
        if (!t.grads[s]) continue;
        char name[48];
        snprintf(name, sizeof name, layer < 0 ? "grad.%s" : "grad.%s.%d", role, layer);
        const double *got = run_get(&r, name, NULL);
        if (!got) fail_msg("%s is missing", name);
        /* without rope the key bias has gradient zero (softmax sees no shift): measured on the query bias's
         * scale */
        double scale = 1e-30;
        if (!strcmp(role, "k.b"))
            for (int64_t i = 0; i < oracle_slot_size(&t.c, oracle_slot("q.b", layer)); i++)
                scale = fmax(scale, fabs(t.grads[oracle_slot("q.b", layer)][i]));
        d = distance(t.grads[s], got, 1, oracle_slot_size(&t.c, s), 0, scale);
        if (!(d <= tolerance))
            fail_msg("%s: %s differs by %g (gpt2 %d tied %d)", how, name, d, o->gpt2, o->tied);
        compared++;
    }
    assert_true(compared >= 2 + o->layers * 9);
    run_free(&r);
    forget(&t);
}

static void program_is_the_oracle(void **state) {
    (void)state;
    for (int family = 0; family < 2; family++)
        for (int variant = 0; variant < 8; variant++) {
            run_options o = run_defaults();
            o.gpt2 = family, o.logits = true, o.tied = variant & 1, o.seed = (unsigned)variant + 1;
            if (variant & 2) o.dropout = 0.25f, o.micro_batches = 2;
            if (variant & 4) o.recompute = true, o.layers = 3, o.kv_heads = 1, o.head_dim = 8, o.ff = 20;
            if (family) o.kv_heads = o.heads;
            o.real = TK_F64, agree(&o, 1e-11);
            o.real = TK_F32, agree(&o, 1e-5);
            o.kernels = true, agree(&o, 1e-5);
        }
}

/* norm's weight says what a row is: each head of a token, or all of it. Both ways against the sums. */
static void norm_of_heads_or_of_all(void **state) {
    enum { T = 5, G = 2, R = 3, D = 4, ALL = G * R * D };
    static const tk_mesh alone = { .axes = 0 };
    (void)state;
    for (int all = 0; all < 2; all++) {
        const int width = all ? ALL : D;
        tk_program p;
        tk_pool *pool;
        tk_exec *e;
        tk_prog_init(&p, TK_F32);
        tk_letter(&p, 't', T, T), tk_letter(&p, 'g', G, G), tk_letter(&p, 'r', R, R),
            tk_letter(&p, 'd', D, D);
        tk_id q = tk_declare(&p, TK_INPUT, "q", "tgrd", TK_F32);
        tk_id w = tk_declare(&p, TK_WEIGHT, "w", all ? "grd" : "d", TK_F32);
        tk_id y = TK_EMIT(&p, norm, ((tk_attr){ { 1e-5f }, { 0 } }), q, w);
        tk_output(&p, "y", y);
        assert_int_equal(tk_prog_check(&p), TK_OK);
        assert_string_equal(p.values[y].dim, "tgrd");
        assert_string_equal(p.values[y + 1].dim, all ? "t" : "tgr");
        if (tk_shard(&p, &alone, -1) || tk_choose(&p, tk_cpu_features(), false) ||
            tk_hoist(&p, TK_HOIST_ALL) || tk_plan(&p, true, 2) || tk_pool_new(&pool, 2, false) ||
            tk_exec_new(&e, &p, pool, NULL, false))
            fail_msg("%s", tk_error());
        float *x = tk_exec_data(e, q), *weight = tk_exec_data(e, w), *out = tk_exec_data(e, y);
        for (int i = 0; i < T * ALL; i++) x[i] = sinf((float)i * 1.7f) + 0.3f;
        for (int i = 0; i < width; i++) weight[i] = 1 + 0.1f * (float)i;
        tk_exec_run(e, TK_P_FORWARD);
        for (int row = 0; row < T * ALL / width; row++) {
            double squares = 0;
            for (int i = 0; i < width; i++) squares += pow((double)x[row * width + i], 2);
            for (int i = 0; i < width; i++) {
                const double want = x[row * width + i] / sqrt(squares / width + 1e-5) * (double)weight[i];
                assert_true(fabs(out[row * width + i] - want) <= 4e-7 * fabs(want));
            }
        }
        tk_exec_free(e), tk_pool_free(pool), tk_prog_free(&p);
    }
}

/* Attention with sinks, window and soft cap in a program with a loss: two adjoints of one attn meet in the
 * gradients of q and k. Against finite differences in double. */
enum { ST = 7, SE = 5, SG = 2, SR = 2, SD = 4, SV = 6 };

static tk_exec *sinks_new(tk_program *p, tk_pool *pool) {
    static const tk_mesh alone = { .axes = 0 };
    tk_exec *e;
    const struct {
        char letter;
        int n;
    } letters[] = { { 't', ST }, { 'e', SE }, { 'g', SG }, { 'r', SR }, { 'd', SD }, { 'v', SV } };
    tk_prog_init(p, TK_F64);
    for (size_t i = 0; i < TK_COUNT(letters); i++)
        tk_letter(p, letters[i].letter, letters[i].n, letters[i].n);
    tk_id x = tk_declare(p, TK_INPUT, "x", "te", TK_F64), s = tk_declare(p, TK_INPUT, "s", "t", TK_I32);
    tk_id q = TK_EMIT(p, linear, TK_NOATTR, x, tk_declare(p, TK_WEIGHT, "q", "grd|e", TK_F64));
    tk_id k = TK_EMIT(p, linear, TK_NOATTR, x, tk_declare(p, TK_WEIGHT, "k", "gd|e", TK_F64));
    tk_id v = TK_EMIT(p, linear, TK_NOATTR, x, tk_declare(p, TK_WEIGHT, "v", "gd|e", TK_F64));
    tk_id o = TK_EMIT(p, attn, ((tk_attr){ { 0.5f, 3 }, { 4 } }), q, k, v, s);
    o = TK_EMIT(p, sink, TK_NOATTR, o, o + 1, tk_declare(p, TK_WEIGHT, "sinks", "gr", TK_F64));
    tk_id y = tk_declare(p, TK_INPUT, "y", "t", TK_I32), m = tk_declare(p, TK_INPUT, "m", "t", TK_F64);
    tk_id n = tk_declare(p, TK_INPUT, "n", "", TK_F64);
    tk_id l = TK_EMIT(p, head, TK_NOATTR, o, tk_declare(p, TK_WEIGHT, "head", "v|grd", TK_F64), y);
    tk_id loss = TK_EMIT(p, loss, TK_NOATTR, l, l + 1, m, n);
    tk_output(p, "loss", loss);
    if (tk_grad(p, loss, false) || tk_shard(p, &alone, -1) || tk_choose(p, 0, true) ||
        tk_hoist(p, TK_HOIST_ALL) || tk_plan(p, true, 1) || tk_exec_new(&e, p, pool, NULL, false))
        fail_msg("%s", tk_error());
    return e;
}

static void gradients_of_sinks(void **state) {
    static const char *const weights[] = { "q", "k", "v", "sinks", "head" };
    static const int sizes[] = { SG * SR * SD * SE, SG * SD * SE, SG * SD * SE, SG * SR, SV * SG * SR * SD };
    static const int32_t start[] = { 0, 2, ST }, past[] = { 0, 0 };
    static const tk_batch batch = { .tokens = ST, .seqs = 2, .start = start, .past = past };
    tk_program p;
    tk_pool *pool;
    unsigned noise = 5;
    (void)state;
    assert_int_equal(tk_pool_new(&pool, 1, false), TK_OK);
    tk_exec *e = sinks_new(&p, pool);
    tk_exec_batch(e, &batch);
    double *x = tk_exec_data(e, tk_find(&p, "x", -1)), *loss = tk_exec_data(e, tk_find(&p, "loss", -1));
    for (int i = 0; i < ST * SE; i++) x[i] = sin(i * 1.3);
    for (int i = 0; i < ST; i++) {
        ((int32_t *)tk_exec_data(e, tk_find(&p, "s", -1)))[i] = i >= 2;
        ((int32_t *)tk_exec_data(e, tk_find(&p, "y", -1)))[i] = i % SV;
        ((double *)tk_exec_data(e, tk_find(&p, "m", -1)))[i] = 1;
    }
    *(double *)tk_exec_data(e, tk_find(&p, "n", -1)) = ST;
    *(double *)tk_exec_data(e, tk_find(&p, "one", -1)) = 1;
    for (size_t w = 0; w < TK_COUNT(weights); w++) {
        double *v = tk_exec_data(e, tk_find(&p, weights[w], -1));
        for (int i = 0; i < sizes[w]; i++)
            noise = noise * 1664525u + 1013904223u, v[i] = (double)(int32_t)noise * 0x1p-31;
    }
    tk_exec_run(e, TK_P_FORWARD), tk_exec_run(e, TK_P_BACKWARD);
    for (size_t w = 0; w < TK_COUNT(weights); w++) {
        char name[24];
        snprintf(name, sizeof name, "grad.%s", weights[w]);
        double *v = tk_exec_data(e, tk_find(&p, weights[w], -1));
        const double *gradient = tk_exec_data(e, tk_find(&p, name, -1));
        for (int i = 0; i < sizes[w]; i++) {
            const double keep = v[i], step = 1e-5;
            v[i] = keep + step, tk_exec_run(e, TK_P_FORWARD);
            const double up = *loss;
            v[i] = keep - step, tk_exec_run(e, TK_P_FORWARD);
            const double slope = (up - *loss) / (2 * step);
            v[i] = keep;
            if (fabs(slope - gradient[i]) > 1e-9)
                fail_msg("%s[%d] is %.12g, the slope is %.12g", name, i, gradient[i], slope);
        }
    }
    tk_exec_free(e), tk_pool_free(pool), tk_prog_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(program_is_the_oracle),
                                        cmocka_unit_test(norm_of_heads_or_of_all),
                                        cmocka_unit_test(gradients_of_sinks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
