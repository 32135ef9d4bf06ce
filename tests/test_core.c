/* SPDX-License-Identifier: Apache-2.0 */
/* The program against itself on simulated meshes, and golden numbers: collectives per layer, planned memory,
 * findmax passes. (test_program.c compares it with straight-line models.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "core_model.h"

/* The key bias of a model without rope has gradient zero, since softmax does not see a shift of all scores:
 * what is computed is rounding, which is measured against the query bias's gradient, and Adam's step on it
 * means nothing. */
static double scale_of(const run_result *r, int i) {
    char name[48];
    size_t count = r->item[i].count;
    const double *x = r->item[i].data;
    if (!strncmp(r->item[i].name, "grad.k.b", 8)) {
        snprintf(name, sizeof name, "grad.q.b%s", r->item[i].name + 8);
        x = run_get(r, name, &count);
    }
    double most = 1e-30;
    for (size_t k = 0; k < count; k++) most = fmax(most, fabs(x[k]));
    return most;
}

/* Largest difference between two runs over all they share, relative to each tensor's largest value. Updated
 * weights count in double only: Adam's first step is nearly a sign, which float rounding of a tiny gradient
 * moves. */
static double compare(const run_result *a, const run_result *b, bool weights, char worst[64]) {
    double most = 0;
    for (int i = 0; i < a->n; i++) {
        size_t count = 0;
        const double *x = a->item[i].data, *y = run_get(b, a->item[i].name, &count);
        if (!y || (!weights && !strncmp(a->item[i].name, "new.", 4))) continue;
        assert_int_equal(count, a->item[i].count);
        if (!strncmp(a->item[i].name, "new.k.b", 7)) continue;
        double scale = scale_of(a, i), diff = 0;
        for (size_t k = 0; k < count; k++)
            diff = fmax(diff, isfinite(x[k]) && isfinite(y[k]) ? fabs(x[k] - y[k]) : INFINITY);
        if (diff / scale > most) most = diff / scale, snprintf(worst, 64, "%s", a->item[i].name);
    }
    return most;
}

static void must_run(const run_options *o, run_result *r) {
    run_model(o, r);
    if (r->status != TK_OK) fail_msg("%s", tk_error());
}

static void same_on_mesh(run_options one, int dp, int tp, bool sp, bool zero1, double tolerance) {
    run_result a, b;
    char worst[64] = "";
    must_run(&one, &a);
    run_options many = one;
    many.dp = dp, many.tp = tp, many.sp = sp, many.zero1 = zero1;
    must_run(&many, &b);
    assert_true(a.n > 10);
    double d = compare(&a, &b, one.real == TK_F64, worst);
    if (!(d <= tolerance))
        fail_msg("dp %d tp %d sp %d zero %d gpt2 %d tied %d: %s differs by %g", dp, tp, sp, zero1, one.gpt2,
                 one.tied, worst, d);
    run_free(&a), run_free(&b);
}

static void meshes_agree(void **state) {
    (void)state;
    static const struct {
        int dp, tp;
        bool sp, zero1;
    } meshes[] = {
        { 1, 2, false, false }, { 1, 4, false, false }, { 2, 1, false, false },
        { 4, 1, false, true },  { 2, 2, false, true },  { 1, 2, true, false },
        { 1, 4, true, false },  { 2, 2, true, true },   { 2, 4, true, false },
    };
    for (int family = 0; family < 2; family++)
        for (int variant = 0; variant < 4; variant++)
            for (size_t m = 0; m < TK_COUNT(meshes); m++) {
                run_options o = run_defaults();
                o.gpt2 = family, o.update = true, o.logits = true, o.real = TK_F64;
                o.kv_heads = family ? o.heads : 2;
                o.tied = variant & 1;
                if (variant & 2) o.dropout = 0.3f, o.recompute = true, o.micro_batches = 2;
                same_on_mesh(o, meshes[m].dp, meshes[m].tp, meshes[m].sp, meshes[m].zero1, 1e-12);
                o.real = TK_F32;
                same_on_mesh(o, meshes[m].dp, meshes[m].tp, meshes[m].sp, meshes[m].zero1, 1e-5);
            }
}

