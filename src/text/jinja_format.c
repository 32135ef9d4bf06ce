/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text under a format: repr of floats, "..." % args, "...".format(args). Both formats end in one
 * description (spec) and one writer. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/jinja.h"

enum { MAX_DIGITS = 600 };

/* Python's repr: the shortest digits that read back as the same number; an exponent below -4 or from 16 on.
 */
int tk__jfloat_repr(char *to, double f) {
    if (isnan(f)) return sprintf(to, "nan");
    if (isinf(f)) return sprintf(to, f < 0 ? "-inf" : "inf");
    char text[40], digits[24] = "";
    for (int p = 0; p < 17; p++) {
        snprintf(text, sizeof text, "%.*e", p, f);
        if (strtod(text, NULL) == f) break;
    }
    char *e = strchr(text, 'e');
    int exp = (int)strtol(e + 1, NULL, 10), n = 0;
    for (char *p = text; p < e; p++) {
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    }
    char *q = to;
    if (text[0] == '-') *q++ = '-';
    if (exp < -4 || exp >= 16) {
        *q++ = digits[0];
        if (n > 1) *q++ = '.';
        for (int i = 1; i < n; i++) *q++ = digits[i];
        q += sprintf(q, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
    } else if (exp < 0) {
        q += sprintf(q, "0.%.*s%.*s", -exp - 1, "0000", n, digits);
    } else {
        for (int i = 0; i <= exp; i++) *q++ = i < n ? digits[i] : '0';
        *q++ = '.';
        if (n <= exp + 1) *q++ = '0';
        for (int i = exp + 1; i < n; i++) *q++ = digits[i];
    }
    *q = 0;
    return (int)(q - to);
}

typedef struct spec {
    uint32_t fill;
    char align, sign, type, group; /* align < > ^ =; 0 where not given */
    bool alt, zero;                /* zero: '=' comes from a 0 before the width, which strings ignore */
    int64_t width, precision;      /* precision -1: not given */
} spec;

static tk_status pad(jx *c, const spec *s, const char *head, const char *text, size_t n, size_t chars) {
    size_t have = strlen(head) + chars,
           gap = s->width > 0 && (size_t)s->width > have ? (size_t)s->width - have : 0;
    size_t before = s->align == '>' || s->align == '=' ? gap : s->align == '^' ? gap / 2 : 0;
    if (gap > c->lim.value) return tk__jfail(c, TK_E_LIMIT, "it makes a string of %zu characters", gap);
    if (s->align == '=') TK_TRY(tk__jputs(c, head));
    for (size_t i = 0; i < before; i++) TK_TRY(tk__jputc(c, s->fill));
    if (s->align != '=') TK_TRY(tk__jputs(c, head));
    TK_TRY(tk__jput(c, text, n));
    for (size_t i = before; i < gap; i++) TK_TRY(tk__jputc(c, s->fill));
    return TK_OK;
}

static tk_status write_string(jx *c, spec s, const jstr *v) {
    size_t n = v->n, chars = v->chars;
    if (s.precision >= 0 && (size_t)s.precision < chars) {
        chars = (size_t)s.precision;
        n = tk__jutf8_at(v, chars);
    }
    if (!s.align || s.zero) s.align = '<';
    return pad(c, &s, "", v->s, n, chars);
}

/* Separators between groups of digits of the integer part; text has room. */
static void group_digits(char *text, char sep, int each) {
    size_t whole = strspn(text, "0123456789abcdefABCDEF"), n = strlen(text);
    for (size_t at = whole; at > (size_t)each; n++) {
        at -= (size_t)each;
        memmove(text + at + 1, text + at, n - at + 1);
        text[at] = sep;
    }
}

static tk_status write_integer(jx *c, spec s, int64_t i) {
    char digits[MAX_DIGITS * 2 + 64], head[8] = "";
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    char type = s.type ? s.type : 'd';
    int base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10, n = 0;
    char reversed[72];
    do reversed[n++] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[u % (unsigned)base];
    while (u /= (unsigned)base);
    if (s.precision > MAX_DIGITS) return tk__jfail(c, TK_E_LIMIT, "a precision beyond %d", MAX_DIGITS);
    int zeros = s.precision > n ? (int)s.precision - n : 0, k = 0;
    for (; k < zeros; k++) digits[k] = '0';
    while (n) digits[k++] = reversed[--n];
    digits[k] = 0;
    if (s.group) group_digits(digits, s.group, base == 10 ? 3 : 4);
    size_t h = 0;
    if (i < 0)
        head[h++] = '-';
    else if (s.sign == '+' || s.sign == ' ')
        head[h++] = s.sign;
    if (s.alt && base != 10) head[h++] = '0', head[h++] = type;
    if (!s.align) s.align = '>';
    return pad(c, &s, head, digits, strlen(digits), strlen(digits));
}

static tk_status write_float(jx *c, spec s, double f) {
    char text[MAX_DIGITS * 2 + 400], head[4] = "";
    if (s.precision > MAX_DIGITS) return tk__jfail(c, TK_E_LIMIT, "a precision beyond %d", MAX_DIGITS);
    char type = s.type ? s.type : 'r';
    int p = s.precision >= 0 ? (int)s.precision : 6;
    bool percent = type == '%';
    if (percent) f *= 100, type = 'f';
    double m = signbit(f) ? -f : f;
    if (!isfinite(m))
        sprintf(text, isnan(m) ? "nan" : "inf");
    else if (type == 'r' && s.precision < 0)
        tk__jfloat_repr(text, m);
    else if (type == 'r') { /* like g, but with one digit after the point */
        snprintf(text, sizeof text, "%.*g", p ? p : 1, m);
        if (!strpbrk(text, ".e")) strcat(text, ".0");
    } else {
        char f2[8] = { '%', s.alt ? '#' : '.', s.alt ? '.' : '*', s.alt ? '*' : type, s.alt ? type : 0, 0 };
        snprintf(text, sizeof text - 2, f2, p, m);
    }
    if (type >= 'A' && type <= 'Z') {
        for (char *q = text; *q; q++) *q = (char)(*q >= 'a' && *q <= 'z' ? *q - 32 : *q);
    }
    if (s.group) group_digits(text, s.group, 3);
    if (percent) strcat(text, "%");
    if (signbit(f) && !isnan(f))
        head[0] = '-';
    else if (s.sign == '+' || s.sign == ' ')
        head[0] = s.sign;
    if (!s.align) s.align = '>';
    return pad(c, &s, head, text, strlen(text), strlen(text));
}

/* ---- "..." % args ------------------------------------------------------------------------------------ */

typedef struct percent {
    const jstr *fmt;
    jval args;
    size_t used, n; /* positional arguments */
} percent;

static tk_status take(jx *c, percent *p, jval *out) {
    if (p->used >= p->n) return JFAIL(c, "not enough arguments for format string");
    *out = p->args.type == J_TUPLE ? p->args.l->at[p->used] : p->args;
    p->used++;
    return TK_OK;
}

static tk_status star_or_digits(jx *c, percent *p, const char **at, const char *end, int64_t *n) {
    jval v;
    *n = 0;
    if (*at < end && **at == '*') {
        ++*at;
        TK_TRY(take(c, p, &v));
        if (v.type != J_INT) return JFAIL(c, "* wants int");
        *n = v.i;
        return TK_OK;
    }
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        *n = *n * 10 + (**at - '0');
        if (*n > INT32_MAX) return tk__jfail(c, TK_E_LIMIT, "a width or precision is too big");
    }
    return TK_OK;
}

