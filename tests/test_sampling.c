/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling against the golden vectors of tools/make_sampling_vectors.py, against its own promises
 * (distribution, determinism, no dependence on what was drawn before) and at the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "infer/infer.h"
#include "ops/draw.h"
#include "ops/ref.h"

static tk_sampling neutral(void) { return (tk_sampling){ .temp = 1, .top_p = 1, .repeat_penalty = 1 }; }

static tk_sampler *make(tk_sampling p, int32_t vocab) {
    tk_sampler *s;
    assert_int_equal(tk_sampler_new(&s, &p, vocab), TK_OK);
    return s;
}

static int32_t pick(tk_sampler *s, const float *logits, uint64_t position) {
    int32_t id = -1;
    assert_int_equal(tk_sampler_pick(s, logits, position, &id), TK_OK);
    return id;
}

static double number(json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

static size_t read_ids(json_t *list, int32_t *ids, size_t room) {
    assert_true(json_array_size(list) <= room);
    for (size_t i = 0; i < json_array_size(list); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return json_array_size(list);
}

static int judge(json_t *c) {
    tk_logit_bias bias[8];
    json_t *biases = json_object_get(c, "bias"), *values = json_object_get(c, "logits");
    for (size_t i = 0; i < json_array_size(biases); i++) {
        json_t *pair = json_array_get(biases, i);
        bias[i].token = (int32_t)json_integer_value(json_array_get(pair, 0));
        bias[i].value = (float)json_number_value(json_array_get(pair, 1));
    }
    tk_sampling p = {
        .temp = (float)number(c, "temp"),
        .top_k = (int32_t)number(c, "top_k"),
        .top_p = (float)number(c, "top_p"),
        .min_p = (float)number(c, "min_p"),
        .repeat_penalty = (float)number(c, "repeat_penalty"),
        .presence_penalty = (float)number(c, "presence_penalty"),
        .frequency_penalty = (float)number(c, "frequency_penalty"),
        .bias = bias,
        .bias_count = json_array_size(biases),
    };
    p.seed =
        strtoull(json_string_value(json_object_get(c, "seed")), NULL, 10); /* over 2^63: no JSON integer */
    int32_t vocab = (int32_t)json_array_size(values), ids[64];
    float *logits = calloc((size_t)vocab, sizeof *logits), *kept = calloc((size_t)vocab, sizeof *kept);
    for (int32_t i = 0; i < vocab; i++)
        logits[i] = (float)json_number_value(json_array_get(values, (size_t)i));
    memcpy(kept, logits, (size_t)vocab * sizeof *kept);
    tk_sampler *s = make(p, vocab);
    tk_sampler_see_prompt(s, ids, read_ids(json_object_get(c, "prompt"), ids, 64));
    size_t n = read_ids(json_object_get(c, "answer"), ids, 64);
    for (size_t i = 0; i < n; i++) tk_sampler_see_answer(s, ids[i]);
    json_t *draws = json_object_get(c, "draws");
    for (size_t i = 0; i < json_array_size(draws); i++) {
        json_t *draw = json_array_get(draws, i);
        uint64_t position = (uint64_t)json_integer_value(json_array_get(draw, 0));
        int32_t want = (int32_t)json_integer_value(json_array_get(draw, 1)), got = pick(s, logits, position);
        if (got != want) {
            print_error("%s, position %llu: got %d, not %d\n", json_string_value(json_object_get(c, "name")),
                        (unsigned long long)position, (int)got, (int)want);
            fail();
        }
    }
    assert_memory_equal(logits, kept, (size_t)vocab * sizeof *logits);
    tk_sampler_free(s);
    free(logits), free(kept);
    return (int)json_array_size(draws);
}

static void golden(void **state) {
    (void)state;
    json_error_t e;
    json_t *cases = json_load_file("tests/data/sampling/golden.json", 0, &e);
    if (!cases) fail_msg("%s: line %d", e.text, e.line);
    int draws = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) draws += judge(json_array_get(cases, i));
    assert_true(json_array_size(cases) >= 50 && draws >= 2500);
    json_decref(cases);
}

/* Pearson's statistic of `n` draws against probabilities that the test works out itself in double. */
static void distribution(void **state) {
    (void)state;
    enum { VOCAB = 50, N = 40000 };
    static const struct {
        float temp;
        int32_t k;
        float p, min_p;
    } rows[] = {
        { 1, 0, 1, 0 }, { 0.7f, 0, 1, 0 }, { 2.5f, 20, 1, 0 }, { 1, 0, 0.9f, 0 }, { 1.3f, 30, 0.95f, 0.02f },
    };
    float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++) logits[i] = (float)(i * 37 % VOCAB) * 0.11f;
    for (size_t r = 0; r < TK_COUNT(rows); r++) {
        /* the order is known: logit rank of id i is VOCAB-1 - i*37%VOCAB */
        int order[VOCAB], count[VOCAB] = { 0 }, keep = 0;
        double prob[VOCAB], sum = 0, total = 0, chi = 0;
        for (int i = 0; i < VOCAB; i++) order[VOCAB - 1 - i * 37 % VOCAB] = i;
        int most = rows[r].k ? rows[r].k : VOCAB;
        for (int i = 0; i < most; i++) sum += prob[i] = exp((double)logits[order[i]] / (double)rows[r].temp);
        while (keep < most && total < (double)rows[r].p * sum &&
               prob[keep] >= (double)rows[r].min_p * prob[0])
            total += prob[keep++];
        tk_sampling p = neutral();
        p.temp = rows[r].temp, p.top_k = rows[r].k, p.top_p = rows[r].p, p.min_p = rows[r].min_p, p.seed = 99;
        tk_sampler *s = make(p, VOCAB);
        for (int n = 0; n < N; n++) count[pick(s, logits, (uint64_t)n)]++;
        int seen = 0;
        for (int i = 0; i < keep; i++) {
            double expected = N * prob[i] / total, d = count[order[i]] - expected;
            chi += d * d / expected, seen += count[order[i]];
        }
        assert_int_equal(seen, N);
        /* chi-square with k degrees: mean k, deviation sqrt(2k); 4 deviations either way */
        double k = keep - 1, deviation = sqrt(2 * k);
        if (fabs(chi - k) > 4 * deviation) fail_msg("row %zu: chi-square %g with %g degrees", r, chi, k);
        tk_sampler_free(s);
    }
}

