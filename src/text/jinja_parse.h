/* SPDX-License-Identifier: Apache-2.0 */
/* What the two halves of the template parser share: jinja_expr.c reads expressions, jinja_parse.c statements.
 */
#ifndef TK_JINJA_PARSE_H
#define TK_JINJA_PARSE_H
#include "text/jinja.h"

enum { MAX_DEPTH = 400, MAX_NAMES = 2048 };

typedef struct parser {
    tk_arena *arena;
    const jtoken *t;            /* the current token; the last is T_EOF */
    int depth, loops;           /* loops: for bodies around this point within one macro */
    int all_loops;              /* the same across macros */
    uint8_t seen;               /* JF_*: special names read so far */
    jstr *names[MAX_NAMES * 2]; /* open addressing: equal variable names are one pointer */
    int n_names;
} parser;

#define AT(p, tok) ((p)->t->type == (tok))
#define FAIL_AT(p, ...) JSYNTAX((p)->t->line, __VA_ARGS__)

static inline bool is_name(const jtoken *t, const char *name) {
    return t->type == T_NAME && t->n == strlen(name) && memcmp(t->s, name, t->n) == 0;
}
static inline bool at_name(const parser *p, const char *name) { return is_name(p->t, name); }
static inline const jtoken *next(parser *p) { return AT(p, T_EOF) ? p->t : p->t++; }
static inline bool skip(parser *p, jtok type) { return AT(p, type) ? (next(p), true) : false; }
static inline bool skip_name(parser *p, const char *name) {
    return at_name(p, name) ? (next(p), true) : false;
}

typedef enum tuple_mode { WITH_COND, NO_COND, TARGET, NS_TARGET, PARENS } tuple_mode;

tk_status tk__jp_unexpected_as(parser *p, const char *wanted);
#define tk__jp_unexpected(p, wanted) tk__failed(TK_E_FORMAT, tk__jp_unexpected_as(p, wanted))
tk_status tk__jp_expect(parser *p, jtok type);
tk_status tk__jp_node(parser *p, jkind kind, int line, jnode **out);
/* Takes the depths of a finished node's children; too deep is an error. */
tk_status tk__jp_measure(jnode *n);
tk_status tk__jp_done(jnode *n, jnode **out); /* measures, and hands over */
tk_status tk__jp_add(parser *p, jnodes *l, jnode *n);
tk_status tk__jp_str(parser *p, const char *s, size_t n, jval *out);
tk_status tk__jp_expression(parser *p, jnode **out);
/* Expressions apart by commas: a tuple; one without a comma is itself. end_name ends it too, or NULL. */
tk_status tk__jp_tuple(parser *p, tuple_mode mode, const char *end_name, jnode **out);
tk_status tk__jp_primary(parser *p, bool with_namespace, jnode **out);
/* One filter of a chain, at its name; `of` NULL: the block's text. */
tk_status tk__jp_filter(parser *p, jnode *of, jnode **out);
tk_status tk__jp_filters(parser *p, jnode *of, jnode **out); /* | a | b, or `of` itself */

#endif
