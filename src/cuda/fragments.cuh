/* SPDX-License-Identifier: Apache-2.0 */
/* A operands: the 16 registers of four steps of 16 k (64 k) of a panel, from a slab in shared memory, for every H_
 * format. Quantized numbers become float32 exactly as the CPU unpacks them, then bfloat16, to nearest even. Codes get
 * there without conversions: put below an exponent they are 128 + q (bfloat16) or 32,768 + q (float32), and where the
 * constant that takes this away again fits float32 it goes into the multiply-add that applies the scale. */
#ifndef TK_FRAGMENTS_CUH
#define TK_FRAGMENTS_CUH
#include "cuda/panels.cuh"

namespace tk {

__device__ inline uint4 shared_16(uint32_t at) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(at));
    return v;
}
__device__ inline uint2 shared_8(uint32_t at) {
    uint2 v;
    asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at));
    return v;
}
__device__ inline uint32_t shared_4(uint32_t at) {
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at));
    return v;
}
__device__ inline uint32_t shared_2(uint32_t at) {
    uint16_t v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at));
    return v;
}

__device__ inline uint32_t two_bf16(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}
__device__ inline float low_bf16(uint32_t u) { return __uint_as_float(u << 16); }
__device__ inline float high_bf16(uint32_t u) { return __uint_as_float(u & 0xffff0000u); }
__device__ inline float low_f16(uint32_t u) { return from_f16((uint16_t)u); }
__device__ inline float high_f16(uint32_t u) { return from_f16((uint16_t)(u >> 16)); }
__device__ inline float byte_number(uint32_t w, int j) { /* byte j of w */
    return __uint_as_float(__byte_perm(w, 0x4b000000u, 0x7540 | j)) - 8388608.0f;
}

/* Where bit `from` of a word comes to lie at bit `to`, and so on in both halves */
__device__ inline uint32_t move_bits(uint32_t w, int from, int to) { return from > to ? w >> (from - to) : w << (to - from); }

/* bits & mask | exponent: one instruction, which takes one constant only */
__device__ inline uint32_t under(uint32_t bits, uint32_t mask, uint32_t exponent) {
    uint32_t u;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(u) : "r"(bits), "r"(mask), "r"(exponent));
    return u;
}

/* 128 + code of numbers (i, 0), (i, 1) of step s as bfloat16 */
template <int LOW, int TOP> struct code_planes {
    uint32_t low[LOW], top[TOP ? TOP : 1]; /* LOW: words of a lane's numbers */
    __device__ void load(uint32_t slab, int top_at, int sub, int lane) {
        const uint32_t at = slab + sub * 128 * LOW + lane * 4 * LOW;
        if (LOW == 4) {
            const uint4 v = shared_16(at);
            low[0] = v.x, low[1] = v.y, low[LOW > 2 ? 2 : 0] = v.z, low[LOW > 3 ? 3 : 0] = v.w;
        } else {
            const uint2 v = shared_8(at);
            low[0] = v.x, low[1] = v.y;
        }
        const uint32_t above = slab + top_at + sub * 128 * TOP + lane * 4 * TOP;
        if (TOP == 1) top[0] = shared_4(above);
        if (TOP == 2) {
            const uint2 v = shared_8(above);
            top[0] = v.x, top[TOP > 1] = v.y;
        }
    }
    __device__ uint32_t codes(int s, int i) const {
        uint32_t u = LOW == 4 ? under(low[s % LOW] >> 4 * i, 0x000f000fu, 0x43004300u)
                              : under(low[s / 2 % LOW] >> (s % 2 * 8 + 2 * i), 0x00030003u, 0x43004300u);
        if (TOP == 1) u = under(move_bits(top[0], 4 * s + i, LOW), 0x00010001u << LOW, u);
        if (TOP == 2) u = under(move_bits(top[s / 2 % (TOP ? TOP : 1)], s % 2 * 8 + 2 * i, LOW), 0x00030003u << LOW, u);
        return u;
    }
};

