# SPDX-License-Identifier: Apache-2.0
"""`breakglass init`: make a new home from people's public keys."""

from pathlib import Path

import click

from breakglass.cli.result import Result
from breakglass.cli.session import Session
from breakglass.errors import UsageError


@click.command()
@click.option(
    "--domain",
    required=True,
    metavar="NAME",
    help="The domain: all clusters that share this trust.",
)
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="NAME=KEY.pub",
    help="A person and a public key file; repeat it for each person and each further key.",
)
@click.option(
    "--quorum", type=int, default=2, show_default=True, help="How many people must approve."
)
@click.option(
    "--courier",
    default="bastion",
    show_default=True,
    metavar="NAME",
    help="The courier name of this machine.",
)
@click.pass_obj
def command(
    session: Session, domain: str, people: tuple[str, ...], quorum: int, courier: str
) -> Result:
    """Make a new home: a trust, an offline CA, a courier identity.

    Every command then needs the approvals of QUORUM people, the requester not counted. Compare each
    printed fingerprint with its person: breakglass cannot know whose key it is.
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
        notes=("compare each fingerprint with its person, and keep a backup of this home",),
    )


def _person(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise UsageError(
            f"expected --person NAME=KEY.pub, got {text!r}",
            hint="such as --person ana=ana.pub",
        )
    return name, Path(path)
