"""The style sheet of the HTML report: one column, light and dark, tables that become cards on a phone."""

__all__ = ["STYLE"]

STYLE = """
:root { --ink:#1b2430; --soft:#5c6875; --line:#dfe4ea; --page:#f6f7f9; --card:#fff; --good:#137a4b; --good-soft:#e3f4eb;
  --warn:#9a6200; --warn-soft:#fdf1d9; --bad:#b3261e; --bad-soft:#fbe6e4; --mute:#8a94a0; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6eaef; --soft:#9aa6b2; --line:#2d3640; --page:#12171c;
  --card:#1a2128; --good:#5fd09a; --good-soft:#14301f; --warn:#f0b957; --warn-soft:#33280f; --bad:#ff8a80;
  --bad-soft:#3a1a18; --mute:#7d8894; } }
* { box-sizing:border-box } html { -webkit-text-size-adjust:100% }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif }
main { max-width:62rem; margin:0 auto; padding:1rem }
code { font:0.88em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; overflow-wrap:anywhere }
header { display:flex; gap:1rem; align-items:flex-start; padding:1.2rem; border-radius:14px; margin-bottom:1rem }
header.good { background:var(--good-soft) } header.warn { background:var(--warn-soft) } header.bad { background:var(--bad-soft) }
header h1 { margin:0; font-size:1.7rem; line-height:1.2 } header p { margin:.35rem 0 0 }
header .path { color:var(--soft) }
.mark { flex:none; width:2.6rem; height:2.6rem; border-radius:50%; color:var(--card); background:var(--mute);
  display:grid; place-items:center; font-size:1.4rem; font-weight:700 }
.good>.mark { background:var(--good) } .warn>.mark { background:var(--warn) } .bad>.mark { background:var(--bad) }
.facts { display:grid; grid-template-columns:repeat(auto-fit,minmax(7.2rem,1fr)); gap:.6rem; margin:0 0 1rem }
.facts div { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:.55rem .8rem }
dt { color:var(--soft); font-size:.8rem } dd { margin:0; font-weight:600; overflow-wrap:anywhere }
.notes { margin:0 0 1rem; padding:.6rem 1rem .6rem 2rem; background:var(--card);
  border:1px solid var(--line); border-radius:10px; color:var(--soft); font-size:.92rem }
section { background:var(--card); border:1px solid var(--line); border-radius:14px; padding:1rem 1.2rem; margin-bottom:1rem }
h2 { font-size:1.15rem; margin:0 0 .3rem } h3 { font-size:.95rem; margin:.4rem 0 } small { color:var(--soft); font-weight:400 }
.lead { margin:0 0 .8rem; color:var(--soft); font-size:.92rem }
table { width:100%; border-collapse:collapse; font-size:.9rem }
th { text-align:left; color:var(--soft); font-weight:500; font-size:.8rem; border-bottom:1px solid var(--line); padding:.3rem .5rem }
td { border-bottom:1px solid var(--line); padding:.4rem .5rem; vertical-align:top; overflow-wrap:break-word }
[data-label=value] { min-width:10rem }
tr:last-child td { border-bottom:0 } [data-label=operator] { white-space:nowrap }
.number { text-align:right; font-variant-numeric:tabular-nums; white-space:nowrap }
.said td { color:var(--soft); padding-top:0 }
.pill { white-space:nowrap; border-radius:1rem; padding:.05rem .55rem; font-size:.8rem; background:var(--page); color:var(--soft) }
tr.good .pill { color:var(--good); background:var(--good-soft) } tr.warn .pill { color:var(--warn); background:var(--warn-soft) }
tr.bad .pill { color:var(--bad); background:var(--bad-soft) }
.columns { display:grid; grid-template-columns:repeat(auto-fit,minmax(17rem,1fr)); gap:1.5rem }
.bars td { border:0; padding:.12rem .4rem } .bars td:first-child { white-space:nowrap } .bar { width:50% }
.bar i { display:block; height:.7rem; margin-top:.35rem; border-radius:3px; background:var(--soft); opacity:.55; min-width:2px }
.pictures { display:grid; grid-template-columns:repeat(auto-fit,minmax(13rem,1fr)); gap:.8rem; margin-bottom:.8rem }
figure { margin:0 } img { width:100%; height:auto; display:block; border-radius:8px; background:#000 }
img.pixels { image-rendering:pixelated } figcaption { color:var(--soft); font-size:.82rem; margin-top:.25rem }
.chart { position:relative; padding-left:2.8rem } .chart svg { display:block; width:100%; height:17rem; overflow:visible }
.ticks { position:absolute; left:0; top:0; width:2.5rem; height:17rem }
.ticks span { position:absolute; right:0; transform:translateY(-50%); font-size:.78rem; color:var(--soft) }
.ends { display:flex; justify-content:space-between; color:var(--soft); font-size:.8rem; margin-top:.3rem }
.chart path { stroke-width:7px; stroke-linecap:round; vector-effect:non-scaling-stroke; stroke:var(--mute) }
.chart path.good { stroke:var(--good) } .chart path.warn { stroke:var(--warn) } .chart path.bad { stroke:var(--bad) }
.chart path.grid { stroke:var(--line); stroke-width:1px; stroke-linecap:butt }
.chart rect.good { fill:var(--good-soft) } .chart rect.warn { fill:var(--warn-soft) } .chart rect.bad { fill:var(--bad-soft) }
.chart rect { opacity:.6 }
.environment { display:grid; grid-template-columns:repeat(auto-fit,minmax(11rem,1fr)); gap:.5rem; margin:0 }
@media (max-width:44rem) {
  main { padding:.6rem } section { padding:.9rem } .stack thead { display:none }
  .stack tr { display:block; border:1px solid var(--line); border-radius:10px; padding:.4rem .7rem; margin-bottom:.6rem }
  .stack td { display:flex; gap:.8rem; justify-content:space-between; border:0; padding:.15rem 0; text-align:right; white-space:normal }
  .stack td::before { content:attr(data-label); color:var(--soft); font-size:.8rem; text-align:left; flex:none }
  .stack td:empty { display:none }
}
@media print { section { break-inside:avoid } body { background:#fff } }
"""
