/* SPDX-License-Identifier: Apache-2.0 */
/* Names to slots. Jinja decides when it compiles which scope a name belongs to, and that shows: a set inside
 * a loop is lost after it, a macro sees later sets of the template's top, a variable that a branch may
 * set is looked up in the context first. So its analysis is repeated here: a scope is read once to find its
 * symbols and how each begins (jload), then its names are bound and the scopes inside it are treated.
 * Unknown filters and tests are errors here unless an if may keep them from running, as in jinja. */
#include "text/jinja.h"

typedef struct resolver {
    tk_arena *arena;
    jscope *scope;
    int branches; /* ifs around this point in this scope */
} resolver;

static tk_status scope_new(resolver *r, jscope *parent, jscope **out) {
    *out = tk_arena_alloc(r->arena, sizeof **out);
    if (!*out) return TK_E_NOMEM;
    (*out)->parent = parent;
    return TK_OK;
}

static int find_own(const jscope *s, const jstr *name) {
    for (int i = 0; s && i < s->n; i++) {
        if (s->sym[i].name == name) return i;
    }
    return -1;
}

/* How many scopes out the name has a slot, and which; false if nowhere. */
static bool find(const jscope *s, const jstr *name, int *hops, int *slot) {
    for (*hops = 0; s; s = s->parent, ++*hops) {
        if ((*slot = find_own(s, name)) >= 0) return true;
    }
    return false;
}

static tk_status define(resolver *r, jstr *name, jload load, int *slot) {
    jscope *s = r->scope;
    int at = find_own(s, name);
    if (at < 0) {
        if (s->n == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 8;
            jsym *sym = tk_arena_array(r->arena, (size_t)s->cap, sizeof *sym);
            if (!sym) return TK_E_NOMEM;
            if (s->n) memcpy(sym, s->sym, (size_t)s->n * sizeof *sym);
            s->sym = sym;
        }
        at = s->n++;
    }
    s->sym[at] = (jsym){ .name = name, .load = load };
    if (load == L_ALIAS) {
        find(s->parent, name, &s->sym[at].hops, &s->sym[at].slot);
        s->sym[at].hops++;
    }
    if (slot) *slot = at;
    return TK_OK;
}

static tk_status load(resolver *r, jstr *name) {
    int hops, slot;
    return find(r->scope, name, &hops, &slot) ? TK_OK : define(r, name, L_RESOLVE, NULL);
}

static tk_status store(resolver *r, jstr *name) {
    int hops, slot;
    if (find_own(r->scope, name) >= 0) return TK_OK;
    if (find(r->scope->parent, name, &hops, &slot)) return define(r, name, L_ALIAS, NULL);
    return define(r, name, r->branches ? L_RESOLVE : L_UNDEF, NULL);
}

/* ---- first reading: the symbols of one scope --------------------------------------------------------- */

static tk_status collect(resolver *r, const jnode *n);

static tk_status collect_all(resolver *r, const jnodes *l) {
    for (int i = 0; i < l->n; i++) TK_TRY(collect(r, l->at[i]));
    return TK_OK;
}

static tk_status collect(resolver *r, const jnode *n) {
    if (!n) return TK_OK;
    switch (n->kind) {
    case N_NAME: return n->op == '=' ? store(r, n->val.s) : load(r, n->val.s);
    case N_NSREF: return load(r, n->val.s);
    case N_IF:
        for (int i = 0; i < n->kids.n; i++) {
            if (i) r->branches++; /* an elif's condition belongs to a branch */
            TK_TRY(collect(r, n->kids.at[i]));
            if (!i) r->branches++;
            TK_TRY(collect(r, n->more.at[i]));
            if (i) r->branches--;
        }
        TK_TRY(collect(r, n->c));
        r->branches--;
        return TK_OK;
    case N_FOR: return collect(r, n->b);
    case N_MACRO: return store(r, n->val.s);
    case N_CALLBLOCK: return collect(r, n->b);
    case N_GENERATION: return TK_OK;
    case N_FILTERBLOCK: return collect(r, n->b);
    case N_WITH: return collect_all(r, &n->more);
    case N_SETBLOCK: return collect(r, n->a);
    case N_SET: TK_TRY(collect(r, n->b)); return collect(r, n->a);
    default:
        TK_TRY(collect(r, n->a));
        TK_TRY(collect(r, n->b));
        TK_TRY(collect(r, n->c));
        TK_TRY(collect_all(r, &n->kids));
        TK_TRY(collect_all(r, &n->more));
        if (!n->args) return TK_OK;
        TK_TRY(collect_all(r, &n->args->pos));
        TK_TRY(collect_all(r, &n->args->kw));
        TK_TRY(collect(r, n->args->dyn));
        return collect(r, n->args->dyn_kw);
    }
}

