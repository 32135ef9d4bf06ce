/* SPDX-License-Identifier: Apache-2.0 */
/* A Hugging Face folder: config.json, generation_config.json, the chat templates, and the special tokens'
 * texts. Keys of transformers 4 and 5 are both read. Anything that would change the computation and is not
 * known (quantization_config, another model_type) is refused by name; auto_map is never run. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/file.h"

enum { CONFIG_LIMIT = 16 << 20 };

static char *in_folder(tk_modelfile *f, const char *name) {
    return tk_arena_printf(&f->arena, "%s/%s", f->path, name);
}

/* An optional JSON object in the folder: *out NULL if the file is not there. */
static tk_status optional_json(tk_modelfile *f, const char *name, json_t **out) {
    char *path = in_folder(f, name);
    *out = NULL;
    if (!path) return TK_E_NOMEM;
    if (!tk_file_exists(path)) return TK_OK;
    TK_TRY(tk__json_file(out, path, CONFIG_LIMIT));
    if (json_is_object(*out)) return TK_OK;
    json_decref(*out);
    *out = NULL;
    return TK_FAIL(TK_E_FORMAT, "%s is not a JSON object", path);
}

static tk_status copy_text(tk_modelfile *f, const json_t *string, const char **out) {
    *out = tk_arena_strndup(&f->arena, json_string_value(string), json_string_length(string));
    return *out ? TK_OK : TK_E_NOMEM;
}

/* ---- ids and generation defaults ---- */

static tk_status one_id(const char *file, const char *key, const json_t *j, int *out) {
    *out = -1;
    if (!j || json_is_null(j)) return TK_OK;
    if (!json_is_integer(j)) return TK_FAIL(TK_E_FORMAT, "%s: %s must be an integer or null", file, key);
    json_int_t v = json_integer_value(j);
    if (v >= 0 && v <= INT32_MAX) *out = (int)v; /* -1 stands for none in some files */
    return TK_OK;
}

/* Adds the ids of eos_token_id (a number, a list or null) to the config's, each once. */
static tk_status add_eos(tk_modelfile *f, const char *file, const json_t *j) {
    enum { LIMIT = 256 };
    size_t n = json_is_array(j) ? json_array_size(j) : 1;
    if (n > LIMIT) return TK_FAIL(TK_E_FORMAT, "%s: eos_token_id has %zu entries", file, n);
    int32_t *all = tk_arena_array(&f->arena, (size_t)f->config.n_eos + n, sizeof *all);
    if (!all) return TK_E_NOMEM;
    int count = f->config.n_eos;
    if (count) memcpy(all, f->config.eos, (size_t)count * sizeof *all);
    for (size_t i = 0; i < n; i++) {
        int id, k = 0;
        TK_TRY(one_id(file, "eos_token_id", json_is_array(j) ? json_array_get(j, i) : j, &id));
        while (k < count && all[k] != id) k++;
        if (id >= 0 && k == count) all[count++] = id;
    }
    f->config.eos = all, f->config.n_eos = count;
    return TK_OK;
}

static tk_status read_generation(tk_modelfile *f) {
    json_t *j;
    TK_TRY(optional_json(f, "generation_config.json", &j));
    if (!j) return TK_OK;
    tk__keys k = tk__json_keys("generation_config.json", j, NULL);
    tk_gen_defaults *g = &f->gen;
    float temperature = -1, top_p = -1, penalty = -1;
    int top_k = -1;
    tk_status s = add_eos(f, k.name, json_object_get(j, "eos_token_id"));
    if (s == TK_OK) s = tk__key_real(&k, "temperature", 0, 1e6, &temperature);
    if (s == TK_OK) s = tk__key_real(&k, "top_p", 0, 1, &top_p);
    if (s == TK_OK) s = tk__key_real(&k, "repetition_penalty", 0, 1e6, &penalty);
    if (s == TK_OK) s = tk__key_int(&k, "top_k", 0, 1 << 26, &top_k);
    const json_t *sample = json_object_get(j, "do_sample");
    *g = (tk_gen_defaults){ .has_temperature = temperature >= 0,
                            .has_top_p = top_p >= 0,
                            .has_repetition_penalty = penalty >= 0,
                            .has_top_k = top_k >= 0,
                            .has_do_sample = json_is_boolean(sample),
                            .do_sample = json_is_true(sample),
                            .temperature = temperature,
                            .top_p = top_p,
                            .repetition_penalty = penalty,
                            .top_k = top_k };
    json_decref(j);
    return s;
}

/* ---- special tokens ---- */

/* A special token is a string, an object with "content", or null. */
static tk_status read_specials(tk_modelfile *f, const json_t *j) {
    static const char *const keys[4] = { "bos_token", "eos_token", "pad_token", "unk_token" };
    for (int i = 0; i < 4; i++) {
        const json_t *token = json_object_get(j, keys[i]);
        if (json_is_object(token)) token = json_object_get(token, "content");
        if (json_is_string(token) && !f->special[i]) TK_TRY(copy_text(f, token, &f->special[i]));
    }
    return TK_OK;
}

