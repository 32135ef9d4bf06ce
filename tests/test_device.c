/* SPDX-License-Identifier: Apache-2.0 */
/* What the executor does with a device, without one: a device made of host memory that runs the CPU's rows.
 * Logits are bitwise those of the CPU; raw weights that are only packed have no place there; page tables may
 * outgrow the room that was taken for them. And where there is a CUDA device, layers of real models' shapes
 * on it (alone: test_device cuda [part of a name]): a token has the same bits in a prompt, in chunks of other
 * sizes, in a batch of 64, and unfused; and the kernels for Hopper stay near those for any GPU. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
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
static tk_device host = { .name = "host",
                          .room = room,
                          .take = take,
                          .give = give,
                          .take_host = take,
                          .give_host = give,
                          .put = put,
                          .get = get,
                          .move = get,
                          .record = record,
                          .recorded = recorded,
                          .replay = replay,
                          .forget = forget,
                          .wait = wait };

/* ---- a model ---- */

typedef struct shape {
    const char *name;
    int layers, embd, ff, heads, kv_heads, dim, vocab;
    bool tied;
} shape;

static tk_dtype dtype_of(void *arg, const char *role, int layer) {
    return (void)role, (void)layer, *(tk_dtype *)arg;
}

/* The serving program of a shape. b: kv, tokens, picks, pages, page_size, and arg, the weights' dtype. */
static tk_status build(tk_program *p, tk_device *device, const shape *s, tk_build b, bool fuse) {
    static const tk_mesh alone = { .axes = 0 };
    tk_config c = tk_config_plain(TK_ARCH_LLAMA);
    c.name = s->name, c.n_layer = s->layers, c.n_embd = s->embd, c.n_ff = s->ff, c.n_head = s->heads;
    c.n_kv_head = s->kv_heads, c.head_dim = s->dim, c.rope.dims = s->dim, c.tied = s->tied,
    c.n_vocab = s->vocab;
    c.n_ctx = (int)(b.page_size * b.pages), c.norm_eps = 1e-5f, c.attn_scale = 1 / sqrtf((float)s->dim);
    b.config = &c, b.serve = true, b.dtype = dtype_of;
    tk_prog_init(p, TK_F32);
    p->device = device;
    TK_TRY(tk_build_program(p, &b));
    TK_TRY(tk_shard(p, &alone, -1));
    TK_TRY(tk_choose(p, tk_cpu_features(), false));
    TK_TRY(tk_hoist(p, TK_HOIST_ALL));
    if (fuse) TK_TRY(tk_fuse(p, tk_cpu_features()));
    return tk_plan(p, true, 1);
}

/* Noise in some rows, again and again, since packing half a million takes long; not in step with panels of
 * rows */
