/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens, 1 to 16, where reading the weights is all the time there is. out^T = W x^T with mma.sync:
 * weights are the rows of the A operand, tokens the columns of B.
 *
 * A team of warps owns PANELS panels of 16 rows at a time. Its warps take turns of 256 k: each has the next weights of
 * its own in registers, dequantized, when the sums come to it from the warp before; so the chain of products goes on
 * as fast as the tensor core takes it, and k is never split. Where an SM has many panels a team is one warp. Weights go
 * through a ring of each warp in shared memory that bulk copies keep full; the first of them start before the kernel
 * before this one has ended, since weights do not depend on it. Activations are shared by the block: chunks of k, all
 * tokens, which one more warp copies (TMA, 128-byte swizzle), once where they fit, or else for every row of tiles. */
#ifndef TK_SKINNY_CUH
#define TK_SKINNY_CUH
#include <cuda.h>

#include "cuda/fragments.cuh"
#include "cuda/skinny.h"

namespace tk {

__device__ inline uint32_t shared_at(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
__device__ inline void bar_init(uint32_t bar, int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(bar), "r"(count));
}
__device__ inline void bar_expect(uint32_t bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ inline void bar_arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ inline void bar_wait(uint32_t bar, uint32_t parity) {
    asm volatile("{\n.reg .pred p;\nW: mbarrier.try_wait.parity.shared.b64 p, [%0], %1;\n@p bra D;\nbra W;\nD:\n}" ::"r"(bar),
                 "r"(parity)
                 : "memory");
}
__device__ inline void bulk_copy(uint32_t to, const void *from, uint32_t bytes, uint32_t bar) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(bar)
                 : "memory");
}
__device__ inline void tile_copy(uint32_t to, const CUtensorMap *map, int x, int y, int z, uint32_t bar) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
            to),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(bar)
        : "memory");
}

/* Where panel `p` of all lies: which weight, and its number there */
__device__ inline int panel_in(const skinny_job &j, int &p) {
    const int m = p < j.end[0] ? 0 : p < j.end[1] ? 1 : 2;
    if (m) p -= j.end[m - 1];
    return m;
}

/* t0: the first of the tokens */
template <int TILES8, int PANELS>
__device__ void skinny_store(const skinny_job &job, int tile, int t0, int lane, const float (&d)[PANELS][TILES8][4]) {
    const int g = lane / 4, j = lane % 4 * 2;
#pragma unroll
    for (int c = 0; c < PANELS; c++) {
        int p = job.what == SKINNY_GLU ? tile : tile * PANELS + c;
        if ((job.what == SKINNY_GLU && c) || p >= job.end[2]) continue;
        const int m = panel_in(job, p);
#pragma unroll
        for (int n = 0; n < TILES8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = p * TK_H_ROWS + g + i / 2 * 8, t = t0 + n * 8 + j + i % 2;
                if (row >= job.rows[m] || t >= job.tokens) continue;
                const int64_t at = (int64_t)t * job.rows[m] + row;
                const float v = d[c][n][i];
                if (job.what == SKINNY_F32)
                    ((float *)job.y[m])[at] = v;
                else if (job.what == SKINNY_ADD)
                    ((float *)job.y[m])[at] = job.other[at] + v;
                else
                    ((uint16_t *)job.y[0])[at] =
                        to_bf16(job.gated(v, d[PANELS - 1][n][i]));
            }
    }
}

