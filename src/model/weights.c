/* SPDX-License-Identifier: Apache-2.0 */
/* Weights by role: weights.def says what a family has and what its files call it; here names meet tensors,
 * shapes meet the config, fused tensors are cut and experts joined. All of it happens once, when the file is
 * opened, so that asking for a weight later cannot fail. */
#include <stdio.h>

#include "model/file.h"

/* Sizes that a role's rows and columns are named by, and conditions, as letters of weights.def */
typedef enum size_letter {
    SIZE_ONE, /* a vector */
    SIZE_ROW, /* a matrix of one row */
    SIZE_VOCAB,
    SIZE_CTX,
    SIZE_EMBD,
    SIZE_WORD,
    SIZE_Q,
    SIZE_KV,
    SIZE_HEADS,
    SIZE_Q_NORM,
    SIZE_K_NORM,
    SIZE_FF,
    SIZE_EXPERTS,
    SIZE_EXPERT_FF,
    SIZE_E_FF,
    SIZE_E_EMBD,
    SIZE_SHARED_FF,
} size_letter;
typedef enum when {
    ALWAYS,
    LEARNED_POS,
    PROJECTED,
    NORM_OF_EMBED,
    PRE_NORM,
    PRE_NORM_BIAS,
    POST_NORM,
    MLP_NORM,
    MLP_NORM_BIAS,
    LAST_NORM,
    LAST_NORM_BIAS,
    QKV_BIAS,
    QK_NORM,
    SINKS,
    O_BIAS,
    DENSE,
    MLP_BIAS,
    GATED,
    GATED_BIAS,
    EXPERTS,
    EXPERT_BIAS,
    SHARED,
    SHARED_GATE,
    UNTIED
} when;
enum { MODEL, LAYER };
enum { TRANSPOSED = 1, GROUPED = 2, PAIRED = 4, SKIP2 = 8 };

static int64_t size_of(const tk_config *c, size_letter s) {
    const int64_t q = (int64_t)c->n_head * c->head_dim, kv = (int64_t)c->n_kv_head * c->head_dim;
    const bool whole = c->qk_norm == TK_QK_WHOLE;
    switch (s) {
    case SIZE_ONE:
    case SIZE_ROW: return 1;
    case SIZE_VOCAB: return c->n_vocab;
    case SIZE_CTX: return c->n_ctx;
    case SIZE_EMBD: return c->n_embd;
    case SIZE_WORD: return c->n_word ? c->n_word : c->n_embd;
    case SIZE_Q: return q;
    case SIZE_KV: return kv;
    case SIZE_HEADS: return c->n_head;
    case SIZE_Q_NORM: return whole ? q : c->head_dim;
    case SIZE_K_NORM: return whole ? kv : c->head_dim;
    case SIZE_FF: return c->n_ff;
    case SIZE_EXPERTS: return c->n_expert;
    case SIZE_EXPERT_FF: return c->n_ff_expert;
    case SIZE_E_FF: return (int64_t)c->n_expert * c->n_ff_expert;
    case SIZE_E_EMBD: return (int64_t)c->n_expert * c->n_embd;
    case SIZE_SHARED_FF: return c->n_ff_shared;
    }
    return 0;
}

static bool holds(const tk_config *c, when w, int layer) {
    const bool experts = c->n_expert && !(tk_layer_bits(c, layer) & TK_LAYER_DENSE);
    switch (w) {
    case ALWAYS: return true;
    case LEARNED_POS: return c->learned_pos;
    case PROJECTED: return c->n_word != 0;
    case NORM_OF_EMBED: return c->embed_norm;
    case PRE_NORM: return c->pre_norm || c->residual_norm;
    case PRE_NORM_BIAS: return (c->pre_norm || c->residual_norm) && c->norm_bias;
    case POST_NORM: return c->post_norm;
    case MLP_NORM: return (c->pre_norm || c->residual_norm) && !c->shared_norm;
    case MLP_NORM_BIAS: return (c->pre_norm || c->residual_norm) && !c->shared_norm && c->norm_bias;
    case LAST_NORM: return c->last_norm;
    case LAST_NORM_BIAS: return c->last_norm && c->norm_bias;
    case QKV_BIAS: return c->qkv_bias;
    case QK_NORM: return c->qk_norm != TK_QK_NONE;
    case SINKS: return c->sinks;
    case O_BIAS: return c->o_bias;
    case DENSE: return !experts;
    case MLP_BIAS: return !experts && c->mlp_bias;
    case GATED: return !experts && c->gated;
    case GATED_BIAS: return !experts && c->gated && c->mlp_bias;
    case EXPERTS: return experts;
    case EXPERT_BIAS: return experts && c->expert_bias;
    case SHARED: return experts && c->n_ff_shared;
    case SHARED_GATE: return experts && c->n_ff_shared && c->shared_gate;
    case UNTIED: return !c->tied;
    }
    return false;
}

