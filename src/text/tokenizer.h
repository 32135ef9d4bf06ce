/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the tokenizers. A text runs through the stages that Hugging Face's library names, in its order:
 *
 *     cut out added tokens -> normalizers -> cut out normalized added tokens -> pre-tokenizers -> model ->
 * post
 *
 * Each kind of stage is a table of rows {name in tokenizer.json, parse function}; the parse function fills a
 * small struct that says what to run. GGUF and tok*.bin fill the same structs. Nothing is materialized
 * between stages that need not be: a pre-tokenizer calls the next one for every piece it cuts, and the
 * byte-level alphabet (bytes spelled as letters) exists only where a later stage would look at it. */
#ifndef TK_TOKENIZER_H
#define TK_TOKENIZER_H
#include <jansson.h>
#include <pthread.h>

#include "text/text.h"

enum {
    TK_ID_MAX = 1 << 22,            /* ids are indices of arrays: a file may not ask for more than this */
    TK_JSON_MAX = 128 << 20,        /* tokenizer.json: the largest known has 33 MB */
    TK_ADDED_MAX = 1024,            /* bytes of one added token: bounds the trie walk at each position */
    TK_STAGES = 48,                 /* stages of one kind */
    TK_UNK_PENALTY = 10,            /* Unigram: how far the unknown token lies below the least score */
    TK_SEGMENT_MAX = INT32_MAX / 4, /* bytes of one text: positions are 32 bits in the merge loops */
};

/* ---- unicode (unicode.c) ------------------------------------------------------------------------------- */

/* One code point from s[0..n), n > 0. > 0: its length, *c set. < 0: -(bytes of an ill-formed maximal
 * subpart). 0: a well-formed start that the end of the text cuts off. */
int tk__utf8_next(const char *s, size_t n, uint32_t *c);
/* The same for text known to be valid; returns the length. */
static inline unsigned tk__utf8_get(const char *s, uint32_t *c) {
    const uint8_t *u = (const uint8_t *)s;
    if (u[0] < 0x80) return *c = u[0], 1;
    if (u[0] < 0xE0) return *c = (u[0] & 31u) << 6 | (u[1] & 63u), 2;
    if (u[0] < 0xF0) return *c = (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u), 3;
    return *c = (u[0] & 7u) << 18 | (u[1] & 63u) << 12 | (u[2] & 63u) << 6 | (u[3] & 63u), 4;
}
static inline unsigned tk__utf8_len(char lead) {
    uint8_t u = (uint8_t)lead;
    return u < 0x80 ? 1 : u < 0xE0 ? 2 : u < 0xF0 ? 3 : 4;
}
void tk__utf8_put(tk_buf *b, uint32_t c);
bool tk__utf8_valid(const char *s, size_t n);
/* Appends s with every ill-formed maximal subpart, and a cut-off end, as U+FFFD. */
void tk__utf8_clean(tk_buf *b, const char *s, size_t n);

/* What a pattern can ask of a code point; several bits may be set. */
enum {
    TK_CP_L = 1,           /* \p{L} */
    TK_CP_N = 2,           /* \p{N} */
    TK_CP_S = 4,           /* \s: White_Space */
    TK_CP_P = 8,           /* \p{P} */
    TK_CP_W = 16,          /* \w as the regex crate has it */
    TK_CP_NUMERIC = 32,    /* Rust's char::is_numeric */
    TK_CP_M = 64,          /* \p{M} */
    TK_CP_SYMBOL = 128,    /* \p{S} */
    TK_CP_UPPER = 256,     /* \p{Lu} or \p{Lt} */
    TK_CP_LOWER = 512,     /* \p{Ll} */
    TK_CP_MODIFIER = 1024, /* \p{Lm} or \p{Lo} */
    TK_CP_C = 2048         /* Cc, Cf, Cs, Co */
};
extern const uint16_t tk__ascii_class[128];
unsigned tk__cp_class(uint32_t c);
/* As llama.cpp has it: Unicode 15.1, 0 for what is not assigned there, and letters beyond ASCII without case
 * (TK_CP_MODIFIER), since its patterns know the case of A-Z and a-z alone. */
