// What has no number sorts last, up or down.
const nothing = Symbol("nothing");
document.querySelectorAll("table.sortable").forEach((table) => {
  const key = (row, i) => {
    const cell = row.children[i];
    const number = parseFloat(cell.dataset.key);
    return cell.dataset.key === undefined ? cell.textContent : Number.isNaN(number) ? nothing : number;
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
        if (x === nothing || y === nothing) return (x === nothing) - (y === nothing);
        const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
});
const root = document.documentElement;
// Pages of one site keep the chosen theme where the browser lets them.
const kept = (value) => {
  try {
    if (value) localStorage.setItem("holobeam-theme", value);
    return localStorage.getItem("holobeam-theme") || "";
  } catch {
    return "";
  }
};
root.style.colorScheme = kept();
document.getElementById("theme").addEventListener("click", () => {
  const now = root.style.colorScheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.style.colorScheme = now === "dark" ? "light" : "dark";
  kept(root.style.colorScheme);
});
