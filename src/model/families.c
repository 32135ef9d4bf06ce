/* SPDX-License-Identifier: Apache-2.0 */
/* What the keys of a family leave open: where its norms stand, which layers see how far, what its experts
 * are. One function a derive word of archs.def. The sources are transformers' modeling files and, for GGUF,
 * what llama.cpp's converter leaves to the reader. */
#include <math.h>

#include "model/file.h"

/* ---- which layers are local ---- */

static tk_status layers_new(tk_config *c, const tk__keys *k, uint8_t **out) {
    *out = (uint8_t *)(uintptr_t)c->layer;
    if (*out) return TK_OK;
    *out = tk_arena_array(k->arena, (size_t)c->n_layer, 1);
    c->layer = *out;
    return *out ? TK_OK : TK_E_NOMEM;
}

/* Marks the layers i with (i + 1) % period != 0 as local; period 1: none, 0: all. */
static tk_status layers_by_period(tk_config *c, const tk__keys *k, int period, unsigned bit) {
    uint8_t *layer;
    TK_TRY(layers_new(c, k, &layer));
    for (int i = 0; i < c->n_layer; i++)
        if (!period || (i + 1) % period) layer[i] |= (uint8_t)bit;
    return TK_OK;
}

/* layer_types names each layer's kind (transformers 4.50 on). *found: it is there. */
static tk_status layers_by_type(tk_config *c, const tk__keys *k, bool *found) {
    uint8_t *layer;
    *found = k->item(k->ctx, "layer_types", 0).kind != TK__NONE;
    if (!*found) return TK_OK;
    TK_TRY(layers_new(c, k, &layer));
    for (int i = 0; i < c->n_layer; i++) {
        const tk__value v = k->item(k->ctx, "layer_types", (size_t)i);
        if (v.kind == TK__TEXT && !strcmp(v.s, "sliding_attention"))
            layer[i] |= TK_LAYER_LOCAL;
        else if (v.kind != TK__TEXT || strcmp(v.s, "full_attention") != 0)
            return TK_FAIL(
                TK_E_UNSUPPORTED,
                "%s: layer_types says \"%.60s\" of layer %d\nfull_attention and sliding_attention are known",
                k->name, v.kind == TK__TEXT ? v.s : "nothing", i);
    }
    return TK_OK;
}

/* The local layers of a family whose every `period`th sees everything: by layer_types, else by GGUF's pattern
 * (a number or a list of flags) or Hugging Face's older one. */
static tk_status layers_alternate(tk_config *c, const tk__keys *k, int period) {
    bool found;
    if (!c->window) return TK_OK;
    TK_TRY(layers_by_type(c, k, &found));
    if (found) return TK_OK;
    if (k->gguf && k->item(k->ctx, "attention.sliding_window_pattern", 0).kind == TK__BOOL) {
        uint8_t *layer;
        TK_TRY(layers_new(c, k, &layer));
        for (int i = 0; i < c->n_layer; i++) {
            const tk__value v = k->item(k->ctx, "attention.sliding_window_pattern", (size_t)i);
            if (v.kind != TK__BOOL)
                return TK_FAIL(TK_E_FORMAT,
                               "%s: attention.sliding_window_pattern does not list all %d layers", k->name,
                               c->n_layer);
            if (v.i) layer[i] |= TK_LAYER_LOCAL;
        }
        return TK_OK;
    }
    TK_TRY(tk__key_int(
        k, k->gguf ? "attention.sliding_window_pattern" : "sliding_window_pattern|_sliding_window_pattern", 0,
        4096, &period));
    return layers_by_period(c, k, period, TK_LAYER_LOCAL);
}

/* All layers local if there is a window: mistral, phi3, starcoder2 in Hugging Face files. llama.cpp computes
 * these without it, so its files say nothing that could be relied on. */
static tk_status layers_all(tk_config *c, const tk__keys *k) {
    if (k->gguf) c->window = 0;
    return c->window ? layers_by_period(c, k, 0, TK_LAYER_LOCAL) : TK_OK;
}

