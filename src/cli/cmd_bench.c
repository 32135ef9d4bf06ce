/* SPDX-License-Identifier: Apache-2.0 */
/* bench: how fast a model reads a prompt and writes an answer here, beside what this machine could do at
 * most. Decode is held against reading all weights and the cache once a step at the memory's measured speed,
 * prefill against the vector unit's measured rate. Token ids are random; where the
 * engine draws tokens itself, they are fetched, else nothing is sampled. */
#include <stdlib.h>

#include "cli/generate.h"
#include "cli/ops.h"
#include "cpu/cpu.h"

const cli_option options_bench[] = {
    { "-p,--prefill", CLI_INT, "N", "512", "tokens of the prompt", 0, 1 << 24 },
    { "-n,--decode", CLI_INT, "N", "128", "tokens written one by one", 0, 1 << 24 },
    { "-b,--batch", CLI_INT, "N", "1", "sequences at once", 1, 256 },
    { "-d,--depth", CLI_INT, "N", "0", "tokens already there before", 0, 1 << 24 },
    { "-r,--repeat", CLI_INT, "N", "5", "runs; the median counts", 1, 1000 },
    { "--ops", CLI_FLAG, NULL, NULL, "on a GPU, each kernel of a decode step by itself too" },
    { .include = cli_model_options },
    { .include = cli_json_options },
    { 0 },
};

enum { MOST_SEQUENCES = 256 };

typedef struct bench {
    tk_model *m;
    int prefill, decode, batch, depth, repeat;
    int32_t *ids; /* random, as many as any run needs */
    double *times;
} bench;

typedef struct figure {
    double rate, low, high; /* tokens a second: median, and the slowest and fastest run */
} figure;

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static tk_status prefill_once(bench *b) {
    for (int seq = 0; seq < b->batch; seq++)
        TK_TRY(tk_engine_prefill(b->m->engine, seq, b->ids, b->prefill, NULL));
    return TK_OK;
}

/* Where the engine draws, each step reads what the one before drew, and all drawn tokens come back. */
static tk_status decode_once(bench *b) {
    tk_engine *e = b->m->engine;
    tk_step_item items[MOST_SEQUENCES];
    const int32_t *drawn;
    for (int i = 0; i < b->decode; i++) {
        const bool carry = tk_engine_draws(e) && i > 0;
        for (int seq = 0; seq < b->batch; seq++)
            items[seq] = (tk_step_item){ seq, carry ? NULL : b->ids + i + seq, 1, 1 };
        if (!tk_engine_draws(e)) {
            TK_TRY(tk_engine_step(e, items, b->batch, NULL));
            continue;
        }
        TK_TRY(tk_engine_start(e, items, b->batch));
        if (i > 0) TK_TRY(tk_engine_finish(e, &drawn));
        if (i == b->decode - 1) TK_TRY(tk_engine_finish(e, &drawn));
    }
    return TK_OK;
}

/* One run to warm up, then `repeat` runs, each from the depth. */
static tk_status measure(bench *b, tk_status (*once)(bench *b), int tokens, figure *out) {
    *out = (figure){ 0 };
    if (!tokens) return TK_OK;
    for (int i = -1; i < b->repeat; i++) {
        double start = tk_now();
        TK_TRY(once(b));
        if (i >= 0) b->times[i] = tk_now() - start;
        for (int seq = 0; seq < b->batch; seq++) tk_seq_truncate(b->m->engine, seq, b->depth);
    }
    qsort(b->times, (size_t)b->repeat, sizeof *b->times, by_size);
    double all = (double)tokens * b->batch, middle = b->times[b->repeat / 2];
    if (b->repeat % 2 == 0) middle = (middle + b->times[b->repeat / 2 - 1]) / 2;
    *out =
        (figure){ cli_rate(all, middle), cli_rate(all, b->times[b->repeat - 1]), cli_rate(all, b->times[0]) };
    return TK_OK;
}

/* What one token of one sequence must cost: bytes of matrices read in a step, operations in its products. The
 * embedding is looked up, not read, unless it is the head too. */
