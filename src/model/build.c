/* SPDX-License-Identifier: Apache-2.0 */
/* The builder: a config becomes a program. Families differ by fields of tk_config, so one text serves them
 * all: each layer is attention and an MLP (or experts), each with its norms and its residual. The letters of
 * a program: t tokens  o picked rows  e embedding  w embedding's own width where it differs  g KV heads  r
 * query heads per KV head d head  f MLP  v vocabulary  c learned positions  z, y rotated pairs (of local
 * layers)  P pages  s slots of a page x experts  a experts that a token uses  m MLP of an expert  h MLP of
 * the shared expert  u one  b words of a draw  q sequences */
#include "core/core.h"
#include "model/model.h"
#include "ops/draw.h"

typedef struct layer { /* what a layer needs besides its weights */
    tk_program *p;
    const tk_build *b;
    const tk_config *c;
    int index;
    tk_id pos, seq, slot, freq, freq_local;
    float rope_factor, rope_factor_local;
} layer;

static tk_id matrix(const layer *l, const char *role, const char *dims) {
    tk_dtype t = l->b->dtype ? l->b->dtype(l->b->arg, role, l->p->layer) : l->p->real;
    return tk_declare(l->p, TK_WEIGHT, role, dims, t);
}

static tk_id vector(const layer *l, const char *role, const char *dims) {
    return tk_declare(l->p, TK_WEIGHT, role, dims, l->p->real);
}

static tk_id linear(const layer *l, tk_id x, const char *role, const char *dims, const char *bias) {
    if (l->b->ordered && l->b->ordered(l->b->arg, role, l->p->layer))
        x = TK_EMIT(l->p, permute, TK_NOATTR, x,
                    tk_declare(l->p, TK_CONST, role, strchr(dims, '|') + 1, TK_I32));
    tk_id w = matrix(l, role, dims);
    tk_id y =
        l->b->findmax ? TK_EMIT(l->p, qlinear, TK_NOATTR, x, w) : TK_EMIT(l->p, linear, TK_NOATTR, x, w);
    if (!bias) return y;
    char out[TK_MAX_DIMS + 2] = "";
    strncat(out, dims, strcspn(dims, "|"));
    return TK_EMIT(l->p, bias, TK_NOATTR, y, vector(l, bias, out));
}

static tk_id norm(const layer *l, tk_id x, const char *role, const char *bias) {
    tk_attr eps = { { l->c->norm_eps }, { 0 } };
    if (l->c->norm == TK_NORM_RMS) return TK_EMIT(l->p, norm, eps, x, vector(l, role, "e"));
    tk_id w = vector(l, role, "e");
    return TK_EMIT(l->p, lnorm, eps, x, w, vector(l, bias, "e"));
}

static tk_id scale(const layer *l, tk_id x, float by) {
    tk_attr a = { { by }, { 0 } };
    return by == 1 ? x : TK_EMIT(l->p, scale, a, x);
}

static tk_id drop(const layer *l, tk_id x, int site) {
    if (l->b->dropout <= 0) return x;
    tk_attr a = { { l->b->dropout }, { site } };
    return TK_EMIT(l->p, dropout, a, x, l->seq, l->pos);
}

/* ---- attention ---- */

static tk_id rope(const layer *l, tk_id x) {
    const tk_rope *r = tk_layer_rope(l->c, l->index);
    if (!r) return x;
    const bool local = r == &l->c->rope_local;
    tk_attr a = { { local ? l->rope_factor_local : l->rope_factor }, { (int32_t)r->style } };
    return TK_EMIT(l->p, rope, a, x, l->pos, local ? l->freq_local : l->freq);
}

static tk_id qk_norm(const layer *l, tk_id x, const char *role, const char *dims) {
    tk_attr eps = { { l->c->norm_eps }, { 0 } };
    if (l->c->qk_norm == TK_QK_NONE) return x;
    return TK_EMIT(l->p, norm, eps, x, vector(l, role, l->c->qk_norm == TK_QK_HEAD ? "d" : dims));
}

