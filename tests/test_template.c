/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates against jinja2: vectors.json holds what it made of some thousand snippets and of the
 * templates beside it (tools/make_template_vectors.py). Then hostile templates, each of which must end in an
 * error of its kind, soon and within its memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>

#include "text/template.h"

static json_t *vectors;

static int load_vectors(void **state) {
    (void)state;
    json_error_t e;
    vectors = json_load_file("tests/data/templates/vectors.json", 0, &e);
    if (!vectors) print_message("vectors.json: line %d: %s\n", e.line, e.text);
    setenv("TZ", "UTC", 1);
    return vectors ? 0 : -1;
}
static int free_vectors(void **state) {
    (void)state;
    json_decref(vectors);
    return 0;
}

static tk_status render(const char *src, size_t n, const char *vars, const tk_template_limits *l,
                        tk_buf *out) {
    tk_template *t;
    TK_TRY(tk_template_parse(&t, src, n));
    tk_status s = tk_template_render(t, vars, strlen(vars), l, out);
    tk_template_free(t);
    return s;
}

/* want NULL: it must fail, with `words` in the message */
static bool agrees(const char *name, const char *src, size_t n, const char *vars, const char *want,
                   size_t want_n, const char *words) {
    tk_buf out = { 0 };
    tk_status s = render(src, n, vars, NULL, &out);
    bool ok = want ? s == TK_OK && out.len == want_n && (!want_n || memcmp(out.data, want, want_n) == 0)
                   : s != TK_OK && strstr(tk_error(), words);
    if (!ok) {
        print_message("%s: %.300s\n want: %s\n got:  %s\n", name, src, want ? want : words,
                      s == TK_OK ? (out.data ? out.data : "") : tk_error());
    }
    tk_buf_free(&out);
    return ok;
}

static void snippets_equal_jinja2(void **state) {
    (void)state;
    char *vars = json_dumps(json_object_get(vectors, "vars"), 0);
    json_t *one;
    size_t i, bad = 0;
    assert_true(json_array_size(json_object_get(vectors, "renders")) > 900);
    json_array_foreach(json_object_get(vectors, "renders"), i, one) {
        const json_t *src = json_array_get(one, 0), *want = json_array_get(one, 1);
        bad += !agrees("snippet", json_string_value(src), json_string_length(src), vars,
                       json_string_value(want), json_string_length(want), NULL);
    }
    json_array_foreach(json_object_get(vectors, "fails"), i, one) {
        const json_t *src = json_array_get(one, 0);
        bad += !agrees("failing snippet", json_string_value(src), json_string_length(src), vars, NULL, 0,
                       json_string_value(json_array_get(one, 1)));
    }
    free(vars);
    assert_int_equal(bad, 0);
}

/* Each thing that real templates were counted to use, by name */
static void named_features_equal_jinja2(void **state) {
    (void)state;
    char *vars = json_dumps(json_object_get(vectors, "vars"), 0);
    json_t *one;
    size_t i, bad = 0;
    assert_true(json_array_size(json_object_get(vectors, "named")) >= 75);
    json_array_foreach(json_object_get(vectors, "named"), i, one) {
        const json_t *src = json_array_get(one, 1), *want = json_array_get(one, 2);
        bad += !agrees(json_string_value(json_array_get(one, 0)), json_string_value(src),
                       json_string_length(src), vars, json_string_value(want), json_string_length(want),
                       json_string_value(json_array_get(one, 3)));
    }
    free(vars);
    assert_int_equal(bad, 0);
}

/* Templates and contexts that tools/fuzz_templates.py made up */
static void random_templates_equal_jinja2(void **state) {
    (void)state;
    json_t *all = json_load_file("tests/data/templates/random.json", 0, NULL), *one;
    size_t i, bad = 0;
    assert_true(json_array_size(all) >= 100);
    json_array_foreach(all, i, one) {
        const json_t *src = json_array_get(one, 0), *want = json_array_get(one, 2);
        char *vars = json_dumps(json_array_get(one, 1), 0);
        bad += !agrees("random", json_string_value(src), json_string_length(src), vars,
                       json_string_value(want), json_string_length(want), "");
        free(vars);
    }
    json_decref(all);
    assert_int_equal(bad, 0);
}

