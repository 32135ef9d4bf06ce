/* SPDX-License-Identifier: Apache-2.0 */
/* The patterns that real tokenizers cut text with, written by hand: exact, linear in time (each has at most
 * the one look-ahead `\s+(?!\S)`), and several times faster than a backtracking engine. A pattern is chosen
 * by its exact text; any other text goes to regex.c. Most come twice: as Hugging Face's library reads them
 * and as llama.cpp does (`old`), whose classes are Unicode 15.1's and whose contractions know no long s.
 * Input is valid UTF-8. */
#include "text/tokenizer.h"

#define INLINE static inline __attribute__((always_inline))

INLINE unsigned class_at(const char *s, size_t p, unsigned *len, bool old) {
    uint8_t u = (uint8_t)s[p];
    if (u < 128) return *len = 1, tk__ascii_class[u];
    uint32_t c;
    *len = tk__utf8_get(s + p, &c);
    return old ? tk__cp_class_15(c) : tk__cp_class(c);
}

/* End of the longest run from p whose code points have some bit of `want`. */
INLINE size_t run_of(const char *s, size_t n, size_t p, unsigned want, bool old) {
    for (unsigned len; p < n && (class_at(s, p, &len, old) & want); p += len) {}
    return p;
}
/* End of the longest run from p whose code points have no bit of `avoid`. */
INLINE size_t run_without(const char *s, size_t n, size_t p, unsigned avoid, bool old) {
    for (unsigned len; p < n && !(class_at(s, p, &len, old) & avoid); p += len) {}
    return p;
}

static bool newline(char c) { return c == '\r' || c == '\n'; }

/* `\s+(?!\S)|\s+`: white space from p, but its last character is left to a word that follows. */
static size_t split_spaces(const char *s, size_t n, size_t p) {
    size_t last = p, e = p;
    for (unsigned len; e < n && (class_at(s, e, &len, false) & TK_CP_S); e += len) last = e;
    return e == n || last == p ? e : last;
}

/* `\s*[\r\n]+|\s+(?!\S)|\s+` */
static size_t split_lines(const char *s, size_t n, size_t p) {
    size_t last = run_of(s, n, p, TK_CP_S, false);
    while (last > p && !newline(s[last - 1])) last--;
    return last > p ? last : split_spaces(s, n, p);
}

enum fold { AS_WRITTEN, ASCII_CASE, ANY_CASE };

