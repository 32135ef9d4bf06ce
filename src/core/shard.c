/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the program for a mesh. Weights and inputs start with the cut that the mesh's letters give them; one
 * rule carries it through every record: a cut letter that is free stays cut, a summed one leaves the output
 * PARTIAL, a whole one is gathered first. PARTIAL is resolved before its first reader, once for all readers;
 * it passes only through gradient sums and through the adjoints of linear-like ops. Megatron's conjugate
 * all-reduces, sequence parallelism, data parallelism and ZeRO are what comes out. */
#include <stdlib.h>

#include "core/core.h"

typedef struct conversion { /* a value brought to another cut, for the readers of one direction */
    int8_t cut[TK_AXES];
    int when;
    tk_id id;
    struct conversion *next;
} conversion;

typedef struct shard {
    tk_program *p;
    tk_id *now;        /* value -> what stands for it since its PARTIAL was resolved */
    conversion **made; /* by value */
    int cap;
    int layer, when;
} shard;

static tk_id current(const shard *s, tk_id id) {
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): ensure has made room for every value */
    while (id < s->cap && s->now[id] >= 0) id = s->now[id];
    return id;
}

static bool ensure(shard *s) {
    if (s->p->nvalues <= s->cap) return true;
    int cap = s->p->nvalues * 2;
    tk_id *now = realloc(s->now, sizeof *now * (size_t)cap);
    if (now) s->now = now;
    conversion **made = realloc(s->made, sizeof *made * (size_t)cap);
    if (made) s->made = made;
    if (!now || !made) {
        tk__prog_fail(s->p, TK_FAIL(TK_E_NOMEM, "out of memory"));
        return false;
    }
    for (int i = s->cap; i < cap; i++) now[i] = -1, made[i] = NULL;
    s->cap = cap;
    return true;
}

/* Every cut must be even; the message names the letter and what would work. */
static tk_status check_even(const tk_program *p, const tk_value *v) {
    for (int d = 0; v->dim[d]; d++) {
        int64_t parts = 1, n = p->size[(unsigned char)v->dim[d] & 127];
        for (int a = 0; a < p->mesh.axes; a++)
            if (v->cut[a] == d) parts *= p->mesh.axis[a].size;
        if (n % parts)
            return TK_FAIL(
                TK_E_USAGE,
                "cannot cut dimension %c of %lld into %lld equal parts\n%lld is not a multiple of %lld\n"
                "use a number of ranks that divides %lld",
                v->dim[d], (long long)n, (long long)parts, (long long)n, (long long)parts, (long long)n);
    }
    return TK_OK;
}

/* Axes inside (after) those of `mask` that cut the same dim: a dim is cut by its axes in order, the first one
 * outermost, so a move along it must take the inner ones with it. */
static unsigned inner_axes(const tk_program *p, const tk_value *v, unsigned mask, int dim) {
    unsigned inner = 0;
    for (int a = 0; a < p->mesh.axes; a++)
        if (v->cut[a] == dim && !(mask >> a & 1) && (mask & ((1u << a) - 1))) inner |= 1u << a;
    return inner;
}

/* One collective or slice on `mask`, giving a new value with the cut changed to `to` on those axes. */
static tk_id emit_move(shard *s, tk_id id, tk_op op, unsigned mask, int dim, int to, int merge) {
    tk_program *p = s->p;
    tk_value v = p->values[id];
    if (op != TK_OP_allreduce && inner_axes(p, &v, mask, dim))
        tk__prog_fail(p, TK_FAIL(TK_E_INTERNAL,
                                 "the program is wrong: dimension %c would be cut out of order", v.dim[dim]));
    for (int a = 0; a < TK_AXES; a++)
        if (mask >> a & 1) v.cut[a] = (int8_t)to;
    v.store = v.name = v.like = -1, v.kind = TK_ACTIVATION, v.output = false;
    tk_status st = check_even(p, &v);
    if (st != TK_OK) tk__prog_fail(p, st);
    tk_record r = { .op = (uint8_t)op,
                    .when = (uint8_t)s->when,
                    .layer = (int16_t)s->layer,
                    .nin = 1,
                    .nout = 1,
                    .kernel = -1,
                    .clone_of = -1,
                    .attr = { { 0 }, { (int32_t)mask, dim, merge, 0 } } };
    r.arg[0] = id, r.arg[1] = tk__value(p, v);
    tk__record(p, r);
    if (op == TK_OP_allreduce) p->counts.allreduce[s->when]++;
    if (op == TK_OP_allgather) p->counts.allgather[s->when]++;
    if (op == TK_OP_reducescatter) p->counts.reducescatter[s->when]++;
    return ensure(s) ? r.arg[1] : -1;
}

