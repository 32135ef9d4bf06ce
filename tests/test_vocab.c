/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF vocabularies of every kind and every pre-tokenizer name against llama.cpp's ids
 * (tests/data/vocab, by tools/make_vocab_vectors.py). */
#include <jansson.h>
#include <stdlib.h>

#include "tokens.h"

static json_t *read_json(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "tests/data/vocab/%s.json", name);
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(j);
    return j;
}

/* tokens, types, scores, merges of a vocabulary, as a reader of GGUF would hand them over */
typedef struct arrays {
    tk_vocab v;
    uint8_t charsmap[8192];
} arrays;

static size_t unbase64(const char *s, uint8_t *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    unsigned bits = 0, have = 0;
    for (const char *d; *s && *s != '='; s++) {
        assert_non_null(d = strchr(digits, *s));
        bits = bits << 6 | (unsigned)(d - digits), have += 6;
        if (have >= 8) have -= 8, out[n++] = (uint8_t)(bits >> have);
    }
    return n;
}

static tk_str *strings(const json_t *list, size_t *n) {
    *n = json_array_size(list);
    tk_str *s = calloc(*n + 1, sizeof *s);
    for (size_t i = 0; i < *n; i++) {
        const json_t *e = json_array_get(list, i);
        s[i] = (tk_str){ json_string_value(e), json_string_length(e) };
    }
    return s;
}

static arrays to_arrays(const json_t *vocab) {
    arrays a = { .v = TK_VOCAB_NONE };
    a.v.tokens = strings(json_object_get(vocab, "tokens"), &a.v.n_tokens);
    a.v.merges = strings(json_object_get(vocab, "merges"), &a.v.n_merges);
    const json_t *types = json_object_get(vocab, "types"), *scores = json_object_get(vocab, "scores"),
                 *ids = json_object_get(vocab, "ids");
    int32_t *type = calloc(a.v.n_tokens, sizeof *type);
    float *score = calloc(a.v.n_tokens, sizeof *score);
    for (size_t i = 0; i < a.v.n_tokens; i++) {
        type[i] = types ? (int32_t)json_integer_value(json_array_get(types, i)) : 1;
        score[i] = (float)json_number_value(json_array_get(scores, i));
    }
    a.v.types = type, a.v.scores = scores ? score : NULL;
    if (!scores) free(score);
    const json_t *e;
    if ((e = json_object_get(ids, "bos"))) a.v.bos = (int32_t)json_integer_value(e);
    if ((e = json_object_get(ids, "eos"))) a.v.eos = (int32_t)json_integer_value(e);
    if ((e = json_object_get(ids, "unknown"))) a.v.unk = (int32_t)json_integer_value(e);
    if ((e = json_object_get(vocab, "charsmap"))) a.v.n_charsmap = unbase64(json_string_value(e), a.charsmap);
    return a;
}

static void free_arrays(arrays *a) {
    free((void *)a->v.tokens), free((void *)a->v.merges), free((void *)a->v.types), free((void *)a->v.scores);
}

static void set_keys(tk_vocab *v, json_t *keys) {
    const struct {
        const char *name;
        int8_t *flag;
    } flags[] = { { "add_bos_token", &v->add_bos },
                  { "add_eos_token", &v->add_eos },
                  { "add_space_prefix", &v->add_space_prefix },
                  { "remove_extra_whitespaces", &v->merge_spaces },
                  { "normalizer.lowercase", &v->lowercase },
                  { "normalizer.strip_accents", &v->strip_accents } };
    const char *key;
    json_t *e;
    json_object_foreach(keys, key, e) {
        if (!strcmp(key, "name")) v->name = json_string_value(e);
        for (size_t i = 0; i < TK_COUNT(flags); i++)
            if (!strcmp(key, flags[i].name)) *flags[i].flag = json_is_true(e);
    }
}

static int check_ids(const tk_tokenizer *t, const json_t *text, unsigned flags, const json_t *want,
                     const char *name) {
    tk_ids ids = { 0 };
    ok(tk_encode(t, json_string_value(text), json_string_length(text), flags, &ids));
    size_t n = json_array_size(want), i = 0;
    while (i < n && i < ids.n && ids.id[i] == json_integer_value(json_array_get(want, i))) i++;
    bool same = i == n && i == ids.n;
    if (!same)
        print_error("%s, flags %u, \"%s\": from id %zu %d, not %d (%zu and %zu ids)\n", name, flags,
                    json_string_value(text), i, i < ids.n ? ids.id[i] : -1,
                    i < n ? (int)json_integer_value(json_array_get(want, i)) : -1, ids.n, n);
    tk_ids_free(&ids);
    return !same;
}

static int check_row(const tk_tokenizer *t, const json_t *cases, const json_t *row, const char *name) {
    const json_t *texts = json_object_get(cases, "strings"), *eog = json_object_get(row, "eog");
    size_t lines = (size_t)json_integer_value(json_object_get(cases, "lines")), ended = 0;
    int bad = 0;
    for (size_t i = 0; i < json_array_size(texts); i++)
        bad +=
            check_ids(t, json_array_get(texts, i), 0, json_array_get(json_object_get(row, "plain"), i), name);
    for (size_t i = lines; i < json_array_size(texts); i++)
        bad += check_ids(t, json_array_get(texts, i), TK_ENCODE_ADD_SPECIAL | TK_ENCODE_PARSE_SPECIAL,
                         json_array_get(json_object_get(row, "parsed"), i - lines), name);
    for (int32_t id = 0; id < tk_tokenizer_size(t); id++) ended += tk_tokenizer_is_eog(t, id);
    assert_int_equal(ended, json_array_size(eog));
    for (size_t i = 0; i < ended; i++)
        assert_true(tk_tokenizer_is_eog(t, (int32_t)json_integer_value(json_array_get(eog, i))));
    return bad;
}

static void llama_cpp_cases(void **state) {
    (void)state;
    json_t *vocabs = read_json("vocabs"), *cases = read_json("cases"), *row;
    size_t which, names = 0;
    int bad = 0;
    json_array_foreach(json_object_get(cases, "rows"), which, row) {
        const json_t *pres = json_object_get(row, "pre");
        arrays a = to_arrays(json_object_get(vocabs, json_string_value(json_object_get(row, "vocab"))));
        if (a.v.n_charsmap) a.v.charsmap = a.charsmap;
        a.v.model = json_string_value(json_object_get(row, "model"));
        set_keys(&a.v, json_object_get(row, "keys"));
        for (size_t i = 0; i < TK_MAX(json_array_size(pres), (size_t)1); i++) {
            tk_tokenizer *t;
            a.v.pre = json_string_value(json_array_get(pres, i));
            ok(tk_tokenizer_from_vocab(&t, &a.v));
            bad +=
                check_row(t, cases, row, a.v.pre ? a.v.pre : json_string_value(json_object_get(row, "name")));
            tk_tokenizer_free(t);
            names++;
        }
        free_arrays(&a);
    }
    assert_true(names > 90);
    assert_int_equal(bad, 0);
    json_decref(vocabs);
    json_decref(cases);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_cpp_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
