/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of the CPU's vector kernels at SmolLM2-135M's shapes, on each tier that this machine has, beside the
 * limits measured in the same process: a copy of as many bytes from and to the same places (cache or memory),
 * and float32 multiply-adds in registers.
 *     bench_cpu [--threads N] [--filter TEXT]
 * Medians, and in brackets the best of the repeats (what a machine with other work allows now and then);
 * rates are of the median. Data are random. The last line of a tier sums what a prefill of 512 tokens spends
 * outside the products (30 layers). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "ops/ops.h"

enum { T = 512, E = 576, F = 1536, G = 3, R = 3, D = 64, LAYERS = 30, DEPTH = 2048, PAGE = 64, REPEATS = 31 };
#define OPS(X) X(add) X(norm) X(lnorm) X(rope) X(glu) X(act) X(cast) X(kvput) X(attn) X(attn_paged)
typedef struct tier {
    const char *name;
    unsigned needs;
    int lanes;
#define FIELD(op) tk_kernel *op;
    OPS(FIELD)
} tier;
#define DECLARE(op) tk_kernel op##_plain, op##_avx2, op##_avx512;
OPS(DECLARE)
tk_scratch attn_scratch, attn_paged_scratch;
#define PLAIN(op) .op = op##_plain,
#define AVX2(op) .op = op##_avx2,
#define AVX512(op) .op = op##_avx512,
static const tier tiers[] = { { "plain", 0, 4, OPS(PLAIN) },
                              { "avx2", TK_CPU_AVX2, 8, OPS(AVX2) },
                              { "avx512", TK_CPU_AVX512, 16, OPS(AVX512) } };

static tk_pool *pool;
static int threads = 2;
static const char *filter = "";

static void *memory(size_t n) {
    void *p = aligned_alloc(4096, tk_align(n, 4096));
    if (!p) exit(1);
    memset(p, 0, n);
    return p;
}
static float *numbers(int64_t n, uint64_t seed) {
    float *p = memory((size_t)n * 4);
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        tk_philox(w, seed, counter);
        p[i] = 4 * tk_uniform(w[0]) - 2;
    }
    return p;
}

typedef struct job {
    tk_kernel *fn;
    tk_args a;
} job;
static void run_one(void *arg, int ith, int nth) {
    job *j = arg;
    tk_args a = j->a;
    a.pool = pool, a.ith = ith, a.nth = nth;
    j->fn(&a);
}
static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double best; /* of the last median_of */
static double median_of(void (*fn)(void *, int, int), void *arg, int rounds) {
    double t[REPEATS];
    for (int i = 0; i < REPEATS; i++) {
        t[i] = tk_now();
        for (int k = 0; k < rounds; k++) tk_pool_run(pool, fn, arg);
        t[i] = (tk_now() - t[i]) / rounds;
    }
    qsort(t, REPEATS, sizeof *t, by_value);
    best = t[0];
    return t[REPEATS / 2];
}

/* ---- limits ---- */

typedef struct copy {
    const char *from;
    char *to;
    int64_t bytes;
} copy;
static void copy_job(void *arg, int ith, int nth) {
    const copy *c = arg;
    int64_t i, to;
    tk_split(c->bytes, 4096, ith, nth, &i, &to);
    memcpy(c->to + i, c->from + i, (size_t)(to - i));
}
/* Seconds to move `bytes` in all (half read, half written) */
static double copy_time(int64_t bytes) {
    static char *a, *b;
    static int64_t have;
    if (have < bytes) a = memory((size_t)bytes), b = memory((size_t)bytes), have = bytes;
    return median_of(copy_job, &(copy){ a, b, bytes / 2 }, 4);
}

static double flops_of(double seconds, double passes) { return passes * 12 * 2 * threads / seconds; }
#if defined(__x86_64__)
/* Twelve chains in named registers: through variables, compilers put stores and loads between */
#define ZERO(r, i) "vpxor %%xmm" #i ",%%xmm" #i ",%%xmm" #i "\n"
#define CHAIN(r, i) "vfmadd231ps " r "15," r "15," r #i "\n"
#define TWELVE(X, r)                                                                                         \
    X(r, 0) X(r, 1) X(r, 2) X(r, 3) X(r, 4) X(r, 5) X(r, 6) X(r, 7) X(r, 8) X(r, 9) X(r, 10) X(r, 11)
#define PEAK(name, r)                                                                                        \
    static void name(void *arg, int ith, int nth) {                                                          \
        (void)arg, (void)ith, (void)nth;                                                                     \
        int n = 100000;                                                                                      \
        __asm__ volatile(TWELVE(ZERO, r) ZERO(r, 15) "1:\n" TWELVE(CHAIN, r) "dec %0\njnz 1b\nvzeroupper\n"  \
                         : "+r"(n)::"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",  \
                           "xmm9", "xmm10", "xmm11", "xmm15", "cc");                                         \
    }