/* The axes on which `from` lies as `have` and is wanted as `want` (a dim position, TK_WHOLE, or ANY). */
enum { ANY_CUT = 100, NOT_SAME = 101 };
static unsigned axes_where(const tk_program *p, const int8_t *from, int have, const int8_t *to, int want) {
    unsigned mask = 0;
    for (int a = 0; a < p->mesh.axes; a++) {
        bool w = want == ANY_CUT ? TK_IS_CUT(to[a]) : want == NOT_SAME ? to[a] != from[a] : to[a] == want;
        if (from[a] == have && w) mask |= 1u << a;
    }
    return mask;
}

/* Brings a value to the cut `to`: first PARTIAL is resolved (for good), then gathers, then slices. */
static tk_id convert(shard *s, tk_id id, const int8_t *to) {
    tk_program *p = s->p;
    id = current(s, id);
    for (int merge = TK_SUM; merge <= TK_LSE && p->status == TK_OK; merge++) {
        tk_id partial = id;
        for (int d = 0; d < TK_MAX_DIMS && p->status == TK_OK; d++) {
            unsigned mask = axes_where(p, p->values[id].cut, TK_PARTIAL + merge, to, d);
            unsigned outer =
                mask ? axes_where(p, p->values[id].cut, TK_WHOLE, to, d) & ((mask & -mask) - 1) : 0;
            if (outer) id = emit_move(s, id, TK_OP_slice, outer, d, d, 0);
            if (mask && p->status == TK_OK) id = emit_move(s, id, TK_OP_reducescatter, mask, d, d, merge);
        }
        if (p->status != TK_OK) return -1;
        unsigned mask = axes_where(p, p->values[id].cut, TK_PARTIAL + merge, to, TK_WHOLE);
        if (mask) id = emit_move(s, id, TK_OP_allreduce, mask, 0, TK_WHOLE, merge);
        if (id != partial && id >= 0) s->now[partial] = id;
    }
    if (p->status != TK_OK || !memcmp(p->values[id].cut, to, TK_AXES)) return id;
    for (conversion *c = s->made[id]; c; c = c->next)
        if (c->when == s->when && !memcmp(c->cut, to, TK_AXES)) return c->id;
    tk_id from = id;
    for (int d = TK_MAX_DIMS - 1; d >= 0 && p->status == TK_OK; d--) {
        unsigned mask = axes_where(p, p->values[id].cut, d, to, NOT_SAME);
        mask |= inner_axes(p, &p->values[id], mask, d);
        if (mask) id = emit_move(s, id, TK_OP_allgather, mask, d, TK_WHOLE, 0);
    }
    for (int d = 0; d < TK_MAX_DIMS && p->status == TK_OK; d++) {
        unsigned mask = axes_where(p, p->values[id].cut, TK_WHOLE, to, d);
        if (mask) id = emit_move(s, id, TK_OP_slice, mask, d, d, 0);
    }
    conversion *c = tk_arena_alloc(&p->arena, sizeof *c);
    if (!c || id < 0) return -1;
    *c = (conversion){ .when = s->when, .id = id, .next = s->made[from] };
    memcpy(c->cut, to, TK_AXES);
    s->made[from] = c;
    return id;
}

