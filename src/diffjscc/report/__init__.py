"""Plots, figures, contact sheets and the HTML report, drawn from results alone."""
