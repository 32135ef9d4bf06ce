/* SPDX-License-Identifier: Apache-2.0 */
/* The public API on tests/data/chat (a random model that writes printable ASCII, one token a byte, 160 tokens
 * of context): an answer is a function of prompt and parameters only, ends where it should, and a wrong
 * request is refused in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "infer/infer.h"

#define MODEL "tests/data/chat"
enum { CTX = 160, END = 257 };

static tk_model *model;

static int open_model(void **state) {
    (void)state;
    return tk_model_open(&model, MODEL, &(tk_model_options){ .threads = 2, .sessions = 2 });
}
static int close_model(void **state) {
    (void)state;
    tk_model_close(model);
    return 0;
}

typedef struct heard {
    char text[4096];
    size_t n;
    int pieces, most; /* most: pieces after which the listener has enough; 0: never */
} heard;

static int listen_to(void *arg, const char *text, size_t bytes) {
    heard *h = arg;
    assert_true(bytes > 0 && h->n + bytes < sizeof h->text);
    memcpy(h->text + h->n, text, bytes);
    h->n += bytes;
    h->text[h->n] = 0;
    return ++h->pieces == h->most;
}

static tk_request request(const char *text, heard *h) {
    *h = (heard){ 0 };
    tk_request r = { .text = text, .text_bytes = strlen(text), .on_text = listen_to, .arg = h };
    r.sampling = tk_model_sampling(model);
    r.sampling.seed = 5;
    return r;
}

static tk_session *session(void) {
    tk_session *s;
    assert_int_equal(tk_session_new(&s, model), TK_OK);
    return s;
}

static const tk_logit_bias no_end[] = { { END, -INFINITY } };

static void never_ends(tk_request *r) { r->sampling.bias = no_end, r->sampling.bias_count = 1; }

static void sampling_of_the_model(void **state) {
    (void)state;
    tk_sampling s = tk_model_sampling(model); /* generation_config.json says temperature and top_k */
    assert_true(s.temp == 0.9f && s.top_k == 30 && s.top_p == 0.95f && s.repeat_penalty == 1);
    tk_model_info about = tk_model_about(model);
    assert_int_equal(about.vocab, 259);
    assert_int_equal(about.ctx, CTX);
    assert_true(about.has_template);
}

/* What a session held before changes the cost of an answer, never the answer. */
static void same_with_and_without_cache(void **state) {
    (void)state;
    static const char *const prompts[] = {
        "the quick brown fox",
        "the quick brown fox jumps",
        "the quick brown fox",
        "the quiet",
        "something else altogether",
        "something else",
        "s",
        "the quick brown fox",
    };
    static const int cached[] = { 0, 19, 18, 7, 0, 14 - 1, 0, 0 };
    tk_session *kept = session();
    for (size_t i = 0; i < TK_COUNT(prompts); i++) {
        heard a, b;
        tk_result x, y;
        tk_session *fresh = session();
        tk_request r = request(prompts[i], &a);
        r.max_tokens = 40, r.sampling.temp = i % 2 ? 1.2f : 0;
        assert_int_equal(tk_generate(kept, &r, &x), TK_OK);
        r.arg = &b, b = (heard){ 0 };
        assert_int_equal(tk_generate(fresh, &r, &y), TK_OK);
        assert_string_equal(a.text, b.text);
        assert_int_equal(x.answer_tokens, y.answer_tokens);
        assert_int_equal(x.finish, y.finish);
        assert_int_equal(y.cached_tokens, 0);
        assert_int_equal(x.prompt_tokens, strlen(prompts[i]));
        if (i == 1 || i == 6) /* the answer before may happen to begin like what follows here */
            assert_true(x.cached_tokens >= cached[i] && x.cached_tokens < x.prompt_tokens);
        else
            assert_int_equal(x.cached_tokens, cached[i]);
        tk_session_free(fresh);
    }
    tk_session_free(kept);
}

/* A turn that continues the text so far costs only what is new. */
static void answer_is_kept(void **state) {
    (void)state;
    heard h;
    tk_result result;
    tk_session *s = session();
    tk_request r = request("one two", &h);
    r.max_tokens = 20;
    never_ends(&r);
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    char longer[4200];
    snprintf(longer, sizeof longer, "one two%s and three", h.text);
    tk_request next = request(longer, &h);
    next.max_tokens = 1;
    assert_int_equal(tk_generate(s, &next, &result), TK_OK);
    assert_int_equal(result.cached_tokens, 7 + 19); /* the last token was drawn but not computed */
    tk_session_free(s);
}

