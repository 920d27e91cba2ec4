"""_core.pyi says what the module has: the same names, the same members, the same arguments."""

import ast
import re
from pathlib import Path

import bpfsim
from bpfsim import _core

PYI = Path(bpfsim.__file__).with_name("_core.pyi")
TREE = ast.parse(PYI.read_text())
CLASSES = {node.name: node for node in TREE.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in TREE.body if isinstance(node, ast.FunctionDef)}


def names(body):
    """What a piece of _core.pyi declares."""
    for node in body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            yield node.target.id


def bound_arguments(function):
    """The names of a bound function's arguments, from the signature that pybind11 writes into its docstring."""
    signature = re.match(r"\w+\((.*)\) -> ", function.__doc__)
    flat = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", signature[1]))
    return re.findall(r"(\w+): ", flat)


def declared_arguments(node):
    return [argument.arg for argument in node.args.posonlyargs + node.args.args]


def test_the_module_and_its_types_have_the_same_names():
    real = {name for name in vars(_core) if not name.startswith("__") or name == "__version__"}
    declared = {"__version__", *CLASSES, *FUNCTIONS}
    assert real - declared == set(), "bound, but not in _core.pyi"
    assert declared - real == set(), "in _core.pyi, but not bound"


def test_classes_have_the_same_members():
    for name, node in CLASSES.items():
        real = {member for member in vars(getattr(_core, name)) if not member.startswith("_")}
        declared = set(names(node.body))
        assert {m for m in declared if not m.startswith("_")} == real, f"members of {name}"
        for special in declared - real:
            assert special in vars(getattr(_core, name)), f"{name}.{special} is only in _core.pyi"


def test_properties_are_properties():
    for name, node in CLASSES.items():
        for member in node.body:
            if isinstance(member, ast.FunctionDef):
                declared = any(isinstance(d, ast.Name) and d.id == "property" for d in member.decorator_list)
                real = isinstance(vars(getattr(_core, name))[member.name], property)
                assert declared == real, f"{name}.{member.name}"


def test_bound_functions_have_the_same_arguments():
    wrong = []
    for name, node in FUNCTIONS.items():
        if declared_arguments(node) != bound_arguments(getattr(_core, name)):
            wrong.append(name)
    for class_name, node in CLASSES.items():
        for member in node.body:
            function = vars(getattr(_core, class_name)).get(getattr(member, "name", ""))
            if isinstance(member, ast.FunctionDef) and type(function).__name__ == "instancemethod":
                if member.name.startswith("__"):
                    continue
                if declared_arguments(member)[1:] != bound_arguments(function)[1:]:
                    wrong.append(f"{class_name}.{member.name}")
    assert not wrong, f"arguments differ: {wrong}"
    assert bound_arguments(_core.Task.sys_bpf) == ["self", "cmd", "attr", "size", "buffers"], "the docstrings are read"