/* Collectives per layer: the difference between three layers and two. */
static void golden_collectives(void **state) {
    (void)state;
    static const struct {
        const char *what;
        int dp, tp, kv;
        bool sp, zero1;
        int forward[3], backward[3], update[3];
    } rows[] = {
        /* all-reduce, all-gather, reduce-scatter */
        { "tp 2", 1, 2, 2, false, false, { 2, 0, 0 }, { 2, 0, 0 }, { 0, 0, 0 } },
        { "tp 4, 2 KV heads",
          1,
          4,
          2,
          false,
          false,
          { 2, 0, 0 },
          { 2, 0, 0 },
          { 2, 0, 0 } }, /* dWk and dWv at the update */
        { "tp 2, sequence parallel",
          1,
          2,
          2,
          true,
          false,
          { 0, 2, 2 },
          { 0, 4, 2 },
          { 2, 0, 0 } }, /* norm weights at the update */
        { "dp 2", 2, 1, 2, false, false, { 0, 0, 0 }, { 0, 0, 0 }, { 9, 0, 0 } }, /* one bucket a tensor: 9
                                                                                     tensors */
        { "dp 2, ZeRO-1", 2, 1, 2, false, true, { 0, 0, 0 }, { 0, 0, 0 }, { 0, 9, 9 } },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        run_result r[2];
        for (int k = 0; k < 2; k++) {
            run_options o = run_defaults();
            o.layers = 2 + k, o.update = true, o.dp = rows[i].dp, o.tp = rows[i].tp, o.kv_heads = rows[i].kv,
            o.sp = rows[i].sp, o.zero1 = rows[i].zero1;
            must_run(&o, &r[k]);
        }
        const int *want[3] = { rows[i].forward, rows[i].backward, rows[i].update };
        for (int when = 0; when < 3; when++) {
            int got[3] = { r[1].counts.allreduce[when] - r[0].counts.allreduce[when],
                           r[1].counts.allgather[when] - r[0].counts.allgather[when],
                           r[1].counts.reducescatter[when] - r[0].counts.reducescatter[when] };
            for (int k = 0; k < 3; k++)
                if (got[k] != want[when][k])
                    fail_msg("%s, direction %d: all-reduce %d all-gather %d reduce-scatter %d", rows[i].what,
                             when, got[0], got[1], got[2]);
        }
        run_free(&r[0]), run_free(&r[1]);
    }
}

/* Beyond the buckets, the update of a data-parallel run has one scalar all-reduce in all with ZeRO-1. */
static void golden_scalar(void **state) {
    (void)state;
    run_options o = run_defaults();
    run_result r;
    o.update = true, o.dp = 2, o.zero1 = true;
    must_run(&o, &r);
    assert_int_equal(r.counts.allreduce[TK_UPDATE], 1);
    run_free(&r);
}

static void planned_memory(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        run_options o = run_defaults();
        run_result r;
        o.gpt2 = i & 1, o.recompute = i & 2, o.update = true, o.sp = i & 4, o.tp = i & 4 ? 2 : 1,
        o.layers = 4;
        if (o.gpt2) o.kv_heads = o.heads;
        must_run(&o, &r);
        if ((double)r.planned > 1.05 * (double)r.bound)
            fail_msg("planned %zu, bound %zu (%d)", r.planned, r.bound, i);
        run_free(&r);
    }
}

static void same_bits(const run_options *x, const run_options *y) {
    run_result a, b;
    char worst[64] = "";
    must_run(x, &a), must_run(y, &b);
    double d = compare(&a, &b, true, worst);
    if (d != 0) fail_msg("%s differs by %g", worst, d);
    run_free(&a), run_free(&b);
}

/* Neither recompute, nor hoisting, nor shared storage changes a bit. */
static void options_change_no_bits(void **state) {
    (void)state;
    for (int family = 0; family < 2; family++) {
        run_options o = run_defaults(), other;
        o.gpt2 = family, o.logits = o.update = true, o.dropout = 0.2f, o.micro_batches = 2;
        other = o, other.recompute = true, same_bits(&o, &other);
        other = o, other.hoist = 0, same_bits(&o, &other);
        other = o, other.no_reuse = true, same_bits(&o, &other);
        o.findmax = true, o.dropout = 0;
        other = o, other.hoist = 0, same_bits(&o, &other);
        other = o, other.recompute = true, same_bits(&o, &other);
    }
}

/* Findmax passes of K micro-batches: what runs per micro-batch times K, plus what runs once per change. */
static int findmax_passes(run_options o, int hoist, int K) {
    run_result r;
    o.hoist = hoist;
    must_run(&o, &r);
    int once = r.records[TK_P_LOAD][TK_OP_findmax] + r.records[TK_P_CHANGED][TK_OP_findmax];
    int each = r.records[TK_P_FORWARD][TK_OP_findmax] + r.records[TK_P_BACKWARD][TK_OP_findmax];
    run_free(&r);
    return K * each + once;
}

