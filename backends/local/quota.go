package local

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// A volume with a size is a project of its own, whose number is part of the
// handle: the directory carries it too, but a container may change that there.
// Numbers are drawn from the upper half of what is positive in 32 bits; those
// who count upwards from 1, as Docker does for its layers, never get there.
const (
	firstProject = 1 << 30
	projects     = 1 << 30
)

// project returns the number for a new volume. It depends on the ID alone;
// Create finds out whether somebody else has it.
func project(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return firstProject + binary.BigEndian.Uint32(sum[:])%projects
}

// checkLimits returns ErrInvalid, with what would help, if the pool's file
// system can't limit volumes.
func checkLimits(root *os.File) error {
	if err := requireQuotas(root); err != nil {
		return err
	}
	outer, err := host.ProjectOf(root)
	if err == nil && outer.Inherited {
		err = fmt.Errorf("size: %s belongs to project %d and passes that on to volumes, which cannot have another then; leave size out or choose another pool: %w",
			root.Name(), outer.ID, backends.ErrInvalid)
	}
	return err
}

func requireQuotas(dir *os.File) error {
	state, err := host.ProjectQuotas(dir)
	if err != nil {
		return fmt.Errorf("size: %w: %w", err, backends.ErrInvalid)
	}
	if state != host.QuotaEnforced {
		return refuseLimits(dir, state)
	}
	return nil
}

// refuseLimits says why sizes don't work in dir, and how they would.
func refuseLimits(dir *os.File, state host.QuotaState) error {
	m, err := host.Source(dir)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Split(m.VFSOptions, ","), "ro") { // which ends quotas too
		return &os.PathError{Op: "limit volumes", Path: dir.Name(), Err: unix.EROFS}
	}
	remedy := ""
	switch {
	case m.FSType == "ext4" && state == host.QuotaOff:
		remedy = fmt.Sprintf(`unmount it, run "tune2fs -O project,quota -Q prjquota %s" and mount it with the option prjquota`, m.Source)
	case m.FSType == "ext4":
		remedy = fmt.Sprintf(`unmount it and run "mount -o prjquota %s" with its mountpoint`, m.Source)
	case m.FSType == "xfs":
		remedy = fmt.Sprintf(`unmount it and run "mount -o pquota %s" with its mountpoint`, m.Source)
	default:
		return fmt.Errorf("size: %s lies on %s, which cannot limit a directory; leave size out or choose another pool: %w", dir.Name(), m.FSType, backends.ErrInvalid)
	}
	return fmt.Errorf("size: %s lies on %s without project quotas; %s (docs/quotas.md): %w", dir.Name(), m.FSType, remedy, backends.ErrInvalid)
}

// limit makes dir, new and empty, a project that takes no more than size. A
// project of somebody else it leaves alone and returns ErrUnavailable.
//
// Repeated it changes nothing. The directory carries the project before there
// is a limit, so that a limit always has something to show whose it is. Both
// are durable once the directory's later rename is, as file systems that have
// projects keep the order of their journal.
func limit(dir *os.File, project uint32, size int64) error {
	if err := requireQuotas(dir); err != nil {
		return err
	}
	carried, err := host.ProjectOf(dir)
	if err != nil {
		return err
	}
	if carried.ID != project {
		q, err := host.QuotaOf(dir, project)
		if err != nil {
			return err
		}
		if q.Files != 0 || q.Limit != 0 {
			return errTaken(project)
		}
		if err := host.SetProject(dir, project); err != nil {
			return err
		}
	}
	alone, err := isAlone(dir, project)
	if err != nil {
		return err
	}
	if !alone { // two have found it free at the same time
		return errTaken(project)
	}
	return host.SetLimit(dir, project, size)
}

func errTaken(project uint32) error {
	return fmt.Errorf("the project number drawn for it, %d, is in use on this file system: try again: %w", project, backends.ErrUnavailable)
}

// isAlone tells whether dir, and nothing else, carries project.
func isAlone(dir *os.File, project uint32) (bool, error) {
	carried, err := host.ProjectOf(dir)
	if err != nil || carried.ID != project {
		return false, err
	}
	q, err := host.QuotaOf(dir, project)
	return q.Files == 1, err
}

// release takes the limit away from the volume name in work, if it has one. It
// is called while the directory is still there, as only that shows that the
// project is the volume's: one that Create finished had it for sure, one that
// it didn't only if nobody else has it.
func release(work *os.File, name string) error {
	volume, isUnfinished := strings.CutSuffix(name, unfinished)
	project := projectOf(volume)
	if project == 0 {
		return nil
	}
	dir, err := openDir(work, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	state, err := host.ProjectQuotas(dir)
	if err != nil || state == host.QuotaOff { // mounted without: nothing is limited
		return err
	}
	ours := true
	if isUnfinished {
		ours, err = isAlone(dir, project)
	}
	if err != nil || !ours {
		return err
	}
	return host.SetLimit(dir, project, 0)
}

// warnUnlimited tells the operator if a volume with a size is not limited, for
// want of a mount option. Its data is of more use than its limit.
func (p *Pool) warnUnlimited(dir *os.File, handle string) {
	name, _ := madeName(handle)
	if projectOf(name) == 0 {
		return
	}
	if err := requireQuotas(dir); err != nil {
		p.log.Error("volume was mounted without its limit", "handle", handle, "err", err)
	}
}

// usage returns the limit that holds for a volume, and what it takes.
func usage(dir *os.File, project uint32) (size, used int64, err error) {
	if project == 0 {
		return 0, -1, nil
	}
	state, err := host.ProjectQuotas(dir)
	if err != nil || state == host.QuotaOff {
		return 0, -1, err
	}
	q, err := host.QuotaOf(dir, project)
	if err != nil {
		return 0, -1, err
	}
	if state != host.QuotaEnforced {
		q.Limit = 0
	}
	return q.Limit, q.Used, nil
}
