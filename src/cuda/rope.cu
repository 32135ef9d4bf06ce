/* SPDX-License-Identifier: Apache-2.0 */
/* rope, and rope_kvput: the rotation of queries and keys together with the append of keys and values to the
 * cache, one start instead of three between the products and attention. Blocks of a token find each angle's
 * cosine and sine once for all heads. A pair is turned by the same operations in both ops, so both give the
 * same bits. */
#include "cuda/cache.cuh"

namespace tk {

struct rotation {
    const int32_t *position;
    const float *frequency;
    float factor;
    int pairs;
    bool half; /* TK_ROPE_HALF */
    /* Cosine and sine of pair i of token t */
    __device__ float2 at(int64_t t, int i) const {
        const float angle = (float)position[t] * frequency[i];
        return make_float2(factor * cosf(angle), factor * sinf(angle));
    }
};
__device__ inline void turn(float &u, float &v, float2 by) {
    const float x = u;
    u = fmaf(x, by.x, -(v * by.y)), v = fmaf(x, by.y, v * by.x);
}

struct rope_job {
    float *y;
    void *ck, *cv; /* NULL: no cache */
    const float *q, *k, *v;
    const int32_t *slot;
    rotation r;
    int64_t size;             /* of a page */
    int queries, keys, width; /* heads of q; of k and v */
    bool streaming;           /* y is larger than the cache */
};

enum {
    ROPE_THREADS = 128,
    ITEM = 8 /* numbers a thread moves at once: four pairs, or eight beside each other */
};

/* An item a thread; heads in whole items, everything at multiples of 16 bytes. Blocks of a token: its
 * queries, its keys, its values, ROPE_THREADS items each. */
template <int T> __global__ void __launch_bounds__(ROPE_THREADS) rope_items(const rope_job j) {
    extern __shared__ __align__(16) float2 turns[]; /* [pairs] */
    const int64_t t = blockIdx.x;
    const int each = j.width / ITEM, of_queries = (j.queries * each + ROPE_THREADS - 1) / ROPE_THREADS;
    const int of_keys = (j.keys * each + ROPE_THREADS - 1) / ROPE_THREADS;
    int part = blockIdx.y, heads = j.queries;
    const float *x = j.q;
    void *cache = NULL;
    bool value = false;
    if (part >= of_queries) {
        part -= of_queries, heads = j.keys, value = part >= of_keys;
        if (value) part -= of_keys;
        x = value ? j.v : j.k, cache = value ? j.cv : j.ck;
    }
    const int item = part * ROPE_THREADS + (int)threadIdx.x, head = item / each, k = item - head * each;
    const bool live = head < heads, turned = !value && k < j.r.pairs / 4,
               far = turned && (j.r.half || j.width == 2 * j.r.pairs);
    const int d = far ? k * 4 : k * ITEM,
              apart = far ? j.r.pairs : 4; /* the first four numbers, the others */
    const int64_t at = (t * heads + head) * j.width + d;
    float4 a, b;
    pdl_go();
    pdl_wait();
    if (live) a = *(const float4 *)(x + at), b = *(const float4 *)(x + at + apart);
    const int64_t slot = cache ? j.slot[t] : 0;
    if (!value) {
        for (int i = threadIdx.x; i < j.r.pairs; i += ROPE_THREADS) turns[i] = j.r.at(t, i);
        __syncthreads();
    }
    if (!live || slot < 0) return;
    if (turned) {
        const float2 *c = turns + (j.r.half ? d : d / 2),
                     *other = c + apart / 2; /* of b's pairs, where they are others */
        if (j.r.half)
            turn(a.x, b.x, c[0]), turn(a.y, b.y, c[1]), turn(a.z, b.z, c[2]), turn(a.w, b.w, c[3]);
        else
            turn(a.x, a.y, c[0]), turn(a.z, a.w, c[1]), turn(b.x, b.y, other[0]), turn(b.z, b.w, other[1]);
    }
    if (!cache && j.streaming)
        __stcs((float4 *)(j.y + at), a), __stcs((float4 *)(j.y + at + apart), b);
    else if (!cache)
        *(float4 *)(j.y + at) = a, *(float4 *)(j.y + at + apart) = b;
    else
        cache_put8<T>(cache, a, b, apart, (slot / j.size * heads + head) * j.size + slot % j.size, d,
                      j.width);
}

/* ---- any width, any cache ---- */

enum { HEADS = 4 /* of one token, in a block */ };

/* Heads x -> y, n of them, each of `width` numbers: pairs are rotated, the rest copied. */
__device__ inline void rotate_heads(float *y, const float *x, const rotation &r, int64_t t, int n,
                                    int width) {
    const int each = width - r.pairs; /* items of a head */
    for (int i = threadIdx.x; i < n * each; i += ROPE_THREADS) {
        const int at = i / each * width, k = i % each, u = r.half ? k : 2 * k,
                  v = r.half ? k + r.pairs : 2 * k + 1;
        if (k >= r.pairs) {
            y[at + r.pairs + k] = x[at + r.pairs + k];
            continue;
        }
        float a = x[at + u], b = x[at + v];
        turn(a, b, r.at(t, k));
        y[at + u] = a, y[at + v] = b;
    }
}

/* Blocks of a token: its query heads, HEADS at a time, then its keys, then its values. */
template <int T> __global__ void __launch_bounds__(ROPE_THREADS) rope_heads(const rope_job j) {
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

/* keys: 0 for rope alone */
template <int T> static void run_rope(const tk_args *a, rope_job j) {
    const int64_t tokens = TK_DIM(a, 't');
    j.streaming = tokens * j.queries * j.width > (int64_t)8 << 20;
    const uintptr_t all =
        (uintptr_t)j.y | (uintptr_t)j.q | (uintptr_t)j.k | (uintptr_t)j.v | (uintptr_t)j.ck | (uintptr_t)j.cv;
    if (tokens < 1) return;
    if (T == TK_Q8_0 || j.r.pairs % 4 || j.width % (T == TK_F32 ? 8 : 16) ||
        (j.width - 2 * j.r.pairs) % ITEM || all & 15) {
        const unsigned parts = (unsigned)(tk_ceil_div(j.queries, HEADS) + 2 * tk_ceil_div(j.keys, HEADS));
        launch(rope_heads<T>, dim3((unsigned)tokens, parts), ROPE_THREADS, HEADS * j.width * sizeof(float), a,
               j);
        return;
    }
    const int each = j.width / ITEM;
    const dim3 grid((unsigned)tokens, (unsigned)(tk_ceil_div(j.queries * each, ROPE_THREADS) +
                                                 2 * tk_ceil_div(j.keys * each, ROPE_THREADS)));
    launch(rope_items < T == TK_Q8_0 ? TK_F32 : T >, grid, ROPE_THREADS, j.r.pairs * sizeof(float2), a, j);
}

static rotation rotation_of(const tk_args *a, int position, int frequency) {
    return { (const int32_t *)a->p[position], (const float *)a->p[frequency], a->attr.f[0],
             (int)TK_DIM(a, 'z'), a->attr.i[0] == TK_ROPE_HALF };
}

} // namespace tk

/* x p f -> y */
extern "C" void rope_cuda(const tk_args *a) {
    tk::rope_job j = {};
    j.y = (float *)a->p[3], j.q = (const float *)a->p[0], j.r = tk::rotation_of(a, 1, 2);
    j.queries = (int)TK_DIM(a, 'h'), j.width = (int)TK_DIM(a, 'd');
    tk::run_rope<TK_F32>(a, j);
}

/* q k v p f i ck cv -> y nk nv, the last two in the storage of ck and cv */
extern "C" void rope_kvput_cuda(const tk_args *a) {
    tk::rope_job j = {};
    j.y = (float *)a->p[8], j.ck = a->p[9], j.cv = a->p[10];
    j.q = (const float *)a->p[0], j.k = (const float *)a->p[1], j.v = (const float *)a->p[2],
    j.slot = (const int32_t *)a->p[5];
    j.r = tk::rotation_of(a, 3, 4), j.size = TK_DIM(a, 's');
    j.keys = (int)TK_DIM(a, 'g'), j.queries = j.keys * (int)TK_DIM(a, 'r'), j.width = (int)TK_DIM(a, 'd');
#define RUN(T) tk::run_rope<T>(a, j)
    TK_BY_CACHE(a->type[6], RUN)
#undef RUN
}
