/* SPDX-License-Identifier: Apache-2.0 */
/* A mixture of experts (Shazeer et al. 2017; Jiang et al. 2024): route picks the experts of each token and
 * weighs them, experts multiplies each token by the matrices of its own experts, combine sums their results
 * with those weights. The choice itself has no gradient; the weights have that of the softmax they are taken
 * from. gate is the sigmoid that weighs a shared expert. */
#ifndef real
#define REF_SOURCE "ops/experts.c"
#include "ops/ref.h"
#else

void ref(route)(const tk_args *a) {
    const real *l = a->p[0];
    int32_t *ids = a->p[1];
    real *weights = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), experts = TK_DIM(a, 'x'), used = TK_DIM(a, 'a');
    int32_t *chosen = ref_alloc(used, sizeof *chosen);
    for (int64_t t = 0; t < tokens; t++, l += experts) {
        real sum = 0, part = 0;
        for (int64_t j = 0; j < used; j++) {
            int32_t best = -1;
            for (int32_t e = 0; e < experts; e++) {
                bool taken = false;
                for (int64_t i = 0; i < j; i++) taken |= chosen[i] == e;
                if (!taken && (best < 0 || l[e] > l[best])) best = e;
            }
            chosen[j] = best;
        }
        for (int64_t e = 0; e < experts; e++) sum += exp(l[e] - l[chosen[0]]);
        for (int64_t j = 0; j < used; j++) part += exp(l[chosen[j]] - l[chosen[0]]);
        if (a->attr.i[1] == TK_ROUTE_TOP_SOFTMAX || a->attr.i[2]) sum = part;
        for (int64_t j = 0; j < used; j++) {
            if (ids) ids[t * used + j] = chosen[j];
            if (weights) weights[t * used + j] = exp(l[chosen[j]] - l[chosen[0]]) / sum;
        }
    }
    free(chosen);
}

/* dp i p l -> dl: with S over all, dl_e = [e chosen] p_e dp_e - softmax(l)_e sum p dp; over the chosen,
 * likewise with p */
void ref(route_adj1)(const tk_args *a) {
    const real *dp = a->p[0], *p = a->p[2], *l = a->p[3];
    const int32_t *chosen = a->p[1];
    real *dl = a->p[4];
    const int64_t tokens = TK_DIM(a, 't'), experts = TK_DIM(a, 'x'), used = TK_DIM(a, 'a');
    const bool among = a->attr.i[1] == TK_ROUTE_TOP_SOFTMAX || a->attr.i[2];
    for (int64_t t = 0; t < tokens; t++, l += experts, dl += experts, chosen += used, p += used, dp += used) {
        real dot = 0, sum = 0;
        for (int64_t j = 0; j < used; j++) dot += p[j] * dp[j];
        for (int64_t e = 0; e < experts; e++) sum += exp(l[e] - l[chosen[0]]);
        for (int64_t e = 0; e < experts; e++) dl[e] = among ? 0 : -dot * exp(l[e] - l[chosen[0]]) / sum;
        for (int64_t j = 0; j < used; j++) dl[chosen[j]] += p[j] * dp[j] - (among ? p[j] * dot : 0);
    }
}

/* y = W[i] x of every token and choice; each: x has a row for every choice */
static void ref(multiply_experts)(const tk_args *a, bool each) {
    const real *x = a->p[0];
    const int32_t *chosen = a->p[2];
    real *y = a->p[3];
    const int64_t used = TK_DIM(a, 'a'), pairs = TK_DIM(a, 't') * used, rows = TK_DIM(a, 'n'),
                  width = TK_DIM(a, 'k');
    const ref_rows w = { a, 1, TK_DIM(a, 'x') * rows, width };
    real *line = ref_alloc(width, sizeof *line);
    for (int64_t row = 0; row < w.rows; row++) {
        ref(load)(line, &w, row);
        for (int64_t i = 0; i < pairs; i++) {
            if (chosen[i] != row / rows) continue;
            const real *v = x + (each ? i : i / used) * width;
            real sum = 0;
            for (int64_t k = 0; k < width; k++) sum += v[k] * line[k];
            y[i * rows + row % rows] = sum;
        }
    }
    free(line);
}
void ref(experts)(const tk_args *a) { ref(multiply_experts)(a, false); }
void ref(experts2)(const tk_args *a) { ref(multiply_experts)(a, true); }

