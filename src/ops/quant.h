/* SPDX-License-Identifier: Apache-2.0 */
/* How the tiers turn float32 activations into tk_a8: `blocks` of 32 numbers that follow each other in x, to
 * blocks that lie `step` apart in y. All give the bytes of tk__a8_block. Fused kernels call their tier's;
 * quant_rows is `quant` by one of them. */
#ifndef TK_QUANT_H
#define TK_QUANT_H
#include "base/packed.h"
#include "ops/ops.h"

typedef void tk_quant_run(tk_a8 *y, int64_t step, const float *x, int64_t blocks);
tk_quant_run tk__quant_run_avx2, tk__quant_run_avx512;
void tk__quant_rows(const tk_args *a, tk_quant_run *run);
#endif
