/* SPDX-License-Identifier: Apache-2.0 */
/* The Unigram model: of all ways to cut a text into pieces, the one with the largest sum of scores, found
 * from left to right with one best way to each position. Hugging Face's library sums in double, the
 * sentencepiece package in float; both take the first of equals, and ids can depend on the last bit, so a
 * text is never cut into words that are scored from zero. A piece is at most TK_PIECE_MAX bytes long, which
 * bounds the work a byte. */
#include <math.h>
#include <stdlib.h>

#include "text/tokenizer.h"

#define NONE UINT32_MAX

/* One step of the sum, as the library at hand rounds it. */
static inline double kept(const tk_tokenizer *t, double x) { return t->float_scores ? (double)(float)x : x; }

static tk_status reserve(tk__work *w, size_t n) {
    if (n <= w->cap_best) return TK_OK;
    size_t cap = TK_MAX(n, w->cap_best * 2);
    struct tk__best *fresh = realloc(w->best, cap * sizeof *fresh);
    if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\na text of %zu bytes did not fit", n);
    w->best = fresh, w->cap_best = cap;
    return TK_OK;
}

static tk_status no_unknown(void) {
    return TK_FAIL(
        TK_E_UNSUPPORTED,
        "the text cannot be written in this tokenizer's pieces\nits Unigram model has no unknown token");
}

/* path[e]: the last piece of the best way to end at e. `from` NONE: none yet. */
static tk_status best_paths(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    struct tk__best *path = w->best;
    for (size_t i = 0; i <= n; i++) path[i] = (struct tk__best){ .from = NONE };
    for (size_t i = 0; i < n;) {
        unsigned len = tk__utf8_len(s[i]);
        double here = path[i].score;
        bool single = false;
        int32_t node = 0;
        for (size_t e = i; e < n && (node = tk__array_step(&t->trie, node, (uint8_t)s[e])) > 0;) {
            int32_t id = t->trie.unit[node].value;
            e++;
            if (id < 0) continue;
            double x = t->weight[id] + here; /* the package compares user-defined symbols before it rounds */
            if (t->float_scores && !(t->flags[id] & TK_FLAG_USER)) x = kept(t, x);
            single |= e - i == len;
            if (path[e].from == NONE || x > path[e].score)
                path[e] = (struct tk__best){ .score = kept(t, x), .id = id, .from = (uint32_t)i };
        }
        if (!single) {
            double x = kept(t, t->unk_weight + here);
            struct tk__best *p = &path[i + len];
            if (p->from == NONE || x > p->score) {
                if (t->unk < 0) return no_unknown();
                *p = (struct tk__best){ .score = x, .id = t->unk, .from = (uint32_t)i };
            }
        }
        i += len;
    }
    return TK_OK;
}

/* A run of unknown pieces. Hugging Face's library looks the run up, since its pieces together may be one. */
static tk_status put_unknown(tk__work *w, const char *s, size_t n) {
    const tk_tokenizer *t = w->t;
    int32_t id = t->float_scores ? -1 : tk__pieces_get(&t->ids, s, n);
    if (id >= 0) return tk_ids_push(w->out, id);
    bool bytes = t->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++) bytes = t->byte_id[(uint8_t)s[i]] >= 0;
    if (!bytes) return tk_ids_push(w->out, t->unk);
    for (size_t i = 0; i < n; i++) TK_TRY(tk_ids_push(w->out, t->byte_id[(uint8_t)s[i]]));
    return TK_OK;
}

tk_status tk__unigram_word(tk__work *w, const char *s, size_t n) {
    TK_TRY(reserve(w, n + 1));
    TK_TRY(best_paths(w, s, n));
    struct tk__best *path = w->best, at = path[n];
    for (size_t e = n; e;) { /* turned round: path[i] becomes the piece that starts at i, `from` its end */
        size_t start = (size_t)at.from;
        struct tk__best before = path[start];
        path[start] = (struct tk__best){ .id = at.id, .from = (uint32_t)e };
        at = before, e = start;
    }
    for (size_t i = 0, e; i < n; i = e) {
        int32_t id = path[i].id;
        e = (size_t)path[i].from;
        if (id != w->t->unk) {
            TK_TRY(tk_ids_push(w->out, id));
            continue;
        }
        while (e < n && path[e].id == id) e = (size_t)path[e].from;
        TK_TRY(put_unknown(w, s + i, e - i));
    }
    return TK_OK;
}

