/* SPDX-License-Identifier: Apache-2.0 */
/* kvput, attn_paged and sink, the portable form. A block is one token and some query heads of one KV head. It visits
 * keys from key 0 of the sequence in blocks of TK_KEY_BLOCK, rescaling its sums once a block, so the order of every
 * sum is a function of the token's position alone. */
#include "cuda/cache.cuh"

namespace tk {

/* ---- writing ---- */

template <int T>
__global__ void put_rows(void *ck, void *cv, const float *k, const float *v, const int32_t *slot, int64_t heads,
                         int64_t width, int64_t size) {
    const int64_t s = slot[blockIdx.x];
    if (s < 0) return;
    k += blockIdx.x * heads * width, v += blockIdx.x * heads * width;
    for (int64_t i = threadIdx.x; i < heads * width / cache_run<T>(); i += blockDim.x) {
        const int64_t at = i * cache_run<T>(), row = (s / size * heads + at / width) * size + s % size;
        cache_put<T>(ck, k + at, row, at % width, width);
        cache_put<T>(cv, v + at, row, at % width, width);
    }
}

/* ---- reading ---- */

enum { ATTN_THREADS = 128, AHEAD = 16 /* loads on their way at a time */ };

struct attn_job {
    void *o; /* NULL: nobody reads it; BF16 when narrow, else F32 */
    float *l;
    const float *q;
    const void *ck, *cv;
    const tk_batch *batch;
    int64_t groups, shared, width, size;
    tk_attr attr;
    tk_dim g, r;
    bool narrow;
};

/* ALiBi's slope of query head (g, r), as ops.h defines it */
__device__ inline float slope_of(const attn_job &j, int64_t g, int64_t r) {
    const int64_t heads = j.g.N * j.r.N, h = (j.g.first + g) * j.r.N + j.r.first + r;
    int64_t m = 1;
    while (2 * m <= heads) m *= 2;
    if (!(j.attr.f[2] > 0)) return 0;
    const double factor = j.attr.f[3] != 0 ? j.attr.f[3] : 1;
    return (float)(factor * exp2(-(double)j.attr.f[2] * (h < m ? (double)(h + 1) : (double)(h - m) + 0.5) / (double)m));
}

__device__ inline float score_of(const tk_attr &attr, float product, float slope, int64_t back) {
    float x = product * attr.f[0];
    if (attr.f[1] > 0) x = attr.f[1] * tanhf(x / attr.f[1]);
    return slope != 0 ? fmaf(-slope, (float)back, x) : x;
}

/* The sequence of a packed token, or -1 for padding */
__device__ inline int sequence_of(const tk_batch *b, int64_t t) {
    int low = 0, high = b->seqs;
    if (t >= b->start[high]) return -1;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (b->start[middle] <= t)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Four chains of products and their sum: rounds half as much as one chain */
__device__ inline void add_products(float4 &sum, const float4 &a, const float *b) {
    sum.x = fmaf(a.x, b[0], sum.x), sum.y = fmaf(a.y, b[1], sum.y);
    sum.z = fmaf(a.z, b[2], sum.z), sum.w = fmaf(a.w, b[3], sum.w);
}
__device__ inline float whole(const float4 &sum) { return (sum.x + sum.y) + (sum.z + sum.w); }

/* Scores of the block's keys with the first `heads` of HEADS queries: a thread has one key, `back` positions before the
 * query and in `row` of the cache, and every second head. Queries are padded with zeros to `padded` numbers. */
template <int T, int HEADS>
__device__ inline void score_block(float (*score)[TK_KEY_BLOCK], const float *q, int padded, const attn_job &j,
                                   const float *slope, int64_t row, int64_t back, int heads, bool seen) {
    const int key = threadIdx.x % TK_KEY_BLOCK, half = threadIdx.x / TK_KEY_BLOCK, width = (int)j.width;
    float4 sum[HEADS / 2] = {};
    for (int d0 = 0; d0 < padded; d0 += AHEAD) {
        float k[AHEAD];
#pragma unroll
        for (int d = 0; d < AHEAD; d++) {
            const float v = cache_at<T>(j.ck, row, d0 + d < width ? d0 + d : 0, width);
            k[d] = d0 + d < width ? v : 0;
        }
#pragma unroll
        for (int i = 0; i < HEADS / 2; i++)
#pragma unroll
            for (int d = 0; d < AHEAD; d += 4) {
                const float4 v = *(const float4 *)&q[(half + 2 * i) * padded + d0 + d];
                add_products(sum[i], v, k + d);
            }
    }
#pragma unroll
    for (int i = 0; i < HEADS / 2; i++)
        if (half + 2 * i < heads)
            score[half + 2 * i][key] = seen ? score_of(j.attr, whole(sum[i]), slope[half + 2 * i], back) : -INFINITY;
}

/* sum = weights x values of keys skip .. keys - 1, for number d of each head */
template <int T, int HEADS>
__device__ inline void sum_values(float sum[HEADS], const float (*weight)[TK_KEY_BLOCK], const attn_job &j,
                                  const int64_t *rows, int64_t d, int skip, int keys) {
    float4 part[HEADS] = {};
    for (int k0 = skip / AHEAD * AHEAD; k0 < keys; k0 += AHEAD) {
        float v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const bool seen = k0 + k >= skip && k0 + k < keys;
            const float x = cache_at<T>(j.cv, rows[seen ? k0 + k : skip], d, j.width);
            v[k] = seen ? x : 0; /* what lies beyond may be anything */
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int k = 0; k < AHEAD; k += 4) {
                const float4 p = *(const float4 *)&weight[h][k0 + k];
                add_products(part[h], p, v + k);
            }
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) sum[h] = whole(part[h]);
}

/* Scores become weights relative to the largest score so far; a warp has every fourth head. */
__device__ inline void weigh_block(float (*score)[TK_KEY_BLOCK], float *most, float *total, float *alpha, int heads,
                                   int first, int keys) {
    const int lane = threadIdx.x % 32;
    for (int h = threadIdx.x / 32; h < heads; h += ATTN_THREADS / 32) {
        const float a = score[h][lane], b = score[h][lane + 32];
        float top = fmaxf(a, b);
        for (int i = 16; i; i >>= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, i));
        const float old = most[h], now = fmaxf(old, top), base = now == -INFINITY ? 0 : now;
        const float pa = lane >= first && lane < keys ? expf(a - base) : 0;
        const float pb = lane + 32 >= first && lane + 32 < keys ? expf(b - base) : 0;
        const float sum = warp_sum(pa + pb), scale = expf(old - base);
        score[h][lane] = pa, score[h][lane + 32] = pb;
        __syncwarp();
        if (lane == 0) most[h] = now, alpha[h] = scale, total[h] = fmaf(total[h], scale, sum);
    }
}

