/* SPDX-License-Identifier: Apache-2.0 */
/* llm.c's checkpoints against the Hugging Face folder that they were made of (tools/make_llmc_models.py): the
 * same weights and, float32, the same logits to the last bit; its tokenizer against Hugging Face's library.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/base.h"
#include "model/model.h"
#include "text/text.h"
#include "tokamak.h"

#define DATA "tests/data/models/"
#define HF "tests/data/hf/gpt2-plain"

static void same_weights(void **state) {
    (void)state;
    static const char *const roles[] = { "embed", "pos_embed", "norm1",  "norm1.b",  "q",
                                         "q.b",   "k",         "k.b",    "v",        "v.b",
                                         "o",     "o.b",       "norm2",  "norm2.b",  "up",
                                         "up.b",  "down",      "down.b", "norm_out", "norm_out.b" };
    static const char *const files[] = { DATA "llmc-v3.bin", DATA "llmc-v5.bin" };
    tk_modelfile *hf, *f;
    assert_int_equal(tk_modelfile_open(&hf, HF, NULL), TK_OK);
    for (int k = 0; k < 2; k++) {
        if (tk_modelfile_open(&f, files[k], NULL) != TK_OK) fail_msg("%s", tk_error());
        const tk_config *a = tk_modelfile_config(hf), *b = tk_modelfile_config(f);
        assert_true(a->n_vocab == b->n_vocab && a->n_ctx == b->n_ctx && a->n_layer == b->n_layer && a->tied &&
                    b->tied);
        for (size_t r = 0; r < TK_COUNT(roles); r++)
            for (int layer = 0; layer < 2; layer++) {
                tk_weight_view x, y;
                float want[128], got[128];
                assert_int_equal(tk_modelfile_weight(hf, roles[r], layer, &x), TK_OK);
                assert_int_equal(tk_modelfile_weight(f, roles[r], layer, &y), TK_OK);
                assert_true(x.data && y.data && x.rows == y.rows && x.cols == y.cols && x.cols <= 128);
                for (int64_t i = 0; i < x.rows; i++) {
                    tk_weight_view_row(&x, i, want), tk_weight_view_row(&y, i, got);
                    for (int64_t j = 0; j < x.cols; j++)
                        if (k ? fabsf(want[j] - got[j]) > fabsf(want[j]) / 256 : want[j] != got[j])
                            fail_msg("%s %s[%d] row %d: %g, not %g", files[k], roles[r], layer, (int)i,
                                     (double)got[j], (double)want[j]);
                }
            }
        tk_modelfile_free(f);
    }
    tk_modelfile_free(hf);
}

typedef struct sink {
    tk_buf all;
    size_t vocab;
} sink;
static tk_status keep(void *arg, const float *logits, size_t positions) {
    sink *s = arg;
    tk_buf_put(&s->all, logits, positions * s->vocab * sizeof *logits);
    return TK_OK;
}
static tk_buf logits_of(const char *path) {
    static const int32_t ids[] = { 5, 96, 0, 17, 42, 42, 8 };
    tk_model *m;
    tk_session *session;
    if (tk_model_open(&m, path, NULL) != TK_OK) fail_msg("%s", tk_error());
    sink s = { .vocab = (size_t)tk_model_about(m).vocab };
    assert_int_equal(tk_session_new(&session, m), TK_OK);
    assert_int_equal(tk_logits(session, ids, TK_COUNT(ids), keep, &s), TK_OK);
    tk_session_free(session);
    tk_model_close(m);
    return s.all;
}
static void same_logits(void **state) {
    (void)state;
    tk_buf hf = logits_of(HF), own = logits_of(DATA "llmc-v3.bin"), half = logits_of(DATA "llmc-v5.bin");
    assert_int_equal(own.len, hf.len);
    assert_int_equal(half.len, hf.len);
    assert_memory_equal(own.data, hf.data, hf.len);
    double most = 0,
           apart = 0; /* rounding each weight moves a logit by far less than one wrong weight would */
    for (size_t i = 0; i < hf.len / 4; i++) {
        float a, b;
        memcpy(&a, hf.data + 4 * i, 4), memcpy(&b, half.data + 4 * i, 4);
        most = fmax(most, fabs((double)a)), apart = fmax(apart, fabs((double)a - (double)b));
    }
    if (!(apart < most / 50)) fail_msg("%g apart of %g", apart, most);
    tk_buf_free(&hf), tk_buf_free(&own), tk_buf_free(&half);
}

static void the_tokenizer_beside_it(void **state) {
    (void)state;
    tk_modelfile *f;
    tk_tokenizer *t;
    assert_int_equal(tk_modelfile_open(&f, DATA "llmc-v3.bin", NULL), TK_OK);
    if (tk_modelfile_tokenizer(f, &t) != TK_OK) fail_msg("%s", tk_error());
    assert_true(tk_tokenizer_special(t, TK_EOS) >= 256 &&
                tk_tokenizer_is_eog(t, tk_tokenizer_special(t, TK_EOS)));
    json_t *cases = json_load_file(DATA "gpt2_tokenizer.cases.json", 0, NULL), *one;
    size_t i;
    assert_true(json_array_size(cases) > 30);
    json_array_foreach(cases, i, one) {
        const json_t *text = json_array_get(one, 0), *want = json_array_get(one, 1);
        tk_ids ids = { 0 };
        assert_int_equal(tk_encode(t, json_string_value(text), json_string_length(text), 0, &ids), TK_OK);
        bool same = ids.n == json_array_size(want);
        for (size_t k = 0; same && k < ids.n; k++)
            same = ids.id[k] == json_integer_value(json_array_get(want, k));
        if (!same) fail_msg("ids of \"%s\" differ", json_string_value(text));
        tk_buf back = { 0 };
        assert_int_equal(tk_decode(t, ids.id, ids.n, 0, &back), TK_OK);
        assert_int_equal(back.len, json_string_length(text));
        if (back.len) assert_memory_equal(back.data, json_string_value(text), back.len);
        tk_buf_free(&back);
        tk_ids_free(&ids);
    }
    json_decref(cases);
    tk_modelfile_free(f);
}

