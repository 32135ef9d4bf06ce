/* SPDX-License-Identifier: Apache-2.0 */
/* eval: perplexity of a text. The text is cut into windows of --ctx tokens that do not overlap, each opened
 * by the begin token if the model adds one, and every token of a window but its first is scored. */
#include <math.h>

#include "cli/generate.h"

const cli_option options_eval[] = {
    { .include = cli_input_options },
    { .include = cli_model_options },
    { .include = cli_json_options },
    { 0 },
};

enum { ROWS = 64 }; /* positions of logits at a time: 64 of 128k are 33 MB */

typedef struct scores {
    const int32_t *ids; /* of the window */
    size_t count, at;   /* at: position of the next logits */
    int32_t vocab;
    double sum;
    size_t scored;
} scores;

static tk_status score(void *arg, const float *logits, size_t positions) {
    scores *s = arg;
    for (size_t i = 0; i < positions; i++, s->at++) {
        if (s->at + 1 >= s->count) continue;
        s->sum += tk_logprob(logits + i * (size_t)s->vocab, s->vocab, s->ids[s->at + 1]);
        s->scored++;
    }
    return TK_OK;
}

/* Scores all windows. begin: the token that opens each, or -1. */
static tk_status score_windows(tk_session *session, const tk_ids *text, int32_t begin, int32_t ctx,
                               scores *s) {
    tk_ids window = { 0 };
    size_t body = (size_t)ctx - (begin >= 0);
    tk_status status = TK_OK;
    for (size_t from = 0; from < text->n && status == TK_OK; from += body) {
        size_t n = TK_MIN(body, text->n - from);
        window.n = 0;
        if (begin >= 0) status = tk_ids_push(&window, begin);
        for (size_t i = 0; i < n && status == TK_OK; i++) status = tk_ids_push(&window, text->id[from + i]);
        if (status != TK_OK || window.n < 2) break; /* a last window of one token has nothing to score */
        s->ids = window.id, s->count = window.n, s->at = 0;
        status = tk_logits(session, window.id, window.n, score, s);
        if (cli_is_tty(stderr))
            fprintf(stderr, "\r%zu of %zu tokens, perplexity %.4f ", s->scored, text->n,
                    exp(-s->sum / (double)s->scored));
    }
    if (cli_is_tty(stderr)) fprintf(stderr, "\n");
    tk_ids_free(&window);
    return status;
}

static tk_status evaluate(const cli_args *a, tk_model *m, const tk_buf *text) {
    tk_tokenizer *t;
    tk_ids ids = { 0 };
    tk_session *session = NULL;
    tk_model_info about = tk_model_about(m);
    scores s = { .vocab = about.vocab };
    TK_TRY(tk__model_tokenizer(m, &t));
    int32_t begin = tk_tokenizer_adds_bos(t) ? tk_tokenizer_special(t, TK_BOS) : -1;
    tk_status status = tk_encode(t, text->data, text->len, 0, &ids);
    if (status == TK_OK && ids.n + (begin >= 0) < 2)
        status = TK_FAIL(TK_E_USAGE,
                         "the text is too short\nit has %zu tokens, and the first one is not scored\n"
                         "give a longer text",
                         ids.n);
    if (status == TK_OK && about.ctx < 2)
        status = TK_FAIL(TK_E_USAGE,
                         "the context is too short\nof 1 token, nothing can be scored\ngive --ctx 2 or more");
    if (status == TK_OK) status = tk_session_new(&session, m);
    if (status == TK_OK) status = score_windows(session, &ids, begin, about.ctx, &s);
    tk_session_free(session);
    tk_ids_free(&ids);
    TK_TRY(status);
    double mean = s.sum / (double)s.scored;
    if (cli_flag(a, "--json"))
        return cli_print_json(json_pack("{s:o, s:I, s:o, s:i}", "perplexity", cli_json_real(exp(-mean)),
                                        "tokens", (json_int_t)s.scored, "mean_logprob", cli_json_real(mean),
                                        "ctx", (int)about.ctx));
    printf("perplexity %.4f over %zu tokens (mean log-probability %.5f, windows of %d)\n", exp(-mean),
           s.scored, mean, (int)about.ctx);
    return TK_OK;
}

tk_status cmd_eval(const cli_args *a) {
    tk_model *m = NULL;
    tk_buf text = { 0 };
    tk_status s = cli_input(a, &text);
    if (s == TK_OK) s = cli_open(a, ROWS, 1, NULL, &m);
    if (s == TK_OK) s = evaluate(a, m, &text);
    tk_model_close(m);
    tk_buf_free(&text);
    return s;
}
