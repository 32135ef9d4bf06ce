/* SPDX-License-Identifier: Apache-2.0 */
/* Ids back to text, one at a time. The decoders of tokenizer.json are written as functions over the whole
 * list of tokens; here each is a stage that takes one token's text and hands on what is certain, so that
 * streaming and decoding a list are the same code. Fuse, which glues tokens together, then only tells the
 * stages after it that what they get are parts of one text. */
#include <stdlib.h>

#include "text/tokenizer.h"

typedef struct state {
    tk_buf held;   /* ByteLevel: a cut-off sequence; ByteFallback: the bytes of the run */
    bool started;  /* Spaces: a token went by. Strip: past the start of the text */
    size_t cut;    /* Strip: characters taken off the start */
    size_t ending; /* Strip: characters held back that may be the end */
} state;

struct tk_detok {
    const tk_tokenizer *t;
    unsigned flags;
    size_t hold; /* bytes of a run that may be held back */
    tk_buf *out;
    state state[TK_STAGES];
};

static tk_status feed(tk_detok *d, int stage, const char *s, size_t n, bool raw);

static const char *held_text(const state *y) { return y->held.data ? y->held.data : ""; }

/* Bytes at the end of b that may be the start of a code point. */
static size_t cut_off(const tk_buf *b) {
    for (size_t back = 1; back <= 3 && back <= b->len; back++) {
        uint32_t c;
        const char *p = b->data + b->len - back;
        if (((uint8_t)*p & 0xC0) != 0x80) return tk__utf8_next(p, back, &c) == 0 ? back : 0;
    }
    return 0;
}

/* Hands on the held bytes; `end`: nothing follows, a cut-off sequence is ill-formed. */
static tk_status release_utf8(tk_detok *d, int stage, bool end) {
    tk_buf *held = &d->state[stage].held;
    TK_TRY(tk_buf_check(held));
    size_t keep = end ? 0 : cut_off(held);
    size_t n = held->len - keep;
    if (!n) return TK_OK;
    tk_status s;
    if (tk__utf8_valid(held->data, n))
        s = feed(d, stage + 1, held->data, n, false);
    else {
        tk_buf clean = { 0 };
        tk__utf8_clean(&clean, held->data, n);
        s = tk_buf_check(&clean);
        if (s == TK_OK) s = feed(d, stage + 1, clean.data, clean.len, false);
        tk_buf_free(&clean);
    }
    if (s == TK_OK) memmove(held->data, held->data + n, keep);
    held->len = keep;
    return s;
}

static tk_status byte_level(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    tk_buf *held = &d->state[stage].held;
    size_t before = held->len;
    for (size_t i = 0; i < n && !raw;) {
        unsigned len;
        int byte = tk__letter_byte(s + i, &len);
        if (byte < 0) raw = true; /* not of the alphabet: the token stands for its own text */
        char c = (char)byte;
        if (!raw) tk_buf_put(held, &c, 1);
        i += len;
    }
    if (raw) {
        held->len = before;
        tk_buf_put(held, s, n);
    }
    return release_utf8(d, stage, false);
}

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The end of a run of <0xNN> tokens: its text, or U+FFFD for each byte if the run is not valid as a whole. */
static tk_status release_run(tk_detok *d, int stage) {
    tk_buf *held = &d->state[stage].held;
    TK_TRY(tk_buf_check(held));
    size_t n = held->len;
    held->len = 0;
    if (!n) return TK_OK;
    if (tk__utf8_valid(held->data, n)) return feed(d, stage + 1, held->data, n, false);
    for (size_t i = 0; i < n; i++) TK_TRY(feed(d, stage + 1, "\xEF\xBF\xBD", 3, false));
    return TK_OK;
}

