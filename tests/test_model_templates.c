/* SPDX-License-Identifier: Apache-2.0 */
/* The chat templates of models: where they are looked for, which place wins, which template is chosen, as
 * transformers' get_chat_template does it; and what damaged ones lead to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "model/model.h"

static char folder[] = "/tmp/tokamak-templates-XXXXXX";
static const char *const files[] = { "tokenizer.json",
                                     "tokenizer_config.json",
                                     "chat_template.jinja",
                                     "additional_chat_templates/tool_use.jinja",
                                     "additional_chat_templates/rag.jinja",
                                     "additional_chat_templates/README.md",
                                     "m.gguf" };

static const char *in_folder(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}
static void put(const char *name, const char *bytes, size_t n) {
    FILE *f = fopen(in_folder(name), "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
}
static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) && !mkdir(in_folder("additional_chat_templates"), 0700) ? 0 : -1;
}
static int clear_folder(void **state) {
    (void)state;
    for (size_t i = 0; i < TK_COUNT(files); i++) unlink(in_folder(files[i]));
    return 0;
}
static int remove_folder(void **state) {
    clear_folder(state);
    return rmdir(in_folder("additional_chat_templates")) || rmdir(folder);
}

/* want NULL: it fails with `words` */
static void chooses(const tk_modelfile *f, const char *name, bool tools, const char *want,
                    const char *words) {
    const char *text;
    tk_status s = tk_modelfile_template(f, name, tools, &text);
    assert_int_equal(s, want ? TK_OK : TK_E_NOTFOUND);
    if (want)
        assert_string_equal(text, want);
    else
        assert_non_null(strstr(tk_error(), words));
}

static tk_modelfile *open_ok(const char *name) {
    tk_modelfile *f;
    if (tk_modelfile_open(&f, name, &(tk_modelfile_options){ .vocab_only = true }) != TK_OK)
        fail_msg("%s", tk_error());
    return f;
}
static void refused(const char *name, const char *words) {
    tk_modelfile *f;
    assert_int_equal(tk_modelfile_open(&f, name, &(tk_modelfile_options){ .vocab_only = true }), TK_E_FORMAT);
    assert_non_null(strstr(tk_error(), words));
}
static void config(const char *template) {
    char text[512];
    int n = snprintf(text, sizeof text, "{\"chat_template\": %s}", template);
    put("tokenizer.json", "{}", 2);
    put("tokenizer_config.json", text, (size_t)n);
}

static void in_tokenizer_config(void **state) {
    (void)state;
    static const char *const several[] = {
        "[{\"name\":\"rag\",\"template\":\"R\"},{\"name\":\"default\",\"template\":\"D\"},"
        "{\"name\":\"tool_use\",\"template\":\"T\"}]",
        "{\"default\":\"D\",\"tool_use\":\"T\",\"rag\":\"R\"}",
    };
    for (size_t i = 0; i < TK_COUNT(several); i++) {
        config(several[i]);
        tk_modelfile *f = open_ok(folder);
        int n;
        tk_modelfile_templates(f, &n);
        assert_int_equal(n, 3);
        chooses(f, NULL, false, "D", NULL);
        chooses(f, NULL, true, "T", NULL);
        chooses(f, "rag", true, "R", NULL);
        chooses(f, "chat", false, NULL, "rag");
        tk_modelfile_free(f);
    }
    config("\"plain\"");
    tk_modelfile *f = open_ok(folder);
    chooses(f, NULL, true, "plain", NULL);
    chooses(f, "tool_use", true, NULL, "named \"tool_use\"");
    tk_modelfile_free(f);
    config("[{\"name\":\"rag\",\"template\":\"R\"}]");
    f = open_ok(folder);
    chooses(f, NULL, false, NULL, "named \"default\"");
    tk_modelfile_free(f);
    config("null");
    f = open_ok(folder);
    chooses(f, NULL, false, NULL, "no chat template");
    tk_modelfile_free(f);
}

