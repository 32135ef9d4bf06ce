/* SPDX-License-Identifier: Apache-2.0 */
/* softmax: y = exp(x - m) / sum exp(x - m), m the row's largest. */
#ifndef real
#define REF_SOURCE "ops/softmax.c"
#include "ops/ref.h"
#else

void ref(softmax)(const tk_args *a) {
    const real *x = a->p[0];
    real *y = a->p[1];
    const int64_t width = TK_DIM(a, 'k');
    for (int64_t t = 0; t < TK_DIM(a, 't'); t++, x += width, y += width) {
        real top = x[0], sum = 0;
        for (int64_t k = 1; k < width; k++) top = x[k] > top ? x[k] : top;
        for (int64_t k = 0; k < width; k++) sum += exp(x[k] - top);
        for (int64_t k = 0; k < width; k++) y[k] = exp(x[k] - top) / sum;
    }
}
#endif
