/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions of templates to nodes: recursive descent with one token of lookahead more than needed, no
 * backtracking, so time is linear. Precedences and quirks are those of jinja2's parser. A node knows the
 * depth below it and the parser its own, both bounded, so that no later walk can run out of stack. */
#include "text/jinja_parse.h"

static tk_status or_expression(parser *p, jnode **out);
static tk_status unary(parser *p, bool with_filter, jnode **out);

/* ---- small things ------------------------------------------------------------------------------------ */

static const char *describe(const jtoken *t) {
    static const char *const text[] = {
        "end of template",
        "template data / text",
        "begin of print statement",
        "end of print statement",
        "begin of statement block",
        "end of statement block",
        "name",
        "string",
        "integer",
        "float",
        "+",
        "-",
        "*",
        "/",
        "//",
        "%",
        "**",
        "~",
        "[",
        "]",
        "(",
        ")",
        "{",
        "}",
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "=",
        ".",
        ":",
        "|",
        ",",
        ";",
    };
    return text[t->type];
}

tk_status tk__jp_unexpected_as(parser *p, const char *wanted) {
    if (AT(p, T_NAME)) {
        return FAIL_AT(p, "expected %s, got '%.*s'", wanted, (int)TK_MIN(p->t->n, 60), p->t->s);
    }
    return FAIL_AT(p, "expected %s, got '%s'", wanted, describe(p->t));
}

tk_status tk__jp_expect(parser *p, jtok type) {
    jtoken t = { .type = (uint8_t)type };
    return skip(p, type) ? TK_OK : tk__jp_unexpected(p, describe(&t));
}

tk_status tk__jp_node(parser *p, jkind kind, int line, jnode **out) {
    jnode *n = tk_arena_alloc(p->arena, sizeof *n);
    if (!n) return TK_E_NOMEM;
    n->kind = (uint8_t)kind, n->line = line;
    n->caller = n->kwargs = n->varargs = n->loop = -1;
    *out = n;
    return TK_OK;
}

tk_status tk__jp_measure(jnode *n) {
    int d = 0;
    const jnode *one[] = { n->a, n->b, n->c, n->args ? n->args->dyn : NULL,
                           n->args ? n->args->dyn_kw : NULL };
    for (size_t i = 0; i < TK_COUNT(one); i++) {
        if (one[i]) d = TK_MAX(d, one[i]->depth);
    }
    const jnodes *lists[] = { &n->kids, &n->more, n->args ? &n->args->pos : NULL,
                              n->args ? &n->args->kw : NULL };
    for (size_t i = 0; i < TK_COUNT(lists); i++) {
        for (int k = 0; lists[i] && k < lists[i]->n; k++) {
            if (lists[i]->at[k]) d = TK_MAX(d, lists[i]->at[k]->depth);
        }
    }
    n->depth = (uint16_t)(d + 1);
    return d < MAX_DEPTH ? TK_OK : JSYNTAX(n->line, "more than %d levels of nesting", MAX_DEPTH);
}
tk_status tk__jp_done(jnode *n, jnode **out) {
    *out = n;
    return tk__jp_measure(n);
}

tk_status tk__jp_add(parser *p, jnodes *l, jnode *n) {
    if ((l->n & (l->n - 1)) == 0) { /* full at powers of two */
        jnode **at = tk_arena_array(p->arena, l->n ? (size_t)l->n * 2 : 1, sizeof *at);
        if (!at) return TK_E_NOMEM;
        if (l->n) memcpy(at, l->at, (size_t)l->n * sizeof *at);
        l->at = at;
    }
    l->at[l->n++] = n;
    return TK_OK;
}

tk_status tk__jp_str(parser *p, const char *s, size_t n, jval *out) {
    jstr *str = tk_arena_alloc(p->arena, sizeof *str);
    char *copy = str ? tk_arena_strndup(p->arena, s, n) : NULL;
    if (!copy) return TK_E_NOMEM;
    *str = (jstr){ .s = copy, .n = n, .chars = tk__jutf8_count(s, n) };
    *out = (jval){ .type = J_STR, .s = str };
    return TK_OK;
}

