/* SPDX-License-Identifier: Apache-2.0 */
/* Template text to tokens, as jinja2's lexer does it with trim_blocks and lstrip_blocks on: the newline after
 * a statement or comment goes, so do the blanks before one that starts a line; "-" takes all white space on
 * its side, "+" keeps it. Inside a tag an end mark only counts outside of brackets. */
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/jinja.h"

typedef struct lexer {
    jtokens *out;
    tk_arena *arena;
    const char *p, *end;
    int line;
    bool line_starting;
} lexer;

tk_status tk__jsyntax(int line, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return TK_FAIL(TK_E_FORMAT, "the chat template has an error in line %d\n%s\nuse another template", line,
                   text);
}

static tk_status push(lexer *x, jtoken t) {
    jtokens *o = x->out;
    if (o->n == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 256;
        jtoken *at = realloc(o->at, cap * sizeof *at);
        if (!at) return TK_FAIL(TK_E_NOMEM, "out of memory\nthe chat template has %zu tokens", o->n);
        o->at = at, o->cap = cap;
    }
    o->at[o->n++] = t;
    return TK_OK;
}
static tk_status push_type(lexer *x, jtok type) {
    return push(x, (jtoken){ .type = (uint8_t)type, .line = x->line });
}

static bool starts(const lexer *x, const char *p, const char *with) {
    size_t n = strlen(with);
    return (size_t)(x->end - p) >= n && memcmp(p, with, n) == 0;
}

static const char *skip_space(const char *p, const char *end) {
    while (p < end) {
        const char *q = p;
        if (!tk__jspace(tk__jutf8_next(&q))) break;
        p = q;
    }
    return p;
}

/* The end of [s, end) without its trailing white space */
static const char *strip_end(const char *s, const char *end) {
    while (end > s) {
        const char *q = end - 1;
        while (q > s && ((unsigned char)*q & 0xc0) == 0x80) q--;
        const char *r = q;
        if (!tk__jspace(tk__jutf8_next(&r))) break;
        end = q;
    }
    return end;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, const char *to) {
    for (; x->p < to; x->p++) x->line += *x->p == '\n';
}

/* The end of a tag at p: its length with what it swallows, 0 if none. Statements and comments take one
 * newline. */
static size_t tag_end(const lexer *x, const char *p, const char *mark, bool variable) {
    if (!variable && *p == '+' && starts(x, p + 1, mark)) return 3;
    if (*p == '-' && starts(x, p + 1, mark)) return (size_t)(skip_space(p + 3, x->end) - p);
    if (!starts(x, p, mark)) return 0;
    return !variable && p + 2 < x->end && p[2] == '\n' ? 3 : 2;
}

/* Emits the text [x->p, q) that stands before a tag whose sign (-, +, or 0) decides on its white space. */
static tk_status text_before(lexer *x, const char *q, char sign, bool variable) {
    const char *end = q;
    if (sign == '-')
        end = strip_end(x->p, q);
    else if (sign != '+' && !variable) {
        const char *bol = q;
        while (bol > x->p && bol[-1] != '\n') bol--;
        if ((bol > x->p || x->line_starting) && skip_space(bol, q) == q) end = bol;
    }
    if (end > x->p) {
        TK_TRY(push(x, (jtoken){ .type = T_DATA, .line = x->line, .s = x->p, .n = (size_t)(end - x->p) }));
    }
    advance(x, q);
    return TK_OK;
}

static void finish_tag(lexer *x, size_t n) {
    advance(x, x->p + n);
    x->line_starting = x->p[-1] == '\n';
}

