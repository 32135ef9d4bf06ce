/* SPDX-License-Identifier: Apache-2.0 */
/* chat: a conversation at the terminal, or line by line from a pipe. Each turn gives the whole conversation
 * to the session, which computes only what it does not hold yet. Ctrl-C ends the answer, or the line being
 * typed, and never the program. Answers go to stdout, the prompt and all notes to stderr. */
#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/generate.h"

const cli_option options_chat[] = {
    { .include = cli_answer_options },
    { .include = cli_model_options },
    { 0 },
};

static volatile int interrupted; /* by Ctrl-C; what tk_request.cancel points to */

static void on_interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

typedef struct chat {
    tk_model *model;
    tk_session *session;
    cli_answer_state state;
    tk_request request;   /* sampling, stop strings, limits */
    char *system;         /* NULL: none; owned */
    tk_message *messages; /* without the system message; contents owned */
    size_t count, cap;
    tk_buf answer; /* of this turn */
    bool quit;
} chat;

/* ---- the conversation --------------------------------------------------------------------------------- */

static tk_status no_memory(void) {
    return TK_FAIL(TK_E_NOMEM, "out of memory\nfor a message\nfree some memory");
}

static void forget(chat *c, size_t keep) {
    while (c->count > keep) free((char *)(uintptr_t)c->messages[--c->count].content);
}

/* role: a literal */
static tk_status append(chat *c, const char *role, const char *content) {
    if (c->count == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 16;
        tk_message *bigger = realloc(c->messages, cap * sizeof *bigger);
        if (!bigger) return no_memory();
        c->messages = bigger, c->cap = cap;
    }
    tk_message *m = &c->messages[c->count];
    *m = (tk_message){ role, strdup(content) };
    if (!m->content) return no_memory();
    c->count++;
    return TK_OK;
}

static tk_status set_system(chat *c, const char *text) {
    char *copy = text && *text ? strdup(text) : NULL;
    if (text && *text && !copy) return no_memory();
    free(c->system);
    c->system = copy;
    return TK_OK;
}

static int print_text(void *arg, const char *text, size_t n) {
    chat *c = arg;
    tk_buf_put(&c->answer, text, n);
    fwrite(text, 1, n, stdout);
    return fflush(stdout);
}

/* The conversation as a request: a chat, or without template the messages' texts one below the other. */
static tk_status generate(chat *c, tk_result *result) {
    tk_request r = c->request;
    tk_buf script = { 0 };
    tk_message *all = NULL;
    r.on_text = print_text, r.arg = c, r.cancel = &interrupted;
    if (c->state.chat) {
        size_t n = c->count + (c->system != NULL);
        if (!(all = calloc(n, sizeof *all))) return no_memory();
        if (c->system) all[0] = (tk_message){ "system", c->system };
        memcpy(all + n - c->count, c->messages, c->count * sizeof *all);
        r.messages = all, r.message_count = n;
    } else {
        for (size_t i = 0; i < c->count; i++) tk_buf_printf(&script, "%s\n", c->messages[i].content);
        r.text = script.data, r.text_bytes = script.len;
    }
    tk_status s = tk_buf_check(&script);
    if (s == TK_OK) s = tk_generate(c->session, &r, result);
    tk_buf_free(&script);
    free(all);
    return s;
}

/* One turn. A turn that fails leaves the conversation as it was. */
static tk_status turn(chat *c, const char *line) {
    tk_result result;
    size_t before = c->count;
    interrupted = 0;
    c->answer.len = 0;
    tk_status s = append(c, "user", line);
    if (s == TK_OK) s = generate(c, &result);
    if (s == TK_OK) {
        putchar('\n');
        fflush(stdout);
        tk_buf_put(&c->answer, "", 0);
        s = tk_buf_check(&c->answer);
    }
    if (s == TK_OK) s = append(c, "assistant", c->answer.data);
    if (s != TK_OK) {
        forget(c, before);
        return s;
    }
    if (result.finish == TK_FINISH_CANCELLED) {
        clearerr(stdout); /* Ctrl-C cut a write short: no failure of the output */
        cli_note("(stopped)");
    }
    if (result.finish == TK_FINISH_CONTEXT)
        cli_note("the context of %d tokens is full: the answer is cut here; /clear begins anew",
                 (int)tk_model_about(c->model).ctx);
    cli_note("[%d + %d tokens, %d held; %.1f tok/s; first after %.2f s]", (int)result.prompt_tokens,
             (int)result.answer_tokens, (int)result.cached_tokens,
             cli_rate(result.answer_tokens - 1, result.answer_seconds), result.first_seconds);
    return TK_OK;
}

/* ---- commands within the chat ---------------------------------------------------------------------------
 */

static tk_status do_system(chat *c, const char *text) {
    if (!c->state.chat)
        return TK_FAIL(TK_E_USAGE,
                       "/system cannot be used here\nthere is no chat template to put it into\nwrite it "
                       "as text");
    TK_TRY(set_system(c, text));
    cli_note(c->system ? "(system message set)" : "(no system message)");
    return TK_OK;
}

