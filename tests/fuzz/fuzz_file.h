/* SPDX-License-Identifier: Apache-2.0 */
/* What the model file fuzzers share: bytes as a file without a disk, and a walk over all that an opened file
 * offers, so that a bad span is touched and not just stored. */
#ifndef FUZZ_FILE_H
#define FUZZ_FILE_H
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/model.h"

/* The path of a file in memory that holds the bytes; *fd is to be closed afterwards. */
static inline const char *fuzz_path(const uint8_t *data, size_t size, int *fd) {
    static char path[64];
    *fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (*fd < 0 || write(*fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", *fd);
    return path;
}

static inline void fuzz_put(const char *folder, const char *name, const uint8_t *data, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) abort();
}

/* A scratch folder with the named parts of a good model in it; removed at exit. */
static char fuzz_folder_path[64];
static void fuzz_remove(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_folder_path);
    if (system(command)) abort();
}
static inline const char *fuzz_folder(const char *const *parts, size_t n) {
    if (*fuzz_folder_path) return fuzz_folder_path;
    snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/tokamak-fuzz-XXXXXX",
             tk_file_is_dir("/dev/shm") ? "/dev/shm" : "/tmp");
    if (!mkdtemp(fuzz_folder_path)) abort();
    atexit(fuzz_remove);
    for (size_t i = 0; i < n; i++) {
        char from[128];
        tk_buf b = { 0 };
        snprintf(from, sizeof from, "tests/data/models/hf-llama/%s", parts[i]);
        if (tk_file_read(&b, from, 1 << 20) != TK_OK) abort(); /* run from the repository's root */
        fuzz_put(fuzz_folder_path, parts[i], (const uint8_t *)b.data, b.len);
        tk_buf_free(&b);
    }
    return fuzz_folder_path;
}

static inline void fuzz_open(const char *path, bool vocab_only) {
    static const char *const roles[] = {
#define TK_ROLE(id, text, scope, rows, cols, when) text,
#define TK_NAMES(set, base)
#define TK_WEIGHT(set, role, name, parts, flags)
#include "model/weights.def"
#undef TK_ROLE
#undef TK_NAMES
#undef TK_WEIGHT
    };
    tk_modelfile *f;
    if (tk_modelfile_open(&f, path, &(tk_modelfile_options){ .vocab_only = vocab_only }) != TK_OK) return;
    const tk_config *c = tk_modelfile_config(f);
    for (size_t i = 0; c && i < TK_COUNT(roles); i++) {
        tk_weight_view v;
        if (tk_modelfile_weight(f, roles[i], c->n_layer - 1, &v) != TK_OK || !v.data) continue;
        float *row = malloc((size_t)v.cols * sizeof *row);
        if (row) tk_weight_view_row(&v, v.rows - 1, row);
        free(row);
    }
    if (c && c->rope.dims) {
        float factor, *freq = malloc((size_t)c->rope.dims * sizeof *freq);
        if (freq) tk_rope_freqs(&c->rope, c->n_ctx, freq, &factor);
        free(freq);
    }
    tk_tokenizer *t;
    tk_modelfile_tokenizer(f, &t);
    tk_modelfile_free(f);
}
#endif
