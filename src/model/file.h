/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the model file readers only: the open file, and what gguf.c, safetensors.c, hf.c and llama2c.c share
 * with modelfile.c. Builders and commands use model.h. */
#ifndef TK_MODEL_FILE_H
#define TK_MODEL_FILE_H
#include <jansson.h>

#include "model/model.h"
#include "text/text.h"

/* ---- names: a hash set over names that somebody else keeps ------------------------------------------- */

typedef struct tk__names {
    uint32_t *slot; /* index + 1; 0 = free */
    uint64_t *hash;
    size_t mask, n;
} tk__names;
/* Room for `capacity` names. */
tk_status tk__names_init(tk__names *s, tk_arena *a, size_t capacity);
/* The index of `name` or -1. name_of(ctx, i) gives the i-th name that was added. */
typedef const char *(*tk__name_of)(const void *ctx, size_t i);
int64_t tk__names_find(const tk__names *s, const char *name, tk__name_of name_of, const void *ctx);
/* Adds the next name (index = number of names so far). The caller has looked that it is new. */
void tk__names_add(tk__names *s, const char *name);

/* ---- GGUF
 * -------------------------------------------------------------------------------------------------- */

enum {
    TK__GGUF_U8,
    TK__GGUF_I8,
    TK__GGUF_U16,
    TK__GGUF_I16,
    TK__GGUF_U32,
    TK__GGUF_I32,
    TK__GGUF_F32,
    TK__GGUF_BOOL,
    TK__GGUF_STRING,
    TK__GGUF_ARRAY,
    TK__GGUF_U64,
    TK__GGUF_I64,
    TK__GGUF_F64,
    TK__GGUF_TYPES
};

typedef struct tk__gguf_kv {
    const char *key;
    int type; /* for arrays that of the elements */
    bool array;
    uint64_t count;      /* of elements; 1 if not an array */
    const uint8_t *data; /* the first element, in the map: checked to the last byte of the last element */
} tk__gguf_kv;

/* A type of tensors by its number in files (gguf_types.c); block 0: known by name only. NULL: not known. */
typedef struct tk__ggml_type {
    uint32_t id;
    const char *name;
    int block, bytes;
    tk_dtype dtype;
} tk__ggml_type;
const tk__ggml_type *tk__ggml_type_find(uint32_t id);

/* ---- the open file
 * ------------------------------------------------------------------------------------------ */

typedef enum tk__source {
    TK__HF,
    TK__GGUF,
    TK__LLAMA2C,
    TK__LLMC,
    TK__PART,
    TK__VOCAB_FILE,
    TK__SOURCES
} tk__source;

typedef struct tk__role_views { /* of one role: [n_layer] or [1]; entries with data NULL are absent */
    tk_weight_view *view;
} tk__role_views;

enum {
#define TK_ROLE(id, text, scope, rows, cols, when) TK__ROLE_##id,
#define TK_NAMES(set, base)
#define TK_WEIGHT(set, role, name, parts, flags)
#include "model/weights.def"
#undef TK_ROLE
#undef TK_NAMES
#undef TK_WEIGHT
    TK__ROLES
};

/* ---- quantized Hugging Face weights (hfquant.c) ------------------------------------------------------ */

typedef enum tk_quant_kind {
    TK_QUANT_NONE,
    TK_QUANT_GPTQ,
    TK_QUANT_AWQ,
    TK_QUANT_PACKED,
    TK_QUANT_INT8,
    TK_QUANT_FP8,
    TK_QUANT_MXFP4
} tk_quant_kind;
typedef struct tk__quant_config {
    tk_quant_kind kind;
    int bits;
    bool plus_one; /* gptq's first version stores zeros less one */
} tk__quant_config;

struct tk_modelfile {
    tk_arena arena;
    tk__quant_config quant;
    /* [n_tensors] what tk__quant_open made of its integers: parts of a fused weight share it */
    const tk_quant **quants;
    tk__source source;
    const char *path, *format;
    bool vocab_only, inspect;
    tk_status problem; /* with inspect: the first, its text below */
    const char *problem_text;
    tk_map *map; /* [n_maps]; fixed in place once tensors point at them */
    int n_maps;
    tk_tensor *tensor;
    int n_tensors, cap_tensors;
    tk__names tensor_names;
    tk_meta *meta;
    int n_meta, cap_meta;
    tk__gguf_kv *kv;
    size_t n_kv;
    tk__names kv_names;
    tk_config config;
    bool has_config;
    tk_gen_defaults gen;
    tk_template_source *template;
    int n_templates;
    const char *special[4]; /* bos, eos, pad, unk */
    const char *tokenizer_path;
    tk_tokenizer *tokenizer;
    tk__role_views weight[TK__ROLES];
};

/* A one-file reader gets the file mapped as f->map[0]. Each fills tensors, metadata, config and texts. */
tk_status tk__gguf_open(tk_modelfile *f);
tk_status tk__gguf_tokenizer(tk_modelfile *f, tk_tokenizer **out);
tk_status tk__llama2c_open(tk_modelfile *f);
tk_status tk__llmc_open(tk_modelfile *f);
char *tk__llmc_tokenizer(tk_modelfile *f); /* where the tokenizer lies beside the checkpoint, if anywhere */
tk_status tk__hf_open(tk_modelfile *f);
tk_status tk__hf_vocab(tk_modelfile *f); /* a tokenizer.json, or a folder with one, without a model */
/* The tensors of folder/model.safetensors or of the shards that its index names. */
tk_status tk__safetensors_open(tk_modelfile *f);
/* One safetensors file whose bytes are `map`: its tensors are appended to f. Public to the fuzzer. */
tk_status tk__safetensors_read(tk_modelfile *f, const tk_map *map);

