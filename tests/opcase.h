/* SPDX-License-Identifier: Apache-2.0 */
/* Ops on trial: reads the signatures of core/ops.def with a parser of its own, makes operands for a case
 * (sizes and attributes of one op), and calls kernels on guarded, poisoned copies of them. Shared by the
 * tests of the references and of the kernel table. All values are kept as doubles, row after row. */
#ifndef OPCASE_H
#define OPCASE_H
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "ops/device.h"
#include "ops/ref.h"

/* ---- random numbers ---------------------------------------------------------------------------------- */

typedef struct rng {
    uint64_t key;
    uint32_t count;
} rng;
uint32_t rng_word(rng *r);
int rng_below(rng *r, int n);
double rng_gauss(rng *r); /* a float32 number */
uint64_t test_seed(void); /* $TOKAMAK_TEST_SEED, or a new one; printed once */

/* ---- ops
 * --------------------------------------------------------------------------------------------------- */

enum { OP_KEEP = 1, OP_STATE = 2, OP_COMM = 4, OP_PASS = 8 };

typedef struct operand {
    char name[8], letters[8]; /* letters in lower case */
    char made_of[8];          /* a=findmax(x): x */
} operand;
typedef struct signature {
    int nin, nout;
    operand o[TK_MAX_OPERANDS];
} signature;
typedef struct op_info {
    const char *name;
    unsigned flags;
    int adjoints, aliases;
    signature sig[4];     /* [0] forward */
    char alias[2][2][8];  /* dx=dz: dx, dz */
    tk_kernel *ref[2][4]; /* [double][adjoint]; NULL where refs.def has none */
} op_info;
const op_info *op_table(int *count);
const op_info *op_find(const char *name);
/* Is it a window of fusions.def? Those have no reference: test_fuse holds them to their windows, bit by bit.
 */
static inline bool op_is_fused(const char *name) {
#define FUSE(fused, window)                                                                                  \
    if (!strcmp(name, #fused)) return true;
#include "core/fusions.def"
#undef FUSE
    return false;
}

/* ---- cases
 * ------------------------------------------------------------------------------------------------- */

/* dims: "t3 n5 k7"; "v4@3/9": 4 of them, the first being number 3 of 9. split: tokens of each packed sequence
 * ("" one sequence), past: tokens before (paged attention). */
typedef struct op_case {
    const char *op, *dims, *split, *past;
    tk_attr attr;
} op_case;
extern const op_case op_cases[], op_cases_gpu[];
extern const int op_ncases, op_ncases_gpu;

typedef struct tensor {
    char name[8], letters[8];
    int64_t rows, cols; /* cols: the last letter */
    bool integer;
    double *v;
    void *raw; /* bytes to use instead of v: a paged cache, whose layout is a kernel's own */
    size_t raw_bytes;
    void *file; /* the bytes that tensor_round made, in file_type: packing v again may choose other scales */
    tk_dtype file_type;
} tensor;

typedef struct instance {
    const op_info *op;
    const op_case *c;
    char text[160]; /* for messages */
    tk_dim dim[26];
    tk_attr attr;
    tk_batch batch;
    int32_t start[9], past[8], pages[512];
    tensor t[24]; /* forward's operands, then gradients of outputs that adjoints read */
    int n;
    tensor history[3]; /* attn_paged: k, v and slots of all that is cached */
} instance;

/* Inputs and gradients are random float32 numbers; outputs are zero until instance_forward. */
void instance_make(instance *in, const op_case *c, rng *r);
void instance_free(instance *in);
tensor *instance_find(instance *in, const char *name);
/* Rounds a tensor to what a dtype holds */
void tensor_round(tensor *t, tk_dtype type);
/* Fills the forward's outputs from the double reference; `rounded` to float32, as kernels would save them */
void instance_forward(instance *in, bool rounded);

typedef struct op_call {
    tk_kernel *fn;
    int adj;
    tk_dtype type[TK_MAX_OPERANDS]; /* set by op_call_types or by hand; integers are I32 in any case */
    tk_scratch *scratch;
    tk_pool *pool; /* NULL: one thread */
    unsigned skip; /* bit i: output i is NULL */
    bool bare;     /* state outputs are not compared as numbers (private layouts) */
    double *out[TK_MAX_OPERANDS];
    void *bytes[TK_MAX_OPERANDS]; /* the outputs as written */
    size_t size[TK_MAX_OPERANDS];
} op_call;
/* While set, kernels run there: operands, guards included, are copied to it and back. */
extern tk_device *op_device;
void op_call_types(op_call *k, tk_dtype real); /* the same for all operands */
/* Runs the kernel. Fails the test when a guard is broken, an input is changed or an operand has no format. */
void op_call_run(op_call *k, instance *in);
void op_call_free(op_call *k);
/* attn_paged: puts the history into a fresh cache (every other byte 0xff) by `put`, reads of real type `real`
 */
void instance_cache(instance *in, tk_kernel *put, tk_dtype cache, tk_dtype real);
#endif