static void fill(tk_exec *e, const tk_program *p) {
    enum { ROWS = 37 };
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
            if (r >= ROWS) {
                memcpy(data + (size_t)r * stride, data + (size_t)(r - ROWS) * stride, stride);
                continue;
            }
            for (int64_t c = 0; c < cols; c++)
                state = state * 1664525u + 1013904223u,
                row[c] = (v->dim[1] ? 0.05f : 1) * (float)(int32_t)state * 0x1p-31f;
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
    tk_batch b = { .tokens = seqs * n,
                   .seqs = seqs,
                   .start = start,
                   .past = before,
                   .pages = pages,
                   .max_pages = WIDE,
                   .page_size = PAGE };
    int32_t *ids = tk_exec_data(e, tk_find(p, "tokens", -1)),
            *at = tk_exec_data(e, tk_find(p, "positions", -1)),
            *slots = tk_exec_data(e, tk_find(p, "slots", -1)),
            *picks = tk_exec_data(e, tk_find(p, "picks", -1));
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
    static const shape tiny = { "tiny", 2, 64, 96, 4, 2, 16, VOCAB, true };
    tk_dtype type = TK_Q8_0;
    tk_pool *pool;
    tk_exec *e;
    must(build(
        p, device, &tiny,
        (tk_build){
            .kv = TK_F16, .tokens = TOKENS, .picks = PICKS, .pages = PAGES, .page_size = PAGE, .arg = &type },
        true));
    must(tk_pool_new(&pool, 1, false)), must(tk_exec_new(&e, p, pool, NULL, false));
    float *all = calloc((size_t)16 * VOCAB, sizeof *all), *to = all;
    fill(e, p);
    tk_exec_run(e, TK_P_LOAD);
    step(e, p, 2, 4, 0, &to), step(e, p, 2, 1, 4, &to), step(e, p, 2, 1, 5, &to); /* the last is recorded */
    step(e, p, 4, 2, PAGE * (PAGES / SEQS - 2), &to);                             /* page tables of 8 KB */
    step(e, p, 2, 1, 6, &to); /* recorded before they grew */
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

/* ---- on a GPU ---- */

static tk_device *gpu;
static const char *filter = "";

enum { LONG = 200, BATCH = 64, ROOM = 256 /* tokens of a sequence */, KEYS = 64 /* of a page */ };

typedef struct work { /* a program ready to run on the GPU */
    tk_program p;
    tk_pool *pool;
    tk_exec *e;
    int vocab;
} work;

static tk_status open_work(work *w, const shape *s, tk_dtype type, tk_dtype kv, bool fuse) {
    *w = (work){ .vocab = s->vocab };
    tk_status st = build(&w->p, gpu, s,
                         (tk_build){ .kv = kv,
                                     .tokens = ROOM,
                                     .picks = ROOM,
                                     .pages = BATCH * ROOM / KEYS,
                                     .page_size = KEYS,
                                     .arg = &type },
                         fuse);
    if (st == TK_OK) st = tk_pool_new(&w->pool, 1, false);
    if (st == TK_OK) st = tk_exec_new(&w->e, &w->p, w->pool, NULL, false);
    if (st != TK_OK) return st;
    fill(w->e, &w->p);
    tk_exec_run(w->e, TK_P_LOAD);
    return tk_exec_check(w->e);
}

static void close_work(work *w) {
    if (w->e) tk_exec_free(w->e);
    if (w->pool) tk_pool_free(w->pool);
    tk_prog_free(&w->p);
}

/* n tokens of sequence 0 behind `past`, and one each of `others` sequences as far on, before it in the batch;
 * the logits of sequence 0. */
static void feed(work *w, int n, int past, int others, float *out) {
    static int32_t start[BATCH + 1], before[BATCH], pages[BATCH * ROOM / KEYS];
    enum { WIDE = ROOM / KEYS };
    tk_batch b = { .tokens = n + others,
                   .seqs = 1 + others,
                   .start = start,
                   .past = before,
                   .pages = pages,
                   .max_pages = WIDE,
                   .page_size = KEYS };
    int32_t *ids = tk_exec_data(w->e, tk_find(&w->p, "tokens", -1)),
            *at = tk_exec_data(w->e, tk_find(&w->p, "positions", -1)),
            *slots = tk_exec_data(w->e, tk_find(&w->p, "slots", -1)),
            *picks = tk_exec_data(w->e, tk_find(&w->p, "picks", -1));
    for (int k = 0; k <= others; k++) { /* the last is sequence 0 */
        const int s = others - k, each = s ? 1 : n;
        start[k + 1] = start[k] + each, before[k] = past;
        for (int i = 0; i < WIDE; i++) pages[k * WIDE + i] = (s * WIDE + i) * 37 % (BATCH * WIDE);
        for (int i = 0; i < each; i++) {
            const int t = start[k] + i, where = past + i;
            ids[t] = (where * 31 + 7 * s) % w->vocab, at[t] = where, picks[t] = t;
            slots[t] = pages[k * WIDE + where / KEYS] * KEYS + where % KEYS;
        }
    }
    tk_exec_batch(w->e, &b);
    tk_exec_size(w->e, 't', n + others), tk_exec_size(w->e, 'o', n + others);
    tk_exec_run(w->e, TK_P_FORWARD);
    const float *logits = tk_exec_data(w->e, tk_find(&w->p, "logits", -1));
    must(tk_exec_check(w->e));
    memcpy(out, logits + (size_t)others * (size_t)w->vocab, (size_t)n * (size_t)w->vocab * sizeof *out);
}

static bool same(const char *name, const float *want, const float *got, int vocab, int first, int n,
                 const char *how) {
    for (int i = 0; i < n * vocab; i++) {
        const float a = want[first * vocab + i], b = got[i];
        if (memcmp(&a, &b, sizeof a)) {
            print_message("%s: %s: token %d, logit %d is %.9g, alone %.9g\n", name, how, first + i / vocab,
                          i % vocab, (double)b, (double)a);
            return false;
        }
    }
    return true;
}

/* Everything about one shape with weights and a cache of these types; the number of failures */
static int one_model(const shape *s, tk_dtype type, tk_dtype kv) {
    static const int parts[] = { 64, 65, 1, 17, 16, 2, 5, 30 };
    const size_t count = (size_t)LONG * (size_t)s->vocab;
    char name[64];
    int bad = 0;
    work w;
    snprintf(name, sizeof name, "%s %s, cache %s", s->name, tk_formats[type].name, tk_formats[kv].name);
    if (!strstr(name, filter)) return 0;
    if (open_work(&w, s, type, kv, true) != TK_OK) {
        print_message("skipped: %s: %.70s\n", name, tk_error());
        close_work(&w);
        return 0;
    }
    float *want = malloc(count * sizeof *want), *got = malloc(count * sizeof *got);
    feed(&w, LONG, 0, 0, want);
    for (int from = 0, k = 0; from < LONG; from += parts[k++])
        feed(&w, parts[k], from, 0, got),
            bad += !same(name, want, got, s->vocab, from, parts[k], "in chunks");
    for (int at = 0; at < 90; at += at ? 1 : 80) { /* 64 sequences that were 80 tokens long decode */
        if (at)
            feed(&w, 1, at, BATCH - 1, got),
                bad += !same(name, want, got, s->vocab, at, 1, "in a batch of 64");
        else
            feed(&w, 80, 0, 0, got);
        if (at == 85)
            feed(&w, 1, at, 15, got), bad += !same(name, want, got, s->vocab, at, 1, "in a batch of 16");
        if (at == 86)
            feed(&w, 1, at, 2, got), bad += !same(name, want, got, s->vocab, at, 1, "in a batch of 3");
    }
    const int fused = w.p.counts.fused;
    close_work(&w);
    must(open_work(&w, s, type, kv, false));
    feed(&w, LONG, 0, 0, got), bad += !same(name, want, got, s->vocab, 0, LONG, "unfused");
    feed(&w, 1, 199, 0, got), bad += !same(name, want, got, s->vocab, 199, 1, "unfused, one token");
    close_work(&w);
    const unsigned features = gpu->features;
    gpu->features &= ~(unsigned)TK_CUDA_SM90;
    must(open_work(&w, s, type, kv, false));
    gpu->features = features;
    feed(&w, LONG, 0, 0, got);
    close_work(&w);
    double scale = 0, off = 0, squares = 0, all = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)want[i] - got[i]);
        scale = fmax(scale, fabs((double)got[i])), off = isnan(d) ? INFINITY : fmax(off, d);
        squares += d * d, all += (double)got[i] * got[i];
    }
    print_message("%s: %d windows; off the plain kernels by %.2g of the largest, %.2g in the mean%s\n", name,
                  fused, off / scale, sqrt(squares / all), bad ? " FAILED" : "");
    if (!(sqrt(squares / all) < (type == TK_F32 && kv == TK_F32 ? 1e-5 : 2e-2))) bad++;
    free(want), free(got);
    return bad;
}