static const struct role_row {
    const char *text;
    int scope;
    size_letter rows, cols;
    when when;
} roles[TK__ROLES] = {
#define TK_ROLE(id, text, scope, rows, cols, when) { text, scope, SIZE_##rows, SIZE_##cols, when },
#define TK_NAMES(set, base)
#define TK_WEIGHT(set, role, name, parts, flags)
#include "model/weights.def"
#undef TK_ROLE
#undef TK_NAMES
#undef TK_WEIGHT
};

#define TK_ROLE(id, text, scope, rows, cols, when)
#define TK_WEIGHT(set, role, name, parts, flags)
typedef enum name_set {
#define TK_NAMES(set, base) SET_##set,
#include "model/weights.def"
#undef TK_NAMES
    SETS,
    SET_NULL = SETS
} name_set;
static const name_set base_of[SETS] = {
#define TK_NAMES(set, base) SET_##base,
#include "model/weights.def"
#undef TK_NAMES
};
#undef TK_WEIGHT
#define TK_NAMES(set, base)
static const struct weight_row {
    name_set set;
    int role;
    const char *name, *parts;
    unsigned flags;
} weights[] = {
#define TK_WEIGHT(set, role, name, parts, flags) { SET_##set, TK__ROLE_##role, name, parts, flags },
#include "model/weights.def"
#undef TK_WEIGHT
};
#undef TK_ROLE
#undef TK_NAMES

static const name_set hf_sets[] = {
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) SET_##hf_names,
#include "model/archs.def"
#undef TK_ARCH_ROW
},
                      gguf_sets[] = {
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) SET_##gguf_names,
#include "model/archs.def"
#undef TK_ARCH_ROW
                      };

static name_set set_of(const tk_modelfile *f) {
    return f->source == TK__HF        ? hf_sets[f->config.arch]
           : f->source == TK__LLAMA2C ? SET_LLAMA2C
                                      : gguf_sets[f->config.arch]; /* llmc.c gives its spans GGUF's names */
}

/* The role of length n at text, or -1. */
static int find_role(const char *text, size_t n) {
    for (int i = 0; i < TK__ROLES; i++)
        if (strlen(roles[i].text) == n && !memcmp(roles[i].text, text, n)) return i;
    return -1;
}

/* ---- names ---- */

/* Base models are saved with or without the name of the part that they are of a larger one. */
static const char *const prefixes[] = { "model.",
                                        "transformer.",
                                        "gpt_neox.",
                                        "model.decoder.",
                                        "decoder.",
                                        "model.language_model.",
                                        "language_model.model.",
                                        "" };

static void expand(char out[160], const char *pattern, const char *prefix, int layer, int expert) {
    size_t n = 0;
    const char *p = pattern;
    if (*p == '~') p++, n = (size_t)snprintf(out, 160, "%s", prefix);
    for (; *p && n < 140; p++)
        if (*p == '%')
            n += (size_t)snprintf(out + n, 160 - n, "%d", *++p == 'd' ? layer : expert);
        else
            out[n++] = *p;
    out[n] = 0;
}

static bool has(const tk_modelfile *f, const char *name) {
    return tk__tensor_find(f, name) || tk__quant_has(f, name);
}

/* The name of `role`: the first alternative whose tensor exists, else the first; NULL: the set has none. A
 * set that names a role hides its base's names of it. */
static const struct weight_row *find_row(const tk_modelfile *f, int role, const char *prefix, int layer) {
    for (name_set set = set_of(f), last = SET_NULL; set != last; last = set, set = base_of[set]) {
        const struct weight_row *first = NULL;
        for (size_t i = 0; i < TK_COUNT(weights); i++) {
            char name[160];
            if (weights[i].set != set || weights[i].role != role) continue;
            if (!first) first = &weights[i];
            expand(name, weights[i].name, prefix, layer, 0);
            if (has(f, name)) return &weights[i];
        }
        if (first) return first;
    }
    return NULL;
}