static tk_id attention(const layer *l, tk_id x) {
    const tk_config *c = l->c;
    const bool local = tk_layer_bits(c, l->index) & TK_LAYER_LOCAL;
    tk_attr how = { { tk_attn_scale(c, l->index), c->attn_softcap, c->alibi }, { local ? c->window : 0 } };
    tk_id q = linear(l, x, "q", "grd|e", c->qkv_bias ? "q.b" : NULL);
    tk_id k = linear(l, x, "k", "gd|e", c->qkv_bias ? "k.b" : NULL);
    tk_id v = linear(l, x, "v", "gd|e", c->qkv_bias ? "v.b" : NULL), o;
    q = qk_norm(l, q, "q_norm", "grd"), k = qk_norm(l, k, "k_norm", "gd");
    q = rope(l, q), k = rope(l, k); /* after all three products: the threads meet once, not thrice */
    if (l->b->serve) {
        tk_id ck = tk_declare(l->p, TK_STATEFUL, "k_cache", "Pgs|d", l->b->kv);
        tk_id cv = tk_declare(l->p, TK_STATEFUL, "v_cache", "Pgs|d", l->b->kv);
        ck = TK_EMIT(l->p, kvput, TK_NOATTR, k, v, l->slot, ck, cv);
        o = TK_EMIT(l->p, attn_paged, how, q, l->slot, ck, ck + 1);
    } else {
        o = TK_EMIT(l->p, attn, how, q, k, v, l->seq);
    }
    if (c->sinks) o = TK_EMIT(l->p, sink, TK_NOATTR, o, o + 1, vector(l, "sinks", "gr"));
    return linear(l, o, "o", "e|grd", c->o_bias ? "o.b" : NULL);
}

/* ---- MLP and experts ---- */

static tk_id activation(const layer *l, tk_id gate, tk_id up) {
    const tk_config *c = l->c;
    tk_attr a = { { c->glu_limit, c->glu_shift }, { (int32_t)c->act } };
    return gate < 0 ? TK_EMIT(l->p, act, a, up) : TK_EMIT(l->p, glu, a, gate, up);
}

static tk_id mlp(const layer *l, tk_id x) {
    const tk_config *c = l->c;
    tk_id gate = c->gated ? linear(l, x, "gate", "f|e", c->mlp_bias ? "gate.b" : NULL) : -1;
    tk_id up = linear(l, x, "up", "f|e", c->mlp_bias ? "up.b" : NULL);
    return linear(l, activation(l, gate, up), "down", "e|f", c->mlp_bias ? "down.b" : NULL);
}

/* y[t][a] = W[expert a of token t] x, with that expert's bias */
static tk_id expert_linear(const layer *l, tk_id x, tk_id ids, const char *role, const char *dims,
                           const char *bias) {
    tk_id w = matrix(l, role, dims);
    tk_id y = dims[1] == 'm' ? TK_EMIT(l->p, experts, TK_NOATTR, x, w, ids)
                             : TK_EMIT(l->p, experts2, TK_NOATTR, x, w, ids);
    if (!l->c->expert_bias) return y;
    char out[TK_MAX_DIMS + 2] = "";
    strncat(out, dims, strcspn(dims, "|"));
    return TK_EMIT(l->p, experts_bias, TK_NOATTR, y, vector(l, bias, out), ids);
}

static tk_id experts(const layer *l, tk_id x) {
    const tk_config *c = l->c;
    tk_attr how = { { 0 }, { c->n_expert_used, (int32_t)c->routing, c->expert_renorm } };
    tk_id scores = linear(l, x, "router", "x|e", c->expert_bias ? "router.b" : NULL);
    tk_id ids = TK_EMIT(l->p, route, how, scores), weights = ids + 1;
    tk_id gate = expert_linear(l, x, ids, "e_gate", "xm|e", "e_gate.b");
    tk_id up = expert_linear(l, x, ids, "e_up", "xm|e", "e_up.b");
    tk_id down = expert_linear(l, activation(l, gate, up), ids, "e_down", "xe|m", "e_down.b");
    tk_id y = TK_EMIT(l->p, combine, TK_NOATTR, down, weights);
    if (!c->n_ff_shared) return y;
    gate = linear(l, x, "s_gate", "h|e", NULL), up = linear(l, x, "s_up", "h|e", NULL);
    tk_id shared = linear(l, activation(l, gate, up), "s_down", "e|h", NULL);
    if (c->shared_gate)
        shared = TK_EMIT(l->p, gate, TK_NOATTR, shared, linear(l, x, "s_router", "u|e", NULL));
    return TK_EMIT(l->p, add, TK_NOATTR, y, shared);
}

/* ---- layers ---- */

