/* SPDX-License-Identifier: Apache-2.0 */
/* Filters over sequences. map, select, unique and their kind are generators in jinja2: nothing in them runs,
 * or fails, before somebody asks for an item. */
#include "text/jinja.h"

static bool given(const jcall *k, int i) { return k->a[i].type != J_MISSING && k->a[i].type != J_NONE; }
static bool flag(const jcall *k, int i) { return tk__jtruth(k->a[i]); }

/* ---- keys -------------------------------------------------------------------------------------------- */

static tk_status one_part(jx *c, jval obj, const jstr *of, size_t from, size_t to, jval *out) {
    jval key;
    int64_t i = 0;
    bool digits = to > from;
    for (size_t p = from; p < to && digits; p++) {
        digits = of->s[p] >= '0' && of->s[p] <= '9' && !__builtin_mul_overflow(i, 10, &i);
        i += of->s[p] - '0';
    }
    if (digits)
        key = tk__jint(i);
    else
        TK_TRY(tk__jstr_view(c, of, from, to, &key));
    return tk__jgetitem(c, obj, key, out);
}

/* "a.b.0" of an object; none: the object itself */
tk_status tk__jattrgetter(jx *c, jval obj, jval attribute, jval fallback, jval *out) {
    *out = obj;
    if (attribute.type == J_NONE || attribute.type == J_MISSING) return TK_OK;
    bool use = fallback.type != J_MISSING && fallback.type != J_NONE;
    if (attribute.type != J_STR) {
        TK_TRY(tk__jgetitem(c, obj, attribute, out));
        if (use && out->type == J_UNDEF) *out = fallback;
        return TK_OK;
    }
    const jstr *s = attribute.s;
    for (size_t from = 0, to; from <= s->n; from = to + 1) {
        for (to = from; to < s->n && s->s[to] != '.';) to++;
        TK_TRY(one_part(c, *out, s, from, to, out));
        if (use && out->type == J_UNDEF) *out = fallback;
    }
    return TK_OK;
}

static tk_status lower_if_str(jx *c, jval v, jval *out) {
    *out = v;
    if (v.type != J_STR) return TK_OK;
    return tk__jcall_row(c, tk__jrow_find(tk__jstr_methods, "lower", 5), v, &(jargs){ 0 }, out);
}

static tk_status sort_key(jx *c, jval item, jval attribute, bool case_sensitive, jval *out) {
    TK_TRY(tk__jattrgetter(c, item, attribute, tk__jmissing, out));
    return case_sensitive ? TK_OK : lower_if_str(c, *out, out);
}

/* Merges upwards; a pair swaps only if the second is really less (or greater, in reverse), so it is stable.
 */
tk_status tk__jsort(jx *c, jval *items, jval *keys, size_t n, bool reverse) {
    jval *a = items, *ka = keys, *b, *kb;
    TK_TRY(tk__jalloc(c, n, sizeof *b, &b));
    TK_TRY(tk__jalloc(c, n, sizeof *kb, &kb));
    for (size_t w = 1; w < n; w *= 2) {
        for (size_t lo = 0; lo < n; lo += 2 * w) {
            size_t mid = TK_MIN(lo + w, n), hi = TK_MIN(lo + 2 * w, n), i = lo, k = mid;
            for (size_t at = lo; at < hi; at++) {
                bool right = i == mid;
                if (!right && k < hi) {
                    TK_TRY(reverse ? tk__jless(c, ka[i], ka[k], &right) : tk__jless(c, ka[k], ka[i], &right));
                }
                size_t from = right ? k++ : i++;
                b[at] = a[from], kb[at] = ka[from];
            }
        }
        jval *t = a, *kt = ka;
        a = b, b = t, ka = kb, kb = kt;
    }
    if (a != items && n) {
        memcpy(items, a, n * sizeof *a);
        memcpy(keys, ka, n * sizeof *ka);
    }
    return TK_OK;
}

/* One key an item; for sort a list of keys, since it takes "a,b", which also lets equal undefined keys pass.
 */
