"""What sslyze finds at a TLS server, as one line of JSON.

    tls_scan.py HOST PORT
"""

import json
import sys

try:
    from sslyze import (
        ScanCommand,
        ScanCommandAttemptStatusEnum,
        Scanner,
        ServerNetworkLocation,
        ServerScanRequest,
    )
except ImportError as error:
    sys.exit(f"{error}; scripts/install-test-tools installs it")

VERSIONS = {
    "SSLv2": ScanCommand.SSL_2_0_CIPHER_SUITES,
    "SSLv3": ScanCommand.SSL_3_0_CIPHER_SUITES,
    "TLSv1.0": ScanCommand.TLS_1_0_CIPHER_SUITES,
    "TLSv1.1": ScanCommand.TLS_1_1_CIPHER_SUITES,
    "TLSv1.2": ScanCommand.TLS_1_2_CIPHER_SUITES,
    "TLSv1.3": ScanCommand.TLS_1_3_CIPHER_SUITES,
}
OTHERS = {
    ScanCommand.TLS_COMPRESSION,
    ScanCommand.TLS_1_3_EARLY_DATA,
    ScanCommand.OPENSSL_CCS_INJECTION,
    ScanCommand.TLS_FALLBACK_SCSV,
    ScanCommand.HEARTBLEED,
    ScanCommand.ROBOT,
    ScanCommand.SESSION_RENEGOTIATION,
    ScanCommand.SESSION_RESUMPTION,
    ScanCommand.ELLIPTIC_CURVES,
}


def main() -> None:
    location = ServerNetworkLocation(
        hostname="localhost", ip_address=sys.argv[1], port=int(sys.argv[2])
    )
    scanner = Scanner()
    scanner.queue_scans(
        [ServerScanRequest(location, scan_commands={*VERSIONS.values(), *OTHERS})]
    )
    (scanned,) = scanner.get_results()
    if scanned.scan_result is None:
        sys.exit(f"cannot connect: {scanned.connectivity_error_trace}")

    def result(command: ScanCommand):
        attempt = getattr(scanned.scan_result, command.value)
        if attempt.status != ScanCommandAttemptStatusEnum.COMPLETED:
            sys.exit(f"{command.value}: {attempt.error_reason} {attempt.error_trace}")
        return attempt.result

    suites = {
        version: [
            accepted.cipher_suite.name for accepted in result(command).accepted_cipher_suites
        ]
        for version, command in VERSIONS.items()
    }
    renegotiation = result(ScanCommand.SESSION_RENEGOTIATION)
    resumption = result(ScanCommand.SESSION_RESUMPTION)
    curves = result(ScanCommand.ELLIPTIC_CURVES).supported_curves or []
    found = {
        "suites": suites,
        "compression": result(ScanCommand.TLS_COMPRESSION).supports_compression,
        "early_data": result(ScanCommand.TLS_1_3_EARLY_DATA).supports_early_data,
        "ccs_injection": result(
            ScanCommand.OPENSSL_CCS_INJECTION
        ).is_vulnerable_to_ccs_injection,
        "heartbleed": result(ScanCommand.HEARTBLEED).is_vulnerable_to_heartbleed,
        "robot": result(ScanCommand.ROBOT).robot_result.name,
        "secure_renegotiation": renegotiation.supports_secure_renegotiation,
        "client_renegotiation": renegotiation.is_vulnerable_to_client_renegotiation_dos,
        "resumed_by_id": resumption.session_id_resumption_result.name,
        "fallback_scsv": result(ScanCommand.TLS_FALLBACK_SCSV).supports_fallback_scsv,
        "curves": [curve.name for curve in curves],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
