/* SPDX-License-Identifier: Apache-2.0 */
/* Filters of single values, and the look-up of filters. Those that Python's str already does go to its
 * methods. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/jinja.h"

static bool given(const jcall *k, int i) { return k->a[i].type != J_MISSING && k->a[i].type != J_NONE; }

const jrow *tk__jrow_find(const jrow *table, const char *name, size_t n) {
    for (; table->name; table++) {
        if (strlen(table->name) == n && memcmp(table->name, name, n) == 0) return table;
    }
    return NULL;
}

const jrow *tk__jfilter_find(const jstr *name) {
    if (tk__jstr_eq(name, "tojson")) return &tk__jtojson;
    const jrow *row = tk__jrow_find(tk__jfilters, name->s, name->n);
    return row ? row : tk__jrow_find(tk__jseq_filters, name->s, name->n);
}

/* ---- by way of str's methods ------------------------------------------------------------------------- */

static tk_status method(jx *c, const jcall *k, const char *name, int n_args, jval *out) {
    jval text;
    TK_TRY(tk__jtext(c, k->self, &text));
    jargs args = { .pos = k->a, .n_pos = n_args };
    return tk__jcall_row(c, tk__jrow_find(tk__jstr_methods, name, strlen(name)), text, &args, out);
}
static tk_status upper(jx *c, const jcall *k, jval *out) { return method(c, k, "upper", 0, out); }
static tk_status lower(jx *c, const jcall *k, jval *out) { return method(c, k, "lower", 0, out); }
static tk_status capitalize(jx *c, const jcall *k, jval *out) { return method(c, k, "capitalize", 0, out); }
static tk_status trim(jx *c, const jcall *k, jval *out) { return method(c, k, "strip", given(k, 0), out); }

static tk_status center(jx *c, const jcall *k, jval *out) {
    jval width = k->a[0].type == J_MISSING ? tk__jint(80) : k->a[0];
    return method(c, &(jcall){ .self = k->self, .a = &width }, "center", 1, out);
}

/* str(x): what comes out is no Markup, even if x was */
static tk_status plain(jx *c, jval v, jval *out) {
    TK_TRY(tk__jtext(c, v, out));
    return out->s->safe ? tk__jstr_part(c, out->s->s, out->s->n, out->s->chars, false, out) : TK_OK;
}

static tk_status replace(jx *c, const jcall *k, jval *out) { /* old, new, count */
    jval s, a[3];
    TK_TRY(plain(c, k->self, &s));
    TK_TRY(plain(c, k->a[0], &a[0]));
    TK_TRY(plain(c, k->a[1], &a[1]));
    a[2] = given(k, 2) ? k->a[2] : tk__jint(-1);
    return method(c, &(jcall){ .self = s, .a = a }, "replace", 3, out);
}

static tk_status format(jx *c, const jcall *k, jval *out) {
    jval text, args;
    if (k->raw->n_pos && k->raw->n_kw)
        return JFAIL(c, "can't handle positional and keyword arguments at the same time");
    TK_TRY(tk__jtext(c, k->self, &text));
    if (k->raw->n_kw) {
        TK_TRY(tk__jdict_new(c, (size_t)k->raw->n_kw, &args));
        for (int i = 0; i < k->raw->n_kw; i++) {
            TK_TRY(tk__jdict_set(c, args.d, (jval){ .type = J_STR, .s = k->raw->names[i] }, k->raw->kw[i]));
        }
    } else {
        TK_TRY(tk__jlist_new(c, J_TUPLE, (size_t)k->raw->n_pos, &args));
        for (int i = 0; i < k->raw->n_pos; i++) args.l->at[i] = k->raw->pos[i];
    }
    return tk__jformat_percent(c, text.s, args, out);
}

