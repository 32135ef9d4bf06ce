/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers: each cuts a piece and hands every part to the next stage, the last one to the model. So
 * nothing is collected, and a chain of any length needs no memory but where a stage rewrites its text. */
#include <stdlib.h>

#include "text/tokenizer.h"

tk_status tk__pretok_run(tk__work *w, int stage, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    if (!n) return TK_OK;
    if (stage < t->n_pre) return t->pre[stage].run(w, stage, s, n);
    return tk__model_encode(w, s, n);
}

/* ---- the byte-level alphabet
 * ------------------------------------------------------------------------------- */

/* GPT-2 spells bytes as letters: the printable ones of Latin-1 as themselves, the other 68 in order of
 * value as U+0100 and up. */
static bool prints(unsigned b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; }

static struct {
    char utf8[256][2];
    uint8_t len[256];
    int16_t byte[0x144];
} alphabet;
static pthread_once_t alphabet_once = PTHREAD_ONCE_INIT;
static void make_alphabet(void) {
    memset(alphabet.byte, 0xFF, sizeof alphabet.byte);
    unsigned next = 0x100;
    for (unsigned b = 0; b < 256; b++) {
        unsigned c = prints(b) ? b : next++;
        alphabet.len[b] = c < 0x80 ? 1 : 2;
        if (c < 0x80)
            alphabet.utf8[b][0] = (char)c;
        else
            alphabet.utf8[b][0] = (char)(0xC0 | c >> 6), alphabet.utf8[b][1] = (char)(0x80 | (c & 63));
        alphabet.byte[c] = (int16_t)b;
    }
}

tk_str tk__byte_letters(uint8_t byte) {
    pthread_once(&alphabet_once, make_alphabet);
    return (tk_str){ alphabet.utf8[byte], alphabet.len[byte] };
}

int tk__letter_byte(const char *s, unsigned *len) {
    pthread_once(&alphabet_once, make_alphabet);
    uint32_t c;
    *len = tk__utf8_get(s, &c);
    return c < TK_COUNT(alphabet.byte) ? alphabet.byte[c] : -1;
}

/* ---- stages
 * ---------------------------------------------------------------------------------------------------- */

static tk_status run_splitter(tk__work *w, int stage, const char *s, size_t n) {
    tk__splitter *next = w->t->pre[stage].next;
    for (size_t p = 0, e; p < n; p = e) {
        e = next(s, n, p);
        TK_TRY(tk__pretok_run(w, stage + 1, s + p, e - p));
    }
    return TK_OK;
}

/* Of the piece, how many bytes stem from the text's first character */
static size_t first_of(const tk__work *w, const char *s, size_t n) {
    uintptr_t p = (uintptr_t)s;
    if (p < (uintptr_t)w->first || p >= (uintptr_t)w->first_end) return 0;
    return TK_MIN(n, (size_t)(w->first_end - s));
}

/* The stages after one that has written its piece anew into its buffer. */
static tk_status run_rewritten(tk__work *w, int stage, size_t first) {
    tk_buf *b = &w->stage[stage];
    const char *was = w->first, *was_end = w->first_end;
    TK_TRY(tk_buf_check(b));
    w->first = b->data, w->first_end = b->data + first;
    tk_status s = tk__pretok_run(w, stage + 1, b->data, b->len);
    w->first = was, w->first_end = was_end;
    return s;
}

static tk_status run_prefix_space(tk__work *w, int stage, const char *s, size_t n) {
    if (s[0] == ' ') return tk__pretok_run(w, stage + 1, s, n);
    tk_buf *b = &w->stage[stage];
    size_t first = first_of(w, s, n);
    b->len = 0;
    tk_buf_put(b, " ", 1);
    tk_buf_put(b, s, n);
    return run_rewritten(w, stage, first ? first + 1 : 0);
}

/* Spells the piece in the byte-level alphabet, for a stage that follows. */
static tk_status run_letters(tk__work *w, int stage, const char *s, size_t n) {
    tk_buf *b = &w->stage[stage];
    size_t edge = first_of(w, s, n), first = 0;
    b->len = 0;
    for (size_t i = 0; i < n; i++) {
        tk_str l = tk__byte_letters((uint8_t)s[i]);
        tk_buf_put(b, l.s, l.n);
        if (i < edge) first = b->len;
    }
    return run_rewritten(w, stage, first);
}

