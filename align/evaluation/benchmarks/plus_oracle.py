"""EvalPlus's comparison, as test code: its text runs in the sandbox's tester, never here.

A value passes where it equals the reference's, where floats meet within the task's tolerance, or
where one of the special rules of EvalPlus 0.3 accepts it. Standard library only.
"""

import copy
import math
from typing import Any

#: MBPP by function: results that count as sets.
SETS = (
    "similar_elements",
    "find_char_long",
    "common_in_nested_lists",
    "extract_singly",
    "larg_nnum",
    "intersection_array",
    "find_dissimilar",
    "Diff",
)
#: MBPP by function: whether there is a result at all.
NOT_NONE = ("check_str", "text_match_three", "text_starta_endb")
#: Relative tolerance of numpy's `assert_allclose`.
RELATIVE = 1e-07
#: Tolerance of floats in tasks that name none.
FLOATS = 1e-6


def same(out: Any, expected: Any) -> Any:
    try:
        assert out == expected  # compared by the tester, so that no object can lie
    except AssertionError:
        return False
    return True


def all_floats(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def close(out: Any, expected: Any, tolerance: Any) -> Any:
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(out, (list, tuple))
            and len(out) == len(expected)
            and all(close(o, e, tolerance) for o, e in zip(out, expected))
        )
    numbers = (bool, int, float, complex)
    if not isinstance(out, numbers) or not isinstance(expected, numbers):
        return False
    if out == expected:
        return True
    difference = abs(out - expected)
    return math.isfinite(abs(expected)) and difference <= tolerance + RELATIVE * abs(expected)


def polynomial(coefficients: Any, x: Any) -> Any:
    return sum(c * math.pow(x, i) for i, c in enumerate(coefficients))


def pyramid_surface(base: Any, height: Any) -> Any:
    # MBPP 581 read with the height as the distance from the base to the apex
    slant = math.sqrt((base / 2) ** 2 + height**2)
    return round(base**2 + 4 * (base * slant) / 2)


def digit_distance(first: Any, second: Any) -> Any:
    # MBPP 558 with both numbers filled up with zeros to one length
    length = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(length), str(second).zfill(length))
    return sum(abs(int(a) - int(b)) for a, b in pairs)


def special(family: Any, name: Any, args: Any, out: Any, expected: Any, tolerance: Any) -> Any:
    """Whether a rule of this very task accepts the value; None where it has none that decides."""
    if family != "mbpp":
        return None
    if name == "are_equivalent":
        return True
    if name == "sum_div":
        return same(out, expected) or same(out, 0)
    if name == "surface_Area" and isinstance(out, (int, float)):
        near = abs(out - pyramid_surface(*args)) <= tolerance
        return True if near or same(out, expected) else None
    if name == "digit_distance_nums":
        return same(out, expected) or same(out, digit_distance(*args))
    if name in SETS:
        return set(out) == set(expected)
    if name in NOT_NONE:
        return same(out, expected) if isinstance(out, bool) else expected == (out is not None)
    return None


def agrees(family: Any, name: Any, args: Any, out: Any, expected: Any, tolerance: Any) -> Any:
    if family == "humaneval" and name == "find_zero":
        return abs(polynomial(args[0], out)) <= tolerance
    verdict = special(family, name, args, out, expected, tolerance)
    if verdict or (verdict is None and same(out, expected)):
        return True
    if tolerance == 0 or type(out) is not type(expected):
        return False
    return close(out, expected, tolerance)


def check_inputs(
    family: Any, name: Any, candidate: Any, reference: Any, inputs: Any, tolerance: Any
) -> Any:
    """Calls candidate and reference with each input; raises AssertionError where they differ."""
    for number, args in enumerate(inputs):
        expected = reference(*copy.deepcopy(args))
        if family == "mbpp" and name in NOT_NONE:
            expected = expected is not None
        out = candidate(*copy.deepcopy(args))
        if tolerance == 0 and all_floats(expected):
            tolerance = FLOATS  # from here on, as EvalPlus has it
        if not agrees(family, name, args, out, expected, tolerance):
            shown = (number, out, expected)
            raise AssertionError("input %d: returned %.200r, the reference %.200r" % shown)


# ------------------------------------------------------------- MBPP's inputs, which JSON flattened

#: Ids whose inputs are lists of tuples, and those in which they are one list deeper.
TUPLES = (
    *(2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726),
    *(740, 744, 809),
)
DEEPER = (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)


#: The first argument is a tuple; all of the arguments are lists of lists of tuples, made tuples.
FIRST = (250, 307, 405, 446, 617, 720, 763, 808)
NESTED = (259, 401, 445)
#: Every list is a tuple.
ALL = (580, 615, 791)


def tuples(value: Any) -> Any:
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value


def deeper(args: Any) -> Any:
    return [[tuple(each) for each in part] for part in args]


def revive(number: Any, args: Any) -> Any:
    """Returns one input of MBPP with the types that it had before it was written as JSON."""
    if number in TUPLES:
        return [tuple(each) for each in args]
    if number in DEEPER:
        return deeper(args)
    if number in NESTED:
        return [tuple(part) for part in deeper(args)]
    if number in FIRST:
        return [tuple(args[0]), *args[1:]]
    if number in ALL:
        return tuples(args)
    if number in (75, 413, 444, 753):
        return [[tuple(each) for each in args[0]], *args[1:]]
    if number in (106, 750):
        return [args[0], tuple(args[1])]
    if number == 115:
        return [[set(item) if isinstance(item, list) and item else {} for item in args[0]]]
    if number == 124:
        return [float(args[0]), complex(args[1])]
    if number == 252:
        return [complex(args[0])]
    if number == 278:
        return [tuple(tuple(i) if isinstance(i, list) else i for i in args[0])]
    if number == 722:
        return [{key: tuple(value) for key, value in args[0].items()}, *args[1:]]
    return args
