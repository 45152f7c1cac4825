"""The environment variables of HTTP clients: httpx reads proxies and certificates from them.

httpx raises errors of five types for them, none of which names the variable.
"""

from __future__ import annotations

import logging
import os
import re

from common.errors import InputError
from common.redaction import HIDDEN

PROXIES = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY")


def set_variables(*names: str) -> dict[str, str]:
    """Those of these environment variables that are set, in either case, with their values."""
    spellings = (spelling for name in names for spelling in (name, name.lower()))
    return {name: value for name in spellings if (value := os.environ.get(name, "").strip())}


def shown(value: str) -> str:
    """The value of a variable; *** if it may hold a password."""
    return HIDDEN if "@" in value else value


def check_variables() -> None:
    """Raise InputError, which names the variable, if no HTTP client can be built in this environment."""
    import httpx

    for name, value in set_variables(*PROXIES).items():
        try:
            url = httpx.URL(value if "://" in value else f"http://{value}")
            httpx.Client(proxy=url, trust_env=False, verify=False).close()
            is_address = bool(url.host) and 0 < (url.port or 80) < 2**16 and not re.search(r"[\s%]", url.host)
        except ImportError:
            raise InputError(f"${name}: a SOCKS proxy needs a package: pip install socksio") from None
        except (ValueError, httpx.InvalidURL):
            is_address = False
        if not is_address:
            expected = "expected http://, https:// or socks5://, and HOST:PORT"
            raise InputError(f"${name}: {shown(value)}: not a proxy: {expected}")
    try:
        httpx.create_ssl_context()
    except OSError as error:  # no such file, or one without a certificate (ssl.SSLError)
        file = os.environ.get("SSL_CERT_FILE")  # read instead of $SSL_CERT_DIR
        where = f"$SSL_CERT_FILE: {file}" if file else f"$SSL_CERT_DIR: {os.environ.get('SSL_CERT_DIR')}"
        raise InputError(f"{where}: {error.strerror or error}") from None
    try:
        httpx.Client(verify=False).close()
    except (ValueError, httpx.InvalidURL):  # the proxies are known to be good
        where = ", ".join(f"${name}: {value}" for name, value in set_variables("NO_PROXY").items())
        raise InputError(f"{where}: expected host names, separated by commas") from None


def prepare_hub() -> None:
    """Before huggingface_hub is used: the same, unless HF_HUB_OFFLINE is set; and no lines about its retries."""
    from huggingface_hub import constants

    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # two lines about each of five
    if not constants.HF_HUB_OFFLINE:
        check_variables()
