/* SPDX-License-Identifier: Apache-2.0 */
/* bind and run. Bind writes every address and size once, into one block of arguments per thread; a step is
 * then a walk over function pointers. All threads walk together; they meet only where a step touches memory
 * that a step since the last meeting wrote (or writes what one reads), which is worked out here from
 * addresses. On a device the arenas lie there, one thread puts the steps behind each other, and the inputs
 * and outputs have a copy on the host. */
#include <stdlib.h>
#include <sys/mman.h>

#include "core/core.h"

#define MAX_VARYING 4
#define GRAPHS 32

typedef struct step {
    tk_kernel *fn; /* NULL: a collective */
    int record;
    bool sync;    /* meet before this step */
    bool alone;   /* references run on thread 0 only */
    bool staged;  /* the pack of a staged weight: done when that was given */
    int nvarying; /* letters whose size follows t or o */
    struct {
        int8_t letter;
        char by;
        int64_t planned;
    } varying[MAX_VARYING]; /* n at the planned size */
} step;

/* A device's forward steps at one pair of sizes */
typedef struct recording {
    int64_t tokens, picks;
    void *graph; /* NULL: these sizes were run once, step by step */
} recording;

struct tk_exec {
    const tk_program *p;
    tk_pool *pool;
    tk_comm *comm;
    tk_device *device; /* NULL: the CPU */
    int threads;
    bool null;
    tk_status status; /* of the device */
    char *io, *open;  /* on a device: the host's copy of arena IO, and of the value being written */
    char *front;      /* there: the batch, `front_room` bytes, and behind it arena IO, inputs first */
    char *image;      /* the host's piece for the front and the inputs: what a step sends */
    size_t front_room, input_bytes;
    char *slot[2]; /* pinned: `out` of the runs on their way */
    int started, finished;
    int64_t runs, *fetched; /* by output: the run whose result the host's copy of IO has */
    const tk_batch *batch;
    recording graphs[GRAPHS];
    int ngraphs, next_graph; /* in use; the one to replace when all are */
    char *arena[TK_ARENAS];
    size_t mapped[TK_ARENAS];
    const void **outside; /* by value: memory of somebody else, or NULL */
    step *steps;
    int first[TK_PHASES + 1], nsteps;
    tk_args *args;        /* [threads][nsteps] */
    int64_t size[128];    /* current sizes of t and o */
    int64_t stamp, *seen; /* sizes changed at `stamp`; per thread: the stamp its arguments are at */
    bool bound;
};

/* ---- sizes ------------------------------------------------------------------------------------------- */

static int64_t first_index(const tk_program *p, const tk_value *v, int dim, const int *at) {
    int64_t first = 0, n = p->size[(unsigned char)v->dim[dim] & 127];
    for (int a = 0; at && a < p->mesh.axes; a++)
        if (v->cut[a] == dim) n /= p->mesh.axis[a].size, first += n * at[a];
    return first;
}

void tk__record_dims(const tk_program *p, const tk_record *r, const int *at, tk_dim dim[26]) {
    memset(dim, 0, 26 * sizeof *dim);
    tk_binding b;
    if ((tk_op_info(r->op)->flags & TK_COMM) || r->op == TK_OP_slice ||
        tk__bind_letters(p, r, true, &b) != TK_OK)
        return;
    const tk_sig *sig = tk__sig(r);
    for (int i = 0; i < r->nin + r->nout; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        int d = 0;
        for (int l = 0; sig->o[i].letters[l]; l++) {
            int letter = sig->o[i].letters[l] - 'a', run = (int)strlen(b.run[letter]);
            tk_dim *out = &dim[letter];
            out->n = 1, out->first = 0;
            for (int k = 0; k < run; k++) out->n *= tk__local(p, v, d + k);
            out->N = out->n;
            if (run == 1)
                out->first = first_index(p, v, d, at), out->N = p->N[(unsigned char)v->dim[d] & 127];
            d += run;
        }
    }
}