static void in_files(void **state) {
    (void)state;
    config("{\"default\":\"old\",\"other\":\"old\"}");
    put("additional_chat_templates/rag.jinja", "R\n", 2);
    put("additional_chat_templates/README.md", "no", 2);
    tk_modelfile *f = open_ok(folder); /* files replace all of tokenizer_config.json's, even its default */
    chooses(f, "rag", false, "R\n", NULL);
    chooses(f, NULL, false, NULL, "named \"default\"");
    tk_modelfile_free(f);
    put("additional_chat_templates/tool_use.jinja", "T", 1);
    put("chat_template.jinja", "new", 3);
    f = open_ok(folder);
    int n;
    tk_modelfile_templates(f, &n);
    assert_int_equal(n, 3);
    chooses(f, NULL, false, "new", NULL);
    chooses(f, NULL, true, "T", NULL);
    chooses(f, "other", true, NULL, "default, rag, tool_use");
    tk_modelfile_free(f);
}

static void damaged(void **state) {
    (void)state;
    static const char *const bad[] = { "5",         "[5]", "[{\"name\":\"a\"}]", "[{\"template\":\"a\"}]",
                                       "{\"a\":1}", "[[]]" };
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        config(bad[i]);
        refused(folder, "neither text nor named text");
    }
    config("[{\"name\":\"a\",\"template\":\"1\"},{\"name\":\"a\",\"template\":\"2\"}]");
    refused(folder, "twice");
    config("\"a\\u0000b\"");
    refused(folder, "NUL");
    config("null");
    put("additional_chat_templates/rag.jinja", "a\0b", 3);
    refused(folder, "NUL");
    tk_buf many = { 0 };
    for (int i = 0; i < 65; i++) tk_buf_printf(&many, "%s\"t%d\":\"\"", i ? "," : "{\"chat_template\":{", i);
    tk_buf_puts(&many, "}}");
    put("tokenizer_config.json", many.data, many.len);
    tk_buf_free(&many);
    tk_modelfile *f;
    assert_int_equal(tk_modelfile_open(&f, folder, &(tk_modelfile_options){ .vocab_only = true }),
                     TK_E_LIMIT);
}

static void put_string(tk_buf *b, const char *s) {
    uint64_t n = strlen(s);
    tk_buf_put(b, &n, 8);
    tk_buf_put(b, s, n);
}
static void gguf(const char *const (*pairs)[2], uint64_t n) {
    tk_buf b = { 0 };
    uint32_t version = 3, text = 8;
    uint64_t none = 0;
    tk_buf_put(&b, "GGUF", 4), tk_buf_put(&b, &version, 4), tk_buf_put(&b, &none, 8), tk_buf_put(&b, &n, 8);
    for (uint64_t i = 0; i < n; i++) {
        put_string(&b, pairs[i][0]);
        tk_buf_put(&b, &text, 4);
        put_string(&b, pairs[i][1]);
    }
    put("m.gguf", b.data, b.len);
    tk_buf_free(&b);
}

static void in_gguf(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        { "tokenizer.chat_template.rag", "R" },      { "tokenizer.chat_template", "D" },
        { "tokenizer.chat_template.tool_use", "T" }, { "tokenizer.chat_templates", "none" },
        { "tokenizer.chat_template_x", "none" },
    };
    gguf(pairs, TK_COUNT(pairs));
    tk_modelfile *f = open_ok(in_folder("m.gguf"));
    int n;
    tk_modelfile_templates(f, &n);
    assert_int_equal(n, 3);
    chooses(f, NULL, false, "D", NULL);
    chooses(f, NULL, true, "T", NULL);
    chooses(f, "rag", false, "R", NULL);
    tk_modelfile_free(f);
    static const char *const twice[][2] = { { "tokenizer.chat_template.default", "R" },
                                            { "tokenizer.chat_template", "D" } };
    gguf(twice, 2);
    refused(in_folder("m.gguf"), "twice");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(in_tokenizer_config, clear_folder),
        cmocka_unit_test_teardown(in_files, clear_folder),
        cmocka_unit_test_teardown(damaged, clear_folder),
        cmocka_unit_test_teardown(in_gguf, clear_folder),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
