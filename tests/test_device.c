/* SPDX-License-Identifier: Apache-2.0 */
/* What the executor does with a device, without one: a device made of host memory that runs the CPU's rows. Logits are
 * bitwise those of the CPU; raw weights that are only packed have no place there; page tables may outgrow the room that
 * was taken for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/core.h"
#include "model/model.h"

enum { TOKENS = 8, PICKS = 4, PAGE = 16, PAGES = 2048, VOCAB = 560000, SEQS = 4 };

static void must(tk_status s) {
    if (s != TK_OK) fail_msg("%s", tk_error());
}

/* ---- the device: it counts what it is given ---- */

static size_t taken, largest_put;
static int replays;
static bool recording;

static tk_status room(tk_device *d, size_t *bytes) {
    (void)d;
    *bytes = (size_t)1 << 32;
    return TK_OK;
}
static tk_status take(tk_device *d, size_t bytes, void **memory) {
    (void)d;
    taken += bytes;
    *memory = aligned_alloc(64, tk_align(bytes + 4096, 64)); /* vector kernels read a little past an end */
    memset(*memory, 0, bytes);
    return TK_OK;
}
static void give(tk_device *d, void *memory) {
    (void)d;
    free(memory);
}
static tk_status put(tk_device *d, void *to, const void *from, size_t bytes) {
    (void)d;
    largest_put = TK_MAX(largest_put, bytes);
    memcpy(to, from, bytes);
    return TK_OK;
}
static tk_status get(tk_device *d, void *to, const void *from, size_t bytes) {
    (void)d;
    memcpy(to, from, bytes);
    return TK_OK;
}
static tk_status record(tk_device *d) {
    (void)d;
    recording = true;
    return TK_OK;
}
static tk_status recorded(tk_device *d, void **graph) {
    *graph = d;
    return TK_OK;
}
/* What was recorded ran then: one replay is none. */
static tk_status replay(tk_device *d, void *graph) {
    (void)d, (void)graph;
    replays++;
    if (!recording) fail_msg("a second replay");
    recording = false;
    return TK_OK;
}
static void forget(tk_device *d, void *graph) { (void)d, (void)graph; }
static tk_status wait(tk_device *d) {
    (void)d;
    return TK_OK;
}
static tk_device host = { .name = "host", .room = room, .take = take, .give = give, .take_host = take, .give_host = give,
                          .put = put, .get = get, .record = record, .recorded = recorded, .replay = replay, .forget = forget,
                          .wait = wait };

/* ---- a model ---- */

static tk_dtype dtype_of(void *arg, const char *role, int layer) { return (void)arg, (void)role, (void)layer, TK_Q8_0; }

static void build(tk_program *p, tk_device *device) {
    static const tk_mesh alone = { .axes = 0 };
    tk_config c = tk_config_plain(TK_ARCH_LLAMA);
    c.name = "tiny", c.n_layer = 2, c.n_embd = 64, c.n_ff = 96, c.n_head = 4, c.n_kv_head = 2, c.head_dim = 16;
    c.n_vocab = VOCAB, c.n_ctx = PAGE * PAGES, c.norm_eps = 1e-5f, c.attn_scale = 0.25f, c.rope.dims = 16, c.tied = true;
    tk_build b = { .config = &c, .serve = true, .kv = TK_F16, .tokens = TOKENS, .picks = PICKS, .pages = PAGES,
                   .page_size = PAGE, .dtype = dtype_of };
    tk_prog_init(p, TK_F32);
    p->device = device;
    must(tk_build_program(p, &b)), must(tk_shard(p, &alone, -1)), must(tk_choose(p, tk_cpu_features(), false));
    must(tk_hoist(p, TK_HOIST_ALL)), must(tk_fuse(p, tk_cpu_features())), must(tk_plan(p, true, 1));
}

