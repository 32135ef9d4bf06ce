/* SPDX-License-Identifier: Apache-2.0 */
/* The tile instructions that the AMX kernels use, and nothing else of them, so that they can be emulated: in
 * a build with -DTOKAMAK_AMX_EMULATED the same kernels run on any CPU that has the tier's vector instructions
 * and give the same bits, and machine.c takes the tier for there.
 *
 * In assembler, not by the compiler's intrinsics: gcc 12's say that the configuration is 8 bytes long and
 * that a tile load reads no memory, so stores before them are dropped or moved.
 *
 * A tile is up to 16 rows of 64 bytes; its size is set by the configuration, which is per thread. amx_dp
 * multiplies bfloat16, exactly so: for each element of C, from zero, one chain of fused multiply-adds over
 * the even elements of k and one over the odd ones, then C += even + odd; subnormal inputs and results are
 * zero. amx_dp8 multiplies signed bytes, four to a dword, into sums of 32 bits. */
#ifndef TK_AMX_H
#define TK_AMX_H
#include <stdint.h>
#include <string.h>

typedef struct amx_config {
    uint8_t palette, start, unused[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64))) amx_config;

/* Tile `t` (0-7, a constant) of `rows` rows of `row_bytes` bytes */
static inline void amx_tile(amx_config *c, int t, int rows, int row_bytes) {
    c->palette = 1, c->rows[t] = (uint8_t)rows, c->row_bytes[t] = (uint16_t)row_bytes;
}

#ifndef TOKAMAK_AMX_EMULATED

static inline void amx_configure(const amx_config *c) { __asm__ volatile("ldtilecfg %0" ::"m"(*c)); }
/* Tiles in use slow down context switches and keep a sleeping core awake */
static inline void amx_release(void) { __asm__ volatile("tilerelease" ::); }
#define amx_zero(t) __extension__({ __asm__ volatile("tilezero %%tmm%c0" ::"i"(t)); })
#define amx_load(t, p, step)                                                                                 \
    __extension__({                                                                                          \
        __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(t), "r"((const void *)(p)),                   \
                         "r"((int64_t)(step))                                                                \
                         : "memory");                                                                        \
    })
#define amx_store(t, p, step)                                                                                \
    __extension__({                                                                                          \
        __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(t), "r"((void *)(p)), "r"((int64_t)(step))   \
                         : "memory");                                                                        \
    })
#define AMX_PRODUCT(op, c, a, b)                                                                             \
    __extension__({ __asm__ volatile(op " %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b)); })
#define amx_dp(c, a, b) AMX_PRODUCT("tdpbf16ps", c, a, b)
#define amx_dp8(c, a, b) AMX_PRODUCT("tdpbssd", c, a, b)

#else

static _Thread_local struct {
    amx_config config;
    uint8_t tile[8][16][64];
} amx_state;

static inline void amx_configure(const amx_config *c) {
    memset(&amx_state, 0, sizeof amx_state);
    amx_state.config = *c;
}
static inline void amx_release(void) { memset(&amx_state, 0, sizeof amx_state); }
static inline void amx_zero(int t) { memset(amx_state.tile[t], 0, sizeof amx_state.tile[t]); }
static inline void amx_load(int t, const void *p, int64_t step) {
    amx_zero(t);
    for (int r = 0; r < amx_state.config.rows[t]; r++)
        memcpy(amx_state.tile[t][r], (const char *)p + r * step, amx_state.config.row_bytes[t]);
}
static inline void amx_store(int t, void *p, int64_t step) {
    for (int r = 0; r < amx_state.config.rows[t]; r++)
        memcpy((char *)p + r * step, amx_state.tile[t][r], amx_state.config.row_bytes[t]);
}
/* bfloat16 (in the high half) or float32 as the unit reads and writes it */
static inline float amx_flush(uint32_t u) {
    float f;
    if (!(u & 0x7f800000u)) u &= 0x80000000u;
    memcpy(&f, &u, 4);
    return f;
}
static inline void amx_dp(int c, int a, int b) {
    for (int m = 0; m < amx_state.config.rows[c]; m++) {
        float even[16] = { 0 }, odd[16] = { 0 }, sum[16];
        uint32_t u[16];
        for (int p = 0; p < amx_state.config.row_bytes[a] / 4; p++) {
            uint32_t x, y[16];
            memcpy(&x, amx_state.tile[a][m] + p * 4, 4), memcpy(y, amx_state.tile[b][p], 64);
            const float xe = amx_flush(x << 16), xo = amx_flush(x & 0xffff0000u);
            for (int n = 0; n < 16; n++) {
                even[n] = __builtin_fmaf(xe, amx_flush(y[n] << 16), even[n]);
                odd[n] = __builtin_fmaf(xo, amx_flush(y[n] & 0xffff0000u), odd[n]);
            }
        }
        memcpy(sum, amx_state.tile[c][m], sizeof sum);
        for (int n = 0; n < 16; n++) sum[n] += even[n] + odd[n];
        memcpy(u, sum, sizeof u);
        for (int n = 0; n < 16; n++) sum[n] = amx_flush(u[n]);
        memcpy(amx_state.tile[c][m], sum, sizeof sum);
    }
}
static inline void amx_dp8(int c, int a, int b) {
    for (int m = 0; m < amx_state.config.rows[c]; m++) {
        int32_t sum[16];
        memcpy(sum, amx_state.tile[c][m], sizeof sum);
        for (int p = 0; p < amx_state.config.row_bytes[a] / 4; p++)
            for (int n = 0; n < 16; n++)
                for (int i = 0; i < 4; i++)
                    sum[n] +=
                        (int8_t)amx_state.tile[a][m][p * 4 + i] * (int8_t)amx_state.tile[b][p][n * 4 + i];
        memcpy(amx_state.tile[c][m], sum, sizeof sum);
    }
}
#endif
#endif
