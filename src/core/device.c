/* SPDX-License-Identifier: Apache-2.0 */
/* Devices by name, and what all of them share. Everything above asks here, so that what kinds of devices
 * there are is said once. */
#include "core/core.h"
#include "cuda/cuda.h"

tk_status tk_device_open(tk_device **out, const char *name, bool plan) {
    *out = NULL;
    if (!name || !strcmp(name, "cpu")) return TK_OK;
    int index = 0;
    bool cuda = !strncmp(name, "cuda", 4) && (!name[4] || (name[4] == ':' && name[5]));
    for (const char *c = name + 5; cuda && name[4] && *c; c++) {
        cuda = *c >= '0' && *c <= '9' && index < 100;
        index = index * 10 + *c - '0';
    }
    if (!cuda)
        return TK_FAIL(TK_E_USAGE,
                       "unknown device '%s'\nthere is cpu, and cuda with an optional number\n"
                       "use cpu, cuda or cuda:1",
                       name);
#ifdef TOKAMAK_CUDA
    return tk_cuda_open(out, index, plan);
#else
    (void)plan;
    return TK_FAIL(TK_E_DEVICE,
                   "device '%s' is not here\nthis build has no CUDA code\n"
                   "run tools/cuda.sh and build again, or use --device cpu",
                   name);
#endif
}

void tk_device_close(tk_device *d) {
    if (d) d->close(d);
}

/* Page tables are cut to the longest row in use: a context of 128K tokens has 2,048 pages, most steps few. */
static int32_t pages_used(const tk_batch *b) {
    int32_t most = 1;
    for (int s = 0; s < b->seqs && b->pages; s++) {
        int64_t keys = (int64_t)b->past[s] + b->start[s + 1] - b->start[s];
        most = TK_MAX(most, (int32_t)tk_ceil_div(keys, b->page_size));
    }
    return TK_MIN(most, TK_MAX(b->max_pages, 1));
}

size_t tk_batch_bytes(const tk_batch *b) {
    const size_t seqs = (size_t)b->seqs, tables = b->pages ? seqs * (size_t)pages_used(b) : 0;
    return tk_align(sizeof *b, 16) + sizeof(int32_t) * (2 * seqs + 1 + tables);
}

void tk_batch_image(const tk_batch *b, void *image, const void *there) {
    const size_t seqs = (size_t)b->seqs, width = (size_t)pages_used(b), head = tk_align(sizeof *b, 16);
    int32_t *start = (int32_t *)(void *)((char *)image + head), *past = start + seqs + 1,
            *pages = past + seqs;
    tk_batch copy = *b;
    memcpy(start, b->start, (seqs + 1) * sizeof *start), memcpy(past, b->past, seqs * sizeof *past);
    for (size_t s = 0; s < seqs && b->pages; s++)
        memcpy(pages + s * width, b->pages + s * (size_t)b->max_pages, width * sizeof *pages);
    copy.start = (const int32_t *)(const void *)((const char *)there + head),
    copy.past = copy.start + seqs + 1;
    copy.pages = b->pages ? copy.past + seqs : NULL, copy.max_pages = (int32_t)width;
    memcpy(image, &copy, sizeof copy);
}
