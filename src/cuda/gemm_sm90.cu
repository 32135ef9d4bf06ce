/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens on Hopper: which tiles a shape gets. */
#include "cuda/gemm_launch.cuh"
#include "cuda/panels.cuh"

extern "C" {
#include "cuda/cuda.h"
}

namespace tk {

static const gemm_tiling tilings_bf16[] = {
    gemm_tiling_of<gemm_shape<TK_H_BF16, 256, 3, 16384>>(0.65f, 3.5f),
    gemm_tiling_of<gemm_shape<TK_H_BF16, 128, 6>>(0.34f, 3.0f),
    gemm_tiling_of<gemm_shape<TK_H_BF16, 64, 6, 8192, 1, 1, 2>>(0.139f, 2.8f),
    gemm_tiling_of<gemm_shape<TK_H_BF16, 32, 7, 8192, 1, 1, 2>>(0.126f, 2.6f),
};

/* The tiles of a format; NULL: none */
static const gemm_tiling *tilings_of(int format, int *n) {
    *n = GEMM_QUANTIZED;
    switch (format) {
    case TK_H_BF16: *n = TK_COUNT(tilings_bf16); return tilings_bf16;
    case TK_H_Q8_0: return gemm_tilings<TK_H_Q8_0>::all;
    case TK_H_F8: return gemm_tilings<TK_H_F8>::all;
    case TK_H_Q4_0: return gemm_tilings<TK_H_Q4_0>::all;
    case TK_H_Q4_1: return gemm_tilings<TK_H_Q4_1>::all;
    case TK_H_Q5_1: return gemm_tilings<TK_H_Q5_1>::all;
    case TK_H_Q6_K: return gemm_tilings<TK_H_Q6_K>::all;
    default: *n = 0; return NULL;
    }
}

/* Microseconds, about: rounds of tiles, or reading the weights, where that is longer; rounds count even then, a little.
 * Several tiles of the same weights are held up by each other's loads. */
static float cost_of(const gemm_tiling *t, const gemm_problem *p, gemm_end end) {
    const int rows = end == GEMM_GLU ? t->rows / 2 : t->rows, parts = end == GEMM_GLU ? 1 : p->parts;
    const int64_t steps = tk_ceil_div(p->width, 64), columns = tk_ceil_div(p->tokens, t->tokens);
    int64_t tiles = 0;
    for (int i = 0; i < parts; i++) tiles += tk_ceil_div(p->rows[i], rows);
    const int64_t rounds = tk_ceil_div(tiles * columns, (int64_t)t->blocks * sm_count());
    const float each = (float)steps * t->step + t->fixed, products = (float)rounds * each * (1 + 0.15f * log2f((float)columns));
    const float slab = (float)(t->rows / TK_H_ROWS * tk_formats[t->format].bytes);
    return TK_MAX(products, (float)(tiles * steps) * slab / 4.3e6f + t->fixed) + products / 16;
}

bool gemm_sm90(const gemm_problem *p, gemm_end end, int tile) {
    /* what tensor maps can describe: lines of whole 16 bytes */
    bool fits = p->width % 8 == 0 && p->width < 1 << 24 && p->tokens < 1 << 24;
    for (int i = 0; i < p->parts; i++)
        fits &= p->rows[i] < 1 << 24 && p->rows[i] % (end == GEMM_BF16 || end == GEMM_GLU ? 8 : 4) == 0;
    int n;
    const gemm_tiling *tilings = tilings_of(p->format, &n), *best = NULL;
    float least = INFINITY;
    for (int i = 0; i < n; i++) {
        const float cost = tilings[i].run[end] && (tile == i || tile == GEMM_BEST) ? cost_of(&tilings[i], p, end) : INFINITY;
        if (cost < least) best = &tilings[i], least = cost;
    }
    return fits && best && best->run[end](p, 8);
}

} // namespace tk

extern "C" bool tk__gemm_e4m3(const tk_gemm_e4m3 *g) {
    tk::gemm_problem p = {};
    if (g->width % 16 || g->rows % 8) return false;
    p.x = g->x, p.tokens = g->tokens, p.width = g->width, p.parts = 1, p.w[0] = g->w, p.y[0] = g->y;
    p.rows[0] = g->rows, p.w_scale = g->w_scale, p.x_scale = g->x_scale, p.stream = (cudaStream_t)g->stream;
    /* microseconds of rounds of tiles, as above */
    const auto cost = [&](int tokens, double step) {
        const int64_t tiles = tk_ceil_div(g->rows, 128) * tk_ceil_div(g->tokens, tokens);
        return (double)tk_ceil_div(tiles, tk::sm_count()) * ((double)tk_ceil_div(g->width, 128) * step + 1.5);
    };
    typedef tk::gemm_shape<tk::GEMM_E4M3, 192, 4, 12288> wide;
    typedef tk::gemm_shape<tk::GEMM_E4M3, 128, 6> narrow;
    if (cost(192, 0.58) < cost(128, 0.41))
        return g->half ? tk::launch<wide, tk::GEMM_BF16>(&p, 8) : tk::launch<wide, tk::GEMM_F32>(&p, 8);
    return g->half ? tk::launch<narrow, tk::GEMM_BF16>(&p, 8) : tk::launch<narrow, tk::GEMM_F32>(&p, 8);
}
