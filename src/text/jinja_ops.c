/* SPDX-License-Identifier: Apache-2.0 */
/* Python's operators as templates meet them: str and repr, comparison, arithmetic, attributes and subscripts.
 * Integers have 64 bits; what would leave them is refused, never rounded. */
#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

#include "text/jinja.h"

/* ---- str and repr ------------------------------------------------------------------------------------ */

static bool printable(uint32_t cp) {
    if (cp < 0x7f) return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static tk_status repr_str(jx *c, const jstr *s) {
    const char *p = s->s, *end = s->s + s->n;
    char quote = s->n && memchr(p, '\'', s->n) && !memchr(p, '"', s->n) ? '"' : '\'', text[16];
    if (s->safe) TK_TRY(tk__jputs(c, "Markup("));
    TK_TRY(tk__jputc(c, (uint32_t)quote));
    while (p < end) {
        const char *from = p;
        uint32_t cp = tk__jutf8_next(&p);
        const char *esc = cp == '\n'   ? "\\n"
                          : cp == '\r' ? "\\r"
                          : cp == '\t' ? "\\t"
                          : cp == '\\' ? "\\\\"
                                       : NULL;
        if (esc)
            TK_TRY(tk__jputs(c, esc));
        else if (cp == (uint32_t)quote) {
            TK_TRY(tk__jputc(c, '\\'));
            TK_TRY(tk__jputc(c, cp));
        } else if (printable(cp))
            TK_TRY(tk__jput(c, from, (size_t)(p - from)));
        else {
            snprintf(text, sizeof text, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
            TK_TRY(tk__jputs(c, text));
        }
    }
    TK_TRY(tk__jputc(c, (uint32_t)quote));
    return s->safe ? tk__jputs(c, ")") : TK_OK;
}

static tk_status repr_items(jx *c, const jval *at, size_t n, const char *open, const char *close) {
    TK_TRY(tk__jputs(c, open));
    for (size_t i = 0; i < n; i++) {
        if (i) TK_TRY(tk__jputs(c, ", "));
        TK_TRY(tk__jrepr(c, at[i]));
    }
    return tk__jputs(c, close);
}

/* what: 'd' {k: v}, 'k' [k], 'v' [v], 'i' [(k, v)] */
static tk_status repr_dict(jx *c, const jdict *d, char what) {
    TK_TRY(tk__jputs(c, what == 'd' ? "{" : "["));
    for (size_t i = 0; i < d->n; i++) {
        if (i) TK_TRY(tk__jputs(c, ", "));
        if (what == 'i') TK_TRY(tk__jputs(c, "("));
        if (what != 'v') TK_TRY(tk__jrepr(c, d->at[i].key));
        if (what == 'd' || what == 'i') TK_TRY(tk__jputs(c, what == 'd' ? ": " : ", "));
        if (what != 'k') TK_TRY(tk__jrepr(c, d->at[i].val));
        if (what == 'i') TK_TRY(tk__jputs(c, ")"));
    }
    return tk__jputs(c, what == 'd' ? "}" : "]");
}

static tk_status repr_other(jx *c, jval v) {
    char text[128];
    const int64_t *r = v.range;
    switch (v.type) {
    case J_RANGE:
        if (r[2] == 1)
            snprintf(text, sizeof text, "range(%lld, %lld)", (long long)r[0], (long long)r[1]);
        else
            snprintf(text, sizeof text, "range(%lld, %lld, %lld)", (long long)r[0], (long long)r[1],
                     (long long)r[2]);
        return tk__jputs(c, text);
    case J_VIEW:
        TK_TRY(tk__jputs(c, v.view == 'k' ? "dict_keys(" : v.view == 'v' ? "dict_values(" : "dict_items("));
        TK_TRY(repr_dict(c, v.d, (char)v.view));
        return tk__jputs(c, ")");
    case J_NS:
        TK_TRY(tk__jputs(c, "<Namespace "));
        TK_TRY(repr_dict(c, v.d, 'd'));
        return tk__jputs(c, ">");
    case J_MACRO:
        TK_TRY(tk__jputs(c, "<Macro "));
        if (v.macro->node->val.type != J_STR)
            TK_TRY(tk__jputs(c, "anonymous"));
        else
            TK_TRY(repr_str(c, v.macro->node->val.s));
        return tk__jputs(c, ">");
    case J_LOOP: {
        int64_t n;
        TK_TRY(tk__jlen(c, v, &n));
        snprintf(text, sizeof text, "<LoopContext %lld/%lld>", (long long)v.loop->index0 + 1, (long long)n);
        return tk__jputs(c, text);
    }
    default: /* Python shows an address: no text could be equal */
        return tk__jfail(c, TK_E_UNSUPPORTED, "it prints a %s, which has no text", tk__jtype(v));
    }
}

tk_status tk__jrepr(jx *c, jval v) {
    char text[40];
    tk_status s;
    switch (v.type) {
    case J_MISSING:
    case J_UNDEF: return tk__jputs(c, "Undefined");
    case J_NONE: return tk__jputs(c, "None");
    case J_BOOL: return tk__jputs(c, v.b ? "True" : "False");
    case J_INT: return tk__jput(c, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.i));
    case J_FLOAT: return tk__jput(c, text, (size_t)tk__jfloat_repr(text, v.f));
    case J_STR: return repr_str(c, v.s);
    default: break;
    }
    TK_TRY(tk__jenter(c));
    if (v.type == J_LIST)
        s = repr_items(c, v.l->at, v.l->n, "[", "]");
    else if (v.type == J_TUPLE)
        s = repr_items(c, v.l->at, v.l->n, "(", v.l->n == 1 ? ",)" : ")");
    else if (v.type == J_DICT)
        s = repr_dict(c, v.d, 'd');
    else
        s = repr_other(c, v);
    c->depth--;
    return s;
}

tk_status tk__jprint(jx *c, jval v) {
    if (v.type == J_STR) return tk__jput(c, v.s->s, v.s->n);
    if (v.type == J_UNDEF || v.type == J_MISSING) return TK_OK;
    return tk__jrepr(c, v);
}

tk_status tk__jtext(jx *c, jval v, jval *out) {
    size_t mark;
    *out = v;
    if (v.type == J_STR) return TK_OK;
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(tk__jprint(c, v));
    return tk__jtake(c, mark, out);
}

tk_status tk__jescape(jx *c, jval v, jval *out) {
    size_t mark;
    *out = v;
    if (v.type == J_STR && v.s->safe) return TK_OK;
    TK_TRY(tk__jtext(c, v, &v));
    TK_TRY(tk__jmark(c, &mark));
    for (size_t i = 0, from = 0; i <= v.s->n; i++) {
        char ch = i < v.s->n ? v.s->s[i] : 0;
        const char *esc = ch == '&'    ? "&amp;"
                          : ch == '<'  ? "&lt;"
                          : ch == '>'  ? "&gt;"
                          : ch == '"'  ? "&#34;"
                          : ch == '\'' ? "&#39;"
                                       : NULL;
        if (!esc && i < v.s->n) continue;
        TK_TRY(tk__jput(c, v.s->s + from, i - from));
        if (esc) TK_TRY(tk__jputs(c, esc));
        from = i + 1;
    }
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = true;
    return TK_OK;
}

/* ---- comparison -------------------------------------------------------------------------------------- */

static bool is_number(jval v) { return v.type == J_INT || v.type == J_BOOL || v.type == J_FLOAT; }

/* -1, 0, 1, or 2 where a NaN is met. long double holds 64-bit integers where Tokamak is used on x86. */
static int order_numbers(jval a, jval b) {
    int64_t i, k;
    if (tk__jinteger(a, &i) && tk__jinteger(b, &k)) return (i > k) - (i < k);
    long double x = a.type == J_FLOAT ? a.f : a.type == J_INT ? (long double)a.i : a.b;
    long double y = b.type == J_FLOAT ? b.f : b.type == J_INT ? (long double)b.i : b.b;
    return x != x || y != y ? 2 : (x > y) - (x < y);
}

static int order_strings(const jstr *a, const jstr *b) { /* bytes of UTF-8 sort as code points */
    size_t n = TK_MIN(a->n, b->n);
    int d = n ? memcmp(a->s, b->s, n) : 0;
    return d ? (d > 0) - (d < 0) : (a->n > b->n) - (a->n < b->n);
}

static tk_status equal_dicts(jx *c, const jdict *a, const jdict *b, bool *eq) {
    *eq = a->n == b->n;
    for (size_t i = 0; *eq && i < a->n; i++) {
        jval other;
        TK_TRY(tk__jdict_get(c, b, a->at[i].key, &other));
        *eq = other.type != J_MISSING;
        if (*eq) TK_TRY(tk__jequal(c, a->at[i].val, other, eq));
    }
    return TK_OK;
}

tk_status tk__jequal(jx *c, jval a, jval b, bool *eq) {
    TK_TRY(tk__jstep(c, 0));
    *eq = false;
    if (is_number(a) && is_number(b)) {
        *eq = order_numbers(a, b) == 0;
        return TK_OK;
    }
    if (a.type != b.type) return TK_OK;
    tk_status s = TK_OK;
    switch (a.type) {
    case J_NONE:
    case J_UNDEF: *eq = true; return TK_OK;
    case J_STR:
        TK_TRY(tk__jstep(c, a.s->n));
        *eq = a.s->n == b.s->n && order_strings(a.s, b.s) == 0;
        return TK_OK;
    case J_LIST:
    case J_TUPLE:
        TK_TRY(tk__jenter(c));
        *eq = a.l->n == b.l->n;
        for (size_t i = 0; s == TK_OK && *eq && a.l->at != b.l->at && i < a.l->n; i++) {
            s = tk__jequal(c, a.l->at[i], b.l->at[i], eq);
        }
        c->depth--;
        return s;
    case J_DICT:
        TK_TRY(tk__jenter(c));
        if (a.d == b.d)
            *eq = true;
        else
            s = equal_dicts(c, a.d, b.d, eq);
        c->depth--;
        return s;
    case J_RANGE: {
        const int64_t *x = a.range, *y = b.range;
        *eq = x[3] == y[3] && (!x[3] || (x[0] == y[0] && (x[3] == 1 || x[2] == y[2])));
        return TK_OK;
    }
    case J_FUNC: *eq = a.fn == b.fn; return TK_OK;
    default: *eq = a.l == b.l && a.view == b.view; return TK_OK;
    }
}

static tk_status cannot_order(jx *c, const char *op, jval a, jval b) {
    const jval *u = a.type == J_UNDEF ? &a : b.type == J_UNDEF ? &b : NULL;
    if (u) return JFAIL(c, "%s", u->undef);
    return JFAIL(c, "'%s' not supported between instances of '%s' and '%s'", op, tk__jtype(a), tk__jtype(b));
}

static tk_status order(jx *c, const char *op, jval a, jval b, int *o) {
    TK_TRY(tk__jstep(c, 0));
    if (is_number(a) && is_number(b)) {
        *o = order_numbers(a, b);
        return TK_OK;
    }
    if (a.type != b.type || (a.type != J_STR && a.type != J_LIST && a.type != J_TUPLE))
        return cannot_order(c, op, a, b);
    if (a.type == J_STR) {
        *o = order_strings(a.s, b.s);
        return TK_OK;
    }
    TK_TRY(tk__jenter(c));
    for (size_t i = 0; i < TK_MIN(a.l->n, b.l->n); i++) {
        bool eq;
        TK_TRY(tk__jequal(c, a.l->at[i], b.l->at[i], &eq));
        if (eq) continue;
        TK_TRY(order(c, op, a.l->at[i], b.l->at[i], o));
        c->depth--;
        return TK_OK;
    }
    c->depth--;
    *o = (a.l->n > b.l->n) - (a.l->n < b.l->n);
    return TK_OK;
}

tk_status tk__jless(jx *c, jval a, jval b, bool *less) {
    int o;
    TK_TRY(order(c, "<", a, b, &o));
    *less = o == -1;
    return TK_OK;
}

tk_status tk__jcompare(jx *c, char op, jval a, jval b, bool *yes) {
    int o = 0;
    switch (op) {
    case '=': return tk__jequal(c, a, b, yes);
    case '!':
        TK_TRY(tk__jequal(c, a, b, yes));
        *yes = !*yes;
        return TK_OK;
    case 'i': return tk__jcontains(c, b, a, yes);
    case 'n':
        TK_TRY(tk__jcontains(c, b, a, yes));
        *yes = !*yes;
        return TK_OK;
    case '<':
        TK_TRY(order(c, "<", a, b, &o));
        *yes = o == -1;
        return TK_OK;
    case '>':
        TK_TRY(order(c, ">", a, b, &o));
        *yes = o == 1;
        return TK_OK;
    case 'l':
        TK_TRY(order(c, "<=", a, b, &o));
        *yes = o == -1 || o == 0;
        return TK_OK;
    default:
        TK_TRY(order(c, ">=", a, b, &o));
        *yes = o == 1 || o == 0;
        return TK_OK;
    }
}

/* ---- arithmetic -------------------------------------------------------------------------------------- */

static tk_status overflow(jx *c) { return tk__jfail(c, TK_E_UNSUPPORTED, "an integer does not fit 64 bits"); }

static tk_status power(jx *c, int64_t a, int64_t b, jval *out) {
    int64_t r = 1;
    for (; b; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(r, a, &r)) return overflow(c);
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) return overflow(c);
    }
    *out = tk__jint(r);
    return TK_OK;
}

