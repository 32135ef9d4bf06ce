/* SPDX-License-Identifier: Apache-2.0 */
/* The thread pool. A job is a generation number that the caller raises; each worker answers in a flag on
 * its own cache line, so nobody writes a line that others write. Waiting spins first (a step of a small
 * model is a few hundred barriers of about 100 ns), then sleeps on a futex. How long it spins is learned: on
 * a machine that is busy with other programs the awaited thread often has no CPU, and whoever spins then
 * only uses up the time that both would get; a sleeper is scheduled soon after it is woken. */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"

/* Pauses before sleeping: at most about 1 ms, longer than threads differ at a large matrix, and at least 2
 * us. With more threads than CPUs whoever spins keeps the awaited thread from running, so it soon gives way.
 */
enum { SPIN = 65536, SPIN_LEAST = 100 };
/* A sleep that was shorter ended with the other's work; a longer one, with its turn on a busy CPU. */
#define SLICE_S 1e-3

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

/* What a thread knows of its own; on its own cache line */
typedef struct waiter {
    _Alignas(64) unsigned barriers; /* how many it has passed */
    unsigned shares;                /* how many it has begun */
    unsigned spin;                  /* pauses before it sleeps */
} waiter;

/* What is taken of a thread's part of the share number `turn`, in grains: turn << 32 | from the front << 16 |
 * from the back. A thread leaves a share only when all of it is taken, so one number a thread serves all
 * shares: whoever meets a later turn comes too late, whoever meets an earlier one is the first. */
typedef struct taken {
    _Alignas(64) atomic_ullong state;
} taken;

struct tk_pool {
    _Alignas(64) atomic_uint generation; /* of the job */
    atomic_bool stop;
    void (*fn)(void *, int, int);
    void *arg;
    int threads, started;
    unsigned spin;  /* the most */
    cpu_set_t home; /* the caller's CPU while a job runs; none: it is not pinned */
    waiter *waiters;
    worker *workers;
    taken *taken;
    _Alignas(64) atomic_int sleepers; /* threads that sleep, or are about to, on any of the words */
};

static void futex_wait(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}
static void futex_wake(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1 << 30, NULL, NULL, 0);
}

/* Writes a word that others wait for. Sequentially consistent, as is the other side: either the read of
 * sleepers sees the sleeper, or its futex_wait sees the new value. */
static void post(tk_pool *p, atomic_uint *word, unsigned value) {
    atomic_store(word, value);
    if (atomic_load(&p->sleepers)) futex_wake(word);
}

/* Waits until *word != seen and returns it. When spinning did not end a wait, the next spin is shorter if the
 * other had no CPU, else longer. */
static unsigned await(tk_pool *p, int ith, atomic_uint *word, unsigned seen) {
    waiter *w = &p->waiters[ith];
    unsigned v = atomic_load_explicit(word, memory_order_acquire);
    if (v != seen) return v;
    for (unsigned i = 0; i < w->spin; i++) {
        relax();
        v = atomic_load_explicit(word, memory_order_acquire);
        if (v != seen) {
            w->spin = TK_MIN(w->spin + w->spin / 16 + 1, p->spin);
            return v;
        }
    }
    const double began = tk_now();
    atomic_fetch_add(&p->sleepers, 1);
    while ((v = atomic_load(word)) == seen) futex_wait(word, seen);
    atomic_fetch_sub(&p->sleepers, 1);
    const unsigned next = tk_now() - began < SLICE_S ? w->spin * 2 : w->spin / 8;
    w->spin = TK_MIN(TK_MAX(next, (unsigned)SPIN_LEAST), p->spin);
    return v;
}

static void *work(void *arg) {
    worker *w = arg;
    tk_pool *p = w->pool;
    for (unsigned seen = 0;;) {
        const unsigned spin = p->waiters[w->index].spin;
        seen = await(p, w->index, &p->generation, seen);
        p->waiters[w->index].spin = spin; /* how long no job came says nothing of the machine */
        if (atomic_load(&p->stop)) return NULL;
        p->fn(p->arg, w->index, p->threads);
        post(p, &w->done, seen);
    }
}

static cpu_set_t one_cpu(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return one;
}

