/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU's vector kernels on every tier that this CPU has, against plain double computations written here.
 * Operands lie between sentinels and outputs start as NaN. Tolerance: an output's largest error may be twice
 * that of a naive float32 run of the same formula, plus one rounding of the largest value. What promise 2
 * says is compared bitwise in test_cpu_attn.c and, for rows and elements, by other thread counts here. */
#include <float.h>

#include "cpu_tiers.h"

/* ---- elements ---- */

static const int64_t sizes[] = { 1, 3, 4, 7, 8, 15, 16, 17, 33, 100, 4095, 4097, 13001 };

static double exact_act(int kind, double x) {
    /* -infinity times 0 is NaN, here as in PyTorch */
    if (kind == TK_ACT_SILU) return x / (1 + exp(-x));
    if (kind == TK_ACT_GELU_ERF) return x * 0.5 * erfc(-x / sqrt(2));
    if (kind == TK_ACT_RELU) return x > 0 || isnan(x) ? x : 0;
    if (kind == TK_ACT_GELU_QUICK) return x / (1 + exp(-1.702 * x));
    if (kind == TK_ACT_RELU2) return x > 0 || isnan(x) ? x * x : 0;
    double u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    return x / (1 + exp(-2 * u));
}

static float naive_act(int kind, float x) {
    if (kind == TK_ACT_SILU) return x / (1 + expf(-x));
    if (kind == TK_ACT_GELU_ERF) return 0.5f * x * (1 + erff(x * 0.70710678f));
    if (kind == TK_ACT_RELU) return x > 0 ? x : 0;
    if (kind == TK_ACT_GELU_QUICK) return x / (1 + expf(-1.702f * x));
    if (kind == TK_ACT_RELU2) return x > 0 ? x * x : 0;
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

static void test_act(void **state) {
    const tier *t = *state;
    for (int kind = 0; kind < TK_ACTS; kind++)
        for (size_t s = 0; s < TK_COUNT(sizes); s++) {
            int64_t n = sizes[s];
            float *x = guarded(n), *y = guarded(n);
            fill(x, n, 4, 7);
            tk_args a = { .p = { x, y }, .attr.i = { kind } };
            a.dim['n' - 'a'].n = n;
            run(t->act, &a, 1);
            check_guards(x, n), check_guards(y, n);
            double worst = 0, naive = 0;
            for (int64_t i = 0; i < n; i++) {
                double want = exact_act(kind, x[i]);
                worst = fmax(worst, fabs(y[i] - want)),
                naive = fmax(naive, fabs(naive_act(kind, x[i]) - want));
                assert_false(isnan(y[i]));
            }
            assert_close(worst, naive, 16);
            check_threads(t->act, &a, 1, n);
            float *copy = guarded(n); /* in place */
            memcpy(copy, x, (size_t)n * 4);
            a.p[0] = a.p[1] = copy;
            run(t->act, &a, 2);
            assert_memory_equal(copy, y, (size_t)n * 4);
            release(x), release(y), release(copy);
        }
}

/* A sweep over all magnitudes: relative error for x < 0 too, where 1 + erf and 1 + tanh cancel */
static void test_act_everywhere(void **state) {
    const tier *t = *state;
    enum { N = 40001 };
    static float x[N + 7], y[N + 7];
    static const float special[7] = { 0, -0.0f, INFINITY, -INFINITY, NAN, 3e38f, -3e38f };
    for (int i = 0; i < N; i++) x[i] = -10 + 20.0f * (float)i / N;
    memcpy(x + N, special, sizeof special);
    for (int kind = 0; kind < TK_ACTS; kind++) {
        tk_args a = { .p = { x, y }, .attr.i = { kind } };
        a.dim['n' - 'a'].n = N + 7;
        run(t->act, &a, 1);
        for (int i = 0; i < N + 7; i++) {
            double want = exact_act(kind, x[i]);
            if (want > (double)FLT_MAX) want = INFINITY; /* 3e38 squared */
            if (isnan(want)) {
                assert_true(isnan(y[i]));
            } else if (isinf(want) || want == 0) {
                assert_true((double)y[i] == want);
            } else {
                /* for x < 0 the result is about e^-u, relative error: the absolute one of u, of four
                 * roundings */
                double v = fabs(x[i]),
                       u = kind == TK_ACT_GELU_TANH ? 1.6 * (v + 0.0447 * v * v * v) : v * v / 2;
                double tolerance = 6e-8 * (6 + (x[i] < 0 ? 4 * u : 0)) * fabs(want) + 1e-36;
                if (fabs(y[i] - want) > tolerance)
                    fail_msg("act %d at %g: %.9g, not %.9g", kind, x[i], y[i], want);
            }
        }
    }
}

/* As accurate far below 1 as near it, exact at the ends */
static void test_softcap(void **state) {
    const tier *t = *state;
    enum { N = 40001 };
    static float x[N], y[N];
    static const float special[6] = { 0, -0.0f, INFINITY, -INFINITY, NAN, 3e38f };
    for (int i = 0; i < N; i++) x[i] = ldexpf(i % 2 ? 1.9f : -1.3f, i % 40 - 34) * (1 + (float)i / N);
    memcpy(x, special, sizeof special);
    tk_args a = { .p = { x, y }, .attr.f = { 1 } };
    a.dim['n' - 'a'].n = N;
    run(t->softcap, &a, 2);
    for (int i = 0; i < N; i++) {
        const double want = tanh(x[i]);
        if (isnan(want) ? !isnan(y[i])
                        : fabs(y[i] - want) > 1.8e-7 * fabs(want) || signbit(y[i]) != signbit(x[i]))
            fail_msg("tanh(%g) is %.9g, not %.9g", x[i], y[i], want);
    }
    a.attr.f[0] = 30;
    run(t->softcap, &a, 1);
    for (int i = 6; i < N; i++) assert_true(fabs(y[i] - 30 * tanh(x[i] / 30.)) <= 2.4e-7 * fabs(y[i]));
}

static void test_pairs(void **state) { /* add, glu */
    const tier *t = *state;
    for (size_t s = 0; s < TK_COUNT(sizes); s++) {
        int64_t n = sizes[s];
        float *x = guarded(n), *y = guarded(n), *z = guarded(n);
        fill(x, n, 3, 1), fill(y, n, 2, 2);
        tk_args a = { .p = { x, y, z } };
        a.dim['n' - 'a'].n = n;
        run(t->add, &a, 1);
        for (int64_t i = 0; i < n; i++) assert_true(z[i] == x[i] + y[i]);
        check_guards(z, n), check_threads(t->add, &a, 2, n);
        run(t->glu, &a, 1);
        double worst = 0, naive = 0;
        for (int64_t i = 0; i < n; i++) {
            double want = x[i] / (1 + exp(-(double)x[i])) * y[i];
            worst = fmax(worst, fabs(z[i] - want)),
            naive = fmax(naive, fabs(x[i] / (1 + expf(-x[i])) * y[i] - want));
        }
        assert_close(worst, naive, 24);
        check_guards(z, n), check_threads(t->glu, &a, 2, n);
        a.p[2] = x; /* in place */
        run(t->glu, &a, 1);
        assert_memory_equal(x, z, (size_t)n * 4);
        x[0] = NAN, y[n - 1] = INFINITY, a.p[2] = z;
        run(t->add, &a, 1);
        assert_true(isnan(z[0]) && (n == 1 || isinf(z[n - 1])));
        release(x), release(y), release(z);
    }
}

static void test_bias(void **state) {
    const tier *t = *state;
    for (int64_t rows = 1; rows < 40; rows += 13)
        for (size_t s = 0; s < TK_COUNT(sizes) - 1; s++) {
            int64_t n = sizes[s];
            float *x = guarded(rows * n), *b = guarded(n), *y = guarded(rows * n);
            fill(x, rows * n, 3, 1), fill(b, n, 2, 2);
            tk_args a = { .p = { x, b, y } };
            a.dim['t' - 'a'].n = rows, a.dim['n' - 'a'].n = n;
            run(t->bias, &a, 1);
            for (int64_t i = 0; i < rows * n; i++) assert_true(y[i] == x[i] + b[i % n]);
            check_guards(y, rows * n), check_threads(t->bias, &a, 2, rows * n);
            release(x), release(b), release(y);
        }
}

static void test_pick(void **state) {
    const tier *t = *state;
    enum { T = 9, K = 37, O = 5 };
    static const int32_t u[O] = { 8, 0, 3, 3, 7 };
    float *x = guarded(T * K), *y = guarded(O * K);
    fill(x, T * K, 1, 5);
    tk_args a = { .p = { x, (void *)(uintptr_t)u, y } };
    a.dim['t' - 'a'].n = T, a.dim['k' - 'a'].n = K, a.dim['o' - 'a'].n = O;
    for (int threads = 1; threads <= 3; threads++) {
        run(t->pick, &a, threads);
        for (int o = 0; o < O; o++) assert_memory_equal(y + o * K, x + u[o] * K, K * 4);
    }
    check_guards(y, O * K);
    release(x), release(y);
}

static void test_cast(void **state) {
    const tier *t = *state;
    enum { N = 65536 + 5 };
    static uint16_t half[N], back[N], other[N];
    static float wide[N];
    for (int i = 0; i < N; i++) half[i] = (uint16_t)i;
    static const tk_dtype types[2] = { TK_F16, TK_BF16 };
    for (int f = 0; f < 2; f++) {
        tk_args a = { .p = { half, wide }, .type = { (uint8_t)types[f], TK_F32 } };
        a.dim['n' - 'a'].n = N;
        run(t->cast, &a, 2);
        for (int i = 0; i < N; i++) { /* every value there is */
            float want = f ? tk_bf16_f32(half[i]) : tk_f16_f32(half[i]);
            assert_true(wide[i] == want || (isnan(wide[i]) && isnan(want)));
        }
        tk_args b = { .p = { wide, back }, .type = { TK_F32, (uint8_t)types[f] } };
        b.dim['n' - 'a'].n = N;
        run(t->cast, &b, 2);
        for (int i = 0; i < N; i++)
            assert_true(back[i] == half[i] ||
                        (isnan(wide[i]) && (f ? isnan(tk_bf16_f32(back[i])) : isnan(tk_f16_f32(back[i])))));
        /* random bits, so all roundings, ties, overflows */
        for (int i = 0; i < N; i++) {
            uint32_t word[4], counter[4] = { (uint32_t)i, 1, 2, 3 };
            tk_philox(word, 9, counter);
            uint32_t bits =
                f ? word[0] : (word[0] & 0x8fffffffu) | 0x30000000u; /* float16's range and its ends */
            if (i % 3 == 0) bits &= f ? 0xffff8000u : 0xfffff000u;   /* ties */
            wide[i] = tk_bits_f32(bits);
        }
        run(t->cast, &b, 3);
        for (int i = 0; i < N; i++) {
            uint16_t want = f ? tk_f32_bf16(wide[i]) : tk_f32_f16(wide[i]);
            if (back[i] != want && !isnan(wide[i])) fail_msg("%a -> %04x, not %04x", wide[i], back[i], want);
        }
        tk_args c = { .p = { half, other }, .type = { (uint8_t)types[f], (uint8_t)types[1 - f] } };
        c.dim['n' - 'a'].n = 33;
        memset(other, 0xab, sizeof other);
        run(t->cast, &c, 1);
        assert_int_equal(other[33], 0xabab);
    }
}

/* ---- rows ---- */

static void check_norm(const tier *t, int64_t rows, int64_t k, float offset, bool layer) {
    const float eps = 1e-5f;
    float *x = guarded(rows * k), *w = guarded(k), *b = guarded(k), *y = guarded(rows * k),
          *m = guarded(rows), *r = guarded(rows);
    fill(x, rows * k, 2, 3), fill(w, k, 1, 4), fill(b, k, 1, 5);
    for (int64_t i = 0; i < rows * k; i++) x[i] += offset;
    tk_args a = { .p = { x, w, y, r }, .attr.f = { eps } };
    if (layer) memcpy(a.p, (void *[6]){ x, w, b, y, m, r }, 6 * sizeof(void *));
    a.dim['h' - 'a'].n = rows, a.dim['k' - 'a'].n = k;
    tk_kernel *fn = layer ? t->lnorm : t->norm;
    run(fn, &a, 1);
    double worst = 0, naive = 0, top = 0;
    for (int64_t row = 0; row < rows; row++) {
        const float *xr = x + row * k;
        double mean = 0, var = 0;
        float fmean = 0, fvar = 0;
        for (int64_t i = 0; i < k && layer; i++) mean += xr[i], fmean += xr[i];
        mean /= (double)k, fmean /= (float)k;
        for (int64_t i = 0; i < k; i++)
            var += (xr[i] - mean) * (xr[i] - mean), fvar += (xr[i] - fmean) * (xr[i] - fmean);
        double scale = 1 / sqrt(var / (double)k + eps);
        float fscale = 1 / sqrtf(fvar / (float)k + eps);
        if (layer) assert_true(fabs(m[row] - mean) <= 1e-6 * (fabs(mean) + 1));
        assert_true(fabs(r[row] - scale) <= fmax(4e-6, k == 1 ? 1e-3 : 0) * scale);
        for (int64_t i = 0; i < k; i++) {
            double want = (xr[i] - mean) * scale * w[i] + (layer ? b[i] : 0);
            float rough = (xr[i] - fmean) * fscale * w[i] + (layer ? b[i] : 0);
            worst = fmax(worst, fabs(y[row * k + i] - want)), naive = fmax(naive, fabs(rough - want));
            top = fmax(top, fabs(want));
        }
    }
    assert_close(worst, naive, top * (1 + fabs(offset)));
    check_guards(y, rows * k), check_guards(r, rows), check_guards(m, rows);
    check_threads(fn, &a, layer ? 3 : 2, rows * k);
    /* without the statistics, in place, each row alone */
    float *copy = guarded(rows * k);
    memcpy(copy, x, (size_t)(rows * k) * 4);
    a.p[0] = a.p[layer ? 3 : 2] = copy, a.p[layer ? 4 : 3] = NULL, a.p[5] = NULL;
    run(fn, &a, 1);
    assert_memory_equal(copy, y, (size_t)(rows * k) * 4);
    a.dim['h' - 'a'].n = 1, a.p[0] = x + (rows - 1) * k, a.p[layer ? 3 : 2] = copy;
    run(fn, &a, 1);
    assert_memory_equal(copy, y + (rows - 1) * k, (size_t)k * 4);
    if (k > 1) {
        x[(rows - 1) * k] = NAN;
        run(fn, &a, 1);
        assert_true(isnan(copy[0]) && isnan(copy[k - 1]));
    }
    release(x), release(w), release(b), release(y), release(m), release(r), release(copy);
}

static void test_norms(void **state) {
    static const int64_t widths[] = { 1, 5, 16, 48, 63, 64, 65, 576, 577, 768, 2048 };
    for (int layer = 0; layer < 2; layer++)
        for (size_t i = 0; i < TK_COUNT(widths); i++)
            for (int64_t rows = 1; rows < 12; rows += 5) {
                check_norm(*state, rows, widths[i], 0, layer);
                check_norm(*state, rows, widths[i], 100, layer);
            }
}

/* ---- rope ---- */

static void check_rope(const tier *t, int64_t heads, int64_t d, int64_t z, bool far) {
    enum { T = 6 };
    static const int32_t near_positions[T] = { 0, 1, 5, 511, 8191, 131071 },
                         far_positions[T] = { 0, 2000000, 999999, 16777216, 2147483647, 3 };
    const int32_t *p = far ? far_positions : near_positions;
    const int64_t n = T * heads * d;
    float *x = guarded(n), *f = guarded(z), *y = guarded(n), *y2 = guarded(n);
    fill(x, n, 2, 11);
    for (int64_t i = 0; i < z; i++) f[i] = powf(10000, -2 * (float)i / (float)(2 * z));
    tk_args a = { .p = { x, (void *)(uintptr_t)p, f, y }, .attr = { .f = { 1.25f }, .i = { TK_ROPE_HALF } } };
    a.dim['t' - 'a'].n = T, a.dim['h' - 'a'].n = heads, a.dim['d' - 'a'].n = d, a.dim['z' - 'a'].n = z;
    run(t->rope, &a, 1);
    for (int64_t row = 0; row < T * heads; row++)
        for (int64_t i = 0; i < d; i++) {
            const float *xr = x + row * d;
            double want = xr[i];
            if (i < 2 * z) {
                double angle = (float)p[row / heads] * f[i % z], s = 1.25 * sin(angle), c = 1.25 * cos(angle);
                want = i < z ? xr[i] * c - xr[i + z] * s : xr[i] * c + xr[i - z] * s;
            }
            if (fabs(y[row * d + i] - want) > 2e-6)
                fail_msg("rope d %d z %d at %d of row %d: %.9g, not %.9g", (int)d, (int)z, (int)i, (int)row,
                         y[row * d + i], want);
        }
    check_guards(y, n), check_threads(t->rope, &a, 3, n);
    /* the other pairing on permuted rows: the same bits, permuted */
    float *xp = guarded(n), *yp = guarded(n);
    for (int64_t row = 0; row < T * heads; row++)
        for (int64_t i = 0; i < d; i++) {
            int64_t to = i < z ? 2 * i : i < 2 * z ? 2 * (i - z) + 1 : i;
            xp[row * d + to] = x[row * d + i], y2[row * d + to] = y[row * d + i];
        }
    a.p[0] = xp, a.p[3] = yp, a.attr.i[0] = TK_ROPE_PAIRS;
    run(t->rope, &a, 2);
    assert_memory_equal(yp, y2, (size_t)n * 4);
    check_guards(yp, n);
    a.p[3] = xp; /* in place, both pairings */
    run(t->rope, &a, 1);
    assert_memory_equal(xp, y2, (size_t)n * 4);
    a.p[0] = a.p[3] = x, a.attr.i[0] = TK_ROPE_HALF;
    run(t->rope, &a, 1);
    assert_memory_equal(x, y, (size_t)n * 4);
    release(x), release(f), release(y), release(y2), release(xp), release(yp);
}

static void test_rope(void **state) {
    static const int64_t shape[][3] = { { 3, 64, 32 }, { 1, 48, 24 },  { 2, 8, 4 }, { 2, 10, 5 },
                                        { 1, 80, 16 }, { 2, 128, 64 }, { 1, 2, 1 }, { 4, 30, 7 } };
    for (size_t i = 0; i < TK_COUNT(shape); i++)
        for (int far = 0; far < 2; far++) check_rope(*state, shape[i][0], shape[i][1], shape[i][2], far);
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
            cmocka_unit_test_prestate(test_act, t),     cmocka_unit_test_prestate(test_act_everywhere, t),
            cmocka_unit_test_prestate(test_pairs, t),   cmocka_unit_test_prestate(test_bias, t),
            cmocka_unit_test_prestate(test_softcap, t), cmocka_unit_test_prestate(test_pick, t),
            cmocka_unit_test_prestate(test_cast, t),    cmocka_unit_test_prestate(test_norms, t),
            cmocka_unit_test_prestate(test_rope, t),
        };
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    }
    return failed;
}
