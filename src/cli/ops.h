/* SPDX-License-Identifier: Apache-2.0 */
/* Records of a program as people see them: those alike are one, and how long each kind takes on a device
 * (ops.c) */
#ifndef TK_CLI_OPS_H
#define TK_CLI_OPS_H
#include "cli/cli.h"
#include "core/core.h"

/* The same op, kernel, phase, types and shapes */
bool cli_alike(const tk_program *p, const tk_record *a, const tk_record *b);

enum { CLI_OPS = 64 };
typedef struct cli_op {
    const char *op, *kernel, *weight; /* weight: the format of its first matrix or cache, or "" */
    int times;                        /* records like it in a step */
    int64_t tokens;
    double seconds, flops, bytes; /* of one */
} cli_op;
/* The kinds of records of a step, timed at the sizes and on the batch of the last run; *n of at most CLI_OPS
 */
tk_status cli_time_ops(tk_exec *e, const tk_program *p, int64_t tokens, cli_op out[CLI_OPS], int *n);
/* memory, ops: bytes and operations a second that the device can do */
json_t *cli_ops_json(const cli_op *ops, int n, double memory, double operations);
tk_status cli_ops_print(const cli_op *ops, int n, double memory, double operations);
#endif
