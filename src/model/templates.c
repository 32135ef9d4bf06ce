/* SPDX-License-Identifier: Apache-2.0 */
/* The chat templates that a model brings: one, or several by name, of which "default" is the one for plain
 * chats and "tool_use" the one for chats with tools. Hugging Face folders keep them in tokenizer_config.json
 * (text, list or object) or, which then replaces all of those, in chat_template.jinja and
 * additional_chat_templates/NAME.jinja; GGUF files in tokenizer.chat_template and
 * tokenizer.chat_template.NAME. */
#include <dirent.h>
#include <stdlib.h>

#include "model/file.h"

enum { MOST_TEMPLATES = 64, TEMPLATE_LIMIT = 4 << 20 };

tk_status tk__template_add(tk_modelfile *f, const char *name, const char *text, size_t n) {
    if (!f->template) {
        f->template = tk_arena_array(&f->arena, MOST_TEMPLATES, sizeof *f->template);
        if (!f->template) return TK_E_NOMEM;
    }
    if (memchr(text, 0, n))
        return TK_FAIL(TK_E_FORMAT, "%s: the chat template \"%.60s\" has a NUL byte inside", f->path, name);
    for (int i = 0; i < f->n_templates; i++)
        if (!strcmp(f->template[i].name, name))
            return TK_FAIL(
                TK_E_FORMAT,
                "%s: the chat template \"%.60s\" is there twice\nwhich of the two counts cannot be told",
                f->path, name);
    if (f->n_templates == MOST_TEMPLATES)
        return TK_FAIL(TK_E_LIMIT, "%s has more than %d chat templates", f->path, MOST_TEMPLATES);
    tk_template_source *t = &f->template[f->n_templates];
    *t = (tk_template_source){ tk_arena_strndup(&f->arena, name, strlen(name)),
                               tk_arena_strndup(&f->arena, text, n) };
    if (!t->name || !t->text) return TK_E_NOMEM;
    f->n_templates++;
    return TK_OK;
}

static tk_status add_json(tk_modelfile *f, const char *name, const json_t *text) {
    if (!name || !json_is_string(text))
        return TK_FAIL(
            TK_E_FORMAT,
            "%s/tokenizer_config.json: a chat template is neither text nor named text\nchat_template must "
            "be text, a list of {\"name\", \"template\"}, or an object of texts",
            f->path);
    return tk__template_add(f, name, json_string_value(text), json_string_length(text));
}

tk_status tk__templates_json(tk_modelfile *f, const json_t *j) {
    if (!j || json_is_null(j)) return TK_OK;
    size_t i;
    const char *name;
    json_t *item;
    if (json_is_object(j)) {
        json_object_foreach((json_t *)(uintptr_t)j, name, item) TK_TRY(add_json(f, name, item));
        return TK_OK;
    }
    if (!json_is_array(j)) return add_json(f, "default", j);
    json_array_foreach(j, i, item) TK_TRY(
        add_json(f, json_string_value(json_object_get(item, "name")), json_object_get(item, "template")));
    return TK_OK;
}

static tk_status add_file(tk_modelfile *f, const char *name, const char *path) {
    tk_buf b = { 0 };
    tk_status s = tk_file_read(&b, path, TEMPLATE_LIMIT);
    if (s == TK_OK) s = tk__template_add(f, name, b.data ? b.data : "", b.len);
    tk_buf_free(&b);
    return s;
}

static int is_jinja(const struct dirent *e) {
    size_t n = strlen(e->d_name);
    return n > 6 && !strcmp(e->d_name + n - 6, ".jinja");
}

tk_status tk__templates_folder(tk_modelfile *f) {
    char *own = tk_arena_printf(&f->arena, "%s/chat_template.jinja", f->path);
    char *folder = tk_arena_printf(&f->arena, "%s/additional_chat_templates", f->path);
    if (!own || !folder) return TK_E_NOMEM;
    struct dirent **more = NULL;
    int n = tk_file_is_dir(folder) ? scandir(folder, &more, is_jinja, alphasort) : 0;
    if (n > 0 || tk_file_exists(own)) f->n_templates = 0; /* files replace what tokenizer_config.json says */
    tk_status s = tk_file_exists(own) ? add_file(f, "default", own) : TK_OK;
    for (int i = 0; i < n; i++) {
        size_t len = strlen(more[i]->d_name);
        char *path = tk_arena_printf(&f->arena, "%s/%s", folder, more[i]->d_name);
        char *name = tk_arena_strndup(&f->arena, more[i]->d_name, len - 6);
        if (s == TK_OK) s = path && name ? add_file(f, name, path) : TK_E_NOMEM;
        free(more[i]);
    }
    free(more);
    return s;
}

const tk_template_source *tk_modelfile_templates(const tk_modelfile *f, int *n) {
    *n = f->n_templates;
    return f->template;
}

tk_status tk_modelfile_template(const tk_modelfile *f, const char *name, bool tools, const char **text) {
    *text = NULL;
    if (!f->n_templates)
        return TK_FAIL(
            TK_E_NOTFOUND,
            "%s has no chat template\nit does not say how a chat is written: it may be no model for "
            "chats\ngive a template of your own (`tokamak template x.jinja`) or plain text (`run --raw`)",
            f->path);
    *text = tk_template_choose(f->template, f->n_templates, name, tools);
    if (*text) return TK_OK;
    tk_buf names = { 0 };
    for (int i = 0; i < f->n_templates; i++)
        tk_buf_printf(&names, "%s%.60s", i ? ", " : "", f->template[i].name);
    tk_status s = TK_FAIL(TK_E_NOTFOUND,
                          "%s has no chat template named \"%.60s\"\nits templates are %s\nname one of them",
                          f->path, name ? name : "default", names.data ? names.data : "many");
    tk_buf_free(&names);
    return s;
}