/* If "{% raw %}" opens at q, emits the text before it and its content, and sets *was. */
static tk_status raw_block(lexer *x, const char *q, bool *was) {
    const char *p = q + 2;
    char sign = p < x->end && (*p == '-' || *p == '+') ? *p++ : 0;
    p = skip_space(p, x->end);
    *was = false;
    if (!starts(x, p, "raw")) return TK_OK;
    p = skip_space(p + 3, x->end);
    size_t n = starts(x, p, "-%}") ? (size_t)(skip_space(p + 3, x->end) - p) : starts(x, p, "%}") ? 2 : 0;
    if (!n) return TK_OK;
    *was = true;
    TK_TRY(text_before(x, q, sign, false));
    finish_tag(x, (size_t)(p - q) + n);
    for (const char *e = x->p; e + 1 < x->end; e++) {
        if (e[0] != '{' || e[1] != '%') continue;
        p = e + 2;
        sign = p < x->end && (*p == '-' || *p == '+') ? *p++ : 0;
        p = skip_space(p, x->end);
        if (!starts(x, p, "endraw")) continue;
        p = skip_space(p + 6, x->end);
        n = p < x->end ? tag_end(x, p, "%}", false) : 0;
        if (!n) continue;
        TK_TRY(text_before(x, e, sign, false));
        finish_tag(x, (size_t)(p - e) + n);
        return TK_OK;
    }
    return x->p < x->end ? JSYNTAX(x->line, "Missing end of raw directive")
                         : TK_OK; /* jinja2's own leniency */
}

static tk_status comment(lexer *x) {
    for (const char *p = x->p; p < x->end; p++) {
        size_t n = tag_end(x, p, "#}", false);
        if (!n) continue;
        advance(x, p);
        finish_tag(x, n);
        return TK_OK;
    }
    if (x->p < x->end) return JSYNTAX(x->line, "Missing end of comment tag");
    return TK_OK;
}

/* ---- inside a tag ------------------------------------------------------------------------------------ */

static void put_utf8(char **to, uint32_t cp) {
    *to += utf8proc_encode_char((utf8proc_int32_t)cp, (utf8proc_uint8_t *)*to);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One escape at *p (after the backslash), as Python's unicode-escape codec reads it. */
static tk_status escape(lexer *x, const char **p, const char *end, char **to) {
    static const char from[] = "\\'\"abfnrtv", into[] = "\\'\"\a\b\f\n\r\t\v";
    char c = *(*p)++;
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit)
        *(*to)++ = into[hit - from];
    else if (c == '\n') {
    } else if (c >= '0' && c <= '7') {
        uint32_t v = (uint32_t)(c - '0');
        for (int i = 0; i < 2 && *p < end && **p >= '0' && **p <= '7'; i++)
            v = v * 8 + (uint32_t)(*(*p)++ - '0');
        put_utf8(to, v);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        uint32_t v = 0;
        for (int i = c == 'x' ? 2 : c == 'u' ? 4 : 8; i; i--) {
            int d = *p < end ? hex_digit(*(*p)++) : -1;
            if (d < 0) return JSYNTAX(x->line, "truncated \\%c escape in a string", c);
            v = v << 4 | (uint32_t)d;
        }
        if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000)) {
            return JSYNTAX(x->line, "\\%c%04x in a string is no character", c, v);
        }
        put_utf8(to, v);
    } else if (c == 'N') {
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the chat template has an error in line %d\n\\N{...} is not supported\n"
                       "write the character itself",
                       x->line);
    } else if ((unsigned char)c >= 0x80) {
        /* jinja2 writes such a character as \x, \u or \U before it unescapes, so the backslash pairs up with
         * that */
        const char *q = --*p;
        uint32_t cp = tk__jutf8_next(&q);
        *p = q;
        *to += sprintf(*to, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    } else
        *(*to)++ = '\\', *(*to)++ = c;
    return TK_OK;
}

static tk_status string(lexer *x, bool *was) {
    char quote = *x->p;
    const char *p = x->p + 1;
    bool plain = true;
    while (p < x->end && *p != quote) {
        if (*p == '\\') plain = false, p++;
        if (p < x->end) p++;
    }
    *was = p < x->end;
    if (!*was) return TK_OK;
    jtoken t = { .type = T_STR, .line = x->line, .s = x->p + 1, .n = (size_t)(p - x->p - 1) };
    if (!plain) {
        /* longest growth: a backslash and two bytes of UTF-8 become \xe9, 4 bytes for 3 */
        char *to = tk_arena_alloc(x->arena, t.n * 3 + 1);
        if (!to) return TK_E_NOMEM;
        const char *from = t.s;
        t.s = to;
        while (from < p) {
            if (*from != '\\') {
                *to++ = *from++;
                continue;
            }
            from++;
            TK_TRY(escape(x, &from, p, &to));
        }
        t.n = (size_t)(to - t.s);
    }
    TK_TRY(push(x, t));
    advance(x, p + 1);
    return TK_OK;
}