tk_status tk_pool_new(tk_pool **out, int threads, bool pin) {
    *out = NULL;
    if (threads < 1 || threads > 1024)
        return TK_FAIL(TK_E_USAGE, "cannot use %d threads\ngive a number from 1 to 1024", threads);
    tk_pool *p = aligned_alloc(64, tk_align(sizeof *p, 64));
    worker *w = aligned_alloc(64, sizeof *w * (size_t)threads);
    waiter *b = aligned_alloc(64, sizeof *b * (size_t)threads);
    taken *t = aligned_alloc(64, sizeof *t * (size_t)threads);
    if (!p || !w || !b || !t) {
        free(p), free(w), free(b), free(t);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    memset(p, 0, sizeof *p), memset(w, 0, sizeof *w * (size_t)threads);
    memset(t, 0, sizeof *t * (size_t)threads);
    *p = (tk_pool){ .threads = threads,
                    .started = 1,
                    .workers = w,
                    .waiters = b,
                    .taken = t,
                    .spin = threads > tk_cpu_count() ? SPIN_LEAST : SPIN };
    for (int i = 0; i < threads; i++) b[i] = (waiter){ .spin = p->spin };
    pin = pin && threads > 1 && threads <= tk_cpu_count();
    int cpus[1024] = { 0 };
    if (pin) tk_cpu_list(cpus, threads), p->home = one_cpu(cpus[0]);
    for (int i = 1; i < threads; i++) {
        w[i].pool = p, w[i].index = i;
        int e = pthread_create(&w[i].thread, NULL, work, &w[i]);
        if (e) {
            tk_pool_free(p);
            return TK_FAIL(TK_E_NOMEM, "cannot start thread %d of %d\n%s\nuse fewer: --threads", i + 1,
                           threads, strerror(e));
        }
        p->started++;
        const cpu_set_t cpu = one_cpu(cpus[i]);
        if (pin) pthread_setaffinity_np(w[i].thread, sizeof cpu, &cpu);
    }
    *out = p;
    return TK_OK;
}

void tk_pool_free(tk_pool *p) {
    if (!p) return;
    atomic_store(&p->stop, true);
    post(p, &p->generation, atomic_load(&p->generation) + 1);
    for (int i = 1; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
    free(p->workers), free(p->waiters), free(p->taken), free(p);
}

int tk_pool_threads(const tk_pool *p) { return p ? p->threads : 1; }

void tk_pool_run(tk_pool *p, void (*fn)(void *, int, int), void *arg) {
    if (!p || p->threads == 1) {
        fn(arg, 0, 1);
        return;
    }
    /* on a worker's CPU the caller and that worker would wait for each other by turns */
    cpu_set_t before;
    const bool pin = CPU_COUNT(&p->home) && !pthread_getaffinity_np(pthread_self(), sizeof before, &before) &&
                     !pthread_setaffinity_np(pthread_self(), sizeof p->home, &p->home);
    p->fn = fn, p->arg = arg;
    unsigned g = atomic_load_explicit(&p->generation, memory_order_relaxed) + 1;
    post(p, &p->generation, g);
    fn(arg, 0, p->threads);
    for (int i = 1; i < p->threads; i++) await(p, 0, &p->workers[i].done, g - 1);
    if (pin) pthread_setaffinity_np(pthread_self(), sizeof before, &before);
}

void tk_pool_sync(tk_pool *p, int ith) {
    if (!p || p->threads == 1) return;
    const unsigned b = ++p->waiters[ith].barriers;
    post(p, &p->workers[ith].at, b);
    for (int i = 0; i < p->threads; i++) /* nobody is two barriers ahead: what is not b - 1 is b or b + 1 */
        if (i != ith) await(p, ith, &p->workers[i].at, b - 1);
}

/* ---- shares ------------------------------------------------------------------------------------------ */

enum { MOST_GRAINS = 65535 }; /* of a thread's part */

tk_share tk_share_begin(tk_pool *p, int64_t n, int64_t grain, int ith, int nth) {
    grain = TK_MAX(grain, tk_ceil_div(n, (int64_t)MOST_GRAINS * nth));
    if (nth == 1) p = NULL;
    return (tk_share){ p, n, grain, ith, nth, ith, p ? ++p->waiters[ith].shares : 0 };
}

/* A piece of s->owner's part: half of what is left */
static bool take(tk_share *s, int64_t *from, int64_t *to) {
    atomic_ullong *word = &s->pool->taken[s->owner].state;
    int64_t first, last;
    tk_split(s->n, s->grain, s->owner, s->nth, &first, &last);
    const unsigned all = (unsigned)tk_ceil_div(last - first, s->grain);
    unsigned long long v = atomic_load_explicit(word, memory_order_relaxed);
    for (;;) {
        const unsigned turn = (unsigned)(v >> 32);
        unsigned front = v >> 16 & MOST_GRAINS, back = v & MOST_GRAINS;
        if (turn != s->turn) {
            if ((int)(turn - s->turn) > 0) return false;
            front = back = 0;
        }
        if (front + back >= all) return false;
        const unsigned n = (all - front - back + 1) / 2, own = s->owner == s->ith;
        const unsigned long long next = (unsigned long long)s->turn << 32 |
                                        (unsigned long long)(front + (own ? n : 0)) << 16 |
                                        (back + (own ? 0 : n));
        if (!atomic_compare_exchange_weak_explicit(word, &v, next, memory_order_relaxed,
                                                   memory_order_relaxed))
            continue;
        const unsigned at = own ? front : all - back - n;
        *from = first + at * s->grain, *to = TK_MIN(first + (at + n) * s->grain, last);
        return true;
    }
}

bool tk_share_next(tk_share *s, int64_t *from, int64_t *to) {
    if (!s->pool) {
        tk_split(s->n, s->grain, s->ith, s->nth, from, to);
        return s->turn++ == 0 && *from < *to;
    }
    while (!take(s, from, to)) {
        s->owner = (s->owner + 1) % s->nth;
        if (s->owner == s->ith) return false;
    }
    return true;
}
