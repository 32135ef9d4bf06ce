/* SPDX-License-Identifier: Apache-2.0 */
/* A mixture of experts around its products: the choice of experts, the sorting of tokens by expert, biases, the
 * weighted sum of experts, the gate of a shared one. No number leaves the device: what depends on the choice lies in
 * memory, and grids are of fixed sizes. */
#include "cuda/products.cuh"

namespace tk {

enum { MOST_EXPERTS = 4096 /* of a model (config_keys.def) */, SORT_THREADS = 512 };

/* ---- tokens by expert ---- */

/* One block. Where a pair comes to stand within its expert's is left to chance: no result depends on it. */
__global__ void __launch_bounds__(SORT_THREADS)
    sort_pairs(int32_t *order, gathering::group *groups, const int32_t *chosen, int64_t pairs, int experts, int block) {
    __shared__ int start[MOST_EXPERTS + 1], next[MOST_EXPERTS], before[SORT_THREADS];
    for (int e = threadIdx.x; e < experts; e += SORT_THREADS) next[e] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < pairs; i += SORT_THREADS) atomicAdd(&next[chosen[i]], 1);
    __syncthreads();
    /* each thread: a run of experts; then the runs before it */
    const int each = (experts + SORT_THREADS - 1) / SORT_THREADS, from = TK_MIN((int)threadIdx.x * each, experts),
              to = TK_MIN(from + each, experts);
    for (int what = 0; what < 2; what++) { /* pairs, then groups */
        int sum = 0, at = 0;
        for (int e = from; e < to; e++) sum += what ? (start[e + 1] - start[e] + block - 1) / block : next[e];
        before[threadIdx.x] = sum;
        __syncthreads();
        for (int i = 0; i < (int)threadIdx.x; i++) at += before[i];
        if (what && threadIdx.x == SORT_THREADS - 1) groups[0] = { at + sum, 0, 0 };
        for (int e = from; e < to; e++) {
            const int n = next[e];
            if (!what) {
                start[e] = at, next[e] = at, at += n;
                if (e == experts - 1) start[experts] = at;
            } else {
                for (int i = start[e]; i < start[e + 1]; i += block)
                    groups[1 + at++] = { e, i, TK_MIN(block, start[e + 1] - i) };
            }
        }
        __syncthreads();
    }
    for (int64_t i = threadIdx.x; i < pairs; i += SORT_THREADS) order[atomicAdd(&next[chosen[i]], 1)] = (int32_t)i;
}

static size_t order_bytes(int64_t pairs) { return tk_align((size_t)pairs * sizeof(int32_t), 64); }

gathering gather_tokens(const tk_args *a, int64_t pairs, int block, int64_t share) {
    int32_t *order = (int32_t *)a->scratch;
    gathering::group *groups = (gathering::group *)((char *)a->scratch + order_bytes(pairs));
    sort_pairs<<<1, SORT_THREADS, 0, stream_of(a)>>>(order, groups, (const int32_t *)a->p[2], pairs,
                                                    (int)TK_DIM(a, 'x'), block);
    return { order, groups, share };
}

/* ---- route ---- */

__device__ inline bool comes_before(float a, int i, float b, int j) { return a > b || (a == b && i < j); }

/* A warp a token. As the reference: the first that is left, unless one is larger; so NaN is chosen only where it stands
 * first of what is left. */
