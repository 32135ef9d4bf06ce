/* SPDX-License-Identifier: Apache-2.0 */
/* Weights as Hopper's matrix products read them: the formats H_*. Shared by base/formats_panels.c and src/cuda.
 *
 * A panel is 16 rows, the height of a tensor core's A operand; k is cut into slabs of 64, of 256 in the formats whose
 * files have blocks of 256. Rows and k beyond the matrix are zeros. [row / 16][k / slab][slab]: a panel is one forward
 * stream, cut anywhere between slabs.
 *
 *   H_BF16  2,048 bytes: two atoms of 8 rows by 128 bytes, rows 0-7 and 8-15. In the row r of an atom the 16-byte
 *           chunk c (8 k) lies at place c ^ r: the 128-byte swizzle of wgmma and TMA, free of bank conflicts for
 *           ldmatrix. Slabs of neighbouring panels, one behind the other in shared memory, are a wgmma operand of
 *           64 rows with 1,024 bytes between groups of 8
 *
 * Quantized ones hold the file's codes and scales (losslessly, but for scales named bf16) in the order in which a warp needs them: the 32 numbers
 * that lane l = 4 g + c has in the A operands of four steps of 16 k (64 k) lie together. In step s its number (i, h) is
 * row g + 8 (i % 2), k = 16 s + 8 (i / 2) + 2 c + h, i = 0 .. 3, h = 0, 1. A plane has 1, 2, 4 or 8 bits of each
 * number, 64 k after 64 k (tk__h_place):
 *   8 bits  [s / 2][lane][s % 2][i][h] bytes            4 bits  [lane][s] words, bit 4 i + 16 h
 *   2 bits  [lane][s / 2] words, bit 8 (s % 2) + 2 i + 16 h    1 bit  [lane] words, bit 4 s + i + 16 h
 * Then scales. S32: [g][row / 8][2], one for each 32 k of the 64; S16: [g][row / 8][4], one for each 16 k; over all
 * 64 k of a slab one after the other. R: [g][row / 8], one a row.
 *
 *   H_Q8_0    64 k: codes + 128 in 8 bits; f16 d S32         H_F8      64 k: e4m3 in 8 bits; f32 d S32
 *   H_Q4_0    64 k: 4 bits; bf16 d S32                       H_IQ4_NL  64 k: 4 bits; f16 d S32
 *   H_Q4_Z    64 k: 4 bits; bf16 d S32; f16 zero S32         H_Q4_1    64 k: 4 bits; f16 d S32; f16 m S32
 *   H_Q5_0    64 k: 4 bits; fifth bits; bf16 d S32           H_Q5_1    64 k: 4 bits; fifth bits; f16 d S32; f16 m S32
 *   H_MXFP4   64 k: 4 bits; u8 e S32
 *   H_Q4_K    256 k: 4 bits; [k / 64]: u8 scale S32, u8 min S32; f16 [g]: d R, dmin R
 *   H_Q5_K    256 k: 4 bits; fifth bits; scales as H_Q4_K
 *   H_Q6_K    256 k: 4 bits; 2 top bits; i8 scale S16; f16 d R
 *   H_Q2_K    256 k: 2 bits; u8 (scale | min << 4) S16; f16 [g]: d R, dmin R
 *   H_Q3_K    256 k: 2 bits; third bits; u8 (scale + 32) S16; f16 d R
 *   H_IQ4_XS  256 k: 4 bits; u8 (scale + 32) S32; f16 d R
 *
 * What is multiplied is the bfloat16 next to the float32 number that unpacking gives. Scales named bf16 are the file's,
 * rounded when they are packed: then dequantizing is two instructions for two numbers, and it is dequantizing that a
 * product of four-bit weights waits for. The rounding is as large as that of every activation (docs/FACTS.md). */
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
    const int at = bits == 8   ? s / 2 * 4096 + lane * 128 + s % 2 * 64 + i * 16 + h * 8 /* in bits */
                   : bits == 4 ? lane * 128 + s * 32 + 4 * i + 16 * h
                   : bits == 2 ? lane * 64 + s / 2 * 32 + s % 2 * 8 + 2 * i + 16 * h
                               : lane * 32 + 4 * s + i + 16 * h;
    *shift = at % 8;
    return at / 8;
}

