/* SPDX-License-Identifier: Apache-2.0 */
/* The frame that every command hangs in. A command is one row of commands.def, one table
 * `options_ID` and one function `cmd_ID`, in a cmd_*.c file:
 *
 *     const cli_option options_greet[] = {
 *         { "-n,--times", CLI_INT, "N", "1", "how often", 1, 100 },
 *         { .include = cli_json_options },
 *         { 0 } };
 *     tk_status cmd_greet(const cli_args *a) { for (int64_t i = cli_int(a, "--times"); i--;) puts(a->pos[0]);
 * ... }
 *
 * The frame parses strictly, takes what the command line leaves out from TOKAMAK_* variables, prints the
 * help, and turns a failed status into three lines on stderr and an exit code. Commands print their
 * answer to stdout and nothing else there. */
#ifndef TK_CLI_H
#define TK_CLI_H
#include <jansson.h>
#include <stdio.h>

#include "base/base.h"

/* ---- options (options.c) ------------------------------------------------------------------------- */

typedef enum cli_kind {
    CLI_FLAG = 1, /* no value; the variable takes 1/0/true/false, and so does --flag=0 */
    CLI_INT,      /* whole decimal number within min..max */
    CLI_FLOAT,    /* finite decimal number within min..max */
    CLI_STRING,
    CLI_CHOICE, /* one of the words of `value`, which are split by '|' */
    CLI_LIST,   /* a string that may be given many times; the variable gives one */
} cli_kind;

typedef struct cli_option {
    const char *name; /* "--top-k" or "-p,--prompt"; the long name also names TOKAMAK_TOP_K */
    cli_kind kind;
    const char *value;    /* the value's name in the help: "N" */
    const char *standard; /* default: a value, or (in parentheses) words for "(the model's)"; NULL: none */
    const char *help;     /* under 60 characters, no full stop */
    double min, max;      /* for numbers, when min < max */
    const struct cli_option *include; /* instead of all of the above: the rows of another table */
} cli_option;

#define CLI_MAX_OPTIONS 64

typedef struct cli_args cli_args;

typedef struct cli_command {
    const char *name;     /* "run", or two words: "bench ops" */
    const char *usage;    /* what follows the name */
    const char *help;     /* one line */
    int min_pos, max_pos; /* how many operands (words that are no options) it takes */
    const cli_option *options;
    tk_status (*run)(const cli_args *a);
} cli_command;

struct cli_args {
    const cli_command *command;
    char **pos; /* operands */
    int npos;
    bool help, version, verbose;
    int count; /* options, flat: the command's own, then those that all commands have */
    struct cli_slot {
        const cli_option *option;
        int given;       /* see cli_given */
        int64_t integer; /* INT; FLAG as 0 or 1 */
        double real;
        const char *string; /* STRING, CHOICE */
        const char **list;
        size_t list_count;
    } slots[CLI_MAX_OPTIONS];
    tk_arena arena; /* holds the lists */
};

/* Parses the words after the command's name. Values point into argv and the environment. On success and on
 * failure alike cli_args_free must follow. */
tk_status cli_parse(cli_args *a, const cli_command *command, int argc, char **argv);
void cli_args_free(cli_args *a);

/* Values by long name, which must be in the command's table (asserted). Without a value and without a
 * default: 0, 0.0, NULL, false, an empty list. */
int64_t cli_int(const cli_args *a, const char *name);
double cli_float(const cli_args *a, const char *name);
const char *cli_string(const cli_args *a, const char *name);
bool cli_flag(const cli_args *a, const char *name);
size_t cli_list(const cli_args *a, const char *name, const char *const **values);
int cli_given(const cli_args *a,
              const char *name); /* 0: only the default; 1: by variable; 2: on the command line */

