# SPDX-License-Identifier: Apache-2.0
"""`breakglass verify`: the verdict that a node would give, as far as it can be given here."""

from pathlib import Path

import click

from breakglass.cli.result import Result, talk
from breakglass.cli.session import Session
from breakglass.errors import Exit


@click.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE")
@click.pass_obj
def command(session: Session, file: Path) -> Result:
    """Say whether a file is approved, from the trust in this home.

    Nothing is asked of any node. What only a node knows - which one it is, what it protects, what
    it has seen before - is decided there.
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
