package cephfs

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// wrap says of an error what failed for which volume, unless what failed is ""
// for it says so itself, and adds what it amounts to.
func wrap(doing, volume string, err error) error {
	return backends.Meaning(meaning).Wrap(doing, volume, err)
}

// classify is wrap without a volume.
func classify(err error) error { return backends.Meaning(meaning).Classify(err) }

// silence is what it means that a client gets no answer.
const silence = "no MDS of the CephFS answers, or the cluster has cut this client off"

// meaning is what an error means that comes out of a client.
func meaning(err error) (hint string, kind error) {
	switch {
	case errors.Is(err, unix.ESHUTDOWN):
		return "the cluster has cut this client off: see ceph osd blocklist ls", backends.ErrUnavailable
	case errors.Is(err, unix.ENOTCONN):
		return "its client has ended", backends.ErrUnavailable
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return "the caps of the pool's user do not allow that: see ceph fs authorize, and docs/cephfs.md", backends.ErrUnavailable
	case errors.Is(err, unix.EROFS):
		return "the CephFS is read-only", backends.ErrUnavailable
	case errors.Is(err, unix.EDQUOT):
		return "the quota of a directory is exceeded", backends.ErrNoSpace
	case errors.Is(err, unix.ENOSPC):
		return "", backends.ErrNoSpace
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ESTALE), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ENODEV):
		return "", backends.ErrUnavailable
	case errors.Is(err, host.ErrBusy), errors.Is(err, unix.EBUSY):
		return "", backends.ErrInUse
	}
	return "", nil
}
