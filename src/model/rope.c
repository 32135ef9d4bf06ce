/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary embedding: its keys in both formats, and the frequencies that follow from them. Frequencies are
 * computed in double and rounded once; formulas are those of Hugging Face's modeling_rope_utils,
 * which llama.cpp shares where GGUF can express them. */
#include <math.h>

#include "model/file.h"

static const struct {
    const char *name;
    tk_rope_scaling scaling;
} scalings[] = {
    { "none", TK_ROPE_NONE },         { "default", TK_ROPE_NONE }, { "linear", TK_ROPE_LINEAR },
    { "llama3", TK_ROPE_LLAMA3 },     { "yarn", TK_ROPE_YARN },    { "dynamic", TK_ROPE_DYNAMIC },
    { "longrope", TK_ROPE_LONGROPE }, { "su", TK_ROPE_LONGROPE }, /* Phi-3's first files */
};

const char *tk_rope_scaling_name(tk_rope_scaling s) {
    size_t i = 0;
    while (scalings[i].scaling != s) i++;
    return scalings[i].name;
}

static tk_status scaling_by_name(const tk__keys *k, const char *name, tk_rope_scaling *out) {
    for (size_t i = 0; i < TK_COUNT(scalings); i++)
        if (!strcmp(scalings[i].name, name)) {
            *out = scalings[i].scaling;
            return TK_OK;
        }
    return TK_FAIL(
        TK_E_UNSUPPORTED,
        "%s: unknown rope scaling type \"%.60s\"\nit is none of default, linear, llama3, yarn, dynamic, "
        "longrope",
        k->name, name);
}

static tk_status check(const tk__keys *k, const tk_rope *r) {
    if (r->scaling != TK_ROPE_NONE && r->scaling != TK_ROPE_LONGROPE && !(r->factor > 0))
        return TK_FAIL(TK_E_FORMAT, "%s: the rope scaling has no factor\nthis type needs one above 0",
                       k->name);
    if (r->scaling == TK_ROPE_LLAMA3 && !(r->low_freq > 0 && r->high_freq > r->low_freq))
        return TK_FAIL(TK_E_FORMAT,
                       "%s: rope scaling llama3 needs low_freq_factor < high_freq_factor\nthey are %g and %g",
                       k->name, (double)r->low_freq, (double)r->high_freq);
    if (r->scaling == TK_ROPE_YARN && !(r->theta > 1))
        return TK_FAIL(TK_E_FORMAT, "%s: rope scaling yarn needs a theta above 1\nit is %g", k->name,
                       (double)r->theta);
    if (r->scaling == TK_ROPE_DYNAMIC && r->dims < 4)
        return TK_FAIL(TK_E_FORMAT, "%s: dynamic rope scaling needs at least four rotated elements", k->name);
    return TK_OK;
}

/* A list of one positive number a pair. */
static tk_status read_factors(const tk__keys *k, const char *key, const tk_rope *r, const float **out) {
    const int pairs = r->dims / 2;
    float *all = tk_arena_array(k->arena, (size_t)TK_MAX(pairs, 1), sizeof *all);
    if (!all) return TK_E_NOMEM;
    for (int i = 0; i <= pairs; i++) {
        const tk__value v = k->item(k->ctx, key, (size_t)i);
        const bool number = v.kind == TK__INT || v.kind == TK__REAL;
        if (i == pairs ? v.kind != TK__NONE : !number || !(v.r > 1e-6 && v.r < 1e6))
            return TK_FAIL(TK_E_FORMAT, "%s: %s must list %d positive numbers\none for each rotated pair",
                           k->name, key, pairs);
        if (i < pairs) all[i] = (float)v.r;
    }
    *out = all;
    return TK_OK;
}