static tk_status integers(jx *c, char op, int64_t a, int64_t b, jval *out) {
    int64_t r = 0;
    bool bad = false;
    if ((op == '/' || op == 'f' || op == '%') && b == 0) return JFAIL(c, "division by zero");
    switch (op) {
    case '+': bad = __builtin_add_overflow(a, b, &r); break;
    case '-': bad = __builtin_sub_overflow(a, b, &r); break;
    case '*': bad = __builtin_mul_overflow(a, b, &r); break;
    case '/': *out = tk__jfloat((double)a / (double)b); return TK_OK;
    case 'p':
        if (b >= 0) return power(c, a, b, out);
        if (a == 0) return JFAIL(c, "0.0 cannot be raised to a negative power");
        *out = tk__jfloat(pow((double)a, (double)b));
        return TK_OK;
    default: /* floors, as Python does */
        if (b == -1) {
            bad = op == 'f' && __builtin_sub_overflow((int64_t)0, a, &r);
            break;
        }
        r = op == 'f' ? a / b : a % b;
        if (a % b != 0 && ((a < 0) != (b < 0))) r += op == 'f' ? -1 : b;
    }
    *out = tk__jint(r);
    return bad ? overflow(c) : TK_OK;
}

static tk_status floats(jx *c, char op, double a, double b, jval *out) {
    double r = 0;
    if ((op == '/' || op == 'f' || op == '%') && b == 0) return JFAIL(c, "float division by zero");
    switch (op) {
    case '+': r = a + b; break;
    case '-': r = a - b; break;
    case '*': r = a * b; break;
    case '/': r = a / b; break;
    case 'p':
        if (a == 0 && b < 0) return JFAIL(c, "0.0 cannot be raised to a negative power");
        if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) {
            return tk__jfail(c, TK_E_UNSUPPORTED, "complex numbers are not supported");
        }
        r = pow(a, b);
        if (isinf(r) && isfinite(a) && isfinite(b)) return JFAIL(c, "Numerical result out of range");
        break;
    default: {
        double m = fmod(a, b), q = (a - m) / b;
        if (m != 0 && ((b < 0) != (m < 0)))
            m += b, q -= 1;
        else if (m == 0)
            m = copysign(0, b);
        if (op == '%')
            r = m;
        else if (q != 0)
            r = floor(q) + (q - floor(q) > 0.5 ? 1 : 0);
        else
            r = copysign(0, a / b);
    }
    }
    *out = tk__jfloat(r);
    return TK_OK;
}