__global__ void __launch_bounds__(32) route_tokens(int32_t *ids, float *weights, const float *logits, int experts, int used,
                                                   bool among) {
    __shared__ float l[MOST_EXPERTS];
    __shared__ int chosen[MOST_EXPERTS];
    __shared__ uint32_t taken[MOST_EXPERTS / 32];
    const int lane = threadIdx.x;
    const int64_t t = blockIdx.x;
    for (int e = lane; e < experts; e += 32) l[e] = logits[t * experts + e];
    for (int e = lane; e < MOST_EXPERTS / 32; e += 32) taken[e] = 0;
    __syncwarp();
    for (int j = 0; j < used; j++) {
        int best = -1, first = experts;
        for (int e = lane; e < experts; e += 32) {
            if (taken[e / 32] >> e % 32 & 1) continue;
            first = TK_MIN(first, e);
            if (!isnan(l[e]) && (best < 0 || l[e] > l[best])) best = e;
        }
        for (int i = 16; i; i >>= 1) {
            const int other = __shfl_xor_sync(~0u, best, i), early = __shfl_xor_sync(~0u, first, i);
            if (best < 0 || (other >= 0 && comes_before(l[other], other, l[best], best))) best = other;
            first = TK_MIN(first, early);
        }
        if (isnan(l[first])) best = first;
        if (lane == 0) chosen[j] = best, taken[best / 32] |= 1u << best % 32;
        __syncwarp();
    }
    const float top = l[chosen[0]];
    float sum = 0;
    for (int i = lane; i < (among ? used : experts); i += 32) sum += expf(l[among ? chosen[i] : i] - top);
    sum = warp_sum(sum);
    for (int j = lane; j < used; j += 32) {
        if (ids) ids[t * used + j] = chosen[j];
        if (weights) weights[t * used + j] = expf(l[chosen[j]] - top) / sum;
    }
}

/* ---- the small ones ---- */

__global__ void add_expert_bias(float *y, const float *x, const float *b, const int32_t *chosen, int64_t n, int64_t width) {
    TK_GRID_LOOP(i, n) y[i] = x[i] + b[chosen[i / width] * width + i % width];
}
__global__ void combine_experts(float *y, const float *x, const float *p, int64_t n, int64_t width, int used) {
    TK_GRID_LOOP(i, n) {
        const int64_t t = i / width;
        const float *from = x + t * used * width + i % width;
        float sum = p[t * used] * from[0];
        for (int j = 1; j < used; j++) sum += p[t * used + j] * from[j * width];
        y[i] = sum;
    }
}
__global__ void gate_tokens(float *y, const float *x, const float *g, int64_t n, int64_t width) {
    TK_GRID_LOOP(i, n) y[i] = 1 / (1 + expf(-g[i / width])) * x[i];
}

} // namespace tk

#define IN(i) ((const float *)a->p[i])
#define IDS(i) ((const int32_t *)a->p[i])
#define OUT(i) ((float *)a->p[i])

/* order and groups, with the most groups that any size of block makes */
extern "C" size_t experts_cuda_scratch(const tk_dim dim[26], int nth) {
    const int64_t pairs = dim['t' - 'a'].n * dim['a' - 'a'].n;
    (void)nth;
    return tk::order_bytes(pairs) + (size_t)(pairs + 1) * sizeof(tk::gathering::group);
}
extern "C" void route_cuda(const tk_args *a) {
    if (TK_DIM(a, 't') < 1) return;
    tk::route_tokens<<<(unsigned)TK_DIM(a, 't'), 32, 0, tk::stream_of(a)>>>(
        (int32_t *)a->p[1], OUT(2), IN(0), (int)TK_DIM(a, 'x'), (int)TK_DIM(a, 'a'),
        a->attr.i[1] == TK_ROUTE_TOP_SOFTMAX || a->attr.i[2]);
}
extern "C" void experts_bias_cuda(const tk_args *a) {
    const int64_t width = TK_DIM(a, 'n'), n = TK_DIM(a, 't') * TK_DIM(a, 'a') * width;
    tk::add_expert_bias<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(3), IN(0), IN(1), IDS(2), n, width);
}
extern "C" void combine_cuda(const tk_args *a) {
    const int64_t width = TK_DIM(a, 'n'), n = TK_DIM(a, 't') * width;
    tk::combine_experts<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), IN(1), n, width,
                                                                             (int)TK_DIM(a, 'a'));
}
extern "C" void gate_cuda(const tk_args *a) {
    const int64_t width = TK_DIM(a, 'n'), n = TK_DIM(a, 't') * width;
    tk::gate_tokens<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>(OUT(2), IN(0), IN(1), n, width);
}