template <int T, int TILES8, int PANELS>
__global__ void __launch_bounds__(skinny_threads(PANELS))
    skinny(const __grid_constant__ CUtensorMap x, const __grid_constant__ skinny_job job) {
    using form = fragments<T>;
    enum { TURN = SKINNY_TURN, SUBS = form::K / 64, SLABS = TURN / SUBS, ACCUMULATORS = PANELS * TILES8 * 4 };
    extern __shared__ __align__(1024) uint8_t shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32 - 1;
    const skinny_room room(job, warps, PANELS * SLABS * form::BYTES, ACCUMULATORS, shared_at(shared));
    const int member = warp % job.team, teams = warps / job.team, stride = teams * gridDim.x;
    const int first = blockIdx.x + warp / job.team * gridDim.x;
    const int rounds = (job.tiles - (int)blockIdx.x + stride - 1) / stride; /* of the team that has most tiles */
    const int chunks = (job.steps + job.xeach - 1) / job.xeach;             /* of activations a round */
    const int turns = (job.steps + TURN - 1) / TURN;
    const bool stays = chunks <= job.xslots;
    if (threadIdx.x == 0)
        for (int i = 0; i < job.xslots; i++) bar_init(room.xfull + i * 8, 1), bar_init(room.xempty + i * 8, warps);
    if (warp < warps && lane == 0) {
        for (int i = 0; i < job.slots; i++) bar_init(room.full + (warp * job.slots + i) * 8, 1);
        bar_init(room.token + warp * 8, 1);
    }
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
    pdl_go();
    if (warp == warps) { /* activations */
        __syncthreads();
        if (lane) return;
        pdl_wait();
        const int total = stays ? chunks : chunks * rounds;
        for (int i = 0, slot = 0, chunk = 0, lap = 0; i < total; i++) {
            if (lap) bar_wait(room.xempty + slot * 8, (lap - 1) & 1);
            bar_expect(room.xfull + slot * 8, job.xeach * job.tokens * 128);
            tile_copy(room.x + slot * room.x_bytes, &x, 0, 0, chunk * job.xeach, room.xfull + slot * 8);
            if (++slot == job.xslots) slot = 0, lap++;
            if (++chunk == chunks) chunk = 0;
        }
        return;
    }
    /* Weights: what lane 0 copies next is turn `next` of tile `ahead` */
    const uint32_t ring = room.w + warp * job.slots * room.w_bytes, full = room.full + warp * job.slots * 8;
    int ahead = first, next = member;
    const uint8_t *source[PANELS];
    auto aim = [&] {
        for (; next >= turns; next -= turns) ahead += stride;
#pragma unroll
        for (int c = 0; c < PANELS && ahead < job.tiles; c++) {
            int p = job.what == SKINNY_GLU ? ahead : min(ahead * PANELS + c, job.end[2] - 1);
            const int m = job.what == SKINNY_GLU ? c : panel_in(job, p);
            source[c] = job.w[m] + ((int64_t)p * job.slabs + next * SLABS) * form::BYTES;
        }
    };
    auto refill = [&](int slot) {
        if (ahead >= job.tiles) return;
        const int bytes = min((int)SLABS, job.slabs - next * SLABS) * form::BYTES;
        const uint32_t to = ring + slot * room.w_bytes;
        bar_expect(full + slot * 8, PANELS * bytes);
#pragma unroll
        for (int c = 0; c < PANELS; c++) {
            bulk_copy(to + c * SLABS * form::BYTES, source[c], bytes, full + slot * 8);
            source[c] += job.team * SLABS * form::BYTES;
        }
        next += job.team;
        if (next >= turns) aim();
    };
    aim();
    if (lane == 0)
        for (int i = 0; i < job.slots; i++) refill(i);
    __syncthreads();
    pdl_wait();

    const int matrix = lane / 8, column = lane % 8;
    int slot = 0, phase = 0, turn = member, lap = member == 0; /* of tokens: the first needs none */
    /* Activations: the slot it is at, and the step of 64 k in it */
    int xslot = 0, xphase = 0, xstep = member * TURN;
    auto leave = [&] { /* for the next slot */
        if (!stays) {
            bar_wait(room.xfull + xslot * 8, xphase);
            if (lane == 0) bar_arrive(room.xempty + xslot * 8);
        }
        if (++xslot == job.xslots) xslot = 0, xphase ^= stays ? 0 : 1;
        xstep -= job.xeach;
    };
    uint32_t column_row[TILES8]; /* of the activations: tokens that are not there read the first */
#pragma unroll
    for (int n = 0; n < TILES8; n++) column_row[n] = n * 8 + column < job.tokens ? n * 8 + column : 0;
    float d[PANELS][TILES8][4];
    int tile = first;
    for (int round = 0; round < rounds; round++, tile += stride, turn -= turns, xstep += chunks * job.xeach - turns * TURN)
        for (; turn < turns; turn += job.team, xstep += job.team * TURN) {
            while (xstep >= job.xeach) leave();
            if (tile >= job.tiles) continue; /* others have a tile more */
            uint32_t a[TURN][PANELS][16], b[2][TILES8][4];
            bar_wait(full + slot * 8, phase);
            const uint32_t w = ring + slot * room.w_bytes;
#pragma unroll
            for (int j = 0; j < TURN; j++)
#pragma unroll
                for (int c = 0; c < PANELS; c++)
                    form::load(a[j][c], w + (c * SLABS + j / SUBS) * form::BYTES, j % SUBS, lane);
            if (turn + 1 == turns && job.steps % TURN) { /* zeros beyond the end, where activations are zeros, too */
#pragma unroll
                for (int j = 1; j < TURN; j++)
                    if (j >= job.steps % TURN)
#pragma unroll
                        for (int i = 0; i < PANELS * 16; i++) /* volatile: a branch, and no selection in every turn */
                            asm volatile("mov.b32 %0, 0;" : "=r"(a[j][i / 16][i % 16]));
            }
            bar_wait(room.xfull + xslot * 8, xphase);
            /* B operands of half q % 2 of step q / 2: two steps of 16 k */
            const uint32_t xbase = room.x + xslot * room.x_bytes;
            const uint32_t xrow = xstep * job.tokens;
            auto load_b = [&](uint32_t(&to)[TILES8][4], int q) {
#pragma unroll
                for (int n = 0; n < TILES8; n++) {
                    const uint32_t r = xrow + q / 2 * job.tokens + column_row[n];
                    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                                 : "=r"(to[n][0]), "=r"(to[n][1]), "=r"(to[n][2]), "=r"(to[n][3])
                                 : "r"(xbase + r * 128 + (((matrix ^ (r & 7)) << 4) ^ q % 2 << 6)));
                }
            };
            load_b(b[0], 0);
#pragma unroll
            for (int i = 0; i < ACCUMULATORS; i++)
                if (turn == 0) d[i / (TILES8 * 4)][i / 4 % TILES8][i % 4] = 0;
            if (job.team > 1) {
                bar_wait(room.token + warp * 8, lap);
                lap ^= 1;
                const uint32_t from = room.hand + warp * room.hand_bytes + lane * 16;
#pragma unroll
                for (int i = 0; i < ACCUMULATORS / 4 && turn; i++) {
                    const uint4 v = shared_16(from + i * 512);
                    float *to = d[i / TILES8][i % TILES8];
                    to[0] = __uint_as_float(v.x), to[1] = __uint_as_float(v.y);
                    to[2] = __uint_as_float(v.z), to[3] = __uint_as_float(v.w);
                }
            }
#pragma unroll
            for (int q = 0; q < 2 * TURN; q++) {
                if (q + 1 < 2 * TURN) load_b(b[(q + 1) % 2], q + 1);
#pragma unroll
                for (int s = 0; s < 2; s++)
#pragma unroll
                    for (int n = 0; n < TILES8; n++)
#pragma unroll
                        for (int c = 0; c < PANELS; c++)
                            mma_16x8x16(d[c][n], a[q / 2][c] + q % 2 * 8 + 4 * s, b[q % 2][n] + 2 * s);
            }
            const bool last = turn + 1 == turns;
            if (job.team > 1) {
                const int to = member + 1 == job.team ? warp - member : warp + 1;
                const uint32_t at = room.hand + to * room.hand_bytes + lane * 16;
#pragma unroll
                for (int i = 0; i < ACCUMULATORS / 4 && !last; i++) {
                    const float *v = d[i / TILES8][i % TILES8];
                    asm volatile("st.shared.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(at + i * 512), "f"(v[0]), "f"(v[1]), "f"(v[2]),
                                 "f"(v[3])
                                 : "memory");
                }
                __syncwarp();
                if (lane == 0) bar_arrive(room.token + to * 8);
            }
            __syncwarp(); /* all lanes have what they read in the slot */
            if (lane == 0) refill(slot);
            if (++slot == job.slots) slot = 0, phase ^= 1;
            if (!last) continue;
#pragma unroll
            for (int i = 0; i < ACCUMULATORS; i++) {
                float &sum = d[i / (TILES8 * 4)][i / 4 % TILES8][i % 4];
                sum = whole<T>(sum);
            }
            skinny_store<TILES8, PANELS>(job, tile, 0, lane, d);
        }
    for (xstep -= turn * TURN; xstep >= job.xeach;) leave(); /* what is left of the last round */
}

