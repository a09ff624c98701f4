"""One replica: an engine that runs iterations, leaping over those in which nothing changes.

The engine alternates two moments. `_settle` applies what the ended iterations did (tokens emitted, prompts advanced,
sequences finished, blocks taken); `_plan` asks the scheduling policy for the next iteration and, if that is only
decoding, finds how many equal iterations follow: until the first sequence finishes, blocks run out, an affine piece of
the cost ends, or a sequence outgrows an attention window. One alarm ends the leap; an arrival that could be admitted
ends it earlier, at the next iteration boundary. With `leap=False` every leap is one iteration long: same code, same
times (law 5).

Cost per change is independent of the number of running sequences: sequences are tracked by `offset = stored tokens -
iteration counter`, constant while they decode, so sums over the batch are kept by adding and removing offsets.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from sim.kernel import Alarm, Kernel, Priority, leap_end_s, on_grid, steps_until
from sim.serving.frontend import TokenStream
from sim.serving.held import Held
from sim.serving.iteration import IterationCost
from sim.serving.kv import KvBlocks
from sim.serving.limits import EngineLimits
from sim.serving.pace import Pace
from sim.serving.prefix import PrefixKvBlocks, PromptUnits
from sim.serving.records import ReplicaRecord
from sim.serving.requests import FINISHED, QUEUED, RUNNING, RequestLog
from sim.serving.schedulers import Chunk, Scheduler
from sim.serving.windows import WindowSum

_TURN: Final = 2.0**-20
"""What the number of a replica adds to the priority of its events, so that ties do not hang on when they were set."""


class Replica:
    """A serving engine on its devices, as one actor of the simulation.

    Args:
        index: Number of the replica.
        kernel: The clock.
        cost: Time of iterations.
        limits: Engine limits.
        scheduler: Scheduling policy.
        log: Columns of all requests.
        on_finish: Called with a request when its last token is out.
        hand_over: Called with a request whose prompt is done and that wants more than one token, if another engine
            decodes it; its blocks are held until `release`. None decodes here.
        fetch: Asked to bring the KV of a request that another engine computed, and to call back when it is there.
        leap: Whether to leap; False steps one iteration at a time.
        prompts: Content of the prompts, if equal prefixes share KV blocks.
        stream: Takes the tokens to the clients; None does so at once.
    """

    def __init__(
        self,
        index: int,
        *,
        kernel: Kernel,
        cost: IterationCost,
        limits: EngineLimits,
        scheduler: Scheduler,
        log: RequestLog,
        on_finish: Callable[[int], None],
        hand_over: Callable[[int], None] | None = None,
        fetch: Callable[[int, Callable[[], None]], None] | None = None,
        leap: bool = True,
        prompts: PromptUnits | None = None,
        stream: TokenStream | None = None,
    ) -> None:
        self.index = index
        self.waiting: deque[int] = deque()
        self.partial: dict[int, int] = {}
        self.decoding = 0
        self.max_sequences = limits.max_sequences
        self.token_budget = limits.token_budget
        self.chunk_limit = limits.chunk_limit
        self.chunked_prefill = limits.chunked_prefill
        self.balance_wait = limits.balance_wait
        self.batch_wait = limits.batch_wait
        self.batch_fill_tokens = limits.batch_fill_tokens
        self.ranks = limits.ranks
        self.step_tokens = limits.step_tokens
        self._queue_interval = limits.queue_interval
        self._since_look = 0
        # Shared prefixes are kept by every layer, windows included: one block of tokens is one of each group of layers.
        layers = 1 if prompts is None or limits.kv_layout is None else limits.kv_layout.groups
        self._blocks_each = layers
        self.watermark_blocks = limits.watermark_blocks // layers
        self.kv = (
            KvBlocks(limits.kv_blocks, limits.block_tokens, limits.kv_layout)
            if prompts is None
            else PrefixKvBlocks(limits.kv_blocks // layers, limits.block_tokens, prompts=prompts, log=log)
        )
        self.record = ReplicaRecord()
        self._kernel = kernel
        self._cost = cost
        self._scheduler = scheduler
        self._log = log
        self.on_finish: Callable[[int], None] | None = on_finish
        self.hand_over = hand_over
        self.fetch_kv = fetch
        self.handed = 0
        self._elsewhere: set[int] = set()
        self._fetching: set[int] = set()
        self._landed: list[int] = []
        self.peak_running = 0
        self._leap = leap
        self._stream = stream
        self._sent_s = 0.0
        self._running: dict[int, None] = {}
        self._pace = Pace(limits.emitted_tokens)
        self._iteration = 0
        self._offset: dict[int, int] = {}
        self._offset_sum = 0
        self._finish_heap: list[tuple[int, int]] = []
        self._finish_at: dict[int, int] = {}
        self._schedule_ahead = limits.schedule_ahead
        self._incoming: deque[tuple[float, int]] = deque()
        self._busy = False
        self._windows = [WindowSum(w) if w is not None else None for w in cost.windows]
        self._alarm: Alarm | None = None
        self._turn = index * _TURN
        self._chunks: list[Chunk] = []
        self._work = (0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self._steps = 0
        self._stalls = False
        self._held = Held()
        self._final_blocks = self._peak_final_blocks = 0
        self._reserves = False
        self._start_s = 0.0
        self._first_s = 0.0
        self._growth_s = 0.0

    # ---- what the policy sees (EngineState) ----

    @property
    def iteration(self) -> int:
        """Iterations in which sequences could decode so far."""
        return self._pace.steps

    def is_running(self, request: int) -> bool:
        """Whether the request is admitted and not finished."""
        return request in self._running or request in self._fetching

    def running(self) -> int:
        """Requests admitted and not finished."""
        return len(self._running) + len(self._fetching)

    def to_compute(self, request: int) -> int:
        """Tokens whose KV the request needs before it can decode: prompt plus what it had produced."""
        return self._log.prompt[request] + self._log.emitted[request]

    def cached_tokens(self, request: int) -> int:
        """Tokens of a waiting request whose KV is there already."""
        return self.kv.cached_tokens(request)

    def free_blocks(self) -> int:
        """Blocks that no sequence holds after the decoding sequences have taken theirs for the next iteration."""
        return self.kv.left(self._iteration, self.step_tokens)

    def decode_shortage(self) -> int:
        """Blocks missing for every decoding sequence to store its next token."""
        return -self.kv.left(self._iteration, self.step_tokens)

    def blocks_to_extend(self, request: int, tokens: int) -> int:
        """Blocks that `tokens` more computed tokens of the request take from those that no sequence holds."""
        done = self.partial.get(request)
        if done is None:
            return self.kv.blocks_to_admit(request, tokens)
        return self.kv.blocks_for(done + tokens) - self.kv.blocks_for(done)

    def blocks_to_finish(self, request: int) -> int:
        """Blocks that a waiting request adds to the used ones by the time its last token is out here."""
        return self._blocks_at_end(request) - self.kv.sharable_blocks(request)

    def _blocks_at_end(self, request: int) -> int:
        """Blocks that the request holds when its last token is out here (which is not stored), with room for drafts."""
        after = 0 if self.hand_over is not None else self._log.output[request] + self.step_tokens - 2
        return self.kv.blocks_for(self._log.prompt[request] + after)

    def computed_elsewhere(self, request: int) -> bool:
        """Whether another engine has computed the KV of a waiting request's prompt."""
        return request in self._elsewhere

    def promised_blocks(self) -> int:
        """Blocks that the running requests have still to take until their last tokens are out."""
        self._reserves = True
        return self._final_blocks - self.kv.shared - self.kv.used

    def spare_blocks(self) -> int:
        """Blocks that are left when every running request has all of its own."""
        self._reserves = True
        return self.kv.total - self._final_blocks + self.kv.shared

    @property
    def peak_blocks(self) -> int:
        """The most KV blocks kept at once; where the policy looks ahead, those of running requests at their ends."""
        kept = max(self.kv.peak_kept, self._peak_final_blocks) if self._reserves else self.kv.peak_kept
        return kept * self._blocks_each

    def extend(self, request: int, tokens: int) -> Chunk:
        """Takes blocks for `tokens` more tokens of a running prompt."""
        done = self.partial[request]
        self.kv.extend(request, done, tokens)
        return Chunk(request, tokens, done)

    def admit(self, tokens: int, request: int | None = None) -> Chunk:
        """Moves a waiting request, the head of the queue unless named, to the running set with a first chunk."""
        request = self.waiting[0] if request is None else request
        prefix = self._take(request, tokens)
        self.partial[request] = prefix
        self._running[request] = None
        return Chunk(request, tokens, prefix)

    def fetch(self) -> None:
        """Moves the head of the queue, computed elsewhere, into the running set and has its KV brought."""
        assert self.fetch_kv is not None
        request = self.waiting[0]
        self._take(request, self.to_compute(request))
        self._elsewhere.discard(request)
        self._fetching.add(request)
        self.fetch_kv(request, lambda: self._land(request))

    def _take(self, request: int, tokens: int) -> int:
        """Takes a request from the queue, a slot and the blocks of `tokens` behind the cached ones; tells those."""
        if self.waiting[0] == request:
            self.waiting.popleft()
        else:
            self.waiting.remove(request)
        prefix = self.kv.admit(request, tokens)
        self._final_blocks += self._blocks_at_end(request)
        if (final_blocks := self._final_blocks - self.kv.shared) > self._peak_final_blocks:
            self._peak_final_blocks = final_blocks
        running = self.running() + 1
        if running > self.peak_running:
            self.peak_running = running
        log = self._log
        log.status[request] = RUNNING
        if log.scheduled_s[request] != log.scheduled_s[request]:
            log.scheduled_s[request] = self._kernel.now
            log.cached[request] = prefix
        return prefix

    def preempt_last(self) -> int:
        """Evicts the request admitted last for recomputation; see `EngineState`."""
        request, _ = self._running.popitem()
        self._final_blocks -= self._blocks_at_end(request)
        if request in self.partial:
            self.kv.release(request, self.partial.pop(request))
        else:
            self._leave_decoding(request)
            self._log.last_s[request] = self._kernel.now - self._held.leave(self.decoding)
        self._log.status[request] = QUEUED
        self._log.preemptions[request] += 1
        self.record.preemptions += 1
        self.waiting.appendleft(request)
        return request

    # ---- arrivals ----

    def submit(self, request: int, *, elsewhere: bool = False) -> None:
        """Queues a request; wakes an idle engine, or shortens a leap in which it could be admitted.

        Args:
            request: The request.
            elsewhere: Whether another engine has computed its prompt.
        """
        self._log.replica[request] = self.index
        if elsewhere:
            self._elsewhere.add(request)
        could_be_next = not self._incoming and self._arrival_matters()
        ahead = int(self._schedule_ahead and self._busy)
        if ahead or (self._busy and self._queue_interval > 1):
            self._incoming.append((self._kernel.now, request))
        else:
            self.waiting.append(request)
        if self._alarm is None:
            self._alarm = self._alarm_at(self._kernel.now)
        elif could_be_next and self._steps > 1:
            self._shorten(ahead)

    def _shorten(self, ahead: int) -> None:
        """Cuts the leap where the next iteration to be scheduled begins, `ahead` iterations after the one under way.

        An engine that looks at its queue every so often is cut at its next look.
        """
        steps = steps_until(self._kernel.now, self._start_s, self._first_s, self._growth_s) + ahead
        steps += -(self._since_look + steps) % self._queue_interval
        self._cut(steps)

    def _cut(self, steps: int) -> None:
        """Ends the leap after `steps` iterations if it was to be longer."""
        if steps < self._steps:
            self._steps = steps
            assert self._alarm is not None
            self._alarm.cancel()
            end_s = leap_end_s(self._start_s, self._first_s, self._growth_s, steps)
            self._alarm = self._alarm_at(end_s)

    def _land(self, request: int) -> None:
        """The KV of a fetched request is here: it decodes from the next iteration on."""
        self._landed.append(request)
        if self._alarm is None:
            self._alarm = self._alarm_at(self._kernel.now)
        elif self._steps > 1:
            self._cut(steps_until(self._kernel.now, self._start_s, self._first_s, self._growth_s))

    def release(self, request: int) -> None:
        """Frees the blocks of a request handed over, which another engine has fetched."""
        self.handed -= 1
        self.kv.release(request, self._log.prompt[request])
        self._final_blocks -= self._blocks_at_end(request)
        if self._alarm is None and self.waiting:
            self._alarm = self._alarm_at(self._kernel.now)

    # ---- the loop ----

    def _alarm_at(self, time_s: float) -> Alarm:
        return self._kernel.at(time_s, self._wake, priority=Priority.STEP + self._turn)

    def _wake(self) -> None:
        """Applies what has ended; plans on when all that happens at this instant is over, replicas in their order."""
        if self._steps:
            self._settle()
        if self._kernel.more_now:
            self._alarm = self._kernel.at(self._kernel.now, self._plan, priority=Priority.PLAN + self._turn)
        else:
            self._plan()

    def _settle(self) -> None:
        """Applies the iterations that have just ended."""
        steps, now = self._steps, self._kernel.now
        self._steps = 0
        self._look(steps)
        self._sent_s = now if self._stream is None else self._send(self._stream, steps)
        if self._stalls:
            self._held.wait(self._first_s, self.decoding)
            self.record.ran(self._start_s, steps, self._first_s, self._growth_s, 0, *self._work)
        else:
            self._decode(steps)
        for chunk in self._chunks:
            self._advance_prompt(chunk, now)
        self._chunks = []

    def _send(self, stream: TokenStream, steps: int) -> float:
        """When clients have what the iterations that have just ended made [s]."""
        first = sum(prefix + tokens >= self.to_compute(request) for request, tokens, prefix in self._chunks)
        tokens = first if self._stalls else first + self.decoding
        return stream.send(self._start_s, self._first_s, self._growth_s, steps=steps, tokens=tokens)

    def _decode(self, steps: int) -> None:
        """Gives every decoding sequence its tokens of `steps` iterations."""
        if self._held:
            self.record.held(self._held.end())
        self.record.ran(self._start_s, steps, self._first_s, self._growth_s, self.decoding, *self._work)
        tokens = self._pace.advance(steps)
        self.kv.grow(self._iteration, tokens)
        self._iteration += tokens
        extra = self.decoding * (tokens - steps)
        for window in self._windows:
            if window is not None:
                window.advance(self._iteration)
        heap, at = self._finish_heap, self._finish_at
        while heap and heap[0][0] <= self._iteration:
            due, request = heappop(heap)
            if at.get(request) == due:
                extra -= self._iteration - due
                self._leave_decoding(request)
                self._complete(request)
        self.record.together(extra)

    def stop(self) -> None:
        """Counts the whole iterations done by now, at the end of a run that is cut short."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self._steps:
            now = self._kernel.now
            done = steps_until(now, self._start_s, self._first_s, self._growth_s)
            if leap_end_s(self._start_s, self._first_s, self._growth_s, done) > now:
                done -= 1
            if done:
                self._steps = done
                self._settle()
        for request, due in self._finish_at.items():
            self._log.emitted[request] = self._log.output[request] - (due - self._iteration)

    def _advance_prompt(self, chunk: Chunk, now: float) -> None:
        request, tokens, prefix = chunk
        stored = prefix + tokens
        if stored < self.to_compute(request):
            self.partial[request] = stored
            return
        del self.partial[request]
        log = self._log
        if self.hand_over is not None and log.output[request] > 1:
            del self._running[request]
            self.handed += 1
            self.hand_over(request)
            return
        if log.emitted[request] == 0:
            log.first_s[request] = self._sent_s
        else:
            self.record.gap(now - log.last_s[request])
        log.emitted[request] += 1
        left = log.output[request] - log.emitted[request]
        if left == 0:
            self.kv.release(request, stored)
            self._complete(request)
            return
        self._start_decoding(request, stored, left)

    def _join(self) -> None:
        """Lets the requests whose KV has been fetched decode; their first token is out with that."""
        log, now = self._log, self._kernel.now
        for request in self._landed:
            self._fetching.remove(request)
            self._running[request] = None
            log.first_s[request] = now
            log.emitted[request] = 1
            self._start_decoding(request, log.prompt[request], log.output[request] - 1)
        self._landed.clear()

    def _start_decoding(self, request: int, stored: int, left: int) -> None:
        """Adds a sequence with `stored` tokens to the decoding set, `left` tokens before its end."""
        offset = stored - self._iteration
        self._offset[request] = offset
        self._offset_sum += offset
        self.decoding += 1
        self.kv.start_decoding(offset, self._iteration)
        due = self._iteration + left
        self._finish_at[request] = due
        heappush(self._finish_heap, (due, request))
        for window in self._windows:
            if window is not None:
                window.enter(request, offset, self._iteration)

    def _complete(self, request: int) -> None:
        del self._running[request]
        self._final_blocks -= self._blocks_at_end(request)
        if self._sent_s > self._kernel.now:
            self._kernel.at(self._sent_s, lambda: self._deliver(request))
        else:
            self._deliver(request)

    def _deliver(self, request: int) -> None:
        """The client has the last token of a request."""
        self._log.finish_s[request] = self._kernel.now
        self._log.status[request] = FINISHED
        if self.on_finish is not None:
            self.on_finish(request)

    def _leave_decoding(self, request: int) -> None:
        """Takes a sequence out of the decoding set and frees its blocks."""
        offset = self._offset.pop(request)
        self._offset_sum -= offset
        self.decoding -= 1
        self.kv.stop_decoding(offset, self._iteration)
        self.kv.release(request, offset + self._iteration)
        left = max(0, self._finish_at.pop(request) - self._iteration)
        self._log.emitted[request] = self._log.output[request] - left
        for window in self._windows:
            if window is not None:
                window.leave(request, offset)

    # ---- planning ----

    def _plan(self) -> None:
        """Chooses the next iteration or leap and sets its alarm; idles if there is no work."""
        if self._landed:
            self._join()
        self._chunks = chunks = self._scheduler.schedule(self)
        if not chunks and not self.decoding and self._incoming:
            self._receive(until_s=self._kernel.now)
            self._chunks = chunks = self._scheduler.schedule(self)
        self._busy = bool(chunks) or self.decoding > 0
        if not self._busy:
            self._alarm = None
            if (self.waiting or self.partial) and self._can_go_on():
                raise RuntimeError(f"replica {self.index} has work but its scheduler chose none")
            return
        self._stalls = bool(chunks) and self._scheduler.prompts_alone and self.decoding > 0
        sequences = 0 if self._stalls else self.decoding
        cost = self._cost
        if chunks:
            prompt_tokens = sum(chunk[1] for chunk in chunks)
            prefill_s, prompt_attended = cost.prefill(sequences, chunks)
            steps = 1
        else:
            prompt_tokens, prefill_s, prompt_attended = 0, 0.0, 0.0
            steps = self._steps_to_change() if self._leap else 1
            if self._incoming and self._arrival_matters():
                steps = min(steps, self._queue_interval - self._since_look)
        base_s, code = cost.base(sequences, chunks)
        first_s = base_s + prefill_s
        growth_s = attended = attended_growth = 0.0
        if sequences:
            for kind, window in enumerate(self._windows):
                keys, growing, value_s, slope_s, steps = self._attention(kind, window, steps)
                first_s += value_s
                growth_s += slope_s * growing
                attended += cost.weights[kind] * keys
                attended_growth += cost.weights[kind] * growing
        host_s, least_s = cost.host(sequences + len(chunks), len(chunks))
        host_growth_s = 0.0
        slack_s = least_s - (first_s + host_s)
        if slack_s > 0.0:
            host_s, host_growth_s = least_s - first_s, -growth_s
            if growth_s > 0.0 and steps > 1:
                steps = min(steps, int(slack_s // growth_s) + 1)
        first_s += host_s
        growth_s += host_growth_s
        if growth_s == 0.0:
            first_s = on_grid(first_s)
        now = self._kernel.now
        self._work = (
            code,
            len(chunks),
            prompt_tokens,
            prefill_s,
            prompt_attended,
            attended,
            attended_growth,
            host_s,
            host_growth_s,
        )
        self._steps, self._start_s, self._first_s, self._growth_s = steps, now, first_s, growth_s
        self._alarm = self._alarm_at(leap_end_s(now, first_s, growth_s, steps))

    def _can_go_on(self) -> bool:
        """Whether an engine without work in hand could do some: no transfer in or out holds the blocks it needs."""
        return not self._fetching and self.handed == 0

    def _arrival_matters(self) -> bool:
        """Whether one more request could change the next iteration."""
        return (not self.waiting or self._scheduler.holds_back) and self.running() < self.max_sequences

    def _look(self, steps: int) -> None:
        """Queues the requests that came in time for the last look at them in the leap of `steps` that has ended.

        With asynchronous scheduling an iteration is scheduled when the one before it begins.
        """
        since = 0 if self._chunks else (self._since_look + steps) % self._queue_interval
        self._since_look = since
        if self._incoming and steps > since:
            looked = steps - since - self._schedule_ahead
            self._receive(until_s=leap_end_s(self._start_s, self._first_s, self._growth_s, looked))

    def _receive(self, *, until_s: float) -> None:
        """Queues the requests that came in time for the iteration to be planned: by `until_s` [s]."""
        incoming = self._incoming
        while incoming and incoming[0][0] <= until_s:
            self.waiting.append(incoming.popleft()[1])

    def _steps_to_change(self) -> int:
        heap, at = self._finish_heap, self._finish_at
        while at.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        if len(heap) > 2 * len(at) + 64:
            heap[:] = [(due, request) for request, due in at.items()]
            heapify(heap)
        pace, drafts = self._pace, self.step_tokens - 1
        limit = min(pace.steps_for(heap[0][0] - self._iteration), self._scheduler.stable_steps(self))
        tokens = pace.tokens_in(limit - 1) + 1 + drafts
        fit = self.kv.steps_that_fit(self._iteration, tokens)
        if self.waiting and limit > 1 and self.running() < self.max_sequences:
            fit = min(fit, self.kv.steps_as_found(self.waiting[0], self._iteration, tokens))
        return limit if fit == tokens else max(1, pace.steps_within(fit - 1 - drafts) + 1)

    def _attention(self, kind: int, window: WindowSum | None, steps: int) -> tuple[float, float, float, float, int]:
        """Attention of one class: tokens attended, their growth per iteration, time [s], slope, `steps` cut.

        `steps` is cut where the affine piece ends or the next sequence fills its window.
        """
        pace = self._pace
        if window is None:
            growing = self.decoding
            attended = self._offset_sum + growing * (pace.position + 1)
        else:
            growing = len(window.crosses_at)
            attended = window.offsets + growing * (pace.position + 1) + window.full * window.window
            if growing and steps > 1:
                window.advance(self._iteration)
                steps = min(steps, pace.steps_for(window.heap[0][0] - self._iteration))
        growth = growing * pace.rate
        row = self._cost.decode_row(kind, self.decoding, prompts=bool(self._chunks))
        breaks, values = row.breaks, row.values_s
        last = len(breaks) - 2
        i = bisect_right(breaks, attended) - 1
        i = 0 if i < 0 else last if i > last else i
        slope = (values[i + 1] - values[i]) / (breaks[i + 1] - breaks[i])
        if steps > 1 and growing and i < last:
            steps = min(steps, int((breaks[i + 1] - attended) // growth) + 1)
        return attended, growth, values[i] + slope * (attended - breaks[i]), slope, steps