/* ---- second reading: bind ---------------------------------------------------------------------------- */

static tk_status bind(resolver *r, jnode *n, bool soft);

static tk_status bind_all(resolver *r, const jnodes *l, bool soft) {
    for (int i = 0; i < l->n; i++) TK_TRY(bind(r, l->at[i], soft));
    return TK_OK;
}

static tk_status bind_name(resolver *r, jnode *n) {
    if (!find(r->scope, n->val.s, &n->hops,
              &n->slot)) { /* a filter argument of a set block, which jinja forgets */
        TK_TRY(define(r, n->val.s, L_RESOLVE, &n->slot));
        n->hops = 0;
    }
    return TK_OK;
}

static tk_status params(resolver *r, const jnode *target) {
    if (target->kind == N_NAME) return define(r, target->val.s, L_PARAM, NULL);
    for (int i = 0; i < target->kids.n; i++) TK_TRY(params(r, target->kids.at[i]));
    return TK_OK;
}

/* Opens a scope inside the current one; the caller restores r->scope and r->branches from `outer`. */
static tk_status open_scope(resolver *r, resolver *outer, jscope **slot) {
    *outer = *r;
    TK_TRY(scope_new(r, r->scope, slot));
    r->scope = *slot;
    r->branches = 0;
    return TK_OK;
}

/* The special variables must be pointers that equal the names in the body, so they are taken from there. */
static jstr *find_name(const jnode *n, const char *name) {
    if (!n) return NULL;
    if (n->kind == N_NAME && tk__jstr_eq(n->val.s, name)) return n->val.s;
    const jnode *one[] = { n->a, n->b, n->c, n->args ? n->args->dyn : NULL,
                           n->args ? n->args->dyn_kw : NULL };
    const jnodes *many[] = { &n->kids, &n->more, n->args ? &n->args->pos : NULL,
                             n->args ? &n->args->kw : NULL };
    jstr *hit = NULL;
    for (size_t i = 0; !hit && i < TK_COUNT(one); i++) hit = find_name(one[i], name);
    for (size_t i = 0; !hit && i < TK_COUNT(many); i++) {
        for (int k = 0; !hit && many[i] && k < many[i]->n; k++) hit = find_name(many[i]->at[k], name);
    }
    return hit;
}

static tk_status special(resolver *r, const jnode *where, const char *name, int *slot) {
    jstr *s = find_name(where, name);
    return s && find_own(r->scope, s) < 0 ? define(r, s, L_PARAM, slot) : TK_OK;
}

static tk_status bind_for(resolver *r, jnode *n, bool soft) {
    resolver outer;
    TK_TRY(bind(r, n->b, soft));
    if (n->c) {
        TK_TRY(open_scope(r, &outer, &n->test_scope));
        TK_TRY(params(r, n->a));
        TK_TRY(collect(r, n->c));
        TK_TRY(bind(r, n->c, false));
        *r = outer;
    }
    TK_TRY(open_scope(r, &outer, &n->scope));
    TK_TRY(params(r, n->a)); /* first, as in the scope of the condition: both use the targets' slots */
    TK_TRY(special(r, n->kids.at[0], "loop", &n->loop));
    TK_TRY(collect(r, n->kids.at[0]));
    TK_TRY(bind(r, n->a, false));
    TK_TRY(bind(r, n->kids.at[0], false));
    *r = outer;
    if (!n->more.n) return TK_OK;
    TK_TRY(open_scope(r, &outer, &n->else_scope));
    TK_TRY(collect(r, n->more.at[0]));
    TK_TRY(bind(r, n->more.at[0], false));
    *r = outer;
    return TK_OK;
}

