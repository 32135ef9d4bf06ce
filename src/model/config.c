/* SPDX-License-Identifier: Apache-2.0 */
/* From config keys to a checked tk_config. Plain keys are rows of config_keys.def, read alike from JSON and
 * GGUF; what a family derives from them is in families.c. A key of the wrong type, out of
 * range or null where a value is needed is an error that names it: a default in its place would be another
 * model. */
#include <math.h>
#include <stdio.h>

#include "model/file.h"

static const struct {
    const char *name;
    tk_act act;
} acts[] = {
    { "silu", TK_ACT_SILU },          { "swish", TK_ACT_SILU },
    { "gelu_new", TK_ACT_GELU_TANH }, { "gelu_pytorch_tanh", TK_ACT_GELU_TANH },
    { "gelu", TK_ACT_GELU_ERF },      { "gelu_python", TK_ACT_GELU_ERF },
    { "relu", TK_ACT_RELU },
};

static tk_status act_by_name(tk_act *out, const char *name) {
    for (size_t i = 0; i < TK_COUNT(acts); i++)
        if (!strcmp(acts[i].name, name)) {
            *out = acts[i].act;
            return TK_OK;
        }
    return TK_FAIL(
        TK_E_UNSUPPORTED,
        "unknown activation \"%.60s\"\nit is none of silu, gelu, gelu_new, gelu_pytorch_tanh, relu", name);
}

typedef enum field_type { INT_FIELD, REAL_FIELD, BOOL_FIELD } field_type;

static const struct key_row {
    tk_arch arch;
    field_type type;
    const char *hf, *gguf;
    size_t at;
    double min, max, absent;
} rows[] = {
#define REQUIRED NAN
#define FIELD_TYPE(f) _Generic(((tk_config *)0)->f, int : INT_FIELD, float : REAL_FIELD, bool : BOOL_FIELD)
#define TK_KEY(arch, hf, gguf, field, min, max, absent)                                                      \
    { TK_ARCH_##arch, FIELD_TYPE(field), hf, gguf, offsetof(tk_config, field), min, max, absent },
#include "model/config_keys.def"
#undef TK_KEY
};

static const char *const kind_names[] = { "absent",   "null",     "a boolean",       "an integer",
                                          "a number", "a string", "a list or object" };
static const char *const field_names[] = { "an integer", "a number", "true or false" };

/* The value of the first of the names in `list` ("a|b") that the file has; `name` gets that name (or the
 * first). */
static tk__value get_any(const tk__keys *k, const char *list, char name[96]) {
    tk__value v = { TK__NONE };
    char first[96] = "";
    for (const char *p = list; v.kind == TK__NONE && *p;) {
        size_t n = strcspn(p, "|");
        snprintf(name, 96, "%.*s", (int)n, p);
        if (!*first) memcpy(first, name, 96);
        v = k->get(k->ctx, name);
        p += n + (p[n] == '|');
    }
    if (v.kind == TK__NONE) memcpy(name, first, 96);
    return v;
}

/* A number of the wanted type and range -> *out. */
static tk_status check_number(const tk__keys *k, const char *name, tk__value v, field_type type,
                              const double range[2], double *out) {
    tk__kind want = type == BOOL_FIELD ? TK__BOOL : TK__INT;
    if (v.kind != want && !(type == REAL_FIELD && v.kind == TK__REAL))
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be %s\nit is %s", k->name, name, field_names[type],
                       kind_names[v.kind]);
    *out = v.kind == TK__REAL ? v.r : (double)v.i;
    if (!(*out >= range[0] && *out <= range[1]))
        return TK_FAIL(TK_E_FORMAT, "%s: %s = %g is out of range\nit must lie between %g and %g", k->name,
                       name, *out, range[0], range[1]);
    return TK_OK;
}

static tk_status read_key(tk_config *c, const tk__keys *k, const struct key_row *row) {
    const char *list = k->gguf ? row->gguf : row->hf;
    char name[96] = "";
    tk__value v = { TK__NONE };
    if (list) v = get_any(k, list, name);
    double number = row->absent;
    if (v.kind <= TK__NULL) {
        if (isnan(row->absent))
            return TK_FAIL(TK_E_FORMAT, "%s: %s is %s\nthe model cannot be built without it", k->name, name,
                           v.kind == TK__NULL ? "null" : "missing");
    } else {
        TK_TRY(check_number(k, name, v, row->type, (double[2]){ row->min, row->max }, &number));
    }
    void *field = (char *)c + row->at;
    if (row->type == INT_FIELD)
        *(int *)field = (int)number;
    else if (row->type == REAL_FIELD)
        *(float *)field = (float)number;
    else
        *(bool *)field = number != 0;
    return TK_OK;
}

tk_status tk__key_real(const tk__keys *k, const char *key, double min, double max, float *out) {
    char name[96];
    double number;
    tk__value v = get_any(k, key, name);
    if (v.kind <= TK__NULL) return TK_OK;
    TK_TRY(check_number(k, name, v, REAL_FIELD, (double[2]){ min, max }, &number));
    *out = (float)number;
    return TK_OK;
}

tk_status tk__key_int(const tk__keys *k, const char *key, int64_t min, int64_t max, int *out) {
    char name[96];
    double number;
    tk__value v = get_any(k, key, name);
    if (v.kind <= TK__NULL) return TK_OK;
    TK_TRY(check_number(k, name, v, INT_FIELD, (double[2]){ (double)min, (double)max }, &number));
    *out = (int)number;
    return TK_OK;
}