/* The value of the two digits of <0xNN> as Rust reads a number: a plus sign may stand for the first. */
static int two_digits(const char *s) {
    int high = s[0] == '+' ? 0 : hex(s[0]), low = hex(s[1]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

static tk_status byte_fallback(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    tk_buf *held = &d->state[stage].held;
    int value = n == 6 && !memcmp(s, "<0x", 3) && s[5] == '>' ? two_digits(s + 3) : -1;
    if (value >= 0) {
        char byte = (char)value;
        tk_buf_put(held, &byte, 1);
        return held->len < d->hold ? tk_buf_check(held) : release_utf8(d, stage, false);
    }
    TK_TRY(release_run(d, stage));
    return feed(d, stage + 1, s, n, raw);
}

/* Hands on s with every a replaced by b. */
static tk_status put_replaced(tk_detok *d, int stage, const char *s, size_t n, tk_str b, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    const char *hit = n && z->a.n ? memmem(s, n, z->a.s, z->a.n) : NULL;
    if (!hit && (z->a.n || !n)) return feed(d, stage + 1, s, n, raw);
    tk_buf out = { 0 };
    if (!z->a.n) tk_buf_put(&out, b.s, b.n);
    for (size_t from = 0, at; from < n;) {
        if (z->a.n) {
            at = hit ? (size_t)(hit - s) : n;
            tk_buf_put(&out, s + from, at - from);
            from = hit ? at + z->a.n : n;
            hit = hit && from < n ? memmem(s + from, n - from, z->a.s, z->a.n) : NULL;
            if (at < n) tk_buf_put(&out, b.s, b.n);
        } else { /* nothing stands between all characters */
            at = from, from += tk__utf8_len(s[from]);
            tk_buf_put(&out, s + at, from - at);
            tk_buf_put(&out, b.s, b.n);
        }
    }
    tk_status r = tk_buf_check(&out);
    if (r == TK_OK) r = feed(d, stage + 1, out.data, out.len, raw);
    tk_buf_free(&out);
    return r;
}

/* How long an end of s is a start of the pattern. */
static size_t unfinished(tk_str a, const char *s, size_t n) {
    for (size_t k = TK_MIN(a.n - 1, n); k; k--)
        if (!memcmp(s + n - k, a.s, k)) return k;
    return 0;
}

/* Of a text in parts, the end that may turn out to be the pattern is held back. */
static tk_status replace(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    if (!z->fused || z->a.n <= 1) return put_replaced(d, stage, s, n, z->b, raw);
    tk_buf *held = &d->state[stage].held, all = *held;
    *held = (tk_buf){ 0 };
    tk_buf_put(&all, s, n);
    tk_status r = tk_buf_check(&all);
    size_t from = 0;
    for (const char *hit; r == TK_OK && (hit = memmem(all.data + from, all.len - from, z->a.s, z->a.n));) {
        size_t at = (size_t)(hit - all.data);
        r = feed(d, stage + 1, all.data + from, at - from, raw);
        if (r == TK_OK) r = feed(d, stage + 1, z->b.s, z->b.n, raw);
        from = at + z->a.n;
    }
    size_t keep = r == TK_OK ? unfinished(z->a, all.data + from, all.len - from) : 0;
    if (r == TK_OK) r = feed(d, stage + 1, all.data + from, all.len - from - keep, raw);
    memmove(all.data, all.data + all.len - keep, keep);
    all.len = keep;
    *held = all;
    return r;
}

static tk_status replace_regex(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    tk__search y = { 0 };
    tk_buf out = { 0 };
    size_t from = 0, at = 0;
    tk_status r = TK_OK;
    while (n && at <= n && (r = tk__regex_find(z->regex, &y, s, n, at)) == TK_OK && y.found) {
        tk_buf_put(&out, s + from, y.start - from);
        tk_buf_put(&out, z->b.s, z->b.n);
        from = at = y.end;
        if (y.start == y.end) at += y.end < n ? tk__utf8_len(s[y.end]) : 1;
    }
    tk__search_free(&y);
    tk_buf_put(&out, s + from, n - from);
    if (r == TK_OK) r = tk_buf_check(&out);
    if (r == TK_OK) r = feed(d, stage + 1, out.data ? out.data : "", out.len, raw);
    tk_buf_free(&out);
    return r;
}

/* The first token loses its marks, in all others they are blanks. */
static tk_status metaspace(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    state *y = &d->state[stage];
    bool first = !y->started && !(d->flags & TK_DECODE_CONTINUE);
    y->started = true;
    return put_replaced(d, stage, s, n, first ? d->t->dec[stage].b : TK_STR(" "), raw);
}

/* A token that goes on with a word loses its prefix, any other but the first gets a blank. */
static tk_status wordpiece(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    state *y = &d->state[stage];
    bool first = !y->started && !(d->flags & TK_DECODE_CONTINUE);
    y->started = true;
    if (first) return feed(d, stage + 1, s, n, raw);
    if (n >= z->a.n && !memcmp(s, z->a.s, z->a.n)) return feed(d, stage + 1, s + z->a.n, n - z->a.n, raw);
    tk_buf b = { 0 };
    tk_buf_put(&b, " ", 1);
    tk_buf_put(&b, s, n);
    tk_status r = tk_buf_check(&b);
    if (r == TK_OK) r = feed(d, stage + 1, b.data, b.len, raw);
    tk_buf_free(&b);
    return r;
}

/* The suffix of a word is a blank, but not in the last token, so a token waits for the next one. */
static tk_status word_suffix(tk_detok *d, int stage, const char *s, size_t n) {
    state *y = &d->state[stage];
    if (y->started) TK_TRY(put_replaced(d, stage, held_text(y), y->held.len, TK_STR(" "), false));
    y->started = true;
    y->held.len = 0;
    tk_buf_put(&y->held, s, n);
    return tk_buf_check(&y->held);
}

/* One of equal neighbours */
static tk_status once(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    state *y = &d->state[stage];
    if (y->started && y->held.len == n && (!n || !memcmp(y->held.data, s, n))) return TK_OK;
    y->started = true;
    y->held.len = 0;
    tk_buf_put(&y->held, s, n);
    TK_TRY(tk_buf_check(&y->held));
    return feed(d, stage + 1, s, n, raw);
}

/* Takes up to `start` marks off the front and `stop` off the end, of each token or, after Fuse, of the text.
 */
static tk_status strip(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    state *y = &d->state[stage];
    if (!z->fused)
        *y = (state){ 0 };
    else if (d->flags & TK_DECODE_CONTINUE)
        y->started = true;
    while (!y->started && n) {
        if (y->cut == z->start || n < z->a.n || memcmp(s, z->a.s, z->a.n) != 0) {
            y->started = true;
            break;
        }
        s += z->a.n, n -= z->a.n;
        y->cut++;
    }
    size_t ending = 0, end = n;
    while (ending < z->stop && end >= z->a.n && !memcmp(s + end - z->a.n, z->a.s, z->a.n))
        end -= z->a.n, ending++;
    if (z->fused) {
        size_t keep = end ? 0 : TK_MIN(z->stop - ending, y->ending);
        while (y->ending > keep) {
            TK_TRY(feed(d, stage + 1, z->a.s, z->a.n, raw));
            y->ending--;
        }
        y->ending += ending;
    }
    return end || !z->fused ? feed(d, stage + 1, s, end, raw) : TK_OK;
}

static tk_status spaces(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    if (d->state[stage].started) TK_TRY(feed(d, stage + 1, " ", 1, raw));
    d->state[stage].started = true;
    return feed(d, stage + 1, s, n, raw);
}

/* The end of a run of byte pieces, as the sentencepiece package reads it: U+FFFD for each byte that starts
 * nothing whole. Raw: what bytes spell is no space mark. */
static tk_status release_sp_bytes(tk_detok *d, int stage) {
    tk_buf *held = &d->state[stage].held;
    size_t n = held->len;
    held->len = 0;
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t c;
        int k = tk__utf8_next(held->data + i, n - i, &c);
        len = k > 0 ? (size_t)k : 1;
        TK_TRY(feed(d, stage + 1, k > 0 ? held->data + i : "\xEF\xBF\xBD", k > 0 ? len : 3, true));
    }
    return TK_OK;
}

static tk_status sp_bytes(tk_detok *d, int stage, const char *s, size_t n) {
    tk_buf *held = &d->state[stage].held;
    int value = n == 6 && !memcmp(s, "<0x", 3) && s[5] == '>' ? two_digits(s + 3) : -1;
    if (value >= 0) {
        char byte = (char)value;
        tk_buf_put(held, &byte, 1);
        TK_TRY(tk_buf_check(held));
        return held->len < d->hold ? TK_OK : release_sp_bytes(d, stage);
    }
    TK_TRY(release_sp_bytes(d, stage));
    return feed(d, stage + 1, s, n, false);
}

/* Space marks become blanks; the first of the text goes away, or all that stand there. */
static tk_status sp_spaces(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    state *y = &d->state[stage];
    if (d->flags & TK_DECODE_CONTINUE) y->started = true;
    if (!y->started && !raw && z->start && n >= z->a.n && !memcmp(s, z->a.s, z->a.n)) {
        s += z->a.n, n -= z->a.n;
        y->started = !z->stop;
    }
    y->started |= n > 0;
    return raw ? feed(d, stage + 1, s, n, true) : put_replaced(d, stage, s, n, TK_STR(" "), raw);
}

static tk_status run(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    switch (d->t->dec[stage].kind) {
    case TK_DEC_BYTE_LEVEL: return byte_level(d, stage, s, n, raw);
    case TK_DEC_BYTE_FALLBACK: return byte_fallback(d, stage, s, n, raw);
    case TK_DEC_REPLACE: return replace(d, stage, s, n, raw);
    case TK_DEC_REGEX: return replace_regex(d, stage, s, n, raw);
    case TK_DEC_STRIP: return strip(d, stage, s, n, raw);
    case TK_DEC_METASPACE: return metaspace(d, stage, s, n, raw);
    case TK_DEC_WORDPIECE: return wordpiece(d, stage, s, n, raw);
    case TK_DEC_SUFFIX: return word_suffix(d, stage, s, n);
    case TK_DEC_ONCE: return once(d, stage, s, n, raw);
    case TK_DEC_SP_BYTES: return sp_bytes(d, stage, s, n);
    case TK_DEC_SP: return sp_spaces(d, stage, s, n, raw);
    case TK_DEC_SOME: return n ? feed(d, stage + 1, s, n, raw) : TK_OK;
    default: return spaces(d, stage, s, n, raw);
    }
}

/* raw: an added token that stands for its own text. n may be 0. */
static tk_status feed(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    if (stage == d->t->n_dec) {
        tk_buf_put(d->out, s, n);
        return tk_buf_check(d->out);
    }
    if (!d->t->dec[stage].whole) return run(d, stage, s, n, raw);
    tk_buf_put(&d->state[stage].held, s, n);
    return tk_buf_check(&d->state[stage].held);
}

/* Nothing follows: what a stage still holds. */
static tk_status release(tk_detok *d, int stage) {
    const tk__decoder *z = &d->t->dec[stage];
    state *y = &d->state[stage];
    if (z->whole) {
        tk_buf all = y->held;
        y->held = (tk_buf){ 0 };
        tk_status s = all.len ? run(d, stage, all.data, all.len, false) : TK_OK;
        tk_buf_free(&all);
        TK_TRY(s);
    }
    if (z->kind == TK_DEC_BYTE_LEVEL) return release_utf8(d, stage, true);
    if (z->kind == TK_DEC_BYTE_FALLBACK) return release_run(d, stage);
    if (z->kind == TK_DEC_SP_BYTES) return release_sp_bytes(d, stage);
    if (z->kind == TK_DEC_SUFFIX && y->started)
        return put_replaced(d, stage, held_text(y), y->held.len, TK_STR(""), false);
    if (z->kind == TK_DEC_REPLACE && y->held.len) return feed(d, stage + 1, y->held.data, y->held.len, false);
    return TK_OK;
}

static void forget(tk_detok *d) {
    for (int i = 0; i < TK_STAGES; i++) {
        tk_buf held = d->state[i].held;
        held.len = 0, held.failed = false;
        d->state[i] = (state){ .held = held };
    }
}

tk_status tk_detok_new(tk_detok **out, const tk_tokenizer *t, unsigned decode_flags) {
    tk_detok *d = calloc(1, sizeof *d);
    if (!d) return TK_FAIL(TK_E_NOMEM, "out of memory\na detokenizer did not fit");
    d->t = t, d->flags = decode_flags, d->hold = TK_DETOK_HOLD;
    *out = d;
    return TK_OK;
}

tk_status tk_detok_push(tk_detok *d, int32_t id, tk_buf *text) {
    const tk_tokenizer *t = d->t;
    if (id < 0 || id >= t->size)
        return TK_FAIL(TK_E_USAGE, "token %d does not exist\nthe vocabulary has %d tokens", id, t->size);
    if (!t->piece[id].s) return TK_OK; /* a hole in the numbering has no text */
    tk_str piece = t->piece[id];
    int32_t judged = id; /* Hugging Face's library asks the text that is shown whether it is special */
    if (t->shown && t->shown[id].s)
        piece = t->shown[id], judged = tk__pieces_get(&t->added_ids, piece.s, piece.n);
    if ((d->flags & TK_DECODE_SKIP_SPECIAL) && judged >= 0 && (t->flags[judged] & TK_FLAG_SPECIAL))
        return TK_OK;
    d->out = text;
    return feed(d, 0, piece.s, piece.n, t->raw_added && (t->flags[id] & TK_FLAG_ADDED));
}

tk_status tk_detok_flush(tk_detok *d, tk_buf *text) {
    d->out = text;
    tk_status s = TK_OK;
    for (int i = 0; i < d->t->n_dec && s == TK_OK; i++) s = release(d, i);
    forget(d);
    return s;
}

void tk_detok_free(tk_detok *d) {
    if (!d) return;
    for (int i = 0; i < TK_STAGES; i++) tk_buf_free(&d->state[i].held);
    free(d);
}

tk_status tk_decode(const tk_tokenizer *t, const int32_t *ids, size_t n, unsigned flags, tk_buf *text) {
    tk_detok *d = NULL;
    TK_TRY(tk_detok_new(&d, t, flags));
    d->hold = SIZE_MAX;
    tk_status s = TK_OK;
    for (size_t i = 0; i < n && s == TK_OK; i++) s = tk_detok_push(d, ids[i], text);
    if (s == TK_OK) s = tk_detok_flush(d, text);
    tk_detok_free(d);
    return s;
}

/* ---- parsing
 * ---------------------------------------------------------------------------------------------------- */

tk_status tk__decoder_add(tk_tokenizer *t, tk__decoder z) {
    if (t->n_dec == TK_STAGES) {
        tk__regex_free(z.regex);
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has more than %d decoders", TK_STAGES);
    }
    t->dec[t->n_dec++] = z;
    return TK_OK;
}

static tk_status add_replace(tk_tokenizer *t, tk_str a, tk_str b, bool fused) {
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_REPLACE, .a = a, .b = b, .fused = fused });
}

