# SPDX-License-Identifier: Apache-2.0
"""`breakglass init`: a new home, from people's public keys."""

from pathlib import Path

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import UsageError


@click.command()
@click.option("--domain", required=True, metavar="NAME", help="Who shares this trust.")
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="NAME=KEY.pub",
    help="A person and a public key file; once for each person, again for a second key.",
)
@click.option(
    "--quorum", type=int, default=2, show_default=True, help="How many people must approve."
)
@click.option(
    "--courier", default="bastion", show_default=True, metavar="NAME", help="This machine's name."
)
@click.pass_obj
def command(
    session: Session, domain: str, people: tuple[str, ...], quorum: int, courier: str
) -> Result:
    """Make a new home: trust version 1, an offline CA, this courier.

    The trust asks for QUORUM people for everything, the requester not among them. Compare the
    printed fingerprints with each person: that is the one thing nobody can check for you.
    """
    from breakglass.core.trust import Trust
    from breakglass.fleet.home.founding import Founder, found

    founder = Founder(domain=domain, people=tuple(_person(one) for one in people), quorum=quorum)
    home, trust = found(session.home_path, founder, courier=courier, now=session.now())

    def lines(trust: Trust) -> list[str]:
        return [
            f"{person.name}  {one.key.fingerprint}  {one.key.kind}"
            for person in trust.people
            for one in person.keys
        ]

    text = (
        f"home: {home.path}",
        f"domain {trust.domain}, trust version {trust.version},"
        f" {quorum} of {len(trust.people)} people for every command",
        f"trust sha256: {trust.sha256}",
        *lines(trust),
    )
    return Result(
        text="\n".join(text),
        document={
            "home": str(home.path),
            "domain": trust.domain,
            "trust": {"version": trust.version, "sha256": trust.sha256},
            "quorum": quorum,
            "people": [
                {
                    "name": person.name,
                    "keys": [
                        {"fingerprint": one.key.fingerprint, "kind": one.key.kind}
                        for one in person.keys
                    ],
                }
                for person in trust.people
            ],
        },
        notes=(
            "compare each fingerprint with its person; keep a copy of this home somewhere safe",
        ),
    )


def _person(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise UsageError(
            f"expected --person NAME=KEY.pub, got {text!r}",
            hint="such as --person ana=ana.pub",
        )
    return name, Path(path)
