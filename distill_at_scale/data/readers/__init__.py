"""Raw logs on any storage, in the usual formats, as batches of validated rows.

The driver calls :func:`plan_log` once; it lists files and looks at their heads only. Workers call
:func:`read_fragment` on the fragments, in any order, each by itself.
"""

from distill_at_scale.data.readers.options import LogOptions
from distill_at_scale.data.readers.plan import plan_log
from distill_at_scale.data.readers.read import read_fragment
from distill_at_scale.data.readers.schema import Batch, Fragment, LogEstimate, LogSchema, ReadAs

__all__ = ["Batch", "Fragment", "LogEstimate", "LogOptions", "LogSchema", "ReadAs", "plan_log", "read_fragment"]
