/* SPDX-License-Identifier: Apache-2.0 */
/* The elementwise ops, and bias, whose second operand is a row: two accesses of 16 bytes in flight a thread and operand. A
 * number's bits do not depend on where in its operand it lies. */
#include "cuda/act.cuh"
#include "cuda/row.cuh"

namespace tk {

enum { ELEM_THREADS = 256, AHEAD = 2 /* runs of a thread */, ROWS_AHEAD = 4 /* rows of a thread, of bias */ };

/* y = f(a[, b]) of n numbers; aligned: operands lie at multiples of 16 bytes. What no run holds goes by single numbers. */
template <int IN, int OUT, bool TWO, class F>
__global__ void __launch_bounds__(ELEM_THREADS) elem_runs(void *y, const void *a, const void *b, int64_t n, bool aligned, F f) {
    enum { N = run_of(IN) };
    const int64_t runs = aligned ? n / N : 0, first = (int64_t)blockIdx.x * (AHEAD * ELEM_THREADS) + threadIdx.x;
    const bool streaming = n > (int64_t)8 << 20;
    run<IN, N> u[AHEAD], v[TWO ? AHEAD : 1];
    pdl_go();
    pdl_wait();
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        const int64_t at = first + i * ELEM_THREADS;
        if (at < runs) u[i].load(a, at);
        if (TWO && at < runs) v[TWO ? i : 0].load(b, at);
    }
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        const int64_t at = first + i * ELEM_THREADS;
        float o[N];
        if (at >= runs) break;
#pragma unroll
        for (int k = 0; k < N; k++) o[k] = f(u[i].get(k), TWO ? v[TWO ? i : 0].get(k) : 0);
        run<OUT, N> out;
        out.set(o);
        out.store(y, at, streaming);
    }
    for (int64_t at = runs * N + (int64_t)blockIdx.x * ELEM_THREADS + threadIdx.x; at < n; at += (int64_t)gridDim.x * ELEM_THREADS)
        store_number<OUT>(y, at, f(load_number<IN>(a, at), TWO ? load_number<IN>(b, at) : 0));
}

template <int IN, int OUT, bool TWO, class F>
static void run_elem(const tk_args *a, void *y, const void *p, const void *q, int64_t n, F f) {
    const bool aligned = !(((uintptr_t)y | (uintptr_t)p | (uintptr_t)q) & 15);
    const int64_t blocks = tk_ceil_div(n, AHEAD * ELEM_THREADS * run_of(IN));
    if (n > 0) launch(elem_runs<IN, OUT, TWO, F>, (unsigned)blocks, ELEM_THREADS, 0, a, y, p, q, n, aligned, f);
}

/* Numbers that go in and come out, of the rows of the table */
template <bool TWO, class F>
static void run_types(const tk_args *a, void *y, const void *p, const void *q, int64_t n, int in, int out, F f) {
    if (in == TK_BF16)
        run_elem<TK_BF16, TK_BF16, TWO>(a, y, p, q, n, f);
    else if (out == TK_BF16)
        run_elem<TK_F32, TK_BF16, TWO>(a, y, p, q, n, f);
    else
        run_elem<TK_F32, TK_F32, TWO>(a, y, p, q, n, f);
}

struct add_of {
    __device__ float operator()(float x, float y) const { return x + y; }
};
struct scale_of {
    float factor;
    __device__ float operator()(float x, float) const { return factor * x; }
};
struct softcap_of {
    float cap;
    __device__ float operator()(float x, float) const { return cap * tanhf(x / cap); }
};
template <int KIND> struct act_of {
    activation act;
    __device__ float operator()(float x, float) const { return act.of<KIND>(x); }
};
template <int KIND, bool LIMITED> struct gate_of {
    gating g;
    __device__ float operator()(float x, float y) const { return g.of<KIND, LIMITED>(x, y); }
};
struct nothing {
    __device__ float operator()(float x, float) const { return x; }
};

