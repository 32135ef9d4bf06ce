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
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) TK_ARCH_##id,
#include "model/archs.def"
#undef TK_ARCH_ROW
    TK_ARCHS
} tk_arch;
const char *tk_arch_name(tk_arch a); /* "llama": the first of its model_type spellings */

typedef enum tk_norm { TK_NORM_RMS, TK_NORM_LAYER } tk_norm;
typedef enum tk_rope_scaling {
    TK_ROPE_NONE,
    TK_ROPE_LINEAR,
    TK_ROPE_LLAMA3,
    TK_ROPE_YARN,
    TK_ROPE_DYNAMIC,
    TK_ROPE_LONGROPE,
    TK_ROPE_SCALINGS
} tk_rope_scaling;
const char *tk_rope_scaling_name(tk_rope_scaling s);

typedef struct tk_rope {
    int dims; /* rotated elements of each head, even; 0 = no rotation (GPT-2). The rest of the head stays. */
    tk_rope_style style;
    float theta;
    tk_rope_scaling scaling;
    float factor;               /* all but longrope */
    float low_freq, high_freq;  /* llama3 */
    int original_ctx;           /* llama3, yarn, dynamic, longrope: positions of the first training */
    float beta_fast, beta_slow; /* yarn */
    float attention_factor;     /* yarn, longrope; yarn: 0 = from factor (and mscale, mscale_all when both are
                                   set) */
    float mscale, mscale_all;
    bool truncate; /* yarn: correction range rounded to whole pairs */
    /* [dims / 2] each divides its pair's frequency (GGUF rope_freqs, longrope's short factors); or NULL */
    const float *divisors;
    const float *long_divisors; /* longrope: those of sequences that may grow beyond original_ctx */
} tk_rope;

typedef enum tk_qk_norm { TK_QK_NONE, TK_QK_HEAD, TK_QK_WHOLE } tk_qk_norm;
/* What a layer is, as bits */
enum {
    TK_LAYER_LOCAL = 1, /* attends to the last `window` tokens only, rotates by rope_local if there is one */
    TK_LAYER_NOPE = 2,  /* does not rotate */
    TK_LAYER_DENSE = 4, /* has a plain MLP in a model with experts */
};

typedef struct tk_config {
    tk_arch arch;
    const char *name; /* of the model, for people; never NULL */
    int n_layer, n_embd, n_head, n_kv_head, head_dim, n_ff, n_vocab;
    int n_ctx; /* positions that the model was made for */
    tk_norm norm;
    float norm_eps;
    tk_act act;
    float glu_limit, glu_shift; /* of a gated MLP: ops.def's glu; 0 for most */
    bool gated;                 /* MLP is down(act(gate x) * up x), else down(act(up x)) */
    bool learned_pos;           /* pos_embed [n_ctx, n_embd] is added to the embedding */
    bool tied;                  /* the head is the embedding; no role "head" */
    bool norm_bias, qkv_bias, o_bias, mlp_bias;
    /* Where a half of a layer, f, has its norms: h + f(norm h) has pre_norm, h + norm(f(h)) post_norm, Gemma
     * 2 both, norm(h + f(h)) residual_norm (then the roles norm1 and norm2 follow their halves). */
    bool pre_norm, post_norm, residual_norm;
    bool parallel;      /* h + attention(norm1 h) + mlp(norm2 h) */
    bool shared_norm;   /* parallel, and norm2 is norm1 */
    bool embed_norm;    /* a norm follows the embedding */
    bool last_norm;     /* norm_out stands before the head */
    float norm_shift;   /* added to the weights of RMS norms (Gemma's files hold w - 1) */
    int n_word;         /* width of the embedding's rows where it is not n_embd (proj_in, proj_out); else 0 */
    tk_qk_norm qk_norm; /* RMS norm of q and k: of each head, or of all heads as one row */
    const uint8_t *layer;              /* [n_layer] bits TK_LAYER_*; NULL: none */
    int window;                        /* tokens that local layers see: their own and those before it */
    float alibi;                       /* largest ALiBi bias (8); 0: none */
    float attn_softcap, logit_softcap; /* c tanh(x / c); 0: none */
    bool sinks;                        /* one more logit a head in the softmax, without a value */
    /* mixture of experts: n_expert 0 = none */
    int n_expert, n_expert_used, n_ff_expert, n_ff_shared; /* n_ff_shared 0: no shared expert */
    tk_routing routing;
    bool expert_renorm;       /* a token's weights are divided by their sum */
    bool expert_bias;         /* router and experts have biases */
    bool shared_gate;         /* the shared expert's result times sigmoid(s_router x) */
    tk_rope rope, rope_local; /* rope_local.dims 0: local layers rotate as all do */
    float attn_scale;         /* multiplies q.k; 1/sqrt(head_dim) for most */
    bool attn_scale_by_layer; /* and divided by (layer + 1) (GPT-2's scale_attn_by_inverse_layer_idx) */
    float embed_scale, residual_scale,
        logit_scale;    /* multiply; 1 for most. residual_scale: each half's result */
    int bos, pad;       /* -1 = none */
    const int32_t *eos; /* every id that ends a text by config; the tokenizer may know more */
    int n_eos;
} tk_config;

/* What all models of a family have alike (norms, activation, biases, factors of 1); sizes and rotation are
 * the caller's to set. For llama and gpt2, whose keys decide nothing else. */
