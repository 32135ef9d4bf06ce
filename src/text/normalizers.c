/* SPDX-License-Identifier: Apache-2.0 */
/* Normalizers: what tokenizer.json does to a text before it is cut. Each writes its result into a buffer.
 * The Unicode forms use utf8proc's data, but not its ordering of combining marks, which is quadratic, and
 * not its knowledge of newer Unicode: Hugging Face's library normalizes by Unicode 9. */
#include <stdlib.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

tk_status tk__normalize_prepend(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
    if (n) tk_buf_put(out, z->a.s, z->a.n);
    tk_buf_put(out, s, n);
    return TK_OK;
}

tk_status tk__normalize_replace(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
    for (size_t from = 0; from < n;) {
        const char *hit = memmem(s + from, n - from, z->a.s, z->a.n);
        size_t at = hit ? (size_t)(hit - s) : n;
        tk_buf_put(out, s + from, at - from);
        if (hit) tk_buf_put(out, z->b.s, z->b.n);
        from = hit ? at + z->a.n : n;
    }
    return TK_OK;
}

static tk_status replace_regex(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
    tk__search y = { 0 };
    size_t from = 0, at = 0; /* from: not copied yet; at: where to search */
    tk_status r;
    while ((r = tk__regex_find(z->regex, &y, s, n, at)) == TK_OK && y.found) {
        tk_buf_put(out, s + from, y.start - from);
        tk_buf_put(out, z->b.s, z->b.n);
        from = at = y.end;
        if (y.start == y.end) at += y.end < n ? tk__utf8_len(s[y.end]) : 1;
        if (at > n) break;
    }
    tk__search_free(&y);
    if (r == TK_OK) tk_buf_put(out, s + from, n - from);
    return r;
}

/* ---- Unicode normalization forms
 * ---------------------------------------------------------------------------- */

/* Code points that Unicode gave a combining class, a decomposition or a composition after version 9: to the
 * library we reproduce they are plain characters, so a text is normalized piece by piece between them.
 * Found by comparing PyPI's tokenizers 0.23 with unicodedata2 15.1 (utf8proc 2.8 knows 15.0) over all
 * code points, alone and after combining marks, in the four forms. */
static const uint32_t newer[][2] = {
    { 0x7FD, 0x7FD },     { 0x898, 0x89F },     { 0x8CA, 0x8D3 },     { 0x9FE, 0x9FE },
    { 0xC3C, 0xC3C },     { 0xD3B, 0xD3C },     { 0xEBA, 0xEBA },     { 0x1715, 0x1715 },
    { 0x1ABF, 0x1ACE },   { 0x1DF7, 0x1DFA },   { 0x32FF, 0x32FF },   { 0xA7F2, 0xA7F4 },
    { 0xA82C, 0xA82C },   { 0xAB69, 0xAB69 },   { 0x10781, 0x10785 }, { 0x10787, 0x107B0 },
    { 0x107B2, 0x107BA }, { 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF },
    { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B },
    { 0x1145E, 0x1145E }, { 0x11839, 0x1183A }, { 0x11930, 0x11930 }, { 0x11935, 0x11935 },
    { 0x11938, 0x11938 }, { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 },
    { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 },
    { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 },
    { 0x1E030, 0x1E06D }, { 0x1E08F, 0x1E08F }, { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE },
    { 0x1E2EC, 0x1E2EF }, { 0x1E4EE, 0x1E4EF }, { 0x1F16C, 0x1F16C }, { 0x1FBF0, 0x1FBF9 },
};

static bool is_newer(uint32_t c) {
    size_t low = 0, high = TK_COUNT(newer);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (c > newer[mid][1])
            low = mid + 1;
        else
            high = mid;
    }
    return low < TK_COUNT(newer) && c >= newer[low][0];
}

/* Stable counting sort of the combining marks c[0..n) by class. */
static void order_marks(utf8proc_int32_t *c, utf8proc_int32_t *tmp, size_t n) {
    size_t at[257] = { 0 };
    for (size_t i = 0; i < n; i++) at[utf8proc_get_property(c[i])->combining_class + 1]++;
    for (size_t k = 1; k < 257; k++) at[k] += at[k - 1];
    for (size_t i = 0; i < n; i++) tmp[at[utf8proc_get_property(c[i])->combining_class]++] = c[i];
    memcpy(c, tmp, n * sizeof *c);
}

/* Canonical order of n code points; tmp has room for as many. */
static void order(utf8proc_int32_t *c, utf8proc_int32_t *tmp, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t e = i;
        while (e < n && utf8proc_get_property(c[e])->combining_class) e++;
        if (e - i > 1) order_marks(c + i, tmp, e - i);
        i = e + (e == i);
    }
}

typedef struct points { /* code points that grow */
    utf8proc_int32_t *c;
    size_t n, cap;
} points;

