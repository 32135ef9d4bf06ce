/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise ops. act: silu a s(a); GELU by tanh (Hendrycks and Gimpel 2016) a (1 + t) / 2 with
 * t = tanh(sqrt(2/pi) (a + 0.044715 a^3)); GELU by erf a Phi(a), quick a s(1.702 a); ReLU and its square.
 * glu (Shazeer 2020): act(a) b, with a limit on both if there is one (gpt-oss). scale: y = f x; softcap:
 * y = f tanh(x / f), so dx = dy (1 - (y / f)^2). add: z = x + y. accum adds into its second operand, zero
 * clears one; both write their storage in place. */
#ifndef real
#define REF_SOURCE "ops/act.c"
#include "ops/ref.h"
#else

#define SQRT_2_PI (real)0.79788456080286535588
#define SQRT_HALF (real)0.70710678118654752440
#define INV_SQRT_2PI (real)0.39894228040143267794
#define CUBIC (real)0.044715
#define QUICK (real)1.702

/* 1 / (1 + e^-a) without overflow of the exponential */
static real ref(sigmoid)(real a) {
    const real e = exp(-fabs(a));
    return a >= 0 ? 1 / (1 + e) : e / (1 + e);
}

static real ref(activate)(int which, real a) {
    switch (which) {
    case TK_ACT_SILU: return a * ref(sigmoid)(a);
    case TK_ACT_GELU_TANH: return a / 2 * (1 + tanh(SQRT_2_PI * (a + CUBIC * a * a * a)));
    case TK_ACT_GELU_ERF: return a / 2 * (1 + erf(a * SQRT_HALF));
    case TK_ACT_GELU_QUICK: return a * ref(sigmoid)(QUICK * a);
    case TK_ACT_RELU2: return a < 0 ? 0 : a * a;
    default: return a < 0 ? 0 : a; /* NaN stays */
    }
}

static real ref(slope)(int which, real a) {
    const real s = ref(sigmoid)(a), q = ref(sigmoid)(QUICK * a);
    const real t = tanh(SQRT_2_PI * (a + CUBIC * a * a * a));
    switch (which) {
    case TK_ACT_SILU: return s * (1 + a * (1 - s));
    case TK_ACT_GELU_TANH: return (1 + t) / 2 + a / 2 * (1 - t * t) * SQRT_2_PI * (1 + 3 * CUBIC * a * a);
    case TK_ACT_GELU_ERF: return (1 + erf(a * SQRT_HALF)) / 2 + a * INV_SQRT_2PI * exp(-a * a / 2);
    case TK_ACT_GELU_QUICK: return q * (1 + QUICK * a * (1 - q));
    case TK_ACT_RELU2: return a < 0 ? 0 : 2 * a;
    default: return a < 0 ? 0 : a > 0 ? 1 : a; /* 0 at 0; NaN stays */
    }
}

void ref(act)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[1];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) y[i] = ref(activate)(a->attr.i[0], x[i]);
}

/* dy a -> da */
void ref(act_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1];
    real *dx = a->p[2];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) dx[i] = dy[i] * ref(slope)(a->attr.i[0], x[i]);
}

/* What glu multiplies: both factors within the limit, and whether each of them moves with its input */
struct ref(pair) {
    real a, b;
    bool a_moves, b_moves;
};
static struct ref(pair) ref(limited)(const tk_attr *attr, real a, real b) {
    const real limit = (real)attr->f[0];
    struct ref(pair) p = { a, b, true, true };
    if (limit <= 0) return p;
    if (a > limit) p.a = limit, p.a_moves = false;
    if (fabs(b) > limit) p.b = b > 0 ? limit : -limit, p.b_moves = false;
    p.b += (real)attr->f[1];
    return p;
}

void ref(glu)(const tk_args *a) {
    const real *gate = a->p[0], *up = a->p[1];
    real *y = a->p[2];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) {
        const struct ref(pair) p = ref(limited)(&a->attr, gate[i], up[i]);
        y[i] = ref(activate)(a->attr.i[0], p.a) * p.b;
    }
}

/* dy a b -> da db */
void ref(glu_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *gate = a->p[1], *up = a->p[2];
    real *dgate = a->p[3], *dup = a->p[4];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) {
        const struct ref(pair) p = ref(limited)(&a->attr, gate[i], up[i]);
        if (dgate) dgate[i] = p.a_moves ? dy[i] * p.b * ref(slope)(a->attr.i[0], p.a) : 0;
        if (dup) dup[i] = p.b_moves ? dy[i] * ref(activate)(a->attr.i[0], p.a) : 0;
    }
}

void ref(scale)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[1];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) y[i] = (real)a->attr.f[0] * x[i];
}

/* dy -> dx */
void ref(scale_adj1)(const tk_args *a) { ref(scale)(a); }

void ref(softcap)(const tk_args *a) {
    const real *x = a->p[0], cap = (real)a->attr.f[0];
    real *y = a->p[1];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) y[i] = cap * tanh(x[i] / cap);
}

/* dy y -> dx */
void ref(softcap_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *y = a->p[1], cap = (real)a->attr.f[0];
    real *dx = a->p[2];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) dx[i] = dy[i] * (1 - y[i] / cap * (y[i] / cap));
}

void ref(add)(const tk_args *a) {
    const real *x = a->p[0], *y = a->p[1];
    real *z = a->p[2];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) z[i] = x[i] + y[i];
}

/* x a -> a2 */
void ref(accum)(const tk_args *a) {
    const real *x = a->p[0], *old = a->p[1];
    real *sum = a->p[2];
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) sum[i] = old[i] + x[i];
}

/* a -> a2 */
void ref(zero)(const tk_args *a) { memset(a->p[1], 0, (size_t)TK_DIM(a, 'n') * sizeof(real)); }

#undef SQRT_2_PI
#undef SQRT_HALF
#undef INV_SQRT_2PI
#undef CUBIC
#undef QUICK
#endif