static tk_status repeat(jx *c, jval v, int64_t times, jval *out) {
    size_t n = times > 0 ? (size_t)times : 0, all;
    if (v.type == J_STR) {
        size_t mark;
        if (!tk_mul(n, v.s->n, &all) || all > c->lim.value) {
            return tk__jfail(c, TK_E_LIMIT, "it makes a string of more than %zu bytes", c->lim.value);
        }
        TK_TRY(tk__jmark(c, &mark));
        for (size_t i = 0; v.s->n && i < n; i++) TK_TRY(tk__jput(c, v.s->s, v.s->n));
        TK_TRY(tk__jtake(c, mark, out));
        out->s->safe = v.s->safe;
        return TK_OK;
    }
    if (!tk_mul(n, v.l->n, &all)) all = SIZE_MAX;
    TK_TRY(tk__jlist_new(c, (jtype)v.type, all, out));
    for (size_t i = 0; i < all; i++) out->l->at[i] = v.l->at[i % v.l->n];
    return TK_OK;
}

static bool is_seq(jval v) { return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE; }

tk_status tk__jbinary(jx *c, char op, jval a, jval b, jval *out) {
    static const struct {
        char op;
        const char *text;
    } names[] = {
        { '+', "+" },  { '-', "-" }, { '*', "*" },           { '/', "/" },
        { 'f', "//" }, { '%', "%" }, { 'p', "** or pow()" },
    };
    int64_t i, k;
    double x, y;
    if (op == '%' && a.type == J_STR) return tk__jformat_percent(c, a.s, b, out);
    if (a.type == J_UNDEF) return JFAIL(c, "%s", a.undef);
    if (b.type == J_UNDEF) return JFAIL(c, "%s", b.undef);
    if (tk__jinteger(a, &i) && tk__jinteger(b, &k)) return integers(c, op, i, k, out);
    if (tk__jnum(a, &x) && tk__jnum(b, &y)) return floats(c, op, x, y, out);
    if (op == '+' && a.type == J_STR && b.type == J_STR) {
        if (a.s->safe || b.s->safe) {
            TK_TRY(tk__jescape(c, a, &a));
            TK_TRY(tk__jescape(c, b, &b));
        }
        return tk__jstr_cat(c, a.s, b.s, out);
    }
    if (op == '+' && a.type == b.type && (a.type == J_LIST || a.type == J_TUPLE)) {
        TK_TRY(tk__jlist_new(c, (jtype)a.type, a.l->n + b.l->n, out));
        if (a.l->n) memcpy(out->l->at, a.l->at, a.l->n * sizeof(jval));
        if (b.l->n) memcpy(out->l->at + a.l->n, b.l->at, b.l->n * sizeof(jval));
        return TK_OK;
    }
    if (op == '*' && is_seq(a) && tk__jinteger(b, &k)) return repeat(c, a, k, out);
    if (op == '*' && is_seq(b) && tk__jinteger(a, &k)) return repeat(c, b, k, out);
    if (op == '+' && is_seq(a)) {
        return JFAIL(c, "can only concatenate %s (not \"%s\") to %s", tk__jtype(a), tk__jtype(b),
                     tk__jtype(a));
    }
    const char *name = "";
    for (size_t n = 0; n < TK_COUNT(names); n++) {
        if (names[n].op == op) name = names[n].text;
    }
    return JFAIL(c, "unsupported operand type(s) for %s: '%s' and '%s'", name, tk__jtype(a), tk__jtype(b));
}

