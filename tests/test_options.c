/* SPDX-License-Identifier: Apache-2.0 */
/* The option parser, on a table of its own: every kind, every refusal, and what beats what. The parser
 * belongs to the command, not to the library, so its source is included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "cli/options.c"

static const cli_option options_toy[] = {
    { "-n,--times", CLI_INT, "N", "5", "how often", 1, 100 },
    { "--temp", CLI_FLOAT, "T", "0.5", "how hot", 0, 2 },
    { "--seed", CLI_INT, "S", "(random)", "seed" },
    { "--stop", CLI_LIST, "STR", NULL, "where to stop" },
    { "--kind", CLI_CHOICE, "red|green", "red", "which" },
    { .include = cli_input_options },
    { .include = cli_json_options },
    { 0 },
};
static const cli_command toy = { "toy", "A [B]", "plays", 1, 2, options_toy, NULL };

#define PARSE(a, ...) parse(a, (char *[]){ __VA_ARGS__, NULL })
static tk_status parse(cli_args *a, char **words) {
    int n = 0;
    while (words[n]) n++;
    return cli_parse(a, &toy, n, words);
}

static void test_values(void **state) {
    (void)state;
    cli_args a;
    const char *const *stops;
    assert_int_equal(
        PARSE(&a, "x", "-n", "7", "--temp=1.25", "--stop", "a", "--kind", "green", "--stop", "--json", "y"),
        TK_OK);
    assert_int_equal(cli_int(&a, "--times"), 7);
    assert_true(cli_float(&a, "--temp") == 1.25);
    assert_string_equal(cli_string(&a, "--kind"), "green");
    assert_int_equal(cli_list(&a, "--stop", &stops), 2);
    assert_string_equal(stops[0], "a");
    assert_string_equal(stops[1], "--json"); /* a value may look like a flag */
    assert_false(cli_flag(&a, "--json"));
    assert_int_equal(a.npos, 2);
    assert_string_equal(a.pos[1], "y");
    assert_int_equal(cli_given(&a, "--times"), 2);
    cli_args_free(&a);

    assert_int_equal(PARSE(&a, "--", "--json"), TK_OK);
    assert_string_equal(a.pos[0], "--json");
    assert_int_equal(cli_int(&a, "--times"), 5);
    assert_int_equal(cli_int(&a, "--seed"), 0);
    assert_int_equal(cli_given(&a, "--times"), 0);
    assert_null(cli_string(&a, "--prompt"));
    assert_string_equal(cli_string(&a, "--kind"), "red");
    cli_args_free(&a);

    assert_int_equal(PARSE(&a, "-", "-n", "1", "-n", "2", "--json"),
                     TK_OK); /* the last one counts; "-" is an operand */
    assert_int_equal(cli_int(&a, "--times"), 2);
    assert_true(cli_flag(&a, "--json"));
    cli_args_free(&a);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct {
        const char *word, *value, *message;
    } cases[] = {
        { "--times", "7x", "not a whole number" },
        { "--times", "", "not a whole number" },
        { "--times", " 7", "not a whole number" },
        { "--times", "1.0", "not a whole number" },
        { "--times", "0x10", "not a whole number" },
        { "--times", "-", "not a whole number" },
        { "--times", "0", "out of range" },
        { "--times", "101", "from 1 to 100" },
        { "--times", "99999999999999999999", "not a whole number" },
        { "--temp", "0,5", "not a number" },
        { "--temp", "nan", "not a number" },
        { "--temp", "inf", "not a number" },
        { "--temp", "1e999", "not a number" },
        { "--temp", "0x1p3", "not a number" },
        { "--temp", "2.1", "out of range" },
        { "--kind", "blue", "give one of red|green" },
        { "--kind", "red|green", "give one of red|green" },
        { "--kind", "", "give one of red|green" },
        { "--tmep", "1", "did you mean --temp?" },
        { "--time", "1", "did you mean --times?" },
        { "-x", "1", "unknown option" },
        { "--json=maybe", "1", "give 1 or 0" },
        { "--no-such-thing", "1", "`tokamak toy --help` lists them" },
        { "1", "2", "unexpected operand '2'" },
        { "--temp", NULL, "--temp has no value" },
        { "-n", NULL, "give -n N" },
    };
    for (size_t i = 0; i < TK_COUNT(cases); i++) {
        cli_args a;
        char *words[] = { "x", (char *)cases[i].word, (char *)cases[i].value };
        assert_int_equal(cli_parse(&a, &toy, cases[i].value ? 3 : 2, words), TK_E_USAGE);
        if (!strstr(tk_error(), cases[i].message)) fail_msg("case %zu: %s", i, tk_error());
        const char *line = strchr(tk_error(), '\n'); /* three parts, all of them filled */
        assert_non_null(line);
        assert_non_null(strchr(line + 1, '\n'));
        cli_args_free(&a);
    }
    cli_args a;
    assert_int_equal(cli_parse(&a, &toy, 0, NULL), TK_E_USAGE);
    assert_non_null(strstr(tk_error(), "tokamak toy A [B]"));
    cli_args_free(&a);
}

