(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const readout = document.getElementById("readout"), theme = document.getElementById("theme"), root = document.documentElement;
  theme.hidden = false;
  theme.onclick = () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
  if (!readout || !data.rows.length) return;
  const usual = readout.textContent;
  for (const picture of document.querySelectorAll(".picture")) {
    const hair = picture.querySelector(".crosshair"), left = +picture.dataset.left, end = +picture.dataset.end;
    let at = -1;
    const show = (row) => {
      at = Math.max(0, Math.min(data.rows.length - 1, row));
      const [begin, phase, p50, p95, answered, fallback, failed] = data.rows[at];
      const x = left + Math.min(1, (begin + data.stride / 2) / data.until) * (end - left);
      hair.setAttribute("transform", `translate(${x} 0)`);
      hair.setAttribute("visibility", "visible");
      readout.textContent = `${begin} to ${begin + data.stride} s${phase && ", " + phase}: p50 ${p50} ms, p95 ${p95} ms · ${answered} answered, ${fallback} by a fallback, ${failed} failed`;
    };
    const hide = () => { at = -1; hair.setAttribute("visibility", "hidden"); readout.textContent = usual; };
    picture.addEventListener("pointermove", (event) => {
      const box = picture.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * picture.viewBox.baseVal.width;
      if (x < left || x > end) return hide();
      show(Math.floor((x - left) / (end - left) * data.until / data.stride));
    });
    picture.addEventListener("pointerleave", hide);
    picture.addEventListener("blur", hide);
    picture.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 }[event.key];
      if (event.key === "Escape") hide();
      if (!step) return;
      event.preventDefault();
      show(at < 0 ? (step > 0 && step < 1e9 ? 0 : step > 0 ? 1e9 : data.rows.length - 1) : at + step);
    });
  }
})();
