/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product of many tokens on Hopper: y[t][n] = x[t][k] w[n][k]^T, bf16 operands, float32 sums, each
 * result one chain of k = 16 steps over all of k in order, as in every kernel for few tokens
 * (linear_sm90.cu): so tiles may be chosen by shape and no bit depends on it.
 *
 * Weights are the rows of warpgroup products, tokens their columns. A block stays and takes tile after tile:
 * one thread keeps a ring of stages in shared memory full (weights and tokens, 64 k each), warpgroups of 64
 * weight rows multiply. Blocks of a cluster have the same tokens and share their loads. Results go through
 * shared memory, transposed, and leave as bulk copies, which clip what lies beyond the matrix and run while
 * the next tile is computed. */
#ifndef TK_GEMM_SM90_CUH
#define TK_GEMM_SM90_CUH
#include "cuda/gemm_sm90.h"
#include "cuda/hopper.cuh"

namespace tk {

struct gemm_call {
    CUtensorMap w[GEMM_PARTS], x, y[GEMM_PARTS], other;
    int first[GEMM_PARTS];      /* row tiles of parts before, in clusters */
    int rows, tokens;           /* of y */
    int row_tiles, token_tiles; /* of all parts; row tiles in clusters */
    int depth, columns;         /* k in 64 (128 bytes); token tiles visited side by side */
    gating gated;
    int up_first;                   /* up rows lie before gate rows */
    const float *w_scale, *x_scale; /* of e4m3: [rows], [tokens] */
};

template <int GROUPS_, int TOKENS_, int STAGES_, int CLUSTER_, int BLOCKS_, bool E4M3_ = false>
struct gemm_shape {
    enum {
        E4M3 = E4M3_,            /* else bf16 */
        SLAB = E4M3_ ? 128 : 64, /* k of a stage */
        GROUPS = GROUPS_,        /* warpgroups that multiply, 64 rows each */
        ROWS = 64 * GROUPS_,
        TOKENS = TOKENS_,
        STAGES = STAGES_,
        CLUSTER = CLUSTER_,
        BLOCKS = BLOCKS_, /* on one SM */
        THREADS = 128 * (GROUPS_ + 1),
        W_BYTES = ROWS * 128,
        X_BYTES = TOKENS * 128,
        OUT_BYTES = 8192, /* of a round of stores, two rounds a warpgroup */
        X_AT = STAGES * W_BYTES,
        OUT_AT = X_AT + STAGES * X_BYTES,
        BARS_AT = OUT_AT + GROUPS * 2 * OUT_BYTES,
        BYTES = BARS_AT + 16 * STAGES,
        GROW = BLOCKS_ > 1    ? 0
               : GROUPS_ == 2 ? 240
                              : 0,
    };
};

/* Tile number i: token tiles in columns of a few, so that the tiles in flight share weights and tokens in the
 * L2. */
struct gemm_tile {
    int part, row, token; /* row, token: in tiles of the part */
};
template <class S> __device__ inline gemm_tile tile_at(const gemm_call &g, int i, int rank) {
    const int span = g.columns * g.row_tiles, first = i / span * g.columns, rest = i % span;
    const int width = min(g.columns, g.token_tiles - first), row = rest / width;
    const int part = (row >= g.first[1]) + (row >= g.first[2]);
    return { part, (row - g.first[part]) * S::CLUSTER + rank, first + rest % width };
}

template <class S>
__device__ inline void load_w(const gemm_call &g, const CUtensorMap *w, uint32_t room, int s, int row,
                              int k) {
    const uint32_t full = room + S::BARS_AT + 8 * s;
    barrier_expect(full, S::W_BYTES + S::X_BYTES);
    tensor_in_5(room + s * S::W_BYTES, w, k, row, full);
}
template <class S>
__device__ inline void load_x(const gemm_call &g, uint32_t room, int s, int token, int k, int rank) {
    const uint32_t full = room + S::BARS_AT + 8 * s, to = room + S::X_AT + s * S::X_BYTES;
    enum { SHARE = S::TOKENS / S::CLUSTER };
    if (S::CLUSTER == 1)
        tensor_in(to, &g.x, S::SLAB * k, S::TOKENS * token, full);
    else
        tensor_in_all(to + rank * SHARE * 128, &g.x, S::SLAB * k, S::TOKENS * token + rank * SHARE, full,
                      (1 << S::CLUSTER) - 1);
}

/* One thread: fills the ring. The first weights do not wait for the kernel before. END says how many panels
 * of 16 rows of one matrix a tile has. */
template <class S, int END> __device__ inline void produce(const gemm_call &g, uint32_t room, int rank) {
    const uint32_t empty = room + S::BARS_AT + 8 * S::STAGES;
    const int first = blockIdx.x / S::CLUSTER, step = gridDim.x / S::CLUSTER,
              tiles = g.row_tiles * g.token_tiles;
    constexpr int panels = END == GEMM_GLU ? S::ROWS / 32 : S::ROWS / 16;
    const int ahead = first < tiles ? min((int)S::STAGES, g.depth) : 0;
    int s = 0, turn = 0;
    gemm_tile tile = tile_at<S>(g, first, rank);
    for (int k = 0; k < ahead; k++) load_w<S>(g, &g.w[tile.part], room, k, tile.row * panels, k);
    grid_wait();
    for (int i = first; i < tiles; i += step) {
        tile = tile_at<S>(g, i, rank);
        for (int k = 0; k < g.depth; k++) {
            if (i > first || k >= ahead) {
                barrier_wait(empty + 8 * s, turn ^ 1);
                load_w<S>(g, &g.w[tile.part], room, s, tile.row * panels, k);
            }
            load_x<S>(g, room, s, tile.token, k, rank);
            if (++s == S::STAGES) s = 0, turn ^= 1;
        }
        for (int v = 0; END == GEMM_ADD && v < S::ROWS / 32; v++) {
            const uint32_t full = room + S::BARS_AT + 8 * s;
            barrier_wait(empty + 8 * s, turn ^ 1);
            barrier_expect(full, S::X_BYTES);
            tensor_in(room + S::X_AT + s * S::X_BYTES, &g.other, tile.row * S::ROWS + 32 * v,
                      tile.token * S::TOKENS, full);
            if (++s == S::STAGES) s = 0, turn ^= 1;
        }
    }
}

/* ---- the end of a tile ---- */

/* Where this thread's numbers of a tile of float32 lie, lines of 32 rows a token, swizzled as tensor maps do:
 * of rows 16 * warp % 2 + lane / 4 (+ 8) and tokens 2 (lane % 4) (+ 1), in the order of products'
 * accumulators; every eight tokens 1,024 bytes. Free of bank conflicts */
struct places {
    uint32_t at[4];
    __device__ places() {
        const int lane = threadIdx.x % 32, eight = lane / 4, pair = 2 * (lane % 4);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int token = pair + i % 2, piece = threadIdx.x / 32 % 2 * 4 + eight / 4 + i / 2 * 2;
            at[i] = token * 128 + ((piece ^ token) << 4) + eight % 4 * 4;
        }
    }
};

