/* SPDX-License-Identifier: Apache-2.0 */
/* Tests (`x is y`), global functions, and the methods of dict, list, tuple, numbers and cycler. */
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "text/jinja.h"

/* ---- tests ------------------------------------------------------------------------------------------- */

const jrow *tk__jtest_find(const jstr *name) { return tk__jrow_find(tk__jtests, name->s, name->n); }

static tk_status yes(jval *out, bool is) {
    *out = tk__jbool(is);
    return TK_OK;
}

#define TYPE_TEST(name, condition)                                                                           \
    static tk_status name(jx *c, const jcall *k, jval *out) {                                                \
        (void)c;                                                                                             \
        jval v = k->self;                                                                                    \
        return yes(out, condition);                                                                          \
    }
TYPE_TEST(is_defined, v.type != J_UNDEF)
TYPE_TEST(is_undefined, v.type == J_UNDEF)
TYPE_TEST(is_none, v.type == J_NONE)
TYPE_TEST(is_boolean, v.type == J_BOOL)
TYPE_TEST(is_true, v.type == J_BOOL && v.b)
TYPE_TEST(is_false, v.type == J_BOOL && !v.b)
TYPE_TEST(is_integer, v.type == J_INT)
TYPE_TEST(is_float, v.type == J_FLOAT)
TYPE_TEST(is_number, v.type == J_INT || v.type == J_BOOL || v.type == J_FLOAT)
TYPE_TEST(is_string, v.type == J_STR)
TYPE_TEST(is_mapping, v.type == J_DICT)
TYPE_TEST(is_sequence, v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT ||
                           v.type == J_RANGE || v.type == J_UNDEF)
TYPE_TEST(is_iterable, v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE || v.type == J_DICT ||
                           v.type == J_VIEW || v.type == J_RANGE || v.type == J_ITER || v.type == J_UNDEF ||
                           v.type == J_LOOP)
TYPE_TEST(is_callable, v.type == J_FUNC || v.type == J_MACRO || v.type == J_LOOP || v.type == J_JOINER ||
                           v.type == J_UNDEF)
TYPE_TEST(is_escaped, v.type == J_STR && v.s->safe)
TYPE_TEST(is_filter, v.type == J_STR && tk__jfilter_find(v.s))
TYPE_TEST(is_test, v.type == J_STR && tk__jtest_find(v.s))

static tk_status is_case(jx *c, const jcall *k, const char *method, jval *out) {
    jval text;
    TK_TRY(tk__jtext(c, k->self, &text));
    return tk__jcall_row(c, tk__jrow_find(tk__jstr_methods, method, 7), text, &(jargs){ 0 }, out);
}
static tk_status is_lower(jx *c, const jcall *k, jval *out) { return is_case(c, k, "islower", out); }
static tk_status is_upper(jx *c, const jcall *k, jval *out) { return is_case(c, k, "isupper", out); }

static tk_status remainder_is(jx *c, jval v, jval by, int64_t want, jval *out) {
    bool eq;
    TK_TRY(tk__jbinary(c, '%', v, by, out));
    TK_TRY(tk__jequal(c, *out, tk__jint(want), &eq));
    return yes(out, eq);
}
static tk_status is_odd(jx *c, const jcall *k, jval *out) {
    return remainder_is(c, k->self, tk__jint(2), 1, out);
}
static tk_status is_even(jx *c, const jcall *k, jval *out) {
    return remainder_is(c, k->self, tk__jint(2), 0, out);
}
static tk_status is_divisible(jx *c, const jcall *k, jval *out) {
    return remainder_is(c, k->self, k->a[0], 0, out);
}

