/* SPDX-License-Identifier: Apache-2.0 */
/* show: what a model file is, before anything is loaded. Of a file that cannot be used it shows what is
 * readable, then fails with the reason, so that scripts see the same exit code as from `run`. */
#include <stdlib.h>

#include "cli/cli.h"
#include "infer/infer.h"
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
                          tk_rope_scaling_name(c->rope.scaling), "factor", (double)c->rope.factor),
                "theta %g, scaling %s%s", (double)c->rope.theta, tk_rope_scaling_name(c->rope.scaling),
                c->rope.scaling ? " (see --meta)" : "");
}

/* What the file calls its family, when this build does not know it or cannot use it. */
static void add_claim(report *r, const tk_modelfile *f) {
    static const char *const keys[] = { "general.architecture", "model_type" };
    int n;
    const tk_meta *m = tk_modelfile_meta(f, &n);
    for (int i = 0; i < n; i++)
        for (size_t k = 0; k < TK_COUNT(keys); k++)
            if (!strcmp(m[i].key, keys[k])) finding(r, "family", json_string(m[i].value), "%s", m[i].value);
}

/* Weights by type: how many tensors and bytes. */
static void add_weights(report *r, const tk_modelfile *f) {
    int n;
    const tk_tensor *t = tk_modelfile_tensors(f, &n);
    double numbers = 0, bytes = 0;
    char text[600] = "";
    size_t at = 0;
    json_t *types = json_object();
    for (int i = 0; i < n; i++) {
        double each = 1;
        for (int d = 0; d < t[i].ndim; d++) each *= (double)t[i].dim[d];
        numbers += each, bytes += (double)t[i].bytes;
        json_t *old = json_object_get(types, t[i].type);
        json_int_t count = json_integer_value(json_object_get(old, "tensors")),
                   had = json_integer_value(json_object_get(old, "bytes"));
        json_object_set_new(types, t[i].type,
                            json_pack("{s:I, s:I, s:b}", "tensors", count + 1, "bytes",
                                      had + (json_int_t)t[i].bytes, "supported", t[i].dtype != TK_NODTYPE));
    }
    const char *type;
    json_t *sum;
    json_object_foreach(types, type, sum) if (at < sizeof text) at +=
        (size_t)snprintf(text + at, sizeof text - at, "%s%s: %d with %s%s", at ? ", " : "", type,
                         (int)json_integer_value(json_object_get(sum, "tensors")),
                         cli_bytes((double)json_integer_value(json_object_get(sum, "bytes"))),
                         json_is_true(json_object_get(sum, "supported")) ? "" : " (not supported)");
    finding(r, "tensors", json_integer(n), "%d", n);
    finding(r, "parameters", json_integer((json_int_t)numbers), "%.2f million", numbers / 1e6);
    finding(r, "weight_bytes", json_integer((json_int_t)bytes), "%s", cli_bytes(bytes));
    finding(r, "weight_types", types, "%s", text);
}

/* What `plan` says for one sequence at some context lengths. A model that no program can be built for is
 * unusable. */
static tk_status add_memory(report *r, const tk_modelfile *f) {
    json_t *all = json_array();
    char text[600] = "";
    size_t at = 0;
    tk_dtype kv = TK_F16;
    int64_t most = tk_modelfile_config(f)->n_ctx;
    for (int64_t ctx = TK_MIN(most, 2048), last = 0; ctx != last; last = ctx, ctx = TK_MIN(ctx * 8, most)) {
        tk_engine *e;
        tk_status s = tk_engine_new(&e, f, &(tk_engine_options){ .plan_only = true, .ctx = ctx });
        if (s != TK_OK) {
            json_decref(all);
            return s;
        }
        const tk_engine_info *i = tk_engine_info_of(e);
        const size_t weights = i->weights + i->mapped, rest = i->io + i->work,
                     total = weights + i->state + rest;
        kv = i->kv;
        json_array_append_new(all, json_pack("{s:I, s:I, s:I, s:I, s:I}", "ctx", (json_int_t)ctx, "weights",
                                             (json_int_t)weights, "kv", (json_int_t)i->state, "work",
                                             (json_int_t)rest, "total", (json_int_t)total));
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? "; " : "", cli_bytes((double)total));
        at += (size_t)snprintf(text + at, sizeof text - at, " at %lld (%s for keys and values)",
                               (long long)ctx, cli_bytes((double)i->state));
        tk_engine_free(e);
    }
    finding(r, "kv_type", json_string(tk_formats[kv].name), "%s", tk_formats[kv].name);
    finding(r, "memory", all, "%s", text);
    return TK_OK;
}