static tk_status bind_macro(resolver *r, jnode *n, bool soft) {
    resolver outer;
    if (n->kind == N_MACRO) TK_TRY(bind_name(r, n));
    if (n->kind == N_CALLBLOCK) TK_TRY(bind(r, n->b, soft));
    TK_TRY(open_scope(r, &outer, &n->scope));
    for (int i = 0; i < n->kids.n; i++) TK_TRY(params(r, n->kids.at[i]));
    if (n->flags & JF_CALLER) TK_TRY(special(r, n->c, "caller", &n->caller));
    if (n->flags & JF_KWARGS) TK_TRY(special(r, n->c, "kwargs", &n->kwargs));
    if (n->flags & JF_VARARGS) TK_TRY(special(r, n->c, "varargs", &n->varargs));
    TK_TRY(collect_all(r, &n->more));
    TK_TRY(collect(r, n->c));
    TK_TRY(bind_all(r, &n->kids, false));
    TK_TRY(bind_all(r, &n->more, false));
    TK_TRY(bind(r, n->c, false));
    *r = outer;
    return TK_OK;
}

/* with, set block, filter block: a scope around n->c */
static tk_status bind_block(resolver *r, jnode *n, bool soft) {
    resolver outer;
    if (n->kind == N_SETBLOCK) TK_TRY(bind(r, n->a, soft));
    if (n->kind == N_WITH) TK_TRY(bind_all(r, &n->more, soft));
    TK_TRY(open_scope(r, &outer, &n->scope));
    if (n->kind == N_WITH) {
        for (int i = 0; i < n->kids.n; i++) TK_TRY(params(r, n->kids.at[i]));
    }
    TK_TRY(collect(r, n->c));
    if (n->kind == N_FILTERBLOCK) TK_TRY(collect(r, n->b));
    if (n->kind != N_WITH && n->b) TK_TRY(bind(r, n->b, false));
    TK_TRY(bind_all(r, &n->kids, false));
    TK_TRY(bind(r, n->c, false));
    *r = outer;
    return TK_OK;
}

static tk_status bind(resolver *r, jnode *n, bool soft) {
    if (!n) return TK_OK;
    switch (n->kind) {
    case N_NAME: return bind_name(r, n);
    case N_NSREF: return bind_name(r, n);
    case N_FOR: return bind_for(r, n, soft);
    case N_MACRO:
    case N_CALLBLOCK:
    case N_GENERATION: return bind_macro(r, n, soft);
    case N_FILTERBLOCK:
    case N_SETBLOCK:
    case N_WITH: return bind_block(r, n, soft);
    case N_FILTER:
    case N_TEST:
        if (!n->row && !soft) {
            return JSYNTAX(n->line, "No %s named '%.80s'", n->kind == N_FILTER ? "filter" : "test",
                           n->val.s->s);
        }
        break;
    default: break;
    }
    if (n->kind == N_IF || n->kind == N_COND) soft = true;
    TK_TRY(bind(r, n->a, soft));
    TK_TRY(bind(r, n->b, soft));
    TK_TRY(bind(r, n->c, soft));
    TK_TRY(bind_all(r, &n->kids, soft));
    TK_TRY(bind_all(r, &n->more, soft));
    if (!n->args) return TK_OK;
    TK_TRY(bind_all(r, &n->args->pos, soft));
    TK_TRY(bind_all(r, &n->args->kw, soft));
    TK_TRY(bind(r, n->args->dyn, soft));
    return bind(r, n->args->dyn_kw, soft);
}

tk_status tk__jresolve(tk_template *t) {
    resolver r = { .arena = &t->arena };
    TK_TRY(scope_new(&r, NULL, &t->root->scope));
    r.scope = t->root->scope;
    TK_TRY(collect(&r, t->root));
    return bind(&r, t->root, false);
}
