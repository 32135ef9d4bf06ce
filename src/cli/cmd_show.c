/* SPDX-License-Identifier: Apache-2.0 */
/* show: what a model file is, before anything is loaded. A file whose weights cannot be used still shows
 * what is readable in it, and why the rest is not. */
#include <stdlib.h>

#include "cli/cli.h"
#include "model/model.h"
#include "text/text.h"

typedef struct report {
    json_t *root;
    cli_table table;
} report;

/* One finding: a row for people, a member for JSON (owned). */
static void finding(report *r, const char *key, json_t *value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void finding(report *r, const char *key, json_t *value, const char *fmt, ...) {
    char text[600], shown[64];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    snprintf(shown, sizeof shown, "%s", key);
    for (char *c = shown; *c; c++)
        if (*c == '_') *c = ' ';
    cli_cell(&r->table, "%s", shown);
    cli_cell(&r->table, "%s", text);
    json_object_set_new(r->root, key, value);
}
static void number(report *r, const char *key, int64_t v) {
    finding(r, key, json_integer(v), "%lld", (long long)v);
}

static void add_config(report *r, const tk_config *c) {
    static const char *const scalings[] = { "none", "linear", "llama3", "yarn" };
    finding(r, "family", json_string(tk_arch_name(c->arch)), "%s", tk_arch_name(c->arch));
    finding(r, "name", json_string(c->name), "%s", c->name);
    number(r, "layers", c->n_layer);
    number(r, "width", c->n_embd);
    finding(r, "heads",
            json_pack("{s:i, s:i, s:i}", "query", c->n_head, "kv", c->n_kv_head, "size", c->head_dim),
            "%d of %d (%d for keys and values)", c->n_head, c->head_dim, c->n_kv_head);
    number(r, "mlp_width", c->n_ff);
    number(r, "vocabulary", c->n_vocab);
    number(r, "context", c->n_ctx);
    if (c->rope.dims)
        finding(r, "rope",
                json_pack("{s:f, s:s, s:f}", "theta", (double)c->rope.theta, "scaling",
                          scalings[c->rope.scaling], "factor", (double)c->rope.factor),
                "theta %g, scaling %s%s", (double)c->rope.theta, scalings[c->rope.scaling],
                c->rope.scaling ? " (see --meta)" : "");
    double kv = 2.0 * c->n_layer * c->n_kv_head * c->head_dim * 2;
    finding(r, "kv_bytes_per_token", json_integer((json_int_t)kv), "%s as f16; %s at the full context",
            cli_bytes(kv), cli_bytes(kv * c->n_ctx));
}

/* Weights by type: how many tensors, numbers and bytes. */
static void add_weights(report *r, const tk_modelfile *f) {
    int n;
    const tk_tensor *t = tk_modelfile_tensors(f, &n);
    double numbers = 0, bytes = 0;
    char text[400] = "";
    size_t at = 0;
    json_t *types = json_object();
    for (int i = 0; i < n; i++) {
        double each = 1;
        for (int d = 0; d < t[i].ndim; d++) each *= (double)t[i].dim[d];
        numbers += each, bytes += (double)t[i].bytes;
        json_t *old = json_object_get(types, t[i].type);
        json_object_set_new(types, t[i].type, json_integer(json_integer_value(old) + (json_int_t)t[i].bytes));
    }
    const char *type;
    json_t *sum;
    json_object_foreach(types, type, sum) if (at < sizeof text) at +=
        (size_t)snprintf(text + at, sizeof text - at, "%s%s %s", at ? ", " : "", type,
                         cli_bytes((double)json_integer_value(sum)));
    finding(r, "tensors", json_integer(n), "%d", n);
    finding(r, "parameters", json_integer((json_int_t)numbers), "%.2f million", numbers / 1e6);
    finding(r, "weight_bytes", json_integer((json_int_t)bytes), "%s", cli_bytes(bytes));
    finding(r, "weight_types", types, "%s", text);
}

static void add_rest(report *r, tk_modelfile *f) {
    tk_tokenizer *t;
    if (tk_modelfile_tokenizer(f, &t) == TK_OK)
        finding(r, "tokenizer",
                json_pack("{s:s, s:i}", "model", tk_tokenizer_model(t), "size", (int)tk_tokenizer_size(t)),
                "%s, %d tokens", tk_tokenizer_model(t), (int)tk_tokenizer_size(t));
    else
        finding(r, "tokenizer", json_null(), "none: %.*s", (int)strcspn(tk_error(), "\n"), tk_error());
    const char *template = tk_modelfile_template(f);
    finding(r, "chat_template", json_boolean(template != NULL), "%s",
            template ? "yes (--template prints it)" : "no");
    int n;
    const tk_meta *m = tk_modelfile_meta(f, &n);
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].key, "general.license"))
            finding(r, "license", json_string(m[i].value), "%s", m[i].value);
    const tk_gen_defaults *g = tk_modelfile_gen_defaults(f);
    if (g && g->has_temperature)
        finding(r, "temperature", cli_json_real((double)g->temperature), "%g", (double)g->temperature);
    if (g && g->has_top_k) number(r, "top_k", g->top_k);
    if (g && g->has_top_p) finding(r, "top_p", cli_json_real((double)g->top_p), "%g", (double)g->top_p);
}