/* Words begin after a run of -, white space, ( { [ <. */
static tk_status title(jx *c, const jcall *k, jval *out) {
    jval text, piece, one;
    size_t mark;
    TK_TRY(tk__jtext(c, k->self, &text));
    TK_TRY(tk__jmark(c, &mark));
    const char *p = text.s->s, *end = p + text.s->n;
    const jrow *up = tk__jrow_find(tk__jstr_methods, "upper", 5),
               *low = tk__jrow_find(tk__jstr_methods, "lower", 5);
    while (p < end) {
        const char *from = p, *rest = p;
        bool sep = false;
        for (const char *q = p; q < end; p = q) {
            uint32_t cp = tk__jutf8_next(&q);
            bool is = tk__jspace(cp) || (cp < 0x80 && strchr("-({[<", (int)cp) && cp);
            if (p == from) sep = is, rest = q;
            if (is != sep) break;
        }
        size_t a = (size_t)(from - text.s->s), b = (size_t)(rest - text.s->s), e = (size_t)(p - text.s->s);
        TK_TRY(tk__jstr_view(c, text.s, a, b, &piece));
        TK_TRY(tk__jcall_row(c, up, piece, &(jargs){ 0 }, &one));
        TK_TRY(tk__jprint(c, one));
        TK_TRY(tk__jstr_view(c, text.s, b, e, &piece));
        TK_TRY(tk__jcall_row(c, low, piece, &(jargs){ 0 }, &one));
        TK_TRY(tk__jprint(c, one));
    }
    return tk__jtake(c, mark, out);
}

static tk_status indent(jx *c, const jcall *k, jval *out) { /* width, first, blank */
    jval by, lines;
    int64_t width = 4;
    size_t mark;
    if (k->self.type == J_UNDEF) return JFAIL(c, "%s", k->self.undef);
    if (k->self.type != J_STR) return JFAIL(c, "indent: a string is needed, not %s", tk__jtype(k->self));
    if (k->a[0].type == J_STR)
        by = k->a[0];
    else {
        if (k->a[0].type != J_MISSING && !tk__jinteger(k->a[0], &width))
            return JFAIL(c, "indent: width must be a number");
        TK_TRY(tk__jstr_new(c, " ", 1, &by));
        TK_TRY(tk__jbinary(c, '*', by, tk__jint(width), &by));
    }
    bool blank = tk__jtruth(k->a[2]), safe = k->self.s->safe;
    TK_TRY(tk__jstr_new(c, "\n", 1, &lines));
    TK_TRY(tk__jstr_cat(c, k->self.s, lines.s, &lines));
    TK_TRY(tk__jcall_row(c, tk__jrow_find(tk__jstr_methods, "splitlines", 10), lines, &(jargs){ 0 }, &lines));
    TK_TRY(tk__jmark(c, &mark));
    if (tk__jtruth(k->a[1])) TK_TRY(tk__jprint(c, by));
    for (size_t i = 0; i < lines.l->n; i++) {
        if (i) TK_TRY(tk__jputs(c, "\n"));
        if (i && (blank || lines.l->at[i].s->n)) TK_TRY(tk__jprint(c, by));
        TK_TRY(tk__jprint(c, lines.l->at[i]));
    }
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = safe;
    return TK_OK;
}

