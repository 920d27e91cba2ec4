"""Views in all three forms: well-formed HTML that survives without scripts and styles, and plain text."""

import json
import random
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import bpfsim
import pytest
from bpfsim.exercises import Exercise, expect, from_seed
from bpfsim.objects import LoadStep, LoadSteps, Rows
from bpfsim.views import Frame, FunctionGraph, ObjectGraph, Stages, Stepper
from bpfsim.views.object_graph import Edge, Node
from bpfsim.views.stages import Stage

WORD = "<needle> & co"  # must appear escaped wherever it comes from a learner's program

VOID = {"img", "input", "br", "hr", "meta", "col"}


class Page(HTMLParser):
    """Holds that every tag is closed in order; collects the text and attributes that are outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.tags, self.attributes = [], "", [], []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append(tag)
        if "script" not in self.open:
            self.attributes += [(tag, *attr) for attr in attrs]

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if "script" not in self.open:
            self.text += data


def without_scripts(text):
    """As JupyterLab's sanitizer leaves an untrusted output, and GitHub any."""
    return re.sub(r"<script\b.*?</script>", "", text, flags=re.S)


def record(kind, time_ns=0, **fields):
    return SimpleNamespace(kind=kind, time_ns=time_ns, fields=fields)


def function_graph():
    return FunctionGraph(
        [
            record("enter", 5, function="bpf_check"),
            record("enter", 6, function="check_cfg"),
            record("note", text=WORD),
            record("leave", 9),
            record("enter", 10, function="do_check"),
            record("leave", 11),
            record("leave", 12),
        ]
    )


def object_graph():
    nodes = [Node(1, "task", "task 470", root=True), Node(2, "file", "file 3"), Node(3, "map", WORD, "refcnt 1")]
    return ObjectGraph(nodes, [Edge(1, 2, "fd 3"), Edge(2, 3, "private_data"), Edge(3, 2, "weak", strong=False)])


def stages():
    return Stages(
        [
            Stage("bpf_prog_load", ("r0 = map_fd", WORD, "exit")),
            Stage("resolve_pseudo_ldimm64", ("r0 = 0xffff888000000000", WORD, "exit")),
            Stage("check_cfg", ("r0 = 0xffff888000000000", WORD, "exit")),
        ]
    )


def filled_hash():
    m = bpfsim.Kernel().spawn().map_create("hash", key_size=16, value_size=4, max_entries=4, name="words")
    m[WORD.encode()[:16].ljust(16, b"\0")] = 7
    return m


VIEWS = {
    "function graph": function_graph,
    "object graph": object_graph,
    "stages": stages,
    "no stages": lambda: Stages([]),
    "stepper": lambda: Stepper([Frame("one " + WORD, "<p>1</p>", WORD), Frame("two", "<p>2</p>", "2")]),
    "rows": lambda: Rows([{"name": WORD, "size": 8}], ["name", "size"]),
    "load steps": lambda: LoadSteps([LoadStep("Relocation", WORD, "prog", 0, "r1 = 0 ll", "r1 = map[fd:3]")]),
    "exercise": lambda: expect("How many?", 4, "Yes."),
    "verdict": lambda: expect("How many?", 4, "Yes.").check(4),
    "map ops": lambda: bpfsim.map_ops()["queue"],
    "all map ops": bpfsim.map_ops,
    "map inside": lambda: filled_hash().view(),
}


@pytest.fixture(params=VIEWS)
def view(request):
    return VIEWS[request.param]()


def test_html_is_well_formed(view):
    assert Page(view._repr_html_()).tags, "and there is some"


def test_what_a_sanitizer_leaves_still_says_all(view):
    full, bare = Page(view._repr_html_()), Page(without_scripts(view._repr_html_()))
    assert bare.text == full.text, "a script holds something that is nowhere else"
    assert bare.text.strip()
    assert "style" not in bare.tags, "a sanitizer leaves the text of <style> on the page"
    assert "svg" not in bare.tags, "a sanitizer removes <svg>: pictures are <img> with a data: source"
    for tag, name, value in bare.attributes:
        assert not name.startswith("on"), f"<{tag} {name}> is a script"
        if name in ("src", "href"):
            assert value.startswith("data:"), f"<{tag}> asks outside for {value}"
        if tag == "img":
            assert any(t == "img" and n == "alt" and v for t, n, v in bare.attributes)


