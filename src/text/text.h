/* SPDX-License-Identifier: Apache-2.0 */
/* Text to token ids and back. A tokenizer is opened from a Hugging Face tokenizer.json, from the plain
 * arrays that a GGUF file holds, or from llama2.c's tok*.bin; what follows is the same for all three.
 * A tokenizer that this build cannot reproduce exactly is refused by the name of the part it lacks,
 * never approximated. Ids are int32_t, -1 is "none". */
#ifndef TK_TEXT_H
#define TK_TEXT_H
#include "base/base.h"

/* ---- values ------------------------------------------------------------------------------------------ */

typedef struct tk_str { /* bytes somebody else owns; not NUL-terminated */
    const char *s;
    size_t n;
} tk_str;
#define TK_STR(literal) ((tk_str){ (literal), sizeof(literal) - 1 })

typedef struct tk_ids { /* zero-initialized is empty and valid; free with tk_ids_free */
    int32_t *id;
    size_t n, cap;
} tk_ids;
tk_status tk_ids_push(tk_ids *ids, int32_t id);
void tk_ids_free(tk_ids *ids);

/* A vocabulary as GGUF's tokenizer.ggml.* keys hold it. Everything is copied by tk_tokenizer_from_vocab,
 * nothing needs to outlive the call. */
typedef struct tk_vocab {
    /* tokenizer.ggml.model: "gpt2", "llama", "bert", "t5", "rwkv", "gemma4", "whitespace" */
    const char *model;
    const char *pre; /* tokenizer.ggml.pre, NULL if absent */
    size_t n_tokens, n_merges;
    const tk_str *tokens;
    const float *scores;  /* [n_tokens] or NULL */
    const int32_t *types; /* [n_tokens] or NULL: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte */
    const tk_str *merges; /* [n_merges] "left right" */
    int32_t bos, eos, eot, unk, pad;           /* -1: key absent */
    int8_t add_bos, add_eos, add_space_prefix; /* 0, 1, or -1: key absent */
    int8_t add_sep, merge_spaces;              /* remove_extra_whitespaces */
    int8_t lowercase, strip_accents;           /* tokenizer.ggml.normalizer.*: BERT's */
    int32_t eom, sep, fim_pre, fim_suf, fim_mid, fim_pad, fim_rep, fim_sep;
    const uint8_t *charsmap; /* precompiled_charsmap, n_charsmap bytes, or NULL */
    size_t n_charsmap;
    const char *name, *arch; /* general.name, general.architecture: some imply white space around tokens */
} tk_vocab;
/* All keys absent. Start from this: a zeroed tk_vocab would name token 0 as everything. */
#define TK_VOCAB_NONE                                                                                        \
    ((tk_vocab){ .bos = -1,                                                                                  \
                 .eos = -1,                                                                                  \
                 .eot = -1,                                                                                  \
                 .unk = -1,                                                                                  \
                 .pad = -1,                                                                                  \
                 .add_bos = -1,                                                                              \
                 .add_eos = -1,                                                                              \
                 .add_space_prefix = -1,                                                                     \
                 .add_sep = -1,                                                                              \
                 .merge_spaces = -1,                                                                         \
                 .lowercase = -1,                                                                            \
                 .strip_accents = -1,                                                                        \
                 .eom = -1,                                                                                  \
                 .sep = -1,                                                                                  \
                 .fim_pre = -1,                                                                              \
                 .fim_suf = -1,                                                                              \
                 .fim_mid = -1,                                                                              \
                 .fim_pad = -1,                                                                              \
                 .fim_rep = -1,                                                                              \
                 .fim_sep = -1 })

/* ---- opening ----------------------------------------------------------------------------------------- */

typedef struct tk_tokenizer tk_tokenizer;
/* config: tokenizer_config.json (names bos, eos, unk, pad), or NULL. */
tk_status tk_tokenizer_from_json(tk_tokenizer **out, tk_str json, const tk_str *config);
tk_status tk_tokenizer_from_vocab(tk_tokenizer **out, const tk_vocab *v);
/* llama2.c: int32 longest piece, then {float score, int32 length, bytes} per token; bos 1, eos 2.
 * vocab_size 0: as many as the file holds. */
