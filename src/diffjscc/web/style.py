"""Words and looks of the page."""

from __future__ import annotations

import gradio as gr

TITLE = "DiffJSCC: images over noisy channels"
INTRODUCTION = """
# An image, a few thousand symbols, a noisy channel, an image

The **codec** turns the image into complex symbols, the channel adds noise, the codec decodes; the
**diffusion receiver** refines what came out. The **digital link** sends the same image with the
same number of symbols at the same SNR, with fewer pixels where that helps.
"""
CSS = """
.gradio-container { max-width: 1500px !important; }
table.metrics { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table.metrics th, table.metrics td { padding: .3em .6em; text-align: right;
  border-bottom: 1px solid var(--border-color-primary); }
table.metrics tbody th { text-align: left; font-weight: 600; }
table.metrics td[colspan] { text-align: left; }
.scroll { overflow-x: auto; }
p.note { color: var(--body-text-color-subdued); font-size: .85em; }
progress { width: 12em; max-width: 60%; vertical-align: middle; }
#status { min-height: 2.4em; }
#examples img { cursor: pointer; }
#examples .grid-wrap { overflow: hidden; height: auto; max-height: none; }
#examples .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)); }
"""
# Puts the settings into the page's address, so that a link shows the same.
ADDRESS = "(query) => { history.replaceState(null, '', query ? '?' + query : location.pathname); }"

_FONTS = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """Make the page's theme; its fonts are the visitor's own, so nothing is fetched."""
    return gr.themes.Default(font=list(_FONTS), font_mono=list(_MONO))
