/* SPDX-License-Identifier: Apache-2.0 */
/* A small vector of floats, so that each kernel body is written once and compiled per tier: 16 lanes with
 * AVX-512, 8 with AVX2 + FMA + F16C, 4 with nothing but C (GCC's and clang's vector extension, which becomes
 * SSE2, NEON or scalar code). Lanes never meet except in v_sum and v_max_lane, whose trees are fixed.
 * In the plain tier v_fma rounds twice: tiers differ in their last bits, runs on one tier never do. */
#ifndef TK_VEC_H
#define TK_VEC_H
#include <math.h>

#include "base/base.h"
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>
#endif

#define V_INLINE static inline __attribute__((always_inline, unused))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define VW 16
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define VW 8
#else
#define VW 4
#endif

typedef float vf __attribute__((vector_size(4 * VW)));
typedef int32_t vi __attribute__((vector_size(4 * VW)));
typedef uint32_t vu __attribute__((vector_size(4 * VW))); /* for sums and shifts that may wrap */

/* ---- moving ---- */

V_INLINE vf v_load(const float *p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
V_INLINE void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
V_INLINE vf v_set1(float x) { return x - (vf){ 0 }; } /* x - 0 is x, also for -0 */
V_INLINE vi v_seti(int32_t x) { return x - (vi){ 0 }; }

#if VW == 16
V_INLINE vi v_iota(void) { return (vi){ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }; }
V_INLINE __mmask16 v_mask(int64_t n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1u << n) - 1); }
#elif VW == 8
V_INLINE vi v_iota(void) { return (vi){ 0, 1, 2, 3, 4, 5, 6, 7 }; }
#else
V_INLINE vi v_iota(void) { return (vi){ 0, 1, 2, 3 }; }
#endif

/* m's lanes are 0 or -1 */
V_INLINE vf v_select(vi m, vf yes, vf no) { return (vf)((m & (vi)yes) | (~m & (vi)no)); }

/* The first n lanes of a, the others of b (any n) */
V_INLINE vf v_first(vf a, vf b, int64_t n) {
#if VW == 16
    return (vf)_mm512_mask_blend_ps(v_mask(n), (__m512)b, (__m512)a);
#else
    return v_select(v_iota() < v_seti((int32_t)(n > VW ? VW : n)), a, b);
#endif
}

/* n lanes (0 < n <= VW); memory behind them is not touched, the other lanes are 0 */
V_INLINE vf v_load_n(const float *p, int64_t n) {
#if VW == 16
    return (vf)_mm512_maskz_loadu_ps(v_mask(n), p);
#elif VW == 8
    return (vf)_mm256_maskload_ps(p, (__m256i)(v_iota() < v_seti((int32_t)n)));
#else
    vf v = { 0 };
    for (int64_t i = 0; i < n && i < VW; i++) v[i] = p[i];
    return v;
#endif
}
V_INLINE void v_store_n(float *p, vf v, int64_t n) {
#if VW == 16
    _mm512_mask_storeu_ps(p, v_mask(n), (__m512)v);
#elif VW == 8
    _mm256_maskstore_ps(p, (__m256i)(v_iota() < v_seti((int32_t)n)), (__m256)v);
#else
    for (int64_t i = 0; i < n && i < VW; i++) p[i] = v[i];
#endif
}

/* Neighbours exchanged; each lane of the lower (upper) half twice; lanes of two vectors in turn, lower
 * (upper) halves. L: the lane numbers of one vector */
#if VW == 16
#define V_SWAP_L 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14
#define V_TWICE_LO_L 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7
#define V_TWICE_HI_L 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15
#define V_ZIP_LO_L 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define V_ZIP_HI_L 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VW == 8
#define V_SWAP_L 1, 0, 3, 2, 5, 4, 7, 6
#define V_TWICE_LO_L 0, 0, 1, 1, 2, 2, 3, 3
#define V_TWICE_HI_L 4, 4, 5, 5, 6, 6, 7, 7
#define V_ZIP_LO_L 0, 8, 1, 9, 2, 10, 3, 11
#define V_ZIP_HI_L 4, 12, 5, 13, 6, 14, 7, 15
#else
#define V_SWAP_L 1, 0, 3, 2
#define V_TWICE_LO_L 0, 0, 1, 1
#define V_TWICE_HI_L 2, 2, 3, 3
#define V_ZIP_LO_L 0, 4, 1, 5
#define V_ZIP_HI_L 2, 6, 3, 7
#endif
V_INLINE vf v_swap(vf v) { return __builtin_shufflevector(v, v, V_SWAP_L); }
V_INLINE vf v_twice_lo(vf v) { return __builtin_shufflevector(v, v, V_TWICE_LO_L); }
V_INLINE vf v_twice_hi(vf v) { return __builtin_shufflevector(v, v, V_TWICE_HI_L); }
V_INLINE vf v_zip_lo(vf a, vf b) { return __builtin_shufflevector(a, b, V_ZIP_LO_L); }
V_INLINE vf v_zip_hi(vf a, vf b) { return __builtin_shufflevector(a, b, V_ZIP_HI_L); }

