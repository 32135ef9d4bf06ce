/* SPDX-License-Identifier: Apache-2.0 */
/* One text through all stages. The scratch of a call, with the cache of words in it, stays with the
 * tokenizer for the next call; a thread that finds it taken makes its own for the one call. */
#include <stdlib.h>

#include "text/tokenizer.h"

tk_status tk__work_new(tk__work **out, const tk_tokenizer *t) {
    tk__work *w = calloc(1, sizeof *w);
    if (w) w->words = calloc(TK_WORDS, sizeof *w->words);
    if (!w || !w->words) {
        free(w);
        return TK_FAIL(TK_E_NOMEM, "out of memory\nthe scratch memory of a tokenizer did not fit");
    }
    w->t = t;
    *out = w;
    return TK_OK;
}

void tk__work_free(tk__work *w) {
    if (!w) return;
    tk_buf_free(&w->clean);
    tk_buf_free(&w->norm[0]);
    tk_buf_free(&w->norm[1]);
    for (int i = 0; i < TK_STAGES; i++) tk_buf_free(&w->stage[i]);
    tk_buf_free(&w->spelled);
    tk__search_free(&w->search);
    free(w->symbol);
    free(w->heap);
    free(w->words);
    for (int i = 0; i < 2; i++) free(w->fragment[i]);
    free(w->seen);
    free(w->best);
    free(w->left_of);
    free(w);
}

/* After an unusually long text, gives its memory back. */
static void work_shrink(tk__work *w) {
    enum { KEEP = 1 << 20 };
    tk_buf *all[] = { &w->clean, &w->norm[0], &w->norm[1] };
    for (size_t i = 0; i < TK_COUNT(all); i++)
        if (all[i]->cap > KEEP || all[i]->failed) tk_buf_free(all[i]);
    for (int i = 0; i < TK_STAGES; i++)
        if (w->stage[i].cap > KEEP || w->stage[i].failed) tk_buf_free(&w->stage[i]);
    if (w->cap_symbol * sizeof *w->symbol > KEEP) free(w->symbol), w->symbol = NULL, w->cap_symbol = 0;
    if (w->cap_heap * sizeof *w->heap > KEEP) free(w->heap), w->heap = NULL, w->cap_heap = 0;
    if (w->cap_best * sizeof *w->best > KEEP) free(w->best), w->best = NULL, w->cap_best = 0;
    for (int i = 0; i < 2; i++)
        if (w->cap_fragment[i] * sizeof *w->fragment[i] > KEEP)
            free(w->fragment[i]), w->fragment[i] = NULL, w->cap_fragment[i] = 0;
}

/* ---- cutting out added tokens
 * ------------------------------------------------------------------------------ */

static size_t spaces_before(const char *s, size_t from, size_t end) {
    while (end > from) {
        size_t p = end - 1;
        while (p > from && ((uint8_t)s[p] & 0xC0) == 0x80) p--;
        uint32_t c;
        tk__utf8_get(s + p, &c);
        if (!(tk__cp_class(c) & TK_CP_S)) break;
        end = p;
    }
    return end;
}

static size_t spaces_after(const char *s, size_t p, size_t n) {
    for (uint32_t c; p < n;) {
        unsigned len = tk__utf8_get(s + p, &c);
        if (!(tk__cp_class(c) & TK_CP_S)) break;
        p += len;
    }
    return p;
}

static bool word_at(const char *s, size_t p) {
    uint32_t c;
    tk__utf8_get(s + p, &c);
    return tk__cp_class(c) & TK_CP_W;
}
static bool word_before(const char *s, size_t p) {
    do p--;
    while (p && ((uint8_t)s[p] & 0xC0) == 0x80);
    return word_at(s, p);
}

/* What runs on the text between added tokens */
typedef tk_status between(tk__work *w, const char *s, size_t n);

/* The rules of Hugging Face's find_matches: a refused match still uses up its text, and a token that takes
 * the white space around it may overlap the next match but never the one before. */
static tk_status cut(tk__work *w, const tk__trie *trie, unsigned flags, tk_str text, between *rest) {
    const char *s = text.s;
    size_t n = text.n, done = 0, start, end;
    int32_t which;
    for (size_t at = 0; trie && (end = tk__trie_find(trie, s, n, at, &start, &which)); at = end) {
        const tk__added *a = &w->t->added[which];
        size_t from = start, to = end;
        if (a->special && !(flags & TK_ENCODE_PARSE_SPECIAL)) continue;
        if (a->single_word && ((from && word_before(s, from)) || (to < n && word_at(s, to)))) continue;
        if (a->lstrip) from = TK_MAX(spaces_before(s, 0, from), done);
        if (a->rstrip) to = spaces_after(s, to, n);
        if (done < from) TK_TRY(rest(w, s + done, from - done));
        if (from < to) TK_TRY(tk_ids_push(w->out, a->id)); /* else all of it went to the token before */
        done = to;
    }
    return done < n ? rest(w, s + done, n - done) : TK_OK;
}

static tk_status run_plain(tk__work *w, const char *s, size_t n) { return tk__pretok_run(w, 0, s, n); }

static tk_status run_normalized(tk__work *w, const char *s, size_t n) {
    size_t first =
        s == w->text ? tk__utf8_len(*s) : 0; /* of these bytes, what comes from the first character */
    TK_TRY(tk__normalize(w->t, w->norm, &s, &n, &first));
    w->first = s, w->first_end = s + first;
    return cut(w, w->t->cut_normalized, w->flags, (tk_str){ s, n }, run_plain);
}

static tk_status encode(tk__work *w, const char *text, size_t n) {
    const tk_tokenizer *t = w->t;
    w->search.start_wall = 0;
    if (!tk__utf8_valid(text, n)) {
        w->clean.len = 0;
        tk__utf8_clean(&w->clean, text, n);
        TK_TRY(tk_buf_check(&w->clean));
        text = w->clean.data, n = w->clean.len;
    }
    if (t->llama) return tk__llama_encode(w, text, n);
    w->text = text;
    bool add = w->flags & TK_ENCODE_ADD_SPECIAL;
    for (size_t i = 0; add && i < t->prefix.n; i++) TK_TRY(tk_ids_push(w->out, t->prefix.id[i]));
    TK_TRY(cut(w, t->cut_raw, w->flags, (tk_str){ text, n }, run_normalized));
    for (size_t i = 0; add && i < t->suffix.n; i++) TK_TRY(tk_ids_push(w->out, t->suffix.id[i]));
    return TK_OK;
}

tk_status tk_encode(const tk_tokenizer *t, const char *text, size_t n, unsigned flags, tk_ids *ids) {
    if (n > TK_SEGMENT_MAX)
        return TK_FAIL(TK_E_LIMIT, "the text is too long\nit has %zu bytes, the limit is %d", n,
                       TK_SEGMENT_MAX);
    tk_tokenizer *owner = (tk_tokenizer *)t; /* the scratch is not part of what the tokenizer means */
    bool own = pthread_mutex_trylock(&owner->lock) == 0;
    tk__work *w = own ? owner->work : NULL;
    tk_status s = w ? TK_OK : tk__work_new(&w, t);
    if (s == TK_OK) {
        w->out = ids, w->flags = flags;
        s = encode(w, n ? text : "", n);
        work_shrink(w);
    }
    if (own) {
        owner->work = w;
        pthread_mutex_unlock(&owner->lock);
    } else
        tk__work_free(w);
    return s;
}