static const char *find_prefix(const tk_modelfile *f) {
    for (size_t i = 0; i < TK_COUNT(prefixes); i++) {
        char name[160];
        const struct weight_row *embed = find_row(f, TK__ROLE_EMBED, prefixes[i], 0);
        if (!embed) break;
        expand(name, embed->name, prefixes[i], 0, 0);
        if (tk__tensor_find(f, name)) return prefixes[i];
    }
    return "";
}

/* ---- views ---- */

/* How a role lies in its tensor: sizes along the cut, of which a matrix's are rows and a vector's elements */
typedef struct layout {
    bool vector, separate; /* separate: one tensor an expert */
    int64_t own, other;    /* the role's size along the cut, all experts; and the other way */
    int64_t before, all;   /* parts that stand before it in a group of rows, and the group's size */
    int64_t experts;       /* of which own and the tensor are made; 1 if none */
    int64_t per, run, period, first;
} layout;

static int64_t size_along(const tk_config *c, int role) {
    return roles[role].rows == SIZE_ONE ? size_of(c, roles[role].cols) : size_of(c, roles[role].rows);
}

static layout lay_out(const tk_config *c, const struct weight_row *w) {
    const struct role_row *r = &roles[w->role];
    layout l = { .vector = r->rows == SIZE_ONE, .separate = strstr(w->name, "%e") != NULL, .experts = 1 };
    l.own = size_along(c, w->role), l.other = l.vector ? 1 : size_of(c, r->cols);
    const size_letter cut = l.vector ? r->cols : r->rows;
    if (cut == SIZE_E_FF || cut == SIZE_E_EMBD) l.experts = c->n_expert;
    l.per = l.own / l.experts, l.all = l.per;
    int64_t parts = 1;
    if (w->parts) {
        l.all = 0, parts = 0;
        for (const char *p = w->parts; *p; parts++) {
            size_t n = strcspn(p, " ");
            int role = find_role(p, n);
            if (role == w->role) l.before = l.all;
            if (role >= 0) l.all += size_along(c, role) / l.experts;
            p += n + (p[n] == ' ');
        }
    }
    const int64_t groups = w->flags & GROUPED ? c->n_kv_head : w->flags & PAIRED ? l.per : 1;
    l.run = l.per / groups, l.period = l.all / groups;
    /* parts of a group keep their proportions: before / groups stands before this one */
    l.first = w->flags & PAIRED ? l.before / TK_MAX(l.per, 1) : l.before / groups;
    if (w->flags & SKIP2) l.first += 2, l.all += 2, l.period += 2;
    return l;
}

static void shape_text(char out[96], const int64_t *dim, int ndim) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < ndim && n < 72; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%lld", i ? ", " : "", (long long)dim[i]);
}

static tk_status check_tensor(const tk_modelfile *f, const tk_tensor *t, const layout *l, bool transposed) {
    int64_t want[3];
    int n = 0;
    if (l->experts > 1 && !l->separate) want[n++] = l->experts;
    if (transposed) want[n++] = l->other;
    want[n++] = l->all;
    if (!transposed && !l->vector) want[n++] = l->other;
    bool same = t->ndim == n;
    for (int i = 0; i < n && same; i++) same = t->dim[i] == want[i];
    if (l->experts == 1 && !l->separate && !l->vector && l->all == 1 && t->ndim == 1)
        same = t->dim[0] == l->other;
    if (!same) {
        char got[96], asked[96];
        shape_text(got, t->dim, t->ndim), shape_text(asked, want, n);
        return TK_FAIL(TK_E_FORMAT, "%s: tensor %s has the shape [%s]\nthe config asks for [%s]", f->path,
                       t->name, got, asked);
    }
    if (t->dtype == TK_NODTYPE || !tk_formats[t->dtype].unpack)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: tensor %s has the type %s\nthis build cannot compute with it\n"
                       "get the model in another type (Q8_0, Q4_K, BF16, ...)",
                       f->path, t->name, t->type);
    return TK_OK;
}

