/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers against what Hugging Face's library made of the same files (tests/data/tokenizers, by
 * tools/make_tokenizer_vectors.py), against slow models written here, and against hostile input. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "tokens.h"

#define DATA "tests/data/tokenizers/"
static const char *const names[] = { "gpt2", "llama3", "smollm", "qwen2", "llama2",
                                     "odd1", "odd2",   "odd3",   "odd4" };

static tk_tokenizer *open_named(const char *name) {
    char path[128];
    tk_tokenizer *t = NULL;
    snprintf(path, sizeof path, DATA "%s.json", name);
    ok(tk_tokenizer_open(&t, path));
    return t;
}

static json_t *read_json(const char *name, const char *end) {
    char path[128];
    json_error_t e;
    snprintf(path, sizeof path, DATA "%s%s", name, end);
    json_t *j = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!j) print_error("%s: %s\n", path, e.text);
    assert_non_null(j);
    return j;
}

static size_t unhex(const char *s, char *out) {
    size_t n = 0;
    for (unsigned byte; sscanf(s + 2 * n, "%2x", &byte) == 1; n++) out[n] = (char)byte;
    return n;
}

static void same_ids(const tk_ids *ids, const json_t *want, const char *name, size_t which) {
    bool same = ids->n == json_array_size(want);
    for (size_t i = 0; same && i < ids->n; i++)
        same = ids->id[i] == json_integer_value(json_array_get(want, i));
    if (same) return;
    char *text = json_dumps(want, JSON_COMPACT);
    print_error("%s case %zu wants %s, got", name, which, text);
    for (size_t i = 0; i < ids->n; i++) print_error(" %d", ids->id[i]);
    print_error("\n");
    fail();
}

static void same_text(const tk_buf *b, const json_t *want, const char *name, size_t which) {
    if (b->len == json_string_length(want) && (!b->len || !memcmp(b->data, json_string_value(want), b->len)))
        return;
    print_error("%s case %zu wants \"%s\", got \"%s\"\n", name, which, json_string_value(want),
                b->data ? b->data : "");
    fail();
}

/* Every stored case: ids in the four modes, the texts of a list of ids, whole and streamed. */
static void check_cases(const tk_tokenizer *t, const char *name) {
    json_t *cases = read_json(name, ".cases.json"), *row;
    size_t which;
    assert_true(json_array_size(cases) > 30);
    json_array_foreach(cases, which, row) {
        char text[512];
        size_t n = unhex(json_string_value(json_array_get(row, 0)), text);
        for (unsigned flags = 0; flags < 4; flags++) {
            tk_ids ids = { 0 };
            ok(tk_encode(t, text, n, flags, &ids));
            same_ids(&ids, json_array_get(row, 1 + flags), name, which);
            tk_ids_free(&ids);
        }
        tk_ids ids = { 0 };
        for (size_t i = 0; i < json_array_size(json_array_get(row, 5)); i++)
            ok(tk_ids_push(&ids, (int32_t)json_integer_value(json_array_get(json_array_get(row, 5), i))));
        for (unsigned skip = 0; skip < 2; skip++) {
            tk_buf whole = { 0 }, parts = { 0 };
            ok(tk_decode(t, ids.id, ids.n, skip, &whole));
            same_text(&whole, json_array_get(row, 6 + skip), name, which);
            stream(t, ids.id, ids.n, skip, &parts);
            same_text(&parts, json_array_get(row, 6 + skip), name, which);
            tk_buf_free(&whole);
            tk_buf_free(&parts);
        }
        tk_ids_free(&ids);
    }
    json_decref(cases);
}

static void hugging_face_cases(void **state) {
    (void)state;
    for (size_t i = 0; i < TK_COUNT(names); i++) {
        tk_tokenizer *t = open_named(names[i]);
        check_cases(t, names[i]);
        check_cases(t, names[i]); /* again, with the cache of words warm */
        tk_tokenizer_free(t);
    }
}

/* ---- GGUF's arrays
 * ------------------------------------------------------------------------------------------------ */

typedef struct arrays {
    tk_vocab v;
    tk_str *tokens, *merges;
    int32_t *types;
    float *scores;
    char *store;
} arrays;

