/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of the template engine, shared by jinja_*.c only. Source -> tokens -> nodes -> names resolved to
 * slots (jinja_scope.c), then a tree walk. Values are Python's as far as a template can see them. Under
 * Hugging Face's sandbox lists and dicts cannot be changed, so values are immutable but for namespaces,
 * iterators and loops; all of them live in the arena of one rendering and nothing is freed before its end. */
#ifndef TK_JINJA_H
#define TK_JINJA_H
#include "text/template.h"

/* ---- values ------------------------------------------------------------------------------------------ */

typedef enum jtype {
    J_MISSING, /* no value: an argument not given, a variable not yet set */
    J_UNDEF,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_DICT,
    J_VIEW, /* dict.keys(), .values(), .items() */
    J_RANGE,
    J_ITER,
    J_NS,
    J_LOOP,
    J_MACRO,
    J_FUNC,
    J_CYCLER,
    J_JOINER,
} jtype;

typedef struct jx jx;
typedef struct jnode jnode;
typedef struct jscope jscope;
typedef struct jframe jframe;
typedef struct jstr jstr;
typedef struct jlist jlist;
typedef struct jdict jdict;
typedef struct jiter jiter;
typedef struct jloop jloop;
typedef struct jfunc jfunc;
typedef struct jmacro jmacro;

typedef struct jval {
    uint8_t type;
    uint8_t view; /* J_VIEW: 'k', 'v' or 'i' */
    union {
        bool b;
        int64_t i;
        double f;
        jstr *s;
        jlist *l;          /* list, tuple, cycler (the last item is its position), joiner (separator, used) */
        jdict *d;          /* dict, view, namespace */
        const char *undef; /* why it is undefined */
        const int64_t *range; /* start, stop, step, length */
        jiter *it;
        jloop *loop;
        jfunc *fn;
        jmacro *macro;
    };
} jval;

struct jstr { /* valid UTF-8 */
    const char *s;
    size_t n, chars; /* bytes, code points */
    bool safe;       /* jinja's Markup: what is joined to it gets escaped */
    struct jroom *room;
};
/* A string made by + may leave room behind it, so that s = s + x in a loop stays linear: whoever ends at
 * `fill` may grow in place, nobody ever reads beyond his own n. */
struct jroom {
    size_t fill, cap;
    char data[];
};

struct jlist {
    jval *at;
    size_t n;
    bool group; /* groupby's pair, with .grouper and .list */
};
typedef struct jpair {
    jval key, val;
} jpair;
struct jdict { /* in insertion order; `index` (open addressing, position + 1) from 9 pairs on */
    jpair *at;
    size_t n, cap, mask;
    uint32_t *index;
};
struct jiter { /* next: *out = J_MISSING at the end. Fields as each kind of iterator needs them. */
    tk_status (*next)(jx *c, jiter *it, jval *out);
    jval src, arg, seen;
    jiter *from;
    size_t pos;
    const jnode *node;
    jframe *frame;
    const struct jargs *args;
    bool negate, by_attr;
};
struct jloop {
    jval iterable, before, current, after, changed;
    jiter *it;
    int64_t index0, length; /* length -1: not asked for yet */
    const jnode *node;      /* the for statement if it is recursive, else NULL */
    jframe *frame;
    int depth0;
};

typedef struct jargs {
    const jval *pos;
    jstr *const *names;
    const jval *kw;
    int n_pos, n_kw;
} jargs;
typedef struct jcall { /* what a filter, test, method or function gets */
    jval self;
    const jval *a;    /* bound parameters in the row's order, J_MISSING where not given */
    const jargs *raw; /* as written, for rows with params "*" */
} jcall;
typedef tk_status jfn(jx *c, const jcall *k, jval *out);
/* One row of a table of filters, tests, methods or functions. params: names apart by spaces, "." if only
 * positional, "*" alone for no binding; the first `need` must be given. fn NULL: Python has it, we do not. */
