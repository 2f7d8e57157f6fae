"""How well a pair is immunized: ratios, Definition 3.1, groups, intervals, and a diagnosis before anything is trained."""
