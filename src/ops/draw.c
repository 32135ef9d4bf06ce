/* SPDX-License-Identifier: Apache-2.0 */
/* draw: one token a row, as docs/SAMPLING.md says and infer/sample.c does it faster; here all candidates are
 * sorted. */
#ifndef real
#include <math.h>

#include "ops/draw.h"

__extension__ typedef unsigned __int128 draw_wide;

typedef struct draw_candidate {
    float logit;
    int32_t id;
} draw_candidate;

static int draw_order(const void *a, const void *b) {
    const draw_candidate *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

/* The number of candidates whose weights reach `target` from the top; their sum in *sum */
static int64_t draw_reach(const uint64_t *weight, uint64_t target, uint64_t *sum) {
    int64_t n = 0;
    *sum = 0;
    while (*sum < target) *sum += weight[n++];
    return n;
}

/* From n candidates in order; weight: room for n */
static int32_t draw_from(const draw_candidate *c, int64_t n, const tk_draw *how, uint64_t *weight) {
    uint64_t total = 0, kept = 0, sum;
    if (!(how->temp > 0)) return n ? c[0].id : -1;
    if (how->top_k > 0 && how->top_k < n) n = how->top_k;
    for (int64_t i = 0; i < n; i++) {
        weight[i] = tk__draw_weight((c[i].logit - c[0].logit) * (1 / how->temp));
        total += weight[i];
    }
    if (how->top_p != 1 && total) {
        const double target = ceil((double)how->top_p * (double)total);
        draw_reach(weight, target < 1 ? 1 : TK_MIN((uint64_t)target, total), &total);
    }
    if (how->min_p != 0) {
        const uint64_t least = (uint64_t)ceil((double)how->min_p * (double)TK_DRAW_ONE);
        for (int64_t i = 0; i < n; i++) kept += weight[i] >= least ? weight[i] : 0;
        total = TK_MIN(total, kept);
    }
    if (!total) return -1;
    const uint64_t seed = how->seed[0] | (uint64_t)how->seed[1] << 32;
    uint32_t word[4], counter[4] = { how->position[0], how->position[1], 0, TK_DRAW_SITE };
    tk_philox(word, seed, counter);
    const uint64_t random = (uint64_t)word[0] << 32 | word[1];
    return c[draw_reach(weight, (uint64_t)((draw_wide)random * total >> 64) + 1, &sum) - 1].id;
}

#define REF_SOURCE "ops/draw.c"
#include "ops/ref.h"
#else

void ref(draw)(const tk_args *a) {
    const real *x = a->p[0], *bias = a->p[2];
    const tk_draw *how = a->p[1];
    const int32_t *seen = a->p[3];
    int32_t *id = a->p[4];
    const int64_t vocab = TK_DIM(a, 'v');
    draw_candidate *c = ref_alloc(vocab, sizeof *c);
    uint64_t *weight = ref_alloc(vocab, sizeof *weight);
    for (int64_t row = 0; row < TK_DIM(a, 'o'); row++) {
        const int64_t line = how[row].line;
        int64_t n = 0;
        for (int64_t v = 0; v < vocab; v++) {
            float l = (float)x[row * vocab + v];
            if (line >= 0)
                l = tk__draw_changed(l, &how[row], (float)bias[line * vocab + v], seen[line * vocab + v]);
            if (l > -INFINITY) c[n++] = (draw_candidate){ tk__draw_clamped(l), (int32_t)v };
        }
        qsort(c, (size_t)n, sizeof *c, draw_order);
        id[row] = draw_from(c, n, &how[row], weight);
    }
    free(c), free(weight);
}

void ref(note)(const tk_args *a) {
    const int32_t *id = a->p[0];
    const tk_draw *how = a->p[1];
    int32_t *seen = a->p[3];
    for (int64_t row = 0; row < TK_DIM(a, 'o'); row++)
        if (how[row].line >= 0 && id[row] >= 0) {
            int32_t *n = &seen[how[row].line * TK_DIM(a, 'v') + id[row]];
            *n = *n ? *n + 1 : 2;
        }
}
#endif
