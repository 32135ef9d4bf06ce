/* SPDX-License-Identifier: Apache-2.0 */
/* The Unicode normalization forms as Hugging Face's library has them. utf8proc's data serves, but not its
 * ordering of combining marks, which is quadratic, and not its knowledge of newer Unicode: that library
 * normalizes by Unicode 9. */
#include <stdlib.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

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

/* The same without *first */
static tk_status normalize(const tk__normalizer *z, const char *s, size_t n, tk_buf *out) {
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

/* As many code points as the first character alone becomes: composing takes nothing from before it. */
tk_status tk__normalize_unicode(const tk__normalizer *z, const char *s, size_t n, tk_buf *out,
                                size_t *first) {
    size_t count = 0, end = 0;
    if (*first) {
        TK_TRY(normalize(z, s, *first, out));
        for (size_t i = 0; i < out->len; i++) count += ((uint8_t)out->data[i] & 0xC0) != 0x80;
        out->len = 0;
    }
    TK_TRY(normalize(z, s, n, out));
    while (count-- && end < out->len) end += tk__utf8_len(out->data[end]);
    *first = end;
    return TK_OK;
}
