/* SPDX-License-Identifier: Apache-2.0 */
/* linear with AVX-512 and VNNI: the vectors of linear_tmpl.h are one register each. dpbusd takes unsigned
 * bytes times signed ones, here weights times activations: the weights' offset comes back as a number per
 * activation block, which costs no weight bytes, and the activations can be broadcast by the load. */
#include <immintrin.h>

typedef __m512 vf;
typedef __m512i vi;
#define vf_zero() _mm512_setzero_ps()
#define vf_set1(x) _mm512_set1_ps(x)
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_load_n(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define vf_store(p, v) _mm512_storeu_ps(p, v)
#define vf_store_n(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), v)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vf_mul(a, b) _mm512_mul_ps(a, b)
#define vf_neg(a) _mm512_sub_ps(_mm512_setzero_ps(), a)
#define vf_f16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))
#define vf_u8(p) _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p))))
#define vf_s8(p) _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(p))))
#define vf_int(a) _mm512_cvtepi32_ps(a)
#define vi_zero() _mm512_setzero_si512()
#define vi_set1(x) _mm512_set1_epi32(x)
#define vi_load(p) _mm512_loadu_si512(p)
#define vi_store(p, v) _mm512_storeu_si512(p, v)
#define vi_add(a, b) _mm512_add_epi32(a, b)
#define vi_and(a, b) _mm512_and_si512(a, b)
#define vi_or(a, b) _mm512_or_si512(a, b)
#define vi_srl(a, n) _mm512_srl_epi16(a, _mm_cvtsi32_si128(n))
#define vi_sll32(a, n) _mm512_slli_epi32(a, n)
#define vi_as_vf(a) _mm512_castsi512_ps(a)

static inline __m512i dot_u4(__m512i sum, __m512i w, const signed char *x) {
    int four;
    __builtin_memcpy(&four, x, 4);
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
}
#define dot_u8 dot_u4
#define DOT_U8_START(x) vi_set1((x)->c128)

#include "ops/linear_tmpl.h"

/* Integers: 8 tokens are 8 sums and 8 block sums of the 32 registers, and the dot product's latency is
 * hidden. Floats need only the sums: 12. */
#define TILE(name, mr, call)                                                                                 \
    static void name##_##mr(const tile *t) { call; }
#define FLOATS(name, type, mr) TILE(name, mr, tile_float(type, mr, t))
#define INTEGERS(name, type, expanded, mr) TILE(name, mr, tile_integer(type, mr, expanded, t))
#define SIZES(X, ...) X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#define TO_4(name) NULL, name##_1, name##_2, name##_3, name##_4
#define TO_8(name) TO_4(name), NULL, name##_6, NULL, name##_8
#define KERNEL(name, ...)                                                                                    \
    void linear_##name##_avx512(const tk_args *a) {                                                          \
        static const scheme s = { __VA_ARGS__ };                                                             \
        multiply(a, &s);                                                                                     \
    }
#define FLOATING(name, type)                                                                                 \
    SIZES(FLOATS, name, type) FLOATS(name, type, 6) FLOATS(name, type, 8) FLOATS(name, type, 12)             \
    KERNEL(name, .tile = { TO_8(name), [12] = name##_12 }, .unit = 1, .chunk = 512)
#define INTEGER(name, type)                                                                                  \
    SIZES(INTEGERS, name, type, false) INTEGERS(name, type, false, 6) INTEGERS(name, type, false, 8)         \
    KERNEL(name, .tile = { TO_8(name) }, .unit = 32, .chunk = 64)
/* Formats of four blocks together: 4 tokens, and beyond `up_to` tokens 8 from an expanded chunk */
#define EXPANDING(name, type, up_to)                                                                         \
    SIZES(INTEGERS, name, type, false)                                                                       \
    SIZES(INTEGERS, name##_many, type, true)                                                                 \
    INTEGERS(name##_many, type, true, 6) INTEGERS(name##_many, type, true, 8)                                \
    static void name##_expand(const tile *t, uint8_t *to) { expand(type, t, to); }                           \
    KERNEL(name, .tile = { TO_4(name) }, .many = { TO_8(name##_many) }, .unit = 32, .chunk = EXPANDED_CHUNK, \
           .direct = up_to, .expand = name##_expand)

FLOATING(f32, TK_P_F32)
FLOATING(f16, TK_P_F16)
FLOATING(bf16, TK_P_BF16)
INTEGER(q8_0, TK_P_Q8_0)
INTEGER(q4_0, TK_P_Q4_0)
INTEGER(q4_1, TK_P_Q4_1)
INTEGER(q4_k, TK_P_Q4_K)
EXPANDING(q6_k, TK_P_Q6_K, 16)