PEAK(peak_avx512, "%%zmm")
PEAK(peak_avx2, "%%ymm")
static double peak(int lanes) {
    if (lanes < 8) return 0; /* the compiler's choice of instructions */
    median_of(lanes == 16 ? peak_avx512 : peak_avx2, NULL, 1);
    return flops_of(best, 1e5) * lanes;
}
#else
static double peak(int lanes) { return 0 * lanes; }
#endif

/* ---- rows ---- */

static bool wanted(const tier *t, const char *what) {
    char name[96];
    snprintf(name, sizeof name, "%s %s", t->name, what);
    return strstr(name, filter) != NULL;
}
static double elements(const tier *t, const char *what, tk_kernel *fn, tk_args a, int64_t bytes) {
    if (!wanted(t, what)) return 0;
    double s = median_of(run_one, &(job){ fn, a }, 4), least = best, c = copy_time(bytes);
    printf("%-7s %-26s %9.1f us (%7.1f) %7.1f GB/s  %3.0f%% of a copy (%3.0f%%)\n", t->name, what, s * 1e6,
           least * 1e6, 1e-9 * (double)bytes / s, 100 * c / s, 100 * best / least);
    return s;
}

static void dims(tk_args *a, const char *letters, const int64_t *n) {
    for (int i = 0; letters[i]; i++) a->dim[letters[i] - 'a'].n = n[i];
}
#define DIMS(a, letters, ...) dims((a), letters, (const int64_t[]){ __VA_ARGS__ })

static double elementwise(const tier *t) {
    float *x = numbers(T * F, 1), *y = numbers(T * F, 2), *z = memory(T * F * 4), *r = memory(T * 4);
    float *f = memory(D / 2 * 4);
    int32_t *p = memory(T * 4);
    for (int i = 0; i < D / 2; i++) f[i] = powf(10000, -2 * (float)i / D);
    for (int i = 0; i < T; i++) p[i] = i;
    double norm, add, rope_q, rope_k, gate;
    tk_args a = { .p = { x, y, z, r }, .attr.f = { 1e-5f } };
    DIMS(&a, "hk", T, E), norm = elements(t, "norm 512x576", t->norm, a, T * E * 8);
    DIMS(&a, "hk", 1, E), elements(t, "norm 1x576", t->norm, a, E * 8);
    tk_args l = { .p = { x, y, y, z, r, r }, .attr.f = { 1e-5f } };
    DIMS(&l, "hk", T, E), elements(t, "lnorm 512x576", t->lnorm, l, T * E * 8);
    DIMS(&a, "n", T * E), add = elements(t, "add 512x576", t->add, a, T * E * 12);
    tk_args e = { .p = { x, p, f, z }, .attr.f = { 1 } };
    DIMS(&e, "thdz", T, G * R, D, D / 2), rope_q = elements(t, "rope 512x9x64 half", t->rope, e, T * E * 8);
    DIMS(&e, "h", G), rope_k = elements(t, "rope 512x3x64 half", t->rope, e, T * G * D * 8);
    e.attr.i[0] = TK_ROPE_PAIRS, DIMS(&e, "h", G * R),
    elements(t, "rope 512x9x64 pairs", t->rope, e, T * E * 8);
    DIMS(&a, "n", T * F), gate = elements(t, "glu 512x1536", t->glu, a, T * F * 12);
    a.p[1] = z;
    static const char *kinds[] = { "silu 512x1536", "gelu tanh 512x1536", "gelu erf 512x1536",
                                   "relu 512x1536" };
    for (int k = 0; k < 4; k++) a.attr.i[0] = k, elements(t, kinds[k], t->act, a, T * F * 8);
    a.type[0] = TK_F32, a.type[1] = TK_F16, elements(t, "cast f32 f16 512x1536", t->cast, a, T * F * 6);
    a.type[1] = TK_BF16, elements(t, "cast f32 bf16 512x1536", t->cast, a, T * F * 6);
    free(x), free(y), free(z), free(r), free(f), free(p);
    return 2 * norm + 2 * add + rope_q + rope_k + gate;
}

/* Multiply-adds of causal attention at positions past .. past + n - 1, twice for the two products */
static double attention_flops(int64_t past, int64_t n) {
    double keys = 0;
    for (int64_t i = 0; i < n; i++) keys += (double)(past + i + 1);
    return keys * G * R * D * 4;
}