/* A tokenizer.json of the byte-level kind as a GGUF converter writes it */
static arrays to_arrays(const json_t *j, const char *pre) {
    const json_t *vocab = json_object_get(json_object_get(j, "model"), "vocab"),
                 *added = json_object_get(j, "added_tokens");
    const json_t *merges = json_object_get(json_object_get(j, "model"), "merges");
    size_t n = json_object_size(vocab) + json_array_size(added), i;
    arrays a = { .v = TK_VOCAB_NONE,
                 .tokens = calloc(n, sizeof(tk_str)),
                 .types = calloc(n, sizeof(int32_t)),
                 .merges = calloc(json_array_size(merges), sizeof(tk_str)),
                 .store = calloc(json_array_size(merges), 64) };
    const char *key;
    json_t *e;
    json_object_foreach((json_t *)vocab, key, e) {
        size_t id = (size_t)json_integer_value(e);
        a.tokens[id] = (tk_str){ key, strlen(key) }, a.types[id] = 1;
    }
    a.v.n_tokens = json_object_size(vocab);
    json_array_foreach(added, i, e) {
        size_t id = (size_t)json_integer_value(json_object_get(e, "id"));
        key = json_string_value(json_object_get(e, "content"));
        a.tokens[id] = (tk_str){ key, strlen(key) },
        a.types[id] = json_is_true(json_object_get(e, "special")) ? 3 : 4;
        a.v.n_tokens = TK_MAX(a.v.n_tokens, id + 1);
    }
    json_array_foreach(merges, i, e) {
        char *s = a.store + 64 * i;
        if (json_is_string(e))
            snprintf(s, 64, "%s", json_string_value(e));
        else
            snprintf(s, 64, "%s %s", json_string_value(json_array_get(e, 0)),
                     json_string_value(json_array_get(e, 1)));
        a.merges[i] = (tk_str){ s, strlen(s) };
    }
    a.v.n_merges = json_array_size(merges);
    a.v.model = "gpt2", a.v.pre = pre, a.v.tokens = a.tokens, a.v.merges = a.merges, a.v.types = a.types;
    return a;
}

static void free_arrays(arrays *a) {
    free(a->tokens), free(a->merges), free(a->types), free(a->scores), free(a->store);
}

static void gguf_arrays_give_the_same_ids(void **state) {
    (void)state;
    static const struct {
        const char *name, *pre;
    } rows[] = { { "llama3", "llama-bpe" }, { "smollm", "smollm" } };
    for (size_t r = 0; r < TK_COUNT(rows); r++) {
        json_t *j = read_json(rows[r].name, ".json"), *cases = read_json(rows[r].name, ".cases.json"), *row;
        arrays a = to_arrays(j, rows[r].pre);
        tk_tokenizer *t;
        size_t which;
        ok(tk_tokenizer_from_vocab(&t, &a.v));
        json_array_foreach(cases, which, row) {
            char text[512];
            size_t n = unhex(json_string_value(json_array_get(row, 0)), text);
            if (!strcmp(rows[r].name, "smollm") && n && text[0] != ' ') continue; /* that file adds a space */
            for (unsigned flags = 0; flags < 4; flags += 2) {
                tk_ids ids = { 0 };
                if (strstr(text, "<|")) continue;
                ok(tk_encode(t, text, n, flags, &ids));
                same_ids(&ids, json_array_get(row, 1 + flags), rows[r].pre, which);
                tk_ids_free(&ids);
            }
        }
        tk_tokenizer_free(t);
        free_arrays(&a);
        json_decref(cases);
        json_decref(j);
    }
}