template <int T, int HEADS, int SPANS> /* SPANS: numbers of a head that a thread sums, ATTN_THREADS apart */
__global__ void __launch_bounds__(ATTN_THREADS) attend(const attn_job j) {
    extern __shared__ __align__(16) float q[]; /* [HEADS][padded] */
    __shared__ __align__(16) float score[HEADS][TK_KEY_BLOCK];
    __shared__ float most[HEADS], total[HEADS], alpha[HEADS], slope[HEADS];
    __shared__ int64_t rows[TK_KEY_BLOCK];
    if (j.width > SPANS * ATTN_THREADS) __trap(); /* heads of more than 512 numbers: a failure, not an answer */
    const int64_t t = blockIdx.x, g = blockIdx.y, first = (int64_t)blockIdx.z * HEADS;
    const int heads = (int)TK_MIN((int64_t)HEADS, j.shared - first), padded = ((int)j.width + AHEAD - 1) / AHEAD * AHEAD;
    const int64_t at = ((t * j.groups + g) * j.shared + first) * j.width;
    const int seq = sequence_of(j.batch, t);
    const int64_t count = seq < 0 ? 0 : j.batch->past[seq] + t - j.batch->start[seq] + 1;
    const int64_t least = j.attr.i[0] > 0 && count > j.attr.i[0] ? count - j.attr.i[0] : 0; /* the first key seen */
    for (int i = threadIdx.x; i < HEADS * padded; i += ATTN_THREADS) {
        const int h = i / padded, d = i % padded;
        q[i] = h < heads && d < j.width ? j.q[at + h * j.width + d] : 0;
    }
    for (int i = threadIdx.x; i < HEADS * TK_KEY_BLOCK; i += ATTN_THREADS) score[i / TK_KEY_BLOCK][i % TK_KEY_BLOCK] = 0;
    if (threadIdx.x < HEADS) {
        most[threadIdx.x] = -INFINITY, total[threadIdx.x] = 0, alpha[threadIdx.x] = 0;
        slope[threadIdx.x] = slope_of(j, g, first + threadIdx.x);
    }
    float o[HEADS][SPANS] = {};
    for (int64_t from = least / TK_KEY_BLOCK * TK_KEY_BLOCK; from < count; from += TK_KEY_BLOCK) {
        const int keys = (int)TK_MIN((int64_t)TK_KEY_BLOCK, count - from), skip = (int)TK_MAX(least - from, (int64_t)0);
        __syncthreads();
        if (threadIdx.x < keys) {
            const int32_t key = (int32_t)from + (int32_t)threadIdx.x, size = (int32_t)j.size;
            const int64_t page = j.batch->pages[(int64_t)seq * j.batch->max_pages + key / size];
            rows[threadIdx.x] = (page * j.groups + g) * size + key % size;
        }
        __syncthreads();
        const int key = threadIdx.x % TK_KEY_BLOCK;
        const bool seen = key >= skip && key < keys;
        score_block<T, HEADS>(score, q, padded, j, slope, rows[seen ? key : skip], count - 1 - from - key, heads, seen);
        __syncthreads();
        weigh_block(score, most, total, alpha, heads, skip, keys);
        __syncthreads();
#pragma unroll
        for (int s = 0; s < SPANS; s++) {
            const int64_t d = threadIdx.x + s * ATTN_THREADS;
            if (d >= j.width) break;
            float sum[HEADS]; /* by itself first: one chain over all keys would round more */
            sum_values<T, HEADS>(sum, score, j, rows, d, skip, keys);
#pragma unroll
            for (int h = 0; h < HEADS; h++) o[h][s] = fmaf(o[h][s], alpha[h], sum[h]);
        }
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < SPANS; s++)
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const int64_t d = threadIdx.x + s * ATTN_THREADS;
            if (!j.o || d >= j.width || h >= heads) continue;
            const float y = count ? o[h][s] / total[h] : 0;
            if (j.narrow)
                store_number<TK_BF16>(j.o, at + h * j.width + d, y);
            else
                store_number<TK_F32>(j.o, at + h * j.width + d, y);
        }
    if (j.l && threadIdx.x < heads)
        j.l[at / j.width + threadIdx.x] = count ? most[threadIdx.x] + logf(total[threadIdx.x]) : 0;
}