static tk_status keys_of(jx *c, const jlist *l, jval attribute, bool case_sensitive, bool many, jval *out) {
    TK_TRY(tk__jlist_new(c, J_LIST, l->n, out));
    size_t parts = 1;
    if (many && attribute.type == J_STR) {
        for (size_t p = 0; p < attribute.s->n; p++) parts += attribute.s->s[p] == ',';
    }
    for (size_t i = 0; i < l->n; i++) {
        if (!many) {
            TK_TRY(sort_key(c, l->at[i], attribute, case_sensitive, &out->l->at[i]));
            continue;
        }
        jval *key = &out->l->at[i], name;
        TK_TRY(tk__jlist_new(c, J_LIST, parts, key));
        if (attribute.type != J_STR) {
            TK_TRY(sort_key(c, l->at[i], attribute, case_sensitive, &key->l->at[0]));
            continue;
        }
        for (size_t k = 0, from = 0, to; k < parts; k++, from = to + 1) {
            for (to = from; to < attribute.s->n && attribute.s->s[to] != ',';) to++;
            TK_TRY(tk__jstr_view(c, attribute.s, from, to, &name));
            TK_TRY(sort_key(c, l->at[i], name, case_sensitive, &key->l->at[k]));
        }
    }
    return TK_OK;
}

/* ---- eager filters ----------------------------------------------------------------------------------- */

static tk_status sort(jx *c, const jcall *k, jval *out) { /* reverse, case_sensitive, attribute */
    jval keys;
    TK_TRY(tk__jlist_of(c, k->self, out));
    TK_TRY(keys_of(c, out->l, k->a[2], flag(k, 1), true, &keys));
    return tk__jsort(c, out->l->at, keys.l->at, out->l->n, flag(k, 0));
}

static tk_status dictsort(jx *c, const jcall *k, jval *out) { /* case_sensitive, by, reverse */
    jval keys;
    int pos = 0;
    if (given(k, 1)) {
        if (k->a[1].type != J_STR || (!tk__jstr_eq(k->a[1].s, "key") && !tk__jstr_eq(k->a[1].s, "value"))) {
            return JFAIL(c, "You can only sort by either \"key\" or \"value\"");
        }
        pos = tk__jstr_eq(k->a[1].s, "value");
    }
    if (k->self.type == J_UNDEF) return JFAIL(c, "%s", k->self.undef);
    if (k->self.type != J_DICT) return JFAIL(c, "'%s' object has no attribute 'items'", tk__jtype(k->self));
    TK_TRY(tk__jlist_of(c, (jval){ .type = J_VIEW, .view = 'i', .d = k->self.d }, out));
    TK_TRY(keys_of(c, out->l, tk__jint(pos), flag(k, 0), false, &keys));
    return tk__jsort(c, out->l->at, keys.l->at, out->l->n, flag(k, 2));
}

static tk_status min_or_max(jx *c, const jcall *k, bool max, jval *out) { /* case_sensitive, attribute */
    jval list, keys;
    TK_TRY(tk__jlist_of(c, k->self, &list));
    if (!list.l->n) return tk__jundef(c, out, "No aggregated item, sequence was empty.");
    TK_TRY(keys_of(c, list.l, k->a[1], flag(k, 0), false, &keys));
    size_t best = 0;
    for (size_t i = 1; i < list.l->n; i++) {
        bool better;
        const jval *a = keys.l->at;
        TK_TRY(max ? tk__jless(c, a[best], a[i], &better) : tk__jless(c, a[i], a[best], &better));
        if (better) best = i;
    }
    *out = list.l->at[best];
    return TK_OK;
}
static tk_status min_(jx *c, const jcall *k, jval *out) { return min_or_max(c, k, false, out); }
static tk_status max_(jx *c, const jcall *k, jval *out) { return min_or_max(c, k, true, out); }

static tk_status sum(jx *c, const jcall *k, jval *out) { /* attribute, start */
    jiter *it;
    jval one;
    *out = k->a[1].type == J_MISSING ? tk__jint(0) : k->a[1];
    if (out->type == J_STR) return JFAIL(c, "sum() can't sum strings [use ''.join(seq) instead]");
    TK_TRY(tk__jiter_new(c, k->self, &it));
    for (;;) {
        TK_TRY(tk__jnext(c, it, &one));
        if (one.type == J_MISSING) return TK_OK;
        TK_TRY(tk__jattrgetter(c, one, k->a[0], tk__jmissing, &one));
        TK_TRY(tk__jbinary(c, '+', *out, one, out));
    }
}

