/* SPDX-License-Identifier: Apache-2.0 */
/* draw on Hopper: a cluster of blocks has a row in its shared memory and goes over it three times: for the
 * largest logit; for a histogram of counts and of places within the buckets, which tells to a few candidates
 * where a sum of masses will be reached; and for exact weights, which are added up while the candidates of
 * that interval are listed. What was told is checked: exact sums decide, as in draw.cu. What does not come
 * out (ties without end, more candidates than the list takes) is done again by one block in draw.cu's way. */
#include "cuda/draw.cuh"
#include "cuda/hopper.cuh"
#include "cuda/row.cuh"

namespace tk {

enum {
    HELD = 48 << 10, /* logits of a block in shared memory; what is beyond is read anew */
    MOST_CLUSTER = 16,
    TOGETHER = 4, /* runs of four logits of a thread on their way */
    LIST = 512,   /* candidates that an interval may have */
    FINE = 10,    /* bits of a candidate's place in its bucket */
    PLACES = 21,  /* bits of the sum of places; those above count candidates. More than 2,047 give nonsense,
                     which shows */
    FLUSH = 64    /* logits of a thread whose weights are added in words of 32 bits */
};

/* A sum within the counts: the bucket where it is reached */
struct reached {
    int bucket;
    uint32_t before, through; /* candidates */
};

struct listed {
    float logit;
    int at; /* in the block */
};

struct cluster_room {
    mass best[MOST_CLUSTER], sums[MOST_CLUSTER][4], warp[32][4], total;
    listed lists[2][LIST]; /* this block's */
    uint32_t lengths[MOST_CLUSTER][2], length[2], counts[BUCKETS];
    float sum[32], spread[32];
    uint32_t count[32];
    reached at[4];
    place found;
    int32_t id;
};

/* Logits of a block, but of the last ones */
__device__ inline int part_of(int vocab, int blocks) { return ((vocab + blocks - 1) / blocks + 3) & ~3; }

/* The same place in block `rank` of the cluster */
template <class T> __device__ inline T *in_block(T *p, int rank) {
    T *there;
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(p), "r"(rank));
    return there;
}

/* tk__draw_weight in two words of 17 and 23 bits, high << 17 | low, for z > -TK_DRAW_DEPTH: the same
 * operations, whole parts being taken by adding numbers so large that the rest is rounded away. */
__device__ inline float weight_parts(float z, uint32_t *high, uint32_t *low) {
    const float magic = __fadd_ru(z * 1.44269504f - 0.5f, 12582912.0f + 40), f = magic - (12582912.0f + 40);
    const float r = fmaf(f, -0.693359375f, z) + f * 2.12194440e-4f; /* the product of the first is exact */
    float y = 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const float v = __uint_as_float(__float_as_uint(y) + (__float_as_uint(magic) << 23)); /* y 2^(n + 40) */
    const float top = __fadd_rz(v, 0x1p40f), rest = v - (top - 0x1p40f);
    *high = __float_as_uint(top) - 0x53800000u,
    *low = __float_as_uint(__fadd_rz(rest, 0x1p23f)) - 0x4b000000u;
    return v;
}

struct cluster_row {
    source x;
    int vocab, from, n; /* this block's: n from number `from` on */
    float *held;
    bool aligned; /* and unchanged: four may be read at once */
    float max, scale;

