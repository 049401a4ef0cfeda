"use strict";
(function () {
  function value(row, column) {
    var cell = row.cells[column], given = cell && cell.getAttribute("data-value");
    if (given !== null && given !== undefined) return given === "" ? null : Number(given);
    var text = cell ? cell.textContent.trim() : "";
    return text === "" ? null : text.toLowerCase();
  }
  function compare(a, b) {
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  function sortBy(table, header, column) {
    var down = header.getAttribute("aria-sort") === "ascending", body = table.tBodies[0];
    table.querySelectorAll("th[aria-sort]").forEach(function (one) { one.setAttribute("aria-sort", "none"); });
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.from(body.rows).map(function (row, index) { return [value(row, column), index, row]; }).sort(function (a, b) {
      if (a[0] === null || b[0] === null) return compare(a[0], b[0]) || a[1] - b[1];
      return (down ? -1 : 1) * compare(a[0], b[0]) || a[1] - b[1];
    }).forEach(function (entry) { body.appendChild(entry[2]); });
  }
  document.querySelectorAll("table.sortable").forEach(function (table) {
    table.querySelectorAll("th[data-column]").forEach(function (header) {
      var button = document.createElement("button");
      button.type = "button";
      while (header.firstChild) button.appendChild(header.firstChild);
      header.appendChild(button);
      header.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () { sortBy(table, header, Number(header.getAttribute("data-column"))); });
    });
  });
  document.querySelectorAll("form.tools").forEach(function (form) {
    var table = document.getElementById(form.getAttribute("data-for")), shown = form.querySelector("[role=status]");
    form.hidden = false;
    function apply() {
      var words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean), count = 0;
      Array.from(table.tBodies[0].rows).forEach(function (row) {
        var text = row.textContent.toLowerCase() + " " + (row.getAttribute("data-text") || "").toLowerCase();
        var fits = words.every(function (word) { return text.indexOf(word) >= 0; });
        form.querySelectorAll("select").forEach(function (choice) {
          fits = fits && (!choice.value || row.getAttribute("data-" + choice.name) === choice.value);
        });
        form.querySelectorAll("input[type=checkbox]").forEach(function (box) {
          fits = fits && (!box.checked || !row.classList.contains(box.name));
        });
        row.hidden = !fits;
        count += fits ? 1 : 0;
      });
      shown.textContent = count + " of " + table.tBodies[0].rows.length + " rows";
    }
    form.addEventListener("input", apply);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    apply();
  });
  var current = document.querySelector("nav [aria-current]");
  if (current) current.parentNode.scrollLeft = current.offsetLeft - current.parentNode.offsetLeft - 60;
  document.querySelectorAll(".command").forEach(function (block) {
    if (!navigator.clipboard) return;
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", function () {
      navigator.clipboard.writeText(block.querySelector("code").textContent).then(function () {
        button.textContent = "Copied";
        setTimeout(function () { button.textContent = "Copy"; }, 1500);
      });
    });
    block.appendChild(button);
  });
})();
