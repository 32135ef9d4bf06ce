/* SPDX-License-Identifier: Apache-2.0 */
/* A model run for the core's tests: builds, passes, fills weights and inputs by global index (so that every
 * mesh sees the same model), runs steps on threads as ranks, and gathers results by name. */
#ifndef TK_CORE_MODEL_H
#define TK_CORE_MODEL_H
#include "core/core.h"
#include "model/model.h"

typedef struct run_options {
    bool gpt2, tied, recompute, update, findmax, train, logits;
    int layers, embd, heads, kv_heads, head_dim, ff, vocab;
    int seqs, seq_len; /* packed sequences of one micro-batch over all data ranks: two or more a rank */
    int micro_batches;
    float dropout;
    int dp, tp; /* tp splits into tg x tr */
    bool sp, zero1;
    int hoist;
    bool no_reuse, kernels;
    tk_dtype real;
    unsigned seed;
} run_options;
run_options run_defaults(void);

typedef struct run_result {
    tk_status status;
    int n;
    struct {
        char name[48];
        size_t count;
        double *data;
    } item[512]; /* "loss", "logits", "grad.q.0", "q.0" ... whole */
    tk_counts counts;
    size_t planned, bound;
    int records[TK_PHASES][TK_OPS];
} run_result;
void run_model(const run_options *o, run_result *out);
void run_free(run_result *r);
/* What run_model fills in: element `index` of a weight (frequency of a pair: "rope_freqs"), and of an input
 * of micro-batch `micro` ("tokens", "targets", "mask"); lengths of the packed sequences of a rank that has n.
 */
double run_weight(const run_options *o, const char *role, int layer, int64_t index);
double run_input(const run_options *o, const char *role, int64_t index, int micro);
int run_length(const run_options *o, int sequence, int n);
const double *run_get(const run_result *r, const char *name, size_t *count);
#endif
