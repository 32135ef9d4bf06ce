/* SPDX-License-Identifier: Apache-2.0 */
/* Large tokenizer.json files: their tables are read apart from the document, as strictly as the rest, and
 * kept compiled in a cache that no damage to its files can turn into anything but a slower start. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>
#include <xxhash.h>

#include "tokens.h"

/* ---- the reader -----------------------------------------------------------------------------------------
 */

static tk_status open_text(tk_tokenizer **t, const char *vocab, const char *merges) {
    tk_buf b = { 0 };
    tk_buf_printf(&b, "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":%s,\"merges\":%s}}", vocab,
                  merges);
    tk_status s = tk_tokenizer_from_json(t, (tk_str){ b.data, b.len }, NULL);
    tk_buf_free(&b);
    return s;
}

static void odd_spellings_are_read(void **state) {
    (void)state;
    static const char *const vocabs[] = {
        "{\"a\":0,\"b\":1,\"ab\":2,\"\xF0\x9F\x91\x8D\":3}",
        " { \"\\u0061\" : 0.0 , \"b\" : 1e0,\n\"a\\u0062\":2.0E+0,\t\"\\ud83d\\udc4d\":30e-1 } ",
    };
    static const char *const merges[] = { "[\"a b\"]", "[[\"a\",\"b\"]]", " [ [ \"a\" , \"\\u0062\" ] ] ",
                                          "[\"#version: 0.2\",\"a b\"]", "[\"a b\",[\"a\",\"b\"],\"a b\"]" };
    for (size_t v = 0; v < TK_COUNT(vocabs); v++)
        for (size_t m = 0; m < TK_COUNT(merges); m++) {
            tk_tokenizer *t;
            tk_ids ids = { 0 };
            ok(open_text(&t, vocabs[v], merges[m]));
            ok(tk_encode(t, "ab\xF0\x9F\x91\x8D", 6, 0, &ids));
            assert_int_equal(ids.n, 2);
            assert_int_equal(ids.id[0], 2);
            assert_int_equal(ids.id[1], 3);
            tk_ids_free(&ids);
            tk_tokenizer_free(t);
        }
}

static void zero_bytes_and_odd_ends_are_refused(void **state) {
    (void)state;
    static const char text[] =
        "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0\0\0},\"merges\":[]}}";
    tk_tokenizer *t;
    assert_int_equal(tk_tokenizer_from_json(&t, (tk_str){ text, sizeof text - 1 }, NULL), TK_E_FORMAT);
    static const char *const ends[] = {
        "", "{", "{{", "{\"model\"", "{\"model\":", "{\"model\":{", "{\"model\":{\"vocab\":{"
    };
    for (size_t i = 0; i < TK_COUNT(ends); i++)
        assert_int_equal(tk_tokenizer_from_json(&t, (tk_str){ ends[i], strlen(ends[i]) }, NULL), TK_E_FORMAT);
}

static void damaged_tables_are_refused(void **state) {
    (void)state;
    static const char *const vocabs[] = {
        "{\"a\":0,\"a\":1}",
        "{\"a\":0,\"\\u0061\":1}",
        "{\"a\":0,}",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":-1}",
        "{\"a\":1.5}",
        "{\"a\":1e400}",
        "{\"a\":true}",
        "{\"a\":\"0\"}",
        "{\"a\":[0]}",
        "{a:0}",
        "{\"a\":0 \"b\":1}",
        "{\"\\x\":0}",
        "{\"\\u00g0\":0}",
        "{\"\\ud800\":0}",
        "{\"\\ud800\\u0061\":0}",
        "{\"\\udc00\":0}",
        "{\"a\nb\":0}",
        "{\"\xff\":0}",
        "{\"a\":4194304}",
        "{\"a\":0}}",
        "{\"a\":0]",
        "{\"a\":99999999999999999999}",
        "{\"a\":+1}",
        "{\"a\":.5}",
    };
    static const char *const merges[] = {
        "[\"a b\",]",
        "[,]",
        "[\"a b\" \"a b\"]",
        "[\"ab\"]",
        "[\"a  b\"]",
        "[\"a b c\"]",
        "[\"\"]",
        "[[\"a\"]]",
        "[[\"a\",\"b\",\"a\"]]",
        "[[\"a\" \"b\"]]",
        "[[\"a\",1]]",
        "[{\"a\":\"b\"}]",
        "[1]",
        "[null]",
        "[\"a b\"]]",
        "[\"a c\"]",
        "[\"c a\"]",
        "[\"b a\"]",
        "[\"a b\"}",
        "[[\"a\",\"b\"]",
    };
    tk_tokenizer *t;
    for (size_t i = 0; i < TK_COUNT(vocabs); i++) {
        if (open_text(&t, vocabs[i], "[]") == TK_OK) fail_msg("%s was read", vocabs[i]);
        assert_int_equal(open_text(&t, vocabs[i], "[]"), TK_E_FORMAT);
    }
    for (size_t i = 0; i < TK_COUNT(merges); i++) {
        if (open_text(&t, "{\"a\":0,\"b\":1,\"ab\":2}", merges[i]) == TK_OK)
            fail_msg("%s was read", merges[i]);
        assert_int_equal(open_text(&t, "{\"a\":0,\"b\":1,\"ab\":2}", merges[i]), TK_E_FORMAT);
    }
    /* a second table of the same name, in either place */
    static const char *const twice[] = { "{}, \"vocab\":{}", "{}, \"merges\":[]" };
    for (size_t i = 0; i < TK_COUNT(twice); i++) assert_int_equal(open_text(&t, twice[i], "[]"), TK_E_FORMAT);
}