unsigned tk__cp_class_15(uint32_t c);

/* unicode_hf.c: what Hugging Face's library knows of a code point besides */
enum {
    TK_HF_PUNCTUATION = 1, /* Punctuation and BertPreTokenizer cut here */
    TK_HF_OTHER = 2,       /* BertNormalizer drops it as a control character */
    TK_HF_ACCENT = 4,      /* BertNormalizer drops it as an accent */
    TK_HF_MARK = 8,        /* StripAccents drops it */
    TK_HF_SCRIPT = 11      /* the bits from here on: a script, 0 goes with all */
};
unsigned tk__hf_kind(uint32_t c);
uint32_t tk__hf_lower(uint32_t c); /* U+0130 becomes two code points: not here */
/* End of the grapheme cluster that starts at `at` < n. */
size_t tk__grapheme(const char *s, size_t n, size_t at);
static inline bool tk__json_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static inline bool tk__is_space(uint32_t c) { /* White_Space */
    return c < 128 ? tk__ascii_class[c] & TK_CP_S : tk__cp_class(c) & TK_CP_S;
}

/* ---- maps (vocab_map.c) ---------------------------------------------------------------------------------
 */

/* Piece -> id. Open addressing; the strings are the caller's and stay put. */
typedef struct tk__pieces {
    int32_t *slot; /* index into key/id arrays, -1 empty */
    struct {
        tk_str key;
        int32_t id;
    } * entry;
    size_t n, cap; /* cap: slots, a power of two */
    uint64_t seed;
    bool borrowed; /* slot is somebody else's memory */
} tk__pieces;
tk_status tk__pieces_init(tk__pieces *m, size_t expected);
/* *old: the id that the same piece had, -1 if new; the new id replaces it. */
tk_status tk__pieces_put(tk__pieces *m, tk_str key, int32_t id, int32_t *old);
int32_t tk__pieces_get(const tk__pieces *m, const char *s, size_t n);
void tk__pieces_free(tk__pieces *m);

/* (left id, right id) -> rank and merged id. */
typedef struct tk__merge {
    int32_t left, right;
    uint32_t rank;
    int32_t id;
} tk__merge;
typedef struct tk__merges {
    tk__merge *slot; /* left -1: empty */
    size_t n, cap;
    uint64_t seed;
    bool borrowed;
} tk__merges;
tk_status tk__merges_init(tk__merges *m, size_t expected);
tk_status tk__merges_put(tk__merges *m, tk__merge e); /* the last of two equal pairs stays */
static inline uint64_t tk__mix(uint64_t x) {
    x *= 0x9E3779B97F4A7C15u, x ^= x >> 32;
    x *= 0xD6E8FEB86659FD93u;
    return x ^ x >> 29;
}
static inline const tk__merge *tk__merges_get(const tk__merges *m, int32_t left, int32_t right) {
    size_t mask = m->cap - 1;
    for (size_t i = tk__mix(((uint64_t)(uint32_t)left << 32 | (uint32_t)right) ^ m->seed) & mask;;
         i = (i + 1) & mask) {
        const tk__merge *e = &m->slot[i];
        if (e->left == left && e->right == right) return e;
        if (e->left < 0) return NULL;
    }
}
void tk__merges_free(tk__merges *m);
uint64_t tk__seed(void); /* unpredictable, so that no file can be built to collide */

/* ---- a trie that does not change (darray.c) ---------------------------------------------------------- */

