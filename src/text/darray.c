/* SPDX-License-Identifier: Apache-2.0 */
/* A trie that does not change once built, as a double array: one add and one compare a byte, which is what
 * the models need that look up every prefix at every position of a text. The child of node p by byte b is
 * unit base[p] + b, and it is p's if its check says so. Free units form a ring through base (next) and value
 * (previous), so that the many nodes with one child take the first free unit. The first 256 stay unused, so
 * that a base that leads to a free unit is positive. */
#include <stdlib.h>

#include "text/tokenizer.h"

/* TRIES: free units looked at for a node with several children */
enum { TRIES = 64, GROW = 8192, FIRST = 256, FREE = -1 };

static tk_status grow(tk__array *a, size_t need) {
    if (need <= a->n) return TK_OK;
    size_t n = need + GROW, from = a->n ? a->n : FIRST; /* no slack by a factor: it would never be filled */
    tk__unit *unit = n < INT32_MAX ? realloc(a->unit, n * sizeof *unit) : NULL;
    if (!unit) return TK_FAIL(TK_E_NOMEM, "out of memory\na trie of %zu units did not fit", n);
    if (!a->n)
        for (size_t i = 0; i < FIRST; i++) unit[i] = (tk__unit){ .check = FREE - 1 };
    for (size_t i = from; i < n; i++)
        unit[i] = (tk__unit){ .base = (int32_t)i + 1, .check = FREE, .value = (int32_t)i - 1 };
    /* into the ring of unit 0, which is the root and never free */
    int32_t last = unit[0].value;
    unit[last].base = (int32_t)from, unit[from].value = last;
    unit[n - 1].base = 0, unit[0].value = (int32_t)n - 1;
    a->unit = unit, a->n = n, a->cursor = (int32_t)from;
    return TK_OK;
}

static void take(tk__array *a, int32_t i, int32_t parent) {
    tk__unit *u = &a->unit[i];
    a->unit[u->value].base = u->base;
    a->unit[u->base].value = u->value;
    *u = (tk__unit){ .base = 0, .check = parent, .value = -1 };
}

/* A base at which all children find free units; the array may have to grow for it. One child takes the first
 * free unit, several are looked for from where the last ones were found. */
static int32_t find_base(tk__array *a, const uint8_t *label, int n) {
    int32_t f = n == 1 || a->unit[a->cursor].check != FREE ? a->unit[0].base : a->cursor;
    for (int tries = TRIES; tries--; f = a->unit[f].base) {
        if (!f) f = a->unit[0].base;
        if (!f) break;
        int32_t base = f - label[0];
        int i = 1;
        while (i < n && ((size_t)base + label[i] >= a->n || a->unit[base + label[i]].check == FREE)) i++;
        if (i < n) continue;
        if (n > 1) a->cursor = f;
        return base;
    }
    return (int32_t)a->n;
}

static int compare(const void *x, const void *y) {
    const tk__key *a = x, *b = y;
    size_t n = TK_MIN(a->s.n, b->s.n);
    int c = n ? memcmp(a->s.s, b->s.s, n) : 0;
    return c                  ? c
           : a->s.n != b->s.n ? (a->s.n < b->s.n ? -1 : 1)
                              : (a->value > b->value) - (a->value < b->value);
}

typedef struct part { /* the keys from lo to hi share their first `depth` bytes, which lead to `node` */
    size_t lo, hi, depth;
    int32_t node, value;
} part;
typedef struct parts {
    part *at;
    size_t n, cap;
} parts;

static tk_status push(parts *p, part x) {
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 1024;
        part *fresh = realloc(p->at, cap * sizeof *fresh);
        if (!fresh) return TK_FAIL(TK_E_NOMEM, "out of memory\na trie did not fit");
        p->at = fresh, p->cap = cap;
    }
    p->at[p->n++] = x;
    return TK_OK;
}

/* Children of one node. The ring uses the same fields as a node in use, so a node's own value and base are
 * set once it has been taken out. */
static tk_status expand(tk__array *a, const tk__key *key, parts *todo, part x) {
    uint8_t label[256];
    size_t from[257];
    int n = 0;
    for (size_t i = x.lo; i < x.hi; i++) {
        if (key[i].s.n == x.depth) {
            if (x.node) a->unit[x.node].value = key[i].value;
            continue;
        }
        uint8_t c = (uint8_t)key[i].s.s[x.depth];
        if (!n || label[n - 1] != c) label[n] = c, from[n++] = i;
    }
    if (!n) return TK_OK;
    from[n] = x.hi;
    int32_t base = find_base(a, label, n);
    TK_TRY(grow(a, (size_t)base + 256));
    if (x.node)
        a->unit[x.node].base = base;
    else
        a->root = base;
    for (int i = 0; i < n; i++) {
        take(a, base + label[i], x.node);
        part kid = { .lo = from[i], .hi = from[i + 1], .depth = x.depth + 1, .node = base + label[i] };
        TK_TRY(push(todo, kid));
    }
    return TK_OK;
}

tk_status tk__array_build(tk__array *a, tk__key *key, size_t n) {
    *a = (tk__array){ 0 };
    parts todo = { 0 };
    if (n) qsort(key, n, sizeof *key, compare);
    tk_status s = grow(a, GROW);
    if (s == TK_OK) a->unit[0].check = 0, a->root = 1;
    if (s == TK_OK) s = push(&todo, (part){ .hi = n });
    while (s == TK_OK && todo.n) s = expand(a, key, &todo, todo.at[--todo.n]);
    if (s == TK_OK) s = grow(a, a->n + 256); /* a step may look 255 units past any base */
    free(todo.at);
    if (s != TK_OK) {
        tk__array_free(a);
        return s;
    }
    for (size_t i = 0; i < a->n; i++)
        if (a->unit[i].check < 0) a->unit[i] = (tk__unit){ .base = 0, .check = FREE, .value = -1 };
    a->unit[0].base = a->root, a->unit[0].value = -1, a->unit[0].check = FREE;
    return TK_OK;
}

void tk__array_free(tk__array *a) {
    free(a->unit);
    *a = (tk__array){ 0 };
}
