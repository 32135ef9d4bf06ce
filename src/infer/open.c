/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a model: the file, what the options ask for, and the engine that holds all memory. Tokenizer and
 * template are read when first needed, so that numbers can be had from a model without them. */
#include <stdlib.h>

#include "infer/infer.h"

static tk_status parse_options(const tk_model_options *o, tk_engine_options *e) {
    if (o->kv_type) {
        static const tk_dtype types[] = { TK_F32, TK_F16, TK_BF16, TK_Q8_0 };
        for (size_t i = 0; i < TK_COUNT(types); i++)
            if (!strcmp(o->kv_type, tk_formats[types[i]].name)) e->kv = types[i], e->kv_set = true;
        if (!e->kv_set)
            return TK_FAIL(TK_E_USAGE,
                           "unknown type '%s' of the KV cache\nit is one of f32, f16, bf16, q8_0\n"
                           "give one of them",
                           o->kv_type);
    }
    if (o->ctx < 0 || o->threads < 0 || o->sessions < 0)
        return TK_FAIL(TK_E_USAGE,
                       "a number of the model's options is negative\nctx %d, threads %d, sessions %d\n"
                       "give 0 for the default",
                       (int)o->ctx, (int)o->threads, (int)o->sessions);
    e->device = o->device, e->ctx = o->ctx, e->threads = o->threads, e->seqs = o->sessions;
    return TK_OK;
}

static tk_status open_into(tk_model *m, const char *path, const tk_model_options *o, int rows) {
    tk_engine_options engine = { .picks = rows };
    TK_TRY(parse_options(o, &engine));
    TK_TRY(tk_modelfile_open(&m->file, path, &(tk_modelfile_options){ .tokenizer = o->tokenizer }));
    m->config = tk_modelfile_config(m->file);
    if (o->chat_template) {
        const char *source;
        TK_TRY(tk_modelfile_template(m->file, o->chat_template, false, &source));
        if (!(m->template_name = strdup(o->chat_template)))
            return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a model");
    }
    TK_TRY(tk_engine_new(&m->engine, m->file, &engine));
    m->ctx = (int32_t)tk_engine_info_of(m->engine)->ctx;
    return TK_OK;
}

tk_status tk__model_open(tk_model **out, const char *path, const tk_model_options *options, int rows) {
    *out = NULL;
    tk_model *m = calloc(1, sizeof *m);
    if (!m) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a model");
    tk_status s = open_into(m, path, options ? options : &(tk_model_options){ 0 }, rows);
    if (s == TK_OK)
        *out = m;
    else
        tk_model_close(m);
    return s;
}

tk_status tk_model_open(tk_model **out, const char *path, const tk_model_options *options) {
    return tk__model_open(out, path, options, 0);
}

void tk_model_close(tk_model *m) {
    if (!m) return;
    tk_engine_free(m->engine);
    tk_template_free(m->chat_template);
    free(m->template_name);
    tk_modelfile_free(m->file);
    free(m);
}

tk_model_info tk_model_about(const tk_model *m) {
    int templates;
    tk_modelfile_templates(m->file, &templates);
    return (tk_model_info){
        .name = m->config->name,
        .family = tk_arch_name(m->config->arch),
        .format = tk_modelfile_format(m->file),
        .vocab = m->config->n_vocab,
        .ctx = m->ctx,
        .model_ctx = m->config->n_ctx,
        .has_template = templates > 0,
    };
}

tk_sampling tk_model_sampling(const tk_model *m) {
    tk_sampling s = tk_sampling_defaults();
    const tk_gen_defaults *own = tk_modelfile_gen_defaults(m->file);
    if (own->has_temperature) s.temp = own->temperature;
    if (own->has_top_k) s.top_k = own->top_k;
    if (own->has_top_p) s.top_p = own->top_p;
    if (own->has_repetition_penalty) s.repeat_penalty = own->repetition_penalty;
    if (own->has_do_sample && !own->do_sample) s.temp = 0;
    return s;
}

tk_status tk_tokenize(tk_model *m, const char *text, size_t bytes, int flags, int32_t **ids, size_t *count) {
    *ids = NULL, *count = 0;
    tk_tokenizer *t;
    TK_TRY(tk__model_tokenizer(m, &t));
    unsigned how = (flags & TK_TEXT_BEGIN ? TK_ENCODE_ADD_SPECIAL : 0) |
                   (flags & TK_TEXT_MARKS ? TK_ENCODE_PARSE_SPECIAL : 0);
    tk_ids list = { 0 };
    tk_status s = tk_encode(t, text, bytes, how, &list);
    if (s != TK_OK) {
        tk_ids_free(&list);
        return s;
    }
    *ids = list.id, *count = list.n;
    return TK_OK;
}

tk_status tk_detokenize(tk_model *m, const int32_t *ids, size_t count, char **text) {
    *text = NULL;
    tk_tokenizer *t;
    TK_TRY(tk__model_tokenizer(m, &t));
    tk_buf out = { 0 };
    tk_buf_put(&out, "", 0);
    tk_status s = tk_decode(t, ids, count, TK_DECODE_SKIP_SPECIAL, &out);
    if (s == TK_OK) s = tk_buf_check(&out);
    if (s == TK_OK)
        *text = out.data;
    else
        tk_buf_free(&out);
    return s;
}
