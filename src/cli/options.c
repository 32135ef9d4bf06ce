/* SPDX-License-Identifier: Apache-2.0 */
/* Options are tables, so the parser, the help, the environment variables and the suggestions cannot
 * disagree. Parsing is strict: a number is the whole word and within its range, a choice is one of its
 * words, and anything unknown is an error that names the nearest known word. */
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "cli/cli.h"

static const cli_option common_options[] = {
    { "-v,--verbose", CLI_FLAG, NULL, NULL, "say where in the source an error arose" },
    { "-h,--help", CLI_FLAG, NULL, NULL, "this text" },
    { "--version", CLI_FLAG, NULL, NULL, "the version" },
    { 0 },
};
const cli_option cli_json_options[] = {
    { "--json", CLI_FLAG, NULL, NULL, "the result as JSON" },
    { 0 },
};
const cli_option cli_input_options[] = {
    { "-p,--prompt", CLI_STRING, "TEXT", NULL, "the text" },
    { "-f,--file", CLI_STRING, "FILE", "(stdin)", "the file that holds the text; - is stdin" },
    { 0 },
};
const cli_option cli_model_options[] = {
    { "--device", CLI_STRING, "cpu|cuda[:i]", "cpu", "where to compute" },
    { "--threads", CLI_INT, "N", "(one a core)", "CPU threads", 1, 1024 },
    { "--tokenizer", CLI_STRING, "FILE", "(the model's)", "tokenizer of a checkpoint that has none" },
    { "--ctx", CLI_INT, "N", "(the model's, if it fits)", "context length in tokens", 1, 1 << 30 },
    { "--kv-type", CLI_CHOICE, "f32|f16|bf16|q8_0", "(f16; f32 for f32 weights)", "numbers of the KV cache" },
    { 0 },
};

/* ---- numbers ----------------------------------------------------------------------------------------- */

bool cli_parse_int(const char *s, int64_t *out) {
    const char *digits = s + (*s == '-' || *s == '+');
    if (!*digits || strspn(digits, "0123456789") != strlen(digits)) return false;
    errno = 0;
    long long v = strtoll(s, NULL, 10);
    *out = v;
    return !errno;
}

bool cli_parse_float(const char *s, double *out) {
    if (!*s || strspn(s, "+-.0123456789eE") != strlen(s)) return false; /* no blanks, hex, inf or nan */
    char *end;
    *out = strtod(s, &end);
    return !*end && isfinite(*out);
}

tk_status cli_parse_ids(tk_arena *arena, const char *s, int32_t **ids, size_t *count) {
    size_t n = *s != 0;
    for (const char *c = s; *c; c++) n += *c == ',';
    *count = n;
    if (!(*ids = tk_arena_array(arena, n + 1, sizeof **ids))) return TK_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        char word[24] = "";
        size_t len = strcspn(s, ",");
        int64_t v;
        if (len < sizeof word) memcpy(word, s, len);
        if (!cli_parse_int(word, &v) || v < 0 || v > INT32_MAX)
            return TK_FAIL(TK_E_USAGE,
                           "bad token id '%.*s'\nit is item %zu of the list\nids are numbers from 0, "
                           "split by commas without blanks: 1,2,3",
                           (int)TK_MIN(len, 40), s, i + 1);
        (*ids)[i] = (int32_t)v;
        s += len + (s[len] == ',');
    }
    return TK_OK;
}

/* ---- names ------------------------------------------------------------------------------------------- */

/* Edit distance with swaps of neighbours; words above 31 characters are cut, which suits suggestions. */
static int distance(const char *a, const char *b) {
    enum { MAX = 32 };
    int d[MAX][MAX], n = (int)TK_MIN(strlen(a), MAX - 1), m = (int)TK_MIN(strlen(b), MAX - 1);
    for (int i = 0; i <= n; i++) d[i][0] = i;
    for (int j = 0; j <= m; j++) d[0][j] = j;
    for (int i = 1; i <= n; i++)
        for (int j = 1; j <= m; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = TK_MIN(best, TK_MIN(d[i - 1][j], d[i][j - 1]) + 1);
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            d[i][j] = swapped ? TK_MIN(best, d[i - 2][j - 2] + 1) : best;
        }
    return d[n][m];
}

