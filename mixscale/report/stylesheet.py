"""The page's look: one column of text, tables that scroll, light and dark, and a version for paper."""

CSS = """
:root {
  --ink: #1d2126; --soft: #59626d; --line: #dfe3e8; --ground: #fdfdfc; --card: #ffffff; --accent: #c34f00;
  --good: #00714f; --bad: #a3245c; --tint: #f3f4f1;
  color-scheme: light dark;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e7e4; --soft: #a2a9b0; --line: #343a40; --ground: #16181b; --card: #1d2024; --accent: #ff9a4d;
    --good: #5fcfa5; --bad: #f08bb8; --tint: #22262a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  -webkit-text-size-adjust: 100%; overflow-wrap: break-word;
}
h1 { font-size: 2rem; line-height: 1.15; margin: .1rem 0 .4rem; letter-spacing: -.015em; text-wrap: balance; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .7rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 44rem; }
.eyebrow { color: var(--accent); font-weight: 600; font-size: .82rem; letter-spacing: .04em; margin: 0; }
.facts { max-width: none; }
.facts, .note, figcaption { color: var(--soft); font-size: .88rem; }
.lead { font-size: 1.12rem; line-height: 1.5; margin: 1.1rem 0 .8rem; }
.found { padding-left: 1.2rem; max-width: 46rem; }
.found li { margin: .3rem 0; }
.scroll { overflow-x: auto; margin: .8rem 0 .3rem; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
.scroll.tall { max-height: 26rem; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .36rem .6rem; text-align: left; white-space: nowrap; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; }
thead th { background: var(--tint); color: var(--soft); font-weight: 600; position: sticky; top: 0; z-index: 1; }
.n { text-align: right; }
td .range { color: var(--soft); }
.bar { position: relative; display: block; min-width: 9rem; height: .72rem; background: var(--tint); }
.bar i { position: absolute; left: 0; top: 0; bottom: 0; background: var(--accent); opacity: .75; border-radius: 2px; }
.bar b { position: absolute; top: calc(50% - 1px); height: 2px; background: var(--ink); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); gap: .7rem; margin: 1rem 0; }
.tiles div { border: 1px solid var(--line); border-radius: 6px; background: var(--card); padding: .6rem .8rem .7rem; }
.tiles span, .tiles small { display: block; color: var(--soft); font-size: .8rem; line-height: 1.35; }
.tiles b { display: block; font-size: 1.1rem; line-height: 1.35; margin: .1rem 0;
  font-variant-numeric: tabular-nums; }
.decision { border-left: 4px solid var(--good); background: var(--tint); padding: .6rem .9rem; font-weight: 600;
  border-radius: 0 6px 6px 0; max-width: none; }
.decision.no { border-color: var(--bad); }
.warn { border-left: 3px solid var(--accent); padding-left: .7rem; }
.words td:first-child { white-space: normal; min-width: 16rem; }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
figure { margin: 1.4rem 0; }
figure div { overflow-x: auto; background: #fff; padding: .6rem; border: 1px solid var(--line); border-radius: 6px; }
figure img { width: 100%; height: auto; display: block; }
figcaption { margin-top: .45rem; max-width: 46rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; background: var(--tint); padding: .9rem; border-radius: 6px; font-size: .8rem;
  line-height: 1.4; }
code { font-size: .92em; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 36rem) {
  body { padding: 1.4rem .9rem 3rem; }
  h1 { font-size: 1.55rem; }
  th, td { padding: .34rem .5rem; }
  .bar { min-width: 3.5rem; }
  figure img { min-width: 36rem; }
}
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --ground: #fff; --card: #fff; --tint: #f4f4f4; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .scroll, .scroll.tall { overflow: visible; max-height: none; }
  thead th { position: static; }
  table { font-size: 8pt; }
  .tall table { font-size: 5.5pt; }
  th, td { padding: .15rem .3rem; white-space: normal; }
  figure, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  figure div { border: 0; padding: 0; }
}
"""
