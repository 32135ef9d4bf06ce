/* SPDX-License-Identifier: Apache-2.0 */
/* What a rendering is made of: its limits, its memory, strings and dicts. Strings in the making grow at the
 * end of the output buffer, above the rendered text, so that all writers (print, repr, tojson, join, ...)
 * share one set of functions, and an error leaves nothing behind to free. */
#include <stdio.h>
#include <utf8proc.h>
#include <xxhash.h>

#include "text/jinja.h"

/* ---- limits and errors ------------------------------------------------------------------------------- */

tk_status tk__jfail_as(jx *c, tk_status code, const char *fmt, ...) {
    char text[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *todo = code == TK_E_LIMIT         ? "use another template, or raise the limit"
                       : code == TK_E_UNSUPPORTED ? "use another template"
                                                  : "compare the conversation with what the template expects";
    return TK_FAIL(code, "the chat template failed in line %d\n%s\n%s", c->line, text, todo);
}

tk_status tk__jstep(jx *c, size_t work) {
    c->steps += 1 + (int64_t)(work / 64);
    if (c->steps < c->next_clock) return TK_OK;
    if (c->steps > c->lim.steps)
        return tk__jfail(c, TK_E_LIMIT, "it took more than %lld steps", (long long)c->lim.steps);
    if (tk_now() > c->deadline)
        return tk__jfail(c, TK_E_LIMIT, "it took more than %g seconds", c->lim.seconds);
    c->next_clock = TK_MIN(c->steps + 4096, c->lim.steps + 1);
    return TK_OK;
}

tk_status tk__jenter(jx *c) {
    if (++c->depth > c->lim.depth) {
        return tk__jfail(c, TK_E_LIMIT, "it nests deeper than %d levels", c->lim.depth);
    }
    return TK_OK;
}

tk_status tk__jalloc(jx *c, size_t count, size_t each, void *pp) {
    size_t n, all;
    if (!tk_mul(count, each, &n) || !tk_add(n, c->arena.used, &all) || all > c->lim.memory) {
        return tk__jfail(c, TK_E_LIMIT, "its values take more than %zu bytes of memory", c->lim.memory);
    }
    void *p = tk_arena_alloc(&c->arena, n);
    if (!p) return TK_E_NOMEM;
    *(void **)pp = p;
    return TK_OK;
}

tk_status tk__jlist_new(jx *c, jtype type, size_t n, jval *out) {
    if (n > c->lim.value) return tk__jfail(c, TK_E_LIMIT, "it makes a list of %zu items", n);
    jlist *l;
    TK_TRY(tk__jstep(c, n));
    TK_TRY(tk__jalloc(c, 1, sizeof *l, &l));
    TK_TRY(tk__jalloc(c, n, sizeof *l->at, &l->at));
    l->n = n;
    *out = (jval){ .type = (uint8_t)type, .l = l };
    return TK_OK;
}

/* ---- strings ----------------------------------------------------------------------------------------- */

size_t tk__jutf8_count(const char *s, size_t n) {
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    return chars;
}

uint32_t tk__jutf8_next(const char **p) {
    const unsigned char *s = (const unsigned char *)*p;
    int more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    uint32_t cp = more ? s[0] & (0x3fu >> more) : s[0];
    for (int i = 1; i <= more; i++) cp = cp << 6 | (s[i] & 0x3f);
    *p += 1 + more;
    return cp;
}

size_t tk__jutf8_at(const jstr *s, size_t chars) {
    if (s->chars == s->n || chars == 0) return chars;
    if (chars >= s->chars) return s->n;
    size_t i = 0;
    for (size_t seen = 0;; i++) {
        if (((unsigned char)s->s[i] & 0xc0) != 0x80 && seen++ == chars) return i;
    }
}

bool tk__jstr_eq(const jstr *a, const char *b) { return a->n == strlen(b) && memcmp(a->s, b, a->n) == 0; }

bool tk__jspace(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f ||
           cp == 0x3000;
}

tk_status tk__jstr_part(jx *c, const char *s, size_t n, size_t chars, bool safe, jval *out) {
    jstr *str;
    TK_TRY(tk__jalloc(c, 1, sizeof *str, &str));
    *str = (jstr){ .s = s, .n = n, .chars = chars, .safe = safe };
    *out = (jval){ .type = J_STR, .s = str };
    return TK_OK;
}

static tk_status too_long(jx *c, size_t n) {
    return tk__jfail(c, TK_E_LIMIT, "it makes a string of %zu bytes, %zu are allowed", n, c->lim.value);
}

tk_status tk__jstr_new(jx *c, const char *s, size_t n, jval *out) {
    char *copy;
    if (n > c->lim.value) return too_long(c, n);
    TK_TRY(tk__jstep(c, n));
    TK_TRY(tk__jalloc(c, n + 1, 1, &copy));
    if (n) memcpy(copy, s, n);
    return tk__jstr_part(c, copy, n, tk__jutf8_count(s, n), false, out);
}

tk_status tk__jstr_view(jx *c, const jstr *of, size_t from, size_t to, jval *out) {
    size_t n = to - from;
    TK_TRY(tk__jstep(c, of->chars == of->n ? 0 : n));
    return tk__jstr_part(c, of->s + from, n, of->chars == of->n ? n : tk__jutf8_count(of->s + from, n),
                         of->safe, out);
}

tk_status tk__jstr_cat(jx *c, const jstr *a, const jstr *b, jval *out) {
    size_t n;
    if (!tk_add(a->n, b->n, &n) || n > c->lim.value) return too_long(c, n);
    struct jroom *room = a->room;
    bool grow = room && room->data + room->fill == a->s + a->n && room->cap - room->fill >= b->n;
    TK_TRY(tk__jstep(c, grow ? b->n : n));
    const char *s = a->s;
    if (!grow) {
        size_t cap = n < 256 ? n : n * 2;
        TK_TRY(tk__jalloc(c, sizeof *room + cap, 1, &room));
        room->cap = cap, room->fill = a->n;
        if (a->n) memcpy(room->data, a->s, a->n);
        s = room->data;
    }
    if (b->n) memcpy(room->data + room->fill, b->s, b->n);
    room->fill += b->n;
    TK_TRY(tk__jstr_part(c, s, n, a->chars + b->chars, a->safe, out));
    out->s->room = room;
    return TK_OK;
}

tk_status tk__jmark(jx *c, size_t *mark) {
    *mark = c->out.len;
    return TK_OK;
}

tk_status tk__jput(jx *c, const void *s, size_t n) {
    TK_TRY(tk__jstep(c, n));
    if (c->out.len - c->kept + n > c->lim.output) {
        return tk__jfail(c, TK_E_LIMIT, "it writes more than %zu bytes", c->lim.output);
    }
    tk_buf_put(&c->out, s, n);
    return c->out.failed ? tk_buf_check(&c->out) : TK_OK;
}
tk_status tk__jputs(jx *c, const char *s) { return tk__jput(c, s, strlen(s)); }

tk_status tk__jputc(jx *c, uint32_t codepoint) {
    utf8proc_uint8_t s[4];
    return tk__jput(c, s, (size_t)utf8proc_encode_char((utf8proc_int32_t)codepoint, s));
}

tk_status tk__jtake(jx *c, size_t mark, jval *out) {
    size_t n = c->out.len - mark;
    c->out.len = mark;
    return tk__jstr_new(c, n ? c->out.data + mark : "", n, out);
}

tk_status tk__jundef(jx *c, jval *out, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *copy;
    size_t n = strlen(text) + 1;
    TK_TRY(tk__jalloc(c, n, 1, &copy));
    memcpy(copy, text, n);
    *out = (jval){ .type = J_UNDEF, .undef = copy };
    return TK_OK;
}

/* ---- simple questions -------------------------------------------------------------------------------- */

bool tk__jtruth(jval v) {
    switch (v.type) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return false;
    case J_BOOL: return v.b;
    case J_INT: return v.i != 0;
    case J_FLOAT: return v.f != 0;
    case J_STR: return v.s->n != 0;
    case J_LIST:
    case J_TUPLE: return v.l->n != 0;
    case J_DICT:
    case J_VIEW: return v.d->n != 0;
    case J_RANGE: return v.range[3] != 0;
    default: return true;
    }
}

