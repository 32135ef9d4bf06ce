/* SPDX-License-Identifier: Apache-2.0 */
/* bench ops: every kernel row that a model's step uses here, timed where it runs: inside one-layer programs
 * of SmolLM2-135M's and GPT-2's shapes, for each weight type, one token behind 512 others and 512 tokens at
 * once. Limits are measured in the same run: the fastest read of memory, and the products per second of the
 * fastest row. On a GPU the shapes are those of LLaMA-3-8B, at 1, 16, 64 and 512 tokens, and the products'
 * limit is that of its tensor cores. */
#include <stdlib.h>

#include "cli/ops.h"
#include "cpu/cpu.h"
#include "model/model.h"

enum { DEPTH = 512, TOKENS = 512, PAGE = 64, MAX_ROWS = 512, MAX_SAMPLES = 4096 };

typedef struct measured { /* one kernel in one setting */
    char kernel[64], op[24], weight[16];
    int tokens;
    double flops, bytes, seconds[MAX_SAMPLES];
    int samples;
} measured;

typedef struct bench {
    const char *filter;
    measured *rows;
    int n, threads;
    tk_pool *pool;
    tk_device *device; /* NULL: the CPU */
    tk_program p;
    tk_exec *e;
    tk_dtype weight;
    int tokens;
    bool record;
} bench;

static tk_dtype dtype_of(void *arg, const char *role, int layer) {
    return (void)role, (void)layer, ((bench *)arg)->weight;
}

static tk_config shape(bool gpt2) {
    tk_config c = tk_config_plain(gpt2 ? TK_ARCH_GPT2 : TK_ARCH_LLAMA);
    c.name = "bench", c.n_layer = 1;
    c.n_embd = gpt2 ? 768 : 576, c.n_ff = gpt2 ? 3072 : 1536;
    c.n_head = gpt2 ? 12 : 9, c.n_kv_head = gpt2 ? 12 : 3, c.head_dim = 64;
    c.n_vocab = 4096, c.n_ctx = DEPTH + TOKENS;
    c.norm_eps = 1e-5f, c.attn_scale = 0.125f;
    c.rope.dims = gpt2 ? 0 : 64;
    return c;
}

/* Layers enough that a product's weights are not still in the GPU's cache when it comes again */
static tk_config large_shape(void) {
    tk_config c = shape(false);
    c.n_layer = 4, c.n_embd = 4096, c.n_ff = 14336, c.n_head = 32, c.n_kv_head = 8, c.head_dim = 128;
    c.n_vocab = 32768, c.attn_scale = 0.088f, c.rope.dims = 128;
    return c;
}

/* Random values in every weight, in its own format: a few rows, again and again, since packing some formats
 * is a search. */
static tk_status fill(bench *b) {
    enum { ROWS = 16 };
    uint32_t counter[4] = { 0 }, word[4];
    for (int n = 0; n < b->p.nnames; n++) {
        const tk_value *v = &b->p.values[b->p.names[n].id];
        int64_t rows, cols;
        size_t stride;
        if (v->kind != TK_WEIGHT && v->kind != TK_CONST) continue;
        char *data = tk_exec_open(b->e, b->p.names[n].id);
        if (!data) return TK_FAIL(TK_E_NOMEM, "out of memory");
        tk__value_rows(&b->p, v, &rows, &cols);
        float *row = malloc((size_t)cols * sizeof *row);
        if (!tk_format_size((tk_dtype)v->dtype, 1, cols, &stride)) rows = 0;
        for (int64_t r = 0; row && r < rows; r++) {
            if (r >= ROWS) {
                memcpy(data + (size_t)r * stride, data + (size_t)(r - ROWS) * stride, stride);
                continue;
            }
            for (int64_t c = 0; c < cols; c++) {
                if (c % 4 == 0) counter[0]++, tk_philox(word, 7, counter);
                row[c] = tk_uniform(word[c % 4]) * 0.1f - 0.05f;
            }
            tk_formats[v->dtype].pack(data, row, rows, cols, r);
        }
        free(row);
        TK_TRY(tk_exec_close(b->e, b->p.names[n].id));
    }
    return tk_exec_check(b->e);
}

