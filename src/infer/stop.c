/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings in a stream. Each string has its Knuth-Morris-Pratt automaton, advanced byte by byte; its
 * state is the length of the longest end of the text that begins the string. What must be held back is the
 * largest state, and the held bytes are that beginning itself: so no text is buffered and the answer cannot
 * depend on where the pieces are cut. */
#include <stdlib.h>
#include <utf8proc.h>

#include "infer/infer.h"

struct tk_stop {
    size_t count;
    struct pattern {
        char *text;
        size_t len, state; /* state < len between pushes */
        uint16_t *fail;    /* fail[k]: length of the longest proper border of text[0..k+1) */
    } strings[TK_STOP_MAX_STRINGS];
    int found;
    tk_arena arena;
};

static bool is_utf8(const char *s, size_t n) {
    utf8proc_int32_t code;
    for (size_t i = 0; i < n;) {
        utf8proc_ssize_t k =
            utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(n - i), &code);
        if (k <= 0) return false;
        i += (size_t)k;
    }
    return true;
}

static tk_status add(tk_stop *s, const char *text) {
    size_t len = strnlen(text, TK_STOP_MAX_BYTES + 1);
    if (!len)
        return TK_FAIL(TK_E_USAGE, "a stop string is empty\nit would stop every answer before it begins\n"
                                   "leave it out, or give it characters");
    if (len > TK_STOP_MAX_BYTES)
        return TK_FAIL(TK_E_LIMIT, "a stop string is too long\nthe limit is %d bytes\ngive a shorter one",
                       TK_STOP_MAX_BYTES);
    if (!is_utf8(text, len))
        return TK_FAIL(TK_E_USAGE, "a stop string is not UTF-8\nit could never be found in an answer, or "
                                   "would cut one inside a character\ngive it as UTF-8");
    struct pattern *p = &s->strings[s->count];
    p->text = tk_arena_strndup(&s->arena, text, len);
    p->fail = tk_arena_array(&s->arena, len, sizeof *p->fail);
    if (!p->text || !p->fail) return TK_E_NOMEM;
    p->len = len;
    for (size_t i = 1, k = 0; i < len; i++) {
        while (k && text[i] != text[k]) k = p->fail[k - 1];
        if (text[i] == text[k]) k++;
        p->fail[i] = (uint16_t)k;
    }
    s->count++;
    return TK_OK;
}

tk_status tk_stop_new(tk_stop **out, const char *const *strings, size_t n) {
    *out = NULL;
    if (n > TK_STOP_MAX_STRINGS)
        return TK_FAIL(TK_E_LIMIT, "%zu stop strings\nthe limit is %d\ngive fewer", n, TK_STOP_MAX_STRINGS);
    tk_stop *s = calloc(1, sizeof *s);
    if (!s) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor stop strings\nfree some memory");
    s->found = -1;
    tk_status status = TK_OK;
    for (size_t i = 0; i < n && status == TK_OK; i++) status = add(s, strings[i]);
    if (status == TK_OK)
        *out = s;
    else
        tk_stop_free(s);
    return status;
}

void tk_stop_free(tk_stop *s) {
    if (!s) return;
    tk_arena_free(&s->arena);
    free(s);
}

void tk_stop_reset(tk_stop *s) {
    for (size_t i = 0; i < s->count; i++) s->strings[i].state = 0;
    s->found = -1;
}

int tk_stop_found(const tk_stop *s) { return s->found; }

/* The string that holds back the most; NULL when nothing is held back. Strings with equal states agree on
 * the bytes held. */
static const struct pattern *holder(const tk_stop *s) {
    const struct pattern *most = NULL;
    for (size_t i = 0; i < s->count; i++)
        if (s->strings[i].state > (most ? most->state : 0)) most = &s->strings[i];
    return most;
}

static void advance(struct pattern *p, char byte) {
    while (p->state && p->text[p->state] != byte) p->state = p->fail[p->state - 1];
    if (p->text[p->state] == byte) p->state++;
}

bool tk_stop_push(tk_stop *s, const char *text, size_t n, tk_buf *out) {
    if (s->found >= 0) return true;
    if (!s->count) {
        tk_buf_put(out, text, n);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const struct pattern *held = holder(s);
        size_t before = held ? held->state : 0, after = 0, longest = 0;
        for (size_t k = 0; k < s->count; k++) {
            struct pattern *p = &s->strings[k];
            advance(p, text[i]);
            if (p->state == p->len && p->len > longest) longest = p->len, s->found = (int)k;
            after = TK_MAX(after, p->state);
        }
        if (s->found >= 0) after = longest; /* a longer beginning of another string is text now */
        size_t free_bytes = before + 1 - after;
        tk_buf_put(out, held ? held->text : NULL, TK_MIN(free_bytes, before));
        if (free_bytes > before) tk_buf_put(out, text + i, 1);
        if (s->found >= 0) return true;
    }
    return false;
}

void tk_stop_finish(tk_stop *s, tk_buf *out) {
    const struct pattern *held = s->found < 0 ? holder(s) : NULL;
    if (held) tk_buf_put(out, held->text, held->state);
    for (size_t i = 0; i < s->count; i++) s->strings[i].state = 0;
}
