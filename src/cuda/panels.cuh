/* SPDX-License-Identifier: Apache-2.0 */
/* The formats of base/panels.h on the device, and the one order of sums of all products on Hopper: bfloat16 operands,
 * float32 accumulator, one chain of tensor-core products of 16 k over all of k, in order. wgmma of any width and
 * mma.sync m16n8k16 give the same bits (docs/FACTS.md), so kernels are free to use either; none may split k. */
#ifndef TK_PANELS_CUH
#define TK_PANELS_CUH
#include "cuda/kernel.cuh"

extern "C" {
#include "base/panels.h"
}

namespace tk {

/* c += a b: a 16 rows of 16 k, b 16 k of 8 columns. Of lane l, with g = l / 4 and j = l % 4 * 2: a[0], a[2] are row g at
 * k = j, j + 8; a[1], a[3] row g + 8; b[0], b[1] column g at k = j, j + 8 (pairs, the low half first); c[0], c[1] row g,
 * columns j, j + 1; c[2], c[3] row g + 8 */
__device__ inline void mma_16x8x16(float c[4], const uint32_t a[4], const uint32_t b[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

} // namespace tk
#endif
