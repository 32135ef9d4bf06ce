/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: what a path is, which reader takes it, and the parts that all readers share (tensor list, names,
 * metadata, tokenizer). The format is told by content, never by the file's name. */
#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "model/file.h"

/* ---- names ---- */

tk_status tk__names_init(tk__names *s, tk_arena *a, size_t capacity) {
    size_t slots = 16;
    while (slots / 2 < capacity && slots < (size_t)1 << 31) slots *= 2;
    *s = (tk__names){ .slot = tk_arena_array(a, slots, sizeof *s->slot),
                      .hash = tk_arena_array(a, TK_MAX(capacity, (size_t)1), sizeof *s->hash),
                      .mask = slots - 1 };
    return s->slot && s->hash ? TK_OK : TK_E_NOMEM;
}

/* Seeded by an address, so that a file cannot be made whose names all collide. */
static uint64_t hash_name(const tk__names *s, const char *name) {
    return XXH3_64bits_withSeed(name, strlen(name), (uintptr_t)s->slot);
}

int64_t tk__names_find(const tk__names *s, const char *name, tk__name_of name_of, const void *ctx) {
    if (!s->slot) return -1;
    uint64_t h = hash_name(s, name);
    for (size_t at = h & s->mask; s->slot[at]; at = (at + 1) & s->mask) {
        size_t i = s->slot[at] - 1;
        if (s->hash[i] == h && !strcmp(name_of(ctx, i), name)) return (int64_t)i;
    }
    return -1;
}

void tk__names_add(tk__names *s, const char *name) {
    uint64_t h = hash_name(s, name);
    size_t at = h & s->mask;
    while (s->slot[at]) at = (at + 1) & s->mask;
    s->hash[s->n] = h;
    s->slot[at] = (uint32_t)++s->n;
}

/* ---- tensors ---- */

static const char *tensor_name(const void *ctx, size_t i) {
    return ((const tk_modelfile *)ctx)->tensor[i].name;
}

tk_status tk__tensors_reserve(tk_modelfile *f, size_t n) {
    if (n > INT32_MAX / 2 || f->n_tensors > INT32_MAX / 2)
        return TK_FAIL(TK_E_LIMIT, "%s: too many tensors", f->path);
    int need = f->n_tensors + (int)n;
    if (need <= f->cap_tensors) return TK_OK;
    int cap = TK_MAX(need, f->cap_tensors * 2);
    tk_tensor *fresh = tk_arena_array(&f->arena, (size_t)cap, sizeof *fresh);
    if (!fresh) return TK_E_NOMEM;
    if (f->n_tensors) memcpy(fresh, f->tensor, (size_t)f->n_tensors * sizeof *fresh);
    f->tensor = fresh, f->cap_tensors = cap;
    return TK_OK;
}

tk_status tk__tensors_index(tk_modelfile *f) {
    TK_TRY(tk__names_init(&f->tensor_names, &f->arena, (size_t)f->n_tensors));
    for (int i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensor[i].name;
        if (tk__tensor_find(f, name))
            return TK_FAIL(TK_E_FORMAT,
                           "%s: tensor %.100s is there twice\nwhich of the two counts cannot be told",
                           f->path, name);
        tk__names_add(&f->tensor_names, name);
    }
    return TK_OK;
}

const tk_tensor *tk__tensor_find(const tk_modelfile *f, const char *name) {
    int64_t i = tk__names_find(&f->tensor_names, name, tensor_name, f);
    return i < 0 ? NULL : &f->tensor[i];
}

/* ---- metadata ---- */

/* Valid UTF-8 on one line, cut beyond 200 bytes. */
static void make_printable(tk_buf *b, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        if (b->len > 200) {
            tk_buf_printf(b, "... (%zu bytes)", n);
            return;
        }
        utf8proc_int32_t c;
        utf8proc_ssize_t k =
            utf8proc_iterate((const uint8_t *)s + i, (utf8proc_ssize_t)TK_MIN(n - i, (size_t)4), &c);
        if (k <= 0)
            tk_buf_puts(b, "\xEF\xBF\xBD");
        else if (c == '\n')
            tk_buf_puts(b, "\\n");
        else if (c < ' ' || (c >= 0x7f && c < 0xa0))
            tk_buf_printf(b, "\\x%02x", (unsigned)c);
        else
            tk_buf_put(b, s + i, (size_t)k);
        i += k > 0 ? (size_t)k : 1;
    }
}