static void note(void *arg, const tk_record *r, double seconds) {
    bench *b = arg;
    if (r->kernel < 0 || !b->record) return;
    const char *name = tk_kernels[r->kernel].fn_name[r->adj], *op = tk_op_info(r->op)->name;
    int w = r->op == TK_OP_linear || r->op == TK_OP_embed || r->op == TK_OP_pack;
    const char *weight = w ? tk_formats[b->p.values[r->arg[r->op == TK_OP_pack ? 0 : 1]].dtype].name : "";
    double flops, bytes;
    tk_exec_cost(b->e, r, &flops, &bytes);
    measured *m = NULL;
    for (int i = 0; i < b->n && !m; i++)
        if (!strcmp(b->rows[i].kernel, name) && !strcmp(b->rows[i].weight, weight) &&
            b->rows[i].tokens == b->tokens && b->rows[i].bytes == bytes)
            m = &b->rows[i];
    if (!m && b->n < MAX_ROWS) {
        m = &b->rows[b->n++];
        snprintf(m->kernel, sizeof m->kernel, "%s", name), snprintf(m->op, sizeof m->op, "%s", op);
        snprintf(m->weight, sizeof m->weight, "%s", weight);
        m->tokens = b->tokens, m->flops = flops, m->bytes = bytes;
    }
    if (m && m->samples < MAX_SAMPLES) m->seconds[m->samples++] = seconds;
}

/* The next step: n tokens of one sequence behind `past` others. The batch is b's own until the next call. */
static void set_step(bench *b, int n, int past, int salt) {
    enum { ALL = (DEPTH + TOKENS) / PAGE };
    static int32_t start[2], before[1], pages[ALL];
    static tk_batch batch;
    batch = (tk_batch){ .tokens = n,
                        .seqs = 1,
                        .start = start,
                        .past = before,
                        .pages = pages,
                        .max_pages = ALL,
                        .page_size = PAGE };
    int32_t *ids = tk_exec_data(b->e, tk_find(&b->p, "tokens", -1)),
            *at = tk_exec_data(b->e, tk_find(&b->p, "positions", -1));
    int32_t *slots = tk_exec_data(b->e, tk_find(&b->p, "slots", -1)),
            *picks = tk_exec_data(b->e, tk_find(&b->p, "picks", -1));
    for (int i = 0; i < ALL; i++) pages[i] = ALL - 1 - i;
    before[0] = past, start[1] = n, picks[0] = n - 1;
    for (int i = 0; i < n; i++) {
        ids[i] = (i * 37 + salt) % 4096, at[i] = past + i;
        slots[i] = pages[at[i] / PAGE] * PAGE + at[i] % PAGE;
    }
    tk_exec_batch(b->e, &batch);
    tk_exec_size(b->e, 't', n), tk_exec_size(b->e, 'o', 1);
    b->tokens = n;
}

/* One program: DEPTH tokens in the cache, then steps of `tokens` until `seconds` are spent. */
static void steps(bench *b, int tokens, double seconds) {
    double end = 0;
    for (int step = 0; step < 3 || tk_now() < end; step++) {
        set_step(b, step ? tokens : DEPTH, step && tokens < DEPTH ? DEPTH : 0, step);
        b->record = step > 1;
        tk_exec_run_hook(b->e, TK_P_FORWARD, note, b);
        if (step == 1) end = tk_now() + seconds;
    }
}

/* The program of a shape with weights of one type, ready to run */
static tk_status make_program(bench *b, const tk_config *c, tk_dtype weight) {
    static const tk_mesh alone = { .axes = 0 };
    tk_build build = { .config = c,
                       .serve = true,
                       .kv = TK_F16,
                       .tokens = TOKENS,
                       .picks = 1,
                       .pages = (DEPTH + TOKENS) / PAGE,
                       .page_size = PAGE,
                       .dtype = dtype_of,
                       .arg = b };
    unsigned cpu = tk_cpu_features();
    b->weight = weight, b->tokens = 0, b->record = true;
    tk_prog_init(&b->p, TK_F32);
    b->p.device = b->device;
    tk_status s = tk_build_program(&b->p, &build);
    if (s == TK_OK) s = tk_shard(&b->p, &alone, -1);
    if (s == TK_OK) s = tk_choose(&b->p, cpu, false);
    if (s == TK_OK) s = tk_hoist(&b->p, TK_HOIST_ALL);
    if (s == TK_OK) s = tk_fuse(&b->p, cpu);
    if (s == TK_OK) s = tk_plan(&b->p, true, b->threads);
    if (s == TK_OK) s = tk_exec_new(&b->e, &b->p, b->pool, NULL, false);
    return s == TK_OK ? fill(b) : s;
}

static void drop_program(bench *b) {
    tk_exec_free(b->e);
    tk_prog_free(&b->p);
    b->e = NULL;
}

