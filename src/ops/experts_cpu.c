/* SPDX-License-Identifier: Apache-2.0 */
/* Experts on the CPU: the tokens of each expert are gathered side by side and multiplied by the linear kernel
 * of the weights' own format, so there is no second product per format and tier. A row's bits do not depend
 * on who is gathered with it, since no linear kernel's do. An expert's rows may begin inside of a panel of
 * 16: then the whole panels around them are multiplied and the neighbours' results dropped. Every LINEAR row
 * of kernels.def gets its two kernels here. Work that is small beside the products (route, combine, gate,
 * biases) is plain C. */
#include <math.h>

#include "base/packed.h"
#include "ops/ops.h"

typedef struct gathered {
    int64_t tokens, used, pairs, rows, width, experts, wide; /* wide: most numbers of a result row */
    int32_t *start, *order, *expert; /* [experts + 1]; [pairs]: pair at each place; [pairs] its expert */
    uint8_t *x;                      /* [pairs] rows, those of an expert a matrix of their own */
    float *y;                        /* [pairs][wide] */
} gathered;

static size_t lay_out(gathered *g, const tk_dim dim[26], uint8_t *room) {
    *g = (gathered){ .tokens = dim['t' - 'a'].n,
                     .used = dim['a' - 'a'].n,
                     .rows = dim['n' - 'a'].n,
                     .width = dim['k' - 'a'].n,
                     .experts = dim['x' - 'a'].n };
    g->pairs = g->tokens * g->used, g->wide = g->rows + 2 * TK_PANEL;
    const size_t parts[] = { (size_t)(g->experts + 1) * 4, (size_t)g->pairs * 4, (size_t)g->pairs * 4,
                             (size_t)(g->pairs * g->width) * 4, (size_t)(g->pairs * g->wide) * 4 };
    size_t at[TK_COUNT(parts) + 1] = { 0 };
    for (size_t i = 0; i < TK_COUNT(parts); i++) at[i + 1] = at[i] + tk_align(parts[i], 64);
    if (room) {
        g->start = (int32_t *)(void *)room, g->order = (int32_t *)(void *)(room + at[1]);
        g->expert = (int32_t *)(void *)(room + at[2]);
        g->x = room + at[3], g->y = (float *)(void *)(room + at[4]);
    }
    return at[TK_COUNT(parts)];
}

/* By what the linear kernel itself needs (the scratch column of linear.def), which lies behind ours */
tk_scratch gather_scratch, linear_a8_amx_scratch;
tk_scratch experts_NO_SCRATCH, experts_gather_scratch, experts_linear_a8_amx_scratch;
static size_t with_own(const tk_dim dim[26], int nth, tk_scratch *linear) {
    gathered g;
    tk_dim inner[26];
    const size_t own = lay_out(&g, dim, NULL);
    memcpy(inner, dim, sizeof inner);
    inner['t' - 'a'] = (tk_dim){ g.pairs, 0, g.pairs }, inner['n' - 'a'] = (tk_dim){ g.wide, 0, g.wide };
    return own + (linear ? linear(inner, nth) : 0);
}
size_t experts_NO_SCRATCH(const tk_dim dim[26], int nth) { return with_own(dim, nth, NULL); }
size_t experts_gather_scratch(const tk_dim dim[26], int nth) { return with_own(dim, nth, gather_scratch); }
size_t experts_linear_a8_amx_scratch(const tk_dim dim[26], int nth) {
    return with_own(dim, nth, linear_a8_amx_scratch);
}

/* Pairs by expert, in the order of tokens: a counting sort. */
static void sort_pairs(const gathered *g, const int32_t *chosen) {
    memset(g->start, 0, (size_t)(g->experts + 1) * sizeof *g->start);
    for (int64_t i = 0; i < g->pairs; i++) g->start[chosen[i] + 1]++;
    for (int64_t e = 0; e < g->experts; e++) g->start[e + 1] += g->start[e];
    for (int64_t i = 0; i < g->pairs; i++) {
        const int32_t at = g->start[chosen[i]]++;
        g->order[at] = (int32_t)i, g->expert[at] = chosen[i];
    }
    for (int64_t e = g->experts; e > 0; e--) g->start[e] = g->start[e - 1];
    g->start[0] = 0;
}

static size_t row_bytes(const gathered *g, const tk_args *a) {
    const tk_format *f = &tk_formats[a->type[0]];
    return (size_t)(g->width / f->block) * (size_t)f->bytes;
}

/* The x of the pair at place `at` into its expert's matrix */
static void gather_row(const gathered *g, const tk_args *a, bool each, int64_t at) {
    const int64_t e = g->expert[at], pair = g->order[at], first = g->start[e],
                  count = g->start[e + 1] - first;
    uint8_t *to = g->x + (size_t)first * row_bytes(g, a);
    if (a->type[0] != TK_A8) {
        const size_t bytes = row_bytes(g, a), row = (size_t)(each ? pair : pair / g->used);
        memcpy(to + (size_t)(at - first) * bytes, (const uint8_t *)a->p[0] + row * bytes, bytes);
        return;
    }
    const int64_t blocks = g->width / TK_K32;
    int64_t from_step, to_step;
    const tk_a8 *src =
        tk__a8_row(a->p[0], g->tokens, each ? g->used * g->width : g->width, pair / g->used, &from_step);
    tk_a8 *dst = tk__a8_row(to, count, g->width, at - first, &to_step);
    if (each) src += pair % g->used * blocks * from_step;
    for (int64_t b = 0; b < blocks; b++) dst[b * to_step] = src[b * from_step];
}