    /* NaN counts as minus infinity. */
    static __device__ float clean(float l) { return fminf(fmaxf(l, -INFINITY), FLT_MAX); }
    /* Four logits from the i-th of the block on */
    __device__ float4 fetch(int i) const {
        float4 q = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
        if (aligned && i + 4 <= n) {
            q = *(const float4 *)(x.x + from + i);
        } else {
            if (i < n) q.x = x[from + i];
            if (i + 1 < n) q.y = x[from + i + 1];
            if (i + 2 < n) q.z = x[from + i + 2];
            if (i + 3 < n) q.w = x[from + i + 3];
        }
        return make_float4(clean(q.x), clean(q.y), clean(q.z), clean(q.w));
    }
    /* fn(four logits, index of the first in the block), and after() every FLUSH of a thread */
    template <class F, class G> __device__ void each(F fn, G after) const {
        const int inside = TK_MIN(n, (int)HELD);
        for (int first = threadIdx.x * 4; first < inside; first += FLUSH * DRAW_THREADS) {
#pragma unroll 2
            for (int k = 0; k < FLUSH / 4; k++) {
                const int i = first + k * 4 * DRAW_THREADS;
                if (i >= inside) break;
                fn(*(const float4 *)(held + i), i);
            }
            after();
        }
        for (int i = HELD + threadIdx.x * 4; i < n; i += TOGETHER * 4 * DRAW_THREADS) {
            float4 q[TOGETHER];
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) q[k] = fetch(i + k * 4 * DRAW_THREADS);
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) fn(q[k], i + k * 4 * DRAW_THREADS);
            after();
        }
    }
    /* Brings the row; the block's largest logit as a key */
    __device__ mass bring() const {
        float best = -INFINITY;
        int at = -1;
        for (int i = threadIdx.x * 4; i < n; i += TOGETHER * 4 * DRAW_THREADS) {
            float4 q[TOGETHER];
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) q[k] = fetch(i + k * 4 * DRAW_THREADS);
#pragma unroll
            for (int k = 0; k < TOGETHER; k++) {
                const int j = i + k * 4 * DRAW_THREADS;
                if (j < HELD && j < n) *(float4 *)(held + j) = q[k];
                if (q[k].x > best) best = q[k].x, at = j;
                if (q[k].y > best) best = q[k].y, at = j + 1;
                if (q[k].z > best) best = q[k].z, at = j + 2;
                if (q[k].w > best) best = q[k].w, at = j + 3;
            }
        }
        return block_least(at < 0 ? ~(mass)0 : key_of(best, from + at));
    }
    __device__ float depth(float l) const { return (l - max) * scale; }
};

/* What the third pass does: candidates above z = above[k] are added up, those from there to end[k] listed. */
struct drawing {
    bool few; /* the candidates above end[0] are all there are */
    bool lost;
    float above[2], end[2];
};

template <int CLUSTER> __device__ inline void count_all(cluster_room *room, const cluster_row &r) {
    /* Adding 2^23 leaves the whole part in the low bits: the place in the bucket, and the bucket. */
    const uint32_t base = shared_address(room->counts) - (0x4b000000u >> FINE << 2);
    const float scale = r.scale * (-128 << FINE);
    const auto count = [&](float l) {
        const float depth = (l - r.max) * scale;
        const uint32_t at = __float_as_uint(__fadd_rz(depth, 0x1p23f));
        asm volatile(
            "{\n.reg .pred p;\nsetp.lt.f32 p, %0, %1;\n@p red.shared::cta.add.u32 [%2], %3;\n}" ::"f"(depth),
            "f"((float)(BUCKETS << FINE)), "r"(base + ((at >> FINE) << 2)),
            "r"((at & ((1 << FINE) - 1)) | 1u << PLACES)
            : "memory");
    };
    r.each([&](float4 q, int) { count(q.x), count(q.y), count(q.z), count(q.w); }, [] {});
    if (CLUSTER == 1) return __syncthreads();
    const int rank = (int)cluster_rank(), each = (BUCKETS + CLUSTER - 1) / CLUSTER;
    cluster_barrier();
    for (int i = threadIdx.x; i < each && rank * each + i < BUCKETS; i += DRAW_THREADS) {
        uint32_t sum = 0, part[CLUSTER];
#pragma unroll
        for (int k = 0; k < CLUSTER; k++) part[k] = *in_block(&room->counts[rank * each + i], k);
#pragma unroll
        for (int k = 0; k < CLUSTER; k++) sum += part[k];
#pragma unroll
        for (int k = 0; k < CLUSTER; k++) *in_block(&room->counts[rank * each + i], k) = sum;
    }
    cluster_barrier();
}

/* The sum over all threads before this one; the sum over all in *all */
__device__ inline uint32_t words_before(uint32_t *room, uint32_t v, uint32_t *all) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t through = v;
    for (int i = 1; i < 32; i *= 2) {
        const uint32_t other = __shfl_up_sync(~0u, through, i);
        if (lane >= i) through += other;
    }
    __syncthreads();
    if (lane == 31) room[warp] = through;
    __syncthreads();
    const uint32_t of_warp = room[lane];
    *all = __reduce_add_sync(~0u, of_warp);
    return __reduce_add_sync(~0u, lane < warp ? of_warp : 0) + through - v;
}

/* Where sums will be reached, from counts and places alone, the likeliest candidate's weight being 1. The
 * errors of rounding places to 2^-17 add up like those of independent numbers, so the interval that is listed
 * is some deviations wide; and what is listed is checked. */
