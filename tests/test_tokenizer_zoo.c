/* SPDX-License-Identifier: Apache-2.0 */
/* Tokenizers that together use every stage and option of a tokenizer.json, SentencePiece models and a
 * tiktoken file, against what the libraries they belong to make of hostile strings
 * (tests/data/tokenizers/zoo.json, by tools/make_zoo_vectors.py); Split patterns; older folders; damaged
 * files. */
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tokens.h"

#define DATA "tests/data/tokenizers/"

static void show(const tk_ids *ids) {
    for (size_t i = 0; i < ids->n; i++) print_error(" %d", ids->id[i]);
    print_error("\n");
}

static void check_encode(const tk_tokenizer *t, tk_str text, unsigned flags, const json_t *want,
                         const char *name) {
    tk_ids ids = { 0 };
    ok(tk_encode(t, text.s, text.n, flags, &ids));
    bool same = ids.n == json_array_size(want);
    for (size_t i = 0; same && i < ids.n; i++)
        same = ids.id[i] == json_integer_value(json_array_get(want, i));
    if (!same) {
        char *dump = json_dumps(want, JSON_COMPACT);
        print_error("%s, flags %u: \"%.*s\" should be %s, is", name, flags, (int)text.n, text.s, dump);
        show(&ids);
        free(dump);
    }
    assert_true(same);
    tk_ids_free(&ids);
}

static void check_text(const tk_buf *b, const json_t *want, const tk_ids *ids, const char *name) {
    bool same =
        b->len == json_string_length(want) && (!b->len || !memcmp(b->data, json_string_value(want), b->len));
    if (!same) {
        print_error("%s: should be \"%s\", is \"%.*s\", of", name, json_string_value(want), (int)b->len,
                    b->data ? b->data : "");
        show(ids);
    }
    assert_true(same);
}

/* Whole, and token by token. */
static void check_decode(const tk_tokenizer *t, const json_t *list, unsigned flags, const json_t *want,
                         const char *name) {
    tk_ids ids = { 0 };
    tk_buf whole = { 0 }, parts = { 0 };
    for (size_t i = 0; i < json_array_size(list); i++)
        ok(tk_ids_push(&ids, (int32_t)json_integer_value(json_array_get(list, i))));
    ok(tk_decode(t, ids.id, ids.n, flags, &whole));
    check_text(&whole, want, &ids, name);
    stream(t, ids.id, ids.n, flags, &parts);
    check_text(&parts, want, &ids, name);
    tk_buf_free(&whole);
    tk_buf_free(&parts);
    tk_ids_free(&ids);
}

static tk_str text_of(const json_t *row) {
    const json_t *s = json_array_get(row, 0);
    return (tk_str){ json_string_value(s), json_string_length(s) };
}

static void check_json(const json_t *e, size_t which) {
    char name[32], *text = json_dumps(json_object_get(e, "json"), JSON_COMPACT | JSON_REAL_PRECISION(17));
    tk_tokenizer *t;
    size_t i;
    json_t *row;
    snprintf(name, sizeof name, "zoo %zu", which);
    ok(tk_tokenizer_from_json(&t, (tk_str){ text, strlen(text) }, NULL));
    json_array_foreach(json_object_get(e, "cases"), i, row) {
        for (unsigned flags = 0; flags < 4; flags++)
            check_encode(t, text_of(row), flags, json_array_get(row, 1 + flags), name);
        for (unsigned skip = 0; skip < 2; skip++)
            check_decode(t, json_array_get(row, 5), skip, json_array_get(row, 6 + skip), name);
    }
    tk_tokenizer_free(t);
    free(text);
}

static void check_file(const json_t *e) {
    char path[128];
    const char *name = json_string_value(json_object_get(e, "file"));
    tk_tokenizer *t;
    size_t i;
    json_t *row;
    snprintf(path, sizeof path, DATA "%s", name);
    ok(tk_tokenizer_open(&t, path));
    for (int round = 0; round < 2; round++) /* again, with the cache of words warm */
        json_array_foreach(json_object_get(e, "cases"), i, row) {
            check_encode(t, text_of(row), 0, json_array_get(row, 1), name);
            check_decode(t, json_array_get(row, 2), 0, json_array_get(row, 3), name);
        }
    tk_tokenizer_free(t);
}

static void libraries_agree(void **state) {
    (void)state;
    json_error_t error;
    json_t *all = json_load_file(DATA "zoo.json", JSON_ALLOW_NUL, &error), *e;
    size_t i;
    assert_true(json_array_size(all) > 40);
    json_array_foreach(all, i, e) {
        if (json_object_get(e, "file"))
            check_file(e);
        else
            check_json(e, i);
    }
    json_decref(all);
}

