/* SPDX-License-Identifier: Apache-2.0 */
/* The merge models. BPE merges neighbours by the rank of their pair; the SentencePiece-like model merges
 * neighbours whose joined text is a piece, best score first. Both take the leftmost of equals. One engine
 * serves both: a linked list of symbols and a heap of candidates, O(n log n), so a text that is one long
 * word costs no more per byte than any other. Short words, nearly all of them, take a plain scan. */
#include <stdlib.h>

#include "text/tokenizer.h"

enum { SHORT_WORD = 40 };

/* ---- the engine -------------------------------------------------------------------------------------------
 */

static tk_status add_symbol(tk__work *w, int32_t id, uint32_t at, uint32_t len) {
    if (w->n_symbol == w->cap_symbol) {
        size_t cap = w->cap_symbol ? w->cap_symbol * 2 : 256;
        tk__symbol *fresh = realloc(w->symbol, cap * sizeof *fresh);
        if (!fresh)
            return TK_FAIL(TK_E_NOMEM, "out of memory\na word of %zu symbols did not fit", w->n_symbol);
        w->symbol = fresh, w->cap_symbol = cap;
    }
    int32_t i = (int32_t)w->n_symbol++;
    w->symbol[i] = (tk__symbol){ .id = id, .at = at, .len = len, .prev = i - 1, .next = i + 1 };
    return TK_OK;
}

/* Children of i are 4i+1 .. 4i+4: half the depth of a binary heap for the same cache lines. */
static void sift_down(tk__candidate *h, size_t n, size_t i, tk__candidate c) {
    for (;;) {
        size_t kid = 4 * i + 1, best = kid;
        if (kid >= n) break;
        for (size_t k = kid + 1; k < n && k < kid + 4; k++)
            if (h[k].key < h[best].key) best = k;
        if (h[best].key >= c.key) break;
        h[i] = h[best];
        i = best;
    }
    h[i] = c;
}

static void sift_up(tk__candidate *h, size_t i, tk__candidate c) {
    for (; i && h[(i - 1) / 4].key > c.key; i = (i - 1) / 4) h[i] = h[(i - 1) / 4];
    h[i] = c;
}

/* Larger scores first: the bits of a float, turned so that they sort downwards as an unsigned number. */
static uint32_t score_key(float score) {
    uint32_t u = tk_f32_bits(score + 0.0f);
    return u & 0x80000000u ? u : ~u & 0x7FFFFFFFu;
}

/* Whether symbols i and its right neighbour j may merge, and how urgently. */
static bool candidate(const tk__work *w, const char *s, int32_t i, int32_t j, tk__candidate *c) {
    const tk_tokenizer *t = w->t;
    const tk__symbol *a = &w->symbol[i], *b = &w->symbol[j];
    c->len = a->len + b->len;
    if (t->kind == TK_MODEL_BPE) {
        if (a->id < 0 || b->id < 0) return false; /* a gap */
        const tk__merge *m = tk__merges_get(&t->merges, a->id, b->id);
        if (!m) return false;
        c->key = (uint64_t)m->rank << 32 | (uint32_t)i, c->id = m->id;
        return true;
    }
    if (c->len > t->longest || a->id < -1 || b->id < -1 || t->letters_only)
        return false; /* below -1: frozen */
    int32_t id = tk__pieces_get(&t->ids, s + a->at, c->len);
    if (id < 0 || (t->flags[id] & TK_FLAG_NO_MERGE)) return false;
    c->key = (uint64_t)score_key(t->score[id]) << 32 | (uint32_t)i, c->id = id;
    if (w->left_of) w->left_of[id] = a->len;
    return true;
}

static tk_status push_candidate(tk__work *w, tk__candidate c) {
    if (w->n_heap == w->cap_heap) {
        size_t cap = w->cap_heap ? w->cap_heap * 2 : 256;
        tk__candidate *fresh = realloc(w->heap, cap * sizeof *fresh);
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu candidate merges did not fit", w->n_heap);
        w->heap = fresh, w->cap_heap = cap;
    }
    w->heap[w->n_heap++] = c;
    return TK_OK;
}