static tk_status convert(jx *c, const percent *p, spec s, char conv, jval v) {
    int64_t i;
    double f;
    size_t mark;
    jval text;
    switch (conv) {
    case 's':
    case 'r':
    case 'a':
        text = v;
        if (conv == 's')
            TK_TRY(tk__jtext(c, v, &text));
        else {
            TK_TRY(tk__jmark(c, &mark));
            TK_TRY(tk__jrepr(c, v));
            TK_TRY(tk__jtake(c, mark, &text));
            if (conv == 'a' && text.s->chars != text.s->n) {
                return tk__jfail(c, TK_E_UNSUPPORTED, "%%a of text that is not ASCII is not supported");
            }
        }
        if (p->fmt->safe) TK_TRY(tk__jescape(c, text, &text));
        if (!s.align) s.align = '>';
        s.fill = ' ';
        return write_string(c, s, text.s);
    case 'd':
    case 'i':
    case 'u':
        if (v.type == J_FLOAT && fabs(v.f) < 9.2e18) v = tk__jint((int64_t)v.f);
        if (!tk__jinteger(v, &i))
            return JFAIL(c, "%%%c format: a real number is required, not %s", conv, tk__jtype(v));
        s.type = 'd';
        return write_integer(c, s, i);
    case 'x':
    case 'X':
    case 'o':
        if (!tk__jinteger(v, &i))
            return JFAIL(c, "%%%c format: an integer is required, not %s", conv, tk__jtype(v));
        s.type = conv;
        return write_integer(c, s, i);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!tk__jnum(v, &f)) return JFAIL(c, "must be real number, not %s", tk__jtype(v));
        s.type = conv;
        return write_float(c, s, f);
    case 'c':
        if (!s.align) s.align = '>';
        if (v.type == J_STR && v.s->chars == 1) return write_string(c, s, v.s);
        if (!tk__jinteger(v, &i) || i < 0 || i > 0x10ffff || (i >= 0xd800 && i < 0xe000)) {
            return JFAIL(c, "%%c requires int or char");
        }
        TK_TRY(tk__jmark(c, &mark));
        TK_TRY(tk__jputc(c, (uint32_t)i));
        TK_TRY(tk__jtake(c, mark, &text));
        return write_string(c, s, text.s);
    default: return JFAIL(c, "unsupported format character '%c'", conv);
    }
}