static void chats_equal_jinja2(void **state) {
    (void)state;
    json_t *one;
    size_t i, bad = 0;
    assert_true(json_array_size(json_object_get(vectors, "chats")) >= 200);
    json_array_foreach(json_object_get(vectors, "chats"), i, one) {
        char path[256];
        tk_buf src = { 0 };
        snprintf(path, sizeof path, "tests/data/templates/%s",
                 json_string_value(json_object_get(one, "template")));
        assert_int_equal(tk_file_read(&src, path, 1 << 20), TK_OK);
        size_t which = (size_t)json_integer_value(json_object_get(one, "conversation"));
        char *vars = json_dumps(json_array_get(json_object_get(vectors, "conversations"), which), 0);
        const json_t *text = json_object_get(one, "text"), *error = json_object_get(one, "error");
        bad += !agrees(path, src.data, src.len, vars, json_string_value(text), json_string_length(text),
                       json_string_value(error));
        free(vars);
        tk_buf_free(&src);
    }
    assert_int_equal(bad, 0);
}

/* The real templates, where the checkout has its neighbour: a plain conversation must come out of each. */
static void shared_templates_render(void **state) {
    (void)state;
    const char *shared = getenv("TOKAMAK_SHARED");
    char folder[512], path[1024];
    snprintf(folder, sizeof folder, "%s/chat_templates", shared ? shared : "../shared");
    DIR *d = opendir(folder);
    if (!d) {
        print_message("skipped: no shared files\n");
        return;
    }
    for (struct dirent *e; (e = readdir(d));) {
        if (!strstr(e->d_name, ".jinja")) continue;
        tk_buf src = { 0 }, out = { 0 };
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        assert_int_equal(tk_file_read(&src, path, 1 << 20), TK_OK);
        tk_status s = render(src.data, src.len,
                             "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi there\"}],\"tools\":[],"
                             "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}",
                             NULL, &out);
        if (s != TK_OK) print_message("%s: %s\n", e->d_name, tk_error());
        assert_int_equal(s, TK_OK);
        assert_non_null(strstr(out.data, "Hi there"));
        tk_buf_free(&src);
        tk_buf_free(&out);
    }
    closedir(d);
}

/* ---- limits and hostile input ------------------------------------------------------------------------ */

