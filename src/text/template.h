/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: the Jinja of Hugging Face's apply_chat_template, equal to it byte for byte, or an error.
 * A template comes with a model file and is hostile until checked: parsing takes linear time and bounded
 * depth, rendering runs under the limits below and touches nothing but the variables given to it.
 * A parsed template is read-only: several threads may render it at once. */
#ifndef TK_TEMPLATE_H
#define TK_TEMPLATE_H
#include "base/base.h"

typedef struct tk_template tk_template;

/* Parses `src` (UTF-8, at most 256 KiB; copied). TK_E_FORMAT with the line when it is not a template that
 * jinja2 takes, TK_E_UNSUPPORTED when it needs what this engine leaves out (include, import, autoescape). */
tk_status tk_template_parse(tk_template **out, const char *src, size_t n);
void tk_template_free(tk_template *t); /* NULL is fine */

/* A field of 0 takes the default, which suits chats of megabytes. */
typedef struct tk_template_limits {
    int64_t steps;  /* evaluated nodes and touched items: 20 million */
    int depth;      /* nested evaluations, macro calls and values: 1500 */
    size_t output;  /* bytes rendered: 64 MiB */
    size_t value;   /* bytes of one string, or items of one list: 16 Mi */
    size_t memory;  /* bytes of all values together: 512 MiB */
    double seconds; /* wall clock: 10 */
    int64_t now;    /* what strftime_now shows, seconds since 1970, local time; 0: the clock */
} tk_template_limits;

/* Renders with the variables of one JSON object: messages, tools, add_generation_prompt, bos_token and any
 * other. A name that is not in it is undefined, as in jinja2; Hugging Face always passes "tools" and
 * "documents" (null if there are none) and "add_generation_prompt", so a caller that wants its output should
 * too. The text is appended to `out`, which is as before when the call fails. `limits` may be NULL.
 * TK_E_FORMAT: the JSON is bad (also a duplicate key, a number beyond 64 bits), the template raised an
 * error (raise_exception's words are in tk_error()) or cannot take these variables. TK_E_LIMIT: a limit. */
tk_status tk_template_render(const tk_template *t, const char *json, size_t n,
                             const tk_template_limits *limits, tk_buf *out);

/* A model may bring several templates by name. `name` asks for one; with NULL it is "tool_use" if tools are
 * given and there is one, else "default". NULL if there is none of that name. */
typedef struct tk_template_source {
    const char *name, *text;
} tk_template_source;
const char *tk_template_choose(const tk_template_source *all, int n, const char *name, bool has_tools);

#endif