static tk_status truncate_(jx *c, const jcall *k, jval *out) { /* length, killwords, end, leeway */
    int64_t length = 255, leeway = 5, n;
    jval end, parts;
    if (k->a[0].type != J_MISSING && !tk__jinteger(k->a[0], &length))
        return JFAIL(c, "truncate: length must be a number");
    if (given(k, 3) && !tk__jinteger(k->a[3], &leeway)) return JFAIL(c, "truncate: leeway must be a number");
    if (k->a[2].type == J_MISSING)
        TK_TRY(tk__jstr_new(c, "...", 3, &end));
    else
        TK_TRY(tk__jtext(c, k->a[2], &end));
    TK_TRY(tk__jlen(c, k->self, &n));
    if (length < (int64_t)end.s->chars)
        return JFAIL(c, "expected length >= %zu, got %lld", end.s->chars, (long long)length);
    if (leeway < 0) return JFAIL(c, "expected leeway >= 0, got %lld", (long long)leeway);
    *out = k->self;
    if (n <= length || n - length <= leeway) return TK_OK;
    if (k->self.type != J_STR) return JFAIL(c, "truncate: a string is needed, not %s", tk__jtype(k->self));
    TK_TRY(tk__jslice(c, k->self, tk__jnone, tk__jint(length - (int64_t)end.s->chars), tk__jnone, out));
    if (!tk__jtruth(k->a[1])) {
        jval a[2] = { tk__jnone, tk__jint(1) };
        TK_TRY(tk__jstr_new(c, " ", 1, &a[0]));
        TK_TRY(method(c, &(jcall){ .self = *out, .a = a }, "rsplit", 2, &parts));
        *out = parts.l->at[0];
    }
    return tk__jbinary(c, '+', *out, end, out);
}

static tk_status wordcount(jx *c, const jcall *k, jval *out) {
    jval text;
    bool word = false;
    TK_TRY(tk__jtext(c, k->self, &text));
    TK_TRY(tk__jstep(c, text.s->n));
    *out = tk__jint(0);
    for (const char *p = text.s->s, *end = p + text.s->n; p < end;) {
        uint32_t cp = tk__jutf8_next(&p);
        utf8proc_category_t t = utf8proc_category((utf8proc_int32_t)cp);
        bool is = cp == '_' || (t >= UTF8PROC_CATEGORY_LU && t <= UTF8PROC_CATEGORY_LO) ||
                  (t >= UTF8PROC_CATEGORY_ND && t <= UTF8PROC_CATEGORY_NO);
        out->i += is && !word;
        word = is;
    }
    return TK_OK;
}

/* ---- text and Markup --------------------------------------------------------------------------------- */

static tk_status string(jx *c, const jcall *k, jval *out) { return tk__jtext(c, k->self, out); }

static tk_status safe(jx *c, const jcall *k, jval *out) {
    TK_TRY(tk__jtext(c, k->self, out));
    return tk__jstr_part(c, out->s->s, out->s->n, out->s->chars, true, out);
}

static tk_status escape(jx *c, const jcall *k, jval *out) { return tk__jescape(c, k->self, out); }

static tk_status forceescape(jx *c, const jcall *k, jval *out) {
    jval text;
    TK_TRY(plain(c, k->self, &text));
    return tk__jescape(c, text, out);
}

static tk_status quote(jx *c, jval v, bool query) {
    jval text;
    TK_TRY(tk__jtext(c, v, &text));
    for (size_t i = 0; i < text.s->n; i++) {
        unsigned char b = (unsigned char)text.s->s[i];
        bool keep = (b >= '0' && b <= '9') || ((b | 32) >= 'a' && (b | 32) <= 'z') ||
                    (b && strchr("_.-~", b)) || (b == '/' && !query);
        char hex[4];
        snprintf(hex, sizeof hex, "%%%02X", b);
        TK_TRY(keep ? tk__jput(c, &b, 1) : b == ' ' && query ? tk__jputs(c, "+") : tk__jputs(c, hex));
    }
    return TK_OK;
}

static tk_status urlencode(jx *c, const jcall *k, jval *out) {
    size_t mark;
    jiter *it;
    jval from = k->self, pair, kv;
    TK_TRY(tk__jmark(c, &mark));
    if (from.type == J_DICT) from = (jval){ .type = J_VIEW, .view = 'i', .d = from.d };
    bool pairs = from.type == J_VIEW || from.type == J_LIST || from.type == J_TUPLE || from.type == J_ITER ||
                 from.type == J_RANGE || from.type == J_LOOP;
    if (!pairs) {
        TK_TRY(quote(c, from, false));
        return tk__jtake(c, mark, out);
    }
    TK_TRY(tk__jiter_new(c, from, &it));
    for (bool first = true;; first = false) {
        TK_TRY(tk__jnext(c, it, &pair));
        if (pair.type == J_MISSING) return tk__jtake(c, mark, out);
        TK_TRY(tk__jlist_of(c, pair, &kv));
        if (kv.l->n != 2) return JFAIL(c, "urlencode: pairs are needed");
        if (!first) TK_TRY(tk__jputs(c, "&"));
        TK_TRY(quote(c, kv.l->at[0], true));
        TK_TRY(tk__jputs(c, "="));
        TK_TRY(quote(c, kv.l->at[1], true));
    }
}