def test_scripts_ask_for_nothing_outside(view):
    assert not re.search(r"https?://(?!www\.w3\.org/)|\bfetch\(|XMLHttpRequest|\bimport\b", view._repr_html_())


def test_there_is_a_plain_text_form(view):
    text = str(view)
    assert text and "<div" not in text and "object at 0x" not in text


def test_learners_text_is_escaped():
    for make in (function_graph, object_graph, stages):
        html = without_scripts(make()._repr_html_())
        assert "<needle>" not in html
        assert WORD in Page(html).text or make is object_graph, make.__name__
        assert WORD in str(make())


def test_the_data_in_a_script_cannot_end_it():
    html = Stepper([Frame("</script><b>", "<p>1</p>", "x")])._repr_html_()
    assert html.count("</script>") == 1
    script = html[html.index("<script>") : html.index("</script>")]
    frames = json.loads(re.search(r"frames = (\[.*?\]);\n", script)[1])
    assert frames == [{"caption": "</script><b>", "html": "<p>1</p>", "at": None}]


def test_function_graph_is_a_tree_in_order():
    graph = function_graph()
    assert graph.names() == ["bpf_check", "check_cfg", "do_check"]
    assert [item.name for item in graph.root.inside] == ["bpf_check"]
    assert str(graph).splitlines()[:2] == ["bpf_check() {", "  check_cfg() {"]
    assert graph.to_json()["inside"][0]["end_ns"] == 12
    assert FunctionGraph([record("leave"), record("enter", function="f")]).names() == ["f"], "a recording begun inside"


def test_stages_show_what_changed():
    text = str(stages())
    assert re.search(r"^- +: r0 = map_fd$", text, re.M)
    assert re.search(r"^\+ +0: r0 = 0xffff888000000000$", text, re.M)
    assert "check_cfg" in text.splitlines()[-1], "passes that changed nothing are named at the end"
    assert [after.name for _, after in stages().changed()] == ["resolve_pseudo_ldimm64"]


def test_object_graph_s_picture_does_not_depend_on_order():
    graph = object_graph()
    turned = ObjectGraph(list(reversed(graph.nodes)), graph.edges)
    places = [re.findall(r'<rect x="(\d+)" y="(\d+)"', g.svg()) for g in (graph, turned)]
    assert places[0] == list(reversed(places[1]))
    assert "needle" in graph.svg() and "<needle>" not in graph.svg()
    assert "stroke-dasharray" in graph.svg(), "weak ties are dashed"
    assert object_graph().to_json()["edges"][0]["via"] == "fd 3"


def test_exercises_name_the_mistake_and_never_raise():
    exercise = expect("How many?", 4, "Yes, four.", (3, "You forgot the header."))
    assert "in place of the dots" in exercise.check(...).text
    assert exercise.check(4) and "Yes, four." in exercise.check(4).text
    wrong = exercise.check(3)
    assert not wrong and "You forgot the header." in wrong.text

    class Broken:
        def __eq__(self, other):
            raise RuntimeError("oops")

        __hash__ = None

    assert exercise.check("4").text == "A number is wanted, without quotes."
    words = expect("Which word?", "four", "Right: four.", (lambda given: len(given) > 4, "A shorter one."))
    assert not words.check(Broken())
    assert "oops" in words.check(Broken()).text
    assert "A shorter one." in words.check("seven").text
    assert repr(words.check("four")) == "Right: Four."
    assert repr(exercise.check(float("nan"))).startswith("Not yet: nan is not"), "what was typed stays as it is"


def test_an_exercise_from_a_seed_has_variants_and_a_key():
    def sum_of_two(rng):
        a, b = rng.sample(range(100), 2)
        return expect(f"<b>{a} + {b}</b>?", a + b, "Right.", (a + b, "never said"), (a, "And the other?"))

    exercise = from_seed(sum_of_two, 3)
    assert repr(exercise) == repr(exercise.variant(3)) != repr(exercise.variant(4))
    assert exercise.variant(4).check(exercise.variant(4)._key)
    assert "<b>" in exercise.question and "<b>" not in repr(exercise)
    assert "never said" not in exercise.check(exercise._key).text
    assert not {"key", "test", "mistakes", "make"} & set(dir(exercise)), "the Tab key offers no answer"
    with pytest.raises(ValueError, match="no variants"):
        expect("How many?", 4, "Yes.").variant(1)