/* ---- the cache ------------------------------------------------------------------------------------------
 */

enum { LETTERS = 26, WORDS = 26 * 26 * 26 };

/* All words of three letters, by merges, in a document of more than TK_BIG bytes */
static void make_big(tk_buf *b, const char *comment) {
    tk_buf merges = { 0 };
    tk_buf_printf(b, "{\"comment\":\"%s\",\"model\":{\"type\":\"BPE\",\"vocab\":{", comment);
    int id = 0;
    for (int i = 0; i < LETTERS; i++) tk_buf_printf(b, "%s\"%c\":%d", i ? "," : "", 'a' + i, id++);
    for (int i = 0; i < LETTERS; i++)
        for (int k = 0; k < LETTERS; k++) {
            tk_buf_printf(b, ",\"%c%c\":%d", 'a' + i, 'a' + k, id++);
            tk_buf_printf(&merges, "%s[\"%c\",                \"%c\"]", merges.len ? "," : "", 'a' + i,
                          'a' + k);
        }
    for (int i = 0; i < WORDS; i++) {
        int x = i / (LETTERS * LETTERS), y = i / LETTERS % LETTERS, z = i % LETTERS;
        tk_buf_printf(b, ",\"%c%c%c\":          %d", 'a' + x, 'a' + y, 'a' + z, id++);
        tk_buf_printf(&merges, ",[\"%c%c\",\"%c\"]                            ", 'a' + x, 'a' + y, 'a' + z);
    }
    tk_buf_printf(b,
                  "},\"merges\":[%s]},\"added_tokens\":[{\"id\":%d,\"content\":\"<end>\",\"special\":true}]}",
                  merges.data, id);
    tk_buf_free(&merges);
    assert_true(b->len > TK_BIG);
}

static void check_big(const tk_buf *b) {
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    ok(tk_tokenizer_from_json(&t, (tk_str){ b->data, b->len }, NULL));
    ok(tk_encode(t, "abc<end>xyz<end>q", 17, TK_ENCODE_PARSE_SPECIAL, &ids));
    const int want[] = { 702 + 28, 702 + WORDS, 702 + 23 * 676 + 24 * 26 + 25, 702 + WORDS, 16 };
    assert_int_equal(ids.n, TK_COUNT(want));
    for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.id[i], want[i]);
    assert_int_equal(tk_tokenizer_size(t), 703 + WORDS);
    tk_ids_free(&ids);
    tk_tokenizer_free(t);
}

static char folder[] = "/tmp/tokamak-cache-XXXXXX";

/* The path of the one file in the cache; false: there is none. */
static bool only_file(char path[512]) {
    char sub[256];
    snprintf(sub, sizeof sub, "%s/tokenizers", folder);
    DIR *d = opendir(sub);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') n++, snprintf(path, 512, "%s/%.200s", sub, e->d_name);
    if (d) closedir(d);
    assert_true(n <= 1);
    return n;
}

enum { SIZE_AT = 32, SUM_AT = 40, HEAD = 152 };

/* A checksum that fits, for damage that only the other checks can see */
static void sign(tk_buf *b) {
    uint64_t sum = 0, size = b->len;
    memcpy(b->data + SIZE_AT, &size, 8);
    memcpy(b->data + SUM_AT, &sum, 8);
    sum = XXH3_64bits_withSeed(b->data + HEAD, b->len - HEAD, XXH3_64bits(b->data, HEAD));
    memcpy(b->data + SUM_AT, &sum, 8);
}

