collect_ignore = ["make_golden.py"]  # run by hand, with libraries that the tests do without
