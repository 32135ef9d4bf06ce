/* SPDX-License-Identifier: Apache-2.0 */
/* A GGUF vocabulary as llama.cpp 0.3.36 reads it: default ids per kind of model, what each token's type and
 * name make of it (control, user-defined, end of generation), and the lists that encoding works from. */
#include <float.h>
#include <stdlib.h>

#include "text/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81"

enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

static tk_status damaged(const char *why) {
    return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\n%s", why);
}
static tk_status out_of_memory(size_t n) {
    return TK_FAIL(TK_E_NOMEM, "out of memory\na vocabulary of %zu tokens did not fit", n);
}

/* ---- tokens ---------------------------------------------------------------------------------------------
 */

static int type_of(const tk_vocab *v, size_t i) { return v->types ? v->types[i] : TYPE_NORMAL; }

static tk_status put_tokens(tk_tokenizer *t, const tk_vocab *v) {
    for (size_t i = 0; i < v->n_tokens; i++) {
        char name[32];
        tk_str piece = { v->tokens[i].s,
                         strnlen(v->tokens[i].s, v->tokens[i].n) }; /* they are C strings there */
        if (!piece.n) piece = (tk_str){ name, (size_t)snprintf(name, sizeof name, "[EMPTY_%zu]", i) };
        if (!tk__utf8_valid(piece.s, piece.n))
            return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\ntoken %zu is not valid UTF-8", i);
        TK_TRY(tk__tokenizer_put(t, piece, (int32_t)i));
        int type = type_of(v, i);
        t->llama->attr[i] = type == TYPE_UNKNOWN   ? TK_ATTR_UNKNOWN
                            : type == TYPE_CONTROL ? TK_ATTR_CONTROL
                            : type == TYPE_USER    ? TK_ATTR_USER
                                                   : 0;
    }
    return TK_OK;
}

/* A piece's id; a text that merges pass through without being a token gets an id beyond the vocabulary. */
static tk_status symbol_id(tk_tokenizer *t, tk_str text, int32_t *id) {
    tk__pieces *ghosts = &t->llama->ghosts;
    int32_t old;
    if ((*id = tk__pieces_get(&t->ids, text.s, text.n)) >= 0) return TK_OK;
    if ((*id = tk__pieces_get(ghosts, text.s, text.n)) >= 0) return TK_OK;
    tk_str own = tk__keep(t, text.s, text.n);
    if (!own.s) return TK_E_NOMEM;
    *id = t->size + (int32_t)ghosts->n;
    return tk__pieces_put(ghosts, own, *id, &old);
}

static tk_status put_merge(tk_tokenizer *t, tk_str m, size_t rank) {
    size_t n = strnlen(m.s, m.n);
    const char *blank = n > 1 ? memchr(m.s + 1, ' ', n - 1) : NULL;
    if (!blank && n < m.n) return TK_OK; /* cut off at a NUL, as tokens are */
    m.n = n;
    if (!blank)
        return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nmerge %zu is not a pair of tokens", rank);
    tk_str left = { m.s, (size_t)(blank - m.s) }, right = { blank + 1, m.n - left.n - 1 };
    if (!right.n || memchr(right.s, ' ', right.n)) return TK_OK; /* no word holds a blank */
    char small[256], *joint = m.n <= sizeof small ? small : malloc(m.n);
    if (!joint) return out_of_memory(t->ids.n);
    memcpy(joint, left.s, left.n);
    memcpy(joint + left.n, right.s, right.n);
    int32_t a = 0, b = 0, id = 0;
    tk_status s = symbol_id(t, left, &a);
    if (s == TK_OK) s = symbol_id(t, right, &b);
    if (s == TK_OK) s = symbol_id(t, (tk_str){ joint, left.n + right.n }, &id);
    if (s == TK_OK && !tk__merges_get(&t->merges, a, b)) /* the first of equals counts */
        s = tk__merges_put(&t->merges,
                           (tk__merge){ .left = a, .right = b, .rank = (uint32_t)rank, .id = id });
    if (joint != small) free(joint);
    return s;
}

