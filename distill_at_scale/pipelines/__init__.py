"""One file per verb; Ray lives here and below, and only here."""
