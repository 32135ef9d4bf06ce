/* SPDX-License-Identifier: Apache-2.0 */
/* Rows too long for one block's registers without idle memory: a cluster of blocks has a row, each block a part of it in
 * registers, and the copy engine brings the next rows into a ring of shared memory meanwhile. The weights of a block's
 * columns stay in its registers for all its rows. */
#include "cuda/hopper.cuh"
#include "cuda/norm_sm90.h"

namespace tk {

enum {
    RING_THREADS = 512,
    PIECE = 16 << 10,   /* bytes of a copy: two runs of 16 bytes a thread */
    RING = 13           /* pieces in shared memory */
};

/* Shared memory before the ring */
template <int CLUSTER> struct ring_head {
    uint64_t full[RING], met[2];
    float warp[2][RING_THREADS / 32], part[2][CLUSTER];
};

/* Numbers of all threads of the cluster joined, in the order of warps and ranks; `turn` counts these meetings */
template <int CLUSTER, class JOIN> __device__ inline float ring_join(ring_head<CLUSTER> *h, int &turn, float v, JOIN) {
    const int side = turn & 1;
    const uint32_t met = shared_address(&h->met[side]);
#pragma unroll
    for (int i = 16; i; i >>= 1) v = JOIN::join(v, __shfl_xor_sync(~0u, v, i));
    if (threadIdx.x % 32 == 0) h->warp[side][threadIdx.x / 32] = v;
    __syncthreads();
    v = h->warp[side][threadIdx.x % 16];
#pragma unroll
    for (int i = 8; i; i >>= 1) v = JOIN::join(v, __shfl_xor_sync(~0u, v, i));
    if (CLUSTER > 1) {
        if (threadIdx.x == 0) barrier_expect(met, CLUSTER * sizeof(float));
        if (threadIdx.x < CLUSTER)
            asm volatile("{\n.reg .b32 to, bar;\nmapa.shared::cluster.u32 to, %0, %3;\nmapa.shared::cluster.u32 bar, %1, %3;\n"
                         "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [to], %2, [bar];\n}" ::"r"(
                             shared_address(&h->part[side][cluster_rank()])),
                         "r"(met), "f"(v), "r"(threadIdx.x)
                         : "memory");
        barrier_wait(met, turn >> 1 & 1);
        v = h->part[side][0];
#pragma unroll
        for (int i = 1; i < CLUSTER; i++) v = JOIN::join(v, h->part[side][i]);
    }
    turn++;
    return v;
}

/* PIECES: of a block's part of a row, at most */
template <int IN, int OUT, int KIND, int CLUSTER, int PIECES>
__global__ void __launch_bounds__(RING_THREADS, 1) ring_rows(const row_job j) {
    enum { N = run_of(IN), PER = 2 * PIECES, HELD = KIND != ROW_SOFTMAX };
    extern __shared__ __align__(128) unsigned char ring[]; /* RING pieces, then the head */
    ring_head<CLUSTER> *h = (ring_head<CLUSTER> *)(ring + RING * PIECE);
    const int runs = (int)(j.width / N), each = (runs + CLUSTER - 1) / CLUSTER, rank = CLUSTER > 1 ? (int)cluster_rank() : 0;
    const int from = TK_MIN(rank * each, runs), mine = TK_MIN(each, runs - from), pieces = (mine * 16 + PIECE - 1) / PIECE;
    const int64_t first = blockIdx.x / CLUSTER, step = gridDim.x / CLUSTER;
    if (threadIdx.x == 0) {
        for (int i = 0; i < RING; i++) barrier_init(shared_address(&h->full[i]), 1);
        for (int i = 0; i < 2; i++) barrier_init(shared_address(&h->met[i]), 1);
        barriers_ready();
    }
    pdl_go();
    if (CLUSTER > 1)
        cluster_barrier();
    else
        __syncthreads();
    int stage = 0, parity = 0, turn = 0;
    int64_t row_in = first; /* what the copy engine is asked for next, and where to */
    int piece_in = 0, stage_in = 0;
    const auto bring = [&](int count) {
        for (; count && row_in < j.rows && pieces; count--) {
            const uint32_t bytes = (uint32_t)TK_MIN((int)PIECE, mine * 16 - piece_in * PIECE), full = shared_address(&h->full[stage_in]);
            barrier_expect(full, bytes);
            copy_in(shared_address(ring) + stage_in * PIECE, (const char *)j.x + (row_in * runs + from) * 16 + piece_in * PIECE,
                    bytes, full);
            if (++stage_in == RING) stage_in = 0;
            if (++piece_in == pieces) piece_in = 0, row_in += step;
        }
    };
    float w[HELD ? PER : 1][N], b[KIND == ROW_LNORM ? PER : 1][N] = {};
#pragma unroll
    for (int p = 0; p < PER; p++) {
        const int at = p * RING_THREADS + threadIdx.x;
        if (HELD && at < mine) load_floats(w[HELD ? p : 0], j.w, from + at);
        if (KIND == ROW_LNORM && at < mine) load_floats(b[KIND == ROW_LNORM ? p : 0], j.b, from + at);
    }
    pdl_wait();
    if (threadIdx.x == 0) bring(RING);
    for (int64_t row = first; row < j.rows; row += step) {
        run<IN, N> v[PER];
#pragma unroll
        for (int p = 0; p < PIECES; p++) {
            v[2 * p].clear(), v[2 * p + 1].clear();
            if (p >= pieces) continue;
            barrier_wait(shared_address(&h->full[stage]), parity);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int at = i * RING_THREADS + threadIdx.x;
                if (p * 2 * RING_THREADS + at >= mine) continue;
                const uint4 q = *(const uint4 *)(ring + stage * PIECE + at * 16);
                v[2 * p + i].w[0] = q.x, v[2 * p + i].w[1] = q.y, v[2 * p + i].w[2] = q.z, v[2 * p + i].w[3] = q.w;
            }
            if (++stage == RING) stage = 0, parity ^= 1;
        }
        row_math<KIND> math;
        math.find(v, N, j, [&](int p) { return p * RING_THREADS + (int)threadIdx.x < mine; },
                  [&](float s, auto join) { return ring_join<CLUSTER>(h, turn, s, join); });
        if (threadIdx.x == 0) bring(pieces); /* all threads have met since they read this row's */
        if (rank == 0 && threadIdx.x == 0 && j.m) j.m[row] = math.m;
        if (rank == 0 && threadIdx.x == 0 && j.r) j.r[row] = math.r;
#pragma unroll
        for (int p = 0; p < PER; p++) {
            const int at = p * RING_THREADS + threadIdx.x;
            float o[N];
            if (at >= mine || !j.y) break;
#pragma unroll
            for (int i = 0; i < N; i++) o[i] = math.of(v[p].get(i), w[HELD ? p : 0][i], b[KIND == ROW_LNORM ? p : 0][i]);
            run<OUT, N> out;
            out.set(o);
            out.store(j.y, row * runs + from + at, j.streaming);
        }
    }
}

