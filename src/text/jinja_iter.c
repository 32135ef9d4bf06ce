/* SPDX-License-Identifier: Apache-2.0 */
/* Iteration. Python's generators are lazy and run once, and templates can see both: `x|select(..)` is always
 * true and empty the second time, and a for loop's condition runs between the rounds of its body. So an
 * iterator here is a small object with a next function, and a loop knows its length only if it is asked. */
#include "text/jinja.h"

tk_status tk__jiter_make(jx *c, tk_status (*next)(jx *, jiter *, jval *), jval *out) {
    jiter *it;
    TK_TRY(tk__jalloc(c, 1, sizeof *it, &it));
    it->next = next;
    *out = (jval){ .type = J_ITER, .it = it };
    return TK_OK;
}

tk_status tk__jnext(jx *c, jiter *it, jval *out) {
    TK_TRY(tk__jstep(c, 0));
    TK_TRY(tk__jenter(c)); /* a chain of filters is a chain of iterators */
    tk_status s = it->next(c, it, out);
    c->depth--;
    return s;
}

static tk_status next_item(jx *c, jiter *it, jval *out) {
    (void)c;
    *out = it->pos < it->src.l->n ? it->src.l->at[it->pos++] : tk__jmissing;
    return TK_OK;
}

static tk_status next_char(jx *c, jiter *it, jval *out) {
    const jstr *s = it->src.s;
    *out = tk__jmissing;
    if (it->pos >= s->n) return TK_OK;
    const char *from = s->s + it->pos, *p = from;
    tk__jutf8_next(&p);
    it->pos += (size_t)(p - from);
    return tk__jstr_part(c, from, (size_t)(p - from), 1, it->negate && s->safe,
                         out); /* only reversed() keeps Markup */
}

static tk_status pair(jx *c, const jpair *p, jval *out) {
    TK_TRY(tk__jlist_new(c, J_TUPLE, 2, out));
    out->l->at[0] = p->key, out->l->at[1] = p->val;
    return TK_OK;
}

static tk_status next_entry(jx *c, jiter *it, jval *out) {
    const jdict *d = it->src.d;
    *out = tk__jmissing;
    if (it->pos >= d->n) return TK_OK;
    const jpair *p = &d->at[it->negate ? d->n - 1 - it->pos : it->pos];
    it->pos++;
    char view = it->src.type == J_VIEW ? (char)it->src.view : 'k';
    if (view == 'i') return pair(c, p, out);
    *out = view == 'k' ? p->key : p->val;
    return TK_OK;
}

static tk_status next_range(jx *c, jiter *it, jval *out) {
    (void)c;
    const int64_t *r = it->src.range;
    *out = (int64_t)it->pos < r[3] ? tk__jint(r[0] + (int64_t)it->pos * r[2]) : tk__jmissing;
    it->pos++;
    return TK_OK;
}

static tk_status next_none(jx *c, jiter *it, jval *out) {
    (void)c, (void)it;
    *out = tk__jmissing;
    return TK_OK;
}

static tk_status next_back(jx *c, jiter *it, jval *out) {
    *out = tk__jmissing;
    int64_t n;
    TK_TRY(tk__jlen(c, it->src, &n));
    if ((int64_t)it->pos >= n) return TK_OK;
    it->pos++;
    return tk__jgetitem(c, it->src, tk__jint(n - (int64_t)it->pos), out);
}

tk_status tk__jiter_new(jx *c, jval v, jiter **out) {
    tk_status (*next)(jx *, jiter *, jval *) = NULL;
    jval made;
    switch (v.type) {
    case J_ITER: *out = v.it; return TK_OK;
    case J_LIST:
    case J_TUPLE: next = next_item; break;
    case J_STR: next = next_char; break;
    case J_DICT:
    case J_VIEW: next = next_entry; break;
    case J_RANGE: next = next_range; break;
    case J_UNDEF: next = next_none; break;
    default: return JFAIL(c, "'%s' object is not iterable", tk__jtype(v));
    }
    TK_TRY(tk__jiter_make(c, next, &made));
    made.it->src = v;
    *out = made.it;
    return TK_OK;
}

