"""station.md and recipe.md: every field of both files, from the JSON Schema that editors complete them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inspector.cli.reference.markdown import build_anchor, build_page, build_table, join_lines
from inspector.cli.reference.values import describe_default, describe_value, name_of

_HEADINGS = ("field", "value", "default", "meaning")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file, with fields of its own.

    Attributes:
        path: where it stands, as `cameras.NAME.source`; empty for the file itself.
        name: of its definition in the schema; None for the file itself.
        kind: the value of its key `type`, where that tells several parts apart.
    """

    path: str
    name: str | None
    kind: str | None = None

    @property
    def heading(self) -> str:
        """The section's heading."""
        return (self.path or "The file") + (f": {self.kind}" if self.kind else "")


def build_station() -> str:
    """Every field of station.yaml."""
    return build_page(
        "station.yaml",
        "One file describes one station: `inspector run STATION.yaml`. "
        "[configs/station.yaml](../../configs/station.yaml) is such a file, and `inspector init` writes a new one.",
        "Only fields whose default is *required* must be given. Relative paths are relative to the file. A key that is "
        "not listed here is refused. Numbers are decimal; sizes may have a unit (`512MiB`, `1GB`); text that YAML "
        "takes for something else (`on`, `010`) needs quotes.",
        "`inspector check STATION.yaml` proves a station; `inspector schema station` prints the same as JSON Schema.",
    ) + _show_sections("station")


def build_recipe() -> str:
    """Every field of recipe.yaml."""
    return build_page(
        "recipe.yaml",
        "A recipe is a folder: `recipe.yaml`, `weights.safetensors` and the files that it names. `inspector train` and "
        "`inspector calibrate` write it.",
        "An edit that changes what a score or a verdict means is refused until `inspector calibrate` was run. "
        "`recipe_id`, `golden`, `expected_frames`, `training`, `metrics` and `versions` may be edited by hand. A key "
        "that is not listed here is refused.",
    ) + _show_sections("recipe")


def _show_sections(name: str) -> str:
    from inspector.config.json_schema import build_schema

    schema = build_schema(name)
    sections = _list_sections(schema)
    return "\n".join(_show_section(schema, section, sections) for section in sections)


# ------------------------------------------------------------ which parts there are


def _list_sections(schema: Mapping[str, Any]) -> list[Section]:
    """Each part once, at the first place it may stand, in the order of the file."""
    found: dict[str | None, Section] = {}

    def visit(section: Section) -> None:
        if section.name not in found:
            found[section.name] = section
            for field, value in _find_definition(schema, section)["properties"].items():
                path = f"{section.path}.{field}" if section.path else field
                for below in _find_sections(schema, value, path):
                    visit(below)

    visit(Section("", None))
    return list(found.values())


def _find_definition(schema: Mapping[str, Any], section: Section) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schema if section.name is None else schema["$defs"][section.name]
    return found


def _find_sections(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[Section]:
    """The parts that a field may be, or hold."""
    if tag := value.get("discriminator"):
        for kind, reference in tag["mapping"].items():
            yield Section(path, name_of(reference), kind)
    elif "$ref" in value:
        if "properties" in schema["$defs"][name_of(value["$ref"])]:
            yield Section(path, name_of(value["$ref"]))
    else:
        for choice in value.get("anyOf", ()):
            yield from _find_sections(schema, choice, path)
        for entries in (*value.get("patternProperties", {}).values(), value.get("additionalProperties")):
            if isinstance(entries, dict):
                yield from _find_sections(schema, entries, f"{path}.NAME")
        if isinstance(items := value.get("items"), dict):
            yield from _find_sections(schema, items, f"{path}[]")


# ------------------------------------------------------------ one part


def _show_section(schema: Mapping[str, Any], section: Section, sections: list[Section]) -> str:
    definition = _find_definition(schema, section)
    text = (
        "" if section.name is None else "\n\n".join(map(join_lines, definition["description"].split("\n\n"))) + "\n\n"
    )
    needed = definition.get("required", ())
    rows = []
    for field, value in definition["properties"].items():
        below = [*_find_sections(schema, value, "")]
        links = [each for each in sections if each.name in {one.name for one in below}]
        rows.append(
            (
                f"`{field}`",
                _link(value, links) if links else describe_value(schema, field, value),
                describe_default(value, required=field in needed, is_part=bool(links)),
                value["description"],
            )
        )
    return f"## {section.heading}\n\n{text}{build_table(_HEADINGS, rows)}"


def _link(value: Mapping[str, Any], sections: list[Section]) -> str:
    """Where the fields of a part are listed."""
    links = ", ".join(f"[{each.kind or each.heading}](#{build_anchor(each.heading)})" for each in sections)
    may_be_null = any(choice.get("type") == "null" for choice in value.get("anyOf", ()))
    return f"{links}, or null" if may_be_null else links