static const struct {
    const char *template;
    tk_status want;
    const char *words;
} hostile[] = {
    { "{{ 'a' * 1000000000000 }}", TK_E_LIMIT, "string" },
    { "{{ [0] * 1000000000000 }}", TK_E_LIMIT, "list" },
    { "{{ range(1000000000000) | list }}", TK_E_LIMIT, "Range too big" },
    { "{{ 'x' | center(1000000000000) }}", TK_E_LIMIT, "string" },
    { "{{ '%1000000000d' % 5 }}", TK_E_LIMIT, "string" },
    { "{{ '%99999999999999d' % 5 }}", TK_E_LIMIT, "width" },
    { "{{ '{:1000000000}'.format(5) }}", TK_E_LIMIT, "string" },
    { "{{ '%.100000f' % 1.5 }}", TK_E_LIMIT, "precision" },
    { "{{ 'a' | indent(1000000000000) }}", TK_E_LIMIT, "string" },
    { "{{ 'a\\tb'.expandtabs(1000000000000) }}", TK_E_LIMIT, "string" },
    { "{{ {} | tojson(indent=1000000000) }}", TK_E_LIMIT, "indent" },
    { "{{ [1] | batch(9000000000000000000, 0) | list }}", TK_E_LIMIT, "memory" },
    { "{{ [1] | slice(9000000000000000000) | list }}", TK_E_LIMIT, "memory" },
    { "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor "
      "%}",
      TK_E_LIMIT, "string" },
    { "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
      TK_E_LIMIT, "memory" },
    { "{% set ns = namespace(l=[1]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
      "}}",
      TK_E_LIMIT, "deeper" },
    { "{% set ns = namespace(l=[1]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
      "== [1] }}"
      "{{ ns.l | tojson }}",
      TK_E_LIMIT, "deeper" },
    { "{% set ns = namespace(l=[1], m=[1]) %}{% for i in range(5000) %}{% set ns.l = [ns.l] %}{% set ns.m = "
      "[ns.m] %}"
      "{% endfor %}{{ ns.l == ns.m }}",
      TK_E_LIMIT, "deeper" },
    { "{% set ns = namespace(k=(1,)) %}{% for i in range(5000) %}{% set ns.k = (ns.k,) %}{% endfor %}{{ "
      "{ns.k: 1} }}",
      TK_E_LIMIT, "deeper" },
    { "{% set ns = namespace(g=[1]) %}{% for i in range(5000) %}{% set ns.g = ns.g | map('string') %}{% "
      "endfor %}"
      "{{ ns.g | list }}",
      TK_E_LIMIT, "deeper" },
    { "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns }}", TK_E_LIMIT, "deeper" },
    { "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", TK_E_LIMIT, "deeper" },
    { "{% macro f(n) %}{{ f(n + 1) ~ f(n + 1) }}{% endmacro %}{{ f(0) }}", TK_E_LIMIT, "deeper" },
    { "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", TK_E_LIMIT, "deeper" },
    { "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", TK_E_LIMIT,
      "steps" },
    { "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}", TK_E_LIMIT, "" },
    { "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{{ 'b' in s }}{% endfor %}", TK_E_LIMIT, "" },
    { "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{% set t = s | upper %}{% endfor %}",
      TK_E_LIMIT, "" },
    { "{% set s = 'a' * 10000000 %}{% for a in range(100000) %}{{ s }}{% endfor %}", TK_E_LIMIT, "" },
    { "{% set s = 'é' * 5000000 %}{% for a in range(100000) %}{% if s[-1] %}{% endif %}{% endfor %}",
      TK_E_LIMIT, "" },
    { "{{ 9223372036854775807 + 1 }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ -9223372036854775807 - 2 }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ 99999999999 * 99999999999 }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ 2 ** 64 }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ 9999999999999999999 }}", TK_E_FORMAT, "64 bits" },
    { "{{ '99999999999999999999' | int }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ (-9223372036854775807 - 1) // -1 }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ [1][::-9223372036854775807 - 1] }}{{ raise_exception('passed') }}", TK_E_FORMAT, "passed" },
    { "{{ (-9223372036854775807 - 1) | abs }}", TK_E_UNSUPPORTED, "64 bits" },
    { "{{ range(-9223372036854775807, 9223372036854775807) }}", TK_E_LIMIT, "Range too big" },
    { "{{ messages[0].content.nothing.more }}", TK_E_FORMAT, "has no attribute 'nothing'" },
    { "line\n{% if x %}\n{{ undefd.a }}{% else %}\n\n{{ undefd.b }}{% endif %}", TK_E_FORMAT, "line 5" },
    { "a\nb\n{% nonsense %}", TK_E_FORMAT, "line 3" },
    { "{{ raise_exception('no roles\nbut two') }}", TK_E_FORMAT, "no roles\nbut two" },
    { "\xff{{ 1 }}", TK_E_FORMAT, "UTF-8" },
    { "{{ '\\ud800' }}", TK_E_FORMAT, "no character" },
    { "{% include 'other' %}", TK_E_UNSUPPORTED, "include" },
    { "{{ x | wordwrap }}", TK_E_UNSUPPORTED, "wordwrap" },
    { "{{ messages.append(1) }}", TK_E_FORMAT, "unsafe" },
    { "{{ ''.__class__.__mro__ }}", TK_E_FORMAT, "unsafe" },
};

static void hostile_templates_fail_soon(void **state) {
    (void)state;
    for (size_t i = 0; i < TK_COUNT(hostile); i++) {
        tk_buf out = { 0 };
        const tk_template_limits l = { .steps = 3000000, .memory = (size_t)256 << 20 };
        double from = tk_now();
        tk_status s = render(hostile[i].template, strlen(hostile[i].template),
                             "{\"messages\":[{\"role\":\"user\",\"content\":{}}]}", &l, &out);
        if (s != hostile[i].want || !strstr(tk_error(), hostile[i].words) || tk_now() - from > 8) {
            print_message("%s\n status %d after %.1f s: %s\n", hostile[i].template, s, tk_now() - from,
                          tk_error());
        }
        assert_int_equal(s, hostile[i].want);
        assert_non_null(strstr(tk_error(), hostile[i].words));
        assert_int_equal(out.len, 0);
        assert_true(tk_now() - from < 8); /* generous: under sanitizers on a busy machine */
        tk_buf_free(&out);
    }
}

