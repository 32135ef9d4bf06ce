/* SPDX-License-Identifier: Apache-2.0 */
/* norm, lnorm, softmax and windows with them: a group of threads holds a row in registers, so it is read once. Rows that
 * are too long for that go to norm_sm90.cu; where that does not serve, or where numbers do not come in runs of 16 bytes,
 * they are read anew for each of their sums. */
#include "cuda/norm_sm90.h"

namespace tk {

/* v joined over the TPR threads of a row, known to all of them; all threads of the block come here */
template <int TPR, class JOIN> __device__ inline float group_join(float v, float *room, JOIN) {
#pragma unroll
    for (int i = TK_MIN(TPR, 32) / 2; i; i >>= 1) v = JOIN::join(v, __shfl_xor_sync(~0u, v, i));
    if (TPR <= 32) return v;
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    const int first = threadIdx.x / TPR * (TPR / 32);
    v = room[first];
#pragma unroll
    for (int i = 1; i < TPR / 32; i++) v = JOIN::join(v, room[first + i]);
    return v;
}

/* PER runs a thread, TPR threads a row, GROUPS rows a block */
template <int IN, int OUT, int KIND, bool ADD, int PER, int TPR, int GROUPS>
__global__ void __launch_bounds__(TPR *GROUPS) held_rows(const row_job j) {
    enum { N = run_of(IN), EARLY = KIND == ROW_NORM && PER * N <= 32 };
    __shared__ float room[TPR * GROUPS / 32 + 1];
    const int lane = threadIdx.x % TPR, runs = (int)(j.width / N);
    const int64_t mine = (int64_t)blockIdx.x * GROUPS + threadIdx.x / TPR, row = mine < j.rows ? mine : j.rows - 1;
    run<IN, N> v[PER];
    float w[EARLY ? PER : 1][N], b[N] = {};
    pdl_go();
    if (EARLY)
#pragma unroll
        for (int p = 0; p < PER; p++)
            if (p * TPR + lane < runs) load_floats(w[EARLY ? p : 0], j.w, p * TPR + lane);
    pdl_wait();
#pragma unroll
    for (int p = 0; p < PER; p++)
        if (p * TPR + lane < runs)
            v[p].load(j.x, row * runs + p * TPR + lane);
        else
            v[p].clear();
    if (ADD) {
        run<IN, N> other[PER]; /* all on their way before the first sum */
#pragma unroll
        for (int p = 0; p < PER; p++)
            if (p * TPR + lane < runs) other[p].load(j.x2, row * runs + p * TPR + lane);
#pragma unroll
        for (int p = 0; p < PER; p++) {
            float sum[N];
            if (p * TPR + lane >= runs) break;
#pragma unroll
            for (int i = 0; i < N; i++) sum[i] = v[p].get(i) + other[p].get(i);
            v[p].set(sum);
            if (mine < j.rows) v[p].store(j.z, row * runs + p * TPR + lane, j.streaming);
        }
    }
    row_math<KIND> math;
    math.find(v, N, j, [&](int p) { return p * TPR + lane < runs; },
              [&](float s, auto join) { return group_join<TPR>(s, room, join); });
    if (mine >= j.rows) return;
    if (lane == 0 && j.m) j.m[row] = math.m;
    if (lane == 0 && j.r) j.r[row] = math.r;
#pragma unroll
    for (int p = 0; p < PER; p++) {
        const int at = p * TPR + lane;
        float o[N];
        if (at >= runs || !j.y) break;
        if (!EARLY && KIND != ROW_SOFTMAX) load_floats(w[0], j.w, at);
        if (KIND == ROW_LNORM) load_floats(b, j.b, at);
#pragma unroll
        for (int i = 0; i < N; i++) o[i] = math.of(v[p].get(i), w[EARLY ? p : 0][i], b[i]);
        run<OUT, N> out;
        out.set(o);
        out.store(j.y, row * runs + at, j.streaming);
    }
}

/* One number a step: any width, any address */
enum { LOOSE_THREADS = 256 };
template <int IN, int OUT, int KIND, bool ADD> __global__ void __launch_bounds__(LOOSE_THREADS) loose_rows(const row_job j) {
    __shared__ float room[LOOSE_THREADS / 32];
    const int64_t first = blockIdx.x * j.width;
    const auto whole = [&](float s, auto join) { return group_join<LOOSE_THREADS>(s, room, join); };
    const void *x = ADD ? j.z : j.x;
    pdl_go();
    pdl_wait();
    if (ADD) {
        for (int64_t k = threadIdx.x; k < j.width; k += LOOSE_THREADS)
            store_number<IN>(j.z, first + k, load_number<IN>(j.x, first + k) + load_number<IN>(j.x2, first + k));
        __syncthreads();
    }
    row_math<KIND> math = {};
    float s = KIND == ROW_SOFTMAX ? -INFINITY : 0;
    for (int64_t k = threadIdx.x; KIND != ROW_NORM && k < j.width; k += LOOSE_THREADS) {
        const float v = load_number<IN>(x, first + k);
        s = KIND == ROW_SOFTMAX ? largest_of::join(s, v) : s + v;
    }
    if (KIND == ROW_SOFTMAX) math.m = whole(s, largest_of()) * 1.44269504f;
    if (KIND == ROW_LNORM) math.m = whole(s, sum_of()) / (float)j.width;
    s = 0;
    for (int64_t k = threadIdx.x; k < j.width; k += LOOSE_THREADS) {
        const float v = load_number<IN>(x, first + k);
        s = KIND == ROW_SOFTMAX ? s + exp2_of(fmaf(v, 1.44269504f, -math.m)) : fmaf(v - math.m, v - math.m, s);
    }
    s = whole(s, sum_of());
    math.r = KIND == ROW_SOFTMAX ? 1 / s : 1 / sqrtf(s / (float)j.width + j.eps);
    if (threadIdx.x == 0 && j.m) j.m[blockIdx.x] = math.m;
    if (threadIdx.x == 0 && j.r) j.r[blockIdx.x] = math.r;
    for (int64_t k = threadIdx.x; j.y && k < j.width; k += LOOSE_THREADS)
        store_number<OUT>(j.y, first + k, math.of(load_number<IN>(x, first + k), KIND == ROW_SOFTMAX ? 0 : j.w[k],
                                                  KIND == ROW_LNORM ? j.b[k] : 0));
}

static bool is_aligned(const row_job &j) {
    return !(((uintptr_t)j.x | (uintptr_t)j.x2 | (uintptr_t)j.w | (uintptr_t)j.b | (uintptr_t)j.y | (uintptr_t)j.z) & 15);
}

template <int IN, int OUT, int KIND, bool ADD> static void run_rows(const tk_args *a, row_job j) {
    const int64_t runs = j.width / run_of(IN);
    if (j.rows < 1) return;
    j.streaming = j.rows * j.width * (OUT == TK_F32 ? 4 : 2) > (int64_t)32 << 20;
    const bool whole_runs = j.width % run_of(IN) == 0 && is_aligned(j);
    /* LayerNorm's two float32 vectors come from L2 for each row unless a block keeps them. */
    if (!ADD && whole_runs && runs > (KIND == ROW_LNORM ? 2048 : 4096) && ring_rows_sm90(a, j, (row_kind)KIND, IN, OUT)) return;
#define HELD(per, tpr, groups)                                                                               \
    launch(held_rows<IN, OUT, KIND, ADD, per, tpr, groups>, (unsigned)tk_ceil_div(j.rows, groups), (tpr) * (groups), 0, a, j)
    if (!whole_runs)
        launch(loose_rows<IN, OUT, KIND, ADD>, (unsigned)j.rows, LOOSE_THREADS, 0, a, j);
    else if (runs <= 32)
        HELD(2, 16, 8);
    else if (runs <= 64)
        HELD(4, 16, 4);
    else if (runs <= 128)
        HELD(4, 32, 2);
    else if (runs <= 256)
        HELD(4, 64, 1);
    else if (runs <= 512)
        HELD(4, 128, 1);
    else if (runs <= 1024)
        HELD(4, 256, 1);
    else if (runs <= 2048)
        HELD(8, 256, 1);
    else if (runs <= 4096)
        HELD(8, 512, 1);
    else
        launch(loose_rows<IN, OUT, KIND, ADD>, (unsigned)j.rows, LOOSE_THREADS, 0, a, j);
#undef HELD
}

/* By the numbers that go in and come out: the rows of the table are these three. */
template <int KIND, bool ADD> static void run_types(const tk_args *a, const row_job &j, int in, int out) {
    if (in == TK_BF16)
        run_rows<TK_BF16, TK_BF16, KIND, ADD>(a, j);
    else if (out == TK_BF16)
        run_rows<TK_F32, TK_BF16, KIND, ADD>(a, j);
    else
        run_rows<TK_F32, TK_F32, KIND, ADD>(a, j);
}

} // namespace tk

