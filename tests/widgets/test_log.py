"""The log: the newest line first, errors with their traceback, and never without an end."""

from __future__ import annotations

from dragnoise_widgets.panels.log import LINES, Log


def test_the_newest_line_is_first() -> None:
    log = Log()
    log.note("saved to edit.drag")
    log.note("branching …")
    assert log.value.index("branching") < log.value.index("saved to")
    assert [entry.split(" ", 1)[1] for entry in log.text] == ["saved to edit.drag", "branching …"]


def test_an_error_unfolds_its_traceback() -> None:
    log = Log()
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        log.error("that went wrong", error)
    log.error("so did that", "Traceback of the worker")
    assert log.value.count("<details>") == 2
    assert "test_log.py" in log.value and "ZeroDivisionError" in log.value
    assert "Traceback of the worker" in log.text[1]


def test_what_is_told_is_text_and_no_html() -> None:
    log = Log()
    log.note("<img src=x>")
    log.error("<b>", "<script>")
    assert "<img" not in log.value and "<script>" not in log.value and "<b>" not in log.value
    assert "&lt;img src=x&gt;" in log.value


def test_old_lines_go() -> None:
    log = Log()
    for i in range(LINES + 5):
        log.note(f"line {i}.")
    assert len(log.text) == LINES
    assert "line 4." not in log.value and "line 5." in log.value
