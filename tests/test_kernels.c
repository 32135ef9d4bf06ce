/* SPDX-License-Identifier: Apache-2.0 */
/* Every row of kernels.def that this CPU can run, forward and adjoints, against the references, at the shapes
 * of opcase_table.c; a row that fits none of them fails. Judged for each:
 *   error       against the double reference at most twice that of the float reference plus a rounding probe:
 *               what the reference moves by when every input moves by half a unit in its last place
 *   exactness   ops that only move or convert numbers agree with the float reference
 *   borders     operands lie between guards, outputs are poisoned, inputs must not change, scratch is exact
 *   NULL        an output that nobody reads may be NULL
 *   order       the same bits with 1 and 3 threads, and for a row or sequence alone as in its batch
 *   not finite  NaN and infinities come out where the reference has them, and nowhere else
 *
 *     build/bin/test_kernels [part of "op kernel" [i/n [once]]]     TOKAMAK_TEST_SEED=n, TOKAMAK_CPU=avx2
 * i/n: every n-th row from number i on; once: each case is run for its error alone; both for checkers that
 * are slow */
#include "base/panels.h"
#include "core/core.h"
#include "opcase.h"

typedef const tk_kernel_row row;

static tk_pool *pool;
static tk_device *gpu; /* NULL: none here */
static const char *filter = "";
static int part, parts = 1;
static bool once;

static bool is(const instance *in, const char *names) {
    char word[24];
    snprintf(word, sizeof word, " %s ", in->op->name);
    return strstr(names, word);
}

/* Only moves or converts: no error at all */
static bool exact(const instance *in) {
    return is(in, " pack quant pick draw note embed cast kvput zero findmax ");
}

/* ---- dtypes of operands ---- */

static bool is_weight(const instance *in, const char *name) {
    if (is(in, " linear experts experts2 embed head qlinear ")) return !strcmp(name, "w");
    if (is(in, " kvput attn_paged ")) return name[1] == 'k' || (name[1] == 'v' && name[0] != 'd');
    return false;
}

/* Statistics, scalars, vectors and gradients of weights are float32 in every row. */
static tk_dtype dtype_of(const instance *in, const signature *sig, int i, row *r, tk_dtype weight) {
    const operand *o = &sig->o[i];
    const tk_dtype act = r->act == TK_NODTYPE || r->act == TK_I32 ? TK_F32 : r->act;
    const bool forward = sig == &in->op->sig[0];
    if (is_weight(in, o->name)) return weight;
    if (strlen(o->letters) < 2 && !is(in, " add scale softcap glu act cast accum zero ")) return TK_F32;
    if (o->name[0] == 'd' && is_weight(in, o->name + 1)) return TK_F32;
    if (forward && i == sig->nin) return r->out == TK_NODTYPE ? TK_F32 : r->out;
    return act;
}

/* The last row of `op` that this CPU runs with these dtypes, needing nothing that `needs` lacks */
static row *find_row(tk_op op, tk_dtype weight, tk_dtype out, unsigned needs) {
    row *best = NULL;
    for (int i = 0; i < tk_nkernels; i++) {
        row *r = &tk_kernels[i];
        const bool fits = (weight == TK_NODTYPE || r->weight == TK_NODTYPE || r->weight == weight) &&
                          (out == TK_NODTYPE || r->out == out);
        if (r->op == op && fits && !(r->needs & ~needs)) best = r;
    }
    return best;
}

/* ---- operands in a kernel's own layout ---- */

static unsigned features(void) { return tk_cpu_features() | (gpu ? gpu->features : 0); }

/* What a tensor can hold at most in this dtype: the file format that a packed one is made from */
static tk_dtype plain_form(tk_dtype type) {
    if (tk_formats[type].pack) return type;
    row *pack = find_row(TK_OP_pack, TK_NODTYPE, type, features());
    return pack ? pack->act : TK_NODTYPE;
}

static bool has_size(const tensor *t, tk_dtype type) {
    size_t bytes;
    const tk_dtype plain = t->integer ? TK_I32 : plain_form(type);
    return plain != TK_NODTYPE && tk_format_size(plain, t->rows, t->cols, &bytes) &&
           (t->integer || tk_format_size(type, t->rows, t->cols, &bytes));
}

