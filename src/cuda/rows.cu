/* SPDX-License-Identifier: Apache-2.0 */
/* pick and permute: numbers that only move. */
#include "cuda/kernel.cuh"

namespace tk {

enum { MOVE_THREADS = 256 };

__global__ void __launch_bounds__(MOVE_THREADS) pick_rows(float *y, const float *x, const int32_t *row, int64_t width) {
    pdl_go();
    pdl_wait();
    const int64_t from = row[blockIdx.x];
    for (int64_t k = threadIdx.x; k < width; k += MOVE_THREADS) y[blockIdx.x * width + k] = x[from * width + k];
}

__global__ void __launch_bounds__(MOVE_THREADS) permute_rows(float *y, const float *x, const int32_t *from, int64_t width) {
    const int64_t t = blockIdx.x;
    pdl_go();
    pdl_wait();
    for (int64_t k = threadIdx.x; k < width; k += MOVE_THREADS) y[t * width + k] = x[t * width + from[k]];
}

} // namespace tk

extern "C" void pick_cuda(const tk_args *a) {
    if (TK_DIM(a, 'o') < 1) return;
    tk::launch(tk::pick_rows, (unsigned)TK_DIM(a, 'o'), tk::MOVE_THREADS, 0, a, (float *)a->p[2], (const float *)a->p[0],
               (const int32_t *)a->p[1], TK_DIM(a, 'k'));
}
extern "C" void permute_cuda(const tk_args *a) {
    if (TK_DIM(a, 't') < 1) return;
    tk::launch(tk::permute_rows, (unsigned)TK_DIM(a, 't'), tk::MOVE_THREADS, 0, a, (float *)a->p[2], (const float *)a->p[0],
               (const int32_t *)a->p[1], TK_DIM(a, 'k'));
}
