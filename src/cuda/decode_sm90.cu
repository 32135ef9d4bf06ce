/* SPDX-License-Identifier: Apache-2.0 */
/* attn_paged on Hopper for few query rows a sequence: decoding and short chunks. It is about reading the
 * cache as fast as memory gives it. One block of threads an SM: a warp keeps a ring of bulk copies full (a
 * stage is the keys or the values of 128 keys) and runs ahead over items; four warps work on 16 query rows
 * (heads of a group x tokens), each with a quarter of the keys for scores and a quarter of the numbers of a
 * head for values. Spans are spread over all SMs and their results joined by whoever is last, in the order of
 * spans. The arithmetic is the ORDER of attn_sm90.cuh. */
#include <limits.h>

extern "C" {
#include "cuda/cuda.h"
}
#include "cuda/attn_sm90.cuh"

namespace tk {

enum {
    ROWS = 16,
    FEW = 64 /* rows of a sequence */,
    WARPS = 4,
    CONSUMERS = WARPS * 32,
    PITCH = ATTN_BLOCK + 8 /* numbers a row of weights */
};

template <int D> struct decode_size {
    static const int BLOCKS = D > 128 ? 1 : 2 /* an SM */, STAGE = ATTN_BLOCK * D * 2;
    static const int FIT = (BLOCKS == 1 ? 196 << 10 : 98 << 10) / STAGE, STAGES = FIT < 8 ? FIT : 8;
    static const int MINE = (D / 8 + WARPS - 1) / WARPS,
                     PARTIAL = ROWS * (D + 2); /* floats: rows, then b and l of each */
};

struct decode_room {
    uint64_t full[8], empty[8];
    float top[2][WARPS][ROWS];
    float sums[2][ROWS][4][WARPS]; /* of weights, by row, key % 8 / 2 and quarter */
    uint16_t weight[2][ROWS * PITCH];
    int last;
};

/* Blocks of keys that rows of an item see in a span */
struct block_range {
    int from, to;
};
__device__ inline block_range blocks_seen(int low, int high, int span) {
    const int first = span * (ATTN_SPAN / ATTN_BLOCK), end = first + ATTN_SPAN / ATTN_BLOCK;
    return { max(first, low / ATTN_BLOCK), min(end, high / ATTN_BLOCK + 1) };
}
/* The first and last key that a tile sees */
__device__ inline void keys_seen(const attn_call &c, const attn_item &it, int *low, int *high) {
    const int first = token_of(c, it.tile * ROWS),
              last = min(token_of(c, it.tile * ROWS + ROWS - 1), it.tokens - 1);
    *high = it.past + last;
    *low = c.attr.i[0] > 0 ? max(0, it.past + first - c.attr.i[0] + 1) : 0;
}

/* Blocks of a block of threads' items, one after the other, as the fetching warp sees them: a lane has what
 * of the block's keys lies in one page. The page is asked for one block ahead, since memory takes its time to
 * tell. */
template <int D> struct decode_feed {
    attn_walk<ROWS> walk;
    attn_item it;
    int item, low, high, span, b, to; /* the next block and the end of its span */
    int k0, n, from, keys,
        past; /* the block asked for; this lane's part: `keys` of them, from the block's key `from` */
    int64_t row;

    __device__ bool open(const attn_call &c) {
        if (!walk.find(item, &it)) return false;
        keys_seen(c, it, &low, &high);
        span = it.from - 1, b = to = 0;
        return true;
    }
    /* Asks for the next block; false: there is none. */
    __device__ bool next(const attn_call &c) {
        while (b >= to) {
            if (++span >= it.to) {
                item += (int)gridDim.x;
                if (!open(c)) return false;
                continue;
            }
            const block_range r = blocks_seen(low, high, span);
            b = r.from, to = r.to;
        }
        const int page = (k0 = b++ * ATTN_BLOCK) / c.size + (int)threadIdx.x % 32;
        n = min(ATTN_BLOCK, (high - k0) / 16 * 16 + 16), past = it.past;
        const int first = max(k0, page * c.size);
        keys = min(k0 + n, (page + 1) * c.size) - first, from = first - k0;
        if (keys > 0)
            row = ((int64_t)walk.b.pages[(int64_t)it.seq * walk.b.max_pages + page] * c.groups + it.g) *
                      c.size +
                  first - page * c.size;
        return true;
    }
};

template <int D>
__device__ inline void produce(const attn_call &c, decode_room *room, uint32_t ring, attn_walk<ROWS> walk) {
    typedef decode_size<D> size;
    bool waited = false;
    int stage = 0, turn = 0;
    decode_feed<D> ahead;
    ahead.walk = walk, ahead.item = (int)blockIdx.x;
    if (!ahead.open(c)) return;
    for (bool more = ahead.next(c); more;) {
        const int k0 = ahead.k0, n = ahead.n, from = ahead.from, keys = ahead.keys, past = ahead.past;
        const int64_t row = ahead.row;
        more = ahead.next(c);
        if (!waited && k0 + n > past) grid_wait(), waited = true; /* older keys are from earlier steps */
        for (int which = 0; which < 2; which++) {
            const uint32_t full = shared_address(&room->full[stage]),
                           to = ring + (uint32_t)(stage * size::STAGE + from * D * 2);
            barrier_wait(shared_address(&room->empty[stage]), (uint32_t)(turn & 1) ^ 1);
            if (threadIdx.x % 32 == 0) barrier_expect(full, (uint32_t)n * D * 2);
            __syncwarp();
            if (keys > 0) copy_in(to, (which ? c.cv : c.ck) + row * D * 2, (uint32_t)keys * D * 2, full);
            if (++stage == size::STAGES) stage = 0, turn++;
        }
    }
}

/* A warp's state for 16 rows: a thread has rows lane / 4 and 8 more */
template <int D> struct decode_rows {
    float b[2], l[2], o[decode_size<D>::MINE][4];
    __device__ void clear() {
        b[0] = b[1] = -INFINITY, l[0] = l[1] = 0;
#pragma unroll
        for (int j = 0; j < decode_size<D>::MINE; j++) o[j][0] = o[j][1] = o[j][2] = o[j][3] = 0;
    }
    /* Joins a later span; l joined over the four lanes already */
    __device__ void join(const decode_rows &s) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float both = fmaxf(b[h], s.b[h]), w = join_weight(b[h], both),
                        v = join_weight(s.b[h], both);
            b[h] = both, l[h] = fmaf(l[h], w, s.l[h] * v);
#pragma unroll
            for (int j = 0; j < decode_size<D>::MINE; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) o[j][e] = fmaf(o[j][e], w, s.o[j][e] * v);
        }
    }
};

