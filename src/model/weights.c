/* SPDX-License-Identifier: Apache-2.0 */
/* Weights by role: weights.def says what a family has and what its files call it; here names meet tensors,
 * shapes meet the config, and fused tensors are cut. All of it happens once, when the file is opened, so that
 * asking for a weight later cannot fail. */
#include <stdio.h>

#include "model/file.h"

/* Sizes that a role's rows and columns are named by, and conditions, as letters of weights.def */
typedef enum size_letter { SIZE_ONE, SIZE_VOCAB, SIZE_CTX, SIZE_EMBD, SIZE_Q, SIZE_KV, SIZE_FF } size_letter;
typedef enum when {
    ALWAYS,
    LEARNED_POS,
    NORM_BIAS,
    QKV_BIAS,
    O_BIAS,
    MLP_BIAS,
    GATED,
    GATED_BIAS,
    UNTIED
} when;
enum { MODEL, LAYER };
enum { TRANSPOSED = 1 };

static int64_t size_of(const tk_config *c, size_letter s) {
    switch (s) {
    case SIZE_ONE: return 1;
    case SIZE_VOCAB: return c->n_vocab;
    case SIZE_CTX: return c->n_ctx;
    case SIZE_EMBD: return c->n_embd;
    case SIZE_Q: return (int64_t)c->n_head * c->head_dim;
    case SIZE_KV: return (int64_t)c->n_kv_head * c->head_dim;
    case SIZE_FF: return c->n_ff;
    }
    return 0;
}

static bool holds(const tk_config *c, when w) {
    switch (w) {
    case ALWAYS: return true;
    case LEARNED_POS: return c->learned_pos;
    case NORM_BIAS: return c->norm_bias;
    case QKV_BIAS: return c->qkv_bias;
    case O_BIAS: return c->o_bias;
    case MLP_BIAS: return c->mlp_bias;
    case GATED: return c->gated;
    case GATED_BIAS: return c->gated && c->mlp_bias;
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
#define TK_WEIGHT(source, arch, role, name, parts, flags)
#include "model/weights.def"
#undef TK_ROLE
#undef TK_WEIGHT
};

static const struct weight_row {
    tk__source source;
    tk_arch arch;
    int role;
    const char *name, *parts;
    unsigned flags;
} weights[] = {
#define TK_ROLE(id, text, scope, rows, cols, when)
#define TK_WEIGHT(source, arch, role, name, parts, flags)                                                    \
    { TK__##source, TK_ARCH_##arch, TK__ROLE_##role, name, parts, flags },
#include "model/weights.def"
#undef TK_ROLE
#undef TK_WEIGHT
};

/* The role of length n at text, or -1. */
static int find_role(const char *text, size_t n) {
    for (int i = 0; i < TK__ROLES; i++)
        if (strlen(roles[i].text) == n && !memcmp(roles[i].text, text, n)) return i;
    return -1;
}

static const struct weight_row *find_row(const tk_modelfile *f, int role) {
    for (size_t i = 0; i < TK_COUNT(weights); i++)
        if (weights[i].source == f->source && weights[i].arch == f->config.arch && weights[i].role == role)
            return &weights[i];
    return NULL;
}

/* Base models are saved with or without the name of the part that they are of a larger one. */
static const char *find_prefix(const tk_modelfile *f) {
    static const char *const prefixes[] = { "model.", "transformer.", "" };
    const struct weight_row *embed = find_row(f, TK__ROLE_EMBED);
    if (embed && embed->name[0] == '~')
        for (size_t i = 0; i < TK_COUNT(prefixes); i++) {
            char name[160];
            snprintf(name, sizeof name, "%s%s", prefixes[i], embed->name + 1);
            if (tk__tensor_find(f, name)) return prefixes[i];
        }
    return "";
}

static void expand(char out[160], const char *pattern, const char *prefix, int layer) {
    const char *rest = pattern[0] == '~' ? pattern + 1 : pattern, *number = strstr(rest, "%d");
    if (pattern[0] != '~') prefix = "";
    if (number)
        snprintf(out, 160, "%s%.*s%d%s", prefix, (int)(number - rest), rest, layer, number + 2);
    else
        snprintf(out, 160, "%s%s", prefix, rest);
}

/* Sizes along the cut of all parts of a fused tensor, and of those before `role`. A matrix is cut in rows, a
 * vector (one row) in columns. */
static void fused_span(const tk_config *c, const struct weight_row *w, int64_t own, int64_t *before,
                       int64_t *all) {
    *before = 0, *all = own;
    if (!w->parts) return;
    *all = 0;
    for (const char *p = w->parts; *p;) {
        size_t n = strcspn(p, " ");
        int role = find_role(p, n);
        if (role == w->role) *before = *all;
        if (role >= 0) {
            int64_t rows = size_of(c, roles[role].rows);
            *all += rows == 1 ? size_of(c, roles[role].cols) : rows;
        }
        p += n + (p[n] == ' ');
    }
}

static void shape_text(char out[96], const tk_tensor *t) {
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < t->ndim && n < 80; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%lld", i ? ", " : "", (long long)t->dim[i]);
}

static tk_status make_view(const tk_modelfile *f, const struct weight_row *w, const tk_tensor *t,
                           tk_weight_view *v) {
    const tk_config *c = &f->config;
    int64_t rows = size_of(c, roles[w->role].rows), cols = size_of(c, roles[w->role].cols), before, all;
    bool vector = rows == 1 && roles[w->role].rows == SIZE_ONE, transposed = (w->flags & TRANSPOSED) != 0;
    fused_span(c, w, vector ? cols : rows, &before, &all);
    int64_t want[2] = { vector ? all : transposed ? cols : all, vector ? 1 : transposed ? all : cols };
    int ndim = vector ? 1 : 2;
    if (t->ndim != ndim || t->dim[0] != want[0] || t->dim[1] != want[1]) {
        char got[96];
        shape_text(got, t);
        return vector ? TK_FAIL(TK_E_FORMAT, "%s: tensor %s has the shape [%s]\nthe config asks for [%lld]",
                                f->path, t->name, got, (long long)want[0])
                      : TK_FAIL(TK_E_FORMAT,
                                "%s: tensor %s has the shape [%s]\nthe config asks for [%lld, %lld]", f->path,
                                t->name, got, (long long)want[0], (long long)want[1]);
    }
    if (t->dtype == TK_NODTYPE || !tk_formats[t->dtype].unpack)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: tensor %s has the type %s\nthis build cannot compute with it\n"
                       "get the model in another type (Q8_0, Q4_K, BF16, ...)",
                       f->path, t->name, t->type);
    const tk_format *fmt = &tk_formats[t->dtype];
    int64_t file_rows = vector ? 1 : want[0], file_cols = vector ? want[0] : want[1];
    size_t stride, bytes;
    if (!tk_format_size(t->dtype, 1, file_cols, &stride) ||
        !tk_format_size(t->dtype, file_rows, file_cols, &bytes) || bytes != t->bytes ||
        (transposed && fmt->block != 1) || (vector && before % fmt->block) || (vector && cols % fmt->block))
        return TK_FAIL(
            TK_E_FORMAT,
            "%s: tensor %s cannot be of type %s\nits rows do not divide into the type's blocks of %d",
            f->path, t->name, t->type, fmt->block);
    *v = (tk_weight_view){ .name = t->name,
                           .dtype = t->dtype,
                           .rows = rows,
                           .cols = cols,
                           .data = t->data,
                           .stride = stride,
                           .bytes = t->bytes,
                           .transposed = transposed,
                           .map = t->map };
    if (transposed) {
        v->col0 = before;
    } else if (vector) {
        v->data += (size_t)(before / fmt->block) * (size_t)fmt->bytes;
        v->stride = v->bytes = (size_t)(cols / fmt->block) * (size_t)fmt->bytes;
    } else {
        v->data += (size_t)before * stride;
        v->bytes = (size_t)rows * stride;
    }
    return TK_OK;
}

static tk_status bind_role(tk_modelfile *f, int role, const char *prefix, bool *used) {
    const tk_config *c = &f->config;
    const struct weight_row *w = find_row(f, role);
    int n = roles[role].scope == LAYER ? c->n_layer : 1;
    f->weight[role].view = tk_arena_array(&f->arena, (size_t)n, sizeof(tk_weight_view));
    if (!f->weight[role].view) return TK_E_NOMEM;
    if (!holds(c, roles[role].when)) return TK_OK;
    if (!w)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: %s models with a weight \"%s\" are not supported in this format", f->path,
                       tk_arch_name(c->arch), roles[role].text);
    for (int layer = 0; layer < n; layer++) {
        char name[160];
        expand(name, w->name, prefix, layer);
        const tk_tensor *t = tk__tensor_find(f, name);
        if (!t)
            return TK_FAIL(TK_E_FORMAT,
                           "%s: tensor %s is missing\nthe config asks for it\nfetch the model again", f->path,
                           name);
        TK_TRY(make_view(f, w, t, &f->weight[role].view[layer]));
        used[t - f->tensor] = true;
    }
    return TK_OK;
}