static void gguf_special_tokens(void **state) {
    (void)state;
    json_t *j = read_json("llama3", ".json");
    arrays a = to_arrays(j, "llama-bpe");
    a.v.bos = (int32_t)a.v.n_tokens - 2, a.v.eos = (int32_t)a.v.n_tokens - 1;
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    ok(tk_tokenizer_from_vocab(&t, &a.v));
    assert_true(tk_tokenizer_adds_bos(t)); /* the llama-bpe row says so when the file does not */
    assert_true(tk_tokenizer_is_eog(t, a.v.eos));
    assert_false(tk_tokenizer_is_eog(t, a.v.bos));
    assert_true(tk_tokenizer_is_special(t, a.v.bos));
    ok(tk_encode(t, "<|begin|><|end|>", 16, TK_ENCODE_PARSE_SPECIAL | TK_ENCODE_ADD_SPECIAL, &ids));
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.id[0], a.v.bos);
    assert_int_equal(ids.id[1], a.v.bos);
    assert_int_equal(ids.id[2], a.v.eos);
    ids.n = 0;
    ok(tk_encode(t, "<|begin|>", 9, 0, &ids)); /* what a user types stays text */
    assert_true(ids.n > 3);
    for (size_t i = 0; i < ids.n; i++) assert_false(tk_tokenizer_is_special(t, ids.id[i]));
    tk_ids_free(&ids);
    tk_tokenizer_free(t);

    a.v.add_bos = 0, a.v.add_eos = 1;
    ok(tk_tokenizer_from_vocab(&t, &a.v));
    ok(tk_encode(t, "", 0, TK_ENCODE_ADD_SPECIAL, &ids));
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.id[0], a.v.eos);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);

    /* A byte without a letter gives nothing, though the file names an unknown token. */
    a.v.add_bos = a.v.add_eos = 0, a.v.unk = 0;
    for (size_t i = 0; i < a.v.n_tokens; i++)
        if (a.tokens[i].n == 2 && !memcmp(a.tokens[i].s, "\xC3\xB1", 2))
            a.tokens[i] = TK_STR("unused"); /* 0xF1 */
    ok(tk_tokenizer_from_vocab(&t, &a.v));
    ok(tk_encode(t, "\xF1\x9A\xAC\x98", 4, 0, &ids));
    assert_int_equal(ids.n, 3);
    tk_ids_free(&ids);
    assert_int_equal(tk_tokenizer_special(t, TK_UNK), 0);
    tk_tokenizer_free(t);

    /* Nor do its neighbours merge across it (tools/judge_vocab.py: llama.cpp on SmolLM2's vocabulary). */
    for (size_t i = 0; i < a.v.n_tokens; i++)
        if (a.tokens[i].n == 2 && !memcmp(a.tokens[i].s, "\xC4\x94", 2))
            a.tokens[i] = TK_STR("unused too"); /* 0x14 */
    ok(tk_tokenizer_from_vocab(&t, &a.v));
    ok(tk_encode(t, "?\"", 2, 0, &ids));
    assert_int_equal(ids.n, 1);
    ids.n = 0;
    ok(tk_encode(t, "?\x14\"", 3, 0, &ids));
    assert_int_equal(ids.n, 2);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);

    static const char *const bad[] = { NULL, "", "llama", "llama-bpe smollm", " ", "gpt-2 " };
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        a.v.pre = bad[i];
        assert_int_equal(tk_tokenizer_from_vocab(&t, &a.v), TK_E_UNSUPPORTED);
    }
    a.v.pre = "gpt-2", a.v.model = "plamo2";
    assert_int_equal(tk_tokenizer_from_vocab(&t, &a.v), TK_E_UNSUPPORTED);
    a.v.model = "gpt2", a.merges[3] = TK_STR("nothing");
    assert_int_equal(tk_tokenizer_from_vocab(&t, &a.v), TK_E_FORMAT);
    a.v.n_merges = 0, a.tokens[5] = TK_STR("\xff");
    assert_int_equal(tk_tokenizer_from_vocab(&t, &a.v), TK_E_FORMAT);
    free_arrays(&a);
    json_decref(j);
}

/* ---- cutting patterns
 * ---------------------------------------------------------------------------------------------- */