/* The residual h plus the half's result y */
static tk_id join(const layer *l, tk_id h, tk_id y, int half) {
    static const char *const post[] = { "post1", "post2" }, *const norms[] = { "norm1", "norm2" },
                             *const biases[] = { "norm1.b", "norm2.b" };
    if (l->c->post_norm) y = norm(l, y, post[half], NULL);
    y = scale(l, drop(l, y, 2 * l->index + 1 + half), l->c->residual_scale);
    h = TK_EMIT(l->p, add, TK_NOATTR, h, y);
    return l->c->residual_norm ? norm(l, h, norms[half], biases[half]) : h;
}

static tk_id one_layer(const layer *l, tk_id h) {
    const tk_config *c = l->c;
    const bool dense = !c->n_expert || tk_layer_bits(c, l->index) & TK_LAYER_DENSE;
    tk_id x = c->pre_norm ? norm(l, h, "norm1", "norm1.b") : h, y;
    if (c->parallel) { /* the MLP reads what the attention does */
        tk_id z = c->shared_norm ? x : norm(l, h, "norm2", "norm2.b");
        y = attention(l, x);
        return join(l, join(l, h, y, 0), mlp(l, z), 1);
    }
    h = join(l, h, attention(l, x), 0);
    x = c->pre_norm ? norm(l, h, "norm2", "norm2.b") : h;
    y = dense ? mlp(l, x) : experts(l, x);
    return join(l, h, y, 1);
}

static tk_status letters(tk_program *p, const tk_build *b) {
    const tk_config *c = b->config;
    int64_t vocab = (int64_t)tk_align((size_t)c->n_vocab, (size_t)TK_MAX(b->vocab_multiple, 1));
    const struct {
        char letter;
        int64_t size, N;
    } all[] = {
        { 't', b->tokens, b->tokens },
        { 'o', b->picks, b->picks },
        { 'e', c->n_embd, c->n_embd },
        { 'w', c->n_word, c->n_word },
        { 'g', c->n_kv_head, c->n_kv_head },
        { 'r', c->n_head / TK_MAX(c->n_kv_head, 1), c->n_head / TK_MAX(c->n_kv_head, 1) },
        { 'd', c->head_dim, c->head_dim },
        { 'f', c->n_ff, c->n_ff },
        { 'v', vocab, c->n_vocab },
        { 'c', c->n_ctx, c->n_ctx },
        { 'z', c->rope.dims / 2, c->rope.dims / 2 },
        { 'y', c->rope_local.dims / 2, c->rope_local.dims / 2 },
        { 'P', b->pages, b->pages },
        { 's', b->page_size, b->page_size },
        { 'x', c->n_expert, c->n_expert },
        { 'a', c->n_expert_used, c->n_expert_used },
        { 'm', c->n_ff_expert, c->n_ff_expert },
        { 'h', c->n_ff_shared, c->n_ff_shared },
        { 'u', c->shared_gate, c->shared_gate },
        { 'b', sizeof(tk_draw) / 4, sizeof(tk_draw) / 4 },
        { 'q', b->draw ? b->seqs : 0, b->seqs },
    };
    for (size_t i = 0; i < TK_COUNT(all); i++)
        if (all[i].size) tk_letter(p, all[i].letter, all[i].size, all[i].N);
    return tk_prog_check(p);
}

static tk_id logits(const layer *l, tk_id h, tk_id w) {
    const tk_config *c = l->c;
    tk_attr cap = { { c->logit_softcap }, { 0 } };
    h = scale(l, TK_EMIT(l->p, linear, TK_NOATTR, h, w), c->logit_scale);
    return c->logit_softcap != 0 ? TK_EMIT(l->p, softcap, cap, h) : h;
}

static void train_head(layer *l, tk_id h, tk_id w) {
    tk_program *p = l->p;
    tk_attr attr = { { l->c->logit_scale, l->c->logit_softcap }, { 0 } };
    if (l->b->logits) tk_output(p, "logits", logits(l, h, w));
    tk_id y = tk_declare(p, TK_INPUT, "targets", "t", TK_I32),
          m = tk_declare(p, TK_INPUT, "mask", "t", p->real);
    tk_id n = tk_declare(p, TK_INPUT, "count", "", p->real);
    tk_id lse = TK_EMIT(p, head, attr, h, w, y);
    tk_output(p, "loss", TK_EMIT(p, loss, TK_NOATTR, lse, lse + 1, m, n));
}