/* float32: 32 tokens a round, 32 + 32 of the warpgroup's rows */
template <class S>
__device__ inline void end_f32(const gemm_call &g, const CUtensorMap *y, const float *d, uint32_t out,
                               int row, int token, bool leader) {
    const places mine;
    const int id = threadIdx.x / 128;
    const uint32_t strip = out + threadIdx.x / 64 % 2 * 4096;
#pragma unroll
    for (int r = 0; r < S::TOKENS / 32; r++) {
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int i = 0; i < 16; i++)
            store_shared(strip + mine.at[i % 4] + r % 2 * S::OUT_BYTES + i / 4 * 1024, d[16 * r + i]);
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, out + r % 2 * S::OUT_BYTES, row, token + 32 * r);
            tensor_out(y, out + r % 2 * S::OUT_BYTES + 4096, row + 32, token + 32 * r);
            copies_commit();
        }
    }
}

__device__ inline uint32_t bf16_pair(float low, float high) {
    uint32_t v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
    return v;
}
/* Four matrices of 8 rows x 8 tokens, transposed: lane l gives the address of token l % 8 of matrix l / 8. */
__device__ inline void store_transposed(uint32_t at, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(a),
                 "r"(b), "r"(c), "r"(d)
                 : "memory");
}

/* bf16: 64 tokens a round, the warpgroup's 64 rows */
template <class S>
__device__ inline void end_bf16(const gemm_call &g, const CUtensorMap *y, const float *d, uint32_t out,
                                int row, int token, bool leader) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const int piece = 2 * warp + lane / 8 % 2, t = lane / 16 * 8 + lane % 8;
    const uint32_t at = out + t * 128 + ((piece ^ t % 8) << 4);
    const int id = threadIdx.x / 128;