/* What a thread knows of its two rows */
struct decode_place {
    int pos[2], low[2]; /* last and first key seen; -1 and 0 for rows that are none */
    int64_t out[2];     /* index of the row's query head over all tokens */
    float slope[2];
};

__device__ inline decode_place place_rows(const attn_call &c, const attn_item &it) {
    decode_place p;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int row = it.tile * ROWS + (int)threadIdx.x % 32 / 4 + 8 * h, token = token_of(c, row),
                  head = row - token * c.shared;
        const bool real = token < it.tokens;
        p.pos[h] = real ? it.past + token : -1;
        p.low[h] = c.attr.i[0] > 0 ? max(0, p.pos[h] - c.attr.i[0] + 1) : 0;
        p.out[h] = real ? ((int64_t)(it.first_token + token) * c.groups + it.g) * c.shared + head : -1;
        p.slope[h] = c.rule.plain ? 0 : alibi_slope(c.attr, c.g, c.r, it.g, head);
    }
    return p;
}

template <int T, int D>
__device__ inline void load_queries(uint32_t (&q)[D / 16][4], const attn_call &c, const decode_place &p) {
    const int at = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int k = 0; k < D / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int64_t row = p.out[i % 2];
            float2 v = make_float2(0, 0);
            if (row >= 0) v = *(const float2 *)((const float *)c.q + row * D + 16 * k + 8 * (i / 2) + at);
            q[k][i] = pack_two<T>(v.x, v.y);
        }
}

/* Scores of the warp's 32 keys: x of the ORDER, -infinity where nothing is seen. `edge`: some row may not see
 * all. */
template <int T, int D>
__device__ inline void score_keys(float (&s)[4][4], const uint32_t (&q)[D / 16][4], uint32_t stage,
                                  const attn_call &c, const decode_place &p, int key, bool edge) {
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < 4; j++) s[j][0] = s[j][1] = s[j][2] = s[j][3] = 0;
    const uint32_t at = stage + (uint32_t)((int)threadIdx.x / 32 * 32 * D * 2 + lane * 16);
    uint32_t b[2][4][4]; /* what the next products need is on its way while these run */
