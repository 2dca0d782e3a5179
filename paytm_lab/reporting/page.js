// Draws every .chart from the JSON inside it, its title wrapped to the room there really is: how
// many words fit depends on the reader's fonts and screen.
(function () {
  var coarse = matchMedia("(pointer: coarse)").matches;
  var ruler = document.createElement("canvas").getContext("2d");

  function width(text, font) {
    ruler.font = font;
    return ruler.measureText(text).width;
  }

  function wrap(text, font, room) {
    var lines = [], line = "";
    text.split(" ").forEach(function (word) {
      // A payment's id alone may be wider than a phone: it breaks after a hyphen.
      while (width(word, font) > room && word.indexOf("-") > 0) {
        var cut = word.length;
        do { cut = word.lastIndexOf("-", cut - 2) + 1; } while (cut > 1 && width(word.slice(0, cut), font) > room);
        if (cut < 2) { break; }
        if (line) { lines.push(line); line = ""; }
        lines.push(word.slice(0, cut));
        word = word.slice(cut);
      }
      var longer = line ? line + " " + word : word;
      if (line && width(longer, font) > room) {
        lines.push(line);
        line = word;
      } else {
        line = longer;
      }
    });
    return lines.concat(line);
  }

  function widest(texts, font) {
    return Math.max.apply(null, [0].concat(texts.map(function (text) { return width(text, font); })));
  }

  function legendLines(names, font, room) {
    if (names.length < 2) { return 0; }
    var sizes = names.map(function (name) { return 45 + width(name, font); });
    var sum = sizes.reduce(function (a, b) { return a + b; });
    if (sum <= room) { return 1; }
    return Math.ceil(names.length / Math.max(1, Math.floor(room / Math.max.apply(null, sizes))));
  }

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

  // The same sums as look.py makes for a wide place, with measured widths in place of guessed ones.
  function fit(layout, room) {
    var meta = layout.meta, family = layout.font.family;
    if (room < 620) { merge(layout, meta.narrow); }
    var title = wrap(meta.title, "600 16px " + family, room - 36);
    var note = wrap(meta.note, "11.5px " + family, room - 36);
    var left = 56 + widest(meta.labels, "11.5px " + family);
    var pad = title.length > 1 ? 24 : 14;
    var top = 18 + pad + 21 * title.length + 16 * note.length + meta.head +
      21 * legendLines(meta.legend, "12px " + family, room - left);
    layout.title.text = title.join("<br>");
    layout.title.subtitle.text = note.join("<br>");
    layout.title.pad.t = pad;
    layout.margin.t = top;
    layout.height = meta.height + top;
  }

  function draw(chart) {
    var plot = chart.querySelector(".plot");
    var spec = JSON.parse(chart.querySelector("script").textContent);
    if (spec.layout.meta && spec.layout.meta.title) { fit(spec.layout, chart.clientWidth); }
    // A finger that scrolls the page must not zoom a chart.
    if (coarse) { spec.layout.dragmode = false; }
    plot.style.height = (spec.layout.height || 450) + "px";
    chart.drawnAt = chart.clientWidth;
    Plotly.react(plot, spec.data, spec.layout, {
      responsive: true,
      displaylogo: false,
      displayModeBar: coarse ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "toImage"]
    });
  }

  var charts = Array.prototype.slice.call(document.querySelectorAll(".chart"));
  var waiting;
  charts.forEach(draw);
  addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      charts.forEach(function (chart) {
        if (chart.clientWidth !== chart.drawnAt) { draw(chart); }
      });
    }, 150);
  });
})();
