/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that run a model share: opening it as the options say, and the options of an answer. */
#include <math.h>
#include <stdlib.h>
#include <sys/random.h>

#include "cli/generate.h"

const cli_option cli_answer_options[] = {
    { "-n,--max-tokens", CLI_INT, "N", "(until the model ends)", "longest answer, in tokens", 1, INT32_MAX },
    { "--temp", CLI_FLOAT, "T", "(the model's, else 0.8)", "temperature; 0: always the likeliest token", 0,
      1e6 },
    { "--top-k", CLI_INT, "K", "(the model's, else 40)", "draw from the K likeliest tokens; 0: all", 0,
      INT32_MAX },
    { "--top-p", CLI_FLOAT, "P", "(the model's, else 0.95)", "draw from the likeliest that sum to P", 0, 1 },
    { "--min-p", CLI_FLOAT, "P", "0", "least probability, times the likeliest's", 0, 1 },
    { "--repeat-penalty", CLI_FLOAT, "P", "(the model's, else 1)", "divide logits of tokens seen by P", 0.01,
      100 },
    { "--presence-penalty", CLI_FLOAT, "P", "0", "subtract P from tokens of the answer", -100, 100 },
    { "--frequency-penalty", CLI_FLOAT, "P", "0", "the same, times their count", -100, 100 },
    { "--logit-bias", CLI_LIST, "ID=V", NULL, "add V to the logit of token ID" },
    { "--seed", CLI_INT, "S", "(random)", "the same seed draws the same text", 0, 9007199254740992.0 },
    { "--stop", CLI_LIST, "TEXT", NULL, "end the answer before this text" },
    { "--system", CLI_STRING, "TEXT", NULL, "the system message of the chat" },
    { "--template", CLI_STRING, "NAME", "(default)", "the chat template, of a model that has several" },
    { "--raw", CLI_FLAG, NULL, NULL, "continue the text as it is, without chat template" },
    { 0 },
};

tk_status cli_open(const cli_args *a, int rows, int sessions, const char *chat_template, tk_model **out) {
    char *path;
    TK_TRY(cli_model(a->pos[0], &path));
    tk_model_options o = {
        .tokenizer = cli_string(a, "--tokenizer"),
        .device = cli_string(a, "--device"),
        .kv_type = cli_string(a, "--kv-type"),
        .ctx = (int32_t)cli_int(a, "--ctx"),
        .threads = (int32_t)cli_int(a, "--threads"),
        .sessions = sessions,
        .chat_template = chat_template,
    };
    tk_status s = tk__model_open(out, path, &o, rows);
    free(path);
    TK_TRY(s);
    tk_model_info about = tk_model_about(*out);
    if (tk_engine_info_of((*out)->engine)->ctx_lowered)
        cli_note("the context is %d tokens, not the model's %d: that is what fits free memory",
                 (int)about.ctx, (int)about.model_ctx);
    return TK_OK;
}

static tk_status parse_bias(const char *text, tk_logit_bias *out) {
    char id[16] = "";
    const char *sign = strchr(text, '=');
    size_t n = sign ? (size_t)(sign - text) : 0;
    if (n < sizeof id) memcpy(id, text, n);
    int64_t token;
    double value;
    if (!sign || !cli_parse_int(id, &token) || token < 0 || token > INT32_MAX ||
        !cli_parse_float(sign + 1, &value) || fabs(value) > 1e30)
        return TK_FAIL(TK_E_USAGE,
                       "bad --logit-bias '%s'\nit is no ID=V with a token id and a number\n"
                       "write it like 42=-5.5",
                       text);
    *out = (tk_logit_bias){ (int32_t)token, (float)value };
    return TK_OK;
}

tk_status cli_answer(const cli_args *a, const tk_model *m, cli_answer_state *s, tk_request *r) {
    tk_sampling *p = &r->sampling;
    *r = (tk_request){ .sampling = tk_model_sampling(m), .max_tokens = (int32_t)cli_int(a, "--max-tokens") };
    const struct {
        const char *name;
        float *to;
    } floats[] = {
        { "--temp", &p->temp },
        { "--top-p", &p->top_p },
        { "--min-p", &p->min_p },
        { "--repeat-penalty", &p->repeat_penalty },
        { "--presence-penalty", &p->presence_penalty },
        { "--frequency-penalty", &p->frequency_penalty },
    };
    for (size_t i = 0; i < TK_COUNT(floats); i++)
        if (cli_given(a, floats[i].name)) *floats[i].to = (float)cli_float(a, floats[i].name);
    if (cli_given(a, "--top-k")) p->top_k = (int32_t)cli_int(a, "--top-k");
    p->seed = (uint64_t)cli_int(a, "--seed");
    if (!cli_given(a, "--seed") && getrandom(&p->seed, 6, 0) != 6) p->seed = (uint64_t)(tk_now() * 1e6);
    const char *const *words;
    p->bias_count = cli_list(a, "--logit-bias", &words);
    tk_logit_bias *bias = tk_arena_array(&s->arena, p->bias_count + 1, sizeof *bias);
    if (!bias) return TK_E_NOMEM;
    for (size_t i = 0; i < p->bias_count; i++) TK_TRY(parse_bias(words[i], &bias[i]));
    p->bias = bias;
    r->stop_count = cli_list(a, "--stop", &r->stop);
    s->system = cli_string(a, "--system");
    s->chat = !cli_flag(a, "--raw") && tk_model_about(m).has_template;
    if (s->system && !s->chat)
        return TK_FAIL(TK_E_USAGE,
                       "--system cannot be used here\n%s, so there is nowhere to put a system message\n"
                       "leave it out, or write it into the text",
                       cli_flag(a, "--raw") ? "--raw leaves the chat template out"
                                            : "this model has no chat template");
    return TK_OK;
}

double cli_rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

void cli_answer_note(const tk_model *m, const tk_result *r, double waited) {
    if (r->finish == TK_FINISH_CONTEXT)
        cli_note("the context of %d tokens is full: the answer is cut here", (int)tk_model_about(m).ctx);
    int fresh = (int)(r->prompt_tokens - r->cached_tokens);
    cli_note("prompt %d tokens, %.1f tok/s; answer %d tokens, %.1f tok/s; first token after %.2f s", fresh,
             cli_rate(fresh, r->prompt_seconds), (int)r->answer_tokens,
             cli_rate(r->answer_tokens - 1, r->answer_seconds), waited + r->first_seconds);
}
