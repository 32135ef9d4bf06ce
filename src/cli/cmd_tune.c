/* SPDX-License-Identifier: Apache-2.0 */
/* tune: the fastest way of each product of a model on a GPU, found by timing all of them (ops/ways.h) with
 * the model's own weights, at 16, 32, 64 ... tokens. What was found is kept for all models and taken up by
 * itself. */
#include <stdlib.h>

#include "cli/generate.h"
#include "cli/ops.h"

const cli_option options_tune[] = {
    { "--tokens", CLI_INT, "N", "2048", "the most tokens of a step", 16, 65536 },
    { .include = cli_model_options },
    { .include = cli_json_options },
    { 0 },
};

typedef struct tuning {
    tk_exec *e;
    const tk_program *p;
    tk_device_ways *ways;
    int *records; /* those alike */
    cli_table table;
    json_t *rows;
} tuning;

static tk_status timed(tuning *t, int n, int way, double *seconds) {
    t->ways->trying = way, t->ways->last = (tk_way_key){ 0 };
    tk_status s = tk_exec_time(t->e, t->records, n, seconds);
    t->ways->trying = -1;
    return s;
}

/* All ways of the first n records. Another way than the device's own must be a hundredth faster. */
static tk_status search(tuning *t, int n) {
    double own, best, seconds;
    TK_TRY(timed(t, 1, TK_WAY_OWN, &own)); /* to see whether there are ways */
    if (!t->ways->last.tokens) return TK_OK;
    TK_TRY(timed(t, n, TK_WAY_OWN, &own));
    tk_way found = { t->ways->last, TK_WAY_OWN, 0 };
    best = own * 0.99;
    for (int i = 0; i < t->ways->count; i++) {
        TK_TRY(timed(t, n, i, &seconds));
        if (seconds < best) best = seconds, found.way = i;
    }
    if (found.way == TK_WAY_OWN) best = own;
    found.us = (float)(best * 1e6);
    const tk_record *r = &t->p->records[t->records[0]];
    const char *op = tk_op_info(r->op)->name, *weight = tk_formats[found.key.weight].name;
    char way[16] = "own";
    if (found.way != TK_WAY_OWN) snprintf(way, sizeof way, "%d", found.way);
    cli_cell(&t->table, "%s", op), cli_cell(&t->table, "%s", weight);
    cli_cell(&t->table, "%d x %d", (int)found.key.rows, (int)found.key.width),
        cli_cell(&t->table, "%d", (int)found.key.tokens);
    cli_cell(&t->table, "%.1f", own * 1e6), cli_cell(&t->table, "%.1f", best * 1e6),
        cli_cell(&t->table, "%s", way);
    json_array_append_new(t->rows, json_pack("{s:s, s:s, s:i, s:i, s:i, s:f, s:f, s:s}", "op", op, "weight",
                                             weight, "rows", (int)found.key.rows, "width",
                                             (int)found.key.width, "tokens", (int)found.key.tokens, "own_us",
                                             own * 1e6, "us", best * 1e6, "way", way));
    return tk_ways_put(&t->ways->known, &found);
}

/* Each kind of record of the step that the engine has just run */
static tk_status search_step(tuning *t) {
    tk_status s = TK_OK;
    for (int i = 0; i < t->p->nrecords && s == TK_OK; i++) {
        const tk_record *r = &t->p->records[i];
        bool first = r->phase == TK_P_FORWARD && r->kernel >= 0;
        int n = 0;
        for (int k = 0; k < i && first; k++) first = !cli_alike(t->p, r, &t->p->records[k]);
        for (int k = i; k < t->p->nrecords && first; k++)
            if (cli_alike(t->p, r, &t->p->records[k])) t->records[n++] = k;
        if (first) s = search(t, n);
    }
    return s;
}

static tk_status tune(const cli_args *a, tk_model *m, tuning *t) {
    const int most = (int)TK_MIN(cli_int(a, "--tokens"), m->ctx);
    int seq;
    int32_t *ids = calloc((size_t)most, sizeof *ids);
    if (!ids) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor %d token ids\nlower --tokens", most);
    for (int i = 0; i < most; i++) ids[i] = i * 37 % m->config->n_vocab;
    tk_status s = tk_seq_new(m->engine, &seq);
    for (int n = 16; n <= most && s == TK_OK; n *= 2) {
        s = tk_engine_prefill(m->engine, seq, ids, n, NULL);
        if (s == TK_OK) s = search_step(t);
        if (s == TK_OK) tk_seq_truncate(m->engine, seq, 0);
    }
    free(ids);
    return s;
}

tk_status cmd_tune(const cli_args *a) {
    tk_model *m;
    TK_TRY(cli_open(a, 0, 1, NULL, &m));
    tuning t = { .e = tk_engine_exec(m->engine), .p = tk_engine_program(m->engine) };
    t.ways = t.p->device ? t.p->device->ways : NULL;
    t.records = calloc((size_t)t.p->nrecords + 1, sizeof *t.records);
    t.rows = json_array(), t.table = cli_table_new("OP|WEIGHT|ROWS x WIDTH|>TOKENS|>OWN us|>BEST us|>WAY");
    tk_status s =
        !t.ways ? TK_FAIL(TK_E_USAGE,
                          "nothing to tune\nproducts have one way there\ngive --device cuda on a Hopper GPU")
        : !t.records
            ? TK_FAIL(TK_E_NOMEM, "out of memory\nfor %d records\nclose other programs", t.p->nrecords)
            : tune(a, m, &t);
    if (s == TK_OK) s = tk_ways_save(&t.ways->known, t.ways->device);
    if (s == TK_OK && cli_flag(a, "--json")) {
        s = cli_print_json(json_incref(t.rows));
        tk_buf_free(&t.table.cells);
    } else if (s == TK_OK) {
        char *path = tk_ways_path(t.ways->device);
        s = cli_table_print(&t.table);
        printf("kept in %s\n", path ? path : "");
        free(path);
    } else {
        tk_buf_free(&t.table.cells);
    }
    json_decref(t.rows);
    free(t.records);
    tk_model_close(m);
    return s;
}
