package local

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// classify adds to err the error of package backends that it amounts to.
func classify(err error) error { return backends.Meaning(meaning).Classify(err) }

func meaning(err error) (hint string, kind error) {
	switch {
	case isAny(err, unix.ENOSPC, unix.EDQUOT):
		return "", backends.ErrNoSpace
	case isAny(err, unix.EIO, unix.ESTALE, unix.ENOTCONN, unix.ETIMEDOUT, unix.EHOSTDOWN, unix.ENODEV, unix.EROFS):
		return "", backends.ErrUnavailable
	case isAny(err, host.ErrBusy, unix.EBUSY):
		return "", backends.ErrInUse
	}
	return "", nil
}

func isAny(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
