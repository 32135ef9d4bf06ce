/* SPDX-License-Identifier: Apache-2.0 */
/* Number formats as files hold them: plain floats and ggml's blocks of 32, unpacked to and packed from
 * float32 (its larger blocks: formats_k.c; codes of a table: formats_code.c). The layouts are ggml's, byte
 * for byte; unpacking is exact up to the one rounding that a float32 product or difference needs, so it
 * agrees bitwise with any other reader. Packing rounds to nearest, and gives the reference quantizers' bytes.
 * Nothing here assumes alignment: old safetensors files have none. */
#include <math.h>

#include "base/formats.h"

#define ACCESS_RW(stem) tk__unpack_##stem, tk__pack_##stem
#define ACCESS_RO(stem) tk__unpack_##stem, NULL
#define ACCESS_NONE(stem) NULL, NULL
const tk_format tk_formats[TK_DTYPES] = {
#define TK_FORMAT(name, text, block, group, bytes, stem, access)                                             \
    { text, block, group, bytes, ACCESS_##access(stem) },
#include "base/formats.def"
#undef TK_FORMAT
};

bool tk_format_size(tk_dtype t, int64_t rows, int64_t cols, size_t *bytes) {
    if ((unsigned)t >= TK_DTYPES || rows < 0 || cols < 0) return false;
    const tk_format *f = &tk_formats[t];
    if (f->group == 1 && cols % f->block) return false;
    size_t groups = (size_t)(rows / f->group + (rows % f->group != 0));
    size_t blocks = (size_t)(cols / f->block + (cols % f->block != 0));
    return tk_mul(groups, blocks, bytes) && tk_mul(*bytes, (size_t)f->bytes, bytes);
}

tk_dtype tk_format_by_name(const char *name) {
    for (int i = 0; i < TK_DTYPES; i++)
        if (!strcmp(tk_formats[i].name, name)) return (tk_dtype)i;
    return TK_NODTYPE;
}

/* ---- 16-bit floats ---- */

/* Branch-free, and without float32 subnormals, so that neither speed nor a flush-to-zero mode matters. */
static inline float f16_f32(uint16_t h) {
    uint32_t mag = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t normal = (mag << 13) + ((127u - 15u) << 23);
    uint32_t special = (mag << 13) | 0x7f800000u;
    /* 0.5 has the spacing of float16's subnormals, 2^-24, in its last place */
    uint32_t small = tk_f32_bits(tk_bits_f32(0x3f000000u | mag) - 0.5f);
    uint32_t bits = mag >= 0x7c00u ? special : mag < 0x0400u ? small : normal;
    return tk_bits_f32(bits | sign);
}

static inline uint16_t f32_f16(float f) {
    uint32_t u = tk_f32_bits(f), sign = u >> 16 & 0x8000u, mag = u & 0x7fffffffu, bits;
    if (mag > 0x7f800000u)
        bits = 0x7e00u | (mag >> 13 & 0x1ffu); /* NaN, made quiet */
    else if (mag >= 0x477ff000u)
        bits = 0x7c00u; /* 65520 and above rounds to infinity */
    else if (mag < 0x38800000u)
        bits = tk_f32_bits(tk_bits_f32(mag) + 0.5f) - 0x3f000000u; /* subnormal: the adder rounds */
    else
        bits = (mag + 0xfffu + (mag >> 13 & 1u) - ((127u - 15u) << 23)) >> 13;
    return (uint16_t)(sign | bits);
}

static inline uint16_t f32_bf16(float f) {
    uint32_t u = tk_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

float tk_f16_f32(uint16_t h) { return f16_f32(h); }
uint16_t tk_f32_f16(float f) { return f32_f16(f); }
uint16_t tk_f32_bf16(float f) { return f32_bf16(f); }

/* ---- plain formats ---- */

/* Plain formats have one shape of loop: one value at a time, from and to unaligned bytes. */
#define PLAIN(stem, TYPE, ctype, to_f32, from_f32)                                                           \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        const uint8_t *p = tk__row_at(m, TYPE, cols, row);                                                   \
        for (int64_t i = 0; i < cols; i++) {                                                                 \
            ctype v;                                                                                         \
            memcpy(&v, p + (size_t)i * sizeof v, sizeof v);                                                  \
            dst[i] = to_f32(v);                                                                              \
        }                                                                                                    \
    }                                                                                                        \
    void tk__pack_##stem(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {               \
        (void)rows;                                                                                          \
        uint8_t *p = tk__row_to(m, TYPE, cols, row);                                                         \
        for (int64_t i = 0; i < cols; i++) {                                                                 \
            ctype v = from_f32(src[i]);                                                                      \
            memcpy(p + (size_t)i * sizeof v, &v, sizeof v);                                                  \
        }                                                                                                    \
    }
