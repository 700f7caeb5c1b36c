// Keyboard, wheel and mouse events of one DragCanvas, before the page and ipycanvas see them.
//
// Keys that the canvas takes are sent to Python and go no further, so that no shortcut of the notebook fires;
// all others (Tab, F5, Ctrl+S, ...) and the wheel belong to the page.  Listeners are on the window and run in the
// capture phase because notebooks listen on the document.

const FRAME = ".dragnoise-canvas";

function takes(event, named) {
  const { key } = event;
  if (key === "[" || key === "]") return true; // typed with AltGr or Option on many keyboards
  if (!event.getModifierState("AltGraph")) {
    if (event.altKey) return false;
    if (event.ctrlKey || event.metaKey) return ["z", "y"].includes(key.toLowerCase());
  }
  if (key === "Enter") return !event.shiftKey; // Shift+Enter runs the cell
  return key.length === 1 || named.includes(key);
}

function render({ model, el }) {
  const canvas = (event) => {
    const target = event.target;
    return target instanceof HTMLCanvasElement && el.closest(FRAME)?.contains(target);
  };
  const listeners = {
    keydown: (event) => {
      if (!canvas(event)) return;
      if (takes(event, model.get("named"))) {
        event.preventDefault();
        model.send({
          event: "key", key: event.key, shift: event.shiftKey, ctrl: event.ctrlKey, meta: event.metaKey,
          repeat: event.repeat,
        });
        event.stopImmediatePropagation();
      } else {
        leave(event);
      }
    },
    wheel: (event) => canvas(event) && event.stopImmediatePropagation(),
    mousedown: (event) => event.button && canvas(event) && event.stopImmediatePropagation(),
    mouseup: (event) => event.button && canvas(event) && event.stopImmediatePropagation(),
  };
  const options = { capture: true, passive: false };
  for (const [type, listener] of Object.entries(listeners)) window.addEventListener(type, listener, options);
  return () => {
    for (const [type, listener] of Object.entries(listeners)) window.removeEventListener(type, listener, options);
  };
}

// ipycanvas keeps every key from the page: the two methods by which it does so do nothing while its listener runs.
function leave(event) {
  event.preventDefault = event.stopPropagation = () => {};
  const restore = () => {
    delete event.preventDefault;
    delete event.stopPropagation;
  };
  event.target.parentNode.addEventListener("keydown", restore, { once: true });
}

export default { render };