/* The end of digits (of `base`) with single underscores between them, from p. */
static const char *digits(const char *p, const char *end, int base) {
    const char *q = p;
    for (;;) {
        const char *r = q > p && q < end && *q == '_' ? q + 1 : q;
        int d = r < end ? hex_digit(*r) : -1;
        if (d < 0 || d >= base) return q;
        q = r + 1;
    }
}

static tk_status number(lexer *x) {
    const char *s = x->p, *end = x->end, *p = s, *q;
    jtoken t = { .type = T_INT, .line = x->line };
    char text[512];
    size_t n = 0;
    if (s[-1] != '.') { /* in "a.0.1" there are two subscripts, not a number; a tag's mark stands before s */
        const char *frac = digits(s, end, 10), *e;
        if (frac < end && *frac == '.' && (q = digits(frac + 1, end, 10)) > frac + 1) p = q;
        e = p > s ? p : frac;
        if (e < end && (*e | 32) == 'e') {
            q = e + 1;
            if (q < end && (*q == '+' || *q == '-')) q++;
            const char *r = digits(q, end, 10);
            if (r > q) p = r;
        }
    }
    int base = 10;
    if (p > s)
        t.type = T_FLOAT;
    else if (*s == '0') {
        char k = s + 1 < end ? (char)(s[1] | 32) : 0;
        base = k == 'b' ? 2 : k == 'o' ? 8 : k == 'x' ? 16 : 10;
        const char *from = s + 2 < end && s[2] == '_' ? s + 3 : s + 2;
        if (base != 10 && (from >= end || (p = digits(from, end, base)) == from)) base = 10;
        if (base == 10) p = digits(s, end, 1); /* 007 is two tokens, so an error */
    } else
        p = digits(s, end, 10);
    for (q = base == 10 ? s : s + 2; q < p && n < sizeof text - 1; q++) {
        if (*q != '_') text[n++] = *q;
    }
    text[n] = 0;
    if (n == sizeof text - 1) return JSYNTAX(x->line, "a number of more than %zu digits", n - 1);
    if (t.type == T_FLOAT)
        t.f = strtod(text, NULL);
    else {
        for (q = text; *q; q++) {
            if (__builtin_mul_overflow(t.i, base, &t.i) || __builtin_add_overflow(t.i, hex_digit(*q), &t.i)) {
                return JSYNTAX(x->line, "the integer %s does not fit 64 bits", text);
            }
        }
    }
    x->p = p;
    return push(x, t);
}

static bool name_char(uint32_t cp) {
    if (cp < 0x80) return cp == '_' || (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC: return true;
    default: return false;
    }
}

static const struct {
    const char *text;
    uint8_t type;
} operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW },   { "==", T_EQ },      { "!=", T_NE },      { ">=", T_GE },
    { "<=", T_LE },       { "+", T_ADD },    { "-", T_SUB },      { "*", T_MUL },      { "/", T_DIV },
    { "%", T_MOD },       { "~", T_TILDE },  { "[", T_LBRACKET }, { "]", T_RBRACKET }, { "(", T_LPAREN },
    { ")", T_RPAREN },    { "{", T_LBRACE }, { "}", T_RBRACE },   { ">", T_GT },       { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },    { ":", T_COLON },    { "|", T_PIPE },     { ",", T_COMMA },
    { ";", T_SEMICOLON },
};

enum { MAX_BRACKETS = 256 };
typedef struct brackets {
    char open[MAX_BRACKETS];
    int n;
} brackets;

