/* SPDX-License-Identifier: Apache-2.0 */
/* The vectors of linear_tmpl.h with AVX-512 and VNNI, one register each. dpbusd takes unsigned bytes times
 * signed ones, here weights times activations: the weights' offset comes back as a number per activation
 * block, which costs no weight bytes, and the activations can be broadcast by the load. */
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
#define vf_u8(p) _mm512_cvtepi32_ps(vi_u8(p))
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
#define vi_xor(a, b) _mm512_xor_si512(a, b)
#define vi_add16(a, b) _mm512_add_epi16(a, b)
#define vi_sub16(a, b) _mm512_sub_epi16(a, b)
#define vi_mul16(a, b) _mm512_mullo_epi16(a, b)
#define vi_shuf(a, i) _mm512_shuffle_epi8(a, i)
#define vi_table(p) _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(p)))
#define vi_u8(p) _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p)))
#define vi_u16(p) _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(p)))
#define vi_srl32(a, n) _mm512_srl_epi32(a, _mm_cvtsi32_si128(n))
#define vi_sll32(a, n) _mm512_slli_epi32(a, n)
#define vi_as_vf(a) _mm512_castsi512_ps(a)

static inline __m512i dot_u4(__m512i sum, __m512i w, const signed char *x) {
    int four;
    __builtin_memcpy(&four, x, 4);
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
}
#define dot_u8 dot_u4
#define DOT_U8_START(x) vi_set1((x)->c128)