/* `'s|'t|'re|'ve|'m|'ll|'d` at p, where s[p] is '\''; 0: no match. */
INLINE size_t contraction(const char *s, size_t n, size_t p, enum fold fold) {
    size_t left = n - p - 1;
    if (!left) return 0;
    uint8_t a = (uint8_t)s[p + 1], b = left > 1 ? (uint8_t)s[p + 2] : 0;
    if (fold == ANY_CASE && a == 0xC5 && b == 0xBF) return p + 3; /* U+017F, long s, is the third case of s */
    if (fold != AS_WRITTEN) {
        if (a >= 'A' && a <= 'Z') a |= 32;
        if (b >= 'A' && b <= 'Z') b |= 32;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return p + 3;
    return 0;
}

enum { NOT_OTHER = TK_CP_S | TK_CP_L | TK_CP_N };

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
INLINE size_t gpt2(const char *s, size_t n, size_t p, bool old) {
    unsigned len;
    if (s[p] == '\'') {
        size_t e = contraction(s, n, p, AS_WRITTEN);
        if (e) return e;
    }
    size_t q = p + (s[p] == ' ' && p + 1 < n);
    unsigned c = class_at(s, q, &len, old);
    if (c & TK_CP_L) return run_of(s, n, q + len, TK_CP_L, old);
    if (c & TK_CP_N) return run_of(s, n, q + len, TK_CP_N, old);
    if (!(c & TK_CP_S)) return run_without(s, n, q + len, NOT_OTHER, old);
    return split_spaces(s, n, p);
}

/* What tells the patterns of the Llama 3 family apart */
typedef struct rules {
    bool old, first, after; /* a contraction is a word of its own; ends a word */
    bool cased, slash;      /* cased: see there. slash: punctuation takes '/' after it like line ends */
    unsigned letters;       /* of a word that is not cased */
    int digits;
} rules;

enum { UPPERS = TK_CP_UPPER | TK_CP_MODIFIER, LOWERS = TK_CP_LOWER | TK_CP_MODIFIER };

/* U*W+ from p, U and W having the bits of upper and lower: the uppers, then lowers; where none follow, the
 * last upper that is a lower too ends the match. 0: no match. */
INLINE size_t upper_lower(const char *s, size_t n, size_t p, unsigned mark, bool old) {
    size_t both = 0;
    unsigned len, c = 0;
    for (; p < n && ((c = class_at(s, p, &len, old)) & (UPPERS | mark)); p += len)
        if (c & (LOWERS | mark)) both = p + len;
    if (p < n && (c & (LOWERS | mark))) return run_of(s, n, p + len, LOWERS | mark, old);
    return both;
}

/* X?U*W+|X?U+W* with X neither letter, number nor line end; 0: no match. */
INLINE size_t cased_word(const char *s, size_t n, size_t p, unsigned mark, bool old) {
    unsigned len, c = class_at(s, p, &len, old);
    bool before = !newline(s[p]) && !(c & (TK_CP_L | TK_CP_N));
    size_t e = before ? upper_lower(s, n, p + len, mark, old) : 0, q = p + len;
    if (!e) e = upper_lower(s, n, p, mark, old);
    if (e) return e;
    if (before && (e = run_of(s, n, q, UPPERS | mark, old)) > q) return e;
    return (e = run_of(s, n, p, UPPERS | mark, old)) > p ? e : 0;
}

/* contraction|[^\r\n\p{L}\p{N}]?letters+|\p{N}{1,digits}| ?[^\s
 * letters\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
INLINE size_t words(const char *s, size_t n, size_t p, rules r) {
    unsigned len, next_len = 0;
    enum fold fold = r.old ? ASCII_CASE : ANY_CASE;
    size_t e;
    if (r.first && s[p] == '\'' && (e = contraction(s, n, p, fold))) return e;
    unsigned c = class_at(s, p, &len, r.old), stop = NOT_OTHER | (r.cased ? 0 : r.letters);
    if (c & TK_CP_N) {
        e = p + len;
        for (int i = 1; i < r.digits && e < n && (class_at(s, e, &len, r.old) & TK_CP_N); i++) e += len;
        return e;
    }
    unsigned next = p + len < n ? class_at(s, p + len, &next_len, r.old) : TK_CP_S;
    if (r.cased) {
        if ((e = cased_word(s, n, p, r.letters & TK_CP_M, r.old))) {
            size_t end = r.after && e < n && s[e] == '\'' ? contraction(s, n, e, fold) : 0;
            return end ? end : e;
        }
    } else {
        if (c & r.letters) return run_of(s, n, p + len, r.letters, r.old);
        if (!newline(s[p]) && (next & r.letters)) return run_of(s, n, p + len + next_len, r.letters, r.old);
    }
    if (!(c & TK_CP_S) || (s[p] == ' ' && !(next & stop))) {
        e = run_without(s, n, p + len, stop, r.old);
        while (e < n && (newline(s[e]) || (r.slash && s[e] == '/'))) e++;
        return e;
    }
    return split_lines(s, n, p);
}

static bool latin(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

/* [!-/:-@[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|
 * ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ at p; 0: no match, which numbers and control characters have
 * none of. */
INLINE size_t deepseek_at(const char *s, size_t n, size_t p, bool old) {
    enum { WORD = TK_CP_L | TK_CP_M, SIGN = TK_CP_P | TK_CP_SYMBOL };
    unsigned len, next_len = 0, c = class_at(s, p, &len, old);
    if ((uint8_t)s[p] < 128 && (c & SIGN) && p + 1 < n && latin(s[p + 1])) {
        for (p++; p < n && latin(s[p]);) p++;
        return p;
    }
    unsigned next = p + len < n ? class_at(s, p + len, &next_len, old) : 0;
    if (!newline(s[p]) && !(c & (TK_CP_L | SIGN)) && (next & WORD))
        return run_of(s, n, p + len + next_len, WORD, old);
    if (c & WORD) return run_of(s, n, p + len, WORD, old);
    if ((c & SIGN) || (s[p] == ' ' && (next & SIGN))) {
        size_t e = run_of(s, n, p + len, SIGN, old);
        while (e < n && newline(s[e])) e++;
        return e;
    }
    return c & TK_CP_S ? split_lines(s, n, p) : 0;
}
INLINE size_t deepseek(const char *s, size_t n, size_t p, bool old) {
    size_t e = deepseek_at(s, n, p, old);
    if (e) return e;
    do p += tk__utf8_len(s[p]);
    while (p < n && !deepseek_at(s, n, p, old));
    return p;
}

/* Where code points of `want` are cut out, at most `most` together; what lies between stays whole. */
INLINE size_t isolate(const char *s, size_t n, size_t p, unsigned want, size_t most, bool old) {
    unsigned len;
    if (!(class_at(s, p, &len, old) & want)) return run_without(s, n, p + len, want, old);
    for (p += len; --most && p < n && (class_at(s, p, &len, old) & want);) p += len;
    return p;
}
size_t tk__split_digit(const char *s, size_t n, size_t p) {
    return isolate(s, n, p, TK_CP_NUMERIC, 1, false);
}
size_t tk__split_digits(const char *s, size_t n, size_t p) {
    return isolate(s, n, p, TK_CP_NUMERIC, SIZE_MAX, false);
}

INLINE bool falcon_mark(const char *s, size_t p, unsigned *len, bool old) {
    return (class_at(s, p, len, old) & TK_CP_P) || (s[p] && strchr("$+<=>^~|`", s[p]));
}
INLINE size_t falcon(const char *s, size_t n, size_t p, bool old) {
    unsigned len;
    bool in = falcon_mark(s, p, &len, old);
    for (p += len; p < n && falcon_mark(s, p, &len, old) == in; p += len) {}
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

/* [一-龥぀-ゟ゠-ヿ]+ isolated */
static bool cjk(const char *s, size_t p, unsigned *len) {
    uint32_t c;
    *len = tk__utf8_get(s + p, &c);
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
}
size_t tk__split_cjk(const char *s, size_t n, size_t p) {
    unsigned len;
    bool in = cjk(s, p, &len);
    for (p += len; p < n && cjk(s, p, &len) == in; p += len) {}
    return p;
}

/* ---- the patterns of both readings ----------------------------------------------------------------------
 */

#define BOTH(name, call)                                                                                     \
    size_t tk__split_##name(const char *s, size_t n, size_t p) {                                             \
        enum { OLD = false };                                                                                \
        return call;                                                                                         \
    }                                                                                                        \
    size_t tk__split_##name##_llama(const char *s, size_t n, size_t p) {                                     \
        enum { OLD = true };                                                                                 \
        return call;                                                                                         \
    }
