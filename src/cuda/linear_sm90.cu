/* SPDX-License-Identifier: Apache-2.0 */
/* linear on Hopper, plain form: a warp owns 16 rows and 8 tokens and reads both straight from memory. For
 * shapes that no faster kernel takes, and the oracle of their order of sums. */
#include "cuda/gemm_sm90.h"
#include "cuda/panels.cuh"

namespace tk {

/* Numbers k, k + 1 of a row of activations that has `width`, zeros beyond */
__device__ inline uint32_t two_numbers(const uint16_t *x, int64_t k, int64_t width) {
    const uint32_t low = k < width ? x[k] : 0, high = k + 1 < width ? x[k + 1] : 0;
    return low | high << 16;
}

__global__ void __launch_bounds__(128)
    linear_chain(float *y, const uint16_t *x, const uint8_t *w, int64_t tokens, int64_t rows, int64_t width) {
    const int lane = threadIdx.x % 32, g = lane / 4, j = lane % 4 * 2;
    const int64_t panel = (int64_t)blockIdx.x * 4 + threadIdx.x / 32, t0 = (int64_t)blockIdx.y * 8;
    if (panel * TK_H_ROWS >= rows) return;
    const int64_t slabs = tk__h_slabs(width), token = t0 + g;
    const uint8_t *p = w + panel * slabs * TK_H_BF16_SLAB;
    float c[4] = {};
    for (int64_t s = 0; s < slabs; s++, p += TK_H_BF16_SLAB)
        for (int k = 0; k < TK_H_K; k += 16) {
            uint32_t a[4], b[2];
            for (int i = 0; i < 4; i++)
                a[i] = *(const uint32_t *)(p + tk__h_bf16_at(g + i % 2 * 8, k + i / 2 * 8 + j));
            for (int i = 0; i < 2; i++)
                b[i] = token < tokens ? two_numbers(x + token * width, s * TK_H_K + k + i * 8 + j, width) : 0;
            mma_16x8x16(c, a, b);
        }
    for (int i = 0; i < 4; i++) {
        const int64_t row = panel * TK_H_ROWS + g + i / 2 * 8, t = t0 + j + i % 2;
        if (row < rows && t < tokens) y[t * rows + row] = c[i];
    }
}

} // namespace tk

extern "C" void linear_sm90(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    if (t < 1) return;
    if (t > 64) {
        tk::gemm_problem p = {};
        p.x = a->p[0], p.tokens = t, p.width = k, p.parts = 1, p.w[0] = a->p[1], p.y[0] = a->p[2],
        p.rows[0] = n, p.stream = tk::stream_of(a);
        if (tk::gemm_sm90(&p, tk::GEMM_F32)) return;
    }
    const dim3 grid((unsigned)tk_ceil_div(n, 4 * TK_H_ROWS), (unsigned)tk_ceil_div(t, 8));
    tk::linear_chain<<<grid, 128, 0, tk::stream_of(a)>>>((float *)a->p[2], (const uint16_t *)a->p[0],
                                                         (const uint8_t *)a->p[1], t, n, k);
}