PLAIN(f32, TK_F32, float, (float), (float))
PLAIN(f16, TK_F16, uint16_t, f16_f32, f32_f16)
PLAIN(bf16, TK_BF16, uint16_t, tk_bf16_f32, f32_bf16)
PLAIN(f64, TK_F64, double, (float), (double))

/* ---- blocks of 32: one scale (and for Q4_1 one minimum) ---- */

/* Q8_0: f16 d, int8 q[32]; x = d q */
void tk__unpack_q8_0(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    const uint8_t *b = tk__row_at(m, TK_Q8_0, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 34) {
        float d = f16_f32(tk_le16(b));
        for (int j = 0; j < TK_QK; j++) dst[i + j] = d * (float)(int8_t)b[2 + j];
    }
}

void tk__pack_q8_0(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {
    (void)rows;
    uint8_t *b = tk__row_to(m, TK_Q8_0, cols, row);
    for (int64_t i = 0; i < cols; i += TK_QK, b += 34) {
        float top = 0;
        for (int j = 0; j < TK_QK; j++) top = fmaxf(top, fabsf(src[i + j]));
        float d = top / 127, inverse = d != 0 ? 1 / d : 0;
        tk__put16(b, f32_f16(d));
        for (int j = 0; j < TK_QK; j++)
            b[2 + j] = (uint8_t)(int8_t)fmaxf(-127, fminf(127, roundf(src[i + j] * inverse)));
    }
}

/* The other four: f16 d, then f16 m (Q4_1, Q5_1), then 32 fifth bits (Q5_0, Q5_1), then 16 bytes with value j
 * in the low half of byte j and value j + 16 in its high half. x = d q + m; without m, x = d (q - half the
 * range). */
static inline void unpack_small(float *dst, const uint8_t *b, const bool affine, const bool five) {
    const float d = f16_f32(tk_le16(b)), low = affine ? f16_f32(tk_le16(b + 2)) : 0;
    const uint32_t top = five ? tk_le32(b + (affine ? 4 : 2)) : 0;
    const int zero = affine ? 0 : five ? 16 : 8;
    b += (affine ? 4 : 2) + (five ? 4 : 0);
    for (int j = 0; j < TK_QK; j++) {
        const int q = (b[j % 16] >> j / 16 * 4 & 15) | (int)(top >> j & 1) << 4;
        const float x = d * (float)(q - zero);
        dst[j] = affine ? x + low : x;
    }
}

static inline void pack_small(uint8_t *b, const float *x, const bool affine, const bool five) {
    const float most = five ? 31 : 15;
    float low = x[0], high = x[0], top = 0;
    for (int j = 0; j < TK_QK; j++) {
        low = fminf(low, x[j]), high = fmaxf(high, x[j]);
        if (fabsf(x[j]) > fabsf(top)) top = x[j];
    }
    /* without a minimum the largest magnitude lands on the lowest code, which has no positive twin */
    const float d = affine ? (high - low) / most : top / (five ? -16 : -8), inverse = d != 0 ? 1 / d : 0;
    const float shift = affine ? 0.5f : five ? 16.5f : 8.5f;
    uint32_t top_bits = 0;
    tk__put16(b, f32_f16(d)), b += 2;
    if (affine) tk__put16(b, f32_f16(low)), b += 2;
    uint8_t *q = b + (five ? 4 : 0);
    memset(q, 0, TK_QK / 2);
    for (int j = 0; j < TK_QK; j++) {
        const float y = (affine ? x[j] - low : x[j]) * inverse + shift;
        const unsigned n = (unsigned)fmaxf(0, fminf(most, y)); /* rounds down; NaN becomes 0 */
        q[j % 16] |= (uint8_t)((n & 15) << j / 16 * 4);
        top_bits |= (uint32_t)(n >> 4) << j;
    }
    if (five) memcpy(b, &top_bits, 4);
}

#define SMALL(stem, TYPE, affine, five)                                                                      \
    void tk__unpack_##stem(float *dst, const void *m, int64_t rows, int64_t cols, int64_t row) {             \
        (void)rows;                                                                                          \
        const uint8_t *b = tk__row_at(m, TYPE, cols, row);                                                   \
        for (int64_t i = 0; i < cols; i += TK_QK, b += tk_formats[TYPE].bytes)                               \
            unpack_small(dst + i, b, affine, five);                                                          \
    }                                                                                                        \
    void tk__pack_##stem(void *m, const float *src, int64_t rows, int64_t cols, int64_t row) {               \
        (void)rows;                                                                                          \
        uint8_t *b = tk__row_to(m, TYPE, cols, row);                                                         \
        for (int64_t i = 0; i < cols; i += TK_QK, b += tk_formats[TYPE].bytes)                               \
            pack_small(b, src + i, affine, five);                                                            \
    }
SMALL(q4_0, TK_Q4_0, false, false)
SMALL(q4_1, TK_Q4_1, true, false)
SMALL(q5_0, TK_Q5_0, false, true)
SMALL(q5_1, TK_Q5_1, true, true)