/* ---- the kinds ------------------------------------------------------------------------------------------
 */

/* What of a kind's nature the file may change */
typedef struct traits {
    int32_t bos, eos, unk, sep, pad; /* where the file names none */
    bool space_prefix, add_bos, add_eos;
    bool force_bos;   /* whatever the file says */
    bool always_both; /* begin and separator, whatever the file says */
} traits;

static tk_status add_decoders(tk_tokenizer *t, bool strip) {
    tk_str blank = TK_STR(" "), mark = TK_STR(SPACE_MARK);
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_REPLACE, .a = mark, .b = blank }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_FALLBACK }));
    if (!strip) return TK_OK;
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_STRIP, .fused = true, .a = blank, .start = 1 });
}

static tk_status fill_bpe_named(tk_tokenizer *t, const tk_vocab *v, traits *z, const char *pre) {
    tk__llama_pre also;
    t->kind = TK_MODEL_BPE;
    t->gaps = true; /* bytes that the vocabulary lacks (SmolLM2: 0x16) give nothing */
    t->llama->text = tk__llama_text_bpe;
    if (!pre)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the file does not say how its tokenizer cuts text\n"
                       "tokenizer.ggml.pre is missing, and a guess would give other tokens\n"
                       "give the model's tokenizer.json with --tokenizer");
    TK_TRY(tk__llama_pre_add(t, pre, &also));
    t->bytes = t->raw_added = !also.raw;
    t->ignore_merges = also.ignore_merges;
    t->llama->escape_spaces = also.escape;
    t->llama->whole_newlines = also.whole_newlines;
    z->add_bos = also.add_bos;
    z->force_bos = also.force_bos;
    if (also.no_bos) z->bos = -1;
    if (!strcmp(pre, "whitespace")) t->llama->lowercase = false;
    TK_TRY(tk__pieces_init(&t->llama->ghosts, 0));
    TK_TRY(tk__merges_init(&t->merges, v->n_merges));
    for (size_t i = 0; i < v->n_merges; i++) TK_TRY(put_merge(t, v->merges[i], i));
    if (also.raw) return add_decoders(t, false);
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_LEVEL });
}

static tk_status fill_bpe(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    z->bos = z->eos = 11;
    return fill_bpe_named(t, v, z, v->pre);
}
static tk_status fill_whitespace(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    t->llama->drop_spaces = true;
    return fill_bpe(t, v, z);
}
static tk_status fill_gemma4(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    return fill_bpe_named(t, v, z, "gemma4");
}

static tk_status keep_scores(tk_tokenizer *t, const tk_vocab *v) {
    if (!v->scores) return damaged("it has no tokenizer.ggml.scores");
    t->score = malloc(v->n_tokens * sizeof *t->score);
    if (!t->score) return out_of_memory(v->n_tokens);
    memcpy(t->score, v->scores, v->n_tokens * sizeof *t->score);
    return TK_OK;
}

static tk_status fill_spm(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    t->kind = TK_MODEL_SPM;
    t->llama->text = tk__llama_text_spm;
    z->bos = 1, z->eos = 2, z->unk = 0;
    z->space_prefix = z->add_bos = true;
    TK_TRY(add_decoders(t, v->add_space_prefix != 0));
    return keep_scores(t, v);
}

static tk_status add_to_trie(tk__trie **trie, tk_str piece, int32_t id) {
    if (piece.n > TK_PIECE_MAX)
        return TK_FAIL(TK_E_LIMIT, "the vocabulary has a token of %zu bytes\nthe limit of its kind is %d",
                       piece.n, TK_PIECE_MAX);
    if (!*trie) TK_TRY(tk__trie_new(trie));
    return tk__trie_add(*trie, piece.s, piece.n, id);
}

