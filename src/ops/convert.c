/* SPDX-License-Identifier: Apache-2.0 */
/* Ops that move numbers without computing: cast changes the dtype, pick copies rows u of x, permute
 * puts the columns of each row into another order. pack and quant
 * write a matrix in another format; here they are the format's own pack of what its unpack gives, so the
 * value is kept as well as the target can hold it. Rows that only fill up a packed group stay zero. */
#ifndef real
#define REF_SOURCE "ops/convert.c"
#include "ops/ref.h"
#else

static void ref(convert)(const tk_args *a, int64_t rows, int64_t cols) {
    const ref_rows from = { a, 0, rows, cols }, to = { a, 1, rows, cols };
    real *line = ref_alloc(cols, sizeof *line);
    size_t bytes;
    if (tk_formats[a->type[1]].group > 1 && tk_format_size(a->type[1], rows, cols, &bytes))
        memset(a->p[1], 0, bytes);
    for (int64_t row = 0; row < rows; row++) {
        ref(load)(line, &from, row);
        ref(store)(&to, line, row);
    }
    free(line);
}

void ref(cast)(const tk_args *a) { ref(convert)(a, 1, TK_DIM(a, 'n')); }
void ref(cast_adj1)(const tk_args *a) { ref(convert)(a, 1, TK_DIM(a, 'n')); }
void ref(pack)(const tk_args *a) { ref(convert)(a, TK_DIM(a, 'n'), TK_DIM(a, 'k')); }
void ref(quant)(const tk_args *a) { ref(convert)(a, TK_DIM(a, 't'), TK_DIM(a, 'k')); }

void ref(permute)(const tk_args *a) {
    const real *x = a->p[0];
    const int32_t *order = a->p[1];
    real *y = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k');
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t k = 0; k < width; k++) y[t * width + k] = x[t * width + order[k]];
}

/* dy i -> dx */
void ref(permute_adj1)(const tk_args *a) {
    const real *dy = a->p[0];
    const int32_t *order = a->p[1];
    real *dx = a->p[2];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k');
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t k = 0; k < width; k++) dx[t * width + order[k]] = dy[t * width + k];
}

void ref(pick)(const tk_args *a) {
    const real *x = a->p[0];
    const int32_t *row = a->p[1];
    real *y = a->p[2];
    const int64_t width = TK_DIM(a, 'k');
    for (int64_t o = 0; o < TK_DIM(a, 'o'); o++)
        memcpy(y + o * width, x + row[o] * width, (size_t)width * sizeof *y);
}
#endif
