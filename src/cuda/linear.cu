/* SPDX-License-Identifier: Apache-2.0 */
/* linear and embed, the portable form: float32 arithmetic on weights of any format, for GPUs that no faster row
 * serves, and as their oracle. Every result is one chain of fused multiply-adds over k, in order, in both kernels:
 * which of them runs, and with which other tokens, changes no bit. */
#include "cuda/weights.cuh"

namespace tk {

/* ---- few tokens: the weights are read once ---- */

/* A block has 32 rows, a lane one of them; a warp takes every fourth token. Weights go through shared memory in tiles
 * of SPAN k, the next tile's loads being on their way meanwhile. */
enum { ROWS = 32, WARPS = 4, SPAN = WARPS * 32, PADDED = SPAN + 4, FETCHES = ROWS * SPAN / EIGHT / (WARPS * 32) };

/* Addresses beyond the matrix read its first numbers instead, which nobody uses: loads without branches overlap. */
template <int T, int EACH> struct tile_loads {
    weights<T> w[FETCHES];
    float x[WARPS * EACH]; /* number threadIdx.x of the tile, of each token */
    __device__ void fetch(const uint8_t *m, const float *xm, int64_t rows, int64_t width, int64_t row0, int64_t tokens,
                          int64_t k0) {
#pragma unroll
        for (int i = 0; i < FETCHES; i++) {
            const int at = (int)threadIdx.x + i * WARPS * 32;
            const int64_t row = row0 + at / (SPAN / EIGHT), k = k0 + at % (SPAN / EIGHT) * EIGHT;
            w[i].load(m, width, row < rows ? row : 0, k < width ? k : 0);
        }
        const int64_t k = k0 + threadIdx.x;
#pragma unroll
        for (int t = 0; t < WARPS * EACH; t++) x[t] = xm[(t < tokens ? t : 0) * width + (k < width ? k : 0)];
    }
    __device__ void put(float (*tile)[PADDED], float (*xs)[SPAN]) const {
#pragma unroll
        for (int i = 0; i < FETCHES; i++) {
            const int at = (int)threadIdx.x + i * WARPS * 32, row = at / (SPAN / EIGHT), k = at % (SPAN / EIGHT) * EIGHT;
            float v[EIGHT];
            w[i].numbers(v);
#pragma unroll
            for (int j = 0; j < EIGHT; j += 4)
                *(float4 *)&tile[row][k + j] = make_float4(v[j], v[j + 1], v[j + 2], v[j + 3]);
        }
#pragma unroll
        for (int t = 0; t < WARPS * EACH; t++) xs[t][threadIdx.x] = x[t];
    }
};

template <int T, int EACH> /* EACH: tokens of a warp */
__global__ void __launch_bounds__(WARPS * 32)
    linear_few(float *y, const float *x, const uint8_t *m, int64_t tokens, int64_t rows, int64_t width) {
    __shared__ __align__(16) float tile[ROWS][PADDED], xs[WARPS * EACH][SPAN];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t row0 = (int64_t)blockIdx.x * ROWS, t0 = (int64_t)blockIdx.y * WARPS * EACH;
    const int mine = (int)TK_MIN((int64_t)EACH, (tokens - t0 - warp + WARPS - 1) / WARPS); /* of this warp */
    float sum[EACH] = { 0 };
    tile_loads<T, EACH> next;
    x += t0 * width;
    next.fetch(m, x, rows, width, row0, tokens - t0, 0);
    for (int64_t k0 = 0; k0 < width; k0 += SPAN) {
        const int span = (int)TK_MIN((int64_t)SPAN, width - k0);
        __syncthreads();
        next.put(tile, xs);
        __syncthreads();
        if (k0 + SPAN < width) next.fetch(m, x, rows, width, row0, tokens - t0, k0 + SPAN);
        if (mine <= 0) continue;
        if (span == SPAN) {
#pragma unroll 8
            for (int k = 0; k < SPAN; k += 4) {
                const float4 w = *(const float4 *)&tile[lane][k];
#pragma unroll
                for (int i = 0; i < EACH; i++) {
                    const float4 v = *(const float4 *)&xs[warp + i * WARPS][k];
                    sum[i] = fmaf(v.w, w.w, fmaf(v.z, w.z, fmaf(v.y, w.y, fmaf(v.x, w.x, sum[i]))));
                }
            }
        } else {
            for (int k = 0; k < span; k++)
#pragma unroll
                for (int i = 0; i < EACH; i++) sum[i] = fmaf(xs[warp + i * WARPS][k], tile[lane][k], sum[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
        if (i < mine && row0 + lane < rows) y[(t0 + warp + i * WARPS) * rows + row0 + lane] = sum[i];
}

/* ---- many tokens: tiles of 64 x 64 ---- */

enum { SIDE = 64, DEPTH = 32, THREADS = 256, SIDE_PADDED = SIDE + 4 };

template <int T>
__global__ void __launch_bounds__(THREADS)
    linear_many(float *y, const float *x, const uint8_t *m, int64_t tokens, int64_t rows, int64_t width) {
    __shared__ __align__(16) float ws[DEPTH][SIDE_PADDED], xs[DEPTH][SIDE_PADDED];
    const int64_t row0 = (int64_t)blockIdx.x * SIDE, t0 = (int64_t)blockIdx.y * SIDE;
    const int line = threadIdx.x / 4, eight = threadIdx.x % 4 * EIGHT; /* what this thread fetches */
    const int tx = threadIdx.x % 16 * 4, ty = threadIdx.x / 16 * 4;    /* and what it computes */
    float sum[4][4] = {};
    weights<T> w = {};
    for (int64_t k0 = 0; k0 < width; k0 += DEPTH) {
        const int depth = (int)TK_MIN((int64_t)DEPTH, width - k0);
        float v[EIGHT];
        if (row0 + line < rows && k0 + eight < width) w.load(m, width, row0 + line, k0 + eight);
        w.numbers(v);
        __syncthreads();
        for (int i = 0; i < EIGHT; i++) {
            const bool there = t0 + line < tokens && eight + i < depth;
            ws[eight + i][line] = v[i];
            xs[eight + i][line] = there ? x[(t0 + line) * width + k0 + eight + i] : 0;
        }
        __syncthreads();
        for (int k = 0; k < depth; k++) {
            const float4 a = *(const float4 *)&xs[k][ty], b = *(const float4 *)&ws[k][tx];
            const float av[4] = { a.x, a.y, a.z, a.w }, bv[4] = { b.x, b.y, b.z, b.w };
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fmaf(av[i], bv[j], sum[i][j]);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (t0 + ty + i < tokens && row0 + tx + j < rows) y[(t0 + ty + i) * rows + row0 + tx + j] = sum[i][j];
}

template <int T> static void run_linear(const tk_args *a) {
    const int64_t tokens = TK_DIM(a, 't'), rows = TK_DIM(a, 'n'), width = TK_DIM(a, 'k');
    float *y = (float *)a->p[2];
    const float *x = (const float *)a->p[0];
    const uint8_t *w = (const uint8_t *)a->p[1];
    const unsigned across = (unsigned)tk_ceil_div(rows, ROWS);
    if (tokens <= WARPS)
        linear_few<T, 1><<<across, WARPS * 32, 0, stream_of(a)>>>(y, x, w, tokens, rows, width);
    else if (tokens <= 4 * WARPS)
        linear_few<T, 4><<<across, WARPS * 32, 0, stream_of(a)>>>(y, x, w, tokens, rows, width);
    else
        linear_many<T><<<dim3((unsigned)tk_ceil_div(rows, SIDE), (unsigned)tk_ceil_div(tokens, SIDE)), THREADS, 0,
                         stream_of(a)>>>(y, x, w, tokens, rows, width);
}

template <int T>
__global__ void embed_rows(float *x, const int32_t *id, const uint8_t *m, int64_t first, int64_t rows,
                           int64_t width) {
    const int64_t t = blockIdx.x, row = id[t] - first;
    for (int64_t k = threadIdx.x * EIGHT; k < width; k += blockDim.x * EIGHT) {
        float v[EIGHT] = { 0 };
        if (row >= 0 && row < rows) {
            weights<T> w;
            w.load(m, width, row, k);
            w.numbers(v);
        }
        for (int i = 0; i < EIGHT && k + i < width; i++) x[t * width + k + i] = v[i];
    }
}

template <int T> static void run_embed(const tk_args *a) {
    const tk_dim v = a->dim['v' - 'a'];
    embed_rows<T><<<(unsigned)TK_DIM(a, 't'), 64, 0, stream_of(a)>>>(
        (float *)a->p[2], (const int32_t *)a->p[0], (const uint8_t *)a->p[1], v.first, v.n, TK_DIM(a, 'k'));
}

} // namespace tk

extern "C" void linear_cuda(const tk_args *a) {
#define RUN(T) tk::run_linear<T>(a)
    if (TK_DIM(a, 't') > 0) TK_BY_WEIGHT(a->type[1], RUN)
#undef RUN
}

extern "C" void embed_cuda(const tk_args *a) {
#define RUN(T) tk::run_embed<T>(a)
    if (TK_DIM(a, 't') > 0) TK_BY_WEIGHT(a->type[1], RUN)
#undef RUN
}
