/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in, by jansson, and out, as Python's json.dumps writes it: chat templates print whole tools and
 * arguments, so the model saw exactly that spacing, escaping and number format in training. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "text/jinja.h"

static tk_status convert(jx *c, json_t *j, jval *out) {
    const char *key;
    json_t *one;
    size_t i;
    jval v, name;
    tk_status s = TK_OK;
    switch (json_typeof(j)) {
    case JSON_NULL: *out = tk__jnone; return TK_OK;
    case JSON_TRUE: *out = tk__jbool(true); return TK_OK;
    case JSON_FALSE: *out = tk__jbool(false); return TK_OK;
    case JSON_INTEGER: *out = tk__jint(json_integer_value(j)); return TK_OK;
    case JSON_REAL: *out = tk__jfloat(json_real_value(j)); return TK_OK;
    case JSON_STRING: return tk__jstr_new(c, json_string_value(j), json_string_length(j), out);
    default: break;
    }
    TK_TRY(tk__jenter(c));
    if (json_is_array(j)) {
        TK_TRY(tk__jlist_new(c, J_LIST, json_array_size(j), out));
        json_array_foreach(j, i, one) {
            if (s == TK_OK) s = convert(c, one, &out->l->at[i]);
        }
    } else {
        TK_TRY(tk__jdict_new(c, json_object_size(j), out));
        json_object_foreach(j, key, one) {
            if (s == TK_OK) s = tk__jstr_new(c, key, strlen(key), &name);
            if (s == TK_OK) s = convert(c, one, &v);
            if (s == TK_OK) s = tk__jdict_set(c, out->d, name, v);
        }
    }
    c->depth--;
    return s;
}

tk_status tk__jjson_load(jx *c, const char *json, size_t n, jval *out) {
    json_error_t e;
    json_t *j = json_loadb(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (!j) {
        return TK_FAIL(TK_E_FORMAT,
                       "the template's variables are not good JSON\nline %d, column %d: %s\ngive one JSON "
                       "object: {\"messages\": [...], ...}",
                       e.line, e.column, e.text);
    }
    tk_status s = json_is_object(j)
                      ? convert(c, j, out)
                      : TK_FAIL(TK_E_FORMAT, "the template's variables are not a JSON object\nthey are a "
                                             "list\ngive {\"messages\": [...], ...}");
    json_decref(j);
    return s;
}

/* ---- tojson ------------------------------------------------------------------------------------------ */

typedef struct dumper {
    jx *c;
    bool ascii, sort, pretty;
    const jstr *indent;
    jval item, key; /* separators */
    int level;
} dumper;

static tk_status dump_str(dumper *d, const jstr *s) {
    static const char from[] = "\"\\\n\r\t\b\f", into[] = "\"\\nrtbf";
    jx *c = d->c;
    const char *p = s->s, *end = p + s->n, *plain = p;
    char text[24];
    TK_TRY(tk__jputs(c, "\""));
    while (p < end) {
        const char *at = p;
        uint32_t cp = tk__jutf8_next(&p);
        const char *hit = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
        if (!hit && cp >= 0x20 && !(d->ascii && cp >= 0x7f)) continue;
        TK_TRY(tk__jput(c, plain, (size_t)(at - plain)));
        plain = p;
        if (hit)
            snprintf(text, sizeof text, "\\%c", into[hit - from]);
        else if (cp < 0x10000)
            snprintf(text, sizeof text, "\\u%04x", cp);
        else
            snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                     0xdc00 + ((cp - 0x10000) & 0x3ff));
        TK_TRY(tk__jputs(c, text));
    }
    TK_TRY(tk__jput(c, plain, (size_t)(end - plain)));
    return tk__jputs(c, "\"");
}

static tk_status dump_simple(dumper *d, jval v, bool key) {
    char text[40];
    if (key) TK_TRY(tk__jputs(d->c, "\""));
    if (v.type == J_NONE)
        TK_TRY(tk__jputs(d->c, "null"));
    else if (v.type == J_BOOL)
        TK_TRY(tk__jputs(d->c, v.b ? "true" : "false"));
    else if (v.type == J_FLOAT && !isfinite(v.f)) {
        TK_TRY(tk__jputs(d->c, isnan(v.f) ? "NaN" : v.f < 0 ? "-Infinity" : "Infinity"));
    } else if (v.type == J_FLOAT)
        TK_TRY(tk__jput(d->c, text, (size_t)tk__jfloat_repr(text, v.f)));
    else
        TK_TRY(tk__jput(d->c, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.i)));
    return key ? tk__jputs(d->c, "\"") : TK_OK;
}

static tk_status newline(dumper *d) {
    if (!d->pretty) return TK_OK;
    TK_TRY(tk__jputs(d->c, "\n"));
    for (int i = 0; i < d->level; i++) TK_TRY(tk__jput(d->c, d->indent->s, d->indent->n));
    return TK_OK;
}

static bool simple(jval v) {
    return v.type == J_NONE || v.type == J_BOOL || v.type == J_INT || v.type == J_FLOAT;
}

