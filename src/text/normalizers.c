/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: what tokenizer.json does to a text before it is cut. Each writes its result into a buffer and
 * keeps track of how much of it stems from the text's first character. A normalizer of the file may be
 * several stages here: BertNormalizer is up to five. */
#include <stdlib.h>

#include "text/tokenizer.h"

tk_status tk__normalize_prepend(const tk__normalizer *z, const char *s, size_t n, tk_buf *out,
                                size_t *first) {
    if (n) tk_buf_put(out, z->a.s, z->a.n);
    tk_buf_put(out, s, n);
    if (*first) *first += z->a.n;
    return TK_OK;
}

/* ---- replacing --------------------------------------------------------------------------------------------
 */

/* Where the part that stems from the first character ends, before and after. */
typedef struct edge {
    size_t in, out;
    bool passed;
} edge;

/* Copies s[from, to), which keeps its origin. */
static void copy(tk_buf *out, const char *s, size_t from, size_t to, edge *e) {
    if (!e->passed && e->in < to) e->out = out->len + (e->in - from), e->passed = true;
    tk_buf_put(out, s + from, to - from);
}

/* Puts b for what ended at `to`: it stems from the last character replaced. */
static void put(tk_buf *out, tk_str b, size_t to, edge *e) {
    if (!e->passed && to > e->in) e->out = out->len, e->passed = true;
    tk_buf_put(out, b.s, b.n);
}

static void set_first(const tk_buf *out, const edge *e, size_t *first) {
    *first = !e->in ? 0 : e->passed ? e->out : out->len;
}

tk_status tk__normalize_replace(const tk__normalizer *z, const char *s, size_t n, tk_buf *out,
                                size_t *first) {
    edge e = { .in = *first };
    for (size_t from = 0; from < n;) {
        const char *hit = memmem(s + from, n - from, z->a.s, z->a.n);
        size_t at = hit ? (size_t)(hit - s) : n;
        copy(out, s, from, at, &e);
        from = hit ? at + z->a.n : n;
        if (hit) put(out, z->b, from, &e);
    }
    set_first(out, &e, first);
    return TK_OK;
}

static tk_status replace_regex(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first) {
    tk__search y = { 0 };
    edge e = { .in = *first };
    size_t from = 0, at = 0; /* from: not copied yet; at: where to search */
    tk_status r;
    while ((r = tk__regex_find(z->regex, &y, s, n, at)) == TK_OK && y.found) {
        copy(out, s, from, y.start, &e);
        put(out, z->b, y.end, &e);
        from = at = y.end;
        if (y.start == y.end) at += y.end < n ? tk__utf8_len(s[y.end]) : 1;
        if (at > n) break;
    }
    tk__search_free(&y);
    if (r == TK_OK) copy(out, s, from, n, &e);
    set_first(out, &e, first);
    return r;
}

/* ---- character by character
 * --------------------------------------------------------------------------------- */

/* What a character becomes: appends it, or nothing. */
typedef void mapping(const tk__normalizer *z, uint32_t c, tk_buf *out);

static inline tk_status each(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first,
                             mapping *map) {
    size_t own = *first;
    uint32_t c;
    for (size_t i = 0; i < n; i += tk__utf8_len(s[i])) {
        if (i == own) *first = out->len;
        tk__utf8_get(s + i, &c);
        map(z, c, out);
    }
    if (own >= n) *first = out->len;
    return TK_OK;
}

static void map_lower(const tk__normalizer *z, uint32_t c, tk_buf *out) {
    (void)z;
    if (c == 0x130)
        tk_buf_put(out, "i\xCC\x87", 3);
    else
        tk__utf8_put(out, tk__hf_lower(c));
}

static void map_drop(const tk__normalizer *z, uint32_t c, tk_buf *out) {
    if (z->clean && (!c || c == 0xFFFD)) return;
    if ((c >= 128 || z->clean) && (tk__hf_kind(c) & z->drop)) return;
    tk__utf8_put(out, z->clean && tk__is_space(c) ? ' ' : c);
}

