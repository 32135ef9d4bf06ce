/* SPDX-License-Identifier: Apache-2.0 */
/* dropout (Srivastava et al. 2014): y = x keep / (1 - f[0]); the adjoint is the same map. Whether an element
 * is kept is a function of (seed, step, site, sequence, position, global column) alone, by Philox4x32-10, so
 * neither packing nor cutting changes the mask and nothing is saved for the backward. */
#ifndef real
#define REF_SOURCE "ops/dropout.c"
#include "ops/ref.h"
#else

void ref(dropout)(const tk_args *a) {
    const real *x = a->p[0];
    const int32_t *sequence = a->p[1], *position = a->p[2];
    real *y = a->p[3];
    const tk_dim n = a->dim['n' - 'a'];
    const real scale = 1 / (1 - (real)a->attr.f[0]);
    for (int64_t t = 0; t < TK_DIM(a, 't'); t++)
        for (int64_t i = 0; i < n.n; i++) {
            const int64_t column = n.first + i;
            uint32_t word[4],
                counter[4] = { (uint32_t)(column / 4), (uint32_t)position[t], (uint32_t)sequence[t],
                               (uint32_t)a->batch->step << 8 | (uint32_t)a->attr.i[0] };
            tk_philox(word, a->batch->seed, counter);
            const bool keep = tk_uniform(word[column % 4]) >= a->attr.f[0];
            y[t * n.n + i] = keep ? x[t * n.n + i] * scale : 0;
        }
}

/* dy s p -> dx */
void ref(dropout_adj1)(const tk_args *a) { ref(dropout)(a); }
#endif