#pragma unroll
    for (int j = 0; j < 4; j++) load_4(b[0][j], at + (uint32_t)(j * 8 * D * 2));
#pragma unroll
    for (int k = 0; k < D / 16; k += 2) {
        const int now = k / 2 % 2;
#pragma unroll
        for (int j = 0; j < 4 && k + 2 < D / 16; j++)
            load_4(b[now ^ 1][j], at + (uint32_t)(j * 8 * D * 2 + (k + 2) * 256));
#pragma unroll
        for (int j = 0; j < 4; j++) multiply<T>(s[j], q[k], b[now][j][0], b[now][j][1]);
#pragma unroll
        for (int j = 0; j < 4 && k + 1 < D / 16; j++)
            multiply<T>(s[j], q[k + 1 < D / 16 ? k + 1 : k], b[now][j][2], b[now][j][3]);
    }
    key += 2 * (lane % 4);
    if (!c.rule.plain)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                s[j][e] = score_from(c.rule, s[j][e], p.slope[e / 2], p.pos[e / 2] - (key + 8 * j + e % 2));
    if (edge)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int k = key + 8 * j + e % 2;
                if (k > p.pos[e / 2] || k < p.low[e / 2]) s[j][e] = -INFINITY;
            }
}

/* o += weights x values over `n` keys, a multiple of 16 */
template <int T, int D>
__device__ inline void add_values(float (&o)[decode_size<D>::MINE][4], uint32_t weight, uint32_t stage,
                                  int n) {
    typedef decode_size<D> size;
    const int lane = (int)threadIdx.x % 32, first = (int)threadIdx.x / 32 * decode_size<D>::MINE;
    const uint32_t from = weight + (uint32_t)((lane % 16 * PITCH + lane / 16 * 8) * 2);
    const uint32_t at = stage + (uint32_t)(((lane / 8) * (D / 8) + first) * 128 + lane % 8 * 16);
    const int mine = D / 8 % WARPS ? min(size::MINE, D / 8 - first) : size::MINE;
    uint32_t p[2][2][4], v[2][size::MINE][4];
    const auto load = [&](int k) {
        load_4(p[k / 32 % 2][0], from + k * 2), load_4(p[k / 32 % 2][1], from + (k + 16) * 2);
#pragma unroll
        for (int j = 0; j < size::MINE; j++)
            if (j < mine) load_4_turned(v[k / 32 % 2][j], at + (uint32_t)(k / 8 * (D / 8) * 128 + j * 128));
    };
    load(0);
#pragma unroll
    for (int k = 0; k < ATTN_BLOCK; k += 32) {
        if (k >= n) break;
        const int now = k / 32 % 2;
        if (k + 32 < ATTN_BLOCK) load(k + 32); /* beyond n: read, not used */
#pragma unroll
        for (int j = 0; j < size::MINE; j++)
            if (j < mine) multiply<T>(o[j], p[now][0], v[now][j][0], v[now][j][1]);
        if (k + 16 < n)
#pragma unroll
            for (int j = 0; j < size::MINE; j++)
                if (j < mine) multiply<T>(o[j], p[now][1], v[now][j][2], v[now][j][3]);
    }
}

/* Values beyond the sequence may be anything, and 0 x NaN is NaN: they become zeros. Keys [from, to) of the
 * stage */
template <int D> __device__ inline void clear_values(char *stage, int from, int to) {
    for (int i = (int)threadIdx.x; i < (to - from) * (D / 8); i += CONSUMERS) {
        const int key = from + i / (D / 8);
        *(uint4 *)(stage + (key / 8 * (D / 8) + i % (D / 8)) * 128 + key % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    fence_shared(); /* the next copy into the stage comes after */
}

/* One block of keys: s becomes weights, l and o advance. `turn` alternates what is shared by the warps. */
template <int T, int D>
__device__ inline void weigh_keys(decode_rows<D> &r, float (&s)[4][4], float c, decode_room *room, int turn,
                                  float (&alpha)[2]) {
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, row = lane / 4;
    float top[2] = { -INFINITY, -INFINITY };
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
        for (int e = 0; e < 4; e++) top[e / 2] = fmaxf(top[e / 2], s[j][e]);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 1));
        top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], 2));
        if (lane % 4 == 0) room->top[turn][warp][row + 8 * h] = top[h];
    }
    named_barrier(1, CONSUMERS);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float all = room->top[turn][0][row + 8 * h];
