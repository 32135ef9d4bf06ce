/* SPDX-License-Identifier: Apache-2.0 */
/* Speed of every linear row of kernels.def that this machine can run, and its share of the limits, which are
 * measured in the same process: reading memory with all threads, and the fastest unit's peak (int8 or
 * bfloat16 products, float32 fused multiply-adds, in registers). With one thread it is processor time that
 * counts, so that a busy machine disturbs less.
 *
 *     bench_linear [--threads N] [--filter TEXT] [--shape N,K] [--tokens T]
 *
 * The weights of a one-token run are walked through copies of 256 MiB in all, so they come from memory. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "base/packed.h"
#include "core/core.h"
#include "cpu/cpu.h"

typedef tk_kernel_row row;

static tk_pool *pool;
static int threads = 2;

static void *memory(size_t n) {
    void *p = aligned_alloc(2 << 20, tk_align(n, 2 << 20));
    if (!p) exit(1);
    madvise(p, n, MADV_HUGEPAGE);
    memset(p, 0, n);
    return p;
}

typedef struct job {
    const row *r;
    tk_args a;
} job;
static void linear_job(void *arg, int ith, int nth) {
    tk_args a = ((job *)arg)->a;
    a.ith = ith, a.nth = nth;
    ((job *)arg)->r->fn[0](&a);
}

static double clock_now(void) {
    struct timespec t;
    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static uint8_t *weights;
enum { POOL_BYTES = 256 << 20 };

static void bench(const row *r, int64_t n, int64_t k, int64_t t, double bandwidth, double unit) {
    size_t bytes, act_bytes;
    if (!tk_format_size((tk_dtype)r->weight, n, k, &bytes) || bytes > POOL_BYTES) return;
    if (!tk_format_size((tk_dtype)r->act, t, k, &act_bytes)) return;
    if (tk_formats[r->weight].block == 256 && k % 256) return; /* no file has such rows */
    float *x = memory((size_t)(t * k) * 4), *y = memory((size_t)(t * n) * 4);
    uint8_t *act = memory(act_bytes);
    for (int64_t i = 0; i < t * k; i++) x[i] = (float)(i * 37 % 101 - 50) / 50;
    for (int64_t i = 0; i < t; i++) tk_formats[r->act].pack(act, x + i * k, t, k, i);
    const int64_t copies = (int64_t)(POOL_BYTES / tk_align(bytes, 4096));
    job j = { r, { .p = { act, weights, y }, .type = { (uint8_t)r->act, (uint8_t)r->weight, TK_F32 } } };
    j.a.dim['t' - 'a'].n = t, j.a.dim['n' - 'a'].n = n, j.a.dim['k' - 'a'].n = k;
    j.a.scratch = memory(r->scratch(j.a.dim, threads) + 1);
    j.a.pool = pool;
    const double ops = 2.0 * (double)n * (double)k * (double)t;
    double samples[61]; /* short ones: on a busy machine some run undisturbed */
    int64_t calls = (int64_t)TK_MIN((t == 1 ? 5e7 : 1e9) / ops + 1, 2000.0), at = 0;
    for (int s = 0; s < (int)TK_COUNT(samples); s++) {
        double start = clock_now();
        for (int64_t c = 0; c < calls; c++, at++) {
            j.a.p[1] = weights + (size_t)(at % copies) * tk_align(bytes, 4096);
            tk_pool_run(pool, linear_job, &j);
        }
        samples[s] = (clock_now() - start) / (double)calls;
    }
    qsort(samples, TK_COUNT(samples), sizeof *samples, by_value);
    const double best = samples[0], mid = samples[TK_COUNT(samples) / 2];
    printf("%-22s %-7s n%-6d k%-5d t%-4d best %9.1f us  median %9.1f us  %6.1f GB/s (%3.0f %%)  %7.1f GOP/s "
           "(%3.0f %%)\n",
           r->name, tk_formats[r->weight].name, (int)n, (int)k, (int)t, best * 1e6, mid * 1e6,
           (double)bytes / best / 1e9, 100 * (double)bytes / best / bandwidth, ops / best / 1e9,
           100 * ops / best / unit);
    fflush(stdout);
    free(x), free(y), free(act), free(j.a.scratch);
}

int main(int argc, char **argv) {
    const char *filter = "";
    int64_t n = 0, k = 0, t = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--threads")) threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--filter")) filter = argv[i + 1];
        if (!strcmp(argv[i], "--tokens")) t = atoll(argv[i + 1]);
        if (!strcmp(argv[i], "--shape"))
            n = strtoll(argv[i + 1], NULL, 10), k = atoll(strchr(argv[i + 1], ',') + 1);
    }
    if (tk_pool_new(&pool, threads, true) != TK_OK) return 1;
    weights = memory(POOL_BYTES);
    memset(weights, 0x38, POOL_BYTES); /* scales of ordinary size in every format */
    double bandwidth;
    if (tk_measure_read(pool, POOL_BYTES, 9, &bandwidth) != TK_OK) return 1;
    const double int8 = tk_measure_ops(pool, TK_UNIT_INT8), f32 = tk_measure_ops(pool, TK_UNIT_F32),
                 bf16 = tk_measure_ops(pool, TK_UNIT_BF16);
    printf("limits with %d threads: memory %.1f GB/s, int8 %.0f GOP/s, bfloat16 %.0f, float32 %.0f GFLOP/s\n",
           threads, bandwidth / 1e9, int8 / 1e9, bf16 / 1e9, f32 / 1e9);
    static const int64_t shapes[][2] = { { 576, 576 },   { 1536, 576 },  { 576, 1536 },
                                         { 2048, 2048 }, { 8192, 2048 }, { 2048, 8192 } };
    static const int64_t tokens[] = { 1, 8, 512 };
    for (size_t i = 0; (int)i < tk_nkernels; i++) {
        if (tk_kernels[i].op != TK_OP_linear || !strstr(tk_kernels[i].name, filter)) continue;
        if ((tk_cpu_features() & tk_kernels[i].needs) != tk_kernels[i].needs) continue;
        for (size_t s = 0; s < (n ? 1 : TK_COUNT(shapes)); s++)
            for (size_t m = 0; m < (t ? 1 : TK_COUNT(tokens)); m++)
                bench(&tk_kernels[i], n ? n : shapes[s][0], n ? k : shapes[s][1], t ? t : tokens[m],
                      bandwidth,
                      tk_kernels[i].act == TK_A8                                    ? int8
                      : tk_kernels[i].act == TK_BF16 || tk_kernels[i].act == TK_A16 ? bf16
                                                                                    : f32);
    }
    tk_pool_free(pool);
    free(weights);
    return 0;
}
