/* SPDX-License-Identifier: Apache-2.0 */
/* A operands: the 16 registers of four steps of 16 k (64 k) of a panel, from a slab in shared memory, for every H_
 * format. A quantized number is one fused multiply-add of two bfloat16: code * d + c, rounded once, to nearest even.
 *
 * Codes need no conversion: an integer q below 256 in the low bits of a bfloat16 is the number q * 2^-133, since its
 * seventh bit is the lowest of the exponent, and numbers of exponent 1 go on at the step of those without one. So d is
 * multiplied by 2^133 before, or would be: it would leave bfloat16's range. What is made is therefore 2^-SHIFT of the
 * number, for any d that a half can hold, and whoever has a sum of products multiplies it by 2^SHIFT, which is exact
 * (`whole`). */
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

__device__ inline uint32_t times(uint32_t u, uint32_t v) {
    uint32_t r;
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(u), "r"(v));
    return r;
}
__device__ inline uint32_t times_plus(uint32_t u, uint32_t d, uint32_t c) {
    uint32_t r;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(u), "r"(d), "r"(c));
    return r;
}
/* 2^e in both halves */
__device__ constexpr uint32_t power_of_two(int e) { return (uint32_t)(127 + e) << 7 | (uint32_t)(127 + e) << 23; }
/* Half h of w in both halves: written so, it costs nothing where it is multiplied */
__device__ inline uint32_t twice(uint32_t w, int h) {
    uint32_t r;
    if (h)
        asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\nmov.b32 %0, {high, high};\n}" : "=r"(r) : "r"(w));
    else
        asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\nmov.b32 %0, {low, low};\n}" : "=r"(r) : "r"(w));
    return r;
}

enum { FRAGMENT_SHIFT = 22 };

/* Where bit `from` of a word comes to lie at bit `to`, and so on in both halves */
__device__ inline uint32_t move_bits(uint32_t w, int from, int to) { return from > to ? w >> (from - to) : w << (to - from); }

template <int T> struct fragments;

template <> struct fragments<TK_H_BF16> {
    enum { K = 64, BYTES = TK_H_BF16_SLAB, SHIFT = 0 };
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

/* d and c of the numbers of a lane's two rows, N for 64 k of each; codes of the second row lie ODD bits higher. */
template <int N> struct scales {
    uint32_t d[2 * N], c[2 * N];
    static __device__ void read(uint32_t w[N], uint32_t at) {
        if (N == 4) {
            const uint4 v = shared_16(at);
            w[0] = v.x, w[1] = v.y, w[N > 2 ? 2 : 0] = v.z, w[N > 2 ? 3 : 0] = v.w;
        } else {
            const uint2 v = shared_8(at);
            w[0] = v.x, w[1] = v.y;
        }
    }
    /* exponent: of what a code of 1 is, to be undone */
    __device__ void load_d(const uint32_t w[N], int exponent, int odd) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint32_t v = times(w[i], power_of_two(-exponent - FRAGMENT_SHIFT - (i < N / 2 ? 0 : odd)));
            d[2 * i] = twice(v, 0), d[2 * i + 1] = twice(v, 1);
        }
    }
    /* c is w times 2^e, or minus that */
    __device__ void load_c(const uint32_t w[N], int e, bool minus) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            const uint32_t v = times(w[i], power_of_two(e - FRAGMENT_SHIFT) | (minus ? 0x80008000u : 0));
            c[2 * i] = twice(v, 0), c[2 * i + 1] = twice(v, 1);
        }
    }
    /* of register i of step s */
    static __device__ constexpr int of(int s, int i) { return i % 2 * N + s * N / 4; }
};

/* Codes of four bits and of TOP more */
template <int TOP> struct codes {
    uint32_t low[4], top[TOP ? TOP : 1];
    __device__ void load(uint32_t slab, int lane) {
        const uint4 v = shared_16(slab + lane * 16);
        low[0] = v.x, low[1] = v.y, low[2] = v.z, low[3] = v.w;
        if (TOP == 1) top[0] = shared_4(slab + 512 + lane * 4);
        if (TOP == 2) {
            const uint2 w = shared_8(slab + 512 + lane * 8);
            top[0] = w.x, top[TOP > 1] = w.y;
        }
    }
    enum { ODD = TOP ? 0 : 4 };
    __device__ uint32_t of(int s, int i) const {
        if (!TOP) return (i < 2 ? low[s] : low[s] >> 8) & (i % 2 ? 0x00f000f0u : 0x000f000fu);
        const uint32_t n = low[s] >> 4 * i & 0x000f000fu;
        return TOP == 1 ? n | (move_bits(top[0], 4 * s + i, 4) & 0x00100010u)
                        : n | (move_bits(top[s / 2 % (TOP ? TOP : 1)], s % 2 * 8 + 2 * i, 4) & 0x00300030u);
    }
};

