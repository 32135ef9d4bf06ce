/* SPDX-License-Identifier: Apache-2.0 */
/* Formats that quantized Hugging Face checkpoints (GPTQ, AWQ, compressed-tensors, fp8) are turned into when
 * they are read: their groups of any multiple of 32 k become blocks of 32 that carry scale and zero, so
 * nothing is lost. Q4_Z  f16 d, f16 z (a small whole number), 16 bytes as Q4_0's; x = d (q - z), q = 0 .. 15
 *   F8    f32 d, 32 bytes of e4m3 (OCP 8-bit floating point: bias 7, no infinity, 0x7f is NaN); x = d f */
#include <math.h>

#include "base/formats.h"

enum { QK = 32 };

void tk__unpack_q4_z(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_Q4_Z, cols, row);
    for (int64_t i = 0; i < cols; i += QK, b += 20) {
        const float d = tk_f16_f32(tk_le16(b)), zero = tk_f16_f32(tk_le16(b + 2));
        for (int j = 0; j < QK; j++) dst[i + j] = d * ((float)(b[4 + j % 16] >> j / 16 * 4 & 15) - zero);
    }
}

/* The range is widened to hold 0, so that the zero is a code. */
void tk__pack_q4_z(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_Q4_Z, cols, row);
    for (int64_t i = 0; i < cols; i += QK, b += 20) {
        float low = 0, high = 0;
        for (int j = 0; j < QK; j++) low = fminf(low, src[i + j]), high = fmaxf(high, src[i + j]);
        const float d = (high - low) / 15, inverse = d != 0 ? 1 / d : 0, zero = roundf(-low * inverse);
        tk__put16(b, tk_f32_f16(d)), tk__put16(b + 2, tk_f32_f16(zero));
        memset(b + 4, 0, QK / 2);
        for (int j = 0; j < QK; j++) {
            const unsigned q = (unsigned)fmaxf(0, fminf(15, roundf(src[i + j] * inverse) + zero));
            b[4 + j % 16] |= (uint8_t)(q << j / 16 * 4);
        }
    }
}

float tk__e4m3_f32(uint8_t x) {
    if ((x & 0x7f) == 0x7f) return NAN;
    return tk_bits_f32((uint32_t)(x & 0x80) << 24 | (uint32_t)(x & 0x7f) << 20) * 0x1p120f;
}

/* To nearest, ties to even; beyond the largest number (448) the largest */
static uint8_t f32_e4m3(float x) {
    const uint32_t u = tk_f32_bits(x), sign = u >> 24 & 0x80;
    if (isnan(x)) return 0x7f;
    const float a = fminf(fabsf(x), 448);
    if (a < 0x1p-6f)
        return (uint8_t)(sign | (uint32_t)rintf(a * 0x1p9f)); /* subnormal; 8 is the first normal one */
    const uint32_t bits = tk_f32_bits(a), even = bits >> 20 & 1;
    return (uint8_t)(sign | (((bits + 0x7ffff + even) >> 20) - (120u << 3)));
}

void tk__unpack_f8(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_F8, cols, row);
    for (int64_t i = 0; i < cols; i += QK, b += 36)
        for (int j = 0; j < QK; j++) dst[i + j] = tk__e4m3_f32(b[4 + j]) * tk_bits_f32(tk_le32(b));
}

void tk__pack_f8(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_F8, cols, row);
    for (int64_t i = 0; i < cols; i += QK, b += 36) {
        float top = 0;
        for (int j = 0; j < QK; j++) top = fmaxf(top, fabsf(src[i + j]));
        const float d = top / 448, inverse = d != 0 ? 1 / d : 0;
        memcpy(b, &d, 4);
        for (int j = 0; j < QK; j++) b[4 + j] = f32_e4m3(src[i + j] * inverse);
    }
}
