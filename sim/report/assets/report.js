"use strict";
// Draws every figure from the JSON beside it, in the colours of the page, and again when the page turns dark or light.
(() => {
  const settings = JSON.parse(document.getElementById("settings").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const options = {
    displaylogo: false,
    displayModeBar: "hover",
    responsive: true,
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d", "toggleSpikelines"],
  };

  // The figure's own colours are those of a light page.
  const themed = (value, swap) => {
    if (typeof value === "string") return swap[value] ?? value;
    if (Array.isArray(value)) return value.map((item) => themed(item, swap));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, swap)]));
    }
    return value;
  };
  const colours = () => ({
    ...(dark.matches ? settings.dark : {}),
    [settings.ink]: css("--ink"),
    [settings.grid]: css("--grid"),
    [settings.paper]: css("--card"),
  });

  const chosen = (plot) => {
    const select = document.querySelector(`select[data-for="${plot.id}"]`);
    return document.getElementById(select ? select.value : `${plot.id}-data`);
  };
  const draw = (plot) => {
    const figure = themed(JSON.parse(chosen(plot).textContent), colours());
    figure.layout.hoverlabel = { ...figure.layout.hoverlabel, bgcolor: css("--fill"), bordercolor: css("--line") };
    figure.layout.hoverlabel.font = { ...figure.layout.hoverlabel.font, color: css("--ink") };
    return Plotly.react(plot, figure.data, figure.layout, options);
  };
  const plots = [...document.querySelectorAll(".plot")];
  const drawAll = () => Promise.all(plots.map(draw));
  drawAll().then(() => document.documentElement.setAttribute("data-drawn", plots.length));
  dark.addEventListener("change", drawAll);
  for (const select of document.querySelectorAll("select[data-for]")) {
    select.addEventListener("change", () => draw(document.getElementById(select.dataset.for)));
  }
  for (const button of document.querySelectorAll(".command button")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }
})();
