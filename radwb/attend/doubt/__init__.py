"""Does a map mean anything? Tests that a map fails which says nothing of its model.

- `sanity`: would it look the same with other weights, words (`changes`) or labels
  (`twins`)?
- `faithful`: does the score hang on what it marks, once that is filled (`impute`)?
- `alike`: how alike are two maps, of two methods or under a small shift?
- `heads`: what single heads do, and what is lost without them.
"""

from radwb.attend.doubt.changes import randomised
from radwb.attend.doubt.sanity import sanity_check

__all__ = ["randomised", "sanity_check"]
