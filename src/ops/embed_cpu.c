/* SPDX-License-Identifier: Apache-2.0 */
/* embed: rows of a weight in any format, to float32. A tied head is packed, and this reads it so. */
#include "ops/ops.h"

void embed_lookup(const tk_args *a) {
    const int32_t *ids = a->p[0];
    const int64_t k = TK_DIM(a, 'k');
    const tk_dim v = a->dim['v' - 'a'];
    float *out = a->p[2];
    int64_t from, end;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &from, &end);
    for (int64_t t = from; t < end; t++) {
        int64_t row = ids[t] - v.first;
        if (row >= 0 && row < v.n && ids[t] < v.N)
            tk_formats[a->type[1]].unpack(out + t * k, a->p[1], v.n, k, row);
        else
            memset(out + t * k, 0, (size_t)k * sizeof *out);
    }
}

void permute_plain(const tk_args *a) {
    const int32_t *order = a->p[1];
    const int64_t width = TK_DIM(a, 'k');
    int64_t t, to;
    tk_split(TK_DIM(a, 't'), 1, a->ith, a->nth, &t, &to);
    for (; t < to; t++) {
        const float *x = (const float *)a->p[0] + t * width;
        float *y = (float *)a->p[2] + t * width;
        for (int64_t k = 0; k < width; k++) y[k] = x[order[k]];
    }
}
