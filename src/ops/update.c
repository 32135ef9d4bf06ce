/* SPDX-License-Identifier: Apache-2.0 */
/* sqsum: the sum of g^2, in double in both precisions: it runs over whole models, where a float sum stalls.
 * adamw (Loshchilov and Hutter 2019): g' = g min(1, clip / (sqrt(s) + 1e-6)); m = b1 m + (1 - b1) g';
 * v = b2 v + (1 - b2) g'^2; w -= lr (m / c1 / (sqrt(v / c2) + eps) + f[0] wd w), c1, c2 the bias corrections
 * of the table h in ops.def. A non-finite s leaves all three as they are: that step overflowed. */
#ifndef real
#define REF_SOURCE "ops/update.c"
#include "ops/ref.h"
#else

void ref(sqsum)(const tk_args *a) {
    const real *g = a->p[0];
    double sum = 0;
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) sum += (double)g[i] * g[i];
    *(real *)a->p[1] = (real)sum;
}

/* g s h w m v -> w2 m2 v2, the storage of w m v */
void ref(adamw)(const tk_args *a) {
    const real *g = a->p[0], s = *(const real *)a->p[1], *h = a->p[2];
    real *w = a->p[6], *m = a->p[7], *v = a->p[8];
    const real lr = h[0], b1 = h[1], b2 = h[2], eps = h[3], decay = h[4] * (real)a->attr.f[0], clip = h[5];
    const real scale = clip > 0 ? fmin((real)1, clip / (sqrt(s) + (real)1e-6)) : 1;
    if (!isfinite(s)) return;
    for (int64_t i = 0; i < TK_DIM(a, 'n'); i++) {
        const real d = g[i] * scale;
        m[i] = b1 * m[i] + (1 - b1) * d;
        v[i] = b2 * v[i] + (1 - b2) * d * d;
        w[i] -= lr * (m[i] / h[6] / (sqrt(v[i] / h[7]) + eps) + decay * w[i]);
    }
}
#endif