static tk_status list_tensors(const tk_modelfile *f, bool json) {
    int n;
    const tk_tensor *t = tk_modelfile_tensors(f, &n);
    json_t *array = json_array();
    cli_table table = cli_table_new("TENSOR|TYPE|SHAPE|>SIZE");
    for (int i = 0; i < n; i++) {
        char shape[120] = "";
        json_t *dims = json_array();
        for (int d = 0, at = 0; d < t[i].ndim; d++) {
            at += snprintf(shape + at, sizeof shape - (size_t)at, "%s%lld", d ? " x " : "",
                           (long long)t[i].dim[d]);
            json_array_append_new(dims, json_integer(t[i].dim[d]));
        }
        cli_cell(&table, "%s", t[i].name);
        cli_cell(&table, "%s", t[i].type);
        cli_cell(&table, "%s", shape);
        cli_cell(&table, "%s", cli_bytes((double)t[i].bytes));
        json_array_append_new(array, json_pack("{s:s, s:s, s:o, s:I}", "name", t[i].name, "type", t[i].type,
                                               "shape", dims, "bytes", (json_int_t)t[i].bytes));
    }
    if (json) {
        tk_buf_free(&table.cells);
        return cli_print_json(array);
    }
    json_decref(array);
    return cli_table_print(&table);
}

static tk_status list_meta(const tk_modelfile *f, bool json) {
    int n;
    const tk_meta *m = tk_modelfile_meta(f, &n);
    json_t *object = json_object();
    cli_table table = cli_table_new("KEY|VALUE");
    for (int i = 0; i < n; i++) {
        cli_cell(&table, "%s", m[i].key);
        cli_cell(&table, "%s", m[i].value);
        json_object_set_new(object, m[i].key, json_string(m[i].value));
    }
    if (json) {
        tk_buf_free(&table.cells);
        return cli_print_json(object);
    }
    json_decref(object);
    return cli_table_print(&table);
}

static tk_status show(tk_modelfile *f, const char *problem, bool json) {
    report r = { json_object(), cli_table_new("WHAT|FINDING") };
    finding(&r, "path", json_string(tk_modelfile_path(f)), "%s", tk_modelfile_path(f));
    finding(&r, "format", json_string(tk_modelfile_format(f)), "%s", tk_modelfile_format(f));
    const tk_config *c = tk_modelfile_config(f);
    if (c)
        add_config(&r, c);
    else
        finding(&r, "problem", json_string(problem), "not usable as a model: %s", problem);
    if (c) add_weights(&r, f);
    add_rest(&r, f);
    if (json) {
        tk_buf_free(&r.table.cells);
        return cli_print_json(r.root);
    }
    json_decref(r.root);
    return cli_table_print(&r.table);
}

const cli_option options_show[] = {
    { "--tensors", CLI_FLAG, NULL, NULL, "list the tensors" },
    { "--meta", CLI_FLAG, NULL, NULL, "list the metadata" },
    { "--template", CLI_FLAG, NULL, NULL, "print the chat template" },
    { "--tokenizer", CLI_STRING, "FILE", "(the model's)", "use this tokenizer" },
    { .include = cli_json_options },
    { 0 },
};
tk_status cmd_show(const cli_args *a) {
    char *path, problem[1024];
    tk_modelfile *f;
    tk_modelfile_options o = { .tokenizer = cli_string(a, "--tokenizer") };
    bool json = cli_flag(a, "--json");
    TK_TRY(cli_model(a->pos[0], &path));
    tk_status s = tk_modelfile_open(&f, path, &o);
    if (s != TK_OK) {
        snprintf(problem, sizeof problem, "%s", tk_error());
        o.vocab_only = true;
        tk_tokenizer *t;
        bool text = tk_modelfile_open(&f, path, &o) == TK_OK &&
                    (tk_modelfile_tokenizer(f, &t) == TK_OK || tk_modelfile_template(f));
        if (!text) tk_modelfile_free(f);
        s = text ? TK_OK : TK_FAIL(s, "%s", problem); /* the first error tells more than the second */
        problem[strcspn(problem, "\n")] = 0;
    }
    free(path);
    TK_TRY(s);
    const char *template = tk_modelfile_template(f);
    if (cli_flag(a, "--tensors"))
        s = list_tensors(f, json);
    else if (cli_flag(a, "--meta"))
        s = list_meta(f, json);
    else if (!cli_flag(a, "--template"))
        s = show(f, problem, json);
    else if (template)
        cli_print_text(template, strlen(template));
    else
        s = TK_FAIL(TK_E_NOTFOUND, "%s has no chat template\nthe file holds none\nuse `run --raw`",
                    a->pos[0]);
    tk_modelfile_free(f);
    return s;
}
