"""What a run shows and keeps as it goes: log, bar, TensorBoard, checkpoints."""

import time
from contextlib import contextmanager

from tqdm.auto import tqdm

from radwb.pretrain import run as runs
from radwb.pretrain.checkpoint import write_checkpoint

KEEPING = 0.1  # of a GPU's time goes into checkpoints, at most
MOST_ROWS = 2000  # of a log, about; where epochs end there is always one


class Progress:
    """The log of a `Loop`; the first process writes it.

    Args:
        loop: of which it is.
        state: what the checkpoint says: step, seconds, rows.
    """

    def __init__(self, loop, state: dict):
        self.loop = loop
        self.out = loop.job.out
        self.rows = state.get("rows", [])
        self.before_s = state.get("seconds", 0.0)
        self.aside_s = 0.0  # since this start, with anything but steps
        self.began = time.perf_counter()
        self.kept = self.began
        self.keeping_s = 0.0  # that the last checkpoint took
        self.every = max(1, loop.steps // MOST_ROWS)
        self.writer = runs.scalars(self.out, loop.done) if loop.first else None
        self.bar = tqdm(
            total=loop.steps,
            initial=loop.done,
            desc=self.out.name,
            disable=not loop.first,
        )

    def seconds(self) -> float:
        """That the run took, in all its starts."""
        return self.before_s + time.perf_counter() - self.began

    def seconds_of_steps(self) -> float:
        """That the steps of this start took."""
        return max(time.perf_counter() - self.began - self.aside_s, 1e-9)

    @contextmanager
    def aside(self):
        """Time that is no step's."""
        began = time.perf_counter()
        yield
        self.aside_s += time.perf_counter() - began

    def note(self, row: dict, *, keep: bool) -> None:
        """Log a row and show it; `keep`: keep the checkpoint, too."""
        if not self.loop.first:
            return
        if keep or row["step"] % self.every == 0:
            self.rows.append({k: v for k, v in row.items() if k != "similarity"})
            self._to_tensorboard(row)
        if keep and self._is_time():
            self.keep(row)
        self.bar.set_postfix(self._last_seen(), refresh=False)
        self.bar.update()
        if self.loop.options.callback:
            self.loop.options.callback(row)

    def _is_time(self) -> bool:
        """Whether a checkpoint is due; a GPU would wait for one after the other."""
        on_cpu = self.loop.device.type == "cpu"
        since = time.perf_counter() - self.kept
        return on_cpu or KEEPING * since >= self.keeping_s

    def _to_tensorboard(self, row):
        if self.writer:
            for name, value in row.items():
                if isinstance(value, int | float):
                    self.writer.add_scalar(name, value, row["step"])

    def _last_seen(self) -> dict:
        """The last loss and recalls, for the bar."""
        values = {}
        for row in self.rows[-self.loop.queue.steps(1) :]:
            for name, value in row.items():
                if name == "loss" or name.endswith("recall_1"):
                    short = name.replace("_to_", ">").replace("_recall_", " R@")
                    values[short] = f"{value:.2f}"
        return values

    def keep(self, row: dict) -> None:
        """Write the log and the checkpoint after this row's step."""
        with self.aside():
            began = time.perf_counter()
            loop = self.loop
            runs.write_log(self.out, self.rows)
            about = {"step": row["step"], "seconds": self.seconds(), "rows": self.rows}
            average = loop.average and loop.average.state
            write_checkpoint(self.out, loop.task, loop.optimizer, about, average)
            if self.writer:
                self.writer.flush()
            self.kept = time.perf_counter()
            self.keeping_s = self.kept - began

    def stop(self, row: dict, *, together: bool = False) -> None:
        """Keep the last whole step and leave; `together`: all processes do.

        Raises:
            KeyboardInterrupt: always.
        """
        self.bar.close()
        message = (
            f"stopped after step {row['step']} of {self.loop.steps}; its checkpoint is "
            f"in {self.out}. Call fit again with the same arguments to go on."
        )
        if self.loop.first:
            self.keep(row)
            print(message)
        if together:
            self.loop.fabric.barrier()
        raise KeyboardInterrupt(message)

    def close(self) -> None:
        self.bar.close()
        if self.writer:
            self.writer.close()
