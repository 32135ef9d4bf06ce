/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine is: time, CPUs, memory, instruction sets. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/base.h"

double tk_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int tk_cpu_count(void) {
    cpu_set_t s;
    return sched_getaffinity(0, sizeof s, &s) ? 1 : CPU_COUNT(&s);
}

/* Whether no CPU below `cpu` that we may use is on the same core, by "0,64" or "0-1,8-9" of the kernel; true
 * where it does not say */
static bool first_of_core(int cpu, const cpu_set_t *have) {
    char path[80], line[256], *p = line;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "re");
    if (!f) return true;
    const bool known = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    while (known && *p >= '0' && *p <= '9') {
        long from = strtol(p, &p, 10), to = *p == '-' ? strtol(p + 1, &p, 10) : from;
        for (; from <= to && from < cpu; from++)
            if (CPU_ISSET(from, have)) return false;
        if (*p == ',') p++;
    }
    return true;
}

int tk_cpu_list(int *cpus, int most) {
    cpu_set_t have;
    int n = 0, cores = 0;
    if (sched_getaffinity(0, sizeof have, &have)) return 1;
    for (int rest = 0; rest < 2; rest++)
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &have) || first_of_core(cpu, &have) == rest) continue;
            if (n < most) cpus[n] = cpu;
            n++, cores += rest == 0;
        }
    return cores;
}

/* The number behind `key` in a "key: N kB" file, in bytes; 0 when absent. */
static size_t kb_line(const char *path, const char *key) {
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    char line[256];
    unsigned long long kb = 0;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, n) && line[n] == ':') {
            kb = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return (size_t)kb << 10;
}

static size_t number_file(const char *path) {
    FILE *f = fopen(path, "re");
    if (!f) return SIZE_MAX;
    char text[32], *end = text, *got = fgets(text, sizeof text, f);
    fclose(f);
    size_t v = got ? (size_t)strtoull(text, &end, 10) : 0;
    return end > text ? v : SIZE_MAX; /* "max" is no number: no limit */
}

size_t tk_mem_available(void) {
    size_t mem = kb_line("/proc/meminfo", "MemAvailable");
    size_t limit = number_file("/sys/fs/cgroup/memory.max"),
           used = number_file("/sys/fs/cgroup/memory.current");
    if (limit != SIZE_MAX && used != SIZE_MAX) mem = TK_MIN(mem, limit > used ? limit - used : 0);
    return mem;
}

size_t tk_mem_peak(void) { return kb_line("/proc/self/status", "VmHWM"); }

#if defined(__x86_64__)
static unsigned detect(void) {
    unsigned a, b, c, d, f = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    bool fma = c >> 12 & 1, f16c = c >> 29 & 1, osxsave = c >> 27 & 1;
    if (!osxsave) return 0;
    unsigned lo, hi;
    __asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if ((lo & 6) == 6 && fma && f16c && (b >> 5 & 1)) f |= TK_CPU_AVX2;
    bool f512 = (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1), vnni = c >> 11 & 1;
    if ((f & TK_CPU_AVX2) && (lo & 0xe6) == 0xe6 && f512 && vnni) f |= TK_CPU_AVX512;
    bool amx = (d >> 22 & 1) && (d >> 24 & 1) && (d >> 25 & 1);
    const bool bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (f & TK_CPU_AVX512) && (a >> 5 & 1);
    if (bf16 && !__builtin_cpu_is("intel")) f |= TK_CPU_BF16;
#ifdef TOKAMAK_AMX_EMULATED
    if (bf16) return f | TK_CPU_AMX; /* ops/amx.h */
#endif
    if (bf16 && amx && (lo & 0x60000) == 0x60000) {
        const int arch_req_xcomp_perm = 0x1023, xtile_data = 18;
        if (!syscall(SYS_arch_prctl, arch_req_xcomp_perm, xtile_data)) f |= TK_CPU_AMX;
    }
    return f;
}
#else
static unsigned detect(void) { return 0; }
#endif

unsigned tk_cpu_features(void) {
    static const struct {
        const char *tier;
        unsigned keep;
    } tiers[] = {
        { "plain", 0 },
        { "avx2", TK_CPU_AVX2 },
        { "avx512", TK_CPU_AVX2 | TK_CPU_AVX512 | TK_CPU_BF16 },
        { "amx", ~0u },
    };
    static _Thread_local unsigned cached = ~0u;
    if (cached != ~0u) return cached;
    unsigned f = detect();
    const char *want = getenv("TOKAMAK_CPU");
    for (size_t i = 0; want && i < TK_COUNT(tiers); i++)
        if (!strcmp(want, tiers[i].tier)) f &= tiers[i].keep;
    return cached = f;
}
