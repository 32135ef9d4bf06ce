/* SPDX-License-Identifier: Apache-2.0 */
/* Golden listings: one layer of each family after every pass, on one rank and cut for two data ranks by two
 * tensor ranks with sequence parallelism. What a pass emits is read here by eye; TOKAMAK_UPDATE_GOLDEN=1
 * rewrites the files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/core.h"
#include "model/model.h"

static void must(tk_status s) {
    if (s != TK_OK) fail_msg("%s", tk_error());
}

static void listing(const char *pass, const tk_program *p, tk_buf *out) {
    tk_buf_printf(out, "== after %s\n", pass);
    tk_dump(p, out);
}

static void golden(const char *file, bool gpt2, bool mesh) {
    tk_config c = tk_config_plain(gpt2 ? TK_ARCH_GPT2 : TK_ARCH_LLAMA);
    c.name = "golden", c.n_layer = 1, c.n_embd = 16, c.n_ff = 24, c.n_vocab = 37, c.n_ctx = 8;
    c.n_head = 4, c.n_kv_head = gpt2 ? 4 : 2, c.head_dim = 4;
    c.norm_eps = 1e-5f, c.attn_scale = 0.5f, c.tied = gpt2;
    c.rope.dims = gpt2 ? 0 : 4;
    tk_build b = { .config = &c, .tokens = 8, .vocab_multiple = 4, .findmax = gpt2 };
    tk_mesh m = { .axes = mesh ? 2 : 0, .axis = { { 2, true, false, "t" }, { 2, false, true, "gfv" } } };
    tk_program p;
    tk_buf got = { 0 }, want = { 0 };
    char path[128];
    tk_prog_init(&p, TK_F32);
    must(tk_build_program(&p, &b)), listing("build", &p, &got);
    must(tk_grad(&p, tk_find(&p, "loss", -1), mesh)), must(tk_update(&p)), listing("grad", &p, &got);
    if (mesh)
        must(tk_shard(&p, &m, 0)), listing("shard", &p, &got);
    else
        must(tk_shard(&p, &m, -1));
    must(tk_choose(&p, 0, true)), must(tk_hoist(&p, TK_HOIST_ALL)), listing("hoist", &p, &got);
    must(tk_buf_check(&got));
    snprintf(path, sizeof path, "tests/data/golden/%s.txt", file);
    if (getenv("TOKAMAK_UPDATE_GOLDEN")) must(tk_file_write(path, got.data, got.len));
    must(tk_file_read(&want, path, 1 << 20));
    for (char *g = got.data, *w = want.data; *g || *w;) { /* line by line, to name the first that differs */
        size_t ng = strcspn(g, "\n"), nw = strcspn(w, "\n");
        if (ng != nw || memcmp(g, w, ng))
            fail_msg("%s:\nnow   %.*s\nwant  %.*s", path, (int)ng, g, (int)nw, w);
        g += ng + (g[ng] != 0), w += nw + (w[nw] != 0);
    }
    tk_buf_free(&got), tk_buf_free(&want);
    tk_prog_free(&p);
}

static void listings(void **state) {
    (void)state;
    golden("llama_one_rank", false, false), golden("llama_mesh", false, true);
    golden("gpt2_one_rank", true, false), golden("gpt2_mesh", true, true);
}

/* A program without memory or kernels still binds and walks: what plans and schedules are tested with. */
static void null_backend(void **state) {
    (void)state;
    tk_program p;
    tk_exec *e;
    static const tk_mesh alone = { .axes = 0 };
    tk_prog_init(&p, TK_F32);
    tk_letter(&p, 't', 4, 4), tk_letter(&p, 'e', 1 << 20, 1 << 20);
    tk_id x = tk_declare(&p, TK_INPUT, "x", "te", TK_F32);
    tk_output(&p, "y", TK_EMIT(&p, add, TK_NOATTR, x, TK_EMIT(&p, add, TK_NOATTR, x, x)));
    must(tk_shard(&p, &alone, -1)), must(tk_choose(&p, 0, true)), must(tk_hoist(&p, TK_HOIST_ALL)),
        must(tk_plan(&p, true, 1));
    assert_int_equal(p.arena_bytes[TK_A_WORK], 16 << 20);
    must(tk_exec_new(&e, &p, NULL, NULL, true));
    assert_null(tk_exec_data(e, x));
    tk_exec_run(e, TK_P_FORWARD);
    tk_exec_free(e);
    tk_prog_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(listings), cmocka_unit_test(null_backend) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
