/* SPDX-License-Identifier: Apache-2.0 */
/* llm.c's gpt2_tokenizer.bin: 256 words of header (magic, version, number of tokens, end token), then each
 * token as a byte of length and its bytes. It was made to decode only, but ids are in the order in which the
 * merges were learned, so each token's merge is what byte pairs make of it with the tokens before it, and
 * encoding is GPT-2's. */
#include <stdlib.h>

#include "text/tokenizer.h"

enum { HEADER = 1024, MOST_TOKENS = 1 << 18, GPT2_END = 50256, LONGEST = 255 };

static tk_status damaged(const char *why) {
    return TK_FAIL(TK_E_FORMAT,
                   "this is not a tokenizer of llm.c\n%s\ngive a gpt2_tokenizer.bin, or a tokenizer.json",
                   why);
}

/* Cuts token `id` into the two tokens before it that it was merged from; false if there are none. */
static bool last_merge(const tk__pieces *ids, const tk_str *bytes, int32_t id, size_t *cut) {
    const char *s = bytes[id].s;
    size_t at[LONGEST + 1], n = bytes[id].n; /* part i is [at[i], at[i + 1]) */
    int32_t pair[LONGEST];                   /* the token that parts i and i + 1 make, or INT32_MAX */
    for (size_t i = 0; i <= n; i++) at[i] = i;
    for (size_t i = 0; i + 1 < n; i++) {
        int32_t made = tk__pieces_get(ids, s + i, 2);
        pair[i] = made >= 0 && made < id ? made : INT32_MAX;
    }
    while (n > 2) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (pair[i] < pair[best]) best = i;
        if (pair[best] == INT32_MAX) return false;
        memmove(at + best + 1, at + best + 2, (n - best - 1) * sizeof *at);
        memmove(pair + best, pair + best + 1, (n - best - 2) * sizeof *pair);
        n--;
        for (size_t i = best ? best - 1 : 0; i <= best && i + 1 < n; i++) {
            int32_t made = tk__pieces_get(ids, s + at[i], at[i + 2] - at[i]);
            pair[i] = made >= 0 && made < id ? made : INT32_MAX;
        }
    }
    *cut = n == 2 ? at[1] : 0;
    return n == 2;
}

typedef struct loader {
    tk_arena arena;
    tk__pieces ids; /* the raw bytes of each token */
    tk_str *bytes, *letters, *merges;
    int32_t *types;
    size_t n_merges;
} loader;

static tk_status read_tokens(loader *l, const uint8_t *p, size_t n, size_t count) {
    size_t at = HEADER;
    for (size_t id = 0; id < count; id++) {
        if (at == n || n - at - 1 < p[at]) return damaged("it ends within a token");
        tk_str raw = { (const char *)p + at + 1, p[at] };
        at += 1 + raw.n;
        tk_buf b = { 0 };
        for (size_t i = 0; i < raw.n; i++) {
            tk_str letter = tk__byte_letters((uint8_t)raw.s[i]);
            tk_buf_put(&b, letter.s, letter.n);
        }
        char *text = b.failed ? NULL : tk_arena_strndup(&l->arena, b.data ? b.data : "", b.len);
        l->bytes[id] = raw, l->letters[id] = (tk_str){ text, b.len }, l->types[id] = 1;
        tk_buf_free(&b);
        if (!text) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu tokens did not fit", count);
        int32_t old = -1;
        TK_TRY(tk__pieces_put(&l->ids, raw, (int32_t)id, &old));
    }
    return at == n ? TK_OK : damaged("there are bytes behind its tokens");
}

static tk_status load(loader *l, tk_tokenizer **out, const uint8_t *p, size_t n) {
    size_t count = tk_le32(p + 8);
    int32_t end = tk_le32(p + 4) == 1 ? GPT2_END : (int32_t)tk_le32(p + 12);
    if (!count || count > MOST_TOKENS || count > n) return damaged("its number of tokens is out of range");
    if (end < 0 || (size_t)end >= count) return damaged("its end token is not among its tokens");
    l->bytes = tk_arena_array(&l->arena, count, sizeof *l->bytes);
    l->letters = tk_arena_array(&l->arena, count, sizeof *l->letters);
    l->merges = tk_arena_array(&l->arena, count, sizeof *l->merges);
    l->types = tk_arena_array(&l->arena, count, sizeof *l->types);
    if (!l->bytes || !l->letters || !l->merges || !l->types) return TK_E_NOMEM;
    TK_TRY(tk__pieces_init(&l->ids, count));
    TK_TRY(read_tokens(l, p, n, count));
    for (size_t id = 0, cut; id < count; id++) {
        if (l->bytes[id].n < 2 || (int32_t)id == end) continue;
        if (!last_merge(&l->ids, l->bytes, (int32_t)id, &cut))
            return damaged("a token is not made of the tokens before it");
        tk_buf b = { 0 };
        for (size_t i = 0; i < l->bytes[id].n; i++) {
            tk_str letter = tk__byte_letters((uint8_t)l->bytes[id].s[i]);
            if (i == cut) tk_buf_put(&b, " ", 1);
            tk_buf_put(&b, letter.s, letter.n);
        }
        char *text = b.failed ? NULL : tk_arena_strndup(&l->arena, b.data, b.len);
        l->merges[l->n_merges++] = (tk_str){ text, b.len };
        tk_buf_free(&b);
        if (!text) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu merges did not fit", count);
    }
    l->letters[end] = l->bytes[end], l->types[end] = 3;
    tk_vocab v = TK_VOCAB_NONE;
    v.model = "gpt2", v.pre = "gpt-2";
    v.n_tokens = count, v.tokens = l->letters, v.types = l->types;
    v.n_merges = l->n_merges, v.merges = l->merges;
    v.bos = v.eos = end;
    return tk_tokenizer_from_vocab(out, &v);
}

tk_status tk_tokenizer_from_llmc(tk_tokenizer **out, const void *data, size_t n) {
    const uint8_t *p = data;
    if (n < HEADER) return damaged("it ends within its header");
    uint32_t version = tk_le32(p + 4);
    if (version != 1 && version != 2)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "version %u of llm.c's tokenizer files is not supported\nthis build reads 1 and 2\n"
                       "give a tokenizer.json",
                       version);
    loader l = { 0 };
    tk_status s = load(&l, out, p, n);
    tk__pieces_free(&l.ids);
    tk_arena_free(&l.arena);
    return s;
}