static tk_status join(jx *c, const jcall *k, jval *out) { /* d, attribute */
    jiter *it;
    jval one, sep;
    size_t mark;
    TK_TRY(tk__jstr_new(c, "", 0, &sep));
    if (k->a[0].type != J_MISSING) TK_TRY(tk__jtext(c, k->a[0], &sep));
    TK_TRY(tk__jiter_new(c, k->self, &it));
    TK_TRY(tk__jmark(c, &mark));
    for (bool first = true;; first = false) {
        TK_TRY(tk__jnext(c, it, &one));
        if (one.type == J_MISSING) return tk__jtake(c, mark, out);
        if (!first) TK_TRY(tk__jprint(c, sep));
        TK_TRY(tk__jattrgetter(c, one, k->a[1], tk__jmissing, &one));
        TK_TRY(tk__jprint(c, one));
    }
}

static tk_status first(jx *c, const jcall *k, jval *out) {
    jiter *it;
    TK_TRY(tk__jiter_new(c, k->self, &it));
    TK_TRY(tk__jnext(c, it, out));
    return out->type == J_MISSING ? tk__jundef(c, out, "No first item, sequence was empty.") : TK_OK;
}

static tk_status last(jx *c, const jcall *k, jval *out) {
    bool can = true;
    *out = tk__jmissing;
    if (k->self.type != J_UNDEF) {
        TK_TRY(tk__jiter_reversed(c, k->self, out, &can));
        if (!can) return JFAIL(c, "'%s' object is not reversible", tk__jtype(k->self));
        TK_TRY(tk__jnext(c, out->it, out));
    }
    return out->type == J_MISSING ? tk__jundef(c, out, "No last item, sequence was empty.") : TK_OK;
}

static tk_status reverse(jx *c, const jcall *k, jval *out) {
    bool can;
    jval list;
    if (k->self.type == J_STR) return tk__jslice(c, k->self, tk__jnone, tk__jnone, tk__jint(-1), out);
    TK_TRY(tk__jiter_reversed(c, k->self, out, &can));
    if (can) return TK_OK;
    TK_TRY(tk__jlist_of(c, k->self, &list));
    return tk__jslice(c, list, tk__jnone, tk__jnone, tk__jint(-1), out);
}

static tk_status list_(jx *c, const jcall *k, jval *out) { return tk__jlist_of(c, k->self, out); }

static tk_status length(jx *c, const jcall *k, jval *out) {
    *out = tk__jint(0);
    return tk__jlen(c, k->self, &out->i);
}

static tk_status groupby(jx *c, const jcall *k, jval *out) { /* attribute, default, case_sensitive */
    jval list, keys, real;
    TK_TRY(tk__jlist_of(c, k->self, &list));
    size_t n = list.l->n, groups = 0;
    TK_TRY(tk__jlist_new(c, J_LIST, n, &keys));
    for (size_t i = 0; i < n; i++) {
        TK_TRY(tk__jattrgetter(c, list.l->at[i], k->a[0], k->a[1], &keys.l->at[i]));
        if (!flag(k, 2)) TK_TRY(lower_if_str(c, keys.l->at[i], &keys.l->at[i]));
    }
    TK_TRY(tk__jsort(c, list.l->at, keys.l->at, n, false));
    TK_TRY(tk__jlist_new(c, J_LIST, n, out));
    for (size_t from = 0, to; from < n; from = to) {
        bool same = true;
        for (to = from + 1; to < n; to++) {
            TK_TRY(tk__jequal(c, keys.l->at[from], keys.l->at[to], &same));
            if (!same) break;
        }
        jval *pair = &out->l->at[groups++];
        TK_TRY(tk__jlist_new(c, J_TUPLE, 2, pair));
        TK_TRY(tk__jattrgetter(c, list.l->at[from], k->a[0], k->a[1], &real));
        pair->l->group = true;
        pair->l->at[0] = real;
        TK_TRY(
            tk__jslice(c, list, tk__jint((int64_t)from), tk__jint((int64_t)to), tk__jnone, &pair->l->at[1]));
    }
    out->l->n = groups;
    return TK_OK;
}

/* ---- generators -------------------------------------------------------------------------------------- */

static tk_status lazy(jx *c, const jcall *k, tk_status (*next)(jx *, jiter *, jval *), jval *out) {
    jargs *args; /* the caller's is on its stack */
    TK_TRY(tk__jiter_make(c, next, out));
    TK_TRY(tk__jalloc(c, 1, sizeof *args, &args));
    *args = *k->raw;
    out->it->src = k->self, out->it->args = args;
    return TK_OK;
}