#pragma unroll
        for (int w = 1; w < WARPS; w++) all = fmaxf(all, room->top[turn][w][row + 8 * h]);
        const float rise = all * c;
        alpha[h] = 1;
        if (rise > r.b[h] + ATTN_LIFT) alpha[h] = exp2_of(r.b[h] - rise), r.b[h] = rise;
        const float base = r.b[h] == -INFINITY ? 0 : r.b[h];
        float sum = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float a = exp2_of(fmaf(s[j][2 * h], c, -base)),
                        b = exp2_of(fmaf(s[j][2 * h + 1], c, -base));
            sum += a, sum += b;
            *(uint32_t *)&room->weight[turn][(row + 8 * h) * PITCH + warp * 32 + 8 * j + 2 * (lane % 4)] =
                pack_two<T>(a, b);
        }
        room->sums[turn][row + 8 * h][lane % 4][warp] = sum;
    }
}

template <int T, int D>
__device__ inline void finish_rows(const attn_call &c, const decode_place &p, const decode_rows<D> &r) {
    const int lane = (int)threadIdx.x % 32, first = (int)threadIdx.x / 32 * decode_size<D>::MINE;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (p.out[h] < 0) continue;
        const float inverse = 1 / r.l[h];
#pragma unroll
        for (int j = 0; j < decode_size<D>::MINE; j++) {
            if (first + j >= D / 8 || !c.o) break;
            const int64_t at = p.out[h] * D + (first + j) * 8 + 2 * (lane % 4);
            const float a = r.o[j][2 * h] * inverse, b = r.o[j][2 * h + 1] * inverse;
            if (c.narrow)
                *(uint32_t *)((uint16_t *)c.o + at) = (uint32_t)to_bf16(a) | (uint32_t)to_bf16(b) << 16;
            else
                *(float2 *)((float *)c.o + at) = make_float2(a, b);
        }
        if (c.l && threadIdx.x < 32 && lane % 4 == 0) c.l[p.out[h]] = fmaf(r.b[h], TK_LN2, logf(r.l[h]));
    }
}

/* Joins all spans of an item's rows, in order, and writes the result; a thread has four numbers of a row at a
 * time. */
template <int D> __device__ inline void join_spans(const attn_call &c, const attn_item &it) {
    enum { AHEAD = 8 };
    for (int i = (int)threadIdx.x; i < ROWS * (D / 4); i += CONSUMERS) {
        const int row = i / (D / 4), d = i % (D / 4) * 4, at = it.tile * ROWS + row, token = token_of(c, at);
        if (token >= it.tokens) break;
        const float *from = c.partial + (int64_t)it.first * decode_size<D>::PARTIAL;
        float4 o = make_float4(0, 0, 0, 0);
        float b = -INFINITY, l = 0;
        for (int s0 = 0; s0 < it.spans; s0 += AHEAD) {
            float4 x[AHEAD];
            float2 y[AHEAD];
#pragma unroll
            for (int s = 0; s < AHEAD; s++) {
                const float *span = from + (int64_t)min(s0 + s, it.spans - 1) * decode_size<D>::PARTIAL;
                x[s] = __ldcg((const float4 *)(span + row * D + d));
                y[s] = __ldcg((const float2 *)(span + ROWS * D + 2 * row));
            }
#pragma unroll
            for (int s = 0; s < AHEAD; s++) {
                if (s0 + s >= it.spans) break;
                const float both = fmaxf(b, y[s].x), w = join_weight(b, both), v = join_weight(y[s].x, both);
                b = both, l = fmaf(l, w, y[s].y * v);
                o.x = fmaf(o.x, w, x[s].x * v), o.y = fmaf(o.y, w, x[s].y * v);
                o.z = fmaf(o.z, w, x[s].z * v), o.w = fmaf(o.w, w, x[s].w * v);
            }
        }
        const int64_t out =
            ((int64_t)(it.first_token + token) * c.groups + it.g) * c.shared + at - token * c.shared;
        const float inverse = 1 / l;
        if (c.o && c.narrow)
            *(uint2 *)((uint16_t *)c.o + out * D + d) =
                make_uint2((uint32_t)to_bf16(o.x * inverse) | (uint32_t)to_bf16(o.y * inverse) << 16,
                           (uint32_t)to_bf16(o.z * inverse) | (uint32_t)to_bf16(o.w * inverse) << 16);
        else if (c.o)
            *(float4 *)((float *)c.o + out * D + d) =
                make_float4(o.x * inverse, o.y * inverse, o.z * inverse, o.w * inverse);
        if (c.l && d == 0) c.l[out] = fmaf(b, TK_LN2, logf(l));
    }
}

