"""Where each region of Genesys Cloud is."""

import difflib
import re

# PureCloudRegionHosts of PureCloudPlatformClientV2 269.0.0; each domain has an `api.`, a `login.` and an `apps.` host.
DOMAINS = {
    "us-east-1": "mypurecloud.com",
    "us-east-2": "use2.us-gov-pure.cloud",
    "us-west-2": "usw2.pure.cloud",
    "ca-central-1": "cac1.pure.cloud",
    "mx-central-1": "mxc1.pure.cloud",
    "sa-east-1": "sae1.pure.cloud",
    "eu-central-1": "mypurecloud.de",
    "eu-central-2": "euc2.pure.cloud",
    "eu-west-1": "mypurecloud.ie",
    "eu-west-2": "euw2.pure.cloud",
    "eusc-de-east-1": "edee1.eusc-pure.cloud",
    "me-central-1": "mec1.pure.cloud",
    "ap-south-1": "aps1.pure.cloud",
    "ap-northeast-1": "mypurecloud.jp",
    "ap-northeast-2": "apne2.pure.cloud",
    "ap-northeast-3": "apne3.pure.cloud",
    "ap-southeast-1": "apse1.pure.cloud",
    "ap-southeast-2": "mypurecloud.com.au",
}


def domain(region: str) -> str:
    """Return the domain of a region, given by name, by domain or by the address of one of its hosts.

    ValueError for one that is not known, naming the nearest: a login sent to a host that only looks like one of
    Genesys Cloud's would be given away.
    """
    given = re.sub(r"^https?://|/.*$", "", region.strip().lower())
    given = re.sub(r"^(api|apps|login)\.", "", given)
    if given in DOMAINS:
        return DOMAINS[given]
    if given in DOMAINS.values():
        return given
    nearest = difflib.get_close_matches(given, [*DOMAINS, *DOMAINS.values()], n=1)
    meant = f": did you mean {nearest[0]}?" if nearest else f": one of {', '.join(DOMAINS)}"
    raise ValueError(f"region {region!r} is none of Genesys Cloud's{meant}")
