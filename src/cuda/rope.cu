/* SPDX-License-Identifier: Apache-2.0 */
/* rope, and rope_kvput: the rotation of queries and keys together with the append of keys and values to the cache, one
 * start instead of three between the products and attention. A thread rotates one pair of one head, so both give the
 * same bits. */
#include "cuda/cache.cuh"

namespace tk {

struct rotation {
    const int32_t *position;
    const float *frequency;
    float factor;
    int pairs;
    bool half; /* TK_ROPE_HALF */
    /* Pair i of a head of token t */
    __device__ void turn(float *y, const float *x, int64_t t, int i) const {
        const float angle = (float)position[t] * frequency[i];
        const float c = factor * cosf(angle), s = factor * sinf(angle);
        const int iu = half ? i : 2 * i, iv = half ? i + pairs : 2 * i + 1;
        const float u = x[iu], v = x[iv];
        y[iu] = fmaf(u, c, -(v * s)), y[iv] = fmaf(u, s, v * c);
    }
};

enum { HEADS = 4 /* of one token, in a block */, ROPE_THREADS = 128 };

/* Heads x -> y, n of them, each of `width` numbers: pairs are rotated, the rest copied. */
__device__ inline void rotate_heads(float *y, const float *x, const rotation &r, int64_t t, int n, int width) {
    const int each = width - r.pairs; /* items of a head */
    for (int i = threadIdx.x; i < n * each; i += ROPE_THREADS) {
        const int at = i / each * width, k = i % each;
        if (k < r.pairs)
            r.turn(y + at, x + at, t, k);
        else
            y[at + r.pairs + k] = x[at + r.pairs + k];
    }
}

__global__ void __launch_bounds__(ROPE_THREADS)
    rope_rows(float *y, const float *x, const rotation r, int64_t heads, int width) {
    const int64_t first = (int64_t)blockIdx.y * HEADS, at = (blockIdx.x * heads + first) * width;
    pdl_go();
    pdl_wait();
    rotate_heads(y + at, x + at, r, blockIdx.x, (int)TK_MIN((int64_t)HEADS, heads - first), width);
}

struct append_job {
    float *y;
    void *ck, *cv;
    const float *q, *k, *v;
    const int32_t *slot;
    rotation r;
    int64_t size;             /* of a page */
    int queries, keys, width; /* heads of q; of k and v */
};

/* Blocks of a token: its query heads, HEADS at a time, then its keys, then its values. */
template <int T> __global__ void __launch_bounds__(ROPE_THREADS) rope_put(const append_job j) {
    extern __shared__ __align__(16) float line[]; /* [HEADS][width]: keys after rotation */
    const int64_t t = blockIdx.x;
    const int of_queries = (j.queries + HEADS - 1) / HEADS, of_keys = (j.keys + HEADS - 1) / HEADS;
    int part = blockIdx.y;
    pdl_go();
    pdl_wait();
    if (part < of_queries) {
        const int64_t at = (t * j.queries + part * HEADS) * j.width;
        rotate_heads(j.y + at, j.q + at, j.r, t, min((int)HEADS, j.queries - part * HEADS), j.width);
        return;
    }
    const bool value = (part -= of_queries) >= of_keys;
    if (value) part -= of_keys;
    const int first = part * HEADS, heads = min((int)HEADS, j.keys - first), run = cache_run<T>();
    const int64_t at = (t * j.keys + first) * j.width, slot = j.slot[t];
    const float *x = value ? j.v + at : line;
    if (slot < 0) return;
    if (!value) {
        rotate_heads(line, j.k + at, j.r, t, heads, j.width);
        __syncthreads();
    }
    for (int i = threadIdx.x * run; i < heads * j.width; i += ROPE_THREADS * run) {
        const int64_t row = (slot / j.size * j.keys + first + i / j.width) * j.size + slot % j.size;
        if (value)
            cache_put<T>(j.cv, x + i, row, i % j.width, j.width);
        else
            cache_put<T>(j.ck, x + i, row, i % j.width, j.width);
    }
}

static rotation rotation_of(const tk_args *a, int position, int frequency) {
    return { (const int32_t *)a->p[position], (const float *)a->p[frequency], a->attr.f[0], (int)TK_DIM(a, 'z'),
             a->attr.i[0] == TK_ROPE_HALF };
}

template <int T> static void run_append(const tk_args *a) {
    const int keys = (int)TK_DIM(a, 'g'), queries = keys * (int)TK_DIM(a, 'r'), width = (int)TK_DIM(a, 'd');
    const append_job j = { (float *)a->p[8],       a->p[9], a->p[10],
                           (const float *)a->p[0], (const float *)a->p[1], (const float *)a->p[2],
                           (const int32_t *)a->p[5], rotation_of(a, 3, 4), TK_DIM(a, 's'), queries, keys, width };
    const unsigned parts = (unsigned)(tk_ceil_div(queries, HEADS) + 2 * tk_ceil_div(keys, HEADS));
    launch(rope_put<T>, dim3((unsigned)TK_DIM(a, 't'), parts), ROPE_THREADS, HEADS * width * sizeof(float), a, j);
}

} // namespace tk

/* x p f -> y */
extern "C" void rope_cuda(const tk_args *a) {
    const int64_t heads = TK_DIM(a, 'h');
    if (TK_DIM(a, 't') < 1) return;
    const dim3 grid((unsigned)TK_DIM(a, 't'), (unsigned)tk_ceil_div(heads, tk::HEADS));
    tk::launch(tk::rope_rows, grid, tk::ROPE_THREADS, 0, a, (float *)a->p[3], (const float *)a->p[0],
               tk::rotation_of(a, 1, 2), heads, (int)TK_DIM(a, 'd'));
}

/* q k v p f i ck cv -> y nk nv, the last two in the storage of ck and cv */
extern "C" void rope_kvput_cuda(const tk_args *a) {
#define RUN(T) tk::run_append<T>(a)
    if (TK_DIM(a, 't') > 0) TK_BY_CACHE(a->type[6], RUN)
#undef RUN
}