/* The next item of the source; false values have none. */
static tk_status pull(jx *c, jiter *it, jval *out) {
    *out = tk__jmissing;
    if (!it->from) {
        if (!tk__jtruth(it->src)) return TK_OK;
        TK_TRY(tk__jiter_new(c, it->src, &it->from));
    }
    return tk__jnext(c, it->from, out);
}

static tk_status next_items(jx *c, jiter *it, jval *out) {
    *out = tk__jmissing;
    if (it->src.type == J_UNDEF) return TK_OK;
    if (it->src.type != J_DICT) return JFAIL(c, "Can only get item pairs from a mapping.");
    if (!it->from) TK_TRY(tk__jiter_new(c, (jval){ .type = J_VIEW, .view = 'i', .d = it->src.d }, &it->from));
    return tk__jnext(c, it->from, out);
}
static tk_status items(jx *c, const jcall *k, jval *out) { return lazy(c, k, next_items, out); }

static jval keyword(const jargs *a, const char *name) {
    for (int i = 0; i < a->n_kw; i++) {
        if (tk__jstr_eq(a->names[i], name)) return a->kw[i];
    }
    return tk__jmissing;
}

static tk_status next_mapped(jx *c, jiter *it, jval *out) {
    const jargs *a = it->args;
    jval attribute = keyword(a, "attribute"), one;
    TK_TRY(pull(c, it, &one));
    *out = one;
    if (one.type == J_MISSING) return TK_OK;
    if (!a->n_pos && attribute.type != J_MISSING) {
        jval fallback = keyword(a, "default");
        if (a->n_kw > 1 + (fallback.type != J_MISSING)) return JFAIL(c, "map: unexpected keyword argument");
        return tk__jattrgetter(c, one, attribute, fallback, out);
    }
    if (!a->n_pos) return JFAIL(c, "map requires a filter argument");
    const jrow *row = a->pos[0].type == J_STR ? tk__jfilter_find(a->pos[0].s) : NULL;
    if (!row) return JFAIL(c, "map: no such filter");
    jargs rest = { a->pos + 1, a->names, a->kw, a->n_pos - 1, a->n_kw };
    return tk__jcall_row(c, row, one, &rest, out);
}
static tk_status map(jx *c, const jcall *k, jval *out) { return lazy(c, k, next_mapped, out); }

static tk_status next_selected(jx *c, jiter *it, jval *out) {
    const jargs *a = it->args;
    int off = it->by_attr;
    for (;;) {
        jval of, yes;
        TK_TRY(pull(c, it, out));
        if (out->type == J_MISSING) return TK_OK;
        of = *out;
        if (off && !a->n_pos) return JFAIL(c, "Missing parameter for attribute name");
        if (off) TK_TRY(tk__jattrgetter(c, of, a->pos[0], tk__jmissing, &of));
        yes = of;
        if (a->n_pos > off) {
            const jrow *row = a->pos[off].type == J_STR ? tk__jtest_find(a->pos[off].s) : NULL;
            if (!row) return JFAIL(c, "No test of that name found.");
            jargs rest = { a->pos + off + 1, a->names, a->kw, a->n_pos - off - 1, a->n_kw };
            TK_TRY(tk__jcall_row(c, row, of, &rest, &yes));
        }
        if (tk__jtruth(yes) != it->negate) return TK_OK;
    }
}
static tk_status select_any(jx *c, const jcall *k, bool negate, bool by_attr, jval *out) {
    TK_TRY(lazy(c, k, next_selected, out));
    out->it->negate = negate, out->it->by_attr = by_attr;
    return TK_OK;
}
static tk_status select_(jx *c, const jcall *k, jval *out) { return select_any(c, k, false, false, out); }
static tk_status reject(jx *c, const jcall *k, jval *out) { return select_any(c, k, true, false, out); }
static tk_status selectattr(jx *c, const jcall *k, jval *out) { return select_any(c, k, false, true, out); }
static tk_status rejectattr(jx *c, const jcall *k, jval *out) { return select_any(c, k, true, true, out); }

