/* SPDX-License-Identifier: Apache-2.0 */
/* From a prompt to an answer: the part of the public API that runs a model. A session keeps the ids whose
 * keys and values the engine holds for its sequence, so that a prompt that begins alike starts where they
 * differ. The last token of a prompt is always computed: its logits are what the answer begins with. */
#include <limits.h>
#include <stdlib.h>

#include "infer/infer.h"

struct tk_session {
    tk_model *model;
    int seq;     /* the engine's number for it */
    tk_ids held; /* tokens 0.. of the sequence, computed */
};

tk_status tk_session_new(tk_session **out, tk_model *m) {
    *out = NULL;
    tk_session *s = calloc(1, sizeof *s);
    if (!s) return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a session");
    tk_status status = tk_seq_new(m->engine, &s->seq);
    if (status != TK_OK) {
        free(s);
        return status;
    }
    s->model = m;
    *out = s;
    return TK_OK;
}

void tk_session_free(tk_session *s) {
    if (!s) return;
    tk_seq_free(s->model->engine, s->seq);
    tk_ids_free(&s->held);
    free(s);
}

/* Forgets what the session holds from token n on. */
static void truncate_to(tk_session *s, size_t n) {
    tk_seq_truncate(s->model->engine, s->seq, (int64_t)n);
    s->held.n = n;
}

/* One step of n tokens, `want` rows of logits. */
static tk_status step(tk_session *s, const int32_t *ids, size_t n, size_t want, const float **logits) {
    tk_step_item item = { s->seq, ids, (int)n, (int)want };
    TK_TRY(tk_engine_step(s->model->engine, &item, 1, logits));
    for (size_t i = 0; i < n; i++) TK_TRY(tk_ids_push(&s->held, ids[i]));
    return TK_OK;
}

/* Computes ids after what is held, in steps of the engine's size; *logits (NULL: unwanted) are those of the
 * last token. Stops early once *cancel is nonzero. */
static tk_status feed(tk_session *s, const int32_t *ids, size_t n, const volatile int *cancel,
                      const float **logits) {
    size_t chunk = (size_t)tk_engine_info_of(s->model->engine)->chunk;
    for (size_t from = 0, take; from < n; from += take) {
        if (cancel && *cancel) return TK_OK;
        take = TK_MIN(n - from, chunk);
        bool last = from + take == n;
        TK_TRY(step(s, ids + from, take, last, last ? logits : NULL));
    }
    return TK_OK;
}

tk_status tk_logits(tk_session *s, const int32_t *ids, size_t count, tk_logits_sink *sink, void *arg) {
    size_t rows = (size_t)tk_engine_info_of(s->model->engine)->picks;
    TK_TRY(tk__check_ids(s->model, ids, count));
    if (count > (size_t)s->model->ctx)
        return TK_FAIL(TK_E_LIMIT,
                       "%zu tokens do not fit\nthe context holds %d\ngive fewer, or a larger --ctx", count,
                       (int)s->model->ctx);
    truncate_to(s, 0);
    for (size_t from = 0, take; from < count; from += take) {
        const float *logits;
        take = TK_MIN(count - from, rows);
        TK_TRY(step(s, ids + from, take, take, &logits));
        TK_TRY(sink(arg, logits, take));
    }
    return TK_OK;
}

/* ---- an answer ------------------------------------------------------------------------------------------
 */

typedef struct answer {
    tk_session *s;
    const tk_request *r;
    tk_result *result;
    tk_tokenizer *tokenizer;
    tk_ids prompt;
    tk_sampler *sampler;
    const float *logits; /* of the last token */
    bool draws;          /* the engine draws: they are not fetched, and steps are asked for ahead */
    int ahead;           /* steps on their way; the sequence has as many tokens that are not held yet */
    tk_detok *detok;
    tk_stop *stop;
    tk_buf raw, text; /* decoded; decoded and cleared of stop strings */
} answer;

/* Hands on what a.text holds; false when the caller wants no more. */
static bool emit(answer *a) {
    size_t n = a->text.len;
    a->text.len = 0;
    return !n || !a->r->on_text || !a->r->on_text(a->r->arg, a->text.data, n);
}

/* Decodes one token and passes it on. *done: the answer ends here. */
static tk_status speak(answer *a, int32_t id, bool *done) {
    a->raw.len = 0;
    TK_TRY(tk_detok_push(a->detok, id, &a->raw));
    *done = tk_stop_push(a->stop, a->raw.data, a->raw.len, &a->text);
    TK_TRY(tk_buf_check(&a->text));
    if (*done) a->result->finish = TK_FINISH_STOP;
    if (!emit(a) || (a->r->cancel && *a->r->cancel)) *done = true, a->result->finish = TK_FINISH_CANCELLED;
    return TK_OK;
}

/* The answer has ended otherwise than by a stop string: what was held back is text, unless it completes one.
 */
static tk_status finish(answer *a) {
    if (a->result->finish == TK_FINISH_STOP) return TK_OK;
    a->raw.len = 0;
    TK_TRY(tk_detok_flush(a->detok, &a->raw));
    if (tk_stop_push(a->stop, a->raw.data, a->raw.len, &a->text)) a->result->finish = TK_FINISH_STOP;
    tk_stop_finish(a->stop, &a->text);
    TK_TRY(tk_buf_check(&a->text));
    emit(a);
    return TK_OK;
}