/* Qwen's: only with use_sliding_window, and only from layer max_window_layers on. */
static tk_status layers_from(tk_config *c, const tk__keys *k) {
    bool found;
    if (k->gguf || !tk__key_true(k, "use_sliding_window", false)) c->window = 0;
    if (!c->window) return TK_OK;
    TK_TRY(layers_by_type(c, k, &found));
    if (found) return TK_OK;
    int first = 28;
    uint8_t *layer;
    TK_TRY(tk__key_int(k, "max_window_layers", 0, 4096, &first));
    TK_TRY(layers_new(c, k, &layer));
    for (int i = first; i < c->n_layer; i++) layer[i] |= TK_LAYER_LOCAL;
    return TK_OK;
}

/* ---- families ---- */

static void rms_gated(tk_config *c) { c->norm = TK_NORM_RMS, c->gated = true; }

static bool absent(const tk__keys *k, const char *key) { return k->get(k->ctx, key).kind == TK__NONE; }

static void layer_norm(tk_config *c) { c->norm = TK_NORM_LAYER, c->norm_bias = true; }

/* GGUF's heads may have values of another size than keys: nothing here computes that. */
static tk_status check_heads(const tk_config *c, const tk__keys *k) {
    if (!k->gguf) return TK_OK; /* a config made by hand has no heads yet */
    int values = 0, keys = c->head_dim ? c->head_dim : c->n_embd / c->n_head;
    TK_TRY(tk__key_int(k, "attention.value_length", 1, 1 << 16, &values));
    if (values && values != keys)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: keys of %d and values of %d elements\nheads of two sizes are not supported",
                       k->name, keys, values);
    return tk__key_refuse(k, "attention.clamp_kqv", 0, "clamping q, k and v");
}

static tk_status derive_llama(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    TK_TRY(tk__key_act(c, k, "hidden_act", TK_ACT_SILU));
    if (c->n_expert) c->n_ff_expert = c->n_ff, c->expert_renorm = true; /* mixtral in GGUF */
    if (c->arch == TK_ARCH_LLAMA && k->gguf)
        TK_TRY(tk__key_refuse(k, "attention.sliding_window", 0, "a sliding attention window"));
    TK_TRY(check_heads(c, k));
    return layers_all(c, k);
}

static tk_status derive_mixtral(tk_config *c, const tk__keys *k) {
    TK_TRY(derive_llama(c, k));
    c->n_ff_expert = c->n_ff, c->expert_renorm = true;
    return TK_OK;
}

static tk_status derive_qwen2(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    c->qkv_bias = true; /* no key says so */
    TK_TRY(tk__key_act(c, k, "hidden_act", TK_ACT_SILU));
    return layers_from(c, k);
}

static tk_status derive_qwen3(tk_config *c, const tk__keys *k) {
    const bool bias = c->qkv_bias;
    TK_TRY(derive_qwen2(c, k));
    c->qkv_bias = bias, c->qk_norm = TK_QK_HEAD;
    if (!c->head_dim) c->head_dim = 128;
    return TK_OK;
}

/* Layers without experts: those that mlp_only_layers lists and those between the steps of
 * decoder_sparse_step. */
static tk_status derive_qwen_moe(tk_config *c, const tk__keys *k) {
    const bool bias = c->qkv_bias;
    TK_TRY(derive_qwen2(c, k));
    c->qkv_bias = bias;
    if (c->arch == TK_ARCH_QWEN3_MOE) c->qk_norm = TK_QK_HEAD;
    if (c->arch == TK_ARCH_QWEN2_MOE) c->shared_gate = true;
    if (k->gguf) {
        c->expert_renorm = c->arch == TK_ARCH_QWEN3_MOE;
        /* the first files have neither size */
        if (absent(k, "expert_feed_forward_length"))
            c->n_ff_expert = TK_MAX(c->n_ff / TK_MAX(c->n_expert_used, 1), 1);
        if (c->arch == TK_ARCH_QWEN2_MOE && absent(k, "expert_shared_feed_forward_length"))
            c->n_ff_shared = c->n_ff;
        return TK_OK;
    }
    int step = 1;
    uint8_t *layer;
    TK_TRY(tk__key_int(k, "decoder_sparse_step", 1, 4096, &step));
    TK_TRY(layers_new(c, k, &layer));
    for (int i = 0; i < c->n_layer; i++)
        if ((i + 1) % step) layer[i] |= TK_LAYER_DENSE;
    for (size_t i = 0;; i++) {
        const tk__value v = k->item(k->ctx, "mlp_only_layers", i);
        if (v.kind == TK__NONE) return TK_OK;
        if (v.kind != TK__INT || v.i < 0 || v.i >= c->n_layer)
            return TK_FAIL(TK_E_FORMAT, "%s: mlp_only_layers must list layers below %d", k->name, c->n_layer);
        layer[v.i] |= TK_LAYER_DENSE;
    }
}

