/* SPDX-License-Identifier: Apache-2.0 */
/* The public side of the template engine: parse once, render many times under limits, and the choice among
 * the templates that a model brings. */
#include <stdlib.h>
#include <utf8proc.h>

#include "text/jinja.h"

enum { MAX_SOURCE = 256 << 10 };

/* Newlines become \n, one at the end goes, as jinja2 does it. The result is a NUL-terminated copy in the
 * arena. */
static tk_status normalize(tk_arena *a, const char *src, size_t n, char **out, size_t *len) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t got =
            utf8proc_iterate((const utf8proc_uint8_t *)src + i, (utf8proc_ssize_t)(n - i), &cp);
        if (got <= 0) {
            return TK_FAIL(TK_E_FORMAT,
                           "the chat template is not UTF-8\nbyte %zu is wrong\nuse another template", i);
        }
        i += (size_t)got;
    }
    char *to = tk_arena_alloc(a, n + 1);
    if (!to) return TK_E_NOMEM;
    *out = to;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '\r' && i + 1 < n && src[i + 1] == '\n') continue;
        *to++ = src[i] == '\r' ? '\n' : src[i];
    }
    *len = (size_t)(to - *out);
    if (*len && (*out)[*len - 1] == '\n') --*len;
    return TK_OK;
}

static tk_status parse(tk_template *t, jtokens *tokens, const char *src, size_t n) {
    char *text;
    size_t len;
    if (n > MAX_SOURCE) {
        return TK_FAIL(
            TK_E_LIMIT,
            "the chat template is too long\nit has %zu bytes, %d are allowed\nuse another template", n,
            MAX_SOURCE);
    }
    TK_TRY(normalize(&t->arena, src, n, &text, &len));
    TK_TRY(tk__jlex(tokens, &t->arena, text, len));
    TK_TRY(tk__jparse(t, tokens));
    return tk__jresolve(t);
}

tk_status tk_template_parse(tk_template **out, const char *src, size_t n) {
    *out = NULL;
    tk_template *t = calloc(1, sizeof *t);
    if (!t) return TK_FAIL(TK_E_NOMEM, "out of memory\na chat template was to be parsed");
    jtokens tokens = { 0 };
    tk_status s = parse(t, &tokens, src, n);
    free(tokens.at);
    if (s == TK_OK)
        *out = t;
    else
        tk_template_free(t);
    return s;
}

void tk_template_free(tk_template *t) {
    if (!t) return;
    tk_arena_free(&t->arena);
    free(t);
}

static tk_template_limits with_defaults(const tk_template_limits *l) {
    tk_template_limits r = l ? *l : (tk_template_limits){ 0 };
    if (!r.steps) r.steps = 20000000;
    if (!r.depth) r.depth = 1500;
    if (!r.output) r.output = (size_t)64 << 20;
    if (!r.value) r.value = (size_t)16 << 20;
    if (!r.memory) r.memory = (size_t)512 << 20;
    if (r.seconds == 0) r.seconds = 10;
    return r;
}

static tk_status render(jx *c, const char *json, size_t n) {
    jval vars, name;
    TK_TRY(tk__jjson_load(c, json, n, &vars));
    for (const jrow *row = tk__jglobals; row->name; row++) {
        jfunc *fn;
        if (tk__jdict_find(vars.d, row->name, strlen(row->name))) continue;
        TK_TRY(tk__jalloc(c, 1, sizeof *fn, &fn));
        *fn = (jfunc){ .row = row };
        TK_TRY(tk__jstr_new(c, row->name, strlen(row->name), &name));
        TK_TRY(tk__jdict_set(c, vars.d, name, (jval){ .type = J_FUNC, .fn = fn }));
    }
    c->vars = vars.d;
    return tk__jrender(c);
}

tk_status tk_template_render(const tk_template *t, const char *json, size_t n,
                             const tk_template_limits *limits, tk_buf *out) {
    jx c = { .t = t, .lim = with_defaults(limits) };
    c.deadline = tk_now() + c.lim.seconds;
    tk_status s = render(&c, json, n);
    if (s == TK_OK) {
        tk_buf_put(out, c.out.data, c.out.len);
        s = tk_buf_check(out);
    }
    tk_buf_free(&c.out);
    tk_arena_free(&c.arena);
    return s;
}

/* ---- choosing ---------------------------------------------------------------------------------------- */

static const char *by_name(const tk_template_source *all, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i].name, name)) return all[i].text;
    return NULL;
}

const char *tk_template_choose(const tk_template_source *all, int n, const char *name, bool has_tools) {
    if (name) return by_name(all, n, name);
    const char *text = has_tools ? by_name(all, n, "tool_use") : NULL;
    return text ? text : by_name(all, n, "default");
}