/* ---- numbers ----------------------------------------------------------------------------------------- */

/* The characters of a number: white space around it and single underscores between digits are gone. false if
 * it cannot be one. */
static bool number_text(const jstr *s, char *to, size_t cap) {
    size_t from = 0, end = s->n, n = 0;
    const char *p = s->s;
    while (from < end && tk__jspace((unsigned char)p[from])) from++;
    while (end > from && tk__jspace((unsigned char)p[end - 1])) end--;
    if (from == end || end - from >= cap) return false;
    for (size_t i = from; i < end; i++) {
        unsigned char b = (unsigned char)p[i];
        bool alnum = (b >= '0' && b <= '9') || ((b | 32) >= 'a' && (b | 32) <= 'z');
        if (b == '_') {
            bool around = i > from && i + 1 < end && p[i - 1] != '_' && p[i + 1] != '_' && p[i - 1] != '+' &&
                          p[i - 1] != '-';
            if (!around) return false;
        } else if (alnum || b == '.' || b == '+' || b == '-')
            to[n++] = (char)b;
        else
            return false;
    }
    to[n] = 0;
    return true;
}

static bool float_of(const jstr *s, double *f) {
    char text[512], *end;
    if (!number_text(s, text, sizeof text) || strpbrk(text, "xXpP(")) return false;
    *f = strtod(text, &end);
    return *end == 0;
}

/* 1: an integer; 0: none; -1: beyond 64 bits */
static int integer_of(const jstr *s, int64_t base, int64_t *to) {
    char text[512];
    if (!number_text(s, text, sizeof text)) return 0;
    const char *p = text;
    bool minus = *p == '-';
    if (*p == '-' || *p == '+') p++;
    char k = *p == '0' ? (char)(p[1] | 32) : 0;
    int prefix = k == 'b' ? 2 : k == 'o' ? 8 : k == 'x' ? 16 : 0;
    if (prefix && (base == prefix || base == 0)) p += 2, base = prefix;
    if (base == 0) {
        if (*p == '0' && strspn(p, "0") != strlen(p)) return 0;
        base = 10;
    }
    *to = 0;
    int fits = 1;
    if (!*p) return 0;
    for (; *p; p++) {
        int d = *p >= '0' && *p <= '9'                 ? *p - '0'
                : (*p | 32) >= 'a' && (*p | 32) <= 'z' ? (*p | 32) - 'a' + 10
                                                       : 99;
        if (d >= base) return 0;
        if (__builtin_mul_overflow(*to, base, to) || __builtin_sub_overflow(*to, d, to)) fits = -1;
    }
    if (!minus && __builtin_sub_overflow((int64_t)0, *to, to)) fits = -1;
    return fits;
}

static tk_status int_of_float(jx *c, double f, jval fallback, jval *out) {
    *out = fallback;
    if (isnan(f)) return TK_OK;
    if (fabs(f) >= 9.2233720368547758e18)
        return tk__jfail(c, TK_E_UNSUPPORTED, "an integer does not fit 64 bits");
    *out = tk__jint((int64_t)f);
    return TK_OK;
}