static tk_status model_cost(const tk_model *m, double *bytes, double *ops, tk_dtype *type) {
    static const char *const roles[] = { "q", "k", "v", "o", "gate", "up", "down" };
    const char *head = m->config->tied ? "embed" : "head";
    *bytes = *ops = 0;
    for (int layer = 0; layer <= m->config->n_layer; layer++) {
        bool last = layer == m->config->n_layer;
        for (size_t i = 0; i < (last ? 1 : TK_COUNT(roles)); i++) {
            tk_weight_view v;
            size_t size;
            TK_TRY(tk_modelfile_weight(m->file, last ? head : roles[i], last ? 0 : layer, &v));
            if (!v.data || !tk_format_size(v.dtype, v.rows, v.cols, &size)) continue;
            *bytes += (double)size;
            *ops += 2 * (double)v.rows * (double)v.cols;
            *type = v.dtype;
        }
    }
    return TK_OK;
}

typedef struct limits {
    double memory, ops;     /* of the machine: bytes, operations a second */
    double decode, prefill; /* tokens a second that they allow */
} limits;

static tk_status machine_limits(const bench *b, tk_dtype type, limits *l) {
    tk_device *d = tk_engine_program(b->m->engine)->device;
    if (d) return d->limits(d, &l->memory, &l->ops);
    tk_pool *pool;
    TK_TRY(tk_pool_new(&pool, tk_engine_info_of(b->m->engine)->threads, true));
    tk_status s = tk_measure_read(pool, 0, 5, &l->memory);
    const bool quantized = tk_formats[type].block > 1;
    l->ops = tk_measure_ops(pool, quantized ? TK_UNIT_INT8 : type == TK_BF16 ? TK_UNIT_BF16 : TK_UNIT_F32);
    tk_pool_free(pool);
    return s;
}

static tk_status find_limits(const bench *b, limits *l) {
    double bytes, ops;
    tk_dtype type = TK_F32;
    TK_TRY(model_cost(b->m, &bytes, &ops, &type));
    TK_TRY(machine_limits(b, type, l));
    const tk_config *c = b->m->config;
    double row = (double)c->n_kv_head * c->head_dim, heads = (double)c->n_head * c->head_dim;
    /* per layer: keys and values of the mean depth; products with them */
    double held = b->depth + b->decode / 2.0, seen = b->depth + b->prefill / 2.0;
    size_t cell;
    if (!tk_format_size(tk_engine_info_of(b->m->engine)->kv, 1, (int64_t)row, &cell)) cell = 0;
    double cache = 2 * (double)cell * c->n_layer * held;
    /* the head is computed for the last token only */
    double head = 2.0 * c->n_vocab * c->n_embd;
    l->decode = b->batch * l->memory / (bytes + cache * b->batch);
    l->prefill = l->ops / (ops - head + head / TK_MAX(b->prefill, 1) + 4 * heads * c->n_layer * seen);
    return TK_OK;
}

/* Each kind of record of a decode step behind the depth and a prompt's tokens */
static tk_status time_ops(const bench *b, cli_op ops[CLI_OPS], int *n) {
    tk_step_item items[MOST_SEQUENCES];
    for (int seq = 0; seq < b->batch; seq++) items[seq] = (tk_step_item){ seq, b->ids + seq, 1, 1 };
    TK_TRY(tk_engine_step(b->m->engine, items, b->batch, NULL));
    return cli_time_ops(tk_engine_exec(b->m->engine), tk_engine_program(b->m->engine), b->batch, ops, n);
}