typedef struct tk__unit {
    int32_t base, check, value; /* value -1: no key ends here */
} tk__unit;
typedef struct tk__array {
    tk__unit *unit; /* node 0 is the root */
    size_t n;
    int32_t root, cursor; /* while it is built */
} tk__array;
typedef struct tk__key {
    tk_str s;
    int32_t value;
} tk__key;
/* Sorts keys; of equal ones the largest value stays. The strings are not kept. */
tk_status tk__array_build(tk__array *a, tk__key *key, size_t n);
void tk__array_free(tk__array *a);
/* The child of a node, or -1. */
static inline int32_t tk__array_step(const tk__array *a, int32_t node, uint8_t byte) {
    int32_t at = a->unit[node].base + byte;
    return a->unit[at].check == node ? at : -1;
}

/* ---- added tokens (added.c) ---------------------------------------------------------------------------- */

typedef struct tk__added {
    tk_str text; /* as written in the file; pieces of the trie may be its normalized form */
    int32_t id;
    bool special, normalized, single_word, lstrip, rstrip;
} tk__added;
typedef struct tk__trie tk__trie;
tk_status tk__trie_new(tk__trie **out);
/* The first of two equal keys stays. */
tk_status tk__trie_add(tk__trie *t, const char *s, size_t n, int32_t value);
/* Leftmost, then longest match at or after `from`; its end, or 0 for none. */
size_t tk__trie_find(const tk__trie *t, const char *s, size_t n, size_t from, size_t *start, int32_t *value);
/* Walking by hand: 0 is the root; the child of a node, or -1; the value of the key that ends at a node, or
 * -1. */
int32_t tk__trie_step(const tk__trie *t, int32_t node, uint8_t byte);
int32_t tk__trie_value(const tk__trie *t, int32_t node);
void tk__trie_free(tk__trie *t);

/* ---- stages ----------------------------------------------------------------------------------------------
 */

typedef struct tk__work tk__work;

/* normalizers.c, normal_forms.c. *first: how many bytes at the start of the text stem from the first
 * character of all that is encoded; a stage turns it into the same for its result (Metaspace's "first" asks).
 */
typedef struct tk__normalizer tk__normalizer;
struct tk__normalizer {
    tk_status (*run)(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first);
    tk_str a, b; /* Prepend: a. Replace: a (or the pattern) by b. */
    struct tk__regex *regex;
    const struct tk__charsmap *charsmap;
    const struct tk__sp_rules *sp;
    unsigned drop;            /* TK_HF_* of what is dropped */
    bool clean;               /* also drop U+0000 and U+FFFD, and make white space a blank */
    bool compose, compatible; /* Unicode normalization form: NFC, NFD, NFKC, NFKD */
    bool left, right;         /* Strip */
};
tk_status tk__normalizer_add(tk_tokenizer *t, tk__normalizer z);
tk_status tk__normalizers_parse(tk_tokenizer *t, const json_t *j);
tk_status tk__normalize_prepend(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first);
tk_status tk__normalize_replace(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first);
tk_status tk__normalize_unicode(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first);
tk_status tk__normalize_charsmap(const tk__normalizer *z, const char *s, size_t n, tk_buf *out,
                                 size_t *first);
/* All normalizers, one after the other, through two buffers; *s, *n: the text, then the result. */
tk_status tk__normalize(const tk_tokenizer *t, tk_buf two[2], const char **s, size_t *n, size_t *first);

/* sentencepiece.c: the user-defined symbol that s starts with: its length, 0 for none */
typedef struct tk__sp_rules tk__sp_rules;
size_t tk__sp_user_symbol(const tk_tokenizer *t, const char *s, size_t n, int32_t *id);

/* charsmap.c: SentencePiece's compiled replacements. The bytes are copied into the arena. */
typedef struct tk__charsmap tk__charsmap;
tk_status tk__charsmap_new(tk__charsmap **out, tk_arena *arena, const void *data, size_t n);
/* The shortest or longest key that s[0..n) starts with: its length, 0 for none, and what replaces it. */
size_t tk__charsmap_find(const tk__charsmap *m, const char *s, size_t n, bool longest, tk_str *to);
/* base64.c: appends what `s` encodes; false: it is not base64. */
bool tk__base64(tk_buf *out, const char *s, size_t n);