/* A blank becomes the mark; a piece that does not start with it may get one; cut before each mark. */
static tk_status run_metaspace(tk__work *w, int stage, const char *s, size_t n) {
    const tk__pretok *z = &w->t->pre[stage];
    tk_buf *b = &w->stage[stage];
    size_t edge = first_of(w, s, n), first = 0;
    bool marked = s[0] == ' ' || (n >= z->text.n && !memcmp(s, z->text.s, z->text.n));
    b->len = 0;
    if (!marked && (z->scheme == TK_PREPEND_ALWAYS || (z->scheme == TK_PREPEND_FIRST && edge)))
        tk_buf_put(b, z->text.s, z->text.n);
    for (size_t i = 0, e; i < n; i = e) {
        const char *blank = memchr(s + i, ' ', n - i);
        e = blank ? (size_t)(blank - s) : n;
        if (i < edge) first = b->len + TK_MIN(e, edge) - i;
        tk_buf_put(b, s + i, e - i);
        if (!blank) break;
        tk_buf_put(b, z->text.s, z->text.n);
        if (++e <= edge) first = b->len;
    }
    if (!z->split) return run_rewritten(w, stage, first);
    TK_TRY(tk_buf_check(b));
    const char *was = w->first, *was_end = w->first_end, *from = b->data, *end = b->data + b->len;
    tk_status r = TK_OK;
    w->first = b->data, w->first_end = b->data + first;
    while (from < end && r == TK_OK) {
        size_t skip = tk__utf8_len(*from), left = (size_t)(end - from);
        const char *next = left > skip ? memmem(from + skip, left - skip, z->text.s, z->text.n) : NULL;
        if (!next) next = end;
        r = tk__pretok_run(w, stage + 1, from, (size_t)(next - from));
        from = next;
    }
    w->first = was, w->first_end = was_end;
    return r;
}

/* ---- cutting by kinds of characters
 * -------------------------------------------------------------------------- */

static bool is_punctuation(const tk__pretok *z, uint32_t c) {
    (void)z;
    return tk__hf_kind(c) & TK_HF_PUNCTUATION;
}
static bool is_white(const tk__pretok *z, uint32_t c) {
    (void)z;
    return tk__is_space(c);
}
static bool is_delimiter(const tk__pretok *z, uint32_t c) { return c == z->number; }

/* Removed, isolated or contiguous characters; the other behaviors look at neighbours: run_split. */
static tk_status run_chars(tk__work *w, int stage, const char *s, size_t n) {
    const tk__pretok *z = &w->t->pre[stage];
    uint32_t c;
    for (size_t i = 0, e; i < n; i = e) {
        e = i + tk__utf8_get(s + i, &c);
        bool in = z->is(z, c);
        for (size_t next; (!in || z->behavior != TK_ISOLATED) && e < n; e = next) {
            next = e + tk__utf8_get(s + e, &c);
            if (z->is(z, c) != in) break;
        }
        if (!in || z->behavior != TK_REMOVED) TK_TRY(tk__pretok_run(w, stage + 1, s + i, e - i));
    }
    return TK_OK;
}

/* \w+|[^\w\s]+, and white space vanishes */
static tk_status run_words(tk__work *w, int stage, const char *s, size_t n) {
    uint32_t c;
    for (size_t i = 0, e; i < n; i = e) {
        e = i + tk__utf8_get(s + i, &c);
        unsigned kind = tk__cp_class(c) & (TK_CP_W | TK_CP_S);
        for (size_t next; e < n; e = next) {
            next = e + tk__utf8_get(s + e, &c);
            if ((tk__cp_class(c) & (TK_CP_W | TK_CP_S)) != kind) break;
        }
        if (kind != TK_CP_S) TK_TRY(tk__pretok_run(w, stage + 1, s + i, e - i));
    }
    return TK_OK;
}

/* Cuts where the script changes. What goes with all scripts stays with what is before it; at the start it
 * vanishes, as it does in Hugging Face's library. */
static tk_status run_scripts(tk__work *w, int stage, const char *s, size_t n) {
    size_t from = n;
    unsigned last = 0;
    uint32_t c;
    for (size_t i = 0, len; i < n; i += len) {
        len = tk__utf8_get(s + i, &c);
        unsigned script = tk__hf_kind(c) >> TK_HF_SCRIPT;
        if (!script || script == last) continue;
        if (from < i) TK_TRY(tk__pretok_run(w, stage + 1, s + from, i - from));
        from = i, last = script;
    }
    return from < n ? tk__pretok_run(w, stage + 1, s + from, n - from) : TK_OK;
}

