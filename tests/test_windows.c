/* SPDX-License-Identifier: Apache-2.0 */
/* A fused kernel of a GPU gives bitwise what the kernels of its window give: every row of kernels.def that
 * serves an op of fusions.def there, so every type of weights and caches, at numbers of tokens that take each
 * of its paths. The window is read from the table; its parts are run by the rows that choose would take, on
 * the same operands. (Windows of the CPU: test_fuse; whole models fused and not: test_device.)
 *
 *     build/bin/test_windows [part of "op type" [tokens]] */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "gpu_case.h"
#include "ops/draw.h"

enum { MOST = 24 /* names of a window */, PAGE = 64, SEQS = 3 };

static const char *filter = "";
static int only; /* this number of tokens; 0: all */
static int compared;

/* ---- what a window is run with ---- */

/* Sizes by letter of the fused op, "t" apart. Dims that are not named are 1. */
typedef struct shape {
    const char *op, *dims;
    tk_attr attr;
} shape;
#define F(...) .f = { __VA_ARGS__ }
#define I(...) .i = { __VA_ARGS__ }
static const shape shapes[] = {
    { "linear3", "a208 b112 c96 k512", { { 0 }, { 0 } } },
    { "linear3", "a1024 b256 c256 k768", { { 0 }, { 0 } } },
    { "linear3", "a96 b33 c17 k160", { { 0 }, { 0 } } },
    { "linear_add", "n208 k512", { { 0 }, { 0 } } },
    { "linear_add", "n1024 k1792", { { 0 }, { 0 } } },
    { "linear_add", "n33 k96", { { 0 }, { 0 } } },
    { "linear2_glu_quant", "n208 k512", { I(TK_ACT_SILU) } },
    { "linear2_glu_quant", "n1536 k256", { I(TK_ACT_GELU_TANH) } },
    { "linear2_glu_quant", "n264 k768", { I(TK_ACT_GELU_ERF) } },
    { "linear2_glu_quant", "n40 k96", { I(TK_ACT_RELU2) } },
    { "linear2_glu_quant", "n128 k256", { F(1, 1), I(TK_ACT_GELU_QUICK) } },
    { "norm_quant", "k64", { F(1e-5f) } },
    { "norm_quant", "k576", { F(1e-5f) } },
    { "norm_quant", "k1000", { F(1e-6f) } },
    { "norm_quant", "k4096", { F(1e-5f) } },
    { "norm_quant", "k20000", { F(1e-5f) } },
    { "add_norm_quant", "k576", { F(1e-5f) } },
    { "add_norm_quant", "k4096", { F(1e-5f) } },
    { "add_norm", "k64", { F(1e-5f) } },
    { "add_norm", "k577", { F(1e-5f) } },
    { "add_norm", "k4096", { F(1e-5f) } },
    { "add_norm", "k16384", { F(1e-5f) } },
    { "glu_quant", "k96", { I(TK_ACT_SILU) } },
    { "glu_quant", "k1536", { F(0.7f, 0.5f), I(TK_ACT_SILU) } },
    { "glu_quant", "k333", { I(TK_ACT_GELU_TANH) } },
    { "glu_quant", "k64", { I(TK_ACT_RELU) } },
    { "bias_act", "n37", { I(TK_ACT_GELU_ERF) } },
    { "bias_act", "n1024", { I(TK_ACT_GELU_TANH) } },
    { "bias_act", "n4096", { I(TK_ACT_SILU) } },
    { "rope_kvput", "g3 r3 d64 z32", { F(1), I(TK_ROPE_HALF) } },
    { "rope_kvput", "g2 r4 d128 z64", { F(1), I(TK_ROPE_INTERLEAVED) } },
    { "rope_kvput", "g5 r1 d96 z24", { F(1.25f), I(TK_ROPE_HALF) } },
    { "rope_kvput", "g1 r2 d256 z128", { F(1), I(TK_ROPE_HALF) } },
    { "rope_kvput", "g1 r7 d40 z20", { F(1), I(TK_ROPE_INTERLEAVED) } },
    { "attn_paged_quant", "g3 r3 d64", { F(0.125f) } },
    { "attn_paged_quant", "g2 r4 d128", { F(0.09f) } },
    { "attn_paged_quant", "g1 r5 d256", { F(0.06f) } },
    { "attn_paged_quant", "g2 r1 d96", { F(0.1f) } },
    { "attn_paged_quant", "g1 r2 d40", { F(0.16f) } },
    { "attn_paged_quant", "g2 r2 d128", { F(0.3f, 20), I(70) } },
    { "attn_paged_quant", "g3 r2 d64", { F(0.125f, 0, 8) } },
};
/* Tokens; attention deals them out to SEQS sequences with these many keys before */
static const int steps[] = { 1, 2, 3, 8, 16, 17, 33, 64, 65, 130, 257 }, before[SEQS] = { 1030, 0, 77 };