#pragma unroll
    for (int r = 0; r < S::TOKENS / 64; r++) {
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float *v = d + 32 * r + 8 * j;
            store_transposed(at + r % 2 * S::OUT_BYTES + j * 2048, bf16_pair(v[0], v[1]),
                             bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
        }
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, out + r % 2 * S::OUT_BYTES, row, token + 64 * r);
            copies_commit();
        }
    }
}

/* GLU: 64 tokens a round, 32 results of the warpgroup: lines of 64 bytes, pieces swizzled by piece ^= token /
 * 2 % 4 */
/* PLAIN: gate rows before up rows, no limit */
template <class S, int KIND, bool PLAIN>
__device__ inline void end_glu(const gemm_call &g, const CUtensorMap *y, const float *d, uint32_t out,
                               int row, int token, bool leader) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const uint32_t at = out + lane * 64 + ((warp ^ lane / 2 % 4) << 4);
    const int id = threadIdx.x / 128;
#pragma unroll
    for (int r = 0; r < S::TOKENS / 64; r++) {
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t m[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *v = d + 32 * r + 16 * j + 4 * i;
                const bool swap = !PLAIN && g.up_first;
                m[i] = bf16_pair(g.gated.of<KIND, !PLAIN>(swap ? v[2] : v[0], swap ? v[0] : v[2]),
                                 g.gated.of<KIND, !PLAIN>(swap ? v[3] : v[1], swap ? v[1] : v[3]));
            }
            store_transposed(at + r % 2 * S::OUT_BYTES + j * 2048, m[0], m[1], m[2], m[3]);
        }
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, out + r % 2 * S::OUT_BYTES, row / 2, token + 64 * r);
            copies_commit();
        }
    }
}

template <class S> __device__ inline void scale(const gemm_call &g, float *d, int row, int token) {
    const int lane = threadIdx.x % 32, n = row + threadIdx.x / 32 % 4 * 16 + lane / 4;
    const float w0 = n < g.rows ? g.w_scale[n] : 0, w8 = n + 8 < g.rows ? g.w_scale[n + 8] : 0;
#pragma unroll
    for (int j = 0; j < S::TOKENS / 8; j++) {
        const int t = token + 8 * j + 2 * (lane % 4);
        const float x0 = t < g.tokens ? g.x_scale[t] : 0, x1 = t + 1 < g.tokens ? g.x_scale[t + 1] : 0;
        d[4 * j] *= x0 * w0, d[4 * j + 1] *= x1 * w0, d[4 * j + 2] *= x0 * w8, d[4 * j + 3] *= x1 * w8;
    }
}