/* One set of rope parameters; `top` holds what older files keep beside it. */
static tk_status read_set(const tk_config *c, tk_rope *r, const tk__keys *top, const tk__keys *k) {
    tk__value type = k->get(k->ctx, "rope_type");
    if (type.kind <= TK__NULL) type = k->get(k->ctx, "type");
    if (type.kind <= TK__NULL) type = (tk__value){ TK__TEXT, .s = "default" };
    if (type.kind != TK__TEXT) return TK_FAIL(TK_E_FORMAT, "config.json: rope_type must be a string");
    TK_TRY(scaling_by_name(k, type.s, &r->scaling));
    TK_TRY(tk__key_real(k, "rope_theta", 1e-6, 1e12, &r->theta));
    if (r->scaling == TK_ROPE_NONE) return TK_OK;
    r->original_ctx = c->n_ctx;
    TK_TRY(tk__key_int(k, "original_max_position_embeddings", 1, 1 << 30, &r->original_ctx));
    TK_TRY(tk__key_int(top, "original_max_position_embeddings", 1, 1 << 30, &r->original_ctx));
    if (r->scaling == TK_ROPE_YARN) r->factor = (float)c->n_ctx / (float)r->original_ctx;
    r->beta_fast = 32, r->beta_slow = 1;
    TK_TRY(tk__key_real(k, "factor", 1e-6, 1e6, &r->factor));
    TK_TRY(tk__key_real(k, "low_freq_factor", 1e-6, 1e6, &r->low_freq));
    TK_TRY(tk__key_real(k, "high_freq_factor", 1e-6, 1e6, &r->high_freq));
    TK_TRY(tk__key_real(k, "beta_fast", 1e-6, 1e6, &r->beta_fast));
    TK_TRY(tk__key_real(k, "beta_slow", 1e-6, 1e6, &r->beta_slow));
    TK_TRY(tk__key_real(k, "attention_factor", 1e-6, 1e6, &r->attention_factor));
    TK_TRY(tk__key_real(k, "mscale", 0, 1e6, &r->mscale));
    TK_TRY(tk__key_real(k, "mscale_all_dim", 0, 1e6, &r->mscale_all));
    r->truncate = tk__key_true(k, "truncate", true);
    if (r->scaling == TK_ROPE_DYNAMIC) r->original_ctx = c->n_ctx; /* transformers counts from there */
    if (r->scaling == TK_ROPE_LONGROPE) {
        TK_TRY(read_factors(k, "short_factor", r, &r->divisors));
        TK_TRY(read_factors(k, "long_factor", r, &r->long_divisors));
        const float factor = r->factor > 0 ? r->factor : (float)c->n_ctx / (float)r->original_ctx;
        if (r->attention_factor == 0)
            r->attention_factor =
                factor <= 1 ? 1 : sqrtf(1 + logf(factor) / logf((float)TK_MAX(r->original_ctx, 2)));
    }
    return check(k, r);
}

/* How much of each head is rotated: a key of few families; elsewhere transformers does not read it. */
static tk_status read_partial(const tk_config *c, const tk__keys *top, const tk__keys *set, int *dims) {
    const bool known = c->arch == TK_ARCH_PHI3 || c->arch == TK_ARCH_GPT_NEOX;
    float partial = c->arch == TK_ARCH_GPT_NEOX ? 0.25f : 1;
    if (c->arch == TK_ARCH_GPT_NEOX) TK_TRY(tk__key_real(top, "rotary_pct", 0, 1, &partial));
    TK_TRY(tk__key_real(top, "partial_rotary_factor", 0, 1, &partial));
    if (set) TK_TRY(tk__key_real(set, "partial_rotary_factor", 0, 1, &partial));
    if (partial != 1 && !known)
        return TK_FAIL(
            TK_E_UNSUPPORTED,
            "config.json: partial_rotary_factor is set\npartial rotation is not supported for this family");
    *dims = (int)((float)c->head_dim * partial);
    return TK_OK;
}

static const json_t *object_at(const json_t *j, const char *key) {
    const json_t *item = json_object_get(j, key);
    return item && !json_is_null(item) ? item : NULL;
}