/* Loops over registers: n is a constant */
#if defined(__clang__)
#define V_UNROLL _Pragma("unroll")
#else
#define V_UNROLL _Pragma("GCC unroll 16")
#endif
#define V_FOR(i, n) V_UNROLL for (int i = 0; i < (n); i++)

/* VW x VW numbers: rows become columns, by zipping row i with row i + VW/2 log2(VW) times */
V_INLINE void v_transpose(vf r[VW]) {
    for (int stage = VW; stage > 1; stage /= 2) {
        vf t[VW];
        V_FOR(i, VW / 2)
        t[2 * i] = v_zip_lo(r[i], r[i + VW / 2]), t[2 * i + 1] = v_zip_hi(r[i], r[i + VW / 2]);
        V_FOR(i, VW) r[i] = t[i];
    }
}

/* ---- arithmetic ---- */

/* max and min give b when either is NaN */
#if VW == 16
V_INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
V_INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
V_INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif VW == 8
V_INLINE vf v_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
V_INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
V_INLINE vf v_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#else
V_INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
V_INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
V_INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
#endif
V_INLINE vf v_abs(vf a) { return (vf)((vi)a & v_seti(0x7fffffff)); }

/* Lanes to one number by halving: lane i + lane i + VW/2, and so on */
V_INLINE float v_sum(vf v) {
#if VW == 16
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#elif VW == 8
    __m256 h = (__m256)v;
#endif
#if VW >= 8
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
#else
    return (v[0] + v[2]) + (v[1] + v[3]);
#endif
}
V_INLINE float v_max_lane(vf v) { /* a NaN may or may not win */
#if VW == 16
    __m256 h = _mm256_max_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
#elif VW == 8
    __m256 h = (__m256)v;
#endif
#if VW >= 8
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
#else
    float a = v[0] > v[2] ? v[0] : v[2], b = v[1] > v[3] ? v[1] : v[3];
    return a > b ? a : b;
#endif
}

/* ---- other number formats ---- */

#if VW == 16
V_INLINE vi v_load_u16(const uint16_t *p) {
    return (vi)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
}
V_INLINE void v_store_u16(uint16_t *p, vi v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)v));
}
#elif VW == 8
V_INLINE vi v_load_u16(const uint16_t *p) {
    return (vi)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
}
V_INLINE void v_store_u16(uint16_t *p, vi v) { /* lanes are 0 .. 65535 */
    __m128i lo = _mm256_castsi256_si128((__m256i)v), hi = _mm256_extracti128_si256((__m256i)v, 1);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(lo, hi));
}
#else
V_INLINE vi v_load_u16(const uint16_t *p) { return (vi){ p[0], p[1], p[2], p[3] }; }
V_INLINE void v_store_u16(uint16_t *p, vi v) {
    for (int i = 0; i < VW; i++) p[i] = (uint16_t)v[i];
}
#endif
V_INLINE vi v_selecti(vi m, vi yes, vi no) { return (m & yes) | (~m & no); }

/* To and from float16 and bfloat16, to nearest even; in plain C as in base/formats.c, lane by lane the same
 */