static tk_status offer(tk__work *w, const char *s, int32_t i, int32_t j) {
    tk__candidate c;
    if (!candidate(w, s, i, j, &c)) return TK_OK;
    TK_TRY(push_candidate(w, c));
    sift_up(w->heap, w->n_heap - 1, c);
    return TK_OK;
}

/* Merges the symbols of w until nothing merges. A candidate is out of date exactly when the joint length of
 * its two symbols has changed, since a symbol only grows by taking its right neighbour. */
static tk_status merge_all(tk__work *w, const char *s) {
    tk__candidate c;
    w->n_heap = 0;
    if (!w->n_symbol) return TK_OK;
    w->symbol[w->n_symbol - 1].next = -1;
    for (int32_t i = 0; i + 1 < (int32_t)w->n_symbol; i++)
        if (candidate(w, s, i, i + 1, &c)) TK_TRY(push_candidate(w, c));
    for (size_t i = w->n_heap / 4 + 1; i-- > 0;)
        if (i < w->n_heap) sift_down(w->heap, w->n_heap, i, w->heap[i]);
    while (w->n_heap) {
        c = w->heap[0];
        tk__candidate last = w->heap[--w->n_heap];
        if (w->n_heap) sift_down(w->heap, w->n_heap, 0, last);
        int32_t i = (int32_t)(uint32_t)c.key;
        tk__symbol *a = &w->symbol[i];
        if (!a->len || a->next < 0 || a->len + w->symbol[a->next].len != c.len) continue;
        tk__symbol *b = &w->symbol[a->next];
        a->id = c.id, a->len = c.len, a->next = b->next;
        b->len = 0;
        if (a->next >= 0) {
            w->symbol[a->next].prev = i;
            TK_TRY(offer(w, s, i, a->next));
        }
        if (a->prev >= 0) TK_TRY(offer(w, s, a->prev, i));
    }
    return TK_OK;
}

/* ---- BPE
 * ------------------------------------------------------------------------------------------------------ */

/* First symbols of a word. An unknown letter becomes its <0xNN> tokens if all of them exist, else the
 * unknown token (neighbouring ones fused on request), else nothing at all. Then its neighbours may merge, as
 * in Hugging Face's library, or not (`gaps`): it stays between them as a symbol without an id, as in
 * llama.cpp. Order of events as in Hugging Face's merge_word, where a pending unknown token is written when
 * the next known letter comes. */
typedef struct start {
    tk__work *w;
    uint32_t at, unk_len; /* unk_len: bytes of the pending unknown token, 0: none */
} start;

static tk_status put_letter(start *z, int32_t id, uint32_t len) {
    TK_TRY(add_symbol(z->w, id, z->at, len));
    z->at += len;
    return TK_OK;
}

static tk_status flush_unknown(start *z) {
    uint32_t len = z->unk_len;
    z->unk_len = 0;
    return len ? put_letter(z, z->w->t->unk, len) : TK_OK;
}

static tk_status put_missing(start *z, const char *letter, unsigned len) {
    const tk_tokenizer *t = z->w->t;
    bool bytes = t->byte_fallback;
    for (unsigned i = 0; bytes && i < len; i++) bytes = t->byte_id[(uint8_t)letter[i]] >= 0;
    if (bytes) {
        for (unsigned i = 0; i < len; i++) TK_TRY(put_letter(z, t->byte_id[(uint8_t)letter[i]], 1));
        return TK_OK;
    }
    if (t->unk_missing.s)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the text holds a letter that this tokenizer does not know\n"
                       "its unknown token \"%.60s\" is not in its vocabulary",
                       t->unk_missing.s);
    if (t->unk < 0) return t->gaps ? put_letter(z, -1, t->bytes ? 1 : len) : TK_OK;
    if (!t->fuse_unk) TK_TRY(flush_unknown(z));
    z->unk_len += len;
    return TK_OK;
}

/* A letter that is spelled with an affix: the prefix if it is not the word's first, the suffix if its last.
 */