/* Records how the letters of a step follow t and o. */
static void find_varying(const tk_exec *e, const tk_record *r, const tk_dim *dim, step *s) {
    tk_binding b;
    if ((tk_op_info(r->op)->flags & TK_COMM) || r->op == TK_OP_slice ||
        tk__bind_letters(e->p, r, true, &b) != TK_OK)
        return;
    for (int l = 0; l < 26 && s->nvarying < MAX_VARYING; l++)
        for (const char *by = "to"; *by; by++)
            if (strchr(b.run[l], *by)) {
                s->varying[s->nvarying].letter = (int8_t)l;
                s->varying[s->nvarying].by = *by;
                s->varying[s->nvarying++].planned = dim[l].n;
            }
}

/* What varying letter k of a step counts at the sizes set now. */
static int64_t varied(const tk_exec *e, const step *s, int k) {
    const int by = (unsigned char)s->varying[k].by;
    return s->varying[k].planned * e->size[by] / e->p->size[by];
}

/* ---- bind -------------------------------------------------------------------------------------------- */

static void *address(const tk_exec *e, tk_id id) {
    const tk_value *v = &e->p->values[e->p->values[id].store];
    if (e->outside[e->p->values[id].store]) return (void *)e->outside[e->p->values[id].store];
    if (v->arena == TK_ARENAS || v->mapped || e->null) return NULL;
    tk_arena_id arena = v->arena == TK_A_SAVED ? TK_A_WORK : (tk_arena_id)v->arena;
    return e->arena[arena] ? e->arena[arena] + v->offset : NULL;
}

/* Arena IO of a device with `room` bytes for the batch before it, in place of the one that was there. What it
 * held is kept. */
static tk_status take_front(tk_exec *e, size_t room) {
    const tk_program *p = e->p;
    char *old = e->front, *old_io = e->arena[TK_A_IO];
    free(e->image);
    e->bound = false;
    for (int i = 0; i < p->nvalues; i++) {
        const tk_value *v = &p->values[i];
        if (v->kind == TK_INPUT && v->store == i && v->bytes)
            e->input_bytes = TK_MAX(e->input_bytes, v->offset + v->bytes);
    }
    void *fresh;
    if (!(e->image = calloc(1, room + e->input_bytes))) return TK_FAIL(TK_E_NOMEM, "out of memory");
    TK_TRY(e->device->take(e->device, room + p->arena_bytes[TK_A_IO], &fresh));
    e->front = fresh, e->arena[TK_A_IO] = e->front + room, e->front_room = room;
    if (!old) return TK_OK;
    tk_status s = e->device->move(e->device, e->arena[TK_A_IO], old_io, p->arena_bytes[TK_A_IO]);
    e->device->give(e->device, old);
    return s;
}

/* Arenas of a device, and the host's copy of IO. */
static tk_status take_arenas(tk_exec *e) {
    const size_t *n = e->p->arena_bytes;
    size_t room, all = n[TK_A_WEIGHTS] + n[TK_A_STATE] + n[TK_A_IO] + n[TK_A_WORK];
    if (e->null) return TK_OK;
    TK_TRY(e->device->room(e->device, &room));
    if (all > room)
        return TK_FAIL(
            TK_E_NOMEM,
            "%s has not enough memory\nthe plan takes %zu MB (weights %zu, state %zu, io %zu, work "
            "%zu), %zu MB are free\nlower --ctx, or use a smaller model",
            e->device->name, all >> 20, n[TK_A_WEIGHTS] >> 20, n[TK_A_STATE] >> 20, n[TK_A_IO] >> 20,
            n[TK_A_WORK] >> 20, room >> 20);
    for (int a = 0; a < TK_ARENAS; a++)
        if (n[a] && a != TK_A_SAVED && a != TK_A_IO)
            TK_TRY(e->device->take(e->device, n[a], (void **)&e->arena[a]));
    TK_TRY(take_front(e, 4096));
    return n[TK_A_IO] ? e->device->take_host(e->device, n[TK_A_IO], (void **)&e->io) : TK_OK;
}

static tk_status map_arenas(tk_exec *e) {
    if (e->device) return take_arenas(e);
    for (int a = 0; a < TK_ARENAS; a++) {
        size_t n = e->p->arena_bytes[a];
        if (!n || a == TK_A_SAVED || e->null) continue;
        n = tk_align(n + 4096,
                     (size_t)2 << 20); /* vector kernels may read, never write, a little past an end */
        void *m = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED)
            return TK_FAIL(
                TK_E_NOMEM,
                "not enough memory\n%zu MB were asked for at once\nlower --ctx or use a smaller model",
                n >> 20);
        if (a == TK_A_WEIGHTS || a == TK_A_WORK) madvise(m, n, MADV_HUGEPAGE);
        e->arena[a] = m, e->mapped[a] = n;
    }
    return TK_OK;
}

