/* SPDX-License-Identifier: Apache-2.0 */
/* Picks a kernel row for every record and inserts the conversions that it needs: `pack` puts a weight into
 * the row's layout (hoist then runs it once), `quant` turns activations into integer blocks. A weight that a
 * product wants packed is packed once; lookups read the same copy. */
#include <stdlib.h>

#include "core/core.h"

typedef struct choice {
    tk_program *p;
    unsigned cpu;
    tk_id *packed; /* weight -> its packed copy, -1: none yet */
    int nvalues;   /* when the pass began */
} choice;

static bool is_real(int dtype) { return dtype == TK_F32 || dtype == TK_F64; }

/* Is it an operand that the `weight` column speaks of? Weights of two dims or more, and KV caches. */
static bool is_matrix(const tk_value *v) {
    return (v->kind == TK_WEIGHT && v->dim[1]) || v->kind == TK_STATEFUL;
}

static bool is_activation(const tk_value *v) { return v->kind == TK_ACTIVATION && v->dtype != TK_I32; }

/* The operand that a row's `act` means: the first activation. Others may have its dtype or be float32 (a
 * residual). -1: none */
static int act_operand(const tk_program *p, const tk_record *r) {
    for (int i = 0; i < r->nin; i++)
        if (is_activation(&p->values[r->arg[i]])) return i;
    return -1;
}

/* The last row of `op` that turns `from` into `to`, or -1. */
static int conversion_row(const choice *c, int op, tk_dtype from, tk_dtype to) {
    for (int k = tk_nkernels - 1; k >= 0; k--)
        if (tk_kernels[k].op == op && tk__able(tk_kernels[k].needs, c->cpu) && tk_kernels[k].act == from &&
            tk_kernels[k].out == to)
            return k;
    return -1;
}

/* Does the row serve the record, with conversions inserted when `convert`? */
static bool fits(const choice *c, const tk_record *r, const tk_kernel_row *row, bool convert) {
    const tk_program *p = c->p;
    if (row->op != r->op || !tk__able(row->needs, c->cpu) || !tk_row_kernel(row, r->adj)) return false;
    const int act = act_operand(p, r);
    for (int i = 0; i < r->nin; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        if (is_matrix(v)) {
            if (row->weight == TK_NODTYPE || row->weight == v->dtype) continue;
            if (!convert || v->kind != TK_WEIGHT ||
                conversion_row(c, TK_OP_pack, (tk_dtype)v->dtype, row->weight) < 0)
                return false;
        } else if (is_activation(v) && row->act != TK_NODTYPE && row->act != v->dtype) {
            if (i != act && v->dtype == TK_F32) continue;
            if (!convert || conversion_row(c, TK_OP_quant, (tk_dtype)v->dtype, row->act) < 0) return false;
        } else if (v->kind == TK_WEIGHT && v->dtype != TK_F32) {
            return false; /* norms and biases */
        }
    }
    return row->out == TK_NODTYPE || row->out == p->values[r->arg[r->nin]].dtype;
}

int tk__row_for(const tk_program *p, const tk_record *r, unsigned cpu) {
    choice c = { .p = (tk_program *)p, .cpu = cpu };
    int k = tk_nkernels - 1;
    while (k >= 0 && !fits(&c, r, &tk_kernels[k], false)) k--;
    return k;
}

static tk_id convert_to(choice *c, const tk_record *r, tk_op op, tk_id from, tk_dtype to) {
    tk_program *p = c->p;
    p->layer = r->layer, p->when = r->when;
    tk_attr attr = { { 0 }, { to } };
    tk_id id = tk_emit(p, op, attr, &from, 1);
    if (id < 0) return -1;
    memcpy(p->values[id].cut, p->values[from].cut, TK_AXES);
    p->records[p->nrecords - 1].kernel = (int16_t)conversion_row(c, op, (tk_dtype)p->values[from].dtype, to);
    return id;
}

static void choose_record(choice *c, tk_record r) {
    tk_program *p = c->p;
    int k = tk_nkernels - 1;
    while (k >= 0 && !fits(c, &r, &tk_kernels[k], true)) k--;
    r.kernel = (int16_t)k;
    if (k >= 0) {
        const tk_kernel_row *row = &tk_kernels[k];
        const int act = act_operand(p, &r);
        for (int i = 0; i < r.nin && p->status == TK_OK; i++) {
            const tk_value v = p->values[r.arg[i]];
            if (is_matrix(&v) && row->weight != TK_NODTYPE && row->weight != v.dtype) {
                tk_id *packed = &c->packed[r.arg[i]];
                if (*packed < 0 || p->values[*packed].dtype != row->weight)
                    *packed = convert_to(c, &r, TK_OP_pack, r.arg[i], row->weight);
                r.arg[i] = *packed;
            } else if (is_activation(&v) && row->act != TK_NODTYPE && row->act != v.dtype &&
                       (i == act || v.dtype != TK_F32)) {
                r.arg[i] = convert_to(c, &r, TK_OP_quant, r.arg[i], row->act);
            }
        }
    }
    if (p->status == TK_OK) tk__record(p, r);
}

/* Lookups read the packed copy where a product made one and a row can, so that the original can go. */
static void share_packed(choice *c) {
    for (int i = 0; i < c->p->nrecords; i++) {
        tk_record *r = &c->p->records[i], packed = *r;
        if (r->op != TK_OP_embed || r->kernel < 0 || r->arg[1] >= c->nvalues || c->packed[r->arg[1]] < 0)
            continue;
        packed.arg[1] = c->packed[r->arg[1]];
        packed.kernel = (int16_t)tk__row_for(c->p, &packed, c->cpu);
        if (packed.kernel >= 0) *r = packed;
    }
}

tk_status tk_choose(tk_program *p, unsigned cpu, bool reference) {
    TK_TRY(tk_prog_check(p));
    for (int i = 0; i < p->nvalues; i++)
        if (p->real == TK_F64 && p->values[i].kind == TK_WEIGHT && !is_real(p->values[i].dtype))
            return TK_FAIL(TK_E_INTERNAL, "the program is wrong: a double program needs float weights");
    if (reference || p->real == TK_F64) return TK_OK; /* kernel is -1 everywhere already */
    choice c = { .p = p,
                 .cpu = p->device ? p->device->features : cpu,
                 .nvalues = p->nvalues,
                 .packed = malloc(sizeof(tk_id) * (size_t)p->nvalues) };
    if (!c.packed) return TK_FAIL(TK_E_NOMEM, "out of memory");
    for (int i = 0; i < p->nvalues; i++) c.packed[i] = -1;
    tk_record *old = p->records;
    int n = p->nrecords;
    p->records = NULL, p->nrecords = p->cap_records = 0;
    for (int i = 0; i < n && p->status == TK_OK; i++) choose_record(&c, old[i]);
    share_packed(&c);
    free(old), free(c.packed);
    p->when = TK_FORWARD, p->layer = -1;
    return tk_prog_check(p);
}
