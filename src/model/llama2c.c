/* SPDX-License-Identifier: Apache-2.0 */
/* llama2.c checkpoints: a short header, then float32 tensors without names in a fixed order. Version 0 starts
 * with seven integers and nothing else, so it is recognized by their plausibility; version 1 has a magic
 * number. The spans get the trainer's own names, so that the rest of the library sees a file like any other.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model/file.h"

enum { DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CTX, HEADER_WORDS };
static const char *const word_names[HEADER_WORDS] = { "dim",        "hidden_dim", "n_layers", "n_heads",
                                                      "n_kv_heads", "vocab_size", "seq_len" };
static const int word_limits[HEADER_WORDS] = { 1 << 17, 1 << 20, 1024, 4096, 4096, 1 << 24, 1 << 20 };

static tk_status add_span(tk_modelfile *f, const tk__span *s, tk_dtype type, size_t *at) {
    const tk_map *m = &f->map[0];
    int n = s->per_layer ? f->config.n_layer : 1;
    size_t bytes;
    if (!tk_format_size(type, s->name ? TK_MAX(s->rows, (int64_t)1) : s->rows, s->cols, &bytes))
        return TK_FAIL(TK_E_FORMAT, "%s: its sizes overflow", f->path);
    TK_TRY(tk__tensors_reserve(f, (size_t)n));
    for (int layer = 0; layer < n; layer++) {
        if (*at > m->size || bytes > m->size - *at)
            return TK_FAIL(
                TK_E_FORMAT,
                "%s is truncated, or not a model\nread as %s it ends inside %s (the file has %zu bytes)",
                f->path, f->format, s->name ? s->name : "a part that is skipped", m->size);
        if (s->name) {
            tk_tensor *t = &f->tensor[f->n_tensors];
            const char *number = strstr(s->name, "%d");
            *t = (tk_tensor){ .type = type == TK_F32 ? "F32" : "BF16",
                              .dtype = type,
                              .ndim = s->rows ? 2 : 1,
                              .data = m->data + *at,
                              .bytes = bytes,
                              .map = m };
            t->dim[0] = s->rows ? s->rows : s->cols, t->dim[1] = s->rows ? s->cols : 1,
            t->dim[2] = t->dim[3] = 1;
            t->name = number ? tk_arena_printf(&f->arena, "%.*s%d%s", (int)(number - s->name), s->name, layer,
                                               number + 2)
                             : s->name;
            if (!t->name) return TK_E_NOMEM;
            f->n_tensors++;
        }
        *at += bytes;
    }
    return TK_OK;
}

tk_status tk__spans_open(tk_modelfile *f, const tk__span *order, size_t n, tk_dtype type, size_t at) {
    for (size_t i = 0; i < n; i++) TK_TRY(add_span(f, &order[i], type, &at));
    if (at != f->map[0].size)
        return TK_FAIL(TK_E_FORMAT, "%s is damaged, or not a model\nread as %s it has %zu bytes too many",
                       f->path, f->format, f->map[0].size - at);
    return tk__tensors_index(f);
}

static tk_status add_spans(tk_modelfile *f, int version, size_t at) {
    const tk_config *c = &f->config;
    const int64_t d = c->n_embd, q = (int64_t)c->n_head * c->head_dim,
                  kv = (int64_t)c->n_kv_head * c->head_dim;
    const tk__span embed = { "tok_embeddings.weight", false, c->n_vocab, d };
    const tk__span norm1 = { "layers.%d.attention_norm.weight", true, 0, d };
    const tk__span attention[] = { { "layers.%d.attention.wq.weight", true, q, d },
                                   { "layers.%d.attention.wk.weight", true, kv, d },
                                   { "layers.%d.attention.wv.weight", true, kv, d },
                                   { "layers.%d.attention.wo.weight", true, d, q } };
    const tk__span norm2 = { "layers.%d.ffn_norm.weight", true, 0, d };
    const tk__span mlp[] = { { "layers.%d.feed_forward.w1.weight", true, c->n_ff, d },
                             { "layers.%d.feed_forward.w2.weight", true, d, c->n_ff },
                             { "layers.%d.feed_forward.w3.weight", true, c->n_ff, d } };
    const tk__span norm_out = { "norm.weight", false, 0, d };
    const tk__span angles = { NULL, false, c->n_ctx, c->head_dim }; /* two tables of head_dim / 2 */
    const tk__span head = { "output.weight", false, c->n_vocab, d };
    tk__span order[13];
    int n = 0;
    if (version == 1) order[n++] = norm1, order[n++] = norm2, order[n++] = norm_out;
    order[n++] = embed;
    if (version == 0) order[n++] = norm1;
    for (int i = 0; i < 4; i++) order[n++] = attention[i];
    if (version == 0) order[n++] = norm2;
    for (int i = 0; i < 3; i++) order[n++] = mlp[i];
    if (version == 0) order[n++] = norm_out, order[n++] = angles;
    if (!c->tied) order[n++] = head;
    return tk__spans_open(f, order, (size_t)n, TK_F32, at);
}

