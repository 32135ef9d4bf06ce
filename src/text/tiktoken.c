/* SPDX-License-Identifier: Apache-2.0 */
/* tiktoken's rank files: a line for each token, its bytes in base64 and its rank, which is its id. Two
 * neighbours merge if their bytes together are a token, the lowest rank first, and a piece of text that is a
 * token is not looked into: BPE whose merges are all ways to cut a token in two. The pattern that cuts the
 * text is not in the file; it goes by the file's name. */
#include <stdlib.h>

#include "text/tokenizer.h"

#define CL100K                                                                                               \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| "                                    \
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++\\z|"                                                              \
    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s"
#define O200K                                                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'"   \
    "re|'ve|'m|'ll|'d)?|"                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'"   \
    "re|'ve|'m|'ll|'d)?|"                                                                                    \
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                                                                                               \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN                                                                                                 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"      \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define KIMI                                                                                                 \
    "[\\p{Han}]+|"                                                                                           \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&" \
    "[^\\p{Han}]]+"                                                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"                                                                         \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&" \
    "[^\\p{Han}]]*"                                                                                          \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"                                                                         \
    "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* A file whose name holds `part` is cut by the pattern; special tokens with their ids, -1: the next one. */
static const struct {
    const char *part, *pattern; /* NULL: GPT-2's */
    struct {
        const char *text;
        int32_t id;
    } special[6];
} kinds[] = {
    { "cl100k",
      CL100K,
      { { "<|endoftext|>", 100257 },
        { "<|fim_prefix|>", 100258 },
        { "<|fim_middle|>", 100259 },
        { "<|fim_suffix|>", 100260 },
        { "<|endofprompt|>", 100276 } } },
    { "o200k", O200K, { { "<|endoftext|>", 199999 }, { "<|endofprompt|>", 200018 } } },
    { "p50k", NULL, { { "<|endoftext|>", 50256 } } },
    { "r50k", NULL, { { "<|endoftext|>", 50256 } } },
    { "qwen", QWEN, { { "<|endoftext|>", -1 }, { "<|im_start|>", -1 }, { "<|im_end|>", -1 } } },
    { "llama3", LLAMA3, { { NULL, 0 } } },
    { "kimi", KIMI, { { NULL, 0 } } },
};

static tk_status damaged(size_t line, const char *why) {
    return TK_FAIL(TK_E_FORMAT, "this is not a tiktoken file\nline %zu %s", line, why);
}

/* "base64 rank"; *text is advanced past the line. false: it is none. */
static bool read_line(tk_str *text, tk_buf *bytes, size_t *rank) {
    const char *end = memchr(text->s, '\n', text->n);
    size_t n = end ? (size_t)(end - text->s) : text->n;
    const char *line = text->s, *blank = memchr(line, ' ', n);
    text->s += n + (end != NULL), text->n -= n + (end != NULL);
    if (n && line[n - 1] == '\r') n--;
    bytes->len = 0;
    if (!blank || !tk__base64(bytes, line, (size_t)(blank - line))) return false;
    size_t at = (size_t)(blank - line) + 1;
    for (*rank = 0; at < n && line[at] >= '0' && line[at] <= '9' && *rank < TK_ID_MAX; at++)
        *rank = *rank * 10 + (size_t)(line[at] - '0');
    return at == n && line[n - 1] != ' ' && bytes->len;
}

bool tk__tiktoken_looks(tk_str text) {
    tk_buf bytes = { 0 };
    size_t rank;
    bool yes = text.n && read_line(&text, &bytes, &rank) && tk_buf_check(&bytes) == TK_OK;
    tk_buf_free(&bytes);
    return yes;
}