/* Pieces that text may become: those with a weight. */
tk_status tk__unigram_finish(tk_tokenizer *t) {
    tk__key *key = malloc((t->ids.n + 1) * sizeof *key);
    size_t n = 0;
    if (!key) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu pieces did not fit", t->ids.n);
    for (size_t i = 0; i < t->ids.n; i++) {
        tk_str s = t->ids.entry[i].key;
        if (s.n && !(t->flags[t->ids.entry[i].id] & (TK_FLAG_NO_MERGE | TK_FLAG_UNUSED)))
            key[n++] = (tk__key){ s, t->ids.entry[i].id };
    }
    tk_status r = tk__array_build(&t->trie, key, n);
    free(key);
    return r;
}

/* A number of tokenizer.json as Hugging Face's JSON reader has it: the digits as a whole number, then one
 * division, which is not always the nearest double. The text is the shortest one that gives `x`, as that
 * library writes it. */
static double as_serde_reads(double x) {
    char text[40];
    int digits = 15;
    for (; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, fabs(x));
        if (strtod(text, NULL) == fabs(x)) break;
    }
    if (digits == 15) return x; /* both steps are exact, or round once */
    char *e = strchr(text, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10) + 1;
    uint64_t whole = 0;
    for (const char *p = text; p < e; p++)
        if (*p >= '0' && *p <= '9') whole = whole * 10 + (uint64_t)(*p - '0'), exponent--;
    double f = (double)whole, power[2] = { 1, 1 };
    if (exponent < -600 || exponent > 300) return x;
    int places = abs(exponent), first = TK_MIN(places, 308);
    snprintf(text, sizeof text, "1e%d", first);
    power[0] = strtod(text, NULL);
    snprintf(text, sizeof text, "1e%d", places - first);
    power[1] = strtod(text, NULL);
    f = exponent < 0 ? f / power[0] / power[1] : f * power[0];
    return x < 0 ? -f : f;
}

tk_status tk__parse_unigram(tk_tokenizer *t, const json_t *j) {
    const json_t *vocab = json_object_get(j, "vocab"), *unk = json_object_get(j, "unk_id");
    size_t n = json_array_size(vocab), i, unk_id = 0;
    json_t *e;
    double least = INFINITY;
    if (!json_is_array(vocab) || n > TK_ID_MAX)
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits Unigram model has no usable \"vocab\"");
    t->kind = TK_MODEL_UNIGRAM;
    t->weight = calloc(n + 1, sizeof *t->weight);
    if (!t->weight) return TK_FAIL(TK_E_NOMEM, "out of memory\n%zu scores did not fit", n);
    json_array_foreach(vocab, i, e) {
        const json_t *piece = json_array_get(e, 0), *score = json_array_get(e, 1);
        if (!json_is_string(piece) || !json_is_number(score))
            return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\npiece %zu is not a text and a score", i);
        tk_str s = { json_string_value(piece), json_string_length(piece) };
        if (s.n > TK_PIECE_MAX)
            return TK_FAIL(TK_E_LIMIT, "the tokenizer has a piece of %zu bytes\nthe limit is %d", s.n,
                           TK_PIECE_MAX);
        TK_TRY(tk__tokenizer_put(t, s, (int32_t)i));
        t->weight[i] = as_serde_reads(json_number_value(score));
        least = TK_MIN(least, t->weight[i]);
    }
    t->n_model = n;
    t->unk_weight = least - TK_UNK_PENALTY;
    t->byte_fallback = tk__json_true(j, "byte_fallback", false);
    if (!unk || json_is_null(unk)) return TK_OK;
    TK_TRY(tk__json_size(j, "unk_id", TK_ID_MAX, &unk_id));
    if (unk_id >= n)
        return TK_FAIL(TK_E_FORMAT, "tokenizer.json is damaged\nits unk_id %zu is not in the vocabulary",
                       unk_id);
    t->unk = t->special[TK_UNK] = (int32_t)unk_id;
    return TK_OK;
}