static tk_status open_split(tk_tokenizer **t, const json_t *document, const char *pattern,
                            const char *behavior, bool inverted) {
    json_t *j = json_deep_copy(document);
    json_t *split = json_array_get(json_object_get(json_object_get(j, "pre_tokenizer"), "pretokenizers"), 0);
    json_object_set_new(split, "pattern", json_pack("{ss}", "Regex", pattern));
    json_object_set_new(split, "behavior", json_string(behavior));
    json_object_set_new(split, "invert", json_boolean(inverted));
    char *text = json_dumps(j, JSON_COMPACT);
    tk_status r = tk_tokenizer_from_json(t, (tk_str){ text, strlen(text) }, NULL);
    free(text);
    json_decref(j);
    return r;
}

/* Random patterns of every behavior, many with empty matches: rows of make_split_vectors.py. */
static void splits_agree(void **state) {
    (void)state;
    static const char *const misread[] = { "[^[^a-c]&&[^\\p{Pi}\\P{Pi}]]", "[^[^[:^ascii:]S]]" };
    json_error_t error;
    json_t *all = json_load_file(DATA "split.json", 0, &error), *row;
    const json_t *document = json_object_get(all, "document");
    tk_tokenizer *t = NULL;
    size_t i;
    assert_true(json_array_size(json_object_get(all, "rows")) >= 400);
    json_array_foreach(json_object_get(all, "rows"), i, row) {
        const char *pattern = json_string_value(json_array_get(row, 0));
        const json_t *text = json_array_get(row, 3);
        ok(open_split(&t, document, pattern, json_string_value(json_array_get(row, 1)),
                      json_is_true(json_array_get(row, 2))));
        check_encode(t, (tk_str){ json_string_value(text), json_string_length(text) }, 0,
                     json_array_get(row, 4), pattern);
        tk_tokenizer_free(t);
    }
    for (i = 0; i < TK_COUNT(misread); i++) { /* by Oniguruma, not by us */
        assert_int_equal(open_split(&t, document, misread[i], "Isolated", false), TK_E_UNSUPPORTED);
        assert_non_null(strstr(tk_error(), misread[i]));
    }
    json_decref(all);
}

/* Cut off anywhere and damaged at random, a model is refused or works. */
static void damaged_models(void **state) {
    (void)state;
    static const char *const names[] = { "sp-unigram.model", "sp-bpe.model", "sp-unused.model",
                                         "small_r50k.tiktoken" };
    unsigned seed = 4;
    for (size_t k = 0; k < TK_COUNT(names); k++) {
        char path[128];
        tk_buf b = { 0 };
        snprintf(path, sizeof path, DATA "%s", names[k]);
        ok(tk_file_read(&b, path, 1 << 20));
        for (int round = 0; round < 300; round++) {
            size_t n = round % 3 ? b.len : (size_t)rand_r(&seed) % b.len, at = (size_t)rand_r(&seed) % b.len;
            char was = b.data[at];
            tk_tokenizer *t = NULL;
            tk_ids ids = { 0 };
            if (round % 3) b.data[at] = (char)rand_r(&seed);
            if (k < 3 && tk_tokenizer_from_sentencepiece(&t, b.data, n) == TK_OK) {
                tk_buf out = { 0 };
                if (tk_encode(t, "  the <mask> \xE2\x96\x81\xC3\xA9 123", 21, 3, &ids) == TK_OK)
                    ok(tk_decode(t, ids.id, ids.n, 0, &out));
                tk_buf_free(&out);
            }
            if (k == 3)
                assert_int_not_equal(tk__tokenizer_from_tiktoken(&t, (tk_str){ b.data, n }, "", NULL), TK_OK);
            if (k == 3) (void)tk__tokenizer_from_tiktoken(&t, (tk_str){ b.data, n }, "r50k", NULL);
            tk_ids_free(&ids);
            tk_tokenizer_free(t);
            b.data[at] = was;
        }
        tk_buf_free(&b);
    }
}

/* SentencePiece knows a byte by one spelling. */
static void byte_pieces_are_spelled_exactly(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "<0x0a>", "<0x+A>", "<0x A>", "<0xA >", "<0X0A>", "[0x0A>", "<0x0A]"
    };
    tk_buf b = { 0 };
    ok(tk_file_read(&b, DATA "sp-bpe.model", 1 << 20));
    char *at = memmem(b.data, b.len, "<0x0A>", 6);
    assert_non_null(at);
    for (size_t i = 0; i < TK_COUNT(wrong); i++) {
        tk_tokenizer *t;
        memcpy(at, wrong[i], 6);
        assert_int_equal(tk_tokenizer_from_sentencepiece(&t, b.data, b.len), TK_E_FORMAT);
        assert_non_null(strstr(tk_error(), "a byte piece"));
    }
    tk_buf_free(&b);
}

static void put(const char *folder, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    fclose(f);
}

static void remove_file(const char *folder, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static void folder_gives(const char *folder, const char *text, const char *pieces) {
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    tk_buf b = { 0 };
    ok(tk_tokenizer_open(&t, folder));
    ok(tk_encode(t, text, strlen(text), 3, &ids));
    for (size_t i = 0; i < ids.n; i++) {
        tk_str p = tk_tokenizer_piece(t, ids.id[i]);
        tk_buf_printf(&b, "%s%.*s", i ? "|" : "", (int)p.n, p.s);
    }
    assert_string_equal(b.data, pieces);
    tk_buf_free(&b);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);
}

