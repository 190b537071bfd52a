document.querySelectorAll("table.sortable").forEach((table) => {
  const key = (row, i) => {
    const cell = row.children[i];
    const number = parseFloat(cell.dataset.key);
    return cell.dataset.key === undefined ? cell.textContent : Number.isNaN(number) ? Infinity : number;
  };
  const heads = [...table.querySelectorAll("tr.heads th")];
  heads.forEach((head, i) => {
    head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const body = table.tBodies[0];
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a, i), key(b, i)];
        const order = typeof x === "number" ? x - y : x.localeCompare(y);
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const now = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.style.colorScheme = now === "dark" ? "light" : "dark";
});