/* May PARTIAL operand i of r go through unresolved? Gradient sums; gradients into adjoints of PASS ops. */
static bool passes(const tk_record *r, int i) {
    if (r->op == TK_OP_accum) return i == 0;
    if (r->op == TK_OP_add) return r->when != TK_FORWARD;
    return r->adj && (tk_op_info(r->op)->flags & TK_PASS) && tk__sig(r)->o[i].name[0] == 'd';
}

/* Is the letter that binds dim `ch` of operand i whole in this record? */
static bool is_whole(const tk_sig *sig, const tk_binding *b, int i, char ch) {
    for (int l = 0; sig->o[i].letters[l]; l++)
        if (strchr(b->run[sig->o[i].letters[l] - 'a'], ch)) return sig->o[i].whole >> l & 1;
    return false;
}

/* The dim letter that axis `a` cuts in record r, or 0: of those cut in inputs, on a data axis t wins, on a
 * model axis weights win, then anything but t (never t when no_t). */
static char choose_letter(const shard *s, const tk_record *r, const tk_binding *b, int a, bool no_t) {
    const tk_program *p = s->p;
    const tk_sig *sig = tk__sig(r);
    const tk_axis *axis = &p->mesh.axis[a];
    char best = 0;
    int best_rank = -1;
    for (int i = 0; i < r->nin; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        if (!TK_IS_CUT(v->cut[a])) continue;
        /* cppcheck-suppress arrayIndexOutOfBoundsCond ; a cut is a dim position */
        char ch = v->dim[(int)v->cut[a]];
        if ((is_whole(sig, b, i, ch) && !(axis->data && ch == 't')) || (no_t && ch == 't')) continue;
        bool stored = v->kind == TK_WEIGHT || v->kind == TK_STATEFUL || v->kind == TK_ACCUMULATOR;
        int rank = axis->data ? ch == 't' : stored ? 2 : ch != 't';
        if (rank > best_rank) best = ch, best_rank = rank;
    }
    return best;
}

/* How record r runs along axis a: the cut that each input must have and that each output gets. Returns the
 * letter that is cut, or 0. */
static char axis_rule(const shard *s, const tk_record *r, const tk_binding *b, int a, bool no_t,
                      int8_t cut[TK_MAX_OPERANDS]) {
    const tk_program *p = s->p;
    const tk_sig *sig = tk__sig(r);
    char letter = choose_letter(s, r, b, a, no_t);
    int partial = -1, others = 0;
    for (int i = 0; i < r->nin; i++) {
        const int c = p->values[r->arg[i]].cut[a];
        if (TK_IS_PARTIAL(c))
            partial = c;
        else if (r->op == TK_OP_add)
            others++;
        if (TK_IS_PARTIAL(c) && (!passes(r, i) || letter)) others++; /* must be resolved first */
    }
    bool pass = partial >= 0 && !others;
    if (!letter && !pass && !no_t && partial >= 0 && p->mesh.axis[a].sequence)
        for (int i = 0; i < r->nin && !letter;
             i++) { /* sequence parallel: resolve to a cut of t if the reader lets it */
            const tk_value *v = &p->values[r->arg[i]];
            if (v->cut[a] == TK_PARTIAL + TK_SUM && v->dim[1] && strchr(v->dim, 't') &&
                !is_whole(sig, b, i, 't'))
                letter = 't';
        }
    for (int i = 0; i < r->nin + r->nout; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        const char *at = letter ? strchr(v->dim, letter) : NULL;
        if (i < r->nin && pass && TK_IS_PARTIAL(v->cut[a]))
            cut[i] = v->cut[a];
        else if (at)
            cut[i] = (int8_t)(at - v->dim);
        else if (i >= r->nin && pass)
            cut[i] = (int8_t)partial;
        else if (i >= r->nin && letter)
            cut[i] = (int8_t)(TK_PARTIAL + sig->o[i].merge);
        else
            cut[i] = TK_WHOLE;
    }
    return letter;
}

/* The rule on every axis. The axes of one tensor-parallel group cut t together or not at all: where one of
 * them cuts something else, the others leave t whole. */
