/* SPDX-License-Identifier: Apache-2.0 */
/* See core_model.h. Every number of the model is a hash of its name and global index, so a rank fills its
 * slice without knowing the others, and the loader's slicing is exercised by nothing but the cuts themselves.
 */
#include "core_model.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "comm/comm.h"

run_options run_defaults(void) {
    return (run_options){ .train = true,
                          .layers = 2,
                          .embd = 16,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 4,
                          .ff = 24,
                          .vocab = 37,
                          .seqs = 8,
                          .seq_len = 6,
                          .micro_batches = 1,
                          .dp = 1,
                          .tp = 1,
                          .hoist = TK_HOIST_ALL,
                          .real = TK_F32,
                          .seed = 1 };
}

static uint64_t mix(uint64_t h, uint64_t x) {
    h = (h ^ x) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 31;
}

static uint64_t name_hash(const char *role, int layer, unsigned seed) {
    uint64_t h = mix(seed, (uint64_t)(layer + 2));
    while (*role) h = mix(h, (uint64_t)*role++);
    return mix(h, 77);
}

static double uniform(uint64_t h, uint64_t i) {
    return (double)(mix(mix(h, i), 12345) >> 11) * 0x1p-53 * 2 - 1;
}

typedef struct rank_run {
    const run_options *o;
    tk_config config;
    tk_program p;
    tk_exec *e;
    tk_comm *comm;
    tk_batch batch;
    int32_t *start, *past;
    int64_t t_global, t_local;
    double *losses, *logits;
    tk_status status;
    char error[512];
} rank_run;

static void put(void *p, int64_t i, int type, double v) {
    if (type == TK_F64)
        ((double *)p)[i] = v;
    else if (type == TK_F32)
        ((float *)p)[i] = (float)v;
    else
        ((int32_t *)p)[i] = (int32_t)v;
}

static double get(const void *p, int64_t i, int type) {
    return type == TK_F64   ? ((const double *)p)[i]
           : type == TK_F32 ? (double)((const float *)p)[i]
                            : ((const int32_t *)p)[i];
}

/* Local element i of v on this rank -> index in the whole tensor; *count: elements on this rank. */
static int64_t global_index(const tk_program *p, const tk_value *v, const int *at, int64_t i) {
    int64_t index = 0, stride = 1;
    for (int d = (int)strlen(v->dim) - 1; d >= 0; d--) {
        int64_t n = tk__local(p, v, d), part = 0;
        for (int a = 0; a < p->mesh.axes; a++)
            if (v->cut[a] == d) part = part * p->mesh.axis[a].size + at[a];
        index += (part * n + i % n) * stride;
        i /= n;
        stride *= p->size[(int)v->dim[d]];
    }
    return index;
}

static int64_t local_count(const tk_program *p, const tk_value *v) {
    int64_t n = 1;
    for (int d = 0; v->dim[d]; d++) n *= tk__local(p, v, d);
    return n;
}

/* The length of packed sequence i of a data rank that has n of them: uneven, but the same sum on every rank.
 */
int run_length(const run_options *o, int i, int n) {
    return o->seq_len + (i + 1 == n && n % 2 ? 0 : i % 2 ? -1 : 1);
}

double run_input(const run_options *o, const char *role, int64_t i, int micro) {
    int per = o->seqs / o->dp, seq = 0;
    int64_t pos = i;
    for (; pos >= run_length(o, seq % per, per); seq++) pos -= run_length(o, seq % per, per);
    uint64_t h = name_hash(role, micro, o->seed);
    if (!strcmp(role, "tokens") || !strcmp(role, "targets"))
        return (double)(mix(h, (uint64_t)i) % (uint64_t)o->vocab);
    if (!strcmp(role, "positions")) return (double)pos;
    if (!strcmp(role, "sequences")) return seq + micro * o->seqs;
    if (!strcmp(role, "mask")) return mix(h, (uint64_t)i) % 5 ? 1 : 0;
    return 1;
}

double run_weight(const run_options *o, const char *role, int layer, int64_t i) {
    if (!strcmp(role, "rope_freqs")) return pow(100.0, -(double)i / (double)(o->head_dim / 2));
    bool gain = !strncmp(role, "norm", 4) && !strchr(role, '.');
    double x = uniform(name_hash(role, layer, o->seed), (uint64_t)i);
    return gain ? 1 + 0.2 * x : 0.4 * x;
}

static void fill_inputs(rank_run *r, int micro) {
    double total = 0;
    for (int m = 0; m < r->o->micro_batches; m++)
        for (int64_t i = 0; i < r->t_global; i++) total += run_input(r->o, "mask", i, m);
    static const double hyper[8] = { 0.05, 0.9, 0.95, 1e-8, 0.1, 0.5, 0.1, 0.05 };
    for (int n = 0; n < r->p.nnames; n++) {
        const tk_name *name = &r->p.names[n];
        const tk_value *v = &r->p.values[name->id];
        void *data = tk_exec_data(r->e, name->id);
        if (v->kind != TK_INPUT || !data) continue;
        for (int64_t i = 0, count = local_count(&r->p, v); i < count; i++) {
            int64_t g = global_index(&r->p, v, r->comm ? r->comm->rank : (int[TK_AXES]){ 0 }, i);
            double x = !strcmp(name->role, "count")   ? total
                       : !strcmp(name->role, "hyper") ? hyper[g]
                                                      : run_input(r->o, name->role, g, micro);
            put(data, i, v->dtype, x);
        }
    }
}

