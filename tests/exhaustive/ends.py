"""Where nothing new happens any more: the states that are only ever left for each other.

A case that a person has is looked at again and again, so that hardly any state is the last one. An
end is therefore a set of states, each of which leads to each other and none out of the set: the
strongly connected components without a way out (Tarjan's, without recursion).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

UNSEEN = -1


def ends(after: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield each end; ``after`` has the numbers of the states that follow each state."""
    walk = _Walk(after)
    for state in range(len(after)):
        if walk.number[state] == UNSEEN:
            yield from walk.ends_from(state)


class _Walk:
    def __init__(self, after: Sequence[Sequence[int]]) -> None:
        self.after = after
        self.number = [UNSEEN] * len(after)
        self._least = [0] * len(after)
        self._component = [UNSEEN] * len(after)
        self._open: list[int] = []
        self._visited = self._components = 0

    def ends_from(self, start: int) -> Iterator[list[int]]:
        path = [(start, iter(self._enter(start)))]
        while path:
            state, following = path[-1]
            deeper = next((n for n in following if self._is_new(state, n)), None)
            if deeper is not None:
                path.append((deeper, iter(self._enter(deeper))))
                continue
            path.pop()
            if path:
                before = path[-1][0]
                self._least[before] = min(self._least[before], self._least[state])
            if self._least[state] == self.number[state]:
                yield from self._closed(state)

    def _enter(self, state: int) -> Sequence[int]:
        self.number[state] = self._least[state] = self._visited
        self._visited += 1
        self._open.append(state)
        return self.after[state]

    def _is_new(self, state: int, following: int) -> bool:
        if self.number[following] == UNSEEN:
            return True
        if self._component[following] == UNSEEN:
            self._least[state] = min(self._least[state], self.number[following])
        return False

    def _closed(self, state: int) -> Iterator[list[int]]:
        found = [self._open.pop()]
        while found[-1] != state:
            found.append(self._open.pop())
        for member in found:
            self._component[member] = self._components
        self._components += 1
        inside = self._components - 1
        if all(self._component[n] == inside for member in found for n in self.after[member]):
            yield found
