/* SPDX-License-Identifier: Apache-2.0 */
/* quant: activations into integer blocks (tk_a8 of base/packed.h), once for all products that read them. */
#include "base/packed.h"
#include "ops/ops.h"

/* k is a multiple of 32, as it is of every quantized weight: blocks of x and of y correspond */
void quant_a8(const tk_args *a) {
    const float *x = a->p[0];
    tk_a8 *y = a->p[1];
    int64_t from, end;
    tk_split(TK_DIM(a, 't') * (TK_DIM(a, 'k') / TK_K32), 1, a->ith, a->nth, &from, &end);
    for (int64_t i = from; i < end; i++) tk__a8_block(y + i, x + i * TK_K32);
}