typedef struct touch {
    const char *from, *to;
    bool write;
} touch;

/* Must the threads meet before a step with these touches, given those since the last meeting? */
static bool conflict(const touch *past, int npast, const touch *now, int nnow) {
    for (int i = 0; i < nnow; i++)
        for (int k = 0; k < npast; k++)
            if ((past[k].write || now[i].write) && past[k].from < now[i].to && now[i].from < past[k].to)
                return true;
    return false;
}

static int touches(const tk_exec *e, const tk_record *r, touch *out) {
    int n = 0;
    for (int i = 0; i < r->nin + r->nout; i++) {
        const char *p = address(e, r->arg[i]);
        if (p) out[n++] = (touch){ p, p + e->p->values[e->p->values[r->arg[i]].store].bytes, i >= r->nin };
    }
    if (r->kernel >= 0 && e->arena[TK_A_WORK]) {
        tk_dim dim[26];
        tk__record_dims(e->p, r, NULL, dim);
        size_t bytes = tk_kernels[r->kernel].scratch(dim, e->threads);
        const char *p = e->arena[TK_A_WORK] + r->scratch;
        if (bytes) out[n++] = (touch){ p, p + bytes, true };
    }
    return n;
}

static tk_status bind_step(tk_exec *e, int at, int record) {
    const tk_program *p = e->p;
    const tk_record *r = &p->records[record];
    bool comm = (tk_op_info(r->op)->flags & TK_COMM) || r->op == TK_OP_slice || r->op == TK_OP_once;
    step *s = &e->steps[at];
    *s = (step){ .record = record, .alone = r->kernel < 0 };
    s->staged = r->op == TK_OP_pack && p->values[r->arg[0]].staged;
    if (e->device && r->kernel < 0)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s has no kernel for %s of %s\nno row of the kernel table serves it there\nuse "
                       "--device cpu",
                       e->device->name, tk_op_info(r->op)->name,
                       tk_formats[p->values[r->arg[r->nin > 1 ? 1 : 0]].dtype].name);
    if (!comm) {
        s->fn = r->kernel >= 0 ? tk_row_kernel(&tk_kernels[r->kernel], r->adj)
                               : tk_ref_kernel(r->op, r->adj, p->real);
        if (!s->fn)
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "no kernel for %s\nneither a row of the kernel table nor a reference serves it",
                           tk_op_info(r->op)->name);
    }
    tk_args a = { .attr = r->attr, .stream = e->device ? e->device->stream : NULL };
    tk__record_dims(p, r, e->comm ? e->comm->rank : NULL, a.dim);
    find_varying(e, r, a.dim, s);
    for (int i = 0; i < r->nin + r->nout; i++) {
        a.p[i] = address(e, r->arg[i]);
        a.type[i] = p->values[r->arg[i]].dtype;
    }
    a.scratch = e->arena[TK_A_WORK] ? e->arena[TK_A_WORK] + r->scratch : NULL;
    for (int t = 0; t < e->threads; t++) {
        a.pool = s->alone ? NULL : e->pool, a.ith = t, a.nth = s->alone ? 1 : e->threads;
        a.batch = e->device ? (const tk_batch *)(const void *)e->front : e->batch;
        e->args[(size_t)t * (size_t)e->nsteps + (size_t)at] = a;
    }
    return TK_OK;
}