/* pretok.c: cuts a piece and hands the parts to the next stage, in order. */
typedef struct tk__pretok tk__pretok;
/* A hand-written pattern: the end of the piece that starts at p < n. Every byte belongs to some piece. */
typedef size_t tk__splitter(const char *s, size_t n, size_t p);
typedef enum tk__behavior {
    TK_REMOVED,
    TK_ISOLATED,
    TK_WITH_PREVIOUS,
    TK_WITH_NEXT,
    TK_CONTIGUOUS
} tk__behavior;
typedef enum tk__scheme { TK_PREPEND_NEVER, TK_PREPEND_FIRST, TK_PREPEND_ALWAYS } tk__scheme;
struct tk__pretok {
    tk_status (*run)(tk__work *w, int stage, const char *s, size_t n);
    bool (*is)(const tk__pretok *z, uint32_t c); /* a character to split at */
    tk__splitter *next;
    struct tk__regex *regex;
    tk_str text; /* the string to split at; Metaspace: its mark */
    tk__behavior behavior;
    bool invert, split;
    bool collapsed; /* the regex runs over one byte a code point (llama_split.c) */
    tk__scheme scheme;
    size_t number; /* FixedLength: characters; CharDelimiterSplit: the character */
};
tk_status tk__pretok_add_split(tk_tokenizer *t, tk__pretok z); /* by z.regex or z.text, with z.behavior */
tk_status tk__metaspace_scheme(const json_t *j, tk__scheme *out);
tk_status tk__pretoks_parse(tk_tokenizer *t, const json_t *j);
tk_status tk__pretok_add(tk_tokenizer *t, tk__pretok z); /* takes the regex, also when it fails */
tk_status tk__pretok_add_splitter(tk_tokenizer *t, tk__splitter *next);
/* Runs stage `stage` and all after it, then the model. */
tk_status tk__pretok_run(tk__work *w, int stage, const char *s, size_t n);
tk_str tk__byte_letters(uint8_t byte);             /* GPT-2's alphabet: the letter that stands for a byte */
int tk__letter_byte(const char *s, unsigned *len); /* and back; -1: not of the alphabet */

/* splitters.c: patterns of real files, each in linear time */
/* By exact text; NULL: not a known one. *whole: every text is matches from end to end. */
tk__splitter *tk__splitter_find(const char *regex, bool *whole);
tk__splitter tk__split_digit, tk__split_digits; /* Digits: individual, runs */
tk__splitter tk__split_3digits, tk__split_cjk, tk__split_newlines;
/* As Hugging Face's library reads the pattern, and as llama.cpp does */
tk__splitter tk__split_gpt2, tk__split_gpt2_llama, tk__split_number, tk__split_number_llama;
tk__splitter tk__split_3numbers, tk__split_3numbers_llama, tk__split_falcon, tk__split_falcon_llama;
tk__splitter tk__split_deepseek, tk__split_deepseek_llama, tk__split_llama3, tk__split_llama3_llama;
tk__splitter tk__split_qwen2, tk__split_qwen2_llama, tk__split_qwen35, tk__split_qwen35_llama;
tk__splitter tk__split_o200k, tk__split_o200k_llama, tk__split_tekken, tk__split_tekken_llama;
tk__splitter tk__split_kimi_llama, tk__split_afmoe_llama, tk__split_superbpe_llama;

/* regex.c: everything else, through Oniguruma with Unicode 16 and a limit on its backtracking */
typedef struct tk__regex tk__regex;
typedef struct tk__search { /* what searches of one text share; zero-initialized is valid */
    void *region, *limits;
    double start_wall, start_cpu; /* of the first search; start_wall 0: none yet */
    size_t start, end;            /* the match */
    bool found;
} tk__search;
tk_status tk__regex_new(tk__regex **out, const char *pattern);
/* regex_sets.c: appends a pattern that means in this Oniguruma what `pattern` means in Hugging Face's. */
tk_status tk__regex_translate(tk_buf *out, const char *pattern);
/* A pattern of our own, compiled as it stands: over single bytes without classes beyond ASCII, or over UTF-8.
 */