static tk_status one_percent(jx *c, percent *p, const char **at, const char *end) {
    spec s = { .fill = ' ', .precision = -1 };
    jval v = tk__jmissing;
    bool zero = false;
    if (*at < end && **at == '(') {
        const char *from = ++*at;
        int depth = 1;
        while (*at < end && depth) depth += **at == '(' ? 1 : **at == ')' ? -1 : 0, ++*at;
        if (depth) return JFAIL(c, "incomplete format key");
        if (p->args.type != J_DICT) return JFAIL(c, "format requires a mapping");
        const jval *hit = tk__jdict_find(p->args.d, from, (size_t)(*at - 1 - from));
        if (!hit) return JFAIL(c, "KeyError: '%.*s'", (int)TK_MIN(*at - 1 - from, 80), from);
        v = *hit;
    }
    for (; *at < end && strchr("-+ #0", **at) && **at; ++*at) {
        if (**at == '-')
            s.align = '<';
        else if (**at == '#')
            s.alt = true;
        else if (**at == '0')
            zero = true;
        else if (s.sign != '+')
            s.sign = **at;
    }
    TK_TRY(star_or_digits(c, p, at, end, &s.width));
    if (s.width < 0) s.align = '<', s.width = -s.width;
    if (*at < end && **at == '.') {
        ++*at;
        TK_TRY(star_or_digits(c, p, at, end, &s.precision));
        if (s.precision < 0) s.precision = 0;
    }
    if (zero && s.align != '<') s.align = '=', s.fill = '0';
    while (*at < end && (**at == 'l' || **at == 'h' || **at == 'L')) ++*at;
    if (*at == end) return JFAIL(c, "incomplete format");
    char conv = *(*at)++;
    if (conv == '%') return tk__jputs(c, "%");
    if (v.type == J_MISSING) TK_TRY(take(c, p, &v));
    if (strchr("src", conv) && s.align == '=') s.align = '>', s.fill = ' ';
    return convert(c, p, s, conv, v);
}

