/* SPDX-License-Identifier: Apache-2.0 */
/* The tree walk. Every node costs a step and a level of depth, so that no template outruns its limits. A
 * frame holds the variables of one scope; macros keep a pointer to the frame that they were made in. */
#include "text/jinja.h"

#define EVAL(node, to) TK_TRY(tk__jeval(c, f, node, to))

static tk_status exec(jx *c, jframe *f, const jnode *n);

/* ---- frames and names -------------------------------------------------------------------------------- */

jframe *tk__jframe_new(jx *c, jframe *parent, const jscope *scope) {
    jframe *f;
    size_t bytes = sizeof *f + (size_t)scope->n * sizeof(jval);
    if (tk__jalloc(c, bytes, 1, &f) != TK_OK) return NULL;
    f->parent = parent, f->scope = scope;
    return f;
}

static jval *slot(jframe *f, int hops, int slot) {
    while (hops--) f = f->parent; /* NOLINT(clang-analyzer-core.NullDereference): counted when parsed */
    return &f->slot[slot];
}

static jval resolve(jx *c, const jstr *name) {
    const jval *v = tk__jdict_find(c->vars, name->s, name->n);
    return v ? *v : tk__jmissing;
}

void tk__jframe_enter(jx *c, jframe *f) {
    for (int i = 0; i < f->scope->n; i++) {
        const jsym *s = &f->scope->sym[i];
        if (s->load == L_RESOLVE)
            f->slot[i] = resolve(c, s->name);
        else if (s->load == L_ALIAS)
            f->slot[i] = *slot(f->parent, s->hops - 1, s->slot);
        else
            f->slot[i] = tk__jmissing;
    }
}

static tk_status enter_scope(jx *c, jframe *parent, const jscope *scope, jframe **f) {
    *f = tk__jframe_new(c, parent, scope);
    if (!*f) return TK_E_LIMIT;
    tk__jframe_enter(c, *f);
    return TK_OK;
}

static tk_status load(jx *c, jframe *f, const jnode *n, jval *out) {
    *out = *slot(f, n->hops, n->slot);
    if (out->type != J_MISSING) return TK_OK;
    return tk__jundef(c, out, "'%.*s' is undefined", (int)TK_MIN(n->val.s->n, 120), n->val.s->s);
}

static tk_status store_ns(jx *c, jframe *f, const jnode *n, jval v) {
    jval ns = *slot(f, n->hops, n->slot);
    const jstr *attr = n->a->val.s;
    if (ns.type != J_NS) return JFAIL(c, "cannot assign attribute on non-namespace object");
    if (attr->n && attr->s[0] == '_') {
        return JFAIL(
            c, "Chat templates cannot store underscore-prefixed attributes on a namespace, but got '%.80s'",
            attr->s);
    }
    return tk__jdict_set(c, ns.d, n->a->val, v);
}

tk_status tk__jassign(jx *c, jframe *f, const jnode *n, jval v) {
    if (n->kind == N_NAME) {
        *slot(f, n->hops, n->slot) = v;
        return TK_OK;
    }
    if (n->kind == N_NSREF) return store_ns(c, f, n, v);
    jiter *it;
    jval one;
    TK_TRY(tk__jiter_new(c, v, &it));
    jval *items;
    TK_TRY(tk__jalloc(c, (size_t)n->kids.n, sizeof *items, &items));
    for (int i = 0; i < n->kids.n; i++) {
        TK_TRY(tk__jnext(c, it, &items[i]));
        if (items[i].type == J_MISSING) {
            return JFAIL(c, "not enough values to unpack (expected %d, got %d)", n->kids.n, i);
        }
    }
    TK_TRY(tk__jnext(c, it, &one));
    if (one.type != J_MISSING) return JFAIL(c, "too many values to unpack (expected %d)", n->kids.n);
    for (int i = 0; i < n->kids.n; i++) TK_TRY(tk__jassign(c, f, n->kids.at[i], items[i]));
    return TK_OK;
}

/* ---- calls ------------------------------------------------------------------------------------------- */

enum { MAX_PARAMS = 8 };