static void add_tokenizer(report *r, tk_modelfile *f) {
    tk_tokenizer *t;
    if (tk_modelfile_tokenizer(f, &t) == TK_OK)
        finding(r, "tokenizer",
                json_pack("{s:s, s:i}", "model", tk_tokenizer_model(t), "size", (int)tk_tokenizer_size(t)),
                "%s, %d tokens", tk_tokenizer_model(t), (int)tk_tokenizer_size(t));
    else
        finding(r, "tokenizer", json_null(), "none: %.*s", (int)strcspn(tk_error(), "\n"), tk_error());
    int n;
    const tk_template_source *all = tk_modelfile_templates(f, &n);
    char text[400] = "";
    json_t *names = json_array();
    for (int i = 0, at = 0; i < n; i++) {
        json_array_append_new(names, json_string(all[i].name));
        if (at < 300)
            at += snprintf(text + at, sizeof text - (size_t)at, "%s%.60s", i ? ", " : "", all[i].name);
    }
    json_object_set_new(r->root, "chat_templates", names);
    finding(r, "chat_template", json_boolean(n > 0), "%s%s", n ? text : "no",
            n ? " (--template prints it)" : "");
}

/* From the metadata, or from the head of a Hugging Face folder's README.md. */
static void add_license(report *r, const tk_modelfile *f) {
    int n;
    const tk_meta *m = tk_modelfile_meta(f, &n);
    for (int i = 0; i < n; i++)
        if (!strcmp(m[i].key, "general.license"))
            finding(r, "license", json_string(m[i].value), "%s", m[i].value);
    char path[4096];
    tk_buf readme = { 0 };
    snprintf(path, sizeof path, "%s/README.md", tk_modelfile_path(f));
    if (tk_file_exists(path) && tk_file_read(&readme, path, 1 << 20) == TK_OK) tk_buf_put(&readme, "", 1);
    const char *head = readme.data && !strncmp(readme.data, "---\n", 4) ? readme.data : "",
               *end = strstr(head + (*head ? 4 : 0), "\n---"), *line = strstr(head, "\nlicense:");
    if (end && line && line < end) {
        line += 9 + strspn(line + 9, " \t");
        int len = (int)TK_MIN(strcspn(line, "\r\n"), 100);
        json_t *value = json_stringn(line, (size_t)len);
        if (value) finding(r, "license", value, "%.*s", len, line);
    }
    tk_buf_free(&readme);
}

static void add_sampling(report *r, const tk_modelfile *f) {
    const tk_gen_defaults *g = tk_modelfile_gen_defaults(f);
    if (g->has_temperature)
        finding(r, "temperature", cli_json_real((double)g->temperature), "%g", (double)g->temperature);
    if (g->has_top_k) number(r, "top_k", g->top_k);
    if (g->has_top_p) finding(r, "top_p", cli_json_real((double)g->top_p), "%g", (double)g->top_p);
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
    return cli_print_either(json, array, &table);
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
    return cli_print_either(json, object, &table);
}

