/* SPDX-License-Identifier: Apache-2.0 */
/* Weights as Hopper's matrix products read them: the formats H_*. Shared by base/formats_panels.c and
 * src/cuda.
 *
 * A panel is 16 rows, the height of a tensor core's A operand; k is cut into slabs of 64. Rows and k beyond
 * the matrix are zeros. [row / 16][k / 64][slab]: a panel is one forward stream, cut anywhere between slabs.
 *
 *   H_BF16  2,048 bytes: two atoms of 8 rows by 128 bytes, rows 0-7 and 8-15. In the row r of an atom
 *           the 16-byte chunk c (8 k) lies at place c ^ r: the 128-byte swizzle of wgmma and TMA, free of
 *           bank conflicts for ldmatrix. Slabs of neighbouring panels, one behind the other in shared
 *           memory, are a wgmma operand of 64 rows with 1,024 bytes between groups of 8
 *
 * Quantized ones hold the file's codes (losslessly) and scales (as bfloat16) in the order in which a warp
 * needs them: the 32 numbers that lane l = 4 g + c has in the A operands of four steps of 16 k (64 k) lie
 * together. In step s its number (i, h) is row g + 8 (i % 2), k = 16 s + 8 (i / 2) + 2 c + h; i = 0 .. 3,
 * h = 0, 1. A plane has 1, 2, 4 or 8 bits of each number (tk__h_place):
 *
 *   8 bits  [s / 2][lane][s % 2][i / 2][h][i % 2] bytes
 *   4 bits  [lane][s] words, bit 4 i + 16 h
 *   2 bits  [lane][s / 2] words, bit 8 (s % 2) + 2 i + 16 h
 *   1 bit   [lane] words, bit 4 s + i + 16 h
 *
 * Then scales, [g][row / 8][64 / n] for each n k of a row, and where there are minima these in the same way.
 *
 *   H_Q8_0  8 bits, code + 128; d for 32 k          d (code - 128)
 *   H_F8    8 bits, e4m3; d for 32 k                d code. A NaN makes its whole block one
 *   H_Q4_0  4 bits; d for 32 k                      d (code - 8)
 *   H_Q4_1  4 bits; d, m for 32 k                   d code + m: files' Q4_1, Q4_Z (m = -d zero) and Q4_K
 *   H_Q5_1  4 bits, fifth bits; d, m for 32 k       d code + m: Q5_0, Q5_1 and Q5_K
 *   H_Q6_K  4 bits, 2 top bits; d for 16 k          d (code - 32)
 *
 * d and m are what the file's scales multiply to, rounded: then dequantizing is one fused operation for two
 * numbers, and it is dequantizing that a product of few bits waits for. The rounding is as large as that of
 * every activation (docs/FACTS.md). What is multiplied is the bfloat16 next to the number as above. */
#ifndef TK_PANELS_H
#define TK_PANELS_H
#include "base/formats.h"

#ifdef __CUDACC__
#define TK_ON_BOTH __host__ __device__
#else
#define TK_ON_BOTH
#endif

enum { TK_H_ROWS = 16, TK_H_K = 64, TK_H_BF16_SLAB = 2048 };

/* Slabs of 64 in a row of `cols` numbers */
static inline TK_ON_BOTH int64_t tk__h_slabs(int64_t cols) { return (cols + TK_H_K - 1) / TK_H_K; }

/* Byte of number `k` (0 .. 63) of row `row` (0 .. 15) in a slab of H_BF16 */
static inline TK_ON_BOTH int tk__h_bf16_at(int row, int k) {
    return row / 8 * 1024 + row % 8 * 128 + ((k / 8) ^ (row % 8)) * 16 + k % 8 * 2;
}

/* The bits of number `k` (0 .. 63) of row `row` in a plane of `bits`: byte, and shift in it */
static inline TK_ON_BOTH int tk__h_place(int bits, int row, int k, int *shift) {
    const int lane = row % 8 * 4 + k % 8 / 2, h = k % 2, i = row / 8 + k / 8 % 2 * 2, s = k / 16;
    const int at =
        bits == 8   ? s / 2 * 4096 + lane * 128 + s % 2 * 64 + i / 2 * 32 + h * 16 + i % 2 * 8 /* in bits */
        : bits == 4 ? lane * 128 + s * 32 + 4 * i + 16 * h
        : bits == 2 ? lane * 64 + s / 2 * 32 + s % 2 * 8 + 2 * i + 16 * h
                    : lane * 32 + 4 * s + i + 16 * h;
    *shift = at % 8;
    return at / 8;
}

/* How a quantized format is built */
typedef struct tk_h_form {
    int low, top; /* bits of the two planes; top 0: none */
    int scale;    /* numbers of k that share a scale */
    bool minima;
} tk_h_form;

static inline TK_ON_BOTH tk_h_form tk__h_form(int type) {
    const bool eight = type == TK_H_Q8_0 || type == TK_H_F8;
    const tk_h_form f = { eight ? 8 : 4, type == TK_H_Q6_K ? 2 : type == TK_H_Q5_1,
                          type == TK_H_Q6_K ? 16 : 32, type == TK_H_Q4_1 || type == TK_H_Q5_1 };
    return f;
}

/* Bytes before the second plane, the scales, the minima */
static inline TK_ON_BOTH int tk__h_top_at(tk_h_form f) { return 128 * f.low; }
static inline TK_ON_BOTH int tk__h_scales_at(tk_h_form f) { return 128 * (f.low + f.top); }
static inline TK_ON_BOTH int tk__h_minima_at(tk_h_form f) { return tk__h_scales_at(f) + 2048 / f.scale; }
/* Byte of the scale (or minimum) of number k (0 .. 63) of a row among them */
static inline TK_ON_BOTH int tk__h_scale_at(tk_h_form f, int row, int k) {
    return ((row % 8 * 2 + row / 8) * (64 / f.scale) + k / f.scale) * 2;
}
#endif