static void fill_weights(rank_run *r) {
    static const int zero[TK_AXES];
    for (int n = 0; n < r->p.nnames; n++) {
        const tk_name *name = &r->p.names[n];
        const tk_value *v = &r->p.values[name->id];
        void *data = tk_exec_data(r->e, name->id);
        if ((v->kind != TK_WEIGHT && v->kind != TK_CONST) || !data) continue;
        for (int64_t i = 0, count = local_count(&r->p, v); i < count; i++) {
            int64_t g = global_index(&r->p, v, r->comm ? r->comm->rank : zero, i);
            put(data, i, v->dtype, run_weight(r->o, name->role, name->layer, g));
        }
    }
}

static tk_status build(rank_run *r, const tk_mesh *mesh) {
    const run_options *o = r->o;
    tk_config *c = &r->config;
    *c = tk_config_plain(o->gpt2 ? TK_ARCH_GPT2 : TK_ARCH_LLAMA);
    c->name = "test", c->n_layer = o->layers, c->n_embd = o->embd, c->n_ff = o->ff;
    c->n_head = o->heads, c->n_kv_head = o->kv_heads, c->head_dim = o->head_dim;
    c->n_vocab = o->vocab, c->n_ctx = o->seq_len + 1;
    c->norm_eps = 1e-5f, c->attn_scale = 1 / sqrtf((float)o->head_dim), c->tied = o->tied;
    c->rope.dims = o->gpt2 ? 0 : o->head_dim;
    tk_build b = { .config = c,
                   .logits = o->logits,
                   .findmax = o->findmax,
                   .dropout = o->dropout,
                   .tokens = r->t_global,
                   .vocab_multiple = 8 };
    tk_prog_init(&r->p, o->real);
    TK_TRY(tk_build_program(&r->p, &b));
    if (o->train) TK_TRY(tk_grad(&r->p, tk_find(&r->p, "loss", -1), o->recompute));
    if (o->update) TK_TRY(tk_update(&r->p));
    TK_TRY(tk_shard(&r->p, mesh, o->zero1 ? 0 : -1));
    TK_TRY(tk_choose(&r->p, tk_cpu_features(), !o->kernels));
    TK_TRY(tk_hoist(&r->p, o->hoist));
    TK_TRY(tk_plan(&r->p, !o->no_reuse, 1));
    return tk_exec_new(&r->e, &r->p, NULL, r->comm, false);
}

static void setup_batch(rank_run *r) {
    int n = r->o->seqs / r->o->dp;
    r->start = calloc((size_t)n + 1, sizeof *r->start), r->past = calloc((size_t)n, sizeof *r->past);
    for (int i = 0; i < n; i++) r->start[i + 1] = r->start[i] + run_length(r->o, i, n);
    r->batch = (tk_batch){
        .tokens = r->start[n], .seqs = n, .start = r->start, .past = r->past, .seed = 99, .step = 3
    };
    tk_exec_batch(r->e, &r->batch);
}

static void *run_rank(void *arg) {
    rank_run *r = arg;
    if (r->status != TK_OK) return NULL;
    setup_batch(r);
    fill_weights(r);
    tk_exec_run(r->e, TK_P_LOAD);
    tk_exec_run(r->e, TK_P_CHANGED);
    for (int m = 0; m < r->o->micro_batches; m++) {
        fill_inputs(r, m);
        tk_exec_run(r->e, TK_P_FORWARD);
        tk_id loss = tk_find(&r->p, "loss", -1), logits = tk_find(&r->p, "logits", -1);
        r->losses[m] = get(tk_exec_data(r->e, loss), 0, r->o->real);
        if (m == 0 && logits >= 0) {
            int64_t n = local_count(&r->p, &r->p.values[logits]);
            r->logits = calloc((size_t)n, sizeof(double));
            for (int64_t i = 0; i < n; i++) r->logits[i] = get(tk_exec_data(r->e, logits), i, r->o->real);
        }
        if (r->o->train) tk_exec_run(r->e, TK_P_BACKWARD);
    }
    return NULL;
}

static void *update_rank(void *arg) {
    rank_run *r = arg;
    if (r->status == TK_OK) tk_exec_run(r->e, TK_P_UPDATE);
    return NULL;
}

