/* SPDX-License-Identifier: Apache-2.0 */
/* What a model file offers, whatever its format: a checked config, weights by role, tokenizer and chat
 * template, and its metadata. Builders read tk_config and ask for weights by role; nobody above this line
 * knows tensor names or file formats. Files are hostile until checked: everything returned here has been
 * checked against the file's size and the config, so callers need not check again. */
#ifndef TK_MODEL_H
#define TK_MODEL_H
#include "base/base.h"
#include "ops/ops.h" /* tk_act, tk_rope_style: attributes of ops */
#include "text/template.h"

typedef struct tk_tokenizer tk_tokenizer; /* text/text.h */

/* ---- config: a family is its fields, not code -------------------------------------------------------- */

typedef enum tk_arch {
#define TK_ARCH_ROW(id, hf, gguf, builder) TK_ARCH_##id,
#include "model/archs.def"
#undef TK_ARCH_ROW
    TK_ARCHS
} tk_arch;
const char *tk_arch_name(tk_arch a); /* "llama" */

typedef enum tk_norm { TK_NORM_RMS, TK_NORM_LAYER } tk_norm;
typedef enum tk_rope_scaling { TK_ROPE_NONE, TK_ROPE_LINEAR, TK_ROPE_LLAMA3, TK_ROPE_YARN } tk_rope_scaling;

typedef struct tk_rope {
    int dims; /* rotated elements of each head, even; 0 = no rotation (GPT-2). The rest of the head stays. */
    tk_rope_style style;
    float theta;
    tk_rope_scaling scaling;
    float factor;               /* linear, llama3, yarn */
    float low_freq, high_freq;  /* llama3 */
    int original_ctx;           /* llama3, yarn */
    float beta_fast, beta_slow; /* yarn */
    float attention_factor;     /* yarn: 0 = from factor (and mscale, mscale_all when both are set) */
    float mscale, mscale_all;
    bool truncate;         /* yarn: correction range rounded to whole pairs */
    const float *divisors; /* [dims / 2] each divides its pair's frequency (GGUF rope_freqs); or NULL */
} tk_rope;

typedef struct tk_config {
    tk_arch arch;
    const char *name; /* of the model, for people; never NULL */
    int n_layer, n_embd, n_head, n_kv_head, head_dim, n_ff, n_vocab;
    int n_ctx; /* positions that the model was made for */
    tk_norm norm;
    float norm_eps;
    tk_act act;
    bool gated;       /* MLP is down(act(gate x) * up x), else down(act(up x)) */
    bool learned_pos; /* pos_embed [n_ctx, n_embd] is added to the embedding */
    bool tied;        /* the head is the embedding; no role "head" */
    bool norm_bias, qkv_bias, o_bias, mlp_bias;
    tk_rope rope;
    float attn_scale;         /* multiplies q.k; 1/sqrt(head_dim) for most */
    bool attn_scale_by_layer; /* and divided by (layer + 1) (GPT-2's scale_attn_by_inverse_layer_idx) */
    float embed_scale, residual_scale, logit_scale; /* multiply; 1 for most */
    int bos, pad;                                   /* -1 = none */
    const int32_t *eos; /* every id that ends a text by config; the tokenizer may know more */
    int n_eos;
} tk_config;

/* Rotation frequencies per pair after scaling, freq[rope->dims / 2] (angle = position * freq), and the factor
 * that multiplies both cos and sin (1 but for yarn). */
void tk_rope_freqs(const tk_rope *rope, float *freq, float *factor);
/* The factor on q.k in layer `layer`. */
float tk_attn_scale(const tk_config *c, int layer);

/* The model's own wishes for sampling; what it does not say is left unset. */
typedef struct tk_gen_defaults {
    bool has_do_sample, has_temperature, has_top_k, has_top_p, has_repetition_penalty;
    bool do_sample;
    float temperature, top_p, repetition_penalty;
    int top_k;
} tk_gen_defaults;

/* ---- the file
 * ---------------------------------------------------------------------------------------------- */

typedef struct tk_modelfile tk_modelfile;

typedef struct tk_modelfile_options {
    const char *tokenizer; /* a tokenizer file or folder that replaces the model's own; or NULL */
    bool vocab_only;       /* tokenizer, template and metadata are enough: no config, no weights needed */
    bool inspect; /* for `show`: what makes the file unusable is told by tk_modelfile_problem, and the rest is
                     read */
} tk_modelfile_options;

/* `path`: a GGUF file; a Hugging Face folder (config.json with model.safetensors, or shards by
 * model.safetensors.index.json); a llama2.c checkpoint. With vocab_only also a tokenizer.json or a folder
 * with one. options may be NULL. On success the caller owns *out; on failure *out is NULL. All weights that
 * the family needs have been found and their shapes and types checked. Safe to read from many threads. */
tk_status tk_modelfile_open(tk_modelfile **out, const char *path, const tk_modelfile_options *options);
void tk_modelfile_free(tk_modelfile *f); /* NULL is fine */

