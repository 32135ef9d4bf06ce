/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes behind the first are config.json, generation_config.json, tokenizer_config.json or
 * chat_template.jinja (the first byte chooses) of a folder whose other parts are good. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const parts[] = { "model.safetensors", "config.json", "generation_config.json",
                                         "tokenizer_config.json" };
    static const char *const files[] = { "config.json", "generation_config.json", "tokenizer_config.json",
                                         "chat_template.jinja" };
    if (!size) return 0;
    const char *folder = fuzz_folder(parts, TK_COUNT(parts)), *name = files[data[0] % 4];
    char path[128];
    tk_buf keep = { 0 };
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool had = tk_file_exists(path);
    if (had && tk_file_read(&keep, path, 1 << 20) != TK_OK) abort();
    fuzz_put(folder, name, data + 1, size - 1);
    fuzz_open(folder, false);
    if (had)
        fuzz_put(folder, name, (const uint8_t *)keep.data, keep.len);
    else
        unlink(path);
    tk_buf_free(&keep);
    return 0;
}