/* A variable's name; one pointer for equal ones. */
static tk_status intern(parser *p, const jtoken *t, jval *out) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < t->n; i++) h = (h ^ (uint8_t)t->s[i]) * 16777619u;
    for (;; h++) {
        jstr **at = &p->names[h % TK_COUNT(p->names)];
        if (*at && ((*at)->n != t->n || memcmp((*at)->s, t->s, t->n) != 0)) continue;
        if (!*at) {
            if (++p->n_names > MAX_NAMES) return FAIL_AT(p, "more than %d variable names", MAX_NAMES);
            TK_TRY(tk__jp_str(p, t->s, t->n, out));
            *at = out->s;
        }
        *out = (jval){ .type = J_STR, .s = *at };
        return TK_OK;
    }
}

static tk_status name_node(parser *p, const jtoken *t, jnode **out) {
    static const struct {
        const char *name;
        uint8_t flag;
    } special[] = {
        { "caller", JF_CALLER },
        { "kwargs", JF_KWARGS },
        { "varargs", JF_VARARGS },
    };
    for (size_t i = 0; i < TK_COUNT(special); i++) {
        if (is_name(t, special[i].name)) p->seen |= special[i].flag;
    }
    TK_TRY(tk__jp_node(p, N_NAME, t->line, out));
    TK_TRY(intern(p, t, &(*out)->val));
    return tk__jp_measure(*out);
}

static tk_status const_node(parser *p, jval v, int line, jnode **out) {
    TK_TRY(tk__jp_node(p, N_CONST, line, out));
    (*out)->val = v;
    return tk__jp_measure(*out);
}

/* ---- expressions ------------------------------------------------------------------------------------- */

static bool tuple_end(const parser *p, const char *end_name) {
    return AT(p, T_VAR_END) || AT(p, T_BLOCK_END) || AT(p, T_RPAREN) || (end_name && at_name(p, end_name));
}

