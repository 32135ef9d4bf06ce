/* SPDX-License-Identifier: Apache-2.0 */
/* draw: a token from each row of logits, the one that docs/SAMPLING.md says. All cuts keep a beginning of one
 * order (descending logit, ties by id), so what is left after any of them is one number, the mass kept, and
 * nothing is sorted but the few candidates of one bucket of 1/128 in log-probability. Masses are sums of
 * integers, so how a row is spread over blocks changes nothing. */
#ifndef TK_DRAW_CUH
#define TK_DRAW_CUH
#include "cuda/kernel.cuh"
extern "C" {
#include "ops/draw.h"
}

namespace tk {

enum {
    DRAW_THREADS = 1024,
    BUCKETS = 3552,     /* TK_DRAW_DEPTH * 128 */
    LISTED = 1024,      /* candidates that are sorted at once: one a thread */
    MOST_PARTS = 32,    /* blocks of a row */
    TEAM_ROWS = 128,    /* rows that may have several */
    DIGITS = 256,       /* of the search in a bucket of very many */
    STEPS = 3,          /* buckets opened: for top_k, for top_p, for the draw */
    AHEAD = 8,          /* logits of a thread on their way */
    MOST_PART = 1 << 18 /* logits of a block: keeps its sums of parts of weights below 2^32 */
};
typedef unsigned long long mass;

/* What the blocks of a row share, in scratch */
struct team {
    mass best[MOST_PARTS]; /* keys; the largest logit of each part */
    mass hist[BUCKETS], list[STEPS][LISTED], kept, all;
    uint32_t counts[BUCKETS], met, listed[STEPS];
};

struct draw_job {
    int32_t *id;
    const float *x, *bias;
    const tk_draw *how;
    int32_t *seen;
    team *teams; /* NULL: a block a row */
    int vocab, parts;
    bool note; /* seen is brought up to date, too */
};

/* A row's logits, as biases and penalties leave them */
struct source {
    const float *x, *bias;
    const int32_t *seen; /* NULL: they stay as they are */
    const tk_draw *how;
    __device__ source() {}
    __device__ source(const draw_job &j, int64_t row)
        : x(j.x + row * j.vocab), bias(NULL), seen(NULL), how(j.how + row) {
        if (how->line < 0) return;
        bias = j.bias + (int64_t)how->line * j.vocab, seen = j.seen + (int64_t)how->line * j.vocab;
    }
    __device__ float operator[](int i) const {
        return seen ? tk__draw_changed(x[i], how, bias[i], seen[i]) : x[i];
    }
};
/* A token drawn is seen once more. */
__device__ inline void note_seen(int32_t *seen, int vocab, int line, int id) {
    if (line < 0 || id < 0) return;
    int32_t *n = seen + (int64_t)line * vocab + id;
    atomicMax(n, 1), atomicAdd(n, 1);
}

/* ---- order ---- */

/* Ascending keys are the order of candidates. Never ~0. */
__device__ inline mass key_of(float logit, int id) {
    const uint32_t u = __float_as_uint(tk__draw_clamped(logit) + 0.0f); /* -0 is 0 */
    return (mass)(u >> 31 ? u : ~u & 0x7fffffffu) << 32 | (uint32_t)id;
}
__device__ inline float logit_of(mass key) {
    const uint32_t u = (uint32_t)(key >> 32);
    return __uint_as_float(u >> 31 ? u : ~u & 0x7fffffffu);
}

template <class T> __device__ inline T shuffled(T v, int mask) { return __shfl_xor_sync(~0u, v, mask); }

/* The least over the block, known to all */
__device__ inline mass block_least(mass v) {
    __shared__ mass room[32];
    for (int i = 16; i; i >>= 1) {
        const mass other = shuffled(v, i);
        v = other < v ? other : v;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    v = room[threadIdx.x % 32];
    for (int i = 16; i; i >>= 1) {
        const mass other = shuffled(v, i);
        v = other < v ? other : v;
    }
    return v;
}

/* The sum over all threads before this one; the sum over all in *all */
__device__ inline mass sum_before(mass v, mass *all) {
    __shared__ mass room[32];
    mass through = v;
    for (int i = 1; i < 32; i *= 2) {
        const mass other = __shfl_up_sync(~0u, through, i);
        if ((int)threadIdx.x % 32 >= i) through += other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 31) room[threadIdx.x / 32] = through;
    __syncthreads();
    mass warps = room[threadIdx.x % 32];
    for (int i = 1; i < 32; i *= 2) {
        const mass other = __shfl_up_sync(~0u, warps, i);
        if ((int)threadIdx.x % 32 >= i) warps += other;
    }
    *all = __shfl_sync(~0u, warps, 31);
    const int warp = threadIdx.x / 32;
    const mass earlier = __shfl_sync(~0u, warps, warp ? warp - 1 : 0);
    return (warp ? earlier : 0) + through - v;
}

/* ---- a row ---- */

/* Where something was found: what lies before it, what it holds itself, in candidates and in mass */
struct place {
    mass count_before, mass_before, count, weight;
    int at;
};

struct row {
    source x;
    int vocab, from, to, parts; /* from .. to: this block's */
    team *t;
    uint32_t meetings;
    bool known;    /* the histogram in shared memory is the row's */
    bool counting; /* it counts candidates, too */
    float max, scale;
    mass all; /* the mass of all candidates */
    /* shared memory */
    uint32_t *low, *high, *counts, *spare; /* [BUCKETS]: sums of weights as two words; of candidates */
    mass *list;                            /* [LISTED] */
    place *found;

    /* All blocks of the row have come here. */
    __device__ void meet() {
        __syncthreads();
        if (parts == 1) return;
        if (threadIdx.x == 0) {
            __threadfence();
            atomicAdd(&t->met, 1u);
            for (meetings += (uint32_t)parts; *(volatile uint32_t *)&t->met < meetings;) {}
            __threadfence();
        }
        __syncthreads();
    }

    __device__ float depth(float logit) const { return (tk__draw_clamped(logit) - max) * scale; }
    __device__ static int bucket_at(float z) { return (int)(z * -128.0f); }
    /* fn(logit, index) for the block's share of the logits from .. to, several being on their way */
    template <class F> __device__ void each_logit(int from, int to, F fn) const {
        for (int base = from + threadIdx.x; base < to; base += AHEAD * DRAW_THREADS) {
            float l[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; k++)
                l[k] = base + k * DRAW_THREADS < to ? x[base + k * DRAW_THREADS] : -INFINITY;
#pragma unroll
            for (int k = 0; k < AHEAD; k++) fn(l[k], base + k * DRAW_THREADS);
        }
    }
    __device__ void add(int bin, mass w) {
        const uint32_t part = (uint32_t)w, had = atomicAdd(&low[bin], part);
        const uint32_t up = (uint32_t)(w >> 32) + (had + part < had);
        if (up) atomicAdd(&high[bin], up);
        atomicAdd(&counts[bin], 1u);
    }
    __device__ void clear(int bins) {
        __syncthreads();
        for (int i = threadIdx.x; i < bins; i += DRAW_THREADS) low[i] = high[i] = counts[i] = spare[i] = 0;
        __syncthreads();
    }
    __device__ mass weight_in(int bin) const { return (mass)high[bin] << 32 | low[bin]; }

    /* The bin of `bins` in which the running sum (of candidates, or of mass) reaches `target`, after what
     * lies before already; at -1: it is nowhere reached. *all: the mass of all bins */
    __device__ place find(int bins, bool by_count, mass target, mass *all) {
        const int each = (bins + DRAW_THREADS - 1) / DRAW_THREADS, from = threadIdx.x * each;
        mass count = 0, weight = 0, counted;
        __syncthreads();
        if (threadIdx.x == 0) found->at = -1;
        for (int i = from; i < from + each && i < bins; i++) count += counts[i], weight += weight_in(i);
        mass count_before = sum_before(count, &counted), mass_before = sum_before(weight, all);
        const mass before = by_count ? count_before : mass_before;
        if (before < target && before + (by_count ? count : weight) >= target) {
            int i = from;
            while (by_count ? count_before + counts[i] < target : mass_before + weight_in(i) < target)
                count_before += counts[i], mass_before += weight_in(i), i++;
            *found = { count_before, mass_before, counts[i], weight_in(i), i };
        }
        __syncthreads();
        return *found;
    }

    /* Of list[0 .. n), the thread's number in order, from 0; ~0: there are not so many */
    __device__ mass sort(int n) {
        const int i = threadIdx.x;
        mass key = i < n ? list[i] : ~(mass)0;
        for (int size = 2; size <= LISTED && size < 2 * n; size *= 2)
            for (int far = size / 2; far; far /= 2) {
                mass other;
                if (far >= 32) {
                    __syncthreads();
                    list[i] = key;
                    __syncthreads();
                    other = list[i ^ far];
                } else {
                    other = shuffled(key, far);
                }
                const bool rising = (i & size) == 0, first = (i & far) == 0;
                key = (rising == first) == (other < key) ? other : key;
            }
        return key;
    }

    /* The candidate in a bucket at which the sum within the bucket reaches `target`; at: its id. The bucket's
     * members are in list[0 .. n). */
    __device__ place sort_and_find(int n, bool by_count, mass target) {
        const mass key = sort(n), weight = key != ~(mass)0 ? tk__draw_weight(depth(logit_of(key))) : 0;
        const int i = threadIdx.x;
        mass all;
        const mass before = sum_before(weight, &all);
        if (key != ~(mass)0 &&
            (by_count ? (mass)i + 1 == target : before < target && before + weight >= target))
            *found = { (mass)i, before, 1, weight, (int)(uint32_t)key };
        __syncthreads();
        return *found;
    }

    /* The same for a bucket of any size, by this block alone: digit by digit of the keys, then by id among
     * equals. */
    __device__ place search(int bucket, bool by_count, mass target) {
        mass count_before = 0, mass_before = 0, all;
        uint32_t prefix = 0;
        place p = {};
        known = false;
        for (int shift = 24; shift >= 0; shift -= 8) {
            clear(DIGITS);
            each_logit(0, vocab, [&](float l, int) {
                const float z = depth(l);
                const uint32_t k = (uint32_t)(key_of(l, 0) >> 32);
                if (!(z > -TK_DRAW_DEPTH) || bucket_at(z) != bucket ||
                    (shift < 24 && k >> (shift + 8) != prefix))
                    return;
                if (const mass w = tk__draw_weight(z)) add(k >> shift & 255, w);
            });
            __syncthreads();
            p = find(DIGITS, by_count, target - (by_count ? count_before : mass_before), &all);
            count_before += p.count_before, mass_before += p.mass_before,
                prefix = prefix << 8 | (uint32_t)p.at;
        }
        const mass each = p.weight / p.count; /* equal logits have equal weights */
        const mass nth = by_count ? target - count_before : (target - mass_before + each - 1) / each;
        const int run = (vocab + DRAW_THREADS - 1) / DRAW_THREADS, first = threadIdx.x * run;
        mass mine = 0;
        for (int i = first; i < first + run && i < vocab; i++)
            mine += (uint32_t)(key_of(x[i], 0) >> 32) == prefix && !isnan(x[i]);
        mass earlier = sum_before(mine, &all);
        if (earlier < nth && earlier + mine >= nth)
            for (int i = first; i < vocab && earlier < nth; i++)
                if ((uint32_t)(key_of(x[i], 0) >> 32) == prefix && !isnan(x[i]) && ++earlier == nth)
                    *found = { count_before + nth - 1, mass_before + (nth - 1) * each, 1, each, i };
        __syncthreads();
        return *found;
    }

    /* As `find` among all candidates of the row; step: which opening this is */
    __device__ place reach(int step, bool by_count, mass target) {
        mass all;
        gather_histogram();
        const place b = find(BUCKETS, by_count, target, &all);
        const mass left = target - (by_count ? b.count_before : b.mass_before);
        if (b.at < 0) return b;
        mass *members = parts > 1 ? t->list[step] : list;
        __shared__ uint32_t own;
        uint32_t *listed = parts > 1 ? &t->listed[step] : &own;
        if (parts == 1 && threadIdx.x == 0) own = 0;
        __syncthreads();
        each_logit(from, to, [&](float l, int i) {
            const float z = depth(l);
            if (!(z > -TK_DRAW_DEPTH) || bucket_at(z) != b.at || !tk__draw_weight(z)) return;
            const uint32_t place = atomicAdd(listed, 1u);
            if (place < LISTED) members[place] = key_of(l, i);
        });
        meet();
        const uint32_t n = *(volatile uint32_t *)listed;
        if (parts > 1 && n <= LISTED && threadIdx.x < n)
            list[threadIdx.x] = *(volatile mass *)&members[threadIdx.x];
        __syncthreads();
        place p = n <= LISTED ? sort_and_find((int)n, by_count, left) : search(b.at, by_count, left);
        p.count_before += b.count_before, p.mass_before += b.mass_before;
        return p;
    }

    /* The row's masses by bucket, and counts when they are counted, from all its blocks */
    __device__ void gather_histogram() {
        if (known) return;
        known = true;
        if (parts == 1) return (void)weigh(1);
        __syncthreads();
        for (int i = threadIdx.x; i < BUCKETS; i += DRAW_THREADS) {
            const mass w = *(volatile mass *)&t->hist[i];
            low[i] = (uint32_t)w, high[i] = (uint32_t)(w >> 32),
            counts[i] = counting ? *(volatile uint32_t *)&t->counts[i] : 0;
        }
        __syncthreads();
    }

    /* Masses of this block's candidates by bucket, and of those of at least `least`; then of the row's.
     * Returns the latter. */
    __device__ mass weigh(mass least) {
        mass kept = 0, sum = 0;
        clear(BUCKETS);
        each_logit(from, to, [&](float l, int) {
            const float z = depth(l);
            const mass w = tk__draw_weight(z);
            sum += w, kept += w >= least ? w : 0;
            if (!w) return;
            const int bin = bucket_at(z);
            const uint32_t middle = (uint32_t)(w >> 14) & 0x3fff, top = (uint32_t)(w >> 28);
            atomicAdd(&low[bin], (uint32_t)w & 0x3fff); /* three sums without a carry between them */
            if (middle) atomicAdd(&high[bin], middle);
            if (top) atomicAdd(&spare[bin], top);
            if (counting) atomicAdd(&counts[bin], 1u);
        });
        mass all_kept;
        sum_before(kept, &all_kept), sum_before(sum, &all);
        for (int i = threadIdx.x; i < BUCKETS; i += DRAW_THREADS) {
            const mass w = low[i] + ((mass)high[i] << 14) + ((mass)spare[i] << 28);
            low[i] = (uint32_t)w, high[i] = (uint32_t)(w >> 32);
            if (parts == 1 || !w) continue;
            atomicAdd(&t->hist[i], w);
            if (counting) atomicAdd(&t->counts[i], counts[i]);
        }
        known = parts == 1;
        if (parts == 1) return all_kept;
        if (threadIdx.x == 0) atomicAdd(&t->kept, all_kept), atomicAdd(&t->all, all);
        meet();
        all = *(volatile mass *)&t->all;
        return *(volatile mass *)&t->kept;
    }
};

/* The largest logit of the block's part, as a key; ~0: none is above minus infinity */
__device__ inline mass best_of(const source &x, int from, int to) {
    mass best = ~(mass)0;
    for (int base = from + threadIdx.x; base < to; base += AHEAD * DRAW_THREADS) {
        float l[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++)
            l[k] = base + k * DRAW_THREADS < to ? x[base + k * DRAW_THREADS] : -INFINITY;
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const mass key = key_of(l[k], base + k * DRAW_THREADS);
            if (l[k] > -INFINITY && key < best) best = key;
        }
    }
    return block_least(best);
}

__device__ inline void random_words(uint32_t out[2], const tk_draw &how) {
    uint32_t c[4] = { how.position[0], how.position[1], 0, TK_DRAW_SITE },
             k[2] = { how.seed[0], how.seed[1] };
    for (int i = 0; i < 10; i++, k[0] += 0x9e3779b9u, k[1] += 0xbb67ae85u) {
        const uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k[0], c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k[1], c[3] = (uint32_t)a;
    }
    out[0] = c[0], out[1] = c[1];
}

/* By all blocks of the row; the id, or -1 */
__device__ inline int32_t draw_from(row &r, const tk_draw &how) {
    mass total = 0;
    uint32_t word[2];
    random_words(word, how);
    r.counting = how.top_k > 0;
    const mass least = (mass)ceil((double)how.min_p * (double)TK_DRAW_ONE),
               kept = r.weigh(how.min_p != 0 ? least : 1);
    total = r.all;
    if (how.top_k > 0) {
        const place p = r.reach(0, true, (mass)how.top_k);
        if (p.at >= 0) total = p.mass_before + p.weight; /* else there are not so many */
    }
    if (how.top_p != 1 && total) {
        const double wanted = ceil((double)how.top_p * (double)total);
        const place p = r.reach(1, false, wanted < 1 ? 1 : (mass)wanted < total ? (mass)wanted : total);
        total = p.mass_before + p.weight;
    }
    if (how.min_p != 0 && kept < total) total = kept;
    if (!total) return -1;
    return r.reach(2, false, __umul64hi((mass)word[0] << 32 | word[1], total) + 1).at;
}

} // namespace tk
#endif