/* Each hand-written pattern against Oniguruma (an independent engine), on strings of awkward characters. */
static void splitters_agree_with_regex(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
        "\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
        "\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
        "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"
        "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
        "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
        "\\p{N}{1,3}",
        "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
        "[0-9][0-9][0-9]",
        "\\p{N}",
    };
    static const char *const parts[] = {
        "'",
        "s",
        "S",
        "\xC5\xBF",
        "t",
        "re",
        "LL",
        "lL",
        "d",
        "m",
        " ",
        " ",
        "\n",
        "\r\n",
        "\t",
        "\xC2\xA0",
        "\xE3\x80\x80",
        "1",
        "23",
        "\xC2\xBD",
        "\xD9\xA3",
        "a",
        "\xC3\xA9",
        "\xCC\x81",
        "\xE6\xBC\xA2",
        "!",
        "_",
        "\xF0\x9F\x91\x8D",
        "\xF0\x90\xB5\x80",
        "\xE1\xB2\x89",
        "A",
        "\xC3\x89",
        "/",
        "\xC7\x85",
        "\xCA\xB0",
        "\xE3\x81\x8B",
        "$",
        "\x01",
        "\xEF\xBF\xBD",
    };
    unsigned seed = 7;
    for (size_t k = 0; k < TK_COUNT(patterns); k++) {
        tk__regex *r;
        tk__search z = { 0 };
        tk__splitter *next = tk__splitter_find(patterns[k], &(bool){ 0 });
        assert_non_null(next);
        ok(tk__regex_new(&r, patterns[k]));
        for (int round = 0; round < 4000; round++) {
            char s[128] = "";
            for (unsigned i = rand_r(&seed) % 14; i; i--) strcat(s, parts[rand_r(&seed) % TK_COUNT(parts)]);
            size_t n = strlen(s);
            for (size_t p = 0; p < n;) {
                size_t end = next(s, n, p);
                ok(tk__regex_find(r, &z, s, n, p));
                size_t want = !z.found ? n : z.start > p ? z.start : z.end;
                if (end != want)
                    print_error("pattern %zu on \"%s\" at %zu: %zu, not %zu\n", k, s, p, end, want);
                assert_int_equal(end, want);
                p = end;
            }
        }
        tk__search_free(&z);
        tk__regex_free(r);
    }
    assert_null(tk__splitter_find("\\p{L}", &(bool){ 0 }));
}

/* How many code points Hugging Face's library (tokenizers 0.23.3) counts in each class. */
static void classes_have_unicode_16_counts(void **state) {
    (void)state;
    static const struct {
        unsigned bit;
        int count;
    } rows[] = { { TK_CP_L, 141028 }, { TK_CP_N, 1911 },   { TK_CP_S, 25 },
                 { TK_CP_P, 855 },    { TK_CP_W, 144667 }, { TK_CP_NUMERIC, 1924 } };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        int count = 0;
        for (uint32_t c = 0; c < 0x110000; c++) count += (tk__cp_class(c) & rows[i].bit) != 0;
        assert_int_equal(count, rows[i].count);
    }
    static const struct {
        const char *regex;
        int count;
    } patterns[] = { { "\\p{L}", 141028 }, { "\\w", 144671 },    { "\\d", 760 },
                     { "\\p{Lu}", 1858 },  { "[\\p{M}]", 2501 }, { "\\p{S}", 8514 } };
    for (size_t i = 0; i < TK_COUNT(patterns); i++) {
        tk__regex *r;
        tk__search z = { 0 };
        ok(tk__regex_new(&r, patterns[i].regex));
        int count = 0;
        tk_buf b = { 0 };
        for (uint32_t c = 0; c < 0x110000; c++) {
            if (c >= 0xD800 && c < 0xE000) continue;
            b.len = 0;
            tk__utf8_put(&b, c);
            ok(tk__regex_find(r, &z, b.data, b.len, 0));
            count += z.found;
            z.start_wall = 0;
        }
        assert_int_equal(count, patterns[i].count);
        tk_buf_free(&b);
        tk__search_free(&z);
        tk__regex_free(r);
    }
}

/* ---- hostile input
 * -------------------------------------------------------------------------------------------------- */

#define MODEL(rest)                                                                                          \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}" rest "}"

