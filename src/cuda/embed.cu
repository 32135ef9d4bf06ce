/* SPDX-License-Identifier: Apache-2.0 */
/* embed from weights in Hopper's panels (base/panels.h), so that an embedding that is also the head lies in memory once.
 * A block is one token; what it reads is a sixteenth of what it could, which nobody notices beside the head's product. */
#include "cuda/panels.cuh"

namespace tk {

enum { EMBED_THREADS = 256 };

__global__ void __launch_bounds__(EMBED_THREADS)
    embed_h_bf16(float *x, const int32_t *id, const uint8_t *m, int64_t first, int64_t rows, int64_t width) {
    pdl_go();
    pdl_wait();
    const int64_t t = blockIdx.x, row = id[t] - first;
    const bool there = row >= 0 && row < rows;
    const uint8_t *panel = m + (there ? row : 0) / TK_H_ROWS * tk__h_slabs(width) * TK_H_BF16_SLAB;
    for (int64_t k = threadIdx.x; k < width; k += EMBED_THREADS) {
        const uint8_t *at = panel + k / TK_H_K * TK_H_BF16_SLAB + tk__h_bf16_at((int)(row & 15), (int)(k % TK_H_K));
        x[t * width + k] = there ? from_bf16(*(const uint16_t *)at) : 0;
    }
}

} // namespace tk

extern "C" void embed_panels_cuda(const tk_args *a) {
    const tk_dim v = a->dim['v' - 'a'];
    if (TK_DIM(a, 't') > 0)
        tk::launch(tk::embed_h_bf16, dim3((unsigned)TK_DIM(a, 't')), dim3(tk::EMBED_THREADS), 0, a, (float *)a->p[2],
                   (const int32_t *)a->p[0], (const uint8_t *)a->p[1], v.first, v.n, TK_DIM(a, 'k'));
}
