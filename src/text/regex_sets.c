/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of tokenizer.json, translated for the Oniguruma at hand. The library that made them embeds a newer
 * one whose Unicode is 16.0; Debian's speaks 14.0. So every class is resolved here, from tables of what the
 * newer one answers (unicode_sets.h), to the plain ranges of code points that it means, and only the rest of
 * the syntax is left to Oniguruma. What would still mean something else there (\X, options that change
 * classes, callouts) is refused by name. */
#include <stdlib.h>

#include "text/tokenizer.h"
#include "text/unicode_sets.h"

enum { DEPTH_MAX = 64, OUT_MAX = 8 << 20, LAST = 0x10FFFF };

typedef struct range {
    uint32_t from, to;
} range;
typedef struct set { /* sorted, apart from each other, once sorted() was called */
    range *r;
    size_t n, cap;
    bool failed;
} set;

typedef struct reader {
    const char *pattern, *p;
    tk_buf *out;
    bool fold;             /* (?i) holds here */
    bool folds[DEPTH_MAX]; /* of the groups around */
    int depth;
} reader;

static tk_status refuse(const reader *z, const char *what, const char *from, size_t n) {
    return TK_FAIL(
        TK_E_UNSUPPORTED,
        "the tokenizer's pattern uses %s %.*s, which this build does not know\nthe pattern is %.200s", what,
        (int)TK_MIN(n, (size_t)40), from, z->pattern);
}

/* ---- sets of code points --------------------------------------------------------------------------------
 */

static void add(set *s, uint32_t from, uint32_t to) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        range *fresh = realloc(s->r, cap * sizeof *fresh);
        if (!fresh) {
            s->failed = true;
            return;
        }
        s->r = fresh, s->cap = cap;
    }
    s->r[s->n++] = (range){ from, to };
}

