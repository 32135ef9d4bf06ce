/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as model folders hold it: jansson with duplicate keys refused (two readers must not see two different
 * models in one file). Nesting is bounded by jansson itself (2048), sizes by the caller. */
#include "model/file.h"

tk_status tk__json_parse(json_t **out, const char *text, size_t n, const char *name) {
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (*out) return TK_OK;
    if (json_error_code(&e) == json_error_out_of_memory)
        return TK_FAIL(TK_E_NOMEM, "%s: out of memory", name);
    return TK_FAIL(TK_E_FORMAT, "%s: the JSON is damaged\nline %d, column %d: %s\nfetch the file again", name,
                   e.line, e.column, e.text);
}

tk_status tk__json_file(json_t **out, const char *path, size_t limit) {
    static const char lfs[] = "version https://git-lfs";
    tk_buf b = { 0 };
    tk_status s = tk_file_read(&b, path, limit);
    if (s == TK_OK && b.len >= sizeof lfs - 1 && !memcmp(b.data, lfs, sizeof lfs - 1))
        s = TK_FAIL(TK_E_FORMAT,
                    "%s holds no data\nit is a Git-LFS pointer: the real file was never fetched\n"
                    "run `git lfs pull` in its repository, or download the file itself",
                    path);
    if (s == TK_OK) s = tk__json_parse(out, b.data, b.len, path);
    tk_buf_free(&b);
    return s;
}

static tk__value value_of(const json_t *j) {
    tk__value v = { TK__OTHER };
    if (!j)
        v.kind = TK__NONE;
    else if (json_is_null(j))
        v.kind = TK__NULL;
    else if (json_is_boolean(j))
        v.kind = TK__BOOL, v.i = json_is_true(j);
    else if (json_is_integer(j))
        v.kind = TK__INT, v.i = json_integer_value(j), v.r = (double)v.i;
    else if (json_is_real(j))
        v.kind = TK__REAL, v.r = json_real_value(j);
    else if (json_is_string(j))
        v.kind = TK__TEXT, v.s = json_string_value(j);
    return v;
}

tk__value tk__json_get(const void *object, const char *key) { return value_of(json_object_get(object, key)); }

tk__value tk__json_item(const void *object, const char *key, size_t i) {
    const json_t *list = json_object_get(object, key);
    return i < json_array_size(list) ? value_of(json_array_get(list, i)) : (tk__value){ TK__NONE };
}