/* Writes all addresses; again after tk_exec_point moved some. */
static tk_status bind_all(tk_exec *e) {
    enum { CAP = 256 };
    touch past[CAP + TK_MAX_OPERANDS + 1];
    int npast = 0;
    for (int i = 0; i < e->nsteps; i++) {
        touch now[TK_MAX_OPERANDS + 1];
        TK_TRY(bind_step(e, i, e->steps[i].record));
        const tk_record *r = &e->p->records[e->steps[i].record];
        int n = touches(e, r, now);
        bool comm = !e->steps[i].fn;
        e->steps[i].sync = comm || npast + n > CAP || conflict(past, npast, now, n);
        if (e->steps[i].sync) npast = 0;
        memcpy(past + npast, now, (size_t)n * sizeof *now);
        npast += n;
        if (comm)
            past[npast++] = (touch){ NULL, (const char *)UINTPTR_MAX, true }; /* everybody waits for it */
    }
    e->bound = true;
    e->stamp++;
    return TK_OK;
}

tk_status tk_exec_new(tk_exec **out, const tk_program *p, tk_pool *pool, tk_comm *comm, bool null) {
    *out = NULL;
    tk_exec *e = calloc(1, sizeof *e);
    if (!e) return TK_FAIL(TK_E_NOMEM, "out of memory");
    *e = (tk_exec){ .p = p,
                    .pool = pool,
                    .comm = comm,
                    .device = p->device,
                    .threads = p->device ? 1 : tk_pool_threads(pool),
                    .null = null,
                    .nsteps = p->nrecords };
    e->steps = calloc((size_t)p->nrecords + 1, sizeof *e->steps);
    e->args = calloc((size_t)e->threads * ((size_t)p->nrecords + 1), sizeof *e->args);
    e->outside = calloc((size_t)p->nvalues, sizeof *e->outside);
    e->seen = calloc((size_t)e->threads, sizeof *e->seen);
    e->fetched = calloc((size_t)p->nvalues, sizeof *e->fetched);
    tk_status st = e->steps && e->args && e->outside && e->seen && e->fetched
                       ? map_arenas(e)
                       : TK_FAIL(TK_E_NOMEM, "out of memory");
    int n = 0;
    for (int phase = 0; phase < TK_PHASES && st == TK_OK; phase++) {
        e->first[phase] = n;
        for (int i = 0; i < p->nrecords; i++)
            if (p->records[i].phase == phase) e->steps[n++].record = i;
    }
    e->first[TK_PHASES] = n;
    for (const char *l = "to"; *l; l++) e->size[(int)*l] = p->size[(int)*l];
    if (st == TK_OK) st = bind_all(e);
    if (st != TK_OK) {
        tk_exec_free(e);
        return st;
    }
    *out = e;
    return TK_OK;
}

static void forget_graphs(tk_exec *e) {
    for (int i = 0; i < e->ngraphs; i++)
        if (e->graphs[i].graph) e->device->forget(e->device, e->graphs[i].graph);
    e->ngraphs = e->next_graph = 0;
}

void tk_exec_free(tk_exec *e) {
    if (!e) return;
    forget_graphs(e);
    for (int a = 0; a < TK_ARENAS; a++)
        if (e->arena[a] && e->device && a != TK_A_IO)
            e->device->give(e->device, e->arena[a]);
        else if (e->arena[a] && !e->device)
            munmap(e->arena[a], e->mapped[a]);
    if (e->io) e->device->give_host(e->device, e->io);
    if (e->front) e->device->give(e->device, e->front);
    for (int i = 0; i < 2; i++)
        if (e->slot[i]) e->device->give_host(e->device, e->slot[i]);
    free(e->open), free(e->image);
    free(e->steps), free(e->args), free(e->outside), free(e->seen), free(e->fetched), free(e);
}

static void note_failure(tk_exec *e, tk_status s) {
    if (e->status == TK_OK) e->status = s;
}

/* Packs a staged weight on the device: a few rows at a time are put into WORK, which no step uses yet, and
 * packed from there to their place. */
