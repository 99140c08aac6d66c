// Sorts, filters, pages and rates the table of pairs; without it the whole table reads as it stands.
"use strict";
(() => {
  const PAGE = 200; // rows that are laid out at a time
  const STORE = `nir ratings: ${location.pathname}`;
  const names = new Intl.Collator("en", { numeric: true }); // s2 before s10

  const element = (id) => document.getElementById(id);
  const table = element("registrations");
  const { grades, ratings, columns, tolerance } = table.dataset;
  const TOLERANCE = Number(tolerance);
  const RATINGS = ratings.split(" ");
  const ORDER = { verdict: [...grades.split(" "), ""], rating: [...RATINGS, "none"] };
  const COLUMNS = columns.split(" ");
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const registrations = [...body.rows].map((row) => {
    const [fixed, moving, method] = [...row.cells].slice(0, 3).map((cell) => cell.textContent);
    const cell = row.cells[headers.length - 1];
    const words = `${fixed} ${moving} ${method} ${cell.textContent}`.toLowerCase();
    const key = JSON.stringify([fixed, moving, method]);
    return { row, cell, words, fixed, moving, method, key, result: row.dataset.result };
  });

  // What the reader rates, kept by the browser where it may

  function storedDrafts() {
    try {
      const { rater, ratings } = JSON.parse(localStorage.getItem(STORE));
      return { rater: String(rater), ratings: { ...ratings } };
    } catch {
      return { rater: "", ratings: {} }; // nothing is stored, or storage is denied
    }
  }

  const drafts = storedDrafts();

  function keepDrafts() {
    const mine = rated();
    let note = "";
    try {
      localStorage.setItem(STORE, JSON.stringify(drafts));
    } catch {
      note = "; this browser keeps nothing: download before you leave the page";
    }
    const old = mine.filter(isOld).length;
    const changed = old ? `, ${old} of them before their result changed` : "";
    element("rated").textContent = `${mine.length} rated by you${changed}${note}`;
    element("save-json").disabled = element("save-tsv").disabled = mine.length === 0;
  }

  // A rating is of the result that was seen; drafts of before results were told have none
  const resultOf = ({ key }) => drafts.ratings[key].result ?? "";

  function isOld(registration) {
    const seen = resultOf(registration).split(" ");
    const close = (text, index) => {
      const [a, b] = [parseFloat(text), parseFloat(seen[index])];
      return text === seen[index] || Math.abs(a - b) <= TOLERANCE * (1 + Math.abs(a));
    };
    return seen[0] !== "" && !registration.result.split(" ").every(close);
  }

  const rated = () => registrations.filter(({ key }) => drafts.ratings[key]);
  const ratingOf = ({ key, row }) => drafts.ratings[key]?.rating ?? row.dataset.rating;
  const oneLine = (text) => text.replace(/\s+/g, " ").trim();

  function records() {
    const rater = oneLine(drafts.rater);
    return rated().map((registration) => {
      const { key, fixed, moving, method } = registration;
      const { rating, note } = drafts.ratings[key];
      const result = resultOf(registration);
      return { fixed, moving, method, rating, note: oneLine(note), rater, result };
    });
  }

  function tsv(rows) {
    const quoted = (cell) => (cell.includes('"') ? `"${cell.replaceAll('"', '""')}"` : cell);
    const lines = rows.map((row) => COLUMNS.map((column) => quoted(row[column])));
    return [COLUMNS, ...lines].map((cells) => cells.join("\t") + "\n").join("");
  }

  function download(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  function addControls(registration) {
    const { cell, key, fixed, moving, method, result } = registration;
    const draft = drafts.ratings[key] ?? { rating: "none", note: "" };
    const select = document.createElement("select");
    select.setAttribute("aria-label", `Your rating of ${fixed} ← ${moving}, ${method}`);
    select.add(new Option("not rated", "none"));
    for (const rating of RATINGS) select.add(new Option(rating));
    select.value = draft.rating;
    const note = document.createElement("input");
    note.setAttribute("aria-label", `Your note on ${fixed} ← ${moving}, ${method}`);
    note.placeholder = "note";
    note.value = draft.note;
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "The result has changed: confirm";
    const change = () => {
      const rating = select.value;
      again.remove();
      note.disabled = rating === "none";
      if (rating === "none") delete drafts.ratings[key];
      else drafts.ratings[key] = { rating, note: note.value, result };
      keepDrafts();
    };
    note.disabled = draft.rating === "none";
    select.addEventListener("change", change);
    note.addEventListener("input", change);
    cell.querySelector(".unrated")?.remove();
    again.addEventListener("click", change);
    cell.append(select, note);
    if (draft.rating !== "none" && isOld(registration)) cell.append(again);
    registration.hasControls = true;
  }

  // Rows: which, in what order

  let order = registrations;
  let page = 0;

  function matches(registration) {
    const { words, method, row } = registration;
    const asked = element("find").value.toLowerCase().split(/\s+/);
    const equal = (id, value) => ["", value].includes(element(id).value);
    return (
      asked.every((word) => words.includes(word)) &&
      equal("of-method", method) &&
      equal("of-verdict", row.dataset.verdict) &&
      equal("of-rating", ratingOf(registration))
    );
  }

  function show(wanted) {
    const found = order.filter(matches);
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    page = Math.min(Math.max(wanted, 0), pages - 1);
    const shown = found.slice(page * PAGE, (page + 1) * PAGE);
    for (const registration of shown) if (!registration.hasControls) addControls(registration);
    body.replaceChildren(...shown.map(({ row }) => row));
    table.parentElement.scrollTop = 0;
    const where = pages > 1 ? `, page ${page + 1} of ${pages}` : "";
    element("shown").textContent = `${found.length} of ${registrations.length} shown${where}`;
    element("paging").hidden = pages === 1;
    element("previous").setAttribute("aria-disabled", page === 0);
    element("next").setAttribute("aria-disabled", page === pages - 1);
  }

  function valueOf(registration, column) {
    const kind = headers[column].dataset.sort;
    if (kind === "verdict") return ORDER.verdict.indexOf(registration.row.dataset.verdict);
    if (kind === "rating") return ORDER.rating.indexOf(ratingOf(registration));
    const text = registration.row.cells[column].textContent;
    return kind === "number" ? parseFloat(text.replace("<", "")) : text;
  }

  function sortBy(column, sign) {
    const values = new Map(registrations.map((r) => [r, valueOf(r, column)]));
    order = [...registrations].sort((first, second) => {
      const [a, b] = [values.get(first), values.get(second)];
      if (typeof a === "string") return sign * names.compare(a, b);
      return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : sign * (a - b); // the unknown come last
    });
  }

  headers.forEach((header, column) => {
    if (!header.dataset.sort) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = header.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.querySelectorAll("[aria-sort]")) {
        other.setAttribute("aria-sort", "none");
      }
      header.setAttribute("aria-sort", up ? "ascending" : "descending");
      sortBy(column, up ? 1 : -1);
      show(0);
    });
  });

  for (const method of new Set(registrations.map((registration) => registration.method))) {
    element("of-method").add(new Option(method));
  }
  element("find").addEventListener("input", () => show(0));
  for (const id of ["of-method", "of-verdict", "of-rating"]) {
    element(id).addEventListener("change", () => show(0));
  }
  element("previous").addEventListener("click", () => show(page - 1));
  element("next").addEventListener("click", () => show(page + 1));
  element("rater").value = drafts.rater;
  element("rater").addEventListener("input", () => {
    drafts.rater = element("rater").value;
    keepDrafts();
  });
  element("save-json").addEventListener("click", () => {
    download("ratings.json", "application/json", JSON.stringify(records(), null, 2) + "\n");
  });
  element("save-tsv").addEventListener("click", () => {
    download("ratings.tsv", "text/tab-separated-values", tsv(records()));
  });
  show(0);
  keepDrafts();
  element("controls").hidden = false;
})();
