/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF version 2 and 3: header, key/value pairs, tensor infos, one data area. Checked as strictly as ggml's
 * current reader (unique names, tensors contiguous and in order, every length inside the file) before
 * anything is used. */
#include <math.h>
#include <stdio.h>

#include "base/split.h"
#include "model/file.h"

/* ---- tables ---- */

static const struct {
    const char *name;
    size_t bytes;
} kv_types[TK__GGUF_TYPES] = {
    [TK__GGUF_U8] = { "u8", 1 },       [TK__GGUF_I8] = { "i8", 1 },     [TK__GGUF_U16] = { "u16", 2 },
    [TK__GGUF_I16] = { "i16", 2 },     [TK__GGUF_U32] = { "u32", 4 },   [TK__GGUF_I32] = { "i32", 4 },
    [TK__GGUF_F32] = { "f32", 4 },     [TK__GGUF_BOOL] = { "bool", 1 }, [TK__GGUF_STRING] = { "string", 0 },
    [TK__GGUF_ARRAY] = { "array", 0 }, [TK__GGUF_U64] = { "u64", 8 },   [TK__GGUF_I64] = { "i64", 8 },
    [TK__GGUF_F64] = { "f64", 8 },
};

/* ---- reading ---- */

typedef struct reader {
    const tk_modelfile *f;
    const uint8_t *p, *end;
} reader;

static tk_status truncated(const tk_modelfile *f, const char *where) {
    return TK_FAIL(TK_E_FORMAT,
                   "%s is truncated or damaged\nit ends inside %s (the file has %zu bytes)\nfetch it again",
                   f->path, where, f->map[f->n_maps - 1].size);
}

static tk_status take(reader *r, size_t n, const char *where, const uint8_t **out) {
    if ((size_t)(r->end - r->p) < n) return truncated(r->f, where);
    *out = r->p;
    r->p += n;
    return TK_OK;
}

static tk_status take32(reader *r, const char *where, uint32_t *out) {
    const uint8_t *p;
    TK_TRY(take(r, 4, where, &p));
    *out = tk_le32(p);
    return TK_OK;
}

static tk_status take64(reader *r, const char *where, uint64_t *out) {
    const uint8_t *p;
    TK_TRY(take(r, 8, where, &p));
    *out = tk_le64(p);
    return TK_OK;
}

static tk_status take_string(reader *r, const char *where, tk_str *out) {
    uint64_t n;
    const uint8_t *p;
    TK_TRY(take64(r, where, &n));
    if (n > (size_t)(r->end - r->p) || n > 1u << 30) return truncated(r->f, where);
    TK_TRY(take(r, (size_t)n, where, &p));
    *out = (tk_str){ (const char *)p, (size_t)n };
    return TK_OK;
}

/* A name: copied, not empty, no NUL inside. */
static tk_status take_name(reader *r, tk_modelfile *f, const char *where, size_t limit, const char **out) {
    tk_str s;
    TK_TRY(take_string(r, where, &s));
    if (!s.n || s.n > limit || memchr(s.s, 0, s.n))
        return TK_FAIL(TK_E_FORMAT,
                       "%s: bad name in %s\nnames have 1 to %zu bytes and no NUL; this one has %zu", f->path,
                       where, limit, s.n);
    *out = tk_arena_strndup(&f->arena, s.s, s.n);
    return *out ? TK_OK : TK_E_NOMEM;
}

static const char *kv_key(const void *ctx, size_t i) { return ((const tk_modelfile *)ctx)->kv[i].key; }

static const tk__gguf_kv *find_kv(const tk_modelfile *f, const char *key) {
    int64_t i = tk__names_find(&f->kv_names, key, kv_key, f);
    return i < 0 ? NULL : &f->kv[i];
}

static tk_status read_value(reader *r, tk__gguf_kv *kv) {
    char where[128];
    snprintf(where, sizeof where, "the value of %.80s", kv->key);
    uint32_t type;
    TK_TRY(take32(r, where, &type));
    kv->count = 1;
    if (type == TK__GGUF_ARRAY) {
        TK_TRY(take32(r, where, &type));
        TK_TRY(take64(r, where, &kv->count));
        kv->array = true;
        if (type == TK__GGUF_ARRAY)
            return TK_FAIL(TK_E_UNSUPPORTED, "%s: %.80s is an array of arrays\nno known key is", r->f->path,
                           kv->key);
        if (kv->count > 1u << 30) return truncated(r->f, where);
    }
    if (type >= TK__GGUF_TYPES)
        return TK_FAIL(
            TK_E_FORMAT,
            "%s: %.80s has the unknown value type %u\nthe file is damaged, or newer than this build",
            r->f->path, kv->key, type);
    kv->type = (int)type;
    kv->data = r->p;
    if (type == TK__GGUF_STRING) {
        tk_str s;
        for (uint64_t i = 0; i < kv->count; i++) TK_TRY(take_string(r, where, &s));
        return TK_OK;
    }
    size_t bytes;
    if (!tk_mul((size_t)kv->count, kv_types[type].bytes, &bytes)) return truncated(r->f, where);
    const uint8_t *p;
    return take(r, bytes, where, &p);
}

