# SPDX-License-Identifier: Apache-2.0
# README's tables of what is supported are what the command makes of the code's tables.
set -euo pipefail
python3 tools/update_readme.py --check "$TOKAMAK/tokamak"
"$TOKAMAK/tokamak" doctor --supported --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
f = s["families"]
assert f["gpt2"] == {"model_type": "gpt2", "general.architecture": "gpt2", "also": "llm.c 3, 5"} and f["mistral"]["general.architecture"] == "llama", f
assert {"plain C", "AVX2", "AVX-512"} <= set(s["weights"]["q8_0"]) and "a8" not in s["weights"] and "i32" not in s["weights"], s["weights"]
assert "tojson" in s["templates"]["filters"] and "xmlattr" not in s["templates"]["filters"], s["templates"]'