static void must(tk_status s) {
    if (s != TK_OK) fail_msg("%s", tk_error());
}

/* Runs a pack row, which may be one of the GPU. */
static void run_pack(row *r, tk_args *a, size_t from_bytes, size_t bytes) {
    if (!(r->needs & TK_ON_CUDA)) {
        r->fn[0](a);
        return;
    }
    tk_args there = *a;
    const size_t size[] = { from_bytes, bytes };
    there.stream = gpu->stream;
    for (int i = 0; i < 2; i++) {
        must(gpu->take(gpu, size[i] + 1, &there.p[i]));
        must(gpu->put(gpu, there.p[i], a->p[i], size[i]));
    }
    r->fn[0](&there);
    must(gpu->get(gpu, a->p[1], there.p[1], bytes));
    must(gpu->wait(gpu));
    for (int i = 0; i < 2; i++) gpu->give(gpu, there.p[i]);
}

/* Runs the pack row that makes `type`, if the format itself cannot be written. */
static void pack_operand(tensor *t, tk_dtype type) {
    size_t from_bytes, bytes;
    const tk_dtype from = plain_form(type);
    free(t->raw);
    t->raw = NULL;
    if (t->integer || tk_formats[type].pack) return;
    assert_true(tk_format_size(from, t->rows, t->cols, &from_bytes));
    assert_true(tk_format_size(type, t->rows, t->cols, &bytes));
    uint8_t *file = calloc(1, from_bytes + 1);
    float *line = malloc((size_t)t->cols * sizeof *line);
    for (int64_t i = 0; i < t->rows; i++) {
        for (int64_t j = 0; j < t->cols; j++) line[j] = (float)t->v[i * t->cols + j];
        tk_formats[from].pack(file, line, t->rows, t->cols, i);
    }
    if (t->file && t->file_type == from) memcpy(file, t->file, from_bytes);
    t->raw = aligned_alloc(64, tk_align(bytes, 64)), t->raw_bytes = bytes;
    memset(t->raw, 0xff, bytes);
    tk_args a = { .p = { file, t->raw }, .type = { (uint8_t)from, (uint8_t)type }, .nth = 1 };
    a.dim['n' - 'a'] = (tk_dim){ t->rows, 0, t->rows }, a.dim['k' - 'a'] = (tk_dim){ t->cols, 0, t->cols };
    run_pack(find_row(TK_OP_pack, TK_NODTYPE, type, features()), &a, from_bytes, bytes);
    free(file), free(line);
}

/* ---- one trial: a row, a direction, an instance ---- */

typedef struct trial {
    row *r;
    tk_kernel *fn;
    int adj;
    tk_dtype weight;
    instance *in;
    char text[256];
} trial;

/* Paged caches are written by the row's own kvput, since their layout is its own. */
static void write_cache(const trial *t, bool own) {
    if (strcmp(t->in->op->name, "attn_paged")) return;
    row *put = find_row(TK_OP_kvput, t->weight, TK_NODTYPE, t->r->needs);
    if (own)
        instance_cache(t->in, put ? put->fn[0] : kvput_ref_f32, t->weight, TK_F32);
    else
        instance_cache(t->in, kvput_ref_f64, TK_F64, TK_F64);
}

static void drop_raw(instance *in) {
    for (int i = 0; i < in->n; i++) free(in->t[i].raw), in->t[i].raw = NULL;
}

static op_call run_row(const trial *t, tk_pool *threads, unsigned skip) {
    op_call k = { .fn = t->fn, .adj = t->adj, .scratch = t->r->scratch, .pool = threads, .skip = skip };
    const signature *sig = &t->in->op->sig[t->adj];
    op_device = t->r->needs & TK_ON_CUDA ? gpu : NULL;
    write_cache(t, true);
    /* a layout of the backend's own: judged by what attn_paged reads from it */
    k.bare = !strcmp(t->in->op->name, "kvput") && (op_device || tk_formats[t->weight].block > 1);
    for (int i = 0; i < sig->nin + sig->nout; i++) {
        k.type[i] = dtype_of(t->in, sig, i, t->r, t->weight);
        for (int j = 0; i < sig->nin && j < t->in->n; j++)
            if (!strcmp(t->in->t[j].name, sig->o[i].name) && !t->in->t[j].raw)
                pack_operand(&t->in->t[j], k.type[i]);
    }
    op_call_run(&k, t->in);
    op_device = NULL;
    drop_raw(t->in);
    return k;
}