/* d (128 + q) + c of two codes */
__device__ inline uint32_t scaled(uint32_t u, float d, float c) {
    return two_bf16(fmaf(low_bf16(u), d, c), fmaf(high_bf16(u), d, c));
}
/* d q + m */
__device__ inline uint32_t affine(uint32_t u, float d, float m) {
    uint32_t q;
    asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(q) : "r"(u), "r"(0xc300c300u));
    return scaled(q, d, m);
}
/* d (q - 128) of bytes j and j + 1 of w */
__device__ inline uint32_t scaled_bytes(uint32_t w, int j, float d, float c) {
    const float low = __uint_as_float(__byte_perm(w, 0x47000000u, 0x7504 | j << 4)),
                high = __uint_as_float(__byte_perm(w, 0x47000000u, 0x7504 | (j + 1) << 4));
    return two_bf16(fmaf(low, d, c), fmaf(high, d, c));
}

/* (u + bias) d: the sum is exact, so there is one rounding */
__device__ inline uint32_t times(uint32_t u, uint32_t bias, uint32_t d) {
    uint32_t q, r;
    asm("add.rn.bf16x2 %0, %1, %2;" : "=r"(q) : "r"(u), "r"(bias));
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(q), "r"(d));
    return r;
}

/* Row and block of 32 of register i of step s among four scales: [row / 8][2] */
__device__ constexpr int of_32(int s, int i) { return i % 2 * 2 + s / 2; }
/* The same for blocks of 16: [row / 8][4] */
__device__ constexpr int of_16(int s, int i) { return i % 2 * 4 + s; }

__device__ inline void four_f16(float d[4], uint32_t at) {
    const uint2 v = shared_8(at);
    d[0] = low_f16(v.x), d[1] = high_f16(v.x), d[2] = low_f16(v.y), d[3] = high_f16(v.y);
}

template <int T> struct fragments;

template <> struct fragments<TK_H_BF16> {
    enum { K = 64, BYTES = TK_H_BF16_SLAB };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
#pragma unroll
        for (int s = 0; s < 4; s++) {
            const uint32_t at = slab + lane / 8 % 2 * 1024 + lane % 8 * 128 + ((2 * s + lane / 16) ^ (lane % 8)) * 16;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                         : "=r"(a[4 * s]), "=r"(a[4 * s + 1]), "=r"(a[4 * s + 2]), "=r"(a[4 * s + 3])
                         : "r"(at));
        }
    }
};

/* Runs BODY with s, i and r = 4 s + i for the 16 registers */
#define TK_FOR_REGISTERS(BODY)                                                                                         \
    _Pragma("unroll") for (int s = 0; s < 4; s++) _Pragma("unroll") for (int i = 0; i < 4; i++) a[4 * s + i] = BODY;

/* d (q - ZERO) in pairs of bfloat16, d being one; ZERO -1: a zero, too */
template <int TOP, int ZERO, int SLAB> struct symmetric_32 {
    enum { K = 64, BYTES = SLAB };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        const uint32_t at = slab + 512 + 128 * TOP + lane / 4 * 8;
        code_planes<4, TOP> q;
        q.load(slab, 512, 0, lane);
        const uint2 v = shared_8(at);
        const uint32_t d[4] = { __byte_perm(v.x, 0, 0x1010), __byte_perm(v.x, 0, 0x3232), __byte_perm(v.y, 0, 0x1010),
                                __byte_perm(v.y, 0, 0x3232) };
        uint32_t bias[4];
        float zero[4];
        if (ZERO < 0) four_f16(zero, at + 64);
#pragma unroll
        for (int i = 0; i < 4; i++) bias[i] = ZERO < 0 ? two_bf16(-128 - zero[i], -128 - zero[i]) : 0xc300c300u + ZERO * 0x10001u;
        TK_FOR_REGISTERS(times(q.codes(s, i), bias[of_32(s, i)], d[of_32(s, i)]))
    }
};
template <> struct fragments<TK_H_Q4_0> : symmetric_32<0, 8, 576> {};
template <> struct fragments<TK_H_Q5_0> : symmetric_32<1, 16, 704> {};
template <> struct fragments<TK_H_Q4_Z> : symmetric_32<0, -1, 640> {}; /* zeros are small whole numbers */

/* d q + m */
template <int TOP, int SLAB> struct affine_32 {
    enum { K = 64, BYTES = SLAB };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        code_planes<4, TOP> q;
        float d[4], m[4];
        const uint32_t at = slab + 512 + 128 * TOP + lane / 4 * 8;
        q.load(slab, 512, 0, lane);
        four_f16(d, at), four_f16(m, at + 64);
        TK_FOR_REGISTERS(affine(q.codes(s, i), d[of_32(s, i)], m[of_32(s, i)]))
    }
};
template <> struct fragments<TK_H_Q4_1> : affine_32<0, 640> {};
template <> struct fragments<TK_H_Q5_1> : affine_32<1, 768> {};

