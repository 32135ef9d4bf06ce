/* SPDX-License-Identifier: Apache-2.0 */
/* The two large tables of a BPE model's tokenizer.json, "vocab" and "merges": nearly all of a file of 17 MB,
 * and a tree of JSON values for them takes longer to build than the tokenizer. So they are cut out of the
 * text, which leaves a small document for jansson, and read straight into the maps, as strictly as jansson
 * would. */
#include <stdlib.h>

#include "text/tokenizer.h"

typedef struct reader {
    const char *at, *end, *start;
    const char *what; /* for messages */
    tk_buf scratch[2];
} reader;

static tk_status invalid(const reader *r, const char *why) {
    return TK_FAIL(TK_E_FORMAT, "tokenizer.json is not valid JSON\n%s, in its model's %s, at byte %zu of it",
                   why, r->what, (size_t)(r->at - r->start));
}

static void skip_space(reader *r) {
    while (r->at < r->end && tk__json_space(*r->at)) r->at++;
}

/* Past the character c, with white space around it. */
static bool take(reader *r, char c) {
    skip_space(r);
    if (r->at == r->end || *r->at != c) return false;
    r->at++;
    skip_space(r);
    return true;
}

static bool read_hex(reader *r, uint32_t *out) {
    if (r->end - r->at < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0) return false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

/* After a backslash. Surrogates come in pairs. */
static bool read_escape(reader *r, tk_buf *b) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) return false;
    char c = *r->at++;
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        tk_buf_put(b, to + (simple - from), 1);
        return true;
    }
    uint32_t code, low;
    if (c != 'u' || !read_hex(r, &code)) return false;
    if (code >= 0xDC00 && code < 0xE000) return false;
    if (code >= 0xD800 && code < 0xDC00) {
        if (r->end - r->at < 2 || *r->at++ != '\\' || *r->at++ != 'u' || !read_hex(r, &low)) return false;
        if (low < 0xDC00 || low >= 0xE000) return false;
        code = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00));
    }
    tk__utf8_put(b, code);
    return true;
}

/* A string, where it lies or unescaped into `b`. The document is valid UTF-8 already. */
static tk_status read_string(reader *r, tk_buf *b, tk_str *out) {
    if (r->at == r->end || *r->at != '"') return invalid(r, "a string should stand");
    const char *from = ++r->at;
    b->len = 0;
    for (bool escaped = false;;) {
        const char *run = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (uint8_t)*r->at >= 0x20) r->at++;
        if (r->at == r->end || (uint8_t)*r->at < 0x20) return invalid(r, "a string does not end");
        if (*r->at == '"' && !escaped) {
            *out = (tk_str){ from, (size_t)(r->at++ - from) };
            return TK_OK;
        }
        tk_buf_put(b, run, (size_t)(r->at - run));
        if (*r->at++ == '"') {
            TK_TRY(tk_buf_check(b));
            *out = (tk_str){ b->data, b->len };
            return TK_OK;
        }
        escaped = true;
        if (!read_escape(r, b)) return invalid(r, "a string has a wrong escape");
    }
}

/* A whole number from 0 to TK_ID_MAX - 1. Any spelling of it that JSON knows will do: 7, 7.0, 7e0. */
static tk_status read_id(reader *r, tk_str key, int32_t *out) {
    static const char letters[] = "+-0123456789.eE";
    char text[32] = "";
    size_t n = 0;
    while (r->at + n < r->end && n + 1 < sizeof text && memchr(letters, r->at[n], sizeof letters - 1)) n++;
    memcpy(text, r->at, n);
    const char *p = text + (text[0] == '-');
    size_t whole = strspn(p, "0123456789");
    bool ok = whole && (whole == 1 || p[0] != '0');
    p += whole;
    if (ok && *p == '.') {
        size_t k = strspn(p + 1, "0123456789");
        ok = k > 0, p += 1 + k;
    }
    if (ok && (*p == 'e' || *p == 'E')) {
        p += 1 + (p[1] == '+' || p[1] == '-');
        size_t k = strspn(p, "0123456789");
        ok = k > 0, p += k;
    }
    double x = ok && !*p ? strtod(text, NULL) : -1;
    if (!(x >= 0 && x < TK_ID_MAX) || x != (double)(int32_t)x)
        return TK_FAIL(TK_E_FORMAT,
                       "tokenizer.json is damaged\nthe id of token \"%.*s\" is not a number from 0 to %d",
                       (int)TK_MIN(key.n, (size_t)60), key.s, TK_ID_MAX - 1);
    r->at += n;
    *out = (int32_t)x;
    return TK_OK;
}