static tk_status put_spelled(start *z, const char *s, size_t n, size_t i, unsigned len) {
    const tk_tokenizer *t = z->w->t;
    tk_buf *b = &z->w->spelled;
    b->len = 0;
    if (i) tk_buf_put(b, t->sub_prefix.s, t->sub_prefix.n);
    tk_buf_put(b, s + i, len);
    if (i + len == n) tk_buf_put(b, t->end_suffix.s, t->end_suffix.n);
    TK_TRY(tk_buf_check(b));
    int32_t id = tk__pieces_get(&t->ids, b->data, b->len);
    if (id < 0) return put_missing(z, b->data, (unsigned)b->len);
    TK_TRY(flush_unknown(z));
    return put_letter(z, id, len);
}

static tk_status start_word(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    start z = { .w = w };
    bool affixes = t->sub_prefix.n || t->end_suffix.n;
    w->n_symbol = 0;
    for (size_t i = 0; i < n;) {
        unsigned len = t->bytes ? 1 : tk__utf8_len(s[i]);
        if (affixes) {
            TK_TRY(put_spelled(&z, s, n, i, len));
            i += len;
            continue;
        }
        int32_t id = t->bytes ? t->letter_id[(uint8_t)s[i]] : tk__pieces_get(&t->ids, s + i, len);
        if (id < 0 && t->llama && t->llama->ghosts.n) {
            tk_str letter = t->bytes ? tk__byte_letters((uint8_t)s[i]) : (tk_str){ s + i, len };
            id = tk__pieces_get(&t->llama->ghosts, letter.s, letter.n);
        }
        if (id >= 0) {
            TK_TRY(flush_unknown(&z));
            TK_TRY(put_letter(&z, id, len));
        } else {
            tk_str letter = t->bytes ? tk__byte_letters((uint8_t)s[i]) : (tk_str){ s + i, len };
            TK_TRY(put_missing(&z, letter.s, (unsigned)letter.n));
        }
        i += len;
    }
    return flush_unknown(&z);
}

/* A short word in bytes mode with all its letters known: repeated scans of at most SHORT_WORD ranks.
 * ids[n] becomes the result; returns its length. */
static size_t merge_short(const tk__merges *m, int32_t *ids, size_t n) {
    uint32_t rank[SHORT_WORD];
    int32_t joint[SHORT_WORD];
    for (size_t i = 0; i + 1 < n; i++) {
        const tk__merge *e = tk__merges_get(m, ids[i], ids[i + 1]);
        rank[i] = e ? e->rank : UINT32_MAX, joint[i] = e ? e->id : -1;
    }
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == UINT32_MAX) break;
        ids[best] = joint[best];
        for (size_t i = best + 1; i + 1 < n; i++)
            ids[i] = ids[i + 1], rank[i - 1] = rank[i], joint[i - 1] = joint[i];
        n--;
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            const tk__merge *e = tk__merges_get(m, ids[i], ids[i + 1]);
            rank[i] = e ? e->rank : UINT32_MAX, joint[i] = e ? e->id : -1;
        }
    }
    return n;
}

static tk_status push_all(tk_ids *out, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) TK_TRY(tk_ids_push(out, ids[i]));
    return TK_OK;
}

/* The whole word as one piece, in the vocabulary's spelling */
static int32_t whole_word(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    if (n > t->longest) return -1;
    int32_t id;
    if (t->bytes) {
        char letters[2 * 256];
        size_t len = 0;
        if (n > sizeof letters / 2) return -1;
        for (size_t i = 0; i < n; i++) {
            tk_str l = tk__byte_letters((uint8_t)s[i]);
            memcpy(letters + len, l.s, l.n);
            len += l.n;
        }
        id = tk__pieces_get(&t->ids, letters, len);
    } else
        id = tk__pieces_get(&t->ids, s, n);
    return id >= 0 && (t->flags[id] & TK_FLAG_NO_MERGE) ? -1 : id;
}

/* A symbol that is no token, in llama.cpp's reading: what its bytes are as tokens, where they are. */
static tk_status push_bytes(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    for (size_t i = 0; i < n; i++) {
        uint8_t b = (uint8_t)s[i];
        int32_t id = !t->bytes ? t->byte_id[b] : b < 128 && tk__byte_letters(b).n == 1 ? t->letter_id[b] : -1;
        if (id >= 0) TK_TRY(tk_ids_push(w->out, id));
    }
    return TK_OK;
}

