"""Many small runs, several at once, each saved as it is finished: the same call goes on where it was cut off."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from cimm_jax.progress import progress_bar
from cimm_jax.resuming import MadeBy


def resumed(
    saved: Path,
    wanted: Sequence[Mapping[str, Any]],
    run: Callable[..., Mapping[str, Any]],
    *,
    made_by: Mapping[str, Any],
    at_once: int = 2,
) -> list[dict[str, Any]]:
    """One record a run, `wanted` and what it gave in one dictionary, in the order of `wanted`.

    Args:
      saved: file of the records; its name is the progress bar's title.
      wanted: keyword arguments of each run, of JSON's types and all with the same names.
      run: makes one of them.
      made_by: what else the records depend on; records that something else made are made again.
      at_once: threads. XLA and LAPACK leave Python to the others while they work, and one run's small eigenproblems fill
        another's waits. LAPACK itself gets one thread then: more would only wait for each other.
    """
    file = MadeBy(saved, made_by)
    done = {tuple(record[key] for key in wanted[0]): record for record in file.read() or []}
    missing = [one for one in wanted if tuple(one.values()) not in done]
    with (
        threadpool_limits(1 if at_once > 1 else None, user_api="blas"),
        progress_bar(saved.stem, len(missing)) as progress,
        ThreadPoolExecutor(at_once) as pool,
    ):
        waiting = {pool.submit(run, **one): one for one in missing}
        try:
            for made, finished in enumerate(as_completed(waiting)):
                one = waiting[finished]
                done[tuple(one.values())] = {**one, **finished.result()}
                file.write(list(done.values()))
                progress(made + 1)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those under way are finished, the others are not begun
            raise
    return [done[tuple(one.values())] for one in wanted]
