/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens: kernels of some formats; split so that they compile side by side. */
#include "cuda/gemm_registers.cuh"

namespace tk {

template struct gemm_tilings<TK_H_Q8_0>;
template struct gemm_tilings<TK_H_F8>;
template struct gemm_tilings<TK_H_Q4_0>;

} // namespace tk
