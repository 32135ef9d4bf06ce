/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers from plain arrays (GGUF's keys) and from llama2.c's tok*.bin, which fill the stages that a
 * tokenizer.json of the same model would name. */
#include <stdlib.h>

#include "text/tokenizer.h"

/* ---- GGUF
 * ---------------------------------------------------------------------------------------------------- */

tk_status tk_tokenizer_from_vocab(tk_tokenizer **out, const tk_vocab *v) {
    tk_tokenizer *t;
    if (!v->n_tokens || v->n_tokens > TK_ID_MAX)
        return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nit has %zu tokens; 1 to %d are allowed",
                       v->n_tokens, TK_ID_MAX);
    if (v->n_merges > TK_JSON_MAX / 4)
        return TK_FAIL(TK_E_LIMIT, "the vocabulary has %zu merges\nthe limit is %d", v->n_merges,
                       TK_JSON_MAX / 4);
    TK_TRY(tk__tokenizer_new(&t, v->n_tokens));
    tk_status s = tk__llama_load(t, v);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}

/* ---- llama2.c
 * ------------------------------------------------------------------------------------------------- */

enum { TOKBIN_BOS = 1, TOKBIN_EOS = 2, TOKBIN_SPECIALS = 3 };

/* The space put before a text is taken off again only if the first piece is spelled with it. */
static tk_status add_tokbin_spm(tk_tokenizer *t) {
    tk_str blank = TK_STR(" ");
    TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = tk__normalize_prepend, .a = blank }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_STRIP, .fused = true, .a = blank, .start = 1 }));
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_FALLBACK });
}

static tk_status damaged_bin(const char *why) {
    return TK_FAIL(TK_E_FORMAT, "this is not a llama2.c tokenizer\n%s\ngive a tok*.bin, or a tokenizer.json",
                   why);
}

static tk_status fill_tokbin(tk_tokenizer *t, const uint8_t *p, size_t n, size_t vocab_size) {
    size_t at = 4, id = 0;
    t->score = calloc(n / 8 + 1, sizeof *t->score);
    if (!t->score) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu scores did not fit", n / 8);
    for (; vocab_size ? id < vocab_size : at < n; id++) {
        if (n - at < 8) return damaged_bin("it ends within a token");
        uint32_t len = tk_le32(p + at + 4);
        if (len > n - at - 8) return damaged_bin("a token is longer than the file");
        tk_str piece = { (const char *)p + at + 8, len };
        if (!tk__utf8_valid(piece.s, piece.n)) return damaged_bin("a token is not valid UTF-8");
        TK_TRY(tk__tokenizer_put(t, piece, (int32_t)TK_MIN(id, (size_t)TK_ID_MAX)));
        t->score[id] = tk_bits_f32(tk_le32(p + at));
        if (id < TOKBIN_SPECIALS) t->flags[id] |= TK_FLAG_NO_MERGE | TK_FLAG_SPECIAL;
        at += 8 + (size_t)len;
    }
    if (id <= TOKBIN_SPECIALS) return damaged_bin("it holds no tokens");
    t->unk = t->special[TK_UNK] = 0;
    t->special[TK_BOS] = TOKBIN_BOS;
    t->special[TK_EOS] = TOKBIN_EOS;
    TK_TRY(tk_ids_push(&t->prefix, TOKBIN_BOS));
    t->kind = TK_MODEL_SPM;
    TK_TRY(add_tokbin_spm(t));
    return tk__tokenizer_finish(t);
}

tk_status tk_tokenizer_from_tokbin(tk_tokenizer **out, const void *data, size_t n, size_t vocab_size) {
    tk_tokenizer *t;
    if (n < 12) return damaged_bin("it is too short");
    TK_TRY(tk__tokenizer_new(&t, TK_MIN(vocab_size, n / 8)));
    tk_status s = fill_tokbin(t, data, n, vocab_size);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}
