/* SPDX-License-Identifier: Apache-2.0 */
/* Scratch of the CPU kernels of this folder, the same for all tiers. */
#include "base/packed.h"
#include "base/tiles.h"
#include "ops/attn_sizes.h"

size_t attn_scratch(const tk_dim dim[26], int nth);
size_t attn_paged_scratch(const tk_dim dim[26], int nth);

static size_t attn_bytes(const tk_dim dim[26], int nth, int64_t keys) {
    return (size_t)attn_thread_floats(dim['r' - 'a'].n, dim['d' - 'a'].n, keys) * (size_t)nth * sizeof(float);
}

size_t attn_scratch(const tk_dim dim[26], int nth) { return attn_bytes(dim, nth, dim['t' - 'a'].n); }

/* A sequence has no page twice, so the cache bounds its length */
size_t attn_paged_scratch(const tk_dim dim[26], int nth) {
    return attn_bytes(dim, nth, dim['p' - 'a'].n * dim['s' - 'a'].n);
}

/* rows of floats a thread (add_norm_quant, norm_quant): as many as a tile of activations has */
size_t row_scratch(const tk_dim dim[26], int nth) {
    const int64_t rows = TK_MIN(dim['t' - 'a'].n, (int64_t)TK_TILE);
    return (size_t)nth * (size_t)rows * (size_t)dim['k' - 'a'].n * sizeof(float);
}

/* activations of products with plain numbers, gathered (linear_tmpl.h) */
size_t gather_scratch(const tk_dim dim[26], int nth) {
    (void)dim;
    return (size_t)nth * LINEAR_HOLD;
}