/* Spreads positional and keyword arguments over the row's parameters. */
static tk_status bind(jx *c, const jrow *row, const jargs *args, jval *a) {
    const char *p = row->params;
    int n = 0, used = 0;
    for (; *p; n++) {
        size_t len = strcspn(p, " ");
        a[n] = n < args->n_pos ? args->pos[n] : tk__jmissing;
        for (int k = 0; k < args->n_kw && *p != '.'; k++) {
            if (args->names[k]->n != len || memcmp(args->names[k]->s, p, len) != 0) continue;
            if (a[n].type != J_MISSING)
                return JFAIL(c, "%s() got multiple values for argument '%.*s'", row->name, (int)len, p);
            a[n] = args->kw[k];
            used++;
        }
        p += len + (p[len] == ' ');
    }
    if (args->n_pos > n)
        return JFAIL(c, "%s() takes %d arguments but %d were given", row->name, n, args->n_pos);
    if (used < args->n_kw) return JFAIL(c, "%s() got an unexpected keyword argument", row->name);
    for (int i = 0; i < n && i < row->need; i++) {
        if (a[i].type == J_MISSING) return JFAIL(c, "%s() is missing a required argument", row->name);
    }
    return TK_OK;
}

tk_status tk__jcall_row(jx *c, const jrow *row, jval self, const jargs *args, jval *out) {
    jval a[MAX_PARAMS];
    if (!row->fn) return tk__jfail(c, TK_E_UNSUPPORTED, "'%s' is not supported", row->name);
    TK_TRY(tk__jstep(c, 0));
    TK_TRY(tk__jenter(c));
    if (row->params[0] != '*') TK_TRY(bind(c, row, args, a));
    jcall k = { .self = self, .a = a, .raw = args };
    TK_TRY(row->fn(c, &k, out));
    c->depth--;
    return TK_OK;
}

tk_status tk__jcall(jx *c, jval fn, const jargs *args, jval *out) {
    switch (fn.type) {
    case J_FUNC: return tk__jcall_row(c, fn.fn->row, fn.fn->self, args, out);
    case J_MACRO: return tk__jmacro_call(c, fn.macro, args, out);
    case J_JOINER:
        *out = fn.l->at[fn.l->at[1].b ? 0 : 2];
        fn.l->at[1] = tk__jbool(true);
        return TK_OK;
    case J_LOOP: {
        size_t mark;
        if (!fn.loop->node)
            return JFAIL(c, "The loop must have the 'recursive' marker to be called recursively.");
        if (args->n_pos != 1 || args->n_kw) return JFAIL(c, "loop() takes one argument");
        TK_TRY(tk__jmark(c, &mark));
        TK_TRY(tk__jloop_run(c, fn.loop->node, fn.loop->frame, args->pos[0], fn.loop->depth0 + 1));
        return tk__jtake(c, mark, out);
    }
    case J_UNDEF: return JFAIL(c, "%s", fn.undef);
    default: return JFAIL(c, "'%s' object is not callable", tk__jtype(fn));
    }
}