/* `problem`: why it is no usable model, three lines; NULL if it is one */
static tk_status show(tk_modelfile *f, const char *problem, bool json) {
    report r = { json_object(), cli_table_new("WHAT|FINDING") };
    char text[1200] = "";
    finding(&r, "path", json_string(tk_modelfile_path(f)), "%s", tk_modelfile_path(f));
    finding(&r, "format", json_string(tk_modelfile_format(f)), "%s", tk_modelfile_format(f));
    const tk_config *c = tk_modelfile_config(f);
    int n;
    tk_modelfile_tensors(f, &n);
    if (c)
        add_config(&r, c);
    else
        add_claim(&r, f);
    if (n) add_weights(&r, f);
    if (c && !problem && add_memory(&r, f) != TK_OK) problem = tk_error();
    if (problem) snprintf(text, sizeof text, "%s", problem);
    add_tokenizer(&r, f);
    add_license(&r, f);
    add_sampling(&r, f);
    json_object_set_new(r.root, "usable", json_boolean(!problem));
    if (problem) finding(&r, "problem", json_string(text), "%.*s", (int)strcspn(text, "\n"), text);
    return cli_print_either(json, r.root, &r.table);
}

const cli_option options_show[] = {
    { "--tensors", CLI_FLAG, NULL, NULL, "list the tensors" },
    { "--meta", CLI_FLAG, NULL, NULL, "list the metadata" },
    { "--template", CLI_FLAG, NULL, NULL, "print the chat template" },
    { "--name", CLI_STRING, "NAME", "(default)", "which template, of a model that has several" },
    { "--tokenizer", CLI_STRING, "FILE", "(the model's)", "use this tokenizer" },
    { .include = cli_json_options },
    { 0 },
};

/* Opens the file for inspection, or as a bare tokenizer. *status and problem: why it cannot be used as a
 * model. */
static tk_status open_shown(const cli_args *a, tk_modelfile **f, tk_status *status, char problem[1200]) {
    char *path;
    tk_modelfile_options o = { .tokenizer = cli_string(a, "--tokenizer"), .inspect = true };
    TK_TRY(cli_model(a->pos[0], &path));
    *status = tk_modelfile_open(f, path, &o);
    const char *text = tk_error();
    int n = 0, meta = 0, templates = 0;
    tk_tokenizer *t;
    if (*f) {
        *status = tk_modelfile_problem(*f, &text);
        tk_modelfile_tensors(*f, &n);
    }
    snprintf(problem, 1200, "%s", *status == TK_OK ? "" : text);
    if (!*f && (o = (tk_modelfile_options){ .tokenizer = o.tokenizer, .vocab_only = true }, true) &&
        tk_modelfile_open(f, path, &o) == TK_OK && tk_modelfile_tokenizer(*f, &t) == TK_OK)
        *status = TK_OK; /* a tokenizer is all that it means to be */
    free(path);
    if (*f) tk_modelfile_templates(*f, &templates), tk_modelfile_meta(*f, &meta);
    if (*f && *status != TK_OK && !n && !meta && !templates && tk_modelfile_tokenizer(*f, &t) != TK_OK)
        tk_modelfile_free(*f), *f = NULL;
    return *f ? TK_OK : TK_FAIL(*status, "%s", problem);
}

tk_status cmd_show(const cli_args *a) {
    char problem[1200];
    tk_modelfile *f = NULL;
    tk_status unusable, s;
    bool json = cli_flag(a, "--json");
    if (cli_given(a, "--name") == 2 && !cli_flag(a, "--template"))
        return TK_FAIL(TK_E_USAGE,
                       "--name is given without --template\nit names a chat template\nadd --template");
    TK_TRY(open_shown(a, &f, &unusable, problem));
    if (cli_flag(a, "--tensors"))
        s = list_tensors(f, json);
    else if (cli_flag(a, "--meta"))
        s = list_meta(f, json);
    else if (cli_flag(a, "--template")) {
        const char *template;
        s = tk_modelfile_template(f, cli_string(a, "--name"), false, &template);
        if (s == TK_OK) cli_print_text(template, strlen(template));
    } else {
        s = show(f, *problem ? problem : NULL, json);
        if (s == TK_OK && unusable != TK_OK) s = TK_FAIL(unusable, "%s", problem);
    }
    tk_modelfile_free(f);
    return s;
}