static tk_status make_view(const tk_modelfile *f, const struct weight_row *w, const layout *l,
                           const tk_tensor *t, tk_weight_view *v) {
    const bool transposed = (w->flags & TRANSPOSED) != 0;
    TK_TRY(check_tensor(f, t, l, transposed));
    const tk_format *fmt = &tk_formats[t->dtype];
    const bool unbroken = l->run == l->per && (l->separate || l->experts == 1 || l->per == l->all);
    const int64_t row = transposed || l->vector ? l->all : l->other; /* numbers of a row of the file */
    const int64_t planes = l->separate ? 1 : l->experts;
    size_t stride, bytes;
    if (!tk_format_size(t->dtype, 1, row, &stride) ||
        !tk_format_size(t->dtype,
                        planes * (transposed  ? l->other
                                  : l->vector ? 1
                                              : l->all),
                        row, &bytes) ||
        bytes != t->bytes || (transposed && fmt->block != 1) ||
        (l->vector && fmt->block != 1 && (!unbroken || l->first % fmt->block || l->own % fmt->block)))
        return TK_FAIL(
            TK_E_FORMAT,
            "%s: tensor %s cannot be of type %s\nits rows do not divide into the type's blocks of %d",
            f->path, t->name, t->type, fmt->block);
    *v = (tk_weight_view){ .name = t->name,
                           .dtype = t->dtype,
                           .rows = l->vector ? 1 : l->own,
                           .cols = l->vector ? l->own : l->other,
                           .plain = unbroken && !transposed && !l->separate,
                           .transposed = transposed,
                           .data = t->data,
                           .stride = stride,
                           .plane = bytes / (size_t)planes,
                           .bytes = t->bytes,
                           .per = l->per,
                           .run = l->run,
                           .period = l->period,
                           .first = l->first,
                           .map = t->map };
    if (!v->plain) return TK_OK;
    v->data += l->vector ? (size_t)(l->first / fmt->block) * (size_t)fmt->bytes : (size_t)l->first * stride;
    if (l->vector) tk_format_size(t->dtype, 1, l->own, &v->stride);
    v->bytes = (size_t)v->rows * v->stride;
    v->per = v->run = v->period = l->own, v->first = 0;
    return TK_OK;
}

/* A quantized weight, which its own file makes rows of */
static tk_status make_quant(tk_modelfile *f, const struct weight_row *w, const layout *l, const char *name,
                            tk_weight_view *v, bool *used) {
    const int64_t planes = l->separate ? 1 : l->experts;
    const tk_quant **q = tk_arena_array(&f->arena, 1, sizeof *q);
    if (!q) return TK_E_NOMEM;
    if (l->vector || (w->flags & TRANSPOSED && planes == 1))
        return TK_FAIL(TK_E_UNSUPPORTED, "%s: %s is quantized\nthis kind of weight is not supported so",
                       f->path, name);
    TK_TRY(tk__quant_open(f, name, planes * l->all, l->other, q, used));
    const tk_tensor *t = tk__quant_tensor(*q);
    *v = (tk_weight_view){ .name = t->name,
                           .dtype = tk__quant_dtype(*q),
                           .rows = l->own,
                           .cols = l->other,
                           .data = t->data,
                           .bytes = t->bytes,
                           .per = l->per,
                           .run = l->run,
                           .period = l->period,
                           .first = l->first,
                           .quant = q,
                           .map = t->map };
    return TK_OK;
}

static tk_status make_any(tk_modelfile *f, const struct weight_row *w, const layout *l, const char *name,
                          tk_weight_view *v, bool *used) {
    if (tk__quant_has(f, name)) return make_quant(f, w, l, name, v, used);
    const tk_tensor *t = tk__tensor_find(f, name);
    if (!t)
        return TK_FAIL(TK_E_FORMAT, "%s: tensor %s is missing\nthe config asks for it\nfetch the model again",
                       f->path, name);
    used[t - f->tensor] = true;
    return make_view(f, w, l, t, v);
}