static bool all_newlines(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != '\n') return false;
    return true;
}

static tk_status bpe_word(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    if (t->ignore_merges || (t->llama && t->llama->whole_newlines && all_newlines(s, n))) {
        int32_t id = whole_word(w, s, n);
        if (id >= 0) return tk_ids_push(w->out, id);
    }
    if (t->bytes && n <= SHORT_WORD && !(t->llama && t->llama->ghosts.n)) {
        int32_t ids[SHORT_WORD];
        size_t i = 0;
        while (i < n && (ids[i] = t->letter_id[(uint8_t)s[i]]) >= 0) i++;
        if (i == n) return push_all(w->out, ids, merge_short(&t->merges, ids, n));
    }
    TK_TRY(start_word(w, s, n));
    TK_TRY(merge_all(w, s));
    for (size_t i = 0; i < w->n_symbol; i++) {
        const tk__symbol *y = &w->symbol[i];
        if (y->len && y->id >= 0 && y->id < t->size)
            TK_TRY(tk_ids_push(w->out, y->id));
        else if (y->len && t->llama)
            TK_TRY(push_bytes(w, s + y->at, y->len));
    }
    return TK_OK;
}

/* ---- SentencePiece-like
 * --------------------------------------------------------------------------------------- */

/* What a symbol is in the end. A piece that is not used falls apart as it was put together last. */
static tk_status push_symbol(tk__work *w, const char *s, size_t n, int32_t id, bool *unknown) {
    const tk_tokenizer *t = w->t;
    while (id >= 0 && (t->flags[id] & TK_FLAG_UNUSED) && w->left_of && w->left_of[id] && w->left_of[id] < n) {
        size_t left = w->left_of[id];
        TK_TRY(push_symbol(w, s, left, tk__pieces_get(&t->ids, s, left), unknown));
        s += left, n -= left;
        id = tk__pieces_get(&t->ids, s, n);
    }
    bool was = *unknown;
    *unknown = false;
    if (id >= 0 && !(t->flags[id] & TK_FLAG_NO_MERGE)) return tk_ids_push(w->out, id);
    for (size_t k = 0; k < n; k++) {
        int32_t byte = t->byte_id[(uint8_t)s[k]];
        *unknown = byte < 0;
        if (byte < 0 && was && t->fuse_unk) return TK_OK;
        TK_TRY(tk_ids_push(w->out, byte < 0 ? t->unk : byte));
        if (byte < 0) break;
    }
    return TK_OK;
}

static tk_status spm_word(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    w->n_symbol = 0;
    if (t->unused && !w->left_of && !(w->left_of = calloc((size_t)t->size, sizeof *w->left_of)))
        return TK_FAIL(TK_E_NOMEM, "out of memory\nthe scratch memory of a tokenizer did not fit");
    for (size_t i = 0; i < n;) {
        int32_t user = -1;
        size_t len = tk__sp_user_symbol(t, s + i, n - i, &user);
        if (!len) len = tk__utf8_len(s[i]);
        TK_TRY(add_symbol(w, user < 0 ? -1 : -2 - user, (uint32_t)i, (uint32_t)len));
        i += len;
    }
    TK_TRY(merge_all(w, s));
    bool unknown = false;
    for (size_t i = 0; i < w->n_symbol; i++) {
        const tk__symbol *y = &w->symbol[i];
        if (!y->len) continue;
        int32_t id = y->id < -1 ? -2 - y->id : y->id < 0 ? tk__pieces_get(&t->ids, s + y->at, y->len) : y->id;
        TK_TRY(push_symbol(w, s + y->at, y->len, id, &unknown));
    }
    return TK_OK;
}

/* ---- words
 * ---------------------------------------------------------------------------------------------------------
 */

static tk_status encode_word(tk__work *w, const char *s, size_t n) {
    switch (w->t->kind) {
    case TK_MODEL_BPE: return bpe_word(w, s, n);
    case TK_MODEL_SPM: return spm_word(w, s, n);
    case TK_MODEL_UNIGRAM: return tk__unigram_word(w, s, n);
    case TK_MODEL_WORDPIECE: return tk__wordpiece_word(w, s, n);
    default: return tk__wordlevel_word(w, s, n);
    }
}

