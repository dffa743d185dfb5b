"""Values of train rows: how the validation loss of a model changes with the weight of each row, exactly.

The value of a row is −∂loss/∂w at w = 1, through all of the fit: in closed form for EASE and ∞-AE
(:mod:`closed_form`), and for models trained by gradients through every step of the training (:mod:`training`), with
the weights where :mod:`learners` puts them.
"""

from __future__ import annotations

CLOSED_FORM = ("ease", "infinite_ae")
"""Models whose rows have values in closed form."""
TRAINED = ("sasrec", "gru4rec", "mf")
"""Models whose rows have values through their training."""
MODELS = (*CLOSED_FORM, *TRAINED)
"""Models whose rows have values."""
