/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers from plain arrays (GGUF's keys) and from llama2.c's tok*.bin, and opening any of the forms by
 * path. Both fill the stages that a tokenizer.json of the same model would name. */
#include <stdlib.h>

#include "text/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581, SentencePiece's space */

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

/* ---- GGUF
 * ---------------------------------------------------------------------------------------------------- */

static int32_t checked(const tk_vocab *v, int32_t id) {
    return id >= 0 && (size_t)id < v->n_tokens ? id : -1;
}

static tk_status put_tokens(tk_tokenizer *t, const tk_vocab *v) {
    for (size_t i = 0; i < v->n_tokens; i++) {
        if (!tk__utf8_valid(v->tokens[i].s, v->tokens[i].n))
            return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\ntoken %zu is not valid UTF-8", i);
        TK_TRY(tk__tokenizer_put(t, v->tokens[i], (int32_t)i));
        int type = v->types ? v->types[i] : TYPE_NORMAL;
        if (type == TYPE_UNKNOWN || type == TYPE_CONTROL || type == TYPE_BYTE)
            t->flags[i] |= TK_FLAG_NO_MERGE;
        if (type == TYPE_UNKNOWN && t->unk < 0) t->unk = (int32_t)i;
        if (type != TYPE_UNKNOWN && type != TYPE_CONTROL && type != TYPE_USER) continue;
        tk__added a = { .text = t->piece[i], .id = (int32_t)i, .special = type != TYPE_USER };
        if (a.text.n) TK_TRY(tk__tokenizer_add(t, a));
    }
    return TK_OK;
}

static tk_status fill_byte_level(tk_tokenizer *t, const tk_vocab *v) {
    t->kind = TK_MODEL_BPE;
    t->raw_added = true;
    if (!v->pre)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the file does not say how its tokenizer cuts text\n"
                       "tokenizer.ggml.pre is missing, and a guess would give other tokens\n"
                       "give the model's tokenizer.json with --tokenizer");
    TK_TRY(tk__pretoks_named(t, v->pre));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_LEVEL }));
    TK_TRY(tk__merges_init(&t->merges, v->n_merges));
    for (size_t i = 0; i < v->n_merges; i++) {
        tk_str m = v->merges[i];
        const char *blank = m.n > 1 ? memchr(m.s + 1, ' ', m.n - 1) : NULL;
        if (!blank)
            return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nmerge %zu is not a pair of tokens", i);
        size_t left = (size_t)(blank - m.s);
        TK_TRY(tk__tokenizer_merge(t, (tk_str){ m.s, left }, (tk_str){ blank + 1, m.n - left - 1 }, i));
    }
    return TK_OK;
}

/* The stages of a SentencePiece-like model. A space is spelled U+2581 in GGUF's pieces and ' ' in llama2.c's;
 * the space put before a text is taken off again, by llama2.c only if the first piece is spelled with it. */
static tk_status add_gguf_spm(tk_tokenizer *t, bool prefix) {
    tk_str blank = TK_STR(" "), mark = TK_STR(SPACE_MARK);
    if (prefix) TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = tk__normalize_prepend, .a = blank }));
    TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = tk__normalize_replace, .a = blank, .b = mark }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_REPLACE, .a = mark, .b = blank }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_FALLBACK }));
    if (!prefix) return TK_OK;
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_STRIP, .fused = true, .a = blank, .start = 1 });
}

static tk_status add_tokbin_spm(tk_tokenizer *t) {
    tk_str blank = TK_STR(" ");
    TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = tk__normalize_prepend, .a = blank }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_STRIP, .fused = true, .a = blank, .start = 1 }));
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_FALLBACK });
}

/* A text may hold any character: without its bytes or an unknown token there would be nothing to give. */
static tk_status check_bytes(const tk_tokenizer *t) {
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] < 0 && t->unk < 0)
            return TK_FAIL(TK_E_FORMAT,
                           "the vocabulary is damaged\nit has no token <0x%02X> and no unknown token", b);
    return TK_OK;
}

static tk_status fill_spm(tk_tokenizer *t, const tk_vocab *v) {
    if (!v->scores) return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nit has no tokenizer.ggml.scores");
    t->score = malloc(v->n_tokens * sizeof *t->score);
    if (!t->score) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu scores did not fit", v->n_tokens);
    memcpy(t->score, v->scores, v->n_tokens * sizeof *t->score);
    t->kind = TK_MODEL_SPM;
    t->add_bos = true;
    return add_gguf_spm(t, v->add_space_prefix != 0);
}