/* ---- names of a window and what they hold ---- */

typedef struct value {
    char name[8];
    tk_dtype type;
    int n; /* dims */
    int64_t dim[4];
    size_t bytes;
    void *there;
} value;
typedef struct table {
    value v[MOST];
    int n;
} table;

static value *find(table *t, const char *name) {
    for (int i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].name, name)) return &t->v[i];
    return NULL;
}

static value *add(table *t, const char *name, tk_dtype type, int n, const int64_t *dim) {
    assert_true(t->n < MOST);
    value *v = &t->v[t->n++];
    *v = (value){ .type = type, .n = n };
    snprintf(v->name, sizeof v->name, "%s", name);
    int64_t rows = 1;
    for (int i = 0; i < n; i++) v->dim[i] = dim[i], rows *= i < n - 1 ? dim[i] : 1;
    if (type == TK_I32)
        v->bytes = (size_t)(rows * dim[n - 1]) * 4;
    else if (!tk_format_size(type, rows, dim[n - 1], &v->bytes))
        v->bytes = 0;
    return v;
}

static void room(value *v) {
    if (!v->there) must(gpu->take(gpu, v->bytes + 64, &v->there));
}

static void release(table *t) {
    for (int i = 0; i < t->n; i++)
        if (t->v[i].there) gpu->give(gpu, t->v[i].there);
}

static bool one_dim(char letter) { return strchr("tgrdv", letter); }

/* Binds the letters of an operand to a value's dims: those of one dim, and at most one that takes what is
 * left. */
static void bind(tk_dim dim[26], const char *letters, const value *v) {
    const int left = v->n - (int)strlen(letters);
    for (int i = 0, at = 0; letters[i]; i++) {
        int64_t size = v->dim[at++];
        for (int more = left; more > 0 && !one_dim(letters[i]); more--) size *= v->dim[at++];
        dim[letters[i] - 'a'] = (tk_dim){ size, 0, size };
        if (at == v->n) break;
    }
}

/* The row that choose would take: the last that fits */
static const tk_kernel_row *row_of(int op, unsigned have, tk_dtype act, tk_dtype weight, tk_dtype out) {
    for (int i = tk_nkernels - 1; i >= 0; i--) {
        const tk_kernel_row *r = &tk_kernels[i];
        if (r->op == op && tk__able(r->needs, have) && (r->act == TK_NODTYPE || r->act == act) &&
            (r->weight == TK_NODTYPE || weight == TK_NODTYPE || r->weight == weight) &&
            (r->out == TK_NODTYPE || out == TK_NODTYPE || r->out == out))
            return r;
    }
    return NULL;
}

static void call(const tk_kernel_row *row, int op, const value *const *operand, const tk_attr *attr,
                 const tk_batch *batch) {
    const tk_sig *sig = &tk_op_info(op)->sig[0];
    tk_args a = { .attr = *attr, .batch = batch, .nth = 1, .stream = gpu->stream };
    for (int i = 0; i < sig->nin + sig->nout; i++) {
        if (!operand[i]) continue;
        a.p[i] = operand[i]->there, a.type[i] = (uint8_t)operand[i]->type;
        bind(a.dim, sig->o[i].letters, operand[i]);
    }
    if (row->scratch) must(gpu->take(gpu, row->scratch(a.dim, 1) + 1, &a.scratch));
    row->fn[0](&a);
    must(gpu->wait(gpu));
    if (a.scratch) gpu->give(gpu, a.scratch);
}

/* ---- operands ---- */

