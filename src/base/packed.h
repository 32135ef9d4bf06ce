/* SPDX-License-Identifier: Apache-2.0 */
/* How packed matrices lie in memory. Private to base/formats_packed.c and the kernels that read panels.
 *
 * A panel is 16 rows side by side, so that one 64-byte load gives something of each row and a product
 * needs no horizontal sum. Panels follow each other; rows after the last hold zeros.
 *
 *   P_F32   [k][16] float32                       P_F16  [k][16] float16
 *   P_BF16  [k/2][16][2] bfloat16: the low halves of 16 words are one k, the high halves the next
 *
 * Quantized panels keep the file's numbers, losslessly. Four consecutive k of a row are one dword, as the
 * integer dot product instructions want them; 16 dwords (one a row) are a line of 64 bytes. Everything
 * comes in whole lines and in the order of use: a panel is one forward stream. A line that is first needed
 * before those in front of it costs a fifth of the speed of one token (Zen 4: 25 GB/s where 32 are had), so
 * scales follow the first block that they scale. Parts stand in their order; "16" is one for each row:
 *
 *   P_Q8_0    64 k: a block's lines [8] of bytes q + 128, f16 d[2][16], the other block's lines
 *   P_Q4_0    64 k: a block's lines [4] of nibbles, f16 d[2][16], the other block's lines.
 *             Low nibbles are a block's k 0-15, high ones its k 16-31, as in the file
 *   P_Q4_1    32 k: lines [4] of nibbles, f16 d[16], f16 m[16]
 *   P_Q4_Z    as P_Q4_1, m being the zero
 *   P_F8      32 k: float32 d[16], [k][16] bytes
 *   P_Q4_K    256 k: four pairs of blocks: lines [8] of nibbles (low ones: the pair's first block), (after
 *             the first pair's lines f16 d[16], f16 dmin[16],) u8 scale[2][16], u8 min[2][16]. The six-bit
 *             numbers take a byte each: 2.8 % more than the file for a decoding of three instructions
 *   P_Q6_K    256 k: four parts, the first two of the first 128 k, each a half of every run of 32: lines
 *             [4][3], (in the first part f16 d[16], 32 unused bytes,) i8 scale[4][16] of runs 0-3.
 *             Triple j: the top bit pairs of the runs' values 4 j .. (run z at bit 2 z), the low nibbles
 *             of runs 0 (low half of the byte) and 2 (high half), those of runs 1 and 3
 *   P_Q5_0    64 k: a block's lines [5], f16 d[2][16], the other block's lines. Five: the fifth bits of
 *             all values (of the row's dword 4 j + i: bit j of byte i), then nibbles as P_Q4_0's
 *   P_Q5_1    32 k: lines [5] as P_Q5_0's, f16 d[16], f16 m[16]
 *   P_IQ4_NL  as P_Q4_0
 *   P_MXFP4   128 k: four blocks of lines [4] of nibbles as P_Q4_0's, after the first u8 e[4][16]
 *   P_Q2_K    256 k: two halves, between them f16 d[16], f16 dmin[16]. A half: lines [2] with eight bytes
 *             of scale and minimum in the file's order, lines [8] of bit pairs (run z at bit 2 z)
 *   P_Q3_K    256 k: lines [3] with the twelve bytes of scales, lines [8][2] of third bits (bit b of a
 *             byte: run b of the 256) and the first half of bit pairs as P_Q2_K's, f16 d[16], 32 unused
 *             bytes, lines [8] of the other half
 *   P_Q5_K    256 k: lines [8][3] of fifth bits (bit b: block b) and P_Q4_K's pairs 0 and 1, f16 d[16],
 *             f16 dmin[16], u8 scale[4][16], u8 min[4][16], lines [8][2] of pairs 2 and 3, scales and
 *             minima of these
 *   P_IQ4_XS  256 k: eight blocks of lines [4] of nibbles as P_Q4_0's, after the first a line and 16 words
 *             with the low and top bits of the scales in the file's order, f16 d[16] */
#ifndef TK_PACKED_H
#define TK_PACKED_H
#include "base/formats.h"

enum { TK_PANEL = 16, TK_LINE = 64, TK_K32 = 32 };

/* 32 activations as integers: x = d q. The integer products work on unsigned weights q + z, so a block's
 * sum starts at -z sum(q): c128, c8 and, per 16 values, c32. s = d sum(q) is what a block minimum multiplies;
 * half, the same of each 16 values. */
