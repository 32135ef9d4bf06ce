#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/vocab: one small vocabulary for each kind of GGUF tokenizer (vocabs.json) and the ids that llama.cpp gives
by them (cases.json), for every pre-tokenizer name that llama.cpp 0.3.36's source knows.

    pip install tokenizers sentencepiece llama-cpp-python==0.3.36 gguf
    python tools/make_vocab_vectors.py

The byte-level vocabulary is trained without any pre-tokenizer, so its tokens reach over every boundary that a pre-tokenizer could
cut at, and a cut in the wrong place shows. write_gguf() is also what tools/judge_vocab.py makes its files with.
"""
import base64
import io
import json
import os
import random
import tempfile

OUT = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "vocab")
TEXTS = os.path.join(os.path.dirname(__file__), "..", "tests", "data", "texts")
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)

# names of one line cut alike and imply the same; the first of each has the cases
PRES = """default
gpt-2 phi-2 jina-es jina-de gigachat a.x-4.0 mellum modern-bert exaone4 mpt olmo jais trillion granite-docling jina-v1-en roberta-bpe
jina-v2-es jina-v2-de jina-v2-code
starcoder refact command-r smollm codeshell exaone minerva-7b mellum2
falcon
llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano
dbrx smaug-bpe
chatglm-bpe
glm4 glm5
qwen2 deepseek-r1-qwen kormo f2llmv2 stablelm2 megrez hunyuan solar-open grok-2
qwen35
jais-2
deepseek-llm
deepseek-coder
deepseek-v3 hunyuan-dense joyai-llm hy_v4
spark2_5
youtu
poro-chat bloom gpt3-finnish
viking
tekken
chameleon
gpt-4o llama4 kanana2 talkie minimax-m2
granite-embed-multi-97m
tiny_aya cohere2moe
kimi-k2
superbpe
bailingmoe bailingmoe2 llada-moe
seed-coder
ufakzeka
afmoe
laguna
exaone-moe
minicpm5""".splitlines()
RAW_PRES = ["gemma4 granite-embed-multi-311m", "sarvam-moe", "whitespace"]  # without the byte-level alphabet

LINES = """It's the dog's 'S 'T we'Re they'VE I'LL I'd 'ſ don't DON'T a'sb 's't
1 12 123 1234 12345 123456 1234567 ٣٤٥٦٧ ½²³ Ⅷ a1b22c333 3.14 1,000,000 १२३४ x1234y
camelCase CONSTANTS HTTPServer iPhone ÉCOLE éCole Straße ǅ İstanbul ΑΒγ РУсский
 a  b   c    d\n\n e\n \n f\r\n\r\ng \t\th\u00a0i\u3000j\u2003k \u0085l\u2028
