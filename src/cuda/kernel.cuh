/* SPDX-License-Identifier: Apache-2.0 */
/* What the CUDA kernels share: 16-bit numbers, sums over a block of threads in an order that depends on nothing but
 * its size, launches. The compiler may not contract a * b + c by itself (--fmad=false), as on the CPU: where a
 * product is fused it is written so. */
#ifndef TK_KERNEL_CUH
#define TK_KERNEL_CUH
#include <math.h>

extern "C" {
#include "ops/ops.h"
}

namespace tk {

__device__ inline float from_f16(uint16_t h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}
__device__ inline uint16_t to_f16(float f) {
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
__device__ inline float from_bf16(uint16_t h) { return __uint_as_float((uint32_t)h << 16); }
__device__ inline uint16_t to_bf16(float f) {
    uint16_t h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

/* A number of a plain dtype at any address that suits it */
template <int T> __device__ inline float load_number(const void *p, int64_t i) {
    if (T == TK_F16) return from_f16(((const uint16_t *)p)[i]);
    if (T == TK_BF16) return from_bf16(((const uint16_t *)p)[i]);
    return ((const float *)p)[i];
}
template <int T> __device__ inline void store_number(void *p, int64_t i, float v) {
    if (T == TK_F16)
        ((uint16_t *)p)[i] = to_f16(v);
    else if (T == TK_BF16)
        ((uint16_t *)p)[i] = to_bf16(v);
    else
        ((float *)p)[i] = v;
}

__device__ inline float warp_sum(float v) {
    for (int i = 16; i; i >>= 1) v += __shfl_xor_sync(~0u, v, i);
    return v;
}

/* The sum over a block of THREADS threads, known to all of them; `room`: THREADS / 32 floats of shared memory */
template <int THREADS> __device__ inline float block_sum(float v, float *room) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < THREADS / 32; i++) sum += room[i];
    return sum;
}

/* ---- launches ----------------------------------------------------------------------------------------
 *
 * A kernel started by <<<>>> begins when all before it is done. One started by `launch` may begin while the kernel
 * before it still runs, so it must call pdl_wait, in every block and on every path, before it reads or writes anything
 * but weights (packed at load: no kernel of a step writes them): what follows is then as in the other case. The
 * wait is for everything before it, however early that began, since each kernel's own wait was. pdl_go lets the next
 * kernel begin as soon as all blocks have called it (or ended): early, where this kernel leaves room on the SMs. */
__device__ inline void pdl_wait() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void pdl_go() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* GPUs before Hopper know no such launches. */
inline int pdl_able() {
    int device = 0, major = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    return major >= 9;
}

/* kernel<<<grid, block, shared>>>(args...) on a's stream, as a dependent launch; see above. A failure is found by the
 * device's `wait`. */
template <typename... P, typename... A>
inline void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, const tk_args *a, A... args) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t how = {};
    how.gridDim = grid, how.blockDim = block, how.dynamicSmemBytes = shared, how.stream = (cudaStream_t)a->stream;
    how.attrs = &early, how.numAttrs = (unsigned)pdl_able();
    if (shared) /* above 48 KB, with what the kernel itself declares, only on request */
        cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    cudaLaunchKernelEx(&how, kernel, P(args)...);
}

inline cudaStream_t stream_of(const tk_args *a) { return (cudaStream_t)a->stream; }
/* Blocks for n items, `each` a block; loops over the grid do the rest of very many. */
inline unsigned blocks_for(int64_t n, int64_t each) {
    return (unsigned)TK_MAX((int64_t)1, TK_MIN(tk_ceil_div(n, each), (int64_t)1 << 20));
}
#define TK_GRID_LOOP(i, n)                                                                                   \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (int64_t)gridDim.x * blockDim.x)

} // namespace tk
#endif
