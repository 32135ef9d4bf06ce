/* SPDX-License-Identifier: Apache-2.0 */
/* Models with compressed weights: logits against the float32 ones of transformers (tests/data/judge, made by
 * tools/make_judge_models.py). The references and float weights must equal them but for rounding; the fast
 * kernels, whose activations are rounded to 8 bits, must be as near to them as llama.cpp is on the same file.
 * This is the small twin of tools/judge_formats.py and judge_smollm2.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "infer/infer.h"

#define ROOT "tests/data/judge/"

static const struct {
    const char *name;
    int vocab, tokens;
    double relative, kl;
} models[] = {
#include "data/judge/peer.inc"
};

static void must(tk_status s, const char *what) {
    if (s != TK_OK) fail_msg("%s: %s", what, tk_error());
}

typedef struct distance {
    double relative, kl, worst; /* worst: largest difference over the largest logit of its row */
} distance;

static double log_sum(const float *row, int n) {
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) top = fmax(top, row[i]);
    for (int i = 0; i < n; i++) sum += exp(row[i] - top);
    return top + log(sum);
}

/* As tools/judge_common.py's Errors: both rows without their means. */
static distance compare(const float *want, const float *got, int rows, int n) {
    distance d = { 0 };
    double square = 0, truth = 0;
    for (int r = 0; r < rows; r++, want += n, got += n) {
        double mean = 0, top = 0, diff = 0, a = log_sum(want, n), b = log_sum(got, n);
        for (int i = 0; i < n; i++) {
            mean += ((double)got[i] - want[i]) / n;
            top = fmax(top, fabs(want[i])), diff = fmax(diff, fabs((double)got[i] - want[i]));
            d.kl += exp(want[i] - a) * (want[i] - a - (got[i] - b)) / rows;
        }
        for (int i = 0; i < n; i++)
            square += pow((double)got[i] - want[i] - mean, 2), truth += (double)want[i] * want[i];
        d.worst = fmax(d.worst, diff / top);
    }
    d.relative = sqrt(square / truth);
    return d;
}

static distance run(size_t m, tk_engine_options o) {
    char path[256];
    int32_t tokens[64];
    const int n = models[m].tokens, vocab = models[m].vocab;
    tk_modelfile *f;
    tk_engine *e;
    tk_buf truth = { 0 };
    const float *logits;
    int seq;
    assert_true(n <= (int)TK_COUNT(tokens));
    for (int i = 0; i < n; i++) tokens[i] = (5 * i * i + 3 * i) % vocab;
    snprintf(path, sizeof path, ROOT "%s.f32", models[m].name);
    must(tk_file_read(&truth, path, 1 << 20), path);
    assert_int_equal(truth.len, (size_t)n * (size_t)vocab * sizeof(float));
    snprintf(path, sizeof path, ROOT "%s.gguf", models[m].name);
    must(tk_modelfile_open(&f, path, NULL), path);
    o.threads = 1, o.chunk = o.picks = n, o.kv_set = true, o.kv = TK_F32;
    must(tk_engine_new(&e, f, &o), path);
    must(tk_seq_new(e, &seq), path);
    tk_step_item item = { seq, tokens, n, n };
    must(tk_engine_step(e, &item, 1, &logits), path);
    distance d = compare((const float *)(const void *)truth.data, logits, n, vocab);
    tk_engine_free(e);
    tk_modelfile_free(f);
    tk_buf_free(&truth);
    return d;
}

static void references_equal_transformers(void **state) {
    (void)state;
    for (size_t m = 0; m < TK_COUNT(models); m++) {
        distance d = run(m, (tk_engine_options){ .reference = true });
        if (!(d.worst <= 1e-4)) fail_msg("%s: off by %g of the largest logit", models[m].name, d.worst);
    }
}

/* The limit is looser than the judges' 1.05: so small a model averages over little. */
static void kernels_are_as_near_as_llama_cpp(void **state) {
    static const struct {
        const char *tier;
        unsigned need, mask;
    } tiers[] = {
        { "plain", 0, ~0u },
        { "avx2", TK_CPU_AVX2, ~(unsigned)TK_CPU_AVX2 },
        { "best", 0, 0 },
    };
    (void)state;
    for (size_t t = 0; t < TK_COUNT(tiers); t++) {
        if (tiers[t].need & ~tk_cpu_features()) {
            printf("skipped: tier %s: this CPU lacks it\n", tiers[t].tier);
            continue;
        }
        for (size_t m = 0; m < TK_COUNT(models); m++) {
            distance d = run(m, (tk_engine_options){ .cpu_mask = tiers[t].mask });
            if (!(d.relative <= 1.2 * models[m].relative && d.kl <= 1.4 * models[m].kl))
                fail_msg("%s on %s: relative error %g, KL %g; llama.cpp's are %g and %g", models[m].name,
                         tiers[t].tier, d.relative, d.kl, models[m].relative, models[m].kl);
            /* plain weights are exact, but that the units for bfloat16 round activations to it */
            const bool rounded = !strcmp(models[m].name, "BF16") &&
                                 (tk_cpu_features() & ~tiers[t].mask & (TK_CPU_BF16 | TK_CPU_AMX));
            if (strstr(models[m].name, "F16") && !rounded && !(d.worst <= 1e-4))
                fail_msg("%s on %s: off by %g of the largest logit", models[m].name, tiers[t].tier, d.worst);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(references_equal_transformers),
        cmocka_unit_test(kernels_are_as_near_as_llama_cpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