/* n times a, then b, then n times c */
static tk_status repeated(const char *a, int n, const char *b, const char *c) {
    tk_buf src = { 0 }, out = { 0 };
    for (int i = 0; i < n; i++) tk_buf_puts(&src, a);
    tk_buf_puts(&src, b);
    for (int i = 0; i < n; i++) tk_buf_puts(&src, c);
    tk_status s = render(src.data, src.len, "{}", NULL, &out);
    tk_buf_free(&src);
    tk_buf_free(&out);
    return s;
}

static void deep_and_long_sources(void **state) {
    (void)state;
    static const struct {
        const char *open, *middle, *close;
    } deep[] = {
        { "{% if true %}", "x", "{% endif %}" },
        { "{% for a in [1] %}", "x", "{% endfor %}" },
        { "{% macro m() %}", "x", "{% endmacro %}" },
    };
    for (size_t i = 0; i < TK_COUNT(deep); i++) {
        assert_int_equal(repeated(deep[i].open, 30, deep[i].middle, deep[i].close), TK_OK);
        assert_int_equal(repeated(deep[i].open, 5000, deep[i].middle, deep[i].close), TK_E_FORMAT);
    }
    static const char *const open[] = { "(", "[", "-", "not ", "{1:", "a[", "f(", "x|f(" }, *const close[] = {
        ")", "]", "", "", "}", "]", ")", ")"
    };
    for (size_t i = 0; i < TK_COUNT(open); i++) {
        tk_buf src = { 0 };
        tk_template *t;
        tk_buf_puts(&src, "{{ ");
        for (int k = 0; k < 20000; k++) tk_buf_puts(&src, open[i]);
        tk_buf_puts(&src, "1");
        for (int k = 0; k < 20000; k++) tk_buf_puts(&src, close[i]);
        tk_buf_puts(&src, " }}");
        assert_int_equal(tk_template_parse(&t, src.data, src.len), TK_E_FORMAT);
        assert_null(t);
        tk_buf_free(&src);
    }
    assert_int_equal(repeated("{{ 1 + 1 }}", 20000, "", ""), TK_OK);
    static const char *const chains[] = { " + 1", ".a",           "[0]",    "|string",
                                          "()",   " if 1 else 2", " and 1", " ~ 1" };
    for (size_t i = 0; i < TK_COUNT(chains); i++) { /* left-deep trees: refused or rendered, never a crash */
        tk_buf src = { 0 };
        tk_template *t;
        tk_buf_puts(&src, "{{ 1");
        for (int k = 0; k < 20000; k++) tk_buf_puts(&src, chains[i]);
        tk_buf_puts(&src, " }}");
        tk_status s = tk_template_parse(&t, src.data, src.len);
        assert_true(s == TK_E_FORMAT || (s == TK_OK && chains[i][1] == '~'));
        tk_template_free(t);
        tk_buf_free(&src);
    }
    tk_buf src = { 0 };
    tk_template *t;
    for (int i = 0; i < 300; i++) tk_buf_printf(&src, "%*s", 1000, "");
    assert_int_equal(tk_template_parse(&t, src.data, src.len), TK_E_LIMIT);
    src.len = 0;
    for (int i = 0; i < 5000; i++) tk_buf_printf(&src, "{{ v%d }}", i);
    assert_int_equal(tk_template_parse(&t, src.data, src.len), TK_E_FORMAT);
    tk_buf_free(&src);
}

static void every_limit_holds(void **state) {
    (void)state;
    static const struct {
        const char *src;
        tk_template_limits l;
    } low[] = {
        { "{% for a in range(1000) %}x{% endfor %}", { .steps = 500 } },
        { "{% for a in range(1000) %}x{% endfor %}", { .output = 500 } },
        { "{{ ('a' * 600) | length }}", { .value = 500 } },
        { "{{ range(600) | list | length }}", { .value = 500 } },
        { "{% for a in range(1000) %}{% set b = [a, a, a] %}{% endfor %}", { .memory = 20000 } },
        { "{{ [[[[[[[[1]]]]]]]] }}", { .depth = 8 } },
        { "{% for a in range(100000) %}{% for a in range(100000) %}{% endfor %}{% endfor %}",
          { .seconds = 0.05, .steps = INT64_MAX / 2 } },
    };
    for (size_t i = 0; i < TK_COUNT(low); i++) {
        tk_buf out = { 0 };
        tk_template_limits l = low[i].l;
        tk_buf_puts(&out, "before");
        tk_status s = render(low[i].src, strlen(low[i].src), "{}", &l, &out);
        if (s != TK_E_LIMIT) print_message("%s: %d\n", low[i].src, s);
        assert_int_equal(s, TK_E_LIMIT);
        assert_string_equal(out.data, "before");
        if (i < 6) assert_int_equal(render(low[i].src, strlen(low[i].src), "{}", NULL, &out), TK_OK);
        tk_buf_free(&out);
    }
}

