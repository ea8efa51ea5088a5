"""Training data of Rasa: Markdown and YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml

from onetrunk.adapters.format.strict_json import JSONFault, loads
from onetrunk.core.data.formats.base import Source
from onetrunk.core.data.lines import NumberedLine
from onetrunk.core.errors import DataError
from onetrunk.core.tasks import JSONObject, Record

_ENTITY = re.compile(
    r"\[(?P<text>[^\[\]]+)\](?:\((?P<type>[^():]+)(?::(?P<value>[^()]*))?\)|(?P<json>\{[^{}]*\}|\[\s*\{[^\[\]]*\}\s*\]))"
)
_NOT_READ = re.compile(r"\](\(|\{\s*\"|\[\s*\{)")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_HEADING = re.compile(r"##\s*(?P<kind>[a-z]+)\s*:\s*(?P<name>.+)")
_OTHER_PARTS = ("synonym", "regex", "lookup")
_MOST_CHARACTERS = 32 * 2**20
_MOST_DEPTH = 50


def read_rasa(source: Source) -> Iterator[tuple[int, Record]]:
    """Yield (line number, {"text", "label", "entities"}) for each example; the label is the intent.

    Markdown begins its intents with `## intent:name`; YAML has them under `nlu:`. Entities are annotated as
    [text](type), [text](type:value) or [text]{"entity": "type"}. Their values, roles and groups, synonyms, regular
    expressions and lookup tables are left out, with a note.
    Raises DataError, with file and line, for other lines, an annotation that cannot be read, and invalid YAML.
    """
    suffix = str(source.path).lower().removesuffix(".gz").rpartition(".")[2]
    is_markdown = suffix == "md" or (
        suffix not in ("yml", "yaml") and source.first_line().startswith(("##", "<!--"))
    )
    examples = _markdown(source) if is_markdown else _yaml(source)
    for number, intent, line in examples:
        where = source.place(number)
        try:
            text, entities = _annotated(source, where, line)
        except ValueError as fault:
            raise DataError(where, str(fault)) from fault
        yield number, {"text": text, "label": intent, "entities": entities}


def _markdown(source: Source) -> Iterator[tuple[int, str, str]]:
    """Yield line number, intent and example."""
    intent: str | None = None
    in_other_part = in_comment = False
    for number, line in source.lines():
        before, opens, _ = _COMMENT.sub("", f"<!--{line}" if in_comment else line).partition("<!--")
        in_comment, text = bool(opens), before.strip()
        if heading := _HEADING.fullmatch(text):
            in_other_part = heading["kind"] != "intent"
            intent = heading["name"].strip()
            if in_other_part:
                _leave_out(source, source.place(number), heading["kind"])
        elif in_other_part or not text:
            continue
        elif text.startswith(("- ", "* ", "+ ")) and intent is not None:
            yield number, intent, text[2:].strip()
        else:
            expected = "expected '- an example' below '## intent:name'"
            raise DataError(source.place(number), f"is {text[:60]!r}; {expected}")


def _yaml(source: Source) -> Iterator[tuple[int, str, str]]:
    root = _composed(source)
    nlu = _values(root).get("nlu")
    if not isinstance(nlu, yaml.SequenceNode):
        raise DataError(source.name, "has no list under 'nlu:'; expected NLU data of Rasa, or its Markdown")
    for item in nlu.value:
        part = _values(item)
        name, examples = part.get("intent"), part.get("examples")
        where = source.place(item.start_mark.line + 1)
        if name is None and (kind := next((each for each in _OTHER_PARTS if each in part), None)):
            _leave_out(source, where, kind)
        elif not isinstance(name, yaml.ScalarNode) or examples is None:
            raise DataError(where, "expected '- intent: name' with 'examples:'")
        else:
            if len(part) < len(item.value):
                raise DataError(
                    where, "has a key twice; remove one, or begin another item with '- intent: name'"
                )
            yield from ((number, name.value.strip(), text) for number, text in _examples(source, examples))


def _examples(source: Source, node: yaml.Node) -> Iterator[NumberedLine]:
    """Yield line number and text of the examples of an intent: lines that begin with `-`, or a list."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            text = _values(item).get("text", item)
            if not isinstance(text, yaml.ScalarNode):
                raise DataError(source.place(item.start_mark.line + 1), "expected an example with 'text:'")
            yield text.start_mark.line + 1, text.value.strip().removeprefix("- ")
        return
    first = node.start_mark.line + (2 if getattr(node, "style", None) in ("|", ">") else 1)
    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    for number, line in enumerate(text.split("\n"), first):
        if not line.strip() or line.strip() == "-":
            continue
        if not line.lstrip().startswith("- "):
            raise DataError(source.place(number), f"is {line[:60]!r}; expected an example such as '- hello'")
        yield number, line.lstrip()[2:].strip()


def _composed(source: Source) -> yaml.Node | None:
    """Return the nodes of a YAML file. Scalars stay as they are written, so that an intent `no` is no Boolean."""
    lines, size = [], 0
    for _, line in source.lines():
        size += len(line)
        if size > _MOST_CHARACTERS:
            raise DataError(source.name, f"has over {_MOST_CHARACTERS} characters of YAML; split the file")
        lines.append(line)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_depth("".join(lines), loader)
        return yaml.compose("".join(lines), Loader=loader)
    except yaml.MarkedYAMLError as fault:
        line = source.place(fault.problem_mark.line + 1) if fault.problem_mark else source.name
        raise DataError(line, f"is not valid YAML: {fault.problem or fault.context}") from fault
    except (yaml.YAMLError, RecursionError, ValueError) as fault:
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        raise DataError(source.name, f"is not valid YAML: {reason[:200]}") from fault


def _refuse_depth(text: str, loader: Any) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MOST_DEPTH:
            raise ValueError(f"it is nested deeper than {_MOST_DEPTH} levels")


def _values(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _annotated(source: Source, where: str, line: str) -> tuple[str, list[JSONObject]]:
    """Return the text without annotations, and its entities."""
    text, entities, at = "", [], 0
    for found in _ENTITY.finditer(line):
        text += line[at : found.start()]
        start, at = len(text), found.end()
        text += found["text"]
        if found["value"]:
            source.tally.add("entity-values-ignored", "values of entities (synonyms) are ignored", where)
        names = [found["type"].strip()] if found["type"] else _types(source, where, found["json"])
        entities += [{"start": start, "end": len(text), "label": name} for name in names]
    text += line[at:]
    if not text.strip():
        raise ValueError("the example is empty")
    if left := _NOT_READ.search(text):
        raise ValueError(f"{text[left.start() :][:60]!r} is not an annotation such as [Paris](city)")
    return text, entities


def _types(source: Source, where: str, annotation: str) -> list[str]:
    try:
        value = loads(annotation)
    except JSONFault as fault:
        raise ValueError(f"the annotation {annotation[:60]} is not JSON: {fault.why}") from fault
    names = []
    for each in value if isinstance(value, list) else [value]:
        if not isinstance(each, dict) or not isinstance(each.get("entity"), str):
            raise ValueError(f'expected {{"entity": "type"}}, found {json.dumps(each)[:60]}')
        names.append(each["entity"])
        for key in sorted(set(each) - {"entity"}):
            source.tally.add("entity-values-ignored", f"the {key} of entities is ignored", where)
    return names


def _leave_out(source: Source, where: str, kind: str) -> None:
    if kind not in _OTHER_PARTS:
        raise DataError(where, f"is a part {kind[:40]!r}; expected intent, {', '.join(_OTHER_PARTS)}")
    source.tally.add("parts-ignored", f"parts of the kind {kind} are ignored", where)