/* Rounds numbers to a plain dtype. */
static void round_numbers(double *v, int64_t n, tk_dtype type) {
    for (int64_t i = 0; i < n; i++) {
        float f = (float)v[i];
        uint8_t raw[8];
        tk_formats[type].pack(raw, &f, 1, 1, 0), tk_formats[type].unpack(&f, raw, 1, 1, 0);
        v[i] = f;
    }
}

/* The reference on plain numbers; where its output dtype can be written, it rounds to that too. */
static op_call run_reference(const trial *t, bool wide) {
    op_call k = { .fn = t->in->op->ref[wide][t->adj], .adj = t->adj };
    const signature *sig = &t->in->op->sig[t->adj];
    op_call_types(&k, wide ? TK_F64 : TK_F32);
    for (int i = sig->nin; i < sig->nin + sig->nout && !wide; i++) {
        const tk_dtype type = dtype_of(t->in, sig, i, t->r, t->weight);
        if (!tk_formats[type].pack || (is(t->in, " kvput ") && tk_formats[type].block > 1)) continue;
        if (!is(t->in, " cast quant pack kvput ")) continue; /* below: its reference writes floats */
        k.type[i] = type;
        if (is(t->in, " kvput ")) k.type[i - sig->nout] = type;
    }
    write_cache(t, false);
    if (is(t->in, " attn_paged ")) k.type[2] = k.type[3] = TK_F64;
    op_call_run(&k, t->in);
    for (int i = sig->nin; i < sig->nin + sig->nout && !wide; i++) {
        const tk_dtype type = dtype_of(t->in, sig, i, t->r, t->weight);
        if (k.type[i] == TK_F32 && (type == TK_BF16 || type == TK_F16) && k.out[i - sig->nin])
            round_numbers(k.out[i - sig->nin], (int64_t)(k.size[i - sig->nin] / sizeof(float)), type);
    }
    drop_raw(t->in);
    return k;
}

static int64_t count_of(const op_call *wide, int out) { return (int64_t)(wide->size[out] / sizeof(double)); }

/* Largest difference where both are finite; elsewhere they must be of one kind */
static double distance(const trial *t, const op_call *got, const op_call *want, int out) {
    double worst = 0;
    for (int64_t i = 0; i < count_of(want, out); i++) {
        const double g = got->out[out][i], w = want->out[out][i];
        if (isfinite(w) != isfinite(g))
            fail_msg("%s: output %d [%d] is %g, should be %g", t->text, out, (int)i, g, w);
        if (isfinite(w)) worst = fmax(worst, fabs(g - w));
    }
    return worst;
}

/* How far the double reference moves when each real input moves by a relative 2^-24; and the float
 * reference's error at those inputs too, since its error at one point may be small by luck */
static void rounding_probe(const trial *t, const op_call *want, double probe[TK_MAX_OPERANDS],
                           double allowed[TK_MAX_OPERANDS], rng *r) {
    const signature *sig = &t->in->op->sig[t->adj];
    for (int turn = 0; turn < 3; turn++) {
        trial moved = *t;
        instance copy = *t->in;
        moved.in = &copy;
        for (int i = 0; i < copy.n + 3; i++) {
            tensor *x = i < copy.n ? &copy.t[i] : &copy.history[i - copy.n];
            const int64_t n = x->v ? x->rows * x->cols : 0;
            /* rope's angle is a float32 product by definition, so its frequencies are exact */
            const int step = !x->integer && !(is(t->in, " rope ") && !strcmp(x->name, "f"));
            double *v = malloc((size_t)n * sizeof *v + 1);
            for (int64_t j = 0; j < n; j++)
                v[j] = x->v[j] * (1 + step * (rng_word(r) & 1 ? 0x1p-24 : -0x1p-24));
            x->v = v;
        }
        op_call k = run_reference(&moved, true);
        for (int i = 0; i < sig->nout; i++) probe[i] = fmax(probe[i], distance(t, &k, want, i));
        op_call_free(&k);
        for (int i = 0; i < copy.n + 3; i++) {
            tensor *x = i < copy.n ? &copy.t[i] : &copy.history[i - copy.n];
            for (int64_t j = 0; x->v && j < x->rows * x->cols; j++) x->v[j] = (float)x->v[j];
        }
        op_call near = run_reference(&moved, true), naive = run_reference(&moved, false);
        for (int i = 0; i < sig->nout; i++) allowed[i] = fmax(allowed[i], distance(t, &naive, &near, i));
        op_call_free(&near), op_call_free(&naive);
        for (int i = 0; i < copy.n; i++) free(copy.t[i].v);
        for (int i = 0; i < 3; i++) free(copy.history[i].v);
    }
}

