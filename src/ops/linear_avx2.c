/* SPDX-License-Identifier: Apache-2.0 */
/* linear with AVX2 and FMA: the vectors of linear_tmpl.h are two registers each. maddubs adds two products
 * in 16 bits and would saturate with weights of eight bits unsigned; so those become |w| (at most 128) times
 * the activation with w's sign (at most 127), whose pairs stay below 2^15. Smaller weights cannot reach it.
 */
#include <immintrin.h>

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;
#define PAIR(type, x, y) ((type){ x, y })
#define FN static inline __attribute__((always_inline))

FN vf vf_zero(void) { return PAIR(vf, _mm256_setzero_ps(), _mm256_setzero_ps()); }
FN vf vf_set1(float x) { return PAIR(vf, _mm256_set1_ps(x), _mm256_set1_ps(x)); }
FN vf vf_load(const void *p) { return PAIR(vf, _mm256_loadu_ps(p), _mm256_loadu_ps((const float *)p + 8)); }
/* the first n of 16; never touches the others */
FN vf vf_load_n(const float *p, int n) {
    if (n == 16) return vf_load(p);
    float all[16] = { 0 };
    __builtin_memcpy(all, p, (unsigned)n * sizeof *p);
    return vf_load(all);
}
FN void vf_store(void *p, vf v) { _mm256_storeu_ps(p, v.a), _mm256_storeu_ps((float *)p + 8, v.b); }
FN void vf_store_n(float *p, vf v, int n) {
    float all[16], *to = n == 16 ? p : all;
    _mm256_storeu_ps(to, v.a), _mm256_storeu_ps(to + 8, v.b);
    if (n != 16) __builtin_memcpy(p, all, (unsigned)n * sizeof *p);
}
FN vf vf_fma(vf x, vf y, vf z) {
    return PAIR(vf, _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
FN vf vf_mul(vf x, vf y) { return PAIR(vf, _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
FN vf vf_neg(vf x) {
    const __m256 zero = _mm256_setzero_ps();
    return PAIR(vf, _mm256_sub_ps(zero, x.a), _mm256_sub_ps(zero, x.b));
}
FN vf vf_f16(const void *p) {
    const __m128i *h = p;
    return PAIR(vf, _mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1)));
}
FN vf vf_int(vi x) { return PAIR(vf, _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
FN vf vf_s8(const void *p) {
    const __m128i v = _mm_loadu_si128(p);
    return vf_int(PAIR(vi, _mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))));
}
FN vi vi_zero(void) { return PAIR(vi, _mm256_setzero_si256(), _mm256_setzero_si256()); }
FN vi vi_set1(int x) { return PAIR(vi, _mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
FN vi vi_load(const void *p) {
    const __m256i *v = p;
    return PAIR(vi, _mm256_loadu_si256(v), _mm256_loadu_si256(v + 1));
}
FN void vi_store(void *p, vi v) {
    __m256i *to = p;
    _mm256_storeu_si256(to, v.a), _mm256_storeu_si256(to + 1, v.b);
}
FN vi vi_add(vi x, vi y) { return PAIR(vi, _mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
FN vi vi_and(vi x, vi y) { return PAIR(vi, _mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)); }
FN vi vi_add16(vi x, vi y) { return PAIR(vi, _mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)); }
FN vi vi_sub16(vi x, vi y) { return PAIR(vi, _mm256_sub_epi16(x.a, y.a), _mm256_sub_epi16(x.b, y.b)); }
FN vi vi_mul16(vi x, vi y) { return PAIR(vi, _mm256_mullo_epi16(x.a, y.a), _mm256_mullo_epi16(x.b, y.b)); }
FN vi vi_xor(vi x, vi y) { return PAIR(vi, _mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)); }
FN vi vi_shuf(vi x, vi i) { return PAIR(vi, _mm256_shuffle_epi8(x.a, i.a), _mm256_shuffle_epi8(x.b, i.b)); }
FN vi vi_table(const void *p) {
    const __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128(p));
    return PAIR(vi, v, v);
}
FN vi vi_u8(const void *p) {
    const __m128i v = _mm_loadu_si128(p);
    return PAIR(vi, _mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}
FN vf vf_u8(const void *p) { return vf_int(vi_u8(p)); }
FN vi vi_u16(const void *p) {
    const __m128i *h = p;
    return PAIR(vi, _mm256_cvtepu16_epi32(_mm_loadu_si128(h)), _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1)));
}
FN vi vi_or(vi x, vi y) { return PAIR(vi, _mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)); }
FN vi vi_srl(vi x, int n) {
    const __m128i by = _mm_cvtsi32_si128(n);
    return PAIR(vi, _mm256_srl_epi16(x.a, by), _mm256_srl_epi16(x.b, by));
}
FN vi vi_srl32(vi x, int n) {
    const __m128i by = _mm_cvtsi32_si128(n);
    return PAIR(vi, _mm256_srl_epi32(x.a, by), _mm256_srl_epi32(x.b, by));
}
FN vi vi_sll32(vi x, int n) { return PAIR(vi, _mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)); }
FN vf vi_as_vf(vi x) { return PAIR(vf, _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)); }

