/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: builds the serving program of a model, binds its weights (in place where the file's layout is
 * the program's, else converted once), and runs steps of packed tokens over the paged cache. */
#include "infer/infer.h"

#include <stdlib.h>

#include "core/core.h"
#include "ops/draw.h"

typedef struct sequence {
    bool taken;
    int64_t length;
    int npages;
    tk_draw how;
} sequence;

struct tk_engine {
    const tk_modelfile *file;
    tk_engine_info info;
    tk_program p;
    tk_pool *pool;
    tk_device *device; /* NULL: the CPU */
    tk_exec *exec;
    tk_id tokens, positions, slots, picks, logits, draws, drawn, bias,
        seen; /* the last four: -1 when tokens are not drawn */
    tk_batch batch;
    int32_t *start, *past, *table; /* the batch's arrays */
    sequence *seqs;
    int32_t *pages; /* [seqs][max_pages]: pages of each sequence */
    int32_t *free_pages;
    int nfree, max_pages;
};

/* ---- options ----------------------------------------------------------------------------------------- */

static size_t kv_bytes_per_token(const tk_config *c, tk_dtype kv) {
    size_t n = (size_t)c->n_layer * 2 * (size_t)c->n_kv_head * (size_t)c->head_dim;
    return n / (size_t)tk_formats[kv].block * (size_t)tk_formats[kv].bytes;
}

static tk_status choose_kv(const tk_engine_options *o, const tk_modelfile *f, tk_dtype *kv) {
    tk_weight_view v;
    TK_TRY(tk_modelfile_weight(f, "q", 0, &v));
    *kv = o->kv_set ? o->kv : v.dtype == TK_F32 ? TK_F32 : TK_F16;
    if (*kv != TK_F32 && *kv != TK_F16 && *kv != TK_BF16 && *kv != TK_Q8_0)
        return TK_FAIL(TK_E_USAGE, "a KV cache of type %s is not known\nuse f32, f16, bf16 or q8_0",
                       tk_formats[*kv].name);
    if (tk_modelfile_config(f)->head_dim % tk_formats[*kv].block)
        return TK_FAIL(TK_E_UNSUPPORTED,
                       "a KV cache of type %s does not fit this model\nits heads have %d numbers, not a "
                       "multiple of %d\nuse f16",
                       tk_formats[*kv].name, tk_modelfile_config(f)->head_dim, tk_formats[*kv].block);
    return TK_OK;
}

static tk_status settle_options(tk_engine *e, const tk_engine_options *o) {
    const tk_config *c = tk_modelfile_config(e->file);
    tk_engine_info *i = &e->info;
    if (o->threads < 0 || o->ctx < 0 || o->seqs < 0 || o->chunk < 0 || o->picks < 0 || o->page_size < 0 ||
        o->page_size % 16 || o->seqs > 4096 || o->chunk > 65536 || o->picks > 65536 || o->page_size > 65536)
        return TK_FAIL(TK_E_USAGE, "an engine option is out of range\nthreads, ctx, seqs, chunk, picks must "
                                   "not be negative, page sizes are multiples of 16");
    TK_TRY(choose_kv(o, e->file, &i->kv));
    i->threads = e->device ? 1 : o->threads ? o->threads : tk_cpu_list(NULL, 0);
    i->device = e->device ? e->device->label : "cpu";
    i->seqs = o->seqs ? o->seqs : 1;
    i->page_size = o->page_size ? o->page_size : 64;
    i->ctx = o->ctx ? o->ctx : c->n_ctx;
    if (i->ctx > c->n_ctx)
        return TK_FAIL(TK_E_LIMIT,
                       "a context of %lld tokens is too long\nthe model was made for %d\nlower --ctx",
                       (long long)i->ctx, c->n_ctx);
    size_t each = kv_bytes_per_token(c, i->kv) * (size_t)i->seqs, room = tk_mem_available();
    if (e->device) TK_TRY(e->device->room(e->device, &room));
    room /= 2;
    if (!o->ctx && !o->plan_only && each && (size_t)i->ctx > room / each) {
        i->ctx = TK_MAX((int64_t)(room / each), 64);
        i->ctx_lowered = true;
    }
    const int chunk = e->device ? 2048 : 512; /* a GPU's products want many tokens */
    i->chunk = (int)TK_MIN((int64_t)(o->chunk ? o->chunk : chunk), TK_MAX(i->ctx * i->seqs, i->seqs));
    i->chunk = TK_MAX(i->chunk, i->seqs);
    i->picks = TK_MIN(o->picks ? TK_MAX(o->picks, i->seqs) : i->seqs, i->chunk);
    e->max_pages = (int)tk_ceil_div(i->ctx, i->page_size);
    if ((int64_t)e->max_pages * i->seqs > INT32_MAX / i->page_size)
        return TK_FAIL(TK_E_LIMIT, "the KV cache is too large\n%d sequences of %lld tokens\nlower --ctx",
                       i->seqs, (long long)i->ctx);
    return TK_OK;
}

/* ---- weights ----------------------------------------------------------------------------------------- */

/* Can the program use the file's bytes where they lie? */
static bool in_place(const tk_weight_view *v, tk_dtype want, int64_t rows, int64_t cols) {
    size_t bytes, row;
    return v->plain && v->dtype == want && v->rows == rows && v->cols == cols &&
           ((uintptr_t)v->data & 3) == 0 && tk_format_size(want, rows, cols, &bytes) &&
           tk_format_size(want, 1, cols, &row) && v->stride == row && v->bytes >= bytes;
}

static tk_dtype matrix_dtype(void *arg, const char *role, int layer) {
    tk_weight_view v;
    if (tk_modelfile_weight(arg, role, layer, &v) != TK_OK || !v.data)
        return TK_F32; /* reported when it is bound */
    return v.dtype;
}

static bool is_ordered(void *arg, const char *role, int layer) {
    tk_weight_view v;
    return tk_modelfile_weight(arg, role, layer, &v) == TK_OK && tk_weight_view_order(&v);
}

static tk_status view_of(tk_engine *e, const tk_name *name, tk_weight_view *v, int64_t *rows, int64_t *cols) {
    TK_TRY(tk_modelfile_weight(e->file, name->role, TK_MAX(name->layer, 0), v));
    tk__value_rows(&e->p, &e->p.values[name->id], rows, cols);
    if (!v->data)
        return TK_FAIL(TK_E_FORMAT, "%s: the weight %s is missing", tk_modelfile_path(e->file), name->role);
    if (v->rows * v->cols != *rows * *cols || (v->rows != 1 && v->cols != *cols))
        return TK_FAIL(TK_E_FORMAT, "%s: weight %s has the wrong shape\n%lld x %lld, %lld x %lld expected",
                       tk_modelfile_path(e->file), v->name, (long long)v->rows, (long long)v->cols,
                       (long long)*rows, (long long)*cols);
    return TK_OK;
}

static tk_status mark_mapped(tk_engine *e) {
    for (int n = 0; n < e->p.nnames; n++) {
        tk_value *value = &e->p.values[e->p.names[n].id];
        tk_weight_view v;
        int64_t rows, cols;
        if (value->kind != TK_WEIGHT) continue;
        TK_TRY(view_of(e, &e->p.names[n], &v, &rows, &cols));
        value->mapped = !e->device && in_place(&v, (tk_dtype)value->dtype, rows, cols);
    }
    return TK_OK;
}

/* Row by row: as they are where the program wants their type, else through float32. */
static tk_status convert_weight(tk_engine *e, const tk_weight_view *v, tk_id id) {
    const tk_value *value = &e->p.values[id];
    const tk_format *fmt = &tk_formats[value->dtype];
    const size_t bytes = (size_t)(v->cols / fmt->block) * (size_t)fmt->bytes;
    const bool same = v->dtype == (tk_dtype)value->dtype;
    float *row = malloc((size_t)v->cols * sizeof *row);
    char *to = tk_exec_open(e->exec, id);
    if (!row || !to) {
        free(row);
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    }
    for (int64_t r = 0; r < v->rows; r++) {
        if (same && tk_weight_view_copy(v, r, to + (size_t)r * bytes)) continue;
        tk_weight_view_row(v, r, row);
        fmt->pack(to, row, v->rows, v->cols, r);
    }
    free(row);
    return tk_exec_close(e->exec, id);
}

static tk_status fill_constant(tk_engine *e, tk_id id) {
    const tk_name *name = &e->p.names[e->p.values[id].name];
    void *to = tk_exec_open(e->exec, id);
    tk_weight_view v;
    if (!to) return TK_FAIL(TK_E_NOMEM, "out of memory");
    if (e->p.values[id].dtype == TK_I32) { /* a quantized weight's order of columns */
        TK_TRY(tk_modelfile_weight(e->file, name->role, TK_MAX(name->layer, 0), &v));
        memcpy(to, tk_weight_view_order(&v), (size_t)v.cols * sizeof(int32_t));
    } else {
        tk_build_const(tk_modelfile_config(e->file), name->role, e->info.ctx, to);
    }
    return tk_exec_close(e->exec, id);
}

static tk_status fill_weights(tk_engine *e) {
    for (int n = 0; n < e->p.nnames; n++) {
        const tk_name *name = &e->p.names[n];
        const tk_value *value = &e->p.values[name->id];
        tk_weight_view v;
        int64_t rows, cols;
        if (value->kind == TK_CONST) TK_TRY(fill_constant(e, name->id));
        if (value->kind != TK_WEIGHT) continue;
        TK_TRY(view_of(e, name, &v, &rows, &cols));
        if (in_place(&v, (tk_dtype)value->dtype, rows, cols))
            tk_exec_point(e->exec, name->id, v.data);
        else
            TK_TRY(convert_weight(e, &v, name->id));
    }
    return tk_exec_check(e->exec);
}

/* Does anything but the load phase read a value? */
static bool read_in_steps(const tk_program *p, tk_id id) {
    for (int i = 0; i < p->nrecords; i++)
        for (int k = 0; k < p->records[i].nin; k++)
            if (p->records[i].arg[k] == id && p->records[i].phase != TK_P_LOAD) return true;
    return false;
}

/* After a pack: the original is done with, unless something outside the load phase reads it as well. */
static void release_original(void *arg, const tk_record *r, double seconds) {
    tk_engine *e = arg;
    (void)seconds;
    if (r->op != TK_OP_pack) return;
    const tk_value *value = &e->p.values[r->arg[0]];
    if (read_in_steps(&e->p, r->arg[0])) return;
    tk_weight_view v;
    const tk_name *name = &e->p.names[value->name];
    if (tk_modelfile_weight(e->file, name->role, TK_MAX(name->layer, 0), &v) == TK_OK && v.map)
        tk_weight_view_release(&v);
    if (!value->mapped) tk_exec_drop(e->exec, r->arg[0]);
}

/* ---- life -------------------------------------------------------------------------------------------- */

static tk_status build_program(tk_engine *e, const tk_engine_options *o) {
    const tk_config *c = tk_modelfile_config(e->file);
    const tk_engine_info *i = &e->info;
    tk_build b = { .config = c,
                   .serve = true,
                   .draw = e->device && tk_op_served(TK_OP_draw, e->device->features),
                   .kv = i->kv,
                   .ctx = i->ctx,
                   .tokens = i->chunk,
                   .picks = i->picks,
                   .page_size = i->page_size,
                   .pages = (int64_t)e->max_pages * i->seqs,
                   .seqs = i->seqs,
                   .dtype = matrix_dtype,
                   .ordered = is_ordered,
                   .arg = (void *)e->file };
    static const tk_mesh alone = { .axes = 0 };
    unsigned cpu = tk_cpu_features() & ~o->cpu_mask;
    tk_prog_init(&e->p, TK_F32);
    e->p.device = e->device;
    TK_TRY(tk_build_program(&e->p, &b));
    TK_TRY(tk_shard(&e->p, &alone, -1));
    TK_TRY(tk_choose(&e->p, cpu, o->reference));
    TK_TRY(tk_hoist(&e->p, TK_HOIST_ALL));
    if (!o->no_fuse && !o->reference) TK_TRY(tk_fuse(&e->p, cpu));
    TK_TRY(mark_mapped(e));
    TK_TRY(tk_plan(&e->p, true, i->threads));
    e->tokens = tk_find(&e->p, "tokens", -1), e->positions = tk_find(&e->p, "positions", -1);
    e->slots = tk_find(&e->p, "slots", -1), e->picks = tk_find(&e->p, "picks", -1),
    e->logits = tk_find(&e->p, "logits", -1);
    e->draws = tk_find(&e->p, "draws", -1), e->drawn = tk_find(&e->p, "drawn", -1);
    e->bias = tk_find(&e->p, "bias", -1), e->seen = tk_find(&e->p, "seen", -1);
    return TK_OK;
}

static tk_status take_memory(tk_engine *e) {
    size_t seqs = (size_t)e->info.seqs, pages = seqs * (size_t)e->max_pages;
    e->seqs = calloc(seqs, sizeof *e->seqs);
    e->start = calloc(seqs + 1, sizeof *e->start), e->past = calloc(seqs, sizeof *e->past);
    e->table = calloc(pages, sizeof *e->table), e->pages = calloc(pages, sizeof *e->pages);
    e->free_pages = calloc(pages, sizeof *e->free_pages);
    if (!e->seqs || !e->start || !e->past || !e->table || !e->pages || !e->free_pages)
        return TK_FAIL(TK_E_NOMEM, "out of memory");
    e->nfree = (int)pages;
    for (int i = 0; i < e->nfree; i++) e->free_pages[i] = e->nfree - 1 - i;
    e->batch = (tk_batch){ .start = e->start,
                           .past = e->past,
                           .pages = e->table,
                           .max_pages = e->max_pages,
                           .page_size = e->info.page_size };
    return TK_OK;
}

static void note_memory(tk_engine *e) {
    tk_engine_info *i = &e->info;
    i->weights = e->p.arena_bytes[TK_A_WEIGHTS], i->state = e->p.arena_bytes[TK_A_STATE];
    i->io = e->p.arena_bytes[TK_A_IO], i->work = e->p.arena_bytes[TK_A_WORK];
    for (int n = 0; n < e->p.nvalues; n++)
        if (e->p.values[n].mapped && read_in_steps(&e->p, n)) i->mapped += e->p.values[n].bytes;
}

static tk_status engine_open(tk_engine *e, const tk_engine_options *o) {
    double began = tk_now();
    TK_TRY(tk_device_open(&e->device, o->device, o->plan_only));
    if (e->device) e->device->features &= ~(o->cpu_mask & TK_CUDA_SM90);
    TK_TRY(settle_options(e, o));
    TK_TRY(build_program(e, o));
    note_memory(e);
    if (!o->plan_only) TK_TRY(tk_pool_new(&e->pool, e->info.threads, true));
    TK_TRY(tk_exec_new(&e->exec, &e->p, e->pool, NULL, o->plan_only));
    if (o->plan_only) return TK_OK;
    TK_TRY(take_memory(e));
    TK_TRY(fill_weights(e));
    tk_exec_batch(e->exec, &e->batch);
    tk_exec_run_hook(e->exec, TK_P_LOAD, release_original, e);
    e->info.load_s = tk_now() - began;
    return tk_exec_check(e->exec);
}

tk_status tk_engine_new(tk_engine **out, const tk_modelfile *f, const tk_engine_options *options) {
    static const tk_engine_options defaults;
    *out = NULL;
    if (!tk_modelfile_config(f))
        return TK_FAIL(TK_E_UNSUPPORTED, "%s holds no model\nit was opened for its tokenizer only",
                       tk_modelfile_path(f));
    tk_engine *e = calloc(1, sizeof *e);
    if (!e) return TK_FAIL(TK_E_NOMEM, "out of memory");
    e->file = f;
    tk_status s = engine_open(e, options ? options : &defaults);
    if (s != TK_OK) {
        tk_engine_free(e);
        return s;
    }
    *out = e;
    return TK_OK;
}

void tk_engine_free(tk_engine *e) {
    if (!e) return;
    tk_exec_free(e->exec);
    tk_prog_free(&e->p);
    tk_pool_free(e->pool);
    tk_device_close(e->device);
    free(e->seqs), free(e->start), free(e->past), free(e->table), free(e->pages), free(e->free_pages),
        free(e);
}

const tk_engine_info *tk_engine_info_of(const tk_engine *e) { return &e->info; }
const tk_program *tk_engine_program(const tk_engine *e) { return &e->p; }
tk_exec *tk_engine_exec(tk_engine *e) { return e->exec; }

/* ---- sequences --------------------------------------------------------------------------------------- */

tk_status tk_seq_new(tk_engine *e, int *seq) {
    for (int i = 0; i < e->info.seqs; i++)
        if (!e->seqs[i].taken) {
            e->seqs[i] = (sequence){ .taken = true, .how.line = -1 };
            *seq = i;
            return TK_OK;
        }
    return TK_FAIL(TK_E_LIMIT, "all %d sequences of the engine are in use", e->info.seqs);
}

static int32_t *pages_of(const tk_engine *e, int seq) {
    return e->pages + (size_t)seq * (size_t)e->max_pages;
}

void tk_seq_truncate(tk_engine *e, int seq, int64_t n) {
    sequence *s = &e->seqs[seq];
    if (n >= s->length) return;
    s->length = TK_MAX(n, 0);
    int keep = (int)tk_ceil_div(s->length, e->info.page_size);
    while (s->npages > keep) e->free_pages[e->nfree++] = pages_of(e, seq)[--s->npages];
}

void tk_seq_free(tk_engine *e, int seq) {
    tk_seq_truncate(e, seq, 0);
    e->seqs[seq].taken = false;
}

int64_t tk_seq_length(const tk_engine *e, int seq) { return e->seqs[seq].length; }

/* ---- steps ------------------------------------------------------------------------------------------- */

static tk_status check_items(const tk_engine *e, const tk_step_item *items, int nitems, int *tokens,
                             int *wanted) {
    const tk_engine_info *i = &e->info;
    const tk_config *c = tk_modelfile_config(e->file);
    int64_t t = 0, w = 0;
    for (int k = 0; k < nitems; k++) {
        const tk_step_item *it = &items[k];
        if (it->seq < 0 || it->seq >= i->seqs || !e->seqs[it->seq].taken || it->n < 1 || it->want < 0 ||
            it->want > it->n)
            return TK_FAIL(TK_E_USAGE, "a step item is wrong\nsequence %d, %d tokens, %d wanted", it->seq,
                           it->n, it->want);
        for (int j = 0; j < k; j++)
            if (items[j].seq == it->seq)
                return TK_FAIL(TK_E_USAGE, "sequence %d stands twice in one step", it->seq);
        if (e->seqs[it->seq].length + it->n > i->ctx)
            return TK_FAIL(
                TK_E_LIMIT,
                "the text does not fit the context\nit has %lld tokens, the context has room for %lld\n"
                "shorten it, or give a larger --ctx",
                (long long)(e->seqs[it->seq].length + it->n), (long long)i->ctx);
        for (int j = 0; j < it->n && it->tokens; j++)
            if (it->tokens[j] < 0 || it->tokens[j] >= c->n_vocab)
                return TK_FAIL(TK_E_USAGE, "token %d is not in the vocabulary\nids go from 0 to %d",
                               it->tokens[j], c->n_vocab - 1);
        t += it->n, w += it->want;
    }
    if (t < 1 || t > i->chunk || w > i->picks)
        return TK_FAIL(TK_E_LIMIT, "the step is too large\n%lld tokens of %d, %lld rows of logits of %d",
                       (long long)t, i->chunk, (long long)w, i->picks);
    *tokens = (int)t, *wanted = (int)w;
    return TK_OK;
}

/* Writes one item into the batch: pages for its tokens, their ids, positions, slots, and the rows to pick. */
static void place_item(tk_engine *e, const tk_step_item *it, int at, int *t, int *w) {
    sequence *s = &e->seqs[it->seq];
    int32_t *tokens = tk_exec_data(e->exec, e->tokens), *positions = tk_exec_data(e->exec, e->positions);
    int32_t *slots = tk_exec_data(e->exec, e->slots), *picks = tk_exec_data(e->exec, e->picks),
            *pages = pages_of(e, it->seq);
    tk_draw *draws = e->draws >= 0 ? tk_exec_data(e->exec, e->draws) : NULL;
    const int size = e->info.page_size;
    while ((int64_t)s->npages * size < s->length + it->n) pages[s->npages++] = e->free_pages[--e->nfree];
    e->past[at] = (int32_t)s->length;
    memcpy(e->table + (size_t)at * (size_t)e->max_pages, pages, (size_t)s->npages * sizeof *pages);
    for (int j = 0; j < it->n; j++, (*t)++) {
        int64_t position = s->length + j;
        tokens[*t] = it->tokens ? it->tokens[j] : 0, positions[*t] = (int32_t)position;
        slots[*t] = pages[position / size] * size + (int32_t)(position % size);
        if (j < it->n - it->want) continue;
        if (draws) {
            draws[*w] = s->how;
            draws[*w].position[0] = (uint32_t)(position + 1),
            draws[*w].position[1] = (uint32_t)((position + 1) >> 32);
        }
        picks[(*w)++] = *t;
    }
    e->start[at + 1] = *t;
    s->length += it->n;
}

/* Writes a step's inputs. */
static tk_status set_step(tk_engine *e, const tk_step_item *items, int nitems) {
    int tokens = 0, wanted = 0, t = 0, w = 0;
    if (!e->pool) return TK_FAIL(TK_E_USAGE, "this engine was opened to plan, not to run");
    TK_TRY(check_items(e, items, nitems, &tokens, &wanted));
    for (int i = 0; i < nitems; i++) place_item(e, &items[i], i, &t, &w);
    e->batch.tokens = tokens, e->batch.seqs = nitems;
    tk_exec_size(e->exec, 't', tokens);
    tk_exec_size(e->exec, 'o', wanted);
    return TK_OK;
}

tk_status tk_engine_step(tk_engine *e, const tk_step_item *items, int nitems, const float **logits) {
    for (int i = 0; i < nitems; i++)
        if (!items[i].tokens) return TK_FAIL(TK_E_USAGE, "a step item is wrong\nit has no tokens");
    TK_TRY(set_step(e, items, nitems));
    tk_exec_run(e->exec, TK_P_FORWARD);
    if (logits) *logits = tk_exec_data(e->exec, e->logits);
    return tk_exec_check(e->exec);
}

tk_status tk_engine_start(tk_engine *e, const tk_step_item *items, int nitems) {
    const bool carry = nitems > 0 && !items[0].tokens;
    for (int i = 0; i < nitems; i++)
        if (e->drawn < 0 || items[i].n != 1 || items[i].want != 1 || carry != !items[i].tokens)
            return TK_FAIL(TK_E_USAGE,
                           "a step item is wrong\nsteps behind one another draw one token a sequence");
    TK_TRY(set_step(e, items, nitems));
    tk_exec_start(e->exec, e->drawn, carry ? e->tokens : -1);
    return tk_exec_check(e->exec);
}

tk_status tk_engine_finish(tk_engine *e, const int32_t **drawn) {
    *drawn = tk_exec_finish(e->exec);
    TK_TRY(tk_exec_check(e->exec));
    return *drawn ? TK_OK : TK_FAIL(TK_E_USAGE, "no step is on its way");
}

bool tk_engine_draws(const tk_engine *e) { return e->drawn >= 0; }

/* The biases and the tokens seen, as the device wants them. False: an id has two biases, whose sum depends on
 * the order. */
static bool fill_lines(const tk_sampling *p, const int32_t *ids, size_t n, int32_t vocab, float *bias,
                       int32_t *seen) {
    for (size_t i = 0; i < p->bias_count; i++) {
        if (seen[p->bias[i].token]) return false;
        bias[p->bias[i].token] = p->bias[i].value, seen[p->bias[i].token] = 1;
    }
    memset(seen, 0, (size_t)vocab * sizeof *seen);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= 0 && ids[i] < vocab) seen[ids[i]] = 1;
    return true;
}