static tk_status read_kvs(reader *r, tk_modelfile *f, uint64_t n) {
    enum { SMALLEST = 8 + 1 + 4 + 1 };
    if (n > (size_t)(r->end - r->p) / SMALLEST) return truncated(f, "its metadata (the count does not fit)");
    f->kv = tk_arena_array(&f->arena, (size_t)n, sizeof *f->kv);
    if (!f->kv) return TK_E_NOMEM;
    TK_TRY(tk__names_init(&f->kv_names, &f->arena, (size_t)n));
    for (uint64_t i = 0; i < n; i++) {
        tk__gguf_kv *kv = &f->kv[i];
        TK_TRY(take_name(r, f, "the metadata keys", 65535, &kv->key));
        if (find_kv(f, kv->key))
            return TK_FAIL(TK_E_FORMAT, "%s: key %.80s is there twice", f->path, kv->key);
        TK_TRY(read_value(r, kv));
        f->n_kv++;
        tk__names_add(&f->kv_names, kv->key);
    }
    return TK_OK;
}

static tk_status read_tensor(reader *r, tk_modelfile *f, uint64_t *offset, tk_tensor *t) {
    uint32_t n_dims, type;
    TK_TRY(take_name(r, f, "the tensor names", 64, &t->name));
    TK_TRY(take32(r, "a tensor's shape", &n_dims));
    if (n_dims > 4)
        return TK_FAIL(TK_E_FORMAT, "%s: tensor %s has %u dimensions\nthe format allows 4", f->path, t->name,
                       n_dims);
    t->ndim = (int)n_dims;
    for (int i = 0; i < 4; i++) t->dim[i] = 1;
    size_t elements = 1;
    for (int i = t->ndim - 1; i >= 0; i--) { /* the file has the fastest first */
        uint64_t d;
        TK_TRY(take64(r, "a tensor's shape", &d));
        if (d > INT64_MAX || !tk_mul(elements, (size_t)d, &elements) || elements > INT64_MAX)
            return TK_FAIL(TK_E_FORMAT, "%s: the shape of tensor %s overflows", f->path, t->name);
        t->dim[i] = (int64_t)d;
    }
    TK_TRY(take32(r, "a tensor's type", &type));
    TK_TRY(take64(r, "a tensor's offset", offset));
    const tk__ggml_type *g = tk__ggml_type_find(type);
    if (!g || !g->block)
        return TK_FAIL(
            TK_E_UNSUPPORTED,
            "%s: tensor %s has the type %s (type number %u)\nretired, of another program, or newer "
            "than this build\nget the model in another type (Q8_0, Q4_K, BF16, ...)",
            f->path, t->name, g ? g->name : "?", type);
    t->type = g->name, t->dtype = g->dtype;
    int64_t fastest = t->ndim ? t->dim[t->ndim - 1] : 1;
    if (fastest % g->block || !tk_mul(elements / (size_t)g->block, (size_t)g->bytes, &t->bytes))
        return TK_FAIL(TK_E_FORMAT,
                       "%s: tensor %s cannot be of type %s\nrows of %lld do not divide into blocks of %d",
                       f->path, t->name, t->type, (long long)fastest, g->block);
    return TK_OK;
}

