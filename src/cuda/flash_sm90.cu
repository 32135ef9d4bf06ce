/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on Hopper for many query rows a sequence (prefill): warpgroup products, in the ORDER of
 * attn_sm90.cuh. A block of threads has 128 rows of one KV head (query heads x tokens) at a time: one warp
 * fetches blocks of 128 keys and values, each of two warpgroups has 64 rows. A warpgroup starts the scores of
 * the next block and the values of this one together, and weighs the scores while values are still being
 * added and while the other multiplies. Weights go from registers into the products. What the spans before
 * the last one gave waits in shared memory, each thread its own part.
 *
 * Tiles go to blocks of threads in the order of falling length, there and back again, which evens out causal
 * lengths. */
#include <limits.h>

#include "cuda/attn_sm90.cuh"

namespace tk {

enum {
    GROUPS = 2 /* warpgroups that multiply */,
    GROUP = 128 /* threads of each */,
    MOST = 2 /* stages of keys, and of values */,
    ITEMS = 4 /* tiles that the fetching warp may have told of */
};
enum {
    K_FULL,
    K_EMPTY = K_FULL + MOST,
    V_FULL = K_EMPTY + MOST,
    V_EMPTY = V_FULL + MOST,
    ITEM_FULL = V_EMPTY + MOST,
    BARRIERS = ITEM_FULL + ITEMS
};

#define TK_REGS_40 TK_REGS_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define TK_REGS_48 TK_REGS_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define TK_D40(d, i) TK_D32(d, i), TK_D8(d, (i) + 32)
#define TK_D48(d, i) TK_D40(d, i), TK_D8(d, (i) + 40)

/* scores: d[64 rows][128 keys] (+)= a b^T, both in shared memory. values: d[64 rows][N] (+)= a b, a: weights
 * in registers, b: 16 keys x N numbers, the numbers side by side */
template <int T> struct score_products;
template <int T, int N> struct value_products;
#define TK_SCORES(T, NAME)                                                                                   \
    template <> struct score_products<T> {                                                                   \
        static __device__ inline void add(float (&d)[64], uint64_t a, uint64_t b, int keep) {                \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"                                        \
                         "wgmma.mma_async.sync.aligned.m64n128k16.f32." NAME "." NAME " {" TK_REGS_64        \
                         "}, %64, %65, p, 1, 1, 0, 0;\n}"                                                    \
                         : TK_D64(d, 0)                                                                      \
                         : "l"(a), "l"(b), "r"(keep));                                                       \
        }                                                                                                    \
    };
#define TK_VALUES(T, NAME, N, REGS, A0, A1, A2, A3, B, P)                                                    \
    template <> struct value_products<T, N> {                                                                \
        static __device__ inline void add(float (&d)[REGS], const uint32_t (&a)[4], uint64_t b, int keep) {  \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P ", 0;\n"                                    \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." NAME "." NAME " {" TK_REGS_##REGS \
                         "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #B ", p, 1, 1, 1;\n}"              \
                         : TK_D##REGS(d, 0)                                                                  \
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));                   \
        }                                                                                                    \
    };
TK_SCORES(TK_BF16, "bf16")
TK_SCORES(TK_F16, "f16")
TK_VALUES(TK_BF16, "bf16", 64, 32, 32, 33, 34, 35, 36, 37)
TK_VALUES(TK_F16, "f16", 64, 32, 32, 33, 34, 35, 36, 37)
TK_VALUES(TK_BF16, "bf16", 96, 48, 48, 49, 50, 51, 52, 53)
TK_VALUES(TK_F16, "f16", 96, 48, 48, 49, 50, 51, 52, 53)
TK_VALUES(TK_BF16, "bf16", 128, 64, 64, 65, 66, 67, 68, 69)
TK_VALUES(TK_F16, "f16", 128, 64, 64, 65, 66, 67, 68, 69)

/* The compiler may not move what reads or writes d across this: products in flight are not known to it. */
template <int N> __device__ inline void settle(float (&d)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

/* Operands in blocks of 8 x 8 numbers, 128 bytes each. `along` and `across`: bytes between blocks that follow
 * each other within one k = 16 step, and between those of the next eight rows (keys, for scores) or numbers
 * (for values). The lower word, which has the address, is taken from one lane: then the assembler knows that
 * it is the same in all, and steps it where it needs it. */
struct operand_of {
    uint32_t low, high;
    __device__ operand_of(uint32_t at, uint32_t along, uint32_t across)
        : low(__shfl_sync(~0u, at >> 4 | along >> 4 << 16, 0)), high(across >> 4) {}
    /* `bytes` further */
    __device__ uint64_t plus(uint32_t bytes) const {
        uint64_t d;
        asm("mov.b64 %0, {%1, %2};" : "=l"(d) : "r"(low + (bytes >> 4)), "r"(high));
        return d;
    }
};

template <int D> struct flash_size {
    static const bool HALVES = D > 128; /* they have the same rows, and half of the values' numbers each */
    static const int TILE = HALVES ? 64 : 64 * GROUPS; /* rows */
    static const int OWN = HALVES ? D / 2 : D, KEPT = HALVES ? 1 : 2;
    static const int STAGE = ATTN_BLOCK * D * 2, QUERIES = TILE * D * 2, TOTAL = TILE * D * 4;
    static const int BYTES =
        QUERIES + 2 * KEPT * STAGE + TOTAL + BARRIERS * 8 + ITEMS * (int)sizeof(attn_item);
    /* Room in registers for the next tile's queries beside scores and weights */
    static const bool EARLY = D <= 96;
    /* Which of its tile's rows a group has */
    static __device__ int first_row(int tile, int group) { return tile * TILE + (HALVES ? 0 : group * 64); }
};

struct flash_shared {
    uint32_t q, k, v, bar;
    attn_item *items;
    float4 *total;
    char *values;
};

/* The blocks of keys that a tile visits: [from, to) */
struct flash_blocks {
    int from, to, end; /* end: keys of the sequence */
};
template <int TILE> __device__ inline flash_blocks tile_blocks(const attn_call &c, const attn_item &it) {
    const int first = token_of(c, it.tile * TILE),
              last = min(token_of(c, it.tile * TILE + TILE - 1), it.tokens - 1);
    const int low = c.attr.i[0] > 0 ? max(0, it.past + first - c.attr.i[0] + 1) : 0,
              end = it.past + it.tokens;
    return { low / ATTN_BLOCK, ((c.full ? end - 1 : it.past + last) / ATTN_BLOCK) + 1, end };
}

/* Turn `n` of this block of threads: there and back again */
__device__ inline int item_of(int n) {
    const int at = n % 2 ? (int)gridDim.x - 1 - (int)blockIdx.x : (int)blockIdx.x;
    return n * (int)gridDim.x + at;
}
/* The next item of this block of threads; longest tiles first */
template <int TILE>
__device__ inline bool next_item(attn_walk<TILE> &walk, int *n, int items, attn_item *it) {
    const int item = item_of((*n)++);
    if (item >= items || !walk.find(item, it)) return false;
    it->tile = (it->tokens * walk.shared + TILE - 1) / TILE - 1 - it->tile;
    return true;
}

/* Brings a tile's queries near, for those who read them when they are done with the tile before. */
template <int D> __device__ inline void ask_queries(const attn_call &c, const attn_item &it) {
    const int bytes = D * (c.narrow_q ? 2 : 4), first = it.tile * flash_size<D>::TILE;
    for (int row = first + (int)threadIdx.x % 32;
         row < min(first + flash_size<D>::TILE, it.tokens * c.shared); row += 32) {
        const int token = token_of(c, row);
        const int64_t at =
            ((int64_t)(it.first_token + token) * c.groups + it.g) * c.shared + row - token * c.shared;
        for (int i = 0; i < bytes; i += 128)
            asm volatile("prefetch.global.L2 [%0];" ::"l"((const char *)c.q + at * bytes + i));
    }
}

/* A block of keys and values on its way: a lane has what lies in one page. Its place is asked for one block
 * ahead, since memory takes its time to tell. */
struct flash_part {
    int from, keys,
        all; /* this lane's keys begin at the block's key `from`; keys of the block that are fetched */
    int64_t row;
};
__device__ inline flash_part ask_part(const attn_call &c, const tk_batch &batch, const attn_item &it,
                                      const flash_blocks &r, int b) {
    const int k0 = b * ATTN_BLOCK, page = k0 / c.size + (int)threadIdx.x % 32, first = max(k0, page * c.size);
    flash_part p;
    p.all = min(ATTN_BLOCK, (r.end - k0 + 15) / 16 * 16);
    p.from = first - k0, p.keys = min(k0 + p.all, (page + 1) * c.size) - first, p.row = 0;
    if (p.keys > 0)
        p.row = ((int64_t)batch.pages[(int64_t)it.seq * batch.max_pages + page] * c.groups + it.g) * c.size +
                first - page * c.size;
    return p;
}

/* Tiles are told to those who multiply one tile ahead: with MOST blocks on their way at most, tile n - 3 is
 * done when tile n begins and n + 1 takes its place. */
template <int D>
__device__ inline void fetch_all(const attn_call &c, const flash_shared &m,
                                 attn_walk<flash_size<D>::TILE> walk, int items) {
    const int lane = (int)threadIdx.x % 32, KEPT = flash_size<D>::KEPT;
    int count = 0, n = 0;
    attn_item it, later;
    const auto tell = [&](attn_item *next) {
        const int slot = n % ITEMS;
        if (!next_item(walk, &n, items, next)) next->seq = -1;
        if (lane == 0) m.items[slot] = *next, barrier_arrive(m.bar + 8 * (ITEM_FULL + slot));
        if (next->seq >= 0) ask_queries<D>(c, *next);
    };
    tell(&it);
    if (it.seq < 0) return;
    flash_blocks r = tile_blocks<flash_size<D>::TILE>(c, it);
    flash_part next = ask_part(c, walk.b, it, r, r.from);
    for (;;) {
        for (int b = r.from; b < r.to; b++, count++) {
            const flash_part p = next;
            const int stage = count % KEPT;
            for (int which = 0; which < 2; which++) {
                const uint32_t full = m.bar + 8 * (which ? V_FULL + stage : K_FULL + stage);
                barrier_wait(m.bar + 8 * (which ? V_EMPTY + stage : K_EMPTY + stage),
                             (uint32_t)(count / KEPT & 1) ^ 1);
                if (lane == 0) barrier_expect(full, (uint32_t)p.all * D * 2);
                __syncwarp();
                if (p.keys > 0)
                    copy_in((which ? m.v : m.k) + (uint32_t)(stage * flash_size<D>::STAGE + p.from * D * 2),
                            (which ? c.cv : c.ck) + p.row * D * 2, (uint32_t)p.keys * D * 2, full);
            }
            if (b == r.from) tell(&later);
            if (b + 1 < r.to) next = ask_part(c, walk.b, it, r, b + 1);
        }
        if (later.seq < 0) return;
        it = later, r = tile_blocks<flash_size<D>::TILE>(c, it);
        next = ask_part(c, walk.b, it, r, r.from);
    }
}

/* ---- a warpgroup: 64 rows; a thread has rows 16 (its warp) + lane / 4 and 8 more ---- */

struct flash_rows {
    int pos[2], low[2],
        out[2]; /* last and first key seen, index of the query head over all tokens, -1: none */
    float slope[2], b[2], l[2];
};

template <int D>
__device__ inline void place_rows(flash_rows &r, const attn_call &c, const attn_item &it, int group) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int row = flash_size<D>::first_row(it.tile, group) + (int)threadIdx.x % GROUP / 32 * 16 +
                        (int)threadIdx.x % 32 / 4 + 8 * h;
        const int token = token_of(c, row), head = row - token * c.shared;
        const bool real = token < it.tokens;
        r.pos[h] = !real ? -1 : c.full ? it.past + it.tokens - 1 : it.past + token;
        r.low[h] = c.attr.i[0] > 0 ? max(0, it.past + token - c.attr.i[0] + 1) : 0;
        r.out[h] = real ? ((it.first_token + token) * c.groups + it.g) * c.shared + head : -1;
        r.slope[h] = c.rule.plain ? 0 : alibi_slope(c.attr, c.g, c.r, it.g, head);
    }
}

