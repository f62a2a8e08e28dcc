// The rule book reads without this script. It adds the search, and shows which words belong to
// which rule when either is pointed at, focused or chosen.
"use strict";
(() => {
  const root = document.body.dataset.root;

  // ---- search ---------------------------------------------------------------------------------
  const box = document.querySelector(".search");
  const input = document.getElementById("_search");
  const list = document.getElementById("_found");
  const status = document.getElementById("_found-count");
  const MOST = 12;
  const fold = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  const index = (window.BOOK_INDEX || []).map(([kind, name, title, address, words]) => ({
    kind, name, title, address,
    foldedName: fold(name), foldedTitle: fold(title), foldedWords: fold(words),
  }));
  let chosen = -1;

  // A word counts where something begins with it; the name of a thing counts most.
  const begins = (text, word) => text.startsWith(word) || new RegExp(`[^a-z0-9]${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`).test(text);
  const scored = (row, words, whole) => {
    if (row.foldedName === whole || row.foldedTitle === whole) return 100;
    let score = 0;
    for (const word of words) {
      if (row.foldedName.startsWith(word) || row.foldedName.endsWith(`:${word}`)) score += 20;
      else if (begins(row.foldedTitle, word)) score += 12;
      else if (begins(row.foldedName, word)) score += 8;
      else if (begins(row.foldedWords, word)) score += 3;
      else if (row.foldedTitle.includes(word) || row.foldedName.includes(word)) score += 1;
      else return 0;
    }
    return score / words.length;
  };
  const search = (text) => {
    const whole = fold(text).trim();
    const words = whole.split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    return index
      .map((row, order) => ({ row, order, score: scored(row, words, whole) }))
      .filter((found) => found.score > 0)
      .sort((a, b) => b.score - a.score || a.order - b.order)
      .map((found) => found.row);
  };
  const part = (className, text) => {
    const span = document.createElement("span");
    span.className = className;
    span.textContent = text;
    return span;
  };
  const choose = (number) => {
    const rows = [...list.querySelectorAll("[role=option]")];
    chosen = rows.length ? (number + rows.length) % rows.length : -1;
    rows.forEach((row, n) => row.setAttribute("aria-selected", String(n === chosen)));
    if (chosen >= 0) {
      input.setAttribute("aria-activedescendant", rows[chosen].id);
      rows[chosen].scrollIntoView({ block: "nearest" });
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  };
  const close = () => {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    chosen = -1;
  };
  const go = (row) => { window.location.href = root + row.dataset.address; };
  const show = () => {
    const found = search(input.value);
    list.replaceChildren();
    if (!input.value.trim()) { status.textContent = ""; close(); return; }
    found.slice(0, MOST).forEach((row, number) => {
      const item = document.createElement("li");
      item.id = `_found-${number}`;
      item.setAttribute("role", "option");
      item.dataset.address = row.address;
      item.append(part("what", row.title), part("kind", row.kind), part("name", row.name));
      item.addEventListener("mousedown", (event) => { event.preventDefault(); go(item); });
      list.append(item);
    });
    if (!found.length) {
      const item = part("none", "Nothing found. Every word must be the beginning of one in the book.");
      const row = document.createElement("li");
      row.className = "none";
      row.append(item);
      list.append(row);
    }
    status.textContent = found.length === 1 ? "1 found" : `${found.length} found`;
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    choose(found.length ? 0 : -1);
  };
  if (box && index.length) {
    box.hidden = false;
    input.addEventListener("input", show);
    input.addEventListener("focus", () => { if (input.value) show(); });
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      const rows = list.querySelectorAll("[role=option]");
      if (event.key === "ArrowDown") { event.preventDefault(); if (list.hidden) show(); else choose(chosen + 1); }
      else if (event.key === "ArrowUp") { event.preventDefault(); choose(chosen - 1); }
      else if (event.key === "Enter" && chosen >= 0) { event.preventDefault(); go(rows[chosen]); }
      else if (event.key === "Escape") { if (list.hidden) input.blur(); else close(); }
    });
    document.addEventListener("keydown", (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
      if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
        event.preventDefault();
        input.focus();
        input.select();
      }
    });
  }

  // ---- words and their rules ------------------------------------------------------------------
  const words = [...document.querySelectorAll(".q[data-rules]")];
  const notes = [...document.querySelectorAll(".note[data-rule]")];
  if (!words.length) return;
  let kept = new Set();
  const mark = (ids) => {
    for (const word of words) word.classList.toggle("on", word.dataset.rules.split(" ").some((id) => ids.has(id)));
    for (const note of notes) note.classList.toggle("on", ids.has(note.dataset.rule));
  };
  // Words are marked with the narrowest rule that quotes them: the first of their list.
  const ofWord = (word) => new Set(word.dataset.rules.split(" ").slice(0, 1));
  const keep = (ids) => { kept = ids; mark(ids); };
  const near = (element) => {
    const box = element.getBoundingClientRect();
    if (box.top < 110 || box.bottom > window.innerHeight) element.scrollIntoView({ block: "center" });
  };
  for (const word of words) {
    word.addEventListener("mouseenter", () => mark(ofWord(word)));
    word.addEventListener("mouseleave", () => mark(kept));
    word.addEventListener("focus", () => mark(ofWord(word)));
    word.addEventListener("blur", () => mark(kept));
    word.addEventListener("click", (event) => {
      const note = document.getElementById(word.getAttribute("href").slice(1));
      if (!note || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      history.replaceState(null, "", word.getAttribute("href"));
      keep(ofWord(word));
      near(note);
      note.querySelector(".name").focus({ preventScroll: true });
    });
  }
  for (const note of notes) {
    const ids = new Set([note.dataset.rule]);
    note.addEventListener("mouseenter", () => mark(ids));
    note.addEventListener("mouseleave", () => mark(kept));
    note.addEventListener("focusin", () => mark(ids));
    note.addEventListener("focusout", () => mark(kept));
  }
  // From a rule's page: the words that its place begins with are shown as chosen.
  const arrive = () => {
    const place = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
    if (!place) return;
    if (place.classList.contains("note")) { keep(new Set([place.dataset.rule])); return; }
    const found = /^at-(.+)$/.exec(place.id);
    if (!found) return;
    const link = notes.find((note) => note.querySelector(`.back[href="#${place.id}"], .back[href$="#${place.id}"]`));
    if (link) keep(new Set([link.dataset.rule]));
    near(place);
  };
  window.addEventListener("hashchange", arrive);
  arrive();
})();
