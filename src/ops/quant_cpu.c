/* SPDX-License-Identifier: Apache-2.0 */
/* quant: activations into integer blocks (tk_a8 of base/packed.h), once for all products that read them. */
#include "base/packed.h"
#include "ops/ops.h"

/* Blocks are shared out, not tokens: one token is work for all threads. k is a multiple of 32, as it is of
 * every quantized weight. */
void quant_a8(const tk_args *a) {
    const int64_t rows = TK_DIM(a, 't'), cols = TK_DIM(a, 'k'), blocks = cols / TK_K32;
    int64_t i, end;
    tk_split(rows * blocks, 1, a->ith, a->nth, &i, &end);
    while (i < end) {
        const int64_t row = i / blocks, stop = TK_MIN(end, (row + 1) * blocks);
        int64_t step;
        tk_a8 *y = tk__a8_row(a->p[1], rows, cols, row, &step);
        for (; i < stop; i++)
            tk__a8_block(y + (i - row * blocks) * step, (const float *)a->p[0] + i * TK_K32);
    }
}