/* y = o / (1 + e^(n - l)); a block is one query head of one token */
__global__ void sink_rows(float *y, const float *o, const float *l, const float *n, int64_t heads, int64_t width) {
    const int64_t row = blockIdx.x;
    const float kept = 1 / (1 + expf(n[row % heads] - l[row]));
    for (int64_t d = threadIdx.x; d < width; d += blockDim.x) y[row * width + d] = o[row * width + d] * kept;
}

template <int T, int HEADS> static void start_attn(const attn_job &j, int64_t tokens, cudaStream_t stream) {
    const dim3 grid((unsigned)tokens, (unsigned)j.groups, (unsigned)tk_ceil_div(j.shared, HEADS));
    const size_t bytes = HEADS * tk_align((size_t)j.width, AHEAD) * sizeof(float);
    if (j.width <= ATTN_THREADS)
        attend<T, HEADS, 1><<<grid, ATTN_THREADS, bytes, stream>>>(j);
    else
        attend<T, HEADS, 4><<<grid, ATTN_THREADS, bytes, stream>>>(j);
}

template <int T> static void run_attn(const tk_args *a, bool narrow) {
    const attn_job j = { a->p[4],        narrow ? NULL : (float *)a->p[5], (const float *)a->p[0], a->p[2],
                         a->p[3],        a->batch,                         TK_DIM(a, 'g'),         TK_DIM(a, 'r'),
                         TK_DIM(a, 'd'), TK_DIM(a, 's'),                   a->attr,                a->dim['g' - 'a'],
                         a->dim['r' - 'a'], narrow };
    if (j.shared <= 2)
        start_attn<T, 2>(j, TK_DIM(a, 't'), stream_of(a));
    else if (j.shared <= 4)
        start_attn<T, 4>(j, TK_DIM(a, 't'), stream_of(a));
    else
        start_attn<T, 8>(j, TK_DIM(a, 't'), stream_of(a));
}

template <int T> static void run_put(const tk_args *a) {
    put_rows<T><<<(unsigned)TK_DIM(a, 't'), 128, 0, stream_of(a)>>>(
        a->p[5], a->p[6], (const float *)a->p[0], (const float *)a->p[1], (const int32_t *)a->p[2], TK_DIM(a, 'g'),
        TK_DIM(a, 'd'), TK_DIM(a, 's'));
}

} // namespace tk

/* k v i ck cv -> nk nv, in the storage of ck and cv */
extern "C" void kvput_cuda(const tk_args *a) {
#define RUN(T) tk::run_put<T>(a)
    if (TK_DIM(a, 't') > 0) TK_BY_CACHE(a->type[3], RUN)
#undef RUN
}

/* q i ck cv -> o l */
extern "C" void attn_paged_cuda(const tk_args *a) {
#define RUN(T) tk::run_attn<T>(a, false)
    if (TK_DIM(a, 't') > 0) TK_BY_CACHE(a->type[2], RUN)
#undef RUN
}

/* q i ck cv -> y */
extern "C" void attn_paged_quant_cuda(const tk_args *a) {
#define RUN(T) tk::run_attn<T>(a, true)
    if (TK_DIM(a, 't') > 0) TK_BY_CACHE(a->type[2], RUN)
#undef RUN
}

extern "C" void sink_cuda(const tk_args *a) {
    const int64_t heads = TK_DIM(a, 'g') * TK_DIM(a, 'r'), rows = TK_DIM(a, 't') * heads;
    if (rows > 0)
        tk::sink_rows<<<(unsigned)rows, 64, 0, tk::stream_of(a)>>>((float *)a->p[3], (const float *)a->p[0],
                                                                  (const float *)a->p[1], (const float *)a->p[2], heads,
                                                                  TK_DIM(a, 'd'));
}