/* One tensor an expert becomes one view; all must be of one type. */
static tk_status join_experts(tk_modelfile *f, const struct weight_row *w, const layout *l,
                              const char *prefix, int layer, tk_weight_view *v, bool *used) {
    const uint8_t **part = tk_arena_array(&f->arena, (size_t)l->experts, sizeof *part);
    const tk_quant **quant = tk_arena_array(&f->arena, (size_t)l->experts, sizeof *quant);
    if (!part || !quant) return TK_E_NOMEM;
    for (int e = 0; e < l->experts; e++) {
        char name[160];
        tk_weight_view one;
        expand(name, w->name, prefix, layer, e);
        TK_TRY(make_any(f, w, l, name, &one, used));
        if (e && (one.dtype != v->dtype || !one.quant != !v->quant))
            return TK_FAIL(TK_E_UNSUPPORTED, "%s: tensor %s has another type than its fellow experts",
                           f->path, name);
        if (one.quant && tk__quant_order(*one.quant))
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "%s: %s has columns in another order (act-order)\nexperts with it are "
                           "not supported",
                           f->path, name);
        if (!e) *v = one;
        part[e] = one.data;
        if (one.quant) quant[e] = *one.quant;
    }
    v->rows = l->own, v->part = part;
    if (v->quant) v->quant = quant;
    return TK_OK;
}

static bool is_norm(int role) {
    const when w = roles[role].when;
    return w == PRE_NORM || w == MLP_NORM || w == POST_NORM || w == QK_NORM || w == LAST_NORM;
}

static tk_status bind_role(tk_modelfile *f, int role, const char *prefix, bool *used) {
    const tk_config *c = &f->config;
    int n = roles[role].scope == LAYER ? c->n_layer : 1;
    f->weight[role].view = tk_arena_array(&f->arena, (size_t)n, sizeof(tk_weight_view));
    if (!f->weight[role].view) return TK_E_NOMEM;
    for (int layer = 0; layer < n; layer++) {
        char name[160];
        tk_weight_view *v = &f->weight[role].view[layer];
        if (!holds(c, roles[role].when, layer)) continue;
        const struct weight_row *w = find_row(f, role, prefix, layer);
        if (!w)
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "%s: %s models with a weight \"%s\" are not supported in this format", f->path,
                           tk_arch_name(c->arch), roles[role].text);
        const layout l = lay_out(c, w);
        if (l.separate) {
            TK_TRY(join_experts(f, w, &l, prefix, layer, v, used));
            continue;
        }
        expand(name, w->name, prefix, layer, 0);
        TK_TRY(make_any(f, w, &l, name, v, used));
        if (c->norm_shift != 0 && is_norm(role)) v->add = c->norm_shift, v->plain = false;
    }
    return TK_OK;
}

/* GGUF has no key for biases and ties: the model has what its first layer does. */
static void find_by_presence(tk_modelfile *f) {
    tk_config *c = &f->config;
    if (f->source != TK__GGUF) return;
    c->tied = tk__tensor_find(f, "output.weight") == NULL;
    c->qkv_bias = tk__tensor_find(f, "blk.0.attn_q.bias") || tk__tensor_find(f, "blk.0.attn_qkv.bias");
    c->o_bias = tk__tensor_find(f, "blk.0.attn_output.bias") != NULL;
    c->mlp_bias = tk__tensor_find(f, "blk.0.ffn_up.bias") != NULL;
    c->norm_bias = tk__tensor_find(f, "output_norm.bias") != NULL;
    c->shared_norm = c->arch == TK_ARCH_FALCON && !tk__tensor_find(f, "blk.0.attn_norm_2.weight");
}

/* llama.cpp's rule: a GGUF file holds what its family computes with and nothing else. A tensor left over
 * means a variant of the family that would be computed wrongly. */
static tk_status refuse_leftovers(const tk_modelfile *f, const bool *used) {
    for (int i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensor[i].name;
        if (!used[i] && strncmp(name, "rope_f", 6) != 0 && !strstr(name, "rotary_emb.inv_freq"))
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "%s: tensor %s has no place in a %s model\nthe file is a variant that this build "
                           "does not know",
                           f->path, name, tk_arch_name(f->config.arch));
    }
    return TK_OK;
}

tk_status tk__weights_bind(tk_modelfile *f) {
    const char *prefix = find_prefix(f);
    find_by_presence(f);
    TK_TRY(tk__config_check(&f->config));
    bool *used = tk_arena_array(&f->arena, (size_t)f->n_tensors, sizeof *used);
    if (!used) return TK_E_NOMEM;
    for (int role = 0; role < TK__ROLES; role++) TK_TRY(bind_role(f, role, prefix, used));
    return f->source == TK__GGUF ? refuse_leftovers(f, used) : TK_OK;
}

