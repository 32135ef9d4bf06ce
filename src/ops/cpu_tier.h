/* SPDX-License-Identifier: Apache-2.0 */
/* What one tier file compiles. Prototypes come from here and not from kernels.def, since kernels know nothing
 * of core; the linker compares the two. */
#define TIER_KERNELS(X)                                                                                      \
    X(add)                                                                                                   \
    X(bias)                                                                                                  \
    X(scale) X(softcap) X(glu) X(act) X(cast) X(pick) X(norm) X(lnorm) X(rope) X(kvput) X(attn)              \
        X(attn_paged) X(sink)
#define PROTOTYPE(op) void KERNEL_NAME(op)(const tk_args *a);
TIER_KERNELS(PROTOTYPE)
#undef PROTOTYPE

#include "ops/elem_cpu.h"
#include "ops/norm_cpu.h"
#include "ops/rope_cpu.h"
#include "ops/kv_cpu.h"
#include "ops/attn_cpu.h"