V_INLINE vf v_load_f16(const uint16_t *p) {
#if VW == 16
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif VW == 8
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#else
    vi h = v_load_u16(p), mag = h & v_seti(0x7fff);
    vi small = (vi)((vf)(v_seti(0x3f000000) | mag) - v_set1(0.5f));
    vi bits = v_selecti(mag < v_seti(0x400), small, (mag << 13) + v_seti(112 << 23));
    bits = v_selecti(mag >= v_seti(0x7c00), (mag << 13) | v_seti(0x7f800000), bits);
    return (vf)((vu)bits | (vu)(h & v_seti(0x8000)) << 16);
#endif
}
V_INLINE void v_store_f16(uint16_t *p, vf v) {
#if VW == 16
    _mm256_storeu_si256((__m256i *)p,
                        _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif VW == 8
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    vi mag = (vi)v & v_seti(0x7fffffff), sign = (vi)((vu)v >> 16) & v_seti(0x8000);
    vi small = (vi)((vf)mag + v_set1(0.5f)) - v_seti(0x3f000000);
    vi bits = (mag - v_seti(112 << 23) + v_seti(0xfff) + ((mag >> 13) & v_seti(1))) >> 13;
    bits = v_selecti(mag < v_seti(0x38800000), small, bits);
    bits = v_selecti(mag >= v_seti(0x477ff000), v_seti(0x7c00), bits);
    bits = v_selecti(mag > v_seti(0x7f800000), v_seti(0x7e00) | ((mag >> 13) & v_seti(0x1ff)), bits);
    v_store_u16(p, bits | sign);
#endif
}
V_INLINE vf v_load_bf16(const uint16_t *p) { return (vf)((vu)v_load_u16(p) << 16); }
V_INLINE void v_store_bf16(uint16_t *p, vf v) {
    vu u = (vu)v, top = u >> 16;
    vi nan = ((vi)u & v_seti(0x7fffffff)) > v_seti(0x7f800000);
    vi r = (vi)((u + (vu)v_seti(0x7fff) + (top & (vu)v_seti(1))) >> 16);
    v_store_u16(p, v_selecti(nan, (vi)top | v_seti(0x40), r));
}
V_INLINE vf v_load_i8(const int8_t *p) {
#if VW == 16
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif VW == 8
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
#else
    return (vf){ p[0], p[1], p[2], p[3] };
#endif
}

/* ---- functions ---- */

/* x rounded to an integer (halves to even), |x| < 2^22, as a float and as *n: the sum with 1.5 x 2^23 has the
 * integer in its last bits */
V_INLINE vf v_round(vf x, vi *n) {
    const vf magic = v_set1(12582912.0f);
    vf t = x + magic;
    *n = (vi)((vu)t - (vu)magic);
    return t - magic;
}

/* Nearest integers as bytes; |v| <= 127, else (NaN) any byte */
V_INLINE void v_store_i8(int8_t *p, vf v) {
    vi n;
    v_round(v, &n);
#if VW == 16
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)n));
#else
    for (int i = 0; i < VW; i++) p[i] = (int8_t)n[i];
#endif
}

/* p 2^n for p in [0.5, 2] and |n| <= 252: two factors, so that subnormal and infinite results come out right
 */
V_INLINE vf v_scale(vf p, vf n_float, vi n) {
#if VW == 16
    (void)n;
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)n_float);
#else
    (void)n_float;
    vi half = n >> 1, rest = n - half;
    return p * (vf)((vu)(half + v_seti(127)) << 23) * (vf)((vu)(rest + v_seti(127)) << 23);
#endif
}

/* e^f for |f| <= ln2 / 2: f + 1 + f^2 times a polynomial of degree 5 (Cephes' expf), below 1 ulp */
V_INLINE vf v_exp_poly(vf f) {
    vf p = v_set1(1.9875691500e-4f);
    p = v_fma(p, f, v_set1(1.3981999507e-3f));
    p = v_fma(p, f, v_set1(8.3334519073e-3f));
    p = v_fma(p, f, v_set1(4.1665795894e-2f));
    p = v_fma(p, f, v_set1(1.6666665459e-1f));
    p = v_fma(p, f, v_set1(5.0000001201e-1f));
    return v_fma(p, f * f, f) + v_set1(1.0f);
}

/* e^x within 2 ulp; 0 below -104, infinity above 88.73, NaN for NaN */
V_INLINE vf v_exp(vf x) {
    x = v_max(v_set1(-110.0f), v_min(v_set1(90.0f), x));
    vi n;
    vf t = v_round(x * v_set1(1.44269504f), &n);
    /* ln 2 in two parts, the first so short that its product with any n is exact even without FMA */
    vf f = v_fma(t, v_set1(-0.693359375f), x);
    f = v_fma(t, v_set1(2.12194440e-4f), f);
    return v_scale(v_exp_poly(f), t, n);
}

/* tanh within 2 ulp: x + x^3 times a polynomial of degree 4 in x^2 (Cephes' tanhf) up to 0.625, where the
 * other form, 1 - 2 / (1 + e^2x), cancels */
V_INLINE vf v_tanh(vf x) {
    vf y = v_abs(x), z = x * x;
    vf p = v_set1(-5.70498872745e-3f);
    p = v_fma(p, z, v_set1(2.06390887954e-2f));
    p = v_fma(p, z, v_set1(-5.37397155531e-2f));
    p = v_fma(p, z, v_set1(1.33314422036e-1f));
    p = v_fma(p, z, v_set1(-3.33332819422e-1f));
    vf near = v_fma(p * z, y, y), far = v_set1(1.0f) - v_set1(2.0f) / (v_set1(1.0f) + v_exp(y + y));
    return (vf)((vi)v_select(y < v_set1(0.625f), near, far) | ((vi)x & v_seti(INT32_MIN)));
}

/* 2^x for x <= 1 within 1 ulp (the plain tier: 2); 0 below -151, NaN for NaN. A polynomial of degree 6 on
 * [-1/2, 1/2], an own fit for the least relative error, 2e-9. */
