/* SPDX-License-Identifier: Apache-2.0 */
/* safetensors: a length, a JSON header, bytes. The checks are those of the reference reader: header at most
 * 100 MB and an object, no key twice, shape times type equal to the span, spans covering the byte area
 * without hole or overlap. Sharded models add an index whose file names may not leave the folder. */
#include <stdio.h>
#include <stdlib.h>

#include "model/file.h"

enum { HEADER_LIMIT = 100 * 1000 * 1000, SHARD_LIMIT = 4096 };

static const struct {
    const char *name;
    int bits;
    tk_dtype dtype;
} types[] = {
    { "F32", 32, TK_F32 },
    { "F16", 16, TK_F16 },
    { "BF16", 16, TK_BF16 },
    { "F64", 64, TK_F64 },
    { "I64", 64, TK_I64 },
    { "I32", 32, TK_I32 },
    { "U8", 8, TK_U8 },
    { "I8", 8, TK_NODTYPE },
    { "I16", 16, TK_NODTYPE },
    { "U16", 16, TK_NODTYPE },
    { "U32", 32, TK_NODTYPE },
    { "U64", 64, TK_NODTYPE },
    { "BOOL", 8, TK_NODTYPE },
    { "F8_E4M3", 8, TK_NODTYPE },
    { "F8_E5M2", 8, TK_NODTYPE },
    { "F8_E8M0", 8, TK_NODTYPE },
    { "F8_E4M3FNUZ", 8, TK_NODTYPE },
    { "F8_E5M2FNUZ", 8, TK_NODTYPE },
    { "F4", 4, TK_NODTYPE },
    { "F6_E2M3", 6, TK_NODTYPE },
    { "F6_E3M2", 6, TK_NODTYPE },
    { "C64", 64, TK_NODTYPE },
};

/* What is wrong with one entry is said with file and tensor; `why` ends the first line. */
static tk_status bad_entry(const tk_map *m, const char *name, const char *why) {
    return TK_FAIL(TK_E_FORMAT, "%s: tensor %.100s %s\nthe file is damaged: fetch it again", m->path, name,
                   why);
}

static tk_status read_entry(tk_modelfile *f, const tk_map *m, const char *name, const json_t *j,
                            size_t start) {
    tk_tensor *t = &f->tensor[f->n_tensors];
    const json_t *shape = json_object_get(j, "shape"), *span = json_object_get(j, "data_offsets");
    const char *type = json_string_value(json_object_get(j, "dtype"));
    if (!json_is_object(j) || !json_is_array(shape) || !json_is_array(span) || !type ||
        json_object_size(j) != 3)
        return bad_entry(m, name, "has no dtype, shape and data_offsets (or more than these)");
    size_t k = 0;
    while (k < TK_COUNT(types) && strcmp(types[k].name, type) != 0) k++;
    if (k == TK_COUNT(types))
        return TK_FAIL(TK_E_UNSUPPORTED, "%s: tensor %.100s has the unknown type \"%.40s\"", m->path, name,
                       type);
    if (json_array_size(shape) > 4) return bad_entry(m, name, "has more than 4 dimensions");
    *t = (tk_tensor){
        .type = types[k].name, .dtype = types[k].dtype, .ndim = (int)json_array_size(shape), .map = m
    };
    size_t elements = 1, bits;
    for (int i = 0; i < 4; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        t->dim[i] = 1;
        if (i >= t->ndim) continue;
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return bad_entry(m, name, "has a shape that is not of whole numbers");
        t->dim[i] = json_integer_value(d);
        if (!tk_mul(elements, (size_t)t->dim[i], &elements) || elements > INT64_MAX)
            return bad_entry(m, name, "has a shape that overflows");
    }
    if (!tk_mul(elements, (size_t)types[k].bits, &bits) || bits % 8)
        return bad_entry(m, name, "has a shape that overflows or does not fill bytes");
    const json_t *a = json_array_get(span, 0), *b = json_array_get(span, 1);
    if (json_array_size(span) != 2 || !json_is_integer(a) || !json_is_integer(b) ||
        json_integer_value(a) < 0 || json_integer_value(b) < json_integer_value(a))
        return bad_entry(m, name, "has data_offsets that are not [begin, end]");
    size_t from = (size_t)json_integer_value(a), to = (size_t)json_integer_value(b), room = m->size - start;
    if (to - from != bits / 8) return bad_entry(m, name, "has a span that is not shape times type");
    if (to > room)
        return TK_FAIL(TK_E_FORMAT,
                       "%s is truncated\ntensor %.100s ends at byte %zu of the data, the file has %zu of "
                       "them\nfetch it again",
                       m->path, name, to, room);
    t->name = tk_arena_strndup(&f->arena, name, strlen(name));
    if (!t->name) return TK_E_NOMEM;
    t->data = m->data + start + from, t->bytes = to - from;
    f->n_tensors++;
    return TK_OK;
}

