/* SPDX-License-Identifier: Apache-2.0 */
/* The backward, from the adjoints of ops.def alone: walk the forward backwards, append each record's
 * adjoints, sum repeated gradients, drop what nobody reads. Recompute clones a layer's forward records in
 * front of their first backward use. No rule of any op is known here. */
#include <stdlib.h>

#include "core/core.h"

typedef struct grads {
    tk_program *p;
    tk_id *of;      /* gradient of each forward value, summed so far; -1 none */
    tk_id *renamed; /* forward value -> its recomputed clone, for the layer at hand */
    bool *needed;   /* forward value depends on a weight: its gradient may be wanted */
    int nforward, layer_done;
    bool recompute;
} grads;

static int find_operand(const tk_sig *sig, const char *name) {
    for (int i = 0; i < sig->nin + sig->nout; i++)
        if (!strcmp(sig->o[i].name, name)) return i;
    return -1;
}

static void add_gradient(grads *g, tk_id value, tk_id grad) {
    if (g->of[value] < 0)
        g->of[value] = grad;
    else
        g->of[value] = TK_EMIT(g->p, add, TK_NOATTR, g->of[value], grad);
}

/* Clones the forward records of a layer; later reads of their results go to the clones. */
static void clone_layer(grads *g, int layer) {
    tk_program *p = g->p;
    for (int i = 0; i < g->nforward; i++) {
        tk_record r = p->records[i];
        if (r.layer != layer || (tk_op_info(r.op)->flags & TK_STATE)) continue;
        r.clone_of = r.arg[r.nin];
        r.when = TK_BACKWARD;
        for (int k = 0; k < r.nin; k++)
            if (g->renamed[r.arg[k]] >= 0) r.arg[k] = g->renamed[r.arg[k]];
        for (int k = r.nin; k < r.nin + r.nout; k++) {
            tk_value v = p->values[r.arg[k]];
            v.store = -1;
            g->renamed[r.arg[k]] = tk__value(p, v);
            r.arg[k] = g->renamed[r.arg[k]];
        }
        tk__record(p, r);
    }
}

/* The id behind an adjoint's input name: a gradient, or an operand of the forward record (or its clone). */
static tk_id resolve(grads *g, const tk_record *f, const tk_sig *forward, const char *name) {
    int k = find_operand(forward, name);
    if (k >= 0) return g->renamed[f->arg[k]] >= 0 ? g->renamed[f->arg[k]] : f->arg[k];
    k = name[0] == 'd' ? find_operand(forward, name + 1) : -1;
    return k >= 0 ? g->of[f->arg[k]] : -1;
}

static void append_adjoint(grads *g, tk_record f, int adj) {
    tk_program *p = g->p;
    const tk_sig *forward = &tk_op_info(f.op)->sig[0], *sig = &tk_op_info(f.op)->sig[adj];
    tk_record r = { .op = f.op,
                    .adj = (uint8_t)adj,
                    .when = TK_BACKWARD,
                    .nin = (uint8_t)sig->nin,
                    .nout = (uint8_t)sig->nout,
                    .layer = f.layer,
                    .kernel = -1,
                    .attr = f.attr,
                    .clone_of = -1 };
    bool wanted = false;
    for (int i = sig->nin; i < sig->nin + sig->nout; i++)
        wanted |= g->needed[f.arg[find_operand(forward, sig->o[i].name + 1)]];
    for (int i = 0; wanted && i < sig->nin; i++) {
        if (sig->o[i].made_by >= 0) continue;
        r.arg[i] = resolve(g, &f, forward, sig->o[i].name);
        wanted = r.arg[i] >= 0;
    }
    if (!wanted) return;
    for (int i = 0; i < sig->nin; i++)
        if (sig->o[i].made_by >= 0) {
            tk_id from = resolve(g, &f, forward, sig->o[i].made_from);
            r.arg[i] = tk_emit(p, (tk_op)sig->o[i].made_by, TK_NOATTR, &from, 1);
        }
    tk_id out[TK_MAX_OPERANDS];
    for (int i = sig->nin; i < sig->nin + sig->nout; i++) {
        const tk_value *of = &p->values[f.arg[find_operand(forward, sig->o[i].name + 1)]];
        tk_value v = *of;
        v.kind = TK_ACTIVATION, v.dtype = (uint8_t)p->real, v.store = v.name = -1, v.output = false;
        v.split = (uint8_t)(v.dim[0] ? strlen(v.dim) - 1 : 0);
        out[i] = r.arg[i] = tk__value(p, v);
    }
    if (p->status != TK_OK) return;
    tk__record(p, r);
    for (int i = sig->nin; i < sig->nin + sig->nout; i++) {
        tk_id of = f.arg[find_operand(forward, sig->o[i].name + 1)];
        if (g->needed[of]) add_gradient(g, of, out[i]);
    }
}