static tk_status balance(lexer *x, brackets *b, jtok type) {
    if (type == T_LBRACKET || type == T_LPAREN || type == T_LBRACE) {
        if (b->n == MAX_BRACKETS) return JSYNTAX(x->line, "more than %d brackets are open", MAX_BRACKETS);
        b->open[b->n++] = type == T_LBRACKET ? ']' : type == T_LPAREN ? ')' : '}';
    } else if (type == T_RBRACKET || type == T_RPAREN || type == T_RBRACE) {
        if (!b->n) return JSYNTAX(x->line, "unexpected '%c'", *x->p);
        if (b->open[--b->n] != *x->p)
            return JSYNTAX(x->line, "unexpected '%c', expected '%c'", *x->p, b->open[b->n]);
    }
    return TK_OK;
}

static tk_status operator(lexer *x, brackets *b) {
    for (size_t i = 0; i < TK_COUNT(operators); i++) {
        if (!starts(x, x->p, operators[i].text)) continue;
        TK_TRY(balance(x, b, operators[i].type));
        TK_TRY(push_type(x, operators[i].type));
        x->p += strlen(operators[i].text);
        return TK_OK;
    }
    return JSYNTAX(x->line, "unexpected character '%.*s'", (int)TK_MIN(x->end - x->p, 4), x->p);
}

static tk_status tag(lexer *x, bool variable) {
    brackets b = { .n = 0 };
    while (x->p < x->end) {
        size_t n = b.n ? 0 : tag_end(x, x->p, variable ? "}}" : "%}", variable);
        if (n) {
            TK_TRY(push_type(x, variable ? T_VAR_END : T_BLOCK_END));
            finish_tag(x, n);
            return TK_OK;
        }
        const char *q = skip_space(x->p, x->end);
        if (q > x->p) {
            advance(x, q);
            continue;
        }
        if (*x->p >= '0' && *x->p <= '9') {
            TK_TRY(number(x));
            continue;
        }
        for (const char *r = q; r < x->end && name_char(tk__jutf8_next(&r));) q = r;
        if (q > x->p) {
            const char *first = x->p;
            if (utf8proc_category((utf8proc_int32_t)tk__jutf8_next(&first)) == UTF8PROC_CATEGORY_ND) {
                return JSYNTAX(x->line, "Invalid character in identifier");
            }
            TK_TRY(push(x, (jtoken){ .type = T_NAME, .line = x->line, .s = x->p, .n = (size_t)(q - x->p) }));
            x->p = q;
            continue;
        }
        bool was = false;
        if (*x->p == '"' || *x->p == '\'') TK_TRY(string(x, &was));
        if (!was) TK_TRY(operator(x, &b));
    }
    return TK_OK;
}

tk_status tk__jlex(jtokens *t, tk_arena *arena, const char *src, size_t n) {
    lexer x = { .out = t, .arena = arena, .p = src, .end = src + n, .line = 1, .line_starting = true };
    while (x.p < x.end) {
        const char *q = x.p;
        while (q + 1 < x.end && !(q[0] == '{' && (q[1] == '{' || q[1] == '%' || q[1] == '#'))) q++;
        if (q + 1 >= x.end) {
            TK_TRY(
                push(&x, (jtoken){ .type = T_DATA, .line = x.line, .s = x.p, .n = (size_t)(x.end - x.p) }));
            break;
        }
        char kind = q[1];
        bool was = false;
        if (kind == '%') TK_TRY(raw_block(&x, q, &was));
        if (was) continue;
        char sign = q + 2 < x.end && (q[2] == '-' || q[2] == '+') ? q[2] : 0;
        TK_TRY(text_before(&x, q, sign, kind == '{'));
        jtok type = kind == '{' ? T_VAR : T_BLOCK;
        if (kind != '#') TK_TRY(push_type(&x, type));
        x.p = q + (sign ? 3 : 2);
        x.line_starting = false;
        TK_TRY(kind == '#' ? comment(&x) : tag(&x, kind == '{'));
    }
    return push_type(&x, T_EOF);
}
