/* SPDX-License-Identifier: Apache-2.0 */
/* Statements of templates to nodes. A table holds one row a statement; the ends of a block are given by who
 * opens it. */
#include "text/jinja_parse.h"

static tk_status body(parser *p, const char *const *ends, int *which, jnode **out);

/* ---- statements -------------------------------------------------------------------------------------- */

static tk_status mark_target(parser *p, jnode *n) {
    if (n->kind == N_TUPLE) {
        for (int i = 0; i < n->kids.n; i++) TK_TRY(mark_target(p, n->kids.at[i]));
        return TK_OK;
    }
    if (n->kind == N_NSREF) return TK_OK;
    if (n->kind != N_NAME) return JSYNTAX(n->line, "can't assign to this");
    if (p->all_loops && tk__jstr_eq(n->val.s, "loop")) {
        return JSYNTAX(n->line, "Can't assign to special loop variable in for-loop target");
    }
    n->op = '=';
    return TK_OK;
}

static tk_status target(parser *p, tuple_mode mode, const char *end_name, jnode **out) {
    uint8_t seen = p->seen;
    TK_TRY(tk__jp_tuple(p, mode, end_name, out));
    p->seen = seen; /* stored to, not read */
    return mark_target(p, *out);
}

static tk_status plain_name(parser *p, jnode **out) {
    if (!AT(p, T_NAME)) return tk__jp_unexpected(p, "a name");
    uint8_t seen = p->seen;
    TK_TRY(tk__jp_primary(p, false, out));
    p->seen = seen;
    return (*out)->kind == N_NAME ? TK_OK : JSYNTAX((*out)->line, "can't assign to this");
}

/* The body of a statement after its head, to "%}" of its end tag. ends: NULL-terminated; *which is the one
 * met, whose name has been read. */
static tk_status block(parser *p, const char *const *ends, int *which, jnode **out) {
    skip(p, T_COLON);
    TK_TRY(tk__jp_expect(p, T_BLOCK_END));
    if (++p->depth > MAX_DEPTH) return FAIL_AT(p, "more than %d levels of nesting", MAX_DEPTH);
    TK_TRY(body(p, ends, which, out));
    p->depth--;
    return TK_OK;
}
static tk_status block1(parser *p, const char *end, jnode **out) {
    return block(p, (const char *const[]){ end, NULL }, &(int){ 0 }, out);
}

