/* SPDX-License-Identifier: Apache-2.0 */
/* The vector kernels of tier avx512: the bodies are in the headers, the width in cpu/vec.h. Where the
 * compiler has not got this tier's instructions they compile to plain C under the same names, and no CPU asks
 * for them. */
#include "cpu/vec.h"
#include "ops/ops.h"

#define KERNEL_NAME(op) op##_avx512
#include "ops/cpu_tier.h"

void KERNEL_NAME(add_norm_quant)(const tk_args *a);
void KERNEL_NAME(norm_quant)(const tk_args *a);
void KERNEL_NAME(glu_quant)(const tk_args *a);
void KERNEL_NAME(quant_bf16)(const tk_args *a);
#include "ops/fused_cpu.h"
