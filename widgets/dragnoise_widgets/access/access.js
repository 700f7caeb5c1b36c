// What the page does for one studio: accessible names and roles, announcements, the theme, dropped, pasted and opened
// pictures, the line that says that the kernel is busy, and answers beside what was pressed.

const STUDIO = ".dragnoise-studio";
const UPLOAD = ".dragnoise-open-picture"; // the button that opens a picture
const PATIENCE = 300; // milliseconds without an answer of the kernel after which it counts as busy
const PRESSED = 8000, SEEN = 6000; // milliseconds: an answer to a press comes within the first, and stays for the second
const HEADER = 100, FOOTER = 40; // CSS pixels that the notebook's menu, toolbar and status bar hide at most
const LARGEST = 9e6; // bytes of a file that goes through the notebook's connection

const words = (element) => (element?.textContent ?? "").trim();
const spoken = (text) => /\p{L}/u.test(text);

function put(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    const text = String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

// Names that a widget's own markup does not give: [selector, function of the element -> attributes].
const RULES = [
  ["button i", () => ({ "aria-hidden": true })], // the letter of an icon is not part of a name
  ["button", (e) => (!spoken(words(e)) && e.title ? { "aria-label": e.title } : {})],
  [".widget-toggle-button", (e) => ({ "aria-pressed": e.classList.contains("mod-active") })],
  [".widget-toggle-buttons", () => ({ role: "group", "aria-label": "tool" })],
  [".noUi-handle", (e) => ({ "aria-label": words(e.closest(".jupyter-widgets")?.querySelector(".widget-label")) || "value" })],
  [".widget-slider .widget-readout", (e) => ({ role: "textbox", "aria-label": `${words(e.parentElement?.querySelector(".widget-label"))}, typed` })],
  [".progress", (e) => ({ role: "progressbar", "aria-label": "progress", "aria-valuenow": Math.round(parseFloat(e.firstElementChild?.style.width) || 0) })],
  [".dragnoise-canvas canvas", (e, model) => ({ role: "application", "aria-roledescription": "picture with drags", "aria-label": model.get("canvas") })],
  [".dragnoise-overlay img", (e) => ({ alt: e.closest(".dragnoise-before") ? "the other half of the comparison" : words(e.closest(".dragnoise-preview")?.querySelector(".dragnoise-caption")) || "picture of the iteration shown" })],
  [".dragnoise-figure img", (e) => ({ alt: `plot: ${words(e.closest(".dragnoise-inspector")?.querySelector("[role=tab][aria-selected=true]")) || "figure"}` })],
  ["img:not([alt])", (e) => ({ alt: e.closest("[title]")?.title ?? "" })],
  [".dragnoise-tools", () => ({ role: "toolbar", "aria-label": "drawing" })],
  [".dragnoise-transport", () => ({ role: "region", "aria-label": "run" })],
  [".dragnoise-preview", () => ({ role: "region", "aria-label": "picture of the iteration shown" })],
  ["[class*=Collapse-header]", (e) => ({ role: "button", "aria-label": words(e), tabindex: 0, "aria-expanded": /Collapse-open/.test(e.className) })],
  ["[class*=Collapse-contents]", (e) => ({ role: "region", "aria-label": words(e.parentElement?.querySelector("[class*=Collapse-header]")) })],
  ["[role=tab]", (e) => ({ tabindex: /mod-current/.test(e.className) ? 0 : -1, "aria-selected": /mod-current/.test(e.className) })],
  ["[role=tablist]", () => ({ "aria-label": "inspector" })],
];

function mark(root, model) {
  put(root, { role: "region", "aria-label": "drag studio" });
  for (const [selector, attributes] of RULES) {
    for (const element of root.querySelectorAll(selector)) put(element, attributes(element, model));
  }
}

// Headers of folded panels and tabs are no buttons in ipywidgets: Enter and Space press them, arrows go between tabs.
function press(event) {
  const target = event.target;
  const header = target.matches?.("[class*=Collapse-header]");
  const tab = target.matches?.("[role=tab]");
  if (!header && !tab) return;
  const click = (element) => {
    for (const type of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"]) {
      const { left, top } = element.getBoundingClientRect();
      const Kind = type.startsWith("pointer") ? PointerEvent : MouseEvent;
      element.dispatchEvent(new Kind(type, { bubbles: true, button: 0, clientX: left + 4, clientY: top + 4 }));
    }
    element.focus();
  };
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (event.key === "Enter" || event.key === " ") header ? target.click() : click(target);
  else if (tab && step) {
    const tabs = [...target.parentElement.children];
    click(tabs[(tabs.indexOf(target) + step + tabs.length) % tabs.length]);
  } else return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

function dark(element) {
  const [r, g, b] = (getComputedStyle(element).color.match(/\d+/g) ?? [0, 0, 0]).map(Number);
  return 0.3 * r + 0.6 * g + 0.1 * b > 128; // light letters
}

async function give(model, file, refuse) {
  refuse("");
  if (file.size > LARGEST) return refuse(`${file.name} is larger than the 9 MB that the notebook's connection carries; save it smaller, or open it by code: DragStudio(picture=path).`);
  const bytes = await file.arrayBuffer();
  model.send({ event: "file", name: file.name }, undefined, [new DataView(bytes)]);
}

function start(root, model, el) {
  const live = document.createElement("div");
  live.className = "dragnoise-live";
  put(live, { role: "status", "aria-live": "polite", "aria-label": "what the studio does" });
  const busy = document.createElement("div");
  busy.className = "dragnoise-busy";
  put(busy, { role: "alert" });
  const answer = document.createElement("div"); // for eyes; the live region says the same
  answer.className = "dragnoise-answer";
  put(answer, { "aria-hidden": true });
  el.append(live, busy, answer);

  let due = 0;
  const soon = () => (due ||= requestAnimationFrame(() => ((due = 0), mark(root, model))));
  const changes = new MutationObserver(soon);
  changes.observe(root, { subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["class", "title", "src"] });

  const themed = () => {
    if (model.get("dark") === dark(root)) return;
    model.set("dark", dark(root));
    model.save_changes();
  };
  const themes = new MutationObserver(() => setTimeout(themed, 200));
  for (const element of [document.body, document.documentElement]) themes.observe(element, { attributes: true });

  let asked = 0, answered = 0, wait = 0;
  let waiting = "", refused = ""; // the kernel's answer ends the first, the next press or file the second
  const show = () => (busy.textContent = refused || waiting);
  const waitingFor = (text) => ((waiting = text), show());
  const refuse = (text) => ((refused = text), show());
  const ask = () => {
    if (asked > answered) return; // one question at a time
    model.send({ event: "ping", n: ++asked });
    wait = setTimeout(() => waitingFor("The kernel is busy with another cell. What you do here is done when that has ended."), PATIENCE);
  };
  const told = (message) => {
    if (message?.pong !== asked) return;
    answered = asked;
    clearTimeout(wait);
    waitingFor("");
  };
  model.on("msg:custom", told);
  // What was pressed far from the status line is answered beside it as well.
  let pressed = null, fade = 0;
  const touched = ({ target }) => {
    answer.textContent = "";
    refuse("");
    pressed = target.closest?.(".dragnoise-canvas, .dragnoise-transport") ? null : { target, when: performance.now() };
  };
  const reply = () => {
    const line = root.querySelector(".dragnoise-transport")?.getBoundingClientRect();
    if (!pressed || !line || (line.bottom > HEADER && line.top < innerHeight)) return;
    if (performance.now() - pressed.when > PRESSED || !pressed.target.isConnected) return;
    const [place, whole] = [pressed.target.getBoundingClientRect(), root.getBoundingClientRect()];
    answer.textContent = model.get("answer");
    answer.style.left = `${Math.max(Math.min(place.left - whole.left, whole.width - 380), 0)}px`;
    const below = place.bottom - whole.top + 4;
    const room = innerHeight - place.bottom > answer.offsetHeight + FOOTER;
    answer.style.top = `${room ? below : place.top - whole.top - answer.offsetHeight - 4}px`;
    clearTimeout(fade);
    fade = setTimeout(() => (answer.textContent = ""), SEEN);
  };
  const announce = () => (live.textContent = model.get("said"));
  model.on("change:said", announce);
  model.on("change:answer", reply);
  model.on("change:canvas", soon);

  const picture = (data) => [...(data?.files ?? [])].find((file) => file.type.startsWith("image/") || /\.hei[cf]$/i.test(file.name));
  const inside = (element) => element instanceof Node && root.contains(element);
  const listeners = {
    keydown: (event) => inside(event.target) && (ask(), touched(event), press(event)),
    click: (event) => {
      if (!inside(event.target) || !event.target.closest?.(UPLOAD)) return;
      event.preventDefault(); // the widget's own way sends files of any size, and a large one ends the connection
      event.stopImmediatePropagation();
      const input = Object.assign(document.createElement("input"), { type: "file", accept: "image/*" });
      input.addEventListener("change", () => input.files[0] && give(model, input.files[0], refuse));
      input.click();
    },
    pointerup: (event) => inside(event.target) && (ask(), touched(event)),
    dragover: (event) => inside(event.target) && event.dataTransfer?.types.includes("Files") && (event.preventDefault(), event.stopImmediatePropagation()),
    drop: (event) => {
      const file = inside(event.target) && picture(event.dataTransfer);
      if (!file) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      give(model, file, refuse);
    },
    paste: (event) => {
      const at = document.activeElement;
      const file = inside(at) && !at.matches("input, textarea") && picture(event.clipboardData);
      if (!file) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      give(model, file, refuse);
    },
  };
  for (const [type, listener] of Object.entries(listeners)) window.addEventListener(type, listener, true);
  mark(root, model);
  themed();
  announce();
  return () => {
    for (const [type, listener] of Object.entries(listeners)) window.removeEventListener(type, listener, true);
    clearTimeout(fade);
    changes.disconnect();
    themes.disconnect();
    model.off("msg:custom", told);
    model.off("change:said", announce);
    model.off("change:answer", reply);
    model.off("change:canvas", soon);
  };
}

function render({ model, el }) {
  let end = () => {};
  let frame = 0;
  const begin = () => {
    const root = el.closest(STUDIO);
    if (root) end = start(root, model, el);
    else frame = requestAnimationFrame(begin); // not on the page yet
  };
  begin();
  return () => (cancelAnimationFrame(frame), end());
}

export default { render };