static tk_status int_(jx *c, const jcall *k, jval *out) { /* default, base */
    int64_t i, base = 10;
    double f;
    jval fallback = k->a[0].type == J_MISSING ? tk__jint(0) : k->a[0];
    if (k->a[1].type != J_MISSING && !tk__jinteger(k->a[1], &base))
        return JFAIL(c, "int: base must be a number");
    if (k->self.type == J_UNDEF) return JFAIL(c, "%s", k->self.undef);
    *out = fallback;
    if (tk__jinteger(k->self, &i))
        *out = tk__jint(i);
    else if (k->self.type == J_FLOAT && isinf(k->self.f))
        return JFAIL(c, "cannot convert float infinity to integer");
    else if (k->self.type == J_FLOAT)
        return int_of_float(c, k->self.f, fallback, out);
    else if (k->self.type == J_STR) {
        int got = base == 0 || (base >= 2 && base <= 36) ? integer_of(k->self.s, base, &i) : 0;
        if (got < 0) return tk__jfail(c, TK_E_UNSUPPORTED, "an integer does not fit 64 bits");
        if (got)
            *out = tk__jint(i);
        else if (float_of(k->self.s, &f) && !isinf(f))
            return int_of_float(c, f, fallback, out);
    }
    return TK_OK;
}

static tk_status float_(jx *c, const jcall *k, jval *out) { /* default */
    double f;
    if (k->self.type == J_UNDEF) return JFAIL(c, "%s", k->self.undef);
    if (tk__jnum(k->self, &f) || (k->self.type == J_STR && float_of(k->self.s, &f)))
        *out = tk__jfloat(f);
    else
        *out = k->a[0].type == J_MISSING ? tk__jfloat(0) : k->a[0];
    return TK_OK;
}

static tk_status abs_(jx *c, const jcall *k, jval *out) {
    int64_t i;
    if (k->self.type == J_FLOAT)
        *out = tk__jfloat(fabs(k->self.f));
    else if (k->self.type == J_UNDEF)
        return JFAIL(c, "%s", k->self.undef);
    else if (!tk__jinteger(k->self, &i))
        return JFAIL(c, "bad operand type for abs(): '%s'", tk__jtype(k->self));
    else if (i < 0)
        return tk__jbinary(c, '-', tk__jint(0), tk__jint(i), out);
    else
        *out = tk__jint(i);
    return TK_OK;
}

/* round(): the decimal digits of a double are exact in printf, so halves go to even as in Python */
static double round_to(double f, int64_t digits) {
    char text[700];
    if (!isfinite(f) || digits > 330) return f;
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", (int)digits, f);
        return strtod(text, NULL);
    }
    if (digits < -330) return 0 * f;
    double by = pow(10, (double)-digits);
    return rint(f / by) * by;
}

static tk_status round_(jx *c, const jcall *k, jval *out) { /* precision, method */
    int64_t digits = 0, i;
    double f;
    const char *how = "common";
    if (k->a[0].type != J_MISSING && !tk__jinteger(k->a[0], &digits))
        return JFAIL(c, "round: precision must be a number");
    if (k->a[1].type != J_MISSING) {
        if (k->a[1].type == J_STR && tk__jstr_eq(k->a[1].s, "ceil"))
            how = "ceil";
        else if (k->a[1].type == J_STR && tk__jstr_eq(k->a[1].s, "floor"))
            how = "floor";
        else if (k->a[1].type != J_STR || !tk__jstr_eq(k->a[1].s, "common")) {
            return JFAIL(c, "method must be common, ceil or floor");
        }
    }
    if (k->self.type == J_UNDEF) return JFAIL(c, "%s", k->self.undef);
    if (!tk__jnum(k->self, &f))
        return JFAIL(c, "type %s doesn't define __round__ method", tk__jtype(k->self));
    if (how[0] != 'c' || how[1] != 'o') {
        double by = pow(10, (double)digits);
        if (!isfinite(f * by))
            return JFAIL(c, "cannot convert float %s to integer", isnan(f) ? "NaN" : "infinity");
        *out = tk__jfloat((how[0] == 'c' ? ceil(f * by) : floor(f * by)) / by);
    } else if (k->self.type == J_FLOAT)
        *out = tk__jfloat(round_to(f, digits));
    else if (tk__jinteger(k->self, &i))
        *out = digits >= 0 ? tk__jint(i) : tk__jint((int64_t)round_to((double)i, digits));
    return TK_OK;
}

