/* SPDX-License-Identifier: Apache-2.0 */
/* plan: what memory a model takes, before anything is loaded. explain: which kernel runs each op, and why. */
#include <stdlib.h>

#include "cli/ops.h"
#include "infer/infer.h"

typedef struct opened {
    tk_modelfile *file;
    tk_engine *engine;
} opened;

static void close_plan(opened *o) {
    tk_engine_free(o->engine);
    tk_modelfile_free(o->file);
}

/* The model's program for the options of the command, without memory for it. */
static tk_status open_plan(const cli_args *a, opened *o) {
    char *path;
    *o = (opened){ 0 };
    tk_engine_options e = { .plan_only = true,
                            .device = cli_string(a, "--device"),
                            .ctx = cli_int(a, "--ctx"),
                            .threads = (int)cli_int(a, "--threads"),
                            .seqs = (int)cli_int(a, "--sequences"),
                            .chunk = (int)cli_int(a, "--chunk") };
    const char *kv = cli_string(a, "--kv-type");
    if (kv && *kv && *kv != '(') e.kv = tk_format_by_name(kv), e.kv_set = true;
    TK_TRY(cli_model(a->pos[0], &path));
    const char *tokenizer = cli_string(a, "--tokenizer");
    tk_tokenizer *t;
    tk_status s = tk_modelfile_open(&o->file, path, &(tk_modelfile_options){ .tokenizer = tokenizer });
    free(path);
    TK_TRY(s);
    if (tokenizer)
        s = tk_modelfile_tokenizer(o->file, &t); /* a model that cannot be run with it has no plan */
    if (s == TK_OK) s = tk_engine_new(&o->engine, o->file, &e);
    if (s != TK_OK) tk_modelfile_free(o->file);
    return s;
}

/* The record at which the most of WORK is alive, by what each record's operands keep. */
static const tk_record *peak_record(const tk_program *p, size_t *bytes) {
    const tk_record *peak = NULL;
    *bytes = 0;
    for (int i = 0; i < p->nrecords; i++) {
        size_t high = 0;
        const tk_record *r = &p->records[i];
        for (int k = 0; k < r->nin + r->nout; k++) {
            const tk_value *v = &p->values[p->values[r->arg[k]].store];
            if (v->arena == TK_A_WORK || v->arena == TK_A_SAVED) high = TK_MAX(high, v->offset + v->bytes);
        }
        if (high > *bytes) *bytes = high, peak = r;
    }
    return peak;
}

/* What shapes a program: for both commands */
static const cli_option program_options[] = {
    { "--sequences", CLI_INT, "N", "1", "sequences at a time", 1, 4096 },
    { "--chunk", CLI_INT, "N", "512", "tokens of one step", 1, 65536 },
    { .include = cli_model_options },
    { .include = cli_json_options },
    { 0 },
};

const cli_option options_plan[] = {
    { .include = program_options },
    { 0 },
};
tk_status cmd_plan(const cli_args *a) {
    opened o;
    TK_TRY(open_plan(a, &o));
    const tk_engine_info *i = tk_engine_info_of(o.engine);
    const tk_program *p = tk_engine_program(o.engine);
    size_t peak_bytes, free_now = tk_mem_available(), all = i->weights + i->state + i->io + i->work;
    if (p->device && p->device->room(p->device, &free_now) != TK_OK) free_now = 0;
    const tk_record *peak = peak_record(p, &peak_bytes);
    const char *peak_op = peak ? tk_op_info(peak->op)->name : "none";
    int layers = tk_modelfile_config(o.file)->n_layer;
    const struct {
        const char *key, *what;
        size_t bytes;
    } rows[] = {
        { "weights", "packed for the kernels, or converted", i->weights },
        { "mapped", "read where the file has them, in its own pages", i->mapped },
        { "state", "KV cache, as it fills", i->state },
        { "io", "tokens, positions, logits", i->io },
        { "work", "everything within a step", i->work },
    };
    json_t *json =
        json_pack("{s:I, s:i, s:s, s:i, s:I, s:s, s:I, s:I}", "ctx", (json_int_t)i->ctx, "sequences", i->seqs,
                  "kv_type", tk_formats[i->kv].name, "threads", i->threads, "live_bound",
                  (json_int_t)p->live_bound, "peak_op", peak_op, "total", (json_int_t)all, "state_per_layer",
                  (json_int_t)(i->state / (size_t)TK_MAX(layers, 1)));
    cli_table table = cli_table_new("ARENA|>BYTES|WHAT");
    for (size_t k = 0; k < TK_COUNT(rows); k++) {
        json_object_set_new(json, rows[k].key, json_integer((json_int_t)rows[k].bytes));
        cli_cell(&table, "%s", rows[k].key), cli_cell(&table, "%s", cli_bytes((double)rows[k].bytes)),
            cli_cell(&table, "%s", rows[k].what);
    }
    cli_cell(&table, "total"), cli_cell(&table, "%s", cli_bytes((double)all));
    if (p->device && p->device->absent)
        cli_cell(&table, "on %s", i->device);
    else
        cli_cell(&table, "%s is free now", cli_bytes((double)free_now));
    const tk_status s = cli_print_either(cli_flag(a, "--json"), json, &table);
    if (!cli_flag(a, "--json")) {
        const size_t a_layer = i->state / (size_t)TK_MAX(layers, 1);
        printf("context %lld x %d, KV cache %s: %s a layer; work is %.3f of the least possible, its top at "
               "op %s\n",
               (long long)i->ctx, i->seqs, tk_formats[i->kv].name, cli_bytes((double)a_layer),
               (double)i->work / (double)TK_MAX(p->live_bound, (size_t)1), peak_op);
    }
    close_plan(&o);
    return s;
}