static void cache_is_used_and_mended(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    setenv("TOKAMAK_CACHE", folder, 1);
    char path[512], before[512];
    tk_buf doc = { 0 }, good = { 0 }, now = { 0 };
    make_big(&doc, "a");
    assert_false(only_file(path));
    check_big(&doc);
    assert_true(only_file(path));
    ok(tk_file_read(&good, path, 1 << 28));
    tk__image *image = tk__image_open(path, NULL);
    assert_non_null(image);
    assert_true(tk__image_rest(image).n < 200);
    tk__image_free(image);
    check_big(&doc);

    unsigned seed = 3;
    for (int i = 0; i < 60; i++) {
        tk_buf bad = { 0 };
        tk_buf_put(&bad, good.data, good.len);
        size_t at = i < 40 ? (size_t)rand_r(&seed) % 160 : (size_t)rand_r(&seed) % bad.len;
        bad.data[at] ^= (char)(1 << i % 8);
        if (i % 3 == 0) bad.len = (size_t)rand_r(&seed) % bad.len;
        ok(tk_file_write(path, bad.data, bad.len));
        check_big(&doc); /* reads the document, and writes the file anew unless the damage lay in padding */
        now.len = 0;
        ok(tk_file_read(&now, path, 1 << 28));
        image = tk__image_open(path, NULL);
        assert_non_null(image);
        tk__image_free(image);
        tk_buf_free(&bad);
    }
    snprintf(before, sizeof before, "%s", path);
    tk_buf other = { 0 };
    make_big(&other, "b"); /* another document is not taken for this one */
    ok(tk_file_write(path, good.data, good.len));
    unlink(path);
    check_big(&other);
    assert_true(only_file(path));
    assert_string_not_equal(path, before);
    ok(tk_file_write(path, good.data, good.len)); /* a file under another's name */
    check_big(&other);
    unlink(path);

    /* no place to write */
    setenv("TOKAMAK_CACHE", "/dev/null/cache", 1);
    check_big(&doc);
    tk_buf_free(&doc), tk_buf_free(&other), tk_buf_free(&good), tk_buf_free(&now);
}

static void signed_damage_is_seen(void **state) {
    (void)state;
    setenv("TOKAMAK_CACHE", folder, 1);
    char path[512];
    tk_buf doc = { 0 }, good = { 0 };
    make_big(&doc, "c");
    check_big(&doc);
    assert_true(only_file(path));
    ok(tk_file_read(&good, path, 1 << 28));
    unsigned seed = 5;
    int refused = 0;
    for (int i = 0; i < 300; i++) {
        static const uint32_t numbers[] = { 0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 1, 1000000 };
        tk_buf bad = { 0 };
        tk_buf_put(&bad, good.data, good.len);
        for (int k = 0; k < 3; k++) {
            size_t at =
                (i % 2 ? (size_t)rand_r(&seed) % bad.len : 48 + (size_t)rand_r(&seed) % 104) & ~(size_t)3;
            memcpy(bad.data + TK_MIN(at, bad.len - 4), &numbers[rand_r(&seed) % TK_COUNT(numbers)], 4);
        }
        sign(&bad);
        ok(tk_file_write(path, bad.data, bad.len));
        tk__image *image = tk__image_open(path, NULL);
        refused += !image;
        if (image) { /* wrong, but within bounds */
            tk_tokenizer *t;
            tk_ids ids = { 0 };
            ok(tk__tokenizer_new(&t, 0));
            t->image = image;
            ok(tk__cache_adopt(t, image));
            ok(tk__tokenizer_finish(t));
            ok(tk_encode(t, "abcxyzq abab", 12, 0, &ids));
            tk_ids_free(&ids);
            tk_tokenizer_free(t);
        }
        tk_buf_free(&bad);
    }
    assert_true(refused > 150);
    unlink(path);
    tk_buf_free(&doc), tk_buf_free(&good);
    char sub[256];
    snprintf(sub, sizeof sub, "%s/tokenizers", folder);
    rmdir(sub);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_spellings_are_read),
        cmocka_unit_test(damaged_tables_are_refused),
        cmocka_unit_test(zero_bytes_and_odd_ends_are_refused),
        cmocka_unit_test(cache_is_used_and_mended),
        cmocka_unit_test(signed_damage_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
