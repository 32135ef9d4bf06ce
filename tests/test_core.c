/* SPDX-License-Identifier: Apache-2.0 */
/* The program against itself on simulated meshes, and golden numbers: collectives per layer, planned memory,
 * findmax passes. (test_oracle_program.c compares it with straight-line models.) */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "core_model.h"

/* The key bias of a model without rope has gradient zero, since softmax does not see a shift of all scores: what is
 * computed is rounding, which is measured against the query bias's gradient, and Adam's step on it means nothing. */
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

/* Largest difference between two runs over all they share, relative to each tensor's largest value. Updated weights
 * count in double only: Adam's first step is nearly a sign, which float rounding of a tiny gradient moves. */
static double compare(const run_result *a, const run_result *b, bool weights, char worst[64]) {
    double most = 0;
    for (int i = 0; i < a->n; i++) {
        size_t count = 0;
        const double *x = a->item[i].data, *y = run_get(b, a->item[i].name, &count);
        if (!y || (!weights && !strncmp(a->item[i].name, "new.", 4))) continue;
        assert_int_equal(count, a->item[i].count);
        if (!strncmp(a->item[i].name, "new.k.b", 7)) continue;
        double scale = scale_of(a, i), diff = 0;
        for (size_t k = 0; k < count; k++) diff = fmax(diff, isfinite(x[k]) && isfinite(y[k]) ? fabs(x[k] - y[k]) : INFINITY);
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
    if (!(d <= tolerance)) fail_msg("dp %d tp %d sp %d zero %d gpt2 %d tied %d: %s differs by %g", dp, tp, sp, zero1, one.gpt2, one.tied, worst, d);
    run_free(&a), run_free(&b);
}

static void meshes_agree(void **state) {
    (void)state;
    static const struct { int dp, tp; bool sp, zero1; } meshes[] = {
        { 1, 2, false, false }, { 1, 4, false, false }, { 2, 1, false, false }, { 4, 1, false, true }, { 2, 2, false, true },
        { 1, 2, true, false },  { 1, 4, true, false },  { 2, 2, true, true },   { 2, 4, true, false },
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

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(meshes_agree) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