const char *cli_nearest(const char *s, const char *const *words, size_t count) {
    const char *best = NULL;
    int least = TK_MAX(1, (int)TK_MIN(strlen(s), 31) / 3) + 1; /* a third of the letters may be wrong */
    for (size_t i = 0; i < count; i++) {
        bool starts = strlen(s) >= 2 && !strncmp(s, words[i], strlen(s)) && strspn(s, "-") < strlen(s);
        int d = starts ? 1 : distance(s, words[i]);
        if (d < least) least = d, best = words[i];
    }
    return best;
}

static const char *long_name(const cli_option *o) {
    const char *comma = strchr(o->name, ',');
    return comma ? comma + 1 : o->name;
}

static bool is_named(const cli_option *o, const char *word, size_t len) {
    const char *name = long_name(o);
    if (strlen(name) == len && !strncmp(name, word, len)) return true;
    size_t head = (size_t)(name - o->name); /* length of the short name and the comma */
    return head && len == head - 1 && !strncmp(o->name, word, len);
}

/* "--top-k" -> "TOKAMAK_TOP_K" */
static void variable_name(char out[64], const cli_option *o) {
    size_t n = (size_t)snprintf(out, 64, "TOKAMAK_%s", long_name(o) + 2);
    assert(n < 64);
    for (size_t i = 8; i < n; i++)
        out[i] = (char)(out[i] == '-' ? '_' : out[i] >= 'a' && out[i] <= 'z' ? out[i] - 32 : out[i]);
}

static void flatten(cli_args *a, const cli_option *rows) {
    for (; rows->name || rows->include; rows++) {
        if (rows->include) {
            flatten(a, rows->include);
            continue;
        }
        assert(a->count < CLI_MAX_OPTIONS);
        a->slots[a->count++].option = rows;
    }
}

/* ---- values ------------------------------------------------------------------------------------------ */

static bool is_choice(const char *choices, const char *word) {
    size_t len = strlen(word);
    for (const char *c = choices; *c; c += strcspn(c, "|"), c += *c == '|')
        if (strcspn(c, "|") == len && !strncmp(c, word, len)) return true;
    return false;
}

static bool in_range(const cli_option *o, double v) {
    return o->min >= o->max || (v >= o->min && v <= o->max);
}

static tk_status fail_number(const cli_option *o, const char *source, const char *text, bool parsed) {
    const char *kind = o->kind == CLI_INT ? "a whole number" : "a number";
    if (!parsed)
        return TK_FAIL(TK_E_USAGE, "bad value '%s' for %s\nit is not %s\ngive %s such as %s", text, source,
                       kind, kind, o->standard && *o->standard != '(' ? o->standard : "1");
    return TK_FAIL(TK_E_USAGE, "bad value '%s' for %s\nit is out of range\ngive %s from %.10g to %.10g", text,
                   source, kind, o->min, o->max);
}

