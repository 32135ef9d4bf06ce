/* SPDX-License-Identifier: Apache-2.0 */
/* Element by element: bias, add, scale, softcap, glu, act, cast, and pick (rows). Lanes never meet, so any
 * split over threads gives the same bits. Outputs may be one of the inputs, or lie apart. Included by the
 * tier files. */

/* Elements a thread takes at least: below 16 KiB a second thread costs more than it brings */
#define ELEM_GRAIN 4096

#define ELEMENTWISE(n, body)                                                                                 \
    do {                                                                                                     \
        int64_t i_, to_;                                                                                     \
        tk_split((n), ELEM_GRAIN, a->ith, a->nth, &i_, &to_);                                                \
        for (; i_ + VW <= to_; i_ += VW) body(i_, v_load, v_store_full);                                     \
        if (i_ < to_) body(i_, v_load_tail, v_store_tail);                                                   \
    } while (0)
#define v_store_full(p, v) v_store((p), (v))
#define v_load_tail(p) v_load_n((p), to_ - i_)
#define v_store_tail(p, v) v_store_n((p), (v), to_ - i_)

/* z = x + y */
void KERNEL_NAME(add)(const tk_args *a) {
    const float *x = a->p[0], *y = a->p[1];
    float *z = a->p[2];
#define BODY(i, load, store) store(z + i, load(x + i) + load(y + i))
    ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
}

/* y = f x */
void KERNEL_NAME(scale)(const tk_args *a) {
    const float *x = a->p[0];
    float *y = a->p[1];
    const vf f = v_set1(a->attr.f[0]);
#define BODY(i, load, store) store(y + i, load(x + i) * f)
    ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
}

/* y = f tanh(x / f) */
void KERNEL_NAME(softcap)(const tk_args *a) {
    const float *x = a->p[0];
    float *y = a->p[1];
    const vf f = v_set1(a->attr.f[0]);
#define BODY(i, load, store) store(y + i, v_tanh(load(x + i) / f) * f)
    ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
}

/* y = x + b for each of t rows */
void KERNEL_NAME(bias)(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), n = TK_DIM(a, 'n');
    const float *b = a->p[1];
    int64_t row, to;
    tk_split(t, TK_MAX(1, ELEM_GRAIN / TK_MAX(n, 1)), a->ith, a->nth, &row, &to);
    for (; row < to; row++) {
        const float *x = (const float *)a->p[0] + row * n;
        float *y = (float *)a->p[2] + row * n;
        int64_t i = 0;
        for (; i + VW <= n; i += VW) v_store(y + i, v_load(x + i) + v_load(b + i));
        if (i < n) v_store_n(y + i, v_load_n(x + i, n - i) + v_load_n(b + i, n - i), n - i);
    }
}

V_INLINE vf silu(vf x) { return x / (v_set1(1) + v_exp(-x)); }
/* x/2 (1 + tanh u) is x / (1 + e^-2u), which is also exact where 1 + tanh u would cancel */
V_INLINE vf gelu_tanh(vf x) {
    vf u = v_fma(x * x, v_set1(0.044715f), v_set1(1)) * x;
    return x / (v_set1(1) + v_exp(u * v_set1(-1.595769122f)));
}
V_INLINE vf gelu_erf(vf x) { return x * v_phi(x); }

V_INLINE vf gelu_quick(vf x) { return x / (v_set1(1) + v_exp(x * v_set1(-1.702f))); }
V_INLINE vf relu(vf x) { return v_max((vf){ 0 }, x); }
V_INLINE vf relu2(vf x) { return relu(x) * relu(x); }

V_INLINE vf activate(vf x, const int which) {
    switch (which) {
    case TK_ACT_SILU: return silu(x);
    case TK_ACT_GELU_TANH: return gelu_tanh(x);
    case TK_ACT_GELU_ERF: return gelu_erf(x);
    case TK_ACT_GELU_QUICK: return gelu_quick(x);
    case TK_ACT_RELU2: return relu(x) * relu(x);
    default: return relu(x);
    }
}
/* fn(a, which), `which` being a constant to it, so that its loop holds one activation */
#define BY_ACT(fn, a)                                                                                        \
    switch ((a)->attr.i[0]) {                                                                                \
    case TK_ACT_SILU: fn(a, TK_ACT_SILU); break;                                                             \
    case TK_ACT_GELU_TANH: fn(a, TK_ACT_GELU_TANH); break;                                                   \
    case TK_ACT_GELU_ERF: fn(a, TK_ACT_GELU_ERF); break;                                                     \
    case TK_ACT_RELU: fn(a, TK_ACT_RELU); break;                                                             \
    case TK_ACT_GELU_QUICK: fn(a, TK_ACT_GELU_QUICK); break;                                                 \
    case TK_ACT_RELU2: fn(a, TK_ACT_RELU2); break;                                                           \
    }