static int by_start(const void *a, const void *b) {
    const range *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

static void sorted(set *s) {
    size_t n = 0;
    if (s->n) qsort(s->r, s->n, sizeof *s->r, by_start);
    for (size_t i = 0; i < s->n; i++) {
        if (n && s->r[i].from <= s->r[n - 1].to + 1)
            s->r[n - 1].to = TK_MAX(s->r[n - 1].to, s->r[i].to);
        else
            s->r[n++] = s->r[i];
    }
    s->n = n;
}

static void add_all(set *to, const set *from, bool inverted) {
    uint32_t next = 0;
    for (size_t i = 0; i < from->n; i++) {
        if (!inverted)
            add(to, from->r[i].from, from->r[i].to);
        else if (from->r[i].from > next)
            add(to, next, from->r[i].from - 1);
        next = from->r[i].to + 1;
    }
    if (inverted && next <= LAST) add(to, next, LAST);
    to->failed |= from->failed;
}

static void intersect(set *a, const set *b) {
    set both = { .failed = a->failed || b->failed };
    for (size_t i = 0, k = 0; i < a->n && k < b->n;) {
        uint32_t from = TK_MAX(a->r[i].from, b->r[k].from), to = TK_MIN(a->r[i].to, b->r[k].to);
        if (from <= to) add(&both, from, to);
        if (a->r[i].to < b->r[k].to)
            i++;
        else
            k++;
    }
    free(a->r);
    *a = both;
}

static bool contains(const set *s, uint32_t c) {
    for (size_t i = 0; i < s->n; i++)
        if (s->r[i].from <= c && c <= s->r[i].to) return true;
    return false;
}

static uint32_t take_number(const uint8_t **p) {
    uint32_t n = 0;
    for (int shift = 0;; shift += 7) {
        uint8_t b = *(*p)++;
        n |= (uint32_t)(b & 0x7F) << shift;
        if (b < 0x80) return n;
    }
}

/* The set of a row of the table, all of it or all but it. false: no such row. */
static bool add_named(set *s, const char *name, bool inverted) {
    for (size_t i = 0; i < TK_COUNT(set_names); i++) {
        if (strcmp(set_names[i].name, name) != 0) continue;
        const uint8_t *p = set_data + set_names[i].at;
        set own = { 0 };
        uint32_t at = 0;
        for (uint32_t n = take_number(&p); n; n--) {
            uint32_t from = at + take_number(&p), to = from + take_number(&p);
            add(&own, from, to);
            at = to + 1;
        }
        add_all(s, &own, inverted);
        free(own.r);
        return true;
    }
    return false;
}

/* Letters whose other case came after Unicode 14.0 */
static const range newer_cases[] = {
    { 0x1C89, 0x1C8A }, { 0x264, 0xA7CB }, { 0xA7CC, 0xA7CD }, { 0xA7DA, 0xA7DB }, { 0x19B, 0xA7DC }
};
static uint32_t newer_case(uint32_t c) {
    for (size_t i = 0; i < TK_COUNT(newer_cases); i++) {
        if (c == newer_cases[i].from) return newer_cases[i].to;
        if (c == newer_cases[i].to) return newer_cases[i].from;
    }
    if (c >= 0x10D50 && c <= 0x10D65) return c + 0x20;
    if (c >= 0x10D70 && c <= 0x10D85) return c - 0x20;
    return 0;
}

static void add_newer_cases(set *s) {
    for (uint32_t c = 0x10D50; c <= 0x10D65; c++) {
        bool upper = contains(s, c), lower = contains(s, c + 0x20);
        if (upper && !lower) add(s, c + 0x20, c + 0x20);
        if (lower && !upper) add(s, c, c);
    }
    for (size_t i = 0; i < TK_COUNT(newer_cases); i++) {
        bool a = contains(s, newer_cases[i].from), b = contains(s, newer_cases[i].to);
        if (a && !b) add(s, newer_cases[i].to, newer_cases[i].to);
        if (b && !a) add(s, newer_cases[i].from, newer_cases[i].from);
    }
    sorted(s);
}

/* As a class. One that was a class of the pattern is subject to (?i), one that was an escape is not. */
static tk_status put_set(reader *z, const set *s, bool inverted, bool folded) {
    tk_buf *b = z->out;
    if (s->failed)
        return TK_FAIL(TK_E_NOMEM, "out of memory\na class of the tokenizer's pattern did not fit");
    if (b->len > OUT_MAX) return TK_FAIL(TK_E_LIMIT, "the tokenizer's pattern has too many classes");
    bool wrap = z->fold && !folded, any = false;
    if (wrap) tk_buf_puts(b, "(?-i:");
    size_t start = b->len;
    tk_buf_puts(b, inverted ? "[^" : "[");
    for (size_t i = 0; i < s->n; i++) {
        uint32_t from = s->r[i].from, to = s->r[i].to; /* ends may not be surrogates */
        if (from >= 0xD800 && from < 0xE000) from = 0xE000;
        if (to >= 0xD800 && to < 0xE000) to = 0xD7FF;
        if (from > to) continue;
        tk_buf_printf(b, from == to ? "\\x{%X}" : "\\x{%X}-\\x{%X}", from, to);
        any = true;
    }
    tk_buf_puts(b, "]");
    if (!any) {
        b->len = start;
        tk_buf_puts(b, inverted ? "[\\x{0}-\\x{10FFFF}]" : "[^\\x{0}-\\x{10FFFF}]");
    }
    if (wrap) tk_buf_puts(b, ")");
    return TK_OK;
}

/* ---- escapes that are sets ------------------------------------------------------------------------------
 */

/* \p{Name}, \P{^Name}, ...: z->p is at the backslash. The name without case, blanks, _ and -. */
static tk_status read_property(reader *z, set *s, bool in_class) {
    const char *from = z->p, *a = from + 3, *e = strchr(a, '}');
    bool inverted = from[1] == 'P';
    char name[64];
    size_t n = 0;
    if (*a == '^') inverted = !inverted, a++;
    for (const char *c = a; e && c < e && n + 1 < sizeof name; c++)
        if (*c != ' ' && *c != '_' && *c != '-') name[n++] = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
    name[n] = 0;
    if (!e)
        return TK_FAIL(TK_E_FORMAT,
                       "the tokenizer's pattern cannot be read\na property does not end in %.200s",
                       z->pattern);
    if (name[0] == '\\' || name[0] == '[' ||
        !add_named(s, in_class && !strcmp(name, "word") ? "[:word:]" : name, inverted))
        return refuse(z, "the property", from, (size_t)(e + 1 - from));
    z->p = e + 1;
    return TK_OK;
}

/* \d \w \s \h and their opposites, \p{..}: true and read. Inside a class \w and \p{Word} are [:word:];
 * outside, and for \b, they also hold the superscripts and fractions below U+0100. */
static tk_status read_set_escape(reader *z, set *s, bool in_class, bool *is) {
    char c = z->p[1], low = (char)(c | 32);
    *is = true;
    if ((c == 'p' || c == 'P') && z->p[2] == '{') return read_property(z, s, in_class);
    if (c && strchr("dDwWsShH", c)) {
        char name[3] = { '\\', low, 0 };
        add_named(s, in_class && low == 'w' ? "[:word:]" : name, c != low);
        z->p += 2;
        return TK_OK;
    }
    *is = false;
    return TK_OK;
}

/* ---- classes --------------------------------------------------------------------------------------------
 */

static tk_status read_class(reader *z, set *s, bool *inverted, int depth);

/* One character of a class, escaped or not. */
static tk_status read_code(reader *z, uint32_t *code) {
    const char *from = z->p;
    if (*from != '\\') {
        z->p += tk__utf8_get(from, code);
        return TK_OK;
    }
    static const char names[] = "tnrfvaeb";
    static const uint8_t values[] = { 9, 10, 13, 12, 11, 7, 27, 8 };
    char c = from[1];
    const char *simple = c ? strchr(names, c) : NULL;
    if (simple)
        *code = values[simple - names], z->p += 2;
    else if (c == 'x' && from[2] == '{') {
        char *end;
        *code = (uint32_t)strtoul(from + 3, &end, 16);
        if (end == from + 3 || *end != '}' || end - from > 12 || *code > LAST ||
            (*code >= 0xD800 && *code < 0xE000))
            return refuse(z, "the character", from, 12);
        z->p = end + 1;
    } else if (c == 'x' && strspn(from + 2, "0123456789abcdefABCDEF") >= 2 && from[2] < '8') {
        char digits[3] = { from[2], from[3], 0 };
        *code = (uint32_t)strtoul(digits, NULL, 16);
        z->p += 4;
    } else if (!c || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'))
        return refuse(z, "in a class", from, 2);
    else {
        z->p++;
        z->p += tk__utf8_get(z->p, code);
    }
    return TK_OK;
}

/* [:name:] or [:^name:] inside a class */
static tk_status read_posix(reader *z, set *s) {
    const char *from = z->p, *e = strstr(from, ":]");
    bool inverted = from[2] == '^';
    char name[32];
    size_t skip = inverted ? 3 : 2, n = e ? (size_t)(e - from) : 0;
    if (!e || n < skip || n - skip > 20) return refuse(z, "the class", from, 12);
    snprintf(name, sizeof name, "[:%.*s:]", (int)(n - skip), from + skip);
    if (!add_named(s, name, inverted)) return refuse(z, "the class", from, n + 2);
    z->p = e + 2;
    return TK_OK;
}

/* A character or a range a-b. A hyphen counts as itself only first or last. */
static tk_status read_span(reader *z, set *s, bool first) {
    uint32_t from, to;
    const char *start = z->p;
    if (*start == '-' && !first && start[1] != ']') return refuse(z, "in a class the hyphen", start, 4);
    TK_TRY(read_code(z, &from));
    to = from;
    if (*z->p == '-' && z->p[1] != ']') {
        z->p++;
        bool set_next = *z->p == '\\' && z->p[1] && strchr("dDwWsShHpPRX", z->p[1]);
        if (*z->p == '[' || *z->p == '-' || !*z->p || set_next || !strncmp(z->p, "&&", 2))
            return refuse(z, "the range", start, 8);
        TK_TRY(read_code(z, &to));
        if (to < from) return refuse(z, "the empty range", start, (size_t)(z->p - start));
        if (*z->p == '-' && z->p[1] != ']') return refuse(z, "the range", start, 8);
    }
    add(s, from, to);
    return TK_OK;
}

/* What stands between two &&. *negated becomes true if a class of [^ is there. */
static tk_status read_part(reader *z, set *s, int depth, bool first, bool *negated) {
    for (; *z->p && *z->p != ']' && strncmp(z->p, "&&", 2) != 0; first = false) {
        bool is = false;
        set inner = { 0 };
        tk_status r = TK_OK;
        if (z->p[0] == '[' && z->p[1] == ':')
            r = read_posix(z, s), is = true;
        else if (*z->p == '[') {
            bool inverted;
            r = read_class(z, &inner, &inverted, depth + 1);
            if (r == TK_OK) add_all(s, &inner, inverted);
            free(inner.r);
            is = true, *negated |= inverted;
        } else if (*z->p == '\\')
            r = read_set_escape(z, s, true, &is);
        if (r == TK_OK && !is) r = read_span(z, s, first);
        if (r == TK_OK && is && *z->p == '-' && z->p[1] != ']')
            r = refuse(z, "in a class the hyphen", z->p, 4);
        TK_TRY(r);
    }
    sorted(s);
    return TK_OK;
}

/* A class from its '[': the set without the outer ^, which is left to Oniguruma, as case folding comes before
 * it. */
static tk_status read_class(reader *z, set *s, bool *inverted, int depth) {
    const char *start = z->p++;
    *inverted = *z->p == '^';
    z->p += *inverted;
    if (depth > 16) return TK_FAIL(TK_E_LIMIT, "the tokenizer's pattern nests its classes more than 16 deep");
    if (*z->p == ']' || !strncmp(z->p, "&&", 2)) return refuse(z, "the class", start, 8);
    bool negated = false;
    TK_TRY(read_part(z, s, depth, true, &negated));
    while (!strncmp(z->p, "&&", 2)) {
        set more = { 0 };
        z->p += 2;
        tk_status r = *z->p == ']' || *z->p == '&' ? refuse(z, "the class", start, 12)
                                                   : read_part(z, &more, depth, false, &negated);
        if (r == TK_OK) intersect(s, &more);
        free(more.r);
        TK_TRY(r);
    }
    /* [^..[^..]..] with nothing beyond ASCII inside is to match all that; Oniguruma forgets it, but not
     * always. */
    if (*z->p == ']' && *inverted && negated && (!s->n || s->r[s->n - 1].to < 0x80))
        return refuse(z, "the class", start, (size_t)(z->p + 1 - start));
    if (*z->p++ == ']') return TK_OK;
    return TK_FAIL(TK_E_FORMAT, "the tokenizer's pattern cannot be read\na class does not end in %.200s",
                   z->pattern);
}

/* ---- the pattern ----------------------------------------------------------------------------------------
 */

static void copy(reader *z, size_t n) {
    tk_buf_put(z->out, z->p, n);
    z->p += n;
}

static tk_status copy_through(reader *z, size_t skip, char end) {
    const char *e = strlen(z->p) > skip ? strchr(z->p + skip, end) : NULL;
    if (!e) return refuse(z, "the unfinished", z->p, 12);
    copy(z, (size_t)(e + 1 - z->p));
    return TK_OK;
}

/* \b and \B as look-around at the newer \w */
static tk_status put_boundary(reader *z, bool at) {
    static const char *const looks[2][4] = { { "(?<=", "(?=", "(?<!", "(?!" },
                                             { "(?<=", "(?!", "(?<!", "(?=" } };
    set word = { 0 };
    tk_status s = TK_OK;
    add_named(&word, "\\w", false);
    tk_buf_puts(z->out, "(?:");
    for (int i = 0; i < 4 && s == TK_OK; i++) {
        tk_buf_puts(z->out, looks[at][i]);
        s = put_set(z, &word, false, false);
        tk_buf_puts(z->out, i == 1 ? ")|" : ")");
    }
    tk_buf_puts(z->out, ")");
    free(word.r);
    return s;
}

static tk_status put_escape(reader *z) {
    char c = z->p[1];
    bool is;
    set s = { 0 };
    tk_status r = read_set_escape(z, &s, false, &is);
    if (r == TK_OK && is) {
        sorted(&s);
        r = put_set(z, &s, false, false);
    }
    free(s.r);
    if (r != TK_OK || is) return r;
    if (c == 'b' || c == 'B') {
        z->p += 2;
        return put_boundary(z, c == 'b');
    }
    if (!c) { /* Oniguruma has the words for it */
        copy(z, 1);
        return TK_OK;
    }
    if (c == 'R') { /* as Oniguruma defines it; but its own, repeated, is found only once by 6.9.8 */
        tk_buf_puts(z->out, "(?>\\x0D\\x0A|[\\x0A-\\x0D\\x{85}\\x{2028}\\x{2029}])");
        z->p += 2;
        return TK_OK;
    }
    if (strchr("XKyYcCM", c)) return refuse(z, "the escape", z->p, 2);
    if ((c == 'k' || c == 'g') && (z->p[2] == '<' || z->p[2] == '\''))
        return copy_through(z, 3, z->p[2] == '<' ? '>' : '\'');
    uint32_t code = 0;
    if (c == 'x' || (uint8_t)c >= 0x80) {
        const char *from = z->p;
        TK_TRY(read_code(z, &code));
        if (!z->fold || !newer_case(code)) {
            z->p = from;
            copy(z, c == 'x' && from[2] == '{' ? (size_t)(strchr(from, '}') + 1 - from)
                    : c == 'x'                 ? 4
                                               : 1 + tk__utf8_len(c));
            return TK_OK;
        }
        tk_buf_printf(z->out, "(?:\\x{%X}|\\x{%X})", code, newer_case(code));
        return TK_OK;
    }
    copy(z, 2);
    return TK_OK;
}

/* After "(?": options. Those that change what classes mean, or how the pattern is written, are refused. */
static tk_status put_options(reader *z) {
    const char *from = z->p, *p = from + 2;
    bool on = true, fold = z->fold;
    for (; *p && *p != ')' && *p != ':'; p++) {
        if (*p == '-')
            on = false;
        else if (*p == 'i')
            fold = on;
        else if (*p != 'm')
            return refuse(z, "the option", from, (size_t)(p + 1 - from));
    }
    if (!*p) return refuse(z, "the unfinished", from, 12);
    bool group = *p == ':';
    if (group) {
        if (z->depth == DEPTH_MAX) return TK_FAIL(TK_E_LIMIT, "the tokenizer's pattern nests too deep");
        z->folds[z->depth++] = z->fold;
    }
    copy(z, (size_t)(p + 1 - from));
    z->fold = fold;
    return TK_OK;
}

static tk_status put_group(reader *z) {
    const char *p = z->p;
    if (p[1] == '*' || !strncmp(p, "(?{", 3)) return refuse(z, "the callout", p, 8);
    if (!strncmp(p, "(?#", 3)) { /* kept: what it parts, as s* and ?, may not meet */
        const char *e = p;
        while (*e && *e != ')') e += *e == '\\' && e[1] ? 2 : 1;
        if (!*e) return refuse(z, "the unfinished", p, 8);
        copy(z, (size_t)(e + 1 - p));
        return TK_OK;
    }
    bool plain = p[1] != '?' || !p[2] || strchr("=!>~<'(", p[2]);
    if (!plain && p[2] != ':') return put_options(z);
    if (z->depth == DEPTH_MAX) return TK_FAIL(TK_E_LIMIT, "the tokenizer's pattern nests too deep");
    z->folds[z->depth++] = z->fold;
    if (p[1] != '?') {
        copy(z, 1);
        return TK_OK;
    }
    if (p[2] == '<' && p[3] != '=' && p[3] != '!') return copy_through(z, 3, '>');
    if (p[2] == '\'') return copy_through(z, 3, '\'');
    if (p[2] == '(') return copy_through(z, 3, ')');
    copy(z, p[2] == '<' ? 4 : 3);
    return TK_OK;
}

static tk_status put_next(reader *z) {
    char c = *z->p;
    if (c == '\\') return put_escape(z);
    if (c == '(') return put_group(z);
    if (c == '[') {
        set s = { 0 };
        bool inverted;
        tk_status r = read_class(z, &s, &inverted, 0);
        if (r == TK_OK && z->fold) add_newer_cases(&s);
        if (r == TK_OK) r = put_set(z, &s, inverted, true);
        free(s.r);
        return r;
    }
    if (c == ')' && z->depth) z->fold = z->folds[--z->depth];
    uint32_t code;
    unsigned len = tk__utf8_get(z->p, &code);
    uint32_t other = z->fold ? newer_case(code) : 0;
    if (other)
        tk_buf_printf(z->out, "(?:\\x{%X}|\\x{%X})", code, other), z->p += len;
    else
        copy(z, len);
    return TK_OK;
}

tk_status tk__regex_translate(tk_buf *out, const char *pattern) {
    reader z = { .pattern = pattern, .p = pattern, .out = out };
    if (!tk__utf8_valid(pattern, strlen(pattern)))
        return TK_FAIL(TK_E_FORMAT, "the tokenizer's pattern cannot be read\nit is not valid UTF-8");
    while (*z.p) TK_TRY(put_next(&z));
    return tk_buf_check(out);
}
