/* SPDX-License-Identifier: Apache-2.0 */
/* linear, experts and embed, the portable form: float32 arithmetic on weights of any format, for GPUs that no faster
 * row serves, and as their oracle. Every result is one chain of fused multiply-adds over k, in order, in both
 * kernels: which of them runs, and with which other tokens, changes no bit. Experts are the same products with their
 * tokens gathered: which tokens an expert has is known on the device alone, so the grid has room for the most groups
 * of tokens there can be, and blocks without a group leave at once. */
#include "cuda/products.cuh"

namespace tk {

/* ---- which tokens ---- */

/* The tokens of a block: x's rows from[i] times the weights' rows from `first` on are y's rows to[i]. */
template <int MOST> struct tokens_of_block {
    int64_t from[MOST], to[MOST];
    int64_t first;
    int count; /* 0: nothing to do */

    /* By all threads of the block, which meet here. */
    __device__ void find(const gathering g, int64_t tokens, int64_t rows) {
        int64_t begin = (int64_t)blockIdx.y * MOST, expert = 0;
        int n = (int)TK_MIN((int64_t)MOST, tokens - begin);
        if (g.order) {
            const bool there = (int)blockIdx.y < g.groups[0].expert;
            const gathering::group mine = g.groups[there ? 1 + blockIdx.y : 0];
            begin = mine.begin, expert = mine.expert, n = there ? mine.count : 0;
        }
        for (int i = threadIdx.x; i < MOST; i += blockDim.x) {
            const int64_t at = begin + (i < n ? i : 0), pair = g.order && n ? g.order[at] : at;
            from[i] = g.order ? pair / g.share : pair, to[i] = pair;
        }
        if (threadIdx.x == 0) first = expert * rows, count = n;
        __syncthreads();
    }
};

/* ---- few tokens: the weights are read once ---- */

/* A block has 32 rows, a lane one of them; a warp takes every fourth token. Weights go through shared memory in tiles
 * of SPAN k, the next tile's loads being on their way meanwhile. */
enum { ROWS = 32, WARPS = 4, SPAN = WARPS * 32, PADDED = SPAN + 4, FETCHES = ROWS * SPAN / EIGHT / (WARPS * 32) };

/* Addresses beyond the matrix read its first numbers instead, which nobody uses: loads without branches overlap. */
template <int T, int EACH> struct tile_loads {
    weights<T> w[FETCHES];
    float x[WARPS * EACH]; /* number threadIdx.x of the tile, of each token */
    __device__ void fetch(const uint8_t *m, const float *xm, int64_t rows, int64_t width, int64_t row0,
                          const tokens_of_block<WARPS * EACH> *who, int64_t k0) {
#pragma unroll
        for (int i = 0; i < FETCHES; i++) {
            const int at = (int)threadIdx.x + i * WARPS * 32;
            const int64_t row = row0 + at / (SPAN / EIGHT), k = k0 + at % (SPAN / EIGHT) * EIGHT;
            w[i].load(m, width, who->first + (row < rows ? row : 0), k < width ? k : 0);
        }
        const int64_t k = k0 + threadIdx.x;
#pragma unroll
        for (int t = 0; t < WARPS * EACH; t++) x[t] = xm[who->from[t] * width + (k < width ? k : 0)];
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
    linear_few(float *y, const float *x, const uint8_t *m, int64_t tokens, int64_t rows, int64_t width, gathering g) {
    __shared__ __align__(16) float tile[ROWS][PADDED], xs[WARPS * EACH][SPAN];
    __shared__ tokens_of_block<WARPS * EACH> who;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int64_t row0 = (int64_t)blockIdx.x * ROWS;
    who.find(g, tokens, rows);
    if (!who.count) return;
    const int mine = TK_MIN((int)EACH, (who.count - warp + WARPS - 1) / WARPS); /* of this warp */
    float sum[EACH] = { 0 };
    tile_loads<T, EACH> next;
    next.fetch(m, x, rows, width, row0, &who, 0);
    for (int64_t k0 = 0; k0 < width; k0 += SPAN) {
        const int span = (int)TK_MIN((int64_t)SPAN, width - k0);
        __syncthreads();
        next.put(tile, xs);
        __syncthreads();
        if (k0 + SPAN < width) next.fetch(m, x, rows, width, row0, &who, k0 + SPAN);
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
        if (i < mine && row0 + lane < rows) y[who.to[warp + i * WARPS] * rows + row0 + lane] = sum[i];
}

/* ---- many tokens: tiles of 64 x 64 ---- */

enum { SIDE = 64, DEPTH = 32, THREADS = 256, SIDE_PADDED = SIDE + 4 };

template <int T>
__global__ void __launch_bounds__(THREADS)
    linear_many(float *y, const float *x, const uint8_t *m, int64_t tokens, int64_t rows, int64_t width, gathering g) {
    __shared__ __align__(16) float ws[DEPTH][SIDE_PADDED], xs[DEPTH][SIDE_PADDED];
    __shared__ tokens_of_block<SIDE> who;
    const int64_t row0 = (int64_t)blockIdx.x * SIDE;
    who.find(g, tokens, rows);
    if (!who.count) return;
    const int line = threadIdx.x / 4, eight = threadIdx.x % 4 * EIGHT; /* what this thread fetches */
    const int tx = threadIdx.x % 16 * 4, ty = threadIdx.x / 16 * 4;    /* and what it computes */
    float sum[4][4] = {};
    weights<T> w = {};
    for (int64_t k0 = 0; k0 < width; k0 += DEPTH) {
        const int depth = (int)TK_MIN((int64_t)DEPTH, width - k0);
        float v[EIGHT];
        if (row0 + line < rows && k0 + eight < width) w.load(m, width, who.first + row0 + line, k0 + eight);
        w.numbers(v);
        __syncthreads();
        for (int i = 0; i < EIGHT; i++) {
            ws[eight + i][line] = v[i];
            xs[eight + i][line] = eight + i < depth ? x[who.from[line] * width + k0 + eight + i] : 0;
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
            if (ty + i < who.count && row0 + tx + j < rows) y[who.to[ty + i] * rows + row0 + tx + j] = sum[i][j];
}

/* Tokens of a block: few where few tokens (of an expert) are to be expected, so that lanes have work. */
static int tokens_a_block(int64_t tokens, int64_t experts) {
    const int64_t each = tk_ceil_div(tokens, experts);
    return each <= WARPS ? WARPS : each <= 4 * WARPS ? 4 * WARPS : SIDE;
}

template <int T>
static void multiply(const tk_args *a, int64_t tokens, int64_t groups, int block, const gathering &g) {
    const int64_t rows = TK_DIM(a, 'n'), width = TK_DIM(a, 'k');
    float *y = (float *)a->p[g.order ? 3 : 2];
    const float *x = (const float *)a->p[0];
    const uint8_t *w = (const uint8_t *)a->p[1];
    const dim3 grid((unsigned)tk_ceil_div(rows, block == SIDE ? (int)SIDE : (int)ROWS), (unsigned)groups);
    if (block == WARPS)
        linear_few<T, 1><<<grid, WARPS * 32, 0, stream_of(a)>>>(y, x, w, tokens, rows, width, g);
    else if (block == 4 * WARPS)
        linear_few<T, 4><<<grid, WARPS * 32, 0, stream_of(a)>>>(y, x, w, tokens, rows, width, g);
    else
        linear_many<T><<<grid, THREADS, 0, stream_of(a)>>>(y, x, w, tokens, rows, width, g);
}

template <int T> static void run_linear(const tk_args *a) {
    const int64_t tokens = TK_DIM(a, 't');
    const int block = tokens_a_block(tokens, 1);
    multiply<T>(a, tokens, tk_ceil_div(tokens, block), block, gathering{});
}

template <int T> static void run_experts(const tk_args *a, int64_t share) {
    const int64_t pairs = TK_DIM(a, 't') * TK_DIM(a, 'a'), experts = TK_DIM(a, 'x');
    const int block = tokens_a_block(pairs, experts);
    const gathering g = gather_tokens(a, pairs, block, share);
    multiply<T>(a, pairs, gathering::most_groups(pairs, experts, block), block, g);
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

/* x has a row for each token, or (experts2) for each of its experts */
extern "C" void experts_cuda(const tk_args *a) {
#define RUN(T) tk::run_experts<T>(a, TK_DIM(a, 'a'))
    if (TK_DIM(a, 't') > 0) TK_BY_WEIGHT(a->type[1], RUN)
#undef RUN
}
extern "C" void experts2_cuda(const tk_args *a) {
#define RUN(T) tk::run_experts<T>(a, 1)
    if (TK_DIM(a, 't') > 0) TK_BY_WEIGHT(a->type[1], RUN)
#undef RUN
}

extern "C" void embed_cuda(const tk_args *a) {
#define RUN(T) tk::run_embed<T>(a)
    if (TK_DIM(a, 't') > 0) TK_BY_WEIGHT(a->type[1], RUN)
#undef RUN
}
