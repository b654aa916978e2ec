package cephfs

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// wrap says of an error what failed for which volume, unless what failed is ""
// for it says so itself, and adds what it amounts to.
func wrap(doing, volume string, err error) error {
	switch {
	case err == nil:
		return nil
	case doing == "":
		return classify(err)
	}
	return fmt.Errorf("%s volume %s: %w", doing, volume, classify(err))
}

// classify adds to err what a CephFS means by it, and the error of package backends
// that it amounts to.
func classify(err error) error {
	hint, kind := meaning(err)
	if hint != "" {
		err = fmt.Errorf("%w: %s", err, hint)
	}
	if kind == nil || errors.Is(err, kind) {
		return err
	}
	return fmt.Errorf("%w: %w", err, kind)
}

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