static tk_status fill_wpm(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    t->llama->text = tk__llama_text_wpm;
    z->bos = 101, z->unk = 100, z->sep = 102, z->pad = 0;
    z->always_both = true;
    for (size_t i = 0; i < v->n_tokens; i++) TK_TRY(add_to_trie(&t->llama->trie, t->piece[i], (int32_t)i));
    return add_decoders(t, true);
}

static tk_status check_charsmap(const tk_vocab *v) {
    if (!v->n_charsmap) return TK_OK;
    if (v->n_charsmap < 4 || tk_le32(v->charsmap) >= v->n_charsmap - 4 || v->n_charsmap > TK_JSON_MAX)
        return damaged("its precompiled_charsmap is shorter than it says");
    return TK_OK;
}

static tk_status fill_ugm(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    tk__llama *l = t->llama;
    float least = FLT_MAX;
    l->text = tk__llama_text_ugm;
    l->escape_spaces = true;
    z->eos = 1, z->unk = 2, z->pad = 0;
    z->add_eos = true;
    TK_TRY(keep_scores(t, v));
    TK_TRY(check_charsmap(v));
    if (v->n_charsmap) {
        if (!(l->charsmap = malloc(v->n_charsmap))) return out_of_memory(v->n_tokens);
        memcpy(l->charsmap, v->charsmap, v->n_charsmap);
        l->n_charsmap = v->n_charsmap;
    }
    TK_TRY(tk__trie_new(&l->trie));
    for (size_t i = 0; i < v->n_tokens; i++) {
        int type = type_of(v, i);
        if (type == TYPE_NORMAL) least = TK_MIN(least, t->score[i]);
        if (type == TYPE_NORMAL || type == TYPE_USER || type == TYPE_UNUSED)
            TK_TRY(add_to_trie(&l->trie, t->piece[i], (int32_t)i));
        if (type == TYPE_USER) TK_TRY(add_to_trie(&l->user, t->piece[i], (int32_t)i));
    }
    l->unknown_score = least - 10.0f;
    return add_decoders(t, v->add_space_prefix > 0);
}

/* "\n", "\t", "\r", "\xNN" and backslash before anything else; a piece of bytes */
static void unescape(tk_buf *b, tk_str s) {
    b->len = 0;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.s[i];
        if (c == '\\' && i + 1 < s.n) {
            c = s.s[++i];
            if (c == 'x' && i + 2 < s.n) {
                unsigned value = 0;
                for (int k = 0; k < 2; k++) {
                    char d = s.s[++i];
                    value = value << 4 | ((unsigned)(d >= 'a' ? d - 'a' + 10 : d - '0') & 15);
                }
                c = (char)value;
            } else
                c = c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
        }
        tk_buf_put(b, &c, 1);
    }
}

/* Pieces are bytes; they are kept spelled in the byte-level alphabet, which decoding knows. */
static tk_status fill_rwkv(tk_tokenizer *t, const tk_vocab *v, traits *z) {
    (void)z;
    tk_buf raw = { 0 }, letters = { 0 };
    tk_status s = TK_OK;
    t->llama->text = tk__llama_text_rwkv;
    t->raw_added = true;
    for (size_t i = v->n_tokens;
         i-- > 0 && s == TK_OK;) { /* the last of equals counts, and the trie keeps the first */
        unescape(&raw, t->piece[i]);
        letters.len = 0;
        for (size_t k = 0; k < raw.len; k++) {
            tk_str l = tk__byte_letters((uint8_t)raw.data[k]);
            tk_buf_put(&letters, l.s, l.n);
        }
        s = tk_buf_check(&raw);
        if (s == TK_OK) s = tk_buf_check(&letters);
        if (s == TK_OK && raw.len)
            s = add_to_trie(&t->llama->trie, (tk_str){ raw.data, raw.len }, (int32_t)i);
        if (s == TK_OK && !t->llama->attr[i])
            t->piece[i] = tk__keep(t, letters.data ? letters.data : "", letters.len);
        if (s == TK_OK && !t->piece[i].s) s = TK_E_NOMEM;
    }
    tk_buf_free(&raw);
    tk_buf_free(&letters);
    TK_TRY(s);
    for (int b = 0; b < 256; b++) {
        int32_t node = t->llama->trie ? tk__trie_step(t->llama->trie, 0, (uint8_t)b) : -1;
        if (node < 0 || tk__trie_value(t->llama->trie, node) < 0)
            return TK_FAIL(TK_E_FORMAT, "the vocabulary is damaged\nit has no token for the byte 0x%02X", b);
    }
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_LEVEL });
}