/* Appends the full decomposition of c, which never has more than 18 code points. */
static bool decompose(points *p, uint32_t c, int options) {
    enum { MOST = 18 };
    int boundary;
    if (p->cap - p->n < MOST) {
        size_t cap = p->cap * 2 + 64;
        utf8proc_int32_t *fresh = realloc(p->c, cap * sizeof *fresh);
        if (!fresh) return false;
        p->c = fresh, p->cap = cap;
    }
    p->n += (size_t)utf8proc_decompose_char((utf8proc_int32_t)c, p->c + p->n, MOST, options, &boundary);
    return true;
}

/* One piece without newer code points */
static tk_status normalize_piece(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
    int options = UTF8PROC_DECOMPOSE | (z->compatible ? UTF8PROC_COMPAT : 0);
    points p = { 0 };
    bool fits = true;
    for (size_t i = 0; fits && i < n;) {
        uint32_t c;
        i += tk__utf8_get(s + i, &c);
        fits = decompose(&p, c, options);
    }
    utf8proc_int32_t *tmp = fits ? malloc((p.n + 1) * sizeof *tmp) : NULL;
    if (!tmp) {
        free(p.c);
        return TK_FAIL(TK_E_NOMEM, "out of memory\na text of %zu bytes could not be normalized", n);
    }
    order(p.c, tmp, p.n);
    if (z->compose)
        p.n =
            (size_t)utf8proc_normalize_utf32(p.c, (utf8proc_ssize_t)p.n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (size_t i = 0; i < p.n; i++) tk__utf8_put(out, (uint32_t)p.c[i]);
    free(p.c);
    free(tmp);
    return TK_OK;
}

static tk_status normalize_unicode(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
    uint32_t plain = !z->compatible && z->compose ? 0x300 : 0xA0; /* nothing below changes in this form */
    for (size_t from = 0, at = 0; from < n;) {
        bool changes = false, stop = false;
        uint32_t c = 0;
        unsigned len = 0;
        for (; at < n; at += len) {
            len = tk__utf8_get(s + at, &c);
            if ((stop = is_newer(c))) break;
            changes |= c >= plain;
        }
        if (changes)
            TK_TRY(normalize_piece(z, s + from, at - from, out));
        else
            tk_buf_put(out, s + from, at - from);
        if (stop) tk_buf_put(out, s + at, len), at += len;
        from = at;
    }
    return TK_OK;
}

/* ---- parsing
 * --------------------------------------------------------------------------------------------------- */

tk_status tk__normalizer_add(tk_tokenizer *t, tk__normalizer z) {
    if (t->n_norm == TK_STAGES) {
        tk__regex_free(z.regex);
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has more than %d normalizers", TK_STAGES);
    }
    t->norm[t->n_norm++] = z;
    return TK_OK;
}

static tk_status parse_prepend(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    z.run = tk__normalize_prepend;
    TK_TRY(tk__json_string(t, j, "prepend", &z.a));
    return tk__normalizer_add(t, z);
}

static tk_status parse_replace(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    const json_t *pattern = json_object_get(j, "pattern");
    TK_TRY(tk__json_string(t, j, "content", &z.b));
    if (json_object_get(pattern, "Regex")) {
        tk_str regex;
        TK_TRY(tk__json_string(t, pattern, "Regex", &regex));
        TK_TRY(tk__regex_new(&z.regex, regex.s));
        z.run = replace_regex;
    } else {
        TK_TRY(tk__json_string(t, pattern, "String", &z.a));
        if (!z.a.n)
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "the tokenizer's Replace normalizer replaces nothing by something");
        z.run = tk__normalize_replace;
    }
    return tk__normalizer_add(t, z);
}

static tk_status parse_unicode(tk_tokenizer *t, const json_t *j, tk__normalizer z) {
    (void)j;
    z.run = normalize_unicode;
    return tk__normalizer_add(t, z);
}

static const struct {
    const char *type;
    tk_status (*parse)(tk_tokenizer *t, const json_t *j, tk__normalizer z);
    tk__normalizer start;
} rows[] = {
    { "Prepend", parse_prepend, { 0 } },
    { "Replace", parse_replace, { 0 } },
    { "NFC", parse_unicode, { .compose = true } },
    { "NFD", parse_unicode, { 0 } },
    { "NFKC", parse_unicode, { .compose = true, .compatible = true } },
    { "NFKD", parse_unicode, { .compatible = true } },
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

tk_status tk__normalize(const tk_tokenizer *t, tk_buf two[2], const char **s, size_t *n) {
    for (int i = 0; i < t->n_norm; i++) {
        tk_buf *out = &two[i % 2];
        out->len = 0;
        TK_TRY(t->norm[i].run(&t->norm[i], *s, *n, out));
        TK_TRY(tk_buf_check(out));
        if (out->len > TK_SEGMENT_MAX)
            return TK_FAIL(TK_E_LIMIT, "the text is too long\nnormalized it has %zu bytes, the limit is %d",
                           out->len, TK_SEGMENT_MAX);
        *s = out->data ? out->data : "", *n = out->len;
    }
    return TK_OK;
}