const tk_config *tk_modelfile_config(const tk_modelfile *f); /* NULL if opened with vocab_only */
const tk_gen_defaults *tk_modelfile_gen_defaults(const tk_modelfile *f);
const char *tk_modelfile_format(const tk_modelfile *f); /* "GGUF v3", "safetensors", "llama2.c v0" */
const char *tk_modelfile_path(const tk_modelfile *f);
/* The file's (or the override's) tokenizer, made at the first call (that call is not thread-safe) and owned
 * by f. TK_E_NOTFOUND if there is none. */
tk_status tk_modelfile_tokenizer(tk_modelfile *f, tk_tokenizer **out);
/* Its chat templates, sources by name; *n = 0: none. tk_modelfile_template: the source that
 * tk_template_choose takes; TK_E_NOTFOUND, naming those that there are. */
const tk_template_source *tk_modelfile_templates(const tk_modelfile *f, int *n);
tk_status tk_modelfile_template(const tk_modelfile *f, const char *name, bool tools, const char **text);
/* Why the file cannot be used, and the text of that error (three lines); TK_OK and NULL if it can. Only with
 * `inspect` can it be other than that; the config is then there if it could be read, weights are not. */
tk_status tk_modelfile_problem(const tk_modelfile *f, const char **text);
/* The text of a special token as templates want it: which = "bos_token", "eos_token", "pad_token",
 * "unk_token"; NULL if the file names none. */
const char *tk_modelfile_special(const tk_modelfile *f, const char *which);

/* ---- weights
 * ------------------------------------------------------------------------------------------------ */

/* A tensor as the file has it; dim[0] is the slowest. For listings. */
typedef struct tk_tensor {
    const char *name, *type; /* type as the format spells it */
    tk_dtype dtype;          /* TK_NODTYPE: a type that Tokamak cannot compute with */
    int ndim;
    int64_t dim[4];      /* 1 beyond ndim */
    const uint8_t *data; /* in *map, checked */
    size_t bytes;
    const tk_map *map;
} tk_tensor;
const tk_tensor *tk_modelfile_tensors(const tk_modelfile *f, int *n);

/* A weight as a builder means it: logical [rows, cols], where a linear layer's y[rows] = W x[cols]; vectors
 * (norms, biases) have rows = 1. Fused weights of files are split here.
 *   not transposed: `data` is logical row 0 and rows follow each other: exactly a tk_format matrix
 *                   [rows, cols] of `dtype`, stride bytes a row;
 *   transposed:     the file holds [cols, more]: element (r, c) is element col0 + r of the file row that
 * starts at data + c * stride. Plain dtypes only. */
typedef struct tk_weight_view {
    const char *name; /* in the file, for messages */
    tk_dtype dtype;
    int64_t rows, cols;
    const uint8_t *data;  /* NULL: the family or file has no such weight */
    size_t stride, bytes; /* bytes of the span that starts at data and holds all of the view */
    bool transposed;
    int64_t col0;
    const tk_map *map; /* for tk_map_release(map, data, bytes) when a copy replaced it (a transposed
                          part of a fused weight shares its span with the other parts) */
} tk_weight_view;

/* role: embed pos_embed norm1 norm1.b q q.b k k.b v v.b o o.b norm2 norm2.b gate up up.b gate.b down down.b
 * norm_out norm_out.b head (rows of weights.def). layer: 0.. for those that every layer has, else ignored.
 * TK_OK with out->data == NULL: this model has no such weight (a tied head, a bias that is off).
 * An unknown role or layer is a TK_E_INTERNAL: a defect of the caller. */
tk_status tk_modelfile_weight(const tk_modelfile *f, const char *role, int layer, tk_weight_view *out);
/* Logical row `row` as float32 -> dst[cols]. */
void tk_weight_view_row(const tk_weight_view *v, int64_t row, float *dst);

/* ---- metadata, for `show` ---------------------------------------------------------------------------- */

typedef struct tk_meta {
    const char *key, *value; /* value as text, valid UTF-8, shortened beyond some 200 bytes */
} tk_meta;
const tk_meta *tk_modelfile_meta(const tk_modelfile *f, int *n);

/* ---- builder (build.c) ------------------------------------------------------------------------------- */

struct tk_program;
typedef struct tk_build {
    const tk_config *config;
    bool serve;   /* paged KV cache and picked rows' logits; else the training form: loss over all tokens */
    bool logits;  /* training form: also the output "logits" [t, v] */
    bool findmax; /* training form: the integer-MAC accelerator's Linear */
    float dropout, rope_factor;              /* rope_factor: from tk_rope_freqs */
    tk_dtype kv;                             /* of the cache */
    int64_t tokens, picks, pages, page_size; /* capacities */
    int vocab_multiple;                      /* the vocabulary is padded to a multiple of this; 0: not */
    tk_dtype (*dtype)(void *arg, const char *role,
                      int layer); /* of matrices; NULL: the program's real type */
    void *arg;
} tk_build;
/* Emits the forward program. Inputs: tokens positions [t] (i32); serve: slots [t], picks [o] -> output logits
 * [o, v]; train: sequences [t], targets [t] (i32), mask [t], count -> output loss. Constant rope_freqs [z].
 */
tk_status tk_build_program(struct tk_program *p, const tk_build *b);
#endif