tk_status tk__config_rope_json(tk_config *c, const json_t *config, tk_arena *arena) {
    static const char *const kinds[] = { "full_attention", "sliding_attention" };
    tk__keys top = tk__json_keys("config.json", config, arena);
    /* transformers 5 writes rope_parameters with the theta in it, older ones rope_scaling beside rope_theta
     */
    const json_t *object = object_at(config, "rope_parameters");
    if (!object) object = object_at(config, "rope_scaling");
    if (object && !json_is_object(object))
        return TK_FAIL(TK_E_FORMAT, "config.json: the rope scaling must be an object or null");
    const tk__keys flat = tk__json_keys("config.json", object, arena);
    const bool local = c->arch == TK_ARCH_GEMMA3, nested = local && object_at(object, kinds[0]);
    c->rope = (tk_rope){ .style = TK_ROPE_HALF, .theta = 10000, .truncate = true };
    TK_TRY(read_partial(c, &top, object && !nested ? &flat : NULL, &c->rope.dims));
    if (c->arch == TK_ARCH_GPT_NEOX)
        TK_TRY(tk__key_real(&top, "rotary_emb_base", 1e-6, 1e12, &c->rope.theta));
    if (local) { /* its local layers have a base of their own and no scaling */
        c->rope_local = c->rope;
        TK_TRY(tk__key_real(&top, "rope_local_base_freq", 1e-6, 1e12, &c->rope_local.theta));
        c->rope.theta = 1e6f;
    }
    TK_TRY(tk__key_real(&top, "rope_theta", 1e-6, 1e12, &c->rope.theta));
    if (!nested) {
        const char *name;
        json_t *item;
        json_object_foreach((json_t *)(uintptr_t)object, name, item) if (json_is_object(item)) return TK_FAIL(
            TK_E_UNSUPPORTED,
            "config.json: rope parameters by kind of layer (\"%.60s\")\n"
            "only one set for all layers is supported for this family",
            name);
        return object ? read_set(c, &c->rope, &top, &flat) : TK_OK;
    }
    for (int i = 0; i < 2; i++) {
        const json_t *set = object_at(object, kinds[i]);
        if (!json_is_object(set))
            return TK_FAIL(TK_E_FORMAT, "config.json: rope_parameters lacks the object %s", kinds[i]);
        const tk__keys k = tk__json_keys("config.json", set, arena);
        TK_TRY(read_set(c, i ? &c->rope_local : &c->rope, &top, &k));
    }
    return TK_OK;
}

/* Families whose GGUF files pair neighbours: llama's converter permutes the rows of q and k for it. */
static tk_rope_style gguf_style(tk_arch a) {
    return a == TK_ARCH_LLAMA || a == TK_ARCH_GRANITE || a == TK_ARCH_SMOLLM3 ? TK_ROPE_INTERLEAVED
                                                                              : TK_ROPE_HALF;
}

tk_status tk__config_rope_gguf(tk_config *c, const tk__keys *k) {
    tk_rope *r = &c->rope;
    *r = (tk_rope){ .dims = c->head_dim,
                    .style = gguf_style(c->arch),
                    .theta = 10000,
                    .truncate =
                        c->arch != TK_ARCH_GPT_OSS }; /* no key says so; the model was trained without */
    TK_TRY(tk__key_int(k, "rope.dimension_count", 0, 1 << 16, &r->dims));
    if (c->arch == TK_ARCH_GEMMA3) c->rope_local = *r;
    if (c->rope_local.dims) TK_TRY(tk__key_real(k, "rope.freq_base_swa", 1e-6, 1e12, &c->rope_local.theta));
    TK_TRY(tk__key_real(k, "rope.freq_base", 1e-6, 1e12, &r->theta));
    TK_TRY(tk__key_real(k, "rope.scaling.factor|rope.scale_linear", 0, 1e6, &r->factor));
    tk__value type = k->get(k->ctx, "rope.scaling.type");
    if (type.kind == TK__NONE)
        type = (tk__value){ TK__TEXT, .s = r->factor > 0 ? "linear" : "none" }; /* as llama.cpp */
    if (type.kind != TK__TEXT) return TK_FAIL(TK_E_FORMAT, "%s: rope.scaling.type must be a string", k->name);
    TK_TRY(scaling_by_name(k, type.s, &r->scaling));
    if (r->scaling == TK_ROPE_LLAMA3 || r->scaling == TK_ROPE_DYNAMIC) /* GGUF says it by rope_freqs.weight */
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: unknown rope scaling type \"%s\"\nGGUF files have none, linear, yarn or longrope",
                       k->name, type.s);
    if (r->scaling == TK_ROPE_LINEAR && r->factor == 0) r->scaling = TK_ROPE_NONE;
    if (r->scaling != TK_ROPE_YARN && r->scaling != TK_ROPE_LONGROPE && c->arch != TK_ARCH_PHI3)
        return check(k, r);
    float attention = 1, extrapolation = 1, log_multiplier = 0;
    r->original_ctx = c->n_ctx, r->beta_fast = 32, r->beta_slow = 1;
    TK_TRY(tk__key_int(k, "rope.scaling.original_context_length", 1, 1 << 30, &r->original_ctx));
    TK_TRY(tk__key_real(k, "rope.scaling.attn_factor", 1e-6, 1e6, &attention));
    if (r->scaling != TK_ROPE_YARN) { /* longrope, whose factors are tensors; gguf.c reads them */
        r->attention_factor = attention;
        return check(k, r);
    }
    TK_TRY(tk__key_real(k, "rope.scaling.yarn_beta_fast", 1e-6, 1e6, &r->beta_fast));
    TK_TRY(tk__key_real(k, "rope.scaling.yarn_beta_slow", 1e-6, 1e6, &r->beta_slow));
    TK_TRY(tk__key_real(k, "rope.scaling.yarn_ext_factor", -1, 1e6, &extrapolation));
    TK_TRY(tk__key_real(k, "rope.scaling.yarn_log_multiplier", 0, 1e6, &log_multiplier));
    if (log_multiplier != 0 || (extrapolation != 1 && extrapolation != -1)) /* -1 = the default */
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: yarn with its own extrapolation or log multiplier\nthis variant is not supported",
                       k->name);
    TK_TRY(check(k, r));
    r->attention_factor = attention * (r->factor > 1 ? 1 + 0.1f * logf(r->factor) : 1);
    return TK_OK;
}

