/* SPDX-License-Identifier: Apache-2.0 */
/* SentencePiece's .model files, with the ids of the sentencepiece package. The file is a protobuf message; of
 * it, only the wire format and the fields that encoding and decoding need are read here, each length checked
 * against the message it stands in. What the package's normalizer does to white space is one stage of its
 * own, since it looks at replaced text and the spaces before it at once. */
#include <float.h>
#include <stdlib.h>

#include "text/tokenizer.h"

#define SPACE_MARK "\xE2\x96\x81"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { UNIGRAM = 1, BPE, WORD, CHAR };
enum { PIECE_MAX = 8000 };

/* ---- the wire
 * ------------------------------------------------------------------------------------------------ */

typedef struct field {
    uint32_t number;
    uint64_t value; /* of a varint or 32 bits */
    tk_str bytes;   /* of a string or message; s NULL else */
} field;

static tk_status damaged(const char *why) {
    return TK_FAIL(TK_E_FORMAT, "this is not a SentencePiece model\n%s", why);
}

static bool varint(tk_str *m, uint64_t *x) {
    *x = 0;
    for (unsigned shift = 0; shift < 64 && m->n; shift += 7) {
        uint8_t b = (uint8_t)*m->s;
        m->s++, m->n--;
        *x |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) return true;
    }
    return false;
}

static bool skip(tk_str *m, uint64_t n) {
    if (n > m->n) return false;
    m->s += n, m->n -= (size_t)n;
    return true;
}

/* The next field of a message. */
static tk_status next_field(tk_str *m, field *f) {
    uint64_t tag, n = 0;
    *f = (field){ 0 };
    bool fine = varint(m, &tag) && tag >> 3 <= UINT32_MAX;
    f->number = fine ? (uint32_t)(tag >> 3) : 0;
    switch (fine ? tag & 7 : 7) {
    case 0: fine = varint(m, &f->value); break;
    case 1: fine = skip(m, 8); break;
    case 2:
        fine = varint(m, &n) && n <= m->n;
        f->bytes = (tk_str){ m->s, (size_t)n };
        fine = fine && skip(m, n);
        break;
    case 5:
        fine = m->n >= 4;
        if (fine) f->value = tk_le32(m->s);
        fine = fine && skip(m, 4);
        break;
    default: fine = false;
    }
    return fine && f->number ? TK_OK : damaged("a field of it is cut off or of an unknown kind");
}

/* ---- what is read
 * --------------------------------------------------------------------------------------------- */

typedef struct spec {
    uint64_t model_type;
    bool suffix, byte_fallback, dummy_prefix, remove_extra, escape, denormalizes;
    tk_str charsmap, unk_surface, bos, eos, pad;
} spec;

static tk_status read_trainer(tk_str m, spec *z) {
    while (m.n) {
        field f;
        TK_TRY(next_field(&m, &f));
        switch (f.number) {
        case 3: z->model_type = f.value; break;
        case 24: z->suffix = f.value; break;
        case 35: z->byte_fallback = f.value; break;
        case 44: z->unk_surface = f.bytes; break;
        case 46: z->bos = f.bytes; break;
        case 47: z->eos = f.bytes; break;
        case 48: z->pad = f.bytes; break;
        default: break;
        }
    }
    return TK_OK;
}

static tk_status read_normalizer(tk_str m, spec *z) {
    while (m.n) {
        field f;
        TK_TRY(next_field(&m, &f));
        switch (f.number) {
        case 2: z->charsmap = f.bytes; break;
        case 3: z->dummy_prefix = f.value; break;
        case 4: z->remove_extra = f.value; break;
        case 5: z->escape = f.value; break;
        default: break;
        }
    }
    return TK_OK;
}

static tk_status read_denormalizer(tk_str m, spec *z) {
    spec other = { 0 };
    TK_TRY(read_normalizer(m, &other));
    z->denormalizes |= other.charsmap.n > 0;
    return TK_OK;
}

