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
    MOST = 2 /* stages of keys, and of values */
};
enum {
    K_FULL,
    K_EMPTY = K_FULL + MOST,
    V_FULL = K_EMPTY + MOST,
    V_EMPTY = V_FULL + MOST,
    BARRIERS = V_EMPTY + MOST
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
    static const int BYTES = QUERIES + 2 * KEPT * STAGE + TOTAL + BARRIERS * 8;
    /* Which of its tile's rows a group has */
    static __device__ int first_row(int tile, int group) { return tile * TILE + (HALVES ? 0 : group * 64); }
};

struct flash_shared {
    uint32_t q, k, v, bar;
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

template <int D>
__device__ inline void fetch_all(const attn_call &c, const flash_shared &m,
                                 attn_walk<flash_size<D>::TILE> walk, int items) {
    const int lane = (int)threadIdx.x % 32, KEPT = flash_size<D>::KEPT;
    int count = 0;
    attn_item it;
    for (int n = 0; next_item(walk, &n, items, &it);) {
        const flash_blocks r = tile_blocks<flash_size<D>::TILE>(c, it);
        ask_queries<D>(c, it);
        for (int b = r.from; b < r.to; b++, count++) {
            const int k0 = b * ATTN_BLOCK, keys = min(ATTN_BLOCK, (r.end - k0 + 15) / 16 * 16);
            const int stage = count % KEPT, page = k0 / c.size + lane;
            const int from = max(k0, page * c.size), to = min(k0 + keys, (page + 1) * c.size);
            int64_t place = 0;
            if (from < to) place = walk.b.pages[(int64_t)it.seq * walk.b.max_pages + page];
            const int64_t at = ((place * c.groups + it.g) * c.size + (from - page * c.size)) * D * 2;
            for (int which = 0; which < 2; which++) {
                const uint32_t full = m.bar + 8 * (which ? V_FULL + stage : K_FULL + stage);
                barrier_wait(m.bar + 8 * (which ? V_EMPTY + stage : K_EMPTY + stage),
                             (uint32_t)(count / KEPT & 1) ^ 1);
                if (lane == 0) barrier_expect(full, (uint32_t)keys * D * 2);
                __syncwarp();
                if (from < to)
                    copy_in((which ? m.v : m.k) +
                                (uint32_t)(stage * flash_size<D>::STAGE + (from - k0) * D * 2),
                            (which ? c.cv : c.ck) + at, (uint32_t)(to - from) * D * 2, full);
            }
        }
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
                      row = flash_size<D>::first_row(it.tile, group) + at / (D / 8);
            const int token = token_of(c, row), head = row - token * c.shared;
            const int64_t from =
                (((int64_t)(it.first_token + token) * c.groups + it.g) * c.shared + head) * D +
                at % (D / 8) * 8;
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
    /* As blocks of 8 x 8 in shared memory; those who share rows meet before, since the other's products may
     * still read. */
    __device__ void put(uint32_t q, int group) const {
        if (flash_size<D>::HALVES) named_barrier(7, THREADS);
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            const int at = thread() + i * THREADS, row = at / (D / 8), d = at % (D / 8);
            asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(
                             q + (uint32_t)((row / 8 * (D / 8) + d) * 128 + row % 8 * 16)),
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

/* Scores become weights; b, l advance, and alpha is what o is to be multiplied with. */
template <bool PLAIN>
__device__ inline void weigh(float (&s)[64], flash_rows &r, const attn_call &c, int k0, bool edge,
                             float (&alpha)[2]) {
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
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = fmaxf(s[2 * h], s[2 * h + 1]);
#pragma unroll
        for (int j = 1; j < 16; j++) top = fmaxf(top, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        const float rise = top * c.rule.c;
        alpha[h] = 1;
        if (rise > r.b[h] + ATTN_LIFT) alpha[h] = exp2_of(r.b[h] - rise), r.b[h] = rise;
        const float base = r.b[h] == -INFINITY ? 0 : r.b[h];
        float sum[4];
#pragma unroll
        for (int part = 0; part < 4; part++) {
            sum[part] = 0;
#pragma unroll
            for (int j = 4 * part; j < 4 * part + 4; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    s[4 * j + e] = exp2_of(fmaf(s[4 * j + e], c.rule.c, -base));
                    sum[part] += s[4 * j + e];
                }
        }
        r.l[h] = fmaf(r.l[h], alpha[h], (sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
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

template <int D>
__device__ inline void put_rows(const attn_call &c, const flash_rows &r, const flash_total &t,
                                const float (&o)[flash_size<D>::OWN / 2], int group) {
    const int OWN = flash_size<D>::OWN, first = flash_size<D>::HALVES ? group * OWN : 0;
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (r.out[h] < 0) continue;
        const float inverse = 1 / t.l[h];
        const int64_t at = (int64_t)r.out[h] * D + first + 2 * (lane % 4);
        if (c.o && c.narrow) {
            uint32_t *to = (uint32_t *)((uint16_t *)c.o + at);
#pragma unroll
            for (int j = 0; j < OWN / 8; j++)
                to[4 * j] = (uint32_t)to_bf16(o[4 * j + 2 * h] * inverse) |
                            (uint32_t)to_bf16(o[4 * j + 2 * h + 1] * inverse) << 16;
        } else if (c.o) {
            float2 *to = (float2 *)((float *)c.o + at);
#pragma unroll
            for (int j = 0; j < OWN / 8; j++)
                to[4 * j] = make_float2(o[4 * j + 2 * h] * inverse, o[4 * j + 2 * h + 1] * inverse);
        }
        if (c.l && lane % 4 == 0 && first == 0) c.l[r.out[h]] = fmaf(t.b[h], TK_LN2, logf(t.l[h]));
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
/* The first scores of a tile */
template <int T, int D>
__device__ inline void begin_tile(float (&s)[64], const flash_shared &m, uint32_t q, int count) {
    const int KEPT = flash_size<D>::KEPT;
    const operand_of keys(m.k + (uint32_t)(count % KEPT) * flash_size<D>::STAGE, 128, D * 16);
    barrier_wait(m.bar + 8 * (K_FULL + count % KEPT), (uint32_t)(count / KEPT & 1));
    products_begin();
    start_scores<T, D>(s, operand_of(q, 128, D * 16), keys);
}

/* All tiles of a warpgroup. The queries of the next tile come while the last values of this one are added,
 * and its first scores are on their way while this one's result is written. */
template <int T, int D, bool PLAIN>
__device__ inline void attend_tiles(const attn_call &c, const flash_shared &m,
                                    attn_walk<flash_size<D>::TILE> walk, int items, int group) {
    typedef flash_size<D> size;
    const int KEPT = size::KEPT, OWN = size::OWN;
    const uint32_t q = m.q + (uint32_t)(size::HALVES ? 0 : group * 64 * D * 2);
    const uint32_t values = m.v + (uint32_t)(size::HALVES ? group * OWN * 16 : 0);
    float4 *kept = m.total + group * (OWN / 8) * GROUP + (int)threadIdx.x % GROUP;
    const operand_of queries_at(q, 128, D * 16);
    float s[64], o[OWN / 2], alpha[2];
    uint32_t p[8][4];
    int count = 0, n = 0;
    attn_item it;
    if (!next_item(walk, &n, items, &it)) return;
    {
        flash_queries<D> queries;
        queries.template load<T>(c, it, group);
        queries.put(q, group);
    }
    begin_tile<T, D>(s, m, q, count);
    for (;;) {
        const flash_blocks range = tile_blocks<flash_size<D>::TILE>(c, it);
        const int plain_to = c.attr.i[0] > 0 ? 0
                             : c.full        ? range.end
                                      : it.past + token_of(c, flash_size<D>::first_row(it.tile, group)) + 1;
        flash_rows r;
        flash_total t = { { -INFINITY, -INFINITY }, { 0, 0 } };
        place_rows<D>(r, c, it, group);
        r.b[0] = r.b[1] = -INFINITY, r.l[0] = r.l[1] = 0;
        products_wait<0>();
        settle(s);
        release(m.bar + 8 * (K_EMPTY + count % KEPT));
        weigh<PLAIN>(s, r, c, range.from * ATTN_BLOCK, (range.from + 1) * ATTN_BLOCK > plain_to, alpha);
        round_weights<T>(p, s);
        bool fresh = true /* o begins with the next values */, joined = false;
        for (int b = range.from + 1; b < range.to; b++) {
            const int now = count % KEPT, next = (count + 1) % KEPT;
            const operand_of keys(m.k + (uint32_t)next * size::STAGE, 128, D * 16),
                v(values + (uint32_t)now * size::STAGE, D * 16, 128);
            barrier_wait(m.bar + 8 * (V_FULL + now), (uint32_t)(count / KEPT & 1));
            barrier_wait(m.bar + 8 * (K_FULL + next), (uint32_t)((count + 1) / KEPT & 1));
            products_begin();
            start_scores<T, D>(s, queries_at, keys);
            start_values<T, D>(o, p, v, !fresh);
            products_wait<1>();
            settle(s);
            release(m.bar + 8 * (K_EMPTY + next));
            const bool begins = b % (ATTN_SPAN / ATTN_BLOCK) == 0;
            float old_b[2] = { r.b[0], r.b[1] }, old_l[2] = { r.l[0], r.l[1] };
            if (begins) r.b[0] = r.b[1] = -INFINITY, r.l[0] = r.l[1] = 0;
            weigh<PLAIN>(s, r, c, b * ATTN_BLOCK, (b + 1) * ATTN_BLOCK > plain_to, alpha);
            /* Never so; but the assembler moves no sum, and so no weight, from before a branch on it to
             * behind the wait. */
            if (r.l[0] + r.l[1] < 0) release(m.bar + 8 * (V_EMPTY + now));
            products_wait<0>();
            settle(o);
            release(m.bar + 8 * (V_EMPTY + now));
            if (begins) {
                join_span(t, o, old_b, old_l, kept, !joined, false);
                joined = true;
            } else if (alpha[0] != 1 || alpha[1] != 1) {
                multiply_rows(o, alpha);
            }
            fresh = begins;
            round_weights<T>(p, s);
            count++;
        }
        const int now = count % KEPT, beyond = range.end - (range.to - 1) * ATTN_BLOCK;
        const operand_of v(values + (uint32_t)now * size::STAGE, D * 16, 128);
        barrier_wait(m.bar + 8 * (V_FULL + now), (uint32_t)(count / KEPT & 1));
        if (beyond < ATTN_BLOCK)
            clear_beyond<D>(m.values + (size_t)now * flash_size<D>::STAGE, beyond, group);
        products_begin();
        start_values<T, D>(o, p, v, !fresh);
        flash_queries<D> queries;
        const bool more = next_item(walk, &n, items, &it);
        if (more) queries.template load<T>(c, it, group);
        products_wait<0>();
        settle(o);
        release(m.bar + 8 * (V_EMPTY + now));
        count++;
        if (!more) {
            join_span(t, o, r.b, r.l, kept, !joined, true);
            put_rows<D>(c, r, t, o, group);
            return;
        }
        queries.put(q, group);
        begin_tile<T, D>(s, m, q, count);
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
    m.total = (float4 *)(m.values + size::KEPT * size::STAGE),
    m.bar = m.v + size::KEPT * size::STAGE + size::TOTAL;
    if (threadIdx.x == 0) {
        for (int i = 0; i < size::KEPT; i++) {
            barrier_init(m.bar + 8 * (K_FULL + i), 1), barrier_init(m.bar + 8 * (V_FULL + i), 1);
            barrier_init(m.bar + 8 * (K_EMPTY + i), 4 * GROUPS),
                barrier_init(m.bar + 8 * (V_EMPTY + i), 4 * GROUPS);
        }
        barriers_ready();
    }
    __syncthreads();
    grid_release();
    attn_walk<size::TILE> walk = { *c.batch, c.groups, c.shared, 0, least, INT_MAX, 1, 0, 0 };
    const int items = walk.count(), group = (int)threadIdx.x / GROUP - 1;
    grid_wait();
    if (group < 0) {
        registers_shrink<24>();
        if (threadIdx.x < 32) fetch_all<D>(c, m, walk, items);
    } else {
        registers_grow<240>();
        attend_tiles<T, D, PLAIN>(c, m, walk, items, group);
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
