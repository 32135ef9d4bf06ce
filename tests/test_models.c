/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models through the engine: float32 logits against Hugging Face transformers on every tier of this
 * machine (tests/data/hf, made by tools/make_hf_models.py; families, by make_family_models.py; families_gguf,
 * by make_family_gguf.py and llama.cpp's converter; quant, by make_quant_models.py); and promise 2, bitwise:
 * a row alone, in a batch, in chunks, on other thread counts and page sizes, and in the training form. Where
 * there is a CUDA device, all of it again there (alone: build/bin/test_models cuda). */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>

#include "core/core.h"
#include "infer/infer.h"

typedef struct model {
    char name[256];
    tk_modelfile *file;
    int32_t tokens[128];
    int n, vocab;
    float *truth; /* [n][vocab] */
} model;

static void must(tk_status s, const char *what) {
    if (s != TK_OK) fail_msg("%s: %s", what, tk_error());
}

static const char *device; /* where the engines compute; NULL: the CPU */
static unsigned device_features;

/* The float32 data of a two-dimensional .npy file of version 1 that numpy wrote. */
static float *read_npy(const char *path, size_t count) {
    tk_buf b = { 0 };
    must(tk_file_read(&b, path, 1 << 24), path);
    assert_memory_equal(b.data, "\x93NUMPY\x01", 7);
    assert_non_null(memmem(b.data, 128, "'<f4'", 5));
    size_t head = 10u + tk_le16(b.data + 8);
    assert_int_equal(b.len, head + count * 4);
    float *out = malloc(count * 4);
    memcpy(out, b.data + head, count * 4);
    tk_buf_free(&b);
    return out;
}

static void load(model *m, const char *root, const char *name) {
    char path[512];
    const bool gguf = strstr(root, "gguf") != NULL;
    snprintf(m->name, sizeof m->name, "%.240s%s", name, gguf ? ".gguf" : "");
    snprintf(path, sizeof path, "%s/%s%s", root, name, gguf ? "/model.gguf" : "");
    must(tk_modelfile_open(&m->file, path, NULL), name);
    snprintf(path, sizeof path, "%s/%s/tokens.json", root, name);
    json_t *ids = json_load_file(path, 0, NULL), *id;
    size_t i;
    assert_non_null(ids);
    json_array_foreach(ids, i, id) m->tokens[i] = (int32_t)json_integer_value(id);
    m->n = (int)json_array_size(ids), m->vocab = tk_modelfile_config(m->file)->n_vocab;
    json_decref(ids);
    snprintf(path, sizeof path, "%s/%s/logits.npy", root, name);
    m->truth = read_npy(path, (size_t)m->n * (size_t)m->vocab);
}

/* Calls fn for each model of these folders, or for those named by $TOKAMAK_TEST_MODEL. */
static void each_model(void fn(model *m)) {
    static const char *const roots[] = { "tests/data/hf", "tests/data/families", "tests/data/families_gguf",
                                         "tests/data/quant" };
    const char *only = getenv("TOKAMAK_TEST_MODEL");
    int seen = 0;
    for (size_t i = 0; i < TK_COUNT(roots); i++) {
        DIR *d = opendir(roots[i]);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.' || (only && strcmp(only, e->d_name) != 0)) continue;
            model m = { 0 };
            load(&m, roots[i], e->d_name);
            fn(&m);
            tk_modelfile_free(m.file), free(m.truth);
            seen++;
        }
        closedir(d);
    }
    assert_true(seen >= (only ? 1 : 60));
}

static tk_engine *open_engine(const model *m, tk_engine_options o) {
    tk_engine *e;
    if (!o.picks) o.picks = m->n;
    if (!o.threads) o.threads = 1;
    if (!o.reference) o.device = device;
    must(tk_engine_new(&e, m->file, &o), m->name);
    return e;
}

/* Logits of the whole text, fed in chunks of `chunk`, beside `others` sequences of other lengths. Caller
 * frees. */
