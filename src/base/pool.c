/* SPDX-License-Identifier: Apache-2.0 */
/* The thread pool. A job is a generation number that the caller raises; each worker answers in a flag on
 * its own cache line, so nobody writes a line that others write. Waiting spins first (a step of a small
 * model is a few hundred barriers of about 100 ns) and sleeps on a futex when nothing came for a while. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"

/* Pauses before sleeping: about 0.5 ms, longer than any gap inside a step. With more threads than CPUs
 * whoever spins keeps the awaited thread from running, so it soon gives way. */
enum { SPIN = 20000, SPIN_CROWDED = 100 };

#if defined(__x86_64__)
#define relax() __builtin_ia32_pause()
#else
#define relax() ((void)0)
#endif

typedef struct worker {
    _Alignas(64) atomic_uint done; /* generation that this worker has finished */
    atomic_uint at;                /* barrier that this worker has reached */
    pthread_t thread;
    struct tk_pool *pool;
    int index;
} worker;

struct tk_pool {
    _Alignas(64) atomic_uint generation; /* futex word for workers */
    atomic_int sleepers;
    atomic_bool stop;
    _Alignas(64) atomic_uint released; /* the last barrier that everyone has reached */
    void (*fn)(void *, int, int);
    void *arg;
    int threads, started;
    unsigned spin;
    unsigned *barriers; /* per thread, 16 words apart: how many barriers it has passed */
    worker *workers;
};

static void futex_wait(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}
static void futex_wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

/* Spins until *word != seen. */
static unsigned spin_until_moved(const tk_pool *p, atomic_uint *word, unsigned seen) {
    unsigned v;
    for (unsigned i = 1; (v = atomic_load_explicit(word, memory_order_acquire)) == seen; i++) {
        relax();
        if (i % p->spin == 0) sched_yield();
    }
    return v;
}

static void *work(void *arg) {
    worker *w = arg;
    tk_pool *p = w->pool;
    unsigned seen = 0;
    for (;;) {
        unsigned v = seen;
        for (unsigned i = 0;
             i < p->spin && (v = atomic_load_explicit(&p->generation, memory_order_acquire)) == seen; i++)
            relax();
        while (v == seen) {
            atomic_fetch_add(&p->sleepers, 1);
            futex_wait(&p->generation, seen);
            atomic_fetch_sub(&p->sleepers, 1);
            v = atomic_load_explicit(&p->generation, memory_order_acquire);
        }
        seen = v;
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->arg, w->index, p->threads);
        atomic_store_explicit(&w->done, seen, memory_order_release);
    }
}

static void pin_to(pthread_t t, int index) {
    cpu_set_t have, one;
    if (sched_getaffinity(0, sizeof have, &have)) return;
    for (int cpu = 0, k = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &have) && k++ == index) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(t, sizeof one, &one);
            return;
        }
}

tk_status tk_pool_new(tk_pool **out, int threads, bool pin) {
    *out = NULL;
    if (threads < 1 || threads > 1024)
        return TK_FAIL(TK_E_USAGE, "cannot use %d threads\ngive a number from 1 to 1024", threads);
    tk_pool *p = aligned_alloc(64, tk_align(sizeof *p, 64));
    worker *w = aligned_alloc(64, sizeof *w * (size_t)threads);
    unsigned *b = aligned_alloc(64, (size_t)threads * 64);
    if (!p || !w || !b) {
        free(p), free(w), free(b);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    memset(p, 0, sizeof *p), memset(w, 0, sizeof *w * (size_t)threads), memset(b, 0, (size_t)threads * 64);
    *p = (tk_pool){ .threads = threads,
                    .started = 1,
                    .workers = w,
                    .barriers = b,
                    .spin = threads > tk_cpu_count() ? SPIN_CROWDED : SPIN };
    pin = pin && threads > 1 && threads <= tk_cpu_count();
    for (int i = 1; i < threads; i++) {
        w[i].pool = p, w[i].index = i;
        int e = pthread_create(&w[i].thread, NULL, work, &w[i]);
        if (e) {
            tk_pool_free(p);
            return TK_FAIL(TK_E_NOMEM, "cannot start thread %d of %d\n%s\nuse fewer: --threads", i + 1,
                           threads, strerror(e));
        }
        p->started++;
        if (pin) pin_to(w[i].thread, i);
    }
    *out = p;
    return TK_OK;
}

void tk_pool_free(tk_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    atomic_fetch_add(&p->generation, 1);
    futex_wake(&p->generation);
    for (int i = 1; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    free(p->workers), free(p->barriers), free(p);
}

int tk_pool_threads(const tk_pool *p) { return p ? p->threads : 1; }

void tk_pool_run(tk_pool *p, void (*fn)(void *, int, int), void *arg) {
    if (!p || p->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    p->fn = fn, p->arg = arg;
    unsigned g = atomic_load_explicit(&p->generation, memory_order_relaxed) + 1;
    atomic_store(&p->generation, g); /* seq_cst: ordered before the read of sleepers */
    if (atomic_load(&p->sleepers)) futex_wake(&p->generation);
    fn(arg, 0, p->threads);
    for (int i = 1; i < p->threads; i++)
        for (unsigned seen; (seen = atomic_load_explicit(&p->workers[i].done, memory_order_acquire)) != g;)
            spin_until_moved(p, &p->workers[i].done, seen);
}

void tk_pool_sync(tk_pool *p, int ith) {
    if (!p || p->threads == 1) return;
    unsigned b = ++p->barriers[ith * 16];
    if (ith == 0) {
        for (int i = 1; i < p->threads; i++)
            for (unsigned seen; (seen = atomic_load_explicit(&p->workers[i].at, memory_order_acquire)) != b;)
                spin_until_moved(p, &p->workers[i].at, seen);
        atomic_store_explicit(&p->released, b, memory_order_release);
    } else {
        atomic_store_explicit(&p->workers[ith].at, b, memory_order_release);
        for (unsigned seen; (seen = atomic_load_explicit(&p->released, memory_order_acquire)) != b;)
            spin_until_moved(p, &p->released, seen);
    }
}