tk_status tk__regex_new_plain(tk__regex **out, const char *pattern, bool bytes);
/* Next match at or after `from`, into *z. */
tk_status tk__regex_find(const tk__regex *r, tk__search *z, const char *s, size_t n, size_t from);
void tk__search_free(tk__search *z);
void tk__regex_free(tk__regex *r);

/* bpe.c: merges by rank (BPE) or by score (SentencePiece-like) */
typedef enum tk__model_kind {
    TK_MODEL_BPE,
    TK_MODEL_SPM,
    TK_MODEL_UNIGRAM,
    TK_MODEL_WORDPIECE,
    TK_MODEL_WORDLEVEL
} tk__model_kind;
/* A piece of text as the pre-tokenizers left it. Bytes mode: each byte is one letter; else each code point.
 */
tk_status tk__model_encode(tk__work *w, const char *s, size_t n);
/* Whether and where long pieces may be cut without changing their ids; the vocabulary is complete. */
void tk__model_find_mark(tk_tokenizer *t);

/* llama_*.c: GGUF vocabularies, with llama.cpp's own order of things */
typedef struct tk__llama tk__llama;
struct tk__llama {
    tk_status (*text)(tk__work *w, const char *s, size_t n, bool first); /* the text between special tokens;
                                   first: nothing, or a special token, is before it */
    int32_t *special; /* ids that are cut out of a text, longest first */
    size_t n_special;
    uint8_t *attr;          /* [size] TK_ATTR_* */
    tk__pieces at_start[2]; /* special tokens -> index into special; 1: those that are text unless parsed */
    uint32_t *lengths; /* of special tokens, by first byte: lengths[first_length[b]..first_length[b + 1]) */
    uint32_t first_length[257];
    bool space_prefix, escape_spaces, merge_spaces, lowercase, strip_accents;
    bool drop_spaces;    /* model "whitespace" */
    bool whole_newlines; /* a run of line ends is looked up as a piece first */
    tk__trie *trie;      /* RWKV, UGM: all pieces that count */
    tk__trie *user;      /* UGM: user-defined pieces, which normalization leaves alone */
    tk__pieces ghosts;   /* BPE: texts that merges pass through without being tokens; ids from size up */
    float unknown_score; /* UGM */
    uint8_t *charsmap;   /* UGM: 4 bytes, array, strings; NULL: none */
    size_t n_charsmap;
    const char *kind; /* "BPE", "SPM", ... */
};
enum { TK_ATTR_CONTROL = 1, TK_ATTR_USER = 2, TK_ATTR_UNKNOWN = 4, TK_ATTR_LSTRIP = 8, TK_ATTR_RSTRIP = 16 };
enum { TK_PIECE_MAX = 1024 }; /* bytes of a piece where a search at each position is as long as the longest */
/* What llama.cpp derives from a pre-tokenizer's name */
typedef struct tk__llama_pre {
    bool ignore_merges, add_bos, no_bos; /* no_bos: none unless the file names one */
    bool force_bos, raw;                 /* raw: no byte-level alphabet */
    bool escape, whole_newlines;
} tk__llama_pre;
tk_status tk__llama_pre_add(tk_tokenizer *t, const char *name, tk__llama_pre *out);
tk_status tk__llama_load(tk_tokenizer *t, const tk_vocab *v);
tk_status tk__llama_encode(tk__work *w, const char *s, size_t n);
tk_status tk__llama_text_spm(tk__work *w, const char *s, size_t n, bool first);
tk_status tk__llama_text_bpe(tk__work *w, const char *s, size_t n, bool first);
tk_status tk__llama_text_wpm(tk__work *w, const char *s, size_t n, bool first);
tk_status tk__llama_text_ugm(tk__work *w, const char *s, size_t n, bool first);
tk_status tk__llama_text_rwkv(tk__work *w, const char *s, size_t n, bool first);
uint32_t tk__llama_lower(uint32_t c);
void tk__llama_free(tk__llama *l);
/* unigram.c, wordpiece.c: the other models. _word: one piece of text; _finish: after the vocabulary. */
tk_status tk__unigram_word(tk__work *w, const char *s, size_t n);
tk_status tk__unigram_finish(tk_tokenizer *t);
tk_status tk__parse_unigram(tk_tokenizer *t, const json_t *j);
tk_status tk__wordpiece_word(tk__work *w, const char *s, size_t n);
tk_status tk__wordpiece_finish(tk_tokenizer *t);
tk_status tk__parse_wordpiece(tk_tokenizer *t, const json_t *j);
tk_status tk__wordlevel_word(tk__work *w, const char *s, size_t n);
tk_status tk__parse_wordlevel(tk_tokenizer *t, const json_t *j);