static tk_status read_vocab(tk_tokenizer *t, reader *r) {
    if (!take(r, '{')) return invalid(r, "an object should stand");
    if (take(r, '}')) return TK_OK;
    do {
        tk_str key;
        int32_t id;
        TK_TRY(read_string(r, &r->scratch[0], &key));
        if (!take(r, ':')) return invalid(r, "a colon is missing");
        TK_TRY(read_id(r, key, &id));
        size_t before = t->ids.n;
        TK_TRY(tk__tokenizer_put(t, key, id));
        if (t->ids.n == before)
            return TK_FAIL(TK_E_FORMAT,
                           "tokenizer.json is not valid JSON\nits model's vocab has \"%.*s\" twice",
                           (int)TK_MIN(key.n, (size_t)60), key.s);
    } while (take(r, ','));
    return take(r, '}') && r->at == r->end ? TK_OK : invalid(r, "a comma or the end is missing");
}

/* "left right" or ["left", "right"] */
static tk_status read_merge(tk_tokenizer *t, reader *r, size_t i, size_t *rank) {
    tk_str a, b = { NULL, 0 };
    bool pair = take(r, '[');
    TK_TRY(read_string(r, &r->scratch[0], &a));
    if (pair) {
        if (!take(r, ',')) return invalid(r, "a comma is missing");
        TK_TRY(read_string(r, &r->scratch[1], &b));
        if (!take(r, ']')) return invalid(r, "a pair does not end");
    } else {
        if (a.n >= 8 && !memcmp(a.s, "#version", 8)) return TK_OK;
        const char *blank = memchr(a.s, ' ', a.n);
        size_t left = blank ? (size_t)(blank - a.s) : a.n;
        if (blank) b = (tk_str){ blank + 1, a.n - left - 1 };
        if (!blank || memchr(b.s, ' ', b.n))
            return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nmerge %zu is not a pair of tokens", i);
        a.n = left;
    }
    return tk__tokenizer_merge(t, a, b, (*rank)++);
}

static tk_status read_merges(tk_tokenizer *t, reader *r) {
    size_t rank = 0, count = 0;
    for (const char *p = r->at; p < r->end; p++) count += *p == ',';
    if (!take(r, '[')) return invalid(r, "an array should stand");
    bool pairs = r->at < r->end && *r->at == '[';
    TK_TRY(tk__merges_init(&t->merges, pairs ? count / 2 + 1 : count + 1)); /* a guess; it grows */
    if (take(r, ']')) return TK_OK;
    size_t i = 0;
    do TK_TRY(read_merge(t, r, i++, &rank));
    while (take(r, ','));
    return take(r, ']') && r->at == r->end ? TK_OK : invalid(r, "a comma or the end is missing");
}

static tk_status read_span(tk_tokenizer *t, tk_str span, const char *what,
                           tk_status (*read)(tk_tokenizer *t, reader *r)) {
    reader r = { .at = span.s, .end = span.s + span.n, .start = span.s, .what = what };
    tk_status s = read(t, &r);
    tk_buf_free(&r.scratch[0]);
    tk_buf_free(&r.scratch[1]);
    return s;
}

tk_status tk__big_read(tk_tokenizer *t, const tk__big *b) {
    if (b->image) return tk__cache_adopt(t, b->image);
    TK_TRY(read_span(t, b->vocab, "vocab", read_vocab));
    return read_span(t, b->merges, "merges", read_merges);
}