tk_config tk_config_plain(tk_arch arch);
/* Rotation frequencies per pair after scaling, freq[rope->dims / 2] (angle = position * freq), and the factor
 * that multiplies both cos and sin (1 but for yarn and longrope). ctx: the most tokens that a sequence may
 * come to have. dynamic and longrope depend on it, and on nothing that a sequence has seen so far, so that
 * keys once rotated stay right (Hugging Face switches while a text grows, and then mixes both). freq may be
 * NULL. */
void tk_rope_freqs(const tk_rope *rope, int64_t ctx, float *freq, float *factor);
/* The factor on q.k in layer `layer`. */
float tk_attn_scale(const tk_config *c, int layer);
static inline unsigned tk_layer_bits(const tk_config *c, int layer) { return c->layer ? c->layer[layer] : 0; }
/* The rotation of layer `layer`, NULL if it has none. */
const tk_rope *tk_layer_rope(const tk_config *c, int layer);

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
 * model.safetensors.index.json); a checkpoint of llama2.c or llm.c. With vocab_only also a tokenizer.json or
 * a folder with one. options may be NULL. On success the caller owns *out; on failure *out is NULL. All
 * weights that the family needs have been found and their shapes and types checked. Safe to read from many
 * threads. */
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
 * (norms, biases) have rows = 1. Fused weights of files are split here, merged experts and separate ones look
 * alike.
 *
 * Row r lies in part r / per, as that part's row i = (r % per) / run * period + (r % per) % run + first:
 *   not transposed: a row of `stride` bytes in the format's own layout;
 *   transposed:     element c is number i of the file row c of the part, `stride` bytes each; only of
 *                   plain dtypes.
 *
 * A vector is one row whose elements are found like rows (plain dtypes, or an unbroken run of blocks).
 */
typedef struct tk_quant tk_quant;
typedef struct tk_weight_view {
    const char *name; /* in the file, for messages */
    tk_dtype dtype;
    int64_t rows, cols;
    bool plain; /* `data` is exactly a tk_format matrix [rows, cols] of `dtype`, `stride` bytes a row */
    bool transposed;
    /* plain: row 0; else what part 0 starts with. NULL: the family or file has no such weight */
    const uint8_t *data;
    const uint8_t *const *part; /* [rows / per], or NULL: they lie `plane` bytes apart */
    size_t stride, plane;
    size_t bytes; /* of the span that starts at data (or at each part) and holds all of the view */
    int64_t per, run, period, first;
    float add; /* to every number */
    /* [rows / per]: the rows are made from several tensors by tk_weight_view_copy; bytes and data mean
     * nothing then */
    const tk_quant *const *quant;
    const tk_map *map; /* for tk_weight_view_release; a span may be shared with other views */
} tk_weight_view;

/* role: a text of weights.def's TK_ROLE rows. layer: 0.. for those that every layer has, else ignored.
 * TK_OK with out->data == NULL: this model has no such weight (a tied head, a bias that is off).
 * An unknown role or layer is a TK_E_INTERNAL: a defect of the caller. */
tk_status tk_modelfile_weight(const tk_modelfile *f, const char *role, int layer, tk_weight_view *out);
/* Logical row `row` as float32 -> dst[cols]. */
void tk_weight_view_row(const tk_weight_view *v, int64_t row, float *dst);
/* Logical row `row` as a row of v->dtype -> dst. False: it cannot be had so (transposed, a vector, or `add`).
 */
bool tk_weight_view_copy(const tk_weight_view *v, int64_t row, void *dst);
/* Column i of the rows is column order[i] of the layer (GPTQ's act-order), or NULL. */
const int32_t *tk_weight_view_order(const tk_weight_view *v);
/* Gives the view's pages back to the system: a copy has replaced it. */
void tk_weight_view_release(const tk_weight_view *v);

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
    bool draw;    /* serve: also the output "drawn" [o] of op draw; see below */
    bool logits;  /* training form: also the output "logits" [t, v] */
    bool findmax; /* training form: the integer-MAC accelerator's Linear */
    float dropout;
    int64_t ctx; /* the most tokens of a sequence, for tk_rope_freqs; 0: the config's */
    tk_dtype kv; /* of the cache */
    int64_t tokens, picks, pages, page_size; /* capacities */
    int64_t seqs;                            /* draw: sequences that may have biases and penalties */
    int vocab_multiple;                      /* the vocabulary is padded to a multiple of this; 0: not */
    tk_dtype (*dtype)(void *arg, const char *role,
                      int layer); /* of matrices; NULL: the program's real type */
    /* does the weight want its input's columns in another order? NULL: none does */
    bool (*ordered)(void *arg, const char *role, int layer);
    void *arg;
} tk_build;
/* Emits the forward program. Inputs: tokens positions [t] (i32); serve: slots [t], picks [o] -> output logits
 * [o, v] (draw: draws [o, 12] (i32), the states bias [q, v] and seen [q, v] (i32) -> drawn [o]); train:
 * sequences [t], targets [t] (i32), mask [t], count -> output loss. Constants rope_freqs [z] and
 * rope_freqs_local [y], filled by tk_build_const; where `ordered` says so, of a role its columns' order
 * (i32). */
tk_status tk_build_program(struct tk_program *p, const tk_build *b);
/* The values of the constant `name` in float32 -> dst[its size]. */
void tk_build_const(const tk_config *c, const char *name, int64_t ctx, float *dst);
#endif