/* decoders.c */
typedef struct tk__decoder tk__decoder;
enum {
    TK_DEC_BYTE_LEVEL,
    TK_DEC_REPLACE,
    TK_DEC_REGEX,
    TK_DEC_BYTE_FALLBACK,
    TK_DEC_STRIP,
    TK_DEC_SPACES,
    TK_DEC_METASPACE,
    TK_DEC_WORDPIECE,
    TK_DEC_SUFFIX,
    TK_DEC_ONCE, /* CTC */
    TK_DEC_SOME,
    TK_DEC_SP_BYTES, /* sentencepiece */
    TK_DEC_SP
};
struct tk__decoder {
    int kind;
    bool fused; /* a stage before it glued all tokens into one text */
    bool whole; /* it needs all of that text at once */
    struct tk__regex *regex;
    tk_str a, b;        /* Replace: a by b. Strip: a, one character */
    size_t start, stop; /* Strip: how many of them at either end */
};
tk_status tk__decoder_add(tk_tokenizer *t, tk__decoder z);
tk_status tk__decoders_parse(tk_tokenizer *t, const json_t *j);

/* ---- the tokenizer
 * ------------------------------------------------------------------------------------------ */

enum {
    TK_FLAG_SPECIAL = 1,
    TK_FLAG_EOG = 2,
    TK_FLAG_ADDED = 4,
    TK_FLAG_NO_MERGE = 8,
    TK_FLAG_UNUSED = 16,
    TK_FLAG_USER = 32
};