def test_a_fault_of_an_exercise_is_not_put_on_the_learner():
    for gives in (True, (True, 5), (False, None), (True,), None):
        with pytest.raises(TypeError, match=r"the exercise's test has to give \(passed, what it found\), and gave"):
            Exercise("?", lambda answer, gives=gives: gives).check(1)
    verdict = Exercise("?", lambda answer: 1 / 0).check(1)
    assert not verdict and not verdict.judged and repr(verdict).startswith("Not judged: ")
    assert "the fault may be the exercise's" in verdict.text and "Not judged" in verdict._repr_html_()
    for wrong, error in [
        (lambda: expect("?", 3, "Right", ("bad",)), r"a mistake is \(a wrong value or a function, the hint\), not"),
        (lambda: Exercise("?", lambda a: (True, ""), [(1, 2, 3)]), "a mistake is"),
        (lambda: expect(5, 5, "Right"), "a question is a str, not 5"),
        (lambda: from_seed(lambda rng: 5), r"has to return an Exercise, and gave 5"),
        (lambda: from_seed(lambda rng: expect("?", 3, "Right")).variant("x"), "a seed is a whole number, not 'x'"),
        (lambda: from_seed(lambda rng: expect("?", 3, "Right")).variant(None), "a seed is a whole number, not None"),
    ]:
        with pytest.raises(TypeError, match=error):
            wrong()


def test_an_exercise_can_be_tried_before_a_class_meets_it():
    def sum_of_two(rng):
        a, b = rng.sample(range(1, 100), 2)
        return expect("?", a + b, "Right.", (lambda given: given == a, "And the other?"))

    tried = from_seed(sum_of_two).try_all(range(5), wrong=[0, -1, "seven"])
    assert [seed for seed, _, _ in tried] == [seed for seed in range(5) for _ in range(4)]
    assert [bool(verdict) for _, _, verdict in tried[:4]] == [True, False, False, False]
    dead = expect("?", 3, "Right", (lambda given: given > most, "Too large"))  # noqa: F821
    assert not dead.check(9)
    with pytest.raises(NameError, match="most") as found:
        dead.try_all(wrong=[9])
    assert "for the answer 9" in found.value.__notes__[0]
    with pytest.raises(AssertionError, match="4 is wrong, and passed"):
        Exercise("?", lambda answer: (answer > 3, "It is so.")).try_all(wrong=[4])
    with pytest.raises(AssertionError, match="3 is right, and was refused"):
        Exercise("?", lambda answer: (answer > 3, "It is so.")).try_all(right=lambda exercise: 3)


@pytest.mark.parametrize(
    ("right", "given", "says"),
    [
        (True, "yes", "True or False is wanted, without quotes."),
        (True, None, "True or False is wanted."),
        (True, 1, "True or False is wanted."),
        (True, False, "False is not what the kernel answers."),
        (True, True, "It is."),
        (1, True, "A number is wanted."),
        (1, 1.0, "It is."),
    ],
)
def test_true_is_no_number_and_one_is_not_true(right, given, says):
    assert expect("?", right, "It is.").check(given).text == says


def test_a_question_says_what_was_written():
    asked = expect('Is a<b or r0 <r1 && r1 > 2 after <code class="x">x<y</code>?<br>END', 1, "Right")
    page = Page(asked._repr_html_())
    assert page.text == "Is a<b or r0 <r1 && r1 > 2 after x<y?END" and page.tags == ["div", "code", "br"]
    assert repr(asked) == "Is a<b or r0 <r1 && r1 > 2 after x<y?END"


def test_a_long_label_keeps_its_end():
    pins = [f"pin /sys/fs/bpf/a_rather_long_pin_name_{n}" for n in range(2)]
    nodes = [Node(n, "inode", pin, root=True) for n, pin in enumerate(pins)]
    nodes += [Node(2, "map", "map 1234 (a_name_of_fifteen), id gone")]
    svg = ObjectGraph(nodes, [Edge(n, 2, pin) for n, pin in enumerate(pins)]).svg()
    assert all(f"long_pin_name_{n}</text>" in svg for n in range(2)) and "pin …" in svg and "id gone</text>" in svg