static void golden_findmax(void **state) {
    (void)state;
    run_options two = run_defaults(), three = two;
    two.findmax = three.findmax = true, two.layers = 2, three.layers = 3;
    for (int K = 1; K <= 8; K *= 2)
        for (int recompute = 0; recompute < 2; recompute++) {
            two.recompute = three.recompute = recompute;
            int naive = findmax_passes(three, 0, K) - findmax_passes(two, 0, K);
            /* a naive recompute runs the two passes of six products again; the layer's last one nobody needs
             */
            assert_int_equal(naive, 42 * K + (recompute ? 12 * K : 0));
            assert_int_equal(
                findmax_passes(three, TK_HOIST_MERGE, K) - findmax_passes(two, TK_HOIST_MERGE, K), 18 * K);
            assert_int_equal(findmax_passes(three, TK_HOIST_ALL, K) - findmax_passes(two, TK_HOIST_ALL, K),
                             11 * K + 7);
        }
}

/* A chain of L linear layers with nothing shared: 6KL naive, 3KL merged, (2K+1)L hoisted. */
static void golden_findmax_chain(void **state) {
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        static const int hoists[] = { 0, TK_HOIST_MERGE, TK_HOIST_ALL };
        const int L = 5, K = 8;
        tk_program p;
        tk_prog_init(&p, TK_F32);
        tk_letter(&p, 't', 6, 6), tk_letter(&p, 'e', 8, 8), tk_letter(&p, 'f', 8, 8),
            tk_letter(&p, 'v', 5, 5);
        tk_id x = TK_EMIT(&p, embed, TK_NOATTR, tk_declare(&p, TK_INPUT, "tokens", "t", TK_I32),
                          tk_declare(&p, TK_WEIGHT, "embed", "v|e", TK_F32));
        for (p.layer = 0; p.layer < L; p.layer++)
            x = TK_EMIT(&p, qlinear, TK_NOATTR, x,
                        tk_declare(&p, TK_WEIGHT, "w", p.layer % 2 ? "e|f" : "f|e", TK_F32));
        p.layer = -1;
        tk_id y = tk_declare(&p, TK_INPUT, "targets", "t", TK_I32),
              m = tk_declare(&p, TK_INPUT, "mask", "t", TK_F32);
        tk_id l = TK_EMIT(&p, head, TK_NOATTR, x, tk_declare(&p, TK_WEIGHT, "head", "v|f", TK_F32), y);
        tk_id loss = TK_EMIT(&p, loss, TK_NOATTR, l, l + 1, m, tk_declare(&p, TK_INPUT, "count", "", TK_F32));
        tk_output(&p, "loss", loss);
        static const tk_mesh alone = { .axes = 0 };
        if (tk_grad(&p, loss, false) || tk_shard(&p, &alone, -1) || tk_choose(&p, 0, true) ||
            tk_hoist(&p, hoists[mode]))
            fail_msg("%s", tk_error());
        int once = 0, each = 0;
        for (int i = 0; i < p.nrecords; i++)
            if (p.records[i].op == TK_OP_findmax) *(p.records[i].phase <= TK_P_CHANGED ? &once : &each) += 1;
        static const int want[] = { 6 * 8 * 5, 3 * 8 * 5, (2 * 8 + 1) * 5 };
        assert_int_equal(K * each + once, want[mode]);
        tk_prog_free(&p);
    }
}

/* A sharding that cannot be done is an error that names the letter and the numbers. */
static void uneven_cuts_are_named(void **state) {
    (void)state;
    run_options o = run_defaults();
    run_result r;
    o.tp = 2, o.ff = 25;
    run_model(&o, &r);
    assert_int_equal(r.status, TK_E_USAGE);
    assert_non_null(strstr(tk_error(), "dimension f of 25 into 2"));
    run_free(&r);
}

/* An operand that fits in two ways, or none, is refused. */
static void bindings_are_unique(void **state) {
    (void)state;
    tk_program p;
    tk_prog_init(&p, TK_F32);
    tk_letter(&p, 't', 2, 2), tk_letter(&p, 'e', 4, 4), tk_letter(&p, 'f', 4, 4);
    tk_id x = tk_declare(&p, TK_INPUT, "x", "te", TK_F32), w = tk_declare(&p, TK_INPUT, "w", "fg", TK_F32);
    assert_true(w < 0 || TK_EMIT(&p, linear, TK_NOATTR, x, w) < 0);
    assert_int_not_equal(tk_prog_check(&p), TK_OK);
    tk_prog_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(meshes_agree),           cmocka_unit_test(golden_collectives),
        cmocka_unit_test(golden_scalar),          cmocka_unit_test(planned_memory),
        cmocka_unit_test(options_change_no_bits), cmocka_unit_test(golden_findmax),
        cmocka_unit_test(golden_findmax_chain),   cmocka_unit_test(uneven_cuts_are_named),
        cmocka_unit_test(bindings_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