tk_status tk__meta_add(tk_modelfile *f, const char *key, const char *value, size_t n) {
    if (f->n_meta == f->cap_meta) {
        int cap = TK_MAX(32, f->cap_meta * 2);
        tk_meta *fresh = tk_arena_array(&f->arena, (size_t)cap, sizeof *fresh);
        if (!fresh) return TK_E_NOMEM;
        if (f->n_meta) memcpy(fresh, f->meta, (size_t)f->n_meta * sizeof *fresh);
        f->meta = fresh, f->cap_meta = cap;
    }
    tk_buf b = { 0 }, v = { 0 };
    make_printable(&b, key, strlen(key));
    tk_buf_put(&b, "", 1);
    make_printable(&v, value, n);
    size_t start = b.len;
    tk_buf_put(&b, v.data ? v.data : "", v.len);
    bool ok = !b.failed && !v.failed;
    char *copy = ok ? tk_arena_strndup(&f->arena, b.data, b.len) : NULL;
    if (copy) f->meta[f->n_meta++] = (tk_meta){ copy, copy + start };
    tk_buf_free(&b), tk_buf_free(&v);
    return copy ? TK_OK : ok ? TK_E_NOMEM : TK_FAIL(TK_E_NOMEM, "out of memory");
}

const tk_meta *tk_modelfile_meta(const tk_modelfile *f, int *n) {
    *n = f->n_meta;
    return f->meta;
}
const tk_tensor *tk_modelfile_tensors(const tk_modelfile *f, int *n) {
    *n = f->n_tensors;
    return f->tensor;
}

/* ---- opening ---- */

/* Formats that are told by their first bytes but not read; the message says what to do instead. */
static const struct {
    const char *magic;
    size_t n;
    const char *what, *advice;
} strangers[] = {
    { "PK\3\4", 4, "a PyTorch checkpoint (ZIP of pickles)",
      "use the model's safetensors or GGUF files: pickles can run code" },
    { "\x80\2", 2, "a Python pickle", "use the model's safetensors or GGUF files: pickles can run code" },
    { "FUGG", 4, "a big-endian GGUF file", "convert it to little-endian" },
    { "lmgg", 4, "a GGML file from before GGUF", "get a GGUF version of the model" },
    { "fmgg", 4, "a GGML file from before GGUF", "get a GGUF version of the model" },
    { "tjgg", 4, "a GGJT file from before GGUF", "get a GGUF version of the model" },
    { "\x1f\x8b", 2, "gzip-compressed", "unpack it first" },
    { "\x7f"
      "ELF",
      4, "a program", "give a model file" },
};

static bool looks_like_safetensors(const tk_map *m) {
    return m->size > 9 && tk_le64(m->data) < m->size && m->data[8] == '{';
}

tk_status tk__tolerate(tk_modelfile *f, tk_status s) {
    if (s == TK_OK || !f->inspect || s == TK_E_NOMEM) return s;
    if (f->problem != TK_OK) return TK_OK;
    f->problem = s;
    f->problem_text = tk_arena_strndup(&f->arena, tk_error(), strlen(tk_error()));
    return f->problem_text ? TK_OK : TK_E_NOMEM;
}

tk_status tk_modelfile_problem(const tk_modelfile *f, const char **text) {
    *text = f->problem_text;
    return f->problem;
}

/* A safetensors file without its folder: something to look at, no model. */
static tk_status open_part(tk_modelfile *f) {
    TK_TRY(tk__tolerate(
        f, TK_FAIL(TK_E_USAGE,
                   "%s is one part of a model\nconfig.json and the tokenizer lie beside it\ngive the folder",
                   f->path)));
    f->source = TK__PART, f->format = "safetensors, one file";
    TK_TRY(tk__safetensors_read(f, &f->map[0]));
    return tk__tensors_index(f);
}

static tk_status open_file(tk_modelfile *f, const char *path) {
    f->map = tk_arena_alloc(&f->arena, sizeof *f->map);
    if (!f->map) return TK_E_NOMEM;
    TK_TRY(tk_map_open(&f->map[0], path));
    f->n_maps = 1;
    const tk_map *m = &f->map[0];
    if (m->size == 0)
        return TK_FAIL(TK_E_FORMAT, "%s is empty\na download that stopped leaves such files\nfetch it again",
                       path);
    if (m->size >= 4 && !memcmp(m->data, "GGUF", 4)) {
        f->source = TK__GGUF;
        return tk__gguf_open(f);
    }
    for (size_t i = 0; i < TK_COUNT(strangers); i++)
        if (m->size >= strangers[i].n && !memcmp(m->data, strangers[i].magic, strangers[i].n))
            return TK_FAIL(TK_E_UNSUPPORTED, "%s cannot be read\nit is %s\n%s", path, strangers[i].what,
                           strangers[i].advice);
    if (looks_like_safetensors(m)) return open_part(f);
    if (f->vocab_only) { /* a tokenizer file; text/ tells its kinds apart */
        f->source = TK__VOCAB_FILE, f->format = "tokenizer";
        if (!f->tokenizer_path) f->tokenizer_path = f->path;
        return TK_OK;
    }
    if (m->data[0] == '{')
        return TK_FAIL(TK_E_USAGE, "%s is a JSON file, not a model\ngive the model's folder or its GGUF file",
                       path);
    if (m->size >= 4 && tk_le32(m->data) == 20240326) {
        f->source = TK__LLMC;
        return tk__llmc_open(f);
    }
    f->source = TK__LLAMA2C;
    return tk__llama2c_open(f);
}

