/* SPDX-License-Identifier: Apache-2.0 */
/* Three models of GGUF files that are not merges: WPM (BERT's longest pieces first), UGM (T5's best path of
 * scores, after normalization by a precompiled map), RWKV (longest piece of bytes). What they do to odd text
 * is llama.cpp's doing, exactly. */
#include <float.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81"

/* ---- WPM ------------------------------------------------------------------------------------------------
 */

static bool chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) ||
           (c >= 0x2F800 && c <= 0x2FA1F);
}

/* The first code point of c's canonical decomposition. The library may know more of Unicode than 15.1. */
static uint32_t base_letter(uint32_t c) {
    utf8proc_int32_t out[32];
    int last = 0;
    if (c < 128 || !tk__cp_class_15(c)) return c;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((int32_t)c, out, 32, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &last);
    return n > 0 ? (uint32_t)out[0] : c;
}

uint32_t tk__llama_lower(uint32_t c) {
    if (c < 128) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    return tk__cp_class_15(c) ? (uint32_t)utf8proc_tolower((int32_t)c) : c;
}

/* The longest piece at each place, or the unknown token for the whole word. `word` begins with U+2581. */
static tk_status wpm_word(tk__work *w, const char *word, size_t n) {
    const tk_tokenizer *t = w->t;
    const tk__trie *trie = t->llama->trie;
    size_t before = w->out->n;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        int32_t node = 0, id = -1;
        for (size_t k = i; k < n && (node = tk__trie_step(trie, node, (uint8_t)word[k])) >= 0; k++)
            if (tk__trie_value(trie, node) >= 0) id = tk__trie_value(trie, node), end = k + 1;
        if (id < 0) {
            w->out->n = before;
            break;
        }
        TK_TRY(tk_ids_push(w->out, id));
        i = end;
    }
    return w->out->n > before ? TK_OK : tk_ids_push(w->out, t->unk);
}

static tk_status flush_word(tk__work *w, tk_buf *b) {
    TK_TRY(tk_buf_check(b));
    size_t n = b->len;
    b->len = 3;
    return n > 3 ? wpm_word(w, b->data, n) : TK_OK;
}

tk_status tk__llama_text_wpm(tk__work *w, const char *s, size_t n, bool first) {
    (void)first;
    const tk__llama *l = w->t->llama;
    tk_buf *b = &w->norm[0];
    b->len = 0;
    tk_buf_put(b, SPACE_MARK, 3);
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += tk__utf8_get(s + i, &c);
        if (l->strip_accents) c = base_letter(c);
        unsigned r = tk__cp_class_15(c);
        if (r & TK_CP_S) TK_TRY(flush_word(w, b));
        if ((r & TK_CP_S) || !c || c == 0xFFFD || (r & TK_CP_C)) continue;
        if (l->strip_accents && (r & TK_CP_M)) continue;
        bool alone = (r & TK_CP_P) || (c < 0x7F && (r & TK_CP_SYMBOL)) || chinese(c);
        if (alone) TK_TRY(flush_word(w, b));
        tk__utf8_put(b, l->lowercase ? tk__llama_lower(c) : c);
        if (alone) TK_TRY(flush_word(w, b));
    }
    return flush_word(w, b);
}

/* ---- UGM ------------------------------------------------------------------------------------------------
 */

/* sentencepiece's map of replacements: a double array whose units hold base, check and leaf, and the texts
 * that leaves point to. Every index is checked: the map comes from a file. */
static bool map_unit(const tk__llama *l, size_t i, uint32_t *unit) {
    if (i >= tk_le32(l->charsmap) / 4) return false;
    *unit = tk_le32(l->charsmap + 4 + 4 * i);
    return true;
}
static uint32_t base_of(uint32_t unit) { return unit >> 10 << ((unit & 1u << 9) >> 6); }

/* The longest replacement at s: its text, and how much of s it stands for (0: none). */
static tk_status replace_at(const tk__llama *l, const char *s, size_t n, tk_str *text, size_t *used) {
    uint32_t unit, at;
    *used = 0;
    if (!l->charsmap || !map_unit(l, 0, &unit)) return TK_OK;
    at = base_of(unit);
    size_t found = 0;
    bool ok = true;
    for (size_t i = 0; i < n && s[i]; i++) {
        uint8_t c = (uint8_t)s[i];
        at ^= c;
        if (!(ok = map_unit(l, at, &unit))) break;
        if ((unit & (1u << 31 | 0xFF)) != c) break;
        at ^= base_of(unit);
        if (!(unit >> 8 & 1)) continue;
        if (!(ok = map_unit(l, at, &unit))) break;
        *used = i + 1, found = unit & ~(1u << 31);
    }
    const uint8_t *strings = l->charsmap + 4 + tk_le32(l->charsmap);
    size_t n_strings = l->n_charsmap - 4 - tk_le32(l->charsmap);
    const uint8_t *end =
        ok && *used && found < n_strings ? memchr(strings + found, 0, n_strings - found) : NULL;
    if (ok && *used && end)
        *text = (tk_str){ (const char *)strings + found, (size_t)(end - strings) - found };
    if (ok && (!*used || end)) return TK_OK;
    return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nits precompiled_charsmap points beyond its end");
}