/* Adds what the ranks hold under name n into one whole tensor: slices side by side, PARTIAL summed. */
static void gather(rank_run *ranks, int nranks, int n, const char *prefix, run_result *out) {
    const tk_name *name = &ranks[0].p.names[n];
    const tk_value *v = &ranks[0].p.values[name->id];
    size_t count = 1;
    for (int d = 0; v->dim[d]; d++) count *= (size_t)ranks[0].p.size[(int)v->dim[d]];
    double *whole = calloc(count, sizeof *whole);
    for (int k = 0; k < nranks; k++) {
        static const int zero[TK_AXES];
        rank_run *r = &ranks[k];
        v = &r->p.values[r->p.names[n].id];
        const int *at = r->comm ? r->comm->rank : zero;
        bool speaks = true;
        for (int a = 0; a < r->p.mesh.axes; a++) speaks &= v->cut[a] != TK_WHOLE || at[a] == 0;
        const void *data = tk_exec_data(r->e, r->p.names[n].id);
        bool logits = !strcmp(name->role, "logits");
        for (int64_t i = 0, m = local_count(&r->p, v); speaks && i < m; i++)
            whole[global_index(&r->p, v, at, i)] += logits ? r->logits[i] : get(data, i, v->dtype);
    }
    int at = out->n++;
    snprintf(out->item[at].name, sizeof out->item[at].name, name->layer < 0 ? "%s%s" : "%s%s.%d", prefix,
             name->role, name->layer);
    out->item[at].count = count, out->item[at].data = whole;
}

static void on_all(rank_run *ranks, int n, void *(*fn)(void *)) {
    pthread_t threads[256];
    for (int i = 1; i < n; i++) pthread_create(&threads[i], NULL, fn, &ranks[i]);
    fn(&ranks[0]);
    for (int i = 1; i < n; i++) pthread_join(threads[i], NULL);
}

static void collect(rank_run *ranks, int n, run_result *out) {
    double loss = 0;
    for (int m = 0; m < ranks[0].o->micro_batches; m++) loss += ranks[0].losses[m];
    int at = out->n++;
    strcpy(out->item[at].name, "loss");
    out->item[at].count = 1, out->item[at].data = calloc(1, sizeof(double));
    *out->item[at].data = loss;
    for (int i = 0; i < ranks[0].p.nnames; i++) {
        const tk_value *v = &ranks[0].p.values[ranks[0].p.names[i].id];
        if (v->kind == TK_ACCUMULATOR || !strcmp(ranks[0].p.names[i].role, "logits"))
            gather(ranks, n, i, "", out);
    }
    const tk_program *p = &ranks[0].p;
    out->counts = p->counts, out->planned = p->arena_bytes[TK_A_WORK], out->bound = p->live_bound;
    for (int i = 0; i < p->nrecords; i++) out->records[p->records[i].phase][p->records[i].op]++;
    if (!ranks[0].o->update) return;
    on_all(ranks, n, update_rank);
    for (int i = 0; i < p->nnames; i++)
        if (p->values[p->names[i].id].kind == TK_WEIGHT) gather(ranks, n, i, "new.", out);
}

static int gcd(int a, int b) { return b ? gcd(b, a % b) : a; }

void run_model(const run_options *o, run_result *out) {
    *out = (run_result){ 0 };
    int tg = gcd(o->tp, o->kv_heads), tr = o->tp / tg, n = o->dp * o->tp;
    tk_mesh mesh = {
        .axes = 3,
        .axis = { { o->dp, true, false, "t" }, { tg, false, o->sp, "gfv" }, { tr, false, o->sp, "rfv" } }
    };
    tk_local *local = NULL;
    rank_run *ranks = calloc((size_t)n, sizeof *ranks);
    if (n > 1) out->status = tk_local_new(&local, &mesh);
    int per = o->seqs / o->dp;
    int64_t t_local = 0;
    for (int i = 0; i < per; i++) t_local += run_length(o, i, per);
    for (int i = 0; i < n && out->status == TK_OK; i++) {
        ranks[i] = (rank_run){ .o = o,
                               .comm = local ? tk_local_comm(local, i) : NULL,
                               .t_local = t_local,
                               .t_global = t_local * o->dp };
        ranks[i].losses = calloc((size_t)o->micro_batches, sizeof(double));
        out->status = ranks[i].status = build(&ranks[i], &mesh);
    }
    if (out->status == TK_OK) {
        on_all(ranks, n, run_rank);
        collect(ranks, n, out);
    }
    for (int i = 0; i < n; i++) {
        tk_exec_free(ranks[i].e);
        tk_prog_free(&ranks[i].p);
        free(ranks[i].start), free(ranks[i].past), free(ranks[i].losses), free(ranks[i].logits);
    }
    tk_local_free(local);
    free(ranks);
}

void run_free(run_result *r) {
    for (int i = 0; i < r->n; i++) free(r->item[i].data);
    *r = (run_result){ 0 };
}

const double *run_get(const run_result *r, const char *name, size_t *count) {
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->item[i].name, name)) {
            if (count) *count = r->item[i].count;
            return r->item[i].data;
        }
    return NULL;
}