const char *tk__jtype(jval v) {
    switch (v.type) {
    case J_NONE: return "NoneType";
    case J_BOOL: return "bool";
    case J_INT: return "int";
    case J_FLOAT: return "float";
    case J_STR: return v.s->safe ? "Markup" : "str";
    case J_LIST: return "list";
    case J_TUPLE: return "tuple";
    case J_DICT: return "dict";
    case J_VIEW: return v.view == 'k' ? "dict_keys" : v.view == 'v' ? "dict_values" : "dict_items";
    case J_RANGE: return "range";
    case J_ITER: return "generator";
    case J_NS: return "Namespace";
    case J_LOOP: return "LoopContext";
    case J_MACRO: return "Macro";
    case J_FUNC: return "function";
    case J_CYCLER: return "Cycler";
    case J_JOINER: return "Joiner";
    default: return "Undefined";
    }
}

bool tk__jinteger(jval v, int64_t *i) {
    if (v.type == J_INT)
        *i = v.i;
    else if (v.type == J_BOOL)
        *i = v.b;
    else
        return false;
    return true;
}

bool tk__jnum(jval v, double *f) {
    int64_t i = 0;
    if (v.type == J_FLOAT)
        *f = v.f;
    else if (tk__jinteger(v, &i))
        *f = (double)i;
    else
        return false;
    return true;
}

/* ---- dicts ------------------------------------------------------------------------------------------- */

