/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the CPU's vector kernels share: the tiers' functions, operands between sentinels, running
 * a kernel on a pool, and comparing thread counts bitwise. */
#ifndef TEST_CPU_TIERS_H
#define TEST_CPU_TIERS_H
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "ops/ops.h"

#define TIER_OPS(X)                                                                                          \
    X(add)                                                                                                   \
    X(bias)                                                                                                  \
    X(scale) X(softcap) X(glu) X(act) X(cast) X(pick) X(norm) X(lnorm) X(rope) X(kvput) X(attn)              \
        X(attn_paged) X(sink)
typedef struct tier {
    const char *name;
    unsigned needs;
#define FIELD(op) tk_kernel *op;
    TIER_OPS(FIELD)
#undef FIELD
} tier;
#define DECLARE(op) tk_kernel op##_plain, op##_avx2, op##_avx512;
TIER_OPS(DECLARE)
#undef DECLARE
tk_scratch attn_scratch, attn_paged_scratch;

#define PLAIN_OP(op) .op = op##_plain,
#define AVX2_OP(op) .op = op##_avx2,
#define AVX512_OP(op) .op = op##_avx512,
static const tier tiers[] = { { .name = "plain", TIER_OPS(PLAIN_OP) },
                              { .name = "avx2", .needs = TK_CPU_AVX2, TIER_OPS(AVX2_OP) },
                              { .name = "avx512", .needs = TK_CPU_AVX512, TIER_OPS(AVX512_OP) } };

/* ---- operands between sentinels ---- */

enum { GUARD = 16 };
#define SENTINEL 0x5ca1ab1eu

/* n floats, NaN, with sentinels around; misaligned by 4 bytes, since kernels may not ask for more */
static inline float *guarded(int64_t n) {
    float *p = malloc((size_t)(n + 2 * GUARD + 1) * sizeof *p);
    assert_non_null(p);
    p += 1;
    for (int64_t i = 0; i < GUARD; i++) p[i] = p[GUARD + n + i] = tk_bits_f32(SENTINEL);
    for (int64_t i = 0; i < n; i++) p[GUARD + i] = NAN;
    return p + GUARD;
}
static inline void release(float *p) { free(p - GUARD - 1); }
static inline void check_guards(const float *p, int64_t n) {
    for (int64_t i = 0; i < GUARD; i++)
        assert_true(tk_f32_bits(p[i - GUARD]) == SENTINEL && tk_f32_bits(p[n + i]) == SENTINEL);
}

/* Random numbers, roughly normal, times `scale`, the same for the same seed */
static inline void fill(float *p, int64_t n, float scale, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        tk_philox(w, seed, counter);
        p[i] = (tk_uniform(w[0]) + tk_uniform(w[1]) + tk_uniform(w[2]) + tk_uniform(w[3]) - 2) * 1.7f * scale;
    }
}

/* ---- running ---- */

typedef struct job {
    tk_kernel *fn;
    const tk_args *args;
    tk_pool *pool;
} job;
static inline void run_one(void *arg, int ith, int nth) {
    const job *j = arg;
    tk_args a = *j->args;
    a.pool = j->pool, a.ith = ith, a.nth = nth;
    j->fn(&a);
}
static inline void run(tk_kernel *fn, const tk_args *a, int threads) {
    static tk_pool *pools[9];
    if (!pools[threads]) assert_int_equal(tk_pool_new(&pools[threads], threads, false), TK_OK);
    tk_pool_run(pools[threads], run_one, &(job){ fn, a, pools[threads] });
}

/* Runs again with 2, 3 and 8 threads and compares output `which`, n floats, bitwise */
static inline void check_threads(tk_kernel *fn, const tk_args *a, int which, int64_t n) {
    tk_args b = *a;
    for (int threads = 2; threads <= 8; threads += threads == 2 ? 1 : 5) {
        float *y = guarded(n);
        b.p[which] = y;
        run(fn, &b, threads);
        assert_memory_equal(y, a->p[which], (size_t)n * sizeof *y);
        check_guards(y, n), release(y);
    }
}

/* The tolerance rule: twice the naive run's error and one rounding at the largest value */
#define assert_close(worst, naive, top)                                                                      \
    do {                                                                                                     \
        if (!((worst) <= 2 * (naive) + (top)*0x1p-24))                                                       \
            fail_msg("error %g, naive %g, largest value %g", (double)(worst), (double)(naive),               \
                     (double)(top));                                                                         \
    } while (0)
#endif