static float *logits_of(const model *m, tk_engine_options o, int chunk, int others) {
    o.seqs = 1 + others, o.picks = o.chunk = (1 + others) * m->n;
    o.ctx = m->n; /* longrope's factors are those of this length, as transformers' are */
    tk_engine *e = open_engine(m, o);
    float *out = malloc((size_t)m->n * (size_t)m->vocab * sizeof *out);
    enum { MOST = 64 };
    int seq[MOST], done[MOST] = { 0 };
    for (int k = 0; k <= others; k++) must(tk_seq_new(e, &seq[k]), "sequence");
    int32_t shifted[MOST][128];
    for (int k = 0; k <= others; k++)
        for (int i = 0; i < m->n; i++) shifted[k][i] = (m->tokens[i] + 7 * k) % m->vocab;
    for (int at = 0; at < m->n;) {
        tk_step_item items[MOST];
        int n = 0, before = 0;
        for (int k = others; k >= 0; k--) { /* the one that counts goes last, behind the others' tokens */
            int part = TK_MIN(k ? 1 + (chunk + 3 * k) % 5 : chunk, m->n - done[k]);
            if (part < 1) continue;
            items[n++] = (tk_step_item){ seq[k], shifted[k] + done[k], part, k ? part / 2 : part };
            if (k) before += part / 2;
            done[k] += part;
        }
        const float *l;
        must(tk_engine_step(e, items, n, &l), m->name);
        memcpy(out + (size_t)at * (size_t)m->vocab, l + (size_t)before * (size_t)m->vocab,
               (size_t)(done[0] - at) * (size_t)m->vocab * sizeof *out);
        at = done[0];
    }
    tk_engine_free(e);
    return out;
}

/* Has a layer weights that are not plain numbers? */
static bool quantized(const model *m) {
    tk_weight_view v, e;
    must(tk_modelfile_weight(m->file, "q", 0, &v), "q"),
        must(tk_modelfile_weight(m->file, "e_up", 0, &e), "e_up");
    return tk_formats[v.dtype].block > 1 || (e.data && tk_formats[e.dtype].block > 1);
}

/* Are the weights plain float32, so that activations stay that too? */
static bool exact(const model *m) {
    tk_weight_view v;
    must(tk_modelfile_weight(m->file, "q", 0, &v), "q");
    return v.dtype == TK_F32;
}

static void judge(model *m) {
    static const struct {
        const char *tier;
        unsigned need, mask;
        bool reference, integers; /* integers: quantized weights meet activations of 8 bits */
    } tiers[] = {
        { "reference", 0, 0, true, false },
        { "plain", 0, ~0u, false, false },
        { "avx2", TK_CPU_AVX2, ~(unsigned)TK_CPU_AVX2, false, true },
        { "best", TK_CPU_AVX512, 0, false, true },
        { "cuda, any GPU", TK_ON_CUDA, TK_CUDA_SM90, false, false },
        { "cuda, Hopper", TK_CUDA_SM90 | TK_ON_CUDA, 0, false, false },
    };
    for (size_t t = 0; t < TK_COUNT(tiers); t++) {
        if (device ? !(tiers[t].need & TK_ON_CUDA) : (tiers[t].need & TK_ON_CUDA) != 0) continue;
        if (tiers[t].need & ~(device ? device_features : tk_cpu_features())) {
            printf("skipped: tier %s: this machine lacks it\n", tiers[t].tier);
            continue;
        }
        const bool rounded = tiers[t].need & TK_CUDA_SM90 ? !exact(m) : tiers[t].integers && quantized(m);
        tk_engine_options o = {
            .reference = tiers[t].reference, .cpu_mask = tiers[t].mask, .kv_set = true, .kv = TK_F32
        };
        float *got = logits_of(m, o, m->n, 0);
        for (int i = 0; i < m->n; i++) {
            double scale = 0, diff = 0;
            for (int v = 0; v < m->vocab; v++) {
                double want = m->truth[i * m->vocab + v], d = fabs(want - got[i * m->vocab + v]);
                scale = fmax(scale, fabs(want)), diff = fmax(diff, isfinite(d) ? d : INFINITY);
            }
            if (!(diff <= (rounded ? 0.05 : 1e-4) * scale))
                fail_msg("%s on %s: row %d is off by %g of its largest", m->name, tiers[t].tier, i,
                         diff / scale);
        }
        free(got);
    }
}

static void equals_transformers(void **state) {
    (void)state;
    each_model(judge);
}