template <> struct fragments<TK_H_Q8_0> {
    enum { K = 64, BYTES = 1088 };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        const uint4 v[2] = { shared_16(slab + lane * 16), shared_16(slab + 512 + lane * 16) };
        const uint32_t q[8] = { v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w };
        float d[4], c[4];
        four_f16(d, slab + 1024 + lane / 4 * 8);
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] = -32896 * d[i];
        TK_FOR_REGISTERS(scaled_bytes(q[2 * s + i / 2], i % 2 * 2, d[of_32(s, i)], c[of_32(s, i)]))
    }
};

/* d times the e4m3 numbers in half j of w */
__device__ inline uint32_t scaled_e4m3(uint32_t w, int j, float d) {
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"((uint16_t)(w >> 16 * j)));
    return two_bf16(low_f16(h) * d, high_f16(h) * d);
}
template <> struct fragments<TK_H_F8> {
    enum { K = 64, BYTES = 1152 };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        const uint4 v[2] = { shared_16(slab + lane * 16), shared_16(slab + 512 + lane * 16) },
                    f = shared_16(slab + 1024 + lane / 4 * 16);
        const uint32_t q[8] = { v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w };
        const float d[4] = { __uint_as_float(f.x), __uint_as_float(f.y), __uint_as_float(f.z), __uint_as_float(f.w) };
        TK_FOR_REGISTERS(scaled_e4m3(q[2 * s + i / 2], i % 2, d[of_32(s, i)]))
    }
};

/* The bytes 128 + value of the codes in the low (h 0) or high half of w */
struct iq4_table {
    /* 128 + tk__iq4_values */
    static __device__ uint32_t bytes(uint32_t w, int h) {
        const uint32_t low = w >> 16 * h & 0x7777u, high = w >> (16 * h + 3) & 0x1111u;
        const uint32_t first = __byte_perm(0x3f2d1801u, 0x766a5d4fu, low), /* codes 0-7: 1 24 45 63 79 93 106 118 */
            second = __byte_perm(0xa6998d81u, 0xf1d9c5b5u, low),           /* 8-15: 129 141 153 166 181 197 217 241 */
            mask = __byte_perm(0x0000ff00u, 0, high);
        return (first & ~mask) | (second & mask);
    }
    /* all 16 registers of 64 k */
    static __device__ void load(uint32_t a[16], uint4 q, const float d[4]) {
        const uint32_t w[4] = { q.x, q.y, q.z, q.w };
        float c[4];
#pragma unroll
        for (int i = 0; i < 4; i++) c[i] = -32896 * d[i];
#pragma unroll
        for (int s = 0; s < 4; s++) {
            const uint32_t low = bytes(w[s], 0), high = bytes(w[s], 1);
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[4 * s + i] = scaled_bytes(__byte_perm(low, high, i | (4 + i) << 4), 0, d[of_32(s, i)], c[of_32(s, i)]);
        }
    }
};
template <> struct fragments<TK_H_IQ4_NL> {
    enum { K = 64, BYTES = 576 };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        float d[4];
        four_f16(d, slab + 512 + lane / 4 * 8);
        iq4_table::load(a, shared_16(slab + lane * 16), d);
    }
};

template <> struct fragments<TK_H_MXFP4> {
    enum { K = 64, BYTES = 544 };
    static __device__ uint32_t two(uint32_t w, int i, float d) { /* an e2m1 is a bfloat16 but for 2^126 */
        const uint32_t u = (move_bits(w, 4 * i + 3, 15) & 0x80008000u) | (move_bits(w, 4 * i, 6) & 0x01c001c0u);
        return two_bf16(low_bf16(u) * 0x1p127f * d, high_bf16(u) * 0x1p127f * d);
    }
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        const uint4 v = shared_16(slab + lane * 16);
        const uint32_t q[4] = { v.x, v.y, v.z, v.w }, e = shared_4(slab + 512 + lane / 4 * 4);
        float d[4];
#pragma unroll
        for (int i = 0; i < 4; i++) { /* 2^(e - 128) */
            const uint32_t b = e >> 8 * i & 255;
            d[i] = __uint_as_float(b < 2 ? 0x00200000u << b : (b - 1) << 23);
        }
        TK_FOR_REGISTERS(two(q[s], i, d[of_32(s, i)]))
    }
};

