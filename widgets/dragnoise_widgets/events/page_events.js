// Keyboard, wheel and mouse events of one DragCanvas, before the page and ipycanvas see them, and its width on the page.
//
// Keys that the canvas takes are sent to Python and go no further, so that no shortcut of the notebook fires;
// all others (Tab, F5, Ctrl+S, ...) and the wheel without Ctrl belong to the page.  Listeners are on the window and run in the
// capture phase because notebooks listen on the document.

const FRAME = ".dragnoise-canvas";
const SETTLED = 200; // milliseconds without a change after which a width is told

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
  // What the wheel and a pull amount to is sent once for each frame of the browser.
  let sum = null;
  const send = (event, at, amounts) => {
    if (sum && sum.event !== event) flush();
    if (!sum) requestAnimationFrame(flush);
    sum = { event, ...at, ...Object.fromEntries(Object.entries(amounts).map(([name, n]) => [name, n + (sum?.[name] ?? 0)])) };
  };
  const flush = () => {
    if (sum) model.send(sum);
    sum = null;
  };
  let space = null; // while Space is held: has the picture been pulled meanwhile?
  let pulling = null; // the canvas that is being pulled, and by which button
  const stop = (event) => (event.preventDefault(), event.stopImmediatePropagation());
  const ratio = (target) => target.width / target.getBoundingClientRect().width;
  const press = (event) =>
    model.send({
      event: "key", key: event.key, shift: event.shiftKey, ctrl: event.ctrlKey, meta: event.metaKey,
      repeat: event.repeat,
    });
  const listeners = {
    keydown: (event) => {
      if (!canvas(event)) return;
      if (takes(event, model.get("named"))) {
        if (event.key === " ") space ??= { pulled: false };
        else press(event);
        stop(event);
      } else {
        leave(event);
      }
    },
    keyup: (event) => {
      if (event.key !== " " || !space) return;
      if (!space.pulled && canvas(event)) press(event); // Space runs when it is let go and nothing was pulled
      space = null;
      stop(event);
    },
    blur: () => (space = pulling = null),
    wheel: (event) => {
      if (!canvas(event)) return;
      event.stopImmediatePropagation();
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const { left, top } = event.target.getBoundingClientRect();
      const by = ratio(event.target);
      const delta = Math.max(-25, Math.min(25, event.deltaY * (event.deltaMode ? 16 : 1)));
      send("wheel", { x: (event.clientX - left) * by, y: (event.clientY - top) * by }, { delta });
    },
    mousedown: (event) => {
      if (!canvas(event)) return;
      if (event.button === 1 || (event.button === 0 && space)) {
        pulling = { target: event.target, button: event.button };
        if (space) space.pulled = true;
        event.target.focus();
        stop(event);
      } else if (event.button) event.stopImmediatePropagation();
    },
    mousemove: (event) => {
      if (!pulling) return;
      const by = ratio(pulling.target);
      send("pan", {}, { dx: event.movementX * by, dy: event.movementY * by });
      stop(event);
    },
    mouseup: (event) => {
      if (pulling?.button === event.button) {
        pulling = null;
        stop(event);
      } else if (event.button && canvas(event)) event.stopImmediatePropagation();
    },
  };
  let wide = 0;
  const measure = (entries) => {
    const { width } = entries.at(-1).contentRect;
    clearTimeout(wide);
    if (width < 1 || Math.abs(width - model.get("seen")) < 4) return;
    wide = setTimeout(() => (model.set("seen", Math.round(width)), model.save_changes()), SETTLED);
  };
  const sizes = new ResizeObserver(measure);
  let frame = 0;
  const watch = () => {
    const shown = el.closest(FRAME)?.querySelector("canvas");
    if (shown) sizes.observe(shown);
    else frame = requestAnimationFrame(watch); // not on the page yet
  };
  watch();
  const options = { capture: true, passive: false };
  for (const [type, listener] of Object.entries(listeners)) window.addEventListener(type, listener, options);
  return () => {
    cancelAnimationFrame(frame);
    clearTimeout(wide);
    sizes.disconnect();
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
