/* SPDX-License-Identifier: Apache-2.0 */
/* A plain main for a fuzz target, where there is no libFuzzer: every file of the corpus folder, then seeded
 * mutations of them for TOKAMAK_FUZZ_SECONDS (default 2). Prints the seed; TOKAMAK_FUZZ_KEEP=1 keeps the
 * input at hand in ./crash-input. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FILES = 4096, MAX_BYTES = 1 << 20 };
static tk_buf files[MAX_FILES];
static int nfiles;
static uint64_t state;

static uint32_t rnd(uint32_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return n ? (uint32_t)(state >> 33) % n : 0;
}

static void read_corpus(const char *folder) {
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && nfiles < MAX_FILES;) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_name[0] != '.' && tk_file_read(&files[nfiles], path, MAX_BYTES) == TK_OK) nfiles++;
    }
    closedir(d);
}

/* Copies a corpus file and damages it: flips, overwritten numbers, cuts, repeats, splices of another file. */
static size_t mutate(uint8_t *out, size_t cap) {
    const tk_buf *a = &files[rnd((uint32_t)nfiles)], *b = &files[rnd((uint32_t)nfiles)];
    static const uint8_t numbers[][8] = {
        { 0 }, { 255, 255, 255, 255, 255, 255, 255, 255 }, { 0, 0, 0, 128 }, { 255, 255, 255, 127 }, { 1 }
    };
    size_t n = TK_MIN(a->len, cap);
    memcpy(out, a->data, n);
    for (uint32_t k = 1 + rnd(6); k && n; k--) {
        size_t at = rnd((uint32_t)n), m = TK_MIN(1 + rnd(64), n - at),
               from = b->len ? rnd((uint32_t)b->len) : 0;
        switch (rnd(6)) {
        case 0: out[at] ^= (uint8_t)(1u << rnd(8)); break;
        case 1: out[at] = (uint8_t)rnd(256); break;
        case 2: memcpy(out + at, numbers[rnd(5)], TK_MIN((size_t)1 << rnd(4), n - at)); break;
        case 3: n = at + 1; break;
        case 4: m = TK_MIN(m, cap - n), memmove(out + at + m, out + at, n - at), n += m; break;
        default: m = TK_MIN(m, b->len - from), memcpy(out + at, b->data + from, m); break;
        }
    }
    return n;
}

int main(int argc, char **argv) {
    const char *seed = getenv("TOKAMAK_TEST_SEED"), *seconds = getenv("TOKAMAK_FUZZ_SECONDS");
    state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) ^ (uint64_t)getpid();
    printf("seed %llu\n", (unsigned long long)state);
    fflush(stdout);
    for (int i = 1; i < argc; i++) read_corpus(argv[i]);
    if (!nfiles) return fprintf(stderr, "no corpus in %s\n", argc > 1 ? argv[1] : "(no folder given)"), 1;
    for (int i = 0; i < nfiles; i++) LLVMFuzzerTestOneInput((const uint8_t *)files[i].data, files[i].len);
    uint8_t *input = malloc(MAX_BYTES + 64);
    long runs = 0;
    double slowest = 0;
    if (!input) return 1;
    for (double end = tk_now() + (seconds ? atof(seconds) : 2); tk_now() < end; runs++) {
        size_t n = mutate(input, MAX_BYTES);
        uint8_t *exact = malloc(n ? n : 1); /* so that a sanitizer sees reads beyond the end */
        if (!exact) break;
        memcpy(exact, input, n);
        if (getenv("TOKAMAK_FUZZ_KEEP")) tk_file_write("crash-input", exact, n);
        double t = tk_now();
        LLVMFuzzerTestOneInput(exact, n);
        slowest = TK_MAX(slowest, tk_now() - t);
        free(exact);
    }
    free(input);
    for (int i = 0; i < nfiles; i++) tk_buf_free(&files[i]);
    printf("%d files, %ld mutations, slowest %.3f s\n", nfiles, runs, slowest);
    return slowest > 5 ? fprintf(stderr, "an input took longer than 5 s\n"), 1 : 0;
}
