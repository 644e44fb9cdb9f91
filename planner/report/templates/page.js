"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const config = { displayModeBar: false, responsive: true };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 640px)");

  // Colours come from the page's own style sheet, so that a figure never disagrees with it.
  function themed(layout, printing) {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    const ink = printing ? "#222222" : value("--ink");
    const size = narrow.matches ? 11 : 13;
    const title = {
      ...layout.title,
      font: { ...layout.title.font, color: ink, size: size + 2 },
      subtitle: { ...layout.title.subtitle, font: { color: printing ? ink : value("--soft"), size } },
    };
    return {
      ...layout,
      title,
      font: { ...layout.font, color: ink, size },
      hoverlabel: {
        ...layout.hoverlabel,
        bgcolor: value("--card"),
        bordercolor: value("--line"),
        font: { color: value("--ink") },
      },
    };
  }

  function draw(printing) {
    for (const place of document.querySelectorAll("[data-figure]")) {
      const figure = figures[place.dataset.figure];
      Plotly.react(place, figure.data, themed(figure.layout, printing), config);
    }
  }

  draw(false);
  dark.addEventListener("change", () => draw(false));
  narrow.addEventListener("change", () => draw(false));
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
    draw(true);
  });
  window.addEventListener("afterprint", () => draw(false));
})();