/* The tensors of the file mapped last, appended to those of the parts before it */
static tk_status read_tensors(reader *r, tk_modelfile *f, uint64_t n, size_t alignment) {
    enum { SMALLEST = 8 + 1 + 4 + 4 + 8 };
    if (n > (size_t)(r->end - r->p) / SMALLEST)
        return truncated(f, "its list of tensors (the count does not fit)");
    TK_TRY(tk__tensors_reserve(f, (size_t)n));
    const size_t first = (size_t)f->n_tensors;
    size_t next = 0;
    for (uint64_t i = 0; i < n; i++) {
        tk_tensor *t = &f->tensor[first + i];
        uint64_t offset;
        TK_TRY(read_tensor(r, f, &offset, t));
        if (offset != next)
            return TK_FAIL(TK_E_FORMAT,
                           "%s: tensor %s starts at %llu of the data\nthe one before it ends at %zu: a hole "
                           "or an overlap",
                           f->path, t->name, (unsigned long long)offset, next);
        if (!tk_add(next, t->bytes, &next) || next > SIZE_MAX - alignment)
            return TK_FAIL(TK_E_FORMAT, "%s: the size of tensor %s overflows", f->path, t->name);
        next = tk_align(next, alignment);
        f->n_tensors++;
    }
    const tk_map *m = &f->map[f->n_maps - 1];
    size_t start = tk_align((size_t)(r->p - m->data), alignment);
    for (size_t i = 0, at = 0, room = m->size > start ? m->size - start : 0; i < n; i++) {
        tk_tensor *t = &f->tensor[first + i];
        if (at > room || t->bytes > room - at)
            return TK_FAIL(TK_E_FORMAT,
                           "%s is truncated\ntensor %s ends at byte %zu, the file has %zu\nfetch it again",
                           f->path, t->name, start + at + t->bytes, m->size);
        t->data = m->data + start + at, t->map = m;
        at = tk_align(at + t->bytes, alignment);
    }
    return TK_OK;
}

/* ---- values by key ---- */

static tk__value value_of(const tk__gguf_kv *kv) {
    tk__value v = { TK__OTHER };
    if (!kv) return (tk__value){ TK__NONE };
    if (kv->array) return v;
    const uint8_t *p = kv->data;
    uint64_t u64 = 0;
    double f64;
    v.kind = TK__INT;
    switch (kv->type) {
    case TK__GGUF_U8: v.i = *p; break;
    case TK__GGUF_I8: v.i = (int64_t)(int8_t)*p; break;
    case TK__GGUF_U16: v.i = tk_le16(p); break;
    case TK__GGUF_I16: v.i = (int16_t)tk_le16(p); break;
    case TK__GGUF_U32: v.i = tk_le32(p); break;
    case TK__GGUF_I32: v.i = (int32_t)tk_le32(p); break;
    case TK__GGUF_U64:
        u64 = tk_le64(p);
        v.i = u64 > INT64_MAX ? INT64_MAX : (int64_t)u64; /* out of every key's range either way */
        break;
    case TK__GGUF_I64: v.i = (int64_t)tk_le64(p); break;
    case TK__GGUF_BOOL: v.kind = TK__BOOL, v.i = *p != 0; break;
    case TK__GGUF_F32: v.kind = TK__REAL, v.r = (double)tk_bits_f32(tk_le32(p)); break;
    case TK__GGUF_F64: v.kind = TK__REAL, memcpy(&f64, p, 8), v.r = f64; break;
    default: v.kind = TK__OTHER;
    }
    if (v.kind == TK__INT) v.r = (double)v.i;
    return v;
}

/* A string value, copied; NULL if the key is absent or no string. A NUL inside would cut it silently:
 * refused. */
static tk_status text_of(tk_modelfile *f, const char *key, const char **out) {
    const tk__gguf_kv *kv = find_kv(f, key);
    *out = NULL;
    if (!kv) return TK_OK;
    if (kv->array || kv->type != TK__GGUF_STRING)
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be a string\nit is of type %s%s", f->path, key,
                       kv_types[kv->type].name, kv->array ? "[]" : "");
    size_t n = (size_t)tk_le64(kv->data);
    if (memchr(kv->data + 8, 0, n)) return TK_FAIL(TK_E_FORMAT, "%s: %s has a NUL byte inside", f->path, key);
    *out = tk_arena_strndup(&f->arena, (const char *)kv->data + 8, n);
    return *out ? TK_OK : TK_E_NOMEM;
}

/* The .get of tk__keys: keys behind the family's own prefix. Strings are short ones only (types, names). */
typedef struct family_keys {
    tk_modelfile *f;
    const char *prefix;
} family_keys;

static tk__value family_get(const void *ctx, const char *key) {
    const family_keys *k = ctx;
    char full[256];
    snprintf(full, sizeof full, "%s.%s", k->prefix, key);
    const tk__gguf_kv *kv = find_kv(k->f, full);
    tk__value v = value_of(kv);
    const char *s = NULL;
    if (kv && !kv->array && kv->type == TK__GGUF_STRING && text_of(k->f, full, &s) == TK_OK)
        v = (tk__value){ TK__TEXT, .s = s };
    return v;
}

static tk__value family_item(const void *ctx, const char *key, size_t i) {
    const family_keys *k = ctx;
    char full[256];
    snprintf(full, sizeof full, "%s.%s", k->prefix, key);
    const tk__gguf_kv *kv = find_kv(k->f, full);
    if (!kv || !kv->array || kv->type == TK__GGUF_STRING || i >= kv->count) return (tk__value){ TK__NONE };
    tk__gguf_kv one = *kv;
    one.array = false, one.data = kv->data + i * kv_types[kv->type].bytes;
    return value_of(&one);
}

