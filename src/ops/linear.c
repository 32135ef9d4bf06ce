/* SPDX-License-Identifier: Apache-2.0 */
/* linear: y = x w^T; dx = dy w; dw = dy^T x. bias: y = x + b; db = sum of dy over the tokens.
 * findmax: the largest |x|; NaN if there is one, so that a broken tensor is seen.
 * qlinear: the Linear of an integer-MAC accelerator. Both matrices are quantized per tensor, q = round half
 * even(127 v / max) with max from findmax (max 0: q = 0), multiplied in exact integers and scaled back by
 * max max' / 127^2; both products of the backward do the same with their own operands. Since integer sums are
 * exact, a cut of k changes nothing but the last rounding. */
#ifndef real
#define REF_SOURCE "ops/linear.c"
#include "ops/ref.h"
#else

void ref(linear)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), rows = TK_DIM(a, 'n'), width = TK_DIM(a, 'k');
    const ref_rows w = { a, 1, rows, width };
    real *line = ref_alloc(width, sizeof *line);
    for (int64_t n = 0; n < rows; n++) {
        ref(load)(line, &w, n);
        for (int64_t t = 0; t < tokens; t++) {
            real sum = 0;
            for (int64_t k = 0; k < width; k++) sum += x[t * width + k] * line[k];
            y[t * rows + n] = sum;
        }
    }
    free(line);
}

/* dy w -> dx */
void ref(linear_adj1)(const tk_args *a) {
    const real *dy = a->p[0];
    real *dx = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), rows = TK_DIM(a, 'n'), width = TK_DIM(a, 'k');
    const ref_rows w = { a, 1, rows, width };
    real *line = ref_alloc(width, sizeof *line);
    memset(dx, 0, (size_t)(tokens * width) * sizeof *dx);
    for (int64_t n = 0; n < rows; n++) {
        ref(load)(line, &w, n);
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t k = 0; k < width; k++) dx[t * width + k] += dy[t * rows + n] * line[k];
    }
    free(line);
}

/* x dy -> dw */
void ref(linear_adj2)(const tk_args *a) {
    const real *x = a->p[0], *dy = a->p[1];
    real *dw = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), rows = TK_DIM(a, 'n'), width = TK_DIM(a, 'k');
    memset(dw, 0, (size_t)(rows * width) * sizeof *dw);
    for (int64_t n = 0; n < rows; n++)
        for (int64_t t = 0; t < tokens; t++)
            for (int64_t k = 0; k < width; k++) dw[n * width + k] += dy[t * rows + n] * x[t * width + k];
}

void ref(bias)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'n');
    const ref_rows b = { a, 1, 1, width };
    real *line = ref_alloc(width, sizeof *line);
    ref(load)(line, &b, 0);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t n = 0; n < width; n++) y[t * width + n] = x[t * width + n] + line[n];
    free(line);
}

/* dy -> db */
void ref(bias_adj1)(const tk_args *a) {
    const real *dy = a->p[0];
    real *db = a->p[1];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'n');
    memset(db, 0, (size_t)width * sizeof *db);
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t n = 0; n < width; n++) db[n] += dy[t * width + n];
}

/* x is an activation or a weight, hence of any plain dtype */
void ref(findmax)(const tk_args *a) {
    real *max = a->p[1];
    const int64_t count = TK_DIM(a, 'n');
    const ref_rows m = { a, 0, 1, count };
    real *x = ref_alloc(count, sizeof *x);
    ref(load)(x, &m, 0);
    *max = 0;
    for (int64_t i = 0; i < count; i++)
        if (fabs(x[i]) > *max || x[i] != x[i]) *max = fabs(x[i]);
    free(x);
}

/* The quantized integer; what is not a number counts as 0 here and comes back through the scale. */
static int64_t ref(quantize)(real v, real max) {
    if (!(max > 0)) return 0;
    real q = rint((real)127 * v / max);
    return q >= 127 ? 127 : q <= -127 ? -127 : q == q ? (int64_t)q : 0;
}

static int64_t *ref(quantized)(const ref_rows *m, real max) {
    int64_t *q = ref_alloc(m->rows * m->cols, sizeof *q);
    real *line = ref_alloc(m->cols, sizeof *line);
    for (int64_t row = 0; row < m->rows; row++) {
        ref(load)(line, m, row);
        for (int64_t i = 0; i < m->cols; i++) q[row * m->cols + i] = ref(quantize)(line[i], max);
    }
    free(line);
    return q;
}

/* c[i][j] = sum over s of p[i, s] q[s, j], the sizes being n[0], n[1] (summed), n[2]; strides of (row,
 * column) */
static void ref(multiply)(real *c, const int64_t *p, const int64_t *q, const int64_t n[3],
                          const int64_t strides[4], real scale) {
    for (int64_t i = 0; i < n[0]; i++)
        for (int64_t j = 0; j < n[2]; j++) {
            int64_t sum = 0;
            for (int64_t s = 0; s < n[1]; s++)
                sum += p[i * strides[0] + s * strides[1]] * q[s * strides[2] + j * strides[3]];
            c[i * n[2] + j] = (real)sum * scale;
        }
}

static real ref(scale_back)(real max, real other) { return max / 127 * (other / 127); }

void ref(qlinear)(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    const real xmax = *(const real *)a->p[2], wmax = *(const real *)a->p[3];
    int64_t *x = ref(quantized)(&(ref_rows){ a, 0, t, k }, xmax);
    int64_t *w = ref(quantized)(&(ref_rows){ a, 1, n, k }, wmax);
    ref(multiply)(a->p[4], x, w, (int64_t[]){ t, k, n }, (int64_t[]){ k, 1, 1, k },
                  ref(scale_back)(xmax, wmax));
    free(x), free(w);
}

/* dy w c=findmax(dy) b=findmax(w) -> dx */
void ref(qlinear_adj1)(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    const real ymax = *(const real *)a->p[2], wmax = *(const real *)a->p[3];
    int64_t *dy = ref(quantized)(&(ref_rows){ a, 0, t, n }, ymax);
    int64_t *w = ref(quantized)(&(ref_rows){ a, 1, n, k }, wmax);
    ref(multiply)(a->p[4], dy, w, (int64_t[]){ t, n, k }, (int64_t[]){ n, 1, k, 1 },
                  ref(scale_back)(ymax, wmax));
    free(dy), free(w);
}

/* x dy a=findmax(x) c=findmax(dy) -> dw */
void ref(qlinear_adj2)(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), n = TK_DIM(a, 'n'), k = TK_DIM(a, 'k');
    const real xmax = *(const real *)a->p[2], ymax = *(const real *)a->p[3];
    int64_t *x = ref(quantized)(&(ref_rows){ a, 0, t, k }, xmax);
    int64_t *dy = ref(quantized)(&(ref_rows){ a, 1, t, n }, ymax);
    ref(multiply)(a->p[4], dy, x, (int64_t[]){ n, t, k }, (int64_t[]){ 1, n, k, 1 },
                  ref(scale_back)(xmax, ymax));
    free(x), free(dy);
}
#endif