/* What WordPiece and CTC mend of English, one after the other */
static tk_status add_cleanup(tk_tokenizer *t, bool fused) {
    static const char *const pairs[][2] = {
        { " .", "." },   { " ?", "?" },     { " !", "!" },     { " ,", "," },
        { " ' ", "'" },  { " n't", "n't" }, { " 'm", "'m" },   { " do not", " don't" },
        { " 's", "'s" }, { " 've", "'ve" }, { " 're", "'re" },
    };
    for (size_t i = 0; i < TK_COUNT(pairs); i++) {
        tk_str a = { pairs[i][0], strlen(pairs[i][0]) }, b = { pairs[i][1], strlen(pairs[i][1]) };
        TK_TRY(add_replace(t, a, b, fused));
    }
    return TK_OK;
}

/* A stage that looks at a whole token needs all of a text that was glued together. */
static tk_status add_kind(tk_tokenizer *t, int kind, bool fused) {
    return tk__decoder_add(t, (tk__decoder){ .kind = kind, .fused = fused, .whole = fused });
}

static tk_status parse_byte_level(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)j;
    tk_status s = add_kind(t, TK_DEC_BYTE_LEVEL, *fused);
    *fused = true;
    return s;
}
static tk_status parse_byte_fallback(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)j;
    return add_kind(t, TK_DEC_BYTE_FALLBACK, *fused);
}
static tk_status parse_fuse(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)t, (void)j;
    *fused = true;
    return TK_OK;
}
static tk_status parse_replace(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__decoder z = { .kind = TK_DEC_REPLACE, .fused = *fused };
    const json_t *pattern = json_object_get(j, "pattern");
    TK_TRY(tk__json_string(t, j, "content", &z.b));
    if (!json_object_get(pattern, "Regex")) {
        TK_TRY(tk__json_string(t, pattern, "String", &z.a));
        return tk__decoder_add(t, z);
    }
    tk_str regex;
    TK_TRY(tk__json_string(t, pattern, "Regex", &regex));
    if (strlen(regex.s) != regex.n) return tk__unknown_stage("pattern with a zero byte", regex.s);
    TK_TRY(tk__regex_new(&z.regex, regex.s));
    z.kind = TK_DEC_REGEX, z.whole = *fused;
    return tk__decoder_add(t, z);
}
static tk_status parse_strip(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__decoder z = { .kind = TK_DEC_STRIP, .fused = *fused };
    TK_TRY(tk__json_string(t, j, "content", &z.a));
    TK_TRY(tk__json_size(j, "start", TK_ADDED_MAX, &z.start));
    TK_TRY(tk__json_size(j, "stop", TK_ADDED_MAX, &z.stop));
    if (!z.a.n || z.a.n != tk__utf8_len(z.a.s[0]))
        return TK_FAIL(TK_E_FORMAT,
                       "the tokenizer's Strip decoder is damaged\n\"content\" must be one character");
    return tk__decoder_add(t, z);
}
static tk_status parse_metaspace(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__scheme scheme;
    tk__decoder z = { .kind = TK_DEC_METASPACE };
    TK_TRY(tk__metaspace_scheme(j, &scheme));
    TK_TRY(tk__json_string(t, j, "replacement", &z.a));
    if (!z.a.n)
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits Metaspace decoder has no replacement");
    z.b = scheme == TK_PREPEND_NEVER ? TK_STR(" ") : TK_STR("");
    return *fused ? add_replace(t, z.a, z.b, true) : tk__decoder_add(t, z);
}
static tk_status parse_wordpiece(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__decoder z = { .kind = TK_DEC_WORDPIECE };
    TK_TRY(tk__json_string(t, j, "prefix", &z.a));
    if (!*fused) TK_TRY(tk__decoder_add(t, z));
    return tk__json_true(j, "cleanup", true) ? add_cleanup(t, *fused) : TK_OK;
}
static tk_status parse_bpe(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__decoder z = { .kind = TK_DEC_SUFFIX };
    TK_TRY(tk__json_string(t, j, "suffix", &z.a));
    return *fused ? add_replace(t, z.a, TK_STR(""), true) : tk__decoder_add(t, z);
}
static tk_status parse_ctc(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk_str pad, delimiter;
    TK_TRY(tk__json_string(t, j, "pad_token", &pad));
    TK_TRY(tk__json_string(t, j, "word_delimiter_token", &delimiter));
    if (!*fused) TK_TRY(add_kind(t, TK_DEC_ONCE, false));
    TK_TRY(add_replace(t, pad, TK_STR(""), *fused));
    if (tk__json_true(j, "cleanup", true)) {
        TK_TRY(add_cleanup(t, *fused));
        TK_TRY(add_replace(t, delimiter, TK_STR(" "), *fused));
    }
    return *fused ? TK_OK : add_kind(t, TK_DEC_SOME, false);
}