static tk_dtype products_in(const instance *in, row *r, tk_dtype weight);

/* Half a unit in the last place of weights rounded for tensor cores moves attention's output by at most that
 * times attention over the values' magnitudes: by output element, or NULL. */
static double *weights_bound(const trial *t) {
    const tk_dtype type = products_in(t->in, t->r, t->weight);
    if (type == TK_F32 || t->adj) return NULL;
    trial moved = *t;
    instance copy = *t->in;
    moved.in = &copy;
    tensor *x = copy.history[1].v ? &copy.history[1] : instance_find(&copy, "v");
    const double *v = x->v;
    x->v = malloc((size_t)(x->rows * x->cols) * sizeof *x->v);
    for (int64_t i = 0; i < x->rows * x->cols; i++) x->v[i] = fabs(v[i]);
    op_call k = run_reference(&moved, true);
    double *bound = malloc((size_t)count_of(&k, 0) * sizeof *bound);
    for (int64_t i = 0; i < count_of(&k, 0); i++)
        bound[i] = k.out[0][i] * (type == TK_BF16 ? 0x1p-8 : 0x1p-11);
    op_call_free(&k), free(x->v);
    return bound;
}

static void check_error(const trial *t, rng *r) {
    const signature *sig = &t->in->op->sig[t->adj];
    double probe[TK_MAX_OPERANDS] = { 0 }, allowed[TK_MAX_OPERANDS] = { 0 };
    op_call want = run_reference(t, true), naive = run_reference(t, false), got = run_row(t, NULL, 0);
    if (!exact(t->in)) rounding_probe(t, &want, probe, allowed, r);
    for (int i = 0; i < sig->nout && !got.bare; i++) {
        double largest = 0;
        for (int64_t j = 0; j < count_of(&want, i); j++)
            if (isfinite(want.out[i][j])) largest = fmax(largest, fabs(want.out[i][j]));
        if (exact(t->in)) {
            for (int64_t j = 0; j < count_of(&want, i); j++) {
                const float v = (float)naive.out[i][j];
                const double exactly = t->r->out == TK_H_BF16 ? tk_bf16_f32(tk_f32_bf16(v)) : naive.out[i][j];
                if (got.out[i][j] != exactly)
                    fail_msg("%s: output %d [%d] is %.9g, the reference has %.9g", t->text, i, (int)j,
                             got.out[i][j], exactly);
            }
            continue;
        }
        /* A tensor core cuts off what lies below 2^-23 of the largest term, each 16 k; it does not round. */
        const bool tensor = t->r->needs & TK_CUDA_SM90 && is(t->in, " linear attn_paged ");
        const double k = is(t->in, " linear ") ? t->in->dim['k' - 'a'].n
                                               : t->in->dim['d' - 'a'].n + 1024; /* a span's keys */
        const double cuts = tensor ? ceil(k / 16) : 0;
        double *bound = i ? NULL : weights_bound(t), error = distance(t, &got, &want, i);
        for (int64_t j = 0; bound && j < count_of(&want, i); j++)
            if (isfinite(want.out[i][j]))
                error = fmax(j ? error : 0, fabs(got.out[i][j] - want.out[i][j]) - bound[j]);
        free(bound);
        allowed[i] = fmax(allowed[i], distance(t, &naive, &want, i));
        if (error > 2 * allowed[i] + probe[i] + (1 + cuts) * 0x1p-24 * largest)
            fail_msg("%s: output %d (%s) is off by %.3g; float reference %.3g, probe %.3g, largest %.3g",
                     t->text, i, sig->o[sig->nin + i].name, error, allowed[i], probe[i], largest);
    }
    op_call_free(&want), op_call_free(&naive), op_call_free(&got);
}