/* The warpgroup's queries on their way, rounded; of rows that two groups share, each brings half. */
template <int D> struct flash_queries {
    static const int THREADS = flash_size<D>::HALVES ? 2 * GROUP : GROUP, EACH = 64 * (D / 8) / THREADS;
    uint32_t w[EACH][4];

    static __device__ int thread() {
        return flash_size<D>::HALVES ? (int)threadIdx.x - GROUP : (int)threadIdx.x % GROUP;
    }
    template <int T> __device__ void load(const attn_call &c, const attn_item &it, int group) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = thread() + i * THREADS,
                      row = flash_size<D>::first_row(it.tile, group) + at / D * 8 + at % 8;
            const int token = token_of(c, row), head = row - token * c.shared;
            const int64_t from =
                (((int64_t)(it.first_token + token) * c.groups + it.g) * c.shared + head) * D +
                at / 8 % (D / 8) * 8;
            w[i][0] = w[i][1] = w[i][2] = w[i][3] = 0;
            if (token >= it.tokens) continue;
            if (c.narrow_q) {
                const uint4 v = *(const uint4 *)((const uint16_t *)c.q + from);
                w[i][0] = v.x, w[i][1] = v.y, w[i][2] = v.z, w[i][3] = v.w;
            } else {
                const float4 u = *(const float4 *)((const float *)c.q + from),
                             v = *(const float4 *)((const float *)c.q + from + 4);
                w[i][0] = pack_two<T>(u.x, u.y), w[i][1] = pack_two<T>(u.z, u.w);
                w[i][2] = pack_two<T>(v.x, v.y), w[i][3] = pack_two<T>(v.z, v.w);
            }
        }
    }
    /* As blocks of 8 x 8 in shared memory; those who share rows meet before, since products of other warps
     * may still read. */
    __device__ void put(uint32_t q, int group) const {
        named_barrier(flash_size<D>::HALVES ? 7 : 1 + group, THREADS);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = thread() + i * THREADS;
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(q + (uint32_t)(at * 16)),
                         "r"(w[i][0]), "r"(w[i][1]), "r"(w[i][2]), "r"(w[i][3])
                         : "memory");
        }
        fence_shared();
        named_barrier(flash_size<D>::HALVES ? 7 : 1 + group, THREADS);
    }
};

