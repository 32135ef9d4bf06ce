/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer object: its vocabulary, how it is put together, and the questions it answers. */
#include <stdlib.h>

#include "text/tokenizer.h"

tk_status tk_ids_push(tk_ids *ids, int32_t id) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64;
        int32_t *fresh = cap <= SIZE_MAX / sizeof *fresh ? realloc(ids->id, cap * sizeof *fresh) : NULL;
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\na list of %zu tokens did not fit", ids->n);
        ids->id = fresh, ids->cap = cap;
    }
    ids->id[ids->n++] = id;
    return TK_OK;
}

void tk_ids_free(tk_ids *ids) {
    free(ids->id);
    *ids = (tk_ids){ 0 };
}

/* ---- putting one together --------------------------------------------------------------------------------
 */

tk_status tk__tokenizer_new(tk_tokenizer **out, size_t expected) {
    tk_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return TK_FAIL(TK_E_NOMEM, "out of memory\na tokenizer did not fit");
    pthread_mutex_init(&t->lock, NULL);
    t->unk = -1;
    for (int i = 0; i < TK_SPECIALS; i++) t->special[i] = -1;
    tk_status s = tk__pieces_init(&t->ids, expected);
    if (s == TK_OK) s = tk__pieces_init(&t->added_ids, 64);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}

tk_status tk__tokenizer_grow(tk_tokenizer *t, int32_t id) {
    if (id < 0 || id >= TK_ID_MAX)
        return TK_FAIL(TK_E_FORMAT, "the tokenizer has a token with the id %d\nids are 0 to %d", id,
                       TK_ID_MAX - 1);
    if (id < t->size) return TK_OK;
    size_t old = t->cap_size, cap = old ? old : 1024;
    while (cap <= (size_t)id) cap *= 2;
    if (cap != old) {
        void *piece = realloc(t->piece, cap * sizeof *t->piece);
        if (piece) t->piece = piece;
        void *flags = realloc(t->flags, cap);
        if (flags) t->flags = flags;
        if (!piece || !flags)
            return TK_FAIL(TK_E_NOMEM, "out of memory\na vocabulary of %zu tokens did not fit", cap);
        memset(t->piece + old, 0, (cap - old) * sizeof *t->piece);
        memset(t->flags + old, 0, cap - old);
        t->cap_size = cap;
    }
    t->size = id + 1;
    return TK_OK;
}

tk_str tk__keep(tk_tokenizer *t, const char *s, size_t n) {
    return (tk_str){ tk_arena_strndup(&t->arena, s, n), n };
}

tk_status tk__tokenizer_put(tk_tokenizer *t, tk_str piece, int32_t id) {
    int32_t old;
    TK_TRY(tk__tokenizer_grow(t, id));
    tk_str own = tk__keep(t, piece.s, piece.n);
    if (!own.s) return TK_E_NOMEM;
    t->piece[id] = own;
    return tk__pieces_put(&t->ids, own, id, &old);
}

tk_status tk__tokenizer_merge(tk_tokenizer *t, tk_str left, tk_str right, size_t rank) {
    char small[256], *joint = small;
    size_t cut = TK_MIN(t->sub_prefix.n, right.n), n = left.n + right.n - cut; /* "a" "##b" is "ab" */
    int32_t a = tk__pieces_get(&t->ids, left.s, left.n), b = tk__pieces_get(&t->ids, right.s, right.n),
            id = -1;
    if (n > sizeof small) joint = malloc(n);
    if (!joint) return TK_FAIL(TK_E_NOMEM, "out of memory\na merge of %zu bytes did not fit", n);
    memcpy(joint, left.s, left.n);
    memcpy(joint + left.n, right.s + cut, right.n - cut);
    if (a >= 0 && b >= 0 && n && t->next_joint < t->size && t->piece[t->next_joint].n == n &&
        !memcmp(t->piece[t->next_joint].s, joint, n))
        id = t->next_joint; /* merges make tokens in order, and in order costs no search */
    else if (a >= 0 && b >= 0)
        id = tk__pieces_get(&t->ids, joint, n);
    t->next_joint = id + 1;
    if (joint != small) free(joint);
    if (id < 0)
        return TK_FAIL(
            TK_E_FORMAT, "the tokenizer is damaged\nmerge %zu (\"%.*s\" \"%.*s\") is not made of its tokens",
            rank, (int)TK_MIN(left.n, (size_t)80), left.s, (int)TK_MIN(right.n, (size_t)80), right.s);
    return tk__merges_put(&t->merges, (tk__merge){ .left = a, .right = b, .rank = (uint32_t)rank, .id = id });
}