FN __m256i dot8(__m256i sum, __m256i w, __m256i x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
}
FN vi dot_u4(vi sum, vi w, const signed char *x) {
    int four;
    __builtin_memcpy(&four, x, 4);
    const __m256i v = _mm256_set1_epi32(four);
    return PAIR(vi, dot8(sum.a, w.a, v), dot8(sum.b, w.b, v));
}
FN vi dot_u8(vi sum, vi w, const signed char *x) {
    int four;
    __builtin_memcpy(&four, x, 4);
    const __m256i v = _mm256_set1_epi32(four), offset = _mm256_set1_epi8(-128);
    const __m256i a = _mm256_xor_si256(w.a, offset), b = _mm256_xor_si256(w.b, offset);
    return PAIR(vi, dot8(sum.a, _mm256_abs_epi8(a), _mm256_sign_epi8(v, a)),
                dot8(sum.b, _mm256_abs_epi8(b), _mm256_sign_epi8(v, b)));
}
#define DOT_U8_START(x) vi_zero()

#include "ops/linear_tmpl.h"

/* Six tokens are twelve sums of the sixteen registers; four where the weights need some as well. Integers: by
 * four; while the eight block sums work, the compiler keeps the others in memory, which costs little beside
 * 32 products each. */
#define TILE(name, mr, call)                                                                                 \
    static void name##_##mr(const tile *t) { call; }
#define FLOATS(name, type, mr) TILE(name, mr, tile_float(type, mr, t))
#define INTEGERS(name, type, expanded, mr) TILE(name, mr, tile_integer(type, mr, expanded, t))
#define SIZES(X, ...) X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#define TO_4(name) NULL, name##_1, name##_2, name##_3, name##_4
#define KERNEL(name, ...)                                                                                    \
    void linear_##name##_avx2(const tk_args *a) {                                                            \
        static const scheme s = { __VA_ARGS__ };                                                             \
        multiply(a, &s);                                                                                     \
    }
#define FLOATING(name, type)                                                                                 \
    SIZES(FLOATS, name, type)                                                                                \
    FLOATS(name, type, 6) KERNEL(name, .tile = { TO_4(name), [6] = name##_6 }, .unit = 1, .chunk = 512)
#define INTEGER(name, type)                                                                                  \
    SIZES(INTEGERS, name, type, false) KERNEL(name, .tile = { TO_4(name) }, .unit = 32, .chunk = 64)
#define EXPANDING(name, type, up_to)                                                                         \
    SIZES(INTEGERS, name, type, false)                                                                       \
    SIZES(INTEGERS, name##_many, type, true)                                                                 \
    static void name##_expand(const tile *t, uint8_t *to) { expand(type, t, to); }                           \
    KERNEL(name, .tile = { TO_4(name) }, .many = { TO_4(name##_many) }, .unit = 32, .chunk = EXPANDED_CHUNK, \
           .direct = up_to, .expand = name##_expand)

FLOATING(f32, TK_P_F32)
FLOATING(f16, TK_P_F16)
FLOATING(f8, TK_P_F8)
SIZES(FLOATS, bf16, TK_P_BF16)
KERNEL(bf16, .tile = { TO_4(bf16) }, .unit = 1, .chunk = 512)
INTEGER(q8_0, TK_P_Q8_0)
INTEGER(q4_0, TK_P_Q4_0)
INTEGER(q4_1, TK_P_Q4_1)
INTEGER(q4_z, TK_P_Q4_Z)
EXPANDING(q4_k, TK_P_Q4_K, 4)
EXPANDING(q6_k, TK_P_Q6_K, 1)
INTEGER(q5_0, TK_P_Q5_0)
INTEGER(q5_1, TK_P_Q5_1)
INTEGER(iq4_nl, TK_P_IQ4_NL)
INTEGER(mxfp4, TK_P_MXFP4)
INTEGER(iq4_xs, TK_P_IQ4_XS)
EXPANDING(q2_k, TK_P_Q2_K, 4)
EXPANDING(q3_k, TK_P_Q3_K, 4)
EXPANDING(q5_k, TK_P_Q5_K, 4)