template <int T, int D>
__device__ inline void start_scores(float (&s)[64], const operand_of &q, const operand_of &k) {
#pragma unroll
    for (int i = 0; i < D / 16; i++) score_products<T>::add(s, q.plus(i * 256), k.plus(i * 256), i);
    products_commit();
}
template <int T, int D>
__device__ inline void start_values(float (&o)[flash_size<D>::OWN / 2], const uint32_t (&p)[8][4],
                                    const operand_of &v, bool keep) {
#pragma unroll
    for (int i = 0; i < 8; i++)
        value_products<T, flash_size<D>::OWN>::add(o, p[i], v.plus(i * 2 * D * 16), i || keep);
    products_commit();
}

/* x of the ORDER in place of products */
template <bool PLAIN>
__device__ inline void finish_scores(float (&s)[64], const flash_rows &r, const attn_call &c, int k0,
                                     bool edge) {
    const int key = k0 + 2 * ((int)threadIdx.x % 4);
    if (!PLAIN)
#pragma unroll
        for (int i = 0; i < 64; i++) {
            const int h = i / 2 % 2;
            s[i] = score_from(c.rule, s[i], r.slope[h], r.pos[h] - (key + i / 4 * 8 + i % 2));
        }
    if (edge)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int last = r.pos[h] - key, first = r.low[h] - key;
#pragma unroll
            for (int j = 0; j < 16; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (8 * j + e > last || 8 * j + e < first) s[4 * j + 2 * h + e] = -INFINITY;
        }
}