#define LLAMA(...) words(s, n, p, (rules){ .old = OLD, __VA_ARGS__ })
BOTH(gpt2, gpt2(s, n, p, OLD))
BOTH(number, isolate(s, n, p, TK_CP_N, 1, OLD))
BOTH(3numbers, isolate(s, n, p, TK_CP_N, 3, OLD))
BOTH(falcon, falcon(s, n, p, OLD))
BOTH(deepseek, deepseek(s, n, p, OLD))
BOTH(llama3, LLAMA(.first = true, .letters = TK_CP_L, .digits = 3))
BOTH(qwen2, LLAMA(.first = true, .letters = TK_CP_L, .digits = 1))
BOTH(qwen35, LLAMA(.first = true, .letters = TK_CP_L | TK_CP_M, .digits = 1))
BOTH(o200k, LLAMA(.cased = true, .letters = OLD ? 0 : TK_CP_M, .after = true, .digits = 3, .slash = true))
BOTH(tekken, LLAMA(.cased = true, .letters = OLD ? 0 : TK_CP_M, .digits = 1, .slash = true))

/* ---- llama.cpp's own
 * ---------------------------------------------------------------------------------------
 */

static bool han(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2EBEF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}
static bool han_at(const char *s, size_t p, unsigned *len) {
    uint32_t c;
    *len = tk__utf8_get(s + p, &c);
    return han(c);
}
static size_t letters_but_han(const char *s, size_t n, size_t p) {
    for (unsigned len; p < n && (class_at(s, p, &len, true) & TK_CP_L) && !han_at(s, p, &len); p += len) {}
    return p;
}

/* Kimi K2: runs of Han; a word of other letters, with the character before it and a contraction after it;
 * otherwise as Llama 3. Case and marks do not count, unlike in the model's own pattern. */
