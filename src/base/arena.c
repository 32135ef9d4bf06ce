/* SPDX-License-Identifier: Apache-2.0 */
/* Arenas and byte buffers. An arena is a list of blocks that double in size; nothing in it is freed
 * alone, so an owner and all that hangs below it go in one call. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

struct tk_arena_block {
    struct tk_arena_block *next;
    size_t cap, used;
    _Alignas(16) unsigned char data[];
};

void *tk_arena_alloc(tk_arena *a, size_t bytes) {
    size_t n;
    if (!tk_add(bytes, 15, &n)) {
        TK_FAIL(TK_E_NOMEM, "out of memory\n%zu bytes were asked for", bytes);
        return NULL;
    }
    n &= ~(size_t)15;
    struct tk_arena_block *b = a->head;
    if (!b || b->cap - b->used < n) {
        size_t cap = b ? TK_MIN(b->cap * 2, (size_t)1 << 20) : 4096, all;
        if (cap < n) cap = n;
        struct tk_arena_block *fresh = tk_add(cap, sizeof *fresh, &all) ? calloc(1, all) : NULL;
        if (!fresh) {
            TK_FAIL(TK_E_NOMEM, "out of memory\n%zu bytes were asked for", bytes);
            return NULL;
        }
        fresh->cap = cap;
        if (b && b->cap - b->used > cap - n) { /* keep filling the roomier block */
            fresh->next = b->next, b->next = fresh;
        } else {
            fresh->next = b, a->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += n;
    a->used += n;
    return p;
}

void *tk_arena_array(tk_arena *a, size_t count, size_t each) {
    size_t n;
    if (!tk_mul(count, each, &n)) n = SIZE_MAX; /* refused below with its own message */
    return tk_arena_alloc(a, n);
}

char *tk_arena_strndup(tk_arena *a, const char *s, size_t n) {
    char *p = n < SIZE_MAX ? tk_arena_alloc(a, n + 1) : NULL;
    if (p && n) memcpy(p, s, n);
    return p;
}

char *tk_arena_printf(tk_arena *a, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *p = n < 0 ? NULL : tk_arena_alloc(a, (size_t)n + 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    return p;
}

void tk_arena_free(tk_arena *a) {
    for (struct tk_arena_block *b = a->head; b;) {
        struct tk_arena_block *next = b->next;
        free(b);
        b = next;
    }
    *a = (tk_arena){ 0 };
}

/* Makes room for n more bytes and a NUL. */
static bool reserve(tk_buf *b, size_t n) {
    size_t need;
    if (b->failed || !tk_add(b->len, n, &need) || !tk_add(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = TK_MAX(need, b->cap > SIZE_MAX / 2 ? SIZE_MAX : TK_MAX(b->cap * 2, (size_t)64));
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data, b->cap = cap;
    return true;
}

void tk_buf_put(tk_buf *b, const void *bytes, size_t n) {
    if (!reserve(b, n)) return;
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
}

void tk_buf_puts(tk_buf *b, const char *s) { tk_buf_put(b, s, strlen(s)); }

void tk_buf_printf(tk_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && reserve(b, (size_t)n)) {
        vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

void tk_buf_free(tk_buf *b) {
    free(b->data);
    *b = (tk_buf){ 0 };
}

tk_status tk_buf_check(const tk_buf *b) {
    return b->failed ? TK_FAIL(TK_E_NOMEM, "out of memory\na buffer of %zu bytes could not grow", b->len)
                     : TK_OK;
}