/* Scores become weights relative to the references; sum: the thread's part of each row's. */
__device__ inline void weigh(float (&s)[64], float (&sum)[2], const float (&base)[2], float c) {
    float part[2][4];
#pragma unroll
    for (int j = 0; j < 16; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float &x = s[4 * j + 2 * h], &y = s[4 * j + 2 * h + 1];
            x = exp2_of(fmaf(x, c, -base[h])), y = exp2_of(fmaf(y, c, -base[h]));
            part[h][j / 4] = j % 4 ? part[h][j / 4] + x : x;
            part[h][j / 4] += y;
        }
#pragma unroll
    for (int h = 0; h < 2; h++) sum[h] = (part[h][0] + part[h][1]) + (part[h][2] + part[h][3]);
}

/* Most blocks raise no reference, and that needs no look at their largest scores: where no thread's part of a
 * row weighs more than half of 2^LIFT, none of its weights does, and no score is LIFT above the reference.
 * (References beyond 2^20, where rounding could hide that, and those that are none yet, are never so.) */
__device__ inline bool all_steady(const flash_rows &r, const float (&sum)[2], int group) {
    bool steady = true;
    uint32_t all;
#pragma unroll
    for (int h = 0; h < 2; h++)
        steady = steady && (r.out[h] < 0 || (fabsf(r.b[h]) < 1 << 20 && sum[h] <= (1 << ATTN_LIFT) / 2));
    asm volatile(
        "{\n.reg .pred p, q;\nsetp.ne.b32 p, %1, 0;\nbar.red.and.pred q, %2, %3, p;\nselp.u32 %0, 1, 0, q;\n}"
        : "=r"(all)
        : "r"((uint32_t)steady), "r"(5 + group), "r"((int)GROUP)
        : "memory");
    return all;
}

