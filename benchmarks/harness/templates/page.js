// A click on a column's head sorts its table: numbers by their value, empty cells last.
"use strict";
function key(row, column) {
  const text = row.cells[column].dataset.value;
  return text === undefined || text === "" ? null : isNaN(text) ? text : Number(text);
}
function order(a, b, up) {
  if (a === null || b === null) return (a === null) - (b === null);
  const less = typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b));
  return up ? less : -less;
}
function sortTable(table, column) {
  const heads = table.tHead.rows[0].cells, body = table.tBodies[0];
  const up = heads[column].getAttribute("aria-sort") !== "ascending";
  const found = Array.from(body.rows);
  found.sort(function (a, b) { return order(key(a, column), key(b, column), up); });
  found.forEach(function (row) { body.appendChild(row); });
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
}
document.querySelectorAll("table.sortable").forEach(function (table) {
  Array.from(table.tHead.rows[0].cells).forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      sortTable(table, column);
    });
  });
});