static tk_status derive_gemma(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    TK_TRY(tk__key_act(c, k, "hidden_activation", TK_ACT_GELU_TANH));
    c->embed_scale = sqrtf((float)c->n_embd);
    if (!k->gguf) c->norm_shift = 1; /* GGUF's converter has added it */
    if (!c->head_dim) c->head_dim = 256;
    if (c->arch == TK_ARCH_GEMMA) return TK_OK;
    c->post_norm = true;
    if (c->arch == TK_ARCH_GEMMA3) c->qk_norm = TK_QK_HEAD;
    float scalar = 256;
    if (k->gguf) { /* the largest ones alone scale by the width's share of a head */
        const int largest = c->arch == TK_ARCH_GEMMA2 ? 46 : 62;
        scalar = (float)(c->n_layer == largest ? c->n_embd / c->n_head : c->head_dim);
        if (c->arch == TK_ARCH_GEMMA2) { /* the first files have no keys for what all its models do */
            if (absent(k, "attn_logit_softcapping")) c->attn_softcap = 50;
            if (absent(k, "final_logit_softcapping")) c->logit_softcap = 30;
        } else if (absent(k, "attention.sliding_window")) {
            c->window = 0; /* the converter's word for layers that are all global */
        }
    } else {
        TK_TRY(tk__key_real(k, "query_pre_attn_scalar", 1e-6, 1e6, &scalar));
        if (tk__key_true(k, "use_bidirectional_attention", false))
            return TK_FAIL(TK_E_UNSUPPORTED,
                           "%s: use_bidirectional_attention is set\nonly causal models are supported",
                           k->name);
    }
    c->attn_scale = 1 / sqrtf(scalar);
    return layers_alternate(c, k, c->arch == TK_ARCH_GEMMA2 ? 2 : 6);
}

static tk_status derive_phi3(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    TK_TRY(tk__key_act(c, k, "hidden_act", TK_ACT_SILU));
    return layers_all(c, k);
}

/* SmolLM3 rotates in three layers of four. */
static tk_status derive_smollm3(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    TK_TRY(tk__key_act(c, k, "hidden_act", TK_ACT_SILU));
    TK_TRY(layers_from(c, k));
    uint8_t *layer;
    int interval = 4;
    TK_TRY(layers_new(c, k, &layer));
    const bool listed = k->item(k->ctx, "no_rope_layers", 0).kind != TK__NONE;
    TK_TRY(tk__key_int(k, "no_rope_layer_interval", 1, 4096, &interval));
    for (int i = 0; i < c->n_layer; i++) {
        const tk__value v = k->item(k->ctx, "no_rope_layers", (size_t)i);
        if (listed && v.kind != TK__INT)
            return TK_FAIL(TK_E_FORMAT, "%s: no_rope_layers must have a number for each layer", k->name);
        if (listed ? v.i == 0 : (i + 1) % interval == 0) layer[i] |= TK_LAYER_NOPE;
    }
    return TK_OK;
}

static tk_status derive_granite(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    c->logit_scale = 1 / c->logit_scale;
    if (!k->gguf && c->attn_scale == 0) c->attn_scale = 1; /* transformers' default */
    if (k->gguf) TK_TRY(tk__key_refuse(k, "rope.scaling.finetuned", 1, "a model without rotation"));
    return tk__key_act(c, k, "hidden_act", TK_ACT_SILU);
}

static tk_status derive_olmo2(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    c->pre_norm = false, c->post_norm = true, c->qk_norm = TK_QK_WHOLE;
    if (k->gguf) TK_TRY(tk__key_refuse(k, "attention.sliding_window", 0, "a sliding window (OLMo 3)"));
    return tk__key_act(c, k, "hidden_act", TK_ACT_SILU);
}

static tk_status derive_starcoder2(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    TK_TRY(tk__key_act(c, k, "hidden_act", TK_ACT_GELU_TANH));
    return layers_all(c, k);
}

