/* SPDX-License-Identifier: Apache-2.0 */
/* How fast this machine reads memory: the limit beside every decode figure. The loop is what a decoder's
 * is: each thread walks its own contiguous part, prefetching a page ahead. Plain C suffices, since one core
 * asks memory for about 10 bytes a cycle and this loop can take 32. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/cpu.h"

enum { PREFETCH_AHEAD = 4096, STRIDE = 128 };
#define SECONDS 1.0 /* no further pass starts after this */

typedef struct job {
    uint64_t *data;
    int64_t words;
    uint64_t sums[1024]; /* one a thread, so that no loop is dead code */
} job;

static void fill(void *arg, int ith, int nth) {
    job *j = arg;
    int64_t from, to;
    tk_split(j->words, STRIDE, ith, nth, &from, &to);
    for (int64_t i = from; i < to; i++)
        j->data[i] = (uint64_t)i; /* first touch places the page near its reader */
}

static void read_all(void *arg, int ith, int nth) {
    job *j = arg;
    int64_t from, to;
    tk_split(j->words, STRIDE, ith, nth, &from, &to);
    uint64_t s[16] = { 0 };
    for (int64_t i = from; i + 16 <= to; i += 16) {
        const uint64_t *p = j->data + i;
        __builtin_prefetch((const char *)p + PREFETCH_AHEAD);
        __builtin_prefetch((const char *)p + PREFETCH_AHEAD + 64);
        for (int k = 0; k < 16; k++) s[k] += p[k];
    }
    for (int k = 1; k < 16; k++) s[0] += s[k];
    j->sums[ith % (int)TK_COUNT(j->sums)] = s[0];
}

/* Bytes of the last-level cache; 0 when the system does not tell */
static size_t last_cache(void) {
    long l3 = sysconf(_SC_LEVEL3_CACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    return (size_t)TK_MAX(TK_MAX(l3, l2), 0);
}

tk_status tk_measure_read(tk_pool *pool, size_t bytes, int reps, double *bytes_per_second) {
    const size_t huge = 2 << 20;
    if (!bytes) {
        bytes = TK_MIN(TK_MAX(4 * last_cache(), (size_t)256 << 20), (size_t)2 << 30);
        bytes = TK_MIN(bytes, tk_mem_available() / 4);
    }
    bytes = TK_MAX(tk_align(bytes, huge), huge);
    job j = { .words = (int64_t)(bytes / sizeof(uint64_t)) };
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return TK_FAIL(
            TK_E_NOMEM,
            "cannot measure the memory's speed\n%zu bytes for it could not be had\nfree some memory", bytes);
    madvise(p, bytes, MADV_HUGEPAGE); /* as the engine's own weights are */
    j.data = p;
    tk_pool_run(pool, fill, &j);
    double best = 0;
    double start = tk_now();
    for (int i = 0; i < reps && (i == 0 || tk_now() - start < SECONDS); i++) {
        double t = tk_now();
        tk_pool_run(pool, read_all, &j);
        t = tk_now() - t;
        if (t > 0) best = TK_MAX(best, (double)bytes / t);
    }
    munmap(p, bytes);
    *bytes_per_second = best;
    return TK_OK;
}
