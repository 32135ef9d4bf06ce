/* SPDX-License-Identifier: Apache-2.0 */
/* Rotary embedding: its keys in both formats, and the frequencies that follow from them. Frequencies are
 * computed in double and rounded once; formulas are those of Hugging Face's modeling_rope_utils (linear,
 * llama3, yarn), which llama.cpp shares where GGUF can express them. */
#include <math.h>

#include "model/file.h"

static const struct {
    const char *name;
    tk_rope_scaling scaling;
} scalings[] = {
    { "default", TK_ROPE_NONE }, { "none", TK_ROPE_NONE },     { "linear", TK_ROPE_LINEAR },
    { "yarn", TK_ROPE_YARN },    { "llama3", TK_ROPE_LLAMA3 },
};

static tk_status scaling_by_name(const tk__keys *k, const char *name, tk_rope_scaling *out) {
    for (size_t i = 0; i < TK_COUNT(scalings); i++)
        if (!strcmp(scalings[i].name, name)) {
            *out = scalings[i].scaling;
            return TK_OK;
        }
    return TK_FAIL(TK_E_UNSUPPORTED,
                   "%s: unknown rope scaling type \"%.60s\"\nit is none of default, linear, llama3, yarn",
                   k->name, name);
}

static tk_status check(const tk__keys *k, const tk_rope *r) {
    if (r->scaling != TK_ROPE_NONE && !(r->factor > 0))
        return TK_FAIL(TK_E_FORMAT, "%s: the rope scaling has no factor\nthis type needs one above 0",
                       k->name);
    if (r->scaling == TK_ROPE_LLAMA3 && !(r->low_freq > 0 && r->high_freq > r->low_freq))
        return TK_FAIL(TK_E_FORMAT,
                       "%s: rope scaling llama3 needs low_freq_factor < high_freq_factor\nthey are %g and %g",
                       k->name, (double)r->low_freq, (double)r->high_freq);
    if (r->scaling == TK_ROPE_YARN && !(r->theta > 1))
        return TK_FAIL(TK_E_FORMAT, "%s: rope scaling yarn needs a theta above 1\nit is %g", k->name,
                       (double)r->theta);
    return TK_OK;
}

tk_status tk__config_rope_json(tk_config *c, const json_t *config) {
    tk_rope *r = &c->rope;
    tk__keys top = { "config.json", false, tk__json_get, config };
    /* transformers 5 writes rope_parameters with the theta in it, older ones rope_scaling beside rope_theta
     */
    const json_t *object = json_object_get(config, "rope_parameters");
    if (!object || json_is_null(object)) object = json_object_get(config, "rope_scaling");
    *r = (tk_rope){ .dims = c->head_dim, .style = TK_ROPE_HALF, .theta = 10000, .truncate = true };
    TK_TRY(tk__key_real(&top, "rope_theta", 1e-6, 1e12, &r->theta));
    if (!object || json_is_null(object)) return TK_OK;
    if (!json_is_object(object))
        return TK_FAIL(TK_E_FORMAT, "config.json: the rope scaling must be an object or null");
    const char *name;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)object, name, item) if (json_is_object(item)) return TK_FAIL(
        TK_E_UNSUPPORTED,
        "config.json: rope parameters by kind of layer (\"%.60s\")\n"
        "only one set for all layers is supported",
        name);
    tk__keys k = { "config.json", false, tk__json_get, object };
    tk__value type = k.get(object, "rope_type");
    if (type.kind <= TK__NULL) type = k.get(object, "type");
    if (type.kind <= TK__NULL) type = (tk__value){ TK__TEXT, .s = "default" };
    if (type.kind != TK__TEXT) return TK_FAIL(TK_E_FORMAT, "config.json: rope_type must be a string");
    TK_TRY(scaling_by_name(&k, type.s, &r->scaling));
    float partial = 1;
    TK_TRY(tk__key_real(&k, "partial_rotary_factor", 0, 1, &partial));
    if (partial != 1)
        return TK_FAIL(
            TK_E_UNSUPPORTED,
            "config.json: partial_rotary_factor is set\npartial rotation is not supported for this family");
    TK_TRY(tk__key_real(&k, "rope_theta", 1e-6, 1e12, &r->theta));
    if (r->scaling == TK_ROPE_NONE) return TK_OK;
    r->original_ctx = c->n_ctx;
    TK_TRY(tk__key_int(&k, "original_max_position_embeddings", 1, 1 << 30, &r->original_ctx));
    TK_TRY(tk__key_int(&top, "original_max_position_embeddings", 1, 1 << 30, &r->original_ctx));
    if (r->scaling == TK_ROPE_YARN) r->factor = (float)c->n_ctx / (float)r->original_ctx;
    r->beta_fast = 32, r->beta_slow = 1;
    TK_TRY(tk__key_real(&k, "factor", 1e-6, 1e6, &r->factor));
    TK_TRY(tk__key_real(&k, "low_freq_factor", 1e-6, 1e6, &r->low_freq));
    TK_TRY(tk__key_real(&k, "high_freq_factor", 1e-6, 1e6, &r->high_freq));
    TK_TRY(tk__key_real(&k, "beta_fast", 1e-6, 1e6, &r->beta_fast));
    TK_TRY(tk__key_real(&k, "beta_slow", 1e-6, 1e6, &r->beta_slow));
    TK_TRY(tk__key_real(&k, "attention_factor", 1e-6, 1e6, &r->attention_factor));
    TK_TRY(tk__key_real(&k, "mscale", 0, 1e6, &r->mscale));
    TK_TRY(tk__key_real(&k, "mscale_all_dim", 0, 1e6, &r->mscale_all));
    tk__value truncate = k.get(object, "truncate");
    if (truncate.kind == TK__BOOL) r->truncate = truncate.i != 0;
    return check(&k, r);
}