static void append_backward(grads *g, tk_record f) {
    const tk_opinfo *info = tk_op_info(f.op);
    bool reached = false;
    for (int k = f.nin; k < f.nin + f.nout; k++) reached |= g->of[f.arg[k]] >= 0;
    if (!reached) return;
    if (g->recompute && f.layer >= 0 && f.layer != g->layer_done) {
        for (int i = 0; i < g->nforward; i++) /* the previous layer's clones are out of use */
            for (int k = 0; k < g->p->records[i].nout; k++)
                g->renamed[g->p->records[i].arg[g->p->records[i].nin + k]] = -1;
        clone_layer(g, f.layer);
        g->layer_done = f.layer;
    }
    g->p->layer = f.layer;
    for (int a = 0; a < info->aliases; a++) {
        tk_id to = f.arg[find_operand(&info->sig[0], info->alias[a].to + 1)];
        tk_id from = g->of[f.arg[find_operand(&info->sig[0], info->alias[a].from + 1)]];
        if (g->needed[to] && from >= 0) add_gradient(g, to, from);
    }
    for (int a = 1; a <= info->adjoints; a++) append_adjoint(g, f, a);
}

/* Drops backward records none of whose results is read; recomputed clones mostly. */
static void drop_unread(tk_program *p, int from) {
    bool *read = calloc((size_t)p->nvalues, 1);
    if (!read) {
        tk__prog_fail(p, TK_FAIL(TK_E_NOMEM, "out of memory"));
        return;
    }
    for (int i = 0; i < p->nvalues; i++) read[i] = p->values[i].output;
    int keep = p->nrecords;
    for (int i = p->nrecords - 1; i >= from; i--) {
        tk_record *r = &p->records[i];
        bool used = (tk_op_info(r->op)->flags & TK_STATE) != 0;
        for (int k = r->nin; k < r->nin + r->nout; k++) used |= read[r->arg[k]];
        if (!used) continue;
        for (int k = 0; k < r->nin; k++) read[r->arg[k]] = true;
        p->records[--keep] = *r; /* keep > i always: the tail is compacted upwards */
    }
    memmove(p->records + from, p->records + keep, (size_t)(p->nrecords - keep) * sizeof *p->records);
    p->nrecords = from + p->nrecords - keep;
    free(read);
}

/* Moves each accumulation to right behind the record that makes its gradient, which then need not live on. */
static void accumulate_early(tk_program *p, int from) {
    int n = p->nrecords, first = n;
    while (first > from && p->records[first - 1].op == TK_OP_accum) first--;
    for (int i = first; i < n; i++) {
        tk_record r = p->records[i];
        int at = i;
        for (bool made = false; at > from && !made;) {
            const tk_record *q = &p->records[at - 1];
            for (int k = q->nin; k < q->nin + q->nout; k++) made |= q->arg[k] == r.arg[0];
            at -= !made;
        }
        memmove(&p->records[at + 1], &p->records[at], (size_t)(i - at) * sizeof r);
        p->records[at] = r;
    }
}