static tk_status next_unique(jx *c, jiter *it, jval *out) {
    if (!it->from) {
        TK_TRY(tk__jiter_new(c, it->src, &it->from));
        TK_TRY(tk__jdict_new(c, 0, &it->seen));
    }
    for (;;) {
        jval key, hit;
        TK_TRY(tk__jnext(c, it->from, out));
        if (out->type == J_MISSING) return TK_OK;
        TK_TRY(sort_key(c, *out, it->arg, it->negate, &key));
        TK_TRY(tk__jdict_get(c, it->seen.d, key, &hit));
        if (hit.type != J_MISSING) continue;
        return tk__jdict_set(c, it->seen.d, key, tk__jnone);
    }
}
static tk_status unique(jx *c, const jcall *k, jval *out) { /* case_sensitive, attribute */
    TK_TRY(lazy(c, k, next_unique, out));
    out->it->negate = flag(k, 0), out->it->arg = k->a[1];
    return TK_OK;
}

/* batch and slice cut a list into rows, when the first is asked for; seen: the rows, arg: the filler */
static tk_status cut(jx *c, jiter *it, jval list, bool batch) {
    int64_t n = (int64_t)list.l->n, by = (int64_t)it->pos, rows = batch ? (n + by - 1) / by : by, at = 0;
    bool filler = it->arg.type != J_MISSING && it->arg.type != J_NONE;
    TK_TRY(tk__jlist_new(c, J_LIST, (size_t)rows, &it->seen));
    for (int64_t r = 0; r < rows; r++) {
        int64_t have = batch ? TK_MIN(by, n - at) : n / by + (r < n % by);
        bool fill = filler && (batch ? have < by : r >= n % by);
        int64_t width = fill ? (batch ? by : have + 1) : have;
        jval *row = &it->seen.l->at[r];
        TK_TRY(tk__jlist_new(c, J_LIST, (size_t)width, row));
        for (int64_t i = 0; i < width; i++) row->l->at[i] = i < have ? list.l->at[at + i] : it->arg;
        at += have;
    }
    return TK_OK;
}
static tk_status next_row(jx *c, jiter *it, jval *out) {
    if (it->seen.type == J_MISSING) {
        jval list;
        TK_TRY(tk__jlist_of(c, it->src, &list));
        TK_TRY(cut(c, it, list, it->by_attr));
        it->pos = 0;
    }
    *out = it->pos < it->seen.l->n ? it->seen.l->at[it->pos++] : tk__jmissing;
    return TK_OK;
}
static tk_status rows(jx *c, const jcall *k, bool batch, jval *out) { /* count, fill_with */
    int64_t n;
    if (!tk__jinteger(k->a[0], &n) || n < 1)
        return JFAIL(c, "%s: a count of at least 1 is needed", batch ? "batch" : "slice");
    TK_TRY(lazy(c, k, next_row, out));
    out->it->pos = (size_t)TK_MIN(n, (int64_t)c->lim.value), out->it->arg = k->a[1], out->it->by_attr = batch;
    return TK_OK;
}
static tk_status batch(jx *c, const jcall *k, jval *out) { return rows(c, k, true, out); }
static tk_status slice(jx *c, const jcall *k, jval *out) { return rows(c, k, false, out); }

const jrow tk__jseq_filters[] = {
    { "batch", "linecount fill_with", 1, batch },
    { "count", "", 0, length },
    { "dictsort", "case_sensitive by reverse", 0, dictsort },
    { "first", "", 0, first },
    { "groupby", "attribute default case_sensitive", 1, groupby },
    { "items", "", 0, items },
    { "join", "d attribute", 0, join },
    { "last", "", 0, last },
    { "length", "", 0, length },
    { "list", "", 0, list_ },
    { "map", "*", 0, map },
    { "max", "case_sensitive attribute", 0, max_ },
    { "min", "case_sensitive attribute", 0, min_ },
    { "random", "", 0, NULL },
    { "reject", "*", 0, reject },
    { "rejectattr", "*", 0, rejectattr },
    { "reverse", "", 0, reverse },
    { "select", "*", 0, select_ },
    { "selectattr", "*", 0, selectattr },
    { "slice", "slices fill_with", 1, slice },
    { "sort", "reverse case_sensitive attribute", 0, sort },
    { "sum", "attribute start", 0, sum },
    { "unique", "case_sensitive attribute", 0, unique },
    { NULL, NULL, 0, NULL },
};
