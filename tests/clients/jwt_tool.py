"""JSON Web Tokens by PyJWT.

    python jwt_tool.py mint '[{"alg": "RS256", "key": FILE, "claims": {...}, "headers": {...}}, ...]'
    python jwt_tool.py verify '[{"alg": "RS256", "key": FILE, "token": "...", "audience": ..., "issuer": ...}, ...]'

Prints one line for each: the token, or its claims as JSON. Claims named in "from_now" are times
in seconds from now.
"""
import json
import sys
import time

import jwt


def read(file):
    with open(file, "rb") as key:
        return key.read().rstrip(b"\n")


def mint(job):
    claims = dict(job["claims"])
    for name, seconds in job.get("from_now", {}).items():
        claims[name] = int(time.time()) + seconds
    return jwt.encode(claims, read(job["key"]), algorithm=job["alg"], headers=job.get("headers"))


def verify(job):
    claims = jwt.decode(
        job["token"],
        read(job["key"]),
        algorithms=[job["alg"]],
        audience=job.get("audience"),
        issuer=job.get("issuer"),
        options={"require": ["exp", "iat", "sub"]},
    )
    return json.dumps(claims)


what = {"mint": mint, "verify": verify}[sys.argv[1]]
for job in json.loads(sys.argv[2]):
    print(what(job))
