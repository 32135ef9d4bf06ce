/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF files in parts, as gguf-py splits them (tools/make_model_files.py): any part opens the whole model;
 * parts that are missing, renamed, swapped or that lie about themselves are refused by name. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/split.h"
#include "model/model.h"

#define PART(n) "gguf-split-0000" #n "-of-00003.gguf"
static const char *const parts[3] = { PART(1), PART(2), PART(3) };
static char dir[64];

static int remove_dir(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static const char *in_dir(const char *name) {
    static char path[2][256];
    static int turn;
    snprintf(path[turn ^= 1], sizeof path[0], "%s/%s", dir, name);
    return path[turn];
}

static void put(const char *name, const tk_buf *b) {
    FILE *f = fopen(in_dir(name), "wb");
    if (!f || fwrite(b->data, 1, b->len, f) != b->len || fclose(f)) fail_msg("cannot write %s", name);
}

static tk_buf load(const char *name) {
    char path[256];
    tk_buf b = { 0 };
    snprintf(path, sizeof path, "tests/data/models/%s", name);
    if (tk_file_read(&b, path, 1 << 20) != TK_OK) fail_msg("%s", tk_error());
    return b;
}

/* All three parts, as they are, in a fresh folder */
static int fresh(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tokamak-split-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    for (int i = 0; i < 3; i++) {
        tk_buf b = load(parts[i]);
        put(parts[i], &b);
        tk_buf_free(&b);
    }
    return 0;
}

/* Where a part has the value of a key (after its type, which is returned in *type) */
static char *value_of(tk_buf *b, const char *key, uint32_t *type) {
    char *at = memmem(b->data, b->len, key, strlen(key));
    assert_non_null(at);
    *type = tk_le32(at + strlen(key));
    return at + strlen(key) + 4;
}

static void patch(const char *name, const char *key, uint32_t value) {
    tk_buf b = load(name);
    uint32_t type;
    char *at = value_of(&b, key, &type);
    memcpy(at, &value, type == 2 || type == 3 ? 2 : 4);
    put(name, &b);
    tk_buf_free(&b);
}

static void refused(const char *name, tk_status want, const char *words) {
    tk_modelfile *f;
    tk_status s = tk_modelfile_open(&f, in_dir(name), NULL);
    if (s == TK_OK) fail_msg("%s opened; should tell of %s", name, words);
    if (s != want || !strstr(tk_error(), words))
        fail_msg("%s: status %d, %s\nwanted %d, %s", name, s, tk_error(), want, words);
}

static void any_part_opens_all(void **state) {
    (void)state;
    for (int i = 0; i < 3; i++) {
        tk_modelfile *f;
        int n, meta;
        if (tk_modelfile_open(&f, in_dir(parts[i]), NULL) != TK_OK) fail_msg("%s", tk_error());
        tk_modelfile_tensors(f, &n);
        assert_int_equal(n, 21);
        assert_string_equal(tk_modelfile_format(f), "GGUF v3 in 3 parts");
        assert_string_equal(tk_modelfile_path(f), in_dir(parts[0]));
        tk_modelfile_meta(f, &meta);
        assert_true(meta > 10); /* the first part's, not the asked one's four */
        assert_int_equal(tk_modelfile_config(f)->n_layer, 2);
        tk_modelfile_free(f);
    }
}

static void vocabulary_needs_the_first_part_only(void **state) {
    (void)state;
    tk_modelfile *f;
    unlink(in_dir(parts[2]));
    tk_modelfile_options o = { .vocab_only = true };
    assert_int_equal(tk_modelfile_open(&f, in_dir(parts[1]), &o), TK_OK);
    tk_modelfile_free(f);
}

static void missing_parts_are_named(void **state) {
    (void)state;
    unlink(in_dir(parts[2]));
    refused(parts[0], TK_E_NOTFOUND, PART(3) " is missing");
    refused(parts[1], TK_E_NOTFOUND, PART(3) " is missing");
    unlink(in_dir(parts[0]));
    refused(parts[1], TK_E_NOTFOUND, PART(1) " is missing");
}

static void damaged_parts(void **state) {
    (void)state;
    tk_buf b = load(parts[1]);
    for (size_t n = 0; n < b.len; n = n * 2 + 3) {
        tk_buf cut = { b.data, n };
        put(parts[1], &cut);
        refused(parts[0], TK_E_FORMAT, PART(2));
    }
    put(parts[1], &b);
    b.data[0] ^= 1;
    put(parts[1], &b);
    refused(parts[0], TK_E_FORMAT, "no GGUF file");
    tk_buf_free(&b);
}

static void renamed_parts(void **state) {
    (void)state;
    rename(in_dir(parts[0]), in_dir("model.gguf"));
    refused("model.gguf", TK_E_FORMAT, "-00003.gguf");
    rename(in_dir("model.gguf"), in_dir("gguf-split-00001-of-00002.gguf"));
    refused("gguf-split-00001-of-00002.gguf", TK_E_FORMAT, "-00003.gguf");
    rename(in_dir("gguf-split-00001-of-00002.gguf"), in_dir(parts[1])); /* part 1 twice */
    tk_buf b = load(parts[0]);
    put(parts[0], &b);
    tk_buf_free(&b);
    refused(parts[0], TK_E_FORMAT, "part 2 of 3");
}

static void parts_that_lie(void **state) {
    (void)state;
    static const struct {
        int part;
        const char *key;
        uint32_t value;
        const char *words;
    } lies[] = {
        { 0, "split.count", 65535, "split.count" },
        { 0, "split.count", 4000, "-04000.gguf" },
        { 0, "split.count", 2, "-00002.gguf" },
        { 0, "split.no", 3, "part 4 of 3" },
        { 0, "split.no", 1, "part 1 of 3" },
        { 0, "split.no", 40000, "split.no" },
        { 0, "split.tensors.count", 20, "not part 2 of 3" },
        { 0, "split.tensors.count", 0x80000000u, "split.tensors.count" },
        { 1, "split.no", 0, "not part 2 of 3" },
        { 1, "split.no", 2, "not part 2 of 3" },
        { 1, "split.count", 1, "part 2 of 1" },
        { 2, "split.tensors.count", 22, "not part 3 of 3" },
    };
    for (size_t i = 0; i < TK_COUNT(lies); i++) {
        patch(parts[lies[i].part], lies[i].key, lies[i].value);
        refused(parts[0], TK_E_FORMAT, lies[i].words);
        tk_buf b = load(parts[lies[i].part]);
        put(parts[lies[i].part], &b);
        tk_buf_free(&b);
    }
    for (int i = 0; i < 3; i++) patch(parts[i], "split.tensors.count", 22);
    refused(parts[0], TK_E_FORMAT, "hold 21 tensors");
}

static void a_tensor_twice(void **state) {
    (void)state;
    tk_buf b = load(parts[0]), c = load(parts[1]);
    uint32_t type;
    memcpy(value_of(&b, "split.no", &type), "\1", 2); /* the first part's tensors again, as the second's */
    memcpy(value_of(&c, "split.no", &type), "\1", 2);
    put(parts[1], &b);
    refused(parts[0], TK_E_FORMAT, "there twice");
    tk_buf_free(&b), tk_buf_free(&c);
}

static void names(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int part, parts;
    } rows[] = {
        { "a-00001-of-00002.gguf", 1, 2 },
        { "d/-04096-of-04096.gguf", 4096, 4096 },
        { "a-00001-of-04097.gguf", 0, 0 },
        { "a-00000-of-00002.gguf", 0, 0 },
        { "a-00003-of-00002.gguf", 0, 0 },
        { "a-0001-of-00002.gguf", 0, 0 },
        { "a-00001-of-0000x.gguf", 0, 0 },
        { "-00001-of-00002.ggu", 0, 0 },
        { "00001-of-00002.gguf", 0, 0 },
        { "a-00001-of-00002.gguf2", 0, 0 },
        { "", 0, 0 },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        tk_split_name s;
        const bool is = tk_split_parse(rows[i].name, &s);
        if (is != (rows[i].part > 0)) fail_msg("%s", rows[i].name);
        if (!is) continue;
        char tail[TK_SPLIT_TAIL + 1];
        assert_true(s.part == rows[i].part && s.parts == rows[i].parts);
        tk_split_tail(tail, &s, s.part);
        assert_string_equal(tail, rows[i].name + s.stem);
    }
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, fresh, remove_dir)
    const struct CMUnitTest tests[] = {
        FRESH(any_part_opens_all),      FRESH(vocabulary_needs_the_first_part_only),
        FRESH(missing_parts_are_named), FRESH(damaged_parts),
        FRESH(renamed_parts),           FRESH(parts_that_lie),
        FRESH(a_tensor_twice),          cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
