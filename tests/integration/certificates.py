"""Certificates of a private authority, made with the openssl program."""

import subprocess
from pathlib import Path


class Certificates:
    """PEM files in `directory`, made when first asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca_file = self._authority("ca")
        self.other_ca_file = self._authority("other-ca")

    def server(self, host: str = "localhost", *, expired: bool = False) -> tuple[str, str]:
        """Return certificate and key for a server of this name."""
        return self._leaf(f"{host}{'-expired' if expired else ''}", f"subjectAltName=DNS:{host}", expired)

    def client(self, name: str) -> tuple[str, str]:
        """Return certificate and key for a client."""
        return self._leaf(name, "extendedKeyUsage=clientAuth", expired=False)

    def _authority(self, name: str) -> str:
        cert, key = self._paths(name)
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", cert, "-days", "2", "-subj", f"/CN={name}"),
        )
        return cert

    def _leaf(self, name: str, extension: str, expired: bool) -> tuple[str, str]:
        cert, key = self._paths(name)
        if Path(cert).exists():
            return cert, key
        request = str(self._directory / f"{name}.csr")
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(extension + "\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", request, "-subj", f"/CN={name}"),
        )
        ca_cert, ca_key = self._paths("ca")
        self._openssl(
            *("x509", "-req", "-in", request, "-CA", ca_cert, "-CAkey", ca_key, "-CAcreateserial", "-out", cert),
            # A certificate that is valid for a negative number of days ended yesterday.
            *("-days", "-1" if expired else "1", "-extfile", str(extensions)),
        )
        return cert, key

    def _paths(self, name: str) -> tuple[str, str]:
        return str(self._directory / f"{name}.crt"), str(self._directory / f"{name}.key")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