static const struct {
    const char *model;
    tk_status (*fill)(tk_tokenizer *t, const tk_vocab *v);
} kinds[] = { { "gpt2", fill_byte_level }, { "llama", fill_spm } };

static tk_status fill_vocab(tk_tokenizer *t, const tk_vocab *v) {
    size_t kind = 0;
    while (kind < TK_COUNT(kinds) && v->model && strcmp(kinds[kind].model, v->model)) kind++;
    if (!v->model || kind == TK_COUNT(kinds))
        return tk__unknown_stage("tokenizer model", v->model ? v->model : "(none)");
    TK_TRY(put_tokens(t, v));
    TK_TRY(kinds[kind].fill(t, v));
    t->special[TK_BOS] = checked(v, v->bos);
    t->special[TK_EOS] = checked(v, v->eos);
    t->special[TK_EOT] = checked(v, v->eot);
    t->special[TK_PAD] = checked(v, v->pad);
    if (checked(v, v->unk) >= 0) t->unk = v->unk;
    t->special[TK_UNK] = t->unk;
    if (t->kind == TK_MODEL_BPE)
        t->unk = -1, t->gaps = true; /* bytes that the vocabulary lacks (SmolLM2: 0x16) give nothing */
    bool bos = v->add_bos >= 0 ? v->add_bos : t->add_bos;
    if (bos && t->special[TK_BOS] >= 0) TK_TRY(tk_ids_push(&t->prefix, t->special[TK_BOS]));
    if (v->add_eos > 0 && t->special[TK_EOS] >= 0) TK_TRY(tk_ids_push(&t->suffix, t->special[TK_EOS]));
    TK_TRY(tk__tokenizer_finish(t));
    return t->kind == TK_MODEL_SPM ? check_bytes(t) : TK_OK;
}

tk_status tk_tokenizer_from_vocab(tk_tokenizer **out, const tk_vocab *v) {
    tk_tokenizer *t;
    if (!v->n_tokens || v->n_tokens > TK_ID_MAX)
        return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nit has %zu tokens; 1 to %d are allowed",
                       v->n_tokens, TK_ID_MAX);
    if (v->n_merges > TK_JSON_MAX / 4)
        return TK_FAIL(TK_E_LIMIT, "the vocabulary has %zu merges\nthe limit is %d", v->n_merges,
                       TK_JSON_MAX / 4);
    TK_TRY(tk__tokenizer_new(&t, v->n_tokens));
    tk_status s = fill_vocab(t, v);
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

/* ---- by path
 * ------------------------------------------------------------------------------------------------------ */

static tk_status read_beside(tk_buf *b, const char *folder, size_t n, const char *name) {
    tk_arena a = { 0 };
    char *path = tk_arena_printf(&a, "%.*s/%s", (int)n, folder, name);
    tk_status s = !path ? TK_E_NOMEM : tk_file_exists(path) ? tk_file_read(b, path, TK_JSON_MAX) : TK_OK;
    tk_arena_free(&a);
    return s;
}

static tk_status open_files(tk_tokenizer **out, const char *path, tk_buf *main, tk_buf *config) {
    const char *folder = ".", *slash = strrchr(path, '/');
    size_t n = 1;
    if (tk_file_is_dir(path)) {
        folder = path, n = strlen(path);
        TK_TRY(read_beside(main, folder, n, "tokenizer.json"));
        if (!main->len)
            return TK_FAIL(TK_E_NOTFOUND,
                           "%s: no tokenizer in this folder\nit has no tokenizer.json\n"
                           "give one with --tokenizer FILE",
                           path);
    } else {
        TK_TRY(tk_file_read(main, path, TK_JSON_MAX));
        if (slash) folder = path, n = slash == path ? 0 : (size_t)(slash - path);
    }
    size_t lead = main->len ? strspn(main->data, " \t\r\n") : 0;
    if (!main->len || main->data[lead] != '{') return tk_tokenizer_from_tokbin(out, main->data, main->len, 0);
    TK_TRY(read_beside(config, folder, n, "tokenizer_config.json"));
    tk_str c = { config->data, config->len };
    return tk_tokenizer_from_json(out, (tk_str){ main->data, main->len }, config->len ? &c : NULL);
}

tk_status tk_tokenizer_open(tk_tokenizer **out, const char *path) {
    tk_buf main = { 0 }, config = { 0 };
    tk_status s = open_files(out, path, &main, &config);
    tk_buf_free(&main);
    tk_buf_free(&config);
    return s;
}