static const struct {
    const char *model, *name;
    tk_status (*fill)(tk_tokenizer *t, const tk_vocab *v, traits *z);
} kinds[] = {
    { "gpt2", "BPE", fill_bpe },
    { "llama", "SPM", fill_spm },
    { "bert", "WPM", fill_wpm },
    { "t5", "UGM", fill_ugm },
    { "rwkv", "RWKV", fill_rwkv },
    { "gemma4", "BPE", fill_gemma4 },
    { "whitespace", "BPE", fill_whitespace },
};

/* ---- what names imply -----------------------------------------------------------------------------------
 */

enum { EOT = 1, EOM = 2, PRE = 4, SUF = 8, MID = 16, PAD = 32, REP = 64, SEP = 128, EOG = 256, SHOWN = 512 };
static const struct {
    const char *name;
    unsigned is;
} names[] = {
    { "<|eot_id|>", EOT | EOG },
    { "<|im_end|>", EOT | EOG },
    { "<|end|>", EOT | EOG },
    { "<end_of_turn>", EOT | EOG },
    { "<|endoftext|>", EOT | EOG },
    { "<|end_of_text|>", EOT | EOG },
    { "<EOT>", EOT | EOG },
    { "_<EOT>", EOT | EOG },
    { "[EOT]", EOT | EOG },
    { "<\xEF\xBD\x9C"
      "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
      EOT | EOG },
    { "<end_of_utterance>", EOT | EOG },
    { "<|eom_id|>", EOM | EOG },
    { "<|return|>", EOG },
    { "<|call|>", EOG },
    { "<|flush|>", EOG },
    { "<|calls|>", EOG },
    { "</s>", EOG },
    { "[EOS]", EOG },
    { "<eos>", EOG },
    { "<turn|>", EOG },
    { "<|tool_response>", EOG },
    { "[e~[", EOG },
    { "<|fim_prefix|>", PRE },
    { "<fim-prefix>", PRE },
    { "<fim_prefix>", PRE },
    { "<\xEF\xBD\x9C"
      "fim\xE2\x96\x81"
      "begin\xEF\xBD\x9C>",
      PRE },
    { "<PRE>", PRE },
    { "\xE2\x96\x81<PRE>", PRE },
    { "<|code_prefix|>", PRE },
    { "<|prefix|>", PRE },
    { "<|fim_suffix|>", SUF },
    { "<fim-suffix>", SUF },
    { "<fim_suffix>", SUF },
    { "<\xEF\xBD\x9C"
      "fim\xE2\x96\x81hole\xEF\xBD\x9C>",
      SUF },
    { "<SUF>", SUF },
    { "\xE2\x96\x81<SUF>", SUF },
    { "<|code_suffix|>", SUF },
    { "<|suffix|>", SUF },
    { "<|fim_middle|>", MID },
    { "<fim-middle>", MID },
    { "<fim_middle>", MID },
    { "<\xEF\xBD\x9C"
      "fim\xE2\x96\x81"
      "end\xEF\xBD\x9C>",
      MID },
    { "<MID>", MID },
    { "\xE2\x96\x81<MID>", MID },
    { "<|code_middle|>", MID },
    { "<|middle|>", MID },
    { "<|fim_pad|>", PAD },
    { "<fim-pad>", PAD },
    { "<fim_pad>", PAD },
    { "<PAD>", PAD },
    { "[PAD]", PAD },
    { "<|fim_repo|>", REP },
    { "<|repo_name|>", REP },
    { "<fim-repo>", REP },
    { "<REPO>", REP },
    { "<reponame>", REP },
    { "<|file_sep|>", SEP },
    { "<|channel|>", SHOWN },
    { "<|message|>", SHOWN },
    { "<|start|>", SHOWN },
    { "<|constrain|>", SHOWN },
};