tk_status tk_tokenizer_from_tokbin(tk_tokenizer **out, const void *data, size_t n, size_t vocab_size);
/* llm.c's gpt2_tokenizer.bin. data is not kept. */
tk_status tk_tokenizer_from_llmc(tk_tokenizer **out, const void *data, size_t n);
/* A SentencePiece .model: the ids of the sentencepiece package. */
tk_status tk_tokenizer_from_sentencepiece(tk_tokenizer **out, const void *data, size_t n);
/* A tokenizer.json, a SentencePiece .model, a tiktoken rank file (its name says which), a tok*.bin; or a
 * folder with one of them, or with vocab.json and merges.txt, or vocab.txt. tokenizer_config.json beside it
 * is read too. */
tk_status tk_tokenizer_open(tk_tokenizer **out, const char *path);
void tk_tokenizer_free(tk_tokenizer *t); /* NULL is fine */

/* ---- text -> ids ------------------------------------------------------------------------------------- */

enum {
    TK_ENCODE_ADD_SPECIAL = 1,   /* the begin/end tokens of the post-processor (GGUF: add_bos, add_eos) */
    TK_ENCODE_PARSE_SPECIAL = 2, /* special tokens written in the text count as such: HF's encode().
                                    Without it they are plain text: HF with encode_special_tokens. */
};
/* Appends the ids of n bytes of text. Invalid UTF-8 counts as U+FFFD, one per maximal subpart, as Python's
 * errors="replace" does. Rendered chat templates: PARSE_SPECIAL without ADD_SPECIAL. Safe to call from
 * several threads at once. On failure `ids` may hold a part. */
tk_status tk_encode(const tk_tokenizer *t, const char *text, size_t n, unsigned flags, tk_ids *ids);

/* ---- ids -> text ------------------------------------------------------------------------------------- */

enum {
    TK_DECODE_SKIP_SPECIAL = 1, /* special tokens (begin, end, chat marks) give no text */
    TK_DECODE_CONTINUE = 2,     /* these ids continue earlier text: keep the space that SentencePiece-like
                                   tokenizers take off the start of a text */
};
/* Appends the text of all ids: always valid UTF-8. An id outside the vocabulary is TK_E_USAGE. */
tk_status tk_decode(const tk_tokenizer *t, const int32_t *ids, size_t n, unsigned flags, tk_buf *text);

/* The same, token by token: the pieces of push and the final flush concatenate to what tk_decode gives.
 * What cannot be shown yet (a broken-off UTF-8 sequence, a run of <0xNN> tokens) is held back; of a byte run
 * of TK_DETOK_HOLD bytes what is complete is let go. One detokenizer belongs to one thread at a time. */
enum { TK_DETOK_HOLD = 1024 };
typedef struct tk_detok tk_detok;
tk_status tk_detok_new(tk_detok **out, const tk_tokenizer *t, unsigned decode_flags);
tk_status tk_detok_push(tk_detok *d, int32_t id, tk_buf *text);
tk_status tk_detok_flush(tk_detok *d, tk_buf *text); /* then ready for a new text, with the same flags */
void tk_detok_free(tk_detok *d);

/* ---- questions --------------------------------------------------------------------------------------- */

int32_t tk_tokenizer_size(const tk_tokenizer *t); /* largest id + 1; the model's logits may be wider */
/* As the vocabulary spells it (byte-level tokens in GPT-2's alphabet); s is NULL for an id without a
 * token. Valid as long as t. */
tk_str tk_tokenizer_piece(const tk_tokenizer *t, int32_t id);
int32_t tk_tokenizer_find(const tk_tokenizer *t, tk_str piece); /* -1: none */
bool tk_tokenizer_is_special(const tk_tokenizer *t, int32_t id);
/* Ends a generation: eos, eot, tokens known by name (<|im_end|>, <|eot_id|>, ...), and ids added below. */
bool tk_tokenizer_is_eog(const tk_tokenizer *t, int32_t id);
/* E.g. for generation_config.json's eos_token_id list. Before the tokenizer is shared; ids outside the
 * vocabulary are ignored. */
void tk_tokenizer_add_eog(tk_tokenizer *t, int32_t id);
bool tk_tokenizer_adds_bos(const tk_tokenizer *t); /* ADD_SPECIAL puts bos first */

typedef enum tk_special { TK_BOS, TK_EOS, TK_EOT, TK_UNK, TK_PAD, TK_SPECIALS } tk_special;
int32_t tk_tokenizer_special(const tk_tokenizer *t, tk_special which); /* -1: none */
const char *tk_tokenizer_model(const tk_tokenizer *t); /* "BPE", "SPM", "WPM", ...: for `show` */
#endif
