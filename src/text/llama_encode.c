/* SPDX-License-Identifier: Apache-2.0 */
/* A text by a GGUF vocabulary, in llama.cpp's order: special tokens are cut out of the raw text, the longest
 * first wherever it stands (not the leftmost first), then each rest goes to its model. */
#include <stdlib.h>

#include "text/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581 */

static bool blank(char c) { return c == ' ' || (c >= 9 && c <= 13); } /* isspace of the C locale */

static tk_status put_fragment(tk__work *w, int which, size_t *n, struct tk__fragment f) {
    if (*n == w->cap_fragment[which]) {
        size_t cap = *n ? *n * 2 : 64;
        struct tk__fragment *fresh = realloc(w->fragment[which], cap * sizeof *fresh);
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu pieces of a text did not fit", *n);
        w->fragment[which] = fresh, w->cap_fragment[which] = cap;
    }
    w->fragment[which][(*n)++] = f;
    return TK_OK;
}

/* Marks which special tokens occur in s; false: none does. */
static bool find_special(tk__work *w, const char *s, size_t n) {
    const tk__llama *l = w->t->llama;
    bool any = false;
    int maps = w->flags & TK_ENCODE_PARSE_SPECIAL ? 2 : 1;
    for (size_t i = 0; i < n; i++) {
        uint8_t lead = (uint8_t)s[i];
        for (uint32_t k = l->first_length[lead]; k < l->first_length[lead + 1]; k++) {
            if (l->lengths[k] > n - i) continue;
            for (int m = 0; m < maps; m++) {
                int32_t which = tk__pieces_get(&l->at_start[m], s + i, l->lengths[k]);
                if (which >= 0) any = true, w->seen[which] = 1;
            }
        }
    }
    return any;
}

/* Cuts the special token `which` out of the n texts of fragment[from], into fragment[1 - from]. */
static tk_status cut_one(tk__work *w, const char *s, size_t which, int from, size_t n, size_t *out) {
    const tk_tokenizer *t = w->t;
    int32_t id = t->llama->special[which];
    tk_str text = t->piece[id];
    unsigned attr = t->llama->attr[id];
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        struct tk__fragment f = w->fragment[from][i];
        const char *hit;
        while (f.id < 0 && f.from < f.to && (hit = memmem(s + f.from, f.to - f.from, text.s, text.n))) {
            size_t at = (size_t)(hit - s), end = at;
            if (attr & TK_ATTR_LSTRIP)
                while (end > f.from && blank(s[end - 1])) end--;
            if (end > f.from)
                TK_TRY(put_fragment(w, 1 - from, out, (struct tk__fragment){ f.from, end, -1 }));
            TK_TRY(put_fragment(w, 1 - from, out, (struct tk__fragment){ at, at + text.n, id }));
            f.from = at + text.n;
            if (attr & TK_ATTR_RSTRIP)
                while (f.from < f.to && blank(s[f.from])) f.from++;
        }
        if (f.from < f.to) TK_TRY(put_fragment(w, 1 - from, out, f));
    }
    return TK_OK;
}

/* *which: the list of fragments that holds the result */
static tk_status partition(tk__work *w, const char *s, size_t n, int *which, size_t *n_fragment) {
    const tk__llama *l = w->t->llama;
    *which = 0, *n_fragment = 0;
    if (!n) return TK_OK;
    TK_TRY(put_fragment(w, 0, n_fragment, (struct tk__fragment){ 0, n, -1 }));
    if (!l->n_special) return TK_OK;
    if (!w->seen && !(w->seen = calloc(l->n_special, 1)))
        return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu special tokens did not fit", l->n_special);
    if (!find_special(w, s, n)) return TK_OK;
    for (size_t i = 0; i < l->n_special; i++) {
        if (!w->seen[i]) continue;
        size_t out;
        w->seen[i] = 0;
        tk_status r = cut_one(w, s, i, *which, *n_fragment, &out);
        if (r != TK_OK) {
            memset(w->seen, 0, l->n_special);
            return r;
        }
        *which = 1 - *which, *n_fragment = out;
    }
    return TK_OK;
}

/* ---- merges ---------------------------------------------------------------------------------------------
 */

static void escape_spaces(tk_buf *b, const char *s, size_t n) {
    for (size_t i = 0, run; i < n; i += run) {
        const char *hit = memchr(s + i, ' ', n - i);
        run = hit ? (size_t)(hit - s) - i : n - i;
        tk_buf_put(b, s + i, run);
        if (hit) tk_buf_put(b, SPACE_MARK, 3), run++;
    }
}

tk_status tk__llama_text_spm(tk__work *w, const char *s, size_t n, bool first) {
    tk_buf *b = &w->norm[0];
    b->len = 0;
    if (first && w->t->llama->space_prefix) tk_buf_put(b, SPACE_MARK, 3);
    escape_spaces(b, s, n);
    TK_TRY(tk_buf_check(b));
    return tk__model_encode(w, b->data, b->len);
}

/* The model "whitespace": white space only cuts. */
static tk_status drop_spaces(tk__work *w, const char *s, size_t n) {
    tk_buf *b = &w->norm[0];
    b->len = 0;
    for (size_t i = 0; i <= n;) {
        uint32_t c = ' ';
        i += i < n ? tk__utf8_get(s + i, &c) : 1;
        if (!(tk__cp_class_15(c) & TK_CP_S)) {
            tk__utf8_put(b, w->t->llama->lowercase ? tk__llama_lower(c) : c);
            continue;
        }
        TK_TRY(tk_buf_check(b));
        TK_TRY(tk__pretok_run(w, 0, b->data, b->len));
        b->len = 0;
    }
    return TK_OK;
}

tk_status tk__llama_text_bpe(tk__work *w, const char *s, size_t n, bool first) {
    (void)first;
    const tk__llama *l = w->t->llama;
    if (l->drop_spaces) return drop_spaces(w, s, n);
    if (!l->escape_spaces) return tk__pretok_run(w, 0, s, n);
    w->norm[0].len = 0;
    escape_spaces(&w->norm[0], s, n);
    TK_TRY(tk_buf_check(&w->norm[0]));
    return tk__pretok_run(w, 0, w->norm[0].data, w->norm[0].len);
}

tk_status tk__llama_encode(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    bool add = w->flags & TK_ENCODE_ADD_SPECIAL, first = true;
    int which;
    size_t n_fragment;
    TK_TRY(partition(w, s, n, &which, &n_fragment));
    for (size_t i = 0; add && i < t->prefix.n; i++) TK_TRY(tk_ids_push(w->out, t->prefix.id[i]));
    for (size_t i = 0; i < n_fragment; i++) {
        struct tk__fragment f = w->fragment[which][i];
        if (f.id >= 0)
            TK_TRY(tk_ids_push(w->out, f.id));
        else
            TK_TRY(t->llama->text(w, s + f.from, f.to - f.from, first));
        first = f.id >= 0;
    }
    for (size_t i = 0; add && i < t->suffix.n; i++) TK_TRY(tk_ids_push(w->out, t->suffix.id[i]));
    return TK_OK;
}

void tk__llama_free(tk__llama *l) {
    if (!l) return;
    free(l->special);
    free(l->attr);
    free(l->lengths);
    free(l->charsmap);
    for (int i = 0; i < 2; i++) tk__pieces_free(&l->at_start[i]);
    tk__pieces_free(&l->ghosts);
    tk__trie_free(l->trie);
    tk__trie_free(l->user);
    free(l);
}