tk_status tk_grad(tk_program *p, tk_id loss, bool recompute) {
    TK_TRY(tk_prog_check(p));
    int nforward = p->nrecords, cap = p->nvalues;
    grads g = { .p = p,
                .nforward = nforward,
                .recompute = recompute,
                .layer_done = -2,
                .of = malloc(sizeof(tk_id) * (size_t)cap),
                .renamed = malloc(sizeof(tk_id) * (size_t)cap),
                .needed = calloc((size_t)cap, 1) };
    if (!g.of || !g.renamed || !g.needed) {
        free(g.of), free(g.renamed), free(g.needed);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    for (int i = 0; i < cap; i++) g.of[i] = g.renamed[i] = -1, g.needed[i] = p->values[i].kind == TK_WEIGHT;
    for (int i = 0; i < nforward; i++)
        for (int k = 0; k < p->records[i].nin; k++)
            if (g.needed[p->records[i].arg[k]])
                for (int o = 0; o < p->records[i].nout; o++)
                    g.needed[p->records[i].arg[p->records[i].nin + o]] = true;
    p->when = TK_BACKWARD, p->layer = -1, p->trainable = true;
    g.of[loss] = tk_declare(p, TK_INPUT, "one", "", p->real); /* d loss / d loss */
    for (int i = nforward - 1; i >= 0 && p->status == TK_OK; i--) append_backward(&g, p->records[i]);
    for (int n = 0, names = p->nnames; n < names && p->status == TK_OK; n++) {
        tk_id w = p->names[n].id;
        if (w >= cap || p->values[w].kind != TK_WEIGHT || g.of[w] < 0) continue;
        p->layer = p->names[n].layer;
        char dims[TK_MAX_DIMS + 2];
        strcpy(dims, p->values[w].dim);
        tk_id acc = tk_declare(p, TK_ACCUMULATOR, tk_arena_printf(&p->arena, "grad.%s", p->names[n].role),
                               dims, p->real);
        TK_EMIT(p, accum, TK_NOATTR, g.of[w], acc);
    }
    if (p->status == TK_OK) drop_unread(p, nforward), accumulate_early(p, nforward);
    p->when = TK_FORWARD, p->layer = -1;
    free(g.of), free(g.renamed), free(g.needed);
    return tk_prog_check(p);
}

tk_status tk_update(tk_program *p) {
    TK_TRY(tk_prog_check(p));
    p->when = TK_UPDATE, p->layer = -1;
    tk_letter(p, 'h', 8, 8);
    tk_id hyper = tk_declare(p, TK_INPUT, "hyper", "h", p->real), total = -1;
    int names = p->nnames;
    for (int n = 0; n < names && p->status == TK_OK; n++) { /* accumulators meet their optimizer state */
        if (p->values[p->names[n].id].kind != TK_ACCUMULATOR) continue;
        tk_name acc = p->names[n];
        const char *role = strchr(acc.role, '.') + 1;
        char dims[TK_MAX_DIMS + 2];
        strcpy(dims, p->values[acc.id].dim);
        p->layer = acc.layer;
        tk_id m = tk_declare(p, TK_STATEFUL, tk_arena_printf(&p->arena, "adam_m.%s", role), dims, p->real);
        tk_id v = tk_declare(p, TK_STATEFUL, tk_arena_printf(&p->arena, "adam_v.%s", role), dims, p->real);
        if (v < 0) break;
        p->values[acc.id].like = m;
        p->values[m].like = m, p->values[v].like = v; /* optimizer state: ZeRO cuts it */
        tk_id square = TK_EMIT(p, sqsum, TK_NOATTR, acc.id);
        total = total < 0 ? square : TK_EMIT(p, add, TK_NOATTR, total, square);
    }
    for (int n = 0; n < names && p->status == TK_OK; n++) {
        if (p->values[p->names[n].id].kind != TK_ACCUMULATOR) continue;
        tk_name acc = p->names[n];
        const char *role = strchr(acc.role, '.') + 1;
        tk_id w = tk_find(p, role, acc.layer), m = p->values[acc.id].like;
        p->layer = acc.layer;
        tk_attr decay = { { strlen(p->values[w].dim) > 1 ? 1.0f : 0.0f },
                          { 0 } }; /* matrices only, as usual */
        TK_EMIT(p, adamw, decay, acc.id, total, hyper, w, m, m + 1);
        TK_EMIT(p, zero, TK_NOATTR, acc.id);
    }
    p->when = TK_FORWARD, p->layer = -1;
    return tk_prog_check(p);
}
