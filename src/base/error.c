/* SPDX-License-Identifier: Apache-2.0 */
/* The thread's last error: one buffer a thread, so that failing costs no allocation. */
#include <stdio.h>

#include "base/base.h"

static _Thread_local char message[2048] = "no error\n\n";
static _Thread_local char where[128] = "";

static const struct {
    const char *name;
    int exit_code;
} statuses[] = {
#define X(name, exit_code, meaning) { #name, exit_code },
    TK_STATUS_LIST(X)
#undef X
};

tk_status tk__fail(tk_status code, const char *file, int line, const char *fmt, ...) {
    /* the arguments may point into `message` (a message that quotes the one below it) */
    char text[sizeof message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(message, text, sizeof message);
    const char *base = strrchr(file, '/');
    snprintf(where, sizeof where, "%s:%d", base ? base + 1 : file, line);
    return code;
}

const char *tk_error(void) { return message; }
const char *tk__error_where(void) { return where; }
int tk__exit_code(tk_status s) { return (size_t)s < TK_COUNT(statuses) ? statuses[s].exit_code : 1; }
const char *tk__status_name(tk_status s) { return (size_t)s < TK_COUNT(statuses) ? statuses[s].name : "?"; }