static void folders_of_before(void **state) {
    (void)state;
    char folder[] = "/tmp/tokamak-test-XXXXXX";
    tk_tokenizer *t;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(tk_tokenizer_open(&t, folder), TK_E_NOTFOUND);
    put(folder, "vocab.json",
        "{\"a\":0,\"b\":1,\"\xC4\xA0\":2,\"ab\":3,\"\xC4\xA0"
        "ab\":4,\"<|endoftext|>\":5,\"<s>\":6,\"</s>\":7,\"<mask>\":8}");
    put(folder, "merges.txt", "#version: 0.2\na b\n\xC4\xA0 ab\n");
    folder_gives(folder, "ab ab<|endoftext|>",
                 "ab|\xC4\xA0"
                 "ab|<|endoftext|>");
    put(folder, "tokenizer_config.json",
        "{\"tokenizer_class\":\"RobertaTokenizerFast\",\"add_prefix_space\":true}");
    folder_gives(folder, "ab <mask>",
                 "<s>|\xC4\xA0"
                 "ab|<mask>|</s>");
    put(folder, "tokenizer_config.json", "{\"tokenizer_class\":\"CLIPTokenizer\"}");
    assert_int_equal(tk_tokenizer_open(&t, folder), TK_E_UNSUPPORTED);
    remove_file(folder, "merges.txt");
    put(folder, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\nthe\n##s\nE\n");
    put(folder, "tokenizer_config.json", "{\"tokenizer_class\":\"BertTokenizer\"}");
    folder_gives(folder, "Thes \xC3\xA9 [SEP]", "[CLS]|the|##s|[UNK]|[SEP]|[SEP]");
    put(folder, "tokenizer_config.json", "{\"do_lower_case\":false,\"strip_accents\":true}");
    folder_gives(folder, "\xC3\x89 the", "[CLS]|E|the|[SEP]");
    static const char *const names[] = { "vocab.json", "vocab.txt", "tokenizer_config.json" };
    for (size_t i = 0; i < TK_COUNT(names); i++) remove_file(folder, names[i]);

    tk_buf b = { 0 };
    char path[256];
    ok(tk_file_read(&b, DATA "sp-bpe.model", 1 << 20));
    snprintf(path, sizeof path, "%s/tokenizer.model", folder);
    FILE *f = fopen(path, "wb");
    assert_true(f && fwrite(b.data, 1, b.len, f) == b.len && !fclose(f));
    tk_buf_free(&b);
    put(folder, "tokenizer_config.json",
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"added_tokens_decoder\":{\"9000\":{\"content\":\"<x>\","
        "\"special\":true}}}");
    folder_gives(folder, "\xE2\x96\x81<x>", "<s>|\xE2\x96\x81|\xE2\x96\x81|<x>");
    put(folder, "tokenizer_config.json", "{\"tokenizer_class\":\"XLMRobertaTokenizer\"}");
    assert_int_equal(tk_tokenizer_open(&t, folder), TK_E_UNSUPPORTED);
    remove_file(folder, "tokenizer.model");
    remove_file(folder, "tokenizer_config.json");
    rmdir(folder);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A million equal letters take no more than a few seconds in any model. */
static void long_words_are_linear(void **state) {
    (void)state;
    static const char *const models[] = {
        "{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"aa\",-1.5],["
        "\"aaaaaaaaaaaaaaaa\",-3]]}",
        "{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\",\"max_input_chars_"
        "per_word\":"
        "100000000,\"vocab\":{\"u\":0,\"a\":1,\"aa\":2,\"aaaaaaaaab\":3}}",
        "{\"type\":\"BPE\",\"continuing_subword_prefix\":\"#\",\"vocab\":{\"a\":0,\"#a\":1,\"aa\":2,\"#aa\":"
        "3},\"merges\":"
        "[[\"a\",\"#a\"],[\"#a\",\"#a\"]]}",
    };
    enum { N = 1 << 20 };
    char *text = malloc(N);
    memset(text, 'a', N);
    for (size_t i = 0; i < TK_COUNT(models); i++) {
        char json[512];
        tk_tokenizer *t;
        tk_ids ids = { 0 };
        snprintf(json, sizeof json, "{\"model\":%s}", models[i]);
        ok(tk_tokenizer_from_json(&t, (tk_str){ json, strlen(json) }, NULL));
        double start = seconds();
        ok(tk_encode(t, text, N, 0, &ids));
        assert_true(ids.n >= N / 16 && ids.n <= N / 2);
        assert_true(seconds() - start < 5);
        tk_ids_free(&ids);
        tk_tokenizer_free(t);
    }
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libraries_agree),   cmocka_unit_test(splits_agree),
        cmocka_unit_test(damaged_models),    cmocka_unit_test(byte_pieces_are_spelled_exactly),
        cmocka_unit_test(folders_of_before), cmocka_unit_test(long_words_are_linear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
