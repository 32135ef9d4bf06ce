/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel table as data: rows of kernels.def, and the references of refs.def by op and adjoint. */
#include "core/core.h"
#include "ops/ref.h"

/* prototypes */
#define KERNEL(op, backend, needs, act, weight, out, scratch, f, a1, a2, a3)                                 \
    tk_kernel f, a1, a2, a3;                                                                                 \
    tk_scratch scratch;
#include "core/kernels.def"
#undef KERNEL
/* never called: they stand for "no such function" and become NULL below */
void NONE(const tk_args *a) { (void)a; }
size_t NO_SCRATCH(const tk_dim dim[26], int nth) { return (void)dim, (void)nth, 0; }

#define TK_ANY TK_NODTYPE
enum { ON_CPU = 0, ON_CUDA = TK_ON_CUDA };
const tk_kernel_row tk_kernels[] = {
#define KERNEL(op, backend, needs, act, weight, out, scratch, f, a1, a2, a3)                                 \
    { #f,      TK_OP_##op,        (needs) | ON_##backend, TK_##act, TK_##weight, TK_##out,                   \
      scratch, { f, a1, a2, a3 }, { #f, #a1, #a2, #a3 } },
#include "core/kernels.def"
#undef KERNEL
    { "", TK_OPS, 0, TK_ANY, TK_ANY, TK_ANY, NO_SCRATCH, { NONE, NONE, NONE, NONE }, { "", "", "", "" } },
};
const int tk_nkernels = (int)TK_COUNT(tk_kernels) - 1;

bool tk_op_served(int op, unsigned have) {
    for (int k = 0; k < tk_nkernels; k++)
        if (tk_kernels[k].op == op && tk__able(tk_kernels[k].needs, have)) return true;
    return false;
}

tk_kernel *tk_row_kernel(const tk_kernel_row *row, int adj) {
    return row->fn[adj] == NONE ? NULL : row->fn[adj];
}

static const struct {
    int op;
    tk_kernel *f32[1 + TK_MAX_ADJOINTS], *f64[1 + TK_MAX_ADJOINTS];
} refs[] = {
#define REF(name, adjoints) { TK_OP_##name, REF_##adjoints(name, f32), REF_##adjoints(name, f64) },
#define REF_0(n, t)                                                                                          \
    { n##_ref_##t }
#define REF_1(n, t)                                                                                          \
    { n##_ref_##t, n##_adj1_ref_##t }
#define REF_2(n, t)                                                                                          \
    { n##_ref_##t, n##_adj1_ref_##t, n##_adj2_ref_##t }
#define REF_3(n, t)                                                                                          \
    { n##_ref_##t, n##_adj1_ref_##t, n##_adj2_ref_##t, n##_adj3_ref_##t }
#include "ops/refs.def"
#undef REF
};

tk_kernel *tk_ref_kernel(int op, int adj, tk_dtype real) {
    for (size_t i = 0; i < TK_COUNT(refs); i++)
        if (refs[i].op == op) return real == TK_F64 ? refs[i].f64[adj] : refs[i].f32[adj];
    return NULL;
}
