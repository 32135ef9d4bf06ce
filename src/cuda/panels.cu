/* SPDX-License-Identifier: Apache-2.0 */
/* pack and quant for Hopper's products: weights into panels (base/panels.h), activations to bfloat16. */
#include "cuda/panels.cuh"

namespace tk {

/* A thread makes eight numbers of one row: 16 bytes. */
__global__ void pack_bf16(uint4 *to, const uint16_t *from, int64_t rows, int64_t cols) {
    const int64_t slabs = tk__h_slabs(cols), n = (rows + TK_H_ROWS - 1) / TK_H_ROWS * slabs * (TK_H_BF16_SLAB / 16);
    TK_GRID_LOOP(i, n) {
        const int row = (int)(i % TK_H_ROWS), chunk = (int)(i / TK_H_ROWS % 8);
        const int64_t slab = i / (TK_H_BF16_SLAB / 16);
        const int64_t r = slab / slabs * TK_H_ROWS + row, k = slab % slabs * TK_H_K + chunk * 8;
        union {
            uint4 all;
            uint16_t h[8];
        } v = {};
        for (int j = 0; j < 8; j++)
            if (r < rows && k + j < cols) v.h[j] = from[r * cols + k + j];
        to[slab * (TK_H_BF16_SLAB / 16) + tk__h_bf16_at(row, chunk * 8) / 16] = v.all;
    }
}

__global__ void quant_bf16(uint16_t *q, const float *x, int64_t n) {
    TK_GRID_LOOP(i, n) q[i] = to_bf16(x[i]);
}

} // namespace tk

extern "C" void pack_panels_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    tk::pack_bf16<<<tk::blocks_for(n * k / 8 + 1, 256), 256, 0, tk::stream_of(a)>>>((uint4 *)a->p[1],
                                                                                (const uint16_t *)a->p[0], n, k);
}

extern "C" void quant_bf16_cuda(const tk_args *a) {
    const int64_t n = TK_DIM(a, 't') * TK_DIM(a, 'k');
    tk::quant_bf16<<<tk::blocks_for(n, 256), 256, 0, tk::stream_of(a)>>>((uint16_t *)a->p[1], (const float *)a->p[0], n);
}