static int32_t find(const tk_tokenizer *t, const char *name) {
    return tk__pieces_get(&t->ids, name, strlen(name));
}

static int32_t checked(const tk_vocab *v, int32_t id, int32_t otherwise) {
    if (id >= 0 && (size_t)id < v->n_tokens) return id;
    return otherwise >= 0 && (size_t)otherwise < v->n_tokens ? otherwise : -1;
}

static bool ends(const tk_tokenizer *t, const char *name) {
    int32_t id = find(t, name);
    return id >= 0 && tk_tokenizer_is_eog(t, id);
}

/* The token of a role: the file's, or the first known name that is a token, which counts as a control token
 * then, whatever its type. */
static int32_t role(tk_tokenizer *t, const tk_vocab *v, int32_t given, unsigned which) {
    int32_t id = checked(v, given, -1);
    for (size_t i = 0; id < 0 && i < TK_COUNT(names); i++) {
        if (!(names[i].is & which) || (id = find(t, names[i].name)) < 0) continue;
        t->llama->attr[id] |= TK_ATTR_CONTROL;
    }
    return id;
}

static void read_names(tk_tokenizer *t, const tk_vocab *v) {
    uint8_t *attr = t->llama->attr;
    t->special[TK_EOT] = role(t, v, v->eot, EOT);
    int32_t eom = role(t, v, v->eom, EOM);
    role(t, v, v->fim_pre, PRE);
    role(t, v, v->fim_suf, SUF);
    role(t, v, v->fim_mid, MID);
    tk_tokenizer_add_eog(t, role(t, v, v->fim_pad, PAD));
    tk_tokenizer_add_eog(t, role(t, v, v->fim_rep, REP));
    tk_tokenizer_add_eog(t, role(t, v, v->fim_sep, SEP));
    for (size_t i = 0; i < TK_COUNT(names); i++) {
        int32_t id = find(t, names[i].name);
        if (id < 0) continue;
        if (names[i].is & EOG) tk_tokenizer_add_eog(t, id), attr[id] |= TK_ATTR_CONTROL;
        if (names[i].is & SHOWN) attr[id] = TK_ATTR_USER;
    }
    tk_tokenizer_add_eog(t, t->special[TK_EOS]);
    tk_tokenizer_add_eog(t, t->special[TK_EOT]);
    tk_tokenizer_add_eog(t, eom);
    bool call = ends(t, "<|call|>") || ends(t, "<|calls|>");
    if (call && (ends(t, "<|return|>") || ends(t, "<|flush|>")) && ends(t, "<|end|>")) {
        int32_t id = find(t, "<|end|>"); /* o200k_harmony: it ends a message, not the answer */
        t->flags[id] &= (uint8_t)~TK_FLAG_EOG, attr[id] = TK_ATTR_USER;
    }
    if ((ends(t, "<|tool_response>") || ends(t, "<|plamo:eos|>")) && ends(t, "</s>")) {
        int32_t id = find(t, "</s>"); /* gemma4: a piece of HTML */
        t->flags[id] &= (uint8_t)~TK_FLAG_EOG, attr[id] = 0;
    }
}