/* The panels that hold expert e's rows: from *first up to the result */
static int64_t panels_of(const gathered *g, int64_t e, int64_t *first) {
    const int64_t end =
        TK_MIN((int64_t)tk_align((size_t)((e + 1) * g->rows), TK_PANEL), g->experts * g->rows);
    *first = e * g->rows / TK_PANEL * TK_PANEL;
    return end - *first;
}

static void run(const tk_args *a, tk_kernel *linear, bool each) {
    gathered g;
    const size_t own = lay_out(&g, a->dim, a->scratch), panel = tk__panel_bytes(a->type[1], TK_DIM(a, 'k'));
    int64_t i, to, first;
    if (a->ith == 0) sort_pairs(&g, a->p[2]);
    tk_pool_sync(a->pool, a->ith);
    tk_split(g.pairs, 1, a->ith, a->nth, &i, &to);
    for (; i < to; i++) gather_row(&g, a, each, i);
    tk_pool_sync(a->pool, a->ith);
    for (int64_t e = 0; e < g.experts; e++) {
        const int64_t count = g.start[e + 1] - g.start[e], rows = panels_of(&g, e, &first);
        if (!count) continue;
        tk_args one = { .p = { g.x + (size_t)g.start[e] * row_bytes(&g, a),
                               (uint8_t *)a->p[1] + (size_t)(first / TK_PANEL) * panel,
                               g.y + g.start[e] * g.wide },
                        .type = { a->type[0], a->type[1], TK_F32 },
                        .scratch = (uint8_t *)a->scratch + own,
                        .pool = a->pool,
                        .ith = a->ith,
                        .nth = a->nth };
        one.dim['t' - 'a'] = (tk_dim){ count, 0, count };
        one.dim['n' - 'a'] = (tk_dim){ rows, 0, rows };
        one.dim['k' - 'a'] = a->dim['k' - 'a'];
        linear(&one);
    }
    tk_pool_sync(a->pool, a->ith);
    tk_split(g.pairs, 1, a->ith, a->nth, &i, &to);
    for (; i < to; i++) {
        const int64_t e = g.expert[i], rows = panels_of(&g, e, &first);
        const float *y = g.y + g.start[e] * g.wide + (i - g.start[e]) * rows + e * g.rows - first;
        memcpy((float *)a->p[3] + g.order[i] * g.rows, y, (size_t)g.rows * sizeof *y);
    }
}

#define LINEAR(needs, act, weight, scratch, fwd)                                                             \
    tk_kernel fwd, experts_##fwd##_##weight, experts2_##fwd##_##weight;                                      \
    void experts_##fwd##_##weight(const tk_args *a) { run(a, fwd, false); }                                  \
    void experts2_##fwd##_##weight(const tk_args *a) { run(a, fwd, true); }
#include "ops/linear.def"
#undef LINEAR

/* ---- the small ones ---- */

static bool is_among(const int32_t *chosen, int64_t n, int32_t e) {
    while (n > 0 && chosen[n - 1] != e) n--;
    return n > 0;
}

void route_plain(const tk_args *a) {
    enum { MOST = 4096 }; /* experts of a model at most (config_keys.def) */
    const int64_t experts = TK_DIM(a, 'x'), used = TK_DIM(a, 'a');
    const bool among = a->attr.i[1] == TK_ROUTE_TOP_SOFTMAX || a->attr.i[2];
    int32_t chosen[MOST], *ids = a->p[1];
    float *weights = a->p[2];
    int64_t t, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &t, &to);
    for (; t < to; t++) {
        const float *l = (const float *)a->p[0] + t * experts;
        float sum = 0;
        for (int64_t j = 0; j < used; j++) {
            int32_t best = -1;
            for (int32_t e = 0; e < experts; e++)
                if ((best < 0 || l[e] > l[best]) && !is_among(chosen, j, e)) best = e;
            chosen[j] = best;
        }
        for (int64_t i = 0; i < (among ? used : experts); i++)
            sum += expf(l[among ? chosen[i] : i] - l[chosen[0]]);
        for (int64_t j = 0; j < used; j++) {
            if (ids) ids[t * used + j] = chosen[j];
            if (weights) weights[t * used + j] = expf(l[chosen[j]] - l[chosen[0]]) / sum;
        }
    }
}

void experts_bias_plain(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    const int32_t *chosen = a->p[2];
    int64_t i, to;
    tk_split(TK_DIM(a, 't') * TK_DIM(a, 'a'), 1, a->ith, a->nth, &i, &to);
    for (; i < to; i++) {
        const float *x = (const float *)a->p[0] + i * n, *b = (const float *)a->p[1] + chosen[i] * n;
        float *y = (float *)a->p[3] + i * n;
        for (int64_t k = 0; k < n; k++) y[k] = x[k] + b[k];
    }
}

void combine_plain(const tk_args *a) {
    const int64_t used = TK_DIM(a, 'a'), n = TK_DIM(a, 'n');
    int64_t t, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &t, &to);
    for (; t < to; t++) {
        const float *x = (const float *)a->p[0] + t * used * n, *p = (const float *)a->p[1] + t * used;
        float *y = (float *)a->p[2] + t * n;
        for (int64_t k = 0; k < n; k++) y[k] = p[0] * x[k];
        for (int64_t j = 1; j < used; j++)
            for (int64_t k = 0; k < n; k++) y[k] += p[j] * x[j * n + k];
    }
}

void gate_plain(const tk_args *a) {
    const int64_t n = TK_DIM(a, 'n');
    const float *g = a->p[1];
    int64_t t, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &t, &to);
    for (; t < to; t++) {
        const float *x = (const float *)a->p[0] + t * n, s = 1 / (1 + expf(-g[t]));
        float *y = (float *)a->p[2] + t * n;
        for (int64_t k = 0; k < n; k++) y[k] = s * x[k];
    }
}