/* ---- attributes and subscripts ----------------------------------------------------------------------- */

static const struct {
    jtype type;
    const jrow *methods;
    const char *mutators;
} methods_of[] = {
    { J_STR, tk__jstr_methods, "" },
    { J_LIST, tk__jlist_methods, " append clear pop reverse insert sort extend remove " },
    { J_TUPLE, tk__jtuple_methods, "" },
    { J_RANGE, tk__jrange_methods, "" },
    { J_FUNC, tk__jdict_functions, "" }, /* of `dict` only */
    { J_DICT, tk__jdict_methods, " clear pop popitem setdefault update " },
    { J_INT, tk__jint_methods, "" },
    { J_BOOL, tk__jint_methods, "" },
    { J_FLOAT, tk__jfloat_methods, "" },
    { J_LOOP, tk__jloop_methods, "" },
    { J_CYCLER, tk__jcycler_methods, "" },
};

static tk_status bound(jx *c, const jrow *row, jval self, jval *out) {
    jfunc *f;
    if (!row->fn) return tk__jfail(c, TK_E_UNSUPPORTED, "%s.%s is not supported", tk__jtype(self), row->name);
    TK_TRY(tk__jalloc(c, 1, sizeof *f, &f));
    *f = (jfunc){ row, self };
    *out = (jval){ .type = J_FUNC, .fn = f };
    return TK_OK;
}

