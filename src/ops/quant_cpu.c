/* SPDX-License-Identifier: Apache-2.0 */
/* quant: activations into integer blocks (tk_a8 of base/packed.h), once for all products that read them. */
#include "base/packed.h"
#include "ops/ops.h"

void quant_a8(const tk_args *a) {
    const int64_t t = TK_DIM(a, 't'), k = TK_DIM(a, 'k'), blocks = tk_ceil_div(k, TK_K32);
    const float *x = a->p[0];
    tk_a8 *y = a->p[1];
    int64_t from, end;
    tk_split(t * blocks, 1, a->ith, a->nth, &from, &end);
    for (int64_t i = from; i < end; i++) {
        int64_t row = i / blocks, col = i % blocks * TK_K32;
        tk__a8_block(y + i, x + row * k + col, (int)TK_MIN(k - col, (int64_t)TK_K32));
    }
}