static void seeds(void **state) {
    (void)state;
    heard a, b;
    tk_session *s = session();
    tk_request r = request("seed", &a);
    r.max_tokens = 30, r.sampling.temp = 1;
    never_ends(&r);
    assert_int_equal(tk_generate(s, &r, NULL), TK_OK);
    r.arg = &b, b = (heard){ 0 };
    r.sampling.seed++;
    assert_int_equal(tk_generate(s, &r, NULL), TK_OK);
    assert_string_not_equal(a.text, b.text);
    tk_session_free(s);
}

static void stop_strings(void **state) {
    (void)state;
    heard whole, h;
    tk_result result;
    tk_session *s = session();
    tk_request r = request("stop here", &whole);
    r.max_tokens = 60, r.sampling.temp = 0.6f;
    never_ends(&r);
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.finish, TK_FINISH_LENGTH);
    assert_int_equal(result.answer_tokens, 60);
    assert_int_equal(whole.n, 60);
    assert_int_equal(result.stop_index, -1);
    for (size_t at = 0; at < 57;
         at += 7) { /* stop at three characters, that is, three tokens, of the answer */
        char word[4] = { whole.text[at], whole.text[at + 1], whole.text[at + 2], 0 };
        const char *const stop[] = { "\n\n", word };
        size_t first = (size_t)(strstr(whole.text, word) - whole.text);
        r.stop = stop, r.stop_count = 2, r.arg = &h, h = (heard){ 0 };
        assert_int_equal(tk_generate(s, &r, &result), TK_OK);
        assert_int_equal(result.finish, TK_FINISH_STOP);
        assert_int_equal(result.stop_index, 1);
        assert_int_equal(result.answer_tokens, first + 3);
        assert_int_equal(h.n, first);
        assert_memory_equal(h.text, whole.text, first);
    }
    /* what was held back as the beginning of a stop string comes out when the answer ends otherwise */
    char tail[3] = { whole.text[59], '\n', 0 };
    const char *const stop[] = { tail };
    r.stop = stop, r.stop_count = 1, h = (heard){ 0 };
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_string_equal(h.text, whole.text);
    assert_int_equal(result.finish, TK_FINISH_LENGTH);
    tk_session_free(s);
}

static void full_context(void **state) {
    (void)state;
    char text[400];
    heard h;
    tk_result result;
    tk_session *s = session();
    memset(text, 'a', sizeof text);
    text[150] = 0;
    tk_request r = request(text, &h);
    never_ends(&r);
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.finish, TK_FINISH_CONTEXT);
    assert_int_equal(result.answer_tokens, CTX - 150);
    r.text_bytes = CTX - 1;
    text[150] = 'a';
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.answer_tokens, 1);
    for (size_t n = CTX; n < 400; n += 100) {
        char number[16];
        snprintf(number, sizeof number, "%zu", n);
        r.text_bytes = n;
        assert_int_equal(tk_generate(s, &r, &result), TK_E_LIMIT);
        assert_non_null(strstr(tk_error(), number)); /* both numbers are said */
        assert_non_null(strstr(tk_error(), "160"));
    }
    r = request("still alive", &h); /* a refusal leaves the session usable */
    r.max_tokens = 3;
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    tk_session_free(s);
}

static void ends(void **state) {
    (void)state;
    heard h;
    tk_result result;
    tk_session *s = session();
    tk_request r = request("end", &h);
    tk_logit_bias end_now[] = { { END, 1000 } };
    r.sampling.bias = end_now, r.sampling.bias_count = 1;
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.finish, TK_FINISH_END);
    assert_int_equal(result.answer_tokens, 0);
    assert_int_equal(h.n, 0);
    tk_session_free(s);
}

static void cancel(void **state) {
    (void)state;
    heard h;
    tk_result result;
    volatile int stop = 1;
    tk_session *s = session();
    tk_request r = request("cancel", &h);
    never_ends(&r);
    r.cancel = &stop;
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.finish, TK_FINISH_CANCELLED);
    assert_int_equal(h.n, 0);
    stop = 0, h.most = 4;
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(result.finish, TK_FINISH_CANCELLED);
    assert_int_equal(result.answer_tokens, 4);
    assert_int_equal(h.n, 4);
    tk_session_free(s);
}

