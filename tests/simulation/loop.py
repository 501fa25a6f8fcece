"""An event loop that runs one callback at a time: the seed chooses whose, and time is virtual.

Each callback belongs to a process of the simulation. What one process has ready runs in its order,
as asyncio promises; which process goes on is chosen anew each time. The clock moves only when
nobody has anything to do, and then to the next timer.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from itertools import count
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack

LAST_STEPS: Final = 10_000  # that a dead process may need to fall apart
WORLD: Final = "world"  # whoever is no process: chain, nodes, owners' will
PROCESS: Final[ContextVar[str]] = ContextVar("process", default=WORLD)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulatedTask(asyncio.Task[T]):
    """A task whose hash is its number: asyncio keeps tasks in sets, and cancels in their order."""

    def __init__(self, number: int, coroutine: Any, loop: Loop, **more: Any) -> None:
        self.number = number
        super().__init__(coroutine, loop=loop, **more)

    def __hash__(self) -> int:
        return self.number


class Loop(asyncio.BaseEventLoop):
    """Deterministic: the same choices and the same callbacks give the same run."""

    def __init__(self, choices: Random) -> None:
        super().__init__()
        self.now = 0.0  # seconds since the history began
        self.steps = 0  # callbacks that were run
        self.last = WORLD  # whose the last one was
        self.failures: list[BaseException] = []  # that nobody waited for
        self.paused: dict[str, float] = {}  # processes that stand still, and until when
        self._choices = choices
        self._ready: dict[str, deque[asyncio.Handle]] = {}
        self._timers: list[tuple[float, int, str, asyncio.TimerHandle]] = []
        self._tasks: dict[str, list[SimulatedTask[Any]]] = {}
        self._numbers = count()

    # ---------------------------------------------------------------- running

    @contextmanager
    def running(self) -> Iterator[None]:
        """As long as this lasts it is the loop that asyncio finds."""
        events._set_running_loop(self)
        try:
            yield
        finally:
            events._set_running_loop(None)

    def step(self) -> bool:
        """Run one callback; False where nobody has anything to do, ever."""
        names = self._able()
        while not names:
            if not self._advance():
                return False
            names = self._able()
        name = names[self._choices.randrange(len(names))] if len(names) > 1 else names[0]
        self.last = name
        self._run(self._ready[name].popleft())
        return True

    def kill(self, process: str) -> None:
        """End a process here and now: nothing that it still had to do is done.

        Its tasks are cancelled, because Python ends no coroutine silently; whatever they reach out
        for meanwhile must end them, too.
        """
        self.paused.pop(process, None)
        for task in self._tasks.pop(process, []):
            task.cancel()
        ready = self._ready.setdefault(process, deque())
        for _ in range(LAST_STEPS):
            if not ready:
                break
            self._run(ready.popleft())
        else:
            raise RuntimeError(f"{process} does not die")
        del self._ready[process]
        self._timers = [timer for timer in self._timers if timer[2] != process]
        heapq.heapify(self._timers)

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            self.steps += 1
            handle._run()

    def _able(self) -> list[str]:
        return [name for name, ready in self._ready.items() if ready and name not in self.paused]

    def _advance(self) -> bool:
        """To the next moment at which something is to be done; False if there is none."""
        moments = [*self.paused.values(), *(timer[0] for timer in self._timers[:1])]
        if not moments:
            return False
        self.now = max(self.now, min(moments))
        for name in [name for name, until in self.paused.items() if until <= self.now]:
            del self.paused[name]
        while self._timers and self._timers[0][0] <= self.now:
            _, _, process, timer = heapq.heappop(self._timers)
            self._queue(process, timer)
        return True

    def _queue(self, process: str, handle: asyncio.Handle) -> None:
        self._ready.setdefault(process, deque()).append(handle)

    # ---------------------------------------------------------------- what asyncio asks of a loop

    def time(self) -> float:
        return self.now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._queue(context.get(PROCESS, WORLD), handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        process = context.get(PROCESS, WORLD)
        heapq.heappush(self._timers, (when, next(self._numbers), process, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        number = next(self._numbers)
        task: SimulatedTask[T] = SimulatedTask(number, coro, self, name=name, context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS, WORLD)
        alive = [each for each in self._tasks.get(process, []) if not each.done()]
        self._tasks[process] = [*alive, task]
        return task

    def run_in_executor(
        self, executor: object, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Work for a thread is done at once."""
        done: asyncio.Future[T] = self.create_future()
        done.set_result(func(*args))
        return done

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.failures.append(error or RuntimeError(context.get("message", "unknown")))