/* Numbers in a file's format, then, for panels, packed by the GPU's own row */
static bool fill_matrix(value *v) {
    const tk_kernel_row *pack = NULL;
    const int64_t cols = v->dim[v->n - 1];
    int64_t rows = 1;
    size_t bytes;
    for (int i = 0; i < v->n - 1; i++) rows *= v->dim[i];
    for (int i = 0; i < tk_nkernels && !tk_formats[v->type].pack; i++)
        if (tk_kernels[i].op == TK_OP_pack && tk_kernels[i].out == v->type &&
            tk_formats[tk_kernels[i].act].pack)
            pack = &tk_kernels[i];
    const tk_dtype from = pack ? pack->act : v->type;
    if (!v->bytes || !tk_format_size(from, rows, cols, &bytes)) return false;
    uint8_t *file = calloc(bytes + 1, 1);
    float *line = malloc((size_t)cols * sizeof *line);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++) line[j] = pack ? 3 * number() / sqrtf((float)cols) : number();
        tk_formats[from].pack(file, line, rows, cols, i);
    }
    value plain = { .type = from, .n = 2, .dim = { rows, cols }, .bytes = bytes };
    room(&plain), room(v);
    must(gpu->put(gpu, plain.there, file, bytes));
    if (pack)
        call(pack, TK_OP_pack, (const value *[]){ &plain, v }, &(tk_attr){ { 0 }, { v->type } }, NULL);
    else
        must(gpu->move(gpu, v->there, plain.there, bytes));
    must(gpu->wait(gpu));
    gpu->give(gpu, plain.there);
    free(file), free(line);
    return true;
}

typedef struct sequences {
    int32_t start[SEQS + 1], past[SEQS], pages[SEQS * 32], slot[512], position[512];
    tk_batch b;
} sequences;

/* `tokens` dealt out: the first sequence gets most, the others one each */
static void deal(sequences *s, int tokens) {
    const int seqs = TK_MIN(tokens, SEQS), each = 32;
    *s = (sequences){ .b = { .tokens = tokens, .seqs = seqs, .max_pages = each, .page_size = PAGE } };
    s->b.start = s->start, s->b.past = s->past, s->b.pages = s->pages;
    for (int i = 0; i < seqs; i++) {
        s->start[i + 1] = s->start[i] + (i ? 1 : tokens - seqs + 1), s->past[i] = before[i];
        for (int k = 0; k < each; k++) s->pages[i * each + k] = (i * each + k) * 37 % (SEQS * each);
        for (int t = s->start[i]; t < s->start[i + 1]; t++) {
            const int at = before[i] + t - s->start[i];
            s->position[t] = at, s->slot[t] = s->pages[i * each + at / PAGE] * PAGE + at % PAGE;
        }
    }
}

static tk_batch *send_batch(const tk_batch *b) {
    void *image = malloc(tk_batch_bytes(b)), *there;
    must(gpu->take(gpu, tk_batch_bytes(b), &there));
    tk_batch_image(b, image, there);
    ((tk_batch *)image)->zeros = gpu->zeros;
    must(gpu->put(gpu, there, image, tk_batch_bytes(b)));
    free(image);
    return there;
}

/* ---- one window ---- */

static const struct {
    int op;
    const char *text;
} windows[] = {
#define FUSE(name, text) { TK_OP_##name, text },
#include "core/fusions.def"
#undef FUSE
};

static int op_named(const char *name) {
    for (int i = 0; i < TK_OPS; i++)
        if (!strcmp(tk_op_info(i)->name, name)) return i;
    fail_msg("fusions.def names no op: %s", name);
    return -1;
}

static int words(char *text, char names[][8], int most) {
    int n = 0;
    char *rest;
    for (char *w = strtok_r(text, ",", &rest); w && n < most; w = strtok_r(NULL, ",", &rest))
        snprintf(names[n++], 8, "%s", w);
    return n;
}

/* The dtype that a part's result has */
static tk_dtype made(int op, const value *first, tk_dtype weight) {
    if (op == TK_OP_quant) return TK_BF16;
    if (op == TK_OP_kvput) return weight;
    return op == TK_OP_linear || op == TK_OP_attn_paged ? TK_F32 : first->type;
}

/* Runs the parts of a window; results are added to the table. State goes from ck, cv to nk, nv in the same
 * storage. */