static tk_status run_fixed(tk__work *w, int stage, const char *s, size_t n) {
    for (size_t i = 0, e; i < n; i = e) {
        size_t left = w->t->pre[stage].number;
        for (e = i; e < n && left; left--) e += tk__utf8_len(s[e]);
        TK_TRY(tk__pretok_run(w, stage + 1, s + i, e - i));
    }
    return TK_OK;
}

/* ---- Split with any pattern
 * --------------------------------------------------------------------------------- */

typedef struct cut {
    size_t from, to;
    bool match;
} cut;
typedef struct cuts {
    cut *at;
    size_t n, cap;
} cuts;

static tk_status push_cut(cuts *c, size_t from, size_t to, bool match) {
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 64;
        cut *fresh = realloc(c->at, cap * sizeof *fresh);
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu pieces of a text did not fit", c->n);
        c->at = fresh, c->cap = cap;
    }
    c->at[c->n++] = (cut){ from, to, match };
    return TK_OK;
}

static tk_status find_next(tk__work *w, const tk__pretok *z, const char *s, size_t n, size_t from) {
    if (z->regex) return tk__regex_find(z->regex, &w->search, s, n, from);
    if (z->is) {
        size_t len = 0;
        uint32_t c;
        for (w->search.found = false; from < n && !w->search.found; from += len) {
            len = tk__utf8_get(s + from, &c);
            w->search.found = z->is(z, c);
        }
        w->search.start = from - len, w->search.end = from;
        return TK_OK;
    }
    const char *hit = from < n ? memmem(s + from, n - from, z->text.s, z->text.n) : NULL;
    w->search.found = hit;
    if (hit) w->search.start = (size_t)(hit - s), w->search.end = w->search.start + z->text.n;
    return TK_OK;
}

/* Matches and what lies between them, in order, covering [0, n). Empty matches are among them, for the
 * behaviors that look at neighbours see them; but none where the match before it ended, as in the library
 * that iterates so. */
static tk_status find_cuts(tk__work *w, const tk__pretok *z, const char *s, size_t n, cuts *c) {
    size_t from = 0, at = 0, last = SIZE_MAX;
    while (at <= n) {
        TK_TRY(find_next(w, z, s, n, at));
        size_t start = w->search.start, end = w->search.end;
        if (!w->search.found) break;
        if (start == end && end == last) {
            at += at < n ? tk__utf8_len(s[at]) : 1;
            continue;
        }
        if (from < start) TK_TRY(push_cut(c, from, start, z->invert));
        TK_TRY(push_cut(c, start, end, !z->invert));
        from = at = last = end;
    }
    return from < n ? push_cut(c, from, n, z->invert) : TK_OK;
}

/* Joins neighbours as the behavior says; what is left is to be handed on, except removed matches. */
static void join(cuts *c, tk__behavior how) {
    size_t out = 0;
    if (!c->n) return;
    if (how == TK_WITH_NEXT) { /* from the end, like WITH_PREVIOUS from the start */
        bool was = false;
        out = c->n;
        for (size_t i = c->n; i-- > 0;) {
            cut x = c->at[i];
            if (x.match && !was && out < c->n)
                c->at[out].from = x.from;
            else
                c->at[--out] = x;
            was = x.match;
        }
        memmove(c->at, c->at + out, (c->n - out) * sizeof *c->at);
        c->n -= out;
        return;
    }
    bool was = false;
    for (size_t i = 0; i < c->n; i++) {
        cut x = c->at[i];
        bool glue = (how == TK_WITH_PREVIOUS && x.match && !was) || (how == TK_CONTIGUOUS && x.match == was);
        was = x.match;
        if (how == TK_REMOVED && x.match) continue;
        if (glue && out)
            c->at[out - 1].to = x.to;
        else
            c->at[out++] = x;
    }
    c->n = out;
}

static tk_status run_split(tk__work *w, int stage, const char *s, size_t n) {
    const tk__pretok *z = &w->t->pre[stage];
    cuts c = { 0 };
    tk_status r = find_cuts(w, z, s, n, &c);
    if (r == TK_OK) join(&c, z->behavior);
    for (size_t i = 0; i < c.n && r == TK_OK; i++)
        r = tk__pretok_run(w, stage + 1, s + c.at[i].from, c.at[i].to - c.at[i].from);
    free(c.at);
    return r;
}