static tk_status measure(bench *b, bool gpt2, tk_dtype weight, double seconds) {
    const tk_config c = shape(gpt2);
    tk_status s = make_program(b, &c, weight);
    if (s == TK_OK) {
        for (int i = 0; i < 3; i++) tk_exec_run_hook(b->e, TK_P_LOAD, note, b);
        steps(b, 1, seconds);
        steps(b, TOKENS, seconds);
    }
    drop_program(b);
    return s;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_setting(const measured *x, const measured *y) {
    int k = strcmp(x->op, y->op), l = strcmp(x->kernel, y->kernel), w = strcmp(x->weight, y->weight);
    return k ? k : l ? l : w ? w : x->tokens - y->tokens;
}

static int by_kernel(const void *a, const void *b) {
    const measured *x = a, *y = b;
    int k = by_setting(x, y);
    return k ? k : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static tk_status report(bench *b, double read, bool as_json) {
    double most = 0;
    for (int i = 0; i < b->n; i++) {
        qsort(b->rows[i].seconds, (size_t)b->rows[i].samples, sizeof(double), ascending);
        double t = b->rows[i].seconds[b->rows[i].samples / 2];
        if (!strcmp(b->rows[i].op, "linear")) most = TK_MAX(most, b->rows[i].flops / t);
    }
    int kept = 0; /* the filter comes last, so that the limit is always measured */
    for (int i = 0; i < b->n; i++)
        if (!b->filter || strstr(b->rows[i].kernel, b->filter)) b->rows[kept++] = b->rows[i];
    if (!(b->n = kept))
        return TK_FAIL(
            TK_E_NOTFOUND,
            "no kernel that runs here has '%s' in its name\nrows that other CPUs serve are not timed\n"
            "see `tokamak bench ops`",
            b->filter);
    qsort(b->rows, (size_t)b->n, sizeof *b->rows, by_kernel);
    json_t *list = json_array();
    cli_table table = cli_table_new("OP|KERNEL|WEIGHT|>TOKENS|>TIME us|>GB/s|>GFLOP/s|>LIMIT");
    for (int i = 0; i < b->n; i++) {
        const measured *m = &b->rows[i];
        double t = m->seconds[m->samples / 2],
               limit = TK_MAX(m->bytes / read, m->flops / TK_MAX(most, 1)) / t;
        bool largest =
            i + 1 == b->n || by_setting(m, m + 1); /* people see the largest shape of each, programs all */
        if (largest) {
            cli_cell(&table, "%s", m->op), cli_cell(&table, "%s", m->kernel),
                cli_cell(&table, "%s", m->weight), cli_cell(&table, "%d", m->tokens);
            cli_cell(&table, "%.1f", t * 1e6), cli_cell(&table, "%.1f", m->bytes / t / 1e9),
                cli_cell(&table, "%.1f", m->flops / t / 1e9);
            cli_cell(&table, "%.0f %%", 100 * limit);
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:i}", "op",
                                              m->op, "kernel", m->kernel, "weight", m->weight, "tokens",
                                              m->tokens, "us", t * 1e6, "us_min", m->seconds[0] * 1e6, "gb_s",
                                              m->bytes / t / 1e9, "gflop_s", m->flops / t / 1e9,
                                              "share_of_limit", limit, "samples", m->samples));
    }
    if (as_json) {
        tk_buf_free(&table.cells);
        return cli_print_json(json_pack("{s:f, s:f, s:i, s:o}", "read_gb_s", read / 1e9,
                                        "best_product_gflop_s", most / 1e9, "threads", b->threads, "rows",
                                        list));
    }
    json_decref(list);
    printf("limits: memory read %.1f GB/s, best product %.0f GFLOP/s, %d threads; small operands stay in "
           "caches and may pass the first\n",
           read / 1e9, most / 1e9, b->threads);
    return cli_table_print(&table);
}

/* ---- on a GPU ---- */

static tk_status measure_there(bench *b, tk_dtype weight, cli_op ops[CLI_OPS], int *n) {
    static const int sizes[] = { 1, 16, 64, TOKENS };
    const tk_config c = large_shape();
    tk_status s = make_program(b, &c, weight);
    *n = 0;
    if (s == TK_OK) tk_exec_run(b->e, TK_P_LOAD);
    for (size_t i = 0; i < TK_COUNT(sizes) && s == TK_OK; i++) {
        cli_op some[CLI_OPS];
        int more = 0;
        set_step(b, sizes[i], sizes[i] < DEPTH ? DEPTH : 0, 0);
        tk_exec_run(b->e, TK_P_FORWARD);
        s = tk_exec_check(b->e);
        if (s == TK_OK) s = cli_time_ops(b->e, &b->p, sizes[i], some, &more);
        for (int k = 0; k < more && *n < CLI_OPS; k++)
            if (!b->filter || strstr(some[k].kernel, b->filter)) ops[(*n)++] = some[k];
    }
    drop_program(b);
    return s;
}

