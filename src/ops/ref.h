/* SPDX-License-Identifier: Apache-2.0 */
/* The references: a slow, plain kernel of every op and adjoint, in float and in double. They are the oracle
 * of the fast kernels' tests and what the CPU runs where no fast kernel serves. A reference is called by one
 * thread only. Activations, statistics and gradients are of the reference's own type; operands that are
 * weights or a KV cache may have any dtype of formats.def; ids, positions and slots are I32.
 *
 * Both precisions come from one text. A file of references reads
 *
 *     #ifndef real
 *     #define REF_SOURCE "ops/norm.c"
 *     #include "ops/ref.h"
 *     #else
 *     void ref(norm)(const tk_args *a) { const real *x = a->p[0]; ... }
 *     #endif
 *
 * and is thus compiled twice, with `real` and ref() set here; tgmath.h picks expf or exp. */
#ifndef TK_REF_H
#define TK_REF_H
#include "ops/ops.h"

#define REF_PROTOTYPES_0(name, type) tk_kernel name##_ref_##type;
#define REF_PROTOTYPES_1(name, type) REF_PROTOTYPES_0(name, type) tk_kernel name##_adj1_ref_##type;
#define REF_PROTOTYPES_2(name, type) REF_PROTOTYPES_1(name, type) tk_kernel name##_adj2_ref_##type;
#define REF_PROTOTYPES_3(name, type) REF_PROTOTYPES_2(name, type) tk_kernel name##_adj3_ref_##type;
#define REF(name, adjoints) REF_PROTOTYPES_##adjoints(name, f32) REF_PROTOTYPES_##adjoints(name, f64)
#include "ops/refs.def"
#undef REF

/* Row `row` of operand `operand`, a [rows, cols] matrix of any dtype: read into dst, or written from src. */
typedef struct ref_rows {
    const tk_args *a;
    int operand;
    int64_t rows, cols;
} ref_rows;
void load_ref_f32(float *dst, const ref_rows *m, int64_t row);
void load_ref_f64(double *dst, const ref_rows *m, int64_t row);
void store_ref_f32(const ref_rows *m, const float *src, int64_t row);
void store_ref_f64(const ref_rows *m, const double *src, int64_t row);
/* Zeroed; never NULL: a kernel cannot fail, so without memory for a few rows the process ends. Freed by free.
 */
void *ref_alloc(int64_t count, size_t each);
#endif

#ifdef REF_SOURCE
#include <stdlib.h>
#include <tgmath.h>

#define real float
#define ref(name) name##_ref_f32
#include REF_SOURCE
#undef real
#undef ref
#define real double
#define ref(name) name##_ref_f64
#include REF_SOURCE
#endif
