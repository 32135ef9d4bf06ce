/* SPDX-License-Identifier: Apache-2.0 */
/* Hugging Face's tokenizer.json and tokenizer_config.json. Every stage is read by the row of its type; a
 * type without a row is refused by name. "truncation" and "padding" are left to the caller of encode, as
 * transformers does: a file's truncation must not cut a prompt that nobody asked to cut. Numbers are read as
 * reals, since real files hold integers beyond 64 bits. */
#include <stdlib.h>

#include "text/tokenizer.h"

enum { DEPTH_MAX = 8 };

/* ---- reading values
 * ------------------------------------------------------------------------------------------ */

tk_status tk__json_string(tk_tokenizer *t, const json_t *j, const char *key, tk_str *out) {
    const json_t *v = json_object_get(j, key);
    if (!json_is_string(v))
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\n\"%s\" should be a string", key);
    *out = tk__keep(t, json_string_value(v), json_string_length(v));
    return out->s ? TK_OK : TK_E_NOMEM;
}

static bool whole_number(const json_t *v, size_t max, size_t *out) {
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= 0 && x <= (double)max) || x != (double)(size_t)x) return false;
    *out = (size_t)x;
    return true;
}

tk_status tk__json_size(const json_t *j, const char *key, size_t max, size_t *out) {
    const json_t *v = json_object_get(j, key);
    *out = 0;
    if (v && !whole_number(v, max, out))
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\n\"%s\" should be a number from 0 to %zu", key,
                       max);
    return TK_OK;
}

bool tk__json_true(const json_t *j, const char *key, bool otherwise) {
    const json_t *v = json_object_get(j, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

tk_status tk__json_type(const json_t *j, const char *what, int depth, const char **type) {
    *type = json_string_value(json_object_get(j, "type"));
    if (depth > DEPTH_MAX)
        return TK_FAIL(TK_E_LIMIT, "tokenizer.json nests its %ss more than %d deep", what, DEPTH_MAX);
    return *type ? TK_OK : TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\na %s has no \"type\"", what);
}

tk_status tk__unknown_stage(const char *what, const char *type) {
    return TK_FAIL(TK_E_UNSUPPORTED,
                   "this build does not know the %s \"%.60s\"\n"
                   "the tokenizer needs it, and without it the tokens would differ",
                   what, type);
}

/* ---- the model: BPE
 * ------------------------------------------------------------------------------------------ */

tk_status tk__parse_vocab(tk_tokenizer *t, const json_t *vocab) {
    const char *key;
    json_t *v;
    if (!json_is_object(vocab))
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits model has no \"vocab\"");
    json_object_foreach((json_t *)vocab, key, v) {
        size_t id;
        if (!whole_number(v, TK_ID_MAX - 1, &id))
            return TK_FAIL(
                TK_E_FORMAT,
                "tokenizer.json is damaged\nthe id of token \"%.60s\" is not a number from 0 to %d", key,
                TK_ID_MAX - 1);
        TK_TRY(tk__tokenizer_put(t, (tk_str){ key, strlen(key) }, (int32_t)id));
    }
    return TK_OK;
}

/* "left right" or ["left", "right"] */
static bool read_merge(const json_t *e, tk_str *a, tk_str *b) {
    if (json_is_array(e) && json_array_size(e) == 2) {
        const json_t *x = json_array_get(e, 0), *y = json_array_get(e, 1);
        *a = (tk_str){ json_string_value(x), json_string_length(x) };
        *b = (tk_str){ json_string_value(y), json_string_length(y) };
        return a->s && b->s;
    }
    const char *s = json_string_value(e), *blank = s ? strchr(s, ' ') : NULL;
    if (!blank || strchr(blank + 1, ' ')) return false;
    *a = (tk_str){ s, (size_t)(blank - s) };
    *b = (tk_str){ blank + 1, json_string_length(e) - a->n - 1 };
    return true;
}