static tk_status unsafe(jx *c, jval obj, const jstr *name, jval *out) {
    return tk__jundef(c, out, "access to attribute '%.*s' of '%s' object is unsafe.",
                      (int)TK_MIN(name->n, 80), name->s, tk__jtype(obj));
}

tk_status tk__jattribute(jx *c, jval obj, const jstr *name, jval *out) {
    *out = tk__jmissing;
    if (obj.type == J_UNDEF) {
        if (name->n > 4 && memcmp(name->s, "__", 2) == 0 && memcmp(name->s + name->n - 2, "__", 2) == 0)
            return TK_OK;
        return JFAIL(c, "%s", obj.undef);
    }
    if (obj.type == J_NS) {
        const jval *v = tk__jdict_find(obj.d, name->s, name->n);
        if (v) *out = *v;
        return TK_OK;
    }
    if (name->n > 3 && memcmp(name->s, "__", 2) == 0) return unsafe(c, obj, name, out);
    if (obj.type == J_TUPLE && obj.l->group && (tk__jstr_eq(name, "grouper") || tk__jstr_eq(name, "list"))) {
        *out = obj.l->at[name->s[0] == 'l'];
        return TK_OK;
    }
    if (obj.type == J_LOOP) {
        TK_TRY(tk__jloop_attr(c, obj.loop, name, out));
        if (out->type != J_MISSING) return TK_OK;
    }
    if (obj.type == J_MACRO && tk__jstr_eq(name, "name")) {
        *out = obj.macro->node->val;
        return TK_OK;
    }
    if (obj.type == J_CYCLER && tk__jstr_eq(name, "current")) {
        *out = obj.l->at[obj.l->at[obj.l->n].i];
        return TK_OK;
    }
    static const char *const bounds[] = { "start", "stop", "step" };
    for (size_t i = 0; obj.type == J_RANGE && i < TK_COUNT(bounds); i++)
        if (tk__jstr_eq(name, bounds[i])) *out = tk__jint(obj.range[i]);
    if (obj.type == J_FUNC && strcmp(obj.fn->row->name, "dict") != 0) return TK_OK;
    for (size_t i = 0; i < TK_COUNT(methods_of); i++) {
        if (methods_of[i].type != obj.type) continue;
        const jrow *row = tk__jrow_find(methods_of[i].methods, name->s, name->n);
        if (row) return bound(c, row, obj, out);
        char padded[32];
        int n = snprintf(padded, sizeof padded, " %.*s ", (int)TK_MIN(name->n, 20), name->s);
        if (n > 2 && strstr(methods_of[i].mutators, padded)) return unsafe(c, obj, name, out);
    }
    return TK_OK;
}

