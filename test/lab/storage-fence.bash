#!/usr/bin/env bash
# The fence of the storage, for dvold's fence_command: cuts off a host, at the
# storage server, or lets it in again, and exits with 0 once that is so. An
# unfence with a smaller number than the last fence's changes nothing.
#
# usage: DVOL_ACTION=fence|unfence DVOL_HOST=HOST [DVOL_INCARNATION=N] fence
set -euo pipefail
exec ssh -F /etc/lab/ssh_config storage-admin "$DVOL_ACTION $DVOL_HOST ${DVOL_INCARNATION-}"