/* ---- metadata, texts, ids ---- */

/* tokenizer.chat_template, and tokenizer.chat_template.NAME beside it */
static tk_status read_templates(tk_modelfile *f) {
    static const char prefix[] = "tokenizer.chat_template";
    for (size_t i = 0; i < f->n_kv; i++) {
        const char *name = f->kv[i].key + sizeof prefix - 1, *text;
        if (strncmp(f->kv[i].key, prefix, sizeof prefix - 1) != 0 || (*name && *name != '.')) continue;
        TK_TRY(text_of(f, f->kv[i].key, &text));
        TK_TRY(tk__template_add(f, *name ? name + 1 : "default", text, strlen(text)));
    }
    return TK_OK;
}

static void scalar_text(char out[64], const tk__gguf_kv *kv, uint64_t i) {
    tk__gguf_kv one = *kv;
    one.array = false, one.data = kv->data + (size_t)i * kv_types[kv->type].bytes;
    tk__value v = value_of(&one);
    if (v.kind == TK__BOOL)
        snprintf(out, 64, "%s", v.i ? "true" : "false");
    else if (v.kind == TK__INT)
        snprintf(out, 64, "%lld", (long long)v.i);
    else
        snprintf(out, 64, "%g", v.r);
}

static tk_status list_metadata(tk_modelfile *f) {
    for (size_t i = 0; i < f->n_kv; i++) {
        const tk__gguf_kv *kv = &f->kv[i];
        char text[256];
        if (!kv->array && kv->type == TK__GGUF_STRING) {
            TK_TRY(tk__meta_add(f, kv->key, (const char *)kv->data + 8, (size_t)tk_le64(kv->data)));
            continue;
        }
        if (!kv->array) {
            scalar_text(text, kv, 0);
        } else if (kv->type != TK__GGUF_STRING && kv->count <= 8) {
            size_t n = (size_t)snprintf(text, sizeof text, "[");
            for (uint64_t j = 0; j < kv->count; j++) {
                char item[64];
                scalar_text(item, kv, j);
                n += (size_t)snprintf(text + n, n < sizeof text ? sizeof text - n : 0, "%s%.24s",
                                      j ? ", " : "", item);
            }
            snprintf(text + n, n < sizeof text ? sizeof text - n : 0, "]");
        } else {
            snprintf(text, sizeof text, "[%llu values of type %s]", (unsigned long long)kv->count,
                     kv_types[kv->type].name);
        }
        TK_TRY(tk__meta_add(f, kv->key, text, strlen(text)));
    }
    return TK_OK;
}

/* A token id; -1 if the key is absent. */
static tk_status id_of(const tk_modelfile *f, const char *key, int32_t *out) {
    tk__value v = value_of(find_kv(f, key));
    *out = -1;
    if (v.kind == TK__NONE) return TK_OK;
    if (v.kind != TK__INT) return TK_FAIL(TK_E_FORMAT, "%s: %s must be an integer", f->path, key);
    if (v.i == UINT32_MAX || v.i == -1) return TK_OK; /* converters write -1 for "none" */
    if (v.i < 0 || v.i > INT32_MAX)
        return TK_FAIL(TK_E_FORMAT, "%s: %s = %lld is no token id", f->path, key, (long long)v.i);
    *out = (int32_t)v.i;
    return TK_OK;
}

static const tk__gguf_kv *find_array(const tk_modelfile *f, const char *key, int type) {
    const tk__gguf_kv *kv = find_kv(f, key);
    return kv && kv->array && kv->type == type ? kv : NULL;
}

static tk_status read_ids(tk_modelfile *f) {
    static const char *const special_keys[4] = { "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                                 "tokenizer.ggml.padding_token_id",
                                                 "tokenizer.ggml.unknown_token_id" };
    static const char *const eos_keys[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                            "tokenizer.ggml.eom_token_id" };
    const tk__gguf_kv *tokens = find_array(f, "tokenizer.ggml.tokens", TK__GGUF_STRING);
    for (int i = 0; i < 4; i++) {
        int32_t id;
        TK_TRY(id_of(f, special_keys[i], &id));
        if (i == 0) f->config.bos = id;
        if (i == 2) f->config.pad = id;
        if (id < 0 || !tokens || (uint64_t)id >= tokens->count) continue;
        const uint8_t *p = tokens->data;
        for (int32_t j = 0; j < id; j++) p += 8 + (size_t)tk_le64(p);
        f->special[i] = tk_arena_strndup(&f->arena, (const char *)p + 8, (size_t)tk_le64(p));
        if (!f->special[i]) return TK_E_NOMEM;
    }
    int32_t *eos = tk_arena_array(&f->arena, TK_COUNT(eos_keys), sizeof *eos);
    if (!eos) return TK_E_NOMEM;
    for (size_t i = 0; i < TK_COUNT(eos_keys); i++) {
        TK_TRY(id_of(f, eos_keys[i], &eos[f->config.n_eos]));
        if (eos[f->config.n_eos] >= 0) f->config.n_eos++;
    }
    f->config.eos = eos;
    return TK_OK;
}