static tk_status compared(jx *c, const jcall *k, char op, jval *out) {
    bool is;
    TK_TRY(tk__jcompare(c, op, k->self, k->a[0], &is));
    return yes(out, is);
}
static tk_status is_eq(jx *c, const jcall *k, jval *out) { return compared(c, k, '=', out); }
static tk_status is_ne(jx *c, const jcall *k, jval *out) { return compared(c, k, '!', out); }
static tk_status is_lt(jx *c, const jcall *k, jval *out) { return compared(c, k, '<', out); }
static tk_status is_le(jx *c, const jcall *k, jval *out) { return compared(c, k, 'l', out); }
static tk_status is_gt(jx *c, const jcall *k, jval *out) { return compared(c, k, '>', out); }
static tk_status is_ge(jx *c, const jcall *k, jval *out) { return compared(c, k, 'g', out); }
static tk_status is_in(jx *c, const jcall *k, jval *out) { return compared(c, k, 'i', out); }

/* Python's identity: of values without one here, equality */
static tk_status is_sameas(jx *c, const jcall *k, jval *out) {
    jval a = k->self, b = k->a[0];
    bool same = a.type == b.type;
    if (same &&
        (a.type == J_INT || a.type == J_FLOAT || a.type == J_STR || a.type == J_BOOL || a.type == J_NONE)) {
        TK_TRY(tk__jequal(c, a, b, &same));
    } else if (same)
        same = a.type == J_LIST || a.type == J_TUPLE ? a.l->at == b.l->at && a.l->n == b.l->n : a.l == b.l;
    return yes(out, same);
}

const jrow tk__jtests[] = {
    { "defined", "", 0, is_defined },
    { "undefined", "", 0, is_undefined },
    { "none", "", 0, is_none },
    { "string", "", 0, is_string },
    { "mapping", "", 0, is_mapping },
    { "iterable", "", 0, is_iterable },
    { "sequence", "", 0, is_sequence },
    { "boolean", "", 0, is_boolean },
    { "true", "", 0, is_true },
    { "false", "", 0, is_false },
    { "integer", "", 0, is_integer },
    { "float", "", 0, is_float },
    { "number", "", 0, is_number },
    { "callable", "", 0, is_callable },
    { "escaped", "", 0, is_escaped },
    { "filter", "", 0, is_filter },
    { "test", "", 0, is_test },
    { "lower", "", 0, is_lower },
    { "upper", "", 0, is_upper },
    { "odd", "", 0, is_odd },
    { "even", "", 0, is_even },
    { "divisibleby", "num", 1, is_divisible },
    { "sameas", "other", 1, is_sameas },
    { "in", "seq", 1, is_in },
    { "==", ".", 1, is_eq },
    { "eq", ".", 1, is_eq },
    { "equalto", ".", 1, is_eq },
    { "!=", ".", 1, is_ne },
    { "ne", ".", 1, is_ne },
    { ">", ".", 1, is_gt },
    { "gt", ".", 1, is_gt },
    { "greaterthan", ".", 1, is_gt },
    { ">=", ".", 1, is_ge },
    { "ge", ".", 1, is_ge },
    { "<", ".", 1, is_lt },
    { "lt", ".", 1, is_lt },
    { "lessthan", ".", 1, is_lt },
    { "<=", ".", 1, is_le },
    { "le", ".", 1, is_le },
    { NULL, NULL, 0, NULL },
};

/* ---- global functions -------------------------------------------------------------------------------- */

enum { MAX_RANGE = 100000 }; /* jinja's sandbox */

static tk_status range(jx *c, const jcall *k, jval *out) {
    int64_t v[3] = { 0, 0, 1 }, *r, n = k->raw->n_pos;
    if (n < 1 || n > 3 || k->raw->n_kw)
        return JFAIL(c, "range expected 1 to 3 arguments, got %lld", (long long)n);
    for (int i = 0; i < n; i++) {
        if (!tk__jinteger(k->raw->pos[i], &v[n == 1 ? 1 : i])) {
            return JFAIL(c, "'%s' object cannot be interpreted as an integer", tk__jtype(k->raw->pos[i]));
        }
    }
    if (v[2] == 0) return JFAIL(c, "range() arg 3 must not be zero");
    double span = v[2] > 0 ? (double)v[1] - (double)v[0] : (double)v[0] - (double)v[1];
    double count = span <= 0 ? 0 : ceil(span / fabs((double)v[2]));
    if (count > MAX_RANGE)
        return tk__jfail(c, TK_E_LIMIT, "Range too big. The sandbox blocks ranges larger than %d.",
                         MAX_RANGE);
    TK_TRY(tk__jalloc(c, 4, sizeof *r, &r));
    memcpy(r, v, sizeof v);
    r[3] = (int64_t)count;
    *out = (jval){ .type = J_RANGE, .range = r };
    return TK_OK;
}