static tk_status do_clear(chat *c, const char *text) {
    (void)text;
    forget(c, 0);
    cli_note("(conversation cleared)");
    return TK_OK;
}

static tk_status do_save(chat *c, const char *path) {
    json_t *list = json_array(), *root = json_pack("{s:O}", "messages", list);
    bool ok = root != NULL;
    if (c->system)
        ok = ok &&
             !json_array_append_new(list, json_pack("{s:s, s:s}", "role", "system", "content", c->system));
    for (size_t i = 0; ok && i < c->count; i++)
        ok = !json_array_append_new(
            list, json_pack("{s:s, s:s}", "role", c->messages[i].role, "content", c->messages[i].content));
    char *text = ok ? json_dumps(root, JSON_INDENT(2)) : NULL;
    tk_status s = text ? tk_file_write(path, text, strlen(text))
                       : TK_FAIL(TK_E_NOMEM, "cannot save the chat\nmemory ran out");
    if (s == TK_OK) cli_note("(%zu messages saved to %s)", c->count, path);
    free(text);
    json_decref(root);
    json_decref(list);
    return s;
}

static tk_status take_messages(chat *c, const char *path, json_t *root) {
    json_t *list = json_object_get(root, "messages"), *item;
    size_t i;
    if (!json_is_array(list))
        return TK_FAIL(TK_E_FORMAT,
                       "%s is no saved chat\nit has no list \"messages\"\n/save writes such files", path);
    json_array_foreach(list, i, item) {
        static const char *const roles[] = { "system", "user", "assistant" };
        const char *role = json_string_value(json_object_get(item, "role"));
        const char *content = json_string_value(json_object_get(item, "content"));
        size_t k = 0;
        while (role && k < TK_COUNT(roles) && strcmp(role, roles[k]) != 0) k++;
        if (!role || !content || k == TK_COUNT(roles) || (k == 0 && i > 0))
            return TK_FAIL(TK_E_FORMAT,
                           "%s is no saved chat\nmessage %zu has no role of system (first only), user or "
                           "assistant with a text\n/save writes such files",
                           path, i + 1);
        if (k == 0)
            TK_TRY(do_system(c, content));
        else
            TK_TRY(append(c, roles[k], content));
    }
    return TK_OK;
}

static tk_status do_load(chat *c, const char *path) {
    tk_buf text = { 0 };
    json_error_t e;
    json_t *root = NULL;
    tk_status s = tk_file_read(&text, path, (size_t)64 << 20);
    if (s == TK_OK && !(root = json_loadb(text.data ? text.data : "", text.len, JSON_REJECT_DUPLICATES, &e)))
        s = TK_FAIL(TK_E_FORMAT, "%s is not JSON\nline %d: %s\n/save writes such files", path, e.line,
                    e.text);
    tk_buf_free(&text);
    if (s != TK_OK) return s;
    chat old = *c;
    c->messages = NULL, c->count = c->cap = 0, c->system = NULL;
    s = take_messages(c, path, root);
    json_decref(root);
    chat *drop = s == TK_OK ? &old : c;
    forget(drop, 0);
    free(drop->messages);
    free(drop->system);
    if (s != TK_OK)
        c->messages = old.messages, c->count = old.count, c->cap = old.cap, c->system = old.system;
    else
        cli_note("(%zu messages loaded)", c->count);
    return s;
}

static tk_status do_exit(chat *c, const char *text) {
    (void)text;
    c->quit = true;
    return TK_OK;
}

static tk_status do_help(chat *c, const char *text);

static const struct {
    const char *name, *value, *help;
    tk_status (*run)(chat *c, const char *text);
} commands[] = {
    { "/system", "[TEXT]", "set the system message; without TEXT: remove it", do_system },
    { "/clear", "", "forget the conversation", do_clear },
    { "/save", "FILE", "write the conversation as JSON", do_save },
    { "/load", "FILE", "go on with a saved conversation", do_load },
    { "/help", "", "this list", do_help },
    { "/exit", "", "leave (Ctrl-D too)", do_exit },
};

static tk_status do_help(chat *c, const char *text) {
    (void)c, (void)text;
    for (size_t i = 0; i < TK_COUNT(commands); i++)
        cli_note("  %-8s %-7s %s", commands[i].name, commands[i].value, commands[i].help);
    cli_note("  Ctrl-C stops the answer.");
    return TK_OK;
}

static tk_status command(chat *c, const char *line) {
    size_t n = strcspn(line, " \t");
    const char *rest = line + n + strspn(line + n, " \t"), *names[TK_COUNT(commands)];
    for (size_t i = 0; i < TK_COUNT(commands); i++) {
        names[i] = commands[i].name;
        if (strlen(names[i]) != n || strncmp(names[i], line, n) != 0) continue;
        bool needs = *commands[i].value && *commands[i].value != '[';
        if (needs != !!*rest && !(*commands[i].value == '['))
            return TK_FAIL(TK_E_USAGE, "%s %s\nit takes %s\n/help lists the commands", names[i],
                           needs ? "needs a value" : "takes no value", needs ? commands[i].value : "nothing");
        return commands[i].run(c, rest);
    }
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)TK_MIN(n, sizeof word - 1), line);
    const char *near = cli_nearest(word, names, TK_COUNT(names));
    return TK_FAIL(TK_E_USAGE,
                   "unknown command '%s'\na line that begins with / is a command, no message\n%s%s%s", word,
                   near ? "did you mean " : "/help lists the commands", near ? near : "", near ? "?" : "");
}