/* Puts `text` into the slot. `source` names where it came from: the flag or the variable. */
static tk_status set_value(cli_args *a, struct cli_slot *s, const char *source, const char *text) {
    const cli_option *o = s->option;
    bool parsed;
    switch (o->kind) {
    case CLI_FLAG:
        if (!strcmp(text, "1") || !strcmp(text, "true"))
            s->integer = 1;
        else if (!strcmp(text, "0") || !strcmp(text, "false") || !*text)
            s->integer = 0;
        else
            return TK_FAIL(TK_E_USAGE, "bad value '%s' for %s\nit is a switch\ngive 1 or 0", text, source);
        return TK_OK;
    case CLI_INT:
        parsed = cli_parse_int(text, &s->integer);
        s->real = (double)s->integer;
        return parsed && in_range(o, s->real) ? TK_OK : fail_number(o, source, text, parsed);
    case CLI_FLOAT:
        parsed = cli_parse_float(text, &s->real);
        return parsed && in_range(o, s->real) ? TK_OK : fail_number(o, source, text, parsed);
    case CLI_CHOICE:
        if (!is_choice(o->value, text))
            return TK_FAIL(TK_E_USAGE, "bad value '%s' for %s\nit is none of the known words\ngive one of %s",
                           text, source, o->value);
        s->string = text;
        return TK_OK;
    case CLI_STRING: s->string = text; return TK_OK;
    case CLI_LIST: {
        const char **list = tk_arena_array(&a->arena, s->list_count + 1, sizeof *list);
        if (!list) return TK_E_NOMEM;
        if (s->list_count) memcpy(list, s->list, s->list_count * sizeof *list);
        list[s->list_count++] = text;
        s->list = list;
        return TK_OK;
    }
    }
    return TK_OK;
}

static struct cli_slot *find(cli_args *a, const char *word, size_t len) {
    for (int i = 0; i < a->count; i++)
        if (is_named(a->slots[i].option, word, len)) return &a->slots[i];
    return NULL;
}

static tk_status fail_unknown(cli_args *a, const char *word, size_t len) {
    const char *words[CLI_MAX_OPTIONS], *command = a->command->name;
    for (int i = 0; i < a->count; i++) words[i] = long_name(a->slots[i].option);
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)len, word);
    const char *near = cli_nearest(text, words, (size_t)a->count);
    if (near)
        return TK_FAIL(TK_E_USAGE,
                       "unknown option '%s'\n`tokamak %s` has none of that name\ndid you mean %s?", text,
                       command, near);
    return TK_FAIL(
        TK_E_USAGE,
        "unknown option '%s'\n`tokamak %s` has none of that name\n`tokamak %s --help` lists them; an operand "
        "that starts with '-' goes after --",
        text, command, command);
}

/* One word that starts with '-': the option, and its value from behind '=' or from the next word. */
static tk_status take_option(cli_args *a, int argc, char **argv, int *i) {
    const char *word = argv[*i], *equals = strncmp(word, "--", 2) ? NULL : strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : strlen(word);
    struct cli_slot *s = find(a, word, len);
    if (!s) return fail_unknown(a, word, len);
    char source[64];
    snprintf(source, sizeof source, "%.*s", (int)len, word);
    const char *text = equals                        ? equals + 1
                       : s->option->kind == CLI_FLAG ? "1"
                       : *i + 1 < argc               ? argv[++*i]
                                                     : NULL;
    if (!text)
        return TK_FAIL(TK_E_USAGE, "%s has no value\nit is the last word of the command\ngive %s %s", source,
                       source, s->option->value);
    s->given = 2;
    return set_value(a, s, source, text);
}

static tk_status take_defaults(cli_args *a) {
    for (int i = 0; i < a->count; i++) {
        struct cli_slot *s = &a->slots[i];
        const char *flag = long_name(s->option);
        if (s->given || !strcmp(flag, "--help") || !strcmp(flag, "--version"))
            continue; /* TOKAMAK_VERSION is a likely name */
        char name[64];
        variable_name(name, s->option);
        const char *text = getenv(name);
        s->given = text ? 1 : 0;
        if (!text && s->option->standard && *s->option->standard != '(') text = s->option->standard;
        if (text) TK_TRY(set_value(a, s, name, text));
    }
    return TK_OK;
}

