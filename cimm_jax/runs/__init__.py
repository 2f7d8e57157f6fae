"""One path for every verb: a subject, a defence, features before and after, a record in a folder."""