static tk_status pack_there(tk_exec *e, tk_id id, const char *data) {
    const tk_value *v = &e->p->values[id];
    const int64_t most = tk__staged_rows(e->p, v);
    int64_t rows, cols;
    size_t row, before;
    tk__value_rows(e->p, v, &rows, &cols);
    for (int i = e->first[TK_P_LOAD]; i < e->first[TK_P_LOAD + 1]; i++) {
        const tk_record *r = &e->p->records[e->steps[i].record];
        const tk_dtype to = (tk_dtype)e->p->values[r->arg[1]].dtype;
        tk_args a = e->args[i];
        char *there = a.p[1];
        if (!e->steps[i].staged || r->arg[0] != id || e->null) continue;
        for (int64_t at = 0, n; at < rows; at += n) {
            n = TK_MIN(most, rows - at);
            if (!tk_format_size((tk_dtype)v->dtype, 1, cols, &row) || !tk_format_size(to, at, cols, &before))
                return TK_FAIL(TK_E_INTERNAL, "the program is wrong: a weight that has no size");
            TK_TRY(e->device->put(e->device, e->arena[TK_A_WORK], data + (size_t)at * row, (size_t)n * row));
            a.p[0] = e->arena[TK_A_WORK], a.p[1] = there + before;
            a.dim['n' - 'a'] = (tk_dim){ n, 0, n };
            e->steps[i].fn(&a);
        }
    }
    return TK_OK;
}

/* Bytes of a weight or constant to the device: to its place, or through its pack. */
static tk_status deliver(tk_exec *e, tk_id id, const void *data) {
    const tk_value *v = &e->p->values[id];
    int64_t rows, cols;
    size_t bytes; /* without the plan's rounding up: nobody may read behind a mapped file */
    if (v->staged) return pack_there(e, id, data);
    tk__value_rows(e->p, v, &rows, &cols);
    if (!tk_format_size((tk_dtype)v->dtype, rows, cols, &bytes)) return TK_OK;
    return e->device->put(e->device, address(e, id), data, bytes);
}

void tk_exec_point(tk_exec *e, tk_id id, const void *data) {
    if (e->device)
        note_failure(e, deliver(e, id, data));
    else
        e->outside[e->p->values[id].store] = data, e->bound = false;
}

/* Where the host has a value of a device, or NULL */
static char *host_copy(const tk_exec *e, tk_id id) {
    const tk_value *v = &e->p->values[e->p->values[id].store];
    return e->io && v->arena == TK_A_IO ? e->io + v->offset : NULL;
}

/* Bytes of an output or input at the sizes set now */
static size_t output_bytes(const tk_exec *e, tk_id id) {
    const tk_program *p = e->p;
    const tk_value *v = &p->values[p->values[id].store];
    size_t n = v->bytes;
    for (const char *l = "to"; *l; l++)
        if (v->dim[0] == *l) n = n / (size_t)p->size[(int)*l] * (size_t)e->size[(int)*l];
    return n;
}

/* An output of the last run comes back when it is asked for. */
static tk_status fetch(tk_exec *e, tk_id id) {
    const tk_program *p = e->p;
    const tk_value *v = &p->values[p->values[id].store];
    const size_t n = output_bytes(e, id);
    e->fetched[p->values[id].store] = e->runs;
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): only a device's programs have host copies */
    return n ? e->device->get(e->device, e->io + v->offset, e->arena[TK_A_IO] + v->offset, n) : TK_OK;
}

void *tk_exec_data(tk_exec *e, tk_id id) {
    char *host = id < 0 ? NULL : host_copy(e, id);
    if (host && e->p->values[e->p->values[id].store].output && e->fetched[e->p->values[id].store] != e->runs)
        note_failure(e, fetch(e, id));
    return host || id < 0 ? host : address(e, id);
}

void *tk_exec_open(tk_exec *e, tk_id id) {
    if (!e->device || host_copy(e, id)) return tk_exec_data(e, id);
    return e->open = calloc(1, e->p->values[id].bytes);
}

tk_status tk_exec_close(tk_exec *e, tk_id id) {
    if (!e->open) return TK_OK;
    tk_status s = deliver(e, id, e->open);
    free(e->open);
    e->open = NULL;
    return s;
}

tk_status tk_exec_write(tk_exec *e, tk_id id, size_t at, const void *from, size_t bytes) {
    char *to = (char *)address(e, id) + at;
    if (e->device) return e->device->put(e->device, to, from, bytes);
    memcpy(to, from, bytes);
    return TK_OK;
}

void tk_exec_drop(tk_exec *e, tk_id id) {
    if (e->device) return;
    const uintptr_t page = 4096;
    uintptr_t a = (uintptr_t)address(e, id), b = a + e->p->values[e->p->values[id].store].bytes;
    a = (a + page - 1) & ~(page - 1), b &= ~(page - 1);
    if (a < b) madvise((void *)a, b - a, MADV_DONTNEED);
}

