/* SPDX-License-Identifier: Apache-2.0 */
/* What `tune` found, as it is kept: found again by shape, the same file from any order, and files that are
 * not whole or of another device refused. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "ops/ways.h"

static const char device[] = "NVIDIA H200, CUDA 13.0";

static tk_way way_of(int i) {
    return (tk_way){ { i % 3, i % 2 ? TK_H_BF16 : TK_H_Q4_0, 4096 + i / 5 * 16, 4096, 16 << i % 8 },
                     i % 7,
                     1.25f + (float)i };
}

static void shapes_are_found_again(void **unused) {
    enum { SHAPES = 1000 };
    (void)unused;
    tk_ways up = { 0 }, down = { 0 };
    tk_buf a = { 0 }, b = { 0 };
    for (int i = 0; i < SHAPES; i++) {
        const tk_way v = way_of(i), w = way_of(SHAPES - 1 - i);
        assert_int_equal(tk_ways_find(&up, &v.key), TK_WAY_OWN);
        assert_int_equal(tk_ways_put(&up, &v), TK_OK);
        assert_int_equal(tk_ways_put(&down, &w), TK_OK);
    }
    assert_int_equal(up.n, SHAPES);
    for (int i = 0; i < SHAPES; i++) {
        const tk_way v = way_of(i);
        assert_int_equal(tk_ways_find(&up, &v.key), v.way);
    }
    assert_int_equal(tk_ways_write(&up, device, &a), TK_OK);
    assert_int_equal(tk_ways_write(&down, device, &b), TK_OK);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    tk_way v = way_of(3);
    v.way = 6;
    assert_int_equal(tk_ways_put(&up, &v), TK_OK);
    assert_int_equal(up.n, SHAPES);
    assert_int_equal(tk_ways_find(&up, &v.key), 6);
    tk_ways_free(&up), tk_ways_free(&down);
    assert_int_equal(tk_ways_read(&up, device, a.data, a.len), TK_OK);
    assert_int_equal(up.n, SHAPES);
    tk_ways_free(&up);
    tk_buf_free(&a), tk_buf_free(&b);
}

static void tokens_count_to_the_next_power(void **unused) {
    (void)unused;
    tk_device_ways w = { .count = 7, .trying = -1 };
    const tk_way v = { { 0, TK_H_BF16, 4096, 4096, 64 }, 4, 10 };
    assert_int_equal(tk_ways_put(&w.known, &v), TK_OK);
    tk_way_key key = v.key;
    for (int tokens = 31; tokens <= 66; tokens++) {
        key.tokens = tokens;
        assert_int_equal(tk_device_way(&w, key), tokens > 32 && tokens <= 64 ? 4 : TK_WAY_OWN);
        assert_int_equal(w.last.tokens, tokens <= 32 ? 32 : tokens <= 64 ? 64 : 128);
    }
    w.trying = 2;
    assert_int_equal(tk_device_way(&w, v.key), 2);
    tk_ways_free(&w.known);
}

static void bad_files_are_refused(void **unused) {
    static const char head[] = "tokamak ways 1\nNVIDIA H200, CUDA 13.0\n",
                      good[] = "0 h_bf16 4096 4096 64 4 11.63\n";
    static const char *const bad[] = {
        "0 h_bf16 4096 4096 64 4 11.63",
        "0 h_bf16 4096 4096 64 4\n",
        "0 h_bf16 4096 4096 64 4 11.63 \n",
        "0 h_none 4096 4096 64 4 11.63\n",
        "-1 h_bf16 4096 4096 64 4 11.63\n",
        "0 h_bf16 4096 4096 64 16 11.63\n",
        "0 h_bf16 99999999999999999999 4096 64 4 11.63\n",
        "0 h_bf16 4096 4096 64 4 11\n",
        "0 h_bf16  4096 4096 64 4 11.63\n",
        "17 h_bf16 4096 4096 64 4 11.63\n",
        "\n",
        "0 h_bf16 4096 4096 64 4 11.630\n",
        "0 h_bf16_________________________________ 1 1 1 1 1.0\n",
    };
    (void)unused;
    tk_ways w;
    char text[256];
    snprintf(text, sizeof text, "%s%s", head, good);
    assert_int_equal(tk_ways_read(&w, device, text, strlen(text)), TK_OK);
    assert_int_equal(w.n, 1);
    tk_ways_free(&w);
    assert_int_not_equal(tk_ways_read(&w, "NVIDIA H100, CUDA 13.0", text, strlen(text)), TK_OK);
    for (size_t n = 0; n < strlen(text); n++) {
        if (n == strlen(head)) continue; /* no shapes */
        assert_int_not_equal(tk_ways_read(&w, device, text, n), TK_OK);
        assert_null(w.list);
    }
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        snprintf(text, sizeof text, "%s%s%s", head, good, bad[i]);
        assert_int_not_equal(tk_ways_read(&w, device, text, strlen(text)), TK_OK);
        assert_null(w.list);
        assert_non_null(strstr(tk_error(), "line 4"));
    }
    snprintf(text, sizeof text, "tokamak ways 2\n%s\n%s", device, good);
    assert_int_not_equal(tk_ways_read(&w, device, text, strlen(text)), TK_OK);
}

static void files_are_kept(void **unused) {
    char folder[] = "/tmp/tokamak-ways-XXXXXX", gone[64];
    (void)unused;
    assert_non_null(mkdtemp(folder));
    setenv("TOKAMAK_CACHE", folder, 1);
    tk_ways w, again;
    assert_int_equal(tk_ways_load(&w, device), TK_OK);
    assert_int_equal(w.n, 0);
    const tk_way v = way_of(1);
    assert_int_equal(tk_ways_put(&w, &v), TK_OK);
    assert_int_equal(tk_ways_save(&w, device), TK_OK);
    assert_int_equal(tk_ways_load(&again, device), TK_OK);
    assert_int_equal(again.n, 1);
    assert_memory_equal(&again.list[0].key, &v.key, sizeof v.key);
    tk_ways_free(&w);
    assert_int_equal(tk_ways_load(&w, "another/../device"), TK_OK);
    assert_int_equal(w.n, 0);
    char *path = tk_ways_path(device), *other = tk_ways_path("another/../device");
    assert_null(strchr(other + strlen(folder) + strlen("/ways/"), '/'));
    assert_int_equal(unlink(path), 0);
    free(path), free(other);
    tk_ways_free(&again);
    snprintf(gone, sizeof gone, "%s/ways", folder);
    assert_int_equal(rmdir(gone), 0);
    assert_int_equal(rmdir(folder), 0);
    unsetenv("TOKAMAK_CACHE");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_are_found_again),
        cmocka_unit_test(tokens_count_to_the_next_power),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(files_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
