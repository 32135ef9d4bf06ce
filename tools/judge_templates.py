#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares Tokamak's chat templates with jinja2, byte for byte, under Hugging Face's settings: every template of a folder
times 24 conversations, then a few hundred expressions and statements. Both failing counts as agreement (a raised
message must be in ours). Needs PyPI's jinja2, and uses transformers' own environment if it is there.
Run: python3 tools/judge_templates.py [--lib build/lib/libtokamak.so] [--templates DIR]..."""
import argparse, ctypes, datetime, glob, itertools, json, os, re, sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment


def environment():
    """transformers' _compile_jinja_template without transformers."""
    class Generation(jinja2.ext.Extension):
        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

        def _body(self, caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.now().strftime(f)

    class Dict:
        def __call__(self, *args, **kwargs):
            return dict(*args, **kwargs)

        def fromkeys(self, *args, **kwargs):
            return dict.fromkeys(*args, **kwargs)

    class Namespace(jinja2.utils.Namespace):
        def __init__(*args, **kwargs):
            attrs = dict(*args[1:], **kwargs)
            for name in attrs:
                Namespace._check_name(name)
            jinja2.utils.Namespace.__init__(args[0], attrs)

        def __setitem__(self, name, value):
            Namespace._check_name(name)
            jinja2.utils.Namespace.__setitem__(self, name, value)

        @staticmethod
        def _check_name(name):
            if isinstance(name, str) and name.startswith("_"):
                raise jinja2.exceptions.SecurityError("Chat templates cannot store underscore-prefixed attributes on a namespace")

    env.globals["dict"], env.globals["namespace"] = Dict(), Namespace
    return env


def compile_with_jinja(source):
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template
        return _compile_jinja_template(source)
    except ImportError:
        return environment().from_string(source)


class Buf(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("len", ctypes.c_size_t), ("cap", ctypes.c_size_t), ("failed", ctypes.c_bool)]


class Ours:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.tk_error.restype = ctypes.c_char_p

    def render(self, source, variables):
        """(text, None) or (None, error)"""
        t, out = ctypes.c_void_p(), Buf()
        src, js = source.encode(), json.dumps(variables, ensure_ascii=False).encode()
        if self.lib.tk_template_parse(ctypes.byref(t), src, ctypes.c_size_t(len(src))):
            return None, self.lib.tk_error().decode(errors="replace")
        status = self.lib.tk_template_render(t, js, ctypes.c_size_t(len(js)), None, ctypes.byref(out))
        text = None if status else ctypes.string_at(out.data, out.len) if out.len else b""
        error = self.lib.tk_error().decode(errors="replace") if status else None
        self.lib.tk_buf_free(ctypes.byref(out))
        self.lib.tk_template_free(t)
        return (None, error) if status else (text.decode(), None)


def theirs(source, variables):
    try:
        return compile_with_jinja(source).render(**variables), None
    except Exception as e:  # whatever Python raises is "no rendering"
        return None, f"{type(e).__name__}: {e}"


# ---- conversations -------------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Gets the weather \"now\" <for> a city & more.",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city, e.g. Zürich ☀"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "unit"},
        "days": {"type": ["integer", "null"], "default": 3, "description": "days 1.5", "minimum": 0.5},
        "where": {"type": "object", "description": "a place", "additionalProperties": {"type": "number"}}},
        "required": ["city"]},
    "return": {"type": "array", "items": {"type": "number"}, "description": "degrees"}}}
TOOL2 = {"type": "function", "function": {"name": "stop", "description": "Stops.", "parameters": {"type": "object", "properties": {}}}}


