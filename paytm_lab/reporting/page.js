// Draws every .chart from the JSON inside it.
(function () {
  var coarse = matchMedia("(pointer: coarse)").matches;
  var plots = [];
  function merge(below, above) {
    Object.keys(above).forEach(function (key) {
      var value = above[key];
      if (value && typeof value === "object" && !Array.isArray(value) && below[key]) {
        merge(below[key], value);
      } else {
        below[key] = value;
      }
    });
  }
  document.querySelectorAll(".chart").forEach(function (chart) {
    var plot = chart.querySelector(".plot");
    var spec = JSON.parse(chart.querySelector("script").textContent);
    var narrow = (spec.layout.meta || {}).narrow;
    if (narrow && chart.clientWidth < 620) {
      merge(spec.layout, narrow);
      plot.style.height = spec.layout.height + "px";
    }
    // A finger that scrolls the page must not zoom a chart.
    if (coarse) { spec.layout.dragmode = false; }
    Plotly.newPlot(plot, spec.data, spec.layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: coarse ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"]
    });
    plots.push(plot);
  });
  // Paper has another width than the window.
  function fit() { plots.forEach(function (plot) { Plotly.Plots.resize(plot); }); }
  addEventListener("beforeprint", fit);
  addEventListener("afterprint", fit);
})();