/* dict(mapping or pairs, **more) */
static tk_status dict(jx *c, const jcall *k, jval *out) {
    const jargs *a = k->raw;
    TK_TRY(tk__jdict_new(c, (size_t)a->n_kw, out));
    if (a->n_pos > 1) return JFAIL(c, "dict expected at most 1 argument, got %d", a->n_pos);
    if (a->n_pos && a->pos[0].type == J_UNDEF) return JFAIL(c, "%s", a->pos[0].undef);
    if (a->n_pos && a->pos[0].type == J_DICT) {
        const jdict *d = a->pos[0].d;
        for (size_t i = 0; i < d->n; i++) TK_TRY(tk__jdict_set(c, out->d, d->at[i].key, d->at[i].val));
    } else if (a->n_pos) {
        jval list, pair;
        TK_TRY(tk__jlist_of(c, a->pos[0], &list));
        for (size_t i = 0; i < list.l->n; i++) {
            TK_TRY(tk__jlist_of(c, list.l->at[i], &pair));
            if (pair.l->n != 2)
                return JFAIL(c, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                             pair.l->n);
            TK_TRY(tk__jdict_set(c, out->d, pair.l->at[0], pair.l->at[1]));
        }
    }
    for (int i = 0; i < a->n_kw; i++)
        TK_TRY(tk__jdict_set(c, out->d, (jval){ .type = J_STR, .s = a->names[i] }, a->kw[i]));
    return TK_OK;
}

static tk_status fromkeys(jx *c, const jcall *k, jval *out) { /* iterable, value */
    jval keys;
    TK_TRY(tk__jlist_of(c, k->a[0], &keys));
    TK_TRY(tk__jdict_new(c, keys.l->n, out));
    for (size_t i = 0; i < keys.l->n; i++)
        TK_TRY(tk__jdict_set(c, out->d, keys.l->at[i], k->a[1].type == J_MISSING ? tk__jnone : k->a[1]));
    return TK_OK;
}

static tk_status namespace(jx *c, const jcall *k, jval *out) {
    TK_TRY(dict(c, k, out));
    out->type = J_NS;
    for (size_t i = 0; i < out->d->n; i++) {
        jval key = out->d->at[i].key;
        if (key.type == J_STR && key.s->n && key.s->s[0] == '_') {
            return JFAIL(c, "Chat templates cannot store underscore-prefixed attributes on a namespace");
        }
    }
    return TK_OK;
}

static tk_status joiner(jx *c, const jcall *k, jval *out) { /* sep */
    TK_TRY(
        tk__jlist_new(c, J_LIST, 3, out)); /* what the first call gives not, whether it was, what it gave */
    TK_TRY(tk__jstr_new(c, ", ", 2, &out->l->at[0]));
    if (k->a[0].type != J_MISSING) out->l->at[0] = k->a[0];
    out->l->at[1] = tk__jbool(false);
    out->type = J_JOINER;
    return tk__jstr_new(c, "", 0, &out->l->at[2]);
}