static tk_status bench_there(bench *b, bool as_json) {
    static const tk_dtype types[] = { TK_BF16, TK_Q8_0, TK_Q4_0, TK_Q4_1, TK_Q5_0,
                                      TK_Q5_1, TK_Q4_K, TK_Q5_K, TK_Q6_K };
    json_t *list = json_array();
    double memory, operations;
    tk_status s = b->device->limits(b->device, &memory, &operations);
    if (s == TK_OK && !as_json)
        printf("%s: memory reads %.0f GB/s, tensor cores %.0f TFLOP/s in bf16\n", b->device->label,
               memory / 1e9, operations / 1e12);
    for (size_t i = 0; i < TK_COUNT(types) && s == TK_OK; i++) {
        cli_op ops[CLI_OPS];
        int n;
        s = measure_there(b, types[i], ops, &n);
        if (s == TK_E_UNSUPPORTED) { /* no row reads this type there */
            s = TK_OK;
            continue;
        }
        if (s == TK_OK && as_json) {
            json_t *rows = cli_ops_json(ops, n, memory, operations);
            json_array_extend(list, rows), json_decref(rows);
        } else if (s == TK_OK && n) {
            printf("\n%s weights\n", tk_formats[types[i]].name);
            s = cli_ops_print(ops, n, memory, operations);
        }
    }
    if (s == TK_OK && as_json)
        return cli_print_json(json_pack("{s:s, s:f, s:f, s:o}", "device", b->device->label, "read_gb_s",
                                        memory / 1e9, "best_product_gflop_s", operations / 1e9, "rows",
                                        list));
    json_decref(list);
    return s;
}

const cli_option options_bench_ops[] = {
    { "--filter", CLI_STRING, "NAME", NULL, "only kernels whose name holds this" },
    { "--device", CLI_STRING, "cpu|cuda[:i]", "cpu", "where to compute" },
    { "--seconds", CLI_FLOAT, "S", "0.3", "time for each setting", 0.01, 60 },
    { "--threads", CLI_INT, "N", "(one a core)", "CPU threads", 1, 1024 },
    { .include = cli_json_options },
    { 0 },
};
tk_status cmd_bench_ops(const cli_args *a) {
    static const tk_dtype types[] = { TK_F32,  TK_F16,    TK_BF16,  TK_Q8_0,  TK_Q4_0, TK_Q4_1,
                                      TK_Q5_0, TK_Q5_1,   TK_MXFP4, TK_Q2_K,  TK_Q3_K, TK_Q4_K,
                                      TK_Q5_K, TK_IQ4_NL, TK_Q6_K,  TK_IQ4_XS };
    bench b = { .filter = cli_string(a, "--filter"), .threads = (int)cli_int(a, "--threads") };
    double read = 1;
    TK_TRY(tk_device_open(&b.device, cli_string(a, "--device"), false));
    if (b.device) {
        b.threads = 1;
        tk_status there = bench_there(&b, cli_flag(a, "--json"));
        tk_device_close(b.device);
        return there;
    }
    if (!b.threads) b.threads = tk_cpu_list(NULL, 0);
    b.rows = calloc(MAX_ROWS, sizeof *b.rows);
    if (!b.rows) return TK_FAIL(TK_E_NOMEM, "out of memory");
    tk_status s = tk_pool_new(&b.pool, b.threads, true);
    if (s == TK_OK) s = tk_measure_read(b.pool, 0, 3, &read);
    for (int gpt2 = 0; gpt2 < 2 && s == TK_OK; gpt2++)
        for (size_t i = 0; i < TK_COUNT(types) && s == TK_OK; i++) {
            if (tk_formats[types[i]].block == 256 && !gpt2) continue; /* 576 is no multiple of 256; 768 is */
            s = measure(&b, gpt2, types[i], cli_float(a, "--seconds") / 2);
        }
    if (s == TK_OK) s = report(&b, read, cli_flag(a, "--json"));
    tk_pool_free(b.pool);
    free(b.rows);
    return s;
}