/* Evaluates call arguments; `extra`: a caller for the call statement, or NULL. */
static tk_status eval_args(jx *c, jframe *f, const jcallargs *a, const jval *extra, jargs *out) {
    static const jstr caller = { .s = "caller", .n = 6, .chars = 6 };
    *out = (jargs){ 0 };
    if (!a && !extra) return TK_OK;
    jval dyn = tk__jmissing, dyn_kw = tk__jmissing, *pos, *kw;
    jstr **names = NULL;
    size_t n_pos = a ? (size_t)a->pos.n : 0, n_kw = (a ? (size_t)a->kw.n : 0) + (extra != NULL);
    size_t own_kw = a ? (size_t)a->kw.n : 0;
    TK_TRY(tk__jalloc(c, n_pos, sizeof *pos, &pos)); /* on the arena: a lazy callee keeps its arguments */
    for (size_t i = 0; i < n_pos; i++) EVAL(a->pos.at[i], &pos[i]);
    TK_TRY(tk__jalloc(c, n_kw + 1, sizeof *kw, &kw));
    for (size_t i = 0; i < own_kw; i++) EVAL(a->kw.at[i], &kw[i]);
    if (a && a->dyn) {
        EVAL(a->dyn, &dyn);
        TK_TRY(tk__jlist_of(c, dyn, &dyn));
    }
    if (a && a->dyn_kw) EVAL(a->dyn_kw, &dyn_kw);
    if (dyn_kw.type != J_MISSING && dyn_kw.type != J_DICT)
        return JFAIL(c, "argument after ** must be a mapping");
    size_t more_pos = dyn.type == J_MISSING ? 0 : dyn.l->n,
           more_kw = dyn_kw.type == J_MISSING ? 0 : dyn_kw.d->n;
    jval *all;
    if (more_pos) {
        TK_TRY(tk__jalloc(c, n_pos + more_pos, sizeof *all, &all));
        for (size_t i = 0; i < n_pos; i++) all[i] = pos[i];
        for (size_t i = 0; i < more_pos; i++) all[n_pos + i] = dyn.l->at[i];
        pos = all;
    }
    if (n_kw + more_kw) {
        TK_TRY(tk__jalloc(c, n_kw + more_kw, sizeof *names, &names));
        TK_TRY(tk__jalloc(c, n_kw + more_kw, sizeof *all, &all));
        for (size_t i = 0; i < own_kw; i++) names[i] = a->names[i], all[i] = kw[i];
        if (extra) names[own_kw] = (jstr *)&caller, all[own_kw] = *extra;
        for (size_t i = 0; i < more_kw; i++) {
            if (dyn_kw.d->at[i].key.type != J_STR) return JFAIL(c, "keywords must be strings");
            names[n_kw + i] = dyn_kw.d->at[i].key.s, all[n_kw + i] = dyn_kw.d->at[i].val;
            for (size_t k = 0; k < n_kw; k++) {
                if (names[k]->n == names[n_kw + i]->n &&
                    memcmp(names[k]->s, names[n_kw + i]->s, names[k]->n) == 0) {
                    return JFAIL(c, "multiple values for a keyword argument");
                }
            }
        }
        kw = all;
    }
    size_t total = n_pos + more_pos;
    if (total > 1u << 20 || n_kw + more_kw > 1u << 12)
        return tk__jfail(c, TK_E_LIMIT, "a call has %zu arguments", total);
    *out = (jargs){ pos, names, kw, (int)total, (int)(n_kw + more_kw) };
    return TK_OK;
}

static tk_status eval_call(jx *c, jframe *f, const jnode *n, const jval *caller, jval *out) {
    jval fn;
    jargs args;
    EVAL(n->a, &fn);
    TK_TRY(eval_args(c, f, n->args, caller, &args));
    c->line = n->line;
    return tk__jcall(c, fn, &args, out);
}

/* A chain of filters over `text` where the innermost has no operand of its own (set and filter blocks). */
static tk_status eval_filter(jx *c, jframe *f, const jnode *n, const jval *text, jval *out) {
    jval of;
    jargs args;
    bool test = n->kind == N_TEST;
    if (!n->row) return JFAIL(c, "No %s named '%.80s' found.", test ? "test" : "filter", n->val.s->s);
    if (!n->a)
        of = *text;
    else if (text)
        TK_TRY(eval_filter(c, f, n->a, text, &of));
    else
        EVAL(n->a, &of);
    TK_TRY(eval_args(c, f, n->args, NULL, &args));
    c->line = n->line;
    return tk__jcall_row(c, n->row, of, &args, out);
}

/* ---- macros ------------------------------------------------------------------------------------------ */

static tk_status make_macro(jx *c, jframe *f, const jnode *n, jval *out) {
    jmacro *m;
    TK_TRY(tk__jalloc(c, 1, sizeof *m, &m));
    *m = (jmacro){ n, f };
    *out = (jval){ .type = J_MACRO, .macro = m };
    return TK_OK;
}