static double products(const tier *t, const char *what, tk_kernel *fn, tk_args a, double flops,
                       double limit) {
    if (!wanted(t, what)) return 0;
    double s = median_of(run_one, &(job){ fn, a }, 1);
    printf("%-7s %-26s %9.1f us (%7.1f) %7.1f GFLOP/s", t->name, what, s * 1e6, best * 1e6, 1e-9 * flops / s);
    if (limit > 0)
        printf(" %3.0f%% of the unit (%3.0f%%)", 100 * flops / s / limit, 100 * flops / best / limit);
    puts("");
    return s;
}

static double attention(const tier *t, double limit) {
    static const tk_dtype types[] = { TK_F32, TK_F16, TK_BF16, TK_Q8_0 };
    float *q = numbers(T * G * R * D, 3), *k = numbers(T * G * D, 4), *v = numbers(T * G * D, 5),
          *o = memory(T * G * R * D * 4);
    enum { PAGES = DEPTH / PAGE + T / PAGE };
    int32_t pages[PAGES], slot[T], start[2] = { 0, T }, past[1] = { 0 };
    for (int i = 0; i < PAGES; i++) pages[i] = PAGES - 1 - i;
    tk_batch b = { T, 1, start, past, pages, PAGES, PAGE, 0, 0 };
    double f16 = 0;
    for (size_t i = 0; i < TK_COUNT(types); i++) {
        const char *type = tk_formats[types[i]].name;
        char what[64];
        size_t bytes;
        if (!tk_format_size(types[i], PAGES * G * PAGE, D, &bytes)) exit(1);
        void *ck = memory(bytes), *cv = memory(bytes);
        tk_args put = { .p = { k, v, slot, ck, cv, ck, cv }, .batch = &b };
        tk_args att = { .p = { q, slot, ck, cv, o }, .batch = &b, .attr.f = { 0.125f } };
        for (int c = 3; c < 7; c++) put.type[c] = (uint8_t)types[i];
        att.type[2] = att.type[3] = (uint8_t)types[i];
        DIMS(&put, "tgrdps", T, G, R, D, PAGES, PAGE), DIMS(&att, "tgrdps", T, G, R, D, PAGES, PAGE);
        att.scratch = memory(attn_paged_scratch(att.dim, threads));
        for (int from = DEPTH; from >= 0; from -= T) { /* fill the cache, its start last */
            for (int j = 0; j < T; j++) slot[j] = pages[(from + j) / PAGE] * PAGE + (from + j) % PAGE;
            tk_pool_run(pool, run_one, &(job){ t->kvput, put });
        }
        snprintf(what, sizeof what, "kvput 512 %s", type);
        double write =
            elements(t, what, t->kvput, put, T * G * D * 8 + (int64_t)(bytes / PAGES * T / PAGE) * 2);
        start[1] = T, past[0] = 0;
        snprintf(what, sizeof what, "attn_paged 512 %s", type);
        double whole = products(t, what, t->attn_paged, att, attention_flops(0, T), limit);
        if (types[i] == TK_F16) f16 = whole + write;
        start[1] = 1, past[0] = DEPTH - 1, b.tokens = 1;
        snprintf(what, sizeof what, "attn_paged 1 at 2048 %s", type);
        DIMS(&att, "t", 1);
        elements(t, what, t->attn_paged, att, (int64_t)(2 * bytes * DEPTH / (PAGES * PAGE)));
        start[1] = T, past[0] = 0, b.tokens = T;
        free(ck), free(cv), free(att.scratch);
    }
    tk_args a = { .p = { q, k, v, NULL, o, memory(T * G * R * 4) }, .batch = &b, .attr.f = { 0.125f } };
    DIMS(&a, "tgrd", T, G, R, D);
    a.scratch = memory(attn_scratch(a.dim, threads));
    products(t, "attn 512", t->attn, a, attention_flops(0, T), limit);
    free(a.scratch), free(a.p[5]), free(q), free(k), free(v), free(o);
    return f16;
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--threads")) threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--filter")) filter = argv[i + 1];
    }
    if (tk_pool_new(&pool, threads, true) != TK_OK) {
        fprintf(stderr, "%s\n", tk_error());
        return 1;
    }
    for (size_t i = 0; i < TK_COUNT(tiers); i++) {
        const tier *t = &tiers[i];
        if (t->needs & ~tk_cpu_features()) continue;
        const double limit = peak(t->lanes);
        printf("%-7s %d threads, multiply-adds in registers: %.0f GFLOP/s\n", t->name, threads, limit * 1e-9);
        const double rest = elementwise(t), attn = attention(t, limit);
        if (!*filter)
            printf("%-7s prefill of 512, 30 layers: attention %.1f ms, norm + add + rope + glu %.1f ms\n",
                   t->name, attn * LAYERS * 1e3, rest * LAYERS * 1e3);
    }
    tk_pool_free(pool);
    return 0;
}