struct tk_tokenizer {
    tk_arena arena; /* strings, stages */
    /* vocabulary */
    int32_t size; /* largest id + 1 */
    size_t cap_size;
    tk_str *piece;  /* [size]; s NULL: a hole */
    float *score;   /* [size], SPM only */
    uint8_t *flags; /* [size] */
    tk__pieces ids; /* model's pieces */
    tk__pieces added_ids;
    size_t longest; /* bytes of the longest piece that SPM may merge to */
    size_t n_model; /* what the model counts as its vocabulary's size; 0: as many as it has pieces */
    tk_str *shown;  /* [size] text of added tokens that the normalizer changes; NULL: none */
    int32_t special[TK_SPECIALS];
    /* stages */
    tk__added *added;
    size_t n_added, cap_added;
    tk__trie *cut_raw, *cut_normalized; /* values: index into added; NULL: nothing to cut */
    tk__normalizer norm[TK_STAGES];
    tk__pretok pre[TK_STAGES];
    tk__decoder dec[TK_STAGES];
    int n_norm, n_pre, n_dec;
    bool bytes; /* the last pre-tokenizer was ByteLevel: the model gets raw bytes */
    tk__model_kind kind;
    tk__merges merges;
    bool ignore_merges, byte_fallback, fuse_unk, add_bos;
    bool gaps;        /* a letter that gives nothing keeps its neighbours from merging */
    tk__llama *llama; /* GGUF; NULL: Hugging Face's stages */
    bool raw_added;   /* GGUF: added tokens are spelled as text, not in the byte-level alphabet */
    int32_t unk;
    tk_str unk_missing; /* BPE: its unknown token, which is not in the vocabulary; s NULL: fine */
    tk_str sub_prefix;  /* WordPiece, BPE: before pieces inside a word */
    tk_str end_suffix;  /* BPE: after the last letter of a word */
    /* Unigram, WordPiece */
    tk__array trie;
    double *weight; /* [size] */
    double unk_weight;
    bool float_scores; /* sums are rounded to float, as the sentencepiece package has it */
    /* SentencePiece */
    tk__array user;        /* user-defined symbols, which nothing changes or joins */
    bool unused;           /* some pieces only lead to others (TK_FLAG_UNUSED) */
    bool letters_only;     /* model type CHAR */
    int32_t inner_node;    /* where walks inside a word start; -1: no such piece */
    size_t max_characters; /* longer words are unknown */
    tk_str
        mark; /* a word may be cut before this (a space) where it follows something else; s NULL: nowhere */
    int32_t letter_id[256];    /* bytes mode: id of the letter; -1 none */
    int32_t byte_id[256];      /* "<0xNN>"; -1 none */
    tk_ids prefix, suffix;     /* what ADD_SPECIAL adds */
    const struct tk__big *big; /* while a tokenizer.json is read: its tables, apart from the document */
    int32_t next_joint;        /* what the next merge probably makes */
    struct tk__image *image;   /* maps that lie in a mapped file; NULL: none */
    /* scratch with a cache of words, kept between calls; taken by trylock, a second thread makes its own */
    pthread_mutex_t lock;
    tk__work *work;
};
/* An empty tokenizer with room for `expected` pieces. Whoever made it frees it when filling it fails. */
tk_status tk__tokenizer_new(tk_tokenizer **out, size_t expected);
/* Room for ids up to `id`; the new ones are holes. */
tk_status tk__tokenizer_grow(tk_tokenizer *t, int32_t id);
/* Puts a piece of the model's vocabulary (copied). */
tk_status tk__tokenizer_put(tk_tokenizer *t, tk_str piece, int32_t id);
/* The merge of two pieces at `rank`; both and their join must be in the vocabulary. */
tk_status tk__tokenizer_merge(tk_tokenizer *t, tk_str left, tk_str right, size_t rank);
/* Adds a token with token.id, which may be a piece of the vocabulary. token.text is kept, not copied. */
tk_status tk__tokenizer_add(tk_tokenizer *t, tk__added token);
/* After everything is filled in: tries, byte ids, end-of-generation names. */
tk_status tk__tokenizer_finish(tk_tokenizer *t);

/* hf_json.c: reading tokenizer.json. Strings are copied into the tokenizer's arena. */
tk_status tk__json_string(tk_tokenizer *t, const json_t *j, const char *key, tk_str *out);
tk_status tk__json_size(const json_t *j, const char *key, size_t max, size_t *out); /* absent: 0 */
bool tk__json_true(const json_t *j, const char *key, bool otherwise);
/* "type" of a stage; `depth` bounds Sequences inside Sequences. */
tk_status tk__json_type(const json_t *j, const char *what, int depth, const char **type);
tk_status tk__unknown_stage(const char *what, const char *type);
tk_status tk__parse_vocab(tk_tokenizer *t, const json_t *vocab);
tk_str tk__keep(tk_tokenizer *t, const char *s, size_t n); /* s NULL: out of memory */