/* The same where references may rise to the block's largest scores; alpha: what o is to be multiplied with */
__device__ inline void weigh_fully(float (&s)[64], flash_rows &r, float c, float (&alpha)[2]) {
    float base[2], sum[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = fmaxf(s[2 * h], s[2 * h + 1]);
#pragma unroll
        for (int j = 1; j < 16; j++) top = fmaxf(top, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float rise = top * c;
        alpha[h] = 1;
        if (rise > r.b[h] + ATTN_LIFT) alpha[h] = exp2_of(r.b[h] - rise), r.b[h] = rise;
        base[h] = r.b[h] == -INFINITY ? 0 : r.b[h];
    }
    weigh(s, sum, base, c);
#pragma unroll
    for (int h = 0; h < 2; h++) r.l[h] = fmaf(r.l[h], alpha[h], sum[h]);
}

template <int T> __device__ inline void round_weights(uint32_t (&p)[8][4], const float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) p[i][e] = pack_two<T>(s[8 * i + 2 * e], s[8 * i + 2 * e + 1]);
}

/* The joint result of the spans so far; its numbers wait in shared memory */
struct flash_total {
    float b[2], l[2];
};
__device__ inline void join_lanes(float (&l)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        l[h] += __shfl_xor_sync(~0u, l[h], 1);
        l[h] += __shfl_xor_sync(~0u, l[h], 2);
    }
}
template <int N> __device__ inline void multiply_rows(float (&o)[N], const float (&by)[2]) {
#pragma unroll
    for (int i = 0; i < N; i++) o[i] *= by[i / 2 % 2];
}
/* Joins a span to the total: o becomes the joint numbers, which are kept too if more spans follow. */
template <int N>
__device__ inline void join_span(flash_total &t, float (&o)[N], float (&b)[2], float (&l)[2], float4 *kept,
                                 bool first, bool last) {
    float w[2], v[2];
    join_lanes(l);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float both = fmaxf(t.b[h], b[h]);
        w[h] = join_weight(t.b[h], both), v[h] = join_weight(b[h], both);
        t.b[h] = both, t.l[h] = fmaf(t.l[h], w[h], l[h] * v[h]);
    }
    if (first && last) return multiply_rows(o, v);
    if (first) {
        multiply_rows(o, v);
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 x = kept[i / 4 * GROUP];
            o[i] = fmaf(x.x, w[0], o[i] * v[0]), o[i + 1] = fmaf(x.y, w[0], o[i + 1] * v[0]);
            o[i + 2] = fmaf(x.z, w[1], o[i + 2] * v[1]), o[i + 3] = fmaf(x.w, w[1], o[i + 3] * v[1]);
        }
    }
    if (last) return;
#pragma unroll
    for (int i = 0; i < N; i += 4) kept[i / 4 * GROUP] = make_float4(o[i], o[i + 1], o[i + 2], o[i + 3]);
}

/* Lane i of four has column i of a 4 x 4 matrix, and then row i. */
__device__ inline void turn_quad(uint32_t (&w)[4]) {
    const int lane = (int)threadIdx.x;
#pragma unroll
    for (int by = 1; by < 4; by *= 2) {
        const bool high = lane & by;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & by) continue;
            const uint32_t got = __shfl_xor_sync(~0u, high ? w[i] : w[i + by], by);
            if (high)
                w[i] = got;
            else
                w[i + by] = got;
        }
    }
}