/* The item, or J_MISSING where Python raises TypeError or LookupError. */
static tk_status item(jx *c, jval obj, jval key, jval *out) {
    int64_t i;
    *out = tk__jmissing;
    if (obj.type == J_UNDEF) return JFAIL(c, "%s", obj.undef);
    if (obj.type == J_DICT) {
        if (key.type == J_LIST || key.type == J_DICT || key.type == J_VIEW) return TK_OK; /* unhashable */
        return tk__jdict_get(c, obj.d, key, out);
    }
    if (!tk__jinteger(key, &i)) return TK_OK;
    int64_t n = obj.type == J_STR                           ? (int64_t)obj.s->chars
                : obj.type == J_LIST || obj.type == J_TUPLE ? (int64_t)obj.l->n
                : obj.type == J_RANGE                       ? obj.range[3]
                                                            : 0;
    if (i < 0) i += n;
    if (i < 0 || i >= n) return TK_OK;
    if (obj.type == J_RANGE)
        *out = tk__jint(obj.range[0] + i * obj.range[2]);
    else if (obj.type == J_STR) {
        size_t from = tk__jutf8_at(obj.s, (size_t)i);
        const char *end = obj.s->s + from;
        tk__jutf8_next(&end);
        TK_TRY(tk__jstep(c, obj.s->chars == obj.s->n ? 0 : from));
        return tk__jstr_part(c, obj.s->s + from, (size_t)(end - obj.s->s) - from, 1, obj.s->safe, out);
    } else
        *out = obj.l->at[i];
    return TK_OK;
}

