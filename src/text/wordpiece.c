/* SPDX-License-Identifier: Apache-2.0 */
/* The models that look words up. WordLevel: the whole word or the unknown token. WordPiece: from the left the
 * longest piece, those inside a word spelled with a prefix ("##"); a word that cannot be cut like this to its
 * end, or has too many characters, is unknown as a whole. */
#include <stdlib.h>

#include "text/tokenizer.h"

static tk_status put_unknown(tk__work *w) {
    if (w->t->unk >= 0) return tk_ids_push(w->out, w->t->unk);
    return TK_FAIL(
        TK_E_UNSUPPORTED,
        "the text has a word that this tokenizer does not know\nits unknown token is not in its vocabulary");
}

tk_status tk__wordlevel_word(tk__work *w, const char *s, size_t n) {
    int32_t id = tk__pieces_get(&w->t->ids, s, n);
    return id >= 0 ? tk_ids_push(w->out, id) : put_unknown(w);
}

static size_t characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ((uint8_t)s[i] & 0xC0) != 0x80;
    return count;
}

/* End of the longest piece from `at`, or `at`; its id in *id. */
static size_t longest(const tk_tokenizer *t, const char *s, size_t n, size_t at, int32_t *id) {
    int32_t node = at ? t->inner_node : 0;
    size_t end = at;
    for (size_t e = at; e < n && node >= 0 && (node = tk__array_step(&t->trie, node, (uint8_t)s[e])) > 0;) {
        int32_t found = t->trie.unit[node].value;
        e++;
        if (found >= 0) end = e, *id = found;
    }
    return end;
}

tk_status tk__wordpiece_word(tk__work *w, const char *s, size_t n) {
    size_t before = w->out->n;
    if (characters(s, n) > w->t->max_characters) return put_unknown(w);
    for (size_t at = 0; at < n;) {
        int32_t id = -1;
        size_t end = longest(w->t, s, n, at, &id);
        if (end == at) {
            w->out->n = before;
            return put_unknown(w);
        }
        TK_TRY(tk_ids_push(w->out, id));
        at = end;
    }
    return TK_OK;
}

tk_status tk__wordpiece_finish(tk_tokenizer *t) {
    TK_TRY(tk__unigram_finish(t));
    t->inner_node = 0;
    for (size_t i = 0; i < t->sub_prefix.n && t->inner_node >= 0; i++)
        t->inner_node = tk__array_step(&t->trie, t->inner_node, (uint8_t)t->sub_prefix.s[i]);
    return TK_OK;
}

/* The unknown token need not exist; then a word that needs it is an error. */
static tk_status read_unk(tk_tokenizer *t, const json_t *j) {
    tk_str unk;
    TK_TRY(tk__json_string(t, j, "unk_token", &unk));
    t->unk = t->special[TK_UNK] = tk__pieces_get(&t->ids, unk.s, unk.n);
    return TK_OK;
}

tk_status tk__parse_wordlevel(tk_tokenizer *t, const json_t *j) {
    t->kind = TK_MODEL_WORDLEVEL;
    TK_TRY(tk__parse_vocab(t, json_object_get(j, "vocab")));
    return read_unk(t, j);
}

tk_status tk__parse_wordpiece(tk_tokenizer *t, const json_t *j) {
    t->kind = TK_MODEL_WORDPIECE;
    TK_TRY(tk__parse_vocab(t, json_object_get(j, "vocab")));
    TK_TRY(tk__json_string(t, j, "continuing_subword_prefix", &t->sub_prefix));
    TK_TRY(tk__json_size(j, "max_input_chars_per_word", SIZE_MAX / 2, &t->max_characters));
    for (size_t i = 0; i < t->ids.n; i++)
        if (t->ids.entry[i].key.n > TK_PIECE_MAX)
            return TK_FAIL(TK_E_LIMIT, "the tokenizer has a piece of %zu bytes\nthe limit is %d",
                           t->ids.entry[i].key.n, TK_PIECE_MAX);
    return read_unk(t, j);
}
