/* SPDX-License-Identifier: Apache-2.0 */
/* norm (RMSNorm, Zhang and Sennrich 2019): y = x r w, r = (mean(x^2) + eps)^-1/2.
 * lnorm (LayerNorm, Ba et al. 2016): y = (x - m) r w + b, r = (mean((x - m)^2) + eps)^-1/2; the variance
 * takes a second pass, since E[x^2] - m^2 cancels. Adjoints, with z the normalized row (x r, or (x - m) r)
 * and h = dy w: norm dx = r (h - z mean(h z)); lnorm dx = r (h - mean(h) - z mean(h z)); dw = sum_t dy z; db
 * = sum_t dy. */
#ifndef real
#define REF_SOURCE "ops/norm.c"
#include "ops/ref.h"
#else

static real *ref(vector)(const tk_args *a, int operand) {
    const int64_t width = TK_DIM(a, 'k');
    real *v = ref_alloc(width, sizeof *v);
    ref(load)(v, &(ref_rows){ a, operand, 1, width }, 0);
    return v;
}

void ref(norm)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[2], *r = a->p[3];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    real *w = ref(vector)(a, 1);
    for (int64_t t = 0; t < rows; t++, x += width) {
        real squares = 0;
        for (int64_t k = 0; k < width; k++) squares += x[k] * x[k];
        const real scale = 1 / sqrt(squares / (real)width + (real)a->attr.f[0]);
        for (int64_t k = 0; y && k < width; k++) y[t * width + k] = x[k] * scale * w[k];
        if (r) r[t] = scale;
    }
    free(w);
}

/* dy x w r -> dx */
void ref(norm_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *r = a->p[3];
    real *dx = a->p[4];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    real *w = ref(vector)(a, 2);
    for (int64_t t = 0; t < rows; t++, x += width, dy += width, dx += width) {
        real hz = 0;
        for (int64_t k = 0; k < width; k++) hz += dy[k] * w[k] * (x[k] * r[t]);
        hz /= (real)width;
        for (int64_t k = 0; k < width; k++) dx[k] = r[t] * (dy[k] * w[k] - x[k] * r[t] * hz);
    }
    free(w);
}

/* dy x r -> dw */
void ref(norm_adj2)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *r = a->p[2];
    real *dw = a->p[3];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    memset(dw, 0, (size_t)width * sizeof *dw);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t k = 0; k < width; k++) dw[k] += dy[t * width + k] * (x[t * width + k] * r[t]);
}

void ref(lnorm)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[3], *m = a->p[4], *r = a->p[5];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    real *w = ref(vector)(a, 1), *b = ref(vector)(a, 2);
    for (int64_t t = 0; t < rows; t++, x += width) {
        real mean = 0, squares = 0;
        for (int64_t k = 0; k < width; k++) mean += x[k];
        mean /= (real)width;
        for (int64_t k = 0; k < width; k++) squares += (x[k] - mean) * (x[k] - mean);
        const real scale = 1 / sqrt(squares / (real)width + (real)a->attr.f[0]);
        for (int64_t k = 0; y && k < width; k++) y[t * width + k] = (x[k] - mean) * scale * w[k] + b[k];
        if (m) m[t] = mean;
        if (r) r[t] = scale;
    }
    free(w), free(b);
}

/* dy x w m r -> dx */
void ref(lnorm_adj1)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *m = a->p[3], *r = a->p[4];
    real *dx = a->p[5];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    real *w = ref(vector)(a, 2);
    for (int64_t t = 0; t < rows; t++, x += width, dy += width, dx += width) {
        real h = 0, hz = 0;
        for (int64_t k = 0; k < width; k++) {
            h += dy[k] * w[k];
            hz += dy[k] * w[k] * ((x[k] - m[t]) * r[t]);
        }
        h /= (real)width, hz /= (real)width;
        for (int64_t k = 0; k < width; k++) dx[k] = r[t] * (dy[k] * w[k] - h - (x[k] - m[t]) * r[t] * hz);
    }
    free(w);
}

/* dy x m r -> dw */
void ref(lnorm_adj2)(const tk_args *a) {
    const real *dy = a->p[0], *x = a->p[1], *m = a->p[2], *r = a->p[3];
    real *dw = a->p[4];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    memset(dw, 0, (size_t)width * sizeof *dw);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t k = 0; k < width; k++) dw[k] += dy[t * width + k] * ((x[t * width + k] - m[t]) * r[t]);
}

/* dy -> db */
void ref(lnorm_adj3)(const tk_args *a) {
    const real *dy = a->p[0];
    real *db = a->p[1];
    const int64_t rows = TK_DIM(a, 'h'), width = TK_DIM(a, 'k');
    memset(db, 0, (size_t)width * sizeof *db);
    for (int64_t t = 0; t < rows; t++)
        for (int64_t k = 0; k < width; k++) db[k] += dy[t * width + k];
}
#endif
