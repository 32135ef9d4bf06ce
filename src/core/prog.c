/* SPDX-License-Identifier: Apache-2.0 */
/* The program as a growing list: letters, values, records. Builders and passes both append through here. */
#include <stdlib.h>

#include "core/core.h"

void tk_prog_init(tk_program *p, tk_dtype real) {
    *p = (tk_program){ .real = real, .layer = -1 };
    p->mesh.axes = 0;
}

void tk_prog_free(tk_program *p) {
    free(p->values), free(p->records), free(p->names);
    tk_arena_free(&p->arena);
    *p = (tk_program){ 0 };
}

tk_status tk_prog_check(const tk_program *p) { return p->status; }

void tk__prog_fail(tk_program *p, tk_status s) {
    if (p->status == TK_OK) p->status = s;
}

/* Room for one more element; sticky failure when memory is out. */
static bool grow(tk_program *p, void **data, int n, int *cap, size_t each) {
    if (n < *cap) return true;
    int fresh = *cap ? *cap * 2 : 256;
    void *more = realloc(*data, (size_t)fresh * each);
    if (!more) {
        tk__prog_fail(p, TK_FAIL(TK_E_NOMEM, "out of memory\nthe program has %d entries", n));
        return false;
    }
    *data = more, *cap = fresh;
    return true;
}

void tk_letter(tk_program *p, char letter, int64_t size, int64_t true_size) {
    if (size < 1 || true_size < 1 || true_size > size)
        tk__prog_fail(p, TK_FAIL(TK_E_FORMAT, "the model's dimension %c is %lld\nsizes must be positive",
                                 letter, (long long)true_size));
    p->size[(unsigned char)letter & 127] = size;
    p->N[(unsigned char)letter & 127] = true_size;
}

tk_id tk__value(tk_program *p, tk_value v) {
    if (!grow(p, (void **)&p->values, p->nvalues, &p->cap_values, sizeof *p->values)) return -1;
    for (const char *c = v.dim; *c; c++)
        if (!p->size[(unsigned char)*c & 127])
            tk__prog_fail(p, TK_FAIL(TK_E_INTERNAL, "the program is wrong: dimension %c has no size", *c));
    tk_id id = p->nvalues++;
    if (v.store < 0) v.store = id;
    p->values[id] = v;
    return id;
}

tk_record *tk__record(tk_program *p, tk_record r) {
    if (!grow(p, (void **)&p->records, p->nrecords, &p->cap_records, sizeof *p->records)) return NULL;
    p->records[p->nrecords] = r;
    return &p->records[p->nrecords++];
}

static tk_value blank(tk_dtype dtype, tk_kind kind) {
    tk_value v = { .dtype = (uint8_t)dtype, .kind = (uint8_t)kind, .store = -1, .like = -1, .name = -1 };
    memset(v.cut, TK_WHOLE, sizeof v.cut);
    return v;
}

tk_id tk_declare(tk_program *p, tk_kind kind, const char *role, const char *dims, tk_dtype dtype) {
    if (p->status != TK_OK || !grow(p, (void **)&p->names, p->nnames, &p->cap_names, sizeof *p->names))
        return -1;
    tk_value v = blank(dtype, kind);
    size_t n = 0, split = SIZE_MAX;
    for (const char *c = dims; *c && n < TK_MAX_DIMS; c++)
        if (*c == '|')
            split = n;
        else
            v.dim[n++] = *c;
    v.split = (uint8_t)(split != SIZE_MAX ? split : n ? n - 1 : 0);
    v.name = p->nnames;
    tk_id id = tk__value(p, v);
    p->names[p->nnames++] = (tk_name){ role, p->layer, id };
    return id;
}

void tk_output(tk_program *p, const char *role, tk_id id) {
    if (p->status != TK_OK || id < 0 ||
        !grow(p, (void **)&p->names, p->nnames, &p->cap_names, sizeof *p->names))
        return;
    p->values[id].output = true;
    p->values[id].name = p->nnames;
    p->names[p->nnames++] = (tk_name){ role, p->layer, id };
}

tk_id tk_find(const tk_program *p, const char *role, int layer) {
    for (int i = 0; i < p->nnames; i++)
        if (p->names[i].layer == layer && !strcmp(p->names[i].role, role)) return p->names[i].id;
    return -1;
}