tk_status tk__jp_tuple(parser *p, tuple_mode mode, const char *end_name, jnode **out) {
    jnode *n, *one = NULL;
    bool is_tuple = false;
    TK_TRY(tk__jp_node(p, N_TUPLE, p->t->line, &n));
    for (;;) {
        if (n->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        if (tuple_end(p, end_name)) break;
        if (mode == TARGET || mode == NS_TARGET)
            TK_TRY(tk__jp_primary(p, mode == NS_TARGET, &one));
        else
            TK_TRY(mode == NO_COND ? or_expression(p, &one) : tk__jp_expression(p, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
        if (!AT(p, T_COMMA)) break;
        is_tuple = true;
    }
    if (!is_tuple && n->kids.n) {
        *out = n->kids.at[0];
        return TK_OK;
    }
    if (!is_tuple && mode != PARENS) return tk__jp_unexpected(p, "an expression");
    return tk__jp_done(n, out);
}

static tk_status list_or_dict(parser *p, jnode **out) {
    bool dict = AT(p, T_LBRACE);
    jtok close = dict ? T_RBRACE : T_RBRACKET;
    jnode *n, *one;
    TK_TRY(tk__jp_node(p, dict ? N_DICT : N_LIST, next(p)->line, &n));
    while (!AT(p, close)) {
        if (n->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        if (AT(p, close)) break;
        TK_TRY(tk__jp_expression(p, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
        if (!dict) continue;
        TK_TRY(tk__jp_expect(p, T_COLON));
        TK_TRY(tk__jp_expression(p, &one));
        TK_TRY(tk__jp_add(p, &n->more, one));
    }
    TK_TRY(tk__jp_expect(p, close));
    return tk__jp_done(n, out);
}

/* Strings that follow each other are one. */
static tk_status string(parser *p, jnode **out) {
    int line = p->t->line;
    tk_buf b = { 0 };
    while (AT(p, T_STR)) tk_buf_put(&b, p->t->s, p->t->n), next(p);
    jval v = { 0 };
    tk_status s = tk_buf_check(&b);
    if (s == TK_OK) s = tk__jp_str(p, b.data ? b.data : "", b.len, &v);
    tk_buf_free(&b);
    TK_TRY(s);
    return const_node(p, v, line, out);
}

tk_status tk__jp_primary(parser *p, bool with_namespace, jnode **out) {
    const jtoken *t = p->t;
    switch (t->type) {
    case T_NAME:
        next(p);
        if (is_name(t, "true") || is_name(t, "True")) return const_node(p, tk__jbool(true), t->line, out);
        if (is_name(t, "false") || is_name(t, "False")) return const_node(p, tk__jbool(false), t->line, out);
        if (is_name(t, "none") || is_name(t, "None")) return const_node(p, tk__jnone, t->line, out);
        if (with_namespace && AT(p, T_DOT)) {
            next(p);
            jnode *attr;
            TK_TRY(name_node(p, t, out));
            (*out)->kind = N_NSREF;
            if (!AT(p, T_NAME)) return tk__jp_unexpected(p, "a name");
            TK_TRY(tk__jp_node(p, N_CONST, p->t->line, &attr));
            TK_TRY(tk__jp_str(p, p->t->s, p->t->n, &attr->val));
            next(p);
            (*out)->a = attr;
            return tk__jp_measure(*out);
        }
        return name_node(p, t, out);
    case T_STR: return string(p, out);
    case T_INT: next(p); return const_node(p, tk__jint(t->i), t->line, out);
    case T_FLOAT: next(p); return const_node(p, tk__jfloat(t->f), t->line, out);
    case T_LPAREN:
        next(p);
        if (++p->depth > MAX_DEPTH) return FAIL_AT(p, "more than %d levels of nesting", MAX_DEPTH);
        TK_TRY(tk__jp_tuple(p, PARENS, NULL, out));
        p->depth--;
        return tk__jp_expect(p, T_RPAREN);
    case T_LBRACKET:
    case T_LBRACE: return list_or_dict(p, out);
    default: return tk__jp_unexpected(p, "an expression");
    }
}

static tk_status call_args(parser *p, jcallargs **out) {
    jcallargs *a = tk_arena_alloc(p->arena, sizeof *a);
    if (!a) return TK_E_NOMEM;
    int line = p->t->line;
    bool first = true, ok = true;
    jnode *one;
    TK_TRY(tk__jp_expect(p, T_LPAREN));
    while (!AT(p, T_RPAREN)) {
        if (!first) TK_TRY(tk__jp_expect(p, T_COMMA));
        if (!first && AT(p, T_RPAREN)) break;
        first = false;
        if (skip(p, T_MUL)) {
            ok = ok && !a->dyn && !a->dyn_kw;
            TK_TRY(tk__jp_expression(p, &a->dyn));
        } else if (skip(p, T_POW)) {
            ok = ok && !a->dyn_kw;
            TK_TRY(tk__jp_expression(p, &a->dyn_kw));
        } else if (AT(p, T_NAME) && p->t[1].type == T_ASSIGN) {
            ok = ok && !a->dyn_kw;
            jval name;
            TK_TRY(intern(p, p->t, &name));
            for (int i = 0; i < a->kw.n; i++) {
                if (a->names[i] == name.s) return FAIL_AT(p, "keyword argument '%s' repeated", name.s->s);
            }
            p->t += 2;
            TK_TRY(tk__jp_expression(p, &one));
            TK_TRY(tk__jp_add(p, &a->kw, one));
            jstr **names = tk_arena_array(p->arena, (size_t)a->kw.n, sizeof *names);
            if (!names) return TK_E_NOMEM;
            if (a->kw.n > 1) memcpy(names, a->names, (size_t)(a->kw.n - 1) * sizeof *names);
            names[a->kw.n - 1] = name.s;
            a->names = names;
            if (a->kw.n > 64) return FAIL_AT(p, "more than 64 keyword arguments");
        } else {
            ok = ok && !a->dyn && !a->dyn_kw && !a->kw.n;
            TK_TRY(tk__jp_expression(p, &one));
            TK_TRY(tk__jp_add(p, &a->pos, one));
        }
        if (!ok) return JSYNTAX(line, "invalid syntax for function call expression");
    }
    *out = a;
    return tk__jp_expect(p, T_RPAREN);
}

static tk_status dotted_name(parser *p, jval *out) {
    tk_buf b = { 0 };
    tk_status s = TK_OK;
    do {
        if (!AT(p, T_NAME)) {
            s = tk__jp_unexpected(p, "a name");
            break;
        }
        if (b.len) tk_buf_puts(&b, ".");
        tk_buf_put(&b, p->t->s, p->t->n), next(p);
    } while (skip(p, T_DOT));
    if (s == TK_OK) s = tk_buf_check(&b);
    if (s == TK_OK) s = tk__jp_str(p, b.data, b.len, out);
    tk_buf_free(&b);
    return s;
}

tk_status tk__jp_filter(parser *p, jnode *of, jnode **out) {
    jnode *n;
    TK_TRY(tk__jp_node(p, N_FILTER, p->t->line, &n));
    TK_TRY(dotted_name(p, &n->val));
    n->a = of;
    n->row = tk__jfilter_find(n->val.s);
    if (AT(p, T_LPAREN)) TK_TRY(call_args(p, &n->args));
    return tk__jp_done(n, out);
}

tk_status tk__jp_filters(parser *p, jnode *of, jnode **out) {
    *out = of;
    while (skip(p, T_PIPE)) TK_TRY(tk__jp_filter(p, *out, out));
    return TK_OK;
}

static tk_status subscribed(parser *p, jnode **out) {
    jnode *part[3] = { NULL, NULL, NULL }, *n;
    int line = p->t->line;
    if (!AT(p, T_COLON)) {
        TK_TRY(tk__jp_expression(p, &part[0]));
        if (!AT(p, T_COLON)) {
            *out = part[0];
            return TK_OK;
        }
    }
    next(p);
    if (!AT(p, T_COLON) && !AT(p, T_RBRACKET) && !AT(p, T_COMMA)) TK_TRY(tk__jp_expression(p, &part[1]));
    if (skip(p, T_COLON) && !AT(p, T_RBRACKET) && !AT(p, T_COMMA)) TK_TRY(tk__jp_expression(p, &part[2]));
    TK_TRY(tk__jp_node(p, N_SLICE, line, &n));
    n->a = part[0], n->b = part[1], n->c = part[2];
    return tk__jp_done(n, out);
}

static tk_status subscript(parser *p, jnode *of, jnode **out) {
    jnode *n, *one;
    int line = p->t->line;
    if (next(p)->type == T_DOT) {
        TK_TRY(tk__jp_node(p, AT(p, T_NAME) ? N_ATTR : N_ITEM, line, &n));
        n->a = of;
        if (AT(p, T_NAME))
            TK_TRY(tk__jp_str(p, p->t->s, p->t->n, &n->val));
        else if (AT(p, T_INT))
            TK_TRY(const_node(p, tk__jint(p->t->i), p->t->line, &n->b));
        else
            return tk__jp_unexpected(p, "a name or number");
        next(p);
        return tk__jp_done(n, out);
    }
    TK_TRY(tk__jp_node(p, N_ITEM, line, &n));
    n->a = of;
    jnode *key;
    TK_TRY(tk__jp_node(p, N_TUPLE, line, &key));
    while (!AT(p, T_RBRACKET)) {
        if (key->kids.n) TK_TRY(tk__jp_expect(p, T_COMMA));
        TK_TRY(subscribed(p, &one));
        TK_TRY(tk__jp_add(p, &key->kids, one));
    }
    next(p);
    for (int i = 0; key->kids.n > 1 && i < key->kids.n; i++) {
        if (key->kids.at[i]->kind == N_SLICE) return JSYNTAX(line, "a slice in a tuple is no key");
    }
    n->b = key->kids.n == 1 ? key->kids.at[0] : key;
    if (n->b == key) TK_TRY(tk__jp_measure(key));
    return tk__jp_done(n, out);
}

static tk_status call(parser *p, jnode *of, jnode **out) {
    jnode *n;
    TK_TRY(tk__jp_node(p, N_CALL, p->t->line, &n));
    n->a = of;
    TK_TRY(call_args(p, &n->args));
    return tk__jp_done(n, out);
}

static tk_status postfix(parser *p, jnode **n) {
    for (;;) {
        if (AT(p, T_DOT) || AT(p, T_LBRACKET))
            TK_TRY(subscript(p, *n, n));
        else if (AT(p, T_LPAREN))
            TK_TRY(call(p, *n, n));
        else
            return TK_OK;
    }
}

static tk_status test(parser *p, jnode *of, jnode **out) {
    jnode *n;
    int line = next(p)->line;
    bool negate = skip_name(p, "not");
    TK_TRY(tk__jp_node(p, N_TEST, line, &n));
    TK_TRY(dotted_name(p, &n->val));
    n->a = of;
    n->row = tk__jtest_find(n->val.s);
    if (AT(p, T_LPAREN))
        TK_TRY(call_args(p, &n->args));
    else if ((AT(p, T_NAME) && !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and")) ||
             AT(p, T_STR) || AT(p, T_INT) || AT(p, T_FLOAT) || AT(p, T_LBRACKET) || AT(p, T_LBRACE)) {
        if (at_name(p, "is")) return FAIL_AT(p, "You cannot chain multiple tests with is");
        jnode *arg;
        TK_TRY(tk__jp_primary(p, false, &arg));
        TK_TRY(postfix(p, &arg));
        n->args = tk_arena_alloc(p->arena, sizeof *n->args);
        if (!n->args) return TK_E_NOMEM;
        TK_TRY(tk__jp_add(p, &n->args->pos, arg));
    }
    TK_TRY(tk__jp_done(n, out));
    if (!negate) return TK_OK;
    TK_TRY(tk__jp_node(p, N_NOT, line, &n));
    n->a = *out;
    return tk__jp_done(n, out);
}

static tk_status unary(parser *p, bool with_filter, jnode **out) {
    if (++p->depth > MAX_DEPTH) return FAIL_AT(p, "more than %d levels of nesting", MAX_DEPTH);
    if (AT(p, T_SUB) || AT(p, T_ADD)) {
        jnode *n;
        jkind kind = AT(p, T_SUB) ? N_NEG : N_POS;
        TK_TRY(tk__jp_node(p, kind, next(p)->line, &n));
        TK_TRY(unary(p, false, &n->a));
        TK_TRY(tk__jp_done(n, out));
    } else
        TK_TRY(tk__jp_primary(p, false, out));
    TK_TRY(postfix(p, out));
    while (with_filter) {
        if (AT(p, T_PIPE))
            TK_TRY(tk__jp_filters(p, *out, out));
        else if (at_name(p, "is"))
            TK_TRY(test(p, *out, out));
        else if (AT(p, T_LPAREN))
            TK_TRY(call(p, *out, out));
        else
            break;
    }
    p->depth--;
    return TK_OK;
}

static tk_status binary(parser *p, jkind kind, char op, jnode *left, jnode *right, jnode **out) {
    jnode *n;
    TK_TRY(tk__jp_node(p, kind, left->line, &n));
    n->op = (uint8_t)op, n->a = left, n->b = right;
    return tk__jp_done(n, out);
}

static tk_status power(parser *p, jnode **out) {
    jnode *right;
    TK_TRY(unary(p, true, out));
    while (skip(p, T_POW)) {
        TK_TRY(unary(p, true, &right));
        TK_TRY(binary(p, N_BINARY, 'p', *out, right, out));
    }
    return TK_OK;
}

static tk_status product(parser *p, jnode **out) {
    jnode *right;
    TK_TRY(power(p, out));
    for (;;) {
        char op = AT(p, T_MUL) ? '*' : AT(p, T_DIV) ? '/' : AT(p, T_FLOORDIV) ? 'f' : AT(p, T_MOD) ? '%' : 0;
        if (!op) return TK_OK;
        next(p);
        TK_TRY(power(p, &right));
        TK_TRY(binary(p, N_BINARY, op, *out, right, out));
    }
}

static tk_status concat(parser *p, jnode **out) {
    jnode *n, *one;
    TK_TRY(product(p, out));
    if (!AT(p, T_TILDE)) return TK_OK;
    TK_TRY(tk__jp_node(p, N_CONCAT, p->t->line, &n));
    TK_TRY(tk__jp_add(p, &n->kids, *out));
    while (skip(p, T_TILDE)) {
        TK_TRY(product(p, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
    }
    return tk__jp_done(n, out);
}

static tk_status sum(parser *p, jnode **out) {
    jnode *right;
    TK_TRY(concat(p, out));
    while (AT(p, T_ADD) || AT(p, T_SUB)) {
        char op = next(p)->type == T_ADD ? '+' : '-';
        TK_TRY(concat(p, &right));
        TK_TRY(binary(p, N_BINARY, op, *out, right, out));
    }
    return TK_OK;
}

static char compare_op(parser *p) {
    static const struct {
        uint8_t tok;
        char op;
    } ops[] = {
        { T_EQ, '=' }, { T_NE, '!' }, { T_LT, '<' }, { T_GT, '>' }, { T_LE, 'l' }, { T_GE, 'g' },
    };
    for (size_t i = 0; i < TK_COUNT(ops); i++) {
        if (skip(p, ops[i].tok)) return ops[i].op;
    }
    if (skip_name(p, "in")) return 'i';
    if (at_name(p, "not") && is_name(p->t + 1, "in")) {
        p->t += 2;
        return 'n';
    }
    return 0;
}

static tk_status comparison(parser *p, jnode **out) {
    TK_TRY(sum(p, out));
    jnode *n = NULL, *one;
    char op, ops[64];
    while ((op = compare_op(p))) {
        if (!n) {
            TK_TRY(tk__jp_node(p, N_COMPARE, p->t->line, &n));
            n->a = *out;
        }
        if (n->kids.n == (int)sizeof ops)
            return FAIL_AT(p, "more than %zu comparisons in a chain", sizeof ops);
        ops[n->kids.n] = op;
        TK_TRY(sum(p, &one));
        TK_TRY(tk__jp_add(p, &n->kids, one));
    }
    if (!n) return TK_OK;
    n->cmp = tk_arena_strndup(p->arena, ops, (size_t)n->kids.n);
    return n->cmp ? tk__jp_done(n, out) : TK_E_NOMEM;
}

static tk_status not_expression(parser *p, jnode **out) {
    if (!at_name(p, "not")) return comparison(p, out);
    jnode *n;
    TK_TRY(tk__jp_node(p, N_NOT, next(p)->line, &n));
    if (++p->depth > MAX_DEPTH) return FAIL_AT(p, "more than %d levels of nesting", MAX_DEPTH);
    TK_TRY(not_expression(p, &n->a));
    p->depth--;
    return tk__jp_done(n, out);
}

static tk_status and_expression(parser *p, jnode **out) {
    jnode *right;
    TK_TRY(not_expression(p, out));
    while (skip_name(p, "and")) {
        TK_TRY(not_expression(p, &right));
        TK_TRY(binary(p, N_AND, 0, *out, right, out));
    }
    return TK_OK;
}

static tk_status or_expression(parser *p, jnode **out) {
    jnode *right;
    TK_TRY(and_expression(p, out));
    while (skip_name(p, "or")) {
        TK_TRY(and_expression(p, &right));
        TK_TRY(binary(p, N_OR, 0, *out, right, out));
    }
    return TK_OK;
}

tk_status tk__jp_expression(parser *p, jnode **out) {
    if (++p->depth > MAX_DEPTH) return FAIL_AT(p, "more than %d levels of nesting", MAX_DEPTH);
    TK_TRY(or_expression(p, out));
    while (at_name(p, "if")) {
        jnode *n;
        TK_TRY(tk__jp_node(p, N_COND, next(p)->line, &n));
        n->b = *out;
        TK_TRY(or_expression(p, &n->a));
        if (skip_name(p, "else")) TK_TRY(tk__jp_expression(p, &n->c));
        TK_TRY(tk__jp_done(n, out));
    }
    p->depth--;
    return TK_OK;
}