static tk_status read_texts(tk_modelfile *f) {
    static const char *const files[] = { "tokenizer_config.json", "special_tokens_map.json" };
    for (size_t i = 0; i < TK_COUNT(files); i++) {
        json_t *j;
        TK_TRY(optional_json(f, files[i], &j));
        if (!j) continue;
        tk_status s = read_specials(f, j);
        if (s == TK_OK && i == 0) s = tk__templates_json(f, json_object_get(j, "chat_template"));
        json_decref(j);
        TK_TRY(s);
    }
    return tk__templates_folder(f);
}

/* ---- config.json ---- */

static tk_status family_of(tk_modelfile *f, const json_t *j) {
    const char *type = json_string_value(json_object_get(j, "model_type"));
    if (!type)
        return TK_FAIL(TK_E_FORMAT,
                       "%s/config.json: model_type is missing\nit does not say what family the model is of",
                       f->path);
    const tk_arch a = tk__arch_find(type, false);
    if (a == TK_ARCHS)
        return TK_FAIL(TK_E_UNSUPPORTED, "%s: unknown architecture \"%.60s\"\nthis build knows:%s", f->path,
                       type, tk__families);
    f->config.arch = a;
    const json_t *q = json_object_get(j, "quantization_config");
    if (!q) q = json_object_get(j, "compression_config"); /* compressed-tensors' first files */
    if (json_is_object(q)) TK_TRY(tk__quant_read(f, q));
    return TK_OK;
}

static tk_status list_metadata(tk_modelfile *f, const json_t *j) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)j, key, value) {
        char *text = json_is_string(value)
                         ? NULL
                         : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
        const char *shown = json_is_string(value) ? json_string_value(value) : text ? text : "?";
        tk_status s = tk__meta_add(f, key, shown, strlen(shown));
        free(text);
        TK_TRY(s);
    }
    return TK_OK;
}

static tk_status read_config(tk_modelfile *f, const json_t *j) {
    tk_config *c = &f->config;
    TK_TRY(family_of(f, j));
    /* a model of text and images keeps the text's part apart */
    const json_t *part = json_object_get(j, "text_config"), *model = json_is_object(part) ? part : j;
    tk__keys k = tk__json_keys("config.json", model, &f->arena);
    TK_TRY(tk__config_read(c, &k));
    if (!c->learned_pos && c->alibi == 0) TK_TRY(tk__config_rope_json(c, model, &f->arena));
    TK_TRY(one_id(k.name, "bos_token_id", json_object_get(model, "bos_token_id"), &c->bos));
    TK_TRY(one_id(k.name, "pad_token_id", json_object_get(model, "pad_token_id"), &c->pad));
    TK_TRY(add_eos(f, k.name, json_object_get(model, "eos_token_id")));
    if (model != j) TK_TRY(add_eos(f, k.name, json_object_get(j, "eos_token_id")));
    return TK_OK;
}

static tk_status name_of_folder(tk_modelfile *f) {
    size_t n = strlen(f->path);
    while (n > 1 && f->path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && f->path[from - 1] != '/') from--;
    f->config.name = tk_arena_strndup(&f->arena, f->path + from, n - from);
    return f->config.name ? TK_OK : TK_E_NOMEM;
}

/* Names a GGUF file in a folder that is no model, since that is what the caller most likely meant. */
static tk_status no_model(const tk_modelfile *f) {
    char found[256] = "";
    DIR *d = opendir(f->path);
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 5 && !strcmp(e->d_name + n - 5, ".gguf")) snprintf(found, sizeof found, "%s", e->d_name);
    }
    if (d) closedir(d);
    if (*found)
        return TK_FAIL(TK_E_NOTFOUND, "%s holds no config.json\nbut a GGUF file\ngive %s/%s", f->path,
                       f->path, found);
    return TK_FAIL(
        TK_E_NOTFOUND,
        "%s holds no model\nthere is no config.json in it\ngive a Hugging Face model folder or a GGUF file",
        f->path);
}

tk_status tk__hf_open(tk_modelfile *f) {
    json_t *j;
    TK_TRY(optional_json(f, "config.json", &j));
    TK_TRY(name_of_folder(f));
    tk_status s = j ? list_metadata(f, j) : TK_OK;
    if (s == TK_OK) s = tk__tolerate(f, j ? read_config(f, j) : no_model(f));
    json_decref(j);
    TK_TRY(s);
    TK_TRY(read_generation(f));
    TK_TRY(read_texts(f));
    s = tk__tolerate(f, tk__safetensors_open(f));
    if (f->problem != TK_OK && !f->tensor_names.slot)
        TK_TRY(tk__tensors_index(f)); /* of the shards that were read */
    return s;
}

tk_status tk__hf_vocab(tk_modelfile *f) {
    char *path = in_folder(f, "tokenizer.json");
    if (!path) return TK_E_NOMEM;
    if (!f->tokenizer_path && !tk_file_exists(path))
        return TK_FAIL(TK_E_NOTFOUND, "%s holds no tokenizer\nthere is no tokenizer.json in it", f->path);
    TK_TRY(name_of_folder(f));
    TK_TRY(read_generation(f));
    return read_texts(f);
}
