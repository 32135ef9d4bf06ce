/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a tokenizer by path, and what older folders hold instead of a tokenizer.json: a SentencePiece
 * model, a tiktoken rank file, vocab.json with merges.txt, vocab.txt. For the latter two the stages go by the
 * class that tokenizer_config.json names, as transformers' converters have them; they are written down as the
 * part of a tokenizer.json that they are. A class without a row is refused by name. */
#include <stdlib.h>

#include "text/tokenizer.h"

typedef struct files {
    const char *folder;
    size_t n;
    tk_map main, merges;
    json_t *config;
} files;

static tk_status map_beside(const files *f, tk_map *m, const char *name) {
    tk_arena a = { 0 };
    char *path = tk_arena_printf(&a, "%.*s/%s", (int)f->n, f->folder, name);
    tk_status s = !path ? TK_E_NOMEM : tk_file_exists(path) ? tk_map_open(m, path) : TK_OK;
    tk_arena_free(&a);
    if (s == TK_OK && m->size > TK_JSON_MAX)
        return TK_FAIL(TK_E_LIMIT, "%s is too large\nit has %zu bytes, the limit is %d", name, m->size,
                       TK_JSON_MAX);
    return s;
}

static tk_str text_of(const tk_map *m) { return (tk_str){ m->size ? (const char *)m->data : "", m->size }; }

/* ---- tokenizer_config.json
 * ----------------------------------------------------------------------------------- */

/* "GPT2" for GPT2Tokenizer and GPT2TokenizerFast; "" if the config names none. */
static void class_name(const json_t *config, char name[64]) {
    const char *s = json_string_value(json_object_get(config, "tokenizer_class"));
    snprintf(name, 64, "%.63s", s ? s : "");
    char *end = strstr(name, "Tokenizer");
    if (end && (!strcmp(end, "Tokenizer") || !strcmp(end, "TokenizerFast"))) *end = 0;
}

static tk_str token_text(const json_t *v) {
    if (json_is_object(v)) v = json_object_get(v, "content");
    return (tk_str){ json_string_value(v), json_string_length(v) };
}

/* Tokens that the config adds or describes, with their ids. */
tk_status tk__config_tokens(tk_tokenizer *t, const json_t *config) {
    const char *key;
    json_t *e;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, e) {
        char *end;
        long id = strtol(key, &end, 10);
        tk__added a = { .special = tk__json_true(e, "special", false),
                        .single_word = tk__json_true(e, "single_word", false),
                        .lstrip = tk__json_true(e, "lstrip", false),
                        .rstrip = tk__json_true(e, "rstrip", false) };
        TK_TRY(tk__json_string(t, e, "content", &a.text));
        int32_t found = tk_tokenizer_find(t, a.text);
        if (*end || end == key || id < 0 || id >= TK_ID_MAX || (found >= 0 && found != id))
            return TK_FAIL(TK_E_FORMAT,
                           "tokenizer_config.json is damaged\nthe token \"%.60s\" has no id of its own",
                           a.text.s);
        a.id = (int32_t)id;
        if (a.text.n) TK_TRY(tk__tokenizer_add(t, a));
    }
    static const struct {
        const char *key;
        tk_special which;
    } names[] = {
        { "bos_token", TK_BOS }, { "eos_token", TK_EOS }, { "unk_token", TK_UNK }, { "pad_token", TK_PAD }
    };
    for (size_t i = 0; i < TK_COUNT(names); i++) {
        tk_str s = token_text(json_object_get(config, names[i].key));
        int32_t id = s.s ? tk_tokenizer_find(t, s) : -1;
        if (id >= 0) t->special[names[i].which] = id;
    }
    return TK_OK;
}

/* Begin and end tokens around a SentencePiece model's text: not the package's doing, but that of the class.
 */
tk_status tk__config_frame(tk_tokenizer *t, const json_t *config) {
    static const struct {
        const char *name;
        bool bos, eos;
    } rows[] = { { "", false, false },
                 { "Llama", true, false },
                 { "CodeLlama", true, false },
                 { "Gemma", true, false },
                 { "T5", false, true } };
    char name[64];
    size_t i = 0;
    class_name(config, name);
    while (i < TK_COUNT(rows) && strcmp(rows[i].name, name) != 0) i++;
    if (i == TK_COUNT(rows)) return tk__unknown_stage("tokenizer class with a SentencePiece model", name);
    TK_TRY(tk__config_tokens(t, config));
    bool bos = tk__json_true(config, "add_bos_token", rows[i].bos);
    bool eos = tk__json_true(config, "add_eos_token", rows[i].eos);
    if (bos && t->special[TK_BOS] >= 0) TK_TRY(tk_ids_push(&t->prefix, t->special[TK_BOS]));
    if (eos && t->special[TK_EOS] >= 0) TK_TRY(tk_ids_push(&t->suffix, t->special[TK_EOS]));
    return TK_OK;
}

