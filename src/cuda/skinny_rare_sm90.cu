/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens: formats that rows of kernels.def pack as bfloat16. Their own panels are read by the slow form
 * alone. */
#include "cuda/skinny.cuh"

namespace tk {

#define KERNELS(FORMAT)                                                                                                \
    extern const skinny_kernels skinny_##FORMAT;                                                                       \
    const skinny_kernels skinny_##FORMAT = {                                                                           \
        {},                                                                                                            \
        { (const void *)skinny_chain<TK_##FORMAT, 1>, (const void *)skinny_chain<TK_##FORMAT, 2> },                    \
        (const void *)skinny_to_bf16_all<TK_##FORMAT>,                                                                 \
        fragments<TK_##FORMAT>::BYTES,                                                                                 \
        fragments<TK_##FORMAT>::K                                                                                      \
    };

KERNELS(H_Q4_1)
KERNELS(H_Q5_0)
KERNELS(H_Q5_1)
KERNELS(H_IQ4_NL)
KERNELS(H_MXFP4)
KERNELS(H_Q2_K)
KERNELS(H_Q3_K)
KERNELS(H_Q5_K)
KERNELS(H_IQ4_XS)

} // namespace tk