/* What a macro does with arguments that are none of its parameters. */
static tk_status macro_rest(jx *c, const jnode *n, jframe *f, const jargs *args, const bool *taken) {
    jval rest;
    TK_TRY(tk__jdict_new(c, (size_t)args->n_kw, &rest));
    for (int k = 0; k < args->n_kw; k++) {
        if (taken[k]) continue;
        if (n->caller >= 0 && tk__jstr_eq(args->names[k], "caller")) {
            f->slot[n->caller] = args->kw[k];
            continue;
        }
        if (n->kwargs < 0)
            return JFAIL(c, "macro takes no keyword argument '%.*s'", (int)TK_MIN(args->names[k]->n, 80),
                         args->names[k]->s);
        TK_TRY(tk__jdict_set(c, rest.d, (jval){ .type = J_STR, .s = args->names[k] }, args->kw[k]));
    }
    if (n->caller >= 0 && (f->slot[n->caller].type == J_MISSING || f->slot[n->caller].type == J_NONE)) {
        TK_TRY(tk__jundef(c, &f->slot[n->caller], "No caller defined"));
    }
    if (n->kwargs >= 0) f->slot[n->kwargs] = rest;
    int more = TK_MAX(args->n_pos - n->kids.n, 0);
    if (more && n->varargs < 0) return JFAIL(c, "macro takes not more than %d argument(s)", n->kids.n);
    if (n->varargs < 0) return TK_OK;
    TK_TRY(tk__jlist_new(c, J_TUPLE, (size_t)more, &rest));
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as many arguments are there */
    for (int i = 0; i < more; i++) rest.l->at[i] = args->pos[n->kids.n + i];
    f->slot[n->varargs] = rest;
    return TK_OK;
}

tk_status tk__jmacro_call(jx *c, const jmacro *m, const jargs *args, jval *out) {
    const jnode *n = m->node;
    jframe *f;
    bool *taken;
    size_t mark;
    TK_TRY(tk__jenter(c));
    TK_TRY(enter_scope(c, m->frame, n->scope, &f));
    TK_TRY(tk__jalloc(c, (size_t)args->n_kw, sizeof *taken, &taken));
    for (int i = 0; i < n->kids.n; i++) {
        jval *at = slot(f, n->kids.at[i]->hops, n->kids.at[i]->slot);
        const jstr *name = n->kids.at[i]->val.s;
        if (i < args->n_pos) *at = args->pos[i];
        for (int k = 0; i >= args->n_pos && k < args->n_kw; k++) {
            if (args->names[k]->n != name->n || memcmp(args->names[k]->s, name->s, name->n) != 0) continue;
            *at = args->kw[k];
            taken[k] = true;
        }
    }
    TK_TRY(macro_rest(c, n, f, args, taken));
    for (int i = 0, first = n->kids.n - n->more.n; i < n->kids.n; i++) {
        jval *at = slot(f, n->kids.at[i]->hops, n->kids.at[i]->slot);
        if (at->type != J_MISSING) continue;
        if (i >= first)
            EVAL(n->more.at[i - first], at);
        else
            TK_TRY(tk__jundef(c, at, "parameter '%.80s' was not provided", n->kids.at[i]->val.s->s));
    }
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(exec(c, f, n->c));
    TK_TRY(tk__jtake(c, mark, out));
    c->depth--;
    return TK_OK;
}

/* ---- expressions ------------------------------------------------------------------------------------- */

static tk_status eval_items(jx *c, jframe *f, const jnode *n, jval *out) {
    TK_TRY(tk__jlist_new(c, n->kind == N_LIST ? J_LIST : J_TUPLE, (size_t)n->kids.n, out));
    for (int i = 0; i < n->kids.n; i++) EVAL(n->kids.at[i], &out->l->at[i]);
    return TK_OK;
}

static tk_status eval_dict(jx *c, jframe *f, const jnode *n, jval *out) {
    jval key, val;
    TK_TRY(tk__jdict_new(c, (size_t)n->kids.n, out));
    for (int i = 0; i < n->kids.n; i++) {
        EVAL(n->kids.at[i], &key);
        EVAL(n->more.at[i], &val);
        TK_TRY(tk__jdict_set(c, out->d, key, val));
    }
    return TK_OK;
}

static tk_status eval_compare(jx *c, jframe *f, const jnode *n, jval *out) {
    jval left, right;
    bool yes = true;
    EVAL(n->a, &left);
    for (int i = 0; yes && i < n->kids.n; i++) {
        EVAL(n->kids.at[i], &right);
        c->line = n->line;
        TK_TRY(tk__jcompare(c, n->cmp[i], left, right, &yes));
        left = right;
    }
    *out = tk__jbool(yes);
    return TK_OK;
}

