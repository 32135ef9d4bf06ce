/* SPDX-License-Identifier: Apache-2.0 */
/* linear and its fused forms on Hopper, weights in panels of any format: which kernel takes how many tokens. All have one
 * order of sums (panels.cuh), so that the choice changes no bit. */
#include "cuda/gemm_sm90.h"
#include "cuda/skinny.h"

extern "C" {
#include "cuda/cuda.h"
}

namespace tk {

/* Ways (ops/ways.h): the skinny kernels, then the tiles of gemm_sm90 */
enum { WAY_FEW, WAY_TILES };

static const skinny_kernels *kernels_of(int type) {
    switch (type) {
#define SKINNY(T)                                                                                                      \
    case TK_##T: return &skinny_##T;
#include "cuda/skinny.def"
#undef SKINNY
    default: return NULL; /* rows of kernels.def name no other */
    }
}

/* tile: of gemm_sm90 */
static bool run_many(const tk_args *a, int type, const skinny_job *j, int64_t tokens, int tile) {
    static const gemm_end ends[] = { GEMM_F32, GEMM_ADD, GEMM_GLU };
    const bool glu = j->what == SKINNY_GLU;
    gemm_problem p = {};
    p.format = type, p.x = j->x, p.tokens = tokens, p.width = j->width, p.other = j->other, p.gated = j->gated;
    p.stream = stream_of(a);
    for (int m = 0; m < (glu ? 2 : 3) && (!m || glu || j->end[m] > j->end[m - 1]); m++)
        p.w[m] = j->w[m], p.y[m] = j->y[m], p.rows[m] = j->rows[m], p.parts = m + 1;
    return gemm_sm90(&p, ends[j->what], tile);
}

/* Which way to take, for want of knowledge (docs/FACTS.md) */
static int judge(int type, const skinny_job *j, int64_t tokens) {
    enum { WAVE = 528, EIGHT_BITS = 1024 }; /* panels of one tile of 64 rows on each SM; bytes of a slab */
    const bool few = tokens <= SKINNY_TOKENS && j->end[2] > WAVE && (j->what != SKINNY_GLU || tk_formats[type].bytes < EIGHT_BITS);
    return few ? (int)WAY_FEW : (int)WAY_TILES + GEMM_BEST;
}

static bool takes_many(const tk_args *a, int type, const skinny_job *j, int64_t tokens) {
    enum { ALWAYS_FEW = 8 };
    if (tokens <= ALWAYS_FEW) return false;
    const tk_way_key key = { j->what, (tk_dtype)type, 16 * j->end[2], (int32_t)j->width, (int32_t)TK_MIN(tokens, 1 << 20) };
    int way = tk_device_way(&tk__cuda_ways, key);
    if (way == TK_WAY_OWN) way = judge(type, j, tokens);
    return way != WAY_FEW && run_many(a, type, j, tokens, way - WAY_TILES);
}

static void run(const tk_args *a, int type, const skinny_job *j, int64_t tokens) {
    const size_t each = j->what == SKINNY_GLU ? 2 : 4;
    if (takes_many(a, type, j, tokens)) return;
    for (int64_t t = 0; t < tokens; t += SKINNY_TOKENS) {
        skinny_job part = *j;
        part.x = j->x + t * j->width, part.tokens = (int)TK_MIN(tokens - t, (int64_t)SKINNY_TOKENS);
        for (int m = 0; m < 3; m++) part.y[m] = (char *)j->y[m] + (size_t)(t * j->rows[m]) * each;
        if (j->other) part.other = j->other + t * j->rows[0];
        skinny_run(kernels_of(type), part, a);
    }
}

/* `n` weights from operand 1 on, their results from operand `y` on; letters of their rows */
static skinny_job job_of(const tk_args *a, int n, const char *rows, int y) {
    skinny_job j = {};
    j.x = (const uint16_t *)a->p[0], j.width = TK_DIM(a, 'k');
    for (int m = 0, end = 0; m < 3; m++) {
        const int i = m < n ? m : n - 1; /* those that are not there are empty */
        j.w[m] = (const uint8_t *)a->p[1 + i], j.rows[m] = (int)TK_DIM(a, rows[i]), j.y[m] = a->p[y + i];
        if (m < n) end += (int)tk_ceil_div(j.rows[m], TK_H_ROWS);
        j.end[m] = end;
    }
    return j;
}

} // namespace tk

extern "C" void linear_sm90(const tk_args *a) {
    const tk::skinny_job j = tk::job_of(a, 1, "n", 2);
    tk::run(a, a->type[1], &j, TK_DIM(a, 't'));
}

extern "C" void linear3_sm90(const tk_args *a) {
    const tk::skinny_job j = tk::job_of(a, 3, "abc", 4);
    tk::run(a, a->type[1], &j, TK_DIM(a, 't'));
}

extern "C" void linear_add_sm90(const tk_args *a) {
    tk::skinny_job j = tk::job_of(a, 1, "n", 3);
    j.what = tk::SKINNY_ADD, j.other = (const float *)a->p[2];
    tk::run(a, a->type[1], &j, TK_DIM(a, 't'));
}

extern "C" void linear2_glu_quant_sm90(const tk_args *a) {
    tk::skinny_job j = tk::job_of(a, 2, "nn", 3);
    for (int m = 0; m < 3; m++) j.end[m] = (int)tk_ceil_div(j.rows[0], TK_H_ROWS), j.y[m] = a->p[3];
    j.what = tk::SKINNY_GLU, j.gated = tk::gating_of(&a->attr);
    tk::run(a, a->type[1], &j, TK_DIM(a, 't'));
}
