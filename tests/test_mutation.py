"""The tool that changes modules to see whether their tests notice: what it changes, and what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("cosmic_ray", reason="needs the extra dev")
if not hasattr(os, "fork"):
    pytest.skip("the trials are forks", allow_module_level=True)

from .mutation.__main__ import SUBJECTS, main
from .mutation.argued import SURVIVORS, Argued
from .mutation.mutants import mutants
from .mutation.trials import ROOT
from .patience import LONG


def changes(source: str, *patterns: str) -> list[tuple[str, str, str]]:
    """Operator, place and changed line of each mutant."""
    return [(mutant.operator, mutant.where, mutant.becomes) for mutant in mutants(source, patterns or ("*",))]


# What is changed ------------------------------------------------------------------------------------------------------


def test_a_change_says_where_it_is() -> None:
    """The innermost class or function, decorators included, the line as it was and as it is; the rest stays."""
    source = "class A:\n    @wrap\n    def f(self):\n        return True\n\nx = [True]\n"
    first, second = mutants(source, ("ReplaceTrueWithFalse",))
    assert (first.number, first.where, first.line, first.becomes) == (4, "A.f", "return True", "return False")
    assert first.source == source.replace("return True", "return False")
    assert (second.number, second.where, second.line, second.becomes) == (6, "", "x = [True]", "x = [False]")
    assert changes(source, "RemoveDecorator") == [("RemoveDecorator", "A.f", "")]


def test_annotations_are_left_alone() -> None:
    """Of parameters, results and variables; the values beside them are not."""
    source = "a: B | None = 1\ndef f(b: X | Y, *c: X | Y) -> X | Y:\n    d: 'é' | Y = True\n    e: X | Y\n"
    assert changes(source) == [
        ("ReplaceTrueWithFalse", "f", "d: 'é' | Y = False"),
        ("NumberReplacer", "", "a: B | None = 2"),
        ("NumberReplacer", "", "a: B | None = 0"),
    ]


def test_what_only_the_type_checker_reads_is_left_alone() -> None:
    """The condition and what stands under it; what stands under its else runs."""
    source = "if TYPE_CHECKING:\n    a = 1\nelse:\n    a = 10\nif typing.TYPE_CHECKING:\n    b = True\n"
    assert changes(source) == [("NumberReplacer", "", "a = 11"), ("NumberReplacer", "", "a = 9")]


def test_marks_between_parameters_are_no_arithmetic() -> None:
    """Though some of what they are taken for would be Python."""
    assert changes("def f(a, /, b, *, c): pass\ng = lambda *, a: a\n") == []


def test_each_exception_of_a_clause_is_changed() -> None:
    """Dotted or not, alone or among others."""
    source = "try:\n    f()\nexcept (A, b.C): pass\nexcept (D): pass\nexcept e.F as g: pass\nexcept: pass\n"
    nobody = "CosmicRayTestingException"
    assert [becomes for _, _, becomes in changes(source, "ExceptionReplacer")] == [
        f"except ({nobody}, b.C): pass",
        f"except (A, {nobody}): pass",
        f"except ({nobody}): pass",
        f"except {nobody} as g: pass",
    ]


# What is argued -------------------------------------------------------------------------------------------------------

ENTRY = '[[survivor]]\nmodule = "m"\nwhere = "f"\nline = "a + b"\nbecomes = ["a - b", "a | b"]\nreason = "b is 0"\n'


def test_an_argument_is_about_a_line_not_a_number(tmp_path: Path) -> None:
    """It holds wherever its function goes, and for no other function, line or change."""
    path = tmp_path / "survivors.toml"
    path.write_text(ENTRY, encoding="utf-8")
    argued = Argued.read(path, "m")
    assert Argued.read(path, "other") == []
    sources = ["def f():\n  a + b", "\n\n@wrap\ndef f():\n        a + b", "def g():\n  a + b", "def f():\n  a + b + c"]
    fitting = [{m.becomes for m in mutants(source) for one in argued if one.fits(m)} for source in sources]
    assert fitting == [{"a - b", "a | b"}, {"a - b", "a | b"}, set(), set()]


def test_an_argument_needs_a_reason(tmp_path: Path) -> None:
    """Without one it is an excuse."""
    path = tmp_path / "survivors.toml"
    path.write_text(ENTRY.replace("b is 0", ""), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'a \+ b' survives without a reason"):
        Argued.read(path, "m")


def test_the_list_and_the_table() -> None:
    """Nothing is argued twice, nor about a line that is not there any more; the tests that have to notice exist."""
    for name, subject in SUBJECTS.items():
        argued = [(one.where, one.line, one.becomes) for one in Argued.read(SURVIVORS, name)]
        assert len(argued) == len(set(argued))
        assert {line for _, line, _ in argued} <= {line.strip() for line in subject.source.splitlines()}, name
        assert all(path.is_file() for path in (subject.path, *subject.tests))
    named = re.findall('^module = "(.+)"$', SURVIVORS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(named) <= set(SUBJECTS)


# What is tried --------------------------------------------------------------------------------------------------------

COMMAND = """
import sys
from pathlib import Path
from tests.mutation.__main__ import main
from tests.mutation.trials import Subject
place, limit, *arguments = sys.argv[1:]
subject = Subject("made_up", Path(place, "made_up.py"), (Path(place, "test_made_up.py"),))
sys.exit(main(arguments, {"made_up": subject}, Path(place, "survivors.toml"), float(limit)))
"""
AT_LEAST = "def at_least(low, value):\n    if value > low:\n        return value\n    return low\n"
AT_LEAST_TEST = """
from made_up import at_least

