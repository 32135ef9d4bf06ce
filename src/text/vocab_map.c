/* SPDX-License-Identifier: Apache-2.0 */
/* The two hash maps of a tokenizer: piece -> id and (left, right) -> merge. Open addressing at half load,
 * no deletion. Keys come from files, so the hash is seeded: no file can be built to collide. */
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <xxhash.h>

#include "text/tokenizer.h"

uint64_t tk__seed(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return tk__mix((uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^ (uint64_t)(uintptr_t)&now);
}

static size_t slots_for(size_t entries) {
    size_t cap = 64;
    while (cap < entries * 2) cap *= 2;
    return cap;
}

static tk_status out_of_memory(size_t entries) {
    return TK_FAIL(TK_E_NOMEM, "out of memory\na vocabulary map of %zu entries did not fit", entries);
}

/* Look-ups go everywhere in a table, so large ones lie in huge pages (or every look-up walks page tables too)
 */
static void *table(size_t bytes) {
    const size_t huge = (size_t)2 << 20;
    if (bytes < huge) return malloc(bytes);
    void *p = aligned_alloc(huge, tk_align(bytes, huge));
    if (p) madvise(p, tk_align(bytes, huge), MADV_HUGEPAGE);
    return p;
}

static tk_status pieces_resize(tk__pieces *m, size_t entries) {
    size_t cap = slots_for(entries);
    int32_t *slot = table(cap * sizeof *slot);
    void *entry = realloc(m->entry, cap / 2 * sizeof *m->entry);
    if (entry) m->entry = entry;
    if (!slot || !entry) {
        free(slot);
        return out_of_memory(entries);
    }
    memset(slot, 0xFF, cap * sizeof *slot);
    for (size_t e = 0; e < m->n; e++) {
        size_t i = XXH3_64bits_withSeed(m->entry[e].key.s, m->entry[e].key.n, m->seed) & (cap - 1);
        while (slot[i] >= 0) i = (i + 1) & (cap - 1);
        slot[i] = (int32_t)e;
    }
    if (!m->borrowed) free(m->slot);
    m->slot = slot, m->cap = cap, m->borrowed = false;
    return TK_OK;
}

tk_status tk__pieces_init(tk__pieces *m, size_t expected) {
    *m = (tk__pieces){ .seed = tk__seed() };
    return pieces_resize(m, TK_MIN(expected, (size_t)TK_ID_MAX));
}

/* The slot of key, or the empty one where it would go */
static size_t pieces_slot(const tk__pieces *m, const char *s, size_t n) {
    size_t i = XXH3_64bits_withSeed(s, n, m->seed) & (m->cap - 1);
    for (; m->slot[i] >= 0; i = (i + 1) & (m->cap - 1)) {
        tk_str key = m->entry[m->slot[i]].key;
        if (key.n == n && (!n || !memcmp(key.s, s, n))) break;
    }
    return i;
}

tk_status tk__pieces_put(tk__pieces *m, tk_str key, int32_t id, int32_t *old) {
    size_t i = pieces_slot(m, key.s, key.n);
    if (m->slot[i] >= 0) {
        *old = m->entry[m->slot[i]].id;
        m->entry[m->slot[i]].id = id;
        return TK_OK;
    }
    *old = -1;
    if (m->n == m->cap / 2 || m->borrowed) {
        TK_TRY(pieces_resize(m, m->n == m->cap / 2 ? m->n * 2 : m->n + 1));
        i = pieces_slot(m, key.s, key.n);
    }
    m->entry[m->n].key = key, m->entry[m->n].id = id;
    m->slot[i] = (int32_t)m->n++;
    return TK_OK;
}

int32_t tk__pieces_get(const tk__pieces *m, const char *s, size_t n) {
    int32_t e = m->slot[pieces_slot(m, s, n)];
    return e < 0 ? -1 : m->entry[e].id;
}

void tk__pieces_free(tk__pieces *m) {
    if (!m->borrowed) free(m->slot);
    free(m->entry);
}

tk_status tk__merges_init(tk__merges *m, size_t expected) {
    size_t cap = slots_for(expected - expected / 4), bytes; /* at most two thirds full */
    *m = (tk__merges){ .cap = cap, .seed = tk__seed() };
    if (!tk_mul(cap, sizeof *m->slot, &bytes) || !(m->slot = table(bytes))) return out_of_memory(expected);
    memset(m->slot, 0xFF, bytes);
    return TK_OK;
}

static void merges_place(tk__merges *m, tk__merge e) {
    size_t i = tk__mix(((uint64_t)(uint32_t)e.left << 32 | (uint32_t)e.right) ^ m->seed) & (m->cap - 1);
    while (m->slot[i].left >= 0) i = (i + 1) & (m->cap - 1);
    m->slot[i] = e;
    m->n++;
}

tk_status tk__merges_put(tk__merges *m, tk__merge e) {
    tk__merge *old = (tk__merge *)tk__merges_get(m, e.left, e.right);
    if (old && !m->borrowed) {
        *old = e;
        return TK_OK;
    }
    if (m->n >= m->cap - m->cap / 4 || m->borrowed) {
        tk__merges bigger;
        TK_TRY(tk__merges_init(&bigger, m->cap));
        for (size_t i = 0; i < m->cap; i++)
            if (m->slot[i].left >= 0) merges_place(&bigger, m->slot[i]);
        tk__merges_free(m);
        *m = bigger;
        return tk__merges_put(m, e);
    }
    merges_place(m, e);
    return TK_OK;
}

void tk__merges_free(tk__merges *m) {
    if (!m->borrowed) free(m->slot);
}