/* reversed(v), for what it takes */
tk_status tk__jiter_reversed(jx *c, jval v, jval *out, bool *can) {
    *can = true;
    if (v.type == J_UNDEF) TK_TRY(tk__jlist_new(c, J_LIST, 0, &v));
    if (v.type == J_LIST || v.type == J_TUPLE || v.type == J_RANGE || v.type == J_STR) {
        if (v.type == J_STR) TK_TRY(tk__jslice(c, v, tk__jnone, tk__jnone, tk__jint(-1), &v));
        TK_TRY(tk__jiter_make(c, v.type == J_STR ? next_char : next_back, out));
        out->it->negate = true;
    } else if (v.type == J_DICT || v.type == J_VIEW) {
        TK_TRY(tk__jiter_make(c, next_entry, out));
        out->it->negate = true;
    } else
        *can = false;
    if (*can) out->it->src = v;
    return TK_OK;
}

tk_status tk__jlist_of(jx *c, jval v, jval *out) {
    jiter *it;
    jval one;
    if (v.type == J_LIST || v.type == J_TUPLE) {
        TK_TRY(tk__jlist_new(c, J_LIST, v.l->n, out));
        if (v.l->n) memcpy(out->l->at, v.l->at, v.l->n * sizeof(jval));
        return TK_OK;
    }
    TK_TRY(tk__jiter_new(c, v, &it));
    TK_TRY(tk__jlist_new(c, J_LIST, 0, out));
    for (size_t cap = 0;; out->l->n++) {
        TK_TRY(tk__jnext(c, it, &one));
        if (one.type == J_MISSING) return TK_OK;
        if (out->l->n == cap) {
            jval *grown;
            cap = cap ? cap * 2 : 8;
            if (cap > c->lim.value * 2)
                return tk__jfail(c, TK_E_LIMIT, "it makes a list of %zu items", out->l->n);
            TK_TRY(tk__jalloc(c, cap, sizeof *grown, &grown));
            if (out->l->n) memcpy(grown, out->l->at, out->l->n * sizeof *grown);
            out->l->at = grown;
        }
        out->l->at[out->l->n] = one;
    }
}

tk_status tk__jcontains(jx *c, jval seq, jval v, bool *yes) {
    *yes = false;
    if (seq.type == J_STR) {
        if (v.type == J_UNDEF)
            return JFAIL(c, "'in <string>' requires string as left operand, and %s", v.undef);
        if (v.type != J_STR) {
            return JFAIL(c, "'in <string>' requires string as left operand, not %s", tk__jtype(v));
        }
        TK_TRY(tk__jstep(c, seq.s->n));
        *yes = v.s->n == 0 || (seq.s->n && memmem(seq.s->s, seq.s->n, v.s->s, v.s->n));
        return TK_OK;
    }
    if (seq.type == J_DICT || (seq.type == J_VIEW && seq.view == 'k')) {
        jval hit;
        TK_TRY(tk__jdict_get(c, seq.d, v, &hit));
        *yes = hit.type != J_MISSING;
        return TK_OK;
    }
    jiter *it;
    jval one;
    if (!(seq.type == J_LIST || seq.type == J_TUPLE || seq.type == J_RANGE || seq.type == J_VIEW ||
          seq.type == J_ITER || seq.type == J_UNDEF)) {
        return JFAIL(c, "argument of type '%s' is not iterable", tk__jtype(seq));
    }
    TK_TRY(tk__jiter_new(c, seq, &it));
    while (!*yes) {
        TK_TRY(tk__jnext(c, it, &one));
        if (one.type == J_MISSING) return TK_OK;
        TK_TRY(tk__jequal(c, one, v, yes));
    }
    return TK_OK;
}

/* ---- the loop variable ------------------------------------------------------------------------------- */

