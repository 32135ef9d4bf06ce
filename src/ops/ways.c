/* SPDX-License-Identifier: Apache-2.0 */
/* See ways.h. A file is text, a line a shape, so that people can read what was found:
 *
 *     tokamak ways 1
 *     NVIDIA H200, CUDA 13.0
 *     0 h_bf16 4096 4096 64 4 11.63
 *
 * end, format, rows, width, tokens, way, microseconds. */
#include <stdio.h>
#include <stdlib.h>

#include "ops/ways.h"

enum { MOST_BYTES = 1 << 20, MOST_SHAPES = 16384, MOST_DIM = 1 << 30 };

void tk_ways_free(tk_ways *w) {
    free(w->list);
    *w = (tk_ways){ 0 };
}

static int order(const tk_way_key *a, const tk_way_key *b) {
    const int32_t x[] = { a->end, a->weight, a->rows, a->width, a->tokens },
                  y[] = { b->end, b->weight, b->rows, b->width, b->tokens };
    for (size_t i = 0; i < TK_COUNT(x); i++)
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    return 0;
}

/* The first that is not below the key */
static int place_of(const tk_ways *w, const tk_way_key *key) {
    int low = 0, high = w->n;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (order(&w->list[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int tk_ways_find(const tk_ways *w, const tk_way_key *key) {
    const int i = place_of(w, key);
    return i < w->n && !order(&w->list[i].key, key) ? w->list[i].way : TK_WAY_OWN;
}

int tk_device_way(tk_device_ways *w, tk_way_key key) {
    int32_t up = 1;
    while (up < key.tokens && up < MOST_DIM) up *= 2;
    key.tokens = up, w->last = key;
    return w->trying >= 0 ? w->trying : tk_ways_find(&w->known, &key);
}

tk_status tk_ways_put(tk_ways *w, const tk_way *way) {
    const int i = place_of(w, &way->key);
    if (i == w->n || order(&w->list[i].key, &way->key)) {
        if (w->n == MOST_SHAPES)
            return TK_FAIL(TK_E_LIMIT,
                           "too many shapes\n%d are kept for a device\nremove its file in the cache folder",
                           (int)MOST_SHAPES);
        if (w->n == w->room) {
            const int room = TK_MAX(64, 2 * w->room);
            tk_way *list = realloc(w->list, (size_t)room * sizeof *list);
            if (!list)
                return TK_FAIL(TK_E_NOMEM, "out of memory\nfor %d shapes of products\nclose other programs",
                               room);
            w->list = list, w->room = room;
        }
        memmove(w->list + i + 1, w->list + i, (size_t)(w->n++ - i) * sizeof *w->list);
    }
    w->list[i] = *way;
    return TK_OK;
}

/* ---- files ---- */

tk_status tk_ways_write(const tk_ways *w, const char *device, tk_buf *text) {
    tk_buf_printf(text, "tokamak ways %d\n%s\n", (int)TK_WAYS_OF, device);
    for (const tk_way *v = w->list; v < w->list + w->n; v++)
        tk_buf_printf(text, "%d %s %d %d %d %d %.2f\n", (int)v->key.end, tk_formats[v->key.weight].name,
                      (int)v->key.rows, (int)v->key.width, (int)v->key.tokens, (int)v->way, (double)v->us);
    return tk_buf_check(text);
}

/* A whole number of at most `most`, and what ends it */
static bool number(const char **at, const char *end, int64_t most, char stop, int32_t *out) {
    int64_t v = 0;
    const char *p = *at;
    for (; p < end && *p >= '0' && *p <= '9' && v <= most; p++) v = 10 * v + (*p - '0');
    if (p == *at || p == end || *p != stop || v > most) return false;
    *at = p + 1, *out = (int32_t)v;
    return true;
}

static bool word(const char **at, const char *end, char stop, char *out, size_t room) {
    const char *p = memchr(*at, stop, (size_t)(end - *at));
    if (!p || (size_t)(p - *at) >= room) return false;
    memcpy(out, *at, (size_t)(p - *at)), out[p - *at] = 0;
    *at = p + 1;
    return true;
}

static bool read_shape(const char **at, const char *end, tk_way *v) {
    char format[32];
    int32_t whole, part;
    if (!number(at, end, TK_WAYS_MOST, ' ', &v->key.end) || !word(at, end, ' ', format, sizeof format) ||
        !number(at, end, MOST_DIM, ' ', &v->key.rows) || !number(at, end, MOST_DIM, ' ', &v->key.width) ||
        !number(at, end, MOST_DIM, ' ', &v->key.tokens) || !number(at, end, TK_WAYS_MOST - 1, ' ', &v->way) ||
        !number(at, end, 1 << 30, '.', &whole) || !number(at, end, 99, '\n', &part))
        return false;
    v->key.weight = tk_format_by_name(format), v->us = (float)whole + (float)part / 100;
    return v->key.weight != TK_NODTYPE;
}

tk_status tk_ways_read(tk_ways *w, const char *device, const char *text, size_t n) {
    char line[256], first[32];
    const char *at = text, *end = text + n;
    int lines = 2;
    snprintf(first, sizeof first, "tokamak ways %d", (int)TK_WAYS_OF);
    *w = (tk_ways){ 0 };
    bool right = word(&at, end, '\n', line, sizeof line) && !strcmp(line, first) &&
                 word(&at, end, '\n', line, sizeof line) && !strcmp(line, device);
    tk_status s = TK_OK;
    while (right && at < end && s == TK_OK) {
        tk_way v;
        lines++;
        right = read_shape(&at, end, &v);
        if (right) s = tk_ways_put(w, &v);
    }
    if (s == TK_OK && !right)
        s = TK_FAIL(TK_E_FORMAT,
                    "what `tune` found cannot be read\nline %d is none of %s\nrun `tokamak tune` again",
                    lines, device);
    if (s != TK_OK) tk_ways_free(w);
    return s;
}

char *tk_ways_path(const char *device) {
    const char *own = getenv("TOKAMAK_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char name[256], *path = NULL;
    size_t n = 0;
    for (const char *c = device; *c && n + 1 < sizeof name; c++)
        name[n++] = strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.", *c) ? *c : '-';
    name[n] = 0;
    const int made = own && *own     ? asprintf(&path, "%s/ways/%s", own, name)
                     : xdg && *xdg   ? asprintf(&path, "%s/tokamak/ways/%s", xdg, name)
                     : home && *home ? asprintf(&path, "%s/.cache/tokamak/ways/%s", home, name)
                                     : -1;
    return made < 0 ? NULL : path;
}

tk_status tk_ways_load(tk_ways *w, const char *device) {
    char *path = tk_ways_path(device);
    tk_buf text = { 0 };
    tk_status s = TK_OK;
    *w = (tk_ways){ 0 };
    if (path && tk_file_exists(path)) {
        s = tk_file_read(&text, path, MOST_BYTES);
        if (s == TK_OK) s = tk_ways_read(w, device, text.data, text.len);
    }
    tk_buf_free(&text);
    free(path);
    return s;
}

tk_status tk_ways_save(const tk_ways *w, const char *device) {
    char *path = tk_ways_path(device), *slash = path ? strrchr(path, '/') : NULL;
    tk_buf text = { 0 };
    if (!path)
        return TK_FAIL(TK_E_IO,
                       "no cache folder\nneither TOKAMAK_CACHE, XDG_CACHE_HOME nor HOME is set\nset one");
    *slash = 0;
    tk_status s = tk_mkdirs(path);
    *slash = '/';
    if (s == TK_OK) s = tk_ways_write(w, device, &text);
    if (s == TK_OK) s = tk_file_write(path, text.data, text.len);
    tk_buf_free(&text);
    free(path);
    return s;
}