void tk_exec_size(tk_exec *e, char letter, int64_t n) {
    if (e->size[(int)letter] == n) return;
    e->size[(int)letter] = n;
    e->stamp++;
}

void tk_exec_batch(tk_exec *e, const tk_batch *b) {
    e->batch = b;
    if (e->device) return; /* copied when a run begins */
    for (size_t i = 0; i < (size_t)e->threads * (size_t)e->nsteps; i++) e->args[i].batch = b;
}

/* ---- run --------------------------------------------------------------------------------------------- */

static void follow_sizes(tk_exec *e, int thread) {
    if (e->seen[thread] == e->stamp) return;
    e->seen[thread] = e->stamp;
    for (int i = 0; i < e->nsteps; i++) {
        tk_args *a = &e->args[(size_t)thread * (size_t)e->nsteps + (size_t)i];
        for (int v = 0; v < e->steps[i].nvarying; v++)
            a->dim[e->steps[i].varying[v].letter].n = varied(e, &e->steps[i], v);
    }
}

static size_t element(int dtype) { return (size_t)tk_formats[dtype].bytes; }

/* A collective, a slice or `once`, seen as [outer][n][tail] around the dim that is cut. */
static void run_comm(tk_exec *e, const tk_record *r, const tk_args *a) {
    const tk_program *p = e->p;
    const tk_value *in = &p->values[r->arg[0]];
    unsigned mask = (unsigned)r->attr.i[0];
    int dim = r->attr.i[1];
    int64_t shape[3] = { 1, 1, 1 };
    for (int d = 0; in->dim[d]; d++) shape[d < dim ? 0 : d == dim ? 1 : 2] *= tk__local(p, in, d);
    size_t bytes = (size_t)(shape[0] * shape[1] * shape[2]) * element(in->dtype);
    int part = 0, parts = 1;
    for (int x = 0; x < p->mesh.axes; x++)
        if (mask >> x & 1)
            part = part * p->mesh.axis[x].size + (e->comm ? e->comm->rank[x] : 0),
            parts *= p->mesh.axis[x].size;
    if (r->op == TK_OP_once) {
        if (part == 0)
            memcpy(a->p[1], a->p[0], bytes);
        else
            memset(a->p[1], 0, bytes);
    } else if (r->op == TK_OP_slice) {
        size_t row = (size_t)(shape[1] * shape[2]) * element(in->dtype), cut = row / (size_t)parts;
        for (int64_t o = 0; o < shape[0]; o++)
            memcpy((char *)a->p[1] + (size_t)o * cut,
                   (const char *)a->p[0] + (size_t)o * row + (size_t)part * cut, cut);
    } else if (e->comm) {
        e->comm->run(e->comm, (tk_op)r->op, mask, (tk_merge)r->attr.i[2], a->p[0], a->p[1], shape,
                     (tk_dtype)in->dtype);
    } else {
        memcpy(a->p[1], a->p[0], bytes);
    }
}

typedef struct job {
    tk_exec *e;
    int from, to;
} job;

static void run_steps(void *arg, int ith, int nth) {
    job *j = arg;
    tk_exec *e = j->e;
    (void)nth;
    follow_sizes(e, ith);
    tk_args *args = e->args + (size_t)ith * (size_t)e->nsteps;
    for (int i = j->from; i < j->to; i++) {
        const step *s = &e->steps[i];
        if (s->staged) continue;
        if (s->sync) tk_pool_sync(e->pool, ith);
        if (!s->fn) {
            if (ith == 0) run_comm(e, &e->p->records[s->record], &args[i]);
        } else if (!s->alone || ith == 0) {
            s->fn(&args[i]);
        }
    }
}

static void run_range(tk_exec *e, int from, int to) {
    if (e->null || from >= to) return;
    if (!e->bound) bind_all(e);
    job j = { e, from, to };
    tk_pool_run(e->pool, run_steps, &j);
}

/* A device's forward steps: sizes met for the second time are recorded, and from then on replayed as one.
 * Nothing but the batch and the inputs changes between steps of the same sizes, and these have fixed
 * addresses. */
