/* SPDX-License-Identifier: Apache-2.0 */
/* Weights as Hopper's matrix products read them: the formats H_*. Shared by base/formats_panels.c and src/cuda.
 *
 * A panel is 16 rows, the height of a tensor core's A operand; k is cut into slabs of 64. Rows and k beyond the matrix
 * are zeros. [row / 16][k / 64][slab]: a panel is one forward stream, cut anywhere between slabs.
 *
 *   H_BF16  2,048 bytes: two atoms of 8 rows by 128 bytes, rows 0-7 and 8-15. In the row r of an atom the 16-byte
 *           chunk c (8 k) lies at place c ^ r: the 128-byte swizzle of wgmma and TMA, free of bank conflicts for
 *           ldmatrix. Slabs of neighbouring panels, one behind the other in shared memory, are a wgmma operand of
 *           64 rows with 1,024 bytes between groups of 8 */
#ifndef TK_PANELS_H
#define TK_PANELS_H
#include "base/base.h"

#ifdef __CUDACC__
#define TK_ON_BOTH __host__ __device__
#else
#define TK_ON_BOTH
#endif

enum { TK_H_ROWS = 16, TK_H_K = 64, TK_H_BF16_SLAB = 2048 };

/* Slabs of a row of `cols` numbers */
static inline TK_ON_BOTH int64_t tk__h_slabs(int64_t cols) { return (cols + TK_H_K - 1) / TK_H_K; }

/* Byte of number `k` (0 .. 63) of row `row` (0 .. 15) in a slab of H_BF16 */
static inline TK_ON_BOTH int tk__h_bf16_at(int row, int k) {
    return row / 8 * 1024 + row % 8 * 128 + ((k / 8) ^ (row % 8)) * 16 + k % 8 * 2;
}
#endif