static void test_variables(void **state) {
    (void)state;
    cli_args a;
    setenv("TOKAMAK_TIMES", "9", 1);
    setenv("TOKAMAK_JSON", "true", 1);
    setenv("TOKAMAK_STOP", "end", 1);
    assert_int_equal(PARSE(&a, "x"), TK_OK);
    assert_int_equal(cli_int(&a, "--times"), 9);
    assert_int_equal(cli_given(&a, "--times"), 1);
    assert_true(cli_flag(&a, "--json"));
    const char *const *stops;
    assert_int_equal(cli_list(&a, "--stop", &stops), 1);
    cli_args_free(&a);
    assert_int_equal(PARSE(&a, "x", "-n", "3", "--json=0"), TK_OK);
    assert_int_equal(cli_int(&a, "--times"), 3);
    assert_false(cli_flag(&a, "--json"));
    cli_args_free(&a);
    setenv("TOKAMAK_TIMES", "nine", 1);
    assert_int_equal(PARSE(&a, "x"), TK_E_USAGE);
    assert_non_null(strstr(tk_error(), "TOKAMAK_TIMES"));
    cli_args_free(&a);
    assert_int_equal(PARSE(&a, "x", "--help"), TK_OK); /* help works whatever else is wrong */
    assert_true(a.help);
    cli_args_free(&a);
    assert_int_equal(PARSE(&a, "-p", "--help", "x", "-n", "1"), TK_OK); /* here it is the prompt */
    assert_false(a.help);
    cli_args_free(&a);
    unsetenv("TOKAMAK_TIMES"), unsetenv("TOKAMAK_JSON"), unsetenv("TOKAMAK_STOP");
}

static void test_ids(void **state) {
    (void)state;
    tk_arena arena = { 0 };
    int32_t *ids;
    size_t n;
    assert_int_equal(cli_parse_ids(&arena, "", &ids, &n), TK_OK);
    assert_int_equal(n, 0);
    assert_int_equal(cli_parse_ids(&arena, "0,2147483647,3", &ids, &n), TK_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[1], 2147483647);
    static const char *const bad[] = { ",",  "1,",         ",1", "1,,2", "1 ,2",
                                       "-1", "2147483648", "a",  "1;2",  "99999999999999999999999999" };
    for (size_t i = 0; i < TK_COUNT(bad); i++)
        assert_int_equal(cli_parse_ids(&arena, bad[i], &ids, &n), TK_E_USAGE);
    tk_arena_free(&arena);
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const words[] = { "run", "chat", "tokenize", "detokenize", "eval" };
    assert_string_equal(cli_nearest("rnu", words, 5), "run");
    assert_string_equal(cli_nearest("tokenise", words, 5), "tokenize");
    assert_string_equal(cli_nearest("detok", words, 5), "detokenize");
    assert_null(cli_nearest("zzzzzz", words, 5));
    char *huge = malloc(100000);
    memset(huge, 'e', 99999), huge[99999] = 0;
    cli_nearest(huge, words, 5); /* any length is safe */
    free(huge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values), cmocka_unit_test(test_refusals), cmocka_unit_test(test_variables),
        cmocka_unit_test(test_ids),    cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