/* Leaves the result of a span where the last of the rows' spans to arrive joins all of them. */
template <int D>
__device__ inline void leave_span(const attn_call &c, uint32_t *zeros, const attn_item &it, int item,
                                  const decode_place &p, const decode_rows<D> &r, decode_room *room) {
    typedef decode_size<D> size;
    const int lane = (int)threadIdx.x % 32, first = (int)threadIdx.x / 32 * size::MINE;
    float *mine = c.partial + (int64_t)item * size::PARTIAL;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (p.out[h] < 0) continue;
        const int row = lane / 4 + 8 * h;
#pragma unroll
        for (int j = 0; j < size::MINE; j++) {
            if (first + j >= D / 8) break;
            __stcg((float2 *)(mine + row * D + (first + j) * 8 + 2 * (lane % 4)),
                   make_float2(r.o[j][2 * h], r.o[j][2 * h + 1]));
        }
        if (threadIdx.x < 32 && lane % 4 == 0)
            __stcg((float2 *)(mine + ROWS * D + 2 * row), make_float2(r.b[h], r.l[h]));
    }
    named_barrier(1, CONSUMERS);
    if (threadIdx.x == 0) {
        unsigned before; /* what the others wrote before the barrier is seen too by who sees this */
        asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                     : "=r"(before)
                     : "l"(zeros + it.first)
                     : "memory");
        room->last = before == (unsigned)it.spans - 1;
        if (room->last) zeros[it.first] = 0;
    }
    named_barrier(1, CONSUMERS);
    if (room->last) join_spans<D>(c, it);
}

template <int T, int D>
__device__ inline void consume(const attn_call &c, decode_room *room, uint32_t ring, char *ring_bytes,
                               attn_walk<ROWS> walk) {
    typedef decode_size<D> size;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int stage = 0, phase = 0, turn = 0;
    attn_item it;
    grid_wait();
    for (int item = (int)blockIdx.x; walk.find(item, &it); item += (int)gridDim.x) {
        const decode_place p = place_rows(c, it);
        int low, high;
        uint32_t q[D / 16][4];
        decode_rows<D> all;
        keys_seen(c, it, &low, &high);
        load_queries<T, D>(q, c, p);
        all.clear();
        for (int span = it.from; span < it.to; span++) {
            const block_range range = blocks_seen(low, high, span);
            decode_rows<D> r;
            r.clear();
            for (int b = range.from; b < range.to; b++) {
                const int k0 = b * ATTN_BLOCK, n = min(ATTN_BLOCK, (high - k0) / 16 * 16 + 16);
                float s[4][4], alpha[2];
                barrier_wait(shared_address(&room->full[stage]), (uint32_t)phase);
                score_keys<T, D>(s, q, ring + (uint32_t)stage * size::STAGE, c, p, k0 + warp * 32,
                                 k0 + ATTN_BLOCK > it.past || c.attr.i[0] > 0);
                __syncwarp();
                if (lane == 0) barrier_arrive(shared_address(&room->empty[stage]));
                if (++stage == size::STAGES) stage = 0, phase ^= 1;
                weigh_keys<T, D>(r, s, c.rule.c, room, turn, alpha);
                barrier_wait(shared_address(&room->full[stage]), (uint32_t)phase);
                const int end = it.past + it.tokens - k0;
                if (end < n) clear_values<D>(ring_bytes + (size_t)stage * size::STAGE, end, n);
                named_barrier(1, CONSUMERS);
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float4 v = *(const float4 *)room->sums[turn][lane / 4 + 8 * h][lane % 4];
                    r.l[h] = fmaf(r.l[h], alpha[h], (v.x + v.y) + (v.z + v.w));
                }
                if (alpha[0] != 1 || alpha[1] != 1)
#pragma unroll
                    for (int j = 0; j < size::MINE; j++)
#pragma unroll
                        for (int e = 0; e < 4; e++) r.o[j][e] *= alpha[e / 2];
                add_values<T, D>(r.o, shared_address(room->weight[turn]),
                                 ring + (uint32_t)stage * size::STAGE, n);
                __syncwarp();
                if (lane == 0) barrier_arrive(shared_address(&room->empty[stage]));
                if (++stage == size::STAGES) stage = 0, phase ^= 1;
                turn ^= 1;
            }
#pragma unroll
            for (int h = 0; h < 2; h++) {
                r.l[h] += __shfl_xor_sync(~0u, r.l[h], 1);
                r.l[h] += __shfl_xor_sync(~0u, r.l[h], 2);
            }
            all.join(r);
        }
        if (it.spans == it.to - it.from)
            finish_rows<T, D>(c, p, all);
        else
            leave_span<D>(c, walk.b.zeros, it, item, p, all, room);
    }
}