tk_status tk__tokenizer_add(tk_tokenizer *t, tk__added token) {
    int32_t old;
    TK_TRY(tk__tokenizer_grow(t, token.id));
    if (t->n_added == t->cap_added) {
        size_t cap = t->cap_added ? t->cap_added * 2 : 64;
        tk__added *fresh = realloc(t->added, cap * sizeof *fresh);
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu added tokens did not fit", t->n_added);
        t->added = fresh, t->cap_added = cap;
    }
    if (t->flags[token.id] & TK_FLAG_ADDED) /* again: the last definition stays, but special is for good */
        token.special |= (t->flags[token.id] & TK_FLAG_SPECIAL) != 0;
    t->added[t->n_added++] = token;
    t->piece[token.id] = token.text;
    t->flags[token.id] |= TK_FLAG_ADDED | (token.special ? TK_FLAG_SPECIAL : 0);
    return tk__pieces_put(&t->added_ids, token.text, token.id, &old);
}

/* Tokens that end a generation whatever the file says about them. Only special or added tokens count: "</s>"
 * is also a piece of HTML. */
static const char *const end_names[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|end|>",
    "<end_of_turn>",
    "<|eom_id|>",
    "<|eot|>",
    "<EOT>",
    "<|return|>",
    "<|call|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<eos>",
    "[EOS]",
    "[EOT]",
    "<|END_OF_TURN_TOKEN|>",
    "<|end_of_role|>",
    "<｜end▁of▁sentence｜>",
};

/* Decoding gives a normalized token as the normalizer leaves it. */
static tk_status show_normalized(tk_tokenizer *t, const tk__added *a, const char *text, size_t n) {
    if (n == a->text.n && !memcmp(text, a->text.s, n)) return TK_OK;
    if (!t->shown) t->shown = calloc((size_t)t->size, sizeof *t->shown);
    if (!t->shown) return TK_FAIL(TK_E_NOMEM, "out of memory\nthe added tokens did not fit");
    t->shown[a->id] = tk__keep(t, text, n);
    return t->shown[a->id].s ? TK_OK : TK_E_NOMEM;
}

static tk_status add_to_trie(tk_tokenizer *t, const tk__added *a, tk_buf two[2]) {
    tk__trie **trie = a->normalized ? &t->cut_normalized : &t->cut_raw;
    const char *text = a->text.s;
    size_t n = a->text.n, first = 0;
    if (!*trie) TK_TRY(tk__trie_new(trie));
    if (a->normalized) {
        TK_TRY(tk__normalize(t, two, &text, &n, &first));
        if (!n)
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "the tokenizer's normalizer leaves nothing of the added token \"%.60s\"\n"
                           "Hugging Face's library fails on texts with such a token",
                           a->text.s);
        TK_TRY(show_normalized(t, a, text, n));
    }
    return tk__trie_add(*trie, text, n, (int32_t)(a - t->added));
}

static tk_status make_tries(tk_tokenizer *t) {
    tk_buf two[2] = { { 0 } };
    tk_status s = TK_OK;
    size_t *last = calloc((size_t)t->size + 1, sizeof *last); /* of the definitions of an id, the last */
    if (!last) return TK_FAIL(TK_E_NOMEM, "out of memory\nthe added tokens did not fit");
    for (size_t i = 0; i < t->n_added; i++) last[t->added[i].id] = i;
    /* special tokens first: the first of two equal keys wins */
    for (int special = 1; special >= 0; special--)
        for (size_t i = 0; i < t->n_added && s == TK_OK; i++)
            if (t->added[i].special == special && last[t->added[i].id] == i)
                s = add_to_trie(t, &t->added[i], two);
    free(last);
    tk_buf_free(&two[0]);
    tk_buf_free(&two[1]);
    return s;
}