/* Seeds and positions are independent streams: no two agree more often than chance. */
static void streams(void **state) {
    (void)state;
    enum { N = 20000 };
    float logits[8] = { 0 };
    tk_sampling p = neutral();
    tk_sampler *a = make(p, 8);
    p.seed = 1;
    tk_sampler *b = make(p, 8);
    int across_seeds = 0, across_positions = 0;
    for (int i = 0; i < N; i++) {
        across_seeds += pick(a, logits, (uint64_t)i) == pick(b, logits, (uint64_t)i);
        across_positions += pick(a, logits, (uint64_t)i) == pick(a, logits, (uint64_t)i + 1);
    }
    double deviation = sqrt(N * (1 / 8.0) * (7 / 8.0));
    assert_true(fabs(across_seeds - N / 8.0) < 4 * deviation);
    assert_true(fabs(across_positions - N / 8.0) < 4 * deviation);
    tk_sampler_free(a), tk_sampler_free(b);
}

/* A draw depends on parameters, history and position, not on the draws before it; and the short-list path
 * (top-k) and the bucket path agree where both say the same. */
static void determinism(void **state) {
    (void)state;
    enum { VOCAB = 5000 };
    static float logits[VOCAB];
    for (int i = 0; i < VOCAB; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i, 1, 2, 3 };
        tk_philox(word, 5, counter);
        logits[i] = 3 * (tk_uniform(word[0]) + tk_uniform(word[1]) + tk_uniform(word[2]) - 1.5f);
    }
    tk_sampling p = neutral();
    p.top_p = 0.9f, p.seed = 11;
    tk_sampler *a = make(p, VOCAB), *b = make(p, VOCAB);
    p.top_k = VOCAB - 1; /* the last one is outside the nucleus in any case, but changes the total */
    p.top_p = 1, p.min_p = 0.2f;
    tk_sampler *listed = make(p, VOCAB);
    p.top_k = 0;
    tk_sampler *bucketed = make(p, VOCAB);
    int32_t forward[300];
    for (int i = 0; i < 300; i++) forward[i] = pick(a, logits, (uint64_t)i);
    for (int i = 300; i-- > 0;) assert_int_equal(pick(b, logits, (uint64_t)i), forward[i]);
    for (int i = 0; i < 300; i++)
        assert_int_equal(pick(listed, logits, (uint64_t)i), pick(bucketed, logits, (uint64_t)i));
    tk_sampler_free(a), tk_sampler_free(b), tk_sampler_free(listed), tk_sampler_free(bucketed);
}