static tk_status read_sampling(tk_modelfile *f) {
    tk__keys k = { f->path, true, family_get, &(family_keys){ f, "general.sampling" }, family_item, NULL };
    tk_gen_defaults *g = &f->gen;
    float top_k = -1;
    g->temperature = g->top_p = g->repetition_penalty = -1;
    TK_TRY(tk__key_real(&k, "temp", 0, 100, &g->temperature));
    TK_TRY(tk__key_real(&k, "top_p", 0, 1, &g->top_p));
    TK_TRY(tk__key_real(&k, "penalty_repeat", 0, 100, &g->repetition_penalty));
    TK_TRY(tk__key_real(&k, "top_k", 0, 1 << 26, &top_k));
    g->has_temperature = g->temperature >= 0, g->has_top_p = g->top_p >= 0;
    g->has_repetition_penalty = g->repetition_penalty >= 0, g->has_top_k = top_k >= 0;
    g->top_k = (int)top_k;
    return TK_OK;
}

/* ---- config ---- */

/* One positive number a rotated pair from a tensor -> *out; untouched if there is no such tensor. */
static tk_status read_divisors(tk_modelfile *f, const char *name, const float **out) {
    const tk_tensor *t = tk__tensor_find(f, name);
    const int pairs = f->config.rope.dims / 2;
    if (!t) return TK_OK;
    if (t->dtype != TK_F32 || t->ndim != 1 || t->dim[0] != pairs)
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be %d F32 values\nit is %lld of type %s", f->path, name,
                       pairs, (long long)t->dim[0], t->type);
    float *d = tk_arena_array(&f->arena, (size_t)t->dim[0], sizeof *d);
    if (!d) return TK_E_NOMEM;
    memcpy(d, t->data, t->bytes);
    for (int i = 0; i < pairs; i++)
        if (!(isfinite(d[i]) && d[i] > 0))
            return TK_FAIL(TK_E_FORMAT, "%s: %s holds %g\nfrequencies are divided by it", f->path, name,
                           (double)d[i]);
    *out = d;
    return TK_OK;
}

/* llama3's scaling is a tensor of divisors, longrope two of them. */
static tk_status read_rope_tensors(tk_modelfile *f) {
    tk_rope *r = &f->config.rope;
    TK_TRY(read_divisors(f, "rope_freqs.weight", &r->divisors));
    TK_TRY(read_divisors(f, "rope_factors_short.weight", &r->divisors));
    TK_TRY(read_divisors(f, "rope_factors_long.weight", &r->long_divisors));
    if (r->scaling == TK_ROPE_LONGROPE && !(r->divisors && r->long_divisors))
        return TK_FAIL(TK_E_FORMAT,
                       "%s: rope scaling longrope without its factors\nrope_factors_short.weight or "
                       "rope_factors_long.weight is missing",
                       f->path);
    if (!r->long_divisors) return TK_OK;
    r->scaling = TK_ROPE_LONGROPE;
    if (r->attention_factor == 0) r->attention_factor = 1;
    if (r->original_ctx == 0) r->original_ctx = f->config.n_ctx;
    return TK_OK;
}

static tk_status read_config(tk_modelfile *f) {
    tk_config *c = &f->config;
    const char *arch, *name;
    TK_TRY(text_of(f, "general.architecture", &arch));
    if (!arch)
        return TK_FAIL(TK_E_FORMAT, "%s: general.architecture is missing\nthe file does not say what it is",
                       f->path);
    const tk_arch a = tk__arch_find(arch, true);
    if (a == TK_ARCHS)
        return TK_FAIL(TK_E_UNSUPPORTED, "%s: unknown architecture \"%.60s\"\nthis build knows:%s", f->path,
                       arch, tk__families);
    if (f->n_tensors == 0)
        return TK_FAIL(
            TK_E_FORMAT,
            "%s holds no weights\nit is a vocabulary only: good for `tokamak tokenize`, not for running",
            f->path);
    TK_TRY(text_of(f, "general.name", &name));
    *c = (tk_config){ .arch = a };
    c->name = name ? name : strrchr(f->path, '/') ? strrchr(f->path, '/') + 1 : f->path;
    tk__keys k = { f->path, true, family_get, &(family_keys){ f, arch }, family_item, &f->arena };
    TK_TRY(tk__config_read(c, &k));
    if (!c->learned_pos && c->alibi == 0) TK_TRY(tk__config_rope_gguf(c, &k));
    const tk_tensor *embed = tk__tensor_find(f, "token_embd.weight");
    if (!c->n_vocab && embed && embed->ndim == 2 && embed->dim[0] <= 1 << 26) c->n_vocab = (int)embed->dim[0];
    return read_rope_tensors(f);
}