static void bad_json_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *json;
        tk_status want;
    } rows[] = {
        { "", TK_E_FORMAT },
        { "{", TK_E_FORMAT },
        { "[]", TK_E_FORMAT },
        { "{\"model\":1}", TK_E_FORMAT },
        { "{\"model\":{}}", TK_E_UNSUPPORTED },
        { "{\"model\":{\"type\":\"Unigram\"}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]],\"unk_id\":1}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"b\"]],\"unk_id\":0}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"Trie\"}}", TK_E_UNSUPPORTED },
        { "{\"model\":{\"type\":\"BPE\"}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e300},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0.5},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[7]}}", TK_E_FORMAT },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", TK_OK },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":7}}", TK_E_FORMAT },
        { "{\"version\":\"2.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
          TK_E_UNSUPPORTED },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}",
          TK_E_UNSUPPORTED },
        { MODEL(",\"normalizer\":{\"type\":\"Shout\"}"), TK_E_UNSUPPORTED },
        { MODEL(",\"normalizer\":7"), TK_E_FORMAT },
        { MODEL(",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}"),
          TK_E_FORMAT },
        { MODEL(",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"A\"}"), TK_E_FORMAT },
        { MODEL(",\"normalizer\":{\"type\":\"Strip\"},\"added_tokens\":[{\"content\":\" \"}]"),
          TK_E_UNSUPPORTED },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}"), TK_E_FORMAT },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}"), TK_E_FORMAT },
        { MODEL(",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(\"},\"content\":\"x\"}"),
          TK_E_FORMAT },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Wave\"}"), TK_E_UNSUPPORTED },
        { MODEL(
              ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Eaten\"}"),
          TK_E_UNSUPPORTED },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{Klingon}\"},"
                "\"behavior\":\"Isolated\"}"),
          TK_E_UNSUPPORTED },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{w}\"},\"behavior\":"
                "\"Isolated\"}"),
          TK_E_UNSUPPORTED },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\\"},\"behavior\":"
                "\"Isolated\"}"),
          TK_E_FORMAT },
        { MODEL(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L\"},\"behavior\":"
                "\"Isolated\"}"),
          TK_E_FORMAT },
        { MODEL(",\"decoder\":{\"type\":\"Guess\"}"), TK_E_UNSUPPORTED },
        { MODEL(",\"decoder\":{\"type\":\"Strip\",\"content\":\"ab\",\"start\":1,\"stop\":0}"), TK_E_FORMAT },
        { MODEL(",\"decoder\":{\"type\":\"Strip\",\"content\":\"a\",\"start\":-1,\"stop\":0}"), TK_E_FORMAT },
        { MODEL(",\"post_processor\":{\"type\":\"Stamp\"}"), TK_E_UNSUPPORTED },
        { MODEL(",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}"), TK_E_UNSUPPORTED },
        { MODEL(",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
                "\"x\"}}]}"),
          TK_E_FORMAT },
        { MODEL(",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"TemplateProcessing\","
                "\"single\":[{\"Sequence\":{\"id\":\"A\"}}]},"
                "{\"type\":\"BertProcessing\",\"cls\":[\"a\",0],\"sep\":[\"b\",0]}]}"),
          TK_E_UNSUPPORTED },
        { MODEL(",\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",0],\"sep\":[\"b\",3]}"),
          TK_E_FORMAT },
        { MODEL(",\"added_tokens\":[{\"id\":3}]"), TK_E_FORMAT },
        { MODEL(",\"added_tokens\":[{\"id\":3,\"content\":\"\"}]"), TK_OK },
        { MODEL(""), TK_OK },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        tk_tokenizer *t = NULL;
        tk_status s = tk_tokenizer_from_json(&t, (tk_str){ rows[i].json, strlen(rows[i].json) }, NULL);
        if (s != rows[i].want) print_error("%s\ngave: %s\n", rows[i].json, s ? tk_error() : "ok");
        assert_int_equal(s, rows[i].want);
        tk_tokenizer_free(t);
    }
    tk_buf deep = { 0 };
    tk_tokenizer *t;
    tk_buf_puts(&deep, "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]},\"decoder\":");
    for (int i = 0; i < 300; i++) tk_buf_puts(&deep, "{\"type\":\"Sequence\",\"decoders\":[");
    for (int i = 0; i < 300; i++) tk_buf_puts(&deep, "]}");
    tk_buf_puts(&deep, "}");
    assert_int_equal(tk_tokenizer_from_json(&t, (tk_str){ deep.data, deep.len }, NULL), TK_E_LIMIT);
    tk_buf_free(&deep);
    assert_int_equal(tk_tokenizer_open(&t, "tests/data/tokenizers"), TK_E_NOTFOUND);
    assert_int_equal(tk_tokenizer_open(&t, "no/such/file"), TK_E_NOTFOUND);
    assert_int_equal(tk_tokenizer_open(&t, "tests/test_tokenizer.c"), TK_E_FORMAT);
}

