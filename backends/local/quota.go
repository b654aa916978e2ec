package local

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path"
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
	firstProject  = 1 << 30
	projectsCount = 1 << 30
)

// projects limits volumes by the project quotas of the pool's file system.
type projects struct{}

// project returns the number for a new volume. It depends on the ID alone;
// Create finds out whether somebody else has it.
func project(id string) uint32 {
	sum := sha256.Sum256([]byte(id))
	return firstProject + binary.BigEndian.Uint32(sum[:])%projectsCount
}

// projectAt returns the project of the volume whose directory is at, or 0: what
// is adopted has none, whatever its name.
func projectAt(at string) (project uint32, isUnfinished bool) {
	parent, name := path.Split(at)
	if parent != volumesDir+"/" && parent != workDir+"/" {
		return 0, false
	}
	name, isUnfinished = strings.CutSuffix(name, unfinished)
	return projectOf(strings.TrimSuffix(name, discarded)), isUnfinished
}

// Plan returns ErrInvalid if the pool's file system can't limit volumes.
func (projects) Plan(_ context.Context, root *os.File, id string) (uint32, error) {
	if err := requireQuotas(root); err != nil {
		return 0, err
	}
	outer, err := host.ProjectOf(root)
	if err == nil && outer.Inherited {
		err = fmt.Errorf("size: %s belongs to project %d and passes that on to volumes, which cannot have another then; leave size out or choose another pool: %w",
			root.Name(), outer.ID, backends.ErrInvalid)
	}
	return project(id), err
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
	if host.HasOption(m.VFSOptions, "ro") { // which ends quotas too
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

// Limit makes dir a project that takes no more than size. A
// project of somebody else it leaves alone and returns ErrUnavailable.
//
// Repeated it changes nothing. The directory carries the project before there
// is a limit, so that a limit always has something to show whose it is. Both
// are durable once the directory's later rename is, as file systems that have
// projects keep the order of their journal.
func (projects) Limit(_ context.Context, dir *os.File, at string, size int64) error {
	project, _ := projectAt(at)
	if project == 0 {
		return fmt.Errorf("%q is not a volume with a size: %w", at, backends.ErrInvalid)
	}
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

// Resize sets another limit. A volume that was made without a size has no
// project, and neither have its files: it can't get one.
func (projects) Resize(_ context.Context, dir *os.File, at string, size int64) error {
	project, _ := projectAt(at)
	switch {
	case project == 0 && size == 0:
		return nil
	case project == 0:
		return fmt.Errorf("size: it was made without one, and its files belong to no project then: make another volume with a size, and copy them: %w", backends.ErrInvalid)
	}
	if err := requireQuotas(dir); err != nil {
		return err
	}
	q, err := host.QuotaOf(dir, project)
	if err != nil {
		return err
	}
	if err := backends.CheckResize(size, q.Used); err != nil {
		return err
	}
	if err := host.SetLimit(dir, project, size); err != nil {
		return err
	}
	if err := unix.Syncfs(int(dir.Fd())); err != nil { // nothing else has its journal written
		return &os.PathError{Op: "sync the file system of", Path: dir.Name(), Err: err}
	}
	return nil
}

// Release takes the limit away while the directory is still there, as only that
// shows that the project is the volume's: one that Create finished had it for
// sure, one that it didn't only if nobody else has it.
func (projects) Release(_ context.Context, _, dir *os.File, at string) error {
	project, isUnfinished := projectAt(at)
	if project == 0 {
		return nil
	}
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

// Usage asks the file system.
func (projects) Usage(_, dir *os.File, at string) (size, used int64, err error) {
	project, _ := projectAt(at)
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
