/* SPDX-License-Identifier: Apache-2.0 */
/* What norm.cu asks of norm_sm90.cu. */
#ifndef TK_NORM_SM90_H
#define TK_NORM_SM90_H
#include "cuda/row.cuh"

namespace tk {
/* Long rows on Hopper: runs of 16 bytes at multiples of 16. False: too long, or not started; nothing was
 * done. */
bool ring_rows_sm90(const tk_args *a, const row_job &j, row_kind kind, int in, int out);
} // namespace tk
#endif