/* TOP: bits beside the low four. N: scales for 64 k. Numbers d (code - 2^ZERO), or (ZERO 0) d code + m */
template <int TOP, int N, int ZERO> struct coded {
    enum { SCALES = 512 + 128 * TOP, K = 64, BYTES = SCALES + 32 * N * (ZERO ? 1 : 2), SHIFT = FRAGMENT_SHIFT };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        const uint32_t at = slab + SCALES + lane / 4 * (4 * N);
        codes<TOP> q;
        scales<N> f;
        uint32_t w[N], m[N];
        q.load(slab, lane);
        f.read(w, at);
        if (!ZERO) f.read(m, at + 32 * N);
        f.load_d(w, -133, q.ODD), f.load_c(ZERO ? w : m, ZERO, ZERO);
        TK_FOR_REGISTERS(times_plus(q.of(s, i), f.d[f.of(s, i)], f.c[f.of(s, i)]))
    }
};
template <> struct fragments<TK_H_Q4_0> : coded<0, 2, 3> {};
template <> struct fragments<TK_H_Q4_1> : coded<0, 2, 0> {};
template <> struct fragments<TK_H_Q5_1> : coded<1, 2, 0> {};
template <> struct fragments<TK_H_Q6_K> : coded<2, 4, 5> {};

/* Eight bits: of register i of step s in the low (i % 2 == 0) or high bytes of both halves */
struct bytes_64 {
    uint32_t q[8];
    __device__ void load(uint32_t slab, int lane) {
        const uint4 v[2] = { shared_16(slab + lane * 16), shared_16(slab + 512 + lane * 16) };
        q[0] = v[0].x, q[1] = v[0].y, q[2] = v[0].z, q[3] = v[0].w;
        q[4] = v[1].x, q[5] = v[1].y, q[6] = v[1].z, q[7] = v[1].w;
    }
    __device__ uint32_t of(int s, int i) const { return q[2 * s + i / 2]; }
};
template <> struct fragments<TK_H_Q8_0> {
    enum { K = 64, BYTES = 1088, SHIFT = FRAGMENT_SHIFT };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        bytes_64 q;
        scales<2> f;
        uint32_t w[2];
        q.load(slab, lane), f.read(w, slab + 1024 + lane / 4 * 8);
        f.load_d(w, -133, 0), f.load_c(w, 7, true);
        TK_FOR_REGISTERS(times_plus(i % 2 ? __byte_perm(q.of(s, i), 0, 0x4341) : q.of(s, i) & 0x00ff00ffu,
                                    f.d[f.of(s, i)], f.c[f.of(s, i)]))
    }
};

/* An e4m3 number is a bfloat16 but for 2^120: without exponent, too. */
template <> struct fragments<TK_H_F8> {
    enum { K = 64, BYTES = 1088, SHIFT = FRAGMENT_SHIFT };
    static __device__ void load(uint32_t a[16], uint32_t slab, int, int lane) {
        bytes_64 q;
        scales<2> f;
        uint32_t w[2];
        q.load(slab, lane), f.read(w, slab + 1024 + lane / 4 * 8);
        f.load_d(w, -120, 0);
#pragma unroll
        for (int r = 0; r < 16; r++) {
            const uint32_t u = q.of(r / 4, r % 4), sign = r % 2 ? u : u << 8, rest = r % 2 ? u >> 4 : u << 4;
            a[r] = times((rest & 0x07f007f0u) | (sign & 0x80008000u), f.d[f.of(r / 4, r % 4)]);
        }
    }
};
#undef TK_FOR_REGISTERS

/* Sums of products as they are meant */
template <int T> __device__ inline float whole(float sum) {
    return fragments<T>::SHIFT ? sum * (float)(1 << fragments<T>::SHIFT) : sum;
}

} // namespace tk
#endif