/* Padding tokens at the end of a step */
__device__ inline void clear_padding(const attn_call &c, int64_t width) {
    const int64_t heads = (int64_t)c.groups * c.shared, from = c.batch->start[c.batch->seqs] * heads,
                  to = c.tokens * heads;
    const int64_t at = (int64_t)blockIdx.x * CONSUMERS + threadIdx.x, step = (int64_t)gridDim.x * CONSUMERS;
    for (int64_t i = from * width + at; c.o && i < to * width; i += step) {
        if (c.narrow)
            ((uint16_t *)c.o)[i] = 0;
        else
            ((float *)c.o)[i] = 0;
    }
    for (int64_t i = from + at; c.l && i < to; i += step) c.l[i] = 0;
}

template <int T, int D>
__global__ void __launch_bounds__(CONSUMERS + 32, decode_size<D>::BLOCKS)
    attend_few(const __grid_constant__ attn_call c, int most) {
    extern __shared__ __align__(128) char bytes[];
    typedef decode_size<D> size;
    decode_room *room = (decode_room *)bytes;
    char *ring_bytes = bytes + (sizeof(decode_room) + 127) / 128 * 128;
    const uint32_t ring = shared_address(ring_bytes);
    if (threadIdx.x == 0) {
        for (int i = 0; i < size::STAGES; i++)
            barrier_init(shared_address(&room->full[i]), 1),
                barrier_init(shared_address(&room->empty[i]), WARPS);
        barriers_ready();
    }
    __syncthreads();
    grid_release();
    attn_walk<ROWS> walk = { *c.batch, c.groups, c.shared, c.attr.i[0], 1, most, 0, 0, 0 };
    walk.whole = walk.bound(c.tokens) > c.room && walk.count() > c.room;
    if (threadIdx.x >= CONSUMERS) {
        produce<D>(c, room, ring, walk);
    } else {
        consume<T, D>(c, room, ring, ring_bytes, walk);
        clear_padding(c, D);
    }
}

template <int T, int D> static void start_few(const tk_args *a, const attn_call &c, int most) {
    typedef decode_size<D> size;
    const size_t bytes = (sizeof(decode_room) + 127) / 128 * 128 + (size_t)size::STAGES * size::STAGE + 512;
    launch(attend_few<T, D>, dim3((unsigned)(multiprocessors() * size::BLOCKS)), dim3(CONSUMERS + 32), bytes,
           a, c, most);
}

/* Starts the kernel for heads of `width`; false: there is none. */
template <int T> static bool start_width(const tk_args *a, const attn_call &c, int64_t width, int most) {
    switch (width) {
    case 32: start_few<T, 32>(a, c, most); return true;
    case 64: start_few<T, 64>(a, c, most); return true;
    case 80: start_few<T, 80>(a, c, most); return true;
    case 96: start_few<T, 96>(a, c, most); return true;
    case 128: start_few<T, 128>(a, c, most); return true;
    case 256: start_few<T, 256>(a, c, most); return true;
    default: return false;
    }
}

/* Items that the scratch holds results of: spans of all that the cache can hold, for every tile that a
 * sequence may have here, and one for each token */
