/* SPDX-License-Identifier: Apache-2.0 */
/* How CPU attention cuts its work, and the scratch that follows from it. Apart from attn_cpu.h because the
 * scratch functions serve all tiers. */
#ifndef TK_ATTN_SIZES_H
#define TK_ATTN_SIZES_H
#include "ops/ops.h"

enum {
    ATTN_KEYS = 256,       /* keys of a block, which gives a partial result; a multiple of 32 */
    ATTN_ROWS = 48,        /* queries a unit: amortises converting and transposing keys, fits L2 */
    ATTN_TILE_ROWS = 96,   /* the same where tiles multiply: converting costs more beside them */
    ATTN_SPLIT_TOKENS = 4, /* units of up to so many tokens may be cut between blocks */
    ATTN_PARTS = 3,        /* bfloat16 numbers that make a float32 */
    KV_GROUP = 16,         /* keys that lie together in the cache (ops.h) */
};

/* Where attention finds its keys: rows of the step (page == NULL) or pages of the cache */
typedef struct kv_source {
    const void *k, *v;
    int type_k, type_v;
    int64_t heads, d;    /* KV heads */
    const int32_t *page; /* of the sequence at hand, or NULL */
    int64_t page_size;
    int64_t first; /* packed token of key 0, without pages */
} kv_source;

/* A partial result: largest score, sum of exponentials and `padded` weighted values for each row */
static inline int64_t attn_part_floats(int64_t rows, int64_t padded) {
    return (rows * (2 + padded) + 15) / 16 * 16;
}

/* Of a block of keys in a row's width: float32, or two parts in bfloat16 with 16 queries in ATTN_PARTS */
static inline int64_t attn_key_floats(int64_t d) {
    return (ATTN_KEYS + 16 * ATTN_PARTS / 2) * tk_align((size_t)d, 32);
}

/* Of one thread: two results of a unit, slopes, a block of keys and of
 * values, and a slot for each block of the longest sequence */
static inline int64_t attn_thread_floats(int64_t shared, int64_t d, int64_t keys) {
    const int64_t padded = (d + 15) / 16 * 16, rows = TK_MAX(ATTN_TILE_ROWS, shared);
    const int64_t slot = attn_part_floats(ATTN_SPLIT_TOKENS * shared, padded);
    return 2 * attn_part_floats(rows, padded) + (shared + 15) / 16 * 16 + attn_key_floats(d) + ATTN_KEYS * padded +
           tk_ceil_div(keys, ATTN_KEYS) * slot;
}
#endif
