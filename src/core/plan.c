/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, from the record list alone. A value lives from the record that makes it to the last that reads it,
 * over the order load, changed, forward, backward, update. Long-lived things get places of their own; the
 * rest share WORK: one after the other, each at the lowest offset that is free for its whole life. Largest
 * first is a good order (1.054 of the bound at worst in the tests); placing what sticks out earlier mends the
 * rest. */
#include <stdlib.h>

#include "core/core.h"

#define ALIGN 64

typedef struct life { /* of a value, or of a record's scratch */
    int first, last;  /* times */
    size_t bytes, offset;
    tk_id id; /* -1: scratch of `record` */
    int record;
} life;

static int larger_first(const void *a, const void *b) {
    const life *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first > y->first ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static int lower_first(const void *a, const void *b) {
    const life *x = *(life *const *)a, *y = *(life *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Places each life in turn at the lowest free offset; returns the height reached, by whom in *top. `met` is
 * room for n pointers. */
static size_t place(life *lives, int n, bool reuse, life **met, int *top) {
    size_t height = 0;
    for (int i = 0; i < n; i++) {
        int m = 0;
        for (int k = 0; k < i; k++)
            if (!reuse || (lives[k].first <= lives[i].last && lives[i].first <= lives[k].last))
                met[m++] = &lives[k];
        qsort(met, (size_t)m, sizeof *met, lower_first);
        size_t at = 0;
        for (int k = 0; k < m; k++) {
            if (met[k]->offset >= at + lives[i].bytes) break;
            at = TK_MAX(at, met[k]->offset + met[k]->bytes);
        }
        lives[i].offset = at;
        if (at + lives[i].bytes > height) height = at + lives[i].bytes, *top = i;
    }
    return height;
}

/* Largest first; then whoever reaches the top goes to the front of the order, while that helps. */
static size_t pack_lives(life *lives, int n, bool reuse, size_t bound, life **met) {
    enum { TRIES = 24 };
    int top = 0, best = 0, moved[TRIES];
    qsort(lives, (size_t)n, sizeof *lives, larger_first);
    size_t height = place(lives, n, reuse, met, &top), least = height;
    int tries = 0;
    for (; reuse && tries < TRIES && least > bound + bound / 100; tries++) {
        life l = lives[top];
        memmove(lives + 1, lives, (size_t)top * sizeof *lives);
        lives[0] = l, moved[tries] = top;
        height = place(lives, n, reuse, met, &top);
        if (height < least) least = height, best = tries + 1;
    }
    for (; tries > best; tries--) { /* back to the best order seen */
        life l = lives[0];
        memmove(lives, lives + 1, (size_t)moved[tries - 1] * sizeof *lives);
        lives[moved[tries - 1]] = l;
    }
    return place(lives, n, reuse, met, &top);
}

/* The most bytes alive at one time: no plan can be smaller. */
static size_t live_bound(const life *lives, int n, int times, size_t *delta) {
    memset(delta, 0, (size_t)(times + 1) * sizeof *delta);
    for (int i = 0; i < n; i++)
        delta[lives[i].first] += lives[i].bytes, delta[lives[i].last + 1] -= lives[i].bytes;
    size_t now = 0, most = 0;
    for (int t = 0; t < times; t++) now += delta[t], most = TK_MAX(most, now);
    return most;
}

static tk_status value_bytes(const tk_program *p, tk_value *v) {
    int64_t rows, cols;
    tk__value_rows(p, v, &rows, &cols);
    if (!tk_format_size((tk_dtype)v->dtype, rows, cols, &v->bytes) || v->bytes > SIZE_MAX / 4)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "a value of %lld x %lld does not fit the format %s\nits rows are not whole blocks, or "
                       "it is too large\n"
                       "use another weight type",
                       (long long)rows, (long long)cols, tk_formats[v->dtype].name);
    v->bytes = tk_align(v->bytes, ALIGN);
    return TK_OK;
}

/* Where a value lives, by what it is and the phase of the record that makes it (-1: nobody does). */
static tk_arena_id arena_of(const tk_value *v, int phase, int last_phase) {
    switch (v->kind) {
    case TK_WEIGHT:
    case TK_CONST: return TK_A_WEIGHTS;
    case TK_STATEFUL:
    case TK_ACCUMULATOR: return TK_A_STATE;
    case TK_INPUT: return TK_A_IO;
    default: break;
    }
    if (v->output) return TK_A_IO;
    if (phase == TK_P_LOAD) return TK_A_WEIGHTS;
    if (phase == TK_P_CHANGED) return TK_A_STATE;
    return phase == TK_P_FORWARD && last_phase > TK_P_FORWARD ? TK_A_SAVED : TK_A_WORK;
}

/* On a device, weights that nobody but pack reads have no place of their own: only what pack makes stays.
 * Returns the bytes of the largest piece that passes. */
static size_t mark_staged(tk_program *p) {
    size_t most = 0, row;
    int64_t rows, cols;
    for (int i = 0; i < p->nvalues; i++) p->values[i].staged = false;
    for (int i = 0; i < p->nrecords && p->device; i++)
        if (p->records[i].op == TK_OP_pack && p->records[i].phase == TK_P_LOAD)
            p->values[p->records[i].arg[0]].staged = p->values[p->records[i].arg[0]].kind == TK_WEIGHT;
    for (int i = 0; i < p->nrecords; i++)
        for (int k = 0; k < p->records[i].nin && p->records[i].op != TK_OP_pack; k++)
            p->values[p->records[i].arg[k]].staged = false;
    for (int i = 0; i < p->nvalues; i++) {
        const tk_value *v = &p->values[i];
        tk__value_rows(p, v, &rows, &cols);
        if (v->staged && tk_format_size((tk_dtype)v->dtype, 1, cols, &row))
            most = TK_MAX(most, (size_t)TK_MIN(tk__staged_rows(p, v), rows) * row);
    }
    return most;
}

int64_t tk__staged_rows(const tk_program *p, const tk_value *v) {
    enum { PIECE = 32 << 20, GROUP = 32 /* rows: all packed formats' groups divide it */ };
    int64_t rows, cols;
    size_t row;
    tk__value_rows(p, v, &rows, &cols);
    if (!tk_format_size((tk_dtype)v->dtype, 1, cols, &row) || !row) return GROUP;
    return TK_MAX((int64_t)(PIECE / row), (int64_t)GROUP) / GROUP * GROUP;
}

/* Fills `lives` with what shares WORK, gives everything else its place; returns their number or -1. */
static int collect(tk_program *p, const int *order, const int *made, const int *read, life *lives) {
    int n = 0;
    for (int i = 0; i < p->nvalues; i++) {
        tk_value *v = &p->values[i];
        if (v->store != i) continue; /* a later version */
        if (made[i] < 0 && read[i] < 0 && v->kind == TK_ACTIVATION)
            continue; /* unused; the rest is written all the same */
        int phase = made[i] < 0 ? -1 : p->records[order[made[i]]].phase;
        int last = read[i] < 0 ? phase : p->records[order[read[i]]].phase;
        if (read[i] < 0 && !v->output && v->kind == TK_ACTIVATION) {
            v->bytes = 0, v->arena = TK_ARENAS; /* nobody reads it: the kernel gets NULL */
            continue;
        }
        if (value_bytes(p, v) != TK_OK) return -1;
        v->arena = (uint8_t)(v->staged ? TK_ARENAS : arena_of(v, phase, last));
        if (v->arena == TK_A_WORK || v->arena == TK_A_SAVED) {
            lives[n++] =
                (life){ .first = made[i], .last = TK_MAX(read[i], made[i]), .bytes = v->bytes, .id = i };
            if (v->arena == TK_A_SAVED) p->arena_bytes[TK_A_SAVED] += v->bytes;
        } else if (!v->mapped && !v->staged) {
            v->offset = p->arena_bytes[v->arena];
            p->arena_bytes[v->arena] += v->bytes;
        }
    }
    for (int t = 0; t < p->nrecords; t++) {
        const tk_record *r = &p->records[order[t]];
        if (r->kernel < 0) continue;
        tk_dim dim[26];
        tk__record_dims(p, r, NULL, dim);
        size_t bytes = tk_kernels[r->kernel].scratch(dim, p->plan_threads);
        if (bytes)
            lives[n++] = (life){
                .first = t, .last = t, .bytes = tk_align(bytes, ALIGN), .id = -1, .record = order[t]
            };
    }
    return n;
}

tk_status tk_plan(tk_program *p, bool reuse, int threads) {
    TK_TRY(tk_prog_check(p));
    size_t nv = (size_t)p->nvalues, nr = (size_t)p->nrecords;
    int *order = malloc((nr + 1) * sizeof *order), *made = malloc(nv * sizeof *made),
        *read = malloc(nv * sizeof *read);
    life *lives = malloc((nv + nr) * sizeof *lives), **met = malloc((nv + nr) * sizeof *met);
    size_t *delta = malloc((nr + 2) * sizeof *delta);
    tk_status st =
        order && made && read && lives && met && delta ? TK_OK : TK_FAIL(TK_E_NOMEM, "out of memory");
    memset(p->arena_bytes, 0, sizeof p->arena_bytes);
    p->plan_threads = threads;
    if (st == TK_OK) {
        int times = 0;
        for (int phase = 0; phase < TK_PHASES; phase++)
            for (int i = 0; i < p->nrecords; i++)
                if (p->records[i].phase == phase) order[times++] = i;
        for (int i = 0; i < p->nvalues; i++) made[i] = read[i] = -1;
        for (int t = 0; t < times; t++) {
            const tk_record *r = &p->records[order[t]];
            for (int k = 0; k < r->nin + r->nout; k++) {
                tk_id store = p->values[r->arg[k]].store;
                if (k >= r->nin && made[store] < 0 && p->values[store].kind == TK_ACTIVATION &&
                    store == r->arg[k])
                    made[store] = t;
                else
                    read[store] = t; /* a new version of old storage keeps it alive like a read */
            }
        }
        const size_t stage = mark_staged(p);
        int n = collect(p, order, made, read, lives);
        if (n < 0)
            st = TK_E_UNSUPPORTED;
        else {
            p->live_bound = live_bound(lives, n, times, delta);
            p->arena_bytes[TK_A_WORK] = TK_MAX(pack_lives(lives, n, reuse, p->live_bound, met), stage);
            for (int i = 0; i < n; i++)
                if (lives[i].id >= 0)
                    p->values[lives[i].id].offset = lives[i].offset;
                else
                    p->records[lives[i].record].scratch = lives[i].offset;
        }
    }
    free(order), free(made), free(read), free(lives), free(met), free(delta);
    return st;
}