static void all_axes(const shard *s, const tk_record *r, const tk_binding *b,
                     int8_t cut[TK_AXES][TK_MAX_OPERANDS]) {
    const tk_mesh *mesh = &s->p->mesh;
    const int axes = TK_MIN(mesh->axes, TK_AXES);
    bool other = false;
    for (int a = 0; a < axes; a++) {
        char letter = axis_rule(s, r, b, a, false, cut[a]);
        other |= mesh->axis[a].sequence && letter && letter != 't';
    }
    for (int a = 0; a < axes && other; a++)
        if (mesh->axis[a].sequence) axis_rule(s, r, b, a, true, cut[a]);
}

/* The accumulator's cut at the update is its optimizer state's; PARTIAL is resolved to that before anything.
 */
static void resolve_accumulators(shard *s, tk_record *r) {
    for (int i = 0; i < r->nin; i++) {
        const tk_value *v = &s->p->values[r->arg[i]];
        if (v->kind == TK_ACCUMULATOR && v->like >= 0) {
            int8_t to[TK_AXES];
            memcpy(to, s->p->values[v->like].cut, TK_AXES);
            r->arg[i] = convert(s, r->arg[i], to);
            if (r->arg[i] < 0) return;
        }
    }
}

/* After a sum of squares: on axes where the gradient was whole only one rank's sum may count. */
static void count_once(shard *s, tk_record *r) {
    tk_program *p = s->p;
    unsigned mask = 0;
    tk_value v = p->values[r->arg[1]];
    for (int a = 0; a < p->mesh.axes; a++)
        if (p->mesh.axis[a].size > 1 && v.cut[a] == TK_WHOLE) mask |= 1u << a;
    if (!mask) return;
    for (int a = 0; a < p->mesh.axes; a++)
        if (mask >> a & 1) v.cut[a] = TK_PARTIAL + TK_SUM;
    v.store = -1;
    tk_record o = *r;
    o.op = TK_OP_once, o.attr.i[0] = (int32_t)mask, o.arg[0] = r->arg[1], o.arg[1] = tk__value(p, v);
    tk_id old = r->arg[1];
    tk__record(p, o);
    if (ensure(s)) s->now[old] = o.arg[1];
}

static tk_status shard_record(shard *s, tk_record r) {
    tk_program *p = s->p;
    tk_id original[TK_MAX_OPERANDS];
    s->layer = r.layer, s->when = r.when;
    if (r.op == TK_OP_zero) { /* clears whatever the accumulator holds, PARTIAL or not */
        memcpy(p->values[r.arg[1]].cut, p->values[r.arg[0]].cut, TK_AXES);
        tk__record(p, r);
        return tk_prog_check(p);
    }
    for (int i = 0; i < r.nin; i++) r.arg[i] = current(s, r.arg[i]);
    if (r.when == TK_UPDATE) resolve_accumulators(s, &r);
    TK_TRY(tk_prog_check(p));
    memcpy(original, r.arg, sizeof original);
    tk_binding b;
    TK_TRY(tk__bind_letters(p, &r, r.adj != 0, &b));
    const int axes = TK_MIN(p->mesh.axes, TK_AXES);
    int8_t cut[TK_AXES][TK_MAX_OPERANDS];
    all_axes(s, &r, &b, cut);
    for (int i = 0; i < r.nin; i++) {
        int8_t to[TK_AXES];
        memcpy(to, p->values[r.arg[i]].cut, TK_AXES);
        for (int a = 0; a < axes; a++) to[a] = cut[a][i];
        r.arg[i] = convert(s, r.arg[i], to);
        TK_TRY(tk_prog_check(p));
    }
    bool stateful = tk_op_info(r.op)->flags & TK_STATE;
    for (int i = r.nin; i < r.nin + r.nout; i++) {
        tk_value *v = &p->values[r.arg[i]];
        for (int a = 0; a < axes; a++) v->cut[a] = cut[a][i];
        if (stateful) {
            tk_id in = r.arg[i - r.nout];
            if (r.op == TK_OP_accum)
                memcpy(p->values[in].cut, v->cut, TK_AXES); /* it holds what it is given */
            v->store = p->values[in].store, v->kind = p->values[in].kind;
        }
        TK_TRY(check_even(p, v));
    }
    tk__record(p, r);
    for (int i = r.nin; stateful && i < r.nin + r.nout;
         i++) { /* a slice was updated: gather it back into the whole */
        tk_id was = original[i - r.nout], in = r.arg[i - r.nout];
        if (was == in) continue;
        tk_id back = convert(s, r.arg[i], p->values[was].cut);
        TK_TRY(tk_prog_check(p));
        p->values[back].store = p->values[was].store, p->values[back].kind = p->values[was].kind;
        s->now[r.arg[i]] = back;
    }
    if (r.op == TK_OP_sqsum) count_once(s, &r);
    return tk_prog_check(p);
}

