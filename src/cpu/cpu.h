/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU backend, as the layers above see it. */
#ifndef TK_CPU_H
#define TK_CPU_H
#include "base/base.h"

/* ---- limits of this machine (measure.c) ---------------------------------------------------------------- */

/* Bytes a second that the pool's threads read from memory together, each its own part of a buffer of
 * `bytes` (rounded up; 0: four times the last-level cache, 256 MiB to 2 GiB, at most a quarter of the free
 * memory): the best of `reps` passes (fewer on a machine that is busy for a second), so a limit and no
 * average. */
tk_status tk_measure_read(tk_pool *pool, size_t bytes, int reps, double *bytes_per_second);
typedef enum tk_unit { TK_UNIT_F32, TK_UNIT_INT8, TK_UNIT_BF16 } tk_unit;
/* Multiplications plus additions a second of the pool's threads together, in this CPU's fastest unit for the
 * numbers: vectors, or tiles (AMX) for int8 and bfloat16 (float32's where it has none for bfloat16). The best
 * of 60 passes of a millisecond or so. */
double tk_measure_ops(tk_pool *pool, tk_unit unit);
#endif
