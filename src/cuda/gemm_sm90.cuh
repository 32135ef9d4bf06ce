/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product of many tokens on Hopper: y[t][n] = x[t][k] w[n][k]^T, bf16 operands, float32 sums, each
 * result one chain of k = 16 steps over all of k in order, as in every kernel for few tokens
 * (linear_sm90.cu): so tiles may be chosen by shape and no bit depends on it.
 *
 * Weights are the rows of warpgroup products, tokens their columns. A block stays and takes tile after tile:
 * one thread keeps rings of stages in shared memory full, two warpgroups of 64 weight rows each multiply.
 * H_BF16 is multiplied from shared memory; quantized weights become registers of the A operand
 * (gemm_registers.cuh) while the products before run. Loads for the next tile go on while one ends. Blocks of
 * a cluster have the same tokens and share their loads, which e4m3 is faster with; bf16 is held back by the
 * chip's power and not by loads (docs/FACTS.md). */
#ifndef TK_GEMM_SM90_CUH
#define TK_GEMM_SM90_CUH
#include "cuda/gemm_ends.cuh"

namespace tk {

enum {
    GEMM_E4M3 = TK_DTYPES
}; /* beside the H_ formats: e4m3 weights and tokens, 128 k a slab of 2,048 bytes */
/* Bytes of a slab of 16 rows. Of quantized formats in gemm_registers.cuh */
template <int FORMAT> struct gemm_slab;
template <> struct gemm_slab<TK_H_BF16> {
    enum { BYTES = 2048 };
};
template <> struct gemm_slab<GEMM_E4M3> : gemm_slab<TK_H_BF16> {};

template <int FORMAT_, int TOKENS_, int STAGES_, int ROUND_ = 8192, int CLUSTER_ = 1, int GROUPS_ = 2, int STEPS_ = 1, int BLOCKS_ = 1>
struct gemm_shape {
    enum {
        FORMAT = FORMAT_,
        REGISTERS = FORMAT_ != TK_H_BF16 && FORMAT_ != GEMM_E4M3, /* weights come from registers */
        GROUPS = GROUPS_,                                         /* warpgroups that multiply, 64 rows each */
        ROWS = 64 * GROUPS,
        TOKENS = TOKENS_,
        STAGES = STAGES_,
        CLUSTER = CLUSTER_,
        BLOCKS = BLOCKS_, /* on an SM */
        K = FORMAT_ == GEMM_E4M3 ? 128 : 64, /* of a step, 128 bytes */
        STEPS = STEPS_,                      /* of a stage */
        THREADS = 128 * (GROUPS + 1), /* the first warp loads: of warps that can go on the first does */
        W_STEP = ROWS / 16 * gemm_slab<FORMAT_>::BYTES,
        W_BYTES = STEPS * W_STEP,
        X_STEP = TOKENS * 128,
        X_BYTES = STEPS * X_STEP,
        OUT_BYTES =
            ROUND_, /* of a round of stores, two rounds a warpgroup; tokens of one by the type of results: */
        F32_ROUND = ROUND_ / 256 < TOKENS_ ? ROUND_ / 256 : TOKENS_,
        BF16_ROUND = ROUND_ / 128 < TOKENS_ ? ROUND_ / 128 : TOKENS_,
        GLU_ROUND = ROUND_ / 64 < TOKENS_ ? ROUND_ / 64 : TOKENS_,
        W_AT = STAGES * X_BYTES,
        OUT_AT = (W_AT + STAGES * W_BYTES + 1023) / 1024 * 1024,
        FULL_AT = OUT_AT + GROUPS * 2 * OUT_BYTES, /* barriers: of a stage (both operands, or tokens) */
        EMPTY_AT = FULL_AT + 8 * STAGES,
        W_FULL_AT = EMPTY_AT + 8 * STAGES, /* and of weights for registers */
        W_EMPTY_AT = W_FULL_AT + 8 * STAGES,
        SCALES_AT = W_EMPTY_AT + 8 * STAGES, /* of e4m3: of a tile's tokens, for each warpgroup */
        BYTES = SCALES_AT + (FORMAT_ == GEMM_E4M3 ? GROUPS * 4 * TOKENS : 0),
    };
    static_assert(BLOCKS * (BYTES + 1024) <= 228 << 10, "shared memory of an SM");
};

struct ring {
    int at, turn;
};
template <int STAGES> __device__ inline void advance(ring *r) {
    if (++r->at == STAGES) r->at = 0, r->turn ^= 1;
}

/* Tile number i: token tiles in columns of a few, so that tiles in flight share weights and tokens in the L2
 */
struct gemm_tile {
    int part, row, token; /* row, token: in tiles of the part */
};
template <class S> __device__ inline gemm_tile tile_at(const gemm_call &g, int i, int rank) {
    const int span = g.columns * g.row_tiles, first = i / span * g.columns, rest = i % span;
    const int width = min(g.columns, g.token_tiles - first), row = rest / width;
    const int part = (row >= g.first[1]) + (row >= g.first[2]);
    return { part, (row - g.first[part]) * S::CLUSTER + rank, first + rest % width };
}

/* ---- loads ---- */

template <class S>
__device__ inline void load_w(const gemm_call &g, uint32_t room, int slot, const gemm_tile &tile, int panel, int slab) {
    const uint32_t full = room + (S::REGISTERS ? S::W_FULL_AT : S::FULL_AT) + 8 * slot;
    barrier_expect(full, S::REGISTERS ? S::W_BYTES : S::W_BYTES + S::STEPS * g.x_step);
    for (int i = 0; i < S::STEPS; i++)
        tensor_in_5(room + S::W_AT + slot * S::W_BYTES + i * S::W_STEP, &g.w[tile.part], S::STEPS * slab + i, panel, full);
}
template <class S>
__device__ inline void load_x(const gemm_call &g, uint32_t room, int s, int token, int k, int rank) {
    const uint32_t full = room + S::FULL_AT + 8 * s, to = room + s * S::X_BYTES;
    enum { SHARE = S::TOKENS / S::CLUSTER };
    if (S::REGISTERS) barrier_expect(full, S::STEPS * g.x_step);
    for (int i = 0; i < S::STEPS; i++)
        if (S::CLUSTER == 1)
            tensor_in(to + i * S::X_STEP, &g.x, S::K * (S::STEPS * k + i), S::TOKENS * token, full);
        else
            tensor_in_all(to + i * S::X_STEP + rank * SHARE * 128, &g.x, S::K * (S::STEPS * k + i),
                          S::TOKENS * token + rank * SHARE, full, (1 << S::CLUSTER) - 1);
}

/* One thread: fills the rings. The first weights do not wait for the kernel before. */
template <class S, int END> __device__ inline void produce(const gemm_call &g, uint32_t room, int rank) {
    const int first = blockIdx.x / S::CLUSTER, step = gridDim.x / S::CLUSTER,
              tiles = g.row_tiles * g.token_tiles;
    constexpr int panels = END == GEMM_GLU ? S::ROWS / 32 : S::ROWS / 16; /* of one matrix in a tile */
    const int ahead = first < tiles ? min((int)S::STAGES, g.depth) : 0;
    ring r = {}, w = {};
    gemm_tile tile = tile_at<S>(g, first, rank);
    for (int k = 0; k < ahead; k++) load_w<S>(g, room, k, tile, tile.row * panels, k);
    grid_wait();
    for (int i = first; i < tiles; i += step) {
        tile = tile_at<S>(g, i, rank);
        for (int k = 0; k < g.depth; k++) {
            const bool weights = i > first || k >= ahead;
            if (S::REGISTERS && weights) {
                barrier_wait(room + S::W_EMPTY_AT + 8 * w.at, w.turn ^ 1);
                load_w<S>(g, room, w.at, tile, tile.row * panels, k);
            }
            advance<S::STAGES>(&w);
            barrier_wait(room + S::EMPTY_AT + 8 * r.at, r.turn ^ 1);
            if (!S::REGISTERS && weights) load_w<S>(g, room, r.at, tile, tile.row * panels, k);
            load_x<S>(g, room, r.at, tile.token, k, rank);
            advance<S::STAGES>(&r);
        }
        enum { STRIPS = S::ROWS / 32 };
        for (int v = 0; END == GEMM_ADD && v < 4; v++) { /* quarters of the tokens, strips of 32 rows */
            const uint32_t full = room + S::FULL_AT + 8 * r.at;
            barrier_wait(room + S::EMPTY_AT + 8 * r.at, r.turn ^ 1);
            barrier_expect(full, STRIPS * S::X_STEP / 4);
            for (int strip = 0; strip < STRIPS; strip++)
                tensor_in(room + r.at * S::X_BYTES + strip * S::X_STEP / 4, &g.other,
                          tile.row * S::ROWS + 32 * strip, tile.token * S::TOKENS + v * S::TOKENS / 4, full);
            advance<S::STAGES>(&r);
        }
    }
}

/* ---- products ---- */

/* A warp has read a stage: tells every block that loads into it. */
template <class S> __device__ inline void release(uint32_t room, int stage) {
    const uint32_t empty = room + S::EMPTY_AT + 8 * stage, lane = threadIdx.x % 32;
    if (S::CLUSTER == 1) {
        if (lane == 0) barrier_arrive(empty);
    } else if (lane < S::CLUSTER) {
        barrier_arrive_at(empty, lane);
    }
}

/* Both operands of a stage, once they are there */
template <class S> struct stage_operands {
    uint64_t a, b;
    __device__ stage_operands(uint32_t room, int member, const ring &r) {
        barrier_wait(room + S::FULL_AT + 8 * r.at, r.turn);
        products_begin();
        a = operand(room + S::W_AT + r.at * S::W_BYTES + member * 8192), b = operand(room + r.at * S::X_BYTES);
    }
};

/* The products of a tile by warpgroup number `member`. All of these loops keep one group
 * of products in flight, and give a stage back when the products after it have been started. */
template <class S>
__device__ inline void multiply(float (&d)[S::TOKENS / 2], int depth, uint32_t room, int member, ring *r) {
    int before = 0;
    for (int k = 0; k < depth; k++) {
        const stage_operands<S> of(room, member, *r);
#pragma unroll
        for (int j = 0; j < 4 * S::STEPS; j++) {
            const uint64_t at = j % 4 * 2;
            products<S::TOKENS>::bf16(d, of.a + j / 4 * (S::W_STEP / 16) + at, of.b + j / 4 * (S::X_STEP / 16) + at, k | j);
        }
        products_commit();
        if (k) {
            products_wait<1>();
            release<S>(room, before);
        }
        before = r->at;
        advance<S::STAGES>(r);
    }
    products_wait<0>();
    release<S>(room, before);
}

/* e4m3: sums of 128 k, added in float32 (tensor cores keep few bits of sums of such products) */
template <class S>
__device__ inline void multiply_e4m3(float (&d)[S::TOKENS / 2], int depth, uint32_t room, int member,
                                     ring *r) {
    float part[S::TOKENS / 2];
#pragma unroll
    for (int j = 0; j < S::TOKENS / 2; j++) d[j] = 0;
    for (int k = 0; k < depth; k++) {
        const stage_operands<S> of(room, member, *r);
#pragma unroll
        for (int j = 0; j < 4; j++) products<S::TOKENS>::e4m3(part, of.a + 2 * j, of.b + 2 * j, j);
        products_commit();
        products_wait<0>();
        release<S>(room, r->at);
#pragma unroll
        for (int j = 0; j < S::TOKENS / 2; j++) d[j] += part[j];
        advance<S::STAGES>(r);
    }
}

/* Scales of tokens: fetched before a tile's products, so that they are there after them */
template <class S>
__device__ inline void fetch_scales(const gemm_call &g, uint32_t room, int member, int token) {
    const uint32_t at = room + S::SCALES_AT + member * 4 * S::TOKENS;
    named_barrier(1 + member, 128); /* the tile before has used its own */
    for (int i = threadIdx.x % 128; i < S::TOKENS; i += 128)
        store_shared(at + 4 * i, token + i < g.tokens ? g.x_scale[token + i] : 0);
}
template <class S>
__device__ inline void scale(const gemm_call &g, float (&d)[S::TOKENS / 2], uint32_t room, int member,
                             int row) {
    const int lane = threadIdx.x % 32, n = row + threadIdx.x / 32 % 4 * 16 + lane / 4;
    const float w0 = n < g.rows ? g.w_scale[n] : 0, w8 = n + 8 < g.rows ? g.w_scale[n + 8] : 0;
    const uint32_t at = room + S::SCALES_AT + member * 4 * S::TOKENS + 8 * (lane % 4);
    named_barrier(1 + member, 128);
#pragma unroll
    for (int j = 0; j < S::TOKENS / 8; j++) {
        const float x0 = load_shared(at + 32 * j), x1 = load_shared(at + 32 * j + 4);
        d[4 * j] *= x0 * w0, d[4 * j + 1] *= x1 * w0, d[4 * j + 2] *= x0 * w8, d[4 * j + 3] *= x1 * w8;
    }
}

/* gemm_registers.cuh */
template <class S, int END>
__device__ void multiply_registers(float (&d)[S::TOKENS / 2], int depth, uint32_t room, int member, ring *r,
                                   ring *w);

/* ADD: what is added comes through the ring, as `produce` says. */
template <class S>
__device__ inline void add_other(float (&d)[S::TOKENS / 2], uint32_t room, int member, ring *r) {
    const places mine;
    const uint32_t strip = room + (2 * member + threadIdx.x / 64 % 2) * S::X_STEP / 4;
#pragma unroll
    for (int v = 0; v < 4; v++) {
        barrier_wait(room + S::FULL_AT + 8 * r->at, r->turn);
#pragma unroll
        for (int j = 0; j < S::TOKENS / 8; j++)
            d[v * S::TOKENS / 8 + j] +=
                load_shared(strip + r->at * S::X_BYTES + mine.at[j % 4] + j / 4 * 1024);
        __syncwarp();
        release<S>(room, r->at);
        advance<S::STAGES>(r);
    }
}

template <class S, int END> __device__ inline void consume(const gemm_call &g, uint32_t room, int rank) {
    const int member = threadIdx.x / 128 - 1, step = gridDim.x / S::CLUSTER,
              tiles = g.row_tiles * g.token_tiles;
    const uint32_t out = room + S::OUT_AT + member * 2 * S::OUT_BYTES;
    const bool leader = threadIdx.x % 128 == 0;
    float d[S::TOKENS / 2];
    ring r = {}, w = {};
    grid_wait();
    for (int i = blockIdx.x / S::CLUSTER; i < tiles; i += step) {
        const gemm_tile tile = tile_at<S>(g, i, rank);
        const int row = tile.row * S::ROWS + 64 * member, token = tile.token * S::TOKENS;
        const CUtensorMap *y = &g.y[tile.part];
        if constexpr (S::FORMAT == GEMM_E4M3) {
            fetch_scales<S>(g, room, member, token);
            multiply_e4m3<S>(d, g.depth, room, member, &r);
            scale<S>(g, d, room, member, row);
        } else if constexpr (S::REGISTERS) {
            multiply_registers<S, END>(d, g.depth, room, member, &r, &w);
        } else {
            multiply<S>(d, g.depth, room, member, &r);
        }
        if constexpr (END == GEMM_ADD) add_other<S>(d, room, member, &r);
        if constexpr (END == GEMM_GLU)
            end_gated<S>(g, d, y, out, row, token, leader);
        else if constexpr (END == GEMM_BF16)
            end_bf16<S>(y, d, out, row, token, leader);
        else
            end_f32<S>(y, d, out, row, token, leader);
    }
    if (leader) copies_done<0>();
}

template <class S, int END>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS) gemm_kernel(const __grid_constant__ gemm_call g) {
    extern __shared__ __align__(1024) uint8_t shared[];
    const uint32_t room = shared_address(shared);
    const int rank = S::CLUSTER > 1 ? (int)cluster_rank() : 0;
    if (threadIdx.x == 0) {
        prefetch_map(&g.w[0]), prefetch_map(&g.x), prefetch_map(&g.y[0]);
        for (int s = 0; s < S::STAGES; s++) {
            barrier_init(room + S::FULL_AT + 8 * s, 1);
            barrier_init(room + S::EMPTY_AT + 8 * s, S::GROUPS * 4 * S::CLUSTER);
        }
        for (int s = 0; S::REGISTERS && s < S::STAGES; s++) {
            barrier_init(room + S::W_FULL_AT + 8 * s, 1);
            barrier_init(room + S::W_EMPTY_AT + 8 * s, S::GROUPS * 4);
        }
        barriers_ready();
    }
    if (S::CLUSTER > 1)
        cluster_barrier();
    else
        __syncthreads();
    grid_release();
    if (threadIdx.x < 128) {
        if (S::GROUPS > 1) registers_shrink<24>();
        if (threadIdx.x / 32 == 0 && elected()) produce<S, END>(g, room, rank);
    } else {
        if (S::GROUPS > 1) registers_grow<240>();
        consume<S, END>(g, room, rank);
    }
    if (S::CLUSTER > 1) cluster_barrier(); /* nobody leaves whom a neighbour still tells */
}

} // namespace tk
#endif