static int by_place(const void *a, const void *b) {
    const tk_tensor *x = *(const tk_tensor *const *)a, *y = *(const tk_tensor *const *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes; /* empty ones first */
}

/* Every byte behind the header belongs to exactly one tensor: nothing can hide there. */
static tk_status check_cover(const tk_map *m, const tk_tensor *t, size_t n, size_t start) {
    const tk_tensor **order = calloc(n + 1, sizeof *order);
    if (!order) return TK_FAIL(TK_E_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) order[i] = &t[i];
    qsort(order, n, sizeof *order, by_place);
    const uint8_t *at = m->data + start, *end = m->data + m->size;
    tk_status s = TK_OK;
    for (size_t i = 0; i < n && s == TK_OK; i++) {
        if (order[i]->data < at)
            s = bad_entry(m, order[i]->name, "overlaps the one before it");
        else if (order[i]->data > at)
            s = bad_entry(m, order[i]->name, "leaves a hole before it");
        at = order[i]->data + order[i]->bytes;
    }
    if (s == TK_OK && at != end)
        s = TK_FAIL(TK_E_FORMAT,
                    "%s: %zu bytes at its end belong to no tensor\nthe file is damaged: fetch it again",
                    m->path, (size_t)(end - at));
    free(order);
    return s;
}

static tk_status read_metadata(tk_modelfile *f, const tk_map *m, const json_t *meta) {
    if (!json_is_object(meta))
        return TK_FAIL(TK_E_FORMAT, "%s: __metadata__ must be an object of strings", m->path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)meta, key, value) {
        if (!json_is_string(value))
            return TK_FAIL(TK_E_FORMAT, "%s: __metadata__ must be an object of strings\n%.100s is none",
                           m->path, key);
        char name[128];
        snprintf(name, sizeof name, "__metadata__.%.100s", key);
        if (m == &f->map[0])
            TK_TRY(tk__meta_add(f, name, json_string_value(value), json_string_length(value)));
    }
    return TK_OK;
}

static tk_status read_header(tk_modelfile *f, const tk_map *m, const json_t *header, size_t start) {
    int first = f->n_tensors;
    TK_TRY(tk__tensors_reserve(f, json_object_size(header)));
    const char *name;
    json_t *entry;
    json_object_foreach((json_t *)(uintptr_t)header, name, entry) {
        if (!strcmp(name, "__metadata__"))
            TK_TRY(read_metadata(f, m, entry));
        else
            TK_TRY(read_entry(f, m, name, entry, start));
    }
    return check_cover(m, f->tensor + first, (size_t)(f->n_tensors - first), start);
}

tk_status tk__safetensors_read(tk_modelfile *f, const tk_map *m) {
    if (m->size < 8)
        return TK_FAIL(TK_E_FORMAT,
                       "%s is truncated\nit has %zu bytes, not even the length of a header\nfetch it again",
                       m->path, m->size);
    uint64_t n = tk_le64(m->data);
    if (n > HEADER_LIMIT)
        return TK_FAIL(TK_E_FORMAT,
                       "%s is no safetensors file\nits header would have %llu bytes, the limit is %d",
                       m->path, (unsigned long long)n, HEADER_LIMIT);
    if (n > m->size - 8)
        return TK_FAIL(TK_E_FORMAT,
                       "%s is truncated\nits header has %llu bytes, the file %zu\nfetch it again", m->path,
                       (unsigned long long)n, m->size);
    if (n < 2 || m->data[8] != '{')
        return TK_FAIL(TK_E_FORMAT, "%s is no safetensors file\nits header does not start with {", m->path);
    json_t *header;
    TK_TRY(tk__json_parse(&header, (const char *)m->data + 8, (size_t)n, m->path));
    tk_status s = read_header(f, m, header, 8 + (size_t)n);
    json_decref(header);
    return s;
}

/* ---- folders ---- */

static tk_status bad_index(const char *index, const char *what, const char *name) {
    return TK_FAIL(TK_E_FORMAT, "%s: %s\n\"%.100s\"", index, what, name);
}