static tk_status open_model(tk_modelfile *f, const char *path, const tk_modelfile_options *o) {
    f->path = tk_arena_strndup(&f->arena, path, strlen(path));
    if (!f->path) return TK_E_NOMEM;
    f->format = "";
    f->vocab_only = o && o->vocab_only, f->inspect = o && o->inspect;
    if (o && o->tokenizer) {
        f->tokenizer_path = tk_arena_strndup(&f->arena, o->tokenizer, strlen(o->tokenizer));
        if (!f->tokenizer_path) return TK_E_NOMEM;
    }
    if (tk_file_is_dir(path)) {
        f->source = TK__HF, f->format = "safetensors";
        TK_TRY(f->vocab_only ? tk__hf_vocab(f) : tk__hf_open(f));
    } else {
        TK_TRY(open_file(f, path));
    }
    if (f->vocab_only) return TK_OK;
    f->has_config = f->problem == TK_OK;
    return f->has_config ? tk__tolerate(f, tk__weights_bind(f)) : TK_OK;
}

tk_status tk_modelfile_open(tk_modelfile **out, const char *path, const tk_modelfile_options *options) {
    *out = NULL;
    tk_modelfile *f = calloc(1, sizeof *f);
    if (!f) return TK_FAIL(TK_E_NOMEM, "out of memory");
    tk_status s = open_model(f, path, options);
    if (s == TK_OK)
        *out = f;
    else
        tk_modelfile_free(f);
    return s;
}

void tk_modelfile_free(tk_modelfile *f) {
    if (!f) return;
    tk_tokenizer_free(f->tokenizer);
    for (int i = 0; i < f->n_maps; i++) tk_map_close(&f->map[i]);
    tk_arena_free(&f->arena);
    free(f);
}

const tk_config *tk_modelfile_config(const tk_modelfile *f) { return f->has_config ? &f->config : NULL; }
const tk_gen_defaults *tk_modelfile_gen_defaults(const tk_modelfile *f) { return &f->gen; }
const char *tk_modelfile_format(const tk_modelfile *f) { return f->format; }
const char *tk_modelfile_path(const tk_modelfile *f) { return f->path; }

const char *tk_modelfile_special(const tk_modelfile *f, const char *which) {
    static const char *const names[] = { "bos_token", "eos_token", "pad_token", "unk_token" };
    for (size_t i = 0; i < TK_COUNT(names); i++)
        if (!strcmp(names[i], which)) return f->special[i];
    return NULL;
}

/* ---- tokenizer ---- */

/* The tokenizer in a file of its own, which may be another GGUF. */
static tk_status open_tokenizer_file(const char *path, tk_tokenizer **out) {
    char magic[4] = "";
    FILE *file = tk_file_is_dir(path) ? NULL : fopen(path, "rbe");
    size_t n = file ? fread(magic, 1, 4, file) : 0;
    if (file) fclose(file);
    if (n != 4 || memcmp(magic, "GGUF", 4) != 0) return tk_tokenizer_open(out, path);
    tk_modelfile *g;
    TK_TRY(tk_modelfile_open(&g, path, &(tk_modelfile_options){ .vocab_only = true }));
    tk_status s = tk__gguf_tokenizer(g, out);
    tk_modelfile_free(g);
    return s;
}

tk_status tk_modelfile_tokenizer(tk_modelfile *f, tk_tokenizer **out) {
    *out = f->tokenizer;
    if (f->tokenizer) return TK_OK;
    tk_tokenizer *t = NULL;
    char *beside = f->source == TK__LLMC ? tk__llmc_tokenizer(f) : NULL;
    if (!f->tokenizer_path && beside && tk_file_exists(beside)) f->tokenizer_path = beside;
    if (f->tokenizer_path)
        TK_TRY(open_tokenizer_file(f->tokenizer_path, &t));
    else if (f->source == TK__GGUF)
        TK_TRY(tk__gguf_tokenizer(f, &t));
    else if (f->source == TK__HF)
        TK_TRY(tk_tokenizer_open(&t, f->path));
    else
        return TK_FAIL(TK_E_NOTFOUND,
                       "%s has no tokenizer\nfiles of its kind keep it in a file of its own\n"
                       "give it with --tokenizer FILE",
                       f->path);
    for (int i = 0; i < f->config.n_eos; i++) tk_tokenizer_add_eog(t, f->config.eos[i]);
    *out = f->tokenizer = t;
    return TK_OK;
}