/* White space that goes with a token: models differ, and files do not say. */
static bool contains(const char *s, const char *what) { return s && strcasestr(s, what); }
static void set_strips(tk_tokenizer *t, const tk_vocab *v) {
    uint8_t *attr = t->llama->attr;
    const char *pre = v->pre ? v->pre : "", *arch = v->arch ? v->arch : "";
    const char *mask = NULL;
    if (strstr(pre, "jina-v2-de") || strstr(pre, "jina-v2-es") || strstr(pre, "jina-v2-code") ||
        strstr(arch, "nomic-bert-moe") || strstr(arch, "jina-bert-v3"))
        mask = "<mask>";
    else if (contains(v->name, "phi-3") || contains(v->name, "phi3")) {
        static const char *const not [] = { "<unk>", "<s>", "<|endoftext|>" };
        for (int32_t i = 0; i < t->size; i++)
            if (attr[i]) attr[i] |= TK_ATTR_RSTRIP;
        for (size_t i = 0; i < TK_COUNT(not ); i++)
            if (find(t, not [i]) >= 0) attr[find(t, not [i])] &= (uint8_t)~TK_ATTR_RSTRIP;
    } else if (contains(v->name, "modern-bert"))
        mask = "[MASK]";
    if (mask && find(t, mask) >= 0) attr[find(t, mask)] |= TK_ATTR_LSTRIP;
}

/* ---- the lists that encoding works from -------------------------------------------------------------------
 */

typedef struct by_length {
    size_t n;
    int32_t id;
} by_length;
static int longer_first(const void *a, const void *b) {
    const by_length *x = a, *y = b;
    return x->n != y->n ? (x->n < y->n ? 1 : -1) : (x->id > y->id) - (x->id < y->id);
}

static bool is_special(const tk_tokenizer *t, int32_t i) {
    return t->llama->attr[i] & (TK_ATTR_CONTROL | TK_ATTR_USER | TK_ATTR_UNKNOWN);
}

/* Lengths by first byte: `special` is sorted by length, so equal ones of one first byte come in a row. */
static tk_status list_lengths(tk_tokenizer *t) {
    tk__llama *l = t->llama;
    uint32_t count = 0;
    l->lengths = malloc((l->n_special + 1) * sizeof *l->lengths);
    if (!l->lengths) return out_of_memory(l->n_special);
    uint32_t used[257] = { 0 }, last[256] = { 0 };
    for (int pass = 0; pass < 2; pass++) { /* count, then place */
        memset(last, 0, sizeof last);
        for (size_t i = 0; i < l->n_special; i++) {
            tk_str text = t->piece[l->special[i]];
            uint8_t lead = (uint8_t)text.s[0];
            if (text.n == last[lead]) continue;
            last[lead] = (uint32_t)text.n;
            if (pass)
                l->lengths[l->first_length[lead] + used[lead]++] = (uint32_t)text.n;
            else
                used[lead]++;
        }
        for (int b = 0; b < 256 && !pass; b++) {
            l->first_length[b] = count;
            count += used[b], used[b] = 0;
        }
        l->first_length[256] = count;
    }
    return TK_OK;
}

static tk_status list_special(tk_tokenizer *t) {
    tk__llama *l = t->llama;
    for (int32_t i = 0; i < t->size; i++) {
        if (!is_special(t, i)) continue;
        l->n_special++;
        t->flags[i] |=
            TK_FLAG_ADDED | (l->attr[i] & (TK_ATTR_CONTROL | TK_ATTR_UNKNOWN) ? TK_FLAG_SPECIAL : 0);
    }
    by_length *list = malloc((l->n_special + 1) * sizeof *list);
    l->special = malloc((l->n_special + 1) * sizeof *l->special);
    if (!list || !l->special) {
        free(list);
        return out_of_memory(l->n_special);
    }
    size_t n = 0;
    for (int32_t i = 0; i < t->size; i++)
        if (is_special(t, i)) list[n++] = (by_length){ t->piece[i].n, i };
    qsort(list, n, sizeof *list, longer_first);
    tk_status s = tk__pieces_init(&l->at_start[0], n);
    if (s == TK_OK) s = tk__pieces_init(&l->at_start[1], n);
    for (size_t i = 0; i < n && s == TK_OK; i++) {
        int32_t id = l->special[i] = list[i].id, old;
        bool parsed = l->attr[id] & (TK_ATTR_CONTROL | TK_ATTR_UNKNOWN);
        s = tk__pieces_put(&l->at_start[parsed], t->piece[id], (int32_t)i, &old);
    }
    free(list);
    return s == TK_OK ? list_lengths(t) : s;
}

