//go:build ceph && cgo

package rbd

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/host"
)

// wrap says of an error what failed for which volume, and adds what it amounts to.
func wrap(doing, volume string, err error) error {
	return backends.Meaning(meaning).Wrap(doing, volume, err)
}

// classify adds to err the error of package backends that it amounts to.
func classify(err error) error { return backends.Meaning(meaning).Classify(err) }

// meaning is what an error means of an image, or of the file system in it.
func meaning(err error) (hint string, kind error) {
	number := ceph.Errno(err)
	is := func(all ...unix.Errno) bool {
		for _, e := range all {
			if number == e || errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	for _, settled := range []error{backends.ErrInvalid, backends.ErrNotFound, backends.ErrInUse, backends.ErrNoSpace, backends.ErrUnavailable} {
		if errors.Is(err, settled) {
			return "", nil
		}
	}
	switch {
	case number == unix.ENOSPC, number == unix.EDQUOT:
		return errFull.Error(), backends.ErrNoSpace
	case is(unix.ENOSPC, unix.EDQUOT):
		return "", backends.ErrNoSpace
	case is(unix.EIO, unix.ETIMEDOUT, unix.ENODEV, unix.ENOTCONN, unix.ESHUTDOWN, unix.EROFS, unix.ENXIO, unix.EUCLEAN):
		return "", backends.ErrUnavailable
	case is(unix.EBUSY), errors.Is(err, host.ErrBusy):
		return "", backends.ErrInUse
	}
	return "", nil
}

func isNotFound(err error) bool { return err != nil && ceph.Errno(err) == unix.ENOENT }