__device__ inline drawing plan_draw(cluster_room *room, const tk_draw &how, float random) {
    enum { EACH = 4 };
    const float finest = 1.5e-6f; /* for the spread of places in a bucket, and rounding here */
    uint32_t count[EACH], part[EACH], all_counted, sum;
    float weight[EACH], all = 0, spread = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int b = threadIdx.x * EACH + i;
        const uint32_t found = b < BUCKETS ? room->counts[b] : 0;
        count[i] = found >> PLACES;
        const float place =
            __fdividef((found & ((1u << PLACES) - 1)) + 0.5f * count[i], (float)(count[i] << FINE));
        const float each = count[i] ? exp2_of((b + place) * (-1.44269504f / 128)) : 0;
        weight[i] = (float)count[i] * each, spread = fmaf(weight[i], each, spread);
        all += weight[i];
    }
    all = block_sum<DRAW_THREADS>(all, room->sum), spread = block_sum<DRAW_THREADS>(spread, room->spread);
    /* Sums as whole numbers, so that threads agree on them */
    const float unit = 0x1p31f / all, error = 5 * 2.3e-6f * sqrtf(spread) + finest * all;
#pragma unroll
    for (int i = 0; i < EACH; i++) part[i] = __float2uint_rn(weight[i] * unit);
    const uint32_t count_before =
        words_before(room->count, count[0] + count[1] + count[2] + count[3], &all_counted);
    const uint32_t before = words_before(room->count, part[0] + part[1] + part[2] + part[3], &sum);
    /* Notes in `which` the bucket where the running sum of candidates or masses reaches `target`. */
    const auto seek = [&](int which, const uint32_t(&of)[EACH], uint32_t running, uint32_t target) {
        uint32_t c = count_before;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            if (running < target && running + of[i] >= target)
                room->at[which] = { (int)threadIdx.x * EACH + i, c, c + count[i] };
            running += of[i], c += count[i];
        }
    };
    const auto seek_mass = [&](int which, float target) {
        const float t = target * unit;
        seek(which, part, before, t < 1 ? 1 : t < (float)sum ? (uint32_t)t : sum);
    };
    drawing d;
    d.few = d.lost = false, d.above[0] = d.above[1] = d.end[0] = d.end[1] = INFINITY;
    if (how.top_k > 0 || all_counted <= LIST) {
        seek(0, count, count_before,
             how.top_k > 0 && (uint32_t)how.top_k < all_counted ? (uint32_t)how.top_k : all_counted);
        __syncthreads();
        const bool cut = how.top_k > 0 && (uint32_t)how.top_k < all_counted;
        d.few = true, d.lost = room->at[0].through > LIST,
        d.end[0] = cut ? (room->at[0].bucket + 1) * (-1 / 128.0f) : -TK_DRAW_DEPTH;
        return d;
    }
    float low = all - error, high = all + error; /* what is kept lies between these */
    if (how.top_p != 1) {
        low = how.top_p * all - error, high = how.top_p * all + error;
        seek_mass(0, low), seek_mass(1, high);
        __syncthreads();
        const reached a = room->at[0], b = room->at[1];
        d.lost = b.through - a.before > LIST;
        d.above[0] = a.bucket * (-1 / 128.0f), d.end[0] = (b.bucket + 1) * (-1 / 128.0f);
        high += exp2_of(a.bucket * (-1.44269504f / 128)); /* the last one kept */
    }
    if (how.min_p != 0) {
        const float depth = -128 * __logf(how.min_p); /* infinite for very small ones */
        const int b = depth < BUCKETS - 2 ? (int)depth : BUCKETS - 2;
        uint32_t running = before;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            running += part[i];
            if ((int)threadIdx.x * EACH + i == b - 2) room->sum[0] = (float)running;
            if ((int)threadIdx.x * EACH + i == b + 1) room->sum[1] = (float)running;
        }
        __syncthreads();
        low = fminf(low, (b >= 2 ? room->sum[0] : 0) / unit - error),
        high = fminf(high, room->sum[1] / unit + error);
    }
    low *= random, high *= random;
    seek_mass(2, low - error), seek_mass(3, high + error);
    __syncthreads();
    const reached a = room->at[2], b = room->at[3];
    d.lost |= b.through - a.before > LIST;
    d.above[1] = a.bucket * (-1 / 128.0f), d.end[1] = (b.bucket + 1) * (-1 / 128.0f);
    return d;
}