static tk_status no_such(jx *c, jval obj, jval key, jval *out) {
    const char *type = obj.type == J_NONE ? "None" : tk__jtype(obj);
    const char *object = obj.type == J_NONE ? "" : " object";
    if (key.type == J_STR) {
        return tk__jundef(c, out, "'%s%s' has no attribute '%.*s'", type, object, (int)TK_MIN(key.s->n, 120),
                          key.s->s);
    }
    jval text;
    size_t mark;
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(tk__jrepr(c, key));
    TK_TRY(tk__jtake(c, mark, &text));
    return tk__jundef(c, out, "%s%s has no element %.120s", type, object, text.s->s);
}

static tk_status name_value(jx *c, const jstr *name, jval *out) {
    return tk__jstr_part(c, name->s, name->n, name->chars, false, out);
}

tk_status tk__jgetattr(jx *c, jval obj, const jstr *name, jval *out) {
    jval key;
    TK_TRY(tk__jattribute(c, obj, name, out));
    if (out->type != J_MISSING) {
        return name->s[0] == '_' && out->type != J_UNDEF ? unsafe(c, obj, name, out) : TK_OK;
    }
    TK_TRY(name_value(c, name, &key));
    TK_TRY(item(c, obj, key, out));
    return out->type == J_MISSING ? no_such(c, obj, key, out) : TK_OK;
}

tk_status tk__jgetitem(jx *c, jval obj, jval key, jval *out) {
    TK_TRY(item(c, obj, key, out));
    if (out->type != J_MISSING) return TK_OK;
    if (key.type == J_STR) {
        TK_TRY(tk__jattribute(c, obj, key.s, out));
        if (out->type != J_MISSING) {
            return key.s->n && key.s->s[0] == '_' && out->type != J_UNDEF ? unsafe(c, obj, key.s, out)
                                                                          : TK_OK;
        }
    }
    return no_such(c, obj, key, out);
}

/* One bound of a slice, as Python's PySlice_AdjustIndices leaves it. */
static tk_status slice_bound(jx *c, jval v, int64_t n, bool down, int64_t fallback, int64_t *out) {
    *out = fallback;
    if (v.type == J_NONE) return TK_OK;
    if (v.type == J_UNDEF) return JFAIL(c, "slice indices must be integers or None, and %s", v.undef);
    if (!tk__jinteger(v, out)) return JFAIL(c, "slice indices must be integers or None");
    if (*out < 0) {
        *out += n;
        if (*out < 0) *out = down ? -1 : 0;
    } else if (*out >= n)
        *out = down ? n - 1 : n;
    return TK_OK;
}

