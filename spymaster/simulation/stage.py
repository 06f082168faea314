"""Which scene is on in a market, and when the next one begins: of `classic.py`, `contests.py` or `scene.py`."""

from spymaster.simulation.book import Book
from spymaster.simulation.classic import ClassicBook, ClassicPlan, ClassicScene
from spymaster.simulation.contests import Contest, ContestPlan, ContestScene
from spymaster.simulation.plant import CLASSIC, CONTESTS, Plan, Scenario
from spymaster.simulation.scene import Scene

AnyScene = Scene | ClassicScene | ContestScene


class Stage:
    """One scene at a time of what is planted in a market that begins at `start`."""

    def __init__(self, seed: int, start: int, plant: tuple[str, ...], strength: float) -> None:
        kinds = tuple(kind for kind in plant if kind != CLASSIC)
        self._plan: Plan | ClassicPlan | ContestPlan
        if CONTESTS in plant:
            self._plan = ContestPlan(seed, start)
        else:
            self._plan = (ClassicPlan if CLASSIC in plant else Plan)(seed, start, kinds)
        self._seed, self._strength = seed, strength
        self._scene: AnyScene | None = None

    def next(self, now: int) -> Scenario | Contest | None:
        """Return what is on at `now`, or comes next; `now` never goes back."""
        return self._plan.at(now)

    def ended(self, now: int) -> AnyScene | None:
        """Return the scene that is over at `now`, once."""
        scene = self._scene
        if scene is None or now < scene.scenario.end_ns:
            return None
        self._scene = None
        return scene

    def scene(self, now: int, book: Book, contract: str) -> AnyScene | None:
        """Return the scene that is on at `now`, which may begin then, in the front month's book."""
        if self._scene is None:
            scenario = self._plan.at(now)
            if scenario is not None and scenario.begin_ns == now:
                if isinstance(scenario, Contest):
                    self._scene = ContestScene(scenario, book, contract, self._strength, self._seed)
                elif isinstance(book, ClassicBook):
                    self._scene = ClassicScene(scenario, book, contract)
                else:
                    self._scene = Scene(scenario, book, contract, self._strength)
        return self._scene