/* a += x, b += y where z is above the bar */
__device__ inline void add_above(float z, float bar, uint32_t &a, uint32_t x, uint32_t &b, uint32_t y) {
    asm("{\n.reg .pred p;\nsetp.gt.f32 p, %2, %3;\n@p add.u32 %0, %0, %4;\n@p add.u32 %1, %1, %5;\n}"
        : "+r"(a), "+r"(b)
        : "f"(z), "f"(bar), "r"(x), "r"(y));
}

/* The third pass: sums of weights (all, or with MIN_P those of at least `least` in their place too; above the
 * two intervals) and the two lists */
template <bool FEW, bool MIN_P>
__device__ inline void weigh_all(cluster_room *room, const cluster_row &r, const drawing &d, float least) {
    enum { SUMS = MIN_P ? 4 : 3 };
    uint32_t high[SUMS] = {}, low[SUMS] = {};
    mass sums[SUMS] = {};
    const auto weigh = [&](float z) {
        uint32_t h, w;
        const float v = weight_parts(fmaxf(z, -TK_DRAW_DEPTH - 0.25f), &h, &w); /* that deep all are 0 */
        high[0] += h, low[0] += w;
        add_above(z, d.above[0], high[1], h, low[1], w);
        add_above(z, d.above[1], high[2], h, low[2], w);
        if (MIN_P && v >= least) high[SUMS - 1] += h, low[SUMS - 1] += w;
    };
    const auto in_first = [&](float z) { return z <= d.above[0] && z > d.end[0]; };
    const auto in_second = [&](float z) { return !FEW && z <= d.above[1] && z > d.end[1]; };
    const auto note = [&](int which, float l, int at) {
        const uint32_t n = atomicAdd(&room->length[which], 1u);
        if (n < LIST) room->lists[which][n] = { l, at };
    };
    r.each(
        [&](float4 q, int at) {
            const float l[4] = { q.x, q.y, q.z, q.w };
            bool any = false;
            float z[4];
#pragma unroll
            for (int k = 0; k < 4; k++) z[k] = r.depth(l[k]), any |= in_first(z[k]) || in_second(z[k]);
            if (!FEW)
#pragma unroll
                for (int k = 0; k < 4; k++) weigh(z[k]);
            if (any)
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    if (in_first(z[k])) note(0, l[k], at + k);
                    if (in_second(z[k])) note(1, l[k], at + k);
                }
        },
        [&] {
#pragma unroll
            for (int k = 0; k < SUMS; k++) sums[k] += ((mass)high[k] << 17) + low[k], high[k] = low[k] = 0;
        });
    if (!FEW) {
#pragma unroll
        for (int k = 0; k < SUMS; k++)
            for (int i = 16; i; i >>= 1) sums[k] += shuffled(sums[k], i);
        if (threadIdx.x % 32 == 0)
            for (int k = 0; k < SUMS; k++) room->warp[threadIdx.x / 32][k] = sums[k];
    }
    __syncthreads();
}

/* By block 0, from all sums and lists, both lists side by side: a thread has the candidate of its number in
 * the order of its list. -2: it does not come out. `keys`: room for one of each thread */
