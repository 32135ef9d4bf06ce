/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that run a model share (generate.c). Apart from cli.h, which knows nothing of models. */
#ifndef TK_CLI_GENERATE_H
#define TK_CLI_GENERATE_H
#include "cli/cli.h"
#include "infer/infer.h"

/* --max-tokens, those of sampling, --stop, --system, --raw */
extern const cli_option cli_answer_options[];

/* Opens the command's MODEL as cli_model_options say; tells when the context was lowered. rows: see
 * tk__model_open. */
tk_status cli_open(const cli_args *a, int rows, int sessions, const char *chat_template, tk_model **out);

typedef struct cli_answer_state {
    const char *system; /* NULL: none */
    bool chat;          /* the prompt goes into the model's template */
    tk_arena arena;
} cli_answer_state;
/* The request that cli_answer_options describe, without its prompt. Free s->arena after the last use of r. */
tk_status cli_answer(const cli_args *a, const tk_model *m, cli_answer_state *s, tk_request *r);
/* Speed, and whether the context cut the answer, on stderr. waited: seconds before the request. */
void cli_answer_note(const tk_model *m, const tk_result *r, double waited);
double cli_rate(double count, double seconds); /* 0 for no time */
#endif