static tk_status eval_concat(jx *c, jframe *f, const jnode *n, jval *out) {
    jval *items;
    size_t mark;
    TK_TRY(tk__jalloc(c, (size_t)n->kids.n, sizeof *items, &items));
    for (int i = 0; i < n->kids.n; i++) EVAL(n->kids.at[i], &items[i]);
    if (n->kids.n == 2 && items[0].type == J_STR && items[1].type == J_STR && !items[0].s->safe) {
        TK_TRY(tk__jstr_cat(c, items[0].s, items[1].s, out));
        return TK_OK;
    }
    TK_TRY(tk__jmark(c, &mark));
    for (int i = 0; i < n->kids.n; i++) TK_TRY(tk__jprint(c, items[i]));
    return tk__jtake(c, mark, out);
}

static tk_status eval_item(jx *c, jframe *f, const jnode *n, jval *out) {
    jval of, key, part[3] = { tk__jnone, tk__jnone, tk__jnone };
    const jnode *s = n->b;
    EVAL(n->a, &of);
    if (s->kind != N_SLICE) {
        EVAL(s, &key);
        c->line = n->line;
        return tk__jgetitem(c, of, key, out);
    }
    if (s->a) EVAL(s->a, &part[0]);
    if (s->b) EVAL(s->b, &part[1]);
    if (s->c) EVAL(s->c, &part[2]);
    c->line = n->line;
    return tk__jslice(c, of, part[0], part[1], part[2], out);
}

static tk_status eval_unary(jx *c, jframe *f, const jnode *n, jval *out) {
    jval v;
    int64_t i;
    EVAL(n->a, &v);
    c->line = n->line;
    if (n->kind == N_NOT) {
        *out = tk__jbool(!tk__jtruth(v));
        return TK_OK;
    }
    if (v.type == J_UNDEF) return JFAIL(c, "%s", v.undef);
    if (n->kind == N_NEG) {
        if (v.type != J_FLOAT)
            return tk__jinteger(v, &i) ? tk__jbinary(c, '-', tk__jint(0), tk__jint(i), out)
                                       : JFAIL(c, "bad operand type for unary -: '%s'", tk__jtype(v));
        *out = tk__jfloat(-v.f);
        return TK_OK;
    }
    if (v.type == J_FLOAT)
        *out = v;
    else if (tk__jinteger(v, &i))
        *out = tk__jint(i);
    else
        return JFAIL(c, "bad operand type for unary +: '%s'", tk__jtype(v));
    return TK_OK;
}

static tk_status eval(jx *c, jframe *f, const jnode *n, jval *out) {
    jval a, b;
    switch (n->kind) {
    case N_CONST: *out = n->val; return TK_OK;
    case N_NAME: return load(c, f, n, out);
    case N_TUPLE:
    case N_LIST: return eval_items(c, f, n, out);
    case N_DICT: return eval_dict(c, f, n, out);
    case N_NEG:
    case N_POS:
    case N_NOT: return eval_unary(c, f, n, out);
    case N_AND:
    case N_OR:
        EVAL(n->a, out);
        if (tk__jtruth(*out) == (n->kind == N_AND)) EVAL(n->b, out);
        return TK_OK;
    case N_BINARY:
        EVAL(n->a, &a);
        EVAL(n->b, &b);
        c->line = n->line;
        return tk__jbinary(c, (char)n->op, a, b, out);
    case N_CONCAT: return eval_concat(c, f, n, out);
    case N_COMPARE: return eval_compare(c, f, n, out);
    case N_COND:
        EVAL(n->a, &a);
        if (tk__jtruth(a)) return tk__jeval(c, f, n->b, out);
        if (n->c) return tk__jeval(c, f, n->c, out);
        return tk__jundef(
            c, out, "the inline if-expression on line %d evaluated to false and no else section was defined.",
            n->line);
    case N_ATTR:
        EVAL(n->a, &a);
        c->line = n->line;
        return tk__jgetattr(c, a, n->val.s, out);
    case N_ITEM: return eval_item(c, f, n, out);
    case N_CALL: return eval_call(c, f, n, NULL, out);
    case N_FILTER:
    case N_TEST: return eval_filter(c, f, n, NULL, out);
    default: return TK_FAIL(TK_E_INTERNAL, "a template node of kind %d is no expression\n\n", n->kind);
    }
}