/* The longest way into the tree of user-defined pieces counts, whether or not a piece ends there. */
static size_t user_prefix(const tk__trie *user, const char *s, size_t n) {
    size_t i = 0;
    if (user)
        for (int32_t node = 0; i < n && (node = tk__trie_step(user, node, (uint8_t)s[i])) >= 0;) i++;
    return i;
}

static tk_status ugm_normalize(tk__work *w, const char *s, size_t n, tk_buf *b) {
    const tk__llama *l = w->t->llama;
    tk_str space = l->escape_spaces ? TK_STR(SPACE_MARK) : TK_STR(" ");
    bool prepended = false, within = false;
    b->len = 0;
    for (size_t i = 0; i < n;) {
        size_t used = user_prefix(l->user, s + i, n - i);
        tk_str text = { s + i, used };
        if (!used) TK_TRY(replace_at(l, s + i, n - i, &text, &used));
        if (!used && ((uint8_t)s[i] & 0xC0) == 0x80) /* a user-defined piece began like this character */
            used = 1, text = (tk_str){ "\xEF\xBF\xBD", 3 };
        else if (!used)
            used = tk__utf8_len(s[i]), text = (tk_str){ s + i, used };
        for (size_t k = 0; k < text.n; k++) {
            if (text.s[k] == ' ') {
                within = false;
                if (!l->merge_spaces) tk_buf_put(b, space.s, space.n);
                continue;
            }
            if (!within && ((l->space_prefix && !prepended) || l->merge_spaces))
                tk_buf_put(b, space.s, space.n), prepended = true;
            within = true;
            tk_buf_put(b, text.s + k, 1);
        }
        i += used;
    }
    return tk_buf_check(b);
}

static tk_status ugm_paths(tk__work *w, size_t n) {
    if (n + 1 > w->cap_best) {
        free(w->best);
        w->cap_best = 0;
        w->best = malloc((n + 1) * sizeof *w->best);
        if (!w->best) return TK_FAIL(TK_E_NOMEM, "out of memory\nthe paths of %zu bytes did not fit", n);
        w->cap_best = n + 1;
    }
    for (size_t i = 0; i <= n; i++) w->best[i] = (struct tk__best){ -DBL_MAX, 0, w->t->unk };
    w->best[0].score = 0;
    return TK_OK;
}

static void improve(struct tk__best *best, size_t from, size_t to, int32_t id, double score) {
    score += best[from].score;
    if (score > best[to].score) best[to] = (struct tk__best){ score, (uint32_t)from, id };
}

tk_status tk__llama_text_ugm(tk__work *w, const char *s, size_t n, bool first) {
    (void)first;
    const tk_tokenizer *t = w->t;
    const tk__llama *l = t->llama;
    tk_buf *b = &w->norm[0];
    TK_TRY(ugm_normalize(w, s, n, b));
    n = b->len, s = b->data;
    if (!n) return TK_OK;
    TK_TRY(ugm_paths(w, n));
    static const uint8_t length[16] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4 };
    for (size_t i = 0; i < n;) {
        size_t len = TK_MIN((size_t)length[(uint8_t)s[i] >> 4], n - i);
        bool whole = false;
        int32_t node = 0;
        for (size_t k = i; k < n && (node = tk__trie_step(l->trie, node, (uint8_t)s[k])) >= 0; k++) {
            int32_t id = tk__trie_value(l->trie, node);
            if (id < 0) continue;
            whole |= k + 1 - i == len;
            improve(w->best, i, k + 1, id, l->attr[id] & TK_ATTR_USER ? 0.0 : t->score[id]);
        }
        if (!whole) improve(w->best, i, i + len, t->unk, l->unknown_score);
        i += len;
    }
    size_t before = w->out->n;
    bool was = false;
    for (size_t at = n;; at = w->best[at].from) {
        bool unknown = w->best[at].id == t->unk;
        if (!(was && unknown)) TK_TRY(tk_ids_push(w->out, w->best[at].id));
        if (!w->best[at].from) break;
        was = unknown;
    }
    for (size_t i = before, k = w->out->n; i + 1 < k--; i++) {
        int32_t x = w->out->id[i];
        w->out->id[i] = w->out->id[k], w->out->id[k] = x;
    }
    return TK_OK;
}

/* ---- RWKV -----------------------------------------------------------------------------------------------
 */

tk_status tk__llama_text_rwkv(tk__work *w, const char *s, size_t n, bool first) {
    (void)first;
    const tk__trie *trie = w->t->llama->trie;
    for (size_t i = 0; i < n;) {
        int32_t node = 0, id = w->t->unk;
        size_t end = i + 1;
        for (size_t k = i; k < n && (node = tk__trie_step(trie, node, (uint8_t)s[k])) >= 0; k++)
            if (tk__trie_value(trie, node) >= 0) id = tk__trie_value(trie, node), end = k + 1;
        TK_TRY(tk_ids_push(w->out, id));
        i = end;
    }
    return TK_OK;
}
