package gluster

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// wrap says of an error what failed for which volume, and what it means.
func wrap(doing, volume string, err error) error {
	return backends.Meaning(meaning).Wrap(doing, volume, err)
}

// classify adds to err what a Gluster volume means by it.
func classify(err error) error { return backends.Meaning(meaning).Classify(err) }

// silence is what it means that a client gets no answer.
const silence = "the bricks do not answer, too few of them for a quorum, or refuse this host"

// meaning is what an error means that comes out of a client: see afr and quota
// in the sources of GlusterFS.
func meaning(err error) (hint string, kind error) {
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return silence, backends.ErrUnavailable
	case errors.Is(err, unix.EIO):
		return "the bricks contradict each other: see gluster volume heal VOLUME info split-brain", backends.ErrUnavailable
	case errors.Is(err, unix.EROFS):
		return "the Gluster volume is read-only, or has no quorum", backends.ErrUnavailable
	case errors.Is(err, unix.EDQUOT):
		return "the quota of a directory is exceeded", backends.ErrNoSpace
	case errors.Is(err, unix.ENOSPC):
		return "", backends.ErrNoSpace
	case errors.Is(err, unix.ESTALE), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ENODEV):
		return "", backends.ErrUnavailable
	case errors.Is(err, host.ErrBusy), errors.Is(err, unix.EBUSY):
		return "", backends.ErrInUse
	}
	return "", nil
}