static bool run_parts(const char *text, table *t, unsigned have, tk_dtype weight, const tk_attr *attr,
                      const tk_batch *batch) {
    char copy[160], results[64], name[24], inputs[64];
    snprintf(copy, sizeof copy, "%s", text);
    char *rest;
    for (char *part = strtok_r(copy, " ", &rest); part; part = strtok_r(NULL, " ", &rest)) {
        char in[8][8], out[4][8];
        if (sscanf(part, "%63[^=]=%23[^(](%63[^)])", results, name, inputs) != 3)
            fail_msg("fusions.def: %s", part);
        const int op = op_named(name), nin = words(inputs, in, 8), nout = words(results, out, 4);
        const tk_sig *sig = &tk_op_info(op)->sig[0];
        const value *operand[TK_MAX_OPERANDS] = { 0 };
        tk_dim dim[26] = { { 0 } };
        assert_int_equal(nin, sig->nin), assert_int_equal(nout, sig->nout);
        for (int i = 0; i < nin; i++) {
            operand[i] = find(t, in[i]);
            assert_non_null(operand[i]);
            bind(dim, sig->o[i].letters, operand[i]);
        }
        const tk_dtype type = made(op, operand[0], weight);
        for (int i = 0; i < nout; i++) {
            if (i && op != TK_OP_kvput) break; /* statistics that nobody reads */
            value *v;
            if (op == TK_OP_kvput) {
                const value *old = operand[3 + i];
                v = add(t, out[i], type, old->n, old->dim);
                v->there = old->there;
            } else if (operand[0]->n > (int)strlen(sig->o[nin].letters)) { /* dims that one letter takes */
                v = add(t, out[i], type, operand[0]->n, operand[0]->dim);
            } else {
                int64_t size[4];
                const char *letters = sig->o[nin].letters;
                for (int k = 0; letters[k]; k++) size[k] = dim[letters[k] - 'a'].n;
                v = add(t, out[i], type, (int)strlen(letters), size);
            }
            room(v);
            operand[nin + i] = v;
        }
        const bool matrix = op == TK_OP_linear || op == TK_OP_kvput || op == TK_OP_attn_paged;
        const tk_kernel_row *row = row_of(op, have, operand[0]->type, matrix ? weight : TK_NODTYPE, type);
        if (!row) return false;
        call(row, op, operand, attr, batch);
    }
    return true;
}

static bool is_matrix(const char *name) { return (name[0] == 'w' && name[1]) || name[0] == 'c'; }

/* Inputs of the fused op; false where its formats have no such sizes */
static bool make_inputs(table *t, const tk_kernel_row *row, const int64_t size[26], const sequences *s) {
    const tk_sig *sig = &tk_op_info(row->op)->sig[0];
    const bool products = row->weight != TK_NODTYPE;
    for (int i = 0; i < sig->nin; i++) {
        const tk_operand *o = &sig->o[i];
        int64_t dim[4];
        const int n = (int)strlen(o->letters);
        const bool integer = !strcmp(o->letters, "t") && (o->name[0] == 'i' || o->name[0] == 'p');
        for (int k = 0; k < n; k++) dim[k] = size[o->letters[k] - 'a'];
        const bool matrix = products && (is_matrix(o->name) || (o->name[0] == 'w' && n == 2));
        const bool plain = n == 1 || !strcmp(o->name, "h"); /* vectors, and residual sums */
        value *v = add(t, o->name,
                       integer  ? TK_I32
                       : matrix ? row->weight
                       : plain  ? TK_F32
                                : row->act,
                       n, dim);
        if (integer) {
            room(v);
            must(gpu->put(gpu, v->there, o->name[0] == 'i' ? s->slot : s->position, v->bytes));
        } else if (!fill_matrix(v)) {
            return false;
        }
        if (!strcmp(o->name, "f")) { /* frequencies */
            float *f = malloc(v->bytes);
            for (int64_t k = 0; k < dim[0]; k++) f[k] = expf(-9.2f * (float)k / (float)dim[0]);
            must(gpu->put(gpu, v->there, f, v->bytes));
            free(f);
        }
    }
    return true;
}

/* The fused kernel on the same inputs against the values of the window. Caches are written anew, from a copy.
 */
