/* SPDX-License-Identifier: Apache-2.0 */
/* head: the output matrix fused with the log-softmax: l_t = log sum_j exp(z_tj), p_t = z_ty; so the
 * log-probability is p - l and the logits z never exist: x_t w_j, perhaps scaled and capped (ops.def). A cut
 * vocabulary gives l over the rank's own rows (merged by log-sum-exp) and p = 0 where y is another rank's
 * (merged by sum). Rows from N on are padding and inert; a rank with none but padding gives l = -inf.
 * Adjoints, with l the merged one: dz_tj = dl_t exp(z_tj - l_t) + dp_t [j = y_t]. loss: s = sum_t m_t (l_t -
 * p_t) / n; tokens with m = 0 are not looked at. */
#ifndef real
#define REF_SOURCE "ops/head.c"
#include "ops/ref.h"
#else

static int64_t ref(live_rows)(tk_dim v) { return TK_MAX(0, TK_MIN(v.n, v.N - v.first)); }

/* z of one row; dz / d(x w) goes to *slope unless that is NULL. */
static real ref(logit)(const tk_args *a, const real *x, const real *w, real *slope) {
    const real factor = a->attr.f[0] != 0 ? (real)a->attr.f[0] : 1, cap = (real)a->attr.f[1];
    real z = 0;
    for (int64_t k = 0; k < TK_DIM(a, 'k'); k++) z += x[k] * w[k];
    z *= factor;
    const real t = cap > 0 ? tanh(z / cap) : 0;
    if (slope) *slope = factor * (1 - t * t);
    return cap > 0 ? cap * t : z;
}

/* Two passes over w: the largest logit of each token, then the sum of exponentials below it. */
void ref(head)(const tk_args *a) {
    const real *x = a->p[0];
    const int32_t *y = a->p[2];
    real *l = a->p[3], *p = a->p[4];
    const tk_dim v = a->dim['v' - 'a'];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k'), rows = ref(live_rows)(v);
    const ref_rows w = { a, 1, v.n, width };
    real *line = ref_alloc(width, sizeof *line), *max = ref_alloc(tokens, sizeof *max);
    real *sum = ref_alloc(tokens, sizeof *sum), *picked = ref_alloc(tokens, sizeof *picked);
    for (int64_t t = 0; t < tokens; t++) max[t] = -INFINITY;
    for (int64_t j = 0; j < rows; j++) {
        ref(load)(line, &w, j);
        for (int64_t t = 0; t < tokens; t++) {
            const real s = ref(logit)(a, x + t * width, line, NULL);
            max[t] = fmax(max[t], s);
            if (y[t] == v.first + j) picked[t] = s;
        }
    }
    for (int64_t j = 0; j < rows; j++) {
        ref(load)(line, &w, j);
        for (int64_t t = 0; t < tokens; t++) sum[t] += exp(ref(logit)(a, x + t * width, line, NULL) - max[t]);
    }
    for (int64_t t = 0; t < tokens; t++) {
        if (l) l[t] = max[t] + log(sum[t]);
        if (p) p[t] = picked[t];
    }
    free(line), free(max), free(sum), free(picked);
}

/* x w y l dl dp -> dx or dw, whichever is not NULL */
static void ref(head_back)(const tk_args *a, real *dx, real *dw) {
    const real *x = a->p[0], *l = a->p[3], *dl = a->p[4], *dp = a->p[5];
    const int32_t *y = a->p[2];
    const tk_dim v = a->dim['v' - 'a'];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k'), rows = ref(live_rows)(v);
    const ref_rows w = { a, 1, v.n, width };
    real *line = ref_alloc(width, sizeof *line);
    if (dx) memset(dx, 0, (size_t)(tokens * width) * sizeof *dx);
    if (dw) memset(dw, 0, (size_t)(v.n * width) * sizeof *dw);
    for (int64_t j = 0; j < rows; j++) {
        ref(load)(line, &w, j);
        for (int64_t t = 0; t < tokens; t++) {
            real slope, z = ref(logit)(a, x + t * width, line, &slope);
            real d = y[t] == v.first + j ? dp[t] : 0;
            if (dl[t] != 0) d += dl[t] * exp(z - l[t]);
            d *= slope;
            for (int64_t k = 0; dx && k < width; k++) dx[t * width + k] += d * line[k];
            for (int64_t k = 0; dw && k < width; k++) dw[j * width + k] += d * x[t * width + k];
        }
    }
    free(line);
}

void ref(head_adj1)(const tk_args *a) { ref(head_back)(a, a->p[6], NULL); }
void ref(head_adj2)(const tk_args *a) { ref(head_back)(a, NULL, a->p[6]); }

void ref(loss)(const tk_args *a) {
    const real *l = a->p[0], *p = a->p[1], *m = a->p[2], *n = a->p[3];
    real sum = 0;
    for (int64_t t = 0; t < TK_DIM(a, 't'); t++)
        if (m[t] != 0) sum += m[t] * (l[t] - p[t]);
    *(real *)a->p[4] = sum / *n;
}

/* ds m n -> dl dp */
void ref(loss_adj1)(const tk_args *a) {
    const real ds = *(const real *)a->p[0], *m = a->p[1], n = *(const real *)a->p[2];
    real *dl = a->p[3], *dp = a->p[4];
    for (int64_t t = 0; t < TK_DIM(a, 't'); t++) {
        if (dl) dl[t] = ds * m[t] / n;
        if (dp) dp[t] = -ds * m[t] / n;
    }
}
#endif
