/* SPDX-License-Identifier: Apache-2.0 */
/* How fast this machine's cores can multiply and add: the limit beside every prefill figure. Ten chains of
 * one instruction in registers hide its latency on all cores known; a multiply and an add are two operations.
 */
#include "cpu/cpu.h"

#if defined(__x86_64__)
/* registers 0-9 accumulate products of 10 and 11, all zero: no number is ever slow */
#define CHAIN(op, r, n) op " %%" r "mm10, %%" r "mm11, %%" r "mm" #n "\n"
#define CHAINS(name, op, r, ops)                                                                             \
    static double name(int64_t passes) {                                                                     \
        __asm__ volatile("vzeroall" ::: CLOBBERED);                                                          \
        for (int64_t i = 0; i < passes; i++)                                                                 \
            __asm__ volatile(CHAIN(op, r, 0) CHAIN(op, r, 1) CHAIN(op, r, 2) CHAIN(op, r, 3) CHAIN(op, r, 4) \
                                 CHAIN(op, r, 5) CHAIN(op, r, 6) CHAIN(op, r, 7) CHAIN(op, r, 8)             \
                                     CHAIN(op, r, 9)::                                                       \
                                         : CLOBBERED);                                                       \
        __asm__ volatile("vzeroupper" ::: CLOBBERED);                                                        \
        return 10.0 * (double)passes * ops;                                                                  \
    }
#define CLOBBERED                                                                                            \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11"
CHAINS(int8_avx512, "vpdpbusd", "z", 128)
CHAINS(f32_avx512, "vfmadd231ps", "z", 32)
CHAINS(bf16_avx512, "vdpbf16ps", "z", 64)
CHAINS(int8_avx2, "vpmaddubsw", "y", 64)
CHAINS(f32_avx2, "vfmadd231ps", "y", 16)

#ifndef TOKAMAK_AMX_EMULATED
/* Tiles 0-3 accumulate products of 4, 5 and 6, 7, as the kernels do; all are zero */
#define TILES(name, op, k)                                                                                   \
    static double name(int64_t passes) {                                                                     \
        __asm__ volatile("ldtilecfg %0" ::"m"(tile_config));                                                 \
        for (int64_t i = 0; i < passes; i++)                                                                 \
            __asm__ volatile(op " %%tmm6, %%tmm4, %%tmm0\n" op " %%tmm7, %%tmm4, %%tmm1\n" op                \
                                " %%tmm6, %%tmm5, %%tmm2\n" op " %%tmm7, %%tmm5, %%tmm3\n" ::);              \
        __asm__ volatile("tilerelease" ::);                                                                  \
        return 4.0 * (double)passes * 16 * 16 * (k)*2;                                                       \
    }
static const struct {
    uint8_t palette, start, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config __attribute__((aligned(64))) = { .palette = 1,
                                               .row_bytes = { 64, 64, 64, 64, 64, 64, 64, 64 },
                                               .rows = { 16, 16, 16, 16, 16, 16, 16, 16 } };
TILES(bf16_amx, "tdpbf16ps", 32)
TILES(int8_amx, "tdpbssd", 64)
#else
#define bf16_amx bf16_avx512
#define int8_amx int8_avx512
#endif
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
    double best[1024]; /* operations a second, by thread */
} job;

/* Each thread keeps its own best, so that a machine busy elsewhere spoils few passes. */
static void work(void *arg, int ith, int nth) {
    job *j = arg;
    (void)nth;
    for (int rep = 0; rep < 60; rep++) { /* the first ones also bring the clock up */
        double start = tk_now(), ops = j->run(100000), seconds = tk_now() - start;
        if (ith < (int)TK_COUNT(j->best) && seconds > 0) j->best[ith] = TK_MAX(j->best[ith], ops / seconds);
    }
}

double tk_measure_ops(tk_pool *pool, tk_unit unit) {
    job j = { .run = f32_plain };
#if defined(__x86_64__)
    const unsigned have = tk_cpu_features();
    if (unit != TK_UNIT_F32 && have & TK_CPU_AMX) {
        j.run = unit == TK_UNIT_INT8 ? int8_amx : bf16_amx;
    } else if (unit == TK_UNIT_BF16 && have & TK_CPU_BF16) {
        j.run = bf16_avx512;
    } else if (have & TK_CPU_AVX512) {
        j.run = unit == TK_UNIT_INT8 ? int8_avx512 : f32_avx512;
    } else if (have & TK_CPU_AVX2) {
        j.run = unit == TK_UNIT_INT8 ? int8_avx2 : f32_avx2;
    }
#endif
    tk_pool_run(pool, work, &j);
    double sum = 0;
    for (size_t i = 0; i < TK_COUNT(j.best); i++) sum += j.best[i];
    return sum;
}