tk_status tk__config_rope_gguf(tk_config *c, const tk__keys *k) {
    tk_rope *r = &c->rope;
    *r = (tk_rope){ .dims = c->head_dim, .style = TK_ROPE_INTERLEAVED, .theta = 10000, .truncate = true };
    TK_TRY(tk__key_int(k, "rope.dimension_count", 0, 1 << 16, &r->dims));
    TK_TRY(tk__key_real(k, "rope.freq_base", 1e-6, 1e12, &r->theta));
    TK_TRY(tk__key_real(k, "rope.scaling.factor|rope.scale_linear", 0, 1e6, &r->factor));
    tk__value type = k->get(k->ctx, "rope.scaling.type");
    if (type.kind == TK__NONE)
        type = (tk__value){ TK__TEXT, .s = r->factor > 0 ? "linear" : "none" }; /* as llama.cpp */
    if (type.kind != TK__TEXT) return TK_FAIL(TK_E_FORMAT, "%s: rope.scaling.type must be a string", k->name);
    TK_TRY(scaling_by_name(k, type.s, &r->scaling));
    if (r->scaling == TK_ROPE_LLAMA3) /* GGUF says it by rope_freqs.weight */
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: unknown rope scaling type \"llama3\"\nGGUF files have none, linear or yarn",
                       k->name);
    if (r->scaling == TK_ROPE_LINEAR && r->factor == 0) r->scaling = TK_ROPE_NONE;
    if (r->scaling != TK_ROPE_YARN) return check(k, r);
    float attention = 1, extrapolation = 1, log_multiplier = 0;
    r->original_ctx = c->n_ctx, r->beta_fast = 32, r->beta_slow = 1;
    TK_TRY(tk__key_int(k, "rope.scaling.original_context_length", 1, 1 << 30, &r->original_ctx));
    TK_TRY(tk__key_real(k, "rope.scaling.attn_factor", 1e-6, 1e6, &attention));
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

void tk_rope_freqs(const tk_rope *r, float *freq, float *factor) {
    double low = 0, high = 0;
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
    for (int i = 0; i < r->dims / 2; i++) {
        double w = pow((double)r->theta, -2.0 * i / r->dims);
        if (r->divisors) w /= (double)r->divisors[i];
        if (r->scaling == TK_ROPE_LINEAR) w /= (double)r->factor;
        if (r->scaling == TK_ROPE_LLAMA3) w = llama3_freq(r, w);
        if (r->scaling == TK_ROPE_YARN) {
            double slow = fmin(1, fmax(0, (i - low) / (high - low)));
            w = w / (double)r->factor * slow + w * (1 - slow);
        }
        freq[i] = (float)w;
    }
}
