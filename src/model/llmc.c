/* SPDX-License-Identifier: Apache-2.0 */
/* llm.c's GPT-2 checkpoints: 256 words of header, then tensors without names in the trainer's order, each
 * kind of all layers together, as nn.Linear has them ([out, in], not Conv1D's). Version 3 is float32, version
 * 5 bfloat16. The embedding is padded to a multiple of 128 rows, which are cut off here. The spans get
 * GGUF's names, whose matrices lie alike, and the config is read as GPT-2's from the header's words, so that
 * it is checked as a config.json is. */
#include <stdio.h>

#include "model/file.h"

enum { MAGIC, VERSION, CONTEXT, VOCAB, LAYERS, HEADS, WIDTH, PADDED_VOCAB, WORDS, HEADER_BYTES = 1024 };
static const struct {
    const char *name, *key; /* ours for people; config.json's */
    int most;
} words[WORDS] = { [CONTEXT] = { "max_seq_len", "n_positions", 1 << 20 },
                   [VOCAB] = { "vocab_size", "vocab_size", 1 << 24 },
                   [LAYERS] = { "num_layers", "n_layer", 1024 },
                   [HEADS] = { "num_heads", "n_head", 4096 },
                   [WIDTH] = { "channels", "n_embd", 1 << 17 },
                   [PADDED_VOCAB] = { "padded_vocab_size", "", 1 << 24 } };

static tk__value header_key(const void *ctx, const char *key) {
    const tk_modelfile *f = ctx;
    for (int i = CONTEXT; i < WORDS; i++)
        if (!strcmp(words[i].key, key)) {
            uint32_t word = tk_le32(f->map[0].data + 4 * i);
            return (tk__value){ TK__INT, .i = word, .r = word };
        }
    if (!strcmp(key, "layer_norm_epsilon")) return (tk__value){ TK__REAL, .r = 1e-5 };
    return (tk__value){ .kind = TK__NONE };
}

tk_status tk__llmc_open(tk_modelfile *f) {
    const tk_map *m = &f->map[0];
    if (m->size < HEADER_BYTES)
        return TK_FAIL(TK_E_FORMAT, "%s is truncated\nit ends in llm.c's header", f->path);
    uint32_t version = tk_le32(m->data + 4 * VERSION), word[WORDS];
    if (version != 3 && version != 5)
        return TK_FAIL(
            TK_E_UNSUPPORTED,
            "%s: version %u of llm.c's checkpoints is not supported\nthis build reads 3 (float32) and 5 "
            "(bfloat16)\nwrite it again with a newer llm.c",
            f->path, version);
    for (int i = CONTEXT; i < WORDS; i++) {
        word[i] = tk_le32(m->data + 4 * i);
        if (word[i] < 1 || word[i] > (uint32_t)words[i].most)
            return TK_FAIL(TK_E_FORMAT, "%s: llm.c's header is damaged\n%s = %d is out of range (1 to %d)",
                           f->path, words[i].name, (int32_t)word[i], words[i].most);
        char text[16];
        snprintf(text, sizeof text, "%u", word[i]);
        TK_TRY(tk__meta_add(f, words[i].name, text, strlen(text)));
    }
    if (word[PADDED_VOCAB] < word[VOCAB])
        return TK_FAIL(TK_E_FORMAT, "%s: llm.c's header is damaged\nthe vocabulary of %u is padded to %u",
                       f->path, word[VOCAB], word[PADDED_VOCAB]);
    tk_config *c = &f->config;
    static const int32_t gpt2_end[] = { 50256 };
    *c = (tk_config){ .arch = TK_ARCH_GPT2 };
    TK_TRY(tk__config_read(c, &(tk__keys){ f->path, false, header_key, f }));
    const char *slash = strrchr(f->path, '/');
    c->name = slash ? slash + 1 : f->path;
    if (word[VOCAB] == 50257) c->eos = gpt2_end, c->n_eos = 1, c->bos = gpt2_end[0];
    f->format = version == 3 ? "llm.c v3" : "llm.c v5";
    const int64_t d = c->n_embd;
    const tk__span order[] = {
        { "token_embd.weight", false, c->n_vocab, d },
        { NULL, false, word[PADDED_VOCAB] - word[VOCAB], d },
        { "position_embd.weight", false, c->n_ctx, d },
        { "blk.%d.attn_norm.weight", true, 0, d },
        { "blk.%d.attn_norm.bias", true, 0, d },
        { "blk.%d.attn_qkv.weight", true, 3 * d, d },
        { "blk.%d.attn_qkv.bias", true, 0, 3 * d },
        { "blk.%d.attn_output.weight", true, d, d },
        { "blk.%d.attn_output.bias", true, 0, d },
        { "blk.%d.ffn_norm.weight", true, 0, d },
        { "blk.%d.ffn_norm.bias", true, 0, d },
        { "blk.%d.ffn_up.weight", true, 4 * d, d },
        { "blk.%d.ffn_up.bias", true, 0, 4 * d },
        { "blk.%d.ffn_down.weight", true, d, 4 * d },
        { "blk.%d.ffn_down.bias", true, 0, d },
        { "output_norm.weight", false, 0, d },
        { "output_norm.bias", false, 0, d },
    };
    return tk__spans_open(f, order, TK_COUNT(order), version == 3 ? TK_F32 : TK_BF16, HEADER_BYTES);
}

char *tk__llmc_tokenizer(tk_modelfile *f) {
    const char *slash = strrchr(f->path, '/');
    return tk_arena_printf(&f->arena, "%.*sgpt2_tokenizer.bin", slash ? (int)(slash - f->path + 1) : 0,
                           f->path);
}
