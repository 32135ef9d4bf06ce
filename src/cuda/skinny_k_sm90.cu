/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens: kernels of some formats; split so that they compile side by side. */
#include "cuda/skinny.cuh"

namespace tk {

TK_SKINNY_KERNELS(H_Q5_1)
TK_SKINNY_KERNELS(H_Q6_K)

} // namespace tk
