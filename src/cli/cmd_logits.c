/* SPDX-License-Identifier: Apache-2.0 */
/* logits: the numbers themselves, as a NumPy file that grows row by row and gets its name when complete. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/generate.h"

const cli_option options_logits[] = {
    { "--tokens", CLI_STRING, "1,2,3", NULL, "the ids" },
    { "-o,--output", CLI_STRING, "OUT.npy", NULL, "float32 [T, vocab]; row i predicts token i + 1" },
    { .include = cli_model_options },
    { 0 },
};

enum { ROWS = 64 };

typedef struct npy {
    FILE *f;
    size_t vocab;
} npy;

static tk_status write_rows(void *arg, const float *logits, size_t positions) {
    npy *n = arg;
    if (fwrite(logits, sizeof *logits * n->vocab, positions, n->f) == positions) return TK_OK;
    return TK_FAIL(TK_E_IO, "cannot write the logits\n%s\nmake room, or choose another place",
                   strerror(errno));
}

/* NumPy's format 1.0: magic, version, length of the header, a Python dict padded to a multiple of 64 */
static void write_header(npy *n, size_t rows) {
    char dict[128];
    int len = snprintf(dict, sizeof dict, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }",
                       rows, n->vocab);
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, n->f); /* 118 + 10 = 128 */
    fprintf(n->f, "%s%*s\n", dict, 117 - len, "");
}

static tk_status write_file(tk_model *m, const char *path, const int32_t *ids, size_t count) {
    char part[4096];
    tk_session *session = NULL;
    npy n = { .vocab = (size_t)tk_model_about(m).vocab };
    if (snprintf(part, sizeof part, "%s.part", path) >= (int)sizeof part)
        return TK_FAIL(TK_E_USAGE, "the path of the output is too long\nit has %zu bytes\ngive a shorter one",
                       strlen(path));
    TK_TRY(tk_session_new(&session, m));
    tk_status s = TK_OK;
    if (!(n.f = fopen(part, "wb"))) {
        s = TK_FAIL(TK_E_IO, "cannot write %s\n%s\nchoose another place", path, strerror(errno));
    } else {
        write_header(&n, count);
        s = tk_logits(session, ids, count, write_rows, &n);
        bool bad = ferror(n.f) || fflush(n.f) || fsync(fileno(n.f));
        bad |= fclose(n.f) != 0;
        if (s == TK_OK && (bad || rename(part, path)))
            s = TK_FAIL(TK_E_IO, "cannot write %s\n%s\nmake room, or choose another place", path,
                        strerror(errno));
        if (s != TK_OK) unlink(part);
    }
    tk_session_free(session);
    return s;
}

tk_status cmd_logits(const cli_args *a) {
    const char *tokens = cli_string(a, "--tokens"), *path = cli_string(a, "--output");
    tk_arena arena = { 0 };
    tk_model *m = NULL;
    int32_t *ids;
    size_t count;
    if (!tokens || !path)
        return TK_FAIL(TK_E_USAGE,
                       "%s is missing\nlogits needs token ids and a file to write\n"
                       "for example: tokamak logits MODEL --tokens 1,2,3 -o OUT.npy",
                       tokens ? "-o" : "--tokens");
    tk_status s = cli_parse_ids(&arena, tokens, &ids, &count);
    if (s == TK_OK && !count)
        s = TK_FAIL(TK_E_USAGE,
                    "--tokens is empty\nthere is no position to give logits for\ngive at least one id");
    if (s == TK_OK) s = cli_open(a, ROWS, 1, NULL, &m);
    if (s == TK_OK) s = write_file(m, path, ids, count);
    tk_model_close(m);
    tk_arena_free(&arena);
    return s;
}