template <int CLUSTER>
__device__ inline int32_t settle(cluster_room *room, const cluster_row &c, const drawing &d,
                                 const tk_draw &how, mass word, mass *keys) {
    const int which = threadIdx.x / LIST, i = threadIdx.x % LIST, lane = threadIdx.x % 32,
              warp = threadIdx.x / 32;
    uint32_t length[2] = {};
    int block = -1, place = 0;
    for (int k = 0; k < CLUSTER; k++) {
        const uint32_t has[2] = { room->lengths[k][0], room->lengths[k][1] },
                       start = which ? length[1] : length[0];
        if (i >= start && i < start + (which ? has[1] : has[0])) block = k, place = i - (int)start;
        length[0] += has[0], length[1] += has[1];
    }
    if (length[0] > LIST || length[1] > LIST) return -2;
    if (d.few && how.top_k > 0 && length[0] < (uint32_t)how.top_k && d.end[0] > -TK_DRAW_DEPTH) return -2;
    mass key = ~(mass)0;
    if (block >= 0) {
        const listed *there = in_block(&room->lists[which][place], block);
        key = key_of(there->logit, block * part_of(c.vocab, CLUSTER) + there->at);
    }
    if (threadIdx.x == 0) room->total = 0, room->id = -2;
    const uint32_t most = length[0] > length[1] ? length[0] : length[1];
    for (int size = 2; size <= LIST && size < 2 * (int)most; size *= 2)
        for (int far = size / 2; far; far /= 2) {
            mass other;
            if (far >= 32) {
                __syncthreads();
                keys[threadIdx.x] = key;
                __syncthreads();
                other = keys[threadIdx.x ^ far];
            } else {
                other = shuffled(key, far);
            }
            const bool rising = (i & size) == 0, first = (i & far) == 0;
            key = (rising == first) == (other < key) ? other : key;
        }
    const bool in = key != ~(mass)0 && !(d.few && how.top_k > 0 && i >= how.top_k);
    const mass w = in ? tk__draw_weight(c.depth(logit_of(key))) : 0,
               least = (mass)ceil((double)how.min_p * (double)TK_DRAW_ONE);
    mass through = w, earlier = 0;
    for (int k = 1; k < 32; k *= 2) {
        const mass other = __shfl_up_sync(~0u, through, k);
        if (lane >= k) through += other;
    }
    __syncthreads();
    if (lane == 31) room->warp[warp][0] = through;
    __syncthreads();
    for (int k = which * (LIST / 32); k < warp; k++) earlier += room->warp[k][0];
    through += earlier;
    mass sums[4] = {};
    if (d.few) {
        for (int k = 0; k < LIST / 32; k++) sums[0] += room->warp[k][0];
        if (how.min_p != 0) sum_before(w >= least ? w : 0, &sums[3]);
    } else {
        for (int k = 0; k < CLUSTER; k++)
#pragma unroll
            for (int n = 0; n < 4; n++) sums[n] += room->sums[k][n];
    }
    mass total = sums[0];
    through += which ? sums[2] : sums[1];
    if (how.top_p != 1) {
        const double wanted = ceil((double)how.top_p * (double)total);
        const mass target = wanted < 1 ? 1 : (mass)wanted < total ? (mass)wanted : total;
        if (!which && through - w < target && through >= target) room->total = through;
        __syncthreads();
        total = room->total;
    }
    if (how.min_p != 0 && sums[3] < total) total = sums[3];
    const mass target = __umul64hi(word, total) + 1;
    if (which == !d.few && through - w < target && through >= target) room->id = (int32_t)(uint32_t)key;
    __syncthreads();
    return total ? room->id : -2;
}

__device__ inline void drawn(const draw_job &j, int64_t row, int32_t id) {
    j.id[row] = id;
    if (j.note) note_seen(j.seen, j.vocab, j.how[row].line, id);
}