tk_status tk__tokenizer_finish(tk_tokenizer *t) {
    for (unsigned b = 0; b < 256; b++) {
        char name[8];
        tk_str letter = tk__byte_letters((uint8_t)b);
        snprintf(name, sizeof name, "<0x%02X>", b);
        t->byte_id[b] = tk__pieces_get(&t->ids, name, 6);
        t->letter_id[b] = tk__pieces_get(&t->ids, letter.s, letter.n);
    }
    for (size_t i = 0; i < t->ids.n; i++)
        if (!(t->flags[t->ids.entry[i].id] & TK_FLAG_NO_MERGE))
            t->longest = TK_MAX(t->longest, t->ids.entry[i].key.n);
    for (size_t i = 0; !t->llama && i < TK_COUNT(end_names); i++) {
        int32_t id = tk_tokenizer_find(t, (tk_str){ end_names[i], strlen(end_names[i]) });
        if (id >= 0 && (t->flags[id] & (TK_FLAG_ADDED | TK_FLAG_SPECIAL))) t->flags[id] |= TK_FLAG_EOG;
    }
    tk_tokenizer_add_eog(t, t->special[TK_EOS]);
    tk_tokenizer_add_eog(t, t->special[TK_EOT]);
    tk__model_find_mark(t);
    if (t->llama) return TK_OK;
    if (t->kind == TK_MODEL_UNIGRAM) TK_TRY(tk__unigram_finish(t));
    if (t->kind == TK_MODEL_WORDPIECE) TK_TRY(tk__wordpiece_finish(t));
    return make_tries(t);
}

void tk_tokenizer_free(tk_tokenizer *t) {
    if (!t) return;
    tk__work_free(t->work);
    pthread_mutex_destroy(&t->lock);
    for (int i = 0; i < t->n_norm; i++) tk__regex_free(t->norm[i].regex);
    tk__llama_free(t->llama);
    for (int i = 0; i < TK_STAGES; i++) {
        tk__regex_free(t->pre[i].regex);
        tk__regex_free(t->dec[i].regex);
    }
    tk__trie_free(t->cut_raw);
    tk__trie_free(t->cut_normalized);
    tk__pieces_free(&t->ids);
    tk__pieces_free(&t->added_ids);
    tk__merges_free(&t->merges);
    tk_ids_free(&t->prefix);
    tk_ids_free(&t->suffix);
    free(t->piece);
    free(t->score);
    free(t->weight);
    free(t->shown);
    tk__array_free(&t->trie);
    tk__array_free(&t->user);
    free(t->flags);
    free(t->added);
    tk__image_free(t->image);
    tk_arena_free(&t->arena);
    free(t);
}

/* ---- questions
 * ------------------------------------------------------------------------------------------------ */

int32_t tk_tokenizer_size(const tk_tokenizer *t) { return t->size; }

tk_str tk_tokenizer_piece(const tk_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->size ? t->piece[id] : (tk_str){ NULL, 0 };
}

int32_t tk_tokenizer_find(const tk_tokenizer *t, tk_str piece) {
    int32_t id = tk__pieces_get(&t->added_ids, piece.s, piece.n);
    return id >= 0 ? id : tk__pieces_get(&t->ids, piece.s, piece.n);
}

static bool has(const tk_tokenizer *t, int32_t id, unsigned flag) {
    return id >= 0 && id < t->size && (t->flags[id] & flag);
}
bool tk_tokenizer_is_special(const tk_tokenizer *t, int32_t id) { return has(t, id, TK_FLAG_SPECIAL); }
bool tk_tokenizer_is_eog(const tk_tokenizer *t, int32_t id) { return has(t, id, TK_FLAG_EOG); }
void tk_tokenizer_add_eog(tk_tokenizer *t, int32_t id) {
    if (id >= 0 && id < t->size) t->flags[id] |= TK_FLAG_EOG;
}
bool tk_tokenizer_adds_bos(const tk_tokenizer *t) {
    return t->prefix.n && t->special[TK_BOS] >= 0 && t->prefix.id[0] == t->special[TK_BOS];
}
int32_t tk_tokenizer_special(const tk_tokenizer *t, tk_special which) { return t->special[which]; }
const char *tk_tokenizer_model(const tk_tokenizer *t) {
    if (t->llama) return t->llama->kind;
    static const char *const names[] = { [TK_MODEL_BPE] = "BPE",
                                         [TK_MODEL_SPM] = "SPM",
                                         [TK_MODEL_UNIGRAM] = "Unigram",
                                         [TK_MODEL_WORDPIECE] = "WordPiece",
                                         [TK_MODEL_WORDLEVEL] = "WordLevel" };
    return names[t->kind];
}