/* ---- vocab.json with merges.txt, vocab.txt
 * ------------------------------------------------------------------- */

#define BYTE_LEVEL(prefix, regex)                                                                            \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":" prefix ",\"trim_offsets\":true,\"use_regex\":" regex "}"
#define END_OF_TEXT "<|endoftext|>"

/* Stages of a class, and its special tokens where the config names none. A '*' before a token: lstrip. */
static const struct {
    const char *names; /* between blanks */
    const char *stages;
    const char *tokens[7];
    bool frame; /* post-processor: cls text sep */
} classes[] = {
    { " GPT2 CodeGen ",
      "{\"pre_tokenizer\":" BYTE_LEVEL("false", "true") ",\"decoder\":" BYTE_LEVEL("true", "true") "}",
      { "unk_token", END_OF_TEXT, "bos_token", END_OF_TEXT, "eos_token", END_OF_TEXT },
      false },
    { " Qwen2 ",
      "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{"
      "\"type\":"
      "\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}"
      "+|\\\\p{N}| "
      "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":"
      "\"Isolated\",\"invert\":"
      "false}," BYTE_LEVEL("false", "false") "]},\"decoder\":" BYTE_LEVEL("true", "true") "}",
      { "unk_token", END_OF_TEXT, "eos_token", END_OF_TEXT, "pad_token", END_OF_TEXT },
      false },
    { " Roberta Bart ",
      "{\"pre_tokenizer\":" BYTE_LEVEL("false", "true") ",\"decoder\":" BYTE_LEVEL("true", "true") "}",
      { "cls_token", "<s>", "sep_token", "</s>", "mask_token", "*<mask>" },
      true },
    { " Bert DistilBert Electra ",
      "{\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
      "\"strip_accents\":"
      "null,\"lowercase\":true},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":"
      "\"WordPiece\","
      "\"prefix\":\"##\",\"cleanup\":true}}",
      { "cls_token", "[CLS]", "sep_token", "[SEP]", "mask_token", "[MASK]" },
      true },
};

/* More of the same that are not told apart by a row */
static const char *const common[][3] = { { "unk_token", "<unk>", "[UNK]" },
                                         { "pad_token", "<pad>", "[PAD]" },
                                         { "bos_token", "<s>", NULL },
                                         { "eos_token", "</s>", NULL } };

static tk_status no_json(void) {
    return TK_FAIL(TK_E_NOMEM, "out of memory\na tokenizer's description did not fit");
}

/* The text of a special token: the config's, or the default. */
static tk_str special(const json_t *config, const char *key, const char *otherwise, bool *lstrip) {
    const json_t *v = json_object_get(config, key);
    tk_str s = token_text(v);
    *lstrip = s.s ? json_is_object(v) && tk__json_true(v, "lstrip", false) : otherwise && *otherwise == '*';
    if (s.s || !otherwise || json_is_null(v)) return s;
    return (tk_str){ otherwise + *lstrip, strlen(otherwise + *lstrip) };
}

static bool add_token(json_t *list, tk_str s, bool lstrip) {
    if (!s.n) return true;
    json_t *e = json_pack("{s:s%, s:b, s:b, s:b}", "content", s.s, s.n, "special", 1, "lstrip", lstrip,
                          "normalized", 0);
    return e && json_array_append_new(list, e) == 0;
}

static json_t *id_of(const json_t *vocab, tk_str s) {
    json_t *id = s.s ? json_object_getn(vocab, s.s, s.n) : NULL;
    return json_is_number(id) ? json_pack("[s%, f]", s.s, s.n, json_number_value(id)) : NULL;
}