漢字かなカナ漢字 中文。「引用」，再见 한국어 ㄱㄴ ㄅㄆ ｱｲ ไทย ລາວ ខ្មែរ မြန်မာ हिन्दी العربية עברית
naïve café e\u0301 a\u0327\u0301 \u0301x न\u093f ก\u0e31 \u200d\u200c 👍 👩‍👩‍👧 🇩🇪 🏳️‍🌈
!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ !a .b /c //d ///\n ...\n\n ;\r\n <=> ++ $5 €5 £ ¬ ± ≤ … “q” ‘q’ —
foo_bar(1,2); http://a.b/c?d=e#f x=y; //path/ /a/b/ \x00\x01\x7f\ufeff\ufffd \u0378 \U0010ffff \ue000 \u1c89 \U00010d40
、।۔، a,b.c!d?e|f(g) hello,world hello, world""".split("\n")
STRINGS = LINES + [
    "", " ", "a", "\n", "\n\n\n", " \n", "  x", "x  ", "Hello  World, it's 12345!", "<s>hi</s> <|im_start|>user<|im_end|> <think>ok</think>",
    "a<tool> b <tool>c", "abcab ab cab", "<|channel|>x<|message|>", "<sentinel:12>IMGIMGABCZ IMGIMGABCDEZ", "   <mask>  x", "é" * 20, "aA" * 15,
    "9" * 20, " " * 40 + "x", "\t" * 9, "漢A漢b", "ÀÉab 漢AAb ǅAb AÉ", "zzz\u0378\u0379zz", "[UNK] unknown [EMPTY_9]",
]


def bpe_vocab(byte_level=True):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE())
    if byte_level:
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    texts = [open(os.path.join(TEXTS, n), encoding="utf-8", errors="replace").read()[:1500] for n in sorted(os.listdir(TEXTS))]
    lines = [x for text in texts for x in text.splitlines(keepends=True)] + LINES * 6
    if not byte_level:
        lines = [x.replace(" ", "▁").rstrip("\n") for x in lines]
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else list("abcdefghij▁\n")
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=900, show_progress=False, initial_alphabet=alphabet, max_token_length=8))
    j = json.loads(t.to_str())["model"]
    tokens = sorted(j["vocab"], key=j["vocab"].get)
    merges = [" ".join(m) for m in j["merges"] if "\n" not in "".join(m) and " " not in "".join(m)]
    if not byte_level:
        tokens = tokens[:20] + [f"<0x{b:02X}>" for b in range(256) if b != 0x41] + tokens[20:]
        if "\n\n" not in tokens:
            tokens += ["\n", "\n\n"] if "\n" not in tokens else ["\n\n"]
    types = [BYTE if x.startswith("<0x") else NORMAL for x in tokens]
    # a merge whose result is no token, and one that only leads through it
    letters = ("q", "z", "w") if byte_level else ("q", "z", "w")
    merges += [f"{letters[0]} {letters[1]}", f"{letters[0]}{letters[1]} {letters[2]}"]
    special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL), ("<|im_start|>", CONTROL), ("<|im_end|>", NORMAL), ("<think>", USER),
               ("<tool> ", USER), ("abc", USER), ("cab ab", USER), ("<mask>", CONTROL), ("<|channel|>", CONTROL), ("<|message|>", CONTROL),
               ("<|fim_prefix|>", NORMAL), ("<unused1>", CONTROL), ("<|endoftext|>", CONTROL)]
    at = {x: i for i, x in enumerate(tokens)}
    for text, kind in special:
        if text in at:
            types[at[text]] = kind
        else:
            at[text] = len(tokens)
            tokens.append(text)
            types.append(kind)
    return {"tokens": tokens, "types": types, "merges": merges, "ids": {"bos": at["<s>"], "eos": at["</s>"]}}


def spm_vocab(model_type, **kw):
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb
    texts = [open(os.path.join(TEXTS, n), encoding="utf-8", errors="replace").read()[:4000] for n in sorted(os.listdir(TEXTS))]
    lines = [x for text in texts for x in text.splitlines()] + [x.replace("\x00", "") for x in LINES]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, model_type=model_type, vocab_size=700,
                                             character_coverage=0.99, minloglevel=2, user_defined_symbols=["<think>", "ab ab", "né"], **kw)
    m = pb.ModelProto.FromString(out.getvalue())
    kinds = {1: NORMAL, 2: UNKNOWN, 3: CONTROL, 4: USER, 5: UNUSED, 6: BYTE}
    j = {"tokens": [p.piece for p in m.pieces], "scores": [p.score for p in m.pieces], "types": [kinds[p.type] for p in m.pieces]}
    j["ids"] = {"bos": m.trainer_spec.bos_id, "eos": m.trainer_spec.eos_id, "unknown": m.trainer_spec.unk_id}
    if m.normalizer_spec.precompiled_charsmap:
        j["charsmap"] = base64.b64encode(m.normalizer_spec.precompiled_charsmap).decode()
    return j


def ugm_vocab():
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:  # a small map instead of the 240 KB of nmt_nfkc
        for a, b in [("ﬁ", "fi"), ("½", "1/2"), ("\u00a0", " "), ("\u3000", " "), ("\t", " "), ("\n", " "), ("é", "e"), ("e\u0301", "e"),
                     ("\u200d", ""), ("\u212b", "\u00c5"), ("‘", "'"), ("abc", "ABC")]:
            f.write(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n")
        f.flush()
        return spm_vocab("unigram", normalization_rule_tsv=f.name)


def wpm_vocab():
    words = sorted({w for line in LINES for w in line.lower().split()})
    pieces = ["[PAD]"] + [f"[unused{i}]" for i in range(99)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    chars = sorted({c for w in words for c in w if c.isprintable()} | set("abcdefghijklmnopqrstuvwxyz0123456789!?.,'漢ß"))
    chars = [c for c in chars if c not in "éàxy"]
    pieces += ["▁" + c for c in chars] + chars + ["▁the", "▁hello", "llo", "▁wor", "ld", "▁12", "34", "▁cafe", "ca", "se", "▁camel", "▁naive"]
    return {"tokens": list(dict.fromkeys(pieces)), "ids": {}}


def rwkv_vocab():
    tokens = ["<s>"]
    for b in range(256):
        tokens.append(chr(b) if 32 < b < 127 and chr(b) != "\\" else "\\\\" if b == 92 else f"\\x{b:02x}")
    tokens += ["\\n\\n", "\\r\\n", "\\t\\t", " the".replace(" ", "\\x20"), "hello", "he", "漢字", "\\xe6\\xbc", "ab", "abab", "'s", "</s>"]
    return {"tokens": tokens, "types": [CONTROL] + [NORMAL] * (len(tokens) - 2) + [USER], "ids": {}}


def write_gguf(path, model, vocab, pre=None, **keys):
    """keys: tokenizer.ggml.* that are bools, or general.name"""
    import gguf
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(keys.pop("name", "test"))
    w.add_tokenizer_model(model)
    if pre is not None:
        w.add_tokenizer_pre(pre)
    w.add_token_list(vocab["tokens"])
    if "types" in vocab:
        w.add_token_types(vocab["types"])
    if "scores" in vocab:
        w.add_token_scores(vocab["scores"])
    if "merges" in vocab:
        w.add_token_merges(vocab["merges"])
    for key, value in vocab["ids"].items():
        w.add_uint32(f"tokenizer.ggml.{key}_token_id", value)
    if "charsmap" in vocab:
        w.add_precompiled_charsmap(base64.b64decode(vocab["charsmap"]))
    for key, value in keys.items():
        w.add_bool("tokenizer.ggml." + key, value)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def variants(vocabs):
    """(name, model, vocabulary's name, pre, keys) of everything that is compared."""
    for line in PRES:
        for i, pre in enumerate(line.split()):
            yield line.split()[0] if not i else None, "gpt2", "bpe", pre, {}
    for line in RAW_PRES:
        for i, pre in enumerate(line.split()):
            yield line.split()[0] if not i else None, "whitespace" if pre == "whitespace" else "gpt2", "raw", pre, {}
    yield "gemma4 model", "gemma4", "raw", None, {}
    yield "whitespace lower", "whitespace", "raw", "whitespace", {"normalizer.lowercase": True}
    yield "bpe flags", "gpt2", "bpe", "qwen2", {"add_bos_token": True, "add_eos_token": True}
    yield "bpe phi3", "gpt2", "bpe", "gpt-2", {"name": "a Phi-3 model"}
    yield "spm", "llama", "spm", None, {}
    yield "spm bare", "llama", "spm", None, {"add_space_prefix": False, "add_bos_token": False, "add_eos_token": True}
    yield "wpm", "bert", "wpm", None, {}
    yield "wpm cased", "bert", "wpm", None, {"normalizer.lowercase": False}
    yield "wpm accents", "bert", "wpm", None, {"normalizer.strip_accents": False, "add_bos_token": False}
    yield "ugm", "t5", "ugm", None, {"add_space_prefix": True, "remove_extra_whitespaces": True}
    yield "ugm bare", "t5", "ugm", None, {"add_bos_token": True}
    yield "ugm prefix", "t5", "ugm", None, {"add_space_prefix": True, "add_eos_token": False}
    yield "rwkv", "rwkv", "rwkv", None, {}


class Peer:
    """llama.cpp's vocabulary of a file."""

    def __init__(self, path):
        import ctypes

        import llama_cpp
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, ctypes.c_void_p(0))
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.api, self.model = llama_cpp, llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        assert self.model, path
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.room = (llama_cpp.llama_token * 65536)()

    def ids(self, data, add, parse):
        n = self.api.llama_tokenize(self.vocab, data, len(data), self.room, len(self.room), add, parse)
        assert n >= 0
        return list(self.room[:n])

    def eog(self, n):
        return [i for i in range(n) if self.api.llama_vocab_is_eog(self.vocab, i)]

    def close(self):
        self.api.llama_model_free(self.model)


