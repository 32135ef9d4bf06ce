/* SPDX-License-Identifier: Apache-2.0 */
/* embed: x_t = row i_t of w. Where the vocabulary is cut, a rank holds rows first .. first + n - 1 and gives
 * zeros for all other ids, so the sum over ranks is the whole table's answer. Adjoint: dw_j is the sum of
 * dx_t over the tokens with i_t = j. */
#ifndef real
#define REF_SOURCE "ops/embed.c"
#include "ops/ref.h"
#else

void ref(embed)(const tk_args *a) {
    const int32_t *id = a->p[0];
    real *x = a->p[2];
    const tk_dim v = a->dim['v' - 'a'];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k');
    const ref_rows w = { a, 1, v.n, width };
    for (int64_t t = 0; t < tokens; t++) {
        int64_t row = id[t] - v.first;
        if (row >= 0 && row < v.n)
            ref(load)(x + t * width, &w, row);
        else
            memset(x + t * width, 0, (size_t)width * sizeof *x);
    }
}

/* i dx -> dw */
void ref(embed_adj1)(const tk_args *a) {
    const int32_t *id = a->p[0];
    const real *dx = a->p[1];
    real *dw = a->p[2];
    const tk_dim v = a->dim['v' - 'a'];
    const int64_t tokens = TK_DIM(a, 't'), width = TK_DIM(a, 'k');
    memset(dw, 0, (size_t)(v.n * width) * sizeof *dw);
    for (int64_t t = 0; t < tokens; t++) {
        int64_t row = id[t] - v.first;
        if (row < 0 || row >= v.n) continue;
        for (int64_t k = 0; k < width; k++) dw[row * width + k] += dx[t * width + k];
    }
}
#endif