/* call(KIND) for the kind of an activation */
#define TK_BY_KIND(kind, call)                                                                               \
    switch (kind) {                                                                                          \
    case ACT_SILU: call(ACT_SILU); break;                                                                    \
    case ACT_SIGMOID: call(ACT_SIGMOID); break;                                                              \
    case ACT_ERF: call(ACT_ERF); break;                                                                      \
    default: call(ACT_RELU);                                                                                 \
    }

static void run_glu(const tk_args *a, int64_t n) {
    const gating g = gating_of(&a->attr);
#define GATE(KIND)                                                                                           \
    if (g.limit > 0)                                                                                         \
        run_types<true>(a, a->p[2], a->p[0], a->p[1], n, a->type[0], a->type[2], gate_of<KIND, true>{ g });   \
    else                                                                                                     \
        run_types<true>(a, a->p[2], a->p[0], a->p[1], n, a->type[0], a->type[2], gate_of<KIND, false>{ g })
    TK_BY_KIND(g.act.kind, GATE)
#undef GATE
}

/* ---- bias ---- */

/* What a number is once it has been stored as T, F32 or BF16 */
template <int T> __device__ inline float as_stored(float f) { return T == TK_BF16 ? from_bf16(to_bf16(f)) : f; }

/* y = f(x + b), the sum rounded as bias alone would store it; rows of `width`: a thread has one run of b for several rows */
template <int IN, class F>
__global__ void __launch_bounds__(ELEM_THREADS) bias_runs(void *y, const void *x, const float *b, int64_t rows, int64_t width, F f) {
    enum { N = run_of(IN) };
    const int64_t runs = width / N, at = (int64_t)blockIdx.x * ELEM_THREADS + threadIdx.x, step = (int64_t)gridDim.y * ROWS_AHEAD;
    const bool streaming = rows * width > (int64_t)8 << 20;
    float bias[N];
    pdl_go();
    if (at < runs) load_floats(bias, b, at);
    pdl_wait();
    for (int64_t row = (int64_t)blockIdx.y * ROWS_AHEAD; row < rows && at < runs; row += step) {
        run<IN, N> v[ROWS_AHEAD];
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; i++)
            if (row + i < rows) v[i].load(x, (row + i) * runs + at);
#pragma unroll
        for (int i = 0; i < ROWS_AHEAD; i++) {
            float o[N];
            if (row + i >= rows) break;
#pragma unroll
            for (int k = 0; k < N; k++) o[k] = f(as_stored<IN>(v[i].get(k) + bias[k]), 0);
            run<IN, N> out;
            out.set(o);
            out.store(y, (row + i) * runs + at, streaming);
        }
    }
}
template <int IN, class F> __global__ void bias_loose(void *y, const void *x, const float *b, int64_t n, int64_t width, F f) {
    pdl_go();
    pdl_wait();
    TK_GRID_LOOP(i, n) store_number<IN>(y, i, f(as_stored<IN>(load_number<IN>(x, i) + b[i % width]), 0));
}

template <int IN, class F> static void run_bias_of(const tk_args *a, F f) {
    const int64_t rows = TK_DIM(a, 't'), width = TK_DIM(a, 'n');
    const float *b = (const float *)a->p[1];
    if (rows * width < 1) return;
    if (width % run_of(IN) || (((uintptr_t)a->p[0] | (uintptr_t)a->p[1] | (uintptr_t)a->p[2]) & 15)) {
        launch(bias_loose<IN, F>, blocks_for(rows * width, ELEM_THREADS), ELEM_THREADS, 0, a, a->p[2], a->p[0], b, rows * width,
               width, f);
        return;
    }
    const dim3 grid((unsigned)tk_ceil_div(width / run_of(IN), ELEM_THREADS),
                    (unsigned)TK_MIN(tk_ceil_div(rows, ROWS_AHEAD), (int64_t)32768));
    launch(bias_runs<IN, F>, grid, ELEM_THREADS, 0, a, a->p[2], a->p[0], b, rows, width, f);
}
template <class F> static void run_bias(const tk_args *a, F f) {
    a->type[0] == TK_BF16 ? run_bias_of<TK_BF16>(a, f) : run_bias_of<TK_F32>(a, f);
}