tk_status tk_modelfile_weight(const tk_modelfile *f, const char *role, int layer, tk_weight_view *out) {
    int r = find_role(role, strlen(role));
    *out = (tk_weight_view){ 0 };
    if (r < 0 || !f->has_config) return TK_FAIL(TK_E_INTERNAL, "no weight has the role \"%s\"", role);
    if (roles[r].scope == MODEL)
        layer = 0;
    else if (layer < 0 || layer >= f->config.n_layer)
        return TK_FAIL(TK_E_INTERNAL, "layer %d of %d was asked for", layer, f->config.n_layer);
    *out = f->weight[r].view[layer];
    return TK_OK;
}

/* Where row i (of a vector: element i) lies in its part of the file */
static int64_t place(const tk_weight_view *v, int64_t i, int64_t *part) {
    const int64_t in = i % v->per;
    *part = i / v->per;
    return in / v->run * v->period + in % v->run + v->first;
}

/* The bytes of element (row, col), of a plain dtype or col 0 of a row that is stored as one. */
static const uint8_t *element(const tk_weight_view *v, int64_t row, int64_t col) {
    const size_t bytes = (size_t)tk_formats[v->dtype].bytes;
    int64_t part;
    const int64_t at = place(v, v->rows == 1 && !v->transposed ? col : row, &part);
    const uint8_t *base = v->part ? v->part[part] : v->data + (size_t)part * v->plane;
    if (v->transposed) return base + (size_t)col * v->stride + (size_t)at * bytes;
    return v->rows == 1 ? base + (size_t)at * bytes : base + (size_t)at * v->stride;
}

/* The quantized weight that row `row` is of, and its row there */
static const tk_quant *quant_of(const tk_weight_view *v, int64_t row, int64_t *at) {
    int64_t part;
    *at = place(v, row, &part);
    if (v->part) return v->quant[part];
    *at += part * (v->per / v->run * v->period);
    return v->quant[0];
}

/* Row `row` where it lies as a row of v->dtype; NULL: nowhere */
static const uint8_t *stored(const tk_weight_view *v, int64_t row) {
    if (v->plain) return v->data + (size_t)row * v->stride;
    return v->quant || v->transposed || v->rows == 1 ? NULL : element(v, row, 0);
}

bool tk_weight_view_copy(const tk_weight_view *v, int64_t row, void *dst) {
    const tk_format *fmt = &tk_formats[v->dtype];
    const uint8_t *bytes = stored(v, row);
    if (v->add != 0 || (!bytes && !v->quant)) return false;
    if (bytes) {
        memcpy(dst, bytes, (size_t)(v->cols / fmt->block) * (size_t)fmt->bytes);
        return true;
    }
    int64_t at;
    const tk_quant *q = quant_of(v, row, &at);
    const int step = 32 / fmt->block * fmt->bytes;
    for (int64_t b = 0; b < v->cols / 32; b++) tk__quant_block(q, at, b, (uint8_t *)dst + b * step);
    return true;
}

const int32_t *tk_weight_view_order(const tk_weight_view *v) {
    return v->quant ? tk__quant_order(*v->quant) : NULL;
}

void tk_weight_view_row(const tk_weight_view *v, int64_t row, float *dst) {
    const tk_format *fmt = &tk_formats[v->dtype];
    const uint8_t *bytes = stored(v, row);
    if (bytes) {
        fmt->unpack(dst, bytes, 1, v->cols, 0);
    } else if (v->quant) {
        int64_t at;
        uint8_t block[TK__QUANT_BLOCK];
        const tk_quant *q = quant_of(v, row, &at);
        for (int64_t b = 0; b < v->cols / 32; b++) {
            tk__quant_block(q, at, b, block);
            fmt->unpack(dst + b * 32, block, 1, 32, 0);
        }
    } else {
        for (int64_t c = 0; c < v->cols; c++) fmt->unpack(dst + c, element(v, row, c), 1, 1, 0);
    }
    for (int64_t c = 0; v->add != 0 && c < v->cols; c++) dst[c] += v->add;
}

void tk_weight_view_release(const tk_weight_view *v) {
    const int64_t parts = v->part ? v->rows / v->per : 1;
    for (int64_t i = 0; i < parts; i++) tk_map_release(v->map, v->part ? v->part[i] : v->data, v->bytes);
}
