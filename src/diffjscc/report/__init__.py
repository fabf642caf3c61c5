"""Plots, figures, contact sheets and the HTML report, made from results alone."""
