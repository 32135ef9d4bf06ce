/* SPDX-License-Identifier: Apache-2.0 */
/* template: a chat as the model will read it. The variables are those that Hugging Face's
 * apply_chat_template passes, so its output is the truth to compare with. */
#include <stdlib.h>

#include "cli/cli.h"
#include "model/model.h"
#include "text/template.h"

typedef struct source {
    tk_modelfile *file; /* NULL for a bare .jinja file, whose text is in `own` */
    tk_buf own;
    const char *name; /* of --template */
    tk_template *parsed;
    const char *parsed_from; /* which text that is: a chat with tools may take another */
} source;

static void close_source(source *src) {
    tk_template_free(src->parsed);
    tk_modelfile_free(src->file);
    tk_buf_free(&src->own);
}

static tk_status open_source(const char *name, source *src) {
    char *path;
    TK_TRY(cli_model(name, &path));
    size_t n = strlen(path);
    tk_status s;
    if (n <= 6 || strcmp(path + n - 6, ".jinja") != 0)
        s = tk_modelfile_open(&src->file, path, &(tk_modelfile_options){ .vocab_only = true });
    else if (src->name)
        s = TK_FAIL(TK_E_USAGE,
                    "--template is given\n%s is one template, not a model that has several\ndrop it", name);
    else {
        s = cli_read(path, &src->own);
        if (s == TK_OK) tk_buf_put(&src->own, "", 1);
        if (s == TK_OK) s = tk_buf_check(&src->own);
    }
    free(path);
    return s;
}

/* The parsed template for a chat with or without tools. */
static tk_status choose(source *src, bool tools) {
    const char *text = src->own.data;
    size_t n = src->file ? 0 : src->own.len - 1;
    if (src->file) {
        TK_TRY(tk_modelfile_template(src->file, src->name, tools, &text));
        n = strlen(text);
    }
    if (text == src->parsed_from) return TK_OK;
    tk_template_free(src->parsed);
    src->parsed = NULL, src->parsed_from = NULL;
    TK_TRY(tk_template_parse(&src->parsed, text, n));
    src->parsed_from = text;
    return TK_OK;
}

/* As transformers does it: what a message says of its reasoning, under the names that templates read. */
static json_t *with_reasoning(json_t *message) {
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    json_t *said = NULL;
    for (size_t i = 0; i < TK_COUNT(names) && (!said || json_is_null(said)); i++)
        said = json_object_get(message, names[i]);
    if (!said || json_is_null(said)) return json_incref(message);
    json_t *more = json_pack("{s:O}", "thinking", said);
    json_object_update(more, message);
    json_object_set(more, "reasoning_content", said);
    return more;
}

/* What Hugging Face passes besides what the chat itself says. */
static void add_standard(json_t *chat, const source *src) {
    static const char *const specials[] = { "bos_token", "eos_token", "unk_token", "pad_token" };
    for (size_t i = 0; src->file && i < TK_COUNT(specials); i++) {
        const char *text = tk_modelfile_special(src->file, specials[i]);
        if (text && !json_object_get(chat, specials[i]))
            json_object_set_new(chat, specials[i], json_string(text));
    }
    if (!json_object_get(chat, "tools")) json_object_set_new(chat, "tools", json_null());
    if (!json_object_get(chat, "documents")) json_object_set_new(chat, "documents", json_null());
    if (!json_object_get(chat, "add_generation_prompt"))
        json_object_set_new(chat, "add_generation_prompt", json_false());
    json_t *messages = json_object_get(chat, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        json_array_set_new(messages, i, with_reasoning(json_array_get(messages, i)));
}

static tk_status render(source *src, const char *where, const char *json, size_t n, tk_buf *out) {
    json_error_t e;
    json_t *chat = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    tk_status s;
    if (json_is_array(chat)) chat = json_pack("{s:o}", "messages", chat);
    if (!json_is_object(chat))
        s = TK_FAIL(TK_E_FORMAT,
                    "%s is no chat\n%s\ngive a JSON object: {\"messages\": [{\"role\": \"user\", "
                    "\"content\": \"...\"}]}, or the list alone",
                    where, chat ? "it is JSON, but neither object nor list" : e.text);
    else {
        add_standard(chat, src);
        char *text = json_dumps(chat, JSON_COMPACT);
        s = text ? choose(src, !json_is_null(json_object_get(chat, "tools")))
                 : TK_FAIL(TK_E_NOMEM, "out of memory\nthe chat is too large\nshorten it");
        if (s == TK_OK) s = tk_template_render(src->parsed, text, strlen(text), NULL, out);
        free(text);
    }
    json_decref(chat);
    return s;
}

/* One chat a line in, one JSON string a line out. */
static tk_status render_lines(source *src, const char *path) {
    tk_buf in = { 0 };
    tk_status s = cli_read(path, &in);
    size_t number = 1;
    for (const char *p = in.data, *end = p + in.len; s == TK_OK && p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        char where[300];
        snprintf(where, sizeof where, "%.250s: line %zu", path, number);
        tk_buf out = { 0 };
        s = render(src, where, p, (size_t)(stop - p), &out);
        json_t *line = s == TK_OK ? json_stringn(out.data ? out.data : "", out.len) : NULL;
        if (s == TK_OK && !line)
            s = TK_FAIL(
                TK_E_FORMAT,
                "%s: the result is no UTF-8\na JSON string cannot hold it\nuse -f, which prints it as it is",
                where);
        if (line) json_dumpf(line, stdout, JSON_ENCODE_ANY), putchar('\n');
        json_decref(line);
        tk_buf_free(&out);
        p = stop + 1;
    }
    tk_buf_free(&in);
    return s;
}

const cli_option options_template[] = {
    { "-f,--file", CLI_STRING, "FILE", "(stdin)",
      "the chat: {\"messages\": [...], \"tools\": [...], ...}, or the messages alone" },
    { "--template", CLI_STRING, "NAME", "(tool_use with tools, else default)",
      "which, if the model has several" },
    { "--jsonl", CLI_STRING, "FILE", NULL, "one chat a line in, one JSON string a line out" },
    { 0 },
};
tk_status cmd_template(const cli_args *a) {
    const char *file = cli_string(a, "--file"), *jsonl = cli_string(a, "--jsonl");
    if (jsonl && cli_given(a, "--file") == 2)
        return TK_FAIL(
            TK_E_USAGE,
            "both --file and --jsonl are given\nthe chats can come from one place only\ndrop one of them");
    source src = { .name = cli_string(a, "--template") };
    tk_buf in = { 0 }, out = { 0 };
    tk_status s = open_source(a->pos[0], &src);
    if (s == TK_OK && jsonl)
        s = render_lines(&src, jsonl);
    else if (s == TK_OK) {
        s = cli_read(file ? file : "-", &in);
        if (s == TK_OK) s = render(&src, file ? file : "stdin", in.data, in.len, &out);
        if (s == TK_OK) cli_print_text(out.data, out.len);
    }
    tk_buf_free(&in), tk_buf_free(&out);
    close_source(&src);
    return s;
}