typedef struct piece {
    tk_str text;
    float score;
    uint64_t type;
} piece;

static tk_status read_piece(tk_str m, piece *p) {
    *p = (piece){ .type = NORMAL };
    while (m.n) {
        field f;
        TK_TRY(next_field(&m, &f));
        if (f.number == 1) p->text = f.bytes;
        if (f.number == 2) p->score = tk_bits_f32((uint32_t)f.value);
        if (f.number == 3) p->type = f.value;
    }
    if (!p->text.s || !p->text.n) return damaged("a piece of it is empty");
    if (p->text.n >= PIECE_MAX || memchr(p->text.s, 0, p->text.n) || !tk__utf8_valid(p->text.s, p->text.n))
        return damaged("a piece of it is too long or not text");
    if (p->type < NORMAL || p->type > BYTE || !(p->score == p->score))
        return damaged("a piece of it has an unknown type or no score");
    return TK_OK;
}

/* ---- normalization
 * -------------------------------------------------------------------------------------------- */

struct tk__sp_rules {
    const tk_tokenizer *t; /* its `user` trie: symbols that stay as they are */
    const tk__charsmap *map;
    bool suffix, dummy_prefix, remove_extra, escape;
};

size_t tk__sp_user_symbol(const tk_tokenizer *t, const char *s, size_t n, int32_t *id) {
    size_t end = 0;
    int32_t node = 0;
    for (size_t i = 0; t->user.n && i < n && (node = tk__array_step(&t->user, node, (uint8_t)s[i])) > 0; i++)
        if (t->user.unit[node].value >= 0) end = i + 1, *id = t->user.unit[node].value;
    return end;
}

/* What the text starts with becomes *to; its length. */
static size_t prefix(const tk__sp_rules *r, const char *s, size_t n, tk_str *to) {
    int32_t id;
    size_t len = tk__sp_user_symbol(r->t, s, n, &id);
    if (len) return *to = (tk_str){ s, len }, len;
    if (r->map && (len = tk__charsmap_find(r->map, s, n, true, to))) return len;
    len = tk__utf8_len(*s);
    return *to = (tk_str){ s, len }, len;
}

static void put_space(const tk__sp_rules *r, tk_buf *out) {
    if (r->escape)
        tk_buf_put(out, SPACE_MARK, 3);
    else
        tk_buf_put(out, " ", 1);
}

static tk_status normalize(const tk__normalizer *z, const char *s, size_t n, tk_buf *out, size_t *first) {
    const tk__sp_rules *r = z->sp;
    tk_str to;
    size_t i = 0;
    *first = 0;
    while (r->remove_extra && i < n) {
        size_t len = prefix(r, s + i, n - i, &to);
        if (to.n != 1 || *to.s != ' ') break;
        i += len;
    }
    if (i == n) return TK_OK;
    if (!r->suffix && r->dummy_prefix) put_space(r, out);
    bool after_space = r->remove_extra;
    while (i < n) {
        i += prefix(r, s + i, n - i, &to);
        while (after_space && to.n && *to.s == ' ') to.s++, to.n--;
        for (size_t k = 0; k < to.n; k++) {
            if (to.s[k] == ' ')
                put_space(r, out);
            else
                tk_buf_put(out, to.s + k, 1);
        }
        if (to.n) after_space = to.s[to.n - 1] == ' ' && r->remove_extra;
    }
    size_t mark = r->escape ? 3 : 1;
    while (r->remove_extra && out->len >= mark &&
           !memcmp(out->data + out->len - mark, r->escape ? SPACE_MARK : " ", mark))
        out->len -= mark;
    if (r->suffix && r->dummy_prefix) put_space(r, out);
    return TK_OK;
}

/* ---- filling the tokenizer
 * ------------------------------------------------------------------------------------ */

