"""Figures as SVG, drawn without a plotting library: the parts of the HTML report, and files of their own."""
