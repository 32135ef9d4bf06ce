# SPDX-License-Identifier: Apache-2.0
# README's tables of what is supported are what the command makes of the code's tables.
set -euo pipefail
python3 tools/update_readme.py --check "$TOKAMAK/tokamak"
"$TOKAMAK/tokamak" doctor --supported --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
assert s["families"]["llama"][:3] == ["Hugging Face", "GGUF", "llama2.c"] and "llm.c" in s["families"]["gpt2"], s["families"]
assert {"plain C", "AVX2", "AVX-512"} <= set(s["weights"]["q8_0"]) and "a8" not in s["weights"] and "i32" not in s["weights"], s["weights"]
assert "tojson" in s["templates"]["filters"] and "xmlattr" not in s["templates"]["filters"], s["templates"]'
