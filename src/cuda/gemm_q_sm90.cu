/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens with quantized weights with a scale for 32 numbers. */
#include "cuda/gemm_launch.cuh"
#include "cuda/gemm_registers.cuh"

namespace tk {

const gemm_tiling gemm_tilings_q[GEMM_QUANTIZED] = {
    gemm_tiling_of<gemm_shape<TK_H_Q8_0, 256, 4>>(0.68f, 4.0f),
    gemm_tiling_of<gemm_shape<TK_H_F8, 256, 4>>(0.68f, 4.0f),
    gemm_tiling_of<gemm_shape<TK_H_Q4_0, 256, 4>>(0.68f, 4.0f),
};

} // namespace tk
