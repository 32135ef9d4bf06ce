/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA: the device handle (device.c), and the kernels that rows of kernels.def with backend CUDA name (*.cu).
 * The runtime library is linked in and loads the driver itself, so one binary serves machines with and
 * without a GPU. Kernels see what all kernels see (ops.h), never programs or models. */
#ifndef TK_CUDA_H
#define TK_CUDA_H
#include "ops/device.h"

/* GPU number `index`. plan: where there is none, a handle that stands for a Hopper GPU and runs nothing. */
tk_status tk_cuda_open(tk_device **out, int index, bool plan);
#endif
