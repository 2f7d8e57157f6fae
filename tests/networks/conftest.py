# Run by hand, with libraries that the tests do without.
collect_ignore = ["make_golden.py", "make_golden_hub.py", "make_golden_text.py"]