/* Keeps a problem for tk_modelfile_problem and gives TK_OK if the file is only to be inspected; else `s`. */
tk_status tk__tolerate(tk_modelfile *f, tk_status s);

/* Files whose tensors have no names: a kind of tensor in file order, one for the model or one for each layer.
 * rows 0 = a vector; name NULL = rows that are skipped. tk__spans_open (llama2c.c) takes all from byte `at`
 * to the file's end. */
typedef struct tk__span {
    const char *name;
    bool per_layer;
    int64_t rows, cols;
} tk__span;
tk_status tk__spans_open(tk_modelfile *f, const tk__span *order, size_t n, tk_dtype type, size_t at);

/* templates.c: one template; tokenizer_config.json's chat_template (NULL: none); a folder's files. */
tk_status tk__template_add(tk_modelfile *f, const char *name, const char *text, size_t n);
tk_status tk__templates_json(tk_modelfile *f, const json_t *j);
tk_status tk__templates_folder(tk_modelfile *f);

/* Room for n more tensors in f->tensor; after the last one tk__tensors_index makes them findable by name
 * and fails if a name occurs twice. */
tk_status tk__tensors_reserve(tk_modelfile *f, size_t n);
tk_status tk__tensors_index(tk_modelfile *f);
const tk_tensor *tk__tensor_find(const tk_modelfile *f, const char *name);
/* Adds one metadata row; value is shortened and made printable. */
tk_status tk__meta_add(tk_modelfile *f, const char *key, const char *value, size_t n);
/* Resolves every role of the config's family to its view(s), checking shapes and types. */
tk_status tk__weights_bind(tk_modelfile *f);

/* Reads quantization_config; an unknown method or variant is an error that names it. */
tk_status tk__quant_read(tk_modelfile *f, const json_t *quantization_config);
/* Is the weight `name` there in quantized form? */
bool tk__quant_has(const tk_modelfile *f, const char *name);
/* Checks the tensors that make up the weight `name` of [n, k] and marks them used. *out lives as long as f.
 */
tk_status tk__quant_open(tk_modelfile *f, const char *name, int64_t n, int64_t k, const tk_quant **out,
                         bool *used);
tk_dtype tk__quant_dtype(const tk_quant *q);
const tk_tensor *tk__quant_tensor(const tk_quant *q);
const int32_t *tk__quant_order(const tk_quant *q);
/* 32 numbers of row n as tk__quant_dtype stores them: at most TK__QUANT_BLOCK bytes */
enum { TK__QUANT_BLOCK = 128 };
void tk__quant_block(const tk_quant *q, int64_t n, int64_t block, void *dst);

/* ---- config
 * ------------------------------------------------------------------------------------------------- */

typedef enum tk__kind { TK__NONE, TK__NULL, TK__BOOL, TK__INT, TK__REAL, TK__TEXT, TK__OTHER } tk__kind;
typedef struct tk__value {
    tk__kind kind;
    int64_t i; /* BOOL, INT */
    double r;  /* INT, REAL */
    const char *s;
} tk__value;
/* Where config keys come from: a JSON object or GGUF keys. `name` is for messages ("config.json"). */
typedef struct tk__keys {
    const char *name;
    bool gguf;
    tk__value (*get)(const void *ctx, const char *key);
    const void *ctx;
    tk__value (*item)(const void *ctx, const char *key,
                      size_t i); /* of a list; NONE: no list, or it is shorter */
    tk_arena *arena;             /* for lists of the config */
} tk__keys;
tk__value tk__json_get(const void *object, const char *key); /* the .get of a JSON object */
tk__value tk__json_item(const void *object, const char *key, size_t i);
/* Keys of a JSON object; arena NULL where no list is asked for. */
static inline tk__keys tk__json_keys(const char *name, const json_t *object, tk_arena *arena) {
    return (tk__keys){ name, false, tk__json_get, object, tk__json_item, arena };
}
/* Reads the rows of config_keys.def for c->arch, then derives and checks what depends on several keys. */
tk_status tk__config_read(tk_config *c, const tk__keys *k);
/* What the keys of a family leave open (families.c) */
tk_status tk__config_derive(tk_config *c, const tk__keys *k);
/* Fails if a key that would change the computation is there and not `harmless`. */
tk_status tk__key_refuse(const tk__keys *k, const char *key, double harmless, const char *what);
/* True if a boolean (or number) is there and not 0; `absent` if it is not there or null. */
bool tk__key_true(const tk__keys *k, const char *key, bool absent);
/* The activation by its key in Hugging Face configs; GGUF has none and means `absent`. */
tk_status tk__key_act(tk_config *c, const tk__keys *k, const char *key, tk_act absent);
/* The parts of the config that are not simple keys. */
tk_status tk__config_rope_json(tk_config *c, const json_t *config, tk_arena *arena);
tk_status tk__config_rope_gguf(tk_config *c, const tk__keys *k);
/* Last checks, once all fields are set (and vocab is known). */
tk_status tk__config_check(tk_config *c);
/* One number by key. TK_OK with *out untouched if the key is absent or null. */
tk_status tk__key_real(const tk__keys *k, const char *key, double min, double max, float *out);
tk_status tk__key_int(const tk__keys *k, const char *key, int64_t min, int64_t max, int *out);
/* A JSON document from memory or file: duplicates refused, depth bounded; *out owned by the caller. */
tk_status tk__json_parse(json_t **out, const char *text, size_t n, const char *name);
tk_status tk__json_file(json_t **out, const char *path, size_t limit);
/* The families of archs.def by name, each behind a blank, for messages */
extern const char tk__families[];
/* The family of that name in Hugging Face's or GGUF's column of archs.def; TK_ARCHS: none */
tk_arch tk__arch_find(const char *name, bool gguf);
#endif
