"""Distributions of other people, laid out in a directory as pip leaves them."""

from pathlib import Path

from drivers import registry


def install(site: Path, package: str, **drivers: str) -> None:
    """Lay out a distribution that declares storage drivers."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = "".join(f"{name} = {value}\n" for name, value in drivers.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}")