template <class S, int END> __device__ inline void consume(const gemm_call &g, uint32_t room, int rank) {
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
    const uint32_t full = room + S::BARS_AT, empty = full + 8 * S::STAGES;
    const uint32_t w0 = room + group * 8192, x0 = room + S::X_AT,
                   out = room + S::OUT_AT + group * 2 * S::OUT_BYTES;
    const bool leader = threadIdx.x % 128 == 0;
    const int tiles = g.row_tiles * g.token_tiles;
    typedef products<S::TOKENS> P;
    float d[P::REGISTERS];
    float part[S::E4M3 ? P::REGISTERS : 1];
    int s = 0, turn = 0;
    /* a warp is done with a stage: tells every block that loads into it */
    const auto release = [&](int stage) {
        if (S::CLUSTER == 1) {
            if (lane == 0) barrier_arrive(empty + 8 * stage);
        } else if (lane < S::CLUSTER) {
            barrier_arrive_at(empty + 8 * stage, lane);
        }
    };
    grid_wait();
    for (int i = blockIdx.x / S::CLUSTER; i < tiles; i += gridDim.x / S::CLUSTER) {
        const gemm_tile tile = tile_at<S>(g, i, rank);
        int before = 0;
        if constexpr (S::E4M3) {
#pragma unroll
            for (int j = 0; j < P::REGISTERS; j++) d[j] = 0;
            for (int k = 0; k < g.depth; k++) {
                barrier_wait(full + 8 * s, turn);
                products_begin();
                const uint64_t a = operand(w0 + s * S::W_BYTES), b = operand(x0 + s * S::X_BYTES);
#pragma unroll
                for (int j = 0; j < 4; j++) P::e4m3(part, a + 2 * j, b + 2 * j, j);
                products_commit();
                products_wait<0>();
                release(s);
#pragma unroll
                for (int j = 0; j < P::REGISTERS; j++) d[j] += part[j];
                if (++s == S::STAGES) s = 0, turn ^= 1;
            }
        } else {
            for (int k = 0; k < g.depth; k++) {
                barrier_wait(full + 8 * s, turn);
                products_begin();
                const uint64_t a = operand(w0 + s * S::W_BYTES), b = operand(x0 + s * S::X_BYTES);
#pragma unroll
                for (int j = 0; j < 4; j++) P::bf16(d, a + 2 * j, b + 2 * j, k | j);
                products_commit();
                if (k) {
                    products_wait<1>();
                    release(before);
                }
                before = s;
                if (++s == S::STAGES) s = 0, turn ^= 1;
            }
            products_wait<0>();
            release(before);
        }
        const int row = tile.row * S::ROWS + 64 * group, token = tile.token * S::TOKENS;
        const CUtensorMap *y = &g.y[tile.part];
        if constexpr (END == GEMM_ADD) { /* strips of 32 rows come through the ring */
            const places mine;
            for (int v = 0; v < S::ROWS / 32; v++) {
                barrier_wait(full + 8 * s, turn);
                if (v == threadIdx.x / 64 - 2) {
#pragma unroll
                    for (int j = 0; j < P::REGISTERS; j++)
                        d[j] += load_shared(x0 + s * S::X_BYTES + mine.at[j % 4] + j / 4 * 1024);
                }
                __syncwarp();
                release(s);
                if (++s == S::STAGES) s = 0, turn ^= 1;
            }
        }
        if (S::E4M3) scale<S>(g, d, row, token);
        if (END == GEMM_GLU && g.gated.act.kind == ACT_SILU && g.gated.limit == INFINITY && !g.up_first)
            end_glu<S, ACT_SILU, true>(g, y, d, out, row, token, leader);
        else if (END == GEMM_GLU && g.gated.act.kind <= ACT_SIGMOID)
            end_glu<S, ACT_SIGMOID, false>(g, y, d, out, row, token, leader);
        else if (END == GEMM_GLU && g.gated.act.kind == ACT_ERF)
            end_glu<S, ACT_ERF, false>(g, y, d, out, row, token, leader);
        else if (END == GEMM_GLU)
            end_glu<S, ACT_RELU, false>(g, y, d, out, row, token, leader);
        else if (END == GEMM_BF16)
            end_bf16<S>(g, y, d, out, row, token, leader);
        else
            end_f32<S>(g, y, d, out, row, token, leader);
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
            barrier_init(room + S::BARS_AT + 8 * s, 1);
            barrier_init(room + S::BARS_AT + 8 * (S::STAGES + s), S::GROUPS * 4 * S::CLUSTER);
        }
        barriers_ready();
    }
    if (S::CLUSTER > 1)
        cluster_barrier();
    else
        __syncthreads();
    grid_release();
    if (threadIdx.x < 128) {
        if (S::GROW) registers_shrink<24>();
        if (threadIdx.x / 32 == 0 && elected()) produce<S, END>(g, room, rank);
    } else {
        if (S::GROW) registers_grow<S::GROW ? S::GROW : 240>();
        consume<S, END>(g, room, rank);
    }
    if (S::CLUSTER > 1) cluster_barrier(); /* nobody leaves whom a neighbour still tells */
}

} // namespace tk
#endif
