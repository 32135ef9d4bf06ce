/* SPDX-License-Identifier: Apache-2.0 */
/* tokenize and detokenize: text to ids and back, by any file that holds a tokenizer. */
#include <stdlib.h>

#include "cli/cli.h"
#include "model/model.h"
#include "text/text.h"

/* MODEL's tokenizer; free *file, which owns it. */
static tk_status open_tokenizer(const cli_args *a, tk_modelfile **file, tk_tokenizer **t) {
    char *path;
    *file = NULL;
    TK_TRY(cli_model(a->pos[0], &path));
    tk_modelfile_options o = { .tokenizer = cli_string(a, "--tokenizer"), .vocab_only = true };
    tk_status s = tk_modelfile_open(file, path, &o);
    free(path);
    if (s == TK_OK) s = tk_modelfile_tokenizer(*file, t);
    return s;
}

static tk_status print_ids(const tk_tokenizer *t, const char *text, size_t n, unsigned flags) {
    tk_ids ids = { 0 };
    tk_status s = tk_encode(t, text, n, flags, &ids);
    if (s == TK_OK) putchar('[');
    for (size_t i = 0; s == TK_OK && i < ids.n; i++) printf("%s%d", i ? ", " : "", ids.id[i]);
    if (s == TK_OK) puts("]");
    tk_ids_free(&ids);
    return s;
}

/* One JSON string a line in, one list a line out. */
static tk_status tokenize_lines(const tk_tokenizer *t, const char *path, unsigned flags) {
    tk_buf b = { 0 };
    tk_status s = cli_read(path, &b);
    size_t number = 1;
    for (const char *p = b.data, *end = p + b.len; s == TK_OK && p < end; number++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (!stop) stop = end;
        json_error_t e;
        json_t *line = json_loadb(p, (size_t)(stop - p), JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        if (json_is_string(line))
            s = print_ids(t, json_string_value(line), json_string_length(line), flags);
        else
            s = TK_FAIL(TK_E_FORMAT,
                        "%s: line %zu is no JSON string\n%s\ngive one string in double quotes on each line",
                        path, number, line ? "it is another JSON value" : e.text);
        json_decref(line);
        p = stop + 1;
    }
    tk_buf_free(&b);
    return s;
}

const cli_option options_tokenize[] = {
    { .include = cli_input_options },
    { "--jsonl", CLI_STRING, "FILE", NULL, "one JSON string a line in, one list a line out" },
    { "--no-special", CLI_FLAG, NULL, NULL, "do not add the begin and end tokens" },
    { "--parse-special", CLI_FLAG, NULL, NULL, "special tokens written in the text count as such" },
    { "--tokenizer", CLI_STRING, "FILE", "(the model's)", "use this tokenizer" },
    { 0 },
};
tk_status cmd_tokenize(const cli_args *a) {
    const char *jsonl = cli_string(a, "--jsonl");
    unsigned flags = (cli_flag(a, "--no-special") ? 0 : TK_ENCODE_ADD_SPECIAL) |
                     (cli_flag(a, "--parse-special") ? TK_ENCODE_PARSE_SPECIAL : 0);
    if (cli_given(a, "--jsonl") && (cli_given(a, "--prompt") == 2 || cli_given(a, "--file") == 2))
        return TK_FAIL(TK_E_USAGE, "--jsonl is given beside another input\nthe text can come from one place "
                                   "only\ndrop -p and -f, or --jsonl");
    tk_modelfile *file;
    tk_tokenizer *t;
    tk_buf text = { 0 };
    tk_status s = open_tokenizer(a, &file, &t);
    if (s == TK_OK && jsonl)
        s = tokenize_lines(t, jsonl, flags);
    else if (s == TK_OK) {
        s = cli_input(a, &text);
        if (s == TK_OK) s = print_ids(t, text.data, text.len, flags);
    }
    tk_buf_free(&text);
    tk_modelfile_free(file);
    return s;
}

const cli_option options_detokenize[] = {
    { "--tokens", CLI_STRING, "IDS", NULL, "the ids: 1,2,3" },
    { "--tokenizer", CLI_STRING, "FILE", "(the model's)", "use this tokenizer" },
    { 0 },
};
tk_status cmd_detokenize(const cli_args *a) {
    const char *list = cli_string(a, "--tokens");
    if (!list)
        return TK_FAIL(
            TK_E_USAGE,
            "no ids are given\nthe command is: tokamak detokenize MODEL --tokens 1,2,3\nadd --tokens");
    tk_arena arena = { 0 };
    tk_modelfile *file = NULL;
    tk_tokenizer *t;
    tk_buf text = { 0 };
    int32_t *ids;
    size_t n;
    tk_status s = cli_parse_ids(&arena, list, &ids, &n);
    if (s == TK_OK) s = open_tokenizer(a, &file, &t);
    if (s == TK_OK) s = tk_decode(t, ids, n, 0, &text);
    if (s == TK_OK) cli_print_text(text.data, text.len);
    tk_buf_free(&text);
    tk_modelfile_free(file);
    tk_arena_free(&arena);
    return s;
}