/* A pattern that backtracks without end fails with a message, soon. */
static void runaway_pattern_is_stopped(void **state) {
    (void)state;
    const char *json = MODEL(",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|aa)+$|(a+)+"
                             "b\"},\"behavior\":\"Isolated\"}");
    char text[200];
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = '!';
    ok(tk_tokenizer_from_json(&t, (tk_str){ json, strlen(json) }, NULL));
    clock_t start = clock();
    assert_int_equal(tk_encode(t, text, sizeof text, 0, &ids), TK_E_LIMIT);
    assert_true(clock() - start < 30 * CLOCKS_PER_SEC);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);
}

/* Texts that are quadratic for simple programs: one long word, one long run of spaces, of combining marks. */
static void long_runs_are_fast(void **state) {
    (void)state;
    static const char *const runs[] = {
        "a", " ", "e", "\n", "\xCC\x81\xCC\xA7", "\xE2\x96\x81", "<|", "\xFF"
    };
    static const char *const kinds[] = { "gpt2", "llama3", "qwen2", "llama2", "smollm" };
    for (size_t k = 0; k < TK_COUNT(kinds); k++) {
        tk_tokenizer *t = open_named(kinds[k]);
        for (size_t i = 0; i < TK_COUNT(runs); i++) {
            tk_buf text = { 0 };
            tk_ids ids = { 0 };
            while (text.len < 1000000) tk_buf_puts(&text, runs[i]);
            clock_t start = clock(); /* CPU time: the machine may be busy */
            ok(tk_encode(t, text.data, text.len, 0, &ids));
            assert_true(clock() - start < 10 * CLOCKS_PER_SEC); /* measured: 0.01 to 0.3 s; sanitizers add */
            assert_true(ids.n > 1000);
            tk_ids_free(&ids);
            tk_buf_free(&text);
        }
        tk_tokenizer_free(t);
    }
}

/* ---- the rest
 * -------------------------------------------------------------------------------------------------------- */

static void questions(void **state) {
    (void)state;
    tk_tokenizer *t;
    tk_buf json = { 0 };
    ok(tk_file_read(&json, DATA "llama2.json", 1 << 20));
    const char *config = "{\"bos_token\":{\"content\":\"<s>\"},\"eos_token\":\"</s>\",\"unk_token\":null,"
                         "\"model_max_length\":1000000000000000019884624838656}";
    tk_str c = { config, strlen(config) };
    ok(tk_tokenizer_from_json(&t, (tk_str){ json.data, json.len }, &c));
    assert_int_equal(tk_tokenizer_special(t, TK_BOS), 1);
    assert_int_equal(tk_tokenizer_special(t, TK_EOS), 2);
    assert_int_equal(tk_tokenizer_special(t, TK_UNK), 0);
    assert_int_equal(tk_tokenizer_special(t, TK_PAD), -1);
    assert_true(tk_tokenizer_adds_bos(t));
    int32_t end = tk_tokenizer_find(t, TK_STR("<|end|>")), size = tk_tokenizer_size(t);
    assert_int_equal(end, size - 1);
    assert_true(tk_tokenizer_is_eog(t, end)); /* by name */
    assert_true(tk_tokenizer_is_eog(t, 2));
    assert_false(tk_tokenizer_is_eog(t, 5));
    tk_tokenizer_add_eog(t, 5);
    tk_tokenizer_add_eog(t, -1);
    tk_tokenizer_add_eog(t, size);
    assert_true(tk_tokenizer_is_eog(t, 5));
    assert_true(tk_tokenizer_is_special(t, 1));
    assert_false(tk_tokenizer_is_special(t, size));
    assert_int_equal(tk_tokenizer_find(t, TK_STR("no such")), -1);
    assert_null(tk_tokenizer_piece(t, size).s);
    tk_str a = tk_tokenizer_piece(t, 3 + 'A');
    assert_int_equal(a.n, 6);
    assert_memory_equal(a.s, "<0x41>", 6);
    tk_buf out = { 0 };
    assert_int_equal(tk_decode(t, &size, 1, 0, &out), TK_E_USAGE);
    tk_buf_free(&out);
    tk_tokenizer_free(t);
    tk_tokenizer_free(NULL);
    tk_buf_free(&json);
}