static tk_status parse(tk_tokenizer *t, const json_t *j, bool *fused, int depth);

static tk_status parse_sequence(tk_tokenizer *t, const json_t *j, bool *fused, int depth) {
    size_t i;
    json_t *e;
    json_array_foreach(json_object_get(j, "decoders"), i, e) TK_TRY(parse(t, e, fused, depth + 1));
    return TK_OK;
}

static const struct {
    const char *type;
    tk_status (*parse)(tk_tokenizer *t, const json_t *j, bool *fused);
} rows[] = {
    { "ByteLevel", parse_byte_level },
    { "ByteFallback", parse_byte_fallback },
    { "Fuse", parse_fuse },
    { "Replace", parse_replace },
    { "Strip", parse_strip },
    { "Metaspace", parse_metaspace },
    { "WordPiece", parse_wordpiece },
    { "BPEDecoder", parse_bpe },
    { "CTC", parse_ctc },
};

static tk_status parse(tk_tokenizer *t, const json_t *j, bool *fused, int depth) {
    const char *type;
    TK_TRY(tk__json_type(j, "decoder", depth, &type));
    if (!strcmp(type, "Sequence")) return parse_sequence(t, j, fused, depth);
    for (size_t i = 0; i < TK_COUNT(rows); i++)
        if (!strcmp(rows[i].type, type)) return rows[i].parse(t, j, fused);
    return tk__unknown_stage("decoder", type);
}

tk_status tk__decoders_parse(tk_tokenizer *t, const json_t *j) {
    bool fused = false;
    if (!j || json_is_null(j)) return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_SPACES });
    return parse(t, j, &fused, 0);
}