static int compare_logits(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* top-k keeps exactly the k best, whatever the order they come in: all of them are drawn, none else. */
static void top_k_selection(void **state) {
    (void)state;
    enum { VOCAB = 1000 };
    static float logits[VOCAB], sorted[VOCAB];
    for (int pattern = 0; pattern < 4; pattern++) {
        for (int i = 0; i < VOCAB; i++)
            logits[i] = pattern == 0   ? (float)i
                        : pattern == 1 ? (float)-i
                        : pattern == 2 ? (float)(i * 7919 % VOCAB)
                                       : (float)(i % 10);
        memcpy(sorted, logits, sizeof logits);
        qsort(sorted, VOCAB, sizeof *sorted, compare_logits);
        for (int32_t k = 1; k <= 130; k += 43) {
            tk_sampling p = neutral();
            p.temp = 1000, p.top_k = k;
            tk_sampler *s = make(p, VOCAB);
            bool seen[VOCAB] = { false };
            int different = 0;
            for (int i = 0; i < 60 * k; i++) {
                int32_t id = pick(s, logits, (uint64_t)i);
                assert_true(logits[id] >= sorted[k - 1]);
                different += !seen[id], seen[id] = true;
            }
            assert_int_equal(different, k);
            tk_sampler_free(s);
        }
    }
}

static void history(void **state) {
    (void)state;
    float logits[4] = { 1.0f, 1.2f, 1.1f, 0 };
    tk_sampling p = neutral();
    p.temp = 0, p.frequency_penalty = 0.06f;
    tk_sampler *s = make(p, 4);
    int32_t prompt[] = { 1, 1, 1, 77, -5 };
    tk_sampler_see_prompt(s, prompt, 5); /* frequency looks at the answer only */
    assert_int_equal(pick(s, logits, 5), 1);
    tk_sampler_see_answer(s, 1);
    assert_int_equal(pick(s, logits, 6), 1); /* 1.14 */
    tk_sampler_see_answer(s, 1);
    assert_int_equal(pick(s, logits, 7), 2); /* 1.08 < 1.1 */
    tk_sampler_see_answer(s, 1 << 20);
    tk_sampler_reset(s);
    assert_int_equal(pick(s, logits, 8), 1);
    tk_sampler_free(s);
    p = neutral(), p.temp = 0, p.repeat_penalty = 1.15f;
    s = make(p, 4);
    tk_sampler_see_prompt(s, prompt, 5); /* once per id, not three times: 1.2 / 1.15 > 1.0 */
    logits[2] = 0.9f;
    assert_int_equal(pick(s, logits, 5), 1);
    tk_sampler_free(s);
}

static void odd_numbers(void **state) {
    (void)state;
    float nan = NAN, inf = INFINITY;
    float some[6] = { nan, -inf, 1, nan, 1, -inf }, top[4] = { 0, inf, FLT_MAX, -inf },
          none[3] = { nan, -inf, nan };
    const int32_t ks[] = { 0, 1, 2, 6 };
    for (size_t k = 0; k < TK_COUNT(ks); k++) {
        for (float temp = 0; temp <= 1; temp += 0.5f) {
            tk_sampling p = neutral();
            p.temp = temp, p.top_k = ks[k], p.top_p = k % 2 ? 1 : 0.9f, p.min_p = k % 2 ? 0 : 0.5f;
            tk_sampler *s = make(p, 6);
            int different = 0;
            for (uint64_t i = 0; i < 50; i++) {
                int32_t id = pick(s, some, i);
                assert_true(id == 2 || id == 4);
                different |= id;
            }
            assert_int_equal(different, temp > 0 && ks[k] != 1 ? 6 : 2);
            tk_sampler_free(s);
            s = make(p, 4); /* +inf counts as the largest number */
            for (uint64_t i = 0; i < 50; i++) assert_in_range(pick(s, top, i), 1, 2);
            tk_sampler_free(s);
            s = make(p, 3);
            int32_t id;
            assert_int_equal(tk_sampler_pick(s, none, 9, &id), TK_E_INTERNAL);
            assert_non_null(strstr(tk_error(), "position 9"));
            tk_sampler_free(s);
        }
    }
    assert_int_equal(tk_argmax(none, 3), -1);
    assert_int_equal(tk_argmax(some, 6), 2);
    /* a ban by bias, and a ban of everything */
    tk_logit_bias ban[] = { { 2, -inf }, { 4, -inf } };
    tk_sampling p = neutral();
    p.bias = ban, p.bias_count = 1;
    tk_sampler *s = make(p, 6);
    assert_int_equal(pick(s, some, 0), 4);
    tk_sampler_free(s);
    p.bias_count = 2;
    s = make(p, 6);
    int32_t id;
    assert_int_equal(tk_sampler_pick(s, some, 0, &id), TK_E_INTERNAL);
    tk_sampler_free(s);
}

static void ranges(void **state) {
    (void)state;
    tk_logit_bias bias = { 3, 1 };
    tk_sampling good = tk_sampling_defaults();
    good.bias = &bias, good.bias_count = 1;
    assert_int_equal(tk_sampling_check(&good, 4), TK_OK);
    struct {
        tk_sampling p;
        const char *word;
    } bad[16];
    size_t n = 0;
#define BAD(field, v) bad[n].p = good, bad[n].p.field = (v), bad[n++].word = #field;
    BAD(top_p, 1.5f)
    BAD(top_p, -0.1f)
    BAD(top_p, NAN)
    BAD(min_p, 2)
    BAD(top_k, -1)
    BAD(repeat_penalty, 0)
    BAD(repeat_penalty, -1)
    BAD(presence_penalty, INFINITY) BAD(frequency_penalty, NAN) BAD(temp, -1) BAD(temp, NAN) BAD(temp, 1e-9f)
#undef BAD
        for (size_t i = 0; i < n; i++) {
        tk_sampler *s;
        assert_int_equal(tk_sampler_new(&s, &bad[i].p, 4), TK_E_USAGE);
        assert_null(s);
        assert_non_null(strstr(tk_error(), bad[i].word));
    }
    assert_int_equal(tk_sampling_check(&good, 3), TK_E_USAGE); /* token 3 of ids 0..2 */
    bias.token = -1;
    assert_int_equal(tk_sampling_check(&good, 4), TK_E_USAGE);
    bias = (tk_logit_bias){ 0, NAN };
    assert_int_equal(tk_sampling_check(&good, 4), TK_E_USAGE);
    bias.value = INFINITY;
    assert_int_equal(tk_sampling_check(&good, 4), TK_E_USAGE);
    bias.value = 0;
    assert_int_equal(tk_sampling_check(&good, 0), TK_E_UNSUPPORTED);
    assert_int_equal(tk_sampling_check(&good, 1 << 30), TK_E_UNSUPPORTED);
}

static void logprob(void **state) {
    (void)state;
    enum { VOCAB = 4099 };
    static float logits[VOCAB];
    double sum = 0, all = 0;
    for (int i = 0; i < VOCAB; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        tk_philox(word, 3, counter);
        logits[i] = 40 * tk_uniform(word[0]) - 90;
        sum += exp((double)logits[i]);
    }
    for (int i = 0; i < VOCAB; i++) {
        double got = tk_logprob(logits, VOCAB, i);
        assert_true(fabs(got - ((double)logits[i] - log(sum))) < 1e-6);
        all += exp(got);
        if (i % 100) i += 20;
    }
    float two[3] = { NAN, 0, -INFINITY };
    assert_true(fabs(tk_logprob(two, 3, 1)) < 1e-12);
    assert_true(tk_logprob(two, 3, 0) == -INFINITY && tk_logprob(two, 3, 2) == -INFINITY);
    assert_true(all < 1);
}

/* Not a benchmark but a guard: costs are held against that of finding the largest logit, which reads each
 * once. A full sort, or memory taken per token, would be far over. The best of many runs, for machines busy
 * elsewhere. */
static void speed(void **state) {
    (void)state;
    enum { VOCAB = 128256, N = 200 };
    float *logits = malloc(VOCAB * sizeof *logits);
    for (int i = 0; i < VOCAB; i++) {
        uint32_t word[4], counter[4] = { (uint32_t)i, 0, 0, 0 };
        tk_philox(word, 3, counter);
        float normal = 0;
        for (int j = 0; j < 4; j++) normal += tk_uniform(word[j]) - 0.5f;
        logits[i] = 5 * normal;
    }
    static const struct {
        const char *name;
        float temp;
        int32_t k;
        float p;
        double limit; /* times the first row */
    } rows[] = {
        { "greedy", 0, 0, 1, 1 },
        { "top-k 40, top-p 0.95", 0.8f, 40, 0.95f, 10 },
        { "top-p 0.95", 1, 0, 0.95f, 200 },
        { "temperature alone", 1, 0, 1, 200 },
    };
    double first = 0;
    for (size_t r = 0; r < TK_COUNT(rows); r++) {
        tk_sampling p = neutral();
        p.temp = rows[r].temp, p.top_k = rows[r].k, p.top_p = rows[r].p;
        tk_sampler *s = make(p, VOCAB);
        double best = 1;
        for (int i = 0; i < N; i++) {
            double start = tk_now();
            pick(s, logits, (uint64_t)i);
            best = TK_MIN(best, tk_now() - start);
        }
        print_message("%s over %d tokens: %.0f us\n", rows[r].name, VOCAB, best * 1e6);
        if (r == 0) first = best;
        assert_true(best <= rows[r].limit * first);
        tk_sampler_free(s);
    }
    double start = tk_now(), sink = 0;
    for (int i = 0; i < N; i++) sink += tk_logprob(logits, VOCAB, i);
    print_message("log-probability over %d tokens: %.0f us\n", VOCAB, (tk_now() - start) / N * 1e6);
    assert_true(sink < 0);
    free(logits);
}

/* The op draw, which devices run, draws what the sampler draws. */
static void the_op_draws_the_same(void **state) {
    (void)state;
    enum { N = 700 };
    static const float temps[] = { 0, 1, 0.6f, 2.5f }, top_ps[] = { 1, 0.95f, 0.4f, 0 },
                       min_ps[] = { 0, 0.02f, 0.3f, 0 };
    static const int32_t top_ks[] = { 0, 1, 40, 5000 };
    float logits[N];
    uint32_t word[4] = { 0 };
    for (int turn = 0; turn < 2000; turn++) {
        uint32_t counter[4] = { 0, (uint32_t)turn, 0, 1 };
        for (int i = 0; i < N; i++) {
            if (i % 4 == 0) counter[0]++, tk_philox(word, 3, counter);
            logits[i] = 12 * tk_uniform(word[i % 4]);
            if (turn % 3 == 0) logits[i] = floorf(logits[i]); /* ties */
            if (turn % 5 == 0 && i % 7 == 0) logits[i] = i % 2 ? NAN : -INFINITY;
        }
        if (turn % 50 == 0) logits[turn / 50] = INFINITY;
        tk_sampling p = neutral();
        p.temp = temps[word[0] % 4], p.top_p = top_ps[word[1] % 4], p.min_p = min_ps[word[2] % 4];
        p.top_k = top_ks[word[3] % 4], p.seed = (uint64_t)turn * 0x9E3779B97F4A7C15u;
        static tk_logit_bias some[3];
        static float bias[2 * N];
        static int32_t seen[2 * N];
        int32_t prompt[40];
        memset(bias, 0, sizeof bias), memset(seen, 0, sizeof seen);
        if (turn % 2) {
            p.repeat_penalty = turn % 3 ? 1.7f : 1, p.presence_penalty = turn % 5 ? 0.9f : 0,
            p.frequency_penalty = turn % 7 ? 1.1f : 0;
            for (int i = 0; i < 3; i++)
                some[i] = (tk_logit_bias){ (turn + 11 * i) % N, i ? 3.3f * (float)i : -INFINITY };
            p.bias = some, p.bias_count = turn % 4 > 1 ? 3 : 0;
            for (size_t i = 0; i < p.bias_count; i++) bias[N + some[i].token] = some[i].value;
        }
        tk_sampler *s = make(p, N);
        for (int i = 0; i < 40 && turn % 2; i++)
            prompt[i] = (int32_t)((word[i % 4] >> i % 20) % N), seen[N + prompt[i]] = 1;
        if (turn % 2) tk_sampler_see_prompt(s, prompt, 40);
        const bool changed = turn % 2;
        const tk_draw how = { p.temp,
                              p.top_p,
                              p.min_p,
                              p.top_k,
                              { (uint32_t)p.seed, (uint32_t)(p.seed >> 32) },
                              { 5, 0 },
                              p.repeat_penalty,
                              p.presence_penalty,
                              p.frequency_penalty,
                              changed ? 1 : -1 };
        int32_t id = 0;
        tk_args a = { .p = { logits, (void *)&how, bias, seen, &id }, .nth = 1 };
        tk_args note = { .p = { &id, (void *)&how, seen, seen }, .nth = 1 };
        note.dim['o' - 'a'].n = a.dim['o' - 'a'].n = 1, note.dim['v' - 'a'].n = a.dim['v' - 'a'].n = N;
        for (int step = 0; step < (changed ? 4 : 1); step++) { /* the answer counts, too */
            draw_ref_f32(&a), note_ref_f32(&note);
            assert_int_equal(id, pick(s, logits, 5));
            tk_sampler_see_answer(s, id);
        }
        tk_sampler_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),          cmocka_unit_test(distribution),
        cmocka_unit_test(streams),         cmocka_unit_test(determinism),
        cmocka_unit_test(history),         cmocka_unit_test(odd_numbers),
        cmocka_unit_test(top_k_selection), cmocka_unit_test(ranges),
        cmocka_unit_test(logprob),         cmocka_unit_test(the_op_draws_the_same),
        cmocka_unit_test(speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
