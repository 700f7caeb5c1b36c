"""What the place needs that the notebook is shown in: Colab's switch, with a module put in Colab's place."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from dragnoise_widgets.canvas.canvas import DragCanvas
from dragnoise_widgets.frontend import enable_custom_widget_manager
from dragnoise_widgets.studio.studio import DragStudio

OUTPUT = """
calls = 0
def enable_custom_widget_manager():
    global calls
    calls += 1
"""


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path for a package google, and nothing of one imported yet."""
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path / "google"
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        del sys.modules[name]


def test_elsewhere_nothing_happens(google: Path) -> None:
    assert enable_custom_widget_manager() is False
    assert "google.colab" not in sys.modules


def test_a_google_package_that_is_not_colab(google: Path) -> None:
    google.mkdir()
    (google / "__init__.py").touch()
    assert enable_custom_widget_manager() is False


@pytest.fixture
def colab(google: Path) -> Any:
    """Colab's module, which counts its calls."""
    (google / "colab").mkdir(parents=True)
    (google / "colab" / "__init__.py").touch()
    (google / "colab" / "output.py").write_text(OUTPUT, encoding="utf-8")
    return importlib.import_module("google.colab.output")


@pytest.mark.parametrize("make", [DragCanvas, lambda: DragStudio(inline=True)])
def test_a_canvas_or_a_studio_switches_it_on_by_itself(colab: Any, make: Any) -> None:
    make().close()
    assert colab.calls >= 1  # anywidget does it too


def test_in_colab_it_is_switched_on_each_time(colab: Any) -> None:
    assert enable_custom_widget_manager() is True
    assert enable_custom_widget_manager() is True
    assert colab.calls == 2


def test_all_widgets_take_all_that_they_are_given() -> None:
    """ipywidgets 7 and 8 have other names; what a widget does not know, it warns of and drops."""
    from dragnoise_widgets import DragStudio

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # anywidget adds traits to a widget, which ipywidgets 7 does in a way that traitlets calls old
        warnings.filterwarnings("ignore", "Deprecated in traitlets 4.1", DeprecationWarning)
        DragStudio(inline=True).close()


def test_a_canvas_starts_without_torch() -> None:
    code = "import sys, dragnoise_widgets.canvas.canvas; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