/* The distinct file names of a weight_map, in order of appearance; names point into the JSON. */
static tk_status list_shards(const char *index, const json_t *map, const char ***out, int *n) {
    const char **shard = calloc(SHARD_LIMIT, sizeof *shard), *tensor;
    *n = 0, *out = shard;
    if (!shard) return TK_FAIL(TK_E_NOMEM, "out of memory");
    json_t *file;
    tk_status s = TK_OK;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, file) {
        const char *name = json_string_value(file);
        if (!name)
            s = bad_index(index, "a weight_map entry names no file", tensor);
        else if (!*name || strchr(name, '/') || strchr(name, '\\') || strstr(name, ".."))
            s = bad_index(index, "a file name leaves the folder", name);
        if (s != TK_OK) break;
        int i = *n - 1;
        while (i >= 0 && strcmp(shard[i], name) != 0) i--;
        if (i >= 0) continue;
        if (*n == SHARD_LIMIT) {
            s = TK_FAIL(TK_E_LIMIT, "%s names more than %d files", index, SHARD_LIMIT);
            break;
        }
        shard[(*n)++] = name;
    }
    return s;
}

static tk_status open_shard(tk_modelfile *f, const char *index, const char *name) {
    char *path = tk_arena_printf(&f->arena, "%s/%s", f->path, name);
    if (!path) return TK_E_NOMEM;
    if (!tk_file_exists(path))
        return TK_FAIL(
            TK_E_NOTFOUND,
            "%s is missing\n%s says that a part of the model is in it\nfetch it into the same folder", path,
            index);
    tk_map *m = &f->map[f->n_maps];
    TK_TRY(tk_map_open(m, path));
    f->n_maps++;
    return tk__safetensors_read(f, m);
}

static tk_status open_sharded(tk_modelfile *f, const char *index, const json_t *root) {
    const json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || !json_object_size(map))
        return TK_FAIL(TK_E_FORMAT, "%s has no weight_map", index);
    const char **shard;
    int n;
    tk_status s = list_shards(index, map, &shard, &n);
    if (s == TK_OK && !(f->map = tk_arena_array(&f->arena, (size_t)n, sizeof *f->map))) s = TK_E_NOMEM;
    for (int i = 0; i < n && s == TK_OK; i++) s = open_shard(f, index, shard[i]);
    free(shard);
    TK_TRY(s);
    TK_TRY(tk__tensors_index(f));
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)(uintptr_t)map, name, file) {
        const tk_tensor *t = tk__tensor_find(f, name);
        const char *slash = t ? strrchr(t->map->path, '/') : NULL;
        if (!t || strcmp(slash + 1, json_string_value(file)) != 0)
            return TK_FAIL(TK_E_FORMAT,
                           "%s: tensor %.100s is not in %.100s\nthe index says it is: fetch both again",
                           index, name, json_string_value(file));
    }
    return TK_OK;
}

tk_status tk__safetensors_open(tk_modelfile *f) {
    char *single = tk_arena_printf(&f->arena, "%s/model.safetensors", f->path);
    char *index = tk_arena_printf(&f->arena, "%s/model.safetensors.index.json", f->path);
    if (!single || !index) return TK_E_NOMEM;
    if (tk_file_exists(single)) {
        f->map = tk_arena_alloc(&f->arena, sizeof *f->map);
        if (!f->map) return TK_E_NOMEM;
        TK_TRY(tk_map_open(&f->map[0], single));
        f->n_maps = 1;
        TK_TRY(tk__safetensors_read(f, &f->map[0]));
        return tk__tensors_index(f);
    }
    if (!tk_file_exists(index)) {
        static const char *const pickles[] = { "pytorch_model.bin", "pytorch_model.bin.index.json",
                                               "consolidated.00.pth" };
        for (size_t i = 0; i < TK_COUNT(pickles); i++) {
            char *path = tk_arena_printf(&f->arena, "%s/%s", f->path, pickles[i]);
            if (path && tk_file_exists(path))
                return TK_FAIL(TK_E_UNSUPPORTED,
                               "%s has its weights as a PyTorch pickle only (%s)\npickles can run code and "
                               "are not read\n"
                               "get or make a safetensors version",
                               f->path, pickles[i]);
        }
        return TK_FAIL(
            TK_E_NOTFOUND,
            "%s holds no weights\nneither model.safetensors nor model.safetensors.index.json is there",
            f->path);
    }
    json_t *root;
    TK_TRY(tk__json_file(&root, index, HEADER_LIMIT));
    tk_status s = open_sharded(f, index, root);
    json_decref(root);
    return s;
}
