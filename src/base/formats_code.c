/* SPDX-License-Identifier: Apache-2.0 */
/* Formats whose four-bit codes stand for the values of a table: IQ4_NL and IQ4_XS, whose table follows a bell
 * curve, and MXFP4, whose table is the float of two exponent bits and one fraction bit. */
#include <math.h>

#include "base/formats.h"

const int8_t tk__iq4_values[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
};
const int8_t tk__mxfp4_values[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

/* 16 bytes: value j in the low half of byte j, value j + 16 in its high half */
static void unpack_codes(float dst[TK_QK], const uint8_t *q, const int8_t values[16], float d) {
    for (int j = 0; j < TK_QK; j++) dst[j] = d * (float)values[q[j % 16] >> j / 16 * 4 & 15];
}

/* The code whose value is nearest to x; the table rises. NaN gives one, too. */
static int nearest_code(const int8_t values[16], float x) {
    int low = 0, high = 15;
    while (high - low > 1) {
        const int mid = (low + high) / 2;
        if (x < (float)values[mid])
            high = mid;
        else
            low = mid;
    }
    return x - (float)values[low] < (float)values[high] - x ? low : high;
}

static void pack_codes(uint8_t *q, const float x[TK_QK], float d) {
    const float inverse = d != 0 ? 1 / d : 0;
    memset(q, 0, TK_QK / 2);
    for (int j = 0; j < TK_QK; j++)
        q[j % 16] |= (uint8_t)(nearest_code(tk__iq4_values, x[j] * inverse) << j / 16 * 4);
}

/* The scale that fits 32 values best: for the largest value at each of several places of the table, round all
 * to it and solve the least squares, weighted by the squares, for the scale. */
static float fit_codes(const float x[TK_QK]) {
    float top = 0, best = 0, scale = 0;
    for (int j = 0; j < TK_QK; j++)
        if (fabsf(x[j]) > fabsf(top)) top = x[j];
    if (!(fabsf(top) >= 1e-15f)) return 0;
    const float lowest = (float)tk__iq4_values[0];
    for (int step = -8; step <= 7; step++) { /* first: the lowest code as it is; then up to 7 either way */
        const float inverse = step < -7 ? 1 / (-top / lowest) : ((float)step + lowest) / top;
        float sum_xq = 0, sum_qq = 0;
        for (int j = 0; j < TK_QK; j++) {
            const float q = (float)tk__iq4_values[nearest_code(tk__iq4_values, x[j] * inverse)],
                        w = x[j] * x[j];
            sum_xq += w * q * x[j], sum_qq += w * q * q;
        }
        if (sum_qq > 0 && (step < -7 || sum_xq * sum_xq > best * sum_qq))
            scale = sum_xq / sum_qq, best = scale * sum_xq;
    }
    return scale;
}

/* IQ4_NL: f16 d, 16 bytes of codes */
void tk__unpack_iq4_nl(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_IQ4_NL, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 18)
        unpack_codes(dst + i, b + 2, tk__iq4_values, tk_f16_f32(tk_le16(b)));
}

void tk__pack_iq4_nl(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_IQ4_NL, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 18) {
        const float d = fit_codes(src + i);
        tk__put16(b, tk_f32_f16(d));
        pack_codes(b + 2, src + i, d);
    }
}

/* IQ4_XS: f16 d, u16 with the top two bits of eight 6-bit scales, 4 bytes with their low nibbles, 128 bytes
 * of codes. x = d (scale - 32) value, a scale per 32 values */
void tk__unpack_iq4_xs(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_IQ4_XS, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 136)
        for (int j = 0; j < 8; j++) {
            const int scale = (int)(tk_le32(b + 4) >> 4 * j & 15) | (tk_le16(b + 2) >> 2 * j & 3) << 4;
            unpack_codes(dst + i + j * TK_QK, b + 8 + j * 16, tk__iq4_values,
                         tk_f16_f32(tk_le16(b)) * (float)(scale - 32));
        }
}

void tk__pack_iq4_xs(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_IQ4_XS, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QKK, b += 136) {
        float scale[8], top = 0;
        for (int j = 0; j < 8; j++) {
            scale[j] = fit_codes(src + i + j * TK_QK);
            if (fabsf(scale[j]) > fabsf(top)) top = scale[j];
        }
        const float d = -top / 32, inverse = d != 0 ? 1 / d : 0; /* the largest lands on -32 */
        uint32_t low = 0, high = 0;
        for (int j = 0; j < 8; j++) {
            const int s = (int)fmaxf(-32, fminf(31, rintf(inverse * scale[j])));
            pack_codes(b + 8 + j * 16, src + i + j * TK_QK, d * (float)s);
            low |= (uint32_t)((s + 32) & 15) << 4 * j, high |= (uint32_t)(s + 32) >> 4 << 2 * j;
        }
        tk__put16(b, tk_f32_f16(d)), tk__put16(b + 2, (uint16_t)high);
        memcpy(b + 4, &low, 4);
    }
}

/* MXFP4: a scale 2^(e - 127) as the byte e, 16 bytes of codes; the table holds doubled values, the scale is
 * halved */
void tk__unpack_mxfp4(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_MXFP4, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 17)
        unpack_codes(dst + i, b + 1, tk__mxfp4_values, tk__e8m0_half(b[0]));
}

void tk__pack_mxfp4(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_MXFP4, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 17) {
        float top = 0;
        for (int j = 0; j < TK_QK; j++) top = fmaxf(top, fabsf(src[i + j]));
        /* the largest value's own power of two, less the table's (4 = 2^2) */
        b[0] = (uint8_t)(top > 0 ? fmaxf(0, fminf(254, floorf(log2f(top)) - 2 + 127)) : 0);
        const float d = tk__e8m0_half(b[0]);
        memset(b + 1, 0, TK_QK / 2);
        for (int j = 0; j < TK_QK; j++) {
            int best = 0;
            for (int c = 1; c < 16; c++)
                if (fabsf(d * (float)tk__mxfp4_values[c] - src[i + j]) <
                    fabsf(d * (float)tk__mxfp4_values[best] - src[i + j]))
                    best = c;
            b[1 + j % 16] |= (uint8_t)(best << j / 16 * 4);
        }
    }
}
