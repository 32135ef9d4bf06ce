/* SPDX-License-Identifier: Apache-2.0 */
/* quant: activations into integer blocks (tk_a8 of base/packed.h), once for all products that read them. */
#include "ops/quant.h"

/* Blocks are shared out, not tokens: one token is work for all threads. k is a multiple of 32, as it is of
 * every quantized weight. */
void tk__quant_rows(const tk_args *a, tk_quant_run *run) {
    const int64_t rows = TK_DIM(a, 't'), cols = TK_DIM(a, 'k'), blocks = cols / TK_K32;
    int64_t i, end;
    tk_split(rows * blocks, 1, a->ith, a->nth, &i, &end);
    for (int64_t count; i < end; i += count) {
        int64_t step;
        tk_a8 *y = tk__a8_row(a->p[1], rows, cols, i / blocks, &step);
        count = TK_MIN(end - i, blocks - i % blocks);
        run(y + i % blocks * step, step, (const float *)a->p[0] + i * TK_K32, count);
    }
}

static void run_plain(tk_a8 *y, int64_t step, const float *x, int64_t blocks) {
    for (int64_t i = 0; i < blocks; i++) tk__a8_block(y + i * step, x + i * TK_K32);
}
void quant_a8(const tk_args *a) { tk__quant_rows(a, run_plain); }
