/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few tokens: kernels of some formats; split so that they compile side by side. */
#include "cuda/skinny.cuh"

namespace tk {

TK_SKINNY_KERNELS(H_Q4_0)
TK_SKINNY_KERNELS(H_Q4_1)

} // namespace tk