static tk_status put_tokens(tk_tokenizer *t, tk_str text, tk_buf *bytes, tk_buf *letters) {
    for (size_t line = 1; text.n; line++) {
        size_t rank;
        if (!read_line(&text, bytes, &rank)) return damaged(line, "is not a token and its rank");
        letters->len = 0;
        for (size_t i = 0; i < bytes->len; i++) {
            tk_str l = tk__byte_letters((uint8_t)bytes->data[i]);
            tk_buf_put(letters, l.s, l.n);
        }
        TK_TRY(tk_buf_check(bytes));
        TK_TRY(tk_buf_check(letters));
        if (bytes->len > TK_PIECE_MAX) return damaged(line, "is too long");
        if (tk__pieces_get(&t->ids, letters->data, letters->len) >= 0)
            return damaged(line, "stands there twice");
        TK_TRY(tk__tokenizer_put(t, (tk_str){ letters->data, letters->len },
                                 (int32_t)TK_MIN(rank, (size_t)TK_ID_MAX)));
    }
    return TK_OK;
}

static tk_status add_merges(tk_tokenizer *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->ids.n; i++) n += t->ids.entry[i].key.n;
    TK_TRY(tk__merges_init(&t->merges, n));
    for (size_t i = 0; i < t->ids.n; i++) {
        tk_str s = t->ids.entry[i].key;
        for (size_t k = tk__utf8_len(*s.s); k < s.n; k += tk__utf8_len(s.s[k])) {
            int32_t a = tk__pieces_get(&t->ids, s.s, k), b = tk__pieces_get(&t->ids, s.s + k, s.n - k);
            int32_t id = t->ids.entry[i].id;
            if (a < 0 || b < 0) continue;
            tk__merges_put(&t->merges, (tk__merge){ .left = a, .right = b, .rank = (uint32_t)id, .id = id });
        }
    }
    return TK_OK;
}

static tk_status fill(tk_tokenizer *t, tk_str text, size_t kind, const json_t *config) {
    tk_buf bytes = { 0 }, letters = { 0 };
    tk_status s = put_tokens(t, text, &bytes, &letters);
    tk_buf_free(&bytes);
    tk_buf_free(&letters);
    TK_TRY(s);
    TK_TRY(add_merges(t));
    t->kind = TK_MODEL_BPE, t->bytes = t->ignore_merges = true;
    bool whole;
    const char *pattern = kinds[kind].pattern;
    tk__splitter *known = pattern ? tk__splitter_find(pattern, &whole) : tk__split_gpt2;
    tk__pretok z = { .behavior = TK_ISOLATED };
    if (known)
        TK_TRY(tk__pretok_add_splitter(t, known));
    else {
        TK_TRY(tk__regex_new(&z.regex, pattern));
        TK_TRY(tk__pretok_add_split(t, z));
    }
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_LEVEL }));
    for (size_t i = 0; i < TK_COUNT(kinds[kind].special) && kinds[kind].special[i].text; i++) {
        const char *name = kinds[kind].special[i].text;
        int32_t id = kinds[kind].special[i].id < 0 ? t->size : kinds[kind].special[i].id;
        TK_TRY(
            tk__tokenizer_add(t, (tk__added){ .text = { name, strlen(name) }, .id = id, .special = true }));
    }
    TK_TRY(tk__config_tokens(t, config));
    return tk__tokenizer_finish(t);
}

tk_status tk__tokenizer_from_tiktoken(tk_tokenizer **out, tk_str text, const char *name,
                                      const json_t *config) {
    size_t kind = 0;
    while (kind < TK_COUNT(kinds) && !strstr(name, kinds[kind].part)) kind++;
    if (kind == TK_COUNT(kinds))
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "%.100s: this rank file does not say how text is cut\n"
                       "known by name are cl100k, o200k, p50k, r50k, qwen, llama3 and kimi\n"
                       "rename the file or its folder after the one it is, or give a tokenizer.json",
                       name);
    tk_tokenizer *t;
    TK_TRY(tk__tokenizer_new(&t, text.n / 8));
    tk_status s = fill(t, text, kind, config);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}