template <int D>
__device__ inline void put_rows(const attn_call &c, const flash_rows &r, const flash_total &t,
                                const float (&o)[flash_size<D>::OWN / 2], int group) {
    const int OWN = flash_size<D>::OWN, first = flash_size<D>::HALVES ? group * OWN : 0;
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float inverse = 1 / t.l[h];
        const int64_t at = (int64_t)r.out[h] * D + first;
        if (c.o && c.narrow) {
#pragma unroll
            for (int j = 0; j < OWN / 8; j += 4) {
                uint32_t w[4];
#pragma unroll
                for (int i = 0; i < 4; i++)
                    w[i] = pack_two<TK_BF16>(o[4 * (j + i) + 2 * h] * inverse,
                                             o[4 * (j + i) + 2 * h + 1] * inverse);
                turn_quad(w);
                if (r.out[h] >= 0)
                    *(uint4 *)((uint16_t *)c.o + at + (j + lane % 4) * 8) =
                        make_uint4(w[0], w[1], w[2], w[3]);
            }
        } else if (c.o && r.out[h] >= 0) {
            float2 *to = (float2 *)((float *)c.o + at + 2 * (lane % 4));
#pragma unroll
            for (int j = 0; j < OWN / 8; j++)
                to[4 * j] = make_float2(o[4 * j + 2 * h] * inverse, o[4 * j + 2 * h + 1] * inverse);
        }
        if (c.l && r.out[h] >= 0 && lane % 4 == 0 && first == 0)
            c.l[r.out[h]] = fmaf(t.b[h], TK_LN2, logf(t.l[h]));
    }
}

/* Values beyond the sequence may be anything, and 0 x NaN is NaN: they become zeros. Both warpgroups do it.
 */
template <int D> __device__ inline void clear_beyond(char *stage, int from, int group) {
    for (int i = (int)threadIdx.x % GROUP; i < (ATTN_BLOCK - from) * (D / 8); i += GROUP) {
        const int key = from + i / (D / 8);
        *(uint4 *)(stage + (key / 8 * (D / 8) + i % (D / 8)) * 128 + key % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    fence_shared();
    named_barrier(1 + group, GROUP);
}

__device__ inline void release(uint32_t bar) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(bar);
}
__device__ inline bool barrier_test(uint32_t bar, uint32_t parity) {
    uint32_t p;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(p)
        : "r"(bar), "r"(parity)
        : "memory");
    return p;
}
/* The next tile; false: there is none. */
__device__ inline bool take_item(const flash_shared &m, int *n, attn_item *it) {
    const int slot = *n % ITEMS;
    barrier_wait(m.bar + 8 * (ITEM_FULL + slot), (uint32_t)(*n / ITEMS & 1));
    *it = m.items[slot], ++*n;
    return it->seq >= 0;
}

/* Stages as products see them, and when they are full; block number `count` of all */
template <int D> struct flash_stages {
    typedef flash_size<D> size;
    const flash_shared &m;
    uint32_t own; /* where the group's part of values begins */
    __device__ operand_of keys(int count) const {
        return operand_of(m.k + (uint32_t)(count % size::KEPT) * size::STAGE, 128, D * 16);
    }
    __device__ operand_of values(int count) const {
        return operand_of(own + (uint32_t)(count % size::KEPT) * size::STAGE, D * 16, 128);
    }
    __device__ void wait_keys(int count) const {
        barrier_wait(m.bar + 8 * (K_FULL + count % size::KEPT), (uint32_t)(count / size::KEPT & 1));
    }
    __device__ void wait_values(int count) const {
        barrier_wait(m.bar + 8 * (V_FULL + count % size::KEPT), (uint32_t)(count / size::KEPT & 1));
    }
    __device__ bool test_keys(int count) const {
        return barrier_test(m.bar + 8 * (K_FULL + count % size::KEPT), (uint32_t)(count / size::KEPT & 1));
    }
    __device__ bool test_values(int count) const {
        return barrier_test(m.bar + 8 * (V_FULL + count % size::KEPT), (uint32_t)(count / size::KEPT & 1));
    }
    __device__ void release_keys(int count) const { release(m.bar + 8 * (K_EMPTY + count % size::KEPT)); }
    __device__ void release_values(int count) const { release(m.bar + 8 * (V_EMPTY + count % size::KEPT)); }
};

/* All tiles of a warpgroup. The queries of the next tile come while the last scores (or values) of this one
 * are worked on, and its first scores are on their way while this one's result is written. */