/* Completes the stages of a class by what the config says of them. */
static tk_status adapt(json_t *j, size_t row, const json_t *config) {
    json_t *model = json_object_get(j, "model"), *vocab = json_object_get(model, "vocab"),
           *added = json_array();
    bool lstrip, fine = added && json_object_set_new(j, "added_tokens", added) == 0;
    const bool bert = strstr(classes[row].names, " Bert ");
    tk_str cls = { NULL, 0 }, sep = cls;
    for (size_t i = 0; fine && i < TK_COUNT(common); i++) {
        tk_str s = special(config, common[i][0], classes[row].frame ? common[i][1 + bert] : NULL, &lstrip);
        fine = add_token(added, s, lstrip);
    }
    for (size_t i = 0; fine && i + 1 < TK_COUNT(classes[row].tokens) && classes[row].tokens[i]; i += 2) {
        tk_str s = special(config, classes[row].tokens[i], classes[row].tokens[i + 1], &lstrip);
        fine = add_token(added, s, lstrip);
        if (!strcmp(classes[row].tokens[i], "cls_token")) cls = s;
        if (!strcmp(classes[row].tokens[i], "sep_token")) sep = s;
    }
    if (fine && classes[row].frame) {
        json_t *a = id_of(vocab, cls), *b = id_of(vocab, sep);
        fine = a && b &&
               json_object_set_new(
                   j, "post_processor",
                   json_pack("{s:s, s:o, s:o}", "type", "BertProcessing", "cls", a, "sep", b)) == 0;
        if (!fine) return TK_FAIL(TK_E_FORMAT, "the tokenizer's vocabulary lacks its begin or end token");
    }
    json_t *pre = json_object_get(j, "pre_tokenizer"), *norm = json_object_get(j, "normalizer");
    if (!strcmp(json_string_value(json_object_get(pre, "type")), "ByteLevel"))
        json_object_set_new(pre, "add_prefix_space",
                            json_boolean(tk__json_true(config, "add_prefix_space", false)));
    if (!bert) return fine ? TK_OK : no_json();
    json_object_set_new(norm, "lowercase", json_boolean(tk__json_true(config, "do_lower_case", true)));
    json_object_set_new(norm, "handle_chinese_chars",
                        json_boolean(tk__json_true(config, "tokenize_chinese_chars", true)));
    const json_t *accents = json_object_get(config, "strip_accents");
    if (json_is_boolean(accents)) json_object_set(norm, "strip_accents", (json_t *)accents);
    tk_str unk = special(config, "unk_token", "[UNK]", &lstrip);
    json_object_set_new(model, "unk_token", json_stringn(unk.s, unk.n));
    return fine ? TK_OK : no_json();
}

/* The next line of a text, without its end; false at the end. */
static bool next_line(tk_str *text, tk_str *line) {
    if (!text->n) return false;
    const char *end = memchr(text->s, '\n', text->n);
    size_t n = end ? (size_t)(end - text->s) : text->n;
    *line = (tk_str){ text->s, n };
    text->s += n + (end != NULL), text->n -= n + (end != NULL);
    if (line->n && line->s[line->n - 1] == '\r') line->n--;
    return true;
}

static tk_status lines_model(const files *f, json_t **out) {
    tk_str text = text_of(&f->main), line;
    json_t *vocab = json_object();
    double id = 0;
    *out = json_pack("{s:s, s:s, s:i, s:o}", "type", "WordPiece", "continuing_subword_prefix", "##",
                     "max_input_chars_per_word", 100, "vocab", vocab);
    if (!*out) return no_json();
    for (; next_line(&text, &line); id++) {
        if (!tk__utf8_valid(line.s, line.n))
            return TK_FAIL(TK_E_FORMAT, "vocab.txt is damaged\nit is not UTF-8");
        if (json_object_setn_new_nocheck(vocab, line.s, line.n, json_real(id))) return no_json();
    }
    return TK_OK;
}