/* ---- damage ------------------------------------------------------------------------------------------ */

static char scratch[] = "/tmp/tokamak-llmc-XXXXXX";
static tk_buf load(const char *path) {
    tk_buf b = { 0 };
    assert_int_equal(tk_file_read(&b, path, 1 << 20), TK_OK);
    return b;
}
static void put(const char *bytes, size_t n) {
    FILE *f = fopen(scratch, "wb");
    assert_true(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
}
static tk_status open_scratch(bool tokenizer) {
    tk_modelfile *f = NULL;
    tk_tokenizer *t = NULL;
    tk_status s = tokenizer ? tk_tokenizer_open(&t, scratch) : tk_modelfile_open(&f, scratch, NULL);
    tk_modelfile_free(f);
    tk_tokenizer_free(t);
    return s;
}

static void damaged_headers(void **state) {
    (void)state;
    static const struct {
        bool tokenizer;
        int word;
        uint32_t value;
        tk_status want;
        const char *words;
    } rows[] = {
        { false, 1, 1, TK_E_UNSUPPORTED, "version 1" },
        { false, 1, 4, TK_E_UNSUPPORTED, "version 4" },
        { false, 1, 5, TK_E_FORMAT, "too many" },
        { false, 2, 0, TK_E_FORMAT, "max_seq_len = 0" },
        { false, 2, 1u << 20, TK_E_FORMAT, "truncated" },
        { false, 3, 0xffffffff, TK_E_FORMAT, "vocab_size = -1" },
        { false, 3, 129, TK_E_FORMAT, "padded to 128" },
        { false, 4, 1025, TK_E_FORMAT, "num_layers" },
        { false, 4, 1, TK_E_FORMAT, "too many" },
        { false, 5, 3, TK_E_FORMAT, "heads" },
        { false, 6, 1u << 17, TK_E_FORMAT, "truncated" },
        { false, 7, 1u << 24, TK_E_FORMAT, "truncated" },
        { true, 1, 3, TK_E_UNSUPPORTED, "version 3" },
        { true, 2, 0, TK_E_FORMAT, "number of tokens" },
        { true, 2, 0xffffffff, TK_E_FORMAT, "number of tokens" },
        { true, 2, 500, TK_E_FORMAT, "within a token" },
        { true, 2, 300, TK_E_FORMAT, "end token" },
        { true, 3, 401, TK_E_FORMAT, "end token" },
        { true, 1, 1, TK_E_FORMAT, "end token" },
        { true, 3, 300, TK_E_FORMAT, "made of the tokens" },
    };
    for (size_t i = 0; i < TK_COUNT(rows); i++) {
        tk_buf b = load(rows[i].tokenizer ? DATA "gpt2_tokenizer.bin" : DATA "llmc-v3.bin");
        memcpy(b.data + 4 * rows[i].word, &rows[i].value, 4);
        put(b.data, b.len);
        tk_status s = open_scratch(rows[i].tokenizer);
        if (s != rows[i].want || !strstr(tk_error(), rows[i].words))
            fail_msg("row %zu: status %d: %s", i, s, s == TK_OK ? "" : tk_error());
        tk_buf_free(&b);
    }
}

static void cut_and_flipped(void **state) {
    (void)state;
    static const char *const files[] = { DATA "llmc-v3.bin", DATA "llmc-v5.bin", DATA "gpt2_tokenizer.bin" };
    for (int k = 0; k < 3; k++) {
        tk_buf b = load(files[k]);
        for (size_t i = 0; i < 64; i++) {
            put(b.data, b.len * i / 64);
            assert_int_not_equal(open_scratch(k == 2), TK_OK);
        }
        put(b.data, b.len), assert_int_equal(open_scratch(k == 2), TK_OK);
        for (uint32_t i = 0; i < 300; i++) {
            uint32_t r[4], counter[4] = { i, (uint32_t)k };
            tk_philox(r, 11, counter);
            size_t at = r[0] % (k == 2 ? b.len : 40);
            char old = b.data[at];
            b.data[at] = (char)r[1];
            put(b.data, b.len);
            open_scratch(k == 2); /* any answer but a crash */
            b.data[at] = old;
        }
        tk_buf_free(&b);
    }
}

static int make_scratch(void **state) {
    (void)state;
    int fd = mkstemp(scratch);
    return fd < 0 ? -1 : close(fd);
}
static int remove_scratch(void **state) {
    (void)state;
    return unlink(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_weights),
        cmocka_unit_test(same_logits),
        cmocka_unit_test(the_tokenizer_beside_it),
        cmocka_unit_test(damaged_headers),
        cmocka_unit_test(cut_and_flipped),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
