# SPDX-License-Identifier: Apache-2.0
"""`breakglass verify`: check a file against the home's trust, as a node would."""

from pathlib import Path

import click

from breakglass.cli.result import Result, talk
from breakglass.cli.session import Session
from breakglass.errors import Exit


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.pass_obj
def command(session: Session, file: Path) -> Result:
    """Check against this home's trust whether a file is approved.

    It contacts no node. A node also checks what only it knows: its name, its protected workloads,
    and the commands that it accepted before.
    """
    from breakglass.cli import review as reviews
    from breakglass.core import bounds
    from breakglass.core.decide import Approved, decide

    trust, now = session.home().trust(), session.now()
    parts = reviews.read_file(file)
    verdict = decide(parts.text, parts.armors, trust, now, skew_s=bounds.DEFAULT_SKEW_S)
    seen = reviews.review(parts, trust, now)
    found = reviews.document(seen)
    if not isinstance(verdict, Approved):
        return Result(
            text=f"refused: {verdict.reason}\nneeded: {verdict.needed}\nhave: {verdict.have}"
            + (f"\nmissing: any of {', '.join(seen.missing)}" if seen.missing else ""),
            document={
                "verdict": "refused",
                "needed": verdict.needed,
                "have": verdict.have,
                **found,
            },
            exit_status=Exit.REFUSED,
            code=verdict.reason.value,
            message=verdict.message,
            hint=verdict.hint,
        )
    for line in reviews.banner(verdict.command):
        talk(line)
    people = ", ".join(one.person for one in verdict.approvals)
    return Result(
        text=f"approved by {people} under {', '.join(verdict.policies)}\n{verdict.command.summary}"
        f"\ncode: {seen.code}",
        document={
            "verdict": "approved",
            "policies": list(verdict.policies),
            **found,
        },
        notes=tuple(f"warning: {one}" for one in reviews.warnings(seen)),
    )
