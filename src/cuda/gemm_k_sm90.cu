/* SPDX-License-Identifier: Apache-2.0 */
/* Products of many tokens with quantized weights of 256 numbers. */
#include "cuda/gemm_launch.cuh"
#include "cuda/gemm_registers.cuh"

namespace tk {

const gemm_tiling gemm_tilings_k[GEMM_QUANTIZED] = {
    gemm_tiling_of<gemm_shape<TK_H_Q4_K, 256, 4>>(0.8f, 4.0f),
    gemm_tiling_of<gemm_shape<TK_H_Q5_K, 256, 4>>(0.8f, 4.0f),
    gemm_tiling_of<gemm_shape<TK_H_Q6_K, 256, 4>>(0.8f, 4.0f),
};

} // namespace tk