/* ---- all of it ------------------------------------------------------------------------------------------
 */

static tk_status add_ends(tk_tokenizer *t, const tk_vocab *v, const traits *z) {
    bool bos = (v->add_bos >= 0 ? v->add_bos : z->add_bos) || z->force_bos || z->always_both;
    bool eos = v->add_eos >= 0 ? v->add_eos : z->add_eos;
    int32_t last = z->always_both ? checked(v, v->sep, z->sep) : eos ? t->special[TK_EOS] : -1;
    if (t->llama->text == tk__llama_text_rwkv) return TK_OK;
    if (bos && t->special[TK_BOS] >= 0) TK_TRY(tk_ids_push(&t->prefix, t->special[TK_BOS]));
    return last >= 0 ? tk_ids_push(&t->suffix, last) : TK_OK;
}

/* A text may hold any character: without its bytes or an unknown token there would be nothing to give. */
static tk_status check_bytes(const tk_tokenizer *t) {
    for (int b = 0; b < 256; b++)
        if (t->byte_id[b] < 0 && t->unk < 0)
            return TK_FAIL(TK_E_FORMAT,
                           "the vocabulary is damaged\nit has no token <0x%02X> and no unknown token", b);
    return TK_OK;
}

tk_status tk__llama_load(tk_tokenizer *t, const tk_vocab *v) {
    size_t kind = 0;
    traits z = { .bos = -1, .eos = -1, .unk = -1, .sep = -1, .pad = -1 };
    while (kind < TK_COUNT(kinds) && v->model && strcmp(kinds[kind].model, v->model) != 0) kind++;
    if (!v->model || kind == TK_COUNT(kinds))
        return tk__unknown_stage("tokenizer model", v->model ? v->model : "(none)");
    tk__llama *l = t->llama = calloc(1, sizeof *l);
    if (l) l->attr = calloc(v->n_tokens, 1);
    if (!l || !l->attr) return out_of_memory(v->n_tokens);
    l->kind = kinds[kind].name;
    l->lowercase = true;
    TK_TRY(put_tokens(t, v));
    TK_TRY(kinds[kind].fill(t, v, &z));
    l->space_prefix = v->add_space_prefix >= 0 ? v->add_space_prefix : z.space_prefix;
    l->merge_spaces = v->merge_spaces > 0;
    if (v->lowercase >= 0) l->lowercase = v->lowercase;
    l->strip_accents = v->strip_accents >= 0 ? v->strip_accents : l->lowercase;
    t->special[TK_BOS] = checked(v, v->bos, z.bos);
    t->special[TK_EOS] = checked(v, v->eos, z.eos);
    t->special[TK_PAD] = checked(v, v->pad, z.pad);
    t->unk = t->special[TK_UNK] = checked(v, v->unk, z.unk);
    read_names(t, v);
    set_strips(t, v);
    TK_TRY(list_special(t));
    TK_TRY(add_ends(t, v, &z));
    TK_TRY(tk__tokenizer_finish(t));
    if (t->kind == TK_MODEL_BPE && l->text == tk__llama_text_bpe) t->unk = -1;
    if (l->text == tk__llama_text_spm) return check_bytes(t);
    if (l->text != tk__llama_text_bpe && t->unk < 0 && l->text != tk__llama_text_rwkv)
        return damaged("it has no unknown token");
    return TK_OK;
}