static tk_status bad_header(const tk_modelfile *f, bool known, const char *why) {
    const uint8_t *p = f->map[0].data;
    if (known) return TK_FAIL(TK_E_FORMAT, "%s: the llama2.c header is damaged\n%s", f->path, why);
    return TK_FAIL(TK_E_UNSUPPORTED,
                   "%s is no model file that this build knows\nit starts with the bytes %02x %02x %02x %02x\n"
                   "give a GGUF file, a Hugging Face folder or a llama2.c checkpoint",
                   f->path, p[0], f->map[0].size > 1 ? p[1] : 0, f->map[0].size > 2 ? p[2] : 0,
                   f->map[0].size > 3 ? p[3] : 0);
}

tk_status tk__llama2c_open(tk_modelfile *f) {
    const tk_map *m = &f->map[0];
    bool known = m->size >= 4 && tk_le32(m->data) == 0x616b3432; /* "ak42" as one number */
    int version = 0;
    size_t header = known ? 256 : 28, words = known ? 8 : 0;
    if (m->size < header) return bad_header(f, known, "the file ends inside it");
    if (known) {
        version = (int)tk_le32(m->data + 4);
        if (version != 1)
            return TK_FAIL(
                TK_E_UNSUPPORTED,
                "%s: llama2.c version %d is not supported\nthis build reads versions 0 and 1 (float32)",
                f->path, version);
    }
    int word[HEADER_WORDS];
    char text[96];
    for (int i = 0; i < HEADER_WORDS; i++) {
        word[i] = (int32_t)tk_le32(m->data + words + (size_t)i * 4);
        int size = i == VOCAB && !known && word[i] < 0 && word[i] > INT32_MIN ? -word[i] : word[i];
        if (size < 1 || size > word_limits[i]) {
            snprintf(text, sizeof text, "%s = %d is out of range (1 to %d)", word_names[i], word[i],
                     word_limits[i]);
            return bad_header(f, known, text);
        }
    }
    if (word[DIM] % word[HEADS] || word[HEADS] % word[KV_HEADS] || word[DIM] / word[HEADS] % 2)
        return bad_header(f, known, "its width, heads and KV heads do not divide");
    tk_config *c = &f->config;
    static const int32_t eos[] = {
        1, 2
    }; /* it also begins each text with 1, which therefore ends the one before */
    *c = tk_config_plain(TK_ARCH_LLAMA);
    c->n_layer = word[LAYERS], c->n_embd = word[DIM], c->n_ff = word[HIDDEN], c->n_ctx = word[CTX];
    c->n_head = word[HEADS], c->n_kv_head = word[KV_HEADS], c->head_dim = word[DIM] / word[HEADS];
    c->n_vocab = abs(word[VOCAB]);
    c->tied = known ? m->data[36] != 0 : word[VOCAB] > 0;
    c->norm_eps = 1e-5f;
    c->bos = 1, c->eos = eos, c->n_eos = 2;
    c->attn_scale = 1 / sqrtf((float)c->head_dim);
    c->rope =
        (tk_rope){ .dims = c->head_dim, .style = TK_ROPE_INTERLEAVED, .theta = 10000, .truncate = true };
    const char *slash = strrchr(f->path, '/');
    c->name = slash ? slash + 1 : f->path;
    f->format = version == 1 ? "llama2.c v1" : "llama2.c v0";
    for (int i = 0; i < HEADER_WORDS; i++) {
        snprintf(text, sizeof text, "%d", word[i]);
        TK_TRY(tk__meta_add(f, word_names[i], text, strlen(text)));
    }
    return add_spans(f, version, header);
}