typedef struct jrow {
    const char *name, *params;
    int need;
    jfn *fn;
} jrow;
struct jfunc {
    const jrow *row;
    jval self;
};
struct jmacro {
    const jnode *node;
    jframe *frame;
};

static inline jval tk__jint(int64_t i) { return (jval){ .type = J_INT, .i = i }; }
static inline jval tk__jbool(bool b) { return (jval){ .type = J_BOOL, .b = b }; }
static inline jval tk__jfloat(double f) { return (jval){ .type = J_FLOAT, .f = f }; }
static const jval tk__jnone = { .type = J_NONE };
static const jval tk__jmissing = { .type = J_MISSING };

/* ---- nodes ------------------------------------------------------------------------------------------- */

typedef enum jkind {
    N_TEXT,
    N_PRINT,
    N_IF,
    N_FOR,
    N_SET,
    N_SETBLOCK,
    N_MACRO,
    N_CALLBLOCK,
    N_GENERATION,
    N_FILTERBLOCK,
    N_WITH,
    N_BREAK,
    N_CONTINUE,
    N_BODY,
    N_CONST,
    N_NAME,
    N_NSREF,
    N_TUPLE,
    N_LIST,
    N_DICT,
    N_NEG,
    N_POS,
    N_NOT,
    N_AND,
    N_OR,
    N_BINARY,
    N_CONCAT,
    N_COMPARE,
    N_COND,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
} jkind;
typedef struct jnodes {
    jnode **at;
    int n;
} jnodes;
typedef struct jcallargs {
    jnodes pos, kw;
    jstr **names;
    jnode *dyn, *dyn_kw;
} jcallargs;
struct jnode {
    uint8_t kind, op; /* op: BINARY + - * / f(loor) % p(ow); NAME: '=' when stored to */
    uint8_t flags;    /* of MACRO and CALLBLOCK: JF_*; FOR: JF_RECURSIVE */
    uint16_t depth;
    int line;
    jnode *a, *b, *c;
    jnodes kids, more; /* PRINT, BODY, TUPLE, LIST: kids; DICT: keys, values; IF: conditions, bodies */
    jval val;          /* CONST, TEXT; the name of NAME, NSREF, ATTR, MACRO, FILTER, TEST as J_STR */
    int hops, slot;    /* NAME, NSREF, MACRO: where the variable is */
    int caller, kwargs, varargs, loop; /* slots of the special variables, -1: not used */
    char *cmp;                         /* COMPARE: one letter an operand: = ! < > l(e) g(e) i(n) n(ot in) */
    jcallargs *args;
    const jrow *row; /* FILTER, TEST; NULL if there is none of that name */
    jscope *scope, *test_scope, *else_scope;
};
enum { JF_CALLER = 1, JF_KWARGS = 2, JF_VARARGS = 4, JF_RECURSIVE = 8 };

/* What a frame does with each of its variables when it is entered (jinja's idtracking.py) */
typedef enum jload { L_PARAM, L_RESOLVE, L_ALIAS, L_UNDEF } jload;
typedef struct jsym {
    jstr *name;
    jload load;
    int hops, slot;
} jsym;
struct jscope {
    jscope *parent;
    jsym *sym;
    int n, cap;
};
struct jframe {
    jframe *parent;
    const jscope *scope;
    jval slot[];
};

struct tk_template {
    tk_arena arena;
    jnode *root; /* BODY */
};

/* ---- one rendering ----------------------------------------------------------------------------------- */