static void same(const model *m, tk_engine_options o, int chunk, int others, const float *want,
                 const char *what) {
    float *got = logits_of(m, o, chunk, others);
    if (memcmp(got, want, (size_t)m->n * (size_t)m->vocab * sizeof *got))
        fail_msg("%s, %s: other bits", m->name, what);
    free(got);
}

static void set(tk_exec *e, tk_program *p, const char *role, int i, double x) {
    const tk_id id = tk_find(p, role, -1);
    void *data = tk_exec_data(e, id);
    if (p->values[id].dtype == TK_F64)
        ((double *)data)[i] = x;
    else if (p->values[id].dtype == TK_F32)
        ((float *)data)[i] = (float)x;
    else
        ((int32_t *)data)[i] = (int32_t)x;
}

/* Weights and constants of the file, in float32 or double */
static void fill(const model *m, tk_exec *e, const tk_program *p) {
    const tk_config *c = tk_modelfile_config(m->file);
    for (int n = 0; n < p->nnames; n++) {
        const tk_name *name = &p->names[n];
        const tk_value *value = &p->values[name->id];
        if (value->kind != TK_CONST && value->kind != TK_WEIGHT) continue;
        const size_t size = tk_formats[value->dtype].bytes, count = value->bytes / size;
        float *row = calloc(count, sizeof *row);
        tk_weight_view v = { .rows = 1, .cols = (int64_t)count };
        if (value->kind == TK_WEIGHT || value->dtype == TK_I32)
            must(tk_modelfile_weight(m->file, name->role, TK_MAX(name->layer, 0), &v), name->role);
        if (value->dtype == TK_I32) {
            memcpy(tk_exec_data(e, name->id), tk_weight_view_order(&v), value->bytes);
            v.rows = 0;
        }
        if (value->kind == TK_CONST && v.rows) tk_build_const(c, name->role, m->n, row);
        for (int64_t r = 0; value->kind == TK_WEIGHT && r < v.rows; r++)
            tk_weight_view_row(&v, r, row + r * v.cols);
        for (size_t i = 0; i < (size_t)(v.rows * v.cols); i++)
            if (size == sizeof(double))
                ((double *)tk_exec_data(e, name->id))[i] = (double)row[i];
            else
                ((float *)tk_exec_data(e, name->id))[i] = row[i];
        free(row);
    }
}

static bool ordered(void *file, const char *role, int layer) {
    tk_weight_view v;
    return tk_modelfile_weight(file, role, layer, &v) == TK_OK && tk_weight_view_order(&v);
}

/* The training form over the same text, each token the target of the one before: in float32 with the kernels
 * that serving uses, or in double with gradients. Caller frees. */
static tk_exec *training(const model *m, tk_program *p, tk_dtype real, const tk_batch *batch) {
    tk_exec *e;
    tk_build b = { .config = tk_modelfile_config(m->file), .logits = true, .tokens = m->n, .ctx = m->n };
    b.ordered = ordered, b.arg = m->file;
    static const tk_mesh alone = { .axes = 0 };
    tk_prog_init(p, real);
    must(tk_build_program(p, &b), "build");
    if (real == TK_F64) must(tk_grad(p, tk_find(p, "loss", -1), false), m->name);
    must(tk_shard(p, &alone, -1), "shard"), must(tk_choose(p, tk_cpu_features(), real == TK_F64), "choose");
    must(tk_hoist(p, TK_HOIST_ALL), "hoist"), must(tk_plan(p, true, 1), "plan"),
        must(tk_exec_new(&e, p, NULL, NULL, false), "bind");
    fill(m, e, p);
    for (int i = 0; i < m->n; i++) {
        set(e, p, "tokens", i, m->tokens[i]), set(e, p, "positions", i, i);
        set(e, p, "targets", i, m->tokens[(i + 1) % m->n]), set(e, p, "mask", i, i + 1 < m->n);
    }
    set(e, p, "count", 0, m->n - 1);
    if (real == TK_F64) set(e, p, "one", 0, 1);
    tk_exec_batch(e, batch);
    tk_exec_run(e, TK_P_LOAD), tk_exec_run(e, TK_P_FORWARD);
    return e;
}

