/* SPDX-License-Identifier: Apache-2.0 */
/* The builder: a config becomes a program. LLaMA-like and GPT-2-like families differ by fields of tk_config,
 * so one text serves them: norm, attention, norm, MLP, each with a residual. The letters of a program:
 *   t tokens  o picked rows  e embedding  g KV heads  r query heads per KV head  d head  f MLP  v vocabulary
 *   c learned positions  z rotated pairs  P pages  s slots of a page */
#include "core/core.h"
#include "model/model.h"

typedef struct layer { /* what a layer needs besides its weights */
    tk_program *p;
    const tk_build *b;
    const tk_config *c;
    tk_id pos, seq, slot, freq;
    float rope_factor;
} layer;

static tk_id matrix(const layer *l, const char *role, const char *dims) {
    tk_dtype t = l->b->dtype ? l->b->dtype(l->b->arg, role, l->p->layer) : l->p->real;
    return tk_declare(l->p, TK_WEIGHT, role, dims, t);
}

static tk_id vector(const layer *l, const char *role, const char *dims) {
    return tk_declare(l->p, TK_WEIGHT, role, dims, l->p->real);
}

static tk_id linear(const layer *l, tk_id x, const char *role, const char *dims, const char *bias) {
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

static tk_id drop(const layer *l, tk_id x, int site) {
    if (l->b->dropout <= 0) return x;
    tk_attr a = { { l->b->dropout }, { site } };
    return TK_EMIT(l->p, dropout, a, x, l->seq, l->pos);
}

static tk_id rope(const layer *l, tk_id x) {
    if (!l->c->rope.dims) return x;
    tk_attr a = { { l->rope_factor }, { (int32_t)l->c->rope.style } };
    return TK_EMIT(l->p, rope, a, x, l->pos, l->freq);
}

static tk_id attention(const layer *l, tk_id x, int index) {
    const tk_config *c = l->c;
    tk_attr scale = { { tk_attn_scale(c, index) }, { 0 } };
    tk_id q = linear(l, x, "q", "grd|e", c->qkv_bias ? "q.b" : NULL);
    tk_id k = linear(l, x, "k", "gd|e", c->qkv_bias ? "k.b" : NULL);
    tk_id v = linear(l, x, "v", "gd|e", c->qkv_bias ? "v.b" : NULL), o;
    q = rope(l, q), k = rope(l, k); /* after all three products: the threads meet once, not thrice */
    if (l->b->serve) {
        tk_id ck = tk_declare(l->p, TK_STATEFUL, "k_cache", "Pgs|d", l->b->kv);
        tk_id cv = tk_declare(l->p, TK_STATEFUL, "v_cache", "Pgs|d", l->b->kv);
        ck = TK_EMIT(l->p, kvput, TK_NOATTR, k, v, l->slot, ck, cv);
        o = TK_EMIT(l->p, attn_paged, scale, q, l->slot, ck, ck + 1);
    } else {
        o = TK_EMIT(l->p, attn, scale, q, k, v, l->seq);
    }
    return linear(l, o, "o", "e|grd", c->o_bias ? "o.b" : NULL);
}

static tk_id mlp(const layer *l, tk_id x) {
    const tk_config *c = l->c;
    tk_attr act = { { 0 }, { (int32_t)c->act } };
    tk_id h;
    if (c->gated) {
        tk_id gate = linear(l, x, "gate", "f|e", c->mlp_bias ? "gate.b" : NULL);
        tk_id up = linear(l, x, "up", "f|e", c->mlp_bias ? "up.b" : NULL);
        h = TK_EMIT(l->p, glu, act, gate, up);
    } else {
        h = TK_EMIT(l->p, act, act, linear(l, x, "up", "f|e", c->mlp_bias ? "up.b" : NULL));
    }
    return linear(l, h, "down", "e|f", c->mlp_bias ? "down.b" : NULL);
}

static tk_status letters(tk_program *p, const tk_build *b) {
    const tk_config *c = b->config;
    if (c->gated && c->act != TK_ACT_SILU)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%s: a gated MLP with this activation is not known\nonly SiLU is built", c->name);
    if (c->embed_scale != 1 || c->residual_scale != 1 || c->logit_scale != 1)
        return TK_FAIL(TK_E_UNSUPPORTED, "%s: scaled embeddings, residuals or logits are not built yet",
                       c->name);
    int64_t vocab = (int64_t)tk_align((size_t)c->n_vocab, (size_t)TK_MAX(b->vocab_multiple, 1));
    const struct {
        char letter;
        int64_t size, N;
    } all[] = {
        { 't', b->tokens, b->tokens },
        { 'o', b->picks, b->picks },
        { 'e', c->n_embd, c->n_embd },
        { 'g', c->n_kv_head, c->n_kv_head },
        { 'r', c->n_head / TK_MAX(c->n_kv_head, 1), c->n_head / TK_MAX(c->n_kv_head, 1) },
        { 'd', c->head_dim, c->head_dim },
        { 'f', c->n_ff, c->n_ff },
        { 'v', vocab, c->n_vocab },
        { 'c', c->n_ctx, c->n_ctx },
        { 'z', c->rope.dims / 2, c->rope.dims / 2 },
        { 'P', b->pages, b->pages },
        { 's', b->page_size, b->page_size },
    };
    for (size_t i = 0; i < TK_COUNT(all); i++)
        if (all[i].size) tk_letter(p, all[i].letter, all[i].size, all[i].N);
    return tk_prog_check(p);
}

static void train_head(layer *l, tk_id h, tk_id w) {
    tk_program *p = l->p;
    if (l->b->logits) tk_output(p, "logits", TK_EMIT(p, linear, TK_NOATTR, h, w));
    tk_id y = tk_declare(p, TK_INPUT, "targets", "t", TK_I32),
          m = tk_declare(p, TK_INPUT, "mask", "t", p->real);
    tk_id n = tk_declare(p, TK_INPUT, "count", "", p->real);
    tk_id lse = TK_EMIT(p, head, TK_NOATTR, h, w, y);
    tk_output(p, "loss", TK_EMIT(p, loss, TK_NOATTR, lse, lse + 1, m, n));
}

tk_status tk_build_program(tk_program *p, const tk_build *b) {
    const tk_config *c = b->config;
    layer l = { .p = p, .b = b, .c = c, .seq = -1, .slot = -1, .freq = -1 };
    p->layer = -1, p->when = TK_FORWARD;
    TK_TRY(letters(p, b));
    tk_id tokens = tk_declare(p, TK_INPUT, "tokens", "t", TK_I32);
    l.pos = tk_declare(p, TK_INPUT, "positions", "t", TK_I32);
    if (b->serve)
        l.slot = tk_declare(p, TK_INPUT, "slots", "t", TK_I32);
    else
        l.seq = tk_declare(p, TK_INPUT, "sequences", "t", TK_I32);
    if (c->rope.dims) l.freq = tk_declare(p, TK_CONST, "rope_freqs", "z", p->real);
    tk_id embed = matrix(&l, "embed", "v|e");
    tk_id h = TK_EMIT(p, embed, TK_NOATTR, tokens, embed);
    if (c->learned_pos)
        h = TK_EMIT(p, add, TK_NOATTR, h,
                    TK_EMIT(p, embed, TK_NOATTR, l.pos, matrix(&l, "pos_embed", "c|e")));
    h = drop(&l, h, 0);
    l.rope_factor = b->rope_factor;
    for (int i = 0; i < c->n_layer; i++) {
        p->layer = i;
        tk_id y = attention(&l, norm(&l, h, "norm1", "norm1.b"), i);
        h = TK_EMIT(p, add, TK_NOATTR, h, drop(&l, y, 2 * i + 1));
        y = mlp(&l, norm(&l, h, "norm2", "norm2.b"));
        h = TK_EMIT(p, add, TK_NOATTR, h, drop(&l, y, 2 * i + 2));
    }
    p->layer = -1;
    if (b->serve) h = TK_EMIT(p, pick, TK_NOATTR, h, tk_declare(p, TK_INPUT, "picks", "o", TK_I32));
    h = norm(&l, h, "norm_out", "norm_out.b");
    tk_id w = c->tied ? embed : matrix(&l, "head", "v|e");
    if (b->serve)
        tk_output(p, "logits", TK_EMIT(p, linear, TK_NOATTR, h, w));
    else
        train_head(&l, h, w);
    return tk_prog_check(p);
}