/* From token ids to the first layer's input */
static tk_id embedding(layer *l, tk_id tokens, tk_id embed) {
    const tk_config *c = l->c;
    tk_program *p = l->p;
    tk_id h = TK_EMIT(p, embed, TK_NOATTR, tokens, embed);
    if (c->n_word) h = linear(l, h, "proj_in", "e|w", NULL);
    h = scale(l, h, c->embed_scale);
    if (c->learned_pos)
        h = TK_EMIT(p, add, TK_NOATTR, h,
                    TK_EMIT(p, embed, TK_NOATTR, l->pos, matrix(l, "pos_embed", "c|e")));
    if (c->embed_norm) h = norm(l, h, "embed_norm", "embed_norm.b");
    return drop(l, h, 0);
}

static bool any_layer_rotates(const tk_config *c, const tk_rope *r) {
    for (int i = 0; i < c->n_layer; i++)
        if (tk_layer_rope(c, i) == r) return true;
    return false;
}

/* Only those that a layer reads: what nobody reads has no place in memory. */
static void constants(layer *l) {
    const tk_config *c = l->c;
    const int64_t ctx = l->b->ctx ? l->b->ctx : c->n_ctx;
    if (any_layer_rotates(c, &c->rope)) {
        l->freq = tk_declare(l->p, TK_CONST, "rope_freqs", "z", l->p->real);
        tk_rope_freqs(&c->rope, ctx, NULL, &l->rope_factor);
    }
    if (any_layer_rotates(c, &c->rope_local)) {
        l->freq_local = tk_declare(l->p, TK_CONST, "rope_freqs_local", "y", l->p->real);
        tk_rope_freqs(&c->rope_local, ctx, NULL, &l->rope_factor_local);
    }
}

void tk_build_const(const tk_config *c, const char *name, int64_t ctx, float *dst) {
    float factor;
    tk_rope_freqs(strcmp(name, "rope_freqs_local") ? &c->rope : &c->rope_local, ctx ? ctx : c->n_ctx, dst,
                  &factor);
}

tk_status tk_build_program(tk_program *p, const tk_build *b) {
    const tk_config *c = b->config;
    layer l = { .p = p, .b = b, .c = c, .seq = -1, .slot = -1, .freq = -1, .freq_local = -1 };
    p->layer = -1, p->when = TK_FORWARD;
    TK_TRY(letters(p, b));
    tk_id tokens = tk_declare(p, TK_INPUT, "tokens", "t", TK_I32);
    l.pos = tk_declare(p, TK_INPUT, "positions", "t", TK_I32);
    if (b->serve)
        l.slot = tk_declare(p, TK_INPUT, "slots", "t", TK_I32);
    else
        l.seq = tk_declare(p, TK_INPUT, "sequences", "t", TK_I32);
    constants(&l);
    const char *rows = c->n_word ? "v|w" : "v|e";
    tk_id embed = matrix(&l, "embed", rows);
    tk_id h = embedding(&l, tokens, embed);
    for (l.index = 0; l.index < c->n_layer; l.index++) {
        p->layer = l.index;
        h = one_layer(&l, h);
    }
    p->layer = -1;
    if (b->serve) h = TK_EMIT(p, pick, TK_NOATTR, h, tk_declare(p, TK_INPUT, "picks", "o", TK_I32));
    if (c->last_norm) h = norm(&l, h, "norm_out", "norm_out.b");
    if (c->n_word) h = linear(&l, h, "proj_out", "w|e", NULL);
    tk_id w = c->tied ? embed : matrix(&l, "head", rows);
    if (!b->serve) {
        train_head(&l, h, w);
        return tk_prog_check(p);
    }
    const tk_id z = logits(&l, h, w);
    tk_output(p, "logits", z);
    if (b->draw) {
        const tk_id how = tk_declare(p, TK_INPUT, "draws", "ob", TK_I32),
                    seen = tk_declare(p, TK_STATEFUL, "seen", "qv", TK_I32),
                    drawn = TK_EMIT(p, draw, TK_NOATTR, z, how,
                                    tk_declare(p, TK_STATEFUL, "bias", "qv", TK_F32), seen);
        tk_output(p, "drawn", drawn);
        TK_EMIT(p, note, TK_NOATTR, drawn, how, seen);
    }
    return tk_prog_check(p);
}