tk_status cli_parse(cli_args *a, const cli_command *command, int argc, char **argv) {
    *a = (cli_args){ .command = command };
    flatten(a, command->options);
    flatten(a, common_options);
    if (!(a->pos = tk_arena_array(&a->arena, (size_t)argc + 1, sizeof *a->pos))) return TK_E_NOMEM;
    bool options = true;
    /* asking for help works whatever else is wrong with the line; so does --verbose */
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const struct cli_slot *s = find(a, argv[i], strlen(argv[i]));
        const char *name = s ? long_name(s->option) : "";
        a->help |= !strcmp(name, "--help");
        a->version |= !strcmp(name, "--version");
        a->verbose |= !strcmp(name, "--verbose");
        i += s && s->option->kind != CLI_FLAG; /* its value may look like a flag */
    }
    if (a->help || a->version) return TK_OK;
    for (int i = 0; i < argc; i++) {
        if (options && !strcmp(argv[i], "--"))
            options = false;
        else if (options && argv[i][0] == '-' && argv[i][1])
            TK_TRY(take_option(a, argc, argv, &i));
        else
            a->pos[a->npos++] = argv[i];
    }
    TK_TRY(take_defaults(a));
    a->verbose = cli_flag(a, "--verbose");
    if (a->npos < command->min_pos)
        return TK_FAIL(TK_E_USAGE,
                       "an operand is missing\nthe command is: tokamak %s %s\nsee `tokamak %s --help`",
                       command->name, command->usage, command->name);
    if (a->npos > command->max_pos)
        return TK_FAIL(
            TK_E_USAGE,
            "unexpected operand '%s'\nthe command is: tokamak %s %s\nput text with blanks in quotes",
            a->pos[command->max_pos], command->name, command->usage);
    return TK_OK;
}

void cli_args_free(cli_args *a) { tk_arena_free(&a->arena); }

static const struct cli_slot *slot(const cli_args *a, const char *name) {
    for (int i = 0; i < a->count; i++)
        if (!strcmp(long_name(a->slots[i].option), name)) return &a->slots[i];
    assert(!"the command's table has no such option");
    abort();
}

int64_t cli_int(const cli_args *a, const char *name) { return slot(a, name)->integer; }
double cli_float(const cli_args *a, const char *name) { return slot(a, name)->real; }
const char *cli_string(const cli_args *a, const char *name) { return slot(a, name)->string; }
bool cli_flag(const cli_args *a, const char *name) { return slot(a, name)->integer != 0; }
int cli_given(const cli_args *a, const char *name) { return slot(a, name)->given; }
size_t cli_list(const cli_args *a, const char *name, const char *const **values) {
    const struct cli_slot *s = slot(a, name);
    *values = s->list;
    return s->list_count;
}

/* ---- help -------------------------------------------------------------------------------------------- */

static void print_option(const cli_option *o, FILE *to) {
    const char *name = long_name(o);
    char left[80];
    int n = snprintf(left, sizeof left, "%.*s%s%s%s%s", (int)(name - o->name), name == o->name ? "" : o->name,
                     name == o->name ? "    " : " ", name, o->kind == CLI_FLAG ? "" : " ",
                     o->kind == CLI_FLAG ? "" : o->value);
    if (n > 31)
        fprintf(to, "  %s\n  %31s", left, "");
    else
        fprintf(to, "  %-31s", left);
    fprintf(to, " %s%s", o->help, o->kind == CLI_LIST ? "; may be repeated" : "");
    if (o->standard) fprintf(to, *o->standard == '(' ? " %s" : " (%s)", o->standard);
    fputc('\n', to);
}

void cli_print_help(const cli_command *c, FILE *to) {
    cli_args a = { .command = c };
    flatten(&a, c->options);
    flatten(&a, common_options);
    fprintf(to, "tokamak %s %s\n%s\n\n", c->name, c->usage, c->help);
    for (int i = 0; i < a.count; i++) print_option(a.slots[i].option, to);
    fprintf(to, "\nEach option is also a variable: --some-flag is TOKAMAK_SOME_FLAG.\n");
}
