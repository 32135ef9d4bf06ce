/* SPDX-License-Identifier: Apache-2.0 */
/* What people and scripts see: tables, JSON, bars, questions, errors. stdout is the answer; everything
 * here that is not the answer goes to stderr, and what only a person can use goes to a terminal only. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"

#define INPUT_LIMIT ((size_t)1 << 30)

/* ---- input ------------------------------------------------------------------------------------------- */

tk_status cli_read(const char *path, tk_buf *b) {
    if (strcmp(path, "-") != 0) return tk_file_read(b, path, INPUT_LIMIT);
    if (cli_is_tty(stdin) && cli_is_tty(stderr))
        fprintf(stderr, "reading from the terminal, end with Ctrl-D\n");
    char chunk[65536];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0) {
        tk_buf_put(b, chunk, n);
        if (b->len > INPUT_LIMIT)
            return TK_FAIL(TK_E_LIMIT, "the input is too long\nmore than 1 GiB came in\nsplit it");
    }
    if (ferror(stdin))
        return TK_FAIL(TK_E_IO, "cannot read stdin\n%s\ngive the text with -p or -f", strerror(errno));
    if (!b->data) tk_buf_put(b, "", 0); /* nothing is an empty string */
    return tk_buf_check(b);
}

tk_status cli_input(const cli_args *a, tk_buf *b) {
    const char *text = cli_string(a, "--prompt"), *file = cli_string(a, "--file");
    int typed_text = cli_given(a, "--prompt"), typed_file = cli_given(a, "--file");
    if (typed_text > typed_file) file = NULL; /* the command line beats the environment */
    if (typed_file > typed_text) text = NULL;
    if (text && file)
        return TK_FAIL(
            TK_E_USAGE,
            "both --prompt and --file are given\nthe text can come from one place only\ndrop one of them "
            "(or its TOKAMAK_ variable)");
    if (!text) return cli_read(file ? file : "-", b);
    tk_buf_puts(b, text);
    return tk_buf_check(b);
}

