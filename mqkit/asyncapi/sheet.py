"""The style of the page."""

from __future__ import annotations

SHEET = """
:root{--paper:#fff;--ink:#1b1f24;--dim:#57606a;--rule:#d7dce2;--soft:#f4f6f8;--link:#1a5fb4;
--receive:#1d6fb8;--send:#1f7a43}
@media (prefers-color-scheme:dark){:root{--paper:#14181d;--ink:#e8ebef;--dim:#a9b2bd;--rule:#343c45;
--soft:#1d232a;--link:#7ab8ff;--receive:#6cb4f0;--send:#63c98a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,
'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;display:grid;
grid-template-columns:14rem minmax(0,1fr);grid-template-areas:'header header' 'nav main'}
header{grid-area:header;padding:1.2rem 1.5rem;border-bottom:1px solid var(--rule)}
header h1{margin:0;font-size:1.6rem;overflow-wrap:anywhere}
header p{margin:.2rem 0 0;color:var(--dim)}
nav{grid-area:nav;padding:1rem 1.5rem}
nav ul{list-style:none;margin:0;padding:0;position:sticky;top:1rem}
nav a{display:block;padding:.25rem 0;color:var(--link);overflow-wrap:anywhere}
a:focus-visible,summary:focus-visible,.wide:focus-visible{outline:2px solid var(--link);
outline-offset:2px}
main{grid-area:main;padding:0 1.5rem 3rem}
h2{margin:2rem 0 .5rem;font-size:1.35rem;overflow-wrap:anywhere}
h3{margin:1.4rem 0 .4rem;font-size:1rem;color:var(--dim)}
h4{margin:0;font-size:1rem;font-weight:600;overflow-wrap:anywhere}
article{margin:0 0 .8rem;padding:.7rem .9rem;border:1px solid var(--rule);border-left-width:4px;
border-radius:4px}
article.receive{border-left-color:var(--receive)}
article.send{border-left-color:var(--send)}
article p{margin:.3rem 0}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.small{font-size:.87rem;font-weight:400;color:var(--dim)}
details{margin:.4rem 0 0;background:var(--soft);border-radius:4px}
summary{padding:.35rem .7rem;cursor:pointer;font-weight:600;overflow-wrap:anywhere}
details>p{margin:0;padding:.2rem .9rem .7rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.3rem .6rem;border-top:1px solid var(--rule);text-align:left;vertical-align:top}
thead th{color:var(--dim);font-weight:600}
tbody th{font-weight:400;white-space:nowrap}
td{min-width:7rem}
#overview .wide{border:1px solid var(--rule);border-radius:4px}
#overview svg{display:block}
@media (max-width:720px){body{display:block}header,main{padding-left:1rem;padding-right:1rem}
nav{padding:.6rem 1rem;border-bottom:1px solid var(--rule)}nav ul{display:flex;flex-wrap:wrap;
gap:0 1rem;position:static}
details table,details tbody,details tr,details tr>*{display:block}details thead{display:none}
details tbody th,details td{padding:.1rem .6rem;border-top:0}
details td:empty{display:none}details tr{padding:.3rem 0;border-top:1px solid var(--rule)}}
""".strip()