tk_status tk__jeval(jx *c, jframe *f, const jnode *n, jval *out) {
    c->line = n->line;
    TK_TRY(tk__jstep(c, 0));
    TK_TRY(tk__jenter(c));
    TK_TRY(eval(c, f, n, out));
    c->depth--;
    return TK_OK;
}

/* ---- statements -------------------------------------------------------------------------------------- */

/* The value of a loop's targets, read back from their slots */
static tk_status read_back(jx *c, jframe *f, const jnode *target, jval *out) {
    if (target->kind == N_NAME) {
        *out = f->slot[target->slot];
        return TK_OK;
    }
    TK_TRY(tk__jlist_new(c, J_TUPLE, (size_t)target->kids.n, out));
    for (int i = 0; i < target->kids.n; i++) TK_TRY(read_back(c, f, target->kids.at[i], &out->l->at[i]));
    return TK_OK;
}

/* The items of a loop with a condition: those for which it holds, tuples made anew from the targets. */
static tk_status next_passing(jx *c, jiter *it, jval *out) {
    const jnode *n = it->node;
    jframe *f = it->frame;
    for (;;) {
        jval v;
        TK_TRY(tk__jnext(c, it->from, out));
        if (out->type == J_MISSING) return TK_OK;
        tk__jframe_enter(c, f);
        TK_TRY(tk__jassign(c, f, n->a, *out));
        EVAL(n->c, &v);
        if (tk__jtruth(v)) return read_back(c, f, n->a, out);
    }
}

static tk_status run_rounds(jx *c, const jnode *n, jloop *l, jframe *f, bool *none) {
    jval item;
    *none = true;
    for (;;) {
        c->line = n->line;
        TK_TRY(tk__jloop_next(c, l, &item));
        if (item.type == J_MISSING) return TK_OK;
        tk__jframe_enter(c, f);
        if (n->loop >= 0) f->slot[n->loop] = (jval){ .type = J_LOOP, .loop = l };
        TK_TRY(tk__jassign(c, f, n->a, item));
        TK_TRY(exec(c, f, n->kids.at[0]));
        bool broken = c->flow == FLOW_BREAK;
        if (c->flow == FLOW_ON) *none = false; /* jinja clears its mark for else at the end of a round */
        c->flow = FLOW_ON;
        if (broken) return TK_OK;
    }
}

tk_status tk__jloop_run(jx *c, const jnode *n, jframe *f, jval iterable, int depth0) {
    jloop *l;
    jframe *body;
    bool none;
    TK_TRY(tk__jenter(c));
    TK_TRY(tk__jalloc(c, 1, sizeof *l, &l));
    *l = (jloop){ .iterable = iterable, .index0 = -1, .length = -1, .depth0 = depth0, .frame = f };
    if (n->flags & JF_RECURSIVE) l->node = n;
    TK_TRY(tk__jiter_new(c, iterable, &l->it));
    if (n->c) {
        jval filtered;
        TK_TRY(tk__jiter_make(c, next_passing, &filtered));
        filtered.it->from = l->it, filtered.it->node = n;
        TK_TRY(enter_scope(c, f, n->test_scope, &filtered.it->frame));
        l->it = filtered.it, l->iterable = filtered;
    }
    body = tk__jframe_new(c, f, n->scope);
    if (!body) return TK_E_LIMIT;
    TK_TRY(run_rounds(c, n, l, body, &none));
    if (none && n->more.n) {
        TK_TRY(enter_scope(c, f, n->else_scope, &body));
        TK_TRY(exec(c, body, n->more.at[0]));
    }
    c->depth--;
    return TK_OK;
}

static tk_status exec_for(jx *c, jframe *f, const jnode *n) {
    jval iterable;
    EVAL(n->b, &iterable);
    c->line = n->line;
    return tk__jloop_run(c, n, f, iterable, 0);
}

static tk_status exec_if(jx *c, jframe *f, const jnode *n) {
    jval v;
    for (int i = 0; i < n->kids.n; i++) {
        EVAL(n->kids.at[i], &v);
        if (tk__jtruth(v)) return exec(c, f, n->more.at[i]);
    }
    return n->c ? exec(c, f, n->c) : TK_OK;
}