static tk_status put_pieces(tk_tokenizer *t, tk_str m, const spec *z, tk__key *user, size_t *n_user) {
    float least = FLT_MAX;
    bool bytes[256] = { false };
    size_t n_bytes = 0, id = 0;
    while (m.n) {
        field f;
        piece p;
        TK_TRY(next_field(&m, &f));
        if (f.number != 1) continue;
        TK_TRY(read_piece(f.bytes, &p));
        if (tk__pieces_get(&t->ids, p.text.s, p.text.n) >= 0)
            return damaged("a piece of it stands there twice");
        TK_TRY(tk__tokenizer_put(t, p.text, (int32_t)id));
        t->score[id] = p.score, t->weight[id] = (double)p.score;
        if (p.type == UNKNOWN && t->unk >= 0) return damaged("it has two unknown tokens");
        if (p.type == UNKNOWN) t->unk = (int32_t)id;
        if (p.type == BYTE) {
            const unsigned value = p.text.n == 6 ? strtoul(t->piece[id].s + 3, NULL, 16) & 255 : 0;
            char name[8];
            snprintf(name, sizeof name, "<0x%02X>", value);
            if (!z->byte_fallback || p.text.n != 6 || memcmp(p.text.s, name, 6) != 0)
                return damaged("a byte piece of it is none");
            n_bytes += !bytes[value];
            bytes[value] = true;
        }
        if (p.type == CONTROL || p.type == UNKNOWN || p.type == BYTE) t->flags[id] |= TK_FLAG_NO_MERGE;
        if (p.type == CONTROL) t->flags[id] |= TK_FLAG_SPECIAL;
        if (p.type == UNUSED) t->flags[id] |= TK_FLAG_UNUSED, t->unused = true;
        if (p.type == USER_DEFINED) user[(*n_user)++] = (tk__key){ t->piece[id], (int32_t)id };
        if (p.type == NORMAL) least = TK_MIN(least, p.score);
        id++;
    }
    if (t->unk < 0) return damaged("it has no unknown token");
    if (z->byte_fallback && n_bytes < 256) return damaged("it lacks some of the 256 byte pieces");
    t->unk_weight = (double)(least - (float)TK_UNK_PENALTY);
    for (size_t i = 0; i < *n_user; i++) { /* version 0.2.3 of the package, found by comparing */
        t->weight[user[i].value] = 0.1 * (double)(user[i].s.n - 1);
        t->flags[user[i].value] |= TK_FLAG_USER;
    }
    return TK_OK;
}

static tk_status add_stages(tk_tokenizer *t, const spec *z) {
    tk__sp_rules *r = tk_arena_array(&t->arena, 1, sizeof *r);
    tk__charsmap *map = NULL;
    if (!r) return TK_E_NOMEM;
    if (z->charsmap.n) TK_TRY(tk__charsmap_new(&map, &t->arena, z->charsmap.s, z->charsmap.n));
    *r = (tk__sp_rules){ .t = t,
                         .map = map,
                         .suffix = z->suffix,
                         .dummy_prefix = z->dummy_prefix,
                         .remove_extra = z->remove_extra,
                         .escape = z->escape };
    TK_TRY(tk__normalizer_add(t, (tk__normalizer){ .run = normalize, .sp = r }));
    TK_TRY(tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_SP_BYTES }));
    return tk__decoder_add(t, (tk__decoder){ .kind = TK_DEC_SP,
                                             .a = TK_STR(SPACE_MARK),
                                             .start = z->dummy_prefix || z->remove_extra,
                                             .stop = z->remove_extra });
}

/* A control piece's id, or -1 */
static int32_t control(const tk_tokenizer *t, tk_str name) {
    int32_t id = tk__pieces_get(&t->ids, name.s, name.n);
    return id >= 0 && (t->flags[id] & TK_FLAG_SPECIAL) ? id : -1;
}