/* Noise in sixteen rows, again and again, since packing half a million takes long */
static void fill(tk_exec *e, const tk_program *p) {
    enum { ROWS = 16 };
    unsigned state = 7;
    for (int i = 0; i < p->nnames; i++) {
        const tk_value *v = &p->values[p->names[i].id];
        int64_t rows, cols;
        size_t stride;
        if (v->kind != TK_WEIGHT && v->kind != TK_CONST) continue;
        tk__value_rows(p, v, &rows, &cols);
        assert_true(tk_format_size((tk_dtype)v->dtype, 1, cols, &stride));
        char *data = tk_exec_open(e, p->names[i].id);
        float *row = malloc((size_t)cols * sizeof *row);
        for (int64_t r = 0; r < rows; r++) {
            if (r >= ROWS + 1) {
                memcpy(data + (size_t)r * stride, data + (size_t)(r - ROWS) * stride, stride);
                continue;
            }
            for (int64_t c = 0; c < cols; c++) state = state * 1664525u + 1013904223u, row[c] = (float)(int32_t)state * 0x1p-33f;
            tk_formats[v->dtype].pack(data, row, rows, cols, r);
        }
        free(row);
        must(tk_exec_close(e, p->names[i].id));
    }
}

/* One step: n tokens of each of `seqs` sequences that hold `past`; its logits are appended to *out. */
static void step(tk_exec *e, const tk_program *p, int seqs, int n, int past, float **out) {
    enum { WIDE = PAGES / SEQS };
    static int32_t start[SEQS + 1], before[SEQS], pages[SEQS * WIDE];
    tk_batch b = { .tokens = seqs * n, .seqs = seqs, .start = start, .past = before, .pages = pages, .max_pages = WIDE,
                   .page_size = PAGE };
    int32_t *ids = tk_exec_data(e, tk_find(p, "tokens", -1)), *at = tk_exec_data(e, tk_find(p, "positions", -1)),
            *slots = tk_exec_data(e, tk_find(p, "slots", -1)), *picks = tk_exec_data(e, tk_find(p, "picks", -1));
    for (int i = 0; i < SEQS * WIDE; i++) pages[i] = SEQS * WIDE - 1 - i;
    for (int s = 0; s < seqs; s++) {
        start[s + 1] = (s + 1) * n, before[s] = past, picks[s] = start[s + 1] - 1;
        for (int i = 0; i < n; i++) {
            const int t = s * n + i, where = past + i;
            ids[t] = (t * 7919 + past) % VOCAB, at[t] = where;
            slots[t] = pages[s * WIDE + where / PAGE] * PAGE + where % PAGE;
        }
    }
    tk_exec_batch(e, &b);
    tk_exec_size(e, 't', seqs * n), tk_exec_size(e, 'o', seqs);
    tk_exec_run(e, TK_P_FORWARD);
    must(tk_exec_check(e));
    memcpy(*out, tk_exec_data(e, tk_find(p, "logits", -1)), (size_t)seqs * VOCAB * sizeof **out);
    *out += (size_t)seqs * VOCAB;
}

/* Logits of all steps; the caller frees them. */
static float *run(tk_device *device, tk_program *p) {
    tk_pool *pool;
    tk_exec *e;
    build(p, device);
    must(tk_pool_new(&pool, 1, false)), must(tk_exec_new(&e, p, pool, NULL, false));
    float *all = calloc((size_t)16 * VOCAB, sizeof *all), *to = all;
    fill(e, p);
    tk_exec_run(e, TK_P_LOAD);
    step(e, p, 2, 4, 0, &to), step(e, p, 2, 1, 4, &to), step(e, p, 2, 1, 5, &to); /* the last is recorded */
    step(e, p, 4, 2, PAGE * (PAGES / SEQS - 2), &to); /* page tables of 8 KB */
    step(e, p, 2, 1, 6, &to);                         /* recorded before they grew */
    tk_exec_free(e), tk_pool_free(pool);
    return all;
}

static void like_the_cpu(void **state) {
    (void)state;
    tk_program here, there;
    host.features = tk_cpu_features();
    float *want = run(NULL, &here), *got = run(&host, &there);
    assert_memory_equal(want, got, (size_t)12 * VOCAB * sizeof *got);
    assert_int_equal(replays, 1);
    const tk_value *embed = &there.values[tk_find(&there, "embed", -1)];
    bool packs = false;
    for (int i = 0; i < there.nrecords; i++) packs |= there.records[i].op == TK_OP_pack;
    assert_true(packs && embed->staged);
    assert_true(largest_put <= 32 << 20 && embed->bytes > 32 << 20);
    size_t raw = 0;
    for (int i = 0; i < there.nvalues; i++) raw += there.values[i].staged ? there.values[i].bytes : 0;
    assert_int_equal(there.arena_bytes[TK_A_WEIGHTS] + raw, here.arena_bytes[TK_A_WEIGHTS]);
    free(want), free(got);
    tk_prog_free(&here), tk_prog_free(&there);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(like_the_cpu) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
