"""Progress is shown on standard error, where it spoils no output."""

from cimm_jax.progress import progress_bar


def test_a_bar_says_what_is_done_and_how_far_it_is(capsys):
    with progress_bar("features of [primary]", 7) as told:
        told(3)
        told(7)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "features of [primary]" in printed.err, "a title is no markup"
    assert "7/7" in printed.err