static void refusals(void **state) {
    (void)state;
    heard h;
    tk_session *a = session(), *b = session(), *c;
    assert_int_equal(tk_session_new(&c, model), TK_E_LIMIT);
    tk_session_free(b);
    tk_message message = { "user", "hello" };
    int32_t ids[] = { 1, 259 };
    struct {
        tk_request r;
        tk_status status;
        const char *words;
    } bad[7];
    for (size_t i = 0; i < TK_COUNT(bad); i++) bad[i].r = request("x", &h), bad[i].status = TK_E_USAGE;
    bad[0].r.messages = &message, bad[0].r.message_count = 1, bad[0].words = "more than one prompt";
    bad[1].r.text = NULL, bad[1].r.ids = ids, bad[1].r.id_count = 2, bad[1].words = "token 259";
    bad[2].r.text = "a\xff", bad[2].r.text_bytes = 2, bad[2].status = TK_E_FORMAT, bad[2].words = "byte 1";
    bad[3].r.sampling.top_p = 2, bad[3].words = "top_p";
    const char *const empty[] = { "" };
    bad[4].r.stop = empty, bad[4].r.stop_count = 1, bad[4].words = "empty";
    bad[5].r.text = NULL, bad[5].r.ids = ids, bad[5].r.id_count = 0, bad[5].words = "empty";
    tk_message broken = { "user", "\xc3(" };
    bad[6].r.text = NULL, bad[6].r.messages = &broken, bad[6].r.message_count = 1;
    bad[6].status = TK_E_FORMAT, bad[6].words = "UTF-8";
    for (size_t i = 0; i < TK_COUNT(bad); i++) {
        assert_int_equal(tk_generate(a, &bad[i].r, NULL), bad[i].status);
        assert_non_null(strstr(tk_error(), bad[i].words));
        assert_int_equal(h.n, 0);
    }
    tk_session_free(a);
    tk_model *m;
    assert_int_equal(tk_model_open(&m, MODEL, &(tk_model_options){ .kv_type = "q3" }), TK_E_USAGE);
    assert_int_equal(tk_model_open(&m, MODEL, &(tk_model_options){ .device = "gpu" }), TK_E_USAGE);
    assert_int_equal(tk_model_open(&m, MODEL, &(tk_model_options){ .ctx = -1 }), TK_E_USAGE);
    assert_int_equal(tk_model_open(&m, MODEL "/nothing", NULL), TK_E_NOTFOUND);
    assert_null(m);
}

static void chat_is_its_template(void **state) {
    (void)state;
    heard a, b;
    tk_result x, y;
    tk_session *s = session();
    tk_message messages[] = {
        { "system", "Be \"brief\"." }, { "user", "Hé!\n<" }, { "assistant", "ok" }, { "user", "?" }
    };
    tk_request r = request("", &a);
    r.text = NULL, r.messages = messages, r.message_count = 4, r.max_tokens = 20;
    assert_int_equal(tk_generate(s, &r, &x), TK_OK);
    const char *rendered =
        "<|start|>system\nBe \"brief\".<|end|>\n<|start|>user\nHé!\n<<|end|>\n<|start|>assistant\n"
        "ok<|end|>\n<|start|>user\n?<|end|>\n<|start|>assistant\n";
    int32_t *ids;
    size_t n;
    assert_int_equal(tk_tokenize(model, rendered, strlen(rendered), TK_TEXT_MARKS, &ids, &n), TK_OK);
    r = request("", &b);
    r.text = NULL, r.ids = ids, r.id_count = n, r.max_tokens = 20;
    assert_int_equal(tk_generate(s, &r, &y), TK_OK);
    assert_int_equal(x.prompt_tokens, n);
    assert_int_equal(y.cached_tokens, n - 1);
    assert_string_equal(a.text, b.text);
    free(ids);
    tk_session_free(s);
}

static void tokens_and_text(void **state) {
    (void)state;
    const char *text = "a<|end|>é";
    for (int marks = 0; marks <= TK_TEXT_MARKS; marks += TK_TEXT_MARKS) {
        int32_t *ids;
        size_t n;
        char *back;
        assert_int_equal(tk_tokenize(model, text, strlen(text), marks, &ids, &n), TK_OK);
        assert_int_equal(n, marks ? 4 : 10);
        assert_int_equal(tk_detokenize(model, ids, n, &back), TK_OK);
        assert_string_equal(back, marks ? "aé" : text);
        free(ids), free(back);
    }
}

