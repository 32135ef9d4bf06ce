/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA: the device handle (device.c), and the kernels that rows of kernels.def with backend CUDA name (*.cu).
 * The runtime library is linked in and loads the driver itself, so one binary serves machines with and
 * without a GPU. Kernels see what all kernels see (ops.h), never programs or models. */
#ifndef TK_CUDA_H
#define TK_CUDA_H
#include "ops/device.h"

/* GPU number `index`. plan: where there is none, a handle that stands for a Hopper GPU and runs nothing. */
tk_status tk_cuda_open(tk_device **out, int index, bool plan);

/* Of products on Hopper GPUs, all of the same kind (linear_sm90.cu) */
extern tk_device_ways tk__cuda_ways;

typedef struct tk_gemm_e4m3 {
    void *y, *stream;
    const void *x, *w;
    const float *w_scale, *x_scale;
    int64_t tokens, rows, width;
    bool half;
} tk_gemm_e4m3;
/* y[tokens][rows] = x[tokens][width] w[rows][width]^T, each result times w_scale[row] x_scale[token]; e4m3
 * operands, sums of 128 k added in float32. Hopper only. w: panels of 16 rows by slabs of 128 k, zeros beyond
 * the matrix; number k of row r of a slab is byte r * 128 + (k / 16 ^ r % 8) * 16 + k % 16. half: y is
 * bfloat16, else float32. False: width is no multiple of 16, or rows none of 8; nothing was done. */
bool tk__gemm_e4m3(const tk_gemm_e4m3 *g);

typedef struct tk_attention {
    void *o, *stream; /* F32, or BF16 when narrow */
    float *l;         /* log-sum-exp, or NULL */
    const void *q;    /* of `type`, or F32 when there is room */
    const void *k, *v;
    const tk_batch *batch; /* on the device */
    void *room; /* tk__attention_room(t) bytes: sequences of few tokens go to the kernel for them; or NULL */
    int groups, shared, page_size, tokens, width;
    int64_t keys; /* that the cache holds, for the room */
    float scale;
    tk_dtype type; /* of k and v: F16 or BF16 */
    bool full;     /* without room: all keys of the sequence are seen, not those up to the query */
    bool narrow;
} tk_attention;
/* What attn_paged does on Hopper, and what it has no operand for. False: no kernel for this width; nothing
 * was done. */
size_t tk__attention_room(const tk_attention *t);
bool tk__attention(const tk_attention *t);
#endif