static tk_status cycler(jx *c, const jcall *k, jval *out) {
    int n = k->raw->n_pos;
    if (!n || k->raw->n_kw) return JFAIL(c, "at least one item has to be provided");
    TK_TRY(tk__jlist_new(c, J_LIST, (size_t)n + 1, out));
    memcpy(out->l->at, k->raw->pos, (size_t)n * sizeof(jval));
    out->l->at[n] = tk__jint(0);
    out->l->n = (size_t)n;
    out->type = J_CYCLER;
    return TK_OK;
}
static tk_status cycler_next(jx *c, const jcall *k, jval *out) {
    (void)c;
    jlist *l = k->self.l;
    int64_t *at = &l->at[l->n].i;
    *out = l->at[*at];
    *at = (*at + 1) % (int64_t)l->n;
    return TK_OK;
}
static tk_status cycler_reset(jx *c, const jcall *k, jval *out) {
    (void)c;
    k->self.l->at[k->self.l->n] = tk__jint(0);
    *out = tk__jnone;
    return TK_OK;
}

static tk_status raise_exception(jx *c, const jcall *k, jval *out) { /* message */
    TK_TRY(tk__jtext(c, k->a[0], out));
    jval text;
    TK_TRY(tk__jstr_new(c, out->s->s, out->s->n, &text)); /* ends with a NUL */
    return TK_FAIL(TK_E_FORMAT,
                   "the chat template refuses this conversation\n%.1200s\n"
                   "change the conversation; the rule is in line %d of the template",
                   text.s->s, c->line);
}

static tk_status strftime_now(jx *c, const jcall *k, jval *out) { /* format */
    if (k->a[0].type != J_STR)
        return JFAIL(c, "strftime() argument 1 must be str, not %s", tk__jtype(k->a[0]));
    const char *p = k->a[0].s->s, *end = p + k->a[0].s->n;
    struct timespec now = { .tv_sec = (time_t)c->lim.now };
    struct tm tm;
    if (!c->lim.now) clock_gettime(CLOCK_REALTIME, &now);
    if (!localtime_r(&now.tv_sec, &tm)) return JFAIL(c, "strftime_now: no such time");
    locale_t plain =
        newlocale(LC_ALL_MASK, "C", (locale_t)0); /* Python formats in the C locale unless told otherwise */
    size_t mark;
    tk_status s = tk__jmark(c, &mark);
    while (s == TK_OK && p < end) {
        char fmt[4] = { '%', 0 }, text[128];
        if (*p != '%' || p + 1 == end) {
            s = tk__jput(c, p++, 1);
            continue;
        }
        size_t n = p[1] == '-' && p + 2 < end ? 2 : 1;
        memcpy(fmt + 1, p + 1, n);
        p += 1 + n;
        char last = fmt[n];
        if (last == 'f')
            s = tk__jput(c, text, (size_t)snprintf(text, sizeof text, "%06ld", now.tv_nsec / 1000));
        else if (last != 'z' && last != 'Z') { /* a time without zone: both are empty */
            s = tk__jput(c, text,
                         plain ? strftime_l(text, sizeof text, fmt, &tm, plain)
                               : strftime(text, sizeof text, fmt, &tm));
        }
    }
    if (plain) freelocale(plain);
    return s == TK_OK ? tk__jtake(c, mark, out) : s;
}

const jrow tk__jglobals[] = {
    { "range", "*", 0, range },
    { "dict", "*", 0, dict },
    { "namespace", "*", 0, namespace },
    { "joiner", "sep", 0, joiner },
    { "cycler", "*", 0, cycler },
    { "raise_exception", "message", 1, raise_exception },
    { "strftime_now", "format", 1, strftime_now },
    { "lipsum", "*", 0, NULL },
    { "self", "*", 0, NULL },
    { NULL, NULL, 0, NULL },
};

/* ---- methods ----------------------------------------------------------------------------------------- */

static tk_status view(const jcall *k, char which, jval *out) {
    *out = (jval){ .type = J_VIEW, .view = (uint8_t)which, .d = k->self.d };
    return TK_OK;
}
static tk_status keys(jx *c, const jcall *k, jval *out) { return (void)c, view(k, 'k', out); }
static tk_status values(jx *c, const jcall *k, jval *out) { return (void)c, view(k, 'v', out); }
static tk_status items(jx *c, const jcall *k, jval *out) { return (void)c, view(k, 'i', out); }