/* The logits of the training form have the bits of serving. */
static void one_training(const model *m, const float *served) {
    const int32_t start[2] = { 0, m->n }, past[1] = { 0 };
    const tk_batch batch = { .tokens = m->n, .seqs = 1, .start = start, .past = past };
    tk_program p;
    tk_exec *e = training(m, &p, TK_F32, &batch);
    if (memcmp(tk_exec_data(e, tk_find(&p, "logits", -1)), served,
               (size_t)m->n * (size_t)m->vocab * sizeof *served))
        fail_msg("%s: the training form has other bits", m->name);
    tk_exec_free(e), tk_prog_free(&p);
}

static void one_truth(model *m) {
    static const tk_dtype types[] = { TK_F32, TK_F16, TK_BF16 };
    for (size_t k = 0; k < TK_COUNT(types); k++) {
        tk_engine_options o = { .kv_set = true, .kv = types[k] };
        float *alone = logits_of(m, o, m->n, 0);
        same(m, o, 1, 0, alone, "one token at a time");
        same(m, o, 7, 0, alone, "chunks of 7");
        same(m, o, 5, 7, alone, "in a batch of 8");
        same(m, o, 1, 7, alone, "decoding in a batch of 8");
        o.threads = 2, same(m, o, m->n, 0, alone, "2 threads"),
        same(m, o, 1, 3, alone, "2 threads, in a batch");
        o.threads = 3, same(m, o, 4, 0, alone, "3 threads");
        o.threads = 1;
        for (int page = 16; page <= 256; page *= 4)
            o.page_size = page, same(m, o, 3, 2, alone, "other pages");
        if (types[k] == TK_F32 && !device && exact(m)) one_training(m, alone);
        free(alone);
    }
}

/* Moves all weights along one random direction, with or against it; what it returns is the direction times
 * the gradients, if they are there. */
static double move(tk_exec *e, const tk_program *p, double step) {
    uint32_t noise = 9;
    double along = 0;
    for (int n = 0; n < p->nnames; n++) {
        const tk_name *name = &p->names[n];
        char role[64];
        if (p->values[name->id].kind != TK_WEIGHT) continue;
        snprintf(role, sizeof role, "grad.%s", name->role);
        const tk_id id = tk_find(p, role, name->layer);
        double *w = tk_exec_data(e, name->id);
        const double *g = id < 0 ? NULL : tk_exec_data(e, id);
        for (size_t i = 0; i < p->values[name->id].bytes / sizeof *w; i++) {
            noise = noise * 1664525u + 1013904223u;
            const double d = (double)(int32_t)noise * 0x1p-31;
            w[i] += step * d, along += g ? d * g[i] : 0;
        }
    }
    return along;
}

/* The loss that logits in double say, after they are compared with transformers' */
static double loss_of(const model *m, const double *logits) {
    double loss = 0;
    for (int i = 0; i < m->n; i++, logits += m->vocab) {
        double sum = 0, scale = 0, off = 0;
        for (int v = 0; v < m->vocab; v++) {
            const double want = (double)m->truth[i * m->vocab + v];
            sum += exp(logits[v]), scale = fmax(scale, fabs(want)), off = fmax(off, fabs(logits[v] - want));
        }
        if (!(off <= 1e-4 * scale))
            fail_msg("%s, training form: row %d is off by %g of its largest", m->name, i, off / scale);
        if (i + 1 < m->n) loss += (log(sum) - logits[m->tokens[i + 1]]) / (m->n - 1);
    }
    return loss;
}

/* The training form in double: logits against transformers, the loss against the logits, the gradients of
 * every weight against the loss itself a little further on and back. */