typedef struct tk_a8 {
    int8_t q[32]; /* -127..127; -128 never occurs in finite blocks */
    float d, s;
    int32_t c128, c8, c32[2];
    float half[2];
} tk_a8;
_Static_assert(sizeof(tk_a8) == 64, "one cache line a block");

/* Tokens lie in groups of 8, the last one smaller: [group][block][token of the group]. So a product reads the
 * tokens that it multiplies together as one stream beside the weights' one; a line a token from many places
 * makes the hardware's prefetch lose the weights (half the speed at 8 tokens on Zen 4). */
enum { TK_A8_GROUP = 8 };
/* Block 0 of token `row` of `rows`; its next block is *step blocks on */
static inline tk_a8 *tk__a8_row(const void *m, int64_t rows, int64_t cols, int64_t row, int64_t *step) {
    const int64_t first = row / TK_A8_GROUP * TK_A8_GROUP;
    *step = TK_MIN(rows - first, (int64_t)TK_A8_GROUP);
    return (tk_a8 *)(uintptr_t)m + first * (cols / TK_K32) + (row - first);
}

/* Quantizes one block: d = max |x| / 127, q = round half even(x / d). Blocks below 1e-30 become zeros; a NaN
 * or infinity makes d one. The one definition of these integers: faster tiers give the same bytes. */
void tk__a8_block(tk_a8 *dst, const float src[32]);

/* Where block `b` (32 k) of a quantized panel has its integers: tk__pvalue says how these fields give them.
 */
typedef struct tk_pblock {
    const uint8_t *q, *top;      /* top: further bits of a value, or NULL */
    const int8_t *values;        /* what the integers stand for; NULL: themselves less `zero` */
    int shift, mask, zero, step; /* step: bytes from four k to the next */
    int gap;                     /* bytes besides between the halves, of q and top */
    int top_shift, top_mask, top_to, top_step, top_walk; /* walk: bits from four k to the next */
    bool fold; /* four lines: values 16 .. 31 are in the high nibbles of those of 0 .. 15 */
} tk_pblock;
/* Value 4 j + i of row r, before its scale; at = 4 r + i */
static inline int tk__pvalue(const tk_pblock *v, int j, int at) {
    const int line = v->fold ? j % 4 : j, shift = v->shift + (v->fold ? j / 4 * 4 : 0);
    const int gap = j / 4 * v->gap;
    int n = v->q[line * v->step + gap + at] >> shift & v->mask;
    if (v->top)
        n |= (v->top[j * v->top_step + gap + at] >> (v->top_shift + j * v->top_walk) & v->top_mask)
             << v->top_to;
    return v->values ? v->values[n] : n - v->zero;
}
tk_pblock tk__pblock(tk_dtype t, const uint8_t *panel, int64_t b);
/* x = scale tk__pvalue + add for values 16 half .. 16 half + 15 of block b; row r of the panel */
void tk__pscale(tk_dtype t, const uint8_t *panel, int64_t b, int half, int r, float *scale, float *add);
/* Bytes of activations that a thread multiplies between two passes over the weights; and the scratch of a
 * thread where they are plain numbers (linear_tmpl.h) */
enum { LINEAR_HOLD = 384 << 10 };
/* Bytes of one panel of `cols` columns */
static inline size_t tk__panel_bytes(tk_dtype t, int64_t cols) {
    const tk_format *f = &tk_formats[t];
    return (size_t)tk_ceil_div(cols, f->block) * (size_t)f->bytes;
}

/* Where the lines of a format begin that has something between them. Two blocks with scales for both: */
static inline size_t tk__at_pair(int64_t b, size_t block, size_t scales) {
    return (size_t)(b / 2) * (2 * block + scales) + (size_t)(b % 2) * (block + scales);
}
/* Of a pair's or part's lines in 256 k; its scales are at 576 (pair + 1), 832 (part + 1) */
static inline size_t tk__at_q4_k(int pair) { return (size_t)pair * 576 + (pair ? 64 : 0); }
static inline size_t tk__at_q6_k(int part) { return (size_t)part * 832 + (part ? 64 : 0); }
/* Of block b, and of block z of 256 k */
static inline size_t tk__at_mxfp4(int64_t b) {
    return (size_t)(b / 4) * 1088 + (size_t)(b % 4) * 256 + (b % 4 ? 64 : 0);
}
static inline size_t tk__at_iq4_xs(int z) { return (size_t)z * 256 + (z ? 128 : 0); }
#endif