/* ---- the same bits ---- */

static void check_same(const trial *t, const op_call *a, const op_call *b, const char *what) {
    for (int i = 0; i < t->in->op->sig[t->adj].nout; i++)
        if (a->bytes[i] && b->bytes[i] && memcmp(a->bytes[i], b->bytes[i], a->size[i]))
            fail_msg("%s: output %d differs with %s", t->text, i, what);
}

static void check_threads_and_null(const trial *t) {
    const int nout = t->in->op->sig[t->adj].nout;
    op_call one = run_row(t, NULL, 0), three = run_row(t, pool, 0);
    check_same(t, &one, &three, "3 threads");
    op_call_free(&three);
    for (int skip = 0; skip < nout && nout > 1 && !(t->in->op->flags & OP_STATE); skip++) {
        op_call k = run_row(t, NULL, 1u << skip);
        free(k.bytes[skip]), k.bytes[skip] = NULL;
        check_same(t, &one, &k, "an output being NULL");
        op_call_free(&k);
    }
    op_call_free(&one);
}

/* The letter that counts rows */
static char row_letter(const instance *in) { return is(in, " norm lnorm ") ? 'h' : 't'; }

/* Whether the rows of all outputs are rows of the inputs, each on its own */
static bool rows_are_independent(const trial *t) {
    const signature *sig = &t->in->op->sig[t->adj];
    const char by = row_letter(t->in);
    if (is(t->in, " attn attn_paged kvput pick quant ") || t->in->dim[by - 'a'].n < 2) return false;
    for (int i = sig->nin; i < sig->nin + sig->nout; i++) {
        const char *name = sig->o[i].name;
        const char *letters = t->adj ? instance_find(t->in, name + 1)->letters : sig->o[i].letters;
        if (letters[0] != by) return false;
    }
    return true;
}

/* The instance cut to tokens [first, first + n); tensors are borrowed */
static instance cut_tokens(const instance *in, int64_t first, int64_t n) {
    instance part = *in;
    const char by = row_letter(in);
    const int64_t tokens = in->dim[by - 'a'].n;
    part.dim[by - 'a'] = (tk_dim){ n, 0, n };
    for (int i = 0; i < part.n; i++) {
        tensor *x = &part.t[i];
        if (x->letters[0] != by) continue;
        const int64_t each = x->rows * x->cols / tokens;
        x->v += first * each, x->file = NULL;
        x->letters[1] ? (x->rows = x->rows / tokens * n) : (x->cols = n);
    }
    return part;
}

static void compare_part(const trial *t, const op_call *all, instance *part, int64_t first) {
    const int by = row_letter(t->in) - 'a';
    const int64_t tokens = t->in->dim[by].n, n = part->dim[by].n;
    trial p = *t;
    p.in = part;
    op_call k = run_row(&p, NULL, 0);
    for (int i = 0; i < t->in->op->sig[t->adj].nout; i++) {
        const size_t each = all->size[i] / (size_t)tokens;
        if (memcmp((char *)all->bytes[i] + (size_t)first * each, k.bytes[i], (size_t)n * each))
            fail_msg("%s: tokens %d .. %d of %d alone differ", t->text, (int)first, (int)(first + n - 1),
                     (int)tokens);
    }
    op_call_free(&k);
}

/* Each sequence alone, and its last token alone, as they are in the batch */
static void check_sequences_alone(const trial *t, const op_call *all) {
    const tk_batch *b = &t->in->batch;
    for (int s = 0; s < b->seqs; s++)
        for (int alone = 0; alone < 1 + (b->pages != NULL); alone++) {
            const int first = alone ? b->start[s + 1] - 1 : b->start[s], n = b->start[s + 1] - first;
            instance part = cut_tokens(t->in, first, n);
            part.start[0] = 0, part.start[1] = n, part.past[0] = b->past[s] + first - b->start[s];
            part.batch.seqs = 1, part.batch.tokens = n, part.batch.start = part.start,
            part.batch.past = part.past;
            if (b->pages) part.batch.pages = b->pages + s * b->max_pages;
            compare_part(t, all, &part, first);
        }
}