/* ---- lines --------------------------------------------------------------------------------------------- */

typedef struct lines {
    EditLine *editor; /* NULL: not a terminal */
    History *history;
    char *pipe_line;
    size_t pipe_cap;
} lines;

static char *prompt_text(EditLine *e) {
    (void)e;
    return (char *)(uintptr_t) "> ";
}

/* libedit's own reader goes on after a signal; this one lets Ctrl-C end the line. */
static int read_character(EditLine *e, wchar_t *c) {
    (void)e;
    mbstate_t state = { 0 };
    for (;;) {
        char byte;
        if (interrupted) return -1;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return (int)n;
        size_t k = mbrtowc(c, &byte, 1, &state);
        if (k == (size_t)-1) {
            memset(&state, 0, sizeof state);
            *c = L'?';
            return 1;
        }
        if (k != (size_t)-2) return 1;
    }
}

static void lines_open(lines *l) {
    *l = (lines){ 0 };
    if (!cli_is_tty(stdin) || !cli_is_tty(stderr)) return;
    /* libedit reads wide characters of the locale; numbers stay in C's */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    HistEvent event;
    if (!(l->editor = el_init("tokamak", stdin, stderr, stderr))) return;
    el_set(l->editor, EL_PROMPT, prompt_text);
    el_set(l->editor, EL_EDITOR, "emacs");
    el_set(l->editor, EL_SIGNAL, 0);
    el_set(l->editor, EL_GETCFN, read_character);
    if ((l->history = history_init())) {
        history(l->history, &event, H_SETSIZE, 1000);
        el_set(l->editor, EL_HIST, history, l->history);
    }
}

static void lines_close(lines *l) {
    if (l->editor) el_end(l->editor);
    if (l->history) history_end(l->history);
    free(l->pipe_line);
}

/* The next line without its end, valid until the next call; NULL at the end of input. */
static char *lines_next(lines *l) {
    if (!l->editor) {
        ssize_t n;
        do errno = 0;
        while ((n = getline(&l->pipe_line, &l->pipe_cap, stdin)) < 0 && errno == EINTR && !feof(stdin));
        if (n < 0) return NULL;
        if (n > 0 && l->pipe_line[n - 1] == '\n') l->pipe_line[n - 1] = 0;
        return l->pipe_line;
    }
    for (;;) {
        int n = 0;
        HistEvent event;
        interrupted = 0;
        el_resize(l->editor);
        /* libedit shows its prompt first and then sets the terminal: a Ctrl-D in between would be lost. */
        el_set(l->editor, EL_PREP_TERM, 1);
        const char *line = el_gets(l->editor, &n);
        if (interrupted) {
            fprintf(stderr, "^C\n");
            el_reset(l->editor);
            continue;
        }
        if (!line || n <= 0) {
            fprintf(stderr, "\n");
            return NULL;
        }
        if (*line != '\n' && l->history) history(l->history, &event, H_ENTER, line);
        free(l->pipe_line);
        if (!(l->pipe_line = strndup(line, strcspn(line, "\n")))) return NULL;
        return l->pipe_line;
    }
}

static tk_status converse(chat *c) {
    lines l;
    struct sigaction action = { .sa_handler = on_interrupt }, old;
    sigaction(SIGINT, &action, &old);
    lines_open(&l);
    if (l.editor)
        cli_note("%s, %d tokens of context. /help lists commands.", tk_model_about(c->model).name,
                 (int)tk_model_about(c->model).ctx);
    tk_status s = TK_OK;
    for (char *line; !c->quit && (line = lines_next(&l));) {
        if (!line[strspn(line, " \t\r")]) continue;
        s = *line == '/' ? command(c, line) : turn(c, line);
        if (s != TK_OK && !l.editor) break; /* a script wants to know; a person goes on */
        if (s != TK_OK) cli_print_error("chat", s, false);
        s = TK_OK;
    }
    lines_close(&l);
    sigaction(SIGINT, &old, NULL);
    return s;
}

tk_status cmd_chat(const cli_args *a) {
    chat c = { 0 };
    tk_status s = cli_open(a, 0, 1, cli_string(a, "--template"), &c.model);
    if (s == TK_OK) s = cli_answer(a, c.model, &c.state, &c.request);
    if (s == TK_OK) s = set_system(&c, c.state.system);
    if (s == TK_OK) s = tk_session_new(&c.session, c.model);
    if (s == TK_OK) s = converse(&c);
    forget(&c, 0);
    free(c.messages);
    free(c.system);
    tk_buf_free(&c.answer);
    tk_session_free(c.session);
    tk_arena_free(&c.state.arena);
    tk_model_close(c.model);
    return s;
}
