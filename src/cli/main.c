/* SPDX-License-Identifier: Apache-2.0 */
/* The `tokamak` command: finds the row of commands.def, parses, runs, reports. */
#include <errno.h>
#include <stdlib.h>

#include "cli/cli.h"

static const cli_command commands[] = {
#define COMMAND(id, name, usage, help, min_pos, max_pos)                                                     \
    { name, usage, help, min_pos, max_pos, options_##id, cmd_##id },
#include "cli/commands.def"
#undef COMMAND
    { 0 },
};
enum { COMMANDS = TK_COUNT(commands) - 1 };

static void print_overview(FILE *to) {
    fprintf(to,
            "tokamak " TK_VERSION ": run GPT/LLaMA-class language models\n\nusage: tokamak COMMAND ...\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(to, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(
        to,
        "\n`tokamak COMMAND --help` tells the rest. MODEL is a GGUF file, a Hugging Face folder, a llama2.c\n"
        "checkpoint, or a name that `pull` knows; `tokamak run smollm2 -p \"Hello\"` is a start.\n");
}

/* The command that argv[1] (and argv[2], for names of two words) gives; *words: how many it took. */
static const cli_command *find_command(int argc, char **argv, int *words) {
    const cli_command *found = NULL;
    for (int i = 0; i < COMMANDS; i++) {
        const char *name = commands[i].name, *blank = strchr(name, ' ');
        if (!blank && !found && !strcmp(argv[0], name)) found = &commands[i], *words = 1;
        size_t first = blank ? (size_t)(blank - name) : 0;
        if (blank && argc > 1 && strlen(argv[0]) == first && !strncmp(argv[0], name, first) &&
            !strcmp(argv[1], blank + 1)) {
            *words = 2;
            return &commands[i];
        }
    }
    return found;
}

static tk_status fail_unknown(const char *word) {
    const char *names[COMMANDS + 1] = { 0 };
    for (int i = 0; i < COMMANDS; i++) names[i] = commands[i].name;
    const char *near = cli_nearest(word, names, COMMANDS);
    if (*word == '-')
        return TK_FAIL(TK_E_USAGE,
                       "no command\n'%s' comes before any command\n`tokamak --help` lists the commands",
                       word);
    if (near)
        return TK_FAIL(TK_E_USAGE,
                       "unknown command '%s'\ntokamak has none of that name\ndid you mean `tokamak %s`?",
                       word, near);
    return TK_FAIL(TK_E_USAGE,
                   "unknown command '%s'\ntokamak has none of that name\n`tokamak --help` lists the commands",
                   word);
}

/* A full disk behind stdout shows only at the flush; the answer was then not given. */
static tk_status finish_output(void) {
    if (!fflush(stdout) && !ferror(stdout)) return TK_OK;
    return TK_FAIL(TK_E_IO, "cannot write the answer\n%s\ncheck where stdout goes", strerror(errno));
}

/* The library ignores a TOKAMAK_CPU that it does not know, for it cannot fail there; the command does not. */
static tk_status check_cpu(void) {
    static const char *const tiers[] = { "plain", "avx2", "avx512", "amx" };
    const char *word = getenv("TOKAMAK_CPU");
    for (size_t i = 0; word && i < TK_COUNT(tiers); i++)
        if (!strcmp(word, tiers[i])) return TK_OK;
    if (!word || !*word) return TK_OK;
    return TK_FAIL(
        TK_E_USAGE,
        "bad value '%s' for TOKAMAK_CPU\nit is no kernel tier\ngive plain, avx2, avx512 or amx, or unset it",
        word);
}

static tk_status run_command(const cli_command *c, cli_args *a, int argc, char **argv) {
    TK_TRY(cli_parse(a, c, argc, argv));
    if (a->help)
        cli_print_help(c, stdout);
    else if (a->version)
        puts("tokamak " TK_VERSION);
    else {
        TK_TRY(check_cpu());
        TK_TRY(c->run(a));
    }
    return finish_output();
}

int main(int argc, char **argv) {
    int words = 0;
    tk_status s = TK_OK;
    const char *first = argc > 1 ? argv[1] : "";
    if (!strcmp(first, "help") && argc > 2 && find_command(argc - 2, argv + 2, &words)) {
        cli_print_help(find_command(argc - 2, argv + 2, &words), stdout);
        s = finish_output();
    } else if (!strcmp(first, "--help") || !strcmp(first, "-h") || !strcmp(first, "help")) {
        print_overview(stdout);
        s = finish_output();
    } else if (!strcmp(first, "--version")) {
        puts("tokamak " TK_VERSION);
        s = finish_output();
    } else if (argc < 2) {
        print_overview(stderr);
        return tk__exit_code(TK_E_USAGE);
    } else {
        const cli_command *c = find_command(argc - 1, argv + 1, &words);
        cli_args a = { 0 };
        s = c ? run_command(c, &a, argc - 1 - words, argv + 1 + words) : fail_unknown(first);
        if (s != TK_OK) cli_print_error(c ? c->name : "", s, a.verbose);
        cli_args_free(&a);
        return tk__exit_code(s);
    }
    if (s != TK_OK) cli_print_error("", s, false);
    return tk__exit_code(s);
}
