// Draws the charts of a page and keeps all of it up to date, while somebody looks.
(function () {
  "use strict";
  var page = document.getElementById("page").dataset.page;
  var money = document.getElementById("money");
  var words = document.getElementById("money-words");
  var link = document.getElementById("link");
  var narrow = matchMedia("(max-width: 46rem)");
  var config = { responsive: true, displayModeBar: false, displaylogo: false, scrollZoom: false, doubleClick: false };
  var specs = {};
  var source = null;

  function figure(id) { return document.querySelector('[data-chart="' + id + '"]'); }

  function draw(id) {
    var place = figure(id), spec = specs[id];
    if (!place || !spec) { return; }
    place.hidden = false;
    var layout = JSON.parse(JSON.stringify(spec.layout));
    if (narrow.matches) {
      layout.height = 210;
      ["xaxis", "yaxis"].forEach(function (axis) { layout[axis].tickfont = { size: 10 }; });
    }
    Plotly.react(place, spec.data, layout, config);
  }

  function link_is(state, text) {
    if (link.dataset.state === state) { return; }
    link.dataset.state = state;
    link.textContent = text;
  }

  function head(now) {
    document.getElementById("at").textContent = now.at;
    var said = now.state !== money.dataset.state;
    money.dataset.state = now.state;
    if (words.textContent !== now.words) { words.textContent = now.words; }
    // Spoken when it changes, not each second that figures within it do.
    if (said) { document.getElementById("said").textContent = now.words; }
  }

  function fill(id, html) {
    var place = document.querySelector('[data-live="' + id + '"]');
    // What has the keyboard's focus is not taken away under it.
    if (!place || (place !== document.activeElement && place.contains(document.activeElement))) { return; }
    place.innerHTML = html;
    var details = place.closest("details");
    if (details) { details.hidden = !html; }
  }

  function update(now) {
    if (now.head) { head(now.head); }
    Object.keys(now.html || {}).forEach(function (id) { fill(id, now.html[id]); });
    Object.keys(now.charts || {}).forEach(function (id) { specs[id] = now.charts[id]; draw(id); });
  }

  function follow() {
    if (source || document.hidden) { return; }
    source = new EventSource("/watch/" + page);
    source.onopen = function () { link_is("live", "live"); };
    source.addEventListener("page", function (event) { link_is("live", "live"); update(JSON.parse(event.data)); });
    source.addEventListener("bye", function () { leave(); renew(true); });
    source.onerror = function () {
      link_is("lost", "not live: asking again");
      if (source && source.readyState === EventSource.CLOSED) { leave(); renew(false); }
    };
  }

  // Who signed in by password gets the next access token. `ended`: the last one surely has.
  function renew(ended) {
    function again() { link_is("lost", "not live: asking again"); setTimeout(follow, 3000); }
    fetch("/session/renew", { method: "POST" }).then(function (answer) {
      if (answer.ok) { follow(); }
      else if (ended && answer.status === 401) { link_is("lost", "signed out: load the page again"); }
      else { again(); }
    }, again);
  }

  function leave() {
    if (source) { source.close(); source = null; }
  }

  specs = JSON.parse(document.getElementById("charts").textContent);
  Object.keys(specs).forEach(draw);
  narrow.addEventListener("change", function () { Object.keys(specs).forEach(draw); });
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { leave(); link_is("paused", "paused"); } else { follow(); }
  });
  addEventListener("pagehide", leave);
  document.documentElement.dataset.drawn = "yes";
  follow();
})();
