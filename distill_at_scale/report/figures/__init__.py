"""Figures as SVG, drawn without a plotting library, for the HTML report and as separate files."""
