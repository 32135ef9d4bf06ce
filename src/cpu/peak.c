/* SPDX-License-Identifier: Apache-2.0 */
/* How fast this machine's cores can multiply and add: the limit beside every prefill figure. Twelve chains of
 * one instruction in registers hide its latency on all cores known; a multiply and an add are two operations.
 */
#include "cpu/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define CHAINS(name, targets, type, instruction, ops)                                                        \
    __attribute__((target(targets))) static double name(int64_t passes) {                                    \
        type s[12];                                                                                          \
        memset(s, 0, sizeof s);                                                                              \
        type a = s[0], b = s[1];                                                                             \
        for (int64_t i = 0; i < passes; i++) {                                                               \
            _Pragma("GCC unroll 12") for (int j = 0; j < 12;                                                 \
                                          j++) __asm__(instruction : "+v"(s[j]) : "v"(a), "v"(b));           \
        }                                                                                                    \
        volatile type sink = s[0];                                                                           \
        (void)sink;                                                                                          \
        return 12.0 * (double)passes * ops;                                                                  \
    }
CHAINS(int8_avx512, "avx512f", __m512i, "vpdpbusd %2, %1, %0", 128)
CHAINS(f32_avx512, "avx512f", __m512, "vfmadd231ps %2, %1, %0", 32)
CHAINS(int8_avx2, "avx2", __m256i, "vpmaddubsw %2, %1, %0", 64)
CHAINS(f32_avx2, "avx2,fma", __m256, "vfmadd231ps %2, %1, %0", 16)
#endif

/* As the compiler vectorizes for any CPU of the kind */
static double f32_plain(int64_t passes) {
    enum { WIDTH = 48 };
    float s[WIDTH] = { 0 }, a = 0.5f, b = 0.25f;
    for (int64_t i = 0; i < passes; i++) {
        for (int j = 0; j < WIDTH; j++) s[j] = s[j] * a + b;
        __asm__ volatile("" : "+m"(s));
    }
    return 2.0 * WIDTH * (double)passes;
}

typedef struct job {
    double (*run)(int64_t passes);
    double done[1024];
} job;

static void work(void *arg, int ith, int nth) {
    job *j = arg;
    (void)nth;
    if (ith < (int)TK_COUNT(j->done)) j->done[ith] = j->run(100000);
}

double tk_measure_ops(tk_pool *pool, bool int8) {
    job j = { .run = f32_plain };
#if defined(__x86_64__)
    unsigned have = tk_cpu_features();
    if (have & TK_CPU_AVX512)
        j.run = int8 ? int8_avx512 : f32_avx512;
    else if (have & TK_CPU_AVX2)
        j.run = int8 ? int8_avx2 : f32_avx2;
#endif
    (void)int8;
    double best = 0;
    for (int rep = 0; rep < 20; rep++) { /* the first ones also bring the clock up */
        memset(j.done, 0, sizeof j.done);
        double start = tk_now(), sum = 0;
        tk_pool_run(pool, work, &j);
        double seconds = tk_now() - start;
        for (size_t i = 0; i < TK_COUNT(j.done); i++) sum += j.done[i];
        if (seconds > 0) best = TK_MAX(best, sum / seconds);
    }
    return best;
}
