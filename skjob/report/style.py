"""Style of the report: light or dark by the reader's system, one column on narrow screens."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --card: #f6f7f9; --ink: #14181f; --soft: #4a5360; --edge: #c9ced6;
  --grid: #e3e6ea; --s0: #8a9099; --s1: #6f86a6; --s2: #4f7cb3; --s3: #2f6db5; --s4: #12539c; --s5: #062f66;
  --mark: #b0400a; --bad: #b3142b; --good: #14663a; --calls: #e2ecf9; --link: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12151a; --card: #1b2027; --ink: #e9edf2; --soft: #b3bcc8; --edge: #3c4550; --grid: #2c333c;
  --s0: #757d89; --s1: #7289a8; --s2: #7fa0cc; --s3: #93bbf0; --s4: #b5d4ff; --s5: #e2f0ff; --mark: #ffae4d;
  --bad: #ff8593; --good: #6fd49b; --calls: #24344a; --link: #8fc1ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; } p { margin: .25rem 0 .75rem; } a { color: var(--link); }
.soft, figcaption p, caption { color: var(--soft); }
figcaption p { font-size: .8125rem; line-height: 1.4; margin: 0 0 .5rem; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: .5rem 0; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 170px), 1fr)); gap: .5rem;
  margin: 1rem 0; }
dl.facts div { background: var(--card); border: 1px solid var(--edge); border-radius: 6px; padding: .5rem .75rem; }
dl.facts dt { font-size: .8125rem; color: var(--soft); } dl.facts dd { margin: 0; font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 1rem;
  align-items: start; }
figure { margin: 0; padding: .75rem; background: var(--card); border: 1px solid var(--edge); border-radius: 6px;
  min-width: 0; display: flex; flex-direction: column; }
figure.wide { grid-column: 1 / -1; }
figure details, section > details { margin-top: .5rem; } summary { cursor: pointer; color: var(--link); }
:focus-visible { outline: 3px solid var(--mark); outline-offset: 2px; }
.scroll { overflow-x: auto; max-width: 100%; } details .scroll { max-height: 24rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; margin: .5rem 0; }
caption { text-align: left; font-size: .8125rem; padding-bottom: .25rem; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--grid); vertical-align: top;
  overflow-wrap: break-word; max-width: 24rem; }
thead th { border-bottom: 2px solid var(--edge); } tbody th { font-weight: 600; }
pre { background: var(--card); border: 1px solid var(--edge); border-radius: 6px; padding: .5rem; overflow: auto;
  max-height: 24rem; font-size: .8125rem; white-space: pre-wrap; }
ul.notes { padding-left: 1.25rem; } ul.notes li { white-space: pre-wrap; }
.step { position: relative; height: .9rem; min-width: 8rem; background: var(--grid); border-radius: 3px; }
.step span { position: absolute; height: 100%; background: var(--s3); border-radius: 3px; min-width: 2px; }
svg { display: block; width: 100%; height: auto; } figure:not(.wide) svg { max-height: 480px; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg text.title { fill: var(--soft); } svg text.halo { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
svg path { fill: none; } .axis { stroke: var(--soft); stroke-width: 1; } .grid { stroke: var(--grid); stroke-width: 1; }
.dots { stroke-width: 5; stroke-linecap: round; } .line { stroke-width: 1; opacity: .6; }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); }
.s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); } .s5 { stroke: var(--s5); }
svg path.mark { fill: var(--mark); stroke: var(--card); stroke-width: 1; }
.line-mark { stroke: var(--mark); stroke-width: 2.25; } .line-best { stroke: var(--mark); stroke-width: 2.25; }
.line-asked { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; }
.range { stroke: var(--soft); stroke-width: 1.5; } .bar, .fit { fill: var(--s3); } .calls { fill: var(--calls); }
.cross { stroke: var(--bad); stroke-width: 2.5; } .cross-back { stroke: var(--card); stroke-width: 5; }
.fit-failed { fill: var(--card); stroke: var(--bad); stroke-width: 1; }
.lane { stroke-width: 14; stroke: var(--s4); } .b1 { opacity: .3; } .b2 { opacity: .5; } .b3 { opacity: .75; }
footer { margin-top: 3rem; border-top: 1px solid var(--edge); padding-top: .5rem; font-size: .875rem; }
@media print { .scroll { overflow: visible; } figure { break-inside: avoid; } }
"""
