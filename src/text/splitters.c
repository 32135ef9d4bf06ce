/* SPDX-License-Identifier: Apache-2.0 */
/* The patterns that real tokenizers cut text with, written by hand: exact, linear in time (each has at most
 * the one look-ahead `\s+(?!\S)`), and several times faster than a backtracking engine. A pattern is chosen
 * by its exact text; any other text goes to regex.c. Input is valid UTF-8. */
#include "text/tokenizer.h"

static inline unsigned class_at(const char *s, size_t p, unsigned *len) {
    uint8_t u = (uint8_t)s[p];
    if (u < 128) return *len = 1, tk__ascii_class[u];
    uint32_t c;
    *len = tk__utf8_get(s + p, &c);
    return tk__cp_class(c);
}

/* End of the longest run from p whose code points have some bit of `want`. */
static inline size_t run_of(const char *s, size_t n, size_t p, unsigned want) {
    for (unsigned len; p < n && (class_at(s, p, &len) & want); p += len) {}
    return p;
}
/* End of the longest run from p whose code points have no bit of `avoid`. */
static inline size_t run_without(const char *s, size_t n, size_t p, unsigned avoid) {
    for (unsigned len; p < n && !(class_at(s, p, &len) & avoid); p += len) {}
    return p;
}

/* `\s+(?!\S)|\s+`: white space from p, but its last character is left to a word that follows. */
static size_t split_spaces(const char *s, size_t n, size_t p) {
    size_t last = p, e = p;
    for (unsigned len; e < n && (class_at(s, e, &len) & TK_CP_S); e += len) last = e;
    return e == n || last == p ? e : last;
}

/* `'s|'t|'re|'ve|'m|'ll|'d` at p, where s[p] is '\''; 0: no match. */
static size_t contraction(const char *s, size_t n, size_t p, bool any_case) {
    size_t left = n - p - 1;
    if (!left) return 0;
    uint8_t a = (uint8_t)s[p + 1], b = left > 1 ? (uint8_t)s[p + 2] : 0;
    if (any_case) {
        if (a == 0xC5 && b == 0xBF) return p + 3; /* U+017F, long s, is the third case of s */
        if (a >= 'A' && a <= 'Z') a |= 32;
        if (b >= 'A' && b <= 'Z') b |= 32;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
    return 0;
}

enum { NOT_OTHER = TK_CP_S | TK_CP_L | TK_CP_N };

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
size_t tk__split_gpt2(const char *s, size_t n, size_t p) {
    unsigned len;
    if (s[p] == '\'') {
        size_t e = contraction(s, n, p, false);
        if (e) return e;
    }
    size_t q = p + (s[p] == ' ' && p + 1 < n);
    unsigned c = class_at(s, q, &len);
    if (c & TK_CP_L) return run_of(s, n, q + len, TK_CP_L);
    if (c & TK_CP_N) return run_of(s, n, q + len, TK_CP_N);
    if (!(c & TK_CP_S)) return run_without(s, n, q + len, NOT_OTHER);
    return split_spaces(s, n, p);
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
 * \s+(?!\S)|\s+ */
static inline size_t split_llama(const char *s, size_t n, size_t p, int digits) {
    unsigned len, next_len;
    if (s[p] == '\'') {
        size_t e = contraction(s, n, p, true);
        if (e) return e;
    }
    unsigned c = class_at(s, p, &len);
    if (c & TK_CP_L) return run_of(s, n, p + len, TK_CP_L);
    if (c & TK_CP_N) {
        size_t e = p + len;
        for (int i = 1; i < digits && e < n && (class_at(s, e, &len) & TK_CP_N); i++) e += len;
        return e;
    }
    bool newline = s[p] == '\r' || s[p] == '\n';
    unsigned next = p + len < n ? class_at(s, p + len, &next_len) : TK_CP_S;
    if (!newline && (next & TK_CP_L)) return run_of(s, n, p + len + next_len, TK_CP_L);
    if (!(c & TK_CP_S) || (s[p] == ' ' && !(next & NOT_OTHER))) {
        size_t e = run_without(s, n, p + len, NOT_OTHER);
        while (e < n && (s[e] == '\r' || s[e] == '\n')) e++;
        return e;
    }
    size_t e = run_of(s, n, p, TK_CP_S), last = e;
    while (last > p && s[last - 1] != '\r' && s[last - 1] != '\n') last--;
    return last > p ? last : split_spaces(s, n, p);
}
size_t tk__split_llama3(const char *s, size_t n, size_t p) { return split_llama(s, n, p, 3); }
size_t tk__split_qwen2(const char *s, size_t n, size_t p) { return split_llama(s, n, p, 1); }

/* Where code points of `want` are cut out: one by one, or as runs; what lies between stays whole. */
static size_t isolate(const char *s, size_t n, size_t p, unsigned want, bool runs) {
    unsigned len;
    if (!(class_at(s, p, &len) & want)) return run_without(s, n, p + len, want);
    return runs ? run_of(s, n, p + len, want) : p + len;
}
size_t tk__split_digit(const char *s, size_t n, size_t p) { return isolate(s, n, p, TK_CP_NUMERIC, false); }
size_t tk__split_digits(const char *s, size_t n, size_t p) { return isolate(s, n, p, TK_CP_NUMERIC, true); }
size_t tk__split_number(const char *s, size_t n, size_t p) { return isolate(s, n, p, TK_CP_N, false); }

static bool falcon_mark(const char *s, size_t p, unsigned *len) {
    return (class_at(s, p, len) & TK_CP_P) || (s[p] && strchr("$+<=>^~|`", s[p]));
}
size_t tk__split_falcon(const char *s, size_t n, size_t p) {
    unsigned len;
    bool in = falcon_mark(s, p, &len);
    for (p += len; p < n && falcon_mark(s, p, &len) == in; p += len) {}
    return p;
}

static bool three_digits(const char *s, size_t n, size_t p) {
    if (n - p < 3) return false;
    for (size_t i = p; i < p + 3; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return true;
}
size_t tk__split_3digits(const char *s, size_t n, size_t p) {
    if (three_digits(s, n, p)) return p + 3;
    while (p < n && !three_digits(s, n, p)) p++;
    return p;
}

static const struct {
    const char *regex;
    tk__splitter *split;
} known[] = {
    { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", tk__split_gpt2 },
    { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      tk__split_llama3 },
    { "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      tk__split_qwen2 },
    { "[0-9][0-9][0-9]", tk__split_3digits },
    { "\\p{N}", tk__split_number },
};

tk__splitter *tk__splitter_find(const char *regex) {
    for (size_t i = 0; i < TK_COUNT(known); i++)
        if (!strcmp(known[i].regex, regex)) return known[i].split;
    return NULL;
}