static void compare(const tk_kernel_row *row, table *t, table *caches, const tk_attr *attr,
                    const tk_batch *batch, const char *text) {
    const tk_sig *sig = &tk_op_info(row->op)->sig[0];
    const value *operand[TK_MAX_OPERANDS] = { 0 };
    table out = { 0 };
    for (int i = 0; i < sig->nin; i++) {
        value *copy = find(caches, sig->o[i].name);
        operand[i] = copy ? copy : find(t, sig->o[i].name);
    }
    for (int i = 0; i < sig->nout; i++) {
        const value *want = find(t, sig->o[sig->nin + i].name);
        value *v = add(&out, want->name, want->type, want->n, want->dim);
        const value *old =
            caches->n && v->name[0] == 'n' ? find(caches, v->name[1] == 'k' ? "ck" : "cv") : NULL;
        if (old) {
            v->there = old->there;
        } else {
            room(v);
            uint8_t *poison = malloc(v->bytes);
            memset(poison, 0xff, v->bytes);
            must(gpu->put(gpu, v->there, poison, v->bytes));
            free(poison);
        }
        operand[sig->nin + i] = v;
    }
    call(row, row->op, operand, attr, batch);
    for (int i = 0; i < out.n; i++) {
        const value *v = &out.v[i], *w = find(t, v->name);
        uint8_t *got = malloc(v->bytes), *want = malloc(v->bytes);
        must(gpu->get(gpu, got, v->there, v->bytes)), must(gpu->get(gpu, want, w->there, w->bytes));
        for (size_t k = 0; k < v->bytes; k++)
            if (got[k] != want[k]) fail_msg("%s: %s differs at byte %zu of %zu", text, v->name, k, v->bytes);
        free(got), free(want);
        if (!caches->n || v->name[0] != 'n') gpu->give(gpu, v->there);
    }
}

/* The window of a row at one shape and number of tokens. False: formats or rows are not there. */
static bool try_window(const tk_kernel_row *row, const char *window, const shape *c, int tokens,
                       unsigned have) {
    int64_t size[26];
    char text[128];
    table t = { 0 }, caches = { 0 };
    sequences s;
    for (int i = 0; i < 26; i++) size[i] = 1;
    for (const char *d = c->dims; *d; d++)
        if (isalpha((unsigned char)*d)) size[*d - 'a'] = strtol(d + 1, NULL, 10);
    size['t' - 'a'] = tokens, size['p' - 'a'] = SEQS * 32, size['s' - 'a'] = PAGE;
    deal(&s, tokens);
    snprintf(text, sizeof text, "%s %s", tk_op_info(row->op)->name,
             tk_formats[row->weight == TK_NODTYPE ? row->act : row->weight].name);
    if (!strstr(text, filter) || (only && only != tokens)) return true;
    snprintf(text + strlen(text), sizeof text - strlen(text), ", %d tokens (%s)", tokens, c->dims);
    bool good = make_inputs(&t, row, size, &s);
    for (int i = 0; i < 2 && good && row->op == TK_OP_rope_kvput; i++) {
        const value *old = find(&t, i ? "cv" : "ck");
        value *copy = add(&caches, old->name, old->type, old->n, old->dim);
        room(copy);
        must(gpu->move(gpu, copy->there, old->there, old->bytes));
    }
    tk_batch *batch = send_batch(&s.b);
    if (good) good = run_parts(window, &t, have, row->weight, &c->attr, batch);
    compared += good;
    if (good) compare(row, &t, &caches, &c->attr, batch, text);
    gpu->give(gpu, batch);
    for (int i = 0; i < t.n; i++) /* the new caches lie in the old ones' storage */
        if (row->op == TK_OP_rope_kvput && t.v[i].name[0] == 'n') t.v[i].there = NULL;
    release(&t), release(&caches);
    return good;
}

/* draw_note against draw and note, any row of these: ids and what was seen, over several tokens of each
 * sequence */