static tk_status peek(jx *c, jloop *l, jval *out) {
    if (l->after.type == J_MISSING) TK_TRY(tk__jnext(c, l->it, &l->after));
    *out = l->after;
    return TK_OK;
}

tk_status tk__jloop_next(jx *c, jloop *l, jval *out) {
    if (l->after.type != J_MISSING)
        *out = l->after;
    else
        TK_TRY(tk__jnext(c, l->it, out));
    if (out->type == J_MISSING) return TK_OK;
    l->after = tk__jmissing;
    l->index0++;
    l->before = l->current;
    l->current = *out;
    return TK_OK;
}

static tk_status length(jx *c, jloop *l, int64_t *n) {
    if (l->length < 0 && tk__jsized(l->iterable) && l->iterable.type != J_LOOP) {
        TK_TRY(tk__jlen(c, l->iterable, &l->length));
    } else if (l->length < 0) {
        jval rest;
        TK_TRY(tk__jlist_of(c, (jval){ .type = J_ITER, .it = l->it }, &rest));
        TK_TRY(tk__jiter_new(c, rest, &l->it));
        l->length = (int64_t)rest.l->n + l->index0 + 1 + (l->after.type != J_MISSING);
    }
    *n = l->length;
    return TK_OK;
}

tk_status tk__jloop_attr(jx *c, jloop *l, const jstr *name, jval *out) {
    static const char *const names[] = { "index",     "index0",   "first",    "last",  "length", "revindex",
                                         "revindex0", "previtem", "nextitem", "depth", "depth0" };
    size_t which = 0;
    int64_t n = 0;
    *out = tk__jmissing;
    while (which < TK_COUNT(names) && !tk__jstr_eq(name, names[which])) which++;
    if (which >= 4 && which <= 6) TK_TRY(length(c, l, &n));
    switch (which) {
    case 0: *out = tk__jint(l->index0 + 1); return TK_OK;
    case 1: *out = tk__jint(l->index0); return TK_OK;
    case 2: *out = tk__jbool(l->index0 == 0); return TK_OK;
    case 3:
        TK_TRY(peek(c, l, out));
        *out = tk__jbool(out->type == J_MISSING);
        return TK_OK;
    case 4: *out = tk__jint(n); return TK_OK;
    case 5: *out = tk__jint(n - l->index0); return TK_OK;
    case 6: *out = tk__jint(n - l->index0 - 1); return TK_OK;
    case 7: *out = l->before; return l->index0 == 0 ? tk__jundef(c, out, "there is no previous item") : TK_OK;
    case 8:
        TK_TRY(peek(c, l, out));
        return out->type == J_MISSING ? tk__jundef(c, out, "there is no next item") : TK_OK;
    case 9: *out = tk__jint(l->depth0 + 1); return TK_OK;
    case 10: *out = tk__jint(l->depth0); return TK_OK;
    default: return TK_OK;
    }
}

static tk_status cycle(jx *c, const jcall *k, jval *out) {
    if (!k->raw->n_pos) return JFAIL(c, "no items for cycling given");
    *out = k->raw->pos[k->self.loop->index0 % k->raw->n_pos];
    return TK_OK;
}

static tk_status changed(jx *c, const jcall *k, jval *out) {
    jval now;
    bool eq = false;
    TK_TRY(tk__jlist_new(c, J_TUPLE, (size_t)k->raw->n_pos, &now));
    if (k->raw->n_pos) memcpy(now.l->at, k->raw->pos, (size_t)k->raw->n_pos * sizeof(jval));
    if (k->self.loop->changed.type != J_MISSING) TK_TRY(tk__jequal(c, k->self.loop->changed, now, &eq));
    k->self.loop->changed = now;
    *out = tk__jbool(!eq);
    return TK_OK;
}

const jrow tk__jloop_methods[] = { { "cycle", "*", 0, cycle },
                                   { "changed", "*", 0, changed },
                                   { NULL, NULL, 0, NULL } };
