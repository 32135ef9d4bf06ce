/* SPDX-License-Identifier: Apache-2.0 */
/* Hopper's own instructions as functions: barriers in shared memory, bulk copies with and without tensor
 * maps, clusters, warpgroup products. Addresses of shared memory are its own 32-bit ones. Included by
 * *_sm90.cu alone. */
#ifndef TK_HOPPER_CUH
#define TK_HOPPER_CUH
#include <cuda.h>

#include "cuda/kernel.cuh"

namespace tk {

__device__ inline uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }
/* True for one thread of a converged warp */
__device__ inline bool elected() {
    uint32_t p;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(p));
    return p;
}

/* ---- barriers in shared memory ---- */

__device__ inline void barrier_init(uint32_t bar, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
/* Makes barriers that this thread initialized known to bulk copies and to the cluster; a barrier of threads
 * follows. */
__device__ inline void barriers_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
/* Arrives, and announces bytes that copies will bring. */
__device__ inline void barrier_expect(uint32_t bar, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ inline void barrier_arrive(uint32_t bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
/* Arrives at the barrier of the same address in block `rank` of the cluster. Not with .release.cluster: that
 * waits for all of the thread's memory traffic, and what is told here is only that tensor cores have read. */
__device__ inline void barrier_arrive_at(uint32_t bar, uint32_t rank) {
    asm volatile("{\n.reg .b32 a;\nmapa.shared::cluster.u32 a, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [a];\n}" ::"r"(bar),
                 "r"(rank)
                 : "memory");
}
__device__ inline bool barrier_passed(uint32_t bar, uint32_t parity) {
    uint32_t p;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(p)
        : "r"(bar), "r"(parity)
        : "memory");
    return p;
}
/* Waits for the end of the phase of this parity. TK_SPIN_LIMIT: a build that traps instead of hanging. */
__device__ inline void barrier_wait(uint32_t bar, uint32_t parity) {
#ifdef TK_SPIN_LIMIT
    for (int i = 0; !barrier_passed(bar, parity); i++)
        if (i > TK_SPIN_LIMIT) __trap();
#else
    while (!barrier_passed(bar, parity)) {}
#endif
}
/* A barrier among `threads` threads of the block; ids 1 .. 15, 0 being __syncthreads */
__device__ inline void named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* ---- clusters and grids ---- */

__device__ inline uint32_t cluster_rank() {
    uint32_t r;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
    return r;
}
__device__ inline void cluster_barrier() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}
/* Nothing before may read what the kernel before this one in the stream writes, or write what it reads. */
__device__ inline void grid_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
/* From here on the next kernel may start where there is room. */
__device__ inline void grid_release() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

template <int N> __device__ inline void registers_shrink() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> __device__ inline void registers_grow() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
__device__ inline void store_shared(uint32_t at, float v) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(at), "f"(v) : "memory");
}
__device__ inline float load_shared(uint32_t at) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(at) : "memory");
    return v;
}

/* ---- bulk copies ---- */

/* Ordinary stores to shared memory before are seen by bulk copies and warpgroup products after. */
__device__ inline void fence_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void prefetch_map(const CUtensorMap *m) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(m) : "memory");
}
/* Global to shared; multiples of 16 bytes */
__device__ inline void copy_in(uint32_t to, const void *from, uint32_t bytes, uint32_t bar) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(bytes), "r"(bar)
        : "memory");
}
__device__ inline void tensor_in(uint32_t to, const CUtensorMap *m, int x, int y, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, "
                 "{%3, %4}], [%2];" ::"r"(to),
                 "l"(m), "r"(bar), "r"(x), "r"(y)
                 : "memory");
}
/* To the same address of all blocks of the cluster in `mask`, completing at each one's barrier */
__device__ inline void tensor_in_all(uint32_t to, const CUtensorMap *m, int x, int y, uint32_t bar,
                                     uint16_t mask) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
        "[%0], [%1, {%4, %5}], [%2], %3;" ::"r"(to),
        "l"(m), "r"(bar), "h"(mask), "r"(x), "r"(y)
        : "memory");
}
/* Five dims, the first three from 0 on */
__device__ inline void tensor_in_5(uint32_t to, const CUtensorMap *m, int u, int v, uint32_t bar) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
                 "[%1, {%3, %3, %3, %4, %5}], [%2];" ::"r"(to),
                 "l"(m), "r"(bar), "r"(0), "r"(u), "r"(v)
                 : "memory");
}
__device__ inline void tensor_out(const CUtensorMap *m, uint32_t from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(m),
                 "r"(from), "r"(x), "r"(y)
                 : "memory");
}
__device__ inline void copies_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* All but the last N groups of this thread have read their shared memory. */
template <int N> __device__ inline void copies_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
template <int N> __device__ inline void copies_done() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- warpgroup products ---- */