struct jx {
    const tk_template *t;
    tk_template_limits lim;
    tk_arena arena;
    tk_buf out;  /* the text; above it a stack of strings in the making (tk__jmark) */
    size_t kept; /* bytes of `out` that are the text */
    int64_t steps, next_clock;
    double deadline;
    int depth, line;
    enum { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;
    jdict *vars;
};

/* jinja_lex.c */
typedef enum jtok {
    T_EOF,
    T_DATA,
    T_VAR,
    T_VAR_END,
    T_BLOCK,
    T_BLOCK_END,
    T_NAME,
    T_STR,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_MUL,
    T_DIV,
    T_FLOORDIV,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_LT,
    T_LE,
    T_GT,
    T_GE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON,
} jtok;
typedef struct jtoken {
    uint8_t type;
    int line;
    const char *s;
    size_t n;
    int64_t i;
    double f;
} jtoken;
typedef struct jtokens {
    jtoken *at;
    size_t n, cap;
} jtokens;
/* The tokens' text lies in the arena or in src, which must outlive them; t->at is malloc'd, also on failure.
 */
tk_status tk__jlex(jtokens *t, tk_arena *arena, const char *src, size_t n);
#define JSYNTAX(line, ...) tk__failed(TK_E_FORMAT, tk__jsyntax(line, __VA_ARGS__))
tk_status tk__jsyntax(int line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* jinja_parse.c, jinja_scope.c */
tk_status tk__jparse(tk_template *t, jtokens *tokens);
tk_status tk__jresolve(tk_template *t);

/* jinja_eval.c */
tk_status tk__jrender(jx *c);
tk_status tk__jeval(jx *c, jframe *f, const jnode *n, jval *out);
tk_status tk__jassign(jx *c, jframe *f, const jnode *target, jval v);
jframe *tk__jframe_new(jx *c, jframe *parent,
                       const jscope *scope); /* NULL: out of memory or over the limit */
void tk__jframe_enter(jx *c, jframe *f);
tk_status tk__jcall(jx *c, jval fn, const jargs *args, jval *out);
tk_status tk__jcall_row(jx *c, const jrow *row, jval self, const jargs *args, jval *out);
tk_status tk__jloop_run(jx *c, const jnode *n, jframe *f, jval iterable, int depth0);
tk_status tk__jmacro_call(jx *c, const jmacro *m, const jargs *args, jval *out);

/* jinja_value.c: limits, memory, strings, dicts */
tk_status tk__jfail_as(jx *c, tk_status code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define tk__jfail(c, code, ...) tk__failed(code, tk__jfail_as(c, code, __VA_ARGS__))
#define JFAIL(c, ...) tk__jfail(c, TK_E_FORMAT, __VA_ARGS__)
tk_status tk__jstep(jx *c, size_t work); /* one step and one more for each 64 units of work */
tk_status tk__jenter(jx *c);             /* one level deeper; leave with c->depth-- */
tk_status tk__jalloc(jx *c, size_t count, size_t each, void *pointer_to_pointer);
tk_status tk__jlist_new(jx *c, jtype type, size_t n, jval *out);   /* n items, to be filled */
tk_status tk__jstr_new(jx *c, const char *s, size_t n, jval *out); /* copies; s must be valid UTF-8 */
tk_status tk__jstr_view(jx *c, const jstr *of, size_t from, size_t to, jval *out); /* bytes [from, to) */
tk_status tk__jstr_part(jx *c, const char *s, size_t n, size_t chars, bool safe,
                        jval *out); /* does not copy */
tk_status tk__jstr_cat(jx *c, const jstr *a, const jstr *b, jval *out);
tk_status tk__jmark(jx *c, size_t *mark); /* begins a string: tk__jput.., then tk__jtake */
tk_status tk__jput(jx *c, const void *s, size_t n);
tk_status tk__jputs(jx *c, const char *s);
tk_status tk__jputc(jx *c, uint32_t codepoint);
tk_status tk__jtake(jx *c, size_t mark, jval *out);
tk_status tk__jundef(jx *c, jval *out, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
size_t tk__jutf8_count(const char *s, size_t n);
size_t tk__jutf8_at(const jstr *s, size_t chars); /* byte offset of a code point */
uint32_t tk__jutf8_next(const char **p);
bool tk__jstr_eq(const jstr *a, const char *b);
bool tk__jspace(uint32_t cp); /* str.isspace of one character */
tk_status tk__jdict_new(jx *c, size_t cap, jval *out);
tk_status tk__jdict_set(jx *c, jdict *d, jval key, jval val);
tk_status tk__jdict_get(jx *c, const jdict *d, jval key, jval *out); /* J_MISSING if absent */
const jval *tk__jdict_find(const jdict *d, const char *key, size_t n);
bool tk__jtruth(jval v);
const char *tk__jtype(jval v);         /* Python's name of the type */
bool tk__jnum(jval v, double *f);      /* int, float or bool */
bool tk__jinteger(jval v, int64_t *i); /* int or bool */

/* jinja_ops.c: what Python's operators do */
tk_status tk__jprint(jx *c, jval v);           /* str(v) into the buffer */
tk_status tk__jrepr(jx *c, jval v);            /* repr(v) into the buffer */
tk_status tk__jtext(jx *c, jval v, jval *out); /* str(v); a string stays as it is */
tk_status tk__jequal(jx *c, jval a, jval b, bool *eq);
tk_status tk__jless(jx *c, jval a, jval b, bool *less);
tk_status tk__jcompare(jx *c, char op, jval a, jval b, bool *yes);
tk_status tk__jbinary(jx *c, char op, jval a, jval b, jval *out);
/* What Python's getattr finds, behind the sandbox; J_MISSING if nothing. */
tk_status tk__jattribute(jx *c, jval obj, const jstr *name, jval *out);
tk_status tk__jgetattr(jx *c, jval obj, const jstr *name, jval *out);
tk_status tk__jgetitem(jx *c, jval obj, jval key, jval *out);
tk_status tk__jslice(jx *c, jval obj, jval start, jval stop, jval step, jval *out);
tk_status tk__jlen(jx *c, jval v, int64_t *n); /* fails where len() does; -1 never */
bool tk__jsized(jval v);
tk_status tk__jescape(jx *c, jval v, jval *out); /* Markup */

/* jinja_format.c */
int tk__jfloat_repr(char *to, double f); /* at most 32 bytes */
tk_status tk__jformat_percent(jx *c, const jstr *fmt, jval args, jval *out);
tk_status tk__jformat_braces(jx *c, const jstr *fmt, const jargs *args, jval *out);

/* jinja_json.c */
tk_status tk__jjson_load(jx *c, const char *json, size_t n, jval *out);
extern const jrow tk__jtojson;

/* jinja_iter.c */
tk_status tk__jiter_new(jx *c, jval v, jiter **out);                                  /* iter(v) */
tk_status tk__jiter_make(jx *c, tk_status (*next)(jx *, jiter *, jval *), jval *out); /* a fresh J_ITER */
tk_status tk__jnext(jx *c, jiter *it, jval *out);
tk_status tk__jlist_of(jx *c, jval v, jval *out); /* list(v), a new one */
tk_status tk__jiter_reversed(jx *c, jval v, jval *out, bool *can);
tk_status tk__jloop_attr(jx *c, jloop *l, const jstr *name, jval *out);
tk_status tk__jloop_next(jx *c, jloop *l, jval *out);
tk_status tk__jcontains(jx *c, jval seq, jval v, bool *yes);

/* tables */
extern const jrow tk__jfilters[], tk__jseq_filters[], tk__jtests[], tk__jglobals[];
tk_status tk__jsort(jx *c, jval *items, jval *keys, size_t n, bool reverse); /* stable; both arrays move */
extern const jrow tk__jstr_methods[], tk__jdict_methods[], tk__jdict_functions[], tk__jrange_methods[],
    tk__jlist_methods[], tk__jtuple_methods[], tk__jint_methods[], tk__jfloat_methods[], tk__jloop_methods[],
    tk__jcycler_methods[];
const jrow *tk__jrow_find(const jrow *table, const char *name, size_t n);
const jrow *tk__jfilter_find(const jstr *name);
const jrow *tk__jtest_find(const jstr *name);
tk_status tk__jattrgetter(jx *c, jval obj, jval attribute, jval fallback, jval *out);

#endif