tk_status tk__key_act(tk_config *c, const tk__keys *k, const char *key, tk_act absent) {
    tk__value v = { TK__NONE };
    if (!k->gguf) v = k->get(k->ctx, key);
    c->act = absent;
    if (v.kind <= TK__NULL) return TK_OK;
    if (v.kind != TK__TEXT)
        return TK_FAIL(TK_E_FORMAT, "%s: %s must be a string\nit is %s", k->name, key, kind_names[v.kind]);
    return act_by_name(&c->act, v.s);
}

bool tk__key_true(const tk__keys *k, const char *key, bool absent) {
    const tk__value v = k->get(k->ctx, key);
    return v.kind == TK__BOOL ? v.i != 0 : v.kind == TK__INT || v.kind == TK__REAL ? v.r != 0 : absent;
}

tk_status tk__key_refuse(const tk__keys *k, const char *key, double harmless, const char *what) {
    tk__value v = k->get(k->ctx, key);
    double r = v.kind == TK__BOOL ? (double)v.i : v.r;
    if (v.kind <= TK__NULL ||
        ((v.kind == TK__BOOL || v.kind == TK__INT || v.kind == TK__REAL) && r == harmless))
        return TK_OK;
    return TK_FAIL(TK_E_UNSUPPORTED, "%s: %s is set\n%s is not supported for this family", k->name, key,
                   what);
}

/* The fields that are not 0 where nothing else is said */
static void set_neutral(tk_config *c) {
    c->embed_scale = c->residual_scale = c->logit_scale = 1;
    c->bos = c->pad = -1;
    c->pre_norm = c->last_norm = true;
}

static tk__value no_key(const void *ctx, const char *key) {
    (void)ctx, (void)key;
    return (tk__value){ TK__NONE };
}

tk_config tk_config_plain(tk_arch arch) {
    tk_config c = { .arch = arch };
    set_neutral(&c);
    tk__config_derive(&c, &(tk__keys){ .name = tk_arch_name(arch), .get = no_key });
    return c;
}

tk_status tk__config_read(tk_config *c, const tk__keys *k) {
    set_neutral(c);
    for (size_t i = 0; i < TK_COUNT(rows); i++)
        if (rows[i].arch == c->arch) TK_TRY(read_key(c, k, &rows[i]));
    TK_TRY(tk__config_derive(c, k));
    if (!c->n_kv_head) c->n_kv_head = c->n_head;
    if (!c->head_dim) {
        if (c->n_embd % c->n_head)
            return TK_FAIL(
                TK_E_FORMAT,
                "%s: the width %d is not a multiple of its %d heads\nand no size of a head is given", k->name,
                c->n_embd, c->n_head);
        c->head_dim = c->n_embd / c->n_head;
    }
    if (c->attn_scale == 0) c->attn_scale = 1 / sqrtf((float)c->head_dim);
    return TK_OK;
}

tk_status tk__config_check(tk_config *c) {
    if (c->n_head % c->n_kv_head)
        return TK_FAIL(TK_E_FORMAT,
                       "%d query heads cannot share %d KV heads\nthe one must be a multiple of the other",
                       c->n_head, c->n_kv_head);
    if ((int64_t)c->n_head * c->head_dim > 1 << 24)
        return TK_FAIL(TK_E_FORMAT, "%d heads of %d elements are too many\nthe limit is %d in all", c->n_head,
                       c->head_dim, 1 << 24);
    if (c->rope.dims < 0 || c->rope.dims > c->head_dim || c->rope.dims % 2)
        return TK_FAIL(TK_E_FORMAT,
                       "rotating %d elements of heads of %d is impossible\nit must be an even number up to "
                       "the head's size",
                       c->rope.dims, c->head_dim);
    if (c->norm == TK_NORM_LAYER && !c->norm_bias)
        return TK_FAIL(TK_E_UNSUPPORTED, "LayerNorms without biases are not supported\nthe file holds none");
    if (c->n_vocab < 1)
        return TK_FAIL(TK_E_FORMAT,
                       "the config does not say how many tokens there are\nvocab_size is missing");
    /* Ids that no token can have: small test models often keep the large model's. They can never be met. */
    if (c->bos >= c->n_vocab || c->bos < 0) c->bos = -1;
    if (c->pad >= c->n_vocab || c->pad < 0) c->pad = -1;
    return TK_OK;
}

const char tk__families[] =
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) " " hf
#include "model/archs.def"
#undef TK_ARCH_ROW
    ;

static const char *const arch_names[2][TK_ARCHS] = { {
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) hf,
#include "model/archs.def"
#undef TK_ARCH_ROW
                                                     },
                                                     {
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) gguf,
#include "model/archs.def"
#undef TK_ARCH_ROW
                                                     } };

tk_arch tk__arch_find(const char *name, bool gguf) {
    for (int a = 0; a < TK_ARCHS; a++)
        for (const char *p = arch_names[gguf][a]; p && *p;) {
            const size_t n = strcspn(p, "|");
            if (strlen(name) == n && !memcmp(p, name, n)) return (tk_arch)a;
            p += n + (p[n] == '|');
        }
    return TK_ARCHS;
}

const char *tk_arch_name(tk_arch a) {
    switch (a) {
    case TK_ARCH_GEMMA3: return "gemma3";
    default: return a < TK_ARCHS ? arch_names[0][a] : "?";
    }
}

float tk_attn_scale(const tk_config *c, int layer) {
    return c->attn_scale_by_layer ? c->attn_scale / (float)(layer + 1) : c->attn_scale;
}

const tk_rope *tk_layer_rope(const tk_config *c, int layer) {
    const unsigned bits = tk_layer_bits(c, layer);
    if (bits & TK_LAYER_NOPE || !c->rope.dims) return NULL;
    return bits & TK_LAYER_LOCAL && c->rope_local.dims ? &c->rope_local : &c->rope;
}
