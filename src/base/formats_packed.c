/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of packed matrices back to float32, each value exactly what the file's own format gives, and
 * activations to and from integer blocks. Layouts: packed.h. An embedding is looked up here, so that a tied
 * head is held once. */
#include <math.h>

#include "base/packed.h"

static const uint8_t *panel_of(const void *m, tk_dtype t, int64_t cols, int64_t row) {
    return (const uint8_t *)m + (size_t)(row / TK_PANEL) * tk__panel_bytes(t, cols);
}

/* ---- plain numbers ---- */

void tk__unpack_p_f32(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_F32, cols, row) + row % TK_PANEL * 4;
    for (int64_t i = 0; i < cols; i++) memcpy(dst + i, p + i * 64, 4);
}

void tk__unpack_p_f16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_F16, cols, row) + row % TK_PANEL * 2;
    for (int64_t i = 0; i < cols; i++) dst[i] = tk_f16_f32(tk_le16(p + i * 32));
}

void tk__unpack_p_bf16(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *p = panel_of(m, TK_P_BF16, cols, row) + row % TK_PANEL * 4;
    for (int64_t i = 0; i < cols; i++) dst[i] = tk_bf16_f32(tk_le16(p + i / 2 * 64 + i % 2 * 2));
}

/* ---- quantized ---- */

tk_pblock tk__pblock(tk_dtype t, const uint8_t *panel, int64_t b) {
    const uint8_t *p = panel;
    tk_pblock v = { .mask = 15, .step = TK_LINE };
    int z = (int)(b % 8); /* block of 32 in a K-quant's 256 */
    switch (t) {
    case TK_P_Q8_0: v.q = p + b / 2 * 1088 + b % 2 * 512, v.mask = 255, v.zero = 128; break;
    case TK_P_Q4_0: v.q = p + b / 2 * 576 + b % 2 * 256, v.zero = 8, v.fold = true; break;
    case TK_P_Q4_1: v.q = p + b * 320, v.fold = true; break;
    case TK_P_Q4_K: v.q = p + b / 8 * 2368 + z / 2 * 512, v.shift = z % 2 * 4; break;
    default: /* P_Q6_K */
        v.top = p + b / 8 * 3392 + z / 4 * 1536, v.q = v.top + (1 + z % 2) * TK_LINE;
        v.shift = z % 4 / 2 * 4, v.top_shift = z % 4 * 2, v.zero = 32, v.step = 3 * TK_LINE;
    }
    return v;
}

void tk__pscale(tk_dtype t, const uint8_t *panel, int64_t b, int half, int r, float *scale, float *add) {
    const uint8_t *p = panel;
    int z = (int)(b % 8);
    *add = 0;
    switch (t) {
    case TK_P_Q8_0: *scale = tk_f16_f32(tk_le16(p + b / 2 * 1088 + 1024 + b % 2 * 32 + r * 2)); break;
    case TK_P_Q4_0: *scale = tk_f16_f32(tk_le16(p + b / 2 * 576 + 512 + b % 2 * 32 + r * 2)); break;
    case TK_P_Q4_1:
        *scale = tk_f16_f32(tk_le16(p + b * 320 + 256 + r * 2));
        *add = tk_f16_f32(tk_le16(p + b * 320 + 288 + r * 2));
        break;
    case TK_P_Q4_K:
        p += b / 8 * 2368 + 2048;
        *scale = tk_f16_f32(tk_le16(p + r * 2)) * (float)p[64 + z * 16 + r];
        *add = -(tk_f16_f32(tk_le16(p + 32 + r * 2)) * (float)p[192 + z * 16 + r]);
        break;
    default: /* P_Q6_K */
        p += b / 8 * 3392 + 3072;
        *scale = tk_f16_f32(tk_le16(p + 256 + r * 2)) * (float)(int8_t)p[(z * 2 + half) * 16 + r];
    }
}

static void unpack(tk_dtype t, float *dst, const void *m, int64_t cols, int64_t row) {
    const uint8_t *panel = panel_of(m, t, cols, row);
    const int r = (int)(row % TK_PANEL);
    for (int64_t b = 0; b < cols / TK_K32; b++, dst += TK_K32) {
        tk_pblock v = tk__pblock(t, panel, b);
        for (int half = 0; half < 2; half++) {
            float scale, add;
            tk__pscale(t, panel, b, half, r, &scale, &add);
            int shift = v.shift + (v.fold ? half * 4 : 0);
            size_t at = (size_t)(v.fold ? 0 : half * 4 * v.step) + (size_t)r * 4;
            for (int k = 0; k < 16; k++) {
                size_t byte = at + (size_t)(k / 4 * v.step + k % 4);
                int q = v.q[byte] >> shift & v.mask;
                if (v.top) q |= (v.top[byte] >> v.top_shift & 3) << 4;
                dst[half * 16 + k] = scale * (float)(q - v.zero) + add;
            }
        }
    }
}

#define UNPACK(stem, TYPE)                                                                                   \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        unpack(TYPE, dst, m, cols, row);                                                                     \
    }
UNPACK(p_q8_0, TK_P_Q8_0)
UNPACK(p_q4_0, TK_P_Q4_0)
UNPACK(p_q4_1, TK_P_Q4_1)
UNPACK(p_q4_k, TK_P_Q4_K)
UNPACK(p_q6_k, TK_P_Q6_K)

/* ---- activations ---- */

void tk__a8_block(tk_a8 *dst, const float src[32]) {
    uint32_t top_bits = 0; /* magnitudes order as integers do, with NaN above infinity: no NaN is lost */
    for (int i = 0; i < 32; i++) {
        uint32_t u = tk_f32_bits(src[i]) & 0x7fffffffu;
        top_bits = TK_MAX(top_bits, u);
    }
    float top = tk_bits_f32(top_bits);
    bool small = top <= 1e-30f; /* 127 / top stays finite */
    float inverse = small ? 0 : 127 / top;
    int32_t sum[2] = { 0, 0 };
    memset(dst, 0, sizeof *dst);
    for (int i = 0; i < 32; i++) {
        float v = src[i] * inverse;
        v = v > -127 ? v : -127; /* NaN too */
        v = v < 127 ? v : 127;
        /* to nearest even: beyond 1.5 2^23 the last place of a float32 is one */
        int32_t q = (int32_t)(tk_f32_bits(v + 12582912.0f) - 0x4b400000u);
        dst->q[i] = (int8_t)q;
        sum[i / 16] += q;
    }
    dst->d = small ? 0 : top / 127;
    dst->s = dst->d * (float)(sum[0] + sum[1]);
    dst->c128 = -128 * (sum[0] + sum[1]), dst->c8 = -8 * (sum[0] + sum[1]);
    dst->c32[0] = -32 * sum[0], dst->c32[1] = -32 * sum[1];
}

void tk__pack_a8(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    int64_t step;
    tk_a8 *b = tk__a8_row(m, rows, cols, row, &step);
    for (int64_t i = 0; i < cols; i += TK_K32, b += step) tk__a8_block(b, src + i);
}

void tk__unpack_a8(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    int64_t step;
    const tk_a8 *b = tk__a8_row(m, rows, cols, row, &step);
    for (int64_t i = 0; i < cols; i += TK_K32, b += step)
        for (int j = 0; j < TK_K32; j++) dst[i + j] = b->d * (float)b->q[j];
}