static tk_status run_there(tk_exec *e, int from, int to) {
    tk_device *d = e->device;
    recording *g = NULL;
    for (int i = 0; i < e->ngraphs && !g; i++)
        if (e->graphs[i].tokens == e->size['t'] && e->graphs[i].picks == e->size['o']) g = &e->graphs[i];
    if (!g) {
        g = &e->graphs[e->ngraphs < GRAPHS ? e->ngraphs++ : (e->next_graph = (e->next_graph + 1) % GRAPHS)];
        if (g->graph) d->forget(d, g->graph);
        *g = (recording){ e->size['t'], e->size['o'], NULL };
        run_range(e, from, to);
        return TK_OK;
    }
    if (!g->graph) {
        TK_TRY(d->record(d));
        run_range(e, from, to);
        TK_TRY(d->recorded(d, &g->graph));
    }
    return d->replay(d, g->graph);
}

/* Before the steps of a run: the batch and all inputs go to the device as one piece. */
static tk_status send_inputs(tk_exec *e) {
    const size_t n = e->batch ? tk_batch_bytes(e->batch) : 0;
    if (n > e->front_room) {
        forget_graphs(e); /* they hold the old addresses */
        TK_TRY(take_front(e, tk_align(2 * n, 4096)));
    }
    if (!e->bound) TK_TRY(bind_all(e));
    if (e->batch) {
        tk_batch_image(e->batch, e->image, e->front);
        ((tk_batch *)(void *)e->image)->zeros = e->device->zeros;
    }
    memcpy(e->image + e->front_room, e->io, e->input_bytes);
    return e->device->put(e->device, e->front, e->image, e->front_room + e->input_bytes);
}

static bool begin_run(tk_exec *e, int phase) {
    if (e->device && !e->null && phase >= TK_P_FORWARD && e->status == TK_OK) note_failure(e, send_inputs(e));
    return e->status == TK_OK;
}

/* What the host writes next may not change what the device still reads, and failures are to be known. */
static void end_run(tk_exec *e) {
    e->runs++;
    if (e->device && !e->null && e->status == TK_OK) note_failure(e, e->device->wait(e->device));
}

void tk_exec_run(tk_exec *e, int phase) {
    if (!begin_run(e, phase)) return;
    if (e->device && !e->null && phase == TK_P_FORWARD)
        note_failure(e, run_there(e, e->first[phase], e->first[phase + 1]));
    else
        run_range(e, e->first[phase], e->first[phase + 1]);
    end_run(e);
}

void tk_exec_start(tk_exec *e, tk_id out, tk_id carry) {
    const int slot = e->started % 2, first = e->first[TK_P_FORWARD];
    char *from; /* begin_run may move it */
    if (!begin_run(e, TK_P_FORWARD)) return;
    for (int i = 0; i < 2; i++)
        if (!e->slot[i])
            note_failure(e, e->device->take_host(e->device, e->p->values[out].bytes, (void **)&e->slot[i]));
    from = address(e, out);
    if (carry >= 0)
        note_failure(e, e->device->move(e->device, address(e, carry), from, output_bytes(e, out)));
    if (e->status == TK_OK) note_failure(e, run_there(e, first, e->first[TK_P_FORWARD + 1]));
    if (e->status == TK_OK)
        note_failure(e, e->device->fetch(e->device, e->slot[slot], from, output_bytes(e, out), slot));
    e->runs++, e->started++;
}

const void *tk_exec_finish(tk_exec *e) {
    const int slot = e->finished % 2;
    if (e->finished == e->started || e->status != TK_OK) return NULL;
    e->finished++;
    note_failure(e, e->device->await(e->device, slot));
    return e->status == TK_OK ? e->slot[slot] : NULL;
}

tk_status tk_exec_check(const tk_exec *e) { return e->status; }

void tk_exec_run_hook(tk_exec *e, int phase, tk_exec_hook *hook, void *arg) {
    if (!begin_run(e, phase)) return;
    for (int i = e->first[phase]; i < e->first[phase + 1]; i++) {
        double t = tk_now();
        run_range(e, i, i + 1);
        if (e->device && !e->null) note_failure(e, e->device->wait(e->device));
        hook(arg, &e->p->records[e->steps[i].record], tk_now() - t);
    }
    end_run(e);
}