template <int T, int D, bool PLAIN>
__device__ inline void attend_tiles(const attn_call &c, const flash_shared &m, int group) {
    typedef flash_size<D> size;
    const int KEPT = size::KEPT, OWN = size::OWN;
    const uint32_t q = m.q + (uint32_t)(size::HALVES ? 0 : group * 64 * D * 2);
    const flash_stages<D> stages = { m, m.v + (uint32_t)(size::HALVES ? group * OWN * 16 : 0) };
    float4 *kept = m.total + group * (OWN / 8) * GROUP + (int)threadIdx.x % GROUP;
    const operand_of queries_at(q, 128, D * 16);
    float s[64], o[OWN / 2], alpha[2];
    uint32_t p[8][4];
    int count = 0, n = 0;
    attn_item it;
    flash_queries<D> queries;
    if (D > 96 && group == 1) asm volatile("bar.arrive 3, %0;" ::"r"(2 * GROUP));
    if (!take_item(m, &n, &it)) return;
    queries.template load<T>(c, it, group);
    queries.put(q, group);
    stages.wait_keys(count);
    operand_of keys = stages.keys(count), values = stages.values(count);
    products_begin();
    start_scores<T, D>(s, queries_at, keys);
    for (;;) {
        const flash_blocks range = tile_blocks<flash_size<D>::TILE>(c, it);
        const int plain_to = c.attr.i[0] > 0 ? 0
                             : c.full        ? range.end
                                      : it.past + token_of(c, flash_size<D>::first_row(it.tile, group)) + 1;
        flash_rows r;
        flash_total t = { { -INFINITY, -INFINITY }, { 0, 0 } };
        bool fresh = true /* o begins with the next values */, joined = false, more = true;
        place_rows<D>(r, c, it, group);
        r.b[0] = r.b[1] = -INFINITY, r.l[0] = r.l[1] = 0;
        products_wait<0>();
        settle(s);
        stages.release_keys(count);
        if (size::EARLY && range.from + 1 == range.to) {
            more = take_item(m, &n, &it);
            if (more) queries.template load<T>(c, it, group);
        }
        finish_scores<PLAIN>(s, r, c, range.from * ATTN_BLOCK, (range.from + 1) * ATTN_BLOCK > plain_to);
        weigh_fully(s, r, c.rule.c, alpha);
        round_weights<T>(p, s);
        keys = stages.keys(count + 1), values = stages.values(count);
        bool keys_came = false, values_came = false;
        for (int b = range.from + 1; b < range.to; b++) {
            if (!values_came) stages.wait_values(count);
            if (!keys_came) stages.wait_keys(count + 1);
            if (D > 96) named_barrier(3 + group, 2 * GROUP);
            products_begin();
            start_scores<T, D>(s, queries_at, keys);
            start_values<T, D>(o, p, values, !fresh);
            if (D > 96) asm volatile("bar.arrive %0, %1;" ::"r"(4 - group), "r"(2 * GROUP));
            keys = stages.keys(count + 2), values = stages.values(count + 1);
            products_wait<1>();
            settle(s);
            if (size::EARLY && b + 1 == range.to) {
                more = take_item(m, &n, &it);
                if (more) queries.template load<T>(c, it, group);
            }
            const bool begins = b % (ATTN_SPAN / ATTN_BLOCK) == 0, edge = (b + 1) * ATTN_BLOCK > plain_to;
            float old_b[2] = { r.b[0], r.b[1] }, old_l[2] = { r.l[0], r.l[1] }, sum[2];
            bool steady = false;
            finish_scores<PLAIN>(s, r, c, b * ATTN_BLOCK, edge);
            if (begins) {
                r.b[0] = r.b[1] = -INFINITY, r.l[0] = r.l[1] = 0;
                weigh_fully(s, r, c.rule.c, alpha);
            } else {
                weigh(s, sum, r.b, c.rule.c);
                steady = all_steady(r, sum, group);
            }
            if (KEPT > 1)
                values_came = stages.test_values(count + 1), keys_came = stages.test_keys(count + 2);
            products_wait<0>();
            settle(o);
            stages.release_values(count);
            if (steady) {
                r.l[0] += sum[0], r.l[1] += sum[1];
            } else if (begins) {
                join_span(t, o, old_b, old_l, kept, !joined, false);
                joined = true;
            } else { /* scores again, this time with a look at their largest */
                products_begin();
                start_scores<T, D>(s, queries_at, stages.keys(count + 1));
                products_wait<0>();
                settle(s);
                finish_scores<PLAIN>(s, r, c, b * ATTN_BLOCK, edge);
                weigh_fully(s, r, c.rule.c, alpha);
                multiply_rows(o, alpha);
            }
            stages.release_keys(count + 1);
            round_weights<T>(p, s);
            fresh = begins;
            count++;
        }
        const int beyond = range.end - (range.to - 1) * ATTN_BLOCK;
        if (!values_came) stages.wait_values(count);
        if (beyond < ATTN_BLOCK)
            clear_beyond<D>(m.values + (size_t)(count % KEPT) * size::STAGE, beyond, group);
        if (!size::EARLY) more = take_item(m, &n, &it);
        if (!more) {
            products_begin();
            start_values<T, D>(o, p, values, !fresh);
            products_wait<0>();
            settle(o);
            stages.release_values(count);
            join_span(t, o, r.b, r.l, kept, !joined, true);
            put_rows<D>(c, r, t, o, group);
            return;
        }
        if (size::EARLY) {
            queries.put(q, group);
            stages.wait_keys(count + 1);
            products_begin();
            start_values<T, D>(o, p, values, !fresh);
            start_scores<T, D>(s, queries_at, keys);
            products_wait<1>();
            settle(o);
        } else {
            queries.template load<T>(c, it, group);
            products_begin();
            start_values<T, D>(o, p, values, !fresh);
            products_wait<0>();
            settle(o);
            queries.put(q, group);
            stages.wait_keys(count + 1);
            products_begin();
            start_scores<T, D>(s, queries_at, keys);
        }
        stages.release_values(count);
        count++;
        join_span(t, o, r.b, r.l, kept, !joined, true);
        put_rows<D>(c, r, t, o, group);
    }
}