tk_status tk_seq_draw(tk_engine *e, int seq, const tk_sampling *p, const int32_t *ids, size_t n,
                      bool *draws) {
    const bool changes =
        p->bias_count || p->repeat_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
    const int32_t vocab = tk_modelfile_config(e->file)->n_vocab;
    e->seqs[seq].how = (tk_draw){ p->temp,
                                  p->top_p,
                                  p->min_p,
                                  p->top_k,
                                  { (uint32_t)p->seed, (uint32_t)(p->seed >> 32) },
                                  { 0 },
                                  p->repeat_penalty,
                                  p->presence_penalty,
                                  p->frequency_penalty,
                                  -1 };
    *draws = e->drawn >= 0;
    if (!*draws || !changes) return TK_OK;
    e->seqs[seq].how.line = seq;
    const size_t row = (size_t)vocab * 4;
    float *bias = calloc(2, row);
    if (!bias) return TK_FAIL(TK_E_NOMEM, "out of memory");
    int32_t *seen = (int32_t *)bias + vocab;
    *draws = fill_lines(p, ids, n, vocab, bias, seen);
    tk_status s = *draws ? tk_exec_write(e->exec, e->bias, (size_t)seq * row, bias, row) : TK_OK;
    if (*draws && s == TK_OK) s = tk_exec_write(e->exec, e->seen, (size_t)seq * row, seen, row);
    free(bias);
    return s;
}

const int32_t *tk_engine_drawn(tk_engine *e) { return e->drawn < 0 ? NULL : tk_exec_data(e->exec, e->drawn); }

tk_status tk_engine_check(const tk_engine *e) { return tk_exec_check(e->exec); }

tk_status tk_engine_prefill(tk_engine *e, int seq, const int32_t *tokens, int64_t n, const float **logits) {
    if (n > 0 && seq >= 0 && seq < e->info.seqs &&
        e->seqs[seq].length + n > e->info.ctx) /* before anything is computed */
        return TK_FAIL(
            TK_E_LIMIT,
            "the prompt does not fit the context\nit has %lld tokens, the context has room for %lld\n"
            "shorten it, or give a larger --ctx",
            (long long)(e->seqs[seq].length + n), (long long)e->info.ctx);
    for (int64_t done = 0; done < n;) {
        int part = (int)TK_MIN(n - done, (int64_t)e->info.chunk);
        tk_step_item item = { seq, tokens + done, part, done + part == n };
        TK_TRY(tk_engine_step(e, &item, 1, logits));
        done += part;
    }
    return TK_OK;
}