static tk_status merges_model(const files *f, json_t **out) {
    tk_str text = text_of(&f->merges), line;
    json_error_t e;
    json_t *merges = json_array(),
           *vocab = json_loadb((const char *)f->main.data, f->main.size,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    *out =
        json_pack("{s:s, s:o, s:o}", "type", "BPE", "vocab", vocab ? vocab : json_null(), "merges", merges);
    if (!*out) return no_json();
    if (!vocab) return TK_FAIL(TK_E_FORMAT, "vocab.json is not valid JSON\nline %d: %s", e.line, e.text);
    while (next_line(&text, &line)) {
        if (!line.n) continue;
        if (!tk__utf8_valid(line.s, line.n))
            return TK_FAIL(TK_E_FORMAT, "merges.txt is damaged\nit is not UTF-8");
        if (json_array_append_new(merges, json_stringn(line.s, line.n))) return no_json();
    }
    return TK_OK;
}

static tk_status open_class(tk_tokenizer **out, const files *f, const char *otherwise,
                            tk_status (*read)(const files *f, json_t **model)) {
    char name[64], word[68];
    size_t row = 0;
    class_name(f->config, name);
    snprintf(word, sizeof word, " %s ", *name ? name : otherwise);
    while (row < TK_COUNT(classes) && !strstr(classes[row].names, word)) row++;
    if (row == TK_COUNT(classes)) return tk__unknown_stage("tokenizer class", name);
    json_error_t e;
    json_t *j = json_loads(classes[row].stages, 0, &e), *model = NULL;
    tk_status s = j ? read(f, &model) : no_json();
    if (s == TK_OK && json_object_set_new(j, "model", json_incref(model))) s = no_json();
    if (s == TK_OK) s = adapt(j, row, f->config);
    if (s == TK_OK) s = tk__tokenizer_from_object(out, j, f->config);
    json_decref(model);
    json_decref(j);
    return s;
}

/* ---- by path
 * ------------------------------------------------------------------------------------------------- */

static tk_status load_config(files *f) {
    tk_map m = { 0 };
    json_error_t e;
    tk_status s = map_beside(f, &m, "tokenizer_config.json");
    if (s == TK_OK && m.size &&
        !(f->config = json_loadb((const char *)m.data, m.size,
                                 JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e)))
        s = TK_FAIL(TK_E_FORMAT, "tokenizer_config.json is not valid JSON\nline %d: %s", e.line, e.text);
    tk_map_close(&m);
    return s;
}

/* One file that is a tokenizer, whatever its name. */
static tk_status open_main(tk_tokenizer **out, files *f, const char *path) {
    tk_str text = text_of(&f->main);
    size_t lead = 0;
    if (text.n > TK_JSON_MAX)
        return TK_FAIL(TK_E_LIMIT, "%s is too large\nit has %zu bytes, the limit is %d", path, text.n,
                       TK_JSON_MAX);
    if (text.n >= 4 && tk_le32(text.s) == 20240328) return tk_tokenizer_from_llmc(out, text.s, text.n);
    while (lead < text.n && tk__json_space(text.s[lead])) lead++;
    if (lead < text.n && text.s[lead] == '{') {
        tk_map m = { 0 };
        tk_status s = map_beside(f, &m, "tokenizer_config.json");
        tk_str c = text_of(&m);
        if (s == TK_OK) s = tk_tokenizer_from_json(out, text, c.n ? &c : NULL);
        tk_map_close(&m);
        return s;
    }
    /* a message whose first field is number 1, of some length; a tok*.bin that starts like this goes on with
     * 0 */
    if (text.n > 2 && text.s[0] == 10 && text.s[1]) {
        TK_TRY(load_config(f));
        return tk__tokenizer_from_sentencepiece(out, text, f->config);
    }
    if (tk__tiktoken_looks(text)) {
        TK_TRY(load_config(f));
        return tk__tokenizer_from_tiktoken(out, text, path, f->config);
    }
    return tk_tokenizer_from_tokbin(out, text.s, text.n, 0);
}

static tk_status open_folder(tk_tokenizer **out, files *f, const char *path) {
    static const char *const whole[] = { "tokenizer.json", "tokenizer.model", "spiece.model",
                                         "tiktoken.model", "qwen.tiktoken" };
    for (size_t i = 0; i < TK_COUNT(whole); i++) {
        TK_TRY(map_beside(f, &f->main, whole[i]));
        if (!f->main.size) continue;
        char full[512];
        snprintf(full, sizeof full, "%.400s/%s", path, whole[i]);
        return open_main(out, f, full);
    }
    TK_TRY(load_config(f));
    TK_TRY(map_beside(f, &f->main, "vocab.json"));
    TK_TRY(map_beside(f, &f->merges, "merges.txt"));
    if (f->main.size && f->merges.size) return open_class(out, f, "GPT2", merges_model);
    tk_map_close(&f->main);
    TK_TRY(map_beside(f, &f->main, "vocab.txt"));
    if (f->main.size) return open_class(out, f, "Bert", lines_model);
    return TK_FAIL(
        TK_E_NOTFOUND,
        "%s: no tokenizer in this folder\nit has no tokenizer.json, tokenizer.model, vocab.json with "
        "merges.txt, or vocab.txt\ngive one with --tokenizer FILE",
        path);
}

tk_status tk_tokenizer_open(tk_tokenizer **out, const char *path) {
    files f = { .folder = ".", .n = 1 };
    const char *slash = strrchr(path, '/');
    tk_status s;
    if (tk_file_is_dir(path)) {
        f.folder = path, f.n = strlen(path);
        s = open_folder(out, &f, path);
    } else {
        if (slash) f.folder = path, f.n = slash == path ? 0 : (size_t)(slash - path);
        s = tk_map_open(&f.main, path);
        if (s == TK_OK) s = open_main(out, &f, path);
    }
    tk_map_close(&f.main);
    tk_map_close(&f.merges);
    json_decref(f.config);
    return s;
}