static void draws(void **unused) {
    enum { ROWS = 5, VOCAB = 40000, TURNS = 4 };
    const tk_kernel_row *both =
        gpu ? row_of(TK_OP_draw_note, gpu->features, TK_F32, TK_NODTYPE, TK_I32) : NULL;
    (void)unused;
    if (!both) return;
    const tk_kernel_row *draw = row_of(TK_OP_draw, gpu->features & ~(unsigned)TK_CUDA_SM90, TK_F32,
                                       TK_NODTYPE, TK_I32),
                        *note = row_of(TK_OP_note, gpu->features, TK_I32, TK_NODTYPE, TK_I32);
    const size_t bytes = (size_t)ROWS * VOCAB * 4;
    float *x = malloc(bytes);
    int32_t *seen[2] = { calloc(1, bytes), calloc(1, bytes) }, id[2][ROWS];
    tk_draw how[ROWS];
    tk_args a = { .nth = 1, .stream = gpu->stream }, n = a;
    a.dim['o' - 'a'].n = n.dim['o' - 'a'].n = ROWS, a.dim['v' - 'a'].n = n.dim['v' - 'a'].n = VOCAB;
    for (int i = 0; i < 4; i++) must(gpu->take(gpu, i == 1 ? sizeof how : bytes, &a.p[i]));
    must(gpu->take(gpu, bytes, &n.p[2])), must(gpu->take(gpu, sizeof id[0], &a.p[4]));
    must(gpu->take(gpu, draw->scratch(a.dim, 1) + 1, &a.scratch));
    void *const seen_there[2] = { a.p[3], n.p[2] };
    for (int i = 0; i < ROWS * VOCAB; i++) x[i] = 3 * number(), seen[0][i] = i % 11 ? 0 : i % 3;
    must(gpu->put(gpu, a.p[0], x, bytes));
    for (int i = 0; i < 2; i++) must(gpu->put(gpu, seen_there[i], seen[0], bytes));
    for (int i = 0; i < ROWS * VOCAB; i++) x[i] = i % 17 ? 0 : number();
    must(gpu->put(gpu, a.p[2], x, bytes));
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < ROWS; i++)
            how[i] = (tk_draw){ i == 1 ? 0 : 0.9f,
                                i == 2 ? 0.8f : 1,
                                i == 3 ? 0.01f : 0,
                                i == 4 ? 50 : 0,
                                { 7, (uint32_t)i },
                                { (uint32_t)turn, 0 },
                                1.2f,
                                0.3f,
                                0.2f,
                                i == 2 ? -1 : ROWS - 1 - i };
        must(gpu->put(gpu, a.p[1], how, sizeof how));
        a.p[3] = seen_there[0], draw->fn[0](&a);
        n.p[0] = a.p[4], n.p[1] = a.p[1], n.p[2] = n.p[3] = seen_there[0], note->fn[0](&n);
        must(gpu->get(gpu, id[0], a.p[4], sizeof id[0]));
        a.p[3] = a.p[5] = seen_there[1], both->fn[0](&a);
        must(gpu->get(gpu, id[1], a.p[4], sizeof id[1]));
        for (int i = 0; i < 2; i++) must(gpu->get(gpu, seen[i], seen_there[i], bytes));
        assert_memory_equal(id[0], id[1], sizeof id[0]);
        assert_memory_equal(seen[0], seen[1], bytes);
    }
    a.p[5] = NULL;
    for (int i = 0; i < 5; i++) gpu->give(gpu, i == 3 ? seen_there[0] : a.p[i]);
    gpu->give(gpu, seen_there[1]), gpu->give(gpu, a.scratch), free(x), free(seen[0]), free(seen[1]);
}

static void every_row(void **unused) {
    int rows = 0;
    (void)unused;
    for (int i = 0; i < tk_nkernels && gpu; i++) {
        const tk_kernel_row *r = &tk_kernels[i];
        const char *window = NULL;
        for (size_t w = 0; w < TK_COUNT(windows); w++)
            if (windows[w].op == r->op) window = windows[w].text;
        if (!window || !tk__able(r->needs, gpu->features) || r->op == TK_OP_draw_note) continue;
        int done = 0;
        for (size_t c = 0; c < TK_COUNT(shapes); c++) {
            if (strcmp(shapes[c].op, tk_op_info(r->op)->name)) continue;
            for (size_t k = 0; k < TK_COUNT(steps); k++)
                done += try_window(r, window, &shapes[c], steps[k], gpu->features);
            const unsigned portable =
                gpu->features & ~(unsigned)TK_CUDA_SM90; /* rows for any GPU among their own */
            if (tk__able(r->needs, portable) && portable != gpu->features)
                try_window(r, window, &shapes[c], 3, portable);
        }
        if (!done) fail_msg("%s: no shape fits", r->name);
        rows++;
    }
    print_message("%d rows of fused kernels, %d windows\n", rows, compared);
    if (gpu && !compared) fail_msg("no window is named like '%s' with %d tokens", filter, only);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_row), cmocka_unit_test(draws) };
    if (argc > 1) filter = argv[1];
    if (argc > 2) only = atoi(argv[2]);
    if (tk_device_open(&gpu, "cuda", false) != TK_OK) print_message("skipped: no CUDA device\n");
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tk_device_close(gpu);
    return failed;
}