tk_status tk__jformat_percent(jx *c, const jstr *fmt, jval args, jval *out) {
    percent p = { .fmt = fmt, .args = args, .n = args.type == J_TUPLE ? args.l->n : 1 };
    bool mapping = args.type == J_DICT || args.type == J_LIST || args.type == J_UNDEF || args.type == J_RANGE;
    const char *at = fmt->s, *end = at + fmt->n;
    size_t mark;
    TK_TRY(tk__jmark(c, &mark));
    while (at < end) {
        const char *q = memchr(at, '%', (size_t)(end - at));
        TK_TRY(tk__jput(c, at, (size_t)((q ? q : end) - at)));
        if (!q) break;
        at = q + 1;
        TK_TRY(one_percent(c, &p, &at, end));
    }
    if (p.used < p.n && !mapping) return JFAIL(c, "not all arguments converted during string formatting");
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = fmt->safe;
    return TK_OK;
}

/* ---- "...".format(args) ------------------------------------------------------------------------------ */

static tk_status parse_spec(jx *c, const char *p, const char *end, spec *s) {
    *s = (spec){ .fill = ' ', .precision = -1 };
    bool filled = false;
    if (p < end) {
        const char *q = p;
        uint32_t cp = tk__jutf8_next(&q);
        if (q < end && strchr("<>^=", *q))
            s->fill = cp, s->align = *q, p = q + 1, filled = true;
        else if (strchr("<>^=", *p))
            s->align = *p++;
    }
    if (p < end && (*p == '+' || *p == '-' || *p == ' ')) s->sign = *p++;
    if (p < end && *p == '#') s->alt = true, p++;
    if (p < end && *p == '0') {
        p++, s->zero = !s->align;
        if (s->zero) s->align = '=';
        if (!filled) s->fill = '0';
    }
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        if ((s->width = s->width * 10 + (*p - '0')) > INT32_MAX)
            return tk__jfail(c, TK_E_LIMIT, "a width is too big");
    }
    if (p < end && (*p == ',' || *p == '_')) s->group = *p++;
    if (p < end && *p == '.') {
        s->precision = 0;
        for (p++; p < end && *p >= '0' && *p <= '9'; p++) {
            if ((s->precision = s->precision * 10 + (*p - '0')) > INT32_MAX)
                return JFAIL(c, "a precision is too big");
        }
    }
    if (p < end) s->type = *p++;
    return p == end ? TK_OK : JFAIL(c, "Invalid format specifier");
}

static tk_status apply_spec(jx *c, const spec *s, bool plain, jval v) {
    int64_t i;
    double f;
    if (plain) return tk__jprint(c, v);
    if (v.type == J_STR) {
        if ((s->type && s->type != 's') || s->sign || (s->align == '=' && !s->zero) || s->alt || s->group) {
            return JFAIL(c, "Invalid format specifier for object of type 'str'");
        }
        return write_string(c, *s, v.s);
    }
    if (tk__jinteger(v, &i) && (!s->type || strchr("dxXobn", s->type))) {
        if (s->precision >= 0) return JFAIL(c, "Precision not allowed in integer format specifier");
        return write_integer(c, *s, i);
    }
    if (tk__jnum(v, &f) && (!s->type || strchr("eEfFgG%", s->type))) return write_float(c, *s, f);
    return JFAIL(c, "unsupported format specifier for an object of type '%s'", tk__jtype(v));
}

typedef struct braces {
    const jargs *args;
    int next;
    bool numbered;
} braces;

