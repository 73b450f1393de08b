"""`compoint demo`: the main job of this package, done for real and checked step by step.

`_story` is what happens, `_roles` what the two sides do, `_stage` puts each role into a
process or a thread of its own, `__main__` is such a process; `_mail` is what happens over mail.
"""

from compoint.cli.demo._story import run

__all__ = ["run"]
