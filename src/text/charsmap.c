/* SPDX-License-Identifier: Apache-2.0 */
/* The replacement tables that SentencePiece compiles into its models: four bytes with the size of a double
 * array trie (Darts), the trie, and a pool of zero-terminated texts that its values point into. The file is
 * not trusted: each step of a walk is checked against the trie's size, each text against the pool's end.
 * Hugging Face's library walks a text by grapheme clusters and takes the shortest key that a cluster starts
 * with (for the whole of it); the sentencepiece package takes the longest at each place. Both are here. */
#include "text/tokenizer.h"

struct tk__charsmap {
    const uint8_t *trie; /* little-endian units */
    size_t n;
    const char *pool;
    size_t size;
};

/* A unit: 8 bits of label and bit 31 for values; bit 8: a value hangs here; the rest: offset. */
static uint32_t unit(const tk__charsmap *m, size_t at) { return tk_le32(m->trie + 4 * at); }
static size_t offset(uint32_t u) { return (size_t)(u >> 10) << ((u & 1u << 9) >> 6); }

tk_status tk__charsmap_new(tk__charsmap **out, tk_arena *arena, const void *data, size_t n) {
    const uint8_t *p = data;
    size_t size = n < 4 ? 0 : tk_le32(p);
    if (n < 8 || size < 4 || size > n - 4)
        return TK_FAIL(TK_E_FORMAT,
                       "the tokenizer's normalizer is damaged\nits precompiled_charsmap has no trie");
    tk_str copy = { tk_arena_strndup(arena, (const char *)p + 4, n - 4), n - 4 };
    tk__charsmap *m = tk_arena_array(arena, 1, sizeof *m);
    if (!copy.s || !m) return TK_E_NOMEM;
    *m = (tk__charsmap){ .trie = (const uint8_t *)copy.s, .n = size / 4 };
    m->pool = copy.s + m->n * 4, m->size = copy.n - m->n * 4;
    if (!tk__utf8_valid(m->pool, m->size))
        return TK_FAIL(TK_E_FORMAT,
                       "the tokenizer's normalizer is damaged\nits precompiled_charsmap is not UTF-8");
    *out = m;
    return TK_OK;
}

/* The text that a value points to. */
static bool text_at(const tk__charsmap *m, uint32_t value, tk_str *to) {
    size_t at = value & 0x7FFFFFFF;
    if (at > m->size || (at < m->size && ((uint8_t)m->pool[at] & 0xC0) == 0x80)) return false;
    const char *end = at < m->size ? memchr(m->pool + at, 0, m->size - at) : NULL;
    *to = (tk_str){ m->pool + at, end ? (size_t)(end - (m->pool + at)) : m->size - at };
    return true;
}

size_t tk__charsmap_find(const tk__charsmap *m, const char *s, size_t n, bool longest, tk_str *to) {
    enum { MOST = 32 }; /* keys that the sentencepiece package takes notice of */
    size_t found = 0, at = offset(unit(m, 0));
    int keys = 0;
    for (size_t i = 0; i < n && s[i] && keys < MOST; i++) {
        uint8_t c = (uint8_t)s[i];
        at ^= c;
        if (at >= m->n) break;
        uint32_t u = unit(m, at);
        if ((u & 0x800000FF) != c) break;
        at ^= offset(u);
        if (!(u & 0x100)) continue;
        keys++;
        if (at >= m->n || !text_at(m, unit(m, at), to)) break;
        found = i + 1;
        if (!longest) break;
    }
    return found;
}

/* Whether something was replaced; copies what was not. */
static void replace(const tk__charsmap *m, const char *s, size_t n, tk_buf *out) {
    tk_str to;
    if (tk__charsmap_find(m, s, n, false, &to))
        tk_buf_put(out, to.s, to.n);
    else
        tk_buf_put(out, s, n);
}

tk_status tk__normalize_charsmap(const tk__normalizer *z, const char *s, size_t n, tk_buf *out,
                                 size_t *first) {
    enum { CLUSTER_MAX = 6 }; /* longer clusters go character by character */
    const tk__charsmap *m = z->charsmap;
    size_t edge = *first;
    tk_str to;
    for (size_t i = 0, end; i < n; i = end) {
        /* a character that vanishes at the very start leaves its place to the next one */
        if (i == edge && i && !out->len) edge += tk__utf8_len(s[i]);
        if (i == edge) *first = out->len;
        end = tk__grapheme(s, n, i);
        if (end - i < CLUSTER_MAX && tk__charsmap_find(m, s + i, end - i, false, &to)) {
            if (i < edge && edge < end) edge = end;
            tk_buf_put(out, to.s, to.n);
            continue;
        }
        for (size_t len; i < end; i += len) {
            len = tk__utf8_len(s[i]);
            if (i == edge) *first = out->len;
            replace(m, s + i, len, out);
        }
    }
    if (edge >= n) *first = out->len;
    return TK_OK;
}