static int operand_index(const tk_sig *sig, const char *name) {
    for (int i = 0; i < sig->nin; i++)
        if (!strcmp(sig->o[i].name, name)) return i;
    return -1;
}

/* Fills the inputs: those given, and those that the signature has made by another op. */
static bool fill_inputs(tk_program *p, tk_record *r, const tk_id *in, int nin) {
    const tk_sig *sig = tk__sig(r);
    int given = 0;
    for (int i = 0; i < sig->nin; i++) {
        if (sig->o[i].made_by >= 0) continue;
        if (given >= nin) break;
        r->arg[i] = in[given++];
        if (r->arg[i] < 0 || r->arg[i] >= p->nvalues) return false;
    }
    int need = 0;
    for (int i = 0; i < sig->nin; i++) need += sig->o[i].made_by < 0;
    if (given != nin || need != nin) return false;
    for (int i = 0; i < sig->nin; i++)
        if (sig->o[i].made_by >= 0) {
            tk_id from = r->arg[operand_index(sig, sig->o[i].made_from)];
            r->arg[i] = tk_emit(p, (tk_op)sig->o[i].made_by, TK_NOATTR, &from, 1);
        }
    return true;
}

/* Does an input have the letter? One that only outputs have is the program's own of that name. */
static bool given(const tk_sig *sig, char letter) {
    for (int i = 0; i < sig->nin; i++)
        if (strchr(sig->o[i].letters, letter)) return true;
    return false;
}

tk_id tk_emit(tk_program *p, tk_op op, tk_attr attr, const tk_id *in, int nin) {
    if (p->status != TK_OK) return -1;
    const tk_opinfo *info = tk_op_info(op);
    const tk_sig *sig = &info->sig[0];
    tk_record r = { .op = (uint8_t)op,
                    .when = (uint8_t)p->when,
                    .nin = (uint8_t)sig->nin,
                    .nout = (uint8_t)sig->nout,
                    .layer = (int16_t)p->layer,
                    .kernel = -1,
                    .attr = attr,
                    .clone_of = -1 };
    tk_binding b;
    if (!fill_inputs(p, &r, in, nin)) {
        if (p->status == TK_OK)
            tk__prog_fail(p, TK_FAIL(TK_E_INTERNAL, "the program is wrong: bad operands for %s", info->name));
        return -1;
    }
    tk_status s = tk__bind_letters(p, &r, false, &b);
    if (s != TK_OK) {
        tk__prog_fail(p, s);
        return -1;
    }
    tk_id first = p->nvalues;
    for (int i = 0; i < sig->nout; i++) {
        tk_value v = blank(p->real, TK_ACTIVATION);
        const tk_operand *o = &sig->o[sig->nin + i];
        if (info->flags & TK_STATE) {
            const tk_value *old = &p->values[r.arg[sig->nin - sig->nout + i]];
            v = *old;
        } else {
            for (const char *l = o->letters; *l; l++)
                strncat(v.dim, given(sig, *l) ? b.run[*l - 'a'] : (char[]){ *l, 0 },
                        TK_MAX_DIMS - strlen(v.dim));
            v.split = (uint8_t)(v.dim[0] ? strlen(v.dim) - 1 : 0);
            if (op == TK_OP_quant) v.split = 1; /* blocks run along all that a token has */
            if (op == TK_OP_pack) v.split = p->values[r.arg[0]].split, v.kind = TK_WEIGHT;
            if ((op == TK_OP_route && i == 0) || op == TK_OP_draw) v.dtype = TK_I32;
            if (op == TK_OP_cast || op == TK_OP_pack || op == TK_OP_quant) v.dtype = (uint8_t)attr.i[0];
        }
        r.arg[sig->nin + i] = tk__value(p, v);
    }
    tk__record(p, r);
    return p->status == TK_OK ? first : -1;
}

int64_t tk__local(const tk_program *p, const tk_value *v, int dim) {
    int64_t n = p->size[(unsigned char)v->dim[dim] & 127];
    for (int a = 0; a < p->mesh.axes; a++)
        if (v->cut[a] == dim) n /= p->mesh.axis[a].size;
    return n;
}

void tk__value_rows(const tk_program *p, const tk_value *v, int64_t *rows, int64_t *cols) {
    *rows = *cols = 1;
    for (int i = 0; v->dim[i]; i++) *(i < v->split ? rows : cols) *= tk__local(p, v, i);
}
