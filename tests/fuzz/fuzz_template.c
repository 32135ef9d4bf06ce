/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a chat template and its variables: the template up to the first NUL, then JSON (a small chat
 * if there is none). The limits are low, so that a slow input is a finding. */
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char chat[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi "
        "\\u00e9\"},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,true]}}}]}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],\"add_generation_prompt\":true,"
        "\"s\":\"text, more\",\"i\":42,\"l\":[3,1,2],\"d\":{\"b\":1,\"a\":\"x\"},\"n\":null}";
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    const char *json = nul ? (const char *)nul + 1 : chat;
    tk_template *t;
    if (tk_template_parse(&t, (const char *)data, n) != TK_OK) return 0;
    const tk_template_limits limits = {
        .steps = 200000, .output = 1 << 20, .value = 1 << 18, .memory = 32 << 20, .now = 1
    };
    tk_buf out = { 0 };
    if (tk_template_render(t, json, nul ? size - n - 1 : sizeof chat - 1, &limits, &out) != TK_OK && out.len)
        __builtin_trap();
    tk_buf_free(&out);
    tk_template_free(t);
    return 0;
}