/* ---- parsing
 * ---------------------------------------------------------------------------------------------------- */

tk_status tk__pretok_add(tk_tokenizer *t, tk__pretok z) {
    if (t->n_pre == TK_STAGES) {
        tk__regex_free(z.regex);
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has more than %d pre-tokenizers", TK_STAGES);
    }
    t->pre[t->n_pre++] = z;
    return TK_OK;
}

tk_status tk__pretok_add_splitter(tk_tokenizer *t, tk__splitter *next) {
    return tk__pretok_add(t, (tk__pretok){ .run = run_splitter, .next = next });
}

tk_status tk__pretok_add_split(tk_tokenizer *t, tk__pretok z) {
    z.run = run_split;
    return tk__pretok_add(t, z);
}

static tk_status parse_byte_level(tk_tokenizer *t, const json_t *j) {
    if (tk__json_true(j, "add_prefix_space", true))
        TK_TRY(tk__pretok_add(t, (tk__pretok){ .run = run_prefix_space }));
    if (tk__json_true(j, "use_regex", true)) TK_TRY(tk__pretok_add_splitter(t, tk__split_gpt2));
    return tk__pretok_add(t, (tk__pretok){ .run = run_letters });
}

static tk_status parse_digits(tk_tokenizer *t, const json_t *j) {
    return tk__pretok_add_splitter(t, tk__json_true(j, "individual_digits", false) ? tk__split_digit
                                                                                   : tk__split_digits);
}

static tk_status read_behavior(const json_t *j, tk__behavior *out) {
    static const char *const names[] = { [TK_REMOVED] = "Removed",
                                         [TK_ISOLATED] = "Isolated",
                                         [TK_WITH_PREVIOUS] = "MergedWithPrevious",
                                         [TK_WITH_NEXT] = "MergedWithNext",
                                         [TK_CONTIGUOUS] = "Contiguous" };
    const char *name = json_string_value(json_object_get(j, "behavior"));
    for (size_t i = 0; name && i < TK_COUNT(names); i++)
        if (!strcmp(names[i], name)) return *out = (tk__behavior)i, TK_OK;
    return tk__unknown_stage("split behavior", name ? name : "(none)");
}

/* One character under `key` */
static tk_status read_character(tk_tokenizer *t, const json_t *j, const char *key, tk_str *out, size_t *c) {
    uint32_t point = 0;
    TK_TRY(tk__json_string(t, j, key, out));
    if (!out->n || tk__utf8_get(out->s, &point) != out->n)
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\n\"%s\" should be one character", key);
    *c = point;
    return TK_OK;
}

static tk_status add_chars(tk_tokenizer *t, tk__pretok z) {
    z.run = z.behavior == TK_WITH_PREVIOUS || z.behavior == TK_WITH_NEXT ? run_split : run_chars;
    return tk__pretok_add(t, z);
}

static tk_status parse_split(tk_tokenizer *t, const json_t *j) {
    tk__pretok z = { .run = run_split, .invert = tk__json_true(j, "invert", false) };
    const json_t *pattern = json_object_get(j, "pattern");
    tk_str regex = TK_STR("");
    TK_TRY(read_behavior(j, &z.behavior));
    if (!json_object_get(pattern, "Regex")) {
        TK_TRY(tk__json_string(t, pattern, "String", &z.text));
        if (z.text.n) return tk__pretok_add(t, z);
    } else
        TK_TRY(tk__json_string(t, pattern, "Regex", &regex));
    if (strlen(regex.s) != regex.n) return tk__unknown_stage("pattern with a zero byte", regex.s);
    bool whole;
    tk__splitter *known = tk__splitter_find(regex.s, &whole);
    /* inverting changes nothing in the former, and removes nothing in the latter */
    if (known && (z.behavior == TK_ISOLATED || (whole && z.invert && z.behavior == TK_REMOVED)))
        return tk__pretok_add_splitter(t, known);
    TK_TRY(tk__regex_new(&z.regex, regex.s));
    return tk__pretok_add(t, z);
}

static tk_status parse_punctuation(tk_tokenizer *t, const json_t *j) {
    tk__pretok z = { .is = is_punctuation, .behavior = TK_ISOLATED };
    if (json_object_get(j, "behavior")) TK_TRY(read_behavior(j, &z.behavior));
    return add_chars(t, z);
}

