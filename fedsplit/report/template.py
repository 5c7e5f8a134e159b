# ruff: noqa: E501, RUF001
"""What the page looks like; in Python, since whoever bundles the package may carry nothing else along."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ summary.scenario }} · fedsplit</title>
<style>
:root {
  --paper: #ffffff; --raised: #f6f8fa; --ink: #1f2933; --soft: #5f6c7b; --line: #dde3e9;
  --accent: #0b63a5; --bar: #d55e00; --bad: #b3261e; --good: #1b7f5c; --warn-paper: #fff4e5; --warn-ink: #7a3e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181d; --raised: #1c2229; --ink: #e4e9ee; --soft: #9aa7b4; --line: #303943;
    --accent: #6cb6f2; --bar: #f08a4b; --bad: #ff8a80; --good: #6fd3ac; --warn-paper: #3a2a12; --warn-ink: #ffd9a0;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3rem; }
.kind { margin: 0; color: var(--soft); font-size: .85rem; letter-spacing: .04em; }
h1 { margin: .2rem 0 .6rem; font-size: 2.3rem; line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere; }
.question { margin: 0; max-width: 46rem; color: var(--soft); font-size: 1.1rem; }
nav { margin-top: 1.4rem; padding: .6rem 0; border-block: 1px solid var(--line); font-size: .9rem; display: flex; flex-wrap: wrap; gap: .2rem 1.3rem; }
a { color: var(--accent); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
.banner { margin: 1.4rem 0 0; padding: .8rem 1.1rem; border-left: 4px solid var(--bar); border-radius: 4px; background: var(--warn-paper); color: var(--warn-ink); }
section { margin-top: 3rem; scroll-margin-top: 1rem; }
h2 { margin: 0 0 .4rem; font-size: 1.45rem; letter-spacing: -.01em; }
h3 { margin: 2rem 0 .4rem; font-size: 1.08rem; }
p { margin: .4rem 0 .9rem; }
.lead, .remarks, figcaption { color: var(--soft); }
.lead { max-width: 46rem; }
.remarks, figcaption { font-size: .88rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { padding-left: 0; }
thead th { color: var(--soft); font-weight: 600; font-size: .84rem; border-bottom: 2px solid var(--line); vertical-align: bottom; white-space: nowrap; }
tbody th { font-weight: 600; overflow-wrap: anywhere; min-width: 7rem; }
.number { text-align: right; white-space: nowrap; }
.interval, .mark, .detail { display: block; color: var(--soft); font-size: .82rem; font-weight: 400; white-space: nowrap; }
.mark { color: var(--bar); }
.every tbody tr:not(.first) > * { border-top: 0; }
.every tbody tr:not(:last-child):has(+ tr:not(.first)) > * { border-bottom: 0; padding-bottom: .2rem; }
.every tr.worst .score, .every tr.worst .attack { font-weight: 650; }
tr.invalid td { color: var(--soft); }
tr.invalid s { text-decoration-color: var(--bad); text-decoration-thickness: 1.5px; }
tr.invalid s .interval { text-decoration: line-through; text-decoration-color: var(--bad); }
.why { color: var(--bad); font-size: .84rem; }
tr.reason td { padding-top: 0; }
.anchors td, .anchors th { color: var(--soft); font-weight: 400; }
.glance td { vertical-align: middle; }
.glance tbody th { vertical-align: middle; }
.share { display: flex; align-items: center; justify-content: flex-end; gap: .6rem; }
.track { width: 7.5rem; height: .55rem; border-radius: 1rem; background: var(--line); overflow: hidden; flex: none; }
.fill { display: block; height: 100%; background: var(--bar); border-radius: 1rem; }
.share output { min-width: 3.2rem; text-align: right; }
figure { margin: 1.6rem 0; }
figure img { display: block; max-width: 100%; height: auto; padding: .7rem; background: #fff; border: 1px solid var(--line); border-radius: 8px; }
figcaption { margin-top: .5rem; max-width: 46rem; }
details { margin: .6rem 0; border: 1px solid var(--line); border-radius: 8px; }
summary { padding: .6rem 1rem; cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
summary small { color: var(--soft); font-weight: 400; }
details > :not(summary) { margin: 0; padding: .2rem 1rem 1rem; }
details > .grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.2rem; }
details figure { margin: 0; }
details figure img { width: 100%; }
pre { margin: 0; padding: 1rem; overflow-x: auto; background: var(--raised); border-radius: 8px; font: .84rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.ok { color: var(--good); } .failed { color: var(--bad); font-weight: 700; } .none { color: var(--soft); }
.matrix td.check { text-align: center; white-space: nowrap; }
.matrix th.check { text-align: center; white-space: normal; min-width: 5.5rem; }
.failures { padding-left: 1.2rem; font-size: .9rem; }
dl { display: grid; grid-template-columns: minmax(9rem, max-content) 1fr; gap: .5rem 1.5rem; margin: 1rem 0; }
dt { font-weight: 600; } dd { margin: 0; color: var(--soft); max-width: 44rem; }
footer { margin-top: 4rem; padding-block: 1.4rem 3rem; color: var(--soft); font-size: .85rem; border-top: 1px solid var(--line); }
@media (prefers-color-scheme: dark) { figure img { filter: brightness(.93); } }
@media (max-width: 640px) {
  main, header, footer { padding: 0 1rem; }
  header { padding-top: 1.6rem; }
  h1 { font-size: 1.7rem; }
  dl { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .7rem; }
  .glance thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .glance tr { display: block; padding: .7rem 0; border-bottom: 1px solid var(--line); }
  .glance th, .glance td { display: flex; justify-content: space-between; gap: 1rem; padding: .12rem 0; border: 0; text-align: right; }
  .glance th { font-size: 1.05rem; }
  .glance td::before { content: attr(data-name); color: var(--soft); text-align: left; }
}
@media print {
  :root { --paper: #fff; --raised: #f6f8fa; --ink: #000; --soft: #444; --line: #ccc; }
  body { font-size: 10.5pt; } main, header, footer { max-width: none; padding: 0; }
  nav { display: none; } section { margin-top: 1.6rem; }
  figure, tr, dl > *, .banner { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } table { font-size: 8.5pt; } th, td { padding: .25rem .4rem; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  * { print-color-adjust: exact; }
}
</style>
</head>
<body>
{% macro numbers(cells, struck) %}
{% for cell in cells %}
<td class="number score">{% if struck and cell.text %}<s>{% endif %}{{ cell.text }}{% if cell.interval %} <span class="interval">{{ cell.interval }}</span>{% endif %}{% if struck and cell.text %}</s>{% endif %}</td>
{% endfor %}
{% endmacro %}
<header>
  <p class="kind">fedsplit report</p>
  <h1>{{ summary.scenario }}</h1>
  <p class="question">How much of a client’s private data can the other side rebuild from what crosses the cut, and what does stopping it cost?</p>
  {% if summary.data.notice %}
  <p class="banner" role="note"><strong>Data:</strong> {{ summary.data.notice }}</p>
  {% endif %}
  {% if unfinished %}
  <p class="banner" role="note"><strong>Unfinished:</strong> {{ unfinished }} cell{{ "s" if unfinished > 1 else "" }} of this run {{ "have" if unfinished > 1 else "has" }} no outcomes yet; the numbers below are without {{ "them" if unfinished > 1 else "it" }}.</p>
  {% endif %}
  <nav aria-label="Sections">
    <a href="#glance">At a glance</a><a href="#attacks">Every attack</a><a href="#galleries">Galleries</a><a href="#controls">Controls</a><a href="#anchors">How to read it</a><a href="#setting">Setting</a>
  </nav>
</header>
<main>
<section id="glance">
  <h2>At a glance</h2>
  <p class="lead">A defense is as good as its worst attack. Each is shown with the valid attack that leaks most by {{ summary.headlines | join(' or ') }}. The bar runs from what anybody could guess (0&nbsp;%), the mean image or a sample of a generator, to what the same attack rebuilds without a defense (100&nbsp;%).</p>
  {% for section in sections %}
  {% if sections | length > 1 %}<h3>Threat: {{ section.threat }}</h3>{% endif %}
  <div class="scroll">
  <table class="glance">
    <thead><tr><th scope="col">defense</th><th scope="col" class="number">accuracy, %</th><th scope="col">worst attack</th><th scope="col" class="number">{{ section.header }}</th><th scope="col" class="number">leaked</th><th scope="col" class="number">per step, up ↑ down ↓</th><th scope="col" class="number">training, s</th></tr></thead>
    <tbody>
    {% for verdict in section.verdicts %}
    <tr>
      <th scope="row">{{ verdict.defense }}</th>
      <td class="number" data-name="accuracy, %">{{ verdict.utility }}</td>
      {% if verdict.attack %}
      <td data-name="worst attack"><span>{{ verdict.attack }}<span class="detail">{{ verdict.mark }}</span></span></td>
      <td class="number" data-name="{{ section.header }}"><span>{{ verdict.score }} <span class="interval">{{ verdict.interval }}</span></span></td>
      <td class="number" data-name="leaked">{% if verdict.share is not none %}<span class="share"><span class="track" aria-hidden="true"><span class="fill" style="width: {{ verdict.share }}%"></span></span><output>{{ verdict.share }} %</output></span>{% else %}<span>–</span>{% endif %}</td>
      {% else %}
      <td colspan="3" class="why" data-name="worst attack">no valid attack, so nothing is known about this defense</td>
      {% endif %}
      <td class="number detail-cell" data-name="per step">{{ verdict.traffic }}</td>
      <td class="number detail-cell" data-name="training, s">{{ verdict.training }}</td>
    </tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% if section.matched %}
  <h3>At the same cost: {{ section.header }}</h3>
  <p class="lead">{{ matched_sentence }}</p>
  <div class="scroll">
  <table class="matched">
    <thead><tr><th scope="col">defense</th>{% for drop in drops %}<th scope="col" class="number">{{ drop }}</th>{% endfor %}<th scope="col">costs, points</th></tr></thead>
    <tbody>
    {% for line in section.matched %}
    <tr><th scope="row">{{ line.name }}</th>{{ numbers(line.leaks, false) }}<td>{{ line.cost }}</td></tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% endif %}
  {% for picture in section.pictures %}
  <figure>
    <img src="{{ picture.address }}" width="{{ picture.width }}" alt="{{ picture.alternative }}">
    <figcaption><strong>{{ picture.title }}.</strong> {{ picture.caption }}</figcaption>
  </figure>
  {% endfor %}
  {% endfor %}
</section>

<section id="attacks">
  <h2>Every attack</h2>
  <p class="lead">Scores of attacks that failed their controls are struck through, with the reason, and take no part in any ranking.</p>
  <div class="scroll">
  <table class="every">
    <thead><tr>
      <th scope="col">defense</th><th scope="col" class="number">accuracy, %</th><th scope="col">attack</th>
      {% for header in table.settings %}<th scope="col">{{ header }}</th>{% endfor %}
      {% for header in table.scores %}<th scope="col" class="number">{{ header }}</th>{% endfor %}
    </tr></thead>
    <tbody>
    {% for line in table.lines %}
    <tr class="{{ 'first' if line.defense else '' }} {{ 'worst' if line.mark else '' }} {{ 'invalid' if line.reason else '' }}">
      <th scope="row">{{ line.defense }}</th>
      <td class="number">{{ line.utility }}</td>
      <td class="attack">{% if line.reason %}<s>{{ line.attack }}</s>{% else %}{{ line.attack }}{% endif %}{% if line.mark %}<span class="mark">{{ line.mark }}</span>{% endif %}</td>
      {% for setting in line.settings %}<td>{{ setting }}</td>{% endfor %}
      {{ numbers(line.scores, line.reason) }}
    </tr>
    {% if line.reason %}
    <tr class="reason"><td></td><td></td><td colspan="{{ 1 + table.settings | length + table.scores | length }}" class="why">Invalid: {{ line.reason }}</td></tr>
    {% endif %}
    {% endfor %}
    </tbody>
    <tbody class="anchors">
    {% for line in table.anchors %}
    <tr class="{{ 'first' if line.defense else '' }}"><th scope="row">{{ line.defense }}</th><td></td><td>{{ line.attack }}</td>{% for setting in line.settings %}<td>{{ setting }}</td>{% endfor %}{{ numbers(line.scores, false) }}</tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  <p class="remarks">{{ table.remarks | join(" ") }}{% if summary.data.notice %} Data: {{ summary.data.notice }}.{% endif %}</p>
  {% for words in table.privacy %}<p class="remarks">{{ words }}</p>
  {% endfor %}
</section>

<section id="galleries">
  <h2>Galleries</h2>
  <p class="lead">Never chosen by hand: the target that leaks most, the median, and the one that leaks least, by {{ summary.headlines | join(' or ') }}, for the first seed. The other seeds lie in the run’s folder <code>figures</code>.</p>
  {% for title, shown in galleries %}
  <details{% if loop.first %} open{% endif %}>
    <summary>{{ title }} <small>{{ shown | length }} attack{{ "s" if shown | length > 1 else "" }}</small></summary>
    <div class="grid">
    {% for one in shown %}
    <figure>
      <img src="{{ one.picture.address }}" alt="{{ one.picture.alternative }}" loading="lazy">
      <figcaption>{% if one.row.valid %}{{ one.picture.caption }}{% else %}<s>{{ one.picture.caption }}</s> <span class="why">Invalid: {{ one.row.reasons | join("; ") }}</span>{% endif %}</figcaption>
    </figure>
    {% endfor %}
    </div>
  </details>
  {% endfor %}
</section>

<section id="controls">
  <h2>Controls</h2>
  <p class="lead">An attack that does not work looks just like a defense that does. Each mark is one seed, in order: <span class="ok">✓</span> passed, <span class="failed">✗</span> failed, <span class="none">·</span> does not apply.</p>
  {% if controls %}
  <div class="scroll">
  <table class="every matrix">
    <thead><tr><th scope="col">defense</th><th scope="col">attack</th>{% for header in table.settings %}<th scope="col">{{ header }}</th>{% endfor %}{% for name in controls %}<th scope="col" class="check">{{ name | replace("_", " ") }}</th>{% endfor %}</tr></thead>
    <tbody>
    {% for line in control_lines %}
    <tr class="{{ 'first' if table.lines[loop.index0].defense else '' }}"><th scope="row">{{ table.lines[loop.index0].defense }}</th><td>{{ line.row.attack }}</td>{% for setting in table.lines[loop.index0].settings %}<td>{{ setting }}</td>{% endfor %}
      {% for check in line.checks %}
      <td class="check">{% for seed, ok, detail in check.marks %}{% if ok is none %}<span class="none">·</span>{% elif ok %}<span class="ok" title="seed {{ seed }}: {{ detail }}">✓</span>{% else %}<span class="failed" title="seed {{ seed }}: {{ detail }}">✗</span>{% endif %} {% endfor %}</td>
      {% endfor %}
    </tr>
    {% endfor %}
    </tbody>
  </table>
  </div>
  {% if failures %}
  <ul class="failures">
  {% for failure in failures %}
    <li><span class="failed">✗</span> <strong>{{ failure.control | replace("_", " ") }}</strong> on {{ failure.row.defense }}, {{ failure.row.attack }}, seed {{ failure.seeds | join(", ") }}: {{ failure.detail }}</li>
  {% endfor %}
  </ul>
  {% endif %}
  <details>
    <summary>What every control found</summary>
    <div class="scroll"><table>
      <thead><tr><th scope="col">defense</th><th scope="col">attack</th><th scope="col">seed</th><th scope="col">control</th><th scope="col">found</th></tr></thead>
      <tbody>
      {% for line in control_lines %}{% for check in line.checks %}{% set name = controls[loop.index0] %}{% for seed, ok, detail in check.marks if ok is not none %}
      <tr><td>{{ line.row.defense }}</td><td>{{ line.row.attack }}</td><td>{{ seed }}</td><td>{{ name | replace("_", " ") }}</td><td><span class="{{ 'ok' if ok else 'failed' }}">{{ "✓" if ok else "✗" }}</span> {{ detail }}</td></tr>
      {% endfor %}{% endfor %}{% endfor %}
      </tbody>
    </table></div>
  </details>
  {% else %}
  <p>No controls were recorded.</p>
  {% endif %}
</section>

<section id="anchors">
  <h2>How to read it</h2>
  <dl>
  {% for label, sentence in anchors %}
    <dt>{{ label }}</dt><dd>{{ sentence or "A trivial guess." }}</dd>
  {% endfor %}
    <dt>without a defense</dt><dd>The same attack on the row <em>none</em>, which every run has: what the defense is there to prevent.</dd>
    <dt>intervals</dt><dd>{{ intervals | join(" ") }}</dd>
    <dt>accuracy</dt><dd>Of the deployed, defended model on test images that no client trained on. ± is the standard deviation between seeds.</dd>
  </dl>
</section>

<section id="setting">
  <h2>Setting</h2>
  {% if card %}
  <h3>Who holds what, who sees what</h3>
  <pre>{{ card }}</pre>
  {% endif %}
  <h3>Data and versions</h3>
  <dl>
    <dt>data</dt><dd>{{ summary.data.kind }}{% if summary.data.notice %} ({{ summary.data.notice }}){% endif %}{% if summary.data.images %}: {{ "{:,}".format(summary.data.images) }} images, {{ summary.data.duplicates }} exact copies dropped, {{ summary.data.grouped }} rows kept together with near-duplicates{% endif %}</dd>
  {% for name, version in summary.versions %}
    <dt>{{ name }}</dt><dd>{{ version }}</dd>
  {% endfor %}
  </dl>
  {% if scenario %}
  <details>
    <summary>The scenario as it was run <small>scenario.yaml</small></summary>
    <div><pre>{{ scenario }}</pre></div>
  </details>
  {% endif %}
</section>
</main>
<footer>Made by fedsplit from <code>outcomes.json</code> and the exhibits beside it. The same numbers stand in <code>table.md</code>.</footer>
</body>
</html>
"""
