/* SPDX-License-Identifier: Apache-2.0 */
/* Finding added tokens in a text: leftmost match first, the longest of those that start there. A byte trie
 * whose edges live in one hash table; first bytes are looked up in a table of their own, since most texts
 * hold hardly any. Keys have at most TK_ADDED_MAX bytes, which bounds the walk at each position. */
#include <stdlib.h>

#include "text/tokenizer.h"

struct tk__trie {
    uint8_t first[256]; /* some key starts with this byte */
    int only;           /* the one first byte, or -1 */
    struct {
        uint64_t key;
        int32_t child;
    } * edge; /* key: node << 8 | byte, + 1 so that 0 is empty */
    size_t n_edge, cap_edge;
    int32_t *value; /* [node]; -1: no key ends here */
    size_t n_node, cap_node;
    uint64_t seed;
};

static tk_status out_of_memory(void) {
    return TK_FAIL(TK_E_NOMEM, "out of memory\nthe table of added tokens did not fit");
}

static tk_status new_node(tk__trie *t, int32_t *node) {
    if (t->n_node == t->cap_node) {
        size_t cap = t->cap_node ? t->cap_node * 2 : 256;
        int32_t *value = realloc(t->value, cap * sizeof *value);
        if (!value) return out_of_memory();
        t->value = value, t->cap_node = cap;
    }
    t->value[t->n_node] = -1;
    *node = (int32_t)t->n_node++;
    return TK_OK;
}

static tk_status grow_edges(tk__trie *t) {
    size_t cap = t->cap_edge ? t->cap_edge * 2 : 512;
    __typeof__(t->edge) old = t->edge, edge = calloc(cap, sizeof *edge);
    if (!edge) return out_of_memory();
    for (size_t e = 0; e < t->cap_edge; e++) {
        if (!old[e].key) continue;
        size_t i = tk__mix(old[e].key ^ t->seed) & (cap - 1);
        while (edge[i].key) i = (i + 1) & (cap - 1);
        edge[i] = old[e];
    }
    free(old);
    t->edge = edge, t->cap_edge = cap;
    return TK_OK;
}

static size_t edge_slot(const tk__trie *t, int32_t node, uint8_t byte) {
    uint64_t key = ((uint64_t)node << 8 | byte) + 1;
    size_t i = tk__mix(key ^ t->seed) & (t->cap_edge - 1);
    while (t->edge[i].key && t->edge[i].key != key) i = (i + 1) & (t->cap_edge - 1);
    return i;
}

tk_status tk__trie_new(tk__trie **out) {
    tk__trie *t = calloc(1, sizeof *t);
    int32_t root;
    if (!t) return out_of_memory();
    t->seed = tk__seed();
    t->only = -1;
    tk_status s = grow_edges(t);
    if (s == TK_OK) s = new_node(t, &root);
    if (s != TK_OK) {
        tk__trie_free(t);
        return s;
    }
    *out = t;
    return TK_OK;
}

tk_status tk__trie_add(tk__trie *t, const char *s, size_t n, int32_t value) {
    if (!n) return TK_OK;
    if (n > TK_ADDED_MAX)
        return TK_FAIL(TK_E_LIMIT, "the tokenizer has an added token of %zu bytes\nthe limit is %d", n,
                       TK_ADDED_MAX);
    uint8_t lead = (uint8_t)s[0];
    t->only = t->n_node == 1 || t->only == lead ? lead : -1;
    t->first[lead] = 1;
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        if (t->n_edge * 2 >= t->cap_edge) TK_TRY(grow_edges(t));
        size_t e = edge_slot(t, node, (uint8_t)s[i]);
        if (!t->edge[e].key) {
            int32_t child = 0;
            TK_TRY(new_node(t, &child));
            t->edge[e].key = ((uint64_t)node << 8 | (uint8_t)s[i]) + 1;
            t->edge[e].child = child;
            t->n_edge++;
        }
        node = t->edge[e].child;
    }
    if (t->value[node] < 0) t->value[node] = value;
    return TK_OK;
}

size_t tk__trie_find(const tk__trie *t, const char *s, size_t n, size_t from, size_t *start, int32_t *value) {
    for (size_t i = from; i < n; i++) {
        if (t->only >= 0) {
            const char *hit = memchr(s + i, t->only, n - i);
            if (!hit) return 0;
            i = (size_t)(hit - s);
        } else if (!t->first[(uint8_t)s[i]])
            continue;
        size_t end = 0;
        int32_t node = 0;
        for (size_t k = i; k < n; k++) {
            size_t e = edge_slot(t, node, (uint8_t)s[k]);
            if (!t->edge[e].key) break;
            node = t->edge[e].child;
            if (t->value[node] >= 0) end = k + 1, *value = t->value[node];
        }
        if (end) return *start = i, end;
    }
    return 0;
}

int32_t tk__trie_step(const tk__trie *t, int32_t node, uint8_t byte) {
    size_t e = edge_slot(t, node, byte);
    return t->edge[e].key ? t->edge[e].child : -1;
}

int32_t tk__trie_value(const tk__trie *t, int32_t node) { return t->value[node]; }

void tk__trie_free(tk__trie *t) {
    if (!t) return;
    free(t->edge);
    free(t->value);
    free(t);
}
