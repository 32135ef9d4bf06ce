/* SPDX-License-Identifier: Apache-2.0 */
/* The program as text, one record a line:
 *   forward  L3  linear  %41:te f32 <- %38:te f32, q.3:gr|de q8_0   [linear_q8_avx512] */
#include "core/core.h"

static const char *const phases[] = { "load", "changed", "forward", "backward", "update" };

static void dump_value(const tk_program *p, tk_id id, tk_buf *out) {
    const tk_value *v = &p->values[id];
    if (v->name >= 0 && p->names[v->name].layer >= 0)
        tk_buf_printf(out, "%s.%d", p->names[v->name].role, p->names[v->name].layer);
    else if (v->name >= 0)
        tk_buf_puts(out, p->names[v->name].role);
    else
        tk_buf_printf(out, "%%%d", id);
    tk_buf_puts(out, ":");
    for (int d = 0; v->dim[d]; d++) {
        tk_buf_printf(out, "%c", v->dim[d]);
        for (int a = 0; a < p->mesh.axes; a++)
            if (v->cut[a] == d) tk_buf_printf(out, "/%d", a);
    }
    for (int a = 0; a < p->mesh.axes; a++)
        if (TK_IS_PARTIAL(v->cut[a])) tk_buf_printf(out, "^%d", a);
    tk_buf_printf(out, " %s", tk_formats[v->dtype].name);
}

void tk_dump(const tk_program *p, tk_buf *out) {
    for (int phase = 0; phase < TK_PHASES; phase++)
        for (int i = 0; i < p->nrecords; i++) {
            const tk_record *r = &p->records[i];
            if (r->phase != phase) continue;
            tk_buf_printf(out, "%-8s ", phases[phase]);
            if (r->layer >= 0)
                tk_buf_printf(out, "L%-3d ", r->layer);
            else
                tk_buf_puts(out, "     ");
            tk_buf_puts(out, tk_op_info(r->op)->name);
            if (r->adj) tk_buf_printf(out, "'%d", r->adj);
            tk_buf_puts(out, "  ");
            for (int k = r->nin; k < r->nin + r->nout; k++) {
                dump_value(p, r->arg[k], out);
                tk_buf_puts(out, k + 1 < r->nin + r->nout ? ", " : " <- ");
            }
            for (int k = 0; k < r->nin; k++) {
                if (k) tk_buf_puts(out, ", ");
                dump_value(p, r->arg[k], out);
            }
            if (tk_op_info(r->op)->flags & TK_COMM)
                tk_buf_printf(out, "  axes %d dim %d", r->attr.i[0], r->attr.i[1]);
            tk_buf_printf(out, "  [%s]\n", r->kernel >= 0 ? tk_kernels[r->kernel].fn_name[r->adj] : "-");
        }
}