def main():
    os.makedirs(OUT, exist_ok=True)
    vocabs = {"bpe": bpe_vocab(), "raw": bpe_vocab(False), "spm": spm_vocab("bpe", byte_fallback=True, normalization_rule_name="identity"), "wpm": wpm_vocab(),
              "ugm": ugm_vocab(), "rwkv": rwkv_vocab()}
    with open(os.path.join(OUT, "vocabs.json"), "w") as f:
        json.dump(vocabs, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")
    rows, rng = [], random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "v.gguf")
        for name, model, vocab, pre, keys in variants(vocabs):
            if name is None:  # cuts as the line's first name does: its ids are looked up there
                rows[-1]["pre"].append(pre)
                continue
            write_gguf(path, model, vocabs[vocab], pre, **keys)
            peer = Peer(path)
            plain = [peer.ids(s.encode(), False, False) for s in STRINGS]
            parsed = [peer.ids(s.encode(), True, True) for s in STRINGS[len(LINES):]]
            rows.append({"name": name, "model": model, "vocab": vocab, "pre": [pre] if pre else [], "keys": keys, "plain": plain,
                         "parsed": parsed, "eog": peer.eog(len(vocabs[vocab]["tokens"]))})
            peer.close()
    with open(os.path.join(OUT, "cases.json"), "w") as f:
        f.write('{"strings":' + json.dumps(STRINGS) + f',"lines":{len(LINES)},"rows":[\n')
        f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main()