static void one_gradient(model *m) {
    const int32_t start[2] = { 0, m->n }, past[1] = { 0 };
    const tk_batch batch = { .tokens = m->n, .seqs = 1, .start = start, .past = past };
    const double step = 1e-6;
    tk_program p;
    tk_exec *e = training(m, &p, TK_F64, &batch);
    const double *loss = tk_exec_data(e, tk_find(&p, "loss", -1));
    const double want = loss_of(m, tk_exec_data(e, tk_find(&p, "logits", -1)));
    if (!(fabs(*loss - want) <= 1e-9 * want))
        fail_msg("%s: the loss is %.12g, by the logits %.12g", m->name, *loss, want);
    tk_exec_run(e, TK_P_BACKWARD);
    const double along = move(e, &p, step);
    tk_exec_run(e, TK_P_FORWARD);
    const double up = *loss;
    move(e, &p, -2 * step), tk_exec_run(e, TK_P_FORWARD);
    const double slope = (up - *loss) / (2 * step);
    if (!(fabs(slope - along) <= 1e-6 * fabs(slope)))
        fail_msg("%s: the loss rises by %.9g, its gradients say %.9g", m->name, slope, along);
    tk_exec_free(e), tk_prog_free(&p);
}

static void training_form(void **state) {
    (void)state;
    each_model(one_gradient);
}

static void bits_do_not_depend_on_company(void **state) {
    (void)state;
    each_model(one_truth);
}

/* Every weight type, from GGUF (tests/data/models): the same bits fused and not, alone and in company, on one
 * thread and several; plain C, which keeps activations in float32, equals the references; tiers with integer
 * activations stay within what rounding them to 8 bits costs. */
static void every_type(void **state) {
    (void)state;
    static const char *const names[] = {
        "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "gpt2"
    };
    for (size_t k = 0; k < TK_COUNT(names); k++) {
        model m = { .n = 12 };
        char path[128];
        snprintf(m.name, sizeof m.name, "gguf-%s", names[k]);
        snprintf(path, sizeof path, "tests/data/models/gguf-%s.gguf", names[k]);
        must(tk_modelfile_open(&m.file, path, NULL), path);
        m.vocab = tk_modelfile_config(m.file)->n_vocab;
        m.n = TK_MIN(m.n, tk_modelfile_config(m.file)->n_ctx);
        for (int i = 0; i < m.n; i++) m.tokens[i] = (5 * i + 3) % m.vocab;
        m.truth = logits_of(&m, (tk_engine_options){ .reference = true }, m.n, 0);
        float *plain =
            logits_of(&m, (tk_engine_options){ .cpu_mask = ~0u, .kv_set = true, .kv = TK_F32 }, m.n, 0);
        float *best = logits_of(&m, (tk_engine_options){ 0 }, m.n, 0);
        float *exact =
            logits_of(&m, (tk_engine_options){ .reference = true, .kv_set = true, .kv = TK_F32 }, m.n, 0);
        double scale = 0, off_plain = 0, off_best = 0;
        for (int i = 0; i < m.n * m.vocab; i++) {
            scale = fmax(scale, fabs((double)exact[i]));
            off_plain = fmax(off_plain, fabs((double)exact[i] - plain[i])),
            off_best = fmax(off_best, fabs((double)m.truth[i] - best[i]));
        }
        if (!(off_plain <= 1e-4 * scale)) fail_msg("%s: plain C is off by %g", m.name, off_plain / scale);
        if (!(off_best <= 0.03 * scale)) fail_msg("%s: the best tier is off by %g", m.name, off_best / scale);
        same(&m, (tk_engine_options){ .no_fuse = true }, m.n, 0, best, "unfused");
        same(&m, (tk_engine_options){ 0 }, 1, 7, best, "decoding in a batch of 8");
        same(&m, (tk_engine_options){ 0 }, 7, 0, best, "chunks of 7");
        same(&m, (tk_engine_options){ .threads = 2 }, 5, 2, best, "2 threads");
        free(plain), free(best), free(exact), free(m.truth);
        tk_modelfile_free(m.file);
    }
}

/* On a device: every weight type against the references in float32, and the same bits in company and unfused.
 * Hopper's kernels round activations to bfloat16, as the CPU's best tiers do to that or less. */
