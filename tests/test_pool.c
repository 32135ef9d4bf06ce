/* SPDX-License-Identifier: Apache-2.0 */
/* The thread pool: shares of work are taken once and whole whatever the threads' speeds, and the caller's
 * CPUs are its own again after a job. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

enum { SHARES = 400, ITEMS = 3000, THREADS = 3 };

typedef struct plan {
    tk_pool *pool;
    int64_t n[SHARES], grain[SHARES];
    int slow[SHARES];  /* the thread that begins late; -1: none */
    atomic_int *taken; /* [SHARES][ITEMS] */
    atomic_int wrong;  /* pieces that are empty or no whole grains */
} plan;

/* No meeting between shares: a fast thread is several ahead of a slow one */
static void take_all(void *arg, int ith, int nth) {
    plan *p = arg;
    for (int i = 0; i < SHARES; i++) {
        if (p->slow[i] == ith) usleep(200);
        tk_share s = tk_share_begin(p->pool, p->n[i], p->grain[i], ith, nth);
        for (int64_t from, to; tk_share_next(&s, &from, &to);) {
            p->wrong +=
                from >= to || to > p->n[i] || from % p->grain[i] || (to % p->grain[i] && to != p->n[i]);
            for (int64_t k = from; k < to; k++) p->taken[i * ITEMS + k]++;
        }
        if (i % 64 == 63) tk_pool_sync(p->pool, ith);
    }
}

static void shares_are_taken_once(void **state) {
    (void)state;
    plan p = { .taken = calloc(SHARES * ITEMS, sizeof *p.taken) };
    uint32_t word[4], counter[4] = { 0 };
    assert_non_null(p.taken);
    for (int i = 0; i < SHARES; i++) {
        counter[0] = (uint32_t)i, tk_philox(word, 5, counter);
        p.n[i] = word[0] % (i % 4 ? 40 : ITEMS), p.grain[i] = 1 + word[1] % 9;
        p.slow[i] = word[2] % 8 ? -1 : (int)(word[3] % THREADS);
    }
    assert_int_equal(tk_pool_new(&p.pool, THREADS, false), TK_OK);
    for (int run = 1; run <= 3; run++) {
        tk_pool_run(p.pool, take_all, &p);
        assert_int_equal(p.wrong, 0);
        for (int i = 0; i < SHARES; i++)
            for (int64_t k = 0; k < ITEMS; k++)
                if (p.taken[i * ITEMS + k] != (k < p.n[i] ? run : 0))
                    fail_msg("share %d of %d items: item %d was taken %d times in %d runs", i, (int)p.n[i],
                             (int)k, p.taken[i * ITEMS + k], run);
    }
    tk_pool_free(p.pool);
    free(p.taken);
}

/* Without a pool (one call at a time, as tests and fused kernels make them) each part is what tk_split gives
 */
static void no_pool_is_a_split(void **state) {
    (void)state;
    for (int ith = 0; ith < 4; ith++) {
        int64_t from, to, first, last;
        tk_share s = tk_share_begin(NULL, 37, 3, ith, 4);
        tk_split(37, 3, ith, 4, &first, &last);
        assert_true(tk_share_next(&s, &from, &to));
        assert_true(from == first && to == last);
        assert_false(tk_share_next(&s, &from, &to));
    }
    tk_share none = tk_share_begin(NULL, 0, 1, 0, 1);
    int64_t from, to;
    assert_false(tk_share_next(&none, &from, &to));
}

static void note_cpus(void *arg, int ith, int nth) {
    cpu_set_t *during = arg;
    (void)nth;
    pthread_getaffinity_np(pthread_self(), sizeof *during, &during[ith]);
}

static void the_caller_is_pinned_for_a_job(void **state) {
    (void)state;
    cpu_set_t before, after, during[2], both;
    tk_pool *pool;
    if (tk_cpu_count() < 2) skip();
    assert_int_equal(tk_pool_new(&pool, 2, true), TK_OK);
    pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    tk_pool_run(pool, note_cpus, during);
    pthread_getaffinity_np(pthread_self(), sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
    CPU_AND(&both, &during[0], &during[1]);
    assert_true(CPU_COUNT(&during[0]) == 1 && CPU_COUNT(&during[1]) == 1 && CPU_COUNT(&both) == 0);
    tk_pool_free(pool);
}

/* All CPUs that we may use, one of each core first */
static void cpus_are_listed_by_cores(void **state) {
    (void)state;
    int cpus[CPU_SETSIZE];
    cpu_set_t have, listed;
    const int cores = tk_cpu_list(cpus, CPU_SETSIZE), all = tk_cpu_count();
    CPU_ZERO(&listed);
    sched_getaffinity(0, sizeof have, &have);
    for (int i = 0; i < all; i++) {
        char path[80], line[64] = "";
        CPU_SET(cpus[i], &listed);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_cpus_list", cpus[i]);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        if (fgets(line, sizeof line, f) && atoi(line) == cpus[i])
            assert_true(i < cores); /* the least of its core */
        fclose(f);
    }
    assert_true(CPU_EQUAL(&have, &listed) && cores >= 1 && cores <= all);
    assert_int_equal(tk_cpu_list(cpus, 0), cores);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(shares_are_taken_once),
                                        cmocka_unit_test(no_pool_is_a_split),
                                        cmocka_unit_test(cpus_are_listed_by_cores),
                                        cmocka_unit_test(the_caller_is_pinned_for_a_job) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
