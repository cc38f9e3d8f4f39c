"""Rubrics: what a judge is asked, as data.

A rubric is a YAML file. Its text is fixed by its hash, so that scores of two runs can be compared
only where they answer the same question.
"""

from __future__ import annotations

import difflib
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from judges.errors import JudgeError
from judges.judgement import sha256_of

PLACEHOLDER = re.compile(r"\{\{ *(\w+) *\}\}")
Kind = Literal["pointwise", "checklist", "pairwise"]
_FIELDS: dict[Kind, tuple[str, ...]] = {
    "pointwise": ("dimensions", "scale", "task", "candidate"),
    "checklist": ("dimensions", "task", "candidate"),
    "pairwise": ("dimensions", "scale", "task", "candidate_a", "candidate_b"),
}
# What a rubric may show the judge besides, between the task and the candidate.
_SHOWN: dict[Kind, tuple[str, ...]] = {
    "pointwise": ("reference", "outcomes"),
    "checklist": (),
    "pairwise": ("reference",),
}
_ITEM = "item"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Label(_Strict):
    """One answer that the judge may give.

    Attributes:
        label: The text, one token for the judge's tokenizer.
        value: What it counts in the score.
        meaning: What the judge is told that it means.
    """

    label: str = Field(pattern=r"^\S+$")
    value: float
    meaning: str = Field(min_length=1)


class Dimension(_Strict):
    """One thing that the judge looks at.

    Attributes:
        name: Short name.
        weight: Share of the verdict; weights need not sum to one.
        description: What is good and what is bad.
    """

    name: str = Field(min_length=1)
    weight: float = Field(gt=0)
    description: str = Field(min_length=1)