void cli_print_text(const char *text, size_t n) {
    if (n) fwrite(text, 1, n, stdout);
    if (cli_is_tty(stdout) && (!n || text[n - 1] != '\n')) putchar('\n');
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

json_t *cli_json_real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

tk_status cli_print_json(json_t *answer) {
    if (!answer) return TK_FAIL(TK_E_NOMEM, "cannot build the JSON answer\nmemory ran out");
    /* 9 digits say all of a float32 */
    int bad = json_dumpf(answer, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(answer);
    return bad ? TK_FAIL(TK_E_IO, "cannot write the answer\n%s\ncheck where stdout goes", strerror(errno))
               : TK_OK;
}

/* ---- tables ------------------------------------------------------------------------------------------ */

enum { MAX_COLUMNS = 16 };

cli_table cli_table_new(const char *headers) { return (cli_table){ .headers = headers }; }

void cli_cell(cli_table *t, const char *fmt, ...) {
    va_list ap;
    char *text = NULL;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0) text = NULL;
    va_end(ap);
    if (!text)
        t->cells.failed = true;
    else {
        for (char *c = text; *c; c++)
            if ((unsigned char)*c < 32 || *c == 127) *c = '?';
        tk_buf_put(&t->cells, text, strlen(text) + 1);
    }
    t->count++;
    free(text);
}

/* Characters, not bytes: continuation bytes take no room. */
static int width(const char *s, size_t n) {
    int w = 0;
    for (size_t i = 0; i < n; i++) w += ((unsigned char)s[i] & 0xc0) != 0x80;
    return w;
}

static void print_cell(const char *s, size_t n, int room, bool right, bool last) {
    int pad = room - width(s, n);
    if (right) printf("%*s", pad, "");
    fwrite(s, 1, n, stdout);
    if (last)
        putchar('\n');
    else
        printf("%*s", (right ? 0 : pad) + 2, "");
}

tk_status cli_table_print(cli_table *t) {
    int room[MAX_COLUMNS] = { 0 };
    bool right[MAX_COLUMNS] = { 0 };
    size_t columns = 0;
    for (const char *h = t->headers; columns < MAX_COLUMNS; columns++) {
        right[columns] = *h == '>';
        size_t n = strcspn(h, "|");
        room[columns] = width(h, n) - right[columns];
        h += n;
        if (!*h++) {
            columns++;
            break;
        }
    }
    tk_status s = tk_buf_check(&t->cells);
    const char *c = t->cells.data;
    for (size_t i = 0; s == TK_OK && i < t->count; i++, c += strlen(c) + 1)
        room[i % columns] = TK_MAX(room[i % columns], width(c, strlen(c)));
    const char *h = t->headers;
    for (size_t i = 0; s == TK_OK && i < columns; i++) {
        h += right[i];
        size_t n = strcspn(h, "|");
        print_cell(h, n, room[i], right[i], i + 1 == columns);
        h += n + (h[n] == '|');
    }
    c = t->cells.data;
    for (size_t i = 0; s == TK_OK && i < t->count; i++, c += strlen(c) + 1)
        print_cell(c, strlen(c), room[i % columns], right[i % columns], (i + 1) % columns == 0);
    tk_buf_free(&t->cells);
    return s;
}

tk_status cli_print_either(bool as_json, json_t *answer, cli_table *t) {
    if (!as_json) {
        json_decref(answer);
        return cli_table_print(t);
    }
    tk_buf_free(&t->cells);
    return cli_print_json(answer);
}

const char *cli_bytes(double bytes) {
    static _Thread_local char ring[8][24];
    static _Thread_local unsigned next;
    static const char *units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
    size_t u = 0;
    while (bytes >= 999.5 && u + 1 < TK_COUNT(units)) bytes /= 1000, u++;
    char *out = ring[next++ % 8];
    snprintf(out, sizeof ring[0], u && bytes < 99.95 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

/* ---- terminal ---------------------------------------------------------------------------------------- */

bool cli_is_tty(FILE *f) { return isatty(fileno(f)); }

bool cli_color(FILE *f) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return cli_is_tty(f) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

/* Prints text with control bytes made harmless: a hostile file's name must not steer the terminal. */
static void put_safe(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) fputc((unsigned char)s[i] < 32 || s[i] == 127 ? '?' : s[i], stderr);
}

void cli_progress_draw(void *arg, const char *what, uint64_t done, uint64_t total) {
    cli_progress *p = arg;
    double now = tk_now();
    if (!cli_is_tty(stderr)) return;
    if (!p->open) *p = (cli_progress){ .start = now, .first = done, .open = true };
    bool end = total && done >= total;
    if (!end && now - p->drawn < 0.1) return;
    p->drawn = now;
    struct winsize ws;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) || !ws.ws_col ? 80 : ws.ws_col;
    double rate = now > p->start ? (double)(done - p->first) / (now - p->start) : 0;
    char tail[96], left[24] = "";
    if (total && rate > 0)
        snprintf(left, sizeof left, "%3.0f s left", (double)(total - TK_MIN(done, total)) / rate);
    int n = snprintf(tail, sizeof tail, "%3.0f%%  %s of %s  %s/s  %s",
                     total ? 100.0 * (double)done / (double)total : 0.0, cli_bytes((double)done),
                     total ? cli_bytes((double)total) : "?", cli_bytes(rate), left);
    const char *slash = strrchr(what, '/'), *name = slash ? slash + 1 : what;
    int room = columns - n - 3, shown = TK_MIN((int)strlen(name), TK_MAX(room / 2, 0)),
        bar = TK_MIN(room - shown - 3, 30);
    fputc('\r', stderr);
    put_safe(name, (size_t)shown);
    if (bar >= 5 && total) {
        fputs(" [", stderr);
        for (int i = 0; i < bar; i++)
            fputc((double)i * (double)total < (double)done * bar ? '#' : '.', stderr);
        fputc(']', stderr);
    }
    int drawn = shown + (bar >= 5 && total ? bar + 3 : 0) + 1 + n;
    fprintf(stderr, " %s%*s%s", tail, TK_MAX(columns - 1 - drawn, 0), "", end ? "\n" : "");
    if (end) p->open = false;
    fflush(stderr);
}

void cli_progress_end(cli_progress *p) {
    if (p->open) fputc('\n', stderr);
    p->open = false;
}

bool cli_ask(const char *question, bool standard) {
    if (!cli_is_tty(stdin) || !cli_is_tty(stderr)) return standard;
    fprintf(stderr, "%s [%s] ", question, standard ? "Y/n" : "y/N");
    char line[16] = "";
    if (!fgets(line, sizeof line, stdin)) return false;      /* Ctrl-D is no consent */
    for (size_t n = strlen(line); n && line[n - 1] != '\n';) /* drop the rest of a long answer */
        if (!fgets(line + 1, sizeof line - 1, stdin))
            break;
        else
            n = strlen(line);
    return *line == '\n' ? standard : *line == 'y' || *line == 'Y';
}

void cli_note(const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    put_safe(text, (size_t)TK_MIN(TK_MAX(n, 0), (int)sizeof text - 1));
    fputc('\n', stderr);
}

/* What to do when the message does not say, by status */
static const char *general_advice(tk_status s) {
    switch (s) {
    case TK_E_USAGE: return "see the command's --help";
    case TK_E_NOTFOUND: return "check the name";
    case TK_E_FORMAT: return "fetch the file again, or ask whoever made it";
    case TK_E_UNSUPPORTED: return "look for another file of the same model, or a newer Tokamak";
    case TK_E_LIMIT: return "give less, or raise the limit if the command has an option for it";
    case TK_E_NOMEM: return "free some memory, lower --ctx, or take a smaller model";
    case TK_E_IO: return "check the disk and the permissions";
    case TK_E_NETWORK: return "check the network and try again";
    case TK_E_INTERNAL: return "report it with the command and this text";
    default: return "run the command again";
    }
}

/* What the status means */
static const char *general_reason(tk_status s) {
    static const char *const meanings[] = {
#define X(name, exit_code, meaning) meaning,
        TK_STATUS_LIST(X)
#undef X
    };
    return (size_t)s < TK_COUNT(meanings) ? meanings[s] : "unknown";
}

void cli_print_error(const char *command, tk_status status, bool verbose) {
    static const char *const labels[] = { "error: ", "  why: ", "   do: " };
    const char *parts[] = { NULL, NULL, NULL }, *s = tk_error();
    const bool color = cli_color(stderr);
    fflush(stdout); /* so that an answer already given stands before the error */
    for (int i = 0; i < 3 && *s; i++) {
        parts[i] = s;
        s += strcspn(s, "\n");
        s += *s == '\n';
    }
    if (!parts[1] || *parts[1] == '\n') parts[1] = general_reason(status);
    if (!parts[2] || *parts[2] == '\n') parts[2] = general_advice(status);
    for (int i = 0; i < 3; i++) {
        fprintf(stderr, "%s%s%s", color && !i ? "\033[1;31m" : "", labels[i], color && !i ? "\033[0m" : "");
        if (!i && *command) fprintf(stderr, "%s: ", command);
        if (parts[i]) put_safe(parts[i], strcspn(parts[i], "\n"));
        fputc('\n', stderr);
    }
    if (verbose) fprintf(stderr, "   at: %s\n", tk__error_where());
}
