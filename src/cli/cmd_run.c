/* SPDX-License-Identifier: Apache-2.0 */
/* run: one prompt, one answer. */
#include "cli/generate.h"

const cli_option options_run[] = {
    { .include = cli_input_options },
    { .include = cli_answer_options },
    { .include = cli_model_options },
    { 0 },
};

typedef struct printed {
    bool any, open; /* the last line has no end yet */
} printed;

static int print_text(void *arg, const char *text, size_t n) {
    printed *p = arg;
    p->any = true, p->open = text[n - 1] != '\n';
    fwrite(text, 1, n, stdout);
    return fflush(stdout);
}

static tk_status answer(const cli_args *a, tk_model *m, tk_buf *prompt, double start) {
    cli_answer_state state = { 0 };
    tk_session *session = NULL;
    tk_request r;
    tk_result result;
    printed p = { 0 };
    tk_status s = cli_answer(a, m, &state, &r);
    if (s == TK_OK && state.chat && memchr(prompt->data, 0, prompt->len))
        s = TK_FAIL(TK_E_FORMAT,
                    "the prompt holds a zero byte\na chat message is text\nremove it, or use --raw");
    if (s == TK_OK) s = tk_session_new(&session, m);
    if (s == TK_OK) {
        tk_message messages[2] = { { "system", state.system }, { "user", prompt->data } };
        r.on_text = print_text, r.arg = &p;
        if (state.chat)
            r.messages = messages + !state.system, r.message_count = 1 + !!state.system;
        else
            r.text = prompt->data, r.text_bytes = prompt->len;
        double waited = tk_now() - start;
        s = tk_generate(session, &r, &result);
        if (p.open) putchar('\n');
        if (s == TK_OK && !fflush(stdout)) cli_answer_note(m, &result, waited);
    }
    tk_session_free(session);
    tk_arena_free(&state.arena);
    return s;
}

tk_status cmd_run(const cli_args *a) {
    double start = tk_now();
    tk_model *m = NULL;
    tk_buf prompt = { 0 };
    tk_status s = cli_input(a, &prompt);
    /* the line end of a file or of `echo` is no part of a chat message */
    if (s == TK_OK && !cli_string(a, "--prompt") && !cli_flag(a, "--raw") && prompt.len &&
        prompt.data[prompt.len - 1] == '\n')
        prompt.data[--prompt.len] = 0;
    if (s == TK_OK) s = cli_open(a, 0, 1, cli_string(a, "--template"), &m);
    if (s == TK_OK) s = answer(a, m, &prompt, start);
    tk_model_close(m);
    tk_buf_free(&prompt);
    return s;
}
