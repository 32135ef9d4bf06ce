/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces windows of records by one fused record, after the table fusions.def. A window is found from its
 * last record backwards: through who made what, and where nothing of a part is read by later ones (three
 * products of one x), through what they read together. Its records need not stand side by side. The fused
 * record stands where the last one stood that lies before all others who read what the window makes. */
#include <ctype.h>
#include <stdlib.h>

#include "core/core.h"

#define MAX_PARTS 4

typedef struct part {
    int op, nin, nout;
    char in[TK_MAX_OPERANDS][4], out[TK_MAX_OPERANDS][4];
} part;
typedef struct window {
    int op, nparts;
    part part[MAX_PARTS];
} window;

typedef struct fuse {
    tk_program *p;
    unsigned cpu;
    int *maker,
        *readers; /* by value: index of the record that makes it (-1: none), how many records read it */
    bool *gone;   /* by record */
} fuse;

static const struct {
    int op;
    const char *text;
} rows[] = {
#define FUSE(name, text) { TK_OP_##name, text },
#include "core/fusions.def"
#undef FUSE
};

static const char *read_word(const char *s, char *out, size_t cap) {
    size_t n = 0;
    for (; isalnum((unsigned char)*s) || *s == '_'; s++)
        if (n + 1 < cap) out[n++] = *s;
    out[n] = 0;
    return s;
}

static void read_window(const char *s, int op, window *w) {
    *w = (window){ .op = op };
    while (*s && w->nparts < MAX_PARTS) {
        part *q = &w->part[w->nparts++];
        char name[32];
        do s = read_word(s, q->out[q->nout++], sizeof q->out[0]);
        while (*s++ == ',');
        s = read_word(s, name, sizeof name);
        for (q->op = 0; q->op < TK_OPS && strcmp(tk_op_info(q->op)->name, name) != 0; q->op++) {}
        do s = read_word(s + 1, q->in[q->nin++], sizeof q->in[0]);
        while (*s == ',');
        for (s++; *s == ' ';) s++;
    }
}

/* What the names of a window stand for in a match */
typedef struct names {
    int n;
    char name[24][4];
    tk_id id[24];
} names;

static tk_id lookup(const names *m, const char *name) {
    for (int i = 0; i < m->n; i++)
        if (!strcmp(m->name[i], name)) return m->id[i];
    return -1;
}

static bool assign(names *m, const char *name, tk_id id) {
    tk_id had = lookup(m, name);
    if (had >= 0 || m->n == 24) return had == id;
    strcpy(m->name[m->n], name), m->id[m->n++] = id;
    return true;
}

/* May record i be part q of a window that ends with `end`, as far as its kind goes? */
static bool is_part(const fuse *f, const part *q, int i, const tk_record *end) {
    const tk_record *r = &f->p->records[i];
    return !f->gone[i] && r->op == q->op && !r->adj && r->phase == end->phase && r->when == end->when &&
           r->nin == q->nin && r->nout == q->nout;
}

/* The nearest record before `before`, in the layer of `end`, that reads in q's places what names are bound
 * there; at least one must be. -1: none */
static int part_by_inputs(const fuse *f, const part *q, int before, const tk_record *end, const names *m) {
    for (int i = before - 1; i >= 0; i--) {
        const tk_record *r = &f->p->records[i];
        int bound = 0, equal = 0;
        if (r->layer != end->layer || !is_part(f, q, i, end)) continue;
        for (int k = 0; k < q->nin; k++) {
            const tk_id id = lookup(m, q->in[k]);
            bound += id >= 0, equal += id >= 0 && id == r->arg[k];
        }
        if (bound && bound == equal) return i;
    }
    return -1;
}

/* Matches the window with its last part at record `last`; fills the records of the parts and the names. */
static bool match(const fuse *f, const window *w, int last, int at[MAX_PARTS], names *m) {
    const tk_program *p = f->p;
    *m = (names){ 0 };
    for (int k = w->nparts - 1; k >= 0; k--) {
        const part *q = &w->part[k];
        at[k] = k == w->nparts - 1 ? last : -1;
        for (int o = 0; o < q->nout && at[k] < 0;
             o++) /* made by whoever made a result that a later part reads */
            if (lookup(m, q->out[o]) >= 0) at[k] = f->maker[lookup(m, q->out[o])];
        const tk_record *end = &p->records[last];
        if (at[k] < 0) at[k] = part_by_inputs(f, q, at[k + 1], end, m);
        if (at[k] < 0 || !is_part(f, q, at[k], end)) return false;
        const tk_record *r = &p->records[at[k]];
        for (int i = 0; i < q->nin; i++)
            if (!assign(m, q->in[i], r->arg[i])) return false;
        for (int o = 0; o < q->nout; o++)
            if (!assign(m, q->out[o], r->arg[r->nin + o])) return false;
    }
    return true;
}

/* How many records of the window read a value */
static int inside_readers(const tk_program *p, const int *at, int nparts, tk_id id) {
    int n = 0;
    for (int k = 0; k < nparts; k++)
        for (int i = 0; i < p->records[at[k]].nin; i++) n += p->records[at[k]].arg[i] == id;
    return n;
}

static bool gives(const window *w, const char *name) {
    const tk_sig *sig = &tk_op_info(w->op)->sig[0];
    for (int i = 0; i < sig->nout; i++)
        if (!strcmp(sig->o[sig->nin + i].name, name)) return true;
    return false;
}