static tk_status derive_gpt2(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    c->learned_pos = c->qkv_bias = c->o_bias = c->mlp_bias = true;
    if (!c->n_ff) c->n_ff = 4 * c->n_embd;
    TK_TRY(tk__key_act(c, k, "activation_function", TK_ACT_GELU_TANH));
    if (k->gguf) return TK_OK;
    if (!tk__key_true(k, "scale_attn_weights", true)) c->attn_scale = 1;
    return tk__key_refuse(k, "add_cross_attention", 0, "cross attention");
}

static tk_status derive_gpt_neox(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    c->mlp_bias = true;
    return tk__key_act(c, k, "hidden_act", TK_ACT_GELU_ERF);
}

/* Three decoders: the first (multi_query, one norm), without parallel halves, and the new one (KV heads, two
 * norms). */
static tk_status derive_falcon(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    if (!c->n_ff) c->n_ff = 4 * c->n_embd;
    TK_TRY(tk__key_act(c, k, "activation", TK_ACT_GELU_ERF));
    c->parallel = true;
    if (k->gguf) return TK_OK; /* weights.c sees whether there is a second norm */
    const bool fresh = tk__key_true(k, "new_decoder_architecture", false);
    int norms = fresh ? 2 : 1;
    TK_TRY(tk__key_int(k, "num_ln_in_parallel_attn", 1, 2, &norms));
    if (!fresh) {
        norms = 1;
        c->parallel = tk__key_true(k, "parallel_attn", true);
        c->n_kv_head = tk__key_true(k, "multi_query", true) ? 1 : c->n_head;
    }
    c->shared_norm = c->parallel && norms == 1;
    if (tk__key_true(k, "alibi", false))
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: alibi is set\nfalcon's ALiBi, which transformers rounds to bfloat16, is not "
                       "supported",
                       k->name);
    return TK_OK;
}

static tk_status derive_opt(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    c->norm_eps = 1e-5f, c->learned_pos = true;
    c->residual_norm = !c->pre_norm;
    c->last_norm = c->pre_norm && !tk__key_true(k, "_remove_final_layer_norm", false);
    if (c->n_word == c->n_embd) c->n_word = 0;
    if (!tk__key_true(k, "layer_norm_elementwise_affine", true))
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: layer_norm_elementwise_affine is off\nnorms without weights are not supported",
                       k->name);
    return tk__key_act(c, k, "activation_function", TK_ACT_RELU);
}

static tk_status derive_bloom(tk_config *c, const tk__keys *k) {
    layer_norm(c);
    c->embed_norm = c->qkv_bias = c->o_bias = c->mlp_bias = true;
    c->alibi = 8, c->act = TK_ACT_GELU_TANH, c->n_ff = 4 * c->n_embd;
    TK_TRY(tk__key_refuse(k, "slow_but_exact", 0, "its sliced arithmetic"));
    return tk__key_refuse(k, "apply_residual_connection_post_layernorm", 0,
                          "the residual from behind the norm");
}

static tk_status derive_gpt_oss(tk_config *c, const tk__keys *k) {
    rms_gated(c);
    c->act = TK_ACT_GELU_QUICK, c->glu_limit = 7, c->glu_shift = 1;
    c->sinks = c->expert_bias = true;
    c->routing = TK_ROUTE_TOP_SOFTMAX;
    if (!c->n_ff_expert) c->n_ff_expert = c->n_ff;
    if (!k->gguf) {
        TK_TRY(tk__key_real(k, "swiglu_limit", 1e-6, 1e6, &c->glu_limit));
        TK_TRY(tk__key_refuse(k, "swiglu_alpha", 1.702, "another slope of its sigmoid"));
    }
    return layers_alternate(c, k, 2);
}

tk_status tk__config_derive(tk_config *c, const tk__keys *k) {
    static tk_status (*const derive[TK_ARCHS])(tk_config *, const tk__keys *) = {
#define TK_ARCH_ROW(id, hf, gguf, derive, hf_names, gguf_names) derive_##derive,
#include "model/archs.def"
#undef TK_ARCH_ROW
    };
    TK_TRY(derive[c->arch](c, k));
    if (c->n_expert && c->n_expert_used > c->n_expert)
        return TK_FAIL(TK_E_FORMAT, "%s: %d experts a token of %d\nit cannot have more than there are",
                       k->name, c->n_expert_used, c->n_expert);
    if (c->n_expert && c->n_expert_used < 1)
        return TK_FAIL(TK_E_FORMAT, "%s: the number of experts a token uses is missing", k->name);
    return TK_OK;
}
