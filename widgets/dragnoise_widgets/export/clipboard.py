"""An invisible widget that copies text to the browser's clipboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

_ESM = """
function selected(text) {
  const area = document.createElement('textarea');
  area.value = text;
  area.style.position = 'fixed';
  area.style.opacity = '0';
  document.body.appendChild(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  if (!done) throw new Error('the browser refuses');
}
export default {
  initialize({ model }) {
    const copy = async message => {
      if (!message || message.event !== 'copy') return;
      try {
        if (navigator.clipboard) await navigator.clipboard.writeText(message.text).catch(() => selected(message.text));
        else selected(message.text);
        model.send({ event: 'copied' });
      } catch (error) {
        model.send({ event: 'failed', reason: String(error && error.message || error) });
      }
    };
    model.on('msg:custom', copy);
    return () => model.off('msg:custom', copy);
  },
  render() {},
};
"""


class Clipboard(anywidget.AnyWidget):
    """`copy(text)` asks every page that shows the widget to copy the text; the page answers when it has.

    done: called with "" when the text was copied, else with the browser's reason.  Where no page answers, it is
        never called: a browser that is shown no widgets cannot copy either.
    """

    _esm = _ESM
    text = traitlets.Unicode()  # the last one; it goes to the page with the message alone

    def __init__(self, done: Callable[[str], Any]) -> None:
        self._done = done
        super().__init__(layout={"display": "none"})
        self.on_msg(self._answered)

    def copy(self, text: str) -> None:
        """Copy a text."""
        self.text = text
        self.send({"event": "copy", "text": text})

    def _answered(self, _: Any, content: Any, __: Any) -> None:
        if not isinstance(content, dict):
            return
        if content.get("event") == "copied":
            self._done("")
        elif content.get("event") == "failed":
            self._done(str(content.get("reason") or "the browser refuses"))