template <int TOP, int SLAB> struct affine_k {
    enum { K = 256, BYTES = SLAB, SCALES = 2048 + 512 * TOP };
    static __device__ void load(uint32_t a[16], uint32_t slab, int sub, int lane) {
        code_planes<4, TOP> q;
        q.load(slab, 2048, sub, lane);
        const uint32_t at = slab + SCALES + sub * 64 + lane / 4 * 4, scale = shared_4(at), min = shared_4(at + 32);
        float above[4], d[4], m[4]; /* d of the two rows, dmin of the two */
        four_f16(above, slab + SCALES + 256 + lane / 4 * 8);
#pragma unroll
        for (int i = 0; i < 4; i++) d[i] = above[i / 2] * byte_number(scale, i), m[i] = -(above[2 + i / 2] * byte_number(min, i));
        TK_FOR_REGISTERS(affine(q.codes(s, i), d[of_32(s, i)], m[of_32(s, i)]))
    }
};
template <> struct fragments<TK_H_Q4_K> : affine_k<0, 2368> {};
template <> struct fragments<TK_H_Q5_K> : affine_k<1, 2880> {};

__device__ inline void two_f16(float d[2], uint32_t at) {
    const uint32_t v = shared_4(at);
    d[0] = low_f16(v), d[1] = high_f16(v);
}

/* d scale (q - ZERO), a scale for 16 k; BIAS: what its byte has more, in the lowest 8 bits of a sum */
template <int LOW, int TOP, int ZERO, int SLAB> struct symmetric_16 {
    enum { K = 256, BYTES = SLAB, SCALES = 512 * (LOW + TOP) };
    static __device__ void load(uint32_t a[16], uint32_t slab, int sub, int lane) {
        code_planes<LOW, TOP> q;
        q.load(slab, 512 * LOW, sub, lane);
        const uint2 v = shared_8(slab + SCALES + sub * 64 + lane / 4 * 8);
        float above[2], d[8], c[8];
        two_f16(above, slab + SCALES + 256 + lane / 4 * 4);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t w = i < 4 ? v.x : v.y; /* signed in H_Q6_K */
            d[i] = above[i / 4] * (TOP == 2 ? byte_number(w ^ 0x80808080u, i % 4) - 128 : byte_number(w, i % 4) - 32);
            c[i] = -(128 + ZERO) * d[i];
        }
        TK_FOR_REGISTERS(scaled(q.codes(s, i), d[of_16(s, i)], c[of_16(s, i)]))
    }
};
template <> struct fragments<TK_H_Q6_K> : symmetric_16<4, 2, 32, 3360> {};
template <> struct fragments<TK_H_Q3_K> : symmetric_16<2, 1, 4, 1824> {};

template <> struct fragments<TK_H_Q2_K> {
    enum { K = 256, BYTES = 1344 };
    static __device__ void load(uint32_t a[16], uint32_t slab, int sub, int lane) {
        code_planes<2, 0> q;
        q.load(slab, 1024, sub, lane);
        const uint2 v = shared_8(slab + 1024 + sub * 64 + lane / 4 * 8);
        float above[4], d[8], m[8];
        four_f16(above, slab + 1280 + lane / 4 * 8);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t w = i < 4 ? v.x : v.y;
            d[i] = above[i / 4] * byte_number(w & 0x0f0f0f0fu, i % 4);
            m[i] = -(above[2 + i / 4] * byte_number(w >> 4 & 0x0f0f0f0fu, i % 4));
        }
        TK_FOR_REGISTERS(affine(q.codes(s, i), d[of_16(s, i)], m[of_16(s, i)]))
    }
};

template <> struct fragments<TK_H_IQ4_XS> {
    enum { K = 256, BYTES = 2208 };
    static __device__ void load(uint32_t a[16], uint32_t slab, int sub, int lane) {
        const uint32_t scale = shared_4(slab + 2048 + sub * 32 + lane / 4 * 4);
        float above[2], d[4];
        two_f16(above, slab + 2176 + lane / 4 * 4);
#pragma unroll
        for (int i = 0; i < 4; i++) d[i] = above[i / 2] * (byte_number(scale, i) - 32);
        iq4_table::load(a, shared_16(slab + sub * 512 + lane * 16), d);
    }
};
#undef TK_FOR_REGISTERS

} // namespace tk
#endif