/* The token behind those that are held. */
static tk_status next_token(answer *a, size_t position, int32_t *id) {
    tk_engine *e = a->s->model->engine;
    if (!a->draws) return tk_sampler_pick(a->sampler, a->logits, position, id);
    const int32_t *drawn;
    if (a->ahead) {
        a->ahead--;
        TK_TRY(tk_engine_finish(e, &drawn));
    } else {
        drawn = tk_engine_drawn(e);
        TK_TRY(tk_engine_check(e));
    }
    *id = *drawn;
    return *id >= 0 ? TK_OK : tk__nothing_to_draw(position);
}

/* Goes on with a token. Where the engine draws, the step that reads it may be on its way already, and the one
 * after it is asked for at once, `more` of them being of use at most: the device never waits for the host. */
static tk_status go_on(answer *a, int32_t id, int32_t more) {
    tk_session *s = a->s;
    tk_step_item item = { s->seq, &id, 1, 1 };
    if (!a->draws) return feed(s, &id, 1, NULL, &a->logits);
    TK_TRY(tk_ids_push(&s->held, id));
    if (!a->ahead) {
        TK_TRY(tk_engine_start(s->model->engine, &item, 1));
        a->ahead++;
    }
    item.tokens = NULL;
    if (a->ahead >= 2 || more < 2 || tk_seq_length(s->model->engine, s->seq) >= s->model->ctx) return TK_OK;
    TK_TRY(tk_engine_start(s->model->engine, &item, 1));
    a->ahead++;
    return TK_OK;
}

/* Waits for what is on its way and forgets it. */
static void stop_ahead(answer *a) {
    const int32_t *drawn;
    while (a->ahead && a->ahead--) (void)tk_engine_finish(a->s->model->engine, &drawn);
    if (a->draws) tk_seq_truncate(a->s->model->engine, a->s->seq, (int64_t)a->s->held.n);
}

static tk_status decode_loop(answer *a, double start) {
    tk_result *result = a->result;
    int32_t most = a->r->max_tokens > 0 ? a->r->max_tokens : INT32_MAX;
    for (bool done = false; !done;) {
        int32_t id;
        if (a->r->cancel && *a->r->cancel) {
            result->finish = TK_FINISH_CANCELLED;
            break;
        }
        size_t position = a->s->held.n;
        TK_TRY(next_token(a, position, &id));
        if (!result->answer_tokens) result->first_seconds = tk_now() - start;
        result->finish = TK_FINISH_END;
        if (tk_tokenizer_is_eog(a->tokenizer, id)) break;
        tk_sampler_see_answer(a->sampler, id);
        result->answer_tokens++;
        TK_TRY(speak(a, id, &done));
        if (done) break;
        result->finish = result->answer_tokens == most ? TK_FINISH_LENGTH : TK_FINISH_CONTEXT;
        if (result->answer_tokens == most || position + 1 == (size_t)a->s->model->ctx) break;
        TK_TRY(go_on(a, id, most - result->answer_tokens));
    }
    result->answer_seconds = tk_now() - start - result->first_seconds;
    return finish(a);
}

static tk_status run(answer *a, double start) {
    tk_model *m = a->s->model;
    const tk_request *r = a->r;
    TK_TRY(tk__prompt_ids(m, r, &a->prompt));
    TK_TRY(tk__model_tokenizer(m, &a->tokenizer));
    a->result->prompt_tokens = (int32_t)TK_MIN(a->prompt.n, (size_t)INT32_MAX);
    if (a->prompt.n >= (size_t)m->ctx)
        return TK_FAIL(
            TK_E_LIMIT,
            "the prompt does not fit the context\nthe prompt has %zu tokens, the context "
            "holds %d, and the answer needs at least one\nshorten the prompt, or give a larger --ctx",
            a->prompt.n, m->ctx);
    /* the answer to a chat is a text of its own; a text that is continued keeps its blanks */
    bool continued = !r->messages && (r->text_bytes || r->ids);
    TK_TRY(tk_sampler_new(&a->sampler, &r->sampling, m->config->n_vocab));
    TK_TRY(
        tk_detok_new(&a->detok, a->tokenizer, TK_DECODE_SKIP_SPECIAL | (continued ? TK_DECODE_CONTINUE : 0)));
    TK_TRY(tk_stop_new(&a->stop, r->stop, r->stop_count));
    tk_sampler_see_prompt(a->sampler, a->prompt.id, a->prompt.n);

    size_t same = 0;
    while (same < a->s->held.n && same + 1 < a->prompt.n && a->s->held.id[same] == a->prompt.id[same]) same++;
    truncate_to(a->s, same);
    a->result->cached_tokens = (int32_t)same;
    TK_TRY(tk_seq_draw(m->engine, a->s->seq, &r->sampling, a->prompt.id, a->prompt.n, &a->draws));
    tk_status status =
        feed(a->s, a->prompt.id + same, a->prompt.n - same, r->cancel, a->draws ? NULL : &a->logits);
    a->result->prompt_seconds = tk_now() - start;
    TK_TRY(status);
    if (a->s->held.n == a->prompt.n) return decode_loop(a, start);
    a->result->finish = TK_FINISH_CANCELLED;
    return TK_OK;
}

tk_status tk_generate(tk_session *s, const tk_request *request, tk_result *result) {
    double start = tk_now();
    tk_result unwanted = { 0 };
    answer a = { .s = s, .r = request, .result = result ? result : &unwanted };
    *a.result = (tk_result){ .stop_index = -1 };
    tk_status status = run(&a, start);
    stop_ahead(&a);
    if (a.stop) a.result->stop_index = tk_stop_found(a.stop);
    tk_ids_free(&a.prompt);
    tk_sampler_free(a.sampler);
    tk_detok_free(a.detok);
    tk_stop_free(a.stop);
    tk_buf_free(&a.raw);
    tk_buf_free(&a.text);
    return status;
}