static void like_alone(void **state) {
    (void)state;
    static const shape shapes[] = {
        { "odd", 2, 96, 160, 3, 1, 32, 333, false },
        { "smollm2", 1, 576, 1536, 9, 3, 64, 1000, true },
        { "llama-1b", 1, 2048, 8192, 32, 8, 64, 999, true },
        { "llama-8b", 1, 4096, 14336, 32, 8, 128, 777, false },
        { "wide heads", 1, 1024, 2048, 4, 4, 256, 500, false },
    };
    static const tk_dtype types[] = { TK_F32,  TK_F16,  TK_BF16, TK_Q8_0,  TK_Q4_0,   TK_Q4_1,
                                      TK_Q5_0, TK_Q5_1, TK_Q4_K, TK_Q5_K,  TK_Q6_K,   TK_Q2_K,
                                      TK_Q3_K, TK_F8,   TK_Q4_Z, TK_MXFP4, TK_IQ4_NL, TK_IQ4_XS };
    static const tk_dtype caches[] = { TK_F32, TK_BF16, TK_Q8_0 };
    int bad = 0;
    for (size_t i = 0; i < TK_COUNT(shapes); i++) {
        for (size_t k = 0; k < TK_COUNT(types); k++)
            if (!((shapes[i].embd | shapes[i].ff) % tk_formats[types[k]].block))
                bad += one_model(&shapes[i], types[k], TK_F16);
        for (size_t k = 0; k < TK_COUNT(caches); k++) bad += one_model(&shapes[i], TK_BF16, caches[k]);
    }
    assert_int_equal(bad, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(like_the_cpu) },
                            there[] = { cmocka_unit_test(like_alone) };
    const bool only_there = argc > 1 && !strcmp(argv[1], "cuda");
    const int failed = only_there ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
    if (argc > 2) filter = argv[2];
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) {
        print_message("skipped: no CUDA device\n");
        return failed;
    }
    const int bad = cmocka_run_group_tests(there, NULL, NULL);
    tk_device_close(gpu);
    return failed + bad;
}