/* May the window go: its inner results are its own. */
static bool closed(const fuse *f, const window *w, const int *at, const names *m) {
    for (int k = 0; k < w->nparts; k++)
        for (int o = 0; o < w->part[k].nout; o++) {
            const tk_id id = lookup(m, w->part[k].out[o]);
            if (!gives(w, w->part[k].out[o]) &&
                (f->p->values[id].output || f->readers[id] != inside_readers(f->p, at, w->nparts, id)))
                return false;
        }
    return true;
}

/* Does a record outside the window read a result of its part k before record `slot`? */
static bool read_before(const fuse *f, const window *w, const int *at, const names *m, int k, int slot) {
    for (int i = at[k] + 1; i < slot; i++) {
        bool outside = !f->gone[i];
        for (int x = 0; x < w->nparts; x++) outside &= at[x] != i;
        for (int x = 0; x < f->p->records[i].nin && outside; x++)
            for (int o = 0; o < w->part[k].nout; o++)
                if (f->p->records[i].arg[x] == lookup(m, w->part[k].out[o])) return true;
    }
    return false;
}

/* The part in whose place r, the fused record, can stand: all that it reads is made, nothing that it gives
 * was read. -1: none. What an earlier phase makes is there, wherever its record stands. */
static int slot_of(const fuse *f, const window *w, const int *at, const names *m, const tk_record *r) {
    for (int k = w->nparts - 1; k >= 0; k--) {
        bool good = true;
        for (int i = 0; i < r->nin; i++) {
            const int maker = f->maker[r->arg[i]];
            good &= maker < at[k] || f->p->records[maker].phase < r->phase;
        }
        for (int q = 0; q < w->nparts; q++) good = good && !read_before(f, w, at, m, q, at[k]);
        if (good) return at[k];
    }
    return -1;
}

/* Each attribute from the part that has it. False where two parts mean different things by one slot; parts of
 * one op must agree in all. */
static bool join_attributes(const tk_program *p, const int *at, int nparts, tk_attr *all) {
    *all = TK_NOATTR;
    for (int k = 0; k < nparts; k++) {
        const tk_record *r = &p->records[at[k]];
        if (r->op == TK_OP_quant) continue; /* its result's dtype */
        for (int j = 0; j < k; j++)
            if (p->records[at[j]].op == r->op && !tk__attr_same(&p->records[at[j]].attr, &r->attr))
                return false;
        for (int i = 0; i < 4; i++) {
            if (r->attr.f[i] != 0 && all->f[i] != 0 && r->attr.f[i] != all->f[i]) return false;
            if (r->attr.i[i] != 0 && all->i[i] != 0 && r->attr.i[i] != all->i[i]) return false;
            if (r->attr.f[i] != 0) all->f[i] = r->attr.f[i];
            if (r->attr.i[i] != 0) all->i[i] = r->attr.i[i];
        }
    }
    return true;
}

static bool try_window(fuse *f, const window *w, int last) {
    tk_program *p = f->p;
    int at[MAX_PARTS];
    names m;
    if (f->gone[last] || p->records[last].op != w->part[w->nparts - 1].op || !match(f, w, last, at, &m) ||
        !closed(f, w, at, &m))
        return false;
    const tk_sig *sig = &tk_op_info(w->op)->sig[0];
    tk_record r = p->records[last];
    r.op = (uint8_t)w->op, r.nin = (uint8_t)sig->nin, r.nout = (uint8_t)sig->nout;
    for (int i = 0; i < sig->nin + sig->nout; i++) r.arg[i] = lookup(&m, sig->o[i].name);
    const int slot = slot_of(f, w, at, &m, &r);
    if (slot < 0 || !join_attributes(p, at, w->nparts, &r.attr)) return false;
    r.kernel = (int16_t)tk__row_for(p, &r, f->cpu);
    if (r.kernel < 0) return false;
    for (int k = 0; k < w->nparts; k++) {
        for (int i = 0; i < p->records[at[k]].nin; i++) f->readers[p->records[at[k]].arg[i]]--;
        f->gone[at[k]] = at[k] != slot;
    }
    for (int i = 0; i < r.nin; i++) f->readers[r.arg[i]]++;
    for (int i = r.nin; i < r.nin + r.nout; i++) f->maker[r.arg[i]] = slot;
    p->records[slot] = r;
    p->counts.fused++;
    return true;
}

tk_status tk_fuse(tk_program *p, unsigned cpu) {
    TK_TRY(tk_prog_check(p));
    fuse f = { .p = p,
               .cpu = p->device ? p->device->features : cpu,
               .maker = malloc(sizeof(int) * (size_t)p->nvalues),
               .readers = calloc((size_t)p->nvalues, sizeof(int)),
               .gone = calloc((size_t)p->nrecords + 1, sizeof(bool)) };
    tk_status st = f.maker && f.readers && f.gone ? TK_OK : TK_FAIL(TK_E_NOMEM, "out of memory");
    if (st == TK_OK) {
        for (int i = 0; i < p->nvalues; i++) f.maker[i] = -1;
        for (int i = 0; i < p->nrecords; i++) {
            const tk_record *r = &p->records[i];
            for (int k = 0; k < r->nin; k++) f.readers[r->arg[k]]++;
            for (int k = r->nin; k < r->nin + r->nout; k++) f.maker[r->arg[k]] = i;
        }
        for (size_t k = 0; k < TK_COUNT(rows); k++) {
            window w;
            read_window(rows[k].text, rows[k].op, &w);
            for (int i = 0; i < p->nrecords; i++) try_window(&f, &w, i);
        }
        int n = 0;
        for (int i = 0; i < p->nrecords; i++)
            if (!f.gone[i]) p->records[n++] = p->records[i];
        p->nrecords = n;
    }
    free(f.maker), free(f.readers), free(f.gone);
    return st;
}