static tk_status report(const cli_args *a, const bench *b, double load, const figure *prefill,
                        const figure *decode) {
    limits l = { 0 };
    double peak = (double)tk_mem_peak();
    cli_op ops[CLI_OPS];
    int nops = 0;
    TK_TRY(find_limits(b, &l));
    if (cli_flag(a, "--ops")) TK_TRY(time_ops(b, ops, &nops));
    double decode_share = decode->rate / l.decode, prefill_share = prefill->rate / l.prefill;
    if (cli_flag(a, "--json"))
        return cli_print_json(json_pack(
            "{s:s, s:o, s:o, s:f, s:I, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:[f,f], s:[f,f], s:f, s:f, s:f, "
            "s:f, "
            "s:f, s:f, s:o}",
            "device", tk_engine_info_of(b->m->engine)->device, "prefill_tok_s",
            b->prefill ? json_real(prefill->rate) : json_null(), "decode_tok_s",
            b->decode ? json_real(decode->rate) : json_null(), "load_s", load, "peak_bytes", (json_int_t)peak,
            "model", tk_model_about(b->m).name, "prefill", b->prefill, "decode", b->decode, "batch", b->batch,
            "depth", b->depth, "repeat", b->repeat, "threads", tk_engine_info_of(b->m->engine)->threads,
            "prefill_range", prefill->low, prefill->high, "decode_range", decode->low, decode->high,
            "memory_bytes_s", l.memory, "compute_ops_s", l.ops, "prefill_limit_tok_s", l.prefill,
            "decode_limit_tok_s", l.decode, "prefill_share", prefill_share, "decode_share", decode_share,
            "ops", cli_ops_json(ops, nops, l.memory, l.ops)));
    cli_table t = cli_table_new("|>TOK/S|>SLOWEST|>FASTEST|>LIMIT|>SHARE");
    const struct {
        const char *name;
        int n;
        const figure *f;
        double limit, share;
    } rows[] = {
        { "prefill", b->prefill, prefill, l.prefill, prefill_share },
        { "decode", b->decode, decode, l.decode, decode_share },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        if (!rows[i].n) continue;
        cli_cell(&t, "%s %d", rows[i].name, rows[i].n);
        cli_cell(&t, "%.1f", rows[i].f->rate);
        cli_cell(&t, "%.1f", rows[i].f->low);
        cli_cell(&t, "%.1f", rows[i].f->high);
        cli_cell(&t, "%.1f", rows[i].limit);
        cli_cell(&t, "%.0f %%", 100 * rows[i].share);
    }
    TK_TRY(cli_table_print(&t));
    const tk_engine_info *info = tk_engine_info_of(b->m->engine);
    bool cpu = !tk_engine_program(b->m->engine)->device;
    printf("%d sequence%s, depth %d, %s, %d threads; loaded in %.2f s, peak memory %s\n", b->batch,
           b->batch == 1 ? "" : "s", b->depth, info->device, info->threads, load, cli_bytes(peak));
    printf("limits: memory reads %s/s (decode), %.0f GOP/s in the %s (prefill)\n", cli_bytes(l.memory),
           l.ops / 1e9, cpu ? "vector or tile unit" : "tensor cores, bf16");
    return nops ? cli_ops_print(ops, nops, l.memory, l.ops) : TK_OK;
}

static tk_status run(const cli_args *a, bench *b, double load) {
    int most = TK_MAX(b->depth, TK_MAX(b->prefill, b->decode + b->batch));
    figure prefill, decode;
    b->ids = calloc((size_t)most, sizeof *b->ids);
    b->times = calloc((size_t)b->repeat, sizeof *b->times);
    if (!b->ids || !b->times) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor %d token ids", most);
    for (int i = 0; i < most; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        tk_philox(word, 1, counter);
        b->ids[i] = (int32_t)(word[0] % (uint32_t)b->m->config->n_vocab);
    }
    for (int i = 0, seq; i < b->batch; i++) {
        TK_TRY(tk_seq_new(b->m->engine, &seq)); /* a fresh engine gives 0, 1, 2, ... */
        TK_TRY(tk_engine_prefill(b->m->engine, seq, b->ids, b->depth, NULL));
    }
    TK_TRY(measure(b, prefill_once, b->prefill, &prefill));
    TK_TRY(measure(b, decode_once, b->decode, &decode));
    return report(a, b, load, &prefill, &decode);
}

tk_status cmd_bench(const cli_args *a) {
    bench b = {
        .prefill = (int)cli_int(a, "--prefill"),
        .decode = (int)cli_int(a, "--decode"),
        .batch = (int)cli_int(a, "--batch"),
        .depth = (int)cli_int(a, "--depth"),
        .repeat = (int)cli_int(a, "--repeat"),
    };
    double start = tk_now();
    TK_TRY(cli_open(a, 0, b.batch, NULL, &b.m));
    double load = tk_now() - start;
    int need = b.depth + TK_MAX(b.prefill, b.decode);
    tk_status s = need <= b.m->ctx ? run(a, &b, load)
                                   : TK_FAIL(TK_E_LIMIT,
                                             "the run needs %d tokens of context\nthe context holds %d\n"
                                             "lower -p, -n or -d, or give a larger --ctx",
                                             need, (int)b.m->ctx);
    free(b.ids);
    free(b.times);
    tk_model_close(b.m);
    return s;
}