/* ---- one file, or all parts of a split one ---- */

/* Header and metadata of the file mapped last; r is left at its list of n_tensors tensors. */
static tk_status read_header(tk_modelfile *f, reader *r, uint64_t *n_tensors, size_t *alignment) {
    const tk_map *m = &f->map[f->n_maps - 1];
    uint32_t version;
    uint64_t n_kv;
    if (m->size < 4 || memcmp(m->data, "GGUF", 4) != 0) /* of the first one the caller has looked */
        return TK_FAIL(TK_E_FORMAT, "%s is no GGUF file\nits first bytes are others\nfetch it again",
                       f->path);
    *r = (reader){ f, m->data + 4, m->data + m->size };
    TK_TRY(take32(r, "its header", &version));
    if (version != 0 && (version & 0xffff) == 0)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s cannot be read\nit is a big-endian GGUF file\nconvert it to little-endian",
                       f->path);
    if (version != 2 && version != 3)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: GGUF version %u is not supported\nthis build reads versions 2 and 3", f->path,
                       version);
    f->format = version == 3 ? "GGUF v3" : "GGUF v2";
    TK_TRY(take64(r, "its header", n_tensors));
    TK_TRY(take64(r, "its header", &n_kv));
    f->kv = NULL, f->n_kv = 0;
    TK_TRY(read_kvs(r, f, n_kv));
    *alignment = 32;
    const tk__gguf_kv *kv = find_kv(f, "general.alignment");
    if (!kv) return TK_OK;
    if (kv->array || kv->type != TK__GGUF_U32)
        return TK_FAIL(TK_E_FORMAT, "%s: general.alignment must be a u32", f->path);
    *alignment = tk_le32(kv->data);
    if (!*alignment || *alignment & (*alignment - 1) || *alignment > 1 << 20)
        return TK_FAIL(TK_E_FORMAT, "%s: general.alignment = %zu\nit must be a power of two, at most 1048576",
                       f->path, *alignment);
    return TK_OK;
}

/* What the metadata read last say about parts; count is 1 when they say nothing. */
typedef struct split {
    int no, count, tensors; /* no: from 0 */
} split;

static tk_status read_split(const tk_modelfile *f, split *s) {
    static const struct {
        const char *key;
        int64_t least, most, absent;
    } keys[] = {
        { "split.count", 0, TK_SPLIT_MOST, 1 },
        { "split.no", 0, TK_SPLIT_MOST - 1, 0 },
        { "split.tensors.count", 0, INT32_MAX, -1 },
    };
    int64_t got[3];
    for (int i = 0; i < 3; i++) {
        const tk__value v = value_of(find_kv(f, keys[i].key));
        got[i] = v.kind == TK__NONE ? keys[i].absent : v.i;
        if (v.kind != TK__NONE && (v.kind != TK__INT || v.i < keys[i].least || v.i > keys[i].most))
            return TK_FAIL(TK_E_FORMAT, "%s: %s must be an integer from %lld to %lld", f->path, keys[i].key,
                           (long long)keys[i].least, (long long)keys[i].most);
    }
    *s = (split){ (int)got[1], (int)TK_MAX(got[0], 1), (int)got[2] };
    if (s->no >= s->count)
        return TK_FAIL(TK_E_FORMAT, "%s: it says to be part %d of %d", f->path, s->no + 1, s->count);
    if (s->count > 1 && s->tensors < 0)
        return TK_FAIL(TK_E_FORMAT,
                       "%s is one of %d parts\nsplit.tensors.count is missing: parts could be, too", f->path,
                       s->count);
    return TK_OK;
}

/* Maps part `no`, which lies beside the file that was asked for, as the next map; f->path is its path from
 * here on. */