/* The namespaces among the targets are looked at before the value is evaluated, as jinja does. */
static tk_status check_targets(jx *c, jframe *f, const jnode *n) {
    if (n->kind == N_NSREF && slot(f, n->hops, n->slot)->type != J_NS) {
        return JFAIL(c, "cannot assign attribute on non-namespace object");
    }
    for (int i = 0; n->kind == N_TUPLE && i < n->kids.n; i++) TK_TRY(check_targets(c, f, n->kids.at[i]));
    return TK_OK;
}

static tk_status exec_set(jx *c, jframe *f, const jnode *n) {
    jval v;
    TK_TRY(check_targets(c, f, n->a));
    EVAL(n->b, &v);
    c->line = n->line;
    return tk__jassign(c, f, n->a, v);
}

/* set and filter blocks: their text is caught, filtered, then stored or printed. A break inside drops it. */
static tk_status exec_caught(jx *c, jframe *f, const jnode *n) {
    jframe *inner;
    jval v;
    size_t mark;
    TK_TRY(enter_scope(c, f, n->scope, &inner));
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(exec(c, inner, n->c));
    TK_TRY(tk__jtake(c, mark, &v));
    if (c->flow != FLOW_ON) return TK_OK;
    c->line = n->line;
    if (n->b) TK_TRY(eval_filter(c, inner, n->b, &v, &v));
    return n->kind == N_SETBLOCK ? tk__jassign(c, f, n->a, v) : tk__jprint(c, v);
}

static tk_status exec_with(jx *c, jframe *f, const jnode *n) {
    jframe *inner;
    jval v;
    TK_TRY(enter_scope(c, f, n->scope, &inner));
    for (int i = 0; i < n->kids.n; i++) {
        EVAL(n->more.at[i], &v);
        TK_TRY(tk__jassign(c, inner, n->kids.at[i], v));
    }
    return exec(c, inner, n->c);
}

static tk_status exec_one(jx *c, jframe *f, const jnode *n) {
    jval v;
    switch (n->kind) {
    case N_TEXT: return tk__jput(c, n->val.s->s, n->val.s->n);
    case N_PRINT:
        for (int i = 0; i < n->kids.n; i++) {
            EVAL(n->kids.at[i], &v);
            TK_TRY(tk__jprint(c, v));
        }
        return TK_OK;
    case N_IF: return exec_if(c, f, n);
    case N_FOR: return exec_for(c, f, n);
    case N_SET: return exec_set(c, f, n);
    case N_SETBLOCK:
    case N_FILTERBLOCK: return exec_caught(c, f, n);
    case N_WITH: return exec_with(c, f, n);
    case N_MACRO: return make_macro(c, f, n, slot(f, n->hops, n->slot));
    case N_CALLBLOCK: {
        jval caller;
        TK_TRY(make_macro(c, f, n, &caller));
        TK_TRY(eval_call(c, f, n->b, &caller, &v));
        return tk__jprint(c, v);
    }
    case N_GENERATION:
        TK_TRY(tk__jmacro_call(c, &(jmacro){ n, f }, &(jargs){ 0 }, &v));
        return tk__jprint(c, v);
    case N_BREAK: c->flow = FLOW_BREAK; return TK_OK;
    case N_CONTINUE: c->flow = FLOW_CONTINUE; return TK_OK;
    default: return TK_FAIL(TK_E_INTERNAL, "a template node of kind %d is no statement\n\n", n->kind);
    }
}

static tk_status exec(jx *c, jframe *f, const jnode *n) {
    TK_TRY(tk__jenter(c));
    for (int i = 0; i < n->kids.n && c->flow == FLOW_ON; i++) {
        c->line = n->kids.at[i]->line;
        TK_TRY(tk__jstep(c, 0));
        TK_TRY(exec_one(c, f, n->kids.at[i]));
    }
    c->depth--;
    return TK_OK;
}

tk_status tk__jrender(jx *c) {
    jframe *f;
    TK_TRY(enter_scope(c, NULL, c->t->root->scope, &f));
    return exec(c, f, c->t->root);
}
