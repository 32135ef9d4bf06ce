/* SPDX-License-Identifier: Apache-2.0 */
/* See opcase.h. The signatures are parsed again here, independently of src/core, so that both parsers must
 * agree on what ops.def means. */
#include <ctype.h>
#include <time.h>

#include "opcase.h"
#include "ops/draw.h"

/* ---- random numbers ---- */

uint32_t rng_word(rng *r) {
    uint32_t word[4], counter[4] = { r->count++ };
    tk_philox(word, r->key, counter);
    return word[0];
}

int rng_below(rng *r, int n) { return (int)(rng_word(r) % (uint32_t)n); }

double rng_gauss(rng *r) {
    double u = (rng_word(r) + 0.5) * 0x1p-32, v = rng_word(r) * 0x1p-32;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

uint64_t test_seed(void) {
    static uint64_t seed;
    if (!seed) {
        const char *text = getenv("TOKAMAK_TEST_SEED");
        seed = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
        print_message("TOKAMAK_TEST_SEED=%llu\n", (unsigned long long)seed);
    }
    return seed;
}

/* ---- the op table ---- */

static void parse_signature(char *text, signature *sig) {
    bool outputs = false;
    char *state = NULL;
    for (char *token = strtok_r(text, " ", &state); token; token = strtok_r(NULL, " ", &state)) {
        operand o = { 0 };
        if (!strcmp(token, "->")) {
            outputs = true;
            continue;
        }
        if (sscanf(token, "%7[^=:]=%*[a-z](%7[a-z])", o.name, o.made_of) != 2)
            sscanf(token, "%7[^=:]:%7[A-Za-z]", o.name, o.letters);
        for (char *s = o.letters; *s; s++) *s = (char)tolower((unsigned char)*s);
        sig->o[sig->nin + sig->nout] = o;
        outputs ? sig->nout++ : sig->nin++;
    }
}

static void parse_op(op_info *op, const char *forward, const char *adjoints) {
    char text[256], *state = NULL;
    snprintf(text, sizeof text, "%s", forward);
    parse_signature(text, &op->sig[0]);
    snprintf(text, sizeof text, "%s", adjoints);
    for (char *part = strtok_r(text, ";", &state); part; part = strtok_r(NULL, ";", &state)) {
        if (strstr(part, "->"))
            parse_signature(part, &op->sig[++op->adjoints]);
        else
            sscanf(part, " %7[a-z]=%7[a-z]", op->alias[op->aliases][0], op->alias[op->aliases][1]),
                op->aliases++;
    }
}

#define FUNCTIONS_0(name, type)                                                                              \
    { name##_ref_##type }
#define FUNCTIONS_1(name, type)                                                                              \
    { name##_ref_##type, name##_adj1_ref_##type }
#define FUNCTIONS_2(name, type)                                                                              \
    { name##_ref_##type, name##_adj1_ref_##type, name##_adj2_ref_##type }
#define FUNCTIONS_3(name, type)                                                                              \
    { name##_ref_##type, name##_adj1_ref_##type, name##_adj2_ref_##type, name##_adj3_ref_##type }
static const struct {
    const char *name;
    tk_kernel *ref[2][4];
} references[] = {
#define REF(name, n) { #name, { FUNCTIONS_##n(name, f32), FUNCTIONS_##n(name, f64) } },
#include "ops/refs.def"
#undef REF
};

const op_info *op_table(int *count) {
    enum { KEEP = OP_KEEP, STATE = OP_STATE, COMM = OP_COMM, PASS = OP_PASS };
    static const struct {
        const char *name, *forward, *adjoints;
        unsigned flags;
    } rows[] = {
#define OP(name, forward, adjoints, flops, flags) { #name, forward, adjoints, flags },
#include "core/ops.def"
#undef OP
    };
    static op_info ops[TK_COUNT(rows)];
    for (size_t i = 0; i < TK_COUNT(rows) && !ops[i].name; i++) {
        ops[i].name = rows[i].name, ops[i].flags = rows[i].flags;
        parse_op(&ops[i], rows[i].forward, rows[i].adjoints);
        for (size_t j = 0; j < TK_COUNT(references); j++)
            if (!strcmp(references[j].name, rows[i].name))
                memcpy(ops[i].ref, references[j].ref, sizeof ops[i].ref);
    }
    if (count) *count = (int)TK_COUNT(rows);
    return ops;
}

const op_info *op_find(const char *name) {
    int count;
    const op_info *ops = op_table(&count);
    for (int i = 0; i < count; i++)
        if (!strcmp(ops[i].name, name)) return &ops[i];
    fail_msg("no op %s", name);
    return NULL;
}

/* ---- instances ---- */

tensor *instance_find(instance *in, const char *name) {
    for (int i = 0; i < in->n; i++)
        if (!strcmp(in->t[i].name, name)) return &in->t[i];
    fail_msg("%s: no operand %s", in->text, name);
    return NULL;
}

static tensor tensor_new(const char *name, const char *letters, const tk_dim dim[26]) {
    tensor t = { .rows = 1, .cols = 1 };
    snprintf(t.name, sizeof t.name, "%s", name);
    snprintf(t.letters, sizeof t.letters, "%s", letters);
    for (const char *s = letters; *s; s++) s[1] ? (t.rows *= dim[*s - 'a'].n) : (t.cols = dim[*s - 'a'].n);
    t.v = calloc((size_t)(t.rows * t.cols) + 1, sizeof *t.v);
    return t;
}

static bool named(const tensor *t, const instance *in, const char *op, const char *name) {
    return !strcmp(in->op->name, op) && !strcmp(t->name, name);
}

/* Different numbers below `experts` in each row, in any order */
static void fill_experts(tensor *t, int experts, rng *r) {
    for (int64_t i = 0; i < t->rows * t->cols; i++) {
        const int64_t first = i / t->cols * t->cols;
        bool taken = true;
        while (taken) {
            t->v[i] = rng_below(r, experts), taken = false;
            for (int64_t j = first; j < i; j++) taken |= t->v[j] == t->v[i];
        }
    }
}

/* Rows of op draw: greedy, or any mixture of cuts */
static void fill_draws(tensor *t, const instance *in, rng *r) {
    static const float temps[] = { 1, 0, 0.7f, 3 }, top_ps[] = { 1, 0.9f, 0.3f, 0 },
                       min_ps[] = { 0, 0, 0.05f, 1 };
    static const int top_ks[] = { 0, 0, 1, 7 };
    for (int64_t row = 0; row < t->rows; row++) {
        const tk_draw how = {
            temps[rng_below(r, 4)],       top_ps[rng_below(r, 4)],
            min_ps[rng_below(r, 4)],      top_ks[rng_below(r, 4)],
            { rng_word(r), rng_word(r) }, { (uint32_t)rng_below(r, 9000), 0 },
            rng_below(r, 2) ? 1.3f : 1,   rng_below(r, 2) ? 0.4f : 0,
            rng_below(r, 2) ? -0.3f : 0,  row < in->dim['q' - 'a'].n && rng_below(r, 3) ? (int32_t)row : -1
        };
        int32_t word[sizeof how / 4];
        memcpy(word, &how, sizeof word);
        for (size_t i = 0; i < TK_COUNT(word); i++) t->v[row * t->cols + (int64_t)i] = word[i];
    }
}

/* Integer operands, by meaning; false when the tensor holds real numbers */
static bool fill_integers(tensor *t, instance *in, rng *r) {
    const int64_t n = t->rows * t->cols;
    const int N = (int)in->dim['v' - 'a'].N, slots = (int)(in->dim['p' - 'a'].n * in->dim['s' - 'a'].n);
    if (named(t, in, "permute", "i")) return fill_experts(t, (int)t->cols, r), true;
    if (!strncmp(in->op->name, "experts", 7) && !strcmp(t->name, "i"))
        return fill_experts(t, (int)in->dim['x' - 'a'].n, r), true;
    if ((named(t, in, "draw", "s") || named(t, in, "note", "s"))) return fill_draws(t, in, r), true;
    for (int64_t i = 0; i < n; i++) {
        if (named(t, in, "embed", "i"))
            t->v[i] = rng_below(r, N);
        else if (named(t, in, "head", "y"))
            t->v[i] = rng_below(r, 6) ? rng_below(r, N) : -100;
        else if (named(t, in, "pick", "u"))
            t->v[i] = rng_below(r, (int)in->dim['t' - 'a'].n);
        else if (named(t, in, "draw", "n") || named(t, in, "note", "n"))
            t->v[i] = rng_below(r, 3) ? 0 : rng_below(r, 4);
        else if (named(t, in, "note", "i"))
            t->v[i] = rng_below(r, N + 1) - 1;
        else if (named(t, in, "kvput", "i"))
            t->v[i] = i % 4 == 2 ? -1 : (double)((i * 7 + 3) % slots);
        else if (named(t, in, "rope", "p"))
            t->v[i] = i % 3 ? rng_below(r, 4000) : (double)i;
        else if (named(t, in, "dropout", "s") || named(t, in, "dropout", "p"))
            t->v[i] = rng_below(r, 50);
        else if (named(t, in, "attn", "s"))
            for (int s = 0; s < in->batch.seqs; s++) t->v[i] = i >= in->start[s] ? s : t->v[i];
        else if (!named(t, in, "attn_paged", "i"))
            return false;
    }
    return true;
}

static void fill(tensor *t, instance *in, rng *r) {
    const int64_t n = t->rows * t->cols;
    static const double hyper[] = { 0.01, 0.9, 0.95, 1e-8, 0.1, 1.0, 0.19, 0.0975 };
    t->integer = fill_integers(t, in, r);
    if (named(t, in, "route", "l")) { /* far enough apart that no small step changes the choice */
        fill_experts(t, 8 * (int)t->cols, r);
        for (int64_t i = 0; i < n; i++) t->v[i] = (float)(0.05 * t->v[i]);
        return;
    }
    for (int64_t i = 0; i < n && !t->integer; i++) {
        double v = rng_gauss(r);
        if (named(t, in, "rope", "f"))
            v = (float)pow(10000, -(double)i / (double)n);
        else if (named(t, in, "loss", "m"))
            v = (double[]){ 1, 0, 1, 0.5 }[i % 4];
        else if (named(t, in, "loss", "n"))
            v = 3;
        else if (named(t, in, "adamw", "h"))
            v = (float)hyper[i];
        else if (named(t, in, "adamw", "s"))
            v = 4;
        else if (named(t, in, "adamw", "v"))
            v = fabs(v);
        else if ((named(t, in, "act", "a") || named(t, in, "glu", "a")) && fabs(v) < 0.01)
            v = 0.5; /* ReLU has no slope at 0 */
        if (!strcmp(in->op->name, "glu") && fabs(fabs(v) - (double)in->attr.f[0]) < 0.01)
            v += 0.1; /* nor has the limit at itself */
        t->v[i] = v;
    }
}

/* "t3 v4@3/9 k7" */
static void parse_dims(instance *in, const char *text) {
    for (const char *s = text; *s;) {
        long n, first = 0, whole;
        int used = 0, letter = *s - 'a';
        assert_true(letter >= 0 && letter < 26);
        assert_int_equal(sscanf(s + 1, "%ld%n", &n, &used), 1);
        s += 1 + used, whole = n;
        if (*s == '@') {
            assert_int_equal(sscanf(s, "@%ld/%ld%n", &first, &whole, &used), 2);
            s += used;
        }
        in->dim[letter] = (tk_dim){ n, first, whole };
        while (*s == ' ') s++;
    }
}

static void make_batch(instance *in, rng *r) {
    const char *split = in->c->split, *past = in->c->past;
    tk_batch *b = &in->batch;
    const int tokens = (int)in->dim['t' - 'a'].n, pages = (int)in->dim['p' - 'a'].n;
    *b = (tk_batch){
        .tokens = tokens, .start = in->start, .past = in->past, .seed = 0x123456789abcdefull, .step = 5
    };
    for (int used; split && sscanf(split, "%d%n", &in->start[b->seqs + 1], &used) == 1; b->seqs++) {
        in->start[b->seqs + 1] += in->start[b->seqs];
        split += used;
    }
    for (int s = 0, used; past && sscanf(past, "%d%n", &in->past[s], &used) == 1; s++) past += used;
    if (!b->seqs) b->seqs = 1, in->start[1] = tokens;
    if (!pages) return;
    /* pages of all sequences: a random permutation of the cache */
    int32_t order[64];
    for (int i = 0; i < pages; i++) {
        int j = rng_below(r, i + 1);
        order[i] = order[j], order[j] = i;
    }
    b->pages = in->pages, b->page_size = (int32_t)in->dim['s' - 'a'].n, b->max_pages = pages / b->seqs;
    for (int i = 0; i < b->seqs * b->max_pages; i++) in->pages[i] = order[i];
}

/* What attn_paged reads: keys and values of every token so far, and their slots */
static void make_history(instance *in, rng *r) {
    const tk_batch *b = &in->batch;
    tk_dim dim[26];
    memcpy(dim, in->dim, sizeof dim);
    dim['t' - 'a'].n = b->start[b->seqs];
    for (int s = 0; s < b->seqs; s++) dim['t' - 'a'].n += b->past[s];
    for (int i = 0; i < 3; i++) {
        in->history[i] = tensor_new((const char *[]){ "k", "v", "i" }[i], i < 2 ? "tgd" : "t", dim);
        for (int64_t j = 0; i < 2 && j < in->history[i].rows * in->history[i].cols; j++)
            in->history[i].v[j] = rng_gauss(r);
    }
    in->history[2].integer = true;
    int64_t at = 0;
    for (int s = 0; s < b->seqs; s++)
        for (int j = 0; j < b->past[s] + b->start[s + 1] - b->start[s]; j++) {
            int slot = b->pages[s * b->max_pages + j / b->page_size] * b->page_size + j % b->page_size;
            in->history[2].v[at++] = slot;
            if (j >= b->past[s]) instance_find(in, "i")->v[b->start[s] + j - b->past[s]] = slot;
        }
}

static bool adjoint_reads(const op_info *op, const char *name) {
    for (int k = 1; k <= op->adjoints; k++)
        for (int i = 0; i < op->sig[k].nin; i++)
            if (!strcmp(op->sig[k].o[i].name, name)) return true;
    for (int k = 0; k < op->aliases; k++)
        if (!strcmp(op->alias[k][1], name)) return true;
    return false;
}

static void fill_made(instance *in, const operand *o, tensor *t) {
    const tensor *x = instance_find(in, o->made_of);
    for (int64_t i = 0; i < x->rows * x->cols; i++) t->v[0] = fmax(t->v[0], fabs(x->v[i]));
}

void instance_make(instance *in, const op_case *c, rng *r) {
    memset(in, 0, sizeof *in);
    in->op = op_find(c->op), in->c = c, in->attr = c->attr;
    snprintf(in->text, sizeof in->text, "%s %s [%s]", c->op, c->dims, c->split ? c->split : "");
    parse_dims(in, c->dims);
    make_batch(in, r);
    const signature *sig = &in->op->sig[0];
    for (int i = 0; i < sig->nin + sig->nout; i++) {
        tensor *t = &in->t[in->n++];
        *t = tensor_new(sig->o[i].name, sig->o[i].letters, in->dim);
        if (named(t, in, "experts2", "x")) /* a token's rows are one, as quant sees them */
            t->rows = in->dim['t' - 'a'].n, t->cols = in->dim['a' - 'a'].n * in->dim['k' - 'a'].n;
        if (i < sig->nin && !sig->o[i].made_of[0]) fill(t, in, r);
        for (int64_t k = 0; named(t, in, "draw", "x") && k < t->rows * t->cols;
             k++) /* ties: some, all in a row */
            t->v[k] = k / t->cols % 3 == 1 ? rint(2 * t->v[k]) / 2 : k / t->cols % 3 == 2 ? 1.5 : t->v[k];
        t->integer |= named(t, in, "route", "i") || named(t, in, "draw", "i") || named(t, in, "note", "m");
    }
    for (int i = sig->nin; i < sig->nin + sig->nout; i++) {
        char name[12];
        snprintf(name, sizeof name, "d%s", sig->o[i].name);
        if (!adjoint_reads(in->op, name)) continue;
        tensor *t = &in->t[in->n++];
        *t = tensor_new(name, sig->o[i].letters, in->dim);
        fill(t, in, r);
    }
    for (int k = 0; k <= in->op->adjoints; k++) /* maxima, of gradients too */
        for (int i = 0; i < in->op->sig[k].nin; i++) {
            const operand *o = &in->op->sig[k].o[i];
            if (!o->made_of[0]) continue;
            bool known = false;
            for (int j = 0; j < in->n; j++) known |= !strcmp(in->t[j].name, o->name) && in->t[j].v[0] != 0;
            if (known) continue;
            if (k > 0) in->t[in->n++] = tensor_new(o->name, "", in->dim);
            fill_made(in, o, instance_find(in, o->name));
        }
    if (!strcmp(in->op->name, "attn_paged")) make_history(in, r);
}

void instance_free(instance *in) {
    for (int i = 0; i < in->n; i++) free(in->t[i].v), free(in->t[i].raw), free(in->t[i].file);
    for (int i = 0; i < 3; i++) free(in->history[i].v), free(in->history[i].file);
}

void tensor_round(tensor *t, tk_dtype type) {
    size_t bytes;
    if (t->integer || type == TK_F64) return;
    assert_true(tk_format_size(type, t->rows, t->cols, &bytes));
    void *m = calloc(1, bytes + 1);
    float *line = malloc((size_t)t->cols * sizeof *line);
    for (int64_t row = 0; row < t->rows; row++) {
        double *v = t->v + row * t->cols;
        for (int64_t i = 0; i < t->cols; i++) line[i] = (float)v[i];
        tk_formats[type].pack(m, line, t->rows, t->cols, row);
        tk_formats[type].unpack(line, m, t->rows, t->cols, row);
        for (int64_t i = 0; i < t->cols; i++) v[i] = line[i];
    }
    free(t->file), free(line);
    t->file = m, t->file_type = type;
}

void instance_forward(instance *in, bool rounded) {
    const signature *sig = &in->op->sig[0];
    op_call k = { .fn = in->op->ref[1][0] };
    op_call_types(&k, TK_F64);
    op_call_run(&k, in);
    for (int i = 0; i < sig->nout; i++) {
        tensor *t = instance_find(in, sig->o[sig->nin + i].name);
        memcpy(t->v, k.out[i], (size_t)(t->rows * t->cols) * sizeof *t->v);
        if (rounded) tensor_round(t, TK_F32);
    }
    op_call_free(&k);
}

/* ---- calls ---- */

enum { GUARD = 256, GUARD_BYTE = 0xa5, POISON = 0xff };

typedef struct guarded {
    uint8_t *all, *data, *copy;
    size_t bytes;
} guarded;

static guarded guarded_new(size_t bytes) {
    guarded g = { .bytes = bytes };
    g.all = aligned_alloc(64, tk_align(bytes + 2 * GUARD, 64));
    g.data = g.all + GUARD;
    memset(g.all, GUARD_BYTE, GUARD);
    memset(g.data, POISON, bytes);
    memset(g.data + bytes, GUARD_BYTE, GUARD);
    return g;
}

static bool guarded_intact(const guarded *g) {
    for (int i = 0; i < GUARD; i++)
        if (g->all[i] != GUARD_BYTE || g->data[g->bytes + i] != GUARD_BYTE) return false;
    return !g->copy || !memcmp(g->copy, g->data, g->bytes);
}

static void guarded_free(guarded *g) { free(g->all), free(g->copy); }

static size_t bytes_of(const tensor *t, tk_dtype type, const char *text) {
    size_t bytes;
    if (!tk_format_size(type, t->rows, t->cols, &bytes)) fail_msg("%s: %s has no size", text, t->name);
    return bytes;
}

static void write_operand(guarded *g, const tensor *t, tk_dtype type) {
    if (t->raw) {
        memcpy(g->data, t->raw, t->raw_bytes);
    } else if (t->file && t->file_type == type && tk_formats[type].block > 1) {
        memcpy(g->data, t->file, g->bytes);
    } else if (t->integer) {
        for (int64_t i = 0; i < t->rows * t->cols; i++) ((int32_t *)g->data)[i] = (int32_t)t->v[i];
    } else if (type == TK_F64) {
        memcpy(g->data, t->v, g->bytes);
    } else {
        float *line = malloc((size_t)t->cols * sizeof *line + 1);
        for (int64_t row = 0; row < t->rows; row++) {
            for (int64_t i = 0; i < t->cols; i++) line[i] = (float)t->v[row * t->cols + i];
            assert_non_null(tk_formats[type].pack);
            tk_formats[type].pack(g->data, line, t->rows, t->cols, row);
        }
        free(line);
    }
}

static double *read_operand(const guarded *g, const tensor *t, tk_dtype type) {
    const int64_t n = t->rows * t->cols;
    double *v = malloc((size_t)n * sizeof *v + 1);
    float *line = malloc((size_t)t->cols * sizeof *line + 1);
    if (type == TK_F64) memcpy(v, g->data, (size_t)n * sizeof *v);
    for (int64_t i = 0; type == TK_I32 && i < n; i++) v[i] = ((const int32_t *)g->data)[i];
    for (int64_t row = 0; type != TK_F64 && type != TK_I32 && row < t->rows; row++) {
        tk_formats[type].unpack(line, g->data, t->rows, t->cols, row);
        for (int64_t i = 0; i < t->cols; i++) v[row * t->cols + i] = line[i];
    }
    free(line);
    return v;
}

/* ---- on a device ---- */

tk_device *op_device;

static void must(tk_status s) {
    if (s != TK_OK) fail_msg("%s", tk_error());
}

static size_t guarded_size(const guarded *g) { return tk_align(g->bytes + 2 * GUARD, 64); }

/* Calls fn with the n blocks g (some may be empty) copied to the device; *where[i] points into block i or is
 * NULL. */
static void call_there(tk_kernel *fn, tk_args *a, const guarded *g, void ***where, int n) {
    tk_device *d = op_device;
    void *there[TK_MAX_OPERANDS + 1] = { 0 };
    for (int i = 0; i < n; i++) {
        if (!g[i].all) continue;
        for (int j = 0; j < i && !there[i]; j++)
            if (g[j].all == g[i].all) there[i] = there[j];
        if (!there[i]) {
            must(d->take(d, guarded_size(&g[i]), &there[i]));
            must(d->put(d, there[i], g[i].all, guarded_size(&g[i])));
        }
        if (*where[i]) *where[i] = (char *)there[i] + GUARD;
    }
    a->stream = d->stream;
    const size_t batch_bytes = tk_batch_bytes(a->batch);
    void *image = malloc(batch_bytes), *batch;
    must(d->take(d, batch_bytes, &batch));
    tk_batch_image(a->batch, image, batch);
    ((tk_batch *)image)->zeros = d->zeros;
    must(d->put(d, batch, image, batch_bytes));
    free(image);
    a->batch = batch;
    fn(a);
    must(d->wait(d));
    d->give(d, batch);
    for (int i = 0; i < n; i++) {
        bool again = false;
        for (int j = 0; j < i; j++) again |= there[j] == there[i];
        if (!there[i] || again) continue;
        must(d->get(d, g[i].all, there[i], guarded_size(&g[i])));
        d->give(d, there[i]);
    }
}

typedef struct job {
    tk_kernel *fn;
    const tk_args *args;
} job;

static void run_thread(void *arg, int ith, int nth) {
    const job *j = arg;
    tk_args a = *j->args;
    a.ith = ith, a.nth = nth;
    j->fn(&a);
}

void op_call_types(op_call *k, tk_dtype real) {
    for (int i = 0; i < TK_MAX_OPERANDS; i++) k->type[i] = real;
}

/* The tensor that operand i of the call stands for; gradients of inputs borrow the input's shape */
static tensor operand_tensor(instance *in, const operand *o, bool output) {
    if (output && o->name[0] == 'd' && in->op->sig[0].nin) {
        for (int i = 0; i < in->op->sig[0].nin; i++)
            if (!strcmp(in->t[i].name, o->name + 1)) {
                tensor t = in->t[i];
                memcpy(t.name, o->name, sizeof t.name);
                t.integer = false, t.raw = NULL;
                return t;
            }
    }
    return *instance_find(in, o->name);
}

void op_call_run(op_call *k, instance *in) {
    const signature *sig = &in->op->sig[k->adj];
    const bool state = in->op->flags & OP_STATE;
    guarded g[TK_MAX_OPERANDS] = { 0 }, scratch = { 0 };
    tensor t[TK_MAX_OPERANDS];
    tk_args a = { .attr = in->attr, .batch = &in->batch, .pool = k->pool, .nth = 1 };
    const int nth = k->pool ? tk_pool_threads(k->pool) : 1, count = sig->nin + sig->nout;
    memcpy(a.dim, in->dim, sizeof a.dim);
    for (int i = 0; i < count; i++) {
        t[i] = operand_tensor(in, &sig->o[i], i >= sig->nin && k->adj > 0);
        a.type[i] = (uint8_t)(t[i].integer ? TK_I32 : k->type[i]);
        if (i >= sig->nin && state) { /* a new version of one of the last inputs */
            g[i] = g[i - sig->nout], a.p[i] = g[i].data;
            continue;
        }
        g[i] = guarded_new(t[i].raw ? t[i].raw_bytes : bytes_of(&t[i], a.type[i], in->text));
        if (i < sig->nin) write_operand(&g[i], &t[i], a.type[i]);
        a.p[i] = i >= sig->nin && (k->skip >> (i - sig->nin) & 1) ? NULL : g[i].data;
        if (i < sig->nin && !(state && i >= sig->nin - sig->nout)) {
            g[i].copy = malloc(g[i].bytes + 1);
            memcpy(g[i].copy, g[i].data, g[i].bytes);
        }
    }
    if (k->scratch) scratch = guarded_new(k->scratch(a.dim, nth)), a.scratch = scratch.data;
    if (op_device) {
        guarded all[TK_MAX_OPERANDS + 1];
        void **where[TK_MAX_OPERANDS + 1];
        for (int i = 0; i < count; i++) all[i] = g[i], where[i] = &a.p[i];
        all[count] = scratch, where[count] = &a.scratch;
        call_there(k->fn, &a, all, where, count + 1);
    } else if (k->pool)
        tk_pool_run(k->pool, run_thread, &(job){ k->fn, &a });
    else
        k->fn(&a);
    for (int i = 0; i < count; i++) {
        if (!guarded_intact(&g[i]))
            fail_msg("%s adjoint %d: operand %s was written where it must not be", in->text, k->adj,
                     t[i].name);
        if (i < sig->nin) continue;
        const int out = i - sig->nin;
        k->out[out] = k->bare ? NULL : read_operand(&g[i], &t[i], a.type[i]);
        k->size[out] = g[i].bytes;
        k->bytes[out] = memcpy(malloc(g[i].bytes + 1), g[i].data, g[i].bytes);
    }
    if (k->scratch && !guarded_intact(&scratch)) fail_msg("%s: scratch overrun", in->text);
    for (int i = 0; i < (state ? sig->nin : count); i++) guarded_free(&g[i]);
    guarded_free(&scratch);
}

void op_call_free(op_call *k) {
    for (int i = 0; i < TK_MAX_OPERANDS; i++) {
        free(k->out[i]), free(k->bytes[i]);
        k->out[i] = NULL, k->bytes[i] = NULL;
    }
}

void instance_cache(instance *in, tk_kernel *put, tk_dtype cache, tk_dtype real) {
    tk_args a = { .attr = in->attr, .batch = &in->batch, .nth = 1 };
    guarded g[5];
    memcpy(a.dim, in->dim, sizeof a.dim);
    a.dim['t' - 'a'].n = in->history[2].cols;
    for (int i = 0; i < 3; i++) {
        a.type[i] = (uint8_t)(i == 2 ? TK_I32 : real);
        g[i] = guarded_new(bytes_of(&in->history[i], a.type[i], in->text));
        write_operand(&g[i], &in->history[i], a.type[i]);
        a.p[i] = g[i].data;
    }
    tensor *t[2] = { instance_find(in, "ck"), instance_find(in, "cv") };
    for (int i = 0; i < 2; i++) {
        t[i]->raw_bytes = bytes_of(t[i], cache, in->text);
        g[3 + i] = guarded_new(t[i]->raw_bytes);
        a.p[3 + i] = a.p[5 + i] = g[3 + i].data;
        a.type[3 + i] = a.type[5 + i] = (uint8_t)cache;
    }
    if (op_device) {
        guarded all[7] = { g[0], g[1], g[2], g[3], g[4], g[3], g[4] };
        void **where[7];
        for (int i = 0; i < 7; i++) where[i] = &a.p[i];
        call_there(put, &a, all, where, 7);
    } else {
        put(&a);
    }
    for (int i = 0; i < 2; i++) {
        free(t[i]->raw);
        t[i]->raw = aligned_alloc(64, tk_align(t[i]->raw_bytes, 64));
        memcpy(t[i]->raw, g[3 + i].data, t[i]->raw_bytes);
    }
    for (int i = 0; i < 5; i++) {
        if (!guarded_intact(&g[i])) fail_msg("%s: the cache was written where it must not be", in->text);
        guarded_free(&g[i]);
    }
}
