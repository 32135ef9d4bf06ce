/* SPDX-License-Identifier: Apache-2.0 */
/* A fused record gives bitwise what its window gives: every window of fusions.def, on every tier of this
 * machine, one thread and three; and a window with an outside reader stays open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/core.h"

enum { T = 23, E = 96, F = 288 };

static tk_attr gate; /* of glu: the activation takes a slot that quant has too */
static tk_dtype weights;

/* z = x + y; z1 = norm(z) w -> two products; a gated activation of them -> product; norm without a sum before
 * it. */
static tk_id build(tk_program *p, bool outside_reader) {
    tk_prog_init(p, TK_F32);
    tk_letter(p, 't', T, T), tk_letter(p, 'e', E, E), tk_letter(p, 'f', F, F);
    tk_attr eps = { { 1e-5f }, { 0 } };
    tk_id x = tk_declare(p, TK_INPUT, "x", "te", TK_F32), y = tk_declare(p, TK_INPUT, "y", "te", TK_F32);
    tk_id w = tk_declare(p, TK_WEIGHT, "w", "e", TK_F32);
    tk_id first = TK_EMIT(p, norm, eps, x, w);
    tk_id a = TK_EMIT(p, linear, TK_NOATTR, first, tk_declare(p, TK_WEIGHT, "down", "e|e", weights));
    tk_id z = TK_EMIT(p, add, TK_NOATTR, a, y), n = TK_EMIT(p, norm, eps, z, w);
    tk_id g = TK_EMIT(p, linear, TK_NOATTR, n, tk_declare(p, TK_WEIGHT, "gate", "f|e", weights));
    tk_id u = TK_EMIT(p, linear, TK_NOATTR, n, tk_declare(p, TK_WEIGHT, "up", "f|e", weights));
    tk_id s = TK_EMIT(p, glu, gate, g, u);
    tk_id o = TK_EMIT(p, linear, TK_NOATTR, s, tk_declare(p, TK_WEIGHT, "out", "e|f", weights));
    if (outside_reader) o = TK_EMIT(p, add, TK_NOATTR, o, n); /* reads what add_norm_quant would not give */
    tk_output(p, "sum", z); /* a result of the window that the outside reads */
    tk_output(p, "result", o);
    return o;
}

static float noise(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return (float)(int32_t)*state * 0x1p-31f;
}

/* Runs it; copies of result and sum into out; the number of windows that were fused. */
static int run(bool fuse, unsigned cpu, int threads, bool outside_reader, float out[2 * T * E]) {
    tk_program p;
    tk_pool *pool;
    tk_exec *e;
    static const tk_mesh alone = { .axes = 0 };
    build(&p, outside_reader);
    if (tk_shard(&p, &alone, -1) || tk_choose(&p, cpu, false) || tk_hoist(&p, TK_HOIST_ALL) ||
        (fuse && tk_fuse(&p, cpu)) || tk_plan(&p, true, threads) || tk_pool_new(&pool, threads, false) ||
        tk_exec_new(&e, &p, pool, NULL, false))
        fail_msg("%s", tk_error());
    unsigned state = 7;
    for (int i = 0; i < p.nnames; i++) {
        const tk_value *v = &p.values[p.names[i].id];
        void *data = tk_exec_data(e, p.names[i].id);
        int64_t rows, cols;
        if (v->output) continue;
        tk__value_rows(&p, v, &rows, &cols);
        float *row = malloc((size_t)cols * sizeof *row);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = 0; c < cols; c++) row[c] = noise(&state);
            tk_formats[v->dtype].pack(data, row, rows, cols, r);
        }
        free(row);
    }
    tk_exec_run(e, TK_P_LOAD), tk_exec_run(e, TK_P_FORWARD);
    memcpy(out, tk_exec_data(e, tk_find(&p, "result", -1)), T * E * sizeof *out);
    memcpy(out + T * E, tk_exec_data(e, tk_find(&p, "sum", -1)), T * E * sizeof *out);
    int fused = p.counts.fused;
    tk_exec_free(e), tk_pool_free(pool), tk_prog_free(&p);
    return fused;
}

static void fused_is_its_window(void **state) {
    (void)state;
    static const struct {
        const char *name;
        unsigned features;
        tk_dtype weights;
    } tiers[] = {
        { "avx2", TK_CPU_AVX2, TK_Q8_0 },
        { "avx512", TK_CPU_AVX2 | TK_CPU_AVX512, TK_Q8_0 },
        { "avx512bf16", TK_CPU_AVX2 | TK_CPU_AVX512 | TK_CPU_BF16, TK_BF16 },
        { "amx", TK_CPU_AVX2 | TK_CPU_AVX512 | TK_CPU_AMX, TK_BF16 },
    };
    for (size_t i = 0; i < TK_COUNT(tiers); i++) {
        float window[2 * T * E], fused[2 * T * E];
        if (tiers[i].features & ~tk_cpu_features()) {
            printf("skipped: tier %s: this CPU lacks it\n", tiers[i].name);
            continue;
        }
        weights = tiers[i].weights;
        assert_int_equal(run(false, tiers[i].features, 1, false, window), 0);
        for (int threads = 1; threads <= 3; threads += 2) {
            assert_int_equal(run(true, tiers[i].features, threads, false, fused), 3);
            assert_memory_equal(window, fused, sizeof window);
        }
        gate = (tk_attr){ { 7, 1 }, { TK_ACT_GELU_QUICK } };
        run(false, tiers[i].features, 1, false, window);
        assert_int_equal(run(true, tiers[i].features, 2, false, fused), 3);
        assert_memory_equal(window, fused, sizeof window);
        gate = TK_NOATTR;
        run(false, tiers[i].features, 1, true, window);
        assert_int_equal(run(true, tiers[i].features, 1, true, fused), 2);
        assert_memory_equal(window, fused, sizeof window);
    }
}

/* Without a kernel row for the fused op nothing changes. */
static void no_row_no_fusion(void **state) {
    (void)state;
    float out[2 * T * E];
    weights = TK_Q8_0;
    assert_int_equal(run(true, 0, 1, false, out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(fused_is_its_window),
                                        cmocka_unit_test(no_row_no_fusion) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