/* Bytes come out as soon as they are certain, and the space of a continued text stays. */
static void streaming_holds_back(void **state) {
    (void)state;
    tk_tokenizer *t = open_named("llama2");
    tk_detok *d;
    tk_buf out = { 0 };
    int32_t hi = tk_tokenizer_find(t, TK_STR("\xE2\x96\x81the"));
    assert_true(hi > 0);
    ok(tk_detok_new(&d, t, TK_DECODE_SKIP_SPECIAL));
    ok(tk_detok_push(d, 1, &out)); /* <s> */
    ok(tk_detok_push(d, hi, &out));
    assert_string_equal(out.data, "the");
    ok(tk_detok_push(d, 3 + 0xC3, &out));
    ok(tk_detok_push(d, 3 + 0xA9, &out));
    assert_string_equal(out.data, "the"); /* the run may yet turn out ill-formed */
    ok(tk_detok_push(d, hi, &out));
    assert_string_equal(out.data, "the\xC3\xA9 the");
    ok(tk_detok_push(d, 3 + 0xC3, &out));
    ok(tk_detok_flush(d, &out));
    assert_string_equal(out.data, "the\xC3\xA9 the\xEF\xBF\xBD");
    out.len = 0;
    ok(tk_detok_push(d, hi, &out)); /* flushed: a new text */
    assert_string_equal(out.data, "the");
    out.len = 0;
    for (int i = 0; i < TK_DETOK_HOLD; i++)
        ok(tk_detok_push(d, 3 + (i % 3 == 0 ? 0xE6 : i % 3 == 1 ? 0xBC : 0xA2), &out));
    assert_int_equal(out.len, TK_DETOK_HOLD / 3 * 3); /* not held for ever */
    tk_detok_free(d);
    out.len = 0;
    ok(tk_decode(t, &hi, 1, TK_DECODE_CONTINUE, &out));
    assert_string_equal(out.data, " the");
    tk_buf_free(&out);
    tk_tokenizer_free(t);

    t = open_named("gpt2");
    ok(tk_detok_new(&d, t, 0));
    memset(&out, 0, sizeof out);
    for (const char *s = "\xF0\x9F\x91\x8D!"; *s; s++) {
        tk_str letter = tk__byte_letters((uint8_t)*s);
        ok(tk_detok_push(d, tk_tokenizer_find(t, letter), &out));
        assert_int_equal(out.len, *s == '!' ? 5 : s[1] == '!' ? 4 : 0);
    }
    tk_buf_free(&out);
    tk_detok_free(d);
    tk_tokenizer_free(t);
}

static void *encode_often(void *arg) {
    const tk_tokenizer *t = arg;
    const char *s = "The truth is universally acknowledged, isn't it? \xC3\xA9 12345";
    size_t bad = 0;
    tk_ids want = { 0 };
    bad += tk_encode(t, s, strlen(s), 0, &want) != TK_OK;
    for (int i = 0; i < 2000; i++) {
        tk_ids ids = { 0 };
        bad += tk_encode(t, s, strlen(s), 0, &ids) != TK_OK;
        bad += ids.n != want.n || memcmp(ids.id, want.id, ids.n * sizeof *ids.id);
        tk_ids_free(&ids);
    }
    tk_ids_free(&want);
    return (void *)bad;
}

static void threads_share_a_tokenizer(void **state) {
    (void)state;
    tk_tokenizer *t = open_named("llama3");
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(thread[i], &bad);
        assert_null(bad);
    }
    tk_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hugging_face_cases),
        cmocka_unit_test(gguf_arrays_give_the_same_ids),
        cmocka_unit_test(gguf_special_tokens),
        cmocka_unit_test(splitters_agree_with_regex),
        cmocka_unit_test(classes_have_unicode_16_counts),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(runaway_pattern_is_stopped),
        cmocka_unit_test(long_runs_are_fast),
        cmocka_unit_test(questions),
        cmocka_unit_test(streaming_holds_back),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