/* ---- finding them ---------------------------------------------------------------------------------------
 */

/* These only find where values end. What they are fooled by is refused when the parts are read. */
static const char *string_end(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\') p++;
    return p < end ? p + 1 : NULL;
}

static const char *value_end(const char *p, const char *end) {
    if (p < end && *p == '"') return string_end(p, end);
    for (size_t depth = 0; p && p < end;) {
        char c = *p;
        if (c == '"') {
            p = string_end(p, end);
            continue;
        }
        bool close = c == '}' || c == ']';
        if (!depth && (close || c == ',')) return p;
        depth += c == '{' || c == '[';
        depth -= close;
        p++;
        if (close && !depth) return p;
    }
    return NULL;
}

static const char *skip(const char *p, const char *end) {
    while (p && p < end && tk__json_space(*p)) p++;
    return p;
}

/* The next key of an object: *p is after '{' or ',', then at the value. false: none, or the text is odd. */
static bool next_key(const char **p, const char *end, tk_str *key) {
    const char *k = skip(*p, end), *stop = k && k < end && *k == '"' ? string_end(k, end) : NULL;
    const char *v = skip(stop, end);
    if (!v || v >= end || *v != ':') return false;
    *key = (tk_str){ k + 1, (size_t)(stop - k) - 2 };
    *p = skip(v + 1, end);
    return true;
}

/* Past the value at *p, and the comma after it; *p is NULL at the last one. */
static tk_str next_value(const char **p, const char *end) {
    const char *from = *p, *stop = value_end(from, end), *after = skip(stop, end);
    *p = after && after < end && *after == ',' ? after + 1 : NULL;
    return stop ? (tk_str){ from, (size_t)(stop - from) } : (tk_str){ NULL, 0 };
}

static bool named(tk_str key, const char *name) {
    return key.n == strlen(name) && !memcmp(key.s, name, key.n);
}
static bool starts(tk_str s, char c) { return s.n && *s.s == c; }

/* The members of "model" that matter, the first of each name: jansson refuses a second one. */
static void find_tables(tk_str text, tk_str *type, tk_str *vocab, tk_str *merges) {
    const char *end = text.s + text.n, *p = skip(text.s, end);
    tk_str key = { NULL, 0 };
    if (p == end || *p != '{') return;
    for (p++; p && next_key(&p, end, &key) && !named(key, "model");) next_value(&p, end);
    if (!p || p >= end || *p != '{' || !named(key, "model")) return;
    for (p++; p && next_key(&p, end, &key);) {
        tk_str value = next_value(&p, end);
        if (!type->s && named(key, "type")) *type = value;
        if (!vocab->s && named(key, "vocab")) *vocab = value;
        if (!merges->s && named(key, "merges")) *merges = value;
    }
}

void tk__big_find(tk__big *b, tk_str text) {
    tk_str type = { NULL, 0 }, vocab = type, merges = type;
    find_tables(text, &type, &vocab, &merges);
    if (!starts(vocab, '{') || !starts(merges, '[') || !(named(type, "\"BPE\"") || !type.s)) return;
    if (!tk__utf8_valid(vocab.s, vocab.n) || !tk__utf8_valid(merges.s, merges.n)) return;
    tk_str first = vocab.s < merges.s ? vocab : merges, second = vocab.s < merges.s ? merges : vocab;
    tk_buf_put(&b->rest, text.s, (size_t)(first.s - text.s));
    tk_buf_puts(&b->rest, first.s == vocab.s ? "{}" : "[]");
    tk_buf_put(&b->rest, first.s + first.n, (size_t)(second.s - first.s) - first.n);
    tk_buf_puts(&b->rest, second.s == vocab.s ? "{}" : "[]");
    tk_buf_put(&b->rest, second.s + second.n, (size_t)(text.s + text.n - second.s) - second.n);
    if (!b->rest.failed) b->vocab = vocab, b->merges = merges;
}