static tk_status parse_merges(tk_tokenizer *t, const json_t *merges) {
    size_t i, rank = 0;
    json_t *e;
    if (!json_is_array(merges))
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits model has no \"merges\"");
    TK_TRY(tk__merges_init(&t->merges, json_array_size(merges)));
    json_array_foreach(merges, i, e) {
        tk_str a, b;
        if (json_is_string(e) && !strncmp(json_string_value(e), "#version", 8)) continue;
        if (!read_merge(e, &a, &b))
            return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nmerge %zu is not a pair of tokens", i);
        TK_TRY(tk__tokenizer_merge(t, a, b, rank++));
    }
    return TK_OK;
}

/* An option that may be null */
static tk_status optional(tk_tokenizer *t, const json_t *j, const char *key, tk_str *out) {
    const json_t *v = json_object_get(j, key);
    return v && !json_is_null(v) ? tk__json_string(t, j, key, out) : TK_OK;
}

static tk_status parse_bpe(tk_tokenizer *t, const json_t *j) {
    tk_str unk = { NULL, 0 };
    if (json_number_value(json_object_get(j, "dropout")) != 0)
        return tk__unknown_stage("BPE option", "dropout");
    TK_TRY(optional(t, j, "continuing_subword_prefix", &t->sub_prefix));
    TK_TRY(optional(t, j, "end_of_word_suffix", &t->end_suffix));
    TK_TRY(optional(t, j, "unk_token", &unk));
    if (t->big) {
        TK_TRY(tk__big_read(t, t->big));
    } else {
        TK_TRY(tk__parse_vocab(t, json_object_get(j, "vocab")));
        TK_TRY(parse_merges(t, json_object_get(j, "merges")));
    }
    t->kind = TK_MODEL_BPE;
    t->ignore_merges = tk__json_true(j, "ignore_merges", false);
    t->byte_fallback = tk__json_true(j, "byte_fallback", false);
    t->fuse_unk = tk__json_true(j, "fuse_unk", false);
    if (!unk.s) return TK_OK;
    t->unk = t->special[TK_UNK] = tk__pieces_get(&t->ids, unk.s, unk.n);
    if (t->unk < 0) t->unk_missing = unk;
    return TK_OK;
}

static const struct {
    const char *type;
    tk_status (*parse)(tk_tokenizer *t, const json_t *j);
} models[] = {
    { "BPE", parse_bpe },
    { "Unigram", tk__parse_unigram },
    { "WordPiece", tk__parse_wordpiece },
    { "WordLevel", tk__parse_wordlevel },
};

static tk_status parse_model(tk_tokenizer *t, const json_t *j) {
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!json_is_object(j)) return TK_FAIL(TK_E_FORMAT, "this is not a tokenizer.json\nit has no \"model\"");
    if (!type) /* files from before the key existed */
        type = json_object_get(j, "merges")                     ? "BPE"
               : json_is_array(json_object_get(j, "vocab"))     ? "Unigram"
               : json_object_get(j, "max_input_chars_per_word") ? "WordPiece"
               : json_object_get(j, "unk_token")                ? "WordLevel"
                                                                : NULL;
    for (size_t i = 0; type && i < TK_COUNT(models); i++)
        if (!strcmp(models[i].type, type)) return models[i].parse(t, j);
    return tk__unknown_stage("tokenizer model", type ? type : "(none)");
}

/* ---- added tokens
 * --------------------------------------------------------------------------------------------- */

/* The id is the one that Hugging Face's add_tokens gives, whatever the file says: the vocabulary's, or the
 * next after as many as the model counts. Theirs warns and goes on too. */