tk_status tk__jslice(jx *c, jval obj, jval start, jval stop, jval step, jval *out) {
    int64_t from, to, by = 1, n;
    if (obj.type == J_UNDEF) return JFAIL(c, "%s", obj.undef);
    if (!is_seq(obj) && obj.type != J_RANGE)
        return JFAIL(c, "'%s' object is not subscriptable by a slice", tk__jtype(obj));
    TK_TRY(tk__jlen(c, obj, &n));
    if (step.type != J_NONE && !tk__jinteger(step, &by))
        return JFAIL(c, "slice indices must be integers or None");
    if (by == 0) return JFAIL(c, "slice step cannot be zero");
    if (by == INT64_MIN) by++;
    TK_TRY(slice_bound(c, start, n, by < 0, by < 0 ? n - 1 : 0, &from));
    TK_TRY(slice_bound(c, stop, n, by < 0, by < 0 ? -1 : n, &to));
    int64_t count =
        by > 0 ? (to > from ? (to - from - 1) / by + 1 : 0) : (from > to ? (from - to - 1) / -by + 1 : 0);
    if (obj.type == J_RANGE) {
        int64_t *r;
        TK_TRY(tk__jalloc(c, 4, sizeof *r, &r));
        r[0] = obj.range[0] + from * obj.range[2], r[1] = obj.range[0] + to * obj.range[2];
        r[3] = count;
        if (__builtin_mul_overflow(obj.range[2], by, &r[2])) return overflow(c);
        *out = (jval){ .type = J_RANGE, .range = r };
        return TK_OK;
    }
    if (obj.type != J_STR) {
        TK_TRY(tk__jlist_new(c, (jtype)obj.type, (size_t)count, out));
        for (int64_t i = 0; i < count; i++) out->l->at[i] = obj.l->at[from + i * by];
        return TK_OK;
    }
    if (by == 1) {
        if (count == 0) return tk__jstr_view(c, obj.s, 0, 0, out);
        TK_TRY(tk__jstep(c, obj.s->chars == obj.s->n ? 0 : obj.s->n));
        return tk__jstr_view(c, obj.s, tk__jutf8_at(obj.s, (size_t)from), tk__jutf8_at(obj.s, (size_t)to),
                             out);
    }
    size_t mark, *at = NULL;
    bool ascii = obj.s->chars == obj.s->n;
    TK_TRY(tk__jmark(c, &mark));
    if (!ascii) { /* where each code point begins */
        TK_TRY(tk__jalloc(c, obj.s->chars + 1, sizeof *at, &at));
        for (size_t i = 0, k = 0; i <= obj.s->n; i++) {
            if (i == obj.s->n || ((unsigned char)obj.s->s[i] & 0xc0) != 0x80) at[k++] = i;
        }
    }
    for (int64_t i = 0, k = from; i < count; i++, k += by) {
        size_t b = ascii ? (size_t)k : at[k], e = ascii ? b + 1 : at[k + 1];
        TK_TRY(tk__jput(c, obj.s->s + b, e - b));
    }
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = obj.s->safe;
    return TK_OK;
}

bool tk__jsized(jval v) {
    return is_seq(v) || v.type == J_DICT || v.type == J_VIEW || v.type == J_RANGE || v.type == J_UNDEF ||
           v.type == J_LOOP;
}

tk_status tk__jlen(jx *c, jval v, int64_t *n) {
    jval len;
    switch (v.type) {
    case J_UNDEF: *n = 0; return TK_OK;
    case J_STR: *n = (int64_t)v.s->chars; return TK_OK;
    case J_LIST:
    case J_TUPLE: *n = (int64_t)v.l->n; return TK_OK;
    case J_DICT:
    case J_VIEW: *n = (int64_t)v.d->n; return TK_OK;
    case J_RANGE: *n = v.range[3]; return TK_OK;
    case J_LOOP:
        TK_TRY(tk__jloop_attr(c, v.loop, &(jstr){ .s = "length", .n = 6, .chars = 6 }, &len));
        *n = len.i;
        return TK_OK;
    default: return JFAIL(c, "object of type '%s' has no len()", tk__jtype(v));
    }
}
