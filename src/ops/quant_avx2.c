/* SPDX-License-Identifier: Apache-2.0 */
/* quant with AVX2: a block of 32 is four registers in, one line out.
 * Gives the bytes of tk__a8_block. */
#include <immintrin.h>

#include "ops/quant.h"

static inline void block_avx2(tk_a8 *dst, const float *src) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256 v[4];
    __m256i top8 = _mm256_setzero_si256(), q[4];
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_loadu_ps(src + i * 8);
        top8 = _mm256_max_epu32(top8, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
    }
    __m128i top4 = _mm_max_epu32(_mm256_castsi256_si128(top8), _mm256_extracti128_si256(top8, 1));
    top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0x4e));
    top4 = _mm_max_epu32(top4, _mm_shuffle_epi32(top4, 0xb1));
    const float top = _mm_cvtss_f32(_mm_castsi128_ps(top4));
    const bool small = top <= 1e-30f;
    const __m256 inverse = _mm256_set1_ps(small ? 0 : 127 / top);
    for (int i = 0; i < 4; i++) {
        __m256 scaled =
            _mm256_max_ps(_mm256_mul_ps(v[i], inverse), _mm256_set1_ps(-127)); /* NaN: the second */
        q[i] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(127)));
    }
    /* packs work within 128-bit lanes: dwords come out as 0 2 4 6 | 1 3 5 7 of the block's eight */
    __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    __m256i sums = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes), _mm256_set1_epi16(1));
    sums = _mm256_hadd_epi32(sums, sums);
    sums = _mm256_hadd_epi32(sums, sums);
    const int32_t low = _mm256_extract_epi32(sums, 0), high = _mm256_extract_epi32(sums, 4);
    _mm256_storeu_si256((__m256i *)dst->q, bytes);
    dst->d = small ? 0 : top / 127;
    dst->s = dst->d * (float)(low + high);
    dst->c128 = -128 * (low + high), dst->c8 = -8 * (low + high);
    dst->c32[0] = -32 * low, dst->c32[1] = -32 * high;
    dst->half[0] = dst->d * (float)low, dst->half[1] = dst->d * (float)high;
}

void tk__quant_run_avx2(tk_a8 *y, int64_t step, const float *x, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) block_avx2(y + i * step, x + i * TK_K32);
}
void quant_a8_avx2(const tk_args *a) { tk__quant_rows(a, tk__quant_run_avx2); }
