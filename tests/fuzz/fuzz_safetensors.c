/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes are model.safetensors, or the index of a sharded model when they start with an opening brace (no
 * safetensors file that small a header length has one there), beside a good config.json. */
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const parts[] = { "config.json" };
    static const char tiny[] =
        "\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}   ab";
    const char *folder = fuzz_folder(parts, 1);
    char path[128];
    bool index = size && data[0] == '{';
    fuzz_put(folder, index ? "model.safetensors.index.json" : "model.safetensors", data, size);
    if (index) fuzz_put(folder, "one.safetensors", (const uint8_t *)tiny, sizeof tiny - 1);
    fuzz_open(folder, false);
    snprintf(path, sizeof path, "%s/%s", folder,
             index ? "model.safetensors.index.json" : "model.safetensors");
    unlink(path);
    return 0;
}