/* ---- explain ----------------------------------------------------------------------------------------- */

static const char *tier_of(unsigned needs) {
    return needs & TK_CUDA_SM90    ? "Hopper"
           : needs & TK_ON_CUDA    ? "any GPU"
           : needs & TK_CPU_AMX    ? "amx"
           : needs & TK_CPU_BF16   ? "avx512 with bf16"
           : needs & TK_CPU_AVX512 ? "avx512"
           : needs & TK_CPU_AVX2   ? "avx2"
                                   : "plain C";
}

/* Why this kernel: the tier that serves it, and the better rows that the CPU or the types rule out. */
static void reason(const tk_program *p, const tk_record *r, char *out, size_t cap) {
    unsigned have = p->device ? p->device->features : tk_cpu_features();
    if (tk_op_info(r->op)->flags & TK_COMM) {
        snprintf(out, cap, "between ranks");
        return;
    }
    if (r->kernel < 0) {
        snprintf(out, cap, "slow reference: no row of the kernel table serves these types here");
        return;
    }
    const tk_kernel_row *row = &tk_kernels[r->kernel];
    for (int k = tk_nkernels - 1; k > r->kernel; k--)
        if (tk_kernels[k].op == r->op && tk_kernels[k].weight == row->weight &&
            tk_kernels[k].act == row->act && !((tk_kernels[k].needs ^ have) & TK_ON_CUDA) &&
            (tk_kernels[k].needs & ~have)) {
            snprintf(out, cap, "%s; %s would need %s", tier_of(row->needs), tk_kernels[k].name,
                     tier_of(tk_kernels[k].needs));
            return;
        }
    snprintf(out, cap, "%s: the best row that serves it", tier_of(row->needs));
}

static void types_of(const tk_program *p, const tk_record *r, char *out, size_t cap) {
    size_t at = 0;
    for (int i = 0; i < r->nin + r->nout && at < cap; i++) {
        const tk_value *v = &p->values[r->arg[i]];
        const char *before = i == 0 ? "" : i == r->nin ? " -> " : ", ";
        at += (size_t)snprintf(out + at, cap - at, "%s%s %s", before, v->dim[0] ? v->dim : "1",
                               tk_formats[v->dtype].name);
    }
}

const cli_option options_explain[] = {
    { "--program", CLI_FLAG, NULL, NULL, "list every record of the program instead" },
    { .include = program_options },
    { 0 },
};
tk_status cmd_explain(const cli_args *a) {
    static const char *const phases[] = { "load", "changed", "forward", "backward", "update" };
    opened o;
    TK_TRY(open_plan(a, &o));
    const tk_program *p = tk_engine_program(o.engine);
    if (cli_flag(a, "--program")) {
        tk_buf text = { 0 };
        tk_dump(p, &text);
        tk_status s = tk_buf_check(&text);
        if (s == TK_OK) cli_print_text(text.data, text.len);
        tk_buf_free(&text);
        close_plan(&o);
        return s;
    }
    json_t *json = json_array();
    cli_table table = cli_table_new("PHASE|>TIMES|OP|KERNEL|WHY|OPERANDS");
    for (int i = 0; i < p->nrecords; i++) {
        const tk_record *r = &p->records[i];
        int times = 0, first = i;
        for (int k = p->nrecords - 1; k >= 0; k--)
            if (cli_alike(p, r, &p->records[k])) times++, first = k;
        if (first != i) continue; /* told at its first record */
        char why[160], types[400] = "";
        reason(p, r, why, sizeof why);
        types_of(p, r, types, sizeof types);
        const char *kernel = r->kernel >= 0 ? tk_kernels[r->kernel].fn_name[r->adj] : "-";
        cli_cell(&table, "%s", phases[r->phase]), cli_cell(&table, "%d", times),
            cli_cell(&table, "%s", tk_op_info(r->op)->name);
        cli_cell(&table, "%s", kernel), cli_cell(&table, "%s", why), cli_cell(&table, "%s", types);
        json_array_append_new(json, json_pack("{s:s, s:i, s:s, s:s, s:s, s:s}", "phase", phases[r->phase],
                                              "times", times, "op", tk_op_info(r->op)->name, "kernel", kernel,
                                              "why", why, "operands", types));
    }
    const tk_status s = cli_print_either(cli_flag(a, "--json"), json, &table);
    if (!cli_flag(a, "--json")) {
        int merged = 0;
        for (int k = 0; k < TK_OPS; k++) merged += p->counts.merged[k];
        printf("%d records; %d computed once instead of again, %d windows fused\n", p->nrecords, merged,
               p->counts.fused);
    }
    close_plan(&o);
    return s;
}