static tk_status parse_if(parser *p, jnode *n) {
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    int which = 0;
    jnode *one;
    while (which == 0) {
        TK_TRY(tk__jp_tuple(p, NO_COND, NULL, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
        TK_TRY(block(p, ends, &which, &one));
        TK_TRY(tk__jp_add(p, &n->more, one));
    }
    return which == 1 ? block1(p, "endif", &n->c) : TK_OK;
}

static tk_status parse_for(parser *p, jnode *n) {
    static const char *const ends[] = { "endfor", "else", NULL };
    int which;
    p->all_loops++;
    TK_TRY(target(p, TARGET, "in", &n->a));
    if (!skip_name(p, "in")) return tk__jp_unexpected(p, "'in'");
    TK_TRY(tk__jp_tuple(p, NO_COND, "recursive", &n->b));
    if (skip_name(p, "if")) TK_TRY(tk__jp_expression(p, &n->c));
    if (skip_name(p, "recursive")) n->flags |= JF_RECURSIVE;
    jnode *part;
    p->loops++;
    TK_TRY(block(p, ends, &which, &part));
    p->loops--;
    TK_TRY(tk__jp_add(p, &n->kids, part));
    if (which == 1) {
        TK_TRY(block1(p, "endfor", &part));
        TK_TRY(tk__jp_add(p, &n->more, part));
    }
    p->all_loops--;
    return TK_OK;
}

static tk_status parse_set(parser *p, jnode *n) {
    TK_TRY(target(p, NS_TARGET, NULL, &n->a));
    if (skip(p, T_ASSIGN)) return tk__jp_tuple(p, WITH_COND, NULL, &n->b);
    n->kind = N_SETBLOCK;
    TK_TRY(tk__jp_filters(p, NULL, &n->b));
    return block1(p, "endset", &n->c);
}

/* kids: the parameters, more: the defaults of the last of them */
static tk_status signature(parser *p, jnode *n) {
    jnode *one;
    TK_TRY(tk__jp_expect(p, T_LPAREN));
    while (!AT(p, T_RPAREN)) {
        if (n->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        TK_TRY(plain_name(p, &one));
        for (int i = 0; i < n->kids.n; i++) {
            if (n->kids.at[i]->val.s == one->val.s)
                return FAIL_AT(p, "duplicate argument '%s'", one->val.s->s);
        }
        if (n->kids.n == 64) return FAIL_AT(p, "more than 64 parameters");
        TK_TRY(tk__jp_add(p, &n->kids, one));
        if (skip(p, T_ASSIGN)) {
            TK_TRY(tk__jp_expression(p, &one));
            TK_TRY(tk__jp_add(p, &n->more, one));
        } else if (n->more.n)
            return FAIL_AT(p, "non-default argument follows default argument");
    }
    return tk__jp_expect(p, T_RPAREN);
}

/* The body of a macro or call block: notes which special names it reads, breaks do not reach out of it. */
static tk_status macro_body(parser *p, jnode *n, const char *end) {
    uint8_t seen = p->seen;
    int loops = p->loops;
    p->seen = 0, p->loops = 0;
    TK_TRY(block1(p, end, &n->c));
    n->flags = p->seen;
    p->seen |= seen, p->loops = loops;
    for (int i = 0; i < n->kids.n - n->more.n; i++) {
        if ((n->flags & JF_CALLER) && tk__jstr_eq(n->kids.at[i]->val.s, "caller")) {
            return JSYNTAX(n->line, "the special \"caller\" argument must be omitted or be given a default");
        }
    }
    return TK_OK;
}

static tk_status parse_macro(parser *p, jnode *n) {
    TK_TRY(plain_name(p, &n->a));
    n->val = n->a->val;
    TK_TRY(signature(p, n));
    return macro_body(p, n, "endmacro");
}

static tk_status parse_call(parser *p, jnode *n) {
    if (AT(p, T_LPAREN)) TK_TRY(signature(p, n));
    TK_TRY(tk__jp_expression(p, &n->b));
    if (n->b->kind != N_CALL) return JSYNTAX(n->line, "expected call");
    return macro_body(p, n, "endcall");
}

static tk_status parse_generation(parser *p, jnode *n) { return macro_body(p, n, "endgeneration"); }

static tk_status parse_filter(parser *p, jnode *n) {
    TK_TRY(tk__jp_filter(p, NULL, &n->b));
    TK_TRY(tk__jp_filters(p, n->b, &n->b));
    return block1(p, "endfilter", &n->c);
}

static tk_status parse_with(parser *p, jnode *n) {
    jnode *one;
    while (!AT(p, T_BLOCK_END)) {
        if (n->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        TK_TRY(target(p, TARGET, NULL, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
        TK_TRY(tk__jp_expect(p, T_ASSIGN));
        TK_TRY(tk__jp_expression(p, &one));
        TK_TRY(tk__jp_add(p, &n->more, one));
    }
    return block1(p, "endwith", &n->c);
}

static tk_status parse_print(parser *p, jnode *n) {
    jnode *one;
    while (!AT(p, T_BLOCK_END)) {
        if (n->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        TK_TRY(tk__jp_expression(p, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
    }
    return TK_OK;
}

static tk_status parse_jump(parser *p, jnode *n) {
    return p->loops ? TK_OK : JSYNTAX(n->line, "break or continue outside of a loop");
}

static const struct {
    const char *name;
    jkind kind;
    tk_status (*parse)(parser *, jnode *);
} statements[] = {
    { "if", N_IF, parse_if },
    { "for", N_FOR, parse_for },
    { "set", N_SET, parse_set },
    { "macro", N_MACRO, parse_macro },
    { "call", N_CALLBLOCK, parse_call },
    { "generation", N_GENERATION, parse_generation },
    { "filter", N_FILTERBLOCK, parse_filter },
    { "with", N_WITH, parse_with },
    { "print", N_PRINT, parse_print },
    { "break", N_BREAK, parse_jump },
    { "continue", N_CONTINUE, parse_jump },
};
static const char *const unsupported[] = { "block", "extends", "include", "import", "from", "autoescape" };

static tk_status statement(parser *p, jnode **out) {
    if (!AT(p, T_NAME)) return FAIL_AT(p, "tag name expected");
    for (size_t i = 0; i < TK_COUNT(statements); i++) {
        if (!at_name(p, statements[i].name)) continue;
        jnode *n;
        TK_TRY(tk__jp_node(p, statements[i].kind, next(p)->line, &n));
        TK_TRY(statements[i].parse(p, n));
        TK_TRY(tk__jp_done(n, out));
        return tk__jp_expect(p, T_BLOCK_END);
    }
    for (size_t i = 0; i < TK_COUNT(unsupported); i++) {
        if (!at_name(p, unsupported[i])) continue;
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "the chat template has a {%% %s %%} in line %d\nit needs other templates or "
                       "HTML escaping, which chats have not\nuse another template",
                       unsupported[i], p->t->line);
    }
    return FAIL_AT(p, "Encountered unknown tag '%.*s'", (int)TK_MIN(p->t->n, 60), p->t->s);
}

/* Text, prints and statements up to one of `ends` (after its name) or, with NULL, the end of the template. */
static tk_status body(parser *p, const char *const *ends, int *which, jnode **out) {
    jnode *n, *one;
    TK_TRY(tk__jp_node(p, N_BODY, p->t->line, &n));
    while (!AT(p, T_EOF)) {
        const jtoken *t = next(p);
        if (t->type == T_DATA) {
            TK_TRY(tk__jp_node(p, N_TEXT, t->line, &one));
            TK_TRY(tk__jp_str(p, t->s, t->n, &one->val));
            TK_TRY(tk__jp_measure(one));
        } else if (t->type == T_VAR) {
            jnode *e;
            TK_TRY(tk__jp_tuple(p, WITH_COND, NULL, &e));
            TK_TRY(tk__jp_expect(p, T_VAR_END));
            TK_TRY(tk__jp_node(p, N_PRINT, t->line, &one));
            TK_TRY(tk__jp_add(p, &one->kids, e));
            TK_TRY(tk__jp_measure(one));
        } else {
            for (int i = 0; ends && ends[i]; i++) {
                if (!skip_name(p, ends[i])) continue;
                *which = i;
                return tk__jp_done(n, out);
            }
            TK_TRY(statement(p, &one));
        }
        TK_TRY(tk__jp_add(p, &n->kids, one));
    }
    if (ends) {
        const char *last = ends[0];
        while (*++ends) last = *ends;
        return FAIL_AT(p, "Unexpected end of template: '%s' is missing", last);
    }
    return tk__jp_done(n, out);
}

tk_status tk__jparse(tk_template *t, jtokens *tokens) {
    parser *p = tk_arena_alloc(&t->arena, sizeof *p);
    if (!p) return TK_E_NOMEM;
    p->arena = &t->arena, p->t = tokens->at;
    return body(p, NULL, NULL, &t->root);
}
