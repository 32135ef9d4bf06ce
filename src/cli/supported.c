/* SPDX-License-Identifier: Apache-2.0 */
/* doctor --supported: what this build can read and compute, told by the tables that it is built from, as the
 * Markdown that README.md holds between its marks. A test compares the two, so neither can go stale. */
#include "cli/cli.h"
#include "core/core.h"
#include "model/model.h"
#include "text/jinja.h"

/* What files call each family, and the formats that hold one family only. */
static const struct {
    const char *hf, *gguf;
} names[TK_ARCHS] = {
#define TK_ARCH_ROW(id, hf, gguf, ...) { hf, gguf },
#include "model/archs.def"
#undef TK_ARCH_ROW
};
static const char *const also[TK_ARCHS] = {
    [TK_ARCH_LLAMA] = "llama2.c 0, 1", [TK_ARCH_GPT2] = "llm.c 3, 5"
};

/* The kernel rows of all backends, whichever this build was compiled with: the table is of the code. */
#ifndef TOKAMAK_CUDA
#define TOKAMAK_CUDA
#endif
#define TK_ANY TK_NODTYPE
enum { ON_CPU = 0, ON_CUDA = TK_ON_CUDA };
static const struct row {
    int op;
    unsigned needs;
    tk_dtype act, weight, out;
} kernels[] = {
#define KERNEL(op, backend, needs, act, weight, out, ...)                                                    \
    { TK_OP_##op, ON_##backend | (needs), TK_##act, TK_##weight, TK_##out },
#include "core/kernels.def"
#undef KERNEL
};

/* What a kernel row needs, as columns */
static const struct {
    const char *name;
    unsigned needs, of; /* needs of a row, looked at through `of` */
} tiers[] = {
    { "plain C", 0, TK_CPU_AVX2 | TK_CPU_AVX512 | TK_CPU_BF16 | TK_CPU_AMX | TK_ON_CUDA },
    { "AVX2", TK_CPU_AVX2, TK_CPU_AVX2 | TK_CPU_AVX512 | TK_CPU_AMX | TK_ON_CUDA },
    { "AVX-512", TK_CPU_AVX512, TK_CPU_AVX512 | TK_CPU_AMX | TK_ON_CUDA },
    { "AMX", TK_CPU_AMX, TK_CPU_AMX | TK_ON_CUDA },
    { "CUDA", TK_ON_CUDA, TK_ON_CUDA },
};

/* Is there a product with weights of this format in that tier, as they are or packed? -1: no file has the
 * format. */
static int has_product(tk_dtype format, size_t tier) {
    int known = -1;
    for (size_t i = 0; i < TK_COUNT(kernels); i++) {
        const struct row *pack = &kernels[i];
        if (pack->op != TK_OP_pack || pack->act != format) continue;
        known = TK_MAX(known, 0);
        for (size_t k = 0; k < TK_COUNT(kernels); k++) {
            const struct row *r = &kernels[k];
            if (r->op == TK_OP_linear && (r->weight == pack->out || r->weight == format) &&
                (r->needs & tiers[tier].of) == tiers[tier].needs)
                known = 1;
        }
    }
    return known;
}

static void add_names(json_t *to, const jrow *rows) {
    for (; rows->name; rows++)
        if (rows->fn) json_array_append_new(to, json_string(rows->name));
}

/* {families: {name: {where: its name there}}, weights: {name: [tiers]}, templates: {filters: [...], ...}} */
static json_t *collect(void) {
    json_t *families = json_object(), *weights = json_object();
    for (int a = 0; a < TK_ARCHS; a++)
        json_object_set_new(families, tk_arch_name((tk_arch)a),
                            json_pack("{s:s?, s:s?, s:s?}", "model_type", names[a].hf, "general.architecture",
                                      names[a].gguf, "also", also[a]));
    for (int f = 0; f < TK_DTYPES; f++) {
        json_t *in = has_product((tk_dtype)f, 0) < 0 ? NULL : json_array();
        for (size_t tier = 0; in && tier < TK_COUNT(tiers); tier++)
            if (has_product((tk_dtype)f, tier) > 0) json_array_append_new(in, json_string(tiers[tier].name));
        if (in) json_object_set_new(weights, tk_formats[f].name, in);
    }
    json_t *filters = json_array(), *tests = json_array(), *functions = json_array(), *methods = json_array();
    json_array_append_new(filters, json_string(tk__jtojson.name));
    add_names(filters, tk__jfilters), add_names(filters, tk__jseq_filters);
    add_names(tests, tk__jtests);
    add_names(functions, tk__jglobals);
    add_names(methods, tk__jstr_methods), add_names(methods, tk__jdict_methods),
        add_names(methods, tk__jlist_methods);
    return json_pack("{s:o, s:o, s:{s:o, s:o, s:o, s:o}}", "families", families, "weights", weights,
                     "templates", "filters", filters, "tests", tests, "functions", functions, "methods",
                     methods);
}

static bool holds(const json_t *list, const char *word) {
    size_t i;
    json_t *one;
    json_array_foreach(list, i, one) if (!strcmp(json_string_value(one), word)) return true;
    return false;
}

/* "a|b" as two words, which Markdown's | would end the cell of */
static void print_cell(const char *text) {
    for (putchar(' '); text && *text; text += strcspn(text, "|"), text += *text == '|' && printf(", "))
        printf("%.*s", (int)strcspn(text, "|"), text);
    printf(" |");
}

/* One row a member of `rows`, a cell a column: yes or not. */
static void print_grid(const char *head, const json_t *rows, const char *const *columns, size_t n) {
    const char *name;
    json_t *in;
    printf("\n| %s |", head);
    for (size_t i = 0; i < n; i++) printf(" %s |", columns[i]);
    printf("\n|---|");
    for (size_t i = 0; i < n; i++) printf("---|");
    printf("\n");
    json_object_foreach((json_t *)(uintptr_t)rows, name, in) {
        printf("| `%s` |", name);
        for (size_t i = 0; i < n; i++) printf(" %s |", holds(in, columns[i]) ? "yes" : "");
        printf("\n");
    }
}

tk_status cli_supported(bool json) {
    json_t *all = collect();
    if (json || !all) return cli_print_json(all);
    const char *columns[TK_COUNT(tiers)], *what;
    for (size_t i = 0; i < TK_COUNT(tiers); i++) columns[i] = tiers[i].name;
    json_t *names_in, *name_in;
    const char *family, *where;
    printf("\n| family | Hugging Face's `model_type` | GGUF's `general.architecture` | also "
           "|\n|---|---|---|---|\n");
    json_object_foreach(json_object_get(all, "families"), family, names_in) {
        printf("| %s |", family);
        json_object_foreach(names_in, where, name_in) { print_cell(json_string_value(name_in)); }
        printf("\n");
    }
    print_grid("weights of, with kernels in", json_object_get(all, "weights"), columns, TK_COUNT(tiers));
    printf("\n| chat templates | |\n|---|---|\n");
    json_t *list, *name;
    json_object_foreach(json_object_get(all, "templates"), what, list) {
        size_t i;
        printf("| %s |", what);
        json_array_foreach(list, i, name) { printf("%s `%s`", i ? "," : "", json_string_value(name)); }
        printf(" |\n");
    }
    json_decref(all);
    return TK_OK;
}