/* hf_big.c: the large tables of a BPE model, cut out of the document */
typedef struct tk__image tk__image;
typedef struct tk__big {
    tk_str vocab, merges; /* in the document's text; s NULL and no image: nothing was cut out */
    tk_buf rest;          /* the document without them */
    tk__image *image;     /* or all of it, compiled */
    uint8_t key[16];
    bool keyed;
} tk__big;
enum { TK_BIG = 1 << 20 }; /* bytes from which a document is worth a cache */
void tk__big_find(tk__big *b, tk_str text);
tk_status tk__big_read(tk_tokenizer *t, const tk__big *b);

/* cache.c: the same tables in a file that is mapped. Without one, or with a damaged one, nothing happens. */
void tk__cache_find(tk__big *b, tk_str text);
tk_status tk__cache_adopt(tk_tokenizer *t, tk__image *image); /* the image must outlive t's maps */
void tk__cache_write(const tk_tokenizer *t, const tk__big *b);
tk__image *tk__image_open(const char *path, const uint8_t *key); /* key NULL: any. NULL: not a sound file */
tk_str tk__image_rest(const tk__image *m);
void tk__image_free(tk__image *m);
char *tk__cache_folder(void); /* owned by the caller; NULL: there is no place */

/* A tokenizer.json as an object. */
tk_status tk__tokenizer_from_object(tk_tokenizer **out, const json_t *j, const json_t *config);
/* folder.c: what tokenizer_config.json (NULL: none) says of a tokenizer that is not a tokenizer.json: its
 * tokens; and, for SentencePiece, the begin and end tokens */
tk_status tk__config_tokens(tk_tokenizer *t, const json_t *config);
tk_status tk__config_frame(tk_tokenizer *t, const json_t *config);
tk_status tk__tokenizer_from_sentencepiece(tk_tokenizer **out, tk_str model, const json_t *config);
bool tk__tiktoken_looks(tk_str text);
tk_status tk__tokenizer_from_tiktoken(tk_tokenizer **out, tk_str text, const char *name,
                                      const json_t *config);

/* ---- work: what one encode call needs (encode.c)
 * ------------------------------------------------------------ */

/* A word of up to 28 bytes that became up to 8 ids. Direct-mapped, so its size is its bound. */
typedef struct tk__word {
    uint8_t len, count;
    char key[30];
    int32_t id[8];
} tk__word;
enum { TK_WORDS = 1 << 14 };

/* A symbol of the merge loop: bytes [at, at+len) of the word; len 0: merged into its left neighbour. */
typedef struct tk__symbol {
    int32_t id;
    uint32_t at, len;
    int32_t prev, next;
} tk__symbol;
typedef struct tk__candidate {
    uint64_t key;
    uint32_t len;
    int32_t id;
} tk__candidate;

struct tk__work {
    const tk_tokenizer *t;
    tk_ids *out;
    unsigned flags;   /* TK_ENCODE_* */
    const char *text; /* all of it, valid UTF-8 */
    tk_buf clean, norm[2];
    tk_buf spelled;          /* BPE with affixes: a letter with them */
    tk_buf stage[TK_STAGES]; /* text that a pre-tokenizer rewrites */
    tk__search search;
    tk__symbol *symbol;
    size_t n_symbol, cap_symbol;
    tk__candidate *heap;
    size_t n_heap, cap_heap;
    tk__word *words; /* [TK_WORDS] */
    struct tk__fragment {
        size_t from, to;
        int32_t id; /* -1: text */
    } * fragment[2];
    size_t cap_fragment[2];
    uint8_t *seen;    /* llama: [n_special] occurs in the text */
    struct tk__best { /* Unigram and UGM: the last piece of the best way to a position, and the sum of scores
                       */
        double score;
        uint32_t from;
        int32_t id;
    } * best;
    size_t cap_best;
    uint32_t *left_of; /* [size] sentencepiece: how an unused piece was put together last; NULL: none yet */
    /* The part of a buffer that stems from the text's first character: Metaspace's "first". NULL: none */
    const char *first, *first_end;
};
tk_status tk__work_new(tk__work **out, const tk_tokenizer *t);
void tk__work_free(tk__work *w);

#endif