static void check_batch(const trial *t) {
    const bool attention = is(t->in, " attn attn_paged ") && !t->adj;
    if (!attention && !rows_are_independent(t)) return;
    const int64_t tokens = t->in->dim[row_letter(t->in) - 'a'].n;
    op_call all = run_row(t, NULL, 0);
    if (attention) {
        check_sequences_alone(t, &all);
    } else {
        const int64_t parts[][2] = { { 0, 1 }, { tokens - 1, 1 }, { 1, tokens - 1 }, { 0, tokens / 2 } };
        for (size_t i = 0; i < TK_COUNT(parts); i++) {
            instance part = cut_tokens(t->in, parts[i][0], parts[i][1]);
            compare_part(t, &all, &part, parts[i][0]);
        }
    }
    op_call_free(&all);
}

/* ---- what is not a number ---- */

static void check_not_finite(const trial *t, rng *r) {
    const signature *sig = &t->in->op->sig[t->adj];
    if (t->r->act == TK_A8 || is(t->in, " quant pack ")) return; /* integers have no NaN */
    for (int kind = 0; kind < 3; kind++) {
        tensor *x = NULL;
        for (int i = 0; i < sig->nin && !x; i++) {
            tensor *candidate = instance_find(t->in, sig->o[i].name);
            if (!candidate->integer && !is_weight(t->in, sig->o[i].name)) x = candidate;
        }
        if (!x) return;
        free(x->file), x->file = NULL; /* the numbers are written anew: they have one that the bytes lack */
        double *at = &x->v[rng_below(r, (int)(x->rows * x->cols))];
        const double keep = *at;
        *at = kind == 0 ? NAN : kind == 1 ? INFINITY : -INFINITY;
        op_call want = run_reference(t, false), got = run_row(t, NULL, 0);
        for (int i = 0; i < sig->nout && !got.bare; i++)
            for (int64_t j = 0; j < (int64_t)(want.size[i] / tk_formats[want.type[sig->nin + i]].bytes); j++)
                if (isfinite(want.out[i][j]) != isfinite(got.out[i][j]))
                    fail_msg("%s: with %g in %s, output %d [%d] is %g, should be %g", t->text, *at, x->name,
                             i, (int)j, got.out[i][j], want.out[i][j]);
        *at = keep;
        op_call_free(&want), op_call_free(&got);
    }
}

/* ---- rows ---- */

/* The numbers again, to the bfloat16 next to them; the bytes stay */
static void see_as_bf16(tensor *t) {
    void *file = t->file;
    const tk_dtype type = t->file_type;
    t->file = NULL;
    tensor_round(t, TK_BF16);
    free(t->file), t->file = file, t->file_type = type;
}

/* The power of two not above |v|, with its sign */
static float power_of_two(float v) { return v == 0 || !isfinite(v) ? v : copysignf(ldexpf(1, ilogbf(v)), v); }

/* Do panels of this format keep scales? */
static bool keeps_scales(tk_dtype type) { return type > TK_H_BF16 && type <= TK_H_Q6_K; }

/* Panels keep scales and minima as bfloat16: they are given files where these are powers of two, so that
 * nothing is rounded. */
static void round_scales(tensor *t) {
    const tk_format *f = &tk_formats[t->file_type];
    const int at = t->file_type == TK_Q6_K ? 208 : 0;
    const bool two = t->file_type == TK_Q4_1 || t->file_type == TK_Q5_1 || t->file_type == TK_Q4_K ||
                     t->file_type == TK_Q5_K;
    float *line = malloc((size_t)t->cols * sizeof *line);
    for (int64_t i = 0; i < t->rows * (t->cols / f->block); i++) {
        uint8_t *d = (uint8_t *)t->file + i * f->bytes + at;
        if (t->file_type == TK_F8) {
            const float v = power_of_two(tk_bits_f32(tk_le32(d)));
            memcpy(d, &v, sizeof v);
            continue;
        }
        for (int j = 0; j <= two; j++) {
            const uint16_t h = tk_f32_f16(power_of_two(tk_f16_f32(tk_le16(d + 2 * j))));
            memcpy(d + 2 * j, &h, sizeof h);
        }
    }
    for (int64_t row = 0; row < t->rows; row++) {
        f->unpack(line, t->file, t->rows, t->cols, row);
        for (int64_t i = 0; i < t->cols; i++) t->v[row * t->cols + i] = line[i];
    }
    free(line);
}

