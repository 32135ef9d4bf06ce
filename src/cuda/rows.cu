/* SPDX-License-Identifier: Apache-2.0 */
/* norm, lnorm, pick, and the elementwise ops: one block a row, or one thread an element. A row's sums run in an
 * order that depends on its width alone. */
#include "cuda/act.cuh"

namespace tk {

enum { NORM_THREADS = 256 };

__global__ void norm_rows(float *y, float *rs, const float *x, const float *w, int64_t width, float eps) {
    __shared__ float room[NORM_THREADS / 32];
    const int64_t t = blockIdx.x;
    x += t * width;
    float squares = 0;
    for (int64_t k = threadIdx.x; k < width; k += NORM_THREADS) squares = fmaf(x[k], x[k], squares);
    const float r = 1 / sqrtf(block_sum<NORM_THREADS>(squares, room) / (float)width + eps);
    for (int64_t k = threadIdx.x; y && k < width; k += NORM_THREADS) y[t * width + k] = x[k] * r * w[k];
    if (rs && threadIdx.x == 0) rs[t] = r;
}

__global__ void lnorm_rows(float *y, float *ms, float *rs, const float *x, const float *w, const float *b,
                           int64_t width, float eps) {
    __shared__ float room[NORM_THREADS / 32];
    const int64_t t = blockIdx.x;
    x += t * width;
    float sum = 0, squares = 0;
    for (int64_t k = threadIdx.x; k < width; k += NORM_THREADS) sum += x[k];
    const float mean = block_sum<NORM_THREADS>(sum, room) / (float)width;
    for (int64_t k = threadIdx.x; k < width; k += NORM_THREADS) squares = fmaf(x[k] - mean, x[k] - mean, squares);
    const float r = 1 / sqrtf(block_sum<NORM_THREADS>(squares, room) / (float)width + eps);
    for (int64_t k = threadIdx.x; y && k < width; k += NORM_THREADS)
        y[t * width + k] = (x[k] - mean) * r * w[k] + b[k];
    if (ms && threadIdx.x == 0) ms[t] = mean;
    if (rs && threadIdx.x == 0) rs[t] = r;
}

__global__ void pick_rows(float *y, const float *x, const int32_t *row, int64_t width) {
    const int64_t from = row[blockIdx.x];
    for (int64_t k = threadIdx.x; k < width; k += blockDim.x) y[blockIdx.x * width + k] = x[from * width + k];
}

__global__ void permute_rows(float *y, const float *x, const int32_t *from, int64_t width) {
    const int64_t t = blockIdx.x;
    for (int64_t k = threadIdx.x; k < width; k += blockDim.x) y[t * width + k] = x[t * width + from[k]];
}

/* ---- elementwise ---- */

__global__ void add_all(float *z, const float *x, const float *y, int64_t n) {
    TK_GRID_LOOP(i, n) z[i] = x[i] + y[i];
}
__global__ void bias_all(float *y, const float *x, const float *b, int64_t n, int64_t width) {
    TK_GRID_LOOP(i, n) y[i] = x[i] + b[i % width];
}
__global__ void glu_all(float *y, const float *a, const float *b, int64_t n, gating gated) {
    TK_GRID_LOOP(i, n) y[i] = gated(a[i], b[i]);
}
__global__ void scale_all(float *y, const float *x, int64_t n, float factor) {
    TK_GRID_LOOP(i, n) y[i] = factor * x[i];
}
__global__ void softcap_all(float *y, const float *x, int64_t n, float cap) {
    TK_GRID_LOOP(i, n) y[i] = cap * tanhf(x[i] / cap);
}
__global__ void act_all(float *y, const float *a, int64_t n, activation act) {
    TK_GRID_LOOP(i, n) y[i] = act(a[i]);
}
template <int FROM, int TO> __global__ void cast_all(void *y, const void *x, int64_t n) {
    TK_GRID_LOOP(i, n) store_number<TO>(y, i, load_number<FROM>(x, i));
}

template <int FROM> static void run_cast(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    const unsigned blocks = blocks_for(n, 256);
    switch (a->type[1]) {
    case TK_F16: cast_all<FROM, TK_F16><<<blocks, 256, 0, stream_of(a)>>>(a->p[1], a->p[0], n); break;
    case TK_BF16: cast_all<FROM, TK_BF16><<<blocks, 256, 0, stream_of(a)>>>(a->p[1], a->p[0], n); break;
    default: cast_all<FROM, TK_F32><<<blocks, 256, 0, stream_of(a)>>>(a->p[1], a->p[0], n);
    }
}

} // namespace tk

#define IN(i) ((const float *)a->p[i])
#define OUT(i) ((float *)a->p[i])

extern "C" void norm_cuda(const tk_args *a) {
    if (TK_DIM(a, 'h') < 1) return;
    tk::norm_rows<<<(unsigned)TK_DIM(a, 'h'), tk::NORM_THREADS, 0, tk::stream_of(a)>>>(
        OUT(2), OUT(3), IN(0), IN(1), TK_DIM(a, 'k'), a->attr.f[0]);
}
extern "C" void lnorm_cuda(const tk_args *a) {
    if (TK_DIM(a, 'h') < 1) return;
    tk::lnorm_rows<<<(unsigned)TK_DIM(a, 'h'), tk::NORM_THREADS, 0, tk::stream_of(a)>>>(
        OUT(3), OUT(4), OUT(5), IN(0), IN(1), IN(2), TK_DIM(a, 'k'), a->attr.f[0]);
}
extern "C" void pick_cuda(const tk_args *a) {
    if (TK_DIM(a, 'o') < 1) return;
    tk::pick_rows<<<(unsigned)TK_DIM(a, 'o'), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), (const int32_t *)a->p[1],
                                                                         TK_DIM(a, 'k'));
}
extern "C" void permute_cuda(const tk_args *a) {
    if (TK_DIM(a, 't') < 1) return;
    tk::permute_rows<<<(unsigned)TK_DIM(a, 't'), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), (const int32_t *)a->p[1],
                                                                            TK_DIM(a, 'k'));
}
extern "C" void add_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    tk::add_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), IN(1), n);
}
extern "C" void bias_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 't') * TK_DIM(a, 'n');
    tk::bias_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), IN(1), n, TK_DIM(a, 'n'));
}
extern "C" void glu_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    tk::glu_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), IN(1), n,
                                                                     tk::gating_of(&a->attr));
}
extern "C" void scale_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    tk::scale_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(1), IN(0), n, a->attr.f[0]);
}
extern "C" void softcap_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    tk::softcap_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(1), IN(0), n, a->attr.f[0]);
}
extern "C" void act_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    tk::act_all<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(1), IN(0), n,
                                                                         tk::activation_of(a->attr.i[0]));
}
extern "C" void cast_cuda(const tk_args *a) {
    switch (a->type[0]) {
    case TK_F16: tk::run_cast<TK_F16>(a); break;
    case TK_BF16: tk::run_cast<TK_BF16>(a); break;
    default: tk::run_cast<TK_F32>(a);
    }
}
