# SPDX-License-Identifier: Apache-2.0
# plan, explain, bench ops and tune through the real command, on a small committed model.
set -euo pipefail
t=$TOKAMAK/tokamak
model=tests/data/models/gguf-q8_0.gguf
fail() { echo "FAILED: $*" >&2; exit 1; }
python3 - "$t" "$model" <<'PY' || fail "JSON of plan, explain, bench ops"
import json, subprocess, sys
t, model = sys.argv[1:]
run = lambda *a: json.loads(subprocess.run([t, *a, "--json"], check=True, capture_output=True).stdout)
plan = run("plan", model, "--ctx", "16")
assert plan["ctx"] == 16 and plan["state"] > 0 and plan["work"] <= 1.05 * plan["live_bound"] + 4096, plan
assert plan["total"] == plan["weights"] + plan["state"] + plan["io"] + plan["work"], plan
more = run("plan", model, "--ctx", "16", "--kv-type", "f32")
assert more["state"] == 2 * plan["state"], (more, plan)
rows = run("explain", model)
assert {"linear", "embed", "attn_paged"} <= {r["op"] for r in rows} and all(r["kernel"] and r["why"] for r in rows), rows
for m in model, "tests/data/models/gguf-bf16.gguf":
    for r in run("explain", m):
        assert r["why"].startswith("plain C") == (not r["kernel"].endswith(("avx2", "avx512", "bf16", "amx"))) or "reference" in r["why"], r
ops = run("bench", "ops", "--seconds", "0.01", "--filter", "linear_f32")
assert ops["read_gb_s"] > 0 and ops["rows"] and all(r["us"] > 0 and "linear_f32" in r["kernel"] for r in ops["rows"]), ops
PY
TOKAMAK_CPU=plain "$t" explain "$model" | grep -q linear_plain || fail "TOKAMAK_CPU=plain uses plain C"
"$t" explain "$model" --program | grep -q "forward.*attn_paged" || fail "explain --program"
"$t" bench ops --filter nosuchkernel 2>/dev/null && fail "an unknown filter is an error"
("$t" tune "$model" 2>&1 || true) | grep -q "nothing to tune" || fail "the CPU has nothing to tune"
"$t" plan "$model" --ctx 1000000 2>/dev/null && fail "a context beyond the model's is an error"
echo "plan, explain, bench ops, tune: fine"