static void variables_are_checked(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{\"a\":1,\"a\":2}",
        "{\"a\":{\"b\":1,\"b\":1}}",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1} x",
        "null",
        "{\"a\":1e999}",
    };
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        tk_buf out = { 0 };
        assert_int_equal(render("{{ a }}", 7, bad[i], NULL, &out), TK_E_FORMAT);
        tk_buf_free(&out);
    }
    tk_buf deep = { 0 }, out = { 0 };
    tk_buf_puts(&deep, "{\"a\":");
    for (int i = 0; i < 1900; i++) tk_buf_puts(&deep, "[");
    for (int i = 0; i < 1900; i++) tk_buf_puts(&deep, "]");
    tk_buf_puts(&deep, "}");
    assert_int_equal(render("{{ a }}", 7, deep.data, NULL, &out), TK_E_LIMIT);
    tk_buf_free(&deep);
    assert_int_equal(render("{{ a|length }}{{ a == '\\x00b' }}", 32, "{\"a\":\"\\u0000b\"}", NULL, &out),
                     TK_OK);
    assert_string_equal(out.data, "2True");
    tk_buf_free(&out);
}

static void time_is_the_callers(void **state) {
    (void)state;
    static const char src[] = "{{ strftime_now('%d %b %Y %H:%M:%S.%f [%Z] %-d 100%%') }}";
    tk_buf out = { 0 };
    assert_int_equal(render(src, sizeof src - 1, "{}", &(tk_template_limits){ .now = 1722384000 }, &out),
                     TK_OK);
    assert_string_equal(out.data, "31 Jul 2024 00:00:00.000000 [] 31 100%");
    tk_buf_free(&out);
}

static void the_right_template_is_chosen(void **state) {
    (void)state;
    static const tk_template_source all[] = { { "rag", "R" }, { "default", "D" }, { "tool_use", "T" } };
    static const struct {
        int n;
        const char *name;
        bool tools;
        const char *want;
    } cases[] = {
        { 3, NULL, false, "D" },       { 3, NULL, true, "T" },   { 3, "rag", true, "R" },
        { 3, "none", true, NULL },     { 2, NULL, true, "D" },   { 1, NULL, true, NULL },
        { 1, "default", false, NULL }, { 0, NULL, false, NULL },
    };
    for (size_t i = 0; i < TK_COUNT(cases); i++) {
        const char *got = tk_template_choose(all, cases[i].n, cases[i].name, cases[i].tools);
        assert_int_equal(got != NULL, cases[i].want != NULL);
        if (got) assert_string_equal(got, cases[i].want);
    }
}

/* Long chats must stay linear: a text that a template gathers piece by piece, and a dict of many keys. */
static void gathering_is_linear(void **state) {
    (void)state;
    static const char src[] = "{% set ns = namespace(s='') %}{% for i in range(100000) %}{% set ns.s = ns.s "
                              "+ 'twenty bytes of text' %}"
                              "{% endfor %}{{ ns.s | length }}";
    tk_buf out = { 0 };
    tk_template_limits l = { .memory = (size_t)96 << 20 };
    assert_int_equal(render(src, sizeof src - 1, "{}", &l, &out), TK_OK);
    assert_string_equal(out.data, "2000000");
    tk_buf_free(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snippets_equal_jinja2),         cmocka_unit_test(named_features_equal_jinja2),
        cmocka_unit_test(random_templates_equal_jinja2), cmocka_unit_test(chats_equal_jinja2),
        cmocka_unit_test(shared_templates_render),       cmocka_unit_test(hostile_templates_fail_soon),
        cmocka_unit_test(deep_and_long_sources),         cmocka_unit_test(every_limit_holds),
        cmocka_unit_test(variables_are_checked),         cmocka_unit_test(time_is_the_callers),
        cmocka_unit_test(the_right_template_is_chosen),  cmocka_unit_test(gathering_is_linear),
    };
    return cmocka_run_group_tests(tests, load_vectors, free_vectors);
}
