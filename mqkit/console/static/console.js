// Looks again at a page that asks for it (data-refresh), and puts the new #live in the old one's
// place. Each page works without this: a link looks again.
"use strict";
(() => {
  const live = document.getElementById("live");
  if (!live) return;
  const every = Number(live.dataset.refresh) * 1000;
  const bar = document.getElementById("refresh");
  const button = document.getElementById("pause");
  const said = document.getElementById("refreshed");
  const words = said.textContent;
  const key = "mqkit-console-paused";
  let isPaused = sessionStorage.getItem(key) === "yes";
  let timer = 0;

  // What is being typed or chosen, or is selected, must not be taken away.
  const isChanged = (field) =>
    field.type === "checkbox"
      ? field.checked !== field.defaultChecked
      : field.type !== "hidden" && field.value !== field.defaultValue;
  const isUsed = () => {
    const active = document.activeElement;
    const isTyped =
      (live.contains(active) && active.matches("input, textarea, select")) ||
      [...live.querySelectorAll("input, textarea")].some(isChanged);
    const selection = document.getSelection();
    const isSelected = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    return isTyped || isSelected;
  };

  // The place of an element among those of its kind: it is in the new page, too, as a rule.
  const focusable = (root) => [...root.querySelectorAll("a, button, [tabindex], summary")];
  const place = (element) => ({
    id: element.id,
    href: element.getAttribute("href"),
    index: focusable(live).indexOf(element),
  });
  const again = (from) => {
    const all = focusable(live);
    return (
      (from.id && document.getElementById(from.id)) ||
      (from.href && all.find((each) => each.getAttribute("href") === from.href)) ||
      all[from.index]
    );
  };

  const replace = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.getElementById("live");
    if (!fresh) return location.reload(); // the page has become another one: it is done, or failed
    const active = document.activeElement;
    const from = live.contains(active) ? place(active) : null;
    const open = new Set([...live.querySelectorAll("details[open][id]")].map((each) => each.id));
    const moved = [...live.querySelectorAll(".scroll")].map((each) => each.scrollLeft);
    live.replaceChildren(...fresh.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    [...live.querySelectorAll(".scroll")].forEach((each, at) => (each.scrollLeft = moved[at] ?? 0));
    if (from) again(from)?.focus({ preventScroll: true });
  };

  const look = async () => {
    try {
      if (isUsed()) {
        said.textContent = "This page waits while something on it is typed or selected.";
      } else if (!document.hidden) {
        const answer = await fetch(location.href, { redirect: "manual", credentials: "same-origin" });
        if (answer.type === "opaqueredirect") return location.reload(); // the session has ended
        if (answer.ok && !isPaused && !isUsed()) replace(await answer.text());
        if (!isPaused) said.textContent = answer.ok ? words : "The console could not answer; it is asked again.";
      }
    } catch {
      said.textContent = "The console does not answer; it is asked again.";
    }
    wait();
  };
  const wait = () => {
    clearTimeout(timer);
    if (!isPaused) timer = setTimeout(look, every);
  };
  const show = () => {
    button.textContent = isPaused ? "Go on" : "Pause";
    said.textContent = isPaused ? "This page stands still." : words;
  };
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    sessionStorage.setItem(key, isPaused ? "yes" : "no");
    show();
    wait();
  });
  bar.hidden = false;
  document.getElementById("look-again").hidden = true;
  show();
  wait();
})();