/* ---- cast ---- */

template <int FROM, int TO> __global__ void __launch_bounds__(ELEM_THREADS) cast_all(void *y, const void *x, int64_t n) {
    pdl_go();
    pdl_wait();
    TK_GRID_LOOP(i, n) store_number<TO>(y, i, load_number<FROM>(x, i));
}
template <int FROM> static void run_cast(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    const unsigned blocks = blocks_for(n, ELEM_THREADS);
    switch (a->type[1]) {
    case TK_F16: launch(cast_all<FROM, TK_F16>, blocks, ELEM_THREADS, 0, a, a->p[1], a->p[0], n); break;
    case TK_BF16: launch(cast_all<FROM, TK_BF16>, blocks, ELEM_THREADS, 0, a, a->p[1], a->p[0], n); break;
    default: launch(cast_all<FROM, TK_F32>, blocks, ELEM_THREADS, 0, a, a->p[1], a->p[0], n);
    }
}

} // namespace tk

extern "C" void add_cuda(const tk_args *a) {
    tk::run_types<true>(a, a->p[2], a->p[0], a->p[1], TK_DIM(a, 'n'), a->type[0], a->type[2], tk::add_of{});
}
extern "C" void bias_cuda(const tk_args *a) { tk::run_bias(a, tk::nothing{}); }
extern "C" void bias_act_cuda(const tk_args *a) {
    const tk::activation act = tk::activation_of(a->attr.i[0]);
#define ACT(KIND) tk::run_bias(a, tk::act_of<tk::KIND>{ act })
    using namespace tk;
    TK_BY_KIND(act.kind, ACT)
#undef ACT
}
extern "C" void glu_cuda(const tk_args *a) { tk::run_glu(a, TK_DIM(a, 'n')); }
extern "C" void glu_quant_cuda(const tk_args *a) { tk::run_glu(a, TK_DIM(a, 't') * TK_DIM(a, 'k')); }
extern "C" void scale_cuda(const tk_args *a) {
    tk::run_types<false>(a, a->p[1], a->p[0], NULL, TK_DIM(a, 'n'), a->type[0], a->type[1], tk::scale_of{ a->attr.f[0] });
}
extern "C" void softcap_cuda(const tk_args *a) {
    tk::run_types<false>(a, a->p[1], a->p[0], NULL, TK_DIM(a, 'n'), a->type[0], a->type[1], tk::softcap_of{ a->attr.f[0] });
}
extern "C" void act_cuda(const tk_args *a) {
    const tk::activation act = tk::activation_of(a->attr.i[0]);
#define ACT(KIND)                                                                                            \
    tk::run_types<false>(a, a->p[1], a->p[0], NULL, TK_DIM(a, 'n'), a->type[0], a->type[1], tk::act_of<tk::KIND>{ act })
    using namespace tk;
    TK_BY_KIND(act.kind, ACT)
#undef ACT
}
extern "C" void cast_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    switch (a->type[0]) {
    case TK_F16: tk::run_cast<TK_F16>(a); break;
    case TK_BF16: tk::run_cast<TK_BF16>(a); break;
    default:
        if (a->type[1] == TK_F16)
            tk::run_elem<TK_F32, TK_F16, false>(a, a->p[1], a->p[0], NULL, n, tk::nothing{});
        else
            tk::run_elem<TK_F32, TK_BF16, false>(a, a->p[1], a->p[0], NULL, n, tk::nothing{});
    }
}
extern "C" void quant_bf16_cuda(const tk_args *a) {
    tk::run_elem<TK_F32, TK_BF16, false>(a, a->p[1], a->p[0], NULL, TK_DIM(a, 't') * TK_DIM(a, 'k'), tk::nothing{});
}
