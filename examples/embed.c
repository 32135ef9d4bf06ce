/* SPDX-License-Identifier: Apache-2.0 */
/* The library in one page: open a model, ask it something, print the answer as it comes.
 *     cc embed.c $(pkg-config --cflags --libs tokamak) -o embed && ./embed model.gguf "Why is the sky blue?"
 */
#include <stdio.h>
#include <tokamak.h>

static int print(void *arg, const char *text, size_t bytes) {
    fwrite(text, 1, bytes, arg);
    return fflush(arg);
}

int main(int argc, char **argv) {
    tk_model *model = NULL;
    tk_session *session = NULL;
    tk_message message = { "user", argc > 2 ? argv[2] : "Tell me a short story." };
    if (argc < 2) return fprintf(stderr, "usage: embed MODEL [QUESTION]\n"), 2;
    tk_status s = tk_model_open(&model, argv[1], NULL);
    if (s == TK_OK) s = tk_session_new(&session, model);
    if (s == TK_OK) {
        tk_request request = { .messages = &message, .message_count = 1, .on_text = print, .arg = stdout };
        request.sampling = tk_model_sampling(model);
        s = tk_generate(session, &request, NULL);
    }
    if (s != TK_OK) fprintf(stderr, "%s\n", tk_error());
    tk_session_free(session);
    tk_model_close(model);
    putchar('\n');
    return s != TK_OK;
}
