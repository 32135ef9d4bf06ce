/* SPDX-License-Identifier: Apache-2.0 */
/* Activations, the same bits wherever they stand: in rows of their own and at the ends of products. Three of
 * them are a sigmoid(a (p + q a^2)), which takes two operations of the special function unit; its error of a
 * few units in the last place of float32 is far below the rounding of what products give and take. */
#ifndef TK_ACT_CUH
#define TK_ACT_CUH
#include "cuda/kernel.cuh"

namespace tk {

/* Where the exponential overflows, the reciprocal is the right zero. */
__device__ inline float sigmoid(float a) {
    float e, r;
    asm("ex2.approx.f32 %0, %1;" : "=f"(e) : "f"(-1.4426950408889634f * a));
    asm("rcp.approx.f32 %0, %1;" : "=f"(r) : "f"(1 + e));
    return r;
}

/* a times the normal integral at a: half of e^(-a^2 / 2) times a polynomial in t = 1 / (1 + 0.35 |a|), through Chebyshev
 * points with 40 digits, is the tail beyond |a|; its relative error is 4e-8, 1.3e-6 at |a| = 5 by rounding the exponent. Two
 * operations of the special function unit, where erff takes the arithmetic of the whole kernel twice, and errs more. */
__device__ inline float gelu_erf(float a) {
    const float u = fminf(fabsf(a), 20.0f); /* beyond, the tail is 0 */
    float t, e;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(fmaf(u, 0.35f, 1.0f)));
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(a * -0.72134752044448170f * a)); /* NaN stays */
    float q = -0.029609795491101154f;
    q = fmaf(q, t, 0.14622420650001317f), q = fmaf(q, t, -0.26033790535540857f), q = fmaf(q, t, 0.16439173547481228f);
    q = fmaf(q, t, -0.026633097922763187f), q = fmaf(q, t, 0.10695824035962094f), q = fmaf(q, t, 0.1194794326868689f);
    q = fmaf(q, t, 0.13990826499781348f), q = fmaf(q, t, 0.13961890197156052f);
    return a > 0 ? fmaf(-u, q * t * e, a) : a * (q * t * e);
}

enum act_kind { ACT_SILU, ACT_SIGMOID, ACT_ERF, ACT_RELU }; /* SILU: SIGMOID with p = 1, q = 0 */

/* An activation prepared: kernels branch over `kind` once, outside of their loops. */
struct activation {
    int kind;
    float p, q;
    bool square;
    template <int KIND> __device__ float of(float a) const {
        if (KIND == ACT_SILU) return a * sigmoid(a);
        if (KIND == ACT_SIGMOID) return a * sigmoid(a * (p + q * fminf(a * a, 1e30f)));
        if (KIND == ACT_ERF) return gelu_erf(a);
        return a < 0 ? 0 : square ? a * a : a; /* NaN stays */
    }
    __device__ float operator()(float a) const {
        return kind == ACT_SILU      ? of<ACT_SILU>(a)
               : kind == ACT_SIGMOID ? of<ACT_SIGMOID>(a)
               : kind == ACT_ERF     ? of<ACT_ERF>(a)
                                     : of<ACT_RELU>(a);
    }
};

__host__ __device__ inline activation activation_of(int act) {
    const float twice = 1.5957691216057308f; /* 2 sqrt(2 / pi): (1 + tanh z) / 2 is sigmoid(2 z) */
    switch (act) {
    case TK_ACT_SILU: return { ACT_SILU, 1, 0, false };
    case TK_ACT_GELU_TANH: return { ACT_SIGMOID, twice, twice * 0.044715f, false };
    case TK_ACT_GELU_QUICK: return { ACT_SIGMOID, 1.702f, 0, false };
    case TK_ACT_GELU_ERF: return { ACT_ERF, 0, 0, false };
    case TK_ACT_RELU2: return { ACT_RELU, 0, 0, true };
    default: return { ACT_RELU, 0, 0, false };
    }
}

/* What glu does with a pair (attributes of ops.def); limit: 0 or less is none. KIND as in activation::of */
struct gating {
    activation act;
    float limit, offset;
    template <int KIND, bool LIMITED> __device__ float of(float gate, float up) const {
        if (LIMITED) {
            gate = gate > limit ? limit : gate; /* NaN stays */
            up = up > limit ? limit : up;
            up = (up < -limit ? -limit : up) + offset;
        }
        return act.of<KIND>(gate) * up;
    }
    template <int KIND> __device__ float of(float gate, float up) const {
        return limit > 0 ? of<KIND, true>(gate, up) : of<KIND, false>(gate, up);
    }
    __device__ float operator()(float gate, float up) const {
        return act.kind == ACT_SILU      ? of<ACT_SILU>(gate, up)
               : act.kind == ACT_SIGMOID ? of<ACT_SIGMOID>(gate, up)
               : act.kind == ACT_ERF     ? of<ACT_ERF>(gate, up)
                                         : of<ACT_RELU>(gate, up);
    }
};
inline gating gating_of(const tk_attr *attr) { return { activation_of(attr->i[0]), attr->f[0], attr->f[1] }; }

} // namespace tk
#endif
