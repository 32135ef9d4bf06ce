/* SPDX-License-Identifier: Apache-2.0 */
/* Writing files: whole or not at all, and never in the place of a pipe or device. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

static char dir[64];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/tokamak-file-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int remove_dir(void **state) {
    (void)state;
    return rmdir(dir); /* fails if a test left something, such as a temporary file */
}

static void a_file_is_replaced(void **state) {
    (void)state;
    char path[128];
    tk_buf b = { 0 };
    snprintf(path, sizeof path, "%s/a", dir);
    assert_int_equal(tk_file_write(path, "first, longer", 13), TK_OK);
    assert_int_equal(tk_file_write(path, "second", 6), TK_OK);
    assert_int_equal(tk_file_read(&b, path, 100), TK_OK);
    assert_string_equal(b.data, "second");
    tk_buf_free(&b);
    unlink(path);
}

static void a_pipe_stays_a_pipe(void **state) {
    (void)state;
    char path[128], got[8] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/pipe", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    assert_true(fd >= 0);
    assert_int_equal(tk_file_write(path, "text", 4), TK_OK);
    assert_int_equal(read(fd, got, sizeof got), 4);
    assert_string_equal(got, "text");
    assert_true(!stat(path, &st) && S_ISFIFO(st.st_mode));
    close(fd);
    unlink(path);
}

static void a_folder_is_refused(void **state) {
    (void)state;
    assert_int_equal(tk_file_write(dir, "x", 1), TK_E_IO);
    assert_true(tk_file_is_dir(dir));
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_file_is_replaced),
                                        cmocka_unit_test(a_pipe_stays_a_pipe),
                                        cmocka_unit_test(a_folder_is_refused) };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
