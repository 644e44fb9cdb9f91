"""Strict YAML into specs, with errors that name file, line, field, value and remedy."""

import difflib
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from planner.errors import InputError
from planner.specs.base import Spec

S = TypeVar("S", bound=Spec)
Loc = Sequence[int | str]

_Base: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc, valid-type]
    """Reads ``4.8e12`` as a number, ``no`` and dates as text, and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a plain name", key_node.start_mark
                )
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}
    ]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A parsed file: plain data, and for every part of it the line it stands on."""

    path: Path
    data: Any
    root: yaml.Node | None

    def where(self, loc: Loc) -> str:
        """``file:line`` of the deepest part of ``loc`` that the file has."""
        node, line = self.root, (self.root.start_mark.line + 1 if self.root else 1)
        for step in loc:
            if isinstance(node, yaml.MappingNode):
                found = [(k, v) for k, v in node.value if k.value == str(step)]
                if found:
                    line, node = found[0][0].start_mark.line + 1, found[0][1]
            elif (
                isinstance(node, yaml.SequenceNode)
                and isinstance(step, int)
                and step < len(node.value)
            ):
                node = node.value[step]
                line = node.start_mark.line + 1
        return f"{self.path}:{line}"


def read_yaml(path: Path) -> Document:
    """Parse ``path``; raise InputError with file and line where it is not sound YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(str(path), "", f"cannot be read: {reason}") from None
    _refuse_deep_nesting(text, path)
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        data = loader.construct_document(root) if root else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise InputError(f"{path}:{line}", "", f"malformed YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InputError(str(path), "", f"malformed YAML: {reason}") from None
    except ValueError as error:
        raise InputError(str(path), "", f"a value cannot be read: {error}") from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise InputError(str(path), "", "expected fields (`name: value`), found none")
    return Document(path, data, root)


MOST_NESTED = 1000
"""Deeper nesting overruns the parser's stack, which no ``except`` can catch."""


def _refuse_deep_nesting(text: str, path: Path) -> None:
    if sum(map(text.count, "[{-?")) <= MOST_NESTED:
        return
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_NESTED:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise InputError(f"{path}:{line}", "", f"nested deeper than {MOST_NESTED} levels")
    except yaml.YAMLError:
        return  # said better when it is read


def load_spec(path: Path, kind: type[S]) -> S:
    """Read ``path`` as a ``kind``; raise InputError naming file, line, field, value and remedy."""
    document = read_yaml(path)
    return validate(document.data, kind, document)


def validate(data: Any, kind: type[S], document: Document, prefix: Loc = ()) -> S:
    """Turn plain ``data`` (the part of ``document`` at ``prefix``) into a ``kind``."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise input_error(
            error, kind, lambda loc: document.where((*prefix, *loc)), data, prefix
        ) from None


def input_error(
    error: ValidationError,
    kind: type[Spec],
    where: Callable[[Loc], str],
    data: Any,
    prefix: Loc = (),
) -> InputError:
    """The first fault in full, and how many more there are."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    loc = tuple(fault["loc"])
    problem = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        problem = "unknown key" + suggestion(str(loc[-1]), _keys_at(kind, loc[:-1]))
    elif fault["type"] == "missing":
        problem = "is missing"
    elif fault["type"] in UNTOLD:
        loc = (*loc, "kind")
        given = fault["ctx"].get("tag")
        kinds = _tags_at(kind, loc[:-1])
        problem = f"unknown kind {given!r}{suggestion(str(given), kinds)}"
        if given is None:
            problem = f"is missing; one of {', '.join(kinds)}"
    elif (
        isinstance(fault["input"], str | int | float | bool) and repr(fault["input"]) not in problem
    ):
        problem = f"{problem}, got {fault['input']!r}"
    if len(faults) > 1:
        problem += f" (and {len(faults) - 1} more)"
    return InputError(
        where(loc),
        ".".join(map(str, (*prefix, *_written(loc, data, fault["type"] in ABSENT)))),
        problem,
    )


UNTOLD = ("union_tag_not_found", "union_tag_invalid")
"""Faults of a mapping whose ``kind`` is not said, or is none of those there are."""
ABSENT = ("missing", *UNTOLD)


def _tags_at(kind: type[Spec], loc: Loc) -> list[str]:
    """Kinds of mapping that may stand at ``loc``."""
    *way, last = (step for step in loc if not isinstance(step, int))
    holders = _kinds_at(kind, tuple(way))
    fields = [k.model_fields[str(last)].annotation for k in holders if str(last) in k.model_fields]
    specs = [spec for annotation in fields for spec in _specs_in(annotation)]
    return [str(s.model_fields["kind"].default) for s in specs if "kind" in s.model_fields]


def _written(loc: Loc, data: Any, missing: bool) -> list[int | str]:
    """``loc`` as the user wrote it: without the tags of unions that validation puts in.

    Only the last step of what is ``missing`` is not in the data and no tag.
    """
    path: list[int | str] = []
    for i, step in enumerate(loc):
        inside = isinstance(data, dict) and step in data
        if inside or (isinstance(data, list | tuple) and isinstance(step, int)):
            data = data[step]
        elif i < len(loc) - 1 or not missing:
            continue
        path.append(step)
    return path


def suggestion(given: str, known: Sequence[str]) -> str:
    """What may have been meant, or what there is."""
    close = difflib.get_close_matches(given, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""


def _keys_at(kind: type[Spec], loc: Loc) -> list[str]:
    """Field names of the spec that ``loc`` leads to."""
    return sorted({name for k in _kinds_at(kind, loc) for name in k.model_fields})


def _kinds_at(kind: type[Spec], loc: Loc) -> list[type[Spec]]:
    """Specs that ``loc`` leads to, as well as annotations tell."""
    kinds: list[type[Spec]] = [kind]
    for step in loc:
        inner = [k.model_fields[str(step)].annotation for k in kinds if str(step) in k.model_fields]
        found = [spec for annotation in inner for spec in _specs_in(annotation)]
        if found:
            kinds = found
        else:
            tagged = [
                k for k in kinds
                if "kind" in k.model_fields and k.model_fields["kind"].default == step
            ]  # fmt: skip
            kinds = tagged or kinds
    return kinds


def _specs_in(annotation: Any) -> list[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        return [annotation]
    return [spec for part in get_args(annotation) for spec in _specs_in(part)]


def parse_value(text: str) -> Any:
    """Read an option's value as YAML would: ``4.8e12``, ``true``, ``[a, b]``, ``{k: v}``, text."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise InputError("--set", "", f"cannot read {text!r}: {error}") from None
    finally:
        loader.dispose()