/* The dtype in which attention's tensor-core products take q and the weights of values; TK_F32: none such. */
static tk_dtype products_in(const instance *in, row *r, tk_dtype weight) {
    return is(in, " attn attn_paged ") && r->needs & TK_CUDA_SM90 ? weight : TK_F32;
}

/* Rounds every operand to what the row reads, so that rounding of inputs is no error of the kernel; what
 * Hopper's products multiply is bfloat16, of quantized weights too */
static bool round_operands(instance *in, row *r, tk_dtype weight, bool gradients) {
    for (int adj = 0; adj <= (gradients ? in->op->adjoints : 0); adj++) {
        const signature *sig = &in->op->sig[adj];
        for (int i = 0; i < sig->nin + (adj ? 0 : sig->nout); i++) {
            tensor *t = instance_find(in, sig->o[i].name);
            const tk_dtype type = dtype_of(in, sig, i, r, weight);
            if (!has_size(t, type)) return false;
            if (i < sig->nin) tensor_round(t, t->integer ? TK_I32 : plain_form(type));
            if (i < sig->nin && keeps_scales(is(in, " pack ") ? r->out : type)) round_scales(t);
            if (i < sig->nin && is(in, " linear ") && r->needs & TK_CUDA_SM90 && r->act == TK_BF16)
                see_as_bf16(t);
            if (i < sig->nin && !strcmp(t->name, "q")) tensor_round(t, products_in(in, r, weight));
        }
    }
    for (int i = 0; i < 2 && in->history[i].v; i++) tensor_round(&in->history[i], weight);
    return true;
}

static bool try_case(row *r, const op_case *c, tk_dtype weight, uint64_t seed) {
    rng random = { seed, 0 };
    instance in;
    bool gradients = false;
    for (int adj = 1; adj < 4; adj++) gradients |= tk_row_kernel(r, adj) != NULL;
    instance_make(&in, c, &random);
    const bool fits = round_operands(&in, r, weight, gradients);
    if (fits && gradients) instance_forward(&in, true);
    for (int adj = 0; adj <= in.op->adjoints && fits; adj++) {
        trial t = { .r = r, .fn = tk_row_kernel(r, adj), .adj = adj, .weight = weight, .in = &in };
        if (!t.fn) continue;
        snprintf(t.text, sizeof t.text, "%s (%s, weight %s), %s", r->fn_name[adj], in.text,
                 weight == TK_NODTYPE ? "any" : tk_formats[weight].name, adj ? "adjoint" : "forward");
        check_error(&t, &random);
        if (once) continue;
        check_threads_and_null(&t);
        check_batch(&t);
        check_not_finite(&t, &random);
    }
    instance_free(&in);
    return fits;
}

/* Dtypes that "any weight" stands for; one if the op has no weight */
static int weights_of(row *r, const op_case *c, tk_dtype out[TK_DTYPES]) {
    instance probe = { .op = op_find(c->op) };
    int n = 0;
    if (r->weight != TK_NODTYPE || !(is_weight(&probe, "w") || is_weight(&probe, "ck"))) {
        out[n++] = r->weight == TK_NODTYPE ? TK_F32 : r->weight;
        return n;
    }
    for (int t = 0; t < TK_DTYPES; t++)
        if (t != TK_F64 && t != TK_A8 && tk_formats[t].unpack && plain_form((tk_dtype)t) != TK_NODTYPE)
            out[n++] = (tk_dtype)t;
    return n;
}

