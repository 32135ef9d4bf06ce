/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings against a brute-force reading of the same promise, over every way to cut small texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "infer/infer.h"

static tk_stop *make(const char *const *strings, size_t n) {
    tk_stop *s;
    assert_int_equal(tk_stop_new(&s, strings, n), TK_OK);
    return s;
}

/* What must have come out after `len` bytes of text: everything before the first complete stop string (the
 * one that ends first, then the longest), else everything but the longest end that begins a string. */
static size_t expected(const char *const *strings, size_t n, const char *text, size_t len, int *found) {
    *found = -1;
    for (size_t end = 1; end <= len; end++) {
        size_t longest = 0;
        for (size_t k = 0; k < n; k++) {
            size_t m = strlen(strings[k]);
            if (m <= end && m > longest && !memcmp(text + end - m, strings[k], m))
                longest = m, *found = (int)k;
        }
        if (longest) return end - longest;
    }
    for (size_t held = len; held > 0; held--)
        for (size_t k = 0; k < n; k++)
            if (held < strlen(strings[k]) && !memcmp(text + len - held, strings[k], held)) return len - held;
    return len;
}

static void against_brute_force(void **state) {
    (void)state;
    static const char *const sets[][3] = {
        { "ab" },
        { "aab" },
        { "aba", "bb" },
        { "abab", "b" },
        { "aaa", "ab", "ba" },
        { "abb", "bba", "aaaa" },
        { "bab", "ab", "aab" },
        { "a" },
    };
    for (size_t set = 0; set < TK_COUNT(sets); set++) {
        size_t n = 0;
        while (n < 3 && sets[set][n]) n++;
        tk_stop *s = make(sets[set], n);
        for (unsigned bits = 0; bits < 1 << 8; bits++) {
            char text[9] = { 0 };
            for (int i = 0; i < 8; i++) text[i] = bits >> i & 1 ? 'b' : 'a';
            for (unsigned cuts = 0; cuts < 1 << 7; cuts += 3) {
                tk_buf out = { 0 };
                tk_stop_reset(s);
                for (size_t from = 0; from < 8;) {
                    size_t to = from + 1;
                    while (to < 8 && !(cuts >> (to - 1) & 1)) to++;
                    bool stopped = tk_stop_push(s, text + from, to - from, &out);
                    int found;
                    size_t want = expected(sets[set], n, text, to, &found);
                    assert_int_equal(out.len, want);
                    assert_int_equal(tk_stop_found(s), found);
                    assert_int_equal(stopped, found >= 0);
                    if (want) assert_memory_equal(out.data, text, want);
                    from = to;
                }
                bool stopped = tk_stop_found(s) >= 0;
                size_t len = out.len;
                tk_stop_finish(s, &out);
                assert_int_equal(out.len, stopped ? len : 8);
                assert_memory_equal(out.data ? out.data : "", text, out.len);
                tk_buf_free(&out);
            }
        }
        tk_stop_free(s);
    }
}

static void utf8_stays_whole(void **state) {
    (void)state;
    /* é and è share their first byte; pieces are whole characters, so output must be too */
    const char *const strings[] = { "é!", "日本" };
    const char *const pieces[] = { "caf", "é", "è", "日", "日", "x", "日", "本", "after" };
    const char *const outs[] = { "caf", "", "éè", "", "日", "日x", "", "", "" };
    tk_stop *s = make(strings, 2);
    for (size_t i = 0; i < TK_COUNT(pieces); i++) {
        tk_buf out = { 0 };
        bool stopped = tk_stop_push(s, pieces[i], strlen(pieces[i]), &out);
        assert_string_equal(out.data ? out.data : "", outs[i]);
        assert_int_equal(stopped, i >= 7);
        tk_buf_free(&out);
    }
    assert_int_equal(tk_stop_found(s), 1);
    tk_stop_free(s);
}

static void without_strings(void **state) {
    (void)state;
    tk_stop *s = make(NULL, 0);
    tk_buf out = { 0 };
    assert_false(tk_stop_push(s, "any\0thing", 9, &out));
    tk_stop_finish(s, &out);
    assert_int_equal(out.len, 9);
    tk_buf_free(&out);
    tk_stop_free(s);
}

static void long_string(void **state) {
    (void)state;
    /* the worst case for a naive matcher: a^n b; what is held back is bounded by the string */
    static char stop[TK_STOP_MAX_BYTES + 2];
    memset(stop, 'a', TK_STOP_MAX_BYTES - 1);
    stop[TK_STOP_MAX_BYTES - 1] = 'b';
    const char *const strings[] = { stop };
    tk_stop *s = make(strings, 1);
    tk_buf out = { 0 };
    for (int i = 0; i < 100000; i++) assert_false(tk_stop_push(s, "a", 1, &out));
    assert_int_equal(out.len, 100000 - (TK_STOP_MAX_BYTES - 1));
    assert_true(tk_stop_push(s, "b", 1, &out));
    assert_int_equal(out.len, 100000 - (TK_STOP_MAX_BYTES - 1));
    tk_buf_free(&out);
    tk_stop_free(s);
    stop[TK_STOP_MAX_BYTES] = 'b';
    assert_int_equal(tk_stop_new(&s, strings, 1), TK_E_LIMIT);
}

static void refused(void **state) {
    (void)state;
    tk_stop *s;
    const char *const empty[] = { "ok", "" };
    const char *const half[] = { "\xc3" };
    assert_int_equal(tk_stop_new(&s, empty, 2), TK_E_USAGE);
    assert_null(s);
    assert_non_null(strstr(tk_error(), "empty"));
    assert_int_equal(tk_stop_new(&s, half, 1), TK_E_USAGE);
    assert_non_null(strstr(tk_error(), "UTF-8"));
    const char *many[TK_STOP_MAX_STRINGS + 1];
    for (size_t i = 0; i < TK_COUNT(many); i++) many[i] = "x";
    assert_int_equal(tk_stop_new(&s, many, TK_COUNT(many)), TK_E_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_brute_force),
        cmocka_unit_test(utf8_stays_whole),
        cmocka_unit_test(without_strings),
        cmocka_unit_test(long_string),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
