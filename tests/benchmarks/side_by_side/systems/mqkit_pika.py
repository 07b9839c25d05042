"""mqkit on its default driver."""

from tests.benchmarks.side_by_side.systems.base import run_async
from tests.benchmarks.side_by_side.systems.mqkit_service import system

if __name__ == "__main__":
    run_async(system("pika"))