/* The cut that a value from outside has by its letters. */
static void home_cut(tk_program *p, tk_value *v, int zero_axis) {
    for (int a = 0; a < p->mesh.axes; a++) {
        v->cut[a] = TK_WHOLE;
        for (int d = 0; v->dim[d] && p->mesh.axis[a].size > 1; d++)
            if (v->cut[a] == TK_WHOLE && strchr(p->mesh.axis[a].letters, v->dim[d])) v->cut[a] = (int8_t)d;
    }
    if (zero_axis < 0 || p->mesh.axis[zero_axis].size == 1 || v->kind != TK_STATEFUL || v->like < 0) return;
    for (int d = 0; v->dim[d] && v->cut[zero_axis] == TK_WHOLE;
         d++) { /* a dim that nobody else cuts, if it divides */
        int64_t n = tk__local(p, v, d);
        if (n == p->size[(unsigned char)v->dim[d] & 127] && n % p->mesh.axis[zero_axis].size == 0)
            v->cut[zero_axis] = (int8_t)d;
    }
}

static tk_status finish_outputs(shard *s) {
    tk_program *p = s->p;
    for (int n = 0; n < p->nnames; n++) {
        tk_id id = p->names[n].id;
        if (!p->values[id].output) continue;
        int8_t to[TK_AXES];
        tk_id last = current(s, id);
        memcpy(to, p->values[last].cut, TK_AXES);
        for (int a = 0; a < p->mesh.axes; a++)
            if (TK_IS_PARTIAL(to[a]) || !p->mesh.axis[a].data) to[a] = TK_WHOLE;
        s->when = TK_FORWARD, s->layer = -1;
        p->values[id].output = false;
        tk_id fresh = convert(s, last, to);
        TK_TRY(tk_prog_check(p));
        p->values[fresh].output = true;
        p->names[n].id = fresh;
    }
    return TK_OK;
}

tk_status tk_shard(tk_program *p, const tk_mesh *mesh, int zero_axis) {
    TK_TRY(tk_prog_check(p));
    if (mesh->axes > TK_AXES || zero_axis >= mesh->axes)
        return TK_FAIL(TK_E_INTERNAL, "a mesh has at most %d axes", TK_AXES);
    p->mesh = *mesh;
    for (int n = 0; n < p->nnames; n++)
        if (!p->values[p->names[n].id].output) home_cut(p, &p->values[p->names[n].id], zero_axis);
    tk_record *old = p->records;
    int n = p->nrecords, at = 0;
    p->records = NULL, p->nrecords = p->cap_records = 0;
    shard s = { .p = p };
    tk_status st = ensure(&s) ? TK_OK : tk__failed(TK_E_NOMEM, p->status);
    for (int when = TK_FORWARD; when <= TK_UPDATE && st == TK_OK; when++) {
        for (; at < n && old[at].when == when && st == TK_OK; at++) st = shard_record(&s, old[at]);
        if (when == TK_FORWARD && st == TK_OK) st = finish_outputs(&s);
    }
    free(old), free(s.now), free(s.made);
    return st;
}
