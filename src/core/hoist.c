/* SPDX-License-Identifier: Apache-2.0 */
/* Two general rules. Merge: equal records are computed once; freely within a direction, across directions
 * only where the row says KEEP (or the record is a collective on such a result), else recompute would be
 * undone and gathered weights pinned. Phase: a KEEP record runs when the latest of its inputs is ready, so
 * what depends on weights alone runs once per change of the weights, not once per micro-batch or token.
 * Findmax caching, packing and transposed copies are instances. A recomputed clone counts as its original as
 * an input. */
#include <stdlib.h>

#include "core/core.h"

typedef struct hoist {
    tk_program *p;
    tk_id *same;        /* value -> the value it was merged into, or itself */
    tk_id *origin;      /* value -> what it equals in content: a clone's original, or itself */
    uint8_t *phase;     /* of each value */
    bool *kept;         /* made by a record that may cross directions */
    int *bucket, *next; /* hash chains over records */
    int nbuckets;
} hoist;

static bool keeps(const hoist *h, const tk_record *r) {
    unsigned flags = tk_op_info(r->op)->flags;
    return (flags & TK_KEEP) || ((flags & TK_COMM) && h->kept[r->arg[0]]);
}

static uint64_t mix(uint64_t h, uint64_t x) {
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t hash(const hoist *h, const tk_record *r) {
    uint64_t v = mix(r->op, r->adj);
    for (int i = 0; i < r->nin; i++) v = mix(v, (uint64_t)h->origin[r->arg[i]]);
    return v;
}

/* Is record b the same computation as the earlier a, and allowed to use its result? */
static bool equal(const hoist *h, const tk_record *a, const tk_record *b) {
    if (a->op != b->op || a->adj != b->adj || a->nin != b->nin || !tk__attr_same(&a->attr, &b->attr))
        return false;
    bool keep = keeps(h, b);
    if (!keep && a->when != b->when) return false;
    for (int i = 0; i < a->nin; i++)
        if (keep ? h->origin[a->arg[i]] != h->origin[b->arg[i]] : a->arg[i] != b->arg[i]) return false;
    return true;
}

static uint8_t phase_of_kind(const tk_program *p, const tk_value *v) {
    switch (v->kind) {
    case TK_CONST: return TK_P_LOAD;
    case TK_WEIGHT: return p->trainable ? TK_P_CHANGED : TK_P_LOAD;
    default: return TK_P_FORWARD;
    }
}

static uint8_t phase_of(const hoist *h, const tk_record *r, int what) {
    static const uint8_t by_direction[] = { TK_P_FORWARD, TK_P_BACKWARD, TK_P_UPDATE };
    if (!(what & TK_HOIST_PHASE) || !keeps(h, r)) return by_direction[r->when];
    uint8_t latest = TK_P_LOAD;
    for (int i = 0; i < r->nin; i++) latest = TK_MAX(latest, h->phase[r->arg[i]]);
    return latest;
}

static void hoist_record(hoist *h, tk_record r, int what) {
    tk_program *p = h->p;
    bool stateful = tk_op_info(r.op)->flags & TK_STATE;
    for (int i = 0; i < r.nin; i++) r.arg[i] = h->same[r.arg[i]];
    p->counts.asked[r.op] += r.adj == 0;
    uint64_t slot = hash(h, &r) % (uint64_t)h->nbuckets;
    if (!stateful && (what & TK_HOIST_MERGE))
        for (int i = h->bucket[slot]; i >= 0; i = h->next[i]) {
            const tk_record *q = &p->records[i];
            if (!equal(h, q, &r)) continue;
            for (int k = 0; k < r.nout; k++) {
                tk_id out = r.arg[r.nin + k];
                h->same[out] = q->arg[q->nin + k];
                p->values[q->arg[q->nin + k]].output |= p->values[out].output;
                p->values[out].output = false;
            }
            p->counts.merged[r.op] += r.adj == 0;
            return;
        }
    r.phase = phase_of(h, &r, what);
    for (int k = r.nin; k < r.nin + r.nout; k++) {
        h->phase[r.arg[k]] = r.phase;
        h->kept[r.arg[k]] = keeps(h, &r);
        if (r.clone_of >= 0) h->origin[r.arg[k]] = h->origin[r.clone_of + k - r.nin];
    }
    h->next[p->nrecords] = h->bucket[slot], h->bucket[slot] = p->nrecords;
    tk__record(p, r);
}

tk_status tk_hoist(tk_program *p, int what) {
    TK_TRY(tk_prog_check(p));
    size_t nv = (size_t)p->nvalues, nr = (size_t)p->nrecords;
    hoist h = { .p = p, .nbuckets = (int)nr * 2 + 1 };
    h.same = malloc(nv * sizeof *h.same), h.origin = malloc(nv * sizeof *h.origin);
    h.phase = malloc(nv), h.kept = calloc(nv, sizeof *h.kept);
    h.bucket = malloc((size_t)h.nbuckets * sizeof *h.bucket), h.next = malloc((nr + 1) * sizeof *h.next);
    tk_status st = TK_OK;
    if (!h.same || !h.origin || !h.phase || !h.kept || !h.bucket || !h.next)
        st = TK_FAIL(TK_E_NOMEM, "out of memory");
    if (st == TK_OK) {
        for (int i = 0; i < p->nvalues; i++)
            h.same[i] = h.origin[i] = i, h.phase[i] = phase_of_kind(p, &p->values[i]);
        for (int i = 0; i < h.nbuckets; i++) h.bucket[i] = -1;
        memset(p->counts.asked, 0, sizeof p->counts.asked),
            memset(p->counts.merged, 0, sizeof p->counts.merged);
        int n = p->nrecords;
        p->nrecords = 0; /* rewritten in place: the list only shrinks */
        for (int i = 0; i < n; i++) hoist_record(&h, p->records[i], what);
        for (int i = 0; i < p->nnames; i++) p->names[i].id = h.same[p->names[i].id];
    }
    free(h.same), free(h.origin), free(h.phase), free(h.kept), free(h.bucket), free(h.next);
    return st;
}