typedef struct rows {
    float *to;
    size_t n;
} rows;

static tk_status take(void *arg, const float *logits, size_t positions) {
    rows *r = arg;
    memcpy(r->to + r->n * 259, logits, positions * 259 * sizeof *logits);
    r->n += positions;
    return TK_OK;
}

/* The numbers do not depend on how many are asked for at a time, and are those that greedy answers follow. */
static void logits(void **state) {
    (void)state;
    enum { N = 50 };
    static float few[N * 259], many[N * 259];
    int32_t ids[N];
    for (int i = 0; i < N; i++) ids[i] = 32 + i * 7 % 90;
    tk_session *s = session(), *t;
    tk_model *wide;
    assert_int_equal(tk__model_open(&wide, MODEL, NULL, 64), TK_OK);
    assert_int_equal(tk_session_new(&t, wide), TK_OK);
    rows a = { few }, b = { many };
    assert_int_equal(tk_logits(s, ids, N, take, &a), TK_OK);
    assert_int_equal(tk_logits(t, ids, N, take, &b), TK_OK);
    assert_int_equal(a.n, N);
    assert_int_equal(b.n, N);
    assert_memory_equal(few, many, sizeof few);
    heard h;
    tk_request r = request("", &h);
    never_ends(&r);
    r.text = NULL, r.ids = ids, r.id_count = N, r.max_tokens = 1, r.sampling.temp = 0;
    few[(N - 1) * 259 + END] = -INFINITY;
    int32_t best = tk_argmax(few + (N - 1) * 259, 259);
    assert_int_equal(tk_generate(s, &r, NULL), TK_OK);
    assert_int_equal(h.text[0], best);
    ids[3] = 259;
    assert_int_equal(tk_logits(s, ids, N, take, &a), TK_E_USAGE);
    int32_t *long_ids = calloc(CTX + 1, sizeof *long_ids);
    assert_int_equal(tk_logits(s, long_ids, CTX + 1, take, &a), TK_E_LIMIT);
    assert_non_null(strstr(tk_error(), "161"));
    free(long_ids);
    tk_session_free(t), tk_session_free(s);
    tk_model_close(wide);
}

/* The judge: llama2.c's own greedy text of a trained model. */
static void stories(void **state) {
    (void)state;
    const char *shared = getenv("TOKAMAK_SHARED");
    char path[3][512];
    static const char *const names[] = { "stories260K.bin", "tok512.bin", "greedy200.txt" };
    for (int i = 0; i < 3; i++)
        snprintf(path[i], sizeof path[i], "%s/models/stories260k/%s", shared ? shared : "../shared",
                 names[i]);
    if (!tk_file_exists(path[0])) {
        print_message("skipped: no shared files\n");
        skip();
    }
    tk_model *m;
    tk_session *s;
    heard h = { 0 };
    tk_buf want = { 0 };
    tk_result result;
    assert_int_equal(tk_model_open(&m, path[0], &(tk_model_options){ .tokenizer = path[1] }), TK_OK);
    assert_int_equal(tk_session_new(&s, m), TK_OK);
    tk_request r = { .text = "",
                     .on_text = listen_to,
                     .arg = &h,
                     .max_tokens = 200,
                     .sampling = { .top_p = 1, .repeat_penalty = 1 } };
    assert_int_equal(tk_generate(s, &r, &result), TK_OK);
    assert_int_equal(tk_file_read(&want, path[2], 1 << 20), TK_OK);
    if (want.len && want.data[want.len - 1] == '\n') want.data[--want.len] = 0;
    assert_string_equal(h.text, want.data);
    tk_buf_free(&want);
    tk_session_free(s);
    tk_model_close(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sampling_of_the_model),
        cmocka_unit_test(same_with_and_without_cache),
        cmocka_unit_test(answer_is_kept),
        cmocka_unit_test(seeds),
        cmocka_unit_test(stop_strings),
        cmocka_unit_test(full_context),
        cmocka_unit_test(ends),
        cmocka_unit_test(cancel),
        cmocka_unit_test(refusals),
        cmocka_unit_test(chat_is_its_template),
        cmocka_unit_test(tokens_and_text),
        cmocka_unit_test(logits),
        cmocka_unit_test(stories),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