static double yarn_scale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

/* The pair (a real number) that turns `rotations` times within the original context. */
static double yarn_pair(const tk_rope *r, double rotations) {
    return r->dims * log(r->original_ctx / (rotations * 2 * M_PI)) / (2 * log((double)r->theta));
}

static double llama3_freq(const tk_rope *r, double freq) {
    double turns = r->original_ctx * freq / (2 * M_PI); /* within the original context */
    if (turns < (double)r->low_freq) return freq / (double)r->factor;
    if (turns > (double)r->high_freq) return freq;
    double keep = (turns - (double)r->low_freq) / ((double)r->high_freq - (double)r->low_freq);
    return (1 - keep) * freq / (double)r->factor + keep * freq;
}

void tk_rope_freqs(const tk_rope *r, int64_t ctx, float *freq, float *factor) {
    double low = 0, high = 0, theta = (double)r->theta;
    const bool beyond = ctx > r->original_ctx;
    *factor = 1;
    if (r->scaling == TK_ROPE_YARN) {
        low = yarn_pair(r, (double)r->beta_fast), high = yarn_pair(r, (double)r->beta_slow);
        if (r->truncate) low = floor(low), high = ceil(high);
        low = fmax(low, 0), high = fmin(high, r->dims - 1);
        if (low == high) high += 0.001;
        double f = (double)r->factor;
        if (r->attention_factor > 0)
            *factor = r->attention_factor;
        else if (r->mscale != 0 && r->mscale_all != 0)
            *factor = (float)(yarn_scale(f, (double)r->mscale) / yarn_scale(f, (double)r->mscale_all));
        else
            *factor = (float)yarn_scale(f, 1);
    }
    if (r->scaling == TK_ROPE_LONGROPE) *factor = r->attention_factor;
    if (r->scaling == TK_ROPE_DYNAMIC &&
        beyond) /* NTK: the slowest pair is stretched to the longer context */
        theta *= pow((double)r->factor * (double)ctx / r->original_ctx - ((double)r->factor - 1),
                     (double)r->dims / (r->dims - 2));
    const float *divisors = r->scaling == TK_ROPE_LONGROPE && beyond ? r->long_divisors : r->divisors;
    for (int i = 0; freq && i < r->dims / 2; i++) {
        double w = pow(theta, -2.0 * i / r->dims);
        if (divisors) w /= (double)divisors[i];
        if (r->scaling == TK_ROPE_LINEAR) w /= (double)r->factor;
        if (r->scaling == TK_ROPE_LLAMA3) w = llama3_freq(r, w);
        if (r->scaling == TK_ROPE_YARN) {
            double slow = fmin(1, fmax(0, (i - low) / (high - low)));
            w = w / (double)r->factor * slow + w * (1 - slow);
        }
        freq[i] = (float)w;
    }
}