def test_at_least():
    assert at_least(2, 3) == 3
    assert at_least(2, 1) == 2
"""
COUNT_DOWN = "def count_down(number):\n    while number > 0:\n        number -= 1\n    return number\n"
COUNT_DOWN_TEST = "from made_up import count_down\n\ndef test_count_down():\n    assert count_down(3) == 0\n"


def run(
    place: Path, module: str, tests: str, *arguments: str, limit: float = 60.0, survivors: str = ""
) -> tuple[int, str]:
    """Exit code and words of the command, about a module that exists nowhere else; in a process without threads."""
    for name, text in {"made_up.py": module, "test_made_up.py": tests, "survivors.toml": survivors}.items():
        place.joinpath(name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-c", COMMAND, str(place), str(limit), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_survivor_is_told(tmp_path: Path, jobs: str) -> None:
    """It alone, with its place and both lines; the exit code is 1, and the module's file is as it was."""
    code, told = run(tmp_path, AT_LEAST, AT_LEAST_TEST, "--jobs", jobs)
    *survivor, tally = told.splitlines()
    assert survivor == [
        "made_up.py:2 in at_least: ReplaceComparisonOperator_Gt_GtE",
        "-   if value > low:",
        "+   if value >= low:",
    ]
    assert tally.split()[:-2] == ["made_up", "8", "tried", "7", "killed", "0", "argued", "1", "survived"]
    assert code == 1
    assert tmp_path.joinpath("made_up.py").read_text(encoding="utf-8") == AT_LEAST


ARGUED = (
    '[[survivor]]\nmodule = "made_up"\nwhere = "at_least"\nline = "if value > low:"\n'
    'becomes = ["if value >= low:"]\nreason = "equal values are equal"\n'
)
ARGUED_TALLY = ["made_up", "8", "tried", "7", "killed", "1", "argued", "0", "survived"]


def test_an_argued_survivor_is_not_told(tmp_path: Path) -> None:
    """The exit code is 0."""
    code, told = run(tmp_path, AT_LEAST, AT_LEAST_TEST, survivors=ARGUED)
    assert told.split()[:-2] == ARGUED_TALLY
    assert code == 0


@pytest.mark.parametrize("becomes", ["if value < low:", "if value > lower:"])
def test_what_is_argued_without_need_is_told(tmp_path: Path, becomes: str) -> None:
    """A change that is noticed, or that nothing makes; the exit code is 1."""
    survivors = ARGUED.replace('low:"]', f'low:", "{becomes}"]')
    code, told = run(tmp_path, AT_LEAST, AT_LEAST_TEST, survivors=survivors)
    unneeded, tally = told.splitlines()
    assert unneeded.endswith(f"need not be argued: made_up at_least: if value > low: -> {becomes}")
    assert tally.split()[:-2] == ARGUED_TALLY
    assert code == 1
    code, told = run(tmp_path, AT_LEAST, AT_LEAST_TEST, "--operators", "AddNot", survivors=survivors)
    assert code == 0, "a part of the changes says nothing about the others"


def test_a_test_that_does_not_end_has_noticed(tmp_path: Path) -> None:
    """A loop that lost its end is stopped, and counts as killed."""
    arguments = ("made_up", "--operators", "NumberReplacer", "--verbose")
    code, told = run(tmp_path, COUNT_DOWN, COUNT_DOWN_TEST, *arguments)
    assert "noticed: ::test_count_down did not end\n-   number -= 1\n+   number -= 0" in told
    tally = told.splitlines()[-1]
    assert tally.split()[:-2] == ["made_up", "4", "tried", "4", "killed", "0", "argued", "0", "survived"]
    assert code == 0


def test_trials_that_take_too_long_have_noticed(tmp_path: Path) -> None:
    """What the process itself does not stop, or not yet, is stopped by its parent."""
    tests = AT_LEAST_TEST.replace("assert at_least(2, 3) == 3", "at_least(2, 3) == 3 or threading.Event().wait()")
    arguments = ("made_up", "--operators", "AddNot", "--verbose")
    code, told = run(tmp_path, AT_LEAST, f"import threading\n{tests}", *arguments, limit=0.0)
    assert told.count("noticed: timed out") == 1
    assert told.splitlines()[-1].split()[:5] == ["made_up", "1", "tried", "1", "killed"]
    assert code == 0


@pytest.mark.parametrize(
    ("tests", "complaint"),
    [
        (AT_LEAST_TEST.replace("== 3", "== 4"), "made_up, unchanged: ::test_at_least"),
        ("import nothing_of_that_name", "the tests do not load"),
        ("def test_nothing():\n    pass", "its tests do not import it"),
    ],
)
def test_trials_that_would_prove_nothing(tmp_path: Path, tests: str, complaint: str) -> None:
    """Tests that fail anyway, or are about something else, are an error of their own."""
    code, told = run(tmp_path, AT_LEAST, tests)
    assert complaint in told
    assert code == 2


def test_a_module_that_is_not_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told by name."""
    with pytest.raises(SystemExit):
        main(["_backoff", "_nothing"])
    assert "no such module: _nothing" in capsys.readouterr().err