static tk_status filesizeformat(jx *c, const jcall *k, jval *out) { /* binary */
    static const char letters[] = "KMGTPEZY";
    jval bytes;
    bool binary = tk__jtruth(k->a[0]);
    double base = binary ? 1024 : 1000, unit = base;
    char text[64];
    if (k->self.type == J_STR && !float_of(k->self.s, &bytes.f))
        return JFAIL(c, "could not convert string to float");
    if (k->self.type != J_STR && !tk__jnum(k->self, &bytes.f))
        return JFAIL(c, "a number is needed, not %s", tk__jtype(k->self));
    if (bytes.f == 1) return tk__jstr_new(c, "1 Byte", 6, out);
    if (bytes.f < base)
        snprintf(text, sizeof text, "%lld Bytes", (long long)TK_MAX(bytes.f, -9e18));
    else {
        int i = 0;
        for (unit *= base; i < 7 && !(bytes.f < unit); i++) unit *= base;
        snprintf(text, sizeof text, "%.1f %c%sB", base * bytes.f / unit, i || binary ? letters[i] : 'k',
                 binary ? "i" : "");
    }
    return tk__jstr_new(c, text, strlen(text), out);
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

static tk_status default_(jx *c, const jcall *k, jval *out) { /* default_value, boolean */
    *out = k->self;
    if (k->self.type != J_UNDEF && !(tk__jtruth(k->a[1]) && !tk__jtruth(k->self))) return TK_OK;
    *out = k->a[0];
    return k->a[0].type == J_MISSING ? tk__jstr_new(c, "", 0, out) : TK_OK;
}

static tk_status attr(jx *c, const jcall *k, jval *out) { /* name */
    if (k->a[0].type != J_STR) return JFAIL(c, "attr: a name is needed");
    const jstr *s = k->a[0].s;
    TK_TRY(tk__jattribute(c, k->self, s, out));
    if (out->type != J_MISSING) return TK_OK;
    return tk__jundef(c, out, "'%s object' has no attribute '%.*s'", tk__jtype(k->self),
                      (int)TK_MIN(s->n, 80), s->s);
}

const jrow tk__jfilters[] = {
    { "abs", "", 0, abs_ },
    { "attr", "name", 1, attr },
    { "capitalize", "", 0, capitalize },
    { "center", "width", 0, center },
    { "d", "default_value boolean", 0, default_ },
    { "default", "default_value boolean", 0, default_ },
    { "e", "", 0, escape },
    { "escape", "", 0, escape },
    { "filesizeformat", "binary", 0, filesizeformat },
    { "float", "default", 0, float_ },
    { "forceescape", "", 0, forceescape },
    { "format", "*", 0, format },
    { "indent", "width first blank", 0, indent },
    { "int", "default base", 0, int_ },
    { "lower", "", 0, lower },
    { "pprint", "", 0, NULL },
    { "replace", "old new count", 2, replace },
    { "round", "precision method", 0, round_ },
    { "safe", "", 0, safe },
    { "string", "", 0, string },
    { "striptags", "", 0, NULL },
    { "title", "", 0, title },
    { "trim", "chars", 0, trim },
    { "truncate", "length killwords end leeway", 0, truncate_ },
    { "upper", "", 0, upper },
    { "urlencode", "", 0, urlencode },
    { "urlize", "*", 0, NULL },
    { "wordcount", "", 0, wordcount },
    { "wordwrap", "*", 0, NULL },
    { "xmlattr", "*", 0, NULL },
    { NULL, NULL, 0, NULL },
};
