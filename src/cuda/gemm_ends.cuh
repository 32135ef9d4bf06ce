/* SPDX-License-Identifier: Apache-2.0 */
/* How the tiles of gemm_sm90.cuh end: sums leave the registers of warpgroup products, whose rows are weights,
 * for matrices whose rows are tokens. A warpgroup puts a round of tokens into its own shared memory, where a
 * bulk copy fetches it while the next round is written to the other half. */
#ifndef TK_GEMM_ENDS_CUH
#define TK_GEMM_ENDS_CUH
#include "cuda/gemm_sm90.h"
#include "cuda/hopper.cuh"

namespace tk {

struct gemm_call {
    CUtensorMap w[GEMM_PARTS], x, y[GEMM_PARTS], other;
    int first[GEMM_PARTS];      /* row tiles of parts before, in clusters */
    int rows, tokens;           /* of y */
    int row_tiles, token_tiles; /* of all parts; row tiles in clusters */
    int depth, columns;         /* stages of k; token tiles visited side by side */
    int x_step;                 /* bytes of the tokens of a step of k: of those that are there */
    gating gated;
    int up_first;                   /* up rows lie before gate rows */
    const float *w_scale, *x_scale; /* of e4m3: [rows], [tokens] */
};

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

/* float32: a round has 32 + 32 of the warpgroup's rows. */
template <class S>
__device__ inline void end_f32(const CUtensorMap *y, const float *d, uint32_t out, int row, int token,
                               bool leader) {
    enum { ROUND = S::F32_ROUND, STRIP = ROUND * 128 };
    const places mine;
    const int id = threadIdx.x / 128;
#pragma unroll
    for (int r = 0; r < S::TOKENS / ROUND; r++) {
        const uint32_t half = out + r % 2 * S::OUT_BYTES;
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int i = 0; i < ROUND / 2; i++)
            store_shared(half + threadIdx.x / 64 % 2 * STRIP + mine.at[i % 4] + i / 4 * 1024,
                         d[ROUND / 2 * r + i]);
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, half, row, token + ROUND * r);
            tensor_out(y, half + STRIP, row + 32, token + ROUND * r);
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

/* bf16: a line of a round has the warpgroup's 64 rows. */
template <class S>
__device__ inline void end_bf16(const CUtensorMap *y, const float *d, uint32_t out, int row, int token,
                                bool leader) {
    enum { ROUND = S::BF16_ROUND };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, id = threadIdx.x / 128;
    const int piece = 2 * warp + lane / 8 % 2, t = lane / 16 * 8 + lane % 8;
    const uint32_t at = out + t * 128 + ((piece ^ t % 8) << 4);
#pragma unroll
    for (int r = 0; r < S::TOKENS / ROUND; r++) {
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int j = 0; j < ROUND / 16; j++) {
            const float *v = d + ROUND / 2 * r + 8 * j;
            store_transposed(at + r % 2 * S::OUT_BYTES + j * 2048, bf16_pair(v[0], v[1]),
                             bf16_pair(v[2], v[3]), bf16_pair(v[4], v[5]), bf16_pair(v[6], v[7]));
        }
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, out + r % 2 * S::OUT_BYTES, row, token + ROUND * r);
            copies_commit();
        }
    }
}

/* GLU: 32 results of the warpgroup, lines of 64 bytes, pieces swizzled by piece ^= token / 2 % 4. PLAIN: gate
 * rows before up rows, no limit */
template <class S, int KIND, bool PLAIN>
__device__ inline void end_glu(const gemm_call &g, const float *d, const CUtensorMap *y, uint32_t out,
                               int row, int token, bool leader) {
    enum { ROUND = S::GLU_ROUND };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4, id = threadIdx.x / 128;
    const uint32_t at = out + lane * 64 + ((warp ^ lane / 2 % 4) << 4);
#pragma unroll
    for (int r = 0; r < S::TOKENS / ROUND; r++) {
        if (leader) copies_read<1>();
        named_barrier(id, 128);
#pragma unroll
        for (int j = 0; j < ROUND / 32; j++) {
            uint32_t m[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *v = d + ROUND / 2 * r + 16 * j + 4 * i;
                const bool swap = !PLAIN && g.up_first;
                m[i] = bf16_pair(g.gated.of<KIND, !PLAIN>(swap ? v[2] : v[0], swap ? v[0] : v[2]),
                                 g.gated.of<KIND, !PLAIN>(swap ? v[3] : v[1], swap ? v[1] : v[3]));
            }
            store_transposed(at + r % 2 * S::OUT_BYTES + j * 2048, m[0], m[1], m[2], m[3]);
        }
        fence_shared();
        named_barrier(id, 128);
        if (leader) {
            tensor_out(y, out + r % 2 * S::OUT_BYTES, row / 2, token + ROUND * r);
            copies_commit();
        }
    }
}

/* GLU, by the activation */
template <class S>
__device__ inline void end_gated(const gemm_call &g, const float *d, const CUtensorMap *y, uint32_t out,
                                 int row, int token, bool leader) {
    if (g.gated.act.kind == ACT_SILU && g.gated.limit == INFINITY && !g.up_first)
        end_glu<S, ACT_SILU, true>(g, d, y, out, row, token, leader);
    else if (g.gated.act.kind <= ACT_SIGMOID)
        end_glu<S, ACT_SIGMOID, false>(g, d, y, out, row, token, leader);
    else if (g.gated.act.kind == ACT_ERF)
        end_glu<S, ACT_ERF, false>(g, d, y, out, row, token, leader);
    else
        end_glu<S, ACT_RELU, false>(g, d, y, out, row, token, leader);
}

} // namespace tk
#endif