template <int IN, int OUT, int KIND, int CLUSTER, int PIECES> static bool start(const tk_args *a, const row_job &j) {
    const auto kernel = ring_rows<IN, OUT, KIND, CLUSTER, PIECES>;
    const size_t shared = (size_t)RING * PIECE + sizeof(ring_head<CLUSTER>);
    cudaLaunchAttribute how[2] = {};
    how[0].id = cudaLaunchAttributeClusterDimension;
    how[0].val.clusterDim.x = CLUSTER, how[0].val.clusterDim.y = how[0].val.clusterDim.z = 1;
    how[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    how[1].val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t c = {};
    c.blockDim = dim3(RING_THREADS), c.dynamicSmemBytes = shared, c.stream = stream_of(a);
    c.attrs = how, c.numAttrs = 1, c.gridDim = dim3(CLUSTER);
    int clusters = 0; /* that run at the same time: each takes its share of the rows */
    if (cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared) != cudaSuccess ||
        cudaOccupancyMaxActiveClusters(&clusters, kernel, &c) != cudaSuccess || clusters < 1)
        return false;
    c.gridDim = dim3((unsigned)(CLUSTER * TK_MIN(j.rows, (int64_t)clusters))), c.numAttrs = 2;
    return cudaLaunchKernelEx(&c, kernel, j) == cudaSuccess;
}

template <int IN, int OUT, int KIND> static bool by_width(const tk_args *a, const row_job &j) {
    enum { PIECES = KIND == ROW_LNORM ? 2 : 4 }; /* registers for two rows of weights: half as much of x */
    const int64_t parts = tk_ceil_div(j.width / run_of(IN) * 16, PIECES * PIECE);
    return parts <= 1   ? start<IN, OUT, KIND, 1, PIECES>(a, j)
           : parts <= 2 ? start<IN, OUT, KIND, 2, PIECES>(a, j)
           : parts <= 4 ? start<IN, OUT, KIND, 4, PIECES>(a, j)
           : parts <= 8 ? start<IN, OUT, KIND, 8, PIECES>(a, j)
                        : false;
}

template <int KIND> static bool by_type(const tk_args *a, const row_job &j, int in, int out) {
    return in == TK_BF16    ? by_width<TK_BF16, TK_BF16, KIND>(a, j)
           : out == TK_BF16 ? by_width<TK_F32, TK_BF16, KIND>(a, j)
                            : by_width<TK_F32, TK_F32, KIND>(a, j);
}

bool ring_rows_sm90(const tk_args *a, const row_job &j, row_kind kind, int in, int out) {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (major != 9) return false;
    return kind == ROW_NORM    ? by_type<ROW_NORM>(a, j, in, out)
           : kind == ROW_LNORM ? by_type<ROW_LNORM>(a, j, in, out)
                               : by_type<ROW_SOFTMAX>(a, j, in, out);
}

} // namespace tk
