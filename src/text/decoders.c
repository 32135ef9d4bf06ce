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

static tk_status byte_fallback(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    tk_buf *held = &d->state[stage].held;
    if (n == 6 && !memcmp(s, "<0x", 3) && s[5] == '>' && hex(s[3]) >= 0 && hex(s[4]) >= 0) {
        char byte = (char)(hex(s[3]) << 4 | hex(s[4]));
        tk_buf_put(held, &byte, 1);
        return held->len < d->hold ? tk_buf_check(held) : release_utf8(d, stage, false);
    }
    TK_TRY(release_run(d, stage));
    return feed(d, stage + 1, s, n, raw);
}

static tk_status replace(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    const tk__decoder *z = &d->t->dec[stage];
    tk_buf out = { 0 };
    for (size_t from = 0; from < n;) {
        const char *hit = memmem(s + from, n - from, z->a.s, z->a.n);
        size_t at = hit ? (size_t)(hit - s) : n;
        tk_buf_put(&out, s + from, at - from);
        if (hit) tk_buf_put(&out, z->b.s, z->b.n);
        from = hit ? at + z->a.n : n;
    }
    tk_status r = tk_buf_check(&out);
    if (r == TK_OK) r = feed(d, stage + 1, out.data, out.len, raw);
    tk_buf_free(&out);
    return r;
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
        if (y->cut == z->start || n < z->a.n || memcmp(s, z->a.s, z->a.n)) {
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
    return end ? feed(d, stage + 1, s, end, raw) : TK_OK;
}

static tk_status spaces(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    if (d->state[stage].started) TK_TRY(feed(d, stage + 1, " ", 1, raw));
    d->state[stage].started = true;
    return feed(d, stage + 1, s, n, raw);
}

/* raw: an added token that stands for its own text. n may be 0. */
static tk_status feed(tk_detok *d, int stage, const char *s, size_t n, bool raw) {
    if (stage == d->t->n_dec) {
        tk_buf_put(d->out, s, n);
        return tk_buf_check(d->out);
    }
    switch (d->t->dec[stage].kind) {
    case TK_DEC_BYTE_LEVEL: return byte_level(d, stage, s, n, raw);
    case TK_DEC_BYTE_FALLBACK: return byte_fallback(d, stage, s, n, raw);
    case TK_DEC_REPLACE: return replace(d, stage, s, n, raw);
    case TK_DEC_STRIP: return strip(d, stage, s, n, raw);
    default: return spaces(d, stage, s, n, raw);
    }
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
    if ((d->flags & TK_DECODE_SKIP_SPECIAL) && (t->flags[id] & TK_FLAG_SPECIAL)) return TK_OK;
    d->out = text;
    return feed(d, 0, t->piece[id].s, t->piece[id].n, t->raw_added && (t->flags[id] & TK_FLAG_ADDED));
}

tk_status tk_detok_flush(tk_detok *d, tk_buf *text) {
    d->out = text;
    tk_status s = TK_OK;
    for (int i = 0; i < d->t->n_dec && s == TK_OK; i++) {
        if (d->t->dec[i].kind == TK_DEC_BYTE_LEVEL) s = release_utf8(d, i, true);
        if (d->t->dec[i].kind == TK_DEC_BYTE_FALLBACK) s = release_run(d, i);
    }
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
    if (t->n_dec == TK_STAGES)
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has more than %d decoders", TK_STAGES);
    t->dec[t->n_dec++] = z;
    return TK_OK;
}

static tk_status parse_byte_level(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)j;
    tk_status s = tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_LEVEL });
    *fused = true;
    return s;
}
static tk_status parse_byte_fallback(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)j;
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_BYTE_FALLBACK, .fused = *fused });
}
static tk_status parse_fuse(tk_tokenizer *t, const json_t *j, bool *fused) {
    (void)t, (void)j;
    *fused = true;
    return TK_OK;
}
static tk_status parse_replace(tk_tokenizer *t, const json_t *j, bool *fused) {
    tk__decoder z = { .kind = TK_DEC_REPLACE, .fused = *fused };
    TK_TRY(tk__json_string(t, json_object_get(j, "pattern"), "String", &z.a));
    TK_TRY(tk__json_string(t, j, "content", &z.b));
    if (!z.a.n || (*fused && z.a.n != tk__utf8_len(z.a.s[0])))
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the tokenizer's Replace decoder has a pattern that this build does not know\n"
                       "after Fuse it can only replace one character");
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
