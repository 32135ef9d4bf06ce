/* SPDX-License-Identifier: Apache-2.0 */
/* quant with AVX-512: 16 blocks at a time, so that what is one number a block (the largest magnitude, the
 * scale, the sums) is one vector for all of them, and two divisions serve 16 blocks. Gives the bytes of
 * tk__a8_block. */
#include <immintrin.h>

#include "ops/quant.h"

enum { BLOCKS = 16 };
#define UNROLL _Pragma("GCC unroll 16")

/* Lane i of the result: all lanes of v[i] together, by halving as often as there are two vectors to join */
#define DEFINE_LANES(name, op)                                                                               \
    static inline __m512i name(__m512i v[BLOCKS]) {                                                          \
        UNROLL for (int i = 0; i < 8; i++) /* 256-bit halves of v[i] and v[i + 8] */                         \
            v[i] =                                                                                           \
                op(_mm512_shuffle_i64x2(v[i], v[i + 8], 0x44), _mm512_shuffle_i64x2(v[i], v[i + 8], 0xee));  \
        UNROLL for (int i = 0; i < 4; i++) /* lanes of 128 bits: v[i], v[i + 8], v[i + 4], v[i + 12] */      \
            v[i] =                                                                                           \
                op(_mm512_shuffle_i64x2(v[i], v[i + 4], 0x88), _mm512_shuffle_i64x2(v[i], v[i + 4], 0xdd));  \
        UNROLL for (int i = 0; i < 2; i++) v[i] =                                                            \
            op(_mm512_unpacklo_epi64(v[i], v[i + 2]), _mm512_unpackhi_epi64(v[i], v[i + 2]));                \
        const __m512 a = (__m512)v[0], b = (__m512)v[1]; /* and now the pairs */                             \
        const __m512i all =                                                                                  \
            op((__m512i)_mm512_shuffle_ps(a, b, 0x88), (__m512i)_mm512_shuffle_ps(a, b, 0xdd));              \
        return _mm512_permutexvar_epi32(                                                                     \
            _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15), all);                   \
    }
DEFINE_LANES(largest, _mm512_max_epu32)
DEFINE_LANES(total, _mm512_add_epi32)

static inline void sixteen(tk_a8 *y, int64_t step, const float *x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i v[BLOCKS], low[BLOCKS], high[BLOCKS];
    UNROLL for (int i = 0; i < BLOCKS; i++) {
        const __m512i a = _mm512_loadu_si512(x + i * 32), b = _mm512_loadu_si512(x + i * 32 + 16);
        v[i] = _mm512_max_epu32(_mm512_and_si512(a, magnitude), _mm512_and_si512(b, magnitude));
    }
    const __m512 top = (__m512)largest(v);
    const __mmask16 some = _mm512_cmp_ps_mask(top, _mm512_set1_ps(1e-30f), _CMP_NLE_UQ);
    _Alignas(64) float inverse[BLOCKS];
    _mm512_store_ps(inverse, _mm512_maskz_div_ps(some, _mm512_set1_ps(127), top));
    const __m512 d = _mm512_maskz_div_ps(some, top, _mm512_set1_ps(127));
    const __m512 least = _mm512_set1_ps(-127), most = _mm512_set1_ps(127);
    for (int i = 0; i < BLOCKS; i++) {
        const __m512 by = _mm512_set1_ps(inverse[i]);
        __m512 a = _mm512_mul_ps(_mm512_loadu_ps(x + i * 32), by),
               b = _mm512_mul_ps(_mm512_loadu_ps(x + i * 32 + 16), by);
        a = _mm512_min_ps(_mm512_max_ps(a, least), most),
        b = _mm512_min_ps(_mm512_max_ps(b, least), most); /* NaN: least */
        low[i] = _mm512_cvtps_epi32(a), high[i] = _mm512_cvtps_epi32(b);
        _mm_storeu_si128((__m128i *)y[i * step].q, _mm512_cvtepi32_epi8(low[i]));
        _mm_storeu_si128((__m128i *)(y[i * step].q + 16), _mm512_cvtepi32_epi8(high[i]));
    }
    const __m512i l = total(low), h = total(high), sum = _mm512_add_epi32(l, h);
    /* the numbers of a block behind its integers, as columns */
    __m512i n[8] = { (__m512i)d,
                     (__m512i)_mm512_mul_ps(d, _mm512_cvtepi32_ps(sum)),
                     _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 7)),
                     _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sum, 3)),
                     _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(l, 5)),
                     _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(h, 5)),
                     (__m512i)_mm512_mul_ps(d, _mm512_cvtepi32_ps(l)),
                     (__m512i)_mm512_mul_ps(d, _mm512_cvtepi32_ps(h)) };
    __m512i p[8];
    UNROLL for (int i = 0; i < 4;
                i++) { /* numbers 2 i, 2 i + 1 of blocks 4 j, 4 j + 1 (then 4 j + 2, 4 j + 3) in lane j */
        p[2 * i] = _mm512_unpacklo_epi32(n[2 * i], n[2 * i + 1]);
        p[2 * i + 1] = _mm512_unpackhi_epi32(n[2 * i], n[2 * i + 1]);
    }
    UNROLL for (int i = 0; i < 2; i++) { /* numbers 4 i .. 4 i + 3 of block 4 j + b in lane j of n[4 i + b] */
        n[4 * i] = _mm512_unpacklo_epi64(p[4 * i], p[4 * i + 2]),
              n[4 * i + 1] = _mm512_unpackhi_epi64(p[4 * i], p[4 * i + 2]);
        n[4 * i + 2] = _mm512_unpacklo_epi64(p[4 * i + 1], p[4 * i + 3]);
        n[4 * i + 3] = _mm512_unpackhi_epi64(p[4 * i + 1], p[4 * i + 3]);
    }
#define BLOCK(b, j)                                                                                          \
    _mm_storeu_si128((__m128i *)(void *)&y[(4 * (j) + (b)) * step].d, _mm512_extracti32x4_epi32(n[b], j));   \
    _mm_storeu_si128((__m128i *)(void *)&y[(4 * (j) + (b)) * step].c32[0],                                   \
                     _mm512_extracti32x4_epi32(n[4 + (b)], j));
    UNROLL for (int b = 0; b < 4; b++) { BLOCK(b, 0) BLOCK(b, 1) BLOCK(b, 2) BLOCK(b, 3) }
#undef BLOCK
}

void tk__quant_run_avx512(tk_a8 *y, int64_t step, const float *x, int64_t blocks) {
    int64_t i = 0;
    for (; i + BLOCKS <= blocks; i += BLOCKS) sixteen(y + i * step, step, x + i * TK_K32);
    tk__quant_run_avx2(y + i * step, step, x + i * TK_K32, blocks - i);
}
void quant_a8_avx512(const tk_args *a) { tk__quant_rows(a, tk__quant_run_avx512); }
