"use strict";
(() => {
  const input = document.getElementById("q");
  const list = document.getElementById("options");
  const form = input.form;
  let options = [];
  let chosen = -1;
  let asking = null;
  let timer = 0;

  const close = () => {
    clearTimeout(timer);
    if (asking) asking.abort();
    list.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  };
  const select = (place) => {
    chosen = place;
    [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === place)));
    if (place < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", list.children[place].id);
  };
  const take = (place) => {
    const option = options[place];
    if (option.kind === "product") {
      input.value = option.text;
    } else {
      const filter = document.createElement("input");
      filter.type = "hidden";
      filter.name = option.kind;
      filter.value = option.filter;
      form.append(filter);
      input.value = "";
    }
    form.requestSubmit();
  };
  const show = (found) => {
    options = found;
    list.replaceChildren(...found.map((option, place) => {
      const item = document.createElement("li");
      item.id = "option" + place;
      item.setAttribute("role", "option");
      item.textContent = option.text;
      if (option.kind !== "product") {
        const kind = document.createElement("small");
        kind.textContent = " " + option.kind + ", " + option.count;
        item.append(kind);
      }
      item.addEventListener("mousedown", (event) => {
        event.preventDefault();
        take(place);
      });
      return item;
    }));
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(found.length > 0));
    select(-1);
  };
  const ask = async () => {
    if (asking) asking.abort();
    const typed = input.value.trim();
    if (!typed || typed.length > 200) {
      close();
      return;
    }
    asking = new AbortController();
    try {
      const query = new URLSearchParams({ q: typed });
      const answer = await fetch("/v1/suggest?" + query, { signal: asking.signal });
      if (answer.ok && document.activeElement === input) show((await answer.json()).suggestions);
    } catch (error) {
      if (error.name !== "AbortError") close();
    }
  };

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 80);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !list.hidden) {
      // Without a list the browser empties the field.
      event.preventDefault();
      close();
    } else if (!list.hidden && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      select(((chosen + 1 + step + options.length + 1) % (options.length + 1)) - 1);
    } else if (event.key === "Enter" && chosen >= 0) {
      event.preventDefault();
      take(chosen);
    }
  });
  input.addEventListener("blur", () => setTimeout(close, 150));
  document.querySelectorAll("#facets input, #order select").forEach((one) =>
    one.addEventListener("change", () => form.requestSubmit()));
  document.querySelectorAll(".scripted").forEach((one) => { one.hidden = true; });
})();