static void try_row(row *r) {
    const char *op = tk_op_info(r->op)->name;
    int done = 0;
    if (r->needs & TK_ON_CUDA && !gpu) return;
    if (r->needs & ~(tk_cpu_features() | (gpu ? gpu->features : 0))) {
        print_message("skipped: %s %s needs what this CPU has not (%#x)\n", op, r->name, r->needs);
        return;
    }
    for (int c = 0; c < op_ncases + (r->needs & TK_ON_CUDA ? op_ncases_gpu : 0); c++) {
        tk_dtype weight[TK_DTYPES];
        const op_case *oc = c < op_ncases ? &op_cases[c] : &op_cases_gpu[c - op_ncases];
        if (strcmp(oc->op, op)) continue;
        const int n = weights_of(r, oc, weight);
        for (int i = 0; i < n; i++) done += try_case(r, oc, weight[i], test_seed());
    }
    if (!done) fail_msg("%s %s: no row of opcase_table.c fits", op, r->name);
}

static void every_row(void **state) {
    int rows = 0, met = 0;
    (void)state;
    for (int i = 0; i < tk_nkernels; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s %s", tk_op_info(tk_kernels[i].op)->name, tk_kernels[i].name);
        if (!strstr(name, filter) || op_is_fused(tk_op_info(tk_kernels[i].op)->name)) continue;
        if (met++ % parts != part) continue;
        try_row(&tk_kernels[i]);
        rows++;
    }
    print_message("%d rows of kernels.def\n", rows);
    if (!rows) fail_msg("no kernel is named like '%s'", filter);
}

/* ---- attention: one op in two forms ---- */

/* Rows of attn_paged on a float32 cache give the bits of attn of the same tier, whatever the page size. */
static void paged_attention_has_the_bits_of_attention(void **state) {
    static const int sizes[] = { 16, 32, 48, 64, 128 };
    (void)state;
    for (int i = 0; i < tk_nkernels; i++) {
        row *r = &tk_kernels[i], *packed = NULL;
        if (r->op != TK_OP_attn_paged || r->weight != TK_F32 || r->needs & ~tk_cpu_features()) continue;
        for (int j = 0; j < tk_nkernels; j++)
            if (tk_kernels[j].op == TK_OP_attn && tk_kernels[j].needs == r->needs) packed = &tk_kernels[j];
        if (!packed) continue;
        instance whole;
        rng random = { test_seed(), 0 };
        static const op_case c = { "attn", "t150 g2 r3 d40", "150", "", { { 0.16f }, { 0 } } };
        instance_make(&whole, &c, &random);
        trial all = { .r = packed, .fn = packed->fn[0], .in = &whole, .weight = TK_F32, .text = "attn" };
        op_call want = run_row(&all, NULL, 0);
        for (size_t s = 0; s < TK_COUNT(sizes); s++) {
            char dims[64];
            snprintf(dims, sizeof dims, "t20 g2 r3 d40 p%d s%d", 150 / sizes[s] + 2, sizes[s]);
            const op_case pc = { "attn_paged", dims, "20", "130", { { 0.16f }, { 0 } } };
            instance in;
            instance_make(&in, &pc, &random);
            memcpy(in.history[0].v, instance_find(&whole, "k")->v, 150 * 80 * sizeof(double));
            memcpy(in.history[1].v, instance_find(&whole, "v")->v, 150 * 80 * sizeof(double));
            memcpy(instance_find(&in, "q")->v, instance_find(&whole, "q")->v + 130 * 240,
                   20 * 240 * sizeof(double));
            trial t = { .r = r, .fn = r->fn[0], .in = &in, .weight = TK_F32, .text = "attn_paged" };
            op_call got = run_row(&t, NULL, 0);
            if (memcmp(got.bytes[0], (float *)want.bytes[0] + 130 * 240, got.size[0]))
                fail_msg("%s differs from %s with pages of %d", r->name, packed->name, sizes[s]);
            op_call_free(&got), instance_free(&in);
        }
        op_call_free(&want), instance_free(&whole);
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row),
        cmocka_unit_test(paged_attention_has_the_bits_of_attention),
    };
    if (argc > 1) filter = argv[1];
    if (argc > 2 && (sscanf(argv[2], "%d/%d", &part, &parts) != 2 || parts < 1)) return 2;
    once = argc > 3 && !strcmp(argv[3], "once");
    if (tk_pool_new(&pool, 3, false) != TK_OK) return 1;
    if (tk_device_open(&gpu, "cuda", false) != TK_OK)
        print_message("skipped: no CUDA device, for the rows of CUDA\n");
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tk_device_close(gpu);
    tk_pool_free(pool);
    return failed;
}
