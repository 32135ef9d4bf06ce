/* SPDX-License-Identifier: Apache-2.0 */
/* How CPU attention cuts its work, and the scratch that follows from it. Apart from attn_cpu.h because the
 * scratch functions serve all tiers. */
#ifndef TK_ATTN_SIZES_H
#define TK_ATTN_SIZES_H
#include "ops/ops.h"

enum {
    ATTN_KEYS = 256,       /* keys of a block, which gives a partial result; a multiple of 16 */
    ATTN_ROWS = 48,        /* queries a unit: amortises converting and transposing keys, fits L2 */
    ATTN_SPLIT_TOKENS = 4, /* units of up to so many tokens may be cut between blocks */
};

/* A partial result: largest score, sum of exponentials and `padded` weighted values for each row */
static inline int64_t attn_part_floats(int64_t rows, int64_t padded) {
    return (rows * (2 + padded) + 15) / 16 * 16;
}

/* Of one thread: two results of a unit, slopes, a block of keys and of
 * values, and a slot for each block of the longest sequence */
static inline int64_t attn_thread_floats(int64_t shared, int64_t d, int64_t keys) {
    const int64_t padded = (d + 15) / 16 * 16, rows = TK_MAX(ATTN_ROWS, shared);
    const int64_t slot = attn_part_floats(ATTN_SPLIT_TOKENS * shared, padded);
    return 2 * attn_part_floats(rows, padded) + (shared + 15) / 16 * 16 + 2 * ATTN_KEYS * padded +
           tk_ceil_div(keys, ATTN_KEYS) * slot;
}
#endif