static tk_status dump(dumper *d, jval v);

static tk_status dump_list(dumper *d, const jlist *l) {
    for (size_t i = 0; i < l->n; i++) {
        if (i) TK_TRY(tk__jprint(d->c, d->item));
        TK_TRY(newline(d));
        TK_TRY(dump(d, l->at[i]));
    }
    return TK_OK;
}

/* The order of a dict's pairs: insertion sort would be quadratic, so a bottom-up merge. */
static tk_status sort_pairs(jx *c, const jdict *src, jpair **out) {
    jpair *a, *b;
    TK_TRY(tk__jalloc(c, src->n, sizeof *a, &a));
    TK_TRY(tk__jalloc(c, src->n, sizeof *b, &b));
    if (src->n) memcpy(a, src->at, src->n * sizeof *a);
    for (size_t w = 1; w < src->n; w *= 2) {
        for (size_t lo = 0; lo < src->n; lo += 2 * w) {
            size_t mid = TK_MIN(lo + w, src->n), hi = TK_MIN(lo + 2 * w, src->n), i = lo, k = mid;
            for (size_t at = lo; at < hi; at++) {
                bool right = i == mid;
                if (!right && k < hi) TK_TRY(tk__jless(c, a[k].key, a[i].key, &right));
                b[at] = right ? a[k++] : a[i++];
            }
        }
        jpair *t = a;
        a = b, b = t;
    }
    *out = a;
    return TK_OK;
}

static tk_status dump_dict(dumper *d, const jdict *dict) {
    jpair *at = dict->at;
    if (d->sort) TK_TRY(sort_pairs(d->c, dict, &at));
    for (size_t i = 0; i < dict->n; i++) {
        if (i) TK_TRY(tk__jprint(d->c, d->item));
        TK_TRY(newline(d));
        jval k = at[i].key;
        if (k.type == J_STR)
            TK_TRY(dump_str(d, k.s));
        else if (simple(k))
            TK_TRY(dump_simple(d, k, true));
        else
            return JFAIL(d->c, "keys must be str, int, float, bool or None, not %s", tk__jtype(k));
        TK_TRY(tk__jprint(d->c, d->key));
        TK_TRY(dump(d, at[i].val));
    }
    return TK_OK;
}

static tk_status dump(dumper *d, jval v) {
    TK_TRY(tk__jstep(d->c, 0));
    if (simple(v)) return dump_simple(d, v, false);
    if (v.type == J_STR) return dump_str(d, v.s);
    bool list = v.type == J_LIST || v.type == J_TUPLE;
    if (!list && v.type != J_DICT) {
        return JFAIL(d->c, "Object of type %s is not JSON serializable", tk__jtype(v));
    }
    if (list ? !v.l->n : !v.d->n) return tk__jputs(d->c, list ? "[]" : "{}");
    TK_TRY(tk__jenter(d->c));
    TK_TRY(tk__jputs(d->c, list ? "[" : "{"));
    d->level++;
    TK_TRY(list ? dump_list(d, v.l) : dump_dict(d, v.d));
    d->level--;
    d->c->depth--;
    TK_TRY(newline(d));
    return tk__jputs(d->c, list ? "]" : "}");
}

static tk_status tojson(jx *c, const jcall *k, jval *out) {
    dumper d = { .c = c, .ascii = tk__jtruth(k->a[0]), .sort = tk__jtruth(k->a[3]) };
    jval indent = k->a[1], sep = k->a[2], spaces;
    int64_t n;
    size_t mark;
    TK_TRY(tk__jstr_new(c, ": ", 2, &d.key));
    d.pretty = indent.type != J_MISSING && indent.type != J_NONE;
    TK_TRY(tk__jstr_new(c, ", ", d.pretty ? 1 : 2, &d.item));
    if (indent.type == J_STR)
        d.indent = indent.s;
    else if (d.pretty) {
        if (!tk__jinteger(indent, &n)) return JFAIL(c, "tojson: indent must be a number or a string");
        if (n > 1000) return tk__jfail(c, TK_E_LIMIT, "tojson: an indent of %lld", (long long)n);
        TK_TRY(tk__jmark(c, &mark));
        for (; n > 0; n--) TK_TRY(tk__jputs(c, " "));
        TK_TRY(tk__jtake(c, mark, &spaces));
        d.indent = spaces.s;
    }
    if (sep.type != J_MISSING && sep.type != J_NONE) {
        if ((sep.type != J_LIST && sep.type != J_TUPLE) || sep.l->n != 2 || sep.l->at[0].type != J_STR ||
            sep.l->at[1].type != J_STR) {
            return JFAIL(c, "tojson: separators must be two strings");
        }
        d.item = sep.l->at[0], d.key = sep.l->at[1];
    }
    TK_TRY(tk__jmark(c, &mark));
    TK_TRY(dump(&d, k->self));
    return tk__jtake(c, mark, out);
}
const jrow tk__jtojson = { "tojson", "ensure_ascii indent separators sort_keys", 0, tojson };