/* dy w i -> dx */
static void ref(back_experts)(const tk_args *a, bool each) {
    const real *dy = a->p[0];
    const int32_t *chosen = a->p[2];
    real *dx = a->p[3];
    const int64_t used = TK_DIM(a, 'a'), pairs = TK_DIM(a, 't') * used, rows = TK_DIM(a, 'n'),
                  width = TK_DIM(a, 'k');
    const ref_rows w = { a, 1, TK_DIM(a, 'x') * rows, width };
    real *line = ref_alloc(width, sizeof *line);
    memset(dx, 0, (size_t)((each ? pairs : TK_DIM(a, 't')) * width) * sizeof *dx);
    for (int64_t row = 0; row < w.rows; row++) {
        ref(load)(line, &w, row);
        for (int64_t i = 0; i < pairs; i++)
            for (int64_t k = 0; k < width && chosen[i] == row / rows; k++)
                dx[(each ? i : i / used) * width + k] += dy[i * rows + row % rows] * line[k];
    }
    free(line);
}
void ref(experts_adj1)(const tk_args *a) { ref(back_experts)(a, false); }
void ref(experts2_adj1)(const tk_args *a) { ref(back_experts)(a, true); }

/* x dy i w -> dw */
static void ref(weights_experts)(const tk_args *a, bool each) {
    const real *x = a->p[0], *dy = a->p[1];
    const int32_t *chosen = a->p[2];
    real *dw = a->p[4];
    const int64_t used = TK_DIM(a, 'a'), pairs = TK_DIM(a, 't') * used, rows = TK_DIM(a, 'n'),
                  width = TK_DIM(a, 'k');
    memset(dw, 0, (size_t)(TK_DIM(a, 'x') * rows * width) * sizeof *dw);
    for (int64_t i = 0; i < pairs; i++)
        for (int64_t n = 0; n < rows; n++)
            for (int64_t k = 0; k < width; k++)
                dw[(chosen[i] * rows + n) * width + k] +=
                    dy[i * rows + n] * x[(each ? i : i / used) * width + k];
}
void ref(experts_adj2)(const tk_args *a) { ref(weights_experts)(a, false); }
void ref(experts2_adj2)(const tk_args *a) { ref(weights_experts)(a, true); }

void ref(experts_bias)(const tk_args *a) {
    const real *x = a->p[0];
    const int32_t *chosen = a->p[2];
    real *y = a->p[3];
    const int64_t pairs = TK_DIM(a, 't') * TK_DIM(a, 'a'), rows = TK_DIM(a, 'n'), all = TK_DIM(a, 'x') * rows;
    const ref_rows b = { a, 1, 1, all };
    real *line = ref_alloc(all, sizeof *line);
    ref(load)(line, &b, 0);
    for (int64_t i = 0; i < pairs; i++)
        for (int64_t n = 0; n < rows; n++) y[i * rows + n] = x[i * rows + n] + line[chosen[i] * rows + n];
    free(line);
}

/* dy i b -> db */
void ref(experts_bias_adj1)(const tk_args *a) {
    const real *dy = a->p[0];
    const int32_t *chosen = a->p[1];
    real *db = a->p[3];
    const int64_t pairs = TK_DIM(a, 't') * TK_DIM(a, 'a'), rows = TK_DIM(a, 'n');
    memset(db, 0, (size_t)(TK_DIM(a, 'x') * rows) * sizeof *db);
    for (int64_t i = 0; i < pairs; i++)
        for (int64_t n = 0; n < rows; n++) db[chosen[i] * rows + n] += dy[i * rows + n];
}

void ref(combine)(const tk_args *a) {
    const real *x = a->p[0], *p = a->p[1];
    real *y = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), used = TK_DIM(a, 'a'), width = TK_DIM(a, 'n');
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t n = 0; n < width; n++) {
            real sum = 0;
            for (int64_t j = 0; j < used; j++) sum += p[t * used + j] * x[(t * used + j) * width + n];
            y[t * width + n] = sum;
        }
}

/* dy x p -> dx dp */
void ref(combine_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *p = a->p[2];
    real *dx = a->p[3], *dp = a->p[4];
    const int64_t used = TK_DIM(a, 'a'), pairs = TK_DIM(a, 't') * used, width = TK_DIM(a, 'n');
    for (int64_t i = 0; i < pairs; i++) {
        real sum = 0;
        for (int64_t n = 0; n < width; n++) {
            const real g = dy[i / used * width + n];
            if (dx) dx[i * width + n] = p[i] * g;
            sum += g * x[i * width + n];
        }
        if (dp) dp[i] = sum;
    }
}

void ref(gate)(const tk_args *a) {
    const real *x = a->p[0], *g = a->p[1];
    real *y = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'n');
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t n = 0; n < width; n++) y[t * width + n] = x[t * width + n] / (1 + exp(-g[t]));
}

/* dy x g -> dx dg */
void ref(gate_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *g = a->p[2];
    real *dx = a->p[3], *dg = a->p[4];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'n');
    for (int64_t t = 0; t < tokens; t++) {
        const real s = 1 / (1 + exp(-g[t]));
        real sum = 0;
        for (int64_t n = 0; n < width; n++) {
            if (dx) dx[t * width + n] = s * dy[t * width + n];
            sum += dy[t * width + n] * x[t * width + n];
        }
        if (dg) dg[t] = sum * s * (1 - s);
    }
}
#endif