static void every_type_there(void **state) {
    (void)state;
    static const char *const names[] = {
        "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q4_k", "q6_k", "gpt2"
    };
    static const tk_dtype types[] = { TK_F32, TK_F16, TK_Q8_0 };
    enum { TYPES = TK_COUNT(types) };
    for (size_t k = 0; k < TK_COUNT(names) * TYPES * 2; k++) {
        model m = { .n = 12 };
        char path[512];
        const bool hopper = k % 2;
        tk_engine_options o = { .kv_set = true,
                                .kv = types[k / 2 % TYPES],
                                .cpu_mask = hopper ? 0 : TK_CUDA_SM90 };
        if (hopper && !(device_features & TK_CUDA_SM90)) continue;
        snprintf(m.name, sizeof m.name, "gguf-%s", names[k / 2 / TYPES]);
        snprintf(path, sizeof path, "tests/data/models/%s.gguf", m.name);
        must(tk_modelfile_open(&m.file, path, NULL), path);
        const tk_config *c = tk_modelfile_config(m.file);
        m.vocab = c->n_vocab, m.n = TK_MIN(m.n, c->n_ctx);
        for (int i = 0; i < m.n; i++) m.tokens[i] = (5 * i + 3) % m.vocab;
        if (c->head_dim % tk_formats[o.kv].block == 0) {
            float *there = logits_of(&m, o, m.n, 0);
            o.reference = true;
            float *want = logits_of(&m, o, m.n, 0);
            o.reference = false;
            double scale = 0, off = 0;
            for (int i = 0; i < m.n * m.vocab; i++)
                scale = fmax(scale, fabs((double)want[i])), off = fmax(off, fabs((double)want[i] - there[i]));
            /* a cache of fewer bits may round a number that lies between two the other way */
            const double most = hopper && !exact(&m) ? 3e-2 : o.kv == TK_F32 ? 1e-4 : 2e-2;
            print_message("%s, cache %s, %s: off by %.2g\n", m.name, tk_formats[o.kv].name,
                          hopper ? "Hopper" : "any GPU", off / scale);
            if (!(off <= most * scale))
                fail_msg("%s, cache %s: off by %g", m.name, tk_formats[o.kv].name, off / scale);
            same(&m, o, 1, 7, there, "decoding in a batch of 8");
            same(&m, o, 1, 63, there, "decoding in a batch of 64");
            same(&m, o, 5, 2, there, "chunks of 5");
            o.no_fuse = true;
            same(&m, o, m.n, 0, there, "unfused");
            free(there), free(want);
        }
        tk_modelfile_free(m.file);
    }
}

/* A text that does not fit is an error with both numbers, and nothing was computed. */
static void long_text(model *m) {
    tk_engine *e = open_engine(m, (tk_engine_options){ .ctx = 8 });
    int seq;
    must(tk_seq_new(e, &seq), "sequence");
    assert_int_equal(tk_engine_prefill(e, seq, m->tokens, 9, NULL), TK_E_LIMIT);
    assert_non_null(strstr(tk_error(), "it has 9 tokens, the context has room for 8"));
    assert_int_equal(tk_seq_length(e, seq), 0);
    must(tk_engine_prefill(e, seq, m->tokens, 8, NULL), "prefill");
    int32_t bad = m->vocab, ok = 1;
    tk_step_item item = { seq, &ok, 1, 1 };
    assert_int_equal(tk_engine_step(e, &item, 1, NULL), TK_E_LIMIT);
    tk_seq_truncate(e, seq, 3);
    item.tokens = &bad;
    assert_int_equal(tk_engine_step(e, &item, 1, NULL), TK_E_USAGE);
    assert_int_equal(tk_seq_length(e, seq), 3);
    int other;
    assert_int_equal(tk_seq_new(e, &other), TK_E_LIMIT);
    tk_engine_free(e);
}

static void limits_are_said(void **state) {
    (void)state;
    each_model(long_text);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_transformers), cmocka_unit_test(bits_do_not_depend_on_company),
        cmocka_unit_test(training_form),       cmocka_unit_test(every_type),
        cmocka_unit_test(limits_are_said),
    };
    const struct CMUnitTest there[] = {
        cmocka_unit_test(equals_transformers),
        cmocka_unit_test(bits_do_not_depend_on_company),
        cmocka_unit_test(every_type_there),
        cmocka_unit_test(limits_are_said),
    };
    const bool only_there = argc > 1 && !strcmp(argv[1], "cuda");
    int failed = only_there ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
    tk_device *gpu;
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) {
        print_message("skipped: no CUDA device\n");
        return failed;
    }
    device_features = gpu->features;
    tk_device_close(gpu);
    device = "cuda";
    return failed + cmocka_run_group_tests(there, NULL, NULL);
}