static tk_status get(jx *c, const jcall *k, jval *out) { /* key, default */
    TK_TRY(tk__jdict_get(c, k->self.d, k->a[0], out));
    if (out->type == J_MISSING) *out = k->a[1].type == J_MISSING ? tk__jnone : k->a[1];
    return TK_OK;
}

static tk_status copy(jx *c, const jcall *k, jval *out) { /* nothing can change either, so they may be one */
    (void)c;
    *out = k->self;
    return TK_OK;
}

/* list, tuple or range as a list */
static tk_status as_list(jx *c, jval v, jlist **l) {
    if (v.type == J_RANGE) TK_TRY(tk__jlist_of(c, v, &v));
    *l = v.l;
    return TK_OK;
}

static tk_status count(jx *c, const jcall *k, jval *out) {
    jlist *l;
    TK_TRY(as_list(c, k->self, &l));
    *out = tk__jint(0);
    for (size_t i = 0; i < l->n; i++) {
        bool eq;
        TK_TRY(tk__jequal(c, l->at[i], k->a[0], &eq));
        out->i += eq;
    }
    return TK_OK;
}

static tk_status index_(jx *c, const jcall *k, jval *out) { /* value, start, stop */
    jlist *l;
    TK_TRY(as_list(c, k->self, &l));
    int64_t n = (int64_t)l->n, from = 0, to = n;
    tk__jinteger(k->a[1], &from);
    tk__jinteger(k->a[2], &to);
    if (from < 0) from = TK_MAX(from + n, 0);
    if (to < 0) to = TK_MAX(to + n, 0);
    for (; from < TK_MIN(to, n); from++) {
        bool eq;
        TK_TRY(tk__jequal(c, l->at[from], k->a[0], &eq));
        *out = tk__jint(from);
        if (eq) return TK_OK;
    }
    return JFAIL(c, "the value is not in the %s", tk__jtype(k->self));
}

static tk_status bit_length(jx *c, const jcall *k, jval *out) {
    (void)c;
    int64_t i = 0;
    tk__jinteger(k->self, &i);
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    *out = tk__jint(u ? 64 - __builtin_clzll(u) : 0);
    return TK_OK;
}

static tk_status is_whole(jx *c, const jcall *k, jval *out) {
    (void)c;
    return yes(out, isfinite(k->self.f) && k->self.f == floor(k->self.f));
}

const jrow tk__jdict_methods[] = {
    { "get", ". .", 1, get },    { "items", "", 0, items }, { "keys", "", 0, keys },
    { "values", "", 0, values }, { "copy", "", 0, copy },   { "fromkeys", ". .", 1, fromkeys },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jdict_functions[] = { { "fromkeys", ". .", 1, fromkeys }, { NULL, NULL, 0, NULL } };
const jrow tk__jrange_methods[] = {
    { "index", ".", 1, index_ },
    { "count", ".", 1, count },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jlist_methods[] = {
    { "index", ". . .", 1, index_ },
    { "count", ".", 1, count },
    { "copy", "", 0, copy },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jtuple_methods[] = {
    { "index", ". . .", 1, index_ },
    { "count", ".", 1, count },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jint_methods[] = {
    { "bit_length", "", 0, bit_length },
    { "bit_count", "", 0, NULL },
    { "to_bytes", "*", 0, NULL },
    { "as_integer_ratio", "", 0, NULL },
    { "conjugate", "", 0, copy },
    { "real", "", 0, NULL },
    { "imag", "", 0, NULL },
    { "numerator", "", 0, NULL },
    { "denominator", "", 0, NULL },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jfloat_methods[] = {
    { "is_integer", "", 0, is_whole }, { "hex", "", 0, NULL },  { "as_integer_ratio", "", 0, NULL },
    { "conjugate", "", 0, copy },      { "real", "", 0, NULL }, { "imag", "", 0, NULL },
    { NULL, NULL, 0, NULL },
};
const jrow tk__jcycler_methods[] = {
    { "next", "", 0, cycler_next },
    { "reset", "", 0, cycler_reset },
    { NULL, NULL, 0, NULL },
};