/* How a quantized format is built */
typedef struct tk_h_form {
    int k;            /* of a slab */
    int low, top;     /* bits of the two planes; top 0: none */
    int scale, bytes; /* numbers of k that share a scale; bytes of one (its twin, m or min, has as many) */
    bool twin, super; /* is there one; are there d (and dmin) above the scales */
} tk_h_form;

static inline TK_ON_BOTH tk_h_form tk__h_form(int type) {
    tk_h_form f = { 64, 4, 0, 32, 2, false, false };
    switch (type) {
    case TK_H_Q8_0: f.low = 8; break;
    case TK_H_F8: f.low = 8, f.bytes = 4; break;
    case TK_H_Q4_1:
    case TK_H_Q4_Z: f.twin = true; break;
    case TK_H_Q5_0: f.top = 1; break;
    case TK_H_Q5_1: f.top = 1, f.twin = true; break;
    case TK_H_MXFP4: f.bytes = 1; break;
    case TK_H_Q4_K: f.k = 256, f.bytes = 1, f.twin = f.super = true; break;
    case TK_H_Q5_K: f.k = 256, f.top = 1, f.bytes = 1, f.twin = f.super = true; break;
    case TK_H_Q6_K: f.k = 256, f.top = 2, f.scale = 16, f.bytes = 1, f.super = true; break;
    case TK_H_Q2_K: f.k = 256, f.low = 2, f.scale = 16, f.bytes = 1, f.super = true; break;
    case TK_H_Q3_K: f.k = 256, f.low = 2, f.top = 1, f.scale = 16, f.bytes = 1, f.super = true; break;
    case TK_H_IQ4_XS: f.k = 256, f.bytes = 1, f.super = true; break;
    default: break; /* H_Q4_0, H_IQ4_NL */
    }
    return f;
}

/* Is d rounded to bfloat16? */
static inline TK_ON_BOTH bool tk__h_bf16_scale(int type) {
    return type == TK_H_Q4_0 || type == TK_H_Q4_Z || type == TK_H_Q5_0;
}

/* Bytes before the second plane, the scales and the super-scales; of the scales (with their twins) of 64 k */
static inline TK_ON_BOTH int tk__h_top_at(tk_h_form f) { return f.k * 2 * f.low; }
static inline TK_ON_BOTH int tk__h_scales_at(tk_h_form f) { return f.k * 2 * (f.low + f.top); }
static inline TK_ON_BOTH int tk__h_scales_bytes(tk_h_form f) { return 1024 / f.scale * f.bytes * (f.twin ? 2 : 1); }
static inline TK_ON_BOTH int tk__h_super_at(tk_h_form f) { return tk__h_scales_at(f) + f.k / 64 * tk__h_scales_bytes(f); }
/* Byte of the scale of number k (0 .. 63) of a row among those of its 64 k; the twin's is half of the bytes later */
static inline TK_ON_BOTH int tk__h_scale_at(tk_h_form f, int row, int k) {
    return ((row % 8 * 2 + row / 8) * (64 / f.scale) + k / f.scale) * f.bytes;
}
/* Byte of the super-scale, and of its twin, of a row; `two`: the format has twins there */
static inline TK_ON_BOTH int tk__h_super_of(int row, bool two, bool twin) {
    return (row % 8 * (two ? 4 : 2) + (twin ? 2 : 0) + row / 8) * 2;
}
static inline TK_ON_BOTH bool tk__h_two_supers(int type) {
    return type == TK_H_Q4_K || type == TK_H_Q5_K || type == TK_H_Q2_K;
}
#endif
