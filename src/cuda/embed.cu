/* SPDX-License-Identifier: Apache-2.0 */
/* embed from weights in Hopper's panels (base/panels.h), so that an embedding that is also the head lies in memory once.
 * A block is one token; eight numbers of a row lie side by side there, a row's pieces 2 KB apart. */
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
    for (int64_t k = threadIdx.x * 8; k < width; k += EMBED_THREADS * 8) {
        uint4 q = make_uint4(0, 0, 0, 0);
        if (there) q = *(const uint4 *)(panel + k / TK_H_K * TK_H_BF16_SLAB + tk__h_bf16_at((int)(row & 15), (int)(k % TK_H_K)));
        const uint32_t w[4] = { q.x, q.y, q.z, q.w };
        float *to = x + t * width + k, v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = __uint_as_float(i % 2 ? w[i / 2] & 0xffff0000u : w[i / 2] << 16);
        if (width % 4 == 0 && k + 8 <= width)
            *(float4 *)to = make_float4(v[0], v[1], v[2], v[3]), *(float4 *)(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
        else
            for (int i = 0; i < 8 && k + i < width; i++) to[i] = v[i];
    }
}

} // namespace tk

extern "C" void embed_panels_cuda(const tk_args *a) {
    const tk_dim v = a->dim['v' - 'a'];
    if (TK_DIM(a, 't') > 0)
        tk::launch(tk::embed_h_bf16, dim3((unsigned)TK_DIM(a, 't')), dim3(tk::EMBED_THREADS), 0, a, (float *)a->p[2],
                   (const int32_t *)a->p[0], (const uint8_t *)a->p[1], v.first, v.n, TK_DIM(a, 'k'));
}
