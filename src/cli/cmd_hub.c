/* SPDX-License-Identifier: Apache-2.0 */
/* pull, ls, rm: the models of this machine; and how every command turns its MODEL word into a path. */
#include <stdlib.h>
#include <time.h>

#include "cli/cli.h"
#include "hub/hub.h"

static void draw(void *arg, const char *file, uint64_t done, uint64_t total) {
    cli_progress_draw(arg, file, done, total);
}

static void say(void *arg, const char *text) {
    cli_progress_end(arg);
    cli_note("%s", text);
}

static tk_status pull(const char *name, char **path) {
    cli_progress bar = { 0 };
    tk_hub_watch watch = { draw, say, &bar };
    tk_status s = tk_hub_pull(name, &watch, path);
    cli_progress_end(&bar);
    return s;
}

tk_status cli_model(const char *name, char **path) {
    tk_status s = tk_hub_resolve(name, path);
    if (s != TK_E_NOTFOUND || !tk_hub_is_name(name) || !cli_is_tty(stdin) || !cli_is_tty(stderr)) return s;
    /* a question that is answered no leaves the first error standing */
    char question[400];
    snprintf(question, sizeof question, "%.300s is not here. Pull it?", name);
    return cli_ask(question, true) ? pull(name, path) : tk_hub_resolve(name, path);
}

const cli_option options_pull[] = { { 0 } };
tk_status cmd_pull(const cli_args *a) {
    char *path;
    TK_TRY(pull(a->pos[0], &path));
    puts(path);
    free(path);
    return TK_OK;
}

static void date_of(char out[16], int64_t seconds) {
    time_t t = (time_t)seconds;
    struct tm tm;
    if (!seconds || !localtime_r(&t, &tm) || !strftime(out, 16, "%Y-%m-%d", &tm)) strcpy(out, "-");
}

const cli_option options_ls[] = { { .include = cli_json_options }, { 0 } };
tk_status cmd_ls(const cli_args *a) {
    tk_hub_list list;
    TK_TRY(tk_hub_list_all(&list));
    json_t *array = json_array();
    cli_table table = cli_table_new("NAME|>SIZE|DATE|PATH");
    for (size_t i = 0; i < list.count; i++) {
        const tk_hub_entry *e = &list.entries[i];
        char date[16];
        date_of(date, e->modified);
        cli_cell(&table, "%s%s", e->name, e->complete ? "" : " (no model in it)");
        cli_cell(&table, "%s", cli_bytes((double)e->bytes));
        cli_cell(&table, "%s", date);
        cli_cell(&table, "%s", e->path);
        json_array_append_new(array, json_pack("{s:s, s:I, s:I, s:b, s:s}", "name", e->name, "bytes",
                                               (json_int_t)e->bytes, "modified", (json_int_t)e->modified,
                                               "complete", (int)e->complete, "path", e->path));
    }
    bool empty = !list.count;
    tk_hub_list_free(&list);
    if (!empty || cli_flag(a, "--json")) return cli_print_either(cli_flag(a, "--json"), array, &table);
    json_decref(array);
    tk_buf_free(&table.cells);
    cli_note("no models here yet; `tokamak pull smollm2` brings a small one");
    return TK_OK;
}

const cli_option options_rm[] = {
    { "-y,--yes", CLI_FLAG, NULL, NULL, "do not ask" },
    { 0 },
};
tk_status cmd_rm(const cli_args *a) {
    const char *name = a->pos[0];
    char question[400];
    TK_TRY(tk_hub_remove(name, NULL));
    snprintf(question, sizeof question, "Remove %.300s from this machine?", name);
    if (!cli_flag(a, "--yes") && !cli_ask(question, false))
        return TK_FAIL(TK_E_CANCELLED, "%s was not removed\nit was not confirmed\nanswer y, or give --yes",
                       name);
    uint64_t freed;
    TK_TRY(tk_hub_remove(name, &freed));
    cli_note("removed %s, %s freed", name, cli_bytes((double)freed));
    return TK_OK;
}
