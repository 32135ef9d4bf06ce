/* SPDX-License-Identifier: Apache-2.0 */
/* rope (Su et al. 2021): pair (u, v) at position p turns by the angle p f_i: (u c - v s, u s + v c), c and s
 * being f[0] cos and f[0] sin. The angle is a float32 product in both precisions: it is part of what the
 * model computes (Hugging Face does the same), and at position 8000 its rounding exceeds that of everything
 * else. The adjoint turns back. Dims from 2 z on are copied. */
#ifndef real
#define REF_SOURCE "ops/rope.c"
#include "ops/ref.h"
#else

static void ref(turn)(const tk_args *a, real sign) {
    const real *x = a->p[0], *frequency = a->p[2];
    const int32_t *position = a->p[1];
    real *y = a->p[3];
    const int64_t tokens = TK_DIM(a, 't'), heads = TK_DIM(a, 'h'), width = TK_DIM(a, 'd'),
                  pairs = TK_DIM(a, 'z');
    const bool half = a->attr.i[0] == TK_ROPE_HALF;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++, x += width, y += width) {
            for (int64_t i = 0; i < pairs; i++) {
                const float angle = (float)position[t] * (float)frequency[i];
                const real c = (real)a->attr.f[0] * cos((real)angle);
                const real s = (real)a->attr.f[0] * sin((real)angle) * sign;
                const int64_t iu = half ? i : 2 * i, iv = half ? i + pairs : 2 * i + 1;
                const real u = x[iu], v = x[iv];
                y[iu] = u * c - v * s, y[iv] = u * s + v * c;
            }
            for (int64_t i = 2 * pairs; i < width; i++) y[i] = x[i];
        }
}

void ref(rope)(const tk_args *a) { ref(turn)(a, 1); }

/* dy p f -> dx */
void ref(rope_adj1)(const tk_args *a) { ref(turn)(a, -1); }
#endif