#define FLOATS(i) ((const float *)a->p[i])
#define STATS(i) ((float *)a->p[i])

extern "C" void norm_cuda(const tk_args *a) {
    tk::row_job j = {};
    j.x = a->p[0], j.w = FLOATS(1), j.y = a->p[2], j.r = STATS(3);
    j.rows = TK_DIM(a, 'h'), j.width = TK_DIM(a, 'k'), j.eps = a->attr.f[0];
    tk::run_types<tk::ROW_NORM, false>(a, j, a->type[0], a->type[2]);
}
extern "C" void norm_quant_cuda(const tk_args *a) {
    tk::row_job j = {};
    j.x = a->p[0], j.w = FLOATS(1), j.y = a->p[2];
    j.rows = TK_DIM(a, 't'), j.width = TK_DIM(a, 'k'), j.eps = a->attr.f[0];
    tk::run_types<tk::ROW_NORM, false>(a, j, a->type[0], a->type[2]);
}
extern "C" void add_norm_cuda(const tk_args *a) {
    tk::row_job j = {};
    j.x = a->p[0], j.x2 = a->p[1], j.w = FLOATS(2), j.z = a->p[3], j.y = a->p[4];
    j.rows = TK_DIM(a, 't'), j.width = TK_DIM(a, 'k'), j.eps = a->attr.f[0];
    tk::run_types<tk::ROW_NORM, true>(a, j, a->type[0], a->type[4]);
}
extern "C" void lnorm_cuda(const tk_args *a) {
    tk::row_job j = {};
    j.x = a->p[0], j.w = FLOATS(1), j.b = FLOATS(2), j.y = a->p[3], j.m = STATS(4), j.r = STATS(5);
    j.rows = TK_DIM(a, 'h'), j.width = TK_DIM(a, 'k'), j.eps = a->attr.f[0];
    tk::run_types<tk::ROW_LNORM, false>(a, j, a->type[0], a->type[3]);
}
extern "C" void softmax_cuda(const tk_args *a) {
    tk::row_job j = {};
    j.x = a->p[0], j.y = a->p[1], j.rows = TK_DIM(a, 't'), j.width = TK_DIM(a, 'k');
    tk::run_types<tk::ROW_SOFTMAX, false>(a, j, a->type[0], a->type[1]);
}
