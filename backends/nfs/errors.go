package nfs

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// wrap says of an error what failed for which volume, and what it means.
func wrap(doing, volume string, err error) error {
	return backends.Meaning(meaning).Wrap(doing, volume, err)
}

// classify adds to err what an export means by it.
func classify(err error) error { return backends.Meaning(meaning).Classify(err) }

const squashed = "the server does not let root do that: export it with no_root_squash, or make volumes that belong to whom it takes root for, such as -o uid=65534 -o gid=65534, in a directory that is theirs"

// meaning is what an error means that a file of an export gives.
func meaning(err error) (hint string, kind error) {
	var at *fs.PathError
	owner := errors.As(err, &at) && (at.Op == "chown" || at.Op == "chmod")
	switch {
	case owner && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)):
		return squashed, backends.ErrInvalid
	case owner && errors.Is(err, unix.EINVAL):
		return "the server knows no such user or group: have it take numbers, or see to the idmap of both (idmapd.conf(5), nfsidmap(8))", backends.ErrInvalid
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return squashed, backends.ErrUnavailable
	case errors.Is(err, unix.EROFS):
		return "the export is read-only", backends.ErrUnavailable
	case errors.Is(err, unix.ESTALE):
		return "the server knows what is mounted no more, as after the export was made anew: stop the containers here that use the pool, and it is mounted again", backends.ErrUnavailable
	case errors.Is(err, unix.EDQUOT):
		return "a quota of the server's is exceeded", backends.ErrNoSpace
	case errors.Is(err, unix.ENOSPC):
		return "", backends.ErrNoSpace
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.ENOTCONN), errors.Is(err, unix.EHOSTDOWN), errors.Is(err, unix.ENODEV):
		return "", backends.ErrUnavailable
	case errors.Is(err, host.ErrBusy), errors.Is(err, unix.EBUSY):
		return "", backends.ErrInUse
	}
	return "", nil
}

// explainMount says what an error of mount(2) means; all are ErrUnavailable, for
// the server or the configuration may change.
func explainMount(c Config, version string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.ENOENT):
		hint = fmt.Sprintf("the server has no %s, or does not export it by that path: see the exports there, and the pool's export and subdir", c.path())
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		hint = "it is not a directory"
	case (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM)) && c.Sec != "sys":
		hint = "the server does not export it to this host with sec=" + c.Sec + ", or this host has no credentials: rpc.gssd(8) must run, with a keytab"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		hint = fmt.Sprintf("the server exports no %s to this host, with sec=%s: see the exports there", c.path(), c.Sec)
	case errors.Is(err, unix.EPROTONOSUPPORT):
		hint = fmt.Sprintf("the server, or this kernel, does not speak version %s", version)
	case errors.Is(err, unix.EINVAL) && c.Sec != "sys":
		hint = fmt.Sprintf("rpc.gssd(8) must run, with a keytab; or this kernel refuses an option, or does not know version %s: see dmesg", version)
	case errors.Is(err, unix.EINVAL):
		hint = fmt.Sprintf("this kernel refuses an option, or does not know version %s: see dmesg", version)
	case errors.Is(err, unix.ENODEV):
		hint = "this kernel has no NFS client: load the module nfs"
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		hint = "no server answers there"
		if c.Version == "3" {
			hint += ", or its mountd does not: see mountport in options"
		}
	case errors.Is(err, unix.ESTALE):
		hint = "the server does not know it any more: export it anew there"
	}
	if hint != "" {
		err = fmt.Errorf("%v: %s", err, hint) // and nobody explains it once more
	}
	return fmt.Errorf("mount %s: %w: %w", c.source(), err, backends.ErrUnavailable)
}
