"""Rubrics: what loads, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from judges import JudgeError, load_rubric, shipped_rubrics

RUBRIC: dict[str, Any] = {
    "name": "mine",
    "version": 1,
    "kind": "pointwise",
    "scale": [
        {"label": "A", "value": 1.0, "meaning": "good"},
        {"label": "B", "value": 0.0, "meaning": "bad"},
    ],
    "dimensions": [{"name": "style", "weight": 1, "description": "is pretty"}],
    "system": "You review.",
    "template": "{{dimensions}}\n{{scale}}\n{{task}}\n{{candidate}}",
    "question": "A or B?",
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**RUBRIC, **changes}))
    return path


@pytest.mark.parametrize("name", shipped_rubrics())
def test_shipped_rubrics_load_under_their_file_name(name: str) -> None:
    assert load_rubric(name).name == name


def test_both_kinds_are_shipped() -> None:
    assert {load_rubric(name).kind for name in shipped_rubrics()} == {"pointwise", "pairwise"}


def test_own_rubric_loads_by_path(tmp_path: Path) -> None:
    rubric = load_rubric(written(tmp_path))
    assert rubric.values == {"A": 1.0, "B": 0.0}
    assert rubric.full_name == "mine/1"


def test_the_rubric_in_the_documentation_loads(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("docs/judging.md").read_text()
    path = tmp_path / "brevity.yaml"
    path.write_text(text.split("```yaml\n")[1].split("```")[0])
    assert load_rubric(path).full_name == "brevity/1"


def test_sha_changes_with_every_word(tmp_path: Path) -> None:
    first = load_rubric(written(tmp_path)).sha
    assert load_rubric(written(tmp_path)).sha == first
    assert load_rubric(written(tmp_path, question="A, or B?")).sha != first
    assert load_rubric(written(tmp_path, scale=RUBRIC["scale"][::-1])).sha != first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimesions": []}, "unknown key 'dimesions'; did you mean 'dimensions'?"),
        (
            {"scale": [{**RUBRIC["scale"][0], "vlaue": 2}, RUBRIC["scale"][1]]},
            "unknown key 'scale.0.vlaue'; did you mean 'value'?",
        ),
        ({"version": "1"}, "version: "),
        ({"scale": [{"label": 5, "value": 1.0, "meaning": "x"}]}, "scale.0.label"),
        ({"scale": [RUBRIC["scale"][0], RUBRIC["scale"][0]]}, "not distinct"),
        ({"scale": [{**entry, "value": 1.0} for entry in RUBRIC["scale"]]}, "one value"),
        ({"scale": RUBRIC["scale"][:1]}, "scale"),
        ({"kind": "pairwise"}, "template"),
        ({"template": "{{dimensions}} {{scale}} {{candidate}}"}, "'task'"),
        ({"template": "{{candidate}} {{task}} {{dimensions}} {{scale}}"}, "must end in"),
        ({"template": RUBRIC["template"] + "\nNow grade."}, "nothing after"),
        ({"template": RUBRIC["template"].replace("scale", "scales")}, "scales"),
        ({"system": "Task: {{task}}"}, "only the template has placeholders"),
    ],
)
def test_wrong_rubrics_are_refused_with_file_and_key(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(JudgeError) as error:
        load_rubric(path)
    assert words in str(error.value)
    assert str(path) in str(error.value)


def test_pairwise_values_must_not_favour_a_side(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        kind="pairwise",
        template="{{dimensions}}{{scale}}{{task}}{{candidate_a}}{{candidate_b}}",
        scale=[{**RUBRIC["scale"][0]}, {**RUBRIC["scale"][1], "value": 0.2}],
    )
    with pytest.raises(JudgeError, match="symmetric"):
        load_rubric(path)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(JudgeError, match="code_quality"):
        load_rubric("code_qualty")
    with pytest.raises(JudgeError, match=r"nothing\.yaml"):
        load_rubric(tmp_path / "nothing.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [")
    with pytest.raises(JudgeError, match=r"broken\.yaml.*not YAML"):
        load_rubric(broken)