static tk_status parse_white(tk_tokenizer *t, const json_t *j) {
    (void)j;
    return add_chars(t, (tk__pretok){ .is = is_white, .behavior = TK_REMOVED });
}

static tk_status parse_bert(tk_tokenizer *t, const json_t *j) {
    TK_TRY(parse_white(t, j));
    return add_chars(t, (tk__pretok){ .is = is_punctuation, .behavior = TK_ISOLATED });
}

static tk_status parse_delimiter(tk_tokenizer *t, const json_t *j) {
    tk__pretok z = { .is = is_delimiter, .behavior = TK_REMOVED };
    TK_TRY(read_character(t, j, "delimiter", &z.text, &z.number));
    return add_chars(t, z);
}

static tk_status parse_words(tk_tokenizer *t, const json_t *j) {
    (void)j;
    return tk__pretok_add(t, (tk__pretok){ .run = run_words });
}

static tk_status parse_scripts(tk_tokenizer *t, const json_t *j) {
    (void)j;
    return tk__pretok_add(t, (tk__pretok){ .run = run_scripts });
}

static tk_status parse_fixed(tk_tokenizer *t, const json_t *j) {
    tk__pretok z = { .run = run_fixed, .number = 5 };
    if (json_object_get(j, "length")) TK_TRY(tk__json_size(j, "length", SIZE_MAX / 2, &z.number));
    if (!z.number) return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits FixedLength has length 0");
    return tk__pretok_add(t, z);
}

/* Older files say only add_prefix_space. */
tk_status tk__metaspace_scheme(const json_t *j, tk__scheme *out) {
    static const char *const names[] = {
        [TK_PREPEND_NEVER] = "never", [TK_PREPEND_FIRST] = "first", [TK_PREPEND_ALWAYS] = "always"
    };
    const char *name = json_string_value(json_object_get(j, "prepend_scheme"));
    *out = tk__json_true(j, "add_prefix_space", true) ? TK_PREPEND_ALWAYS : TK_PREPEND_NEVER;
    if (!name) return TK_OK;
    for (size_t i = 0; i < TK_COUNT(names); i++)
        if (!strcmp(names[i], name)) return *out = (tk__scheme)i, TK_OK;
    return tk__unknown_stage("prepend_scheme", name);
}

static tk_status parse_metaspace(tk_tokenizer *t, const json_t *j) {
    tk__pretok z = { .run = run_metaspace, .split = tk__json_true(j, "split", true) };
    TK_TRY(read_character(t, j, "replacement", &z.text, &z.number));
    TK_TRY(tk__metaspace_scheme(j, &z.scheme));
    return tk__pretok_add(t, z);
}

static const struct {
    const char *type;
    tk_status (*parse)(tk_tokenizer *t, const json_t *j);
} rows[] = {
    { "ByteLevel", parse_byte_level },
    { "Split", parse_split },
    { "Digits", parse_digits },
    { "Metaspace", parse_metaspace },
    { "Whitespace", parse_words },
    { "WhitespaceSplit", parse_white },
    { "BertPreTokenizer", parse_bert },
    { "Punctuation", parse_punctuation },
    { "CharDelimiterSplit", parse_delimiter },
    { "UnicodeScripts", parse_scripts },
    { "FixedLength", parse_fixed },
};

static tk_status parse(tk_tokenizer *t, const json_t *j, int depth) {
    const char *type;
    TK_TRY(tk__json_type(j, "pre-tokenizer", depth, &type));
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *e;
        json_array_foreach(json_object_get(j, "pretokenizers"), i, e) TK_TRY(parse(t, e, depth + 1));
        return TK_OK;
    }
    for (size_t i = 0; i < TK_COUNT(rows); i++)
        if (!strcmp(rows[i].type, type)) return rows[i].parse(t, j);
    return tk__unknown_stage("pre-tokenizer", type);
}

tk_status tk__pretoks_parse(tk_tokenizer *t, const json_t *j) {
    if (!j || json_is_null(j)) return TK_OK;
    TK_TRY(parse(t, j, 0));
    bool plain = t->kind == TK_MODEL_BPE && !t->sub_prefix.n && !t->end_suffix.n;
    if (plain && t->n_pre && t->pre[t->n_pre - 1].run == run_letters) t->n_pre--, t->bytes = true;
    return TK_OK;
}
