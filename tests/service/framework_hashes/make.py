"""Prints password hashes as the libraries make them that people come from, one a line: what made it, the scheme, the hash.

Run in a virtual environment of its own:

    python3 -m venv venv
    venv/bin/pip install Django==5.2.19 Werkzeug==3.1.9 passlib==1.7.4 argon2-cffi==25.1.0 bcrypt==5.0.0
    venv/bin/python tests/service/framework_hashes/make.py >tests/service/framework_hashes/hashes.tsv

Costs are far below what the libraries use by default, so that the tests verify all of them in a moment; the lines "default cost"
are what the libraries make when nobody asks for anything.
"""

import hashlib
from importlib.metadata import version

from django.conf import settings
from django.contrib.auth import hashers
from passlib import hash as passlib_hash
from werkzeug.security import generate_password_hash

PASSWORD = "p\u00e4ssphr\u00e4se of L\u00e9on"

settings.configure(
    PASSWORD_HASHERS=["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
)


def row(maker, scheme, text):
    print(maker, scheme, text, sep="\t")


def cheap(hasher, **costs):
    made = hasher()
    for name, value in costs.items():
        setattr(made, name, value)
    return made.encode(PASSWORD, made.salt())


maker = f"Django {version('Django')}"
row(maker, "pbkdf2_sha256", cheap(hashers.PBKDF2PasswordHasher, iterations=1000))
row(maker, "pbkdf2_sha1", cheap(hashers.PBKDF2SHA1PasswordHasher, iterations=1000))
row(maker, "bcrypt_sha256", cheap(hashers.BCryptSHA256PasswordHasher, rounds=4))
row(maker, "bcrypt", cheap(hashers.BCryptPasswordHasher, rounds=4))
row(maker, "argon2", cheap(hashers.Argon2PasswordHasher, time_cost=2, memory_cost=1024, parallelism=2))
row(maker, "scrypt", cheap(hashers.ScryptPasswordHasher, work_factor=2**10))
row(maker, "default cost", hashers.PBKDF2PasswordHasher().encode(PASSWORD, "seasalt2"))
row(maker, "default cost", cheap(hashers.BCryptSHA256PasswordHasher))
row(maker, "default cost", hashers.Argon2PasswordHasher().encode(PASSWORD, "seasalt2"))
row(maker, "default cost", hashers.ScryptPasswordHasher().encode(PASSWORD, "seasalt2"))
row(maker, "no password", hashers.make_password(None))
row(maker, "refused: Django's MD5", hashers.MD5PasswordHasher().encode(PASSWORD, "seasalt2"))

maker = f"Werkzeug {version('Werkzeug')}"
row(maker, "scrypt", generate_password_hash(PASSWORD, "scrypt:1024:8:1"))
for digest in ("sha1", "sha256", "sha512"):
    row(maker, f"pbkdf2:{digest}", generate_password_hash(PASSWORD, f"pbkdf2:{digest}:1000"))
row(maker, "default cost", generate_password_hash(PASSWORD))
row(maker, "default cost", generate_password_hash(PASSWORD, "pbkdf2"))

maker = f"passlib {version('passlib')}"
row(maker, "pbkdf2", passlib_hash.pbkdf2_sha1.using(rounds=1000).hash(PASSWORD))
row(maker, "pbkdf2-sha256", passlib_hash.pbkdf2_sha256.using(rounds=1000).hash(PASSWORD))
row(maker, "pbkdf2-sha512", passlib_hash.pbkdf2_sha512.using(rounds=1000).hash(PASSWORD))
for kind in ("i", "id"):
    made = passlib_hash.argon2.using(type=kind, rounds=2, memory_cost=1024, parallelism=2)
    row(maker, f"argon2{kind}", made.hash(PASSWORD))
row(maker, "scrypt", passlib_hash.scrypt.using(rounds=10).hash(PASSWORD))
row(maker, "default cost", passlib_hash.pbkdf2_sha256.hash(PASSWORD))
row(maker, "default cost", passlib_hash.pbkdf2_sha512.hash(PASSWORD))
row(maker, "default cost", passlib_hash.argon2.hash(PASSWORD))
row(maker, "refused: argon2d", passlib_hash.argon2.using(type="d", rounds=2, memory_cost=1024).hash(PASSWORD))
row(maker, "refused: md5-crypt", passlib_hash.md5_crypt.hash(PASSWORD))
row(maker, "refused: sha256-crypt", passlib_hash.sha256_crypt.using(rounds=1000).hash(PASSWORD))
row(maker, "refused: sha512-crypt", passlib_hash.sha512_crypt.using(rounds=1000).hash(PASSWORD))
row(maker, "refused: phpass", passlib_hash.phpass.using(rounds=7).hash(PASSWORD))
row(maker, "refused: Apache's md5-crypt", passlib_hash.apr_md5_crypt.hash(PASSWORD))
row(maker, "refused: LDAP", passlib_hash.ldap_salted_sha1.hash(PASSWORD))
row(maker, "refused: bare digest", hashlib.sha256(PASSWORD.encode()).hexdigest())