template <int T, int D, bool PLAIN>
__global__ void __launch_bounds__(GROUP *(GROUPS + 1), 1)
    attend_many(const __grid_constant__ attn_call c, int least) {
    extern __shared__ __align__(128) char bytes[];
    typedef flash_size<D> size;
    flash_shared m;
    m.q = shared_address(bytes), m.k = m.q + size::QUERIES, m.v = m.k + size::KEPT * size::STAGE;
    m.values = bytes + size::QUERIES + size::KEPT * size::STAGE;
    m.total = (float4 *)(m.values + size::KEPT * size::STAGE);
    m.bar = m.v + size::KEPT * size::STAGE + size::TOTAL;
    m.items = (attn_item *)((char *)m.total + size::TOTAL + BARRIERS * 8);
    if (threadIdx.x == 0) {
        for (int i = 0; i < size::KEPT; i++) {
            barrier_init(m.bar + 8 * (K_FULL + i), 1), barrier_init(m.bar + 8 * (V_FULL + i), 1);
            barrier_init(m.bar + 8 * (K_EMPTY + i), 4 * GROUPS),
                barrier_init(m.bar + 8 * (V_EMPTY + i), 4 * GROUPS);
        }
        for (int i = 0; i < ITEMS; i++) barrier_init(m.bar + 8 * (ITEM_FULL + i), 1);
        barriers_ready();
    }
    __syncthreads();
    grid_release();
    const int group = (int)threadIdx.x / GROUP - 1;
    if (group < 0) {
        registers_shrink<56>();
        if (threadIdx.x < 32) {
            attn_walk<size::TILE> walk = { *c.batch, c.groups, c.shared, 0, least, INT_MAX, 1, 0, 0 };
            const int items = walk.count();
            grid_wait();
            fetch_all<D>(c, m, walk, items);
        }
    } else {
        registers_grow<224>();
        grid_wait();
        attend_tiles<T, D, PLAIN>(c, m, group);
    }
}

template <int T, int D, bool PLAIN> static void start_rule(const tk_args *a, const attn_call &c, int least) {
    launch(attend_many<T, D, PLAIN>, dim3((unsigned)multiprocessors()), dim3(GROUP * (GROUPS + 1)),
           flash_size<D>::BYTES, a, c, least);
}
template <int T, int D> static void start_many(const tk_args *a, const attn_call &c, int least) {
    if (c.rule.plain)
        start_rule<T, D, true>(a, c, least);
    else
        start_rule<T, D, false>(a, c, least);
}
template <int T> static void start_many(const tk_args *a, const attn_call &c, int64_t width, int least) {
    switch (width) {
    case 64: start_many<T, 64>(a, c, least); return;
    case 96: start_many<T, 96>(a, c, least); return;
    case 256: start_many<T, 256>(a, c, least); return;
    default: start_many<T, 128>(a, c, least);
    }
}

bool attn_has_many(int64_t width) { return width == 64 || width == 96 || width == 128 || width == 256; }

void attn_many(const tk_args *a, const attn_call &c, int type, int64_t width, int least) {
    if (type == TK_BF16)
        start_many<TK_BF16>(a, c, width, least);
    else
        start_many<TK_F16>(a, c, width, least);
}

} // namespace tk