tk_status tk_exec_time(tk_exec *e, const int *records, int n, double *seconds) {
    tk_device *d = e->device;
    void *graph;
    if (!d || e->null)
        return TK_FAIL(TK_E_USAGE,
                       "kernels are timed by themselves on a GPU only\nhere they run on the CPU\ngive "
                       "--device cuda, or see `tokamak bench ops`");
    follow_sizes(e, 0);
    TK_TRY(d->record(d));
    for (int k = 0; k < n; k++)
        for (int i = e->first[TK_P_FORWARD]; i < e->first[TK_P_FORWARD + 1]; i++)
            if (e->steps[i].record == records[k]) e->steps[i].fn(&e->args[i]);
    TK_TRY(d->recorded(d, &graph));
    tk_status s = TK_OK;
    int times = 1;
    do {
        times *= 4;
        const double start = tk_now();
        for (int i = 0; i < times && s == TK_OK; i++) s = d->replay(d, graph);
        if (s == TK_OK) s = d->wait(d);
        *seconds = tk_now() - start;
    } while (s == TK_OK && *seconds < 0.03 && times < 1 << 16);
    *seconds /= (double)times * n;
    d->forget(d, graph);
    return s;
}

/* ---- cost -------------------------------------------------------------------------------------------- */

static bool attends(int op) { return op == TK_OP_attn_paged || op == TK_OP_attn_paged_quant; }

void tk_exec_cost(const tk_exec *e, const tk_record *r, double *flops, double *bytes) {
    const tk_program *p = e->p;
    tk_dim dim[26];
    step s = { 0 };
    tk__record_dims(p, r, NULL, dim);
    find_varying(e, r, dim, &s);
    for (int v = 0; v < s.nvarying; v++) dim[s.varying[v].letter].n = varied(e, &s, v);
    *flops = tk_op_info(r->op)->flops, *bytes = 0;
    for (int l = 0; l < 26; l++)
        if (dim[l].n && !(attends(r->op) && strchr("pstgrd", 'a' + l))) *flops *= (double)dim[l].n;
    if (r->op == TK_OP_linear3) { /* a, b and c rows beside each other */
        const double a = (double)dim['a' - 'a'].n, b = (double)dim['b' - 'a'].n, c = (double)dim['c' - 'a'].n;
        *flops *= (a + b + c) / TK_MAX(a * b * c, 1);
    }
    double scale[128];
    for (int c = 0; c < 128; c++)
        scale[c] = p->size[c] ? (c == 't' || c == 'o' ? (double)e->size[c] / (double)p->size[c] : 1) : 1;
    for (int i = 0; i < r->nin + r->nout; i++) {
        const tk_value *v = &p->values[p->values[r->arg[i]].store];
        double b = (double)v->bytes;
        for (const char *c = v->dim; *c; c++) b *= scale[(unsigned char)*c & 127];
        if (r->op == TK_OP_embed && i == 1) b *= (double)e->size['t'] / (double)TK_MAX(dim['v' - 'a'].n, 1);
        *bytes += v->kind == TK_STATEFUL ? 0 : b; /* caches: the step's rows only */
    }
    if (!attends(r->op) || !e->batch) return;
    const tk_batch *batch = e->batch; /* keys visited by each token; keys read once per sequence */
    const double window = r->attr.i[0] > 0 ? r->attr.i[0] : INFINITY;
    double visits = 0, keys = 0, d = (double)dim['d' - 'a'].n, g = (double)dim['g' - 'a'].n,
           rr = (double)dim['r' - 'a'].n;
    for (int q = 0; q < batch->seqs; q++) {
        double n = batch->start[q + 1] - batch->start[q], past = batch->past[q];
        const double full =
            TK_MAX(0, TK_MIN(n, past + n - window)); /* tokens with more keys than the window */
        visits += (n - full) * past + (n - full) * (n - full + 1) / 2 + (full > 0 ? full * window : 0);
        keys += TK_MIN(past + n, window + n - 1);
    }
    const tk_value *k = &p->values[r->arg[2]];
    *flops = 4 * g * rr * d * visits;
    *bytes += 2 * keys * g * d * element(k->dtype) / tk_formats[k->dtype].block;
}