static tk_status parse_added(tk_tokenizer *t, const json_t *list) {
    size_t i;
    json_t *e;
    int32_t next = (int32_t)(t->n_model ? t->n_model : t->ids.n);
    json_array_foreach(list, i, e) {
        tk__added a = { .special = tk__json_true(e, "special", false),
                        .single_word = tk__json_true(e, "single_word", false),
                        .lstrip = tk__json_true(e, "lstrip", false),
                        .rstrip = tk__json_true(e, "rstrip", false) };
        a.normalized = tk__json_true(e, "normalized", !a.special);
        TK_TRY(tk__json_string(t, e, "content", &a.text));
        if (!a.text.n) continue;
        a.id = tk_tokenizer_find(t, a.text);
        if (a.id < 0) a.id = next++;
        TK_TRY(tk__tokenizer_add(t, a));
    }
    return TK_OK;
}

/* ---- post-processors
 * ------------------------------------------------------------------------------------------- */

static tk_status push_id(tk_tokenizer *t, tk_ids *ids, const json_t *id) {
    size_t n;
    if (!whole_number(id, TK_ID_MAX, &n) || n >= (size_t)t->size)
        return TK_FAIL(TK_E_FORMAT,
                       "tokenizer.json is damaged\nits post-processor adds a token that does not exist");
    return tk_ids_push(ids, (int32_t)n);
}

static tk_status read_template(tk_tokenizer *t, const json_t *j) {
    size_t i, k;
    json_t *e, *id;
    int seen = 0;
    json_array_foreach(json_object_get(j, "single"), i, e) {
        const json_t *special = json_object_get(e, "SpecialToken");
        if (json_object_get(e, "Sequence")) {
            seen++;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        const json_t *row = name ? json_object_get(json_object_get(j, "special_tokens"), name) : NULL;
        if (!row)
            return TK_FAIL(TK_E_FORMAT,
                           "tokenizer.json is damaged\nits template uses a token that it does not define");
        json_array_foreach(json_object_get(row, "ids"), k, id)
            TK_TRY(push_id(t, seen ? &t->suffix : &t->prefix, id));
    }
    return seen == 1 ? TK_OK
                     : tk__unknown_stage("post-processor", "TemplateProcessing without exactly one text");
}

/* "cls" and "sep": [token, id] */
static tk_status read_bert(tk_tokenizer *t, const json_t *j) {
    TK_TRY(push_id(t, &t->prefix, json_array_get(json_object_get(j, "cls"), 1)));
    return push_id(t, &t->suffix, json_array_get(json_object_get(j, "sep"), 1));
}

static const struct {
    const char *type;
    tk_status (*read)(tk_tokenizer *t, const json_t *j); /* NULL: only mends offsets */
} posts[] = {
    { "TemplateProcessing", read_template },
    { "BertProcessing", read_bert },
    { "RobertaProcessing", read_bert },
    { "ByteLevel", NULL },
};

/* `closed`: a template was seen. What a second one would do to its tokens is an accident of the library. */
static tk_status parse_post(tk_tokenizer *t, const json_t *j, int depth, bool *closed) {
    const char *type;
    if (!j || json_is_null(j)) return TK_OK;
    TK_TRY(tk__json_type(j, "post-processor", depth, &type));
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(j, "processors"), i, e)
            TK_TRY(parse_post(t, e, depth + 1, closed));
        return TK_OK;
    }
    for (size_t i = 0; i < TK_COUNT(posts); i++) {
        if (strcmp(posts[i].type, type) != 0) continue;
        if (!posts[i].read) return TK_OK;
        if (*closed) return tk__unknown_stage("post-processor", "Sequence of a template and another");
        *closed = posts[i].read == read_template;
        /* what this one puts around the text goes around what is there already */
        tk_ids inner = t->prefix;
        t->prefix = (tk_ids){ 0 };
        tk_status s = posts[i].read(t, j);
        for (size_t k = 0; k < inner.n && s == TK_OK; k++) s = tk_ids_push(&t->prefix, inner.id[k]);
        tk_ids_free(&inner);
        return s;
    }
    return tk__unknown_stage("post-processor", type);
}

/* ---- tokenizer_config.json
 * --------------------------------------------------------------------------------------- */