/* GGUF has no key for biases: the family has them if its first layer does. */
static void biases_by_presence(tk_modelfile *f) {
    tk_config *c = &f->config;
    if (f->source != TK__GGUF || c->arch != TK_ARCH_LLAMA) return;
    c->qkv_bias = tk__tensor_find(f, "blk.0.attn_q.bias") != NULL;
    c->o_bias = tk__tensor_find(f, "blk.0.attn_output.bias") != NULL;
    c->mlp_bias = tk__tensor_find(f, "blk.0.ffn_up.bias") != NULL;
}

/* llama.cpp's rule: a GGUF file holds what its family computes with and nothing else. A tensor left over
 * means a variant of the family that would be computed wrongly. */
static tk_status refuse_leftovers(const tk_modelfile *f, const bool *used) {
    for (int i = 0; i < f->n_tensors; i++) {
        const char *name = f->tensor[i].name;
        if (!used[i] && strcmp(name, "rope_freqs.weight") && !strstr(name, "rotary_emb.inv_freq"))
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "%s: tensor %s has no place in a %s model\nthe file is a variant that this build "
                           "does not know",
                           f->path, name, tk_arch_name(f->config.arch));
    }
    return TK_OK;
}

tk_status tk__weights_bind(tk_modelfile *f) {
    const char *prefix = find_prefix(f);
    biases_by_presence(f);
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

void tk_weight_view_row(const tk_weight_view *v, int64_t row, float *dst) {
    const tk_format *fmt = &tk_formats[v->dtype];
    if (!v->transposed) {
        fmt->unpack(dst, v->data, v->rows, v->cols, row);
        return;
    }
    const uint8_t *p = v->data + (size_t)(v->col0 + row) * (size_t)fmt->bytes;
    for (int64_t c = 0; c < v->cols; c++, p += v->stride) fmt->unpack(dst + c, p, 1, 1, 0);
}