static tk_status map_part(tk_modelfile *f, const char *asked, const split *s, int no) {
    tk_split_name name;
    char tail[TK_SPLIT_TAIL + 1];
    if (!tk_split_parse(asked, &name) || name.parts != s->count)
        return TK_FAIL(
            TK_E_FORMAT,
            "%s is one of %d parts\nits name does not end in -NNNNN-of-%05d.gguf, by which the others "
            "would be found\ngive the parts the names that they had",
            asked, s->count, s->count);
    tk_split_tail(tail, &name, no + 1);
    f->path = tk_arena_printf(&f->arena, "%.*s%s", (int)name.stem, asked, tail);
    if (!f->path) return TK_E_NOMEM;
    if (!tk_file_exists(f->path))
        return TK_FAIL(
            TK_E_NOTFOUND,
            "%s is missing\nthe model is split into %d parts, and this is part %d\nput all parts into "
            "one folder, or pull the model again",
            f->path, s->count, no + 1);
    TK_TRY(tk_map_open(&f->map[f->n_maps], f->path));
    f->n_maps++;
    return TK_OK;
}

/* All tensors. The metadata are those of the first part, whichever was asked for. */
static tk_status read_parts(tk_modelfile *f) {
    const char *asked = f->path;
    reader r;
    uint64_t n;
    size_t alignment;
    split all, one;
    TK_TRY(read_header(f, &r, &n, &alignment));
    TK_TRY(read_split(f, &all));
    if (all.count == 1) return read_tensors(&r, f, n, alignment);
    tk_map *maps = tk_arena_array(&f->arena, (size_t)all.count, sizeof *maps);
    if (!maps) return TK_E_NOMEM;
    maps[0] = f->map[0], f->map = maps;
    if (all.no != 0) {
        tk_map_close(&f->map[0]);
        f->n_maps = 0;
        TK_TRY(map_part(f, asked, &all, 0));
        TK_TRY(read_header(f, &r, &n, &alignment));
    }
    const char *path = f->path;
    tk__gguf_kv *kv = f->kv;
    const size_t n_kv = f->n_kv;
    const tk__names names = f->kv_names;
    for (int no = 0; no < all.count; no++) {
        if (no > 0) {
            if (f->vocab_only) break; /* the vocabulary is in the first */
            TK_TRY(map_part(f, asked, &all, no));
            TK_TRY(read_header(f, &r, &n, &alignment));
        }
        TK_TRY(read_split(f, &one));
        if (one.no != no || one.count != all.count || one.tensors != all.tensors)
            return TK_FAIL(
                TK_E_FORMAT,
                "%s is not part %d of %d with %d tensors\nit says to be part %d of %d with %d: parts of "
                "two models, or renamed\nfetch the model again",
                f->path, no + 1, all.count, all.tensors, one.no + 1, one.count, one.tensors);
        TK_TRY(read_tensors(&r, f, n, alignment));
    }
    f->path = path, f->kv = kv, f->n_kv = n_kv, f->kv_names = names;
    if (!f->vocab_only && f->n_tensors != all.tensors)
        return TK_FAIL(TK_E_FORMAT,
                       "%s and its other parts hold %d tensors\nsplit.tensors.count says %d\nfetch "
                       "the model again",
                       f->path, f->n_tensors, all.tensors);
    f->format = tk_arena_printf(&f->arena, "%s in %d parts", f->format, all.count);
    return f->format ? TK_OK : TK_E_NOMEM;
}

tk_status tk__gguf_open(tk_modelfile *f) {
    TK_TRY(read_parts(f));
    TK_TRY(tk__tensors_index(f));
    TK_TRY(list_metadata(f));
    if (!f->vocab_only) TK_TRY(tk__tolerate(f, read_config(f)));
    TK_TRY(read_ids(f));
    TK_TRY(read_sampling(f));
    return read_templates(f);
}

/* ---- tokenizer ---- */

/* The strings of an array, spans into the map. */
static tk_status strings_of(tk_modelfile *f, const char *key, tk_arena *a, const tk_str **out, size_t *n) {
    const tk__gguf_kv *kv = find_kv(f, key);
    *out = NULL, *n = 0;
    if (!kv) return TK_OK;
    if (!kv->array || kv->type != TK__GGUF_STRING)
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be an array of strings", f->path, key);
    tk_str *s = tk_arena_array(a, (size_t)kv->count, sizeof *s);
    if (!s) return TK_E_NOMEM;
    const uint8_t *p = kv->data;
    for (size_t i = 0; i < kv->count; i++) {
        s[i] = (tk_str){ (const char *)p + 8, (size_t)tk_le64(p) };
        p += 8 + s[i].n;
    }
    *out = s, *n = (size_t)kv->count;
    return TK_OK;
}