static tk_status cached_word(tk__work *w, const char *s, size_t n) {
    tk__word *e;
    if (n > sizeof e->key) return encode_word(w, s, n);
    uint64_t h = n;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t part = 0;
        memcpy(&part, s + i, TK_MIN(n - i, (size_t)8));
        h = tk__mix(h ^ part);
    }
    e = &w->words[h & (TK_WORDS - 1)];
    if (e->len == n && !memcmp(e->key, s, n)) return push_all(w->out, e->id, e->count);
    size_t before = w->out->n;
    TK_TRY(encode_word(w, s, n));
    size_t count = w->out->n - before;
    if (!count || count > TK_COUNT(e->id)) return TK_OK;
    e->len = (uint8_t)n, e->count = (uint8_t)count;
    memcpy(e->key, s, n);
    memcpy(e->id, w->out->id + before, count * sizeof *e->id);
    return TK_OK;
}

/* A piece that continues with a space after something else: no merge makes these two one. */
static bool crosses(tk_str piece, tk_str mark) {
    bool was = true;
    for (size_t i = 0; i < piece.n; i += tk__utf8_len(piece.s[i])) {
        bool is = piece.n - i >= mark.n && !memcmp(piece.s + i, mark.s, mark.n);
        if (is && !was) return true;
        was = is;
    }
    return false;
}

static tk_str symbol_text(const tk_tokenizer *t, int32_t id) {
    return t->llama && id >= t->size ? t->llama->ghosts.entry[id - t->size].key : t->piece[id];
}

/* Whether no merge makes a text with `mark` after another letter. Nearly always no piece at all holds one,
 * and the pieces, unlike the results of merges, lie in order. */
static bool safe_mark(const tk_tokenizer *t, tk_str mark) {
    bool some = false;
    for (size_t i = 0; i < t->ids.n && !some; i++) some = crosses(t->ids.entry[i].key, mark);
    for (size_t i = 0; t->llama && i < t->llama->ghosts.n && !some; i++)
        some = crosses(t->llama->ghosts.entry[i].key, mark);
    if (!some) return true;
    for (size_t i = 0; i < t->merges.cap; i++)
        if (t->merges.slot[i].left >= 0 && crosses(symbol_text(t, t->merges.slot[i].id), mark)) return false;
    for (size_t i = 0; t->kind == TK_MODEL_SPM && i < t->ids.n; i++)
        if (!(t->flags[t->ids.entry[i].id] & TK_FLAG_NO_MERGE) && crosses(t->ids.entry[i].key, mark))
            return false;
    return true;
}

/* Models without a pre-tokenizer see a whole text as one word. Where no result of a merge holds a space
 * after another letter, the text falls apart before each such space, and the parts are cached words. */
void tk__model_find_mark(tk_tokenizer *t) {
    static const tk_str marks[] = { { "\xE2\x96\x81", 3 }, { " ", 1 } };
    if (t->bytes || t->ignore_merges || t->sub_prefix.n || t->end_suffix.n) return;
    if ((t->kind != TK_MODEL_BPE && t->kind != TK_MODEL_SPM) || t->unused) return;
    for (size_t k = 0; k < TK_COUNT(marks) && !t->mark.s; k++) {
        if (tk__pieces_get(&t->ids, marks[k].s, marks[k].n) < 0) continue;
        if (safe_mark(t, marks[k])) t->mark = marks[k];
    }
}

tk_status tk__model_encode(tk__work *w, const char *s, size_t n) {
    tk_str mark = w->t->mark;
    if (!mark.s) return cached_word(w, s, n);
    size_t from = 0;
    while (from < n) {
        size_t at = from;
        while (n - at >= mark.n && !memcmp(s + at, mark.s, mark.n)) at += mark.n;
        const char *hit = at < n ? memmem(s + at, n - at, mark.s, mark.n) : NULL;
        size_t end = hit ? (size_t)(hit - s) : n;
        TK_TRY(cached_word(w, s + from, end - from));
        from = end;
    }
    return TK_OK;
}
