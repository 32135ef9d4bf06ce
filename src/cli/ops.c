/* SPDX-License-Identifier: Apache-2.0 */
/* See ops.h. On a device a kernel's time is that of all its records of a step behind one another, so that
 * weights come from memory and starts overlap as they do in a step. */
#include <stdlib.h>

#include "cli/ops.h"

bool cli_alike(const tk_program *p, const tk_record *a, const tk_record *b) {
    if (a->op != b->op || a->adj != b->adj || a->kernel != b->kernel || a->phase != b->phase ||
        a->nin != b->nin)
        return false;
    for (int i = 0; i < a->nin + a->nout; i++)
        if (p->values[a->arg[i]].dtype != p->values[b->arg[i]].dtype ||
            strcmp(p->values[a->arg[i]].dim, p->values[b->arg[i]].dim) != 0)
            return false;
    return true;
}

/* The format of a record's first matrix or cache */
static const char *weight_of(const tk_program *p, const tk_record *r) {
    for (int i = 0; i < r->nin; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        if ((v->kind == TK_WEIGHT && v->dim[1]) || v->kind == TK_STATEFUL) return tk_formats[v->dtype].name;
    }
    return "";
}

tk_status cli_time_ops(tk_exec *e, const tk_program *p, int64_t tokens, cli_op out[CLI_OPS], int *n) {
    int *same = malloc(((size_t)p->nrecords + 1) * sizeof *same);
    if (!same) return TK_FAIL(TK_E_NOMEM, "out of memory");
    tk_status s = TK_OK;
    *n = 0;
    for (int i = 0; i < p->nrecords && *n < CLI_OPS && s == TK_OK; i++) {
        const tk_record *r = &p->records[i];
        int times = 0;
        bool first = r->phase == TK_P_FORWARD && r->kernel >= 0;
        for (int k = 0; k < i && first; k++) first = !cli_alike(p, r, &p->records[k]);
        for (int k = i; k < p->nrecords && first; k++)
            if (cli_alike(p, r, &p->records[k])) same[times++] = k;
        if (!first) continue;
        cli_op *o = &out[(*n)++];
        *o = (cli_op){ tk_op_info(r->op)->name,
                       tk_kernels[r->kernel].fn_name[r->adj],
                       weight_of(p, r),
                       times,
                       tokens,
                       0,
                       0,
                       0 };
        tk_exec_cost(e, r, &o->flops, &o->bytes);
        s = tk_exec_time(e, same, times, &o->seconds);
    }
    free(same);
    return s;
}

static double limit_of(const cli_op *o, double memory, double operations) {
    return TK_MAX(o->bytes / memory, o->flops / operations) / TK_MAX(o->seconds, 1e-12);
}

json_t *cli_ops_json(const cli_op *ops, int n, double memory, double operations) {
    json_t *list = json_array();
    for (const cli_op *o = ops; o < ops + n; o++)
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:I, s:i, s:f, s:f, s:f, s:f}", "op", o->op, "kernel", o->kernel,
                            "weight", o->weight, "tokens", (json_int_t)o->tokens, "times", o->times, "us",
                            o->seconds * 1e6, "gb_s", o->bytes / o->seconds / 1e9, "gflop_s",
                            o->flops / o->seconds / 1e9, "share_of_limit", limit_of(o, memory, operations)));
    return list;
}

tk_status cli_ops_print(const cli_op *ops, int n, double memory, double operations) {
    cli_table t = cli_table_new("OP|KERNEL|WEIGHT|>TOKENS|>TIMES|>US|>GB/s|>TFLOP/s|>LIMIT|>ALL US");
    for (const cli_op *o = ops; o < ops + n; o++) {
        cli_cell(&t, "%s", o->op), cli_cell(&t, "%s", o->kernel), cli_cell(&t, "%s", o->weight);
        cli_cell(&t, "%lld", (long long)o->tokens), cli_cell(&t, "%d", o->times),
            cli_cell(&t, "%.2f", o->seconds * 1e6);
        cli_cell(&t, "%.0f", o->bytes / o->seconds / 1e9), cli_cell(&t, "%.2f", o->flops / o->seconds / 1e12);
        cli_cell(&t, "%.0f %%", 100 * limit_of(o, memory, operations));
        cli_cell(&t, "%.1f", o->seconds * 1e6 * o->times);
    }
    return cli_table_print(&t);
}