/* An array of n 4-byte values of `type`, copied for alignment. */
static tk_status words_of(tk_modelfile *f, const char *key, int type, size_t n, tk_arena *a,
                          const void **out) {
    const tk__gguf_kv *kv = find_kv(f, key);
    *out = NULL;
    if (!kv) return TK_OK;
    if (!kv->array || kv->type != type || kv->count != n)
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be an array of %zu values of type %s", f->path, key, n,
                       kv_types[type].name);
    void *copy = tk_arena_array(a, n, 4);
    if (!copy) return TK_E_NOMEM;
    memcpy(copy, kv->data, n * 4);
    *out = copy;
    return TK_OK;
}

static tk_status flag_of(const tk_modelfile *f, const char *key, int8_t *out) {
    tk__value v = value_of(find_kv(f, key));
    if (v.kind == TK__NONE) return TK_OK;
    if (v.kind != TK__BOOL) return TK_FAIL(TK_E_FORMAT, "%s: %s must be true or false", f->path, key);
    *out = (int8_t)v.i;
    return TK_OK;
}

static tk_status fill_vocab(tk_modelfile *f, tk_arena *a, tk_vocab *v) {
    const void *scores, *types;
    TK_TRY(text_of(f, "tokenizer.ggml.model", &v->model));
    TK_TRY(text_of(f, "tokenizer.ggml.pre", &v->pre));
    TK_TRY(strings_of(f, "tokenizer.ggml.tokens", a, &v->tokens, &v->n_tokens));
    if (!v->model || !v->tokens)
        return TK_FAIL(TK_E_NOTFOUND,
                       "%s has no tokenizer\ntokenizer.ggml.model or its tokens are missing\ngive one with "
                       "--tokenizer FILE",
                       f->path);
    TK_TRY(strings_of(f, "tokenizer.ggml.merges", a, &v->merges, &v->n_merges));
    TK_TRY(words_of(f, "tokenizer.ggml.scores", TK__GGUF_F32, v->n_tokens, a, &scores));
    TK_TRY(words_of(f, "tokenizer.ggml.token_type", TK__GGUF_I32, v->n_tokens, a, &types));
    v->scores = scores, v->types = types;
    TK_TRY(id_of(f, "tokenizer.ggml.bos_token_id", &v->bos));
    TK_TRY(id_of(f, "tokenizer.ggml.eos_token_id", &v->eos));
    TK_TRY(id_of(f, "tokenizer.ggml.eot_token_id", &v->eot));
    TK_TRY(id_of(f, "tokenizer.ggml.unknown_token_id", &v->unk));
    TK_TRY(id_of(f, "tokenizer.ggml.padding_token_id", &v->pad));
    TK_TRY(id_of(f, "tokenizer.ggml.eom_token_id", &v->eom));
    TK_TRY(id_of(f, "tokenizer.ggml.seperator_token_id", &v->sep));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_pre_token_id", &v->fim_pre));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_suf_token_id", &v->fim_suf));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_mid_token_id", &v->fim_mid));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_pad_token_id", &v->fim_pad));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_rep_token_id", &v->fim_rep));
    TK_TRY(id_of(f, "tokenizer.ggml.fim_sep_token_id", &v->fim_sep));
    TK_TRY(flag_of(f, "tokenizer.ggml.add_bos_token", &v->add_bos));
    TK_TRY(flag_of(f, "tokenizer.ggml.add_eos_token", &v->add_eos));
    TK_TRY(flag_of(f, "tokenizer.ggml.add_sep_token", &v->add_sep));
    TK_TRY(flag_of(f, "tokenizer.ggml.remove_extra_whitespaces", &v->merge_spaces));
    TK_TRY(flag_of(f, "tokenizer.ggml.normalizer.lowercase", &v->lowercase));
    TK_TRY(flag_of(f, "tokenizer.ggml.normalizer.strip_accents", &v->strip_accents));
    TK_TRY(text_of(f, "general.name", &v->name));
    TK_TRY(text_of(f, "general.architecture", &v->arch));
    const tk__gguf_kv *map = find_kv(f, "tokenizer.ggml.precompiled_charsmap");
    if (map && (!map->array || (map->type != TK__GGUF_U8 && map->type != TK__GGUF_I8)))
        return TK_FAIL(TK_E_FORMAT, "%s: tokenizer.ggml.precompiled_charsmap must be an array of bytes",
                       f->path);
    if (map) v->charsmap = map->data, v->n_charsmap = (size_t)map->count;
    return flag_of(f, "tokenizer.ggml.add_space_prefix", &v->add_space_prefix);
}

tk_status tk__gguf_tokenizer(tk_modelfile *f, tk_tokenizer **out) {
    tk_arena a = { 0 };
    tk_vocab v = TK_VOCAB_NONE;
    tk_status s = fill_vocab(f, &a, &v);
    if (s == TK_OK) s = tk_tokenizer_from_vocab(out, &v);
    tk_arena_free(&a);
    return s;
}