/* The whole string as a number, in C's locale; false on anything else (blanks, "0x", "inf", overflow). */
bool cli_parse_int(const char *s, int64_t *out);
bool cli_parse_float(const char *s, double *out);
/* "1,2,3" -> ids in `arena`; an empty string is an empty list. */
tk_status cli_parse_ids(tk_arena *arena, const char *s, int32_t **ids, size_t *count);
/* The word of `words` that `s` was probably meant to be; NULL when none is near. */
const char *cli_nearest(const char *s, const char *const *words, size_t count);
void cli_print_help(const cli_command *c, FILE *to);

/* Tables to include. */
extern const cli_option cli_json_options[];  /* --json */
extern const cli_option cli_input_options[]; /* -p,--prompt  -f,--file: see cli_input */
extern const cli_option cli_model_options[]; /* --device --threads --tokenizer --ctx --kv-type */

/* The tables of what is supported, on stdout as Markdown or JSON (supported.c). */
tk_status cli_supported(bool json);

/* ---- input and output (output.c) -------------------------------------------------------------------- */

/* Text from --prompt, else --file ("-": stdin), else stdin; appended to b. At most 1 GiB. */
tk_status cli_input(const cli_args *a, tk_buf *b);
/* A whole file, or stdin when path is "-". */
tk_status cli_read(const char *path, tk_buf *b);

/* Text that is the answer: exactly those bytes; on a terminal also the line break that it may lack. */
void cli_print_text(const char *text, size_t n);
/* Prints `answer` and a newline to stdout and drops the reference. NULL fails: building it ran out of memory
 * or met a NaN; give those through cli_json_real. */
tk_status cli_print_json(json_t *answer);
json_t *cli_json_real(double v); /* null when not finite: JSON has no NaN */

/* A table for people. Headers split by '|'; a column whose header starts with '>' is right-aligned.
 *     cli_table t = cli_table_new("NAME|>SIZE");
 *     cli_cell(&t, "%s", name); cli_cell(&t, "%zu", n); ...
 *     return cli_table_print(&t);      also frees */
typedef struct cli_table {
    const char *headers;
    tk_buf cells; /* NUL-terminated strings, row by row */
    size_t count;
} cli_table;
cli_table cli_table_new(const char *headers);
void cli_cell(cli_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
tk_status cli_table_print(cli_table *t);
/* One of the two forms of an answer goes to stdout, both are freed. */
tk_status cli_print_either(bool as_json, json_t *answer, cli_table *t);

/* "98.4 MB" (decimal units) into a rotating buffer: up to 8 results may be in use. */
const char *cli_bytes(double bytes);

/* Whether colour, bars and questions are wanted there: a terminal, and for colour neither NO_COLOR nor
 * TERM=dumb. */
bool cli_is_tty(FILE *f);
bool cli_color(FILE *f);
/* A bar on stderr when that is a terminal, else nothing. Draws at most 10 times a second; done == total
 * draws the end and a line break. `arg` is a cli_progress, zero at first. */
typedef struct cli_progress {
    double start, drawn;
    uint64_t first; /* bytes there before the start: no part of the rate */
    bool open;
} cli_progress;
void cli_progress_draw(void *arg, const char *what, uint64_t done, uint64_t total);
void cli_progress_end(cli_progress *p);
/* A yes/no question on the terminal; `standard` when the answer is empty or there is no terminal. */
bool cli_ask(const char *question, bool standard);
/* A note for people on stderr; control bytes (of hostile names) are shown as '?'. */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The thread's last error in three parts. A message without its second or third line gets what the status
 * says in general, so that the library need not repeat it everywhere. */
void cli_print_error(const char *command, tk_status status, bool verbose);

/* ---- models (cmd_hub.c) ------------------------------------------------------------------------------ */

/* The path of a MODEL word: a path, or a pulled model's name; on a terminal it offers to pull what is
 * missing. The caller frees *path. */
tk_status cli_model(const char *name, char **path);

/* ---- commands ----------------------------------------------------------------------------------------- */

#define COMMAND(id, name, usage, help, min_pos, max_pos)                                                     \
    extern const cli_option options_##id[];                                                                  \
    tk_status cmd_##id(const cli_args *a);
#include "cli/commands.def"
#undef COMMAND
#endif