template <int CLUSTER> __global__ void __launch_bounds__(DRAW_THREADS, 1) draw_cluster(const draw_job j) {
    extern __shared__ __align__(16) unsigned char memory[];
    cluster_room *room = (cluster_room *)(memory + HELD * sizeof(float));
    const int64_t at = blockIdx.x / CLUSTER;
    const int rank = CLUSTER > 1 ? (int)cluster_rank() : 0, each = part_of(j.vocab, CLUSTER);
    cluster_row c;
    c.vocab = j.vocab, c.from = TK_MIN(rank * each, j.vocab), c.n = TK_MIN(each, j.vocab - c.from);
    c.held = (float *)memory;
    for (int i = threadIdx.x; i < BUCKETS; i += DRAW_THREADS) room->counts[i] = 0;
    if (threadIdx.x < 2) room->length[threadIdx.x] = 0;
    pdl_go();
    if (CLUSTER > 1) cluster_barrier(); /* all blocks of the cluster run */
    pdl_wait();
    c.x = source(j, at), c.aligned = !c.x.seen && !((uintptr_t)c.x.x & 15);
    const tk_draw how = j.how[at];
    mass best = c.bring();
    if (CLUSTER > 1) {
        if (threadIdx.x < CLUSTER) *in_block(&room->best[rank], (int)threadIdx.x) = best;
        cluster_barrier();
        for (int k = 0; k < CLUSTER; k++) best = TK_MIN(best, room->best[k]);
    }
    if (best == ~(mass)0 || !(how.temp > 0)) {
        if (rank == 0 && threadIdx.x == 0) drawn(j, at, best == ~(mass)0 ? -1 : (int32_t)(uint32_t)best);
        return;
    }
    uint32_t words[2];
    random_words(words, how);
    const mass word = (mass)words[0] << 32 | words[1];
    c.max = logit_of(best), c.scale = 1 / how.temp;
    count_all<CLUSTER>(room, c);
    const drawing d = plan_draw(room, how, (float)words[0] * 0x1p-32f);
    if (!d.lost) {
        const float least = __ull2float_ru((mass)ceil((double)how.min_p * (double)TK_DRAW_ONE));
        if (d.few)
            weigh_all<true, false>(room, c, d, 0);
        else if (how.min_p != 0)
            weigh_all<false, true>(room, c, d, least);
        else
            weigh_all<false, false>(room, c, d, 0);
        if (threadIdx.x < 4) {
            mass sum = 0;
            for (int i = 0; i < 32; i++) sum += room->warp[i][threadIdx.x];
            *in_block(&room->sums[rank][threadIdx.x], 0) = sum;
            if (threadIdx.x < 2) *in_block(&room->lengths[rank][threadIdx.x], 0) = room->length[threadIdx.x];
        }
        if (CLUSTER > 1)
            cluster_barrier();
        else
            __syncthreads();
    }
    if (rank == 0) {
        row r;
        uint32_t *const bins = (uint32_t *)memory;
        r.x = c.x, r.vocab = r.to = j.vocab, r.from = 0, r.parts = 1, r.known = r.counting = false,
        r.meetings = 0, r.max = c.max, r.scale = c.scale, r.found = &room->found;
        r.low = bins, r.high = bins + BUCKETS, r.counts = bins + 2 * BUCKETS, r.spare = bins + 3 * BUCKETS;
        r.list = (mass *)(memory + 4 * 4 * BUCKETS);
        int32_t id = d.lost ? -2 : settle<CLUSTER>(room, c, d, how, word, r.list);
        if (id == -2) id = draw_from(r, how);
        if (threadIdx.x == 0) drawn(j, at, id);
    }
    if (CLUSTER > 1) cluster_barrier(); /* block 0 has read the others' lists */
}

template <int CLUSTER> static bool start_cluster(const tk_args *a, const draw_job &j, int rows) {
    const auto kernel = draw_cluster<CLUSTER>;
    const size_t shared = HELD * sizeof(float) + sizeof(cluster_room);
    cudaLaunchAttribute how[2] = {};
    how[0].id = cudaLaunchAttributeClusterDimension;
    how[0].val.clusterDim.x = CLUSTER, how[0].val.clusterDim.y = how[0].val.clusterDim.z = 1;
    how[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    how[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t c = {};
    c.gridDim = dim3((unsigned)(CLUSTER * rows)), c.blockDim = dim3(DRAW_THREADS),
    c.dynamicSmemBytes = shared, c.stream = stream_of(a);
    c.attrs = how, c.numAttrs = 1;
    int clusters = 0; /* at the same time */
    if (cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             (int)shared) != cudaSuccess ||
        (CLUSTER > 8 &&
         cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) !=
             cudaSuccess) ||
        cudaOccupancyMaxActiveClusters(&clusters, kernel, &c) != cudaSuccess ||
        (CLUSTER > 1 && clusters < rows)) {
        cudaGetLastError();
        return false;
    }
    c.numAttrs = 2;
    return cudaLaunchKernelEx(&c, kernel, j) == cudaSuccess;
}

/* As many blocks a row as the GPU has room for, all rows at once; very many rows one after another */
static void draw(const tk_args *a, bool note) {
    const int rows = (int)TK_DIM(a, 'o'), vocab = (int)TK_DIM(a, 'v');
    const draw_job j = { (int32_t *)a->p[4],
                         (const float *)a->p[0],
                         (const float *)a->p[2],
                         (const tk_draw *)a->p[1],
                         (int32_t *)a->p[3],
                         NULL,
                         vocab,
                         1,
                         note };
    if (rows < 1) return;
    if (vocab >= 32768 && start_cluster<16>(a, j, rows)) return;
    if (vocab >= 16384 && start_cluster<8>(a, j, rows)) return;
    if (vocab >= 8192 && start_cluster<4>(a, j, rows)) return;
    if (vocab >= 8192 && start_cluster<2>(a, j, rows)) return;
    (void)start_cluster<1>(a, j, rows);
}

} // namespace tk

extern "C" void draw_sm90(const tk_args *a) { tk::draw(a, false); }
/* x s b n -> i m, the last in the storage of n */
extern "C" void draw_note_sm90(const tk_args *a) { tk::draw(a, true); }