static bool is_chinese(uint32_t c) { /* as the first BERT had it */
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

static void map_chinese(const tk__normalizer *z, uint32_t c, tk_buf *out) {
    (void)z;
    bool alone = c >= 0x3400 && is_chinese(c);
    if (alone) tk_buf_put(out, " ", 1);
    tk__utf8_put(out, c);
    if (alone) tk_buf_put(out, " ", 1);
}

static void map_nmt(const tk__normalizer *z, uint32_t c, tk_buf *out) {
    (void)z;
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
        return;
    bool blank = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                 c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    tk__utf8_put(out, blank ? ' ' : c);
}

#define EACH(name, map)                                                                                      \
    static tk_status name(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first) {    \
        return each(z, s, n, out, first, map);                                                               \
    }
EACH(lowercase, map_lower)
EACH(drop, map_drop)
EACH(chinese, map_chinese)
EACH(nmt, map_nmt)
#undef EACH

static tk_status byte_level(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first) {
    size_t own = *first;
    (void)z;
    for (size_t i = 0; i < n; i++) {
        tk_str l = tk__byte_letters((uint8_t)s[i]);
        if (i == own) *first = out->len;
        tk_buf_put(out, l.s, l.n);
    }
    if (own >= n) *first = out->len;
    return TK_OK;
}

static tk_status strip(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first) {
    size_t from = 0, to = n;
    uint32_t c;
    while (z->left && from < n) {
        unsigned len = tk__utf8_get(s + from, &c);
        if (!tk__is_space(c)) break;
        from += len;
    }
    while (z->right && to > from) {
        size_t p = to - 1;
        while (p > from && ((uint8_t)s[p] & 0xC0) == 0x80) p--;
        tk__utf8_get(s + p, &c);
        if (!tk__is_space(c)) break;
        to = p;
    }
    tk_buf_put(out, s + from, to - from);
    *first = from ? 0 : TK_MIN(*first, to);
    return TK_OK;
}

/* ---- parsing
 * ------------------------------------------------------------------------------------------------ */

tk_status tk__normalizer_add(tk_tokenizer *t, tk__normalizer z) {
    if (t->n_norm == TK_STAGES) {
        tk__regex_free(z.regex);
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has more than %d normalizers", TK_STAGES);
    }
    t->norm[t->n_norm++] = z;
    return TK_OK;
}

static tk_status parse_plain(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    (void)j;
    return tk__normalizer_add(t, z);
}

static tk_status parse_prepend(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    TK_TRY(tk__json_string(t, j, "prepend", &z.a));
    return tk__normalizer_add(t, z);
}

static tk_status parse_replace(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    const json_t *pattern = json_object_get(j, "pattern");
    tk_str regex = { NULL, 0 };
    TK_TRY(tk__json_string(t, j, "content", &z.b));
    if (json_object_get(pattern, "Regex"))
        TK_TRY(tk__json_string(t, pattern, "Regex", &regex));
    else
        TK_TRY(tk__json_string(t, pattern, "String", &z.a));
    if (!regex.s && z.a.n) return tk__normalizer_add(t, z);
    if (regex.s && strlen(regex.s) != regex.n) return tk__unknown_stage("pattern with a zero byte", regex.s);
    TK_TRY(tk__regex_new(&z.regex, regex.s ? regex.s : "")); /* nothing as a text: between all characters */
    z.run = replace_regex;
    return tk__normalizer_add(t, z);
}

static tk_status parse_strip(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    z.left = tk__json_true(j, "strip_left", true);
    z.right = tk__json_true(j, "strip_right", true);
    return tk__normalizer_add(t, z);
}

static tk_status parse_bert(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    bool lower = tk__json_true(j, "lowercase", true);
    (void)z;
    if (tk__json_true(j, "clean_text", true))
        TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = drop, .drop = TK_HF_OTHER, .clean = true }));
    if (tk__json_true(j, "handle_chinese_chars", true))
        TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = chinese }));
    if (tk__json_true(j, "strip_accents", lower)) {
        TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = tk__normalize_unicode }));
        TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = drop, .drop = TK_HF_ACCENT }));
    }
    return lower ? tk__normalizer_add(t, (tk__normalizer){ .run = lowercase }) : TK_OK;
}

static tk_status parse_charsmap(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    tk_buf raw = { 0 };
    tk__charsmap *m = NULL;
    const json_t *v = json_object_get(j, "precompiled_charsmap");
    bool fine = json_is_string(v) && tk__base64(&raw, json_string_value(v), json_string_length(v));
    tk_status s = tk_buf_check(&raw);
    if (s == TK_OK && !fine)
        s = TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\n\"precompiled_charsmap\" should be base64");
    if (s == TK_OK) s = tk__charsmap_new(&m, &t->arena, raw.data, raw.len);
    tk_buf_free(&raw);
    z.charsmap = m;
    return s == TK_OK ? tk__normalizer_add(t, z) : s;
}

static const struct {
    const char *type;
    tk_status (*parse)(tk_tokenizer *t, const json_t *j, tk__normalizer z);
    tk__normalizer start;
} rows[] = {
    { "Prepend", parse_prepend, { .run = tk__normalize_prepend } },
    { "Replace", parse_replace, { .run = tk__normalize_replace } },
    { "NFC", parse_plain, { .run = tk__normalize_unicode, .compose = true } },
    { "NFD", parse_plain, { .run = tk__normalize_unicode } },
    { "NFKC", parse_plain, { .run = tk__normalize_unicode, .compose = true, .compatible = true } },
    { "NFKD", parse_plain, { .run = tk__normalize_unicode, .compatible = true } },
    { "Lowercase", parse_plain, { .run = lowercase } },
    { "Strip", parse_strip, { .run = strip } },
    { "StripAccents", parse_plain, { .run = drop, .drop = TK_HF_MARK } },
    { "Nmt", parse_plain, { .run = nmt } },
    { "ByteLevel", parse_plain, { .run = byte_level } },
    { "BertNormalizer", parse_bert, { 0 } },
    { "Precompiled", parse_charsmap, { .run = tk__normalize_charsmap } },
};

static tk_status parse(tk_tokenizer *t, const json_t *j, int depth) {
    const char *type;
    TK_TRY(tk__json_type(j, "normalizer", depth, &type));
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(j, "normalizers"), i, e) TK_TRY(parse(t, e, depth + 1));
        return TK_OK;
    }
    for (size_t i = 0; i < TK_COUNT(rows); i++)
        if (!strcmp(rows[i].type, type)) return rows[i].parse(t, j, rows[i].start);
    return tk__unknown_stage("normalizer", type);
}

tk_status tk__normalizers_parse(tk_tokenizer *t, const json_t *j) {
    return !j || json_is_null(j) ? TK_OK : parse(t, j, 0);
}

tk_status tk__normalize(const tk_tokenizer *t, tk_buf two[2], const char **s, size_t *n, size_t *first) {
    for (int i = 0; i < t->n_norm; i++) {
        tk_buf *out = &two[i % 2];
        out->len = 0;
        TK_TRY(t->norm[i].run(&t->norm[i], *s, *n, out, first));
        TK_TRY(tk_buf_check(out));
        if (out->len > TK_SEGMENT_MAX)
            return TK_FAIL(TK_E_LIMIT, "the text is too long\nnormalized it has %zu bytes, the limit is %d",
                           out->len, TK_SEGMENT_MAX);
        *s = out->data ? out->data : "", *n = out->len;
    }
    return TK_OK;
}