static int64_t items_held(const tk_dim dim[26]) {
    const int64_t t = dim['t' - 'a'].n, r = dim['r' - 'a'].n, keys = dim['p' - 'a'].n * dim['s' - 'a'].n;
    const int64_t tiles = TK_MIN(tk_ceil_div(t * r, (int64_t)ROWS), (int64_t)FEW / ROWS);
    const int64_t items = dim['g' - 'a'].n * (tiles * tk_ceil_div(keys, (int64_t)ATTN_SPAN) + t);
    return TK_MIN(items, (int64_t)TK_BATCH_ZEROS);
}

/* Starts what a call needs; false: there is no kernel for heads of `width`. */
static bool attend(const tk_args *a, const attn_call &c, int type, int64_t width) {
    const bool many = c.tokens * c.shared > FEW && attn_has_many(width);
    const int most = many ? (int)FEW : INT_MAX;
    const bool done =
        type == TK_BF16 ? start_width<TK_BF16>(a, c, width, most) : start_width<TK_F16>(a, c, width, most);
    if (done && many) attn_many(a, c, type, width, FEW + 1);
    return done;
}

static void run_paged(const tk_args *a, bool narrow, tk_kernel *portable) {
    attn_call c = {};
    c.o = a->p[4], c.l = narrow ? NULL : (float *)a->p[5], c.q = a->p[0];
    c.ck = (const char *)a->p[2], c.cv = (const char *)a->p[3], c.batch = a->batch,
    c.partial = (float *)a->scratch;
    c.groups = (int)TK_DIM(a, 'g'), c.shared = (int)TK_DIM(a, 'r'), c.inverse = inverse_of(c.shared);
    c.size = (int)TK_DIM(a, 's'), c.tokens = (int)TK_DIM(a, 't'), c.room = (int)items_held(a->dim);
    c.rule = score_rule(&a->attr), c.attr = a->attr, c.g = a->dim['g' - 'a'], c.r = a->dim['r' - 'a'],
    c.narrow = narrow;
    if (c.tokens > 0 && !attend(a, c, a->type[2], TK_DIM(a, 'd'))) portable(a);
}

} // namespace tk

extern "C" {
tk_kernel attn_paged_cuda, attn_paged_quant_cuda, attn_paged_sm90, attn_paged_quant_sm90;
tk_scratch attn_paged_sm90_scratch;
}

/* q i ck cv -> o l */
extern "C" void attn_paged_sm90(const tk_args *a) { tk::run_paged(a, false, attn_paged_cuda); }
/* q i ck cv -> y */
extern "C" void attn_paged_quant_sm90(const tk_args *a) { tk::run_paged(a, true, attn_paged_quant_cuda); }
extern "C" size_t attn_paged_sm90_scratch(const tk_dim dim[26], int nth) {
    (void)nth;
    return (size_t)tk::items_held(dim) * tk::ROWS * (size_t)(dim['d' - 'a'].n + 2) * sizeof(float);
}

extern "C" size_t tk__attention_room(const tk_attention *t) {
    tk_dim dim[26] = {};
    dim['t' - 'a'].n = t->tokens, dim['g' - 'a'].n = t->groups, dim['r' - 'a'].n = t->shared,
              dim['d' - 'a'].n = t->width;
    dim['p' - 'a'].n = t->keys, dim['s' - 'a'].n = 1;
    return attn_paged_sm90_scratch(dim, 1);
}
extern "C" bool tk__attention(const tk_attention *t) {
    tk_args a = {};
    tk::attn_call c = {};
    a.stream = t->stream, a.attr.f[0] = t->scale;
    c.o = t->o, c.l = t->l, c.q = t->q, c.ck = (const char *)t->k, c.cv = (const char *)t->v,
    c.batch = t->batch;
    c.groups = t->groups, c.shared = t->shared, c.inverse = tk::inverse_of(c.shared), c.size = t->page_size,
    c.tokens = t->tokens;
    c.rule = tk::score_rule(&a.attr), c.attr = a.attr, c.narrow = t->narrow, c.narrow_q = !t->room,
    c.full = t->full;
    c.g = { t->groups, 0, t->groups }, c.r = { t->shared, 0, t->shared };
    if (t->room) {
        c.partial = (float *)t->room,
        c.room = (int)(tk__attention_room(t) / sizeof(float) / (size_t)(tk::ROWS * (t->width + 2)));
        return tk::attend(&a, c, t->type, t->width);
    }
    if (!tk::attn_has_many(t->width)) return false;
    tk::attn_many(&a, c, t->type, t->width, 1);
    return true;
}