/* A token's name is a string, an object with "content", or null. */
static void name_special(tk_tokenizer *t, const json_t *config, const char *key, tk_special which) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    if (!json_is_string(v)) return;
    int32_t id = tk_tokenizer_find(t, (tk_str){ json_string_value(v), json_string_length(v) });
    if (id >= 0) t->special[which] = id;
}

/* ---- all of it
 * ------------------------------------------------------------------------------------------------------ */

static tk_status load(json_t **out, tk_str text, const char *what) {
    json_error_t e;
    if (text.n > TK_JSON_MAX)
        return TK_FAIL(TK_E_LIMIT, "%s is too large\nit has %zu bytes, the limit is %d", what, text.n,
                       TK_JSON_MAX);
    *out = json_loadb(text.s, text.n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    if (*out) return TK_OK;
    return TK_FAIL(json_error_code(&e) == json_error_out_of_memory ? TK_E_NOMEM : TK_E_FORMAT,
                   "%s is not valid JSON\nline %d, column %d: %s", what, e.line, e.column, e.text);
}

static tk_status fill(tk_tokenizer *t, const json_t *j, const json_t *config) {
    const json_t *version = json_object_get(j, "version");
    bool closed = false;
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0") != 0))
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "this tokenizer.json has version \"%.60s\"\nonly version 1.0 is known",
                       json_is_string(version) ? json_string_value(version) : "(none)");
    TK_TRY(parse_model(t, json_object_get(j, "model")));
    TK_TRY(tk__normalizers_parse(t, json_object_get(j, "normalizer")));
    TK_TRY(tk__pretoks_parse(t, json_object_get(j, "pre_tokenizer")));
    TK_TRY(tk__decoders_parse(t, json_object_get(j, "decoder")));
    TK_TRY(parse_added(t, json_object_get(j, "added_tokens")));
    TK_TRY(parse_post(t, json_object_get(j, "post_processor"), 0, &closed));
    name_special(t, config, "bos_token", TK_BOS);
    name_special(t, config, "eos_token", TK_EOS);
    name_special(t, config, "unk_token", TK_UNK);
    name_special(t, config, "pad_token", TK_PAD);
    return tk__tokenizer_finish(t);
}

tk_status tk__tokenizer_from_object(tk_tokenizer **out, const json_t *j, const json_t *config) {
    tk_tokenizer *t;
    TK_TRY(tk__tokenizer_new(&t, json_object_size(json_object_get(json_object_get(j, "model"), "vocab"))));
    tk_status s = fill(t, j, config);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}

/* The document without what is read apart from it; `big` says what that is. */
static tk_status load_small(json_t **out, tk_str text, tk__big *big) {
    if (text.n > TK_JSON_MAX) return load(out, text, "tokenizer.json");
    if (text.n >= TK_BIG) tk__cache_find(big, text);
    if (big->image) return load(out, tk__image_rest(big->image), "tokenizer.json");
    tk__big_find(big, text);
    return load(out, big->vocab.s ? (tk_str){ big->rest.data, big->rest.len } : text, "tokenizer.json");
}

tk_status tk_tokenizer_from_json(tk_tokenizer **out, tk_str json, const tk_str *config) {
    json_t *j = NULL, *c = NULL;
    tk_tokenizer *t = NULL;
    tk__big big = { 0 };
    tk_status s = load_small(&j, json, &big);
    if (s == TK_OK && config) s = load(&c, *config, "tokenizer_config.json");
    size_t expected = big.image     ? 0
                      : big.vocab.s ? big.vocab.n / 20
                                    : json_object_size(json_object_get(json_object_get(j, "model"), "vocab"));
    if (s == TK_OK) s = tk__tokenizer_new(&t, expected);
    if (s == TK_OK) {
        t->big = big.image || big.vocab.s ? &big : NULL;
        t->image = big.image;
        s = fill(t, j, c);
        t->big = NULL;
        if (s == TK_OK && big.keyed && big.vocab.s && !big.image) tk__cache_write(t, &big);
    } else
        tk__image_free(big.image);
    tk_buf_free(&big.rest);
    json_decref(j);
    json_decref(c);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}
