"""The guarded statements: every change of a row, once, for both dialects.

Each names the id and, where a worker acts, the fence of its claim. No row changed means that the row is somebody
else's now: the caller lets go of it. Nothing here commits; callers own their transactions.
"""