V_INLINE void act_run(const tk_args *a, const int which) {
    const float *x = a->p[0];
    float *y = a->p[1];
#define BODY(i, load, store) store(y + i, activate(load(x + i), which))
    ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
}
void KERNEL_NAME(act)(const tk_args *a){ BY_ACT(act_run, a) }

V_INLINE void glu_run(const tk_args *a, const int which) {
    const float *g = a->p[0], *u = a->p[1], limit = a->attr.f[0];
    float *y = a->p[2];
    if (limit > 0) {
        const vf most = v_set1(limit), more = v_set1(a->attr.f[1]);
#define BODY(i, load, store)                                                                                 \
    store(y + i, activate(v_min(most, load(g + i)), which) * (v_max(-most, v_min(most, load(u + i))) + more))
        ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
        return;
    }
#define BODY(i, load, store) store(y + i, activate(load(g + i), which) * load(u + i))
    ELEMENTWISE(TK_DIM(a, 'n'), BODY);
#undef BODY
}
void KERNEL_NAME(glu)(const tk_args *a){ BY_ACT(glu_run, a) }

V_INLINE vf load_as(const void *p, int type, int64_t i) {
    if (type == TK_F16) return v_load_f16((const uint16_t *)p + i);
    if (type == TK_BF16) return v_load_bf16((const uint16_t *)p + i);
    return v_load((const float *)p + i);
}
/* The n < VW numbers from p[i] on; what lies behind them is not touched */
V_INLINE vf load_part(const void *p, int type, int64_t i, int64_t n) {
    uint16_t h[VW] = { 0 };
    if (type != TK_F16 && type != TK_BF16) return v_load_n((const float *)p + i, n);
    for (int64_t j = 0; j < n; j++) h[j] = ((const uint16_t *)p)[i + j];
    return type == TK_F16 ? v_load_f16(h) : v_load_bf16(h);
}
V_INLINE void store_as(void *p, int type, int64_t i, vf v) {
    if (type == TK_F16)
        v_store_f16((uint16_t *)p + i, v);
    else if (type == TK_BF16)
        v_store_bf16((uint16_t *)p + i, v);
    else
        v_store((float *)p + i, v);
}

/* Between F32, F16 and BF16, to nearest even. Both sizes in the loop are known after inlining. */
V_INLINE void cast_run(const void *x, int from, void *y, int to, int64_t i, int64_t end) {
    for (; i + VW <= end; i += VW) store_as(y, to, i, load_as(x, from, i));
    if (i < end) { /* the tail by way of a full vector, so that it rounds by the same instructions */
        float in[VW] = { 0 }, out[VW];
        size_t from_bytes = from == TK_F32 ? 4 : 2, to_bytes = to == TK_F32 ? 4 : 2, n = (size_t)(end - i);
        memcpy(in, (const char *)x + (size_t)i * from_bytes, n * from_bytes);
        store_as(out, to, 0, load_as(in, from, 0));
        memcpy((char *)y + (size_t)i * to_bytes, out, n * to_bytes);
    }
}
void KERNEL_NAME(cast)(const tk_args *a) {
    const void *x = a->p[0];
    void *y = a->p[1];
    int64_t i, end;
    tk_split(TK_DIM(a, 'n'), ELEM_GRAIN, a->ith, a->nth, &i, &end);
    switch (a->type[0] * TK_DTYPES + a->type[1]) {
#define PAIR(from, to)                                                                                       \
    case TK_##from *TK_DTYPES + TK_##to: cast_run(x, TK_##from, y, TK_##to, i, end); break;
        PAIR(F32, F16) PAIR(F32, BF16) PAIR(F16, F32) PAIR(BF16, F32) PAIR(F16, BF16) PAIR(BF16, F16)
#undef PAIR
    }
}

/* Rows u (int32) of x */
void KERNEL_NAME(pick)(const tk_args *a) {
    const int32_t *u = a->p[1];
    const size_t bytes = (size_t)TK_DIM(a, 'k') * sizeof(float);
    int64_t o, to;
    tk_split(TK_DIM(a, 'o'), TK_MAX(1, ELEM_GRAIN / TK_MAX(TK_DIM(a, 'k'), 1)), a->ith, a->nth, &o, &to);
    for (; o < to; o++)
        memcpy((char *)a->p[2] + (size_t)o * bytes, (const char *)a->p[0] + (size_t)u[o] * bytes, bytes);
}