/* Equal keys must hash alike: 1, 1.0 and true are one key. */
static tk_status hash(jx *c, jval key, uint64_t *h) {
    double f;
    switch (key.type) {
    case J_STR: *h = XXH3_64bits(key.s->s, key.s->n); return TK_OK;
    case J_NONE:
    case J_UNDEF: *h = key.type; return TK_OK;
    case J_RANGE: *h = (uint64_t)key.range[3]; return TK_OK;
    case J_TUPLE:
        *h = 7;
        TK_TRY(tk__jenter(c));
        for (size_t i = 0; i < key.l->n; i++) {
            uint64_t one;
            TK_TRY(hash(c, key.l->at[i], &one));
            *h = *h * 0x9e3779b97f4a7c15u + one;
        }
        c->depth--;
        return tk__jstep(c, key.l->n * 16);
    default:
        if (tk__jnum(key, &f)) {
            f += 0.0; /* -0.0 == 0 */
            *h = XXH3_64bits(&f, sizeof f);
            return TK_OK;
        }
        if (key.type == J_FUNC || key.type == J_MACRO || key.type == J_LOOP || key.type == J_ITER ||
            key.type == J_NS) {
            *h = (uint64_t)(uintptr_t)key.l;
            return TK_OK;
        }
        return JFAIL(c, "unhashable type: '%s'", tk__jtype(key));
    }
}

static tk_status reindex(jx *c, jdict *d) {
    if (d->n < 9) return TK_OK;
    d->mask = 16;
    while (d->mask < d->cap * 2) d->mask *= 2;
    TK_TRY(tk__jalloc(c, d->mask--, sizeof *d->index, &d->index));
    for (size_t i = 0; i < d->n; i++) {
        uint64_t h;
        TK_TRY(hash(c, d->at[i].key, &h));
        while (d->index[h & d->mask]) h++;
        d->index[h & d->mask] = (uint32_t)i + 1;
    }
    return TK_OK;
}

tk_status tk__jdict_new(jx *c, size_t cap, jval *out) {
    jdict *d;
    if (cap > c->lim.value) return tk__jfail(c, TK_E_LIMIT, "it makes a dict of %zu items", cap);
    TK_TRY(tk__jalloc(c, 1, sizeof *d, &d));
    d->cap = TK_MAX(cap, 4);
    TK_TRY(tk__jalloc(c, d->cap, sizeof *d->at, &d->at));
    *out = (jval){ .type = J_DICT, .d = d };
    return TK_OK;
}

/* The position of the key, or -1; *h is its hash. */
static tk_status seek(jx *c, const jdict *d, jval key, uint64_t *h, int64_t *at) {
    TK_TRY(hash(c, key, h));
    bool eq = false;
    *at = -1;
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++) {
            TK_TRY(tk__jequal(c, d->at[i].key, key, &eq));
            if (eq) *at = (int64_t)i;
            if (eq) return TK_OK;
        }
        return TK_OK;
    }
    for (uint64_t k = *h; d->index[k & d->mask]; k++) {
        size_t i = d->index[k & d->mask] - 1;
        TK_TRY(tk__jequal(c, d->at[i].key, key, &eq));
        if (eq) *at = (int64_t)i;
        if (eq) return TK_OK;
    }
    return TK_OK;
}

tk_status tk__jdict_set(jx *c, jdict *d, jval key, jval val) {
    uint64_t h;
    int64_t at;
    TK_TRY(seek(c, d, key, &h, &at));
    if (at >= 0) {
        d->at[at].val = val;
        return TK_OK;
    }
    if (d->n == c->lim.value || d->n >= UINT32_MAX / 4)
        return tk__jfail(c, TK_E_LIMIT, "it makes a dict of %zu items", d->n);
    bool full = d->n == d->cap;
    if (full) {
        jpair *grown;
        TK_TRY(tk__jalloc(c, d->cap * 2, sizeof *grown, &grown));
        memcpy(grown, d->at, d->n * sizeof *grown);
        d->at = grown, d->cap *= 2;
    }
    d->at[d->n++] = (jpair){ key, val };
    if (full || !d->index) return reindex(c, d);
    while (d->index[h & d->mask]) h++;
    d->index[h & d->mask] = (uint32_t)d->n;
    return TK_OK;
}

tk_status tk__jdict_get(jx *c, const jdict *d, jval key, jval *out) {
    uint64_t h;
    int64_t at;
    TK_TRY(seek(c, d, key, &h, &at));
    *out = at < 0 ? tk__jmissing : d->at[at].val;
    return TK_OK;
}

const jval *tk__jdict_find(const jdict *d, const char *key, size_t n) {
    if (d->index) {
        for (uint64_t k = XXH3_64bits(key, n); d->index[k & d->mask]; k++) {
            const jpair *p = &d->at[d->index[k & d->mask] - 1];
            if (p->key.type == J_STR && p->key.s->n == n && memcmp(p->key.s->s, key, n) == 0) return &p->val;
        }
        return NULL;
    }
    for (size_t i = 0; i < d->n; i++) {
        const jpair *p = &d->at[i];
        if (p->key.type == J_STR && p->key.s->n == n && memcmp(p->key.s->s, key, n) == 0) return &p->val;
    }
    return NULL;
}
