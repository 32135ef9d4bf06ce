/* SPDX-License-Identifier: Apache-2.0 */
/* The final judges: two whole models, GPT-2 and LLaMA, written straight down in double, forward and backward.
 * They share nothing with src/ops or src/core but the random generator of the dropout mask. The program must
 * agree with them whatever its passes, kernels and meshes do. */
#ifndef ORACLE_H
#define ORACLE_H
#include <stdbool.h>
#include <stdint.h>

/* Attributes that records keep in float32 are floats here too, so that a program in double agrees to 1e-12.
 * Rope's angle is (float)position * (float)freq[i], as in the op. */
typedef struct oracle_config {
    int layers, e, g, r, d, f, v; /* embedding, KV heads, query heads a KV head, head, MLP, vocabulary */
    int ctx;                      /* rows of pos_embed (GPT-2) */
    bool tied;                    /* the head is the embedding */
    float eps, scale;             /* of the norms; on q k */
    float dropout;                /* 0: none; sites 0 after the embedding, 2 i + 1 and 2 i + 2 in layer i */
    int rope_pairs;               /* rotated pairs of a head (LLaMA); 0: none */
    bool rope_interleaved;        /* (2i, 2i + 1) instead of (i, i + rope_pairs) */
    const double *rope_freq;
    float rope_factor; /* on cos and sin */
} oracle_config;

/* Sequences packed one after the other, each from position 0. */
typedef struct oracle_batch {
    int nseq;
    const int *len;              /* [nseq] */
    const int *tokens, *targets; /* a target < 0 is not scored */
    const double *mask;          /* weight of each token in the loss; NULL: 1 for targets >= 0 */
    double count;                /* the loss is divided by it; 0: the sum of the weights */
    const int *sequence;         /* sequence numbers for dropout; NULL: 0, 1, ... */
    uint64_t seed, step;         /* of dropout */
} oracle_batch;

/* Weights and gradients are arrays of oracle_slots() pointers. Roles of layers: norm1[e] norm1.b q[g r d, e]
 * q.b k[g d, e] k.b v v.b o[e, g r d] o.b norm2 norm2.b gate[f, e] up up.b down[e, f] down.b; of the whole
 * model (layer ignored): embed[v, e] pos_embed[ctx, e] norm_out norm_out.b head[v, e]. NULL for what a model
 * does not have; every bias is optional in both models. */
int oracle_slots(const oracle_config *c);
int oracle_slot(const char *role, int layer);       /* -1: no such role */
const char *oracle_slot_role(int slot, int *layer); /* the inverse; layer -1: the whole model */
int64_t oracle_slot_size(const oracle_config *c, int slot);

/* The loss. Fills logits [tokens][v] unless NULL, adds to the gradients unless NULL. */
double oracle_llama(const oracle_config *c, const double *const *weights, double *const *grads,
                    const oracle_batch *b, double *logits);
double oracle_gpt2(const oracle_config *c, const double *const *weights, double *const *grads,
                   const oracle_batch *b, double *logits);
#endif