/* Control pieces are special tokens: cut out of a text that may hold some, and no text themselves. */
static tk_status add_controls(tk_tokenizer *t, const spec *z) {
    t->shown = calloc((size_t)t->size, sizeof *t->shown);
    if (!t->shown) return TK_FAIL(TK_E_NOMEM, "out of memory\n%d pieces did not fit", t->size);
    t->special[TK_UNK] = t->unk;
    t->special[TK_BOS] = control(t, z->bos);
    t->special[TK_EOS] = control(t, z->eos);
    t->special[TK_PAD] = control(t, z->pad);
    t->shown[t->unk] = tk__keep(t, z->unk_surface.s, z->unk_surface.n);
    for (int32_t id = 0; id < t->size; id++) {
        if (!(t->flags[id] & TK_FLAG_SPECIAL)) continue;
        t->shown[id] = TK_STR("");
        if (t->piece[id].n > TK_ADDED_MAX) continue;
        TK_TRY(tk__tokenizer_add(t, (tk__added){ .text = t->piece[id], .id = id, .special = true }));
    }
    return t->shown[t->unk].s ? TK_OK : TK_E_NOMEM;
}

static tk_status fill(tk_tokenizer *t, tk_str m, size_t n, tk__key *user, const json_t *config) {
    spec z = { .model_type = UNIGRAM,
               .dummy_prefix = true,
               .remove_extra = true,
               .escape = true,
               .unk_surface = TK_STR(" \xE2\x81\x87 "),
               .bos = TK_STR("<s>"),
               .eos = TK_STR("</s>"),
               .pad = TK_STR("<pad>") };
    size_t n_user = 0;
    for (tk_str rest = m; rest.n;) {
        field f;
        TK_TRY(next_field(&rest, &f));
        if (f.number == 2) TK_TRY(read_trainer(f.bytes, &z));
        if (f.number == 3) TK_TRY(read_normalizer(f.bytes, &z));
        if (f.number == 5) TK_TRY(read_denormalizer(f.bytes, &z));
    }
    if (z.denormalizes) return tk__unknown_stage("SentencePiece option", "denormalizer_spec");
    if (z.model_type != UNIGRAM && z.model_type != BPE && z.model_type != CHAR)
        return tk__unknown_stage("SentencePiece model type", z.model_type == WORD ? "WORD" : "(unknown)");
    t->score = calloc(n + 1, sizeof *t->score);
    t->weight = calloc(n + 1, sizeof *t->weight);
    if (!t->score || !t->weight) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu pieces did not fit", n);
    t->kind = z.model_type == UNIGRAM ? TK_MODEL_UNIGRAM : TK_MODEL_SPM;
    t->float_scores = t->fuse_unk = true;
    t->byte_fallback = z.byte_fallback;
    t->letters_only = z.model_type == CHAR;
    TK_TRY(put_pieces(t, m, &z, user, &n_user));
    TK_TRY(tk__array_build(&t->user, user, n_user));
    TK_TRY(add_stages(t, &z));
    TK_TRY(add_controls(t, &z));
    TK_TRY(tk__config_frame(t, config));
    return tk__tokenizer_finish(t);
}

tk_status tk_tokenizer_from_sentencepiece(tk_tokenizer **out, const void *data, size_t n) {
    return tk__tokenizer_from_sentencepiece(out, (tk_str){ data, n }, NULL);
}

tk_status tk__tokenizer_from_sentencepiece(tk_tokenizer **out, tk_str m, const json_t *config) {
    size_t pieces = 0;
    for (tk_str rest = m; rest.n;) {
        field f;
        TK_TRY(next_field(&rest, &f));
        pieces += f.number == 1;
    }
    if (!pieces || pieces > TK_ID_MAX) return damaged("it has no pieces, or too many");
    tk_tokenizer *t;
    TK_TRY(tk__tokenizer_new(&t, pieces));
    tk__key *user = malloc(pieces * sizeof *user);
    tk_status s = user ? fill(t, m, pieces, user, config)
                       : TK_FAIL(TK_E_NOMEM, "out of memory\n%zu pieces did not fit", pieces);
    free(user);
    if (s != TK_OK) {
        tk_tokenizer_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}