V_INLINE vf v_exp2(vf x) {
    x = v_max(v_set1(-160.0f), x);
    vi n;
    vf t = v_round(x, &n), f = x - t;
    vf p = v_set1(1.535337069e-04f);
    p = v_fma(p, f, v_set1(1.339888084e-03f));
    p = v_fma(p, f, v_set1(9.618436918e-03f));
    p = v_fma(p, f, v_set1(5.550332367e-02f));
    p = v_fma(p, f, v_set1(2.402264774e-01f));
    p = v_fma(p, f, v_set1(6.931471825e-01f));
    return v_scale(v_fma(p, f, v_set1(1.0f)), t, n);
}

/* The normal distribution's integral up to x, within about 1e-7, and 1e-6 of itself far below 0:
 * 1/2 + x P(x^2) near 0 (less far on the left, where the sum cancels), else e^(-x^2/2) times a polynomial in
 * 1 / (1 + 0.35 |x|); both are own fits for the least relative error. */
V_INLINE vf v_phi(vf x) {
    vf y = v_abs(x), s = x * x;
    vf p = v_set1(4.115475463e-07f);
    p = v_fma(p, s, v_set1(-8.718251593e-06f));
    p = v_fma(p, s, v_set1(1.143562695e-04f));
    p = v_fma(p, s, v_set1(-1.186488313e-03f));
    p = v_fma(p, s, v_set1(9.973241016e-03f));
    p = v_fma(p, s, v_set1(-6.649033725e-02f));
    p = v_fma(p, s, v_set1(3.989422917e-01f));
    vf near = v_fma(p, x, v_set1(0.5f));
    vf t = v_set1(1.0f) / v_fma(y, v_set1(0.35f), v_set1(1.0f));
    vf q = v_set1(-2.916423604e-02f);
    q = v_fma(q, t, v_set1(1.440628469e-01f));
    q = v_fma(q, t, v_set1(-2.559072077e-01f));
    q = v_fma(q, t, v_set1(1.594002843e-01f));
    q = v_fma(q, t, v_set1(-2.326977439e-02f));
    q = v_fma(q, t, v_set1(1.055776775e-01f));
    q = v_fma(q, t, v_set1(1.198146790e-01f));
    q = v_fma(q, t, v_set1(1.398644596e-01f));
    q = v_fma(q, t, v_set1(1.396212578e-01f));
    vf tail = q * t * v_exp(s * v_set1(-0.5f));
    vf far = v_select(x > (vf){ 0 }, v_set1(1.0f) - tail, tail);
    return v_select((y < v_set1(1.5f)) & (x > v_set1(-0.75f)), near, far);
}

/* sin and cos for |x| <= 1e6 within 2 ulp (of the result near 1, absolutely near zeros); beyond, and for
 * infinities and NaN, by the C library. x - n pi/2 in three parts of pi/2 (exact with FMA), or in double. */
V_INLINE void v_sincos(vf x, vf *sin_out, vf *cos_out) {
    if (v_max_lane(v_select(v_abs(x) <= v_set1(1e6f), (vf){ 0 }, v_set1(1.0f))) != 0) {
        vf s = { 0 }, c = { 0 };
        for (int i = 0; i < VW; i++) s[i] = sinf(x[i]), c[i] = cosf(x[i]);
        *sin_out = s, *cos_out = c;
        return;
    }
    vi n;
    vf t = v_round(x * v_set1(0.636619772f), &n), r = { 0 };
#if VW >= 8
    r = v_fma(t, v_set1(-1.57079637f), x);
    r = v_fma(t, v_set1(4.37113883e-8f), r);
    r = v_fma(t, v_set1(1.71512451e-15f), r);
#else
    for (int i = 0; i < VW; i++) r[i] = (float)((double)x[i] - (double)t[i] * 1.5707963267948966);
#endif
    vf z = r * r;
    vf s = v_fma(v_fma(v_set1(-1.9515295891e-4f), z, v_set1(8.3321608736e-3f)), z, v_set1(-1.6666654611e-1f));
    s = v_fma(s * z, r, r);
    vf c = v_fma(v_fma(v_set1(2.443315711809948e-5f), z, v_set1(-1.388731625493765e-3f)), z,
                 v_set1(4.166664568298827e-2f));
    c = v_fma(c * z, z, v_fma(z, v_set1(-0.5f), v_set1(1.0f)));
    vi swap = -(n & v_seti(1)); /* odd quarter turns exchange the two */
    vf a = v_select(swap, c, s), b = v_select(swap, s, c);
    *sin_out = (vf)((vu)a ^ (vu)(n & v_seti(2)) << 30);
    *cos_out = (vf)((vu)b ^ (vu)((n + v_seti(1)) & v_seti(2)) << 30);
}
#endif