/* "0", "name", "" and what follows: .attr, [key] */
static tk_status field(jx *c, braces *b, const char *p, const char *end, jval *out) {
    const char *q = p;
    while (q < end && *q != '.' && *q != '[') q++;
    int64_t i = 0;
    bool digits = q > p;
    for (const char *r = p; r < q; r++) {
        digits = digits && *r >= '0' && *r <= '9';
        if (digits) i = i < 1000 ? i * 10 + (*r - '0') : i;
    }
    if (q == p || digits) {
        if (b->next && ((q == p) == b->numbered)) {
            return JFAIL(c, "cannot switch between manual field specification and automatic field numbering");
        }
        b->numbered = digits;
        if (q == p) i = b->next;
        b->next++;
        if (i >= b->args->n_pos)
            return JFAIL(c, "Replacement index %lld out of range for positional args tuple", (long long)i);
        *out = b->args->pos[i];
    } else {
        *out = tk__jmissing;
        for (int k = 0; k < b->args->n_kw; k++) {
            const jstr *name = b->args->names[k];
            if (name->n == (size_t)(q - p) && memcmp(name->s, p, name->n) == 0) *out = b->args->kw[k];
        }
        if (out->type == J_MISSING) return JFAIL(c, "KeyError: '%.*s'", (int)TK_MIN(q - p, 80), p);
    }
    while (q < end) {
        bool bracket = *q++ == '[';
        p = q;
        while (q < end && (bracket ? *q != ']' : *q != '.' && *q != '[')) q++;
        if (q == p) return JFAIL(c, "Empty attribute in format string");
        jval key;
        TK_TRY(tk__jstr_new(c, p, (size_t)(q - p), &key));
        if (!bracket)
            TK_TRY(tk__jgetattr(c, *out, key.s, out));
        else {
            char *stop;
            long long n = strtoll(key.s->s, &stop, 10);
            bool number = key.s->s[0] >= '0' && key.s->s[0] <= '9' && *stop == 0;
            TK_TRY(tk__jgetitem(c, *out, number ? tk__jint(n) : key, out));
            q++;
        }
    }
    return TK_OK;
}

static tk_status one_field(jx *c, const jstr *fmt, braces *b, const char **at, const char *end) {
    const char *p = *at, *q = p;
    while (q < end && *q != '}' && *q != '!' && *q != ':' && *q != '{')
        q += *q == '[' && memchr(q, ']', (size_t)(end - q))
                 ? (const char *)memchr(q, ']', (size_t)(end - q)) - q
                 : 1;
    jval v;
    TK_TRY(field(c, b, p, q, &v));
    char conv = 0;
    if (q + 1 < end && *q == '!') conv = q[1], q += 2;
    const char *from = q;
    if (q < end && *q == ':') {
        from = ++q;
        while (q < end && *q != '}' && *q != '{') q++;
    }
    if (q < end && *q == '{')
        return tk__jfail(c, TK_E_UNSUPPORTED, "a field inside a format specifier is not supported");
    if (q >= end || *q != '}') return JFAIL(c, "expected '}' before end of string");
    spec s;
    bool plain = from == q;
    TK_TRY(parse_spec(c, from, q, &s));
    if (conv == 'r' || conv == 's') {
        size_t mark;
        TK_TRY(tk__jmark(c, &mark));
        TK_TRY(conv == 'r' ? tk__jrepr(c, v) : tk__jprint(c, v));
        TK_TRY(tk__jtake(c, mark, &v));
    } else if (conv)
        return JFAIL(c, "Unknown conversion specifier '%c'", conv);
    if (fmt->safe && v.type == J_STR) TK_TRY(tk__jescape(c, v, &v));
    *at = q + 1;
    return apply_spec(c, &s, plain, v);
}

tk_status tk__jformat_braces(jx *c, const jstr *fmt, const jargs *args, jval *out) {
    braces b = { .args = args };
    const char *p = fmt->s, *end = p + fmt->n;
    size_t mark;
    TK_TRY(tk__jmark(c, &mark));
    while (p < end) {
        const char *q = p;
        while (q < end && *q != '{' && *q != '}') q++;
        TK_TRY(tk__jput(c, p, (size_t)(q - p)));
        if (q == end) break;
        p = q + 1;
        if (p < end && *p == *q) {
            TK_TRY(tk__jput(c, p++, 1));
            continue;
        }
        if (*q == '}') return JFAIL(c, "Single '}' encountered in format string");
        TK_TRY(one_field(c, fmt, &b, &p, end));
    }
    TK_TRY(tk__jtake(c, mark, out));
    out->s->safe = fmt->safe;
    return TK_OK;
}
