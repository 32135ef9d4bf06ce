/* SPDX-License-Identifier: Apache-2.0 */
/* The matrix product of many tokens on Hopper, as the row functions of linear_sm90.cu call it. */
#ifndef TK_GEMM_SM90_H
#define TK_GEMM_SM90_H
#include "cuda/act.cuh"

namespace tk {

/* What becomes of a product before it is stored: F32 and BF16: nothing else. ADD: float32 `other` + product.
 * GLU: with the product of `up`, gated, as bf16. */
enum gemm_end { GEMM_F32, GEMM_BF16, GEMM_ADD, GEMM_GLU };
enum { GEMM_PARTS = 3 };

/* y[tokens][rows] = x[tokens][width] w[rows][width]^T for up to three weights of one x */
struct gemm_problem {
    const void *x; /* bf16 */
    int64_t tokens, width;
    int parts;
    int format;                /* of the weights: H_BF16 or another of base/panels.h */
    const void *w[GEMM_PARTS]; /* GLU: gate and up, of one y */
    void *y[GEMM_PARTS];
    int64_t rows[GEMM_PARTS];
    const float *other;             /* of ADD */
    gating gated;                   /* of GLU */
    const float *w_scale, *x_scale; /* of e4m3 operands: [rows], [tokens] */
    cudaStream_t stream;
};
enum { GEMM_BEST = 64 }; /* the tile that seems best */
/* tile: number of those of the format, or GEMM_BEST. False: there is no such tile, the shape is none for
 * these kernels (lines of whole 16 bytes: width % 8 and rows % 4, of bf16 results % 8) or the launch failed,
 * and nothing was done. Every result has the bits of any other kernel of its weights' row. */
bool gemm_sm90(const gemm_problem *p, gemm_end end, int tile);

} // namespace tk
#endif