/* Operand in shared memory, 128 bytes of k a row, rows in atoms of eight (1 KB) one after the other, 16-byte
 * pieces swizzled by piece ^= row % 8. `at` is a multiple of 1,024, plus 32 for each 32 bytes of k inside the
 * atom. */
__device__ inline uint64_t operand(uint32_t at) {
    return (uint64_t)(at >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
__device__ inline void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> __device__ inline void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#define TK_D8(d, i)                                                                                          \
    "+f"((d)[i]), "+f"((d)[(i) + 1]), "+f"((d)[(i) + 2]), "+f"((d)[(i) + 3]), "+f"((d)[(i) + 4]),            \
        "+f"((d)[(i) + 5]), "+f"((d)[(i) + 6]), "+f"((d)[(i) + 7])
#define TK_D16(d, i) TK_D8(d, i), TK_D8(d, (i) + 8)
#define TK_D32(d, i) TK_D8(d, i), TK_D8(d, (i) + 8), TK_D8(d, (i) + 16), TK_D8(d, (i) + 24)
#define TK_D64(d, i) TK_D32(d, i), TK_D32(d, (i) + 32)
#define TK_D96(d, i) TK_D64(d, i), TK_D32(d, (i) + 64)
#define TK_D128(d, i) TK_D64(d, i), TK_D64(d, (i) + 64)
#define TK_REGS_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define TK_REGS_32                                                                                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "        \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TK_REGS_64                                                                                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "        \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "        \
    "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "        \
    "%59, %60, %61, %62, %63"
#define TK_REGS_96                                                                                           \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "        \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "        \
    "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "        \
    "%59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, "        \
    "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define TK_REGS_128                                                                                          \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "        \
    "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, "        \
    "%40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, "        \
    "%59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, "        \
    "%78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, "        \
    "%97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, "          \
    "%113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

/* d[64 rows of a][N rows of b] (+)= a b^T over 32 bytes of k; rows of the accumulator: thread t of warp w has
 * rows 16 w + t / 4 (+ 8) and columns 8 j + 2 (t % 4) (+ 1): d[4 j + 2 * lower row + column]. keep: false
 * starts at zero. */
template <int N> struct products;
#define TK_PRODUCTS(N, REGS, P0, P1, P2, P3, P4, P5)                                                         \
    template <> struct products<N> {                                                                         \
        static __device__ inline void bf16(float (&d)[REGS], uint64_t a, uint64_t b, int keep) {             \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P2 ", 0;\n"                                   \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" TK_REGS_##REGS         \
                         "}, %" #P0 ", %" #P1 ", p, 1, 1, 0, 0;\n}"                                          \
                         : TK_D##REGS(d, 0)                                                                  \
                         : "l"(a), "l"(b), "r"(keep));                                                       \
        }                                                                                                    \
        static __device__ inline void bf16_registers(float (&d)[REGS], uint32_t a0, uint32_t a1,             \
                                                     uint32_t a2, uint32_t a3, uint64_t b, int keep) {       \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P5 ", 0;\n"                                   \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" TK_REGS_##REGS         \
                         "}, {%" #P0 ", %" #P1 ", %" #P2 ", %" #P3 "}, %" #P4 ", p, 1, 1, 0;\n}"             \
                         : TK_D##REGS(d, 0)                                                                  \
                         : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b), "r"(keep));                           \
        }                                                                                                    \
        static __device__ inline void e4m3(float (&d)[REGS], uint64_t a, uint64_t b, int keep) {             \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #P2 ", 0;\n"                                   \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k32.f32.e4m3.e4m3 {" TK_REGS_##REGS         \
                         "}, %" #P0 ", %" #P1 ", p, 1, 1;\n}"                                                \
                         : TK_D##REGS(d, 0)                                                                  \
                         : "l"(a), "l"(b), "r"(keep));                                                       \
        }                                                                                                    \
    };
TK_PRODUCTS(32, 16, 16, 17, 18, 19, 20, 21)
TK_PRODUCTS(64, 32, 32, 33, 34, 35, 36, 37)
TK_PRODUCTS(128, 64, 64, 65, 66, 67, 68, 69)
TK_PRODUCTS(192, 96, 96, 97, 98, 99, 100, 101)
TK_PRODUCTS(256, 128, 128, 129, 130, 131, 132, 133)
#undef TK_PRODUCTS

} // namespace tk
#endif