class Rubric(_Strict):
    """A rubric, complete and checked.

    Attributes:
        name: Short name.
        version: Raised when the text changes.
        kind: `pointwise` (one candidate, a grade), `checklist` (one candidate, a yes or no to each
            dimension) or `pairwise` (two, which is better).
        measures: `correctness` where a score stands in for tests, and is held to an AUROC against
            execution; `quality` where it orders what tests can't tell apart, and is held to
            consistency and to planted faults.
        scale: The labels, in the order in which the prompt lists them. The score of a pairwise
            rubric is the probability that the first is better, so its values lie in 0 to 1 and
            are symmetric about 0.5. A checklist has two labels, of the values 1 and 0.
        dimensions: What to look at, with weights; of a checklist, the questions.
        system: The system message.
        template: The user message. Placeholders are written `{{name}}`: `dimensions`, `scale` (not
            in a checklist), `task`, then `candidate` (pairwise: `candidate_a`, `candidate_b`) at
            the very end, so that requests of one task share the longest prefix. Between task and
            candidate `reference` shows the task's own solution, and `outcomes` (pointwise) what the
            tests said of the candidate.
        question: Last user message, after the rationale; asks for the label alone. A checklist's is
            asked for each dimension, whose description stands where it has `{{item}}`.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: int = Field(ge=1)
    kind: Kind
    measures: Literal["correctness", "quality"] = "quality"
    scale: list[Label] = Field(min_length=2, max_length=20)
    dimensions: list[Dimension] = Field(min_length=1)
    system: str = Field(min_length=1)
    template: str
    question: str = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Rubric:
        labels = [entry.label for entry in self.scale]
        if len(set(labels)) < len(labels):
            raise ValueError(f"scale: labels are not distinct: {labels}")
        if len({entry.value for entry in self.scale}) < 2:
            raise ValueError("scale: all labels have one value, so no answer can matter")
        names = [entry.name for entry in self.dimensions]
        if len(set(names)) < len(names):
            raise ValueError(f"dimensions: names are not distinct: {names}")
        values = sorted(entry.value for entry in self.scale)
        mirrored = sorted(1 - value for value in values)
        if self.kind == "pairwise" and values != mirrored:
            raise ValueError(
                f"scale: values {values} of a pairwise rubric must be symmetric about 0.5 "
                "(1 for the first, 0 for the second, 0.5 for a tie)"
            )
        if self.kind == "checklist" and values != [0.0, 1.0]:
            raise ValueError("scale: a checklist has two labels, of the values 1 and 0")
        asked = [_ITEM] if self.kind == "checklist" else []
        for key, text, allowed in (("system", self.system, []), ("question", self.question, asked)):
            if (found := PLACEHOLDER.findall(text)) != allowed:
                raise ValueError(
                    f"{key}: placeholders are {found}; a {self.kind} rubric has {allowed} there"
                )
        found = PLACEHOLDER.findall(self.template)
        shown = [name for name in _SHOWN[self.kind] if name in found]
        wanted = list(_FIELDS[self.kind])
        before = wanted.index("task") + 1
        wanted[before:before] = shown
        if sorted(found) != sorted(wanted):
            raise ValueError(
                f"template: placeholders are {found}; a {self.kind} rubric has each of {wanted} "
                "exactly once"
            )
        last = wanted[before - 1 :]
        tail = PLACEHOLDER.split(self.template)[-1]
        if found[-len(last) :] != last or tail.strip():
            raise ValueError(
                f"template: must end in {last}, in this order and with nothing after them; what "
                "requests share comes first (prefix cache), untrusted text last"
            )
        return self

    @property
    def sha(self) -> str:
        """Hash of everything in the rubric."""
        return sha256_of(self.model_dump(mode="json"))

    @property
    def needs(self) -> frozenset[str]:
        """What it shows the judge besides task and candidate: `reference`, `outcomes`."""
        return frozenset(PLACEHOLDER.findall(self.template)) & {"reference", "outcomes"}

    @property
    def questions(self) -> dict[str, str]:
        """What is asked after the rationale, by dimension of a checklist, else under one name."""
        if self.kind != "checklist":
            return {self.name: self.question}
        head, _, tail = PLACEHOLDER.split(self.question)
        return {entry.name: head + entry.description + tail for entry in self.dimensions}

    @property
    def weights(self) -> dict[str, float]:
        """Share of each dimension, which together are one."""
        total = sum(entry.weight for entry in self.dimensions)
        return {entry.name: entry.weight / total for entry in self.dimensions}

    @property
    def values(self) -> dict[str, float]:
        """Value of each label."""
        return {entry.label: entry.value for entry in self.scale}

    @property
    def full_name(self) -> str:
        """Name and version, as judgements cite it."""
        return f"{self.name}/{self.version}"


def shipped_rubrics() -> list[str]:
    """Returns the names of the rubrics that come with the package."""
    folder = resources.files("judges") / "rubrics"
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    )


def load_rubric(name_or_path: str | Path) -> Rubric:
    """Loads a shipped rubric by name, or one's own by the path of its YAML file.

    Args:
        name_or_path: A name from `shipped_rubrics()`, or a path: of a YAML file, or of a folder
            that holds it as `rubric.yaml`.

    Raises:
        JudgeError: There is no such rubric, or it is not valid; the message names the file and
            the key.
    """
    name = str(name_or_path)
    source: Traversable
    if name.endswith((".yaml", ".yml")):
        source = Path(name)
    elif Path(name).joinpath("rubric.yaml").is_file():
        source = Path(name) / "rubric.yaml"
    else:
        source = resources.files("judges") / "rubrics" / f"{name}.yaml"
        if name not in shipped_rubrics():
            raise JudgeError(
                f"no rubric is called {name!r}; shipped are {', '.join(shipped_rubrics())}, and a "
                "path of a YAML file, or of a folder with a rubric.yaml, names your own"
            )
    try:
        data = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise JudgeError(f"rubric {name}: can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise JudgeError(f"rubric {name}: is not YAML: {error}") from error
    try:
        return Rubric.model_validate(data)
    except ValidationError as error:
        raise JudgeError(f"rubric {name}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    """One line for each fault, with the path of its key and, for an unknown key, the nearest."""
    known = {*Rubric.model_fields, *Label.model_fields, *Dimension.model_fields}
    lines = []
    for fault in error.errors():
        path = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"unknown key {path!r}{hint}")
        else:
            lines.append(f"{path}: {fault['msg']}" if path else fault["msg"])
    return "; ".join(lines)
