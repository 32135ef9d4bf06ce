/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the signatures of ops.def once, and binds their letters to the dims of values. The text of the
 * table is trusted (it is ours): a mistake in it is an assertion. */
#include <assert.h>
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>

#include "core/core.h"

enum { KEEP = TK_KEEP, STATE = TK_STATE, COMM = TK_COMM, PASS = TK_PASS };
static const struct {
    const char *name, *forward, *adjoints;
    double flops;
    unsigned flags;
} rows[TK_OPS] = {
#define OP(name, forward, adjoints, flops, flags) { #name, forward, adjoints, flops, flags },
#include "core/ops.def"
#undef OP
};
static tk_opinfo infos[TK_OPS];

static const char *skip(const char *s) {
    while (*s == ' ') s++;
    return s;
}

static const char *read_name(const char *s, char name[6]) {
    int n = 0;
    for (; isalnum((unsigned char)*s) || *s == '_'; s++) {
        assert(n < 5);
        name[n++] = *s;
    }
    name[n] = 0;
    return s;
}

static int op_by_name(const char *s, size_t n) {
    for (int i = 0; i < TK_OPS; i++)
        if (strlen(rows[i].name) == n && !strncmp(rows[i].name, s, n)) return i;
    assert(!"ops.def names an unknown op");
    return -1;
}

/* One operand: name[=op(arg)][:letters[^merge]] */
static const char *read_operand(const char *s, tk_operand *o) {
    *o = (tk_operand){ .made_by = -1 };
    s = read_name(s, o->name);
    if (*s == '=') {
        const char *paren = strchr(++s, '(');
        assert(paren);
        o->made_by = (int8_t)op_by_name(s, (size_t)(paren - s));
        s = read_name(paren + 1, o->made_from) + 1;
    }
    if (*s == ':') s++;
    int n = 0;
    for (; isalpha((unsigned char)*s); s++, n++) {
        assert(n < 7);
        if (isupper((unsigned char)*s)) o->whole |= (uint8_t)(1 << n);
        o->letters[n] = (char)tolower((unsigned char)*s);
    }
    if (*s == '^') {
        o->merge = s[1] == 'm' ? TK_MAX_MERGE : TK_LSE;
        while (*s && *s != ' ') s++;
    }
    return s;
}

static void read_sig(const char *s, const char *end, tk_sig *sig) {
    bool out = false;
    for (s = skip(s); s < end; s = skip(s)) {
        if (!strncmp(s, "->", 2)) {
            out = true, s += 2;
            continue;
        }
        assert(sig->nin + sig->nout < TK_MAX_OPERANDS);
        s = read_operand(s, &sig->o[sig->nin + sig->nout]);
        if (out)
            sig->nout++;
        else
            sig->nin++;
    }
}

static void read_table(void) {
    for (int i = 0; i < TK_OPS; i++) {
        tk_opinfo *op = &infos[i];
        *op = (tk_opinfo){ .name = rows[i].name, .flops = rows[i].flops, .flags = rows[i].flags };
        read_sig(rows[i].forward, rows[i].forward + strlen(rows[i].forward), &op->sig[0]);
        for (const char *s = skip(rows[i].adjoints), *end; *s; s = skip(*end ? end + 1 : end)) {
            end = strchr(s, ';');
            if (!end) end = s + strlen(s);
            const char *arrow = strstr(s, "->"), *equal = strchr(s, '=');
            if (arrow && arrow < end) {
                assert(op->adjoints < TK_MAX_ADJOINTS);
                read_sig(s, end, &op->sig[++op->adjoints]);
            } else {
                assert(equal && equal < end && op->aliases < 2);
                read_name(s, op->alias[op->aliases].to);
                read_name(equal + 1, op->alias[op->aliases++].from);
            }
        }
    }
}

const tk_opinfo *tk_op_info(int op) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, read_table);
    return &infos[op];
}

const tk_sig *tk__sig(const tk_record *r) { return &tk_op_info(r->op)->sig[r->adj]; }

/* ---- binding ----------------------------------------------------------------------------------------- */

typedef struct search {
    const tk_sig *sig;
    const char *dims[TK_MAX_OPERANDS]; /* NULL: not given, matches anything */
    int split[TK_MAX_OPERANDS];        /* weights w:nk: n binds the dims that count rows; 0: no such rule */
    int operands, found;
    tk_binding now, *out;
} search;

/* t g r d v stand for one dim each; other letters for a run */
static bool single(char letter) { return strchr("tgrdv", letter) != NULL; }

static void match(search *s, int o, int l, int d) {
    if (o == s->operands) {
        if (!s->found++) *s->out = s->now;
        return;
    }
    const char *dims = s->dims[o];
    char letter = dims ? s->sig->o[o].letters[l] : 0;
    if (!letter) {
        if (!dims || !dims[d]) match(s, o + 1, 0, 0);
        return;
    }
    char *run = s->now.run[letter - 'a'];
    size_t left = strlen(dims + d), n = strlen(run);
    if (n) { /* bound before: the same dims must stand here */
        if (n <= left && !strncmp(run, dims + d, n)) match(s, o, l + 1, d + (int)n);
        return;
    }
    if (!dims[0] && !single(letter)) match(s, o, l + 1, d); /* a scalar binds an empty run */
    for (n = 1; n <= (single(letter) ? TK_MIN(left, (size_t)1) : left); n++) {
        memcpy(run, dims + d, n), run[n] = 0;
        if (l || !s->split[o] || (int)n == s->split[o]) match(s, o, l + 1, d + (int)n);
        run[0] = 0;
    }
}

tk_status tk__bind_letters(const tk_program *p, const tk_record *r, bool outputs, tk_binding *b) {
    const tk_sig *sig = tk__sig(r);
    search s = { .sig = sig, .operands = sig->nin + (outputs ? sig->nout : 0), .out = b };
    *b = (tk_binding){ 0 };
    char text[256] = "";
    for (int i = 0; i < s.operands; i++) {
        s.dims[i] = r->arg[i] < 0 ? NULL : p->values[r->arg[i]].dim;
        if (s.dims[i] && p->values[r->arg[i]].kind == TK_WEIGHT && strlen(sig->o[i].letters) == 2)
            s.split[i] = p->values[r->arg[i]].split;
        size_t at = strlen(text);
        snprintf(text + at, sizeof text - at, " %s:{%s}", sig->o[i].name, s.dims[i] ? s.dims[i] : "-");
    }
    match(&s, 0, 0, 0);
    if (s.found == 1) return TK_OK;
    return TK_FAIL(TK_E_INTERNAL, "the program is wrong: %s%s does not bind\n%s ways to fit%s",
                   tk_op_info(r->op)->name, r->adj ? " (adjoint)" : "", s.found ? "several" : "no", text);
}