/* The same for every width: a warp, 8 tokens, slab after slab through shared memory, activations straight from memory.
 * Slow, and the oracle of the order of sums. */
template <int T, int PANELS>
__global__ void __launch_bounds__(32) skinny_chain(const __grid_constant__ skinny_job job) {
    using form = fragments<T>;
    enum { SUBS = form::K / 64 };
    __shared__ __align__(1024) uint8_t slab[form::BYTES];
    const int lane = threadIdx.x, g = lane / 4, j = lane % 4 * 2, tile = blockIdx.x, t0 = blockIdx.y * 8;
    const uint16_t *x = job.x + (int64_t)(t0 + g < job.tokens ? t0 + g : 0) * job.width;
    float d[PANELS][1][4] = {};
    pdl_go();
    pdl_wait();
    for (int step = 0; step < job.steps; step++)
#pragma unroll
        for (int c = 0; c < PANELS; c++) {
            int p = job.what == SKINNY_GLU ? tile : tile * PANELS + c;
            if (p >= job.end[2]) continue;
            const int m = job.what == SKINNY_GLU ? c : panel_in(job, p);
            const uint4 *from = (const uint4 *)(job.w[m] + ((int64_t)p * job.slabs + step / SUBS) * form::BYTES);
            __syncwarp();
            for (int i = lane; i < form::BYTES / 16; i += 32) ((uint4 *)slab)[i] = from[i];
            __syncwarp();
            uint32_t a[16];
            form::load(a, shared_at(slab), step % SUBS, lane);
#pragma unroll
            for (int s = 0; s < 4; s++) {
                uint32_t b[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const int64_t k = step * 64 + s * 16 + i * 8 + j;
                    b[i] = (k < job.width ? x[k] : 0) | (uint32_t)(k + 1 < job.width ? x[k + 1] : 0) << 16;
                }
                mma_16x8x16(d[c][0], a + 4 * s, b);
            }
        }
#pragma unroll
    for (int i = 0; i < PANELS * 4; i++) d[i / 4][0][i % 4] = whole<T>(d[i / 4][0][i % 4]);
    skinny_store<1, PANELS>(job, tile, t0, lane, d);
}

/* Defines the kernels of a format. */
#define TK_SKINNY_KERNELS(FORMAT)                                                                                      \
    extern const skinny_kernels skinny_##FORMAT;                                                                       \
    const skinny_kernels skinny_##FORMAT = {                                                                           \
        { { (const void *)skinny<TK_##FORMAT, 1, 1>, (const void *)skinny<TK_##FORMAT, 1, 2> },                        \
          { (const void *)skinny<TK_##FORMAT, 2, 1>, (const void *)skinny<TK_##FORMAT, 2, 2> } },                      \
        { (const void *)skinny_chain<TK_##FORMAT, 1>, (const void *)skinny_chain<TK_##FORMAT, 2> },                    \
        fragments<TK_##FORMAT>::BYTES,                                                                                 \
        fragments<TK_##FORMAT>::K                                                                                      \
    };

} // namespace tk
#endif