size_t tk__split_kimi_llama(const char *s, size_t n, size_t p) {
    unsigned len;
    if (han_at(s, p, &len)) {
        for (p += len; p < n && han_at(s, p, &len); p += len) {}
        return p;
    }
    unsigned c = class_at(s, p, &len, true);
    size_t from = p + (newline(s[p]) || (c & (TK_CP_L | TK_CP_N)) ? 0 : len);
    size_t e = newline(s[p]) || (c & TK_CP_N) ? from : letters_but_han(s, n, from);
    if (e > from) {
        size_t end = e < n && s[e] == '\'' ? contraction(s, n, e, ASCII_CASE) : 0;
        return end ? end : e;
    }
    /* what follows is no letter, or Han: Llama 3's other alternatives, the word being without letters */
    if (c & TK_CP_N) return isolate(s, n, p, TK_CP_N, 3, true);
    unsigned next = p + len < n ? class_at(s, p + len, &(unsigned){ 0 }, true) : TK_CP_S;
    if (!(c & TK_CP_S) || (s[p] == ' ' && !(next & NOT_OTHER))) {
        e = run_without(s, n, p + len, NOT_OTHER, true);
        while (e < n && newline(s[e])) e++;
        return e;
    }
    return split_lines(s, n, p);
}

static bool number_before(const char *s, size_t p) {
    if (!p) return false;
    do p--;
    while (p && ((uint8_t)s[p] & 0xC0) == 0x80);
    unsigned len;
    return class_at(s, p, &len, true) & TK_CP_N;
}

/* Numbers in groups of three from the right; what stands before a number stays with its first group. A piece
 * that begins within a number begins at a group, so its end needs no look at the rest. */
size_t tk__split_afmoe_llama(const char *s, size_t n, size_t p) {
    unsigned len;
    size_t from = run_without(s, n, p, TK_CP_N, true), digits = 0;
    if (from == p && number_before(s, p))
        digits = 3;
    else
        for (size_t q = from; q < n && (class_at(s, q, &len, true) & TK_CP_N); q += len) digits++;
    for (size_t k = digits ? (digits - 1) % 3 + 1 : 0; k; k--) from += tk__utf8_len(s[from]);
    return from;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

/* Cut at (?=(\d{3})+(?!\d)): ASCII digits in groups of three from the right */
size_t tk__split_superbpe_llama(const char *s, size_t n, size_t p) {
    size_t at = p;
    if (p && digit(s[p]) && digit(s[p - 1])) at = p + 3; /* within a number: at a group */
    if (at > p && at < n && digit(s[at])) return at;
    while (at < n) {
        size_t e = at;
        while (e < n && digit(s[e])) e++;
        size_t first = at + (e - at) % 3;
        if (first == p) first += 3;
        if (first < e) return first;
        at = e + (e == at);
    }
    return n;
}

/* [^\n]+|[\n]+ */
size_t tk__split_newlines(const char *s, size_t n, size_t p) {
    bool in = s[p] == '\n';
    while (p < n && (s[p] == '\n') == in) p++;
    return p;
}

/* ---- by text
 * ------------------------------------------------------------------------------------------------
 */

#define ANY_S "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define MANY_UPPERS "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define MANY_LOWERS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

static const struct {
    const char *regex;
    tk__splitter *split;
    bool whole; /* every text is matches from end to end */
} known[] = {
    { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", tk__split_gpt2,
      true },
    { ANY_S "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINES,
      tk__split_llama3, true },
    { ANY_S "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|" LINES,
      tk__split_llama3, true },
    { ANY_S "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LINES, tk__split_qwen2,
      true },
    { ANY_S "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES,
      tk__split_qwen35, true },
    { MANY_UPPERS "*" MANY_LOWERS "+" ANY_S "?|" MANY_UPPERS "+" MANY_LOWERS "*" ANY_S
                  "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES,
      tk__split_o200k, true },
    { MANY_UPPERS "*" MANY_LOWERS "+|" MANY_UPPERS "+" MANY_LOWERS
                  "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES,
      tk__split_tekken, true },
    { "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
      tk__split_deepseek, false },
    { "[0-9][0-9][0-9]", tk__split_3digits, false },
    { "\\p{N}", tk__split_number, false },
    { "\\p{N}{1,3}", tk__split_3numbers, false },
    { "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+", tk__split_cjk,
      false },
};

tk__splitter *tk__splitter_find(const char *regex, bool *whole) {
    for (size_t i = 0; i < TK_COUNT(known); i++)
        if (!strcmp(known[i].regex, regex)) return *whole = known[i].whole, known[i].split;
    return NULL;
}
