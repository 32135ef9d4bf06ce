/* SPDX-License-Identifier: Apache-2.0 */
/* What the references share: rows of operands whose dtype is known only at run time. Every format of
 * formats.def goes through its unpack and pack, so a new format works in every reference at once. Doubles
 * bypass them, since unpack gives float32, and floats for speed. */
#ifndef real
#define REF_SOURCE "ops/ref.c"
#include "ops/ref.h"

void *ref_alloc(int64_t count, size_t each) {
    void *p = calloc(count > 0 ? (size_t)count : 1, each);
    if (!p) abort();
    return p;
}
#else

void ref(load)(real *dst, const ref_rows *m, int64_t row) {
    const void *data = m->a->p[m->operand];
    const tk_dtype type = m->a->type[m->operand];
    if (type == TK_F64) {
        for (int64_t i = 0; i < m->cols; i++) dst[i] = (real)((const double *)data)[row * m->cols + i];
        return;
    }
    if (type == TK_F32) {
        for (int64_t i = 0; i < m->cols; i++) {
            float f; /* a mapped file need not be aligned */
            memcpy(&f, (const char *)data + (row * m->cols + i) * 4, 4);
            dst[i] = f;
        }
        return;
    }
    float *line = ref_alloc(m->cols, sizeof *line);
    tk_formats[type].unpack(line, data, m->rows, m->cols, row);
    for (int64_t i = 0; i < m->cols; i++) dst[i] = line[i];
    free(line);
}

void ref(store)(const ref_rows *m, const real *src, int64_t row) {
    void *data = m->a->p[m->operand];
    const tk_dtype type = m->a->type[m->operand];
    if (type == TK_F64) {
        for (int64_t i = 0; i < m->cols; i++) ((double *)data)[row * m->cols + i] = src[i];
        return;
    }
    float *line = ref_alloc(m->cols, sizeof *line);
    for (int64_t i = 0; i < m->cols; i++) line[i] = (float)src[i];
    tk_formats[type].pack(data, line, m->rows, m->cols, row);
    free(line);
}
#endif
