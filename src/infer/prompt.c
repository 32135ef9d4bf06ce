/* SPDX-License-Identifier: Apache-2.0 */
/* A request's prompt as token ids: plain text, ids, or a chat in the model's template. */
#include <jansson.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "infer/infer.h"

tk_status tk__model_tokenizer(tk_model *m, tk_tokenizer **out) {
    if (!m->tokenizer) {
        TK_TRY(tk_modelfile_tokenizer(m->file, &m->tokenizer));
        for (int i = 0; i < m->config->n_eos; i++) tk_tokenizer_add_eog(m->tokenizer, m->config->eos[i]);
    }
    *out = m->tokenizer;
    return TK_OK;
}

static tk_status check_utf8(const char *text, size_t n) {
    utf8proc_int32_t code;
    for (size_t i = 0; i < n;) {
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(n - i), &code);
        if (k <= 0)
            return TK_FAIL(TK_E_FORMAT,
                           "the prompt is not UTF-8\nbyte %zu (0x%02x) begins no character\n"
                           "convert the text, for example with iconv",
                           i, (unsigned char)text[i]);
        i += (size_t)k;
    }
    return TK_OK;
}

/* The template's variables as Hugging Face gives them. NULL when memory runs out. */
static char *chat_json(const tk_model *m, const tk_request *r) {
    static const char *const marks[] = { "bos_token", "eos_token", "pad_token", "unk_token" };
    json_t *root =
        json_pack("{s:[], s:n, s:n, s:b}", "messages", "tools", "documents", "add_generation_prompt", 1);
    bool ok = root != NULL;
    for (size_t i = 0; ok && i < r->message_count; i++) {
        json_t *message =
            json_pack("{s:s, s:s}", "role", r->messages[i].role, "content", r->messages[i].content);
        ok = !json_array_append_new(json_object_get(root, "messages"), message);
    }
    for (size_t i = 0; ok && i < TK_COUNT(marks); i++) {
        const char *text = tk_modelfile_special(m->file, marks[i]);
        if (text) ok = !json_object_set_new(root, marks[i], json_string(text));
    }
    char *json = ok ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    return json;
}

static tk_status render(tk_model *m, const tk_request *r, tk_buf *out) {
    for (size_t i = 0; i < r->message_count; i++) {
        TK_TRY(check_utf8(r->messages[i].role, strlen(r->messages[i].role)));
        TK_TRY(check_utf8(r->messages[i].content, strlen(r->messages[i].content)));
    }
    if (!m->chat_template) {
        const char *source;
        TK_TRY(tk_modelfile_template(m->file, m->template_name, false, &source));
        TK_TRY(tk_template_parse(&m->chat_template, source, strlen(source)));
    }
    char *json = chat_json(m, r);
    if (!json) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a chat of %zu messages", r->message_count);
    tk_status s = tk_template_render(m->chat_template, json, strlen(json), NULL, out);
    free(json);
    return s;
}

static tk_status encode(tk_model *m, const tk_request *r, tk_ids *ids) {
    tk_tokenizer *t;
    TK_TRY(tk__model_tokenizer(m, &t));
    if (r->messages) {
        tk_buf text = { 0 };
        tk_status s = render(m, r, &text);
        if (s == TK_OK) s = tk_encode(t, text.data ? text.data : "", text.len, TK_ENCODE_PARSE_SPECIAL, ids);
        tk_buf_free(&text);
        return s;
    }
    TK_TRY(check_utf8(r->text, r->text_bytes));
    TK_TRY(tk_encode(t, r->text ? r->text : "", r->text_bytes, TK_ENCODE_ADD_SPECIAL, ids));
    if (ids->n) return TK_OK;
    int32_t begin = tk_tokenizer_special(t, TK_BOS);
    return begin < 0 ? TK_OK : tk_ids_push(ids, begin);
}

tk_status tk__check_ids(const tk_model *m, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->config->n_vocab)
            return TK_FAIL(TK_E_USAGE,
                           "token %d is not in the vocabulary\nthe model has ids 0 to %d\n"
                           "check the ids, or that the tokenizer belongs to this model",
                           (int)ids[i], m->config->n_vocab - 1);
    return TK_OK;
}

tk_status tk__prompt_ids(tk_model *m, const tk_request *r, tk_ids *ids) {
    if (!!r->text + !!r->messages + !!r->ids > 1)
        return TK_FAIL(TK_E_USAGE,
                       "a request has more than one prompt\nit gives text, messages or ids\ngive one");
    if (r->ids)
        for (size_t i = 0; i < r->id_count; i++) TK_TRY(tk_ids_push(ids, r->ids[i]));
    else
        TK_TRY(encode(m, r, ids));
    if (!ids->n)
        return TK_FAIL(TK_E_USAGE, "the prompt is empty\nthis model has no begin token to start from\n"
                                   "give a prompt");
    return tk__check_ids(m, ids->id, ids->n);
}
