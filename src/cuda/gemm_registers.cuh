/* SPDX-License-Identifier: Apache-2.0 */
/* The part of gemm_sm90.cuh for quantized weights: they pass through shared memory as they are in H_ formats,
 * and each warp makes the A operand of its 16 rows in registers (fragments.cuh), the text that the kernels
 * for few tokens use. */
#ifndef TK_GEMM_REGISTERS_CUH
#define TK_GEMM_REGISTERS_CUH
#include "cuda/fragments.cuh"
#include "cuda/gemm_launch.cuh"

namespace tk {

template <int FORMAT> struct gemm_slab {
    enum { BYTES = fragments<FORMAT>::BYTES };
};

/* Rows of gate in the upper eight, of up in the lower eight of a warp's 16: half H of two panels */
template <int FORMAT, int H>
__device__ inline void gated_fragments(uint32_t (&a)[16], uint32_t gate, uint32_t up, int lane) {
    uint32_t u[16], v[16];
    fragments<FORMAT>::load(u, gate, 0, lane);
    fragments<FORMAT>::load(v, up, 0, lane);
#pragma unroll
    for (int j = 0; j < 16; j += 4)
        a[j] = u[j + H], a[j + 1] = v[j + H], a[j + 2] = u[j + 2 + H], a[j + 3] = v[j + 2 + H];
}

/* Quantized weights: those of the next stage are made while products of this one run, in the other set of
 * registers. */
template <class S> struct stage_registers {
    uint32_t a[S::STEPS][16];
};
template <class S, int END>
__device__ inline void multiply_stage(float (&d)[S::TOKENS / 2], stage_registers<S> &f, int k, uint32_t room,
                                      int member, ring *r, ring *w) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    constexpr int bytes = gemm_slab<S::FORMAT>::BYTES;
    barrier_wait(room + S::W_FULL_AT + 8 * w->at, w->turn);
#pragma unroll
    for (int i = 0; i < S::STEPS; i++) {
        const uint32_t slab = room + S::W_AT + w->at * S::W_BYTES + i * S::W_STEP;
        if (END == GEMM_GLU) {
            const uint32_t gate = slab + (2 * member + warp / 2) * 2 * bytes;
            if (warp % 2 == 0)
                gated_fragments<S::FORMAT, 0>(f.a[i], gate, gate + bytes, lane);
            else
                gated_fragments<S::FORMAT, 1>(f.a[i], gate, gate + bytes, lane);
        } else {
            fragments<S::FORMAT>::load(f.a[i], slab + (4 * member + warp) * bytes, 0, lane);
        }
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(room + S::W_EMPTY_AT + 8 * w->at);
    advance<S::STAGES>(w);
    barrier_wait(room + S::FULL_AT + 8 * r->at, r->turn);
    products_begin();
    const uint64_t b = operand(room + r->at * S::X_BYTES);
#pragma unroll
    for (int j = 0; j < 4 * S::STEPS; j++) {
        const uint32_t *a = f.a[j / 4] + j % 4 * 4;
        products<S::TOKENS>::bf16_registers(d, a[0], a[1], a[2], a[3], b + j / 4 * (S::X_STEP / 16) + j % 4 * 2, k | j);
    }
    products_commit();
    if (k) {
        products_wait<1>();
        release<S>(room, r->at ? r->at - 1 : S::STAGES - 1);
    }
    advance<S::STAGES>(r);
}
template <class S, int END>
__device__ inline void multiply_registers(float (&d)[S::TOKENS / 2], int depth, uint32_t room, int member,
                                          ring *r, ring *w) {
    stage_registers<S> even, odd;
    for (int k = 0; k < depth; k += 2) {
        multiply_stage<S, END>(d, even, k, room, member, r, w);
        if (k + 1 < depth) multiply_stage<S, END>(d, odd, k + 1, room, member, r, w);
    }
    products_wait<0>();
    release<S>(room, r->at ? r->at - 1 : S::STAGES - 1);
#pragma unroll
    for (int j = 0; j < S::TOKENS / 2; j++) d[j] = whole<S::FORMAT>(d[j]);
}

/* The tiles of a quantized format: of 256 tokens, and for few; 64 rows where 128 would leave most SMs without any */
template <int FORMAT> const gemm_tiling gemm_tilings<FORMAT>::all[GEMM_QUANTIZED] = {
    gemm_tiling_of<gemm_shape<FORMAT, 256, 4>>(0.68f, 4.0f),
    gemm_tiling_of<gemm_shape<FORMAT, 128, 6>>(0.34f, 3.0f),
    gemm_tiling_of<gemm_shape<FORMAT, 64, 3, 4096, 1, 2, 4>>(0.181f, 2.8f),
    gemm_tiling_of<gemm_shape<FORMAT, 64, 4, 8192, 1, 1, 4>>(0.124f, 2.5f),
    gemm_tiling_of<gemm_shape<FORMAT, 32, 6, 8192, 1, 1, 4>>(0.117f, 2.1f),
    gemm_tiling_of<gemm_shape<FORMAT, 32, 4, 4096, 1, 1, 2, 2>>(0.19f, 2.0f),
};

} // namespace tk
#endif
