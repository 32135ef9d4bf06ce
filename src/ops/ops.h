/* SPDX-License-Identifier: Apache-2.0 */
/* What a kernel sees. A kernel is one function with one signature: operands by position (the inputs of
 * its row of ops.def in order, then the outputs), sizes by the row's letters. It validates nothing (bind
 * did), allocates nothing, and knows nothing of programs, models or meshes. All threads of the pool enter
 * it; each does its share, by (ith, nth). The result may not depend on nth, on the number of tokens in the
 * step, or on which other rows are in it: the order of every sum is a function of the row's own shape. */
#ifndef TK_OPS_H
#define TK_OPS_H
#include <math.h>

#include "base/base.h"

#define TK_MAX_OPERANDS 12

/* One letter: local size, first global index, true size. Indices first + i >= N are padding and inert.
 * When a signature's letter binds a run of dims, n is their product and `first` is 0. */
typedef struct tk_dim {
    int64_t n, first, N;
} tk_dim;

/* Constants of a record. Which op uses which field is said beside its row in ops.def. */
typedef struct tk_attr {
    float f[4];
    int32_t i[4];
} tk_attr;

enum { TK_BATCH_ZEROS = 1 << 14 };

/* The step's batch: sequences packed one after the other without padding. Token start[s] + i is token
 * past[s] + i of sequence s, so its keys are 0 .. past[s] + i (causal). Lives at a fixed address; all that
 * varies between steps is in it. */
typedef struct tk_batch {
    int32_t tokens, seqs;
    const int32_t *start; /* [seqs + 1] first packed token of each sequence; start[seqs] == tokens */
    const int32_t *past;  /* [seqs] tokens of the sequence that came in earlier steps; 0 in training */
    const int32_t *pages; /* [seqs][max_pages] page numbers of the KV cache; NULL in training */
    int32_t max_pages, page_size; /* page_size: keys a page, a multiple of 16 */
    uint64_t seed, step;          /* of dropout */
    uint32_t *zeros;              /* on devices: TK_BATCH_ZEROS words that are 0 whenever no kernel runs */
} tk_batch;

typedef struct tk_args {
    void *p[TK_MAX_OPERANDS];      /* inputs, then outputs; an output that nobody reads is NULL */
    uint8_t type[TK_MAX_OPERANDS]; /* tk_dtype of each operand */
    tk_dim dim[26];                /* by letter of the signature: dim['n' - 'a'] (case folded) */
    tk_attr attr;
    const tk_batch *batch;
    void *scratch; /* 64-byte aligned, shared by the threads, as large as the row's scratch function says */
    tk_pool *pool; /* for tk_pool_sync inside a kernel; NULL when alone */
    void *stream;  /* of the device that the operands lie on (ops/device.h); NULL on the CPU */
    int ith, nth;
} tk_args;
typedef void tk_kernel(const tk_args *a);
/* Bytes of scratch for one call at these sizes; see kernels.def */
typedef size_t tk_scratch(const tk_dim dim[26], int nth);
#define TK_DIM(a, letter) ((a)->dim[(letter) - 'a'].n)

/* ---- conventions shared by kernels -------------------------------------------------------------------
 *
 * Matrices are dense, row major, dims in the order of the signature. A weight w:nk is n rows of k, in the
 * layout of its dtype (base/formats.def), n rounded up to the format's group.
 *
 * KV cache (operands ck, cv of kvput and attn_paged), dtype T = F32, F16, BF16 or Q8_0, per page P, head g:
 *   ck  [P][g][S/16][D][16]   16 keys side by side: a score needs no horizontal sum
 *   cv  [P][g][S][D]
 * Q8_0 holds the same bytes in total (34 for 32 numbers); how they lie is private to those kernels.
 * On CUDA keys and values lie alike. F16 and BF16, D a multiple of 16: [P][g][S/8][D/8][8][8], blocks of 8
 * keys by 8 numbers (128 bytes), which tensor cores, ldmatrix and plain bulk copies take as they are; else
 * rows, [P][g][S][D]. TK_KV_PLACE is the place of number d in row (P g + head) S + offset. Q8_0: rows of that
 * format. Slot of a token: page * page_size + offset in the page. Slot < 0 (padding) is not written.
 *
 * Attention (attn for training, attn_paged for serving) visits keys in blocks counted from key 0 of the
 * sequence, so that both give the same bits for a float32 cache, whatever the page size. */
#define TK_KV_PLACE(row, d, D)                                                                               \
    ((D) % 16 ? (row) * (D) + (d) : ((row) / 8 * ((D) / 8) + (d) / 8) * 64 + (row) % 8 * 8 + (d) % 8)
#define TK_KEY_BLOCK 64 /* on devices; the CPU's is in attn_sizes.h */

/* What attention's attributes (beside its row in ops.def) say about scores, apart from the scale. `slope` is
 * that of ALiBi for query head (g, r) of this rank, 0 without. Keys that position i sees: first_key .. i. */
static inline double tk_attn_slope(const tk_attr *attr, const tk_dim dim[26], int64_t g, int64_t r) {
    const tk_dim *dg = &dim['g' - 'a'], *dr = &dim['r' - 'a'];
    const int64_t heads = dg->N * dr->N, h = (dg->first + g) * dr->N + dr->first + r;
    int64_t m = 1;
    while (2 * m <= heads) m *= 2;
    if (!(attr->f[2] > 0)) return 0;
    const double factor = attr->f[3] != 0 ? (double)attr->f[3] : 1;
    return factor * exp2(-(double)attr->f[2] * (h < m ? (double)(h + 1) : (double)(h - m) + 0.5) / (double)m);
}
static inline int64_t tk_attn_first_key(const tk_attr *attr, int64_t i) {
    return attr->i[0] > 0 && i >= attr->i[0] ? i - attr->i[0] + 1 : 0;
}

/* rope, attr.i[0]: which elements of a head rotate together. HALF: i and i + z (Hugging Face, NeoX);
 * INTERLEAVED: 2i and 2i + 1 (llama2.c; GGUF's llama family, whose q and k rows lie permuted for it). */
typedef enum tk_rope_style {
    TK_ROPE_HALF,
    TK_ROPE_INTERLEAVED,
    TK_ROPE_PAIRS = TK_ROPE_INTERLEAVED
} tk_rope_style;
/* route, attr.i[1]: softmax over all experts' logits, or over those of the chosen ones */
typedef enum tk_routing { TK_ROUTE_SOFTMAX_TOP, TK_ROUTE_TOP_SOFTMAX } tk_routing;
/* act and glu, attr.i[0] */
typedef enum tk_act {
    TK_ACT_SILU,
    TK_ACT_GELU_TANH,
    TK_ACT_GELU_ERF,
    TK_ACT_RELU,
    TK_ACT_GELU_QUICK, /* x sigmoid(1.702 x) */
    TK_ACT_RELU2,      /* max(x, 0)^2 */
    TK_ACTS
} tk_act;
#endif
