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


def test_all_kinds_are_shipped_and_both_measures() -> None:
    shipped = [load_rubric(name) for name in shipped_rubrics()]
    assert {rubric.kind for rubric in shipped} == {"pointwise", "pairwise", "checklist"}
    assert {rubric.measures for rubric in shipped} == {"quality", "correctness"}


def test_own_rubric_loads_by_its_folder(tmp_path: Path) -> None:
    written(tmp_path).rename(tmp_path / "rubric.yaml")
    assert load_rubric(tmp_path).full_name == "mine/1"


CHECKLIST = {
    "kind": "checklist",
    "scale": [
        {"label": "Yes", "value": 1.0, "meaning": "so"},
        {"label": "No", "value": 0.0, "meaning": "not so"},
    ],
    "dimensions": [
        {"name": "clear", "weight": 3, "description": "Is it clear?"},
        {"name": "short", "weight": 1, "description": "Is it short? {{task}}"},
    ],
    "template": "{{dimensions}}\n{{task}}\n{{candidate}}",
    "question": "{{ item }} Yes or No.",
}


def test_a_checklist_asks_once_for_each_item_and_weighs_them(tmp_path: Path) -> None:
    rubric = load_rubric(written(tmp_path, **CHECKLIST))
    assert rubric.questions == {
        "clear": "Is it clear? Yes or No.",
        "short": "Is it short? {{task}} Yes or No.",
    }
    assert rubric.weights == {"clear": 0.75, "short": 0.25}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"question": "Yes or No?"}, "has ['item'] there"),
        ({"scale": RUBRIC["scale"] + [{"label": "C", "value": 0.5, "meaning": "x"}]}, "two labels"),
        ({"template": RUBRIC["template"]}, "placeholders"),
    ],
)
def test_wrong_checklists_are_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(JudgeError) as error:
        load_rubric(written(tmp_path, **{**CHECKLIST, **changes}))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("template", "needs"),
    [
        ("{{dimensions}}{{scale}}{{task}}{{reference}}{{candidate}}", {"reference"}),
        (
            "{{dimensions}}{{scale}}{{task}}{{reference}}{{outcomes}}{{candidate}}",
            {"reference", "outcomes"},
        ),
        ("{{dimensions}}{{scale}}{{task}}{{candidate}}", set()),
    ],
)
def test_a_rubric_says_what_it_shows(tmp_path: Path, template: str, needs: set[str]) -> None:
    assert load_rubric(written(tmp_path, template=template)).needs == needs


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
        ({"system": "Task: {{task}}"}, "a pointwise rubric has [] there"),
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