def conversations():
    sys_ = {"role": "system", "content": "You are a pirate.\nAnswer in rhymes."}
    user = {"role": "user", "content": "Hello, who are you?"}
    bot = {"role": "assistant", "content": "I am a bot."}
    user2 = {"role": "user", "content": "  What is 1 < 2 && \"x\"?\t\n"}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "call12345", "type": "function", "function": {
        "name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "ok": True, "none": None, "f": 1e-7, "l": [1, 2.5]}}}]}
    call_text = {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {
        "name": "get_weather", "arguments": "{\"city\": \"Paris\"}"}}]}
    answer = {"role": "tool", "tool_call_id": "call12345", "name": "get_weather", "content": "{\"temp\": 21}"}
    answer2 = {"role": "tool", "tool_call_id": "abcdefghi", "name": "get_weather", "content": "22"}
    think = {"role": "assistant", "content": "<think>\nhm, 2+2\n</think>\n\nIt is 4."}
    reason = {"role": "assistant", "content": "Done.", "reasoning_content": "let me see\n"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Look: "}, {"type": "image"}, {"type": "text", "text": "what?"}]}
    uni = {"role": "user", "content": "Grüße 你好 👋🏽 e\u0301 \u200b ŒSSÆ"}
    chats = [
        [user], [sys_, user], [user, bot, user2], [sys_, user, bot, user2, bot], [sys_], [], [user, user2], [bot],
        [sys_, user, call, answer, bot, user2], [user, call, answer], [user, call_text, answer2, bot],
        [sys_, user, call, answer, answer2, bot], [user, think, user2], [sys_, user, reason, user2], [parts],
        [sys_, parts, bot, user], [uni, bot, uni], [{"role": "user", "content": ""}, bot, user],
        [{"role": "system", "content": "be /no_think brief"}, user, think], [{"role": "user"}], [{"role": "ipython", "content": {"a": 1}}],
        [user, {"role": "assistant", "content": "<think>\nlong"}, user, call, answer], [sys_, user, bot] * 8, [{"role": "user", "content": None}],
    ]
    for i, messages in enumerate(chats):
        base = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>"}
        for tools, gen, extra in ((None, True, {}), ([TOOL], True, {}), ([TOOL, TOOL2], False, {"enable_thinking": False, "thinking": True}),
                                  ("absent", i % 2 == 0, {"date_string": "01 Jan 2025", "builtin_tools": ["brave_search", "code_interpreter"]})):
            v = dict(base, add_generation_prompt=gen, **extra)
            if tools != "absent":
                v["tools"] = tools
                v["documents"] = None
            yield v


# ---- expressions ---------------------------------------------------------------------------------------

VARS = {"s": "Hello, World", "u": "Grüße ǅ ß ﬁ ΑΣ x İ", "e": "", "n": None, "t": True, "f": False, "i": 42, "z": 0, "m": -7, "r": 3.14159,
        "big": 1e16, "small": 1e-5, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "ll": [[1, 2], [3, 4]], "d": {"b": 1, "a": [1, {"x": None}], "C": "q'\""},
        "o": [{"name": "x", "age": 3, "in": {"k": 1}}, {"name": "Y", "age": 1}, {"name": "z", "age": 2, "in": {"k": 2}}], "q": "it's \"q\"\n\t\\ é \x7f \u200b",
        "ws": "  a  b\tc \n d  ", "nested": {"items": [1], "get": "G", "x": {"y": {"z": 9}}}, "csv": "a,b,,c", "html": "<a href='x'>&</a>"}

EXPRESSIONS = r"""
1+2|3-5|7//2|-7//2|7%3|-7%3|7%-3|2**10|2**-1|2**0.5|1/2|4/2|7.5//2|-7.5//2|7.5%2|-7.5%2|1.0|1e3|1e16|1e15|1.5e-5|0.0001|0.00001|123456789012345678|1_000|0x1f|0b101|0o17|1e22|1.0e100|5e-324|0.1+0.2|-0.0|1/3|100.0*3|2**62|10**18
-2**2|- 3|+4|--4|not true|not not 1|1 and 2|0 and 2|0 or "x"|"" or none|n or 5|true and false|1 < 2|1 < 2 < 3|1 < 3 < 2|1 == 1.0|true == 1|"a" < "b"|[1,2] < [1,3]|(1,2) == (1,2)|[1] == (1,)|1 != 2|"1" == 1|none == none|n is none|undefd == undefd|1 in l|5 not in l|"ell" in s|"b" in d|"x" in e|none in [none]|1 in (1,2)|3 in range(5)|2 in {2: 1}
"a" "b" 'c'|"a" ~ 1 ~ none ~ true ~ 1.5 ~ [1,"x"] ~ {"a": 1.0}|"a" + "b"|[1] + [2]|(1,) + (2,)|"ab" * 3|3 * "ab"|[0] * 3|"ab" * -1|"x" ~ undefd ~ "y"|'\n\t\\\'\"\x41\u00e9\101\q'|"\é"|'a\
b'
s[0]|s[-1]|s[1:4]|s[::-1]|s[::2]|s[-3:]|s[:-3]|s[5:2]|s[100:]|s[-100:2]|u[1]|u[2:5]|u[::-1]|u[-1]|l[0]|l[-1]|l[1:]|l[::-1]|l[10]|d["b"]|d.b|d.a[1].x|d["zz"]|d.zz|o[0].name|o.0.name|nested.items|nested["items"]|nested.get|nested["get"]|nested.x.y.z|l.5|range(5)[1:3]|range(10)[2]|range(10)[::-2]|(1,2,3)[1:]|s["upper"]()|s[1.0]|l["x"]|d[none]|{none: 1}[none]|{1: 2}[true]|l[true]
"a" if t else "b"|"a" if f else "b"|"a" if f|("a" if f) is defined|1 if f else 2 if f else 3|[1 if t else 2]
[1, 2.0, "x", none, true, [], {}, (), (1,), (1,2)]|{"a": 1, 'b': [1], 3: 4, 1.5: none, (1,2): 3}|[]|{}|()|(1)|(1,)|[1,]|{"a":1,}|{"a":1}.a|d|l|o|q|[q]|[u]|["it's"]|['"']|["'\""]|[r, big, small]|["\x00\x1f\x7f\x80\xa0\u200b\U0001f600"]
s|upper|s|lower|u|upper|u|lower|u|title|u|capitalize|"hello wORLD-foo (bar)"|title|"ALL caps"|capitalize|s|length|l|length|d|length|u|length|undefd|length|5|length|s|first|s|last|l|first|l|last|[]|first|[]|last|e|first|d|first|d|last|l|sum|[1.5,2]|sum|o|sum(attribute="age")|l|min|l|max|[]|min|ls|min|ls|max|o|max(attribute="age")|l|sort|ls|sort|ls|sort(case_sensitive=true)|ls|sort(reverse=true)|o|sort(attribute="age")|o|sort(attribute="name,age")|l|reverse|list|s|reverse|l|reverse|first|d|dictsort|d|dictsort(true)|{"a":2,"b":1}|dictsort(by="value")|{"a":2,"b":1}|dictsort(reverse=true)
l|join|l|join(", ")|o|join("-", attribute="name")|[1,none,true,1.5]|join("|")|d|join(",")|l|list|s|list|d|list|undefd|list|n|list|5|list|d|items|list|undefd|items|list|n|items|list|d.items()|d.keys()|d.values()|d.items()|list|d.keys()|list|d.get("b")|d.get("zz")|d.get("zz", 5)|d.items()|length|d.copy()
ws|trim|"xxaxx"|trim("x")|ws.strip()|ws.lstrip()|ws.rstrip()|"xxaxx".strip("x")|"abcba".strip("ab")|ws.split()|ws.split(none, 1)|ws.rsplit(none, 1)|csv.split(",")|csv.split(",", 1)|csv.rsplit(",", 1)|csv.split(sep=",", maxsplit=2)|e.split()|e.split(",")|csv.split("")|"a\nb\r\nc\x0bd\u2028e\n".splitlines()|"a\nb\n".splitlines(true)|csv.partition(",")|csv.rpartition(",")|csv.partition("zz")|csv.rpartition("zz")|s.startswith("He")|s.startswith(("x","He"))|s.startswith("l",2)|s.endswith("ld")|s.endswith(("a","d"))|s.replace("l","L")|s.replace("l","L",1)|"abc".replace("","-")|"abc".replace("","-",2)|s.find("o")|s.find("o",5)|s.find("zz")|s.rfind("o")|s.index("W")|s.index("zz")|u.find("x")|u.rfind("e")|s.count("l")|"aaa".count("aa")|"aaa".count("")|s.upper()|s.lower()|s.title()|"they're bill's".title()|s.swapcase()|u.swapcase()|s.capitalize()|u.casefold()|"42".zfill(5)|"-42".zfill(5)|"x".center(5,"*")|"xy".center(5)|"x".ljust(3)~"|"|"x".rjust(3,"é")|"a\tb".expandtabs()|"a\tb".expandtabs(4)|"foobar".removeprefix("foo")|"foobar".removesuffix("bar")|",".join(ls)|",".join(l)|"-".join("abc")|"-".join([])
"abc".isalpha()|"ab1".isalnum()|"12".isdigit()|"²".isdigit()|"²".isdecimal()|"½".isnumeric()|" ".isspace()|"".isspace()|"Ab".istitle()|"AB".isupper()|"ab".islower()|"é".isascii()|"1".islower()|"Ǆ".isupper()|"ǅ".istitle()
"{} {}".format(1, "x")|"{0}{1}{0}".format("a","b")|"{a.b}".format(a={"b":1})|"{a[b]}".format(a={"b":1})|"{:>5}|{:<5}|{:^5}|{:*^7}".format("a","b","c","d")|"{:05d} {:+} {:,} {:x} {:#x} {:b}".format(42,42,1234567,255,255,5)|"{:.2f} {:e} {:g} {:%}".format(3.14159,1234.5,0.0001,0.25)|"{!r}".format("x")|"{{}}".format()|"{}".format()|"{x}".format(x=none)|"{:10.3f}|".format(2.5)|"{:.3}".format("abcdef")|"{}".format([1,"a"])|"{:d}".format("x")
"%s %d %5.2f %r" % ("a", 5, 3.14159, "q")|"%s" % "x"|"%s" % [1]|"%(a)s %(b)d" % {"a": 1, "b": 2}|"%%"  % ()|"%5s|%-5s|" % ("a","b")|"%05d" % 42|"%x %X %o" % (255,255,8)|"%e" % 1234.5|"%g" % 0.00001|"%+d" % 3|"%c" % "x"|"%c" % 65|"%s %s" % ("a",)|"%s" % ("a","b")|"%d" % "x"|"%.3s" % "abcdef"|"%s and %s"|format("a", 1)|"%(x)s"|format(x=5)|"%s" % none|"%5.1f%%" % 99.5|"%i" % 3.9|"%*d" % (5, 42)|"%s" % undefd
d|tojson|o|tojson|q|tojson|u|tojson|[1.0,1e20,1e-7,true,none]|tojson|d|tojson(indent=2)|o|tojson(indent=4)|[]|tojson(indent=2)|{"a":[],"b":{}}|tojson(indent=1)|d|tojson(sort_keys=true)|d|tojson(separators=(",",":"))|u|tojson(ensure_ascii=true)|"👋\x7f"|tojson(ensure_ascii=true)|html|tojson|(1,2)|tojson|{1:2,none:3,true:4,1.5:5}|tojson|undefd|tojson|{"a":undefd}|tojson|d.items()|tojson|l|map("string")|tojson|{(1,2):3}|tojson|d|tojson(indent="--")|d|tojson(indent=0)
undefd|undefd.x|undefd["x"]|undefd()|undefd + 1|undefd ~ "x"|undefd is defined|undefd is undefined|undefd == none|not undefd|undefd|default("x")|undefd|d("x")|e|default("x")|e|default("x", true)|none|default("x")|none|default("x",true)|[undefd]|undefd|upper|undefd|join(",")|undefd|tojson|undefd in [1]|1 in undefd|undefd > 1|-undefd|undefd.x is defined|d.zz.y|d.zz is defined|d.zz.y is defined|n.x|n.x.y|n is defined|undefd|int|undefd|string|"x" in undefd|undefd|trim|undefd|replace("a","b")
s is string|i is string|i is number|r is float|i is integer|t is integer|t is number|t is boolean|n is none|d is mapping|l is mapping|l is sequence|s is sequence|d is sequence|i is sequence|l is iterable|i is iterable|undefd is iterable|undefd is sequence|d.items() is sequence|range(3) is sequence|l|map("string") is sequence|l|map("string") is iterable|i is odd|i is even|i is divisibleby 7|i is divisibleby(5)|i is eq 42|i is equalto(42)|i is ne 1|i is gt 3|i is lessthan 3|i is ge(42)|"a" is in "abc"|1 is in l|s is lower|"abc" is lower|"ABC" is upper|t is true|t is false|1 is true|n is not none|s is not string|n is sameas none|t is sameas true|1 is sameas 1.0|range is callable|s is callable|"upper" is filter|"nope" is filter|"odd" is test|s is escaped|s|safe is escaped|s is defined and i is defined|i is number or s is nope|"x" is string is string
o|map(attribute="name")|list|o|map(attribute="in.k")|list|o|map(attribute="in.k", default=0)|list|ls|map("upper")|list|ls|map("replace","a","X")|join|l|map("nope")|list|l|select|list|[0,1,"",none]|select|list|l|select("odd")|list|l|reject("odd")|list|l|select("gt",1)|list|l|select(">",1)|list|l|select("nope")|list|o|selectattr("in")|list|o|selectattr("age","equalto",1)|list|o|selectattr("age",">",1)|map(attribute="name")|join(",")|o|rejectattr("name","in",["x","z"])|list|o|selectattr("in","defined")|list|length|l|select("odd")|first|l|select("odd")|last|l|select("odd")|length|undefd|selectattr("x")|list|n|selectattr("x")|list|o|groupby("age")|list|length|o|groupby("name")|map(attribute="grouper")|list|o|groupby("age")|o|groupby("zz", default=1)|map("first")|list|o|groupby("name")|map(attribute="list")|list|length|ls|unique|list|["a","A","b"]|unique(true)|list|[1,1.0,true,2]|unique|list|o|unique(attribute="age")|list|length|l|batch(2)|list|l|batch(2,"x")|list|l|slice(2)|list|l|slice(2,"x")|list|range(7)|slice(3)|list|range(7)|batch(3, 0)|list|l|map("string")|join|[[2],[1]]|sort|[1,"a"]|sort|[none,1]|sort|[d]|unique|list
"3"|int|"3.7"|int|" 42 "|int|"x"|int|"x"|int(5)|"ff"|int(base=16)|"0xff"|int(base=16)|"0b11"|int(0,2)|"1_000"|int|r|int|-3.7|int|n|int|l|int|t|int|"3.5"|float|"x"|float|"x"|float(1.5)|i|float|"inf"|float|"nan"|float|"1e5"|float|"1e5"|int|42.55|round|42.55|round(1)|42.55|round(1,"floor")|42.51|round(0,"ceil")|2.5|round|3.5|round|5|round|1234|round(-2)|0.125|round(2)|r|round(2)|-2.5|round|m|abs|-1.5|abs|"a"|abs|t|abs|t + 1|t * 2.5|5 // 0|5 % 0|5 / 0|5.0 / 0|"a" - 1|[1] - [1]|"a" + 1|1 + "a"|n + 1|{} + {}
html|e|html|escape|html|safe|html|safe + "<b>"|"<b>" + html|safe|html|e|e|html|e|forceescape|(html|safe) ~ "<"|html|safe|upper|html|safe|replace("x","<")|(html|safe).replace("x","<")|[html|safe]|html|safe|tojson|html|urlencode|"a b&c/d é"|urlencode|{"a":"b c","d":1}|urlencode|html|safe|length|("%s"|safe) % "<x>"|("<{}>"|safe).format("<x>")|html|string|(html|safe)[0:3] + "<"|(","|safe).join(["<",">"])
"foo bar baz qux"|truncate(9)|"foo bar baz qux"|truncate(9, true)|"foo bar baz qux"|truncate(11)|"foo bar baz qux"|truncate(11,false,"...",0)|"a\nb\n\nc"|indent|"a\nb\n\nc"|indent(2,true)|"a\nb\n\nc"|indent(2,blank=true)|"a\nb"|indent("> ")|e|indent|"a\n"|indent|5|indent|"x"|center(5)|"hello world foo"|wordcount|1000|filesizeformat|1500|filesizeformat|1|filesizeformat|123456789|filesizeformat|2048|filesizeformat(true)|"12"|filesizeformat|s|replace("o","0")|s|replace("o","0",1)|123|replace(2,"x")|s|string|i|string|l|string|s|attr("upper")|d|attr("b")|s|nope|s|upper|lower|title|s|d|count|o|map(attribute="name")|first
range(5)|range(5)|list|range(2,5)|list|range(5,0,-2)|list|range(0)|list|range(3)|string|range(0,10,3)|string|range(1000000)|range(1,2,0)|range("x")|dict(a=1,b=2)|dict({"a":1},b=2)|dict([["a",1]])|namespace(a=1).a|namespace(a=1)|namespace()|namespace({"x":2}).x|namespace(_x=1)|raise_exception("boom é")|raise_exception(5)|raise_exception()|nofunc()|s()|s.nope()|s.upper(1)|l.append(1)|d.pop("a")|d.update({})|l.sort()|l.index(1)|l.index(99)|l.count(1)|(1,2).index(2)|s.__class__|s["__class__"]|d.__len__|l._x|s._x|{"_x":5}._x|{"__x":5}["__x"]|cycler("a","b").next()|joiner()|joiner("|")()|lipsum is defined|s.format.nope|5 .bit_length()|1.0.is_integer()|strftime_now("%Y") == strftime_now("%Y")|strftime_now("%%d%%")
s|upper()|s | upper | length|-1|abs|-i|abs|(-1)|abs|not s is string|i if t|i.real|1 if 1 is defined else 2|1 ~ 2 + 3|2 * 3 ~ 4|1 + 2 ~ 3|"a" in "abc" and true|not "a" in "abc"|1 < 2 == true|1 == 1 in [true]|[1,2][0]|{"a":{"b":2}}.a.b|"abc"|length == 3|("abc"|length) * 2|l|sort|first|l|sort|first + 1|"x".upper().lower()|s.split(",")[1].strip()|[[1]][0][0]|d.a.0|d.a.1.x|{"a":1}|length|"%d" % i|length|s[l[1]:l[0]]|l[-2:]|"a" * 3|length|"é"|length|"👋🏽"|length|"e\u0301"|length
loop|caller|self|messages|true|True|none|None|false|False|TRUE|nan|inf|"a"if t else"b"|1if t else 2|[1,2,3]|first|{}|tojson|[]|tojson|""|tojson|0|tojson|-0.0|tojson|1e400|1e400|tojson|-1e400|1e400|string|1e308*10|(1e308*10)|tojson|"\ud83d"|1 2|1 +|(1|[1|{1|"a|'a|}}|1 === 2|a b|1..2|.5|1.|@|$x|é|été is defined|x y z|`a`|a.b.|a[|a[]|l[1,2]|f(a=1,a=2)|f(a=1,2)|f(*l,1)|f(**d,1)|[*l]|lambda x: x|x := 1|1 if|is defined|not|and 1|* 2|1 **|2 ** 3 ** 2|2 ** -1 ** 2|1 not 2|1 is|l|l||length
""".strip("\n").replace("\\\nb", "\\\nb")

STATEMENTS = [
    "{% for x in l %}{{ x }}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{{ loop.last }}{% else %}none{% endfor %}",
    "{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}", "{% for x in [] %}{% else %}E{% endfor %}",
    "{% for x in undefd %}{{ x }}{% else %}E{% endfor %}", "{% for x in n %}{{ x }}{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{{ loop.last }}{% endfor %}",
    "{% for a, b in ll %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% for a, b in [[1]] %}{% endfor %}", "{% for (a, (b, c)) in [[1,[2,3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}", "{% for x in range(3) %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in l %}{% break %}{% else %}E{% endfor %}", "{% for x in l %}{% continue %}{% else %}E{% endfor %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in l recursive %}{{ x }}{% endfor %}",
    "{% for x in [{'c':[{'c':[]},{'c':[{'c':[]}]}]}] recursive %}<{{ loop.depth }}{{ loop.index }}{{ loop(x.c) }}>{% endfor %}",
    "{% for x in l %}{{ loop }}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% for x in l %}{% set loop = 1 %}{% endfor %}",
    "{% for x in l|map('string') %}{{ loop.length }}{{ x }}{{ loop.last }}{% endfor %}", "{% for x in l|reverse %}{{ x }}{{ loop.length }}{% endfor %}",
    "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}{{ 'T' if g }}", "{% set g = l|select('odd') %}{% for x in g %}{{ x }}{% endfor %}{{ g|list }}",
    "{% set ns = namespace(found=false) %}{% for x in l if not ns.found %}{{ x }}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}",
    "{% set ns = namespace(found=false) %}{% for x in l if not ns.found %}{{ x }}{{ loop.last }}{% if x == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}",
    "{% for x in l %}{{ loop.nextitem is defined }}{{ loop.previtem is defined }}{{ loop.previtem.y is defined }}{% endfor %}",
    "{% for m in o if m.age > 1 %}{{ loop.previtem.name if loop.previtem }}-{{ m.name }};{% endfor %}",
    "{% for a, b in ll if b > 2 %}{{ a }}{{ loop.length }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{{ loop }}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}",
    "{% if f %}{% set i = 2 %}{% endif %}{{ i }}", "{{ i }}{% set i = 2 %}{{ i }}", "{% set i = i + 1 %}{{ i }}",
    "{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% set i = 5 %}{{ m() }}", "{% for a in [1,2] %}{{ i }}{% set i = a %}{{ i }}{% endfor %}{{ i }}",
    "{% for a in l %}{% if a == 1 %}{% set q = a %}{% endif %}{{ q }}|{% endfor %}", "{% for a in l %}{% if a == 1 %}{% set qq = a %}{% endif %}{{ qq }}|{% endfor %}{{ qq }}",
    "{% for i in l %}{{ i }}{% endfor %}{{ i }}", "{% for x in l %}{% else %}{% set s = 1 %}{% endfor %}{{ s }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1, 2, 3] %}", "{% set (a, b) = (1, 2) %}{{ a }}{{ b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a = 1, %}{{ a }}", "{% set 1 = 2 %}", "{% set a.b = 1 %}", "{% set d.b = 1 %}", "{% set true = 1 %}", "{% set a %}", "{% set = 1 %}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns }}{{ ns.c }}{{ ns['a'] }}", "{% set ns = namespace() %}{% set ns._a = 1 %}",
    "{% set ns = namespace(x='') %}{% for i in l %}{% set ns.x = ns.x + i|string %}{% endfor %}{{ ns.x }}", "{% set ns = namespace(a=1) %}{% set ns.a, y = 2, 3 %}{{ ns.a }}{{ y }}", "{{ namespace(a=1) == namespace(a=1) }}",
    "{% set x %}a{{ i }}b{% endset %}{{ x }}{{ x|length }}", "{% set x | upper | replace('A', 'z') %}a{{ i }}b{% endset %}{{ x }}", "{% set x %}{% set y = 1 %}{% endset %}{{ y }}", "{% set ns = namespace() %}{% set ns.x %}t{% endset %}{{ ns.x }}",
    "{% for x in l %}{% set y %}{% break %}{% endset %}{{ y }}{% endfor %}z", "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% filter indent(2) %}a\nb{% endfilter %}",
    "{% macro f(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(1, c=5) }}{{ f(a=1, b=2) }}{{ f() }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}", "{% macro f(a=1, b) %}{% endmacro %}", "{% macro f(a, a) %}{% endmacro %}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}", "{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}{{ f() }}", "{% macro f(x) %}{{ x is defined }}{{ x }}{% endmacro %}{{ f() }}{{ f(undefd) }}{{ f(none) }}",
    "{% macro f(x=i) %}{{ x }}{% endmacro %}{{ f() }}{% set i = 9 %}{{ f() }}", "{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(1, 2) }}", "{% macro f(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ f() }}",
    "{% macro f() %}x{% endmacro %}{{ f }}{{ f.name }}", "{% macro f() %}  a  {% endmacro %}[{{ f()|trim }}]{{ f() ~ 'b' }}{{ f() is string }}", "{{ f() }}{% macro f() %}x{% endmacro %}", "{% for x in l %}{% macro f() %}{{ x }}{{ loop.index }}{% endmacro %}{{ f() }}{% endfor %}",
    "{% macro f() %}<{{ caller() }}>{% endmacro %}{% call f() %}in{{ i }}{% endcall %}", "{% macro f() %}<{{ caller(1, 2) }}>{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}", "{% macro f() %}x{% endmacro %}{% call f() %}{% endcall %}", "{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}", "{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ l|map('string')|join }}{{ f(*[1]) }}{{ f(**{'x': 2}) }}", "{% macro f() %}{% set i = 1 %}{{ i }}{% endmacro %}{{ f() }}{{ i }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set i = 1 %}{{ i }}{% endwith %}{{ i }}", "{% with i = i + 1 %}{{ i }}{% endwith %}", "{% with a, b = ll[0] %}{{ a }}{{ b }}{% endwith %}",
    "{% generation %}a{{ i }}{% endgeneration %}", "{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% set i = 0 %}{% endgeneration %}{{ i }}{% endfor %}", "{%- generation -%}  a {%- endgeneration -%} b",
    "{% if t %}a{% elif t %}b{% else %}c{% endif %}", "{% if f %}a{% elif t %}b{% else %}c{% endif %}", "{% if f %}a{% elif f %}b{% elif f %}d{% else %}c{% endif %}", "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{% if t %}{% else %}{% else %}{% endif %}", "{% if 1, 2 %}x{% endif %}", "{% if t: %}x{% endif %}",
    "{% if f %}{{ x|nope }}{% endif %}ok", "{{ x|nope if f else 'ok' }}", "{% if t %}{{ x|nope }}{% endif %}", "{% if f %}{% for x in l %}{{ x|nope }}{% endfor %}{% endif %}ok", "{% if f %}{{ x is nope }}{% endif %}ok", "{% for x in [] %}{{ x|nope }}{% endfor %}",
    "{% raw %}{{ x }}{% y %}{# z #}{% endraw %}", "  {% raw %}  a  {% endraw %}  b", "a\n  {%- raw -%}  a  {%- endraw -%}  b", "{% raw %}\na\n{% endraw %}\nb", "{% raw %}", "{% raw x %}{% endraw %}", "{%raw%}{%endraw%}x",
    "a {# c #} b", "a\n  {# c #}\nb", "a\n  {#- c -#}\nb", "{# {{ x }} {% if #}", "{# open", "a {#+ c +#}\n b", "{##}x{#-#}y", "{#", "a\n  {# c #} x\n",
    "a\n  {% if t %}\n  b\n  {% endif %}\nc\n", "a\n  {%+ if t %}\n  b\n  {%+ endif +%}\nc\n", "a\n  {%- if t -%}\n  b\n  {%- endif -%}\nc\n", "  {% if t %}  x  {% endif %}  \n", "\t{% if t %}\tx{% endif %}\n\n", "a  {% if t %}b{% endif %}", "a {{ i }} \n {{ i }}\n", "a {{- i -}} \n b", "{{ i }}\n", "{{ i }}\n\n", "\n\n{{ i }}\n\n\n", "a\r\nb\rc\n{{ 'x\r\ny' }}\r\n", "{{ '{{' }}{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}}.a }}", "{{ {'a': 1}}}", "{{{'a': 1}}}", "{{ [1][0]}}", "{%if t%}x{%endif%}", "{%-if t-%} x {%-endif-%}", "{% if t %}\n\nx{% endif %}", "  \n  {% if t %}x{% endif %}", "\u00a0 {% if t %}x{% endif %}", "x\u2003{%- if t %}y{% endif %}", "{{+1}}{{-1}}{{ -1 }}{{- -1 }}", "%} }} #} { % {", "{", "{{", "{%", "{ {", "}}{", "{{ }}", "{% %}", "", "\n", "x\n", "{{ 1 }}{{ 2 }}\n{% set x = 1 %}\n{{ x }}",
    "{% unknown %}", "{% endfor %}", "{% for %}{% endfor %}", "{% for x %}{% endfor %}", "{% for x in %}{% endfor %}", "{% for x in l %}", "{% break %}", "{% continue %}", "{% for x in l %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", "{% for x in l %}{% else %}{% break %}{% endfor %}", "{% block a %}x{% endblock %}" if False else "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}",
    "{% print 1 %}{% print 1, 2 %}", "{% set x = joiner('|') %}{% for i in l %}{{ x() }}{{ i }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% do c.reset() %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "{{ raise_exception('x' ~ i) }}", "{% if messages is not defined %}{{ raise_exception('No messages: ' ~ d) }}{% endif %}", "{% for x in l %}{{ x.y.z }}{% endfor %}",
    "{% for i in range(3) %}{% for i in range(2) %}{{ i }}{% endfor %}{{ i }}{% endfor %}", "{% set l = l[1:] %}{{ l }}{% for x in l %}{% set l = [] %}{{ l }}{% endfor %}{{ l }}", "{% if t %}{% set l = l[1:] %}{% endif %}{{ l }}", "{% if f %}{% set l = l[1:] %}{% endif %}{{ l }}",
    "{% macro a(x) %}{% for k, v in x|items %}{{ k }}{% if v is mapping %}({{ a(v) }}){% else %}={{ v }}{% endif %}{{ ',' if not loop.last }}{% endfor %}{% endmacro %}{{ a({'x': {'y': 1, 'z': {}}, 'w': 2}) }}",
    "{%- for x in l -%}\n  {{ x }}\n{%- endfor -%}\n", "{% for x in l %}\n{{ x }}\n{% endfor %}\n", "{% for x in l %}{{ x }},\n{% endfor %}", "{% set x = 'a' 'b' %}{{ x }}", "{{ 'a\\nb' }}{{ \"\\u00e9\" }}", "{{ 'é'|upper }}{{ 'ß'|upper }}", "{% set a = [1] %}{% set b = a %}{{ a is sameas b }}", "{{ [1, 2, 3] | map('string') | join('-') | upper }}", "{{ (l | sort)[0] }}", "{% set x = {'a': 1} %}{{ x.a }}{{ x['a'] }}{{ x.get('b', {}).get('c', 'd') }}",
    "{% for item in o|sort(attribute='age', reverse=true) %}{{ item.name }}{% endfor %}", "{% for key, group in o|groupby('age') %}{{ key }}{{ group|length }}{% endfor %}", "{% for row in range(5)|batch(2) %}{{ row }}{% endfor %}", "{% for a in ll %}{% for b in a %}{{ loop.index }}{{ b }}{% endfor %}{{ loop.index }}{% endfor %}", "{% for x in l %}{{ loop.index if loop.first else loop.revindex }}{% endfor %}", "{{ strftime_now('%d %b %Y') }}", "{% if strftime_now is defined %}y{% endif %}",
    "{% for x in d.values() %}{{ x }}{% endfor %}", "{% for x in d.keys()|list|reverse %}{{ x }}{% endfor %}", "{% for x in d|dictsort %}{{ x[0] }}{{ x.0 }}{% endfor %}", "{% for x in 'abc'|list %}{{ x }}{% endfor %}", "{% set x = messages[0].content if messages is defined else '' %}[{{ x }}]",
]

# What the templates that models ship were counted to use: each its own case, by name, in the committed vectors.
NAMED = {
    "statement if": ["{% if messages %}a{% elif t %}b{% else %}c{% endif %}", "{%- if t -%} x {%- endif -%} y"], "statement for": ["{% for x in l %}{{ x }},{% endfor %}", "{% for k, v in d.items() if v %}{{ k }}{% else %}none{% endfor %}"],
    "statement set": ["{% set a, b = 1, 'x' %}{{ a }}{{ b }}"], "statement set block": ["{% set a %}<{{ i }}>{% endset %}{{ a }}{{ a|length }}"], "statement macro": ["{% macro m(a, b='y') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }}{{ m('x', b=2) }}"],
    "namespace assignment": ["{% set ns = namespace(x=0) %}{% for v in l %}{% set ns.x = ns.x + v %}{% endfor %}{{ ns.x }}"], "statement break": ["{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}"], "statement continue": ["{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}"],
    "statement filter": ["{% filter trim|upper %}  a{{ s }} {% endfilter %}"], "statement generation": ["a{% generation %} b{{ s }} {% endgeneration %}c"], "statement call": ["{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}"], "slice": ["{{ l[1:] }}{{ s[:-2] }}{{ l[::-1] }}{{ s[1:5:2] }}{{ l[-9:9] }}"],
    "inline if": ["{{ 'a' if f else 'b' }}{{ 'c' if t }}{{ 'd' if f }}"],
    "filter tojson": ["{{ d|tojson }}", "{{ o|tojson(indent=4) }}", "{{ u|tojson }}{{ html|tojson }}"], "filter length": ["{{ s|length }}{{ u|length }}{{ l|length }}{{ d|length }}"], "filter trim": ["[{{ ws|trim }}]{{ 'xax'|trim('x') }}"], "filter string": ["{{ 1.50|string ~ d|string ~ none|string }}"],
    "filter items": ["{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}"], "filter join": ["{{ ls|join(', ') }}{{ l|join }}{{ o|join('-', attribute='name') }}"], "filter default": ["{{ nope|default('x') }}{{ ''|default('y', true) }}{{ none|default('z') }}"], "filter list": ["{{ 'abc'|list }}{{ d|list }}"],
    "filter safe": ["{{ html|safe }}{{ (html|safe) + '<' }}"], "filter selectattr": ["{{ o|selectattr('age', 'equalto', 1)|map(attribute='name')|list }}{{ o|selectattr('in')|list|length }}"], "filter map": ["{{ ls|map('upper')|list }}{{ o|map(attribute='in.k', default=0)|list }}"], "filter lower": ["{{ u|lower }}"], "filter upper": ["{{ u|upper }}"],
    "filter dictsort": ["{{ d|dictsort }}"], "filter reject": ["{{ [0, 1, '', 2]|reject|list }}{{ l|reject('odd')|list }}"], "filter replace": ["{{ s|replace('l', 'L') }}{{ s|replace('l', '', 1) }}"], "filter from_json": ["{{ '{}'|from_json }}"], "filter indent": ["{{ 'a\nb\n\nc'|indent }}{{ 'a\nb'|indent(2, true) }}"],
    "filter unique": ["{{ [1, 2, 1, 3]|unique|list }}"], "filter first": ["{{ l|first }}{{ s|first }}{{ []|first }}"], "filter last": ["{{ l|last }}{{ s|last }}{{ []|last }}"], "filter sort": ["{{ l|sort }}{{ ls|sort }}{{ o|sort(attribute='age', reverse=true)|map(attribute='name')|list }}"],
    "filter rejectattr": ["{{ o|rejectattr('age', 'in', [1, 2])|map(attribute='name')|list }}"], "filter capitalize": ["{{ 'hELLO wORLD'|capitalize }}{{ 'ß'|capitalize }}"], "filter int": ["{{ '42'|int }}{{ '3.9'|int }}{{ 'x'|int(7) }}{{ 'ff'|int(base=16) }}"],
    "test defined": ["{{ s is defined }}{{ nope is defined }}{{ d.nope is not defined }}"], "test string": ["{{ s is string }}{{ i is string }}"], "test none": ["{{ n is none }}{{ s is not none }}"], "test mapping": ["{{ d is mapping }}{{ l is mapping }}"], "test iterable": ["{{ l is iterable }}{{ s is iterable }}{{ i is iterable }}"],
    "test sequence": ["{{ l is sequence }}{{ s is sequence }}{{ i is sequence }}{{ d is sequence }}"], "test true": ["{{ t is true }}{{ 1 is true }}"], "test false": ["{{ f is false }}{{ 0 is false }}"], "test boolean": ["{{ t is boolean }}{{ 1 is boolean }}"], "test undefined": ["{{ nope is undefined }}{{ n is undefined }}"],
    "method split": ["{{ csv.split(',') }}{{ ws.split() }}{{ '</think>a</think>b'.split('</think>')[-1] }}{{ csv.split(',', 1) }}"], "method items": ["{% for k, v in d.items() %}{{ k }}{% endfor %}{{ d.items() }}"], "method lstrip": ["[{{ ws.lstrip() }}]{{ '\n\nx\n'.lstrip('\n') }}"], "method get": ["{{ d.get('b') }}{{ d.get('nope') }}{{ d.get('nope', 5) }}"],
    "method strip": ["[{{ ws.strip() }}]{{ 'xyax'.strip('xy') }}"], "method rstrip": ["[{{ ws.rstrip() }}]{{ 'ax\n'.rstrip('\n') }}"], "method endswith": ["{{ s.endswith('ld') }}{{ s.endswith(('x', 'd')) }}"], "method startswith": ["{{ s.startswith('He') }}{{ s.startswith(('x', 'H')) }}"], "method append": ["{{ l.append(4) }}"],
    "method pop": ["{{ l.pop() }}", "{{ d.pop('b') }}"], "method replace": ["{{ s.replace('l', 'L') }}{{ s.replace('l', '', 1) }}"],
    "global namespace": ["{% set ns = namespace(a=1, b=l) %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}"], "global raise_exception": ["{{ raise_exception('Roles must alternate: ' ~ s) }}"], "global strftime_now": ["{{ strftime_now('%Y')|length }}{{ strftime_now('%d %b %Y')|length }}{{ strftime_now is defined }}"], "global range": ["{{ range(3)|list }}{% for i in range(4, 0, -2) %}{{ i }}{% endfor %}"],
    "loop.last": ["{% for x in l %}{{ x }}{{ ',' if not loop.last }}{% endfor %}"], "loop.index0": ["{% for x in l %}{{ loop.index0 }}{% endfor %}"], "loop.first": ["{% for x in l %}{{ loop.first }}{% endfor %}"], "loop.previtem": ["{% for x in l %}{{ loop.previtem }}{{ loop.previtem is defined }}{% endfor %}"], "loop.nextitem": ["{% for x in l %}{{ loop.nextitem }}{{ loop.nextitem is defined }}{% endfor %}"],
    "loop.index": ["{% for x in l %}{{ loop.index }}{% endfor %}"], "dict.fromkeys": ["{{ dict.fromkeys(['a', 'b']) }}{{ dict.fromkeys('xy', 1) }}{{ {}.fromkeys([1], 2) }}"], "range methods": ["{{ range(2, 9, 3).index(5) }}{{ range(4).count(2) }}{{ range(1, 7)[2:].start }}{{ range(3).stop }}{{ {range(2): 1}[range(0, 2)] }}"],
    "sort of missing keys": ["{{ o|sort(attribute='nope')|map(attribute='name')|list }}{{ [none, none]|sort }}"], "zero padding": ["{{ '{:05}|{:<05}|{:05}|{:>05}|{:x<05}'.format('a', 'b', 42, 7, 8) }}"], "dict of undefined": ["{{ dict(nope) }}"], "urlencode of a range": ["{{ range(3)|urlencode }}"],
}


def split_expressions(text):
    """Items apart by |, where a filter's | is followed by a name: a new item begins after a | that the last item can
    do without. Lines are cut by trying: the longest run of pieces that jinja2 can parse is not wanted, so items are
    simply all prefixes of pieces joined by |."""
    out = []
    for line in text.split("\n"):
        pieces = line.split("|")
        for a in range(len(pieces)):
            for b in range(a + 1, min(a + 5, len(pieces)) + 1):
                out.append("|".join(pieces[a:b]))
    return out


class Judge:
    """Compares renderings and counts: equal, both fail, refused (said, not wrong), different."""

    SAID = "not supported|has no text|64 bits|in a string is no character|\nit needs other"

    def __init__(self, lib, show):
        self.ours, self.show = Ours(lib), show
        self.counts = {"equal": 0, "both fail": 0, "refused": 0, "different": 0}
        self.refused = {}

    def judge(self, name, source, variables):
        want, why = theirs(source, variables)
        got, error = self.ours.render(source, variables)
        if " at 0x" in (want if want is not None else why).lower() or want is not None and (not want.isascii() and re.search("[\ud800-\udfff]", want)):
            return  # Python shows an address, or half a surrogate pair: no bytes to compare
        if want is None and got is None:
            kind = "both fail"
            if why.startswith("TemplateError: ") and why[15:] not in error and not re.search(self.SAID, error):
                kind = "different"
        elif want is not None and got == want:
            kind = "equal"
        elif re.match("NameError: name '(inf|nan)'", why or "") or (error and re.search("No (filter|test) named|by a slice", error)):
            return  # jinja2 folds constants: it fails on 1e400, forgets what stands behind `1 or`, and takes {}[1:]
        elif got is None and re.search(self.SAID, error):
            kind = "refused"  # said, not wrong
            self.refused.setdefault(error.split("\n")[1], name)
        else:
            kind = "different"
        self.counts[kind] += 1
        if kind == "different" and self.counts[kind] <= self.show:
            print(f"--- {name}\n template {source[:600]!r}\n jinja2   {(want if want is not None else why)[-600:]!r}\n tokamak  {(got if got is not None else error)[-600:]!r}", flush=True)

    def report(self):
        for why, name in self.refused.items():
            print("refused:", why, "in", name)
        print("all", self.counts)


def main():
    p = argparse.ArgumentParser()
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shared = os.environ.get("TOKAMAK_SHARED", os.path.join(here, "..", "shared"))
    p.add_argument("--lib", default=os.path.join(here, "build", "lib", "libtokamak.so"))
    p.add_argument("--templates", action="append")
    p.add_argument("--show", type=int, default=20)
    args = p.parse_args()
    j = Judge(args.lib, args.show)

    def section(name, cases):
        before = dict(j.counts)
        for case in cases:
            j.judge(*case)
        print(name, {k: j.counts[k] - before[k] for k in j.counts})

    folders = args.templates or [os.path.join(here, "tests", "data", "templates"), os.path.join(shared, "chat_templates")]
    for path in sorted(itertools.chain.from_iterable(glob.glob(os.path.join(f, "*.jinja")) for f in folders)):
        source, name = open(path, newline="").read(), os.path.basename(path)
        section(name, [(f"{name} conversation {i}", source, v) for i, v in enumerate(conversations())])
    section("named", [(name, source, VARS) for name, sources in NAMED.items() for source in sources])
    section("snippets", [("expression", "{{ " + e + " }}", VARS) for e in split_expressions(EXPRESSIONS)] + [("statement", s, VARS) for s in STATEMENTS])
    j.report()
    return 1 if j.counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