def test_a_variant_says_how_it_becomes_the_one_that_is_checked():
    named = from_seed(lambda rng: expect("How many?", rng.random(), "Right."), 5, name="q1")
    assert "q1.variant" not in repr(named)
    assert repr(named.variant(2)).endswith("It is checked after q1 = q1.variant(2).")
    assert "<code>q1 = q1.variant(2)</code>" in named.variant(2)._repr_html_()


def test_an_answer_that_ends_python_or_does_nothing_gets_a_word(capsys):
    exercise = Exercise("?", lambda answer: (answer() is None, "It ran."))

    async def later():
        pass

    def one_by_one():
        yield 1

    assert "async def" in exercise.check(later).text and "yield" in exercise.check(one_by_one).text
    assert "async def" in exercise.check(type("Own", (), {"map_alloc": later})).text
    assert "SystemExit" in exercise.check(lambda: sys.exit(3)).text
    assert exercise.check(lambda: None) and capsys.readouterr() == ("", "")


def names(svg):
    """The grounds of the names at arrows: x, y, width, height."""
    found = re.findall(r'class="w" d="M([-\d]+) ([-\d]+)h([-\d]+)v([-\d]+)', svg)
    return [tuple(map(float, one)) for one in found]


def cross(a, b):
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def test_a_ring_of_prog_arrays_can_be_read():
    k = bpfsim.Kernel()
    t = k.spawn("ring")
    maps = [t.map_create("prog_array", name=f"j{n}", key_size=4, value_size=4, max_entries=1) for n in range(3)]
    call = "r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit"
    progs = [t.prog_load("xdp", call, maps={"j": m}, name=f"p{n}") for n, m in enumerate(maps)]
    for n in range(3):
        maps[(n + 1) % 3][0] = progs[n].fd
    for graph in (k.graph(), ObjectGraph([n for n in k.graph().nodes if n.kind != "task"], k.graph().edges)):
        svg = graph.svg()
        labels, drawn = names(svg), boxes(svg)
        assert len(labels) == svg.count('class="l"') >= 12
        assert not [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :] if cross(a, b)], "names overlap"
        assert not [(a, b) for a in labels for b in drawn if cross(a, b)], "a name lies over a box"
        layout = graph.layout()
        for edge, along in layout.arrows.items():
            for (x0, y0), (x1, y1) in zip(along[1:], along[2:-1], strict=False):  # each lane and each bend
                middle = ((x0 + x1) / 2 - 1, (y0 + y1) / 2 - 1, 2, 2)
                assert not any(cross(middle, box) for box in drawn), f"{edge.via} runs behind a box"
            assert min(x for x, _ in along) >= 0 and max(x for x, _ in along) <= layout.size[0]


def boxes(svg):
    """Corner and size of every box of a picture."""
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', svg)
    return [tuple(map(float, box)) for box in found]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [4, 16])
def test_no_two_boxes_of_a_trie_overlap(seed, size):
    rng = random.Random(seed)
    task = bpfsim.Kernel().spawn()
    trie = task.map_create("lpm_trie", key_size=4 + size, value_size=4, max_entries=32, map_flags=1)
    for n in range(rng.randint(1, 12)):
        trie[rng.randint(0, 8 * size).to_bytes(4, "little") + rng.randbytes(size)] = n
    drawn = boxes(trie.view().svg())
    assert len(drawn) == len(trie.view().data["nodes"])
    for i, (x, y, wide, high) in enumerate(drawn):
        for x2, y2, wide2, high2 in drawn[:i]:
            assert x + wide <= x2 or x2 + wide2 <= x or y + high <= y2 or y2 + high2 <= y


def test_no_two_boxes_of_an_object_graph_overlap():
    k = bpfsim.Kernel()
    tasks = [k.spawn(f"a_long_name_{n}") for n in range(4)]
    for n, task in enumerate(tasks):
        m = task.map_create("hash", name=f"map_of_15_ch_{n}")
        prog = task.prog_load("xdp", "r1 = map[m]\nr0 = 2\nexit", maps={"m": m}, name=f"prog_{n}")
        prog.pin(f"/sys/fs/bpf/a_rather_long_name_{n}")
        task.fork()
    drawn = boxes(k.graph().svg())
    for i, (x, y, wide, high) in enumerate(drawn):
        for x2, y2, wide2, high2 in drawn[:i]:
            assert x + wide <= x2 or x2 + wide2 <= x or y + high <= y2 or y2 + high2 <= y
